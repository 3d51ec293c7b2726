//! `POST /v1/cells`: the rules of many cells as comma-separated values.

use axum::{
    Json,
    body::to_bytes,
    extract::{Request, State},
};
use csv::{ReaderBuilder, StringRecord, Trim};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    GATE_KNOWS_WITHIN,
    rules::{check_limit, check_text, parse_until},
};
use crate::{
    api::{
        ApiState,
        extract::{expect_media_type, too_large},
        problem::{FieldError, Problem},
    },
    clock::UtcMillis,
    store::{Acting, CellUpdate},
    task::{ClosingUpdate, MAX_REASON, RulesUpdate},
};

/// Rows of one request.
const MAX_ROWS: usize = 100_000;
/// Largest body, bytes: more than as many rows with the longest reasons and ordinary notes.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Rows that are written at once: all others wait meanwhile.
const PART: usize = 5_000;
/// Faults that are told; the others follow when these are mended.
const FAULTS: usize = 50;
/// Longest note, characters.
const MAX_NOTE: usize = 1_000;
/// What takes a rule away.
const NOTHING: &str = "-";

const COLUMNS: [&str; 5] = ["cell", "limit", "closed_until", "reason", "note"];

/// What became of many cells.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ChangedCells {
    /// Rows that were taken.
    changed: usize,
}

/// Change the rules of up to 100,000 cells, given as comma-separated values.
///
/// The first line names the columns: `cell`, and any of `limit`, `closed_until`, `reason` and `note`. An empty field leaves
/// things as they are; `-` takes the rule away. Whoever closes a cell gives the reason in the same row. Nothing is changed
/// when a row is wrong.
#[utoipa::path(post, path = "/v1/cells", operation_id = "import_cells", tag = "cells",
    request_body(content = String, content_type = "text/csv", description = "The rows",
        example = "cell,limit,closed_until,reason\n51234,5,,\n51235,,2027-03-01T02:00:00Z,mast works\n"),
    responses(
        (status = 200, description = "All rows were taken", body = ChangedCells),
        (status = 400, description = "The body did not arrive completely", body = Problem),
        (status = 413, description = "The body is too large", body = Problem),
        (status = 415, description = "The content type is not text/csv", body = Problem),
        (status = 422, description = "A row is not valid: the field names its line", body = Problem),
    ))]
pub(in crate::api) async fn import(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Json<ChangedCells>, Problem> {
    expect_media_type(request.headers(), "text/csv")?;
    let body = to_bytes(request.into_body(), MAX_BYTES).await;
    let body = body.map_err(|error| csv_body_problem(&error))?;
    let now = state.now();
    let updates = parse(&body, now).map_err(Problem::fields)?;
    if updates.len() > PART {
        Acting::in_parts();
    }
    for part in updates.chunks(PART) {
        state.store.update_cells(part, now).await?;
    }
    state.signals.devices_written(GATE_KNOWS_WITHIN).await;
    Ok(Json(ChangedCells {
        changed: updates.len(),
    }))
}

fn csv_body_problem(error: &axum::Error) -> Problem {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = source {
        if inner.is::<http_body_util::LengthLimitError>() {
            return too_large(format!("the rows have at most {MAX_BYTES} bytes"));
        }
        source = inner.source();
    }
    crate::api::extract::unreadable(error)
}

/// Where each of [`COLUMNS`] stands.
type Header = [Option<usize>; COLUMNS.len()];

/// Reads all rows, or says what is wrong with the first of those that are.
fn parse(body: &[u8], now: UtcMillis) -> Result<Vec<CellUpdate>, Vec<FieldError>> {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(body);
    let header = match reader.headers() {
        Ok(names) => header(names)?,
        Err(error) => return Err(vec![FieldError::new("line 1", error)]),
    };
    let (mut updates, mut faults) = (Vec::new(), Vec::new());
    for row in reader.records() {
        let read = match row {
            Ok(row) => {
                let line = row.position().map_or(0, csv::Position::line);
                update(&header, &row, now).map_err(|(column, detail)| {
                    FieldError::new(format!("line {line}, {column}"), detail)
                })
            }
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                Err(FieldError::new(format!("line {line}"), error))
            }
        };
        match read {
            Ok(update) => updates.push(update),
            Err(fault) => faults.push(fault),
        }
        if updates.len() > MAX_ROWS {
            let detail = format!("there are more than {MAX_ROWS} rows; cut the list into parts");
            return Err(vec![FieldError::new("body", detail)]);
        }
        if faults.len() >= FAULTS {
            break;
        }
    }
    if faults.is_empty() && updates.is_empty() {
        faults.push(FieldError::new("body", "there is no row"));
    }
    if faults.is_empty() {
        Ok(updates)
    } else {
        Err(faults)
    }
}

fn header(names: &StringRecord) -> Result<Header, Vec<FieldError>> {
    let mut header = Header::default();
    for (place, name) in names.iter().enumerate() {
        let known = COLUMNS.iter().position(|known| *known == name);
        let detail = match known.map(|column| header[column].replace(place)) {
            Some(None) => continue,
            Some(Some(_)) => "the column is there twice".to_owned(),
            None => format!(
                "there is no such column; possible are {}",
                COLUMNS.join(", ")
            ),
        };
        let name: String = name.chars().take(40).collect();
        return Err(vec![FieldError::new(format!("line 1, {name:?}"), detail)]);
    }
    if header[0].is_none() {
        let detail = "the column cell is missing; the first line names the columns";
        return Err(vec![FieldError::new("line 1", detail)]);
    }
    Ok(header)
}

/// What a field of a row says.
enum Said<'r> {
    Nothing,
    TakeAway,
    Value(&'r str),
}

