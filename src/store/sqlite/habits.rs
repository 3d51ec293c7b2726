//! What was learnt while the server ran.

use std::collections::BTreeMap;

use sqlx::{SqliteConnection, SqlitePool};

use super::{Doing, bulk::RowStatement, rows};
use crate::{
    ledger::{DownloadPace, Lane, Learnt},
    store::{MOST_LEARNT, StoreError},
};

/// Rows that are read at once.
const PAGE: u32 = 10_000;

const WRITE: RowStatement = RowStatement {
    head: "INSERT OR REPLACE INTO habits (kind, key, value) VALUES ",
    row: "(?, ?, ?)",
    tail: "",
};

/// Writes what was learnt; the last of each subject stays. Cells that were not written for longest are forgotten.
pub(super) async fn write(
    conn: &mut SqliteConnection,
    learnt: &[&Learnt],
) -> Result<(), sqlx::Error> {
    let last: BTreeMap<_, _> = (learnt.iter())
        .map(|learnt| (learnt.subject(), value(learnt)))
        .collect();
    if last.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = last.into_iter().collect();
    WRITE
        .execute(conn, &rows, |query, ((kind, key), value)| {
            query.bind(*kind).bind(key.clone()).bind(value.clone())
        })
        .await?;
    sqlx::query(
        "DELETE FROM habits WHERE kind = 'cell' AND id <= (SELECT MAX(id) FROM habits) - ?",
    )
    .bind(i64::from(MOST_LEARNT))
    .execute(conn)
    .await?;
    Ok(())
}

/// What was learnt, ordered by its subject.
pub(super) async fn read(readers: &SqlitePool) -> Result<Vec<Learnt>, StoreError> {
    let mut all = BTreeMap::new();
    let mut after = 0;
    loop {
        let rows: Vec<(i64, String, String, String)> = sqlx::query_as(
            "SELECT id, kind, key, value FROM habits WHERE id > ? ORDER BY id LIMIT ?",
        )
        .bind(after)
        .bind(PAGE)
        .fetch_all(readers)
        .await
        .doing("reading what was learnt")?;
        let Some((last, ..)) = rows.last() else {
            return Ok(all.into_values().collect());
        };
        after = *last;
        for (_, kind, key, value) in rows {
            if let Some(learnt) = parse(&kind, &key, &value) {
                all.insert(learnt.subject(), learnt);
            } else {
                tracing::warn!(%kind, %key, %value, "what was learnt cannot be read, and is learnt anew");
            }
        }
    }
}

fn value(learnt: &Learnt) -> String {
    match learnt {
        Learnt::Product { habits, .. } => rows::json(habits),
        Learnt::Download(pace) => rows::json(&pace.ms_per_kib),
    }
}

fn parse(kind: &str, key: &str, value: &str) -> Option<Learnt> {
    if kind == "product" {
        return Some(Learnt::Product {
            product: key.into(),
            habits: serde_json::from_str(value).ok()?,
        });
    }
    let (lane, limit) = match kind {
        "cell" => {
            let (cell, limit) = key.split_once('/')?;
            (Some(Lane::Cell(cell.parse().ok()?)), limit)
        }
        "limit" => (None, key),
        _ => return None,
    };
    Some(Learnt::Download(DownloadPace {
        lane,
        limit: limit.parse().ok()?,
        ms_per_kib: serde_json::from_str(value).ok()?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Mean, ProductHabits};

    /// What was written by an earlier version is in databases: do not change.
    #[test]
    fn the_form_stays() {
        let mut mean = Mean::default();
        mean.add(7_000);
        mean.add(8_000);
        let pace = |lane| {
            Learnt::Download(DownloadPace {
                lane,
                limit: 10,
                ms_per_kib: mean,
            })
        };
        let habits = ProductHabits {
            answered_ms: 40_000,
            silent_ms: Some(60_000),
            tries_after: 128,
            install_ms: Mean::default(),
        };
        let product = "meter".into();
        for (learnt, kind, key, form) in [
            (
                pace(Some(Lane::Cell(7))),
                "cell",
                "7/10",
                r#"{"sum":15000,"count":2}"#,
            ),
            (pace(None), "limit", "10", r#"{"sum":15000,"count":2}"#),
            (
                Learnt::Product { product, habits },
                "product",
                "meter",
                r#"{"answered_ms":40000,"silent_ms":60000,"tries_after":128,"install_ms":{"sum":0,"count":0}}"#,
            ),
        ] {
            assert_eq!(learnt.subject(), (kind, key.to_owned()));
            assert_eq!(value(&learnt), form);
            assert_eq!(parse(kind, key, form), Some(learnt));
        }
        for (kind, key, form) in [
            ("cell", "7", "{}"),
            ("cell", "7/10", "{}"),
            ("limit", "-1", r#"{"sum":1,"count":1}"#),
            ("moon", "1", r#"{"sum":1,"count":1}"#),
            ("product", "meter", "[]"),
        ] {
            assert_eq!(parse(kind, key, form), None);
        }
    }
}
