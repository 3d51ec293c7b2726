//! `PATCH /v1/cells/{id}`, and how rules are written.
#![expect(
    clippy::option_option,
    reason = "what is left out stays, what is null is taken away"
)]

use axum::{extract::State, http::HeaderMap, response::Response};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::{BusyHoursBody, CellDetailBody, GATE_KNOWS_WITHIN};
use crate::{
    api::{
        ApiState, etag,
        extract::{self, Fields, Path},
        problem::Problem,
    },
    clock::UtcMillis,
    store::{CellUpdate, UpdateCellsError},
    task::{
        BusyHours, ClosingUpdate, MAX_BUSY_HOURS, MAX_CELL_LIMIT, MAX_REASON, RulesError,
        RulesUpdate,
    },
};

/// What stands for a closing without end.
pub(super) const FURTHER_NOTICE: &str = "further_notice";
/// Longest note, characters.
const MAX_NOTE: usize = 1_000;

/// What to change about a cell's rules. What is not given stays as it is, what is `null` is taken away.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api) struct UpdateCell {
    /// How many may upgrade in it at once. Coverage may allow a device fewer: the smaller of both holds.
    #[serde(deserialize_with = "nullable_whole")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Option<u32>>,
    /// It is closed until then: a time that is not past (RFC 3339), or `further_notice`. Nobody is admitted meanwhile;
    /// downloads that run go on. `null` opens it, whoever has closed it.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, example = "2027-03-01T02:00:00Z")]
    closed_until: Option<Option<String>>,
    /// Why it is closed: 1 to 200 characters. Those who wait are told.
    #[schema(min_length = 1, max_length = 200)]
    reason: Option<String>,
    /// Hours of the week in which fewer may upgrade, 20 at most; `null` or an empty list takes them away.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<Vec<BusyHoursBody>>, max_items = 20)]
    busy_hours: Option<Option<Vec<BusyHours>>>,
    /// Whether its limit falls while its downloads take much longer than in a quiet cell; `null`: as the settings of
    /// each product say, or `admission.adaptive`.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<bool>)]
    adaptive: Option<Option<bool>>,
    /// A note, 1 to 1,000 characters.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 1000)]
    note: Option<Option<String>>,
}

/// A field that is there, and may be `null`.
fn nullable<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

fn nullable_whole<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<u32>>, D::Error> {
    extract::optional_whole(deserializer).map(Some)
}

/// Change the rules of a cell.
///
/// With `If-Match` they are changed only if nobody has changed them since: the `ETag` of the cell; `"0"` is that of a cell without any.
/// They hold at once for whoever is admitted next. A cell that no device has been in gets its rules all the same.
#[utoipa::path(patch, path = "/v1/cells/{id}", operation_id = "update_cell", tag = "cells", request_body = UpdateCell,
    params(("id" = i64, Path, minimum = 0, maximum = 4_294_967_295_i64, description = "Its number"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 200, description = "The cell", body = CellDetailBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 400, description = "The number is not a number, or the body is not JSON", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
    ))]
pub(in crate::api) async fn update(
    State(state): State<ApiState>,
    Path(cell): Path<u32>,
    headers: HeaderMap,
    extract::Json(body): extract::Json<UpdateCell>,
) -> Result<Response, Problem> {
    let update = CellUpdate {
        seen: etag::if_match(&headers)?,
        ..to_update(cell, body, state.now())?
    };
    state.store.update_cells(&[update], state.now()).await?;
    state.signals.devices_written(GATE_KNOWS_WITHIN).await;
    match state.store.cell(cell).await? {
        Some(detail) => Ok(CellDetailBody::tagged(&state, detail).await),
        None => Err(Problem::not_found(format!("there is no cell {cell}"))),
    }
}

fn to_update(cell: u32, body: UpdateCell, now: UtcMillis) -> Result<CellUpdate, Problem> {
    let mut fields = Fields::default();
    let given = body.limit.is_some()
        || body.closed_until.is_some()
        || body.reason.is_some()
        || body.busy_hours.is_some()
        || body.adaptive.is_some()
        || body.note.is_some();
    let what = "give limit, closed_until, reason, busy_hours, adaptive or note";
    fields.check("limit", given, what);
    if let Some(Some(limit)) = body.limit {
        fields.take("limit", check_limit(limit));
    }
    if let Some(reason) = &body.reason {
        fields.take("reason", check_text(reason, MAX_REASON));
    }
    if let Some(Some(note)) = &body.note {
        fields.take("note", check_text(note, MAX_NOTE));
    }
    if let Some(Some(busy)) = &body.busy_hours {
        let (count, fits) = (busy.len(), busy.len() <= MAX_BUSY_HOURS);
        let detail = format!("there are {count}; at most {MAX_BUSY_HOURS} are possible");
        fields.check("busy_hours", fits, detail);
    }
    let closing = match (body.closed_until, body.reason) {
        (None, None) => ClosingUpdate::Keep,
        (None, Some(reason)) => ClosingUpdate::Reason(reason),
        (Some(None), reason) => {
            let detail = "an open cell needs none; give closed_until to close it";
            fields.check("reason", reason.is_none(), detail);
            ClosingUpdate::Open
        }
        (Some(Some(until)), reason) => {
            let until = fields.take("closed_until", parse_until(&until, now));
            ClosingUpdate::Close {
                until: until.flatten(),
                reason,
            }
        }
    };
    fields.finish()?;
    Ok(CellUpdate {
        cell,
        rules: RulesUpdate {
            limit: body.limit,
            closing,
            busy_hours: body.busy_hours.map(Option::unwrap_or_default),
            adaptive: body.adaptive,
        },
        note: body.note,
        seen: None,
    })
}

/// 1 to 1,000.
pub(super) fn check_limit(limit: u32) -> Result<(), String> {
    if (1..=MAX_CELL_LIMIT).contains(&limit) {
        return Ok(());
    }
    Err(format!(
        "{limit} is out of range: 1 to {MAX_CELL_LIMIT} are possible; close the cell to admit nobody"
    ))
}

/// 1 to `most` characters, none of which controls a terminal.
pub(in crate::api) fn check_text(text: &str, most: usize) -> Result<(), String> {
    let count = text.chars().count();
    if text.trim().is_empty() || count > most {
        return Err(format!(
            "it has {count} characters; 1 to {most} are possible"
        ));
    }
    if text.chars().any(char::is_control) {
        return Err("it has control characters, such as line breaks; leave them out".to_owned());
    }
    Ok(())
}

/// Until when a cell is closed: a time to come, or `None` for `further_notice`.
pub(super) fn parse_until(text: &str, now: UtcMillis) -> Result<Option<UtcMillis>, String> {
    if text == FURTHER_NOTICE {
        return Ok(None);
    }
    let at: jiff::Timestamp = text.parse().map_err(|error| {
        format!("neither {FURTHER_NOTICE} nor a time of the form 2027-03-01T02:00:00Z (RFC 3339): {error}")
    })?;
    let at = UtcMillis(at.as_millisecond());
    if at <= now {
        return Err(format!("{at} is past (it is {now})"));
    }
    Ok(Some(at))
}

impl From<UpdateCellsError> for Problem {
    fn from(error: UpdateCellsError) -> Self {
        match error {
            UpdateCellsError::Rules { cell, source } => {
                let field = match source {
                    RulesError::NoReason | RulesError::NotClosed => "reason",
                };
                Self::field(field, format!("cell {cell}: {source}"))
            }
            UpdateCellsError::Changed { .. } => Self::changed_meanwhile(error),
            UpdateCellsError::Store(error) => error.into(),
        }
    }
}