/// A row as an update, or the column that is wrong, and how.
#[expect(clippy::too_many_lines, reason = "one column after the other")]
fn update(
    header: &Header,
    row: &StringRecord,
    now: UtcMillis,
) -> Result<CellUpdate, (&'static str, String)> {
    let field = |column: usize| {
        let text = header[column].and_then(|place| row.get(place));
        match text.unwrap_or_default() {
            "" => Said::Nothing,
            NOTHING => Said::TakeAway,
            value => Said::Value(value),
        }
    };
    let Said::Value(cell) = field(0) else {
        return Err(("cell", "it is missing".to_owned()));
    };
    let number = |text: &str| (text.parse::<u32>()).map_err(|error| format!("{text:?}: {error}"));
    let cell = number(cell).map_err(|fault| ("cell", fault))?;
    let limit = match field(1) {
        Said::Nothing => None,
        Said::TakeAway => Some(None),
        Said::Value(text) => {
            let limit = number(text).and_then(|limit| check_limit(limit).map(|()| limit));
            Some(Some(limit.map_err(|fault| ("limit", fault))?))
        }
    };
    let reason = match field(3) {
        Said::Nothing | Said::TakeAway => None,
        Said::Value(text) => {
            check_text(text, MAX_REASON).map_err(|fault| ("reason", fault))?;
            Some(text.to_owned())
        }
    };
    let closing = match (field(2), reason) {
        (Said::Nothing, None) => ClosingUpdate::Keep,
        (Said::TakeAway, None) => ClosingUpdate::Open,
        (Said::Nothing | Said::TakeAway, Some(_)) => {
            let detail = "it has a meaning with closed_until only; leave it out";
            return Err(("reason", detail.to_owned()));
        }
        (Said::Value(_), None) => {
            let detail = "it is missing: those who wait are told why the cell is closed";
            return Err(("reason", detail.to_owned()));
        }
        (Said::Value(until), reason) => ClosingUpdate::Close {
            until: parse_until(until, now).map_err(|fault| ("closed_until", fault))?,
            reason,
        },
    };
    let note = match field(4) {
        Said::Nothing => None,
        Said::TakeAway => Some(None),
        Said::Value(text) => {
            check_text(text, MAX_NOTE).map_err(|fault| ("note", fault))?;
            Some(Some(text.to_owned()))
        }
    };
    let rules = RulesUpdate {
        limit,
        closing,
        busy_hours: None,
        adaptive: None,
    };
    Ok(CellUpdate {
        cell,
        rules,
        note,
        seen: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UtcMillis = UtcMillis(1_800_000_000_000);

    fn faults(text: &str) -> Vec<String> {
        let faults = parse(text.as_bytes(), NOW).unwrap_err();
        (faults.iter())
            .map(|fault| format!("{}: {}", fault.field, fault.detail))
            .collect()
    }

    #[test]
    fn an_empty_field_leaves_things_and_a_dash_takes_them_away() {
        let text = "\u{feff}note,cell,limit,closed_until,reason\r\n\
                    \"a, b\",51,5,,\n-,52,-,-,\n,53,,further_notice,\"mast, works\"\n";
        let updates = parse(text.as_bytes(), NOW).unwrap();
        let [first, second, third] = &updates[..] else {
            panic!("{updates:?}");
        };
        assert_eq!((first.cell, first.rules.limit), (51, Some(Some(5))));
        assert_eq!(first.rules.closing, ClosingUpdate::Keep);
        assert_eq!(first.note, Some(Some("a, b".to_owned())));
        assert_eq!(
            (second.rules.limit, &second.note),
            (Some(None), &Some(None))
        );
        assert_eq!(second.rules.closing, ClosingUpdate::Open);
        let closed = ClosingUpdate::Close {
            until: None,
            reason: Some("mast, works".to_owned()),
        };
        assert_eq!((&third.rules.closing, third.rules.limit), (&closed, None));
    }

    #[test]
    fn faults_are_told_with_their_lines() {
        let text = "cell,limit,closed_until,reason\nx,,,\n1,0,,\n2,,2020-01-01T00:00:00Z,a\n3,,further_notice,\n4,,,a\n5,1\n";
        let told = faults(text);
        for (told, expected) in told.iter().zip([
            "line 2, cell: \"x\"",
            "line 3, limit: 0 is out of range",
            "line 4, closed_until: 2020-01-01T00:00:00.000Z is past",
            "line 5, reason: it is missing",
            "line 6, reason: it has a meaning",
            "line 7: ",
        ]) {
            assert!(told.starts_with(expected), "{told}");
        }
        assert_eq!(told.len(), 6);
        for (text, expected) in [
            ("", "line 1: the column cell is missing"),
            ("cell\n", "body: there is no row"),
            ("cell,x\n1,2\n", "line 1, \"x\": there is no such column"),
            (
                "cell,cell\n1,2\n",
                "line 1, \"cell\": the column is there twice",
            ),
            ("limit\n1\n", "line 1: the column cell is missing"),
        ] {
            let told = faults(text);
            assert!(told[0].starts_with(expected), "{told:?}");
        }
        assert_eq!(
            faults(&format!("cell\n{}", "x\n".repeat(1_000))).len(),
            FAULTS
        );
    }

    #[test]
    fn a_hundred_thousand_rows_are_taken_and_no_more() {
        let rows = "7\n".repeat(MAX_ROWS);
        assert_eq!(
            parse(format!("cell\n{rows}").as_bytes(), NOW)
                .unwrap()
                .len(),
            MAX_ROWS
        );
        assert!(faults(&format!("cell\n{rows}7\n"))[0].starts_with("body: there are more"));
        assert!(faults("cell\n\u{0}\n")[0].starts_with("line 2, cell"));
        assert!(!parse(b"cell\n\xff\n", NOW).unwrap_err().is_empty());
    }
}
