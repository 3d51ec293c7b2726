//! From rows to records, and the few statements that several subjects share.

use std::fmt::Display;

use serde::Serialize;
use sqlx::{ColumnIndex, Decode, Row, SqliteConnection, Type, sqlite::SqliteRow};

use super::Doing;
use crate::{
    clock::UtcMillis,
    ledger::{Happened, Line, Reasons, TaskState, Told},
    package::Version,
    store::{Page, StoreError, UpgradeState},
    task::TaskRules,
};

/// Rows of one INSERT.
pub(super) const CHUNK: usize = 1_000;

/// Reads columns with the errors of the store.
pub(super) trait Columns {
    /// A column's value.
    fn value<'r, T>(&'r self, column: &'static str) -> Result<T, StoreError>
    where
        T: Decode<'r, sqlx::Sqlite> + Type<sqlx::Sqlite>;

    /// An integer that fits `T`.
    fn int<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError>;

    /// An integer that fits `T`, or nothing.
    fn maybe_int<T: TryFrom<i64>>(&self, column: &'static str) -> Result<Option<T>, StoreError>;

    /// A time.
    fn time(&self, column: &'static str) -> Result<UtcMillis, StoreError> {
        self.int(column).map(UtcMillis)
    }

    /// A time, or nothing.
    fn maybe_time(&self, column: &'static str) -> Result<Option<UtcMillis>, StoreError> {
        Ok(self.maybe_int(column)?.map(UtcMillis))
    }

    /// A version.
    fn version(&self, column: &'static str) -> Result<Version, StoreError> {
        let text: String = self.value(column)?;
        serde_json::from_value(serde_json::Value::String(text))
            .map_err(|error| unreadable(column, error))
    }
}

impl Columns for SqliteRow {
    fn value<'r, T>(&'r self, column: &'static str) -> Result<T, StoreError>
    where
        T: Decode<'r, sqlx::Sqlite> + Type<sqlx::Sqlite>,
        &'static str: ColumnIndex<Self>,
    {
        self.try_get(column).doing("reading a row")
    }

    fn int<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError> {
        let value: i64 = self.value(column)?;
        T::try_from(value).map_err(|_| unreadable(column, value))
    }

    fn maybe_int<T: TryFrom<i64>>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        let value: Option<i64> = self.value(column)?;
        value
            .map(|value| T::try_from(value).map_err(|_| unreadable(column, value)))
            .transpose()
    }
}

/// An error for a value that this program does not write.
pub(super) fn unreadable(column: &str, value: impl Display) -> StoreError {
    StoreError::Unreadable {
        what: format!("{column} = {value}"),
    }
}

/// The task state of that name.
pub(super) fn task_state(name: &str) -> Result<TaskState, StoreError> {
    TaskState::from_name(name).ok_or_else(|| unreadable("tasks.state", name))
}

/// The upgrade state of that name.
pub(super) fn upgrade_state(name: &str) -> Result<UpgradeState, StoreError> {
    UpgradeState::from_name(name).ok_or_else(|| unreadable("upgrades.state", name))
}

/// What is stored as JSON in a column of tasks, where something is.
pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let text: Option<String> = row.value(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| unreadable(column, error)))
        .transpose()
}

/// The rules in a task's row.
pub(super) fn rules_of(text: &str) -> Result<TaskRules, StoreError> {
    serde_json::from_str(text).map_err(|error| unreadable("tasks.rules", error))
}

/// The reasons in a task's row for which attempts are made again, a JSON list.
pub(super) fn retry_reasons(list: Option<String>) -> Result<Reasons, StoreError> {
    let Some(list) = list else {
        return Ok(Reasons::default());
    };
    let words: Vec<String> =
        serde_json::from_str(&list).map_err(|error| unreadable("tasks.retry_reasons", error))?;
    Ok(Reasons::of(words.iter().map(String::as_str)))
}

/// The form in which arguments are stored.
pub(super) fn json(arguments: &impl Serialize) -> String {
    // text, numbers and objects of them always have a form in JSON
    serde_json::to_string(arguments).unwrap_or_default()
}

/// What is known of an outcome, of the columns of its arguments and of its sentence.
pub(super) fn told(
    arguments: Option<&str>,
    sentence: Option<String>,
) -> Result<Option<Told>, StoreError> {
    let Some(arguments) = arguments else {
        return Ok(sentence.map(Told::Sentence));
    };
    let facts = serde_json::from_str(arguments)
        .map_err(|error| unreadable("upgrades.outcome_arguments", error))?;
    Ok(Some(Told::Facts(facts)))
}

/// A line of a timeline as it is stored: its code and its arguments.
pub(super) fn line_columns(line: &Line) -> (String, String) {
    if let Happened::Legacy { text } = &line.happened {
        return (LEGACY.to_owned(), text.clone());
    }
    line.text_parts()
}

/// The code of lines from before there were codes.
const LEGACY: &str = "legacy";

/// A line of a timeline. Its arguments may be a sentence from before there were codes.
pub(super) fn line(code: &str, arguments: String) -> Result<Line, StoreError> {
    if code == LEGACY {
        return Ok(Happened::Legacy { text: arguments }.into());
    }
    serde_json::from_str(&arguments)
        .and_then(|arguments| Line::of(code, arguments))
        .map_err(|error| unreadable("upgrade_events.arguments", error))
}

/// One row more than a page holds, which tells whether another page follows.
pub(super) fn one_more(limit: u32) -> i64 {
    i64::from(limit) + 1
}

/// Makes a page of at most `limit` records from rows that were fetched with [`one_more`].
pub(super) fn page<T>(
    rows: &[SqliteRow],
    limit: u32,
    record: impl Fn(&SqliteRow) -> Result<T, StoreError>,
) -> Result<Page<T>, StoreError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(Page {
        items: rows
            .iter()
            .take(limit)
            .map(record)
            .collect::<Result<_, _>>()?,
        more: rows.len() > limit,
    })
}

/// Stores a value under a key.
pub(super) async fn set_meta(
    conn: &mut SqliteConnection,
    key: &str,
    value: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO meta (key, value) VALUES (?, ?) \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .bind(key)
    .bind(value)
    .execute(conn)
    .await
    .map(|_| ())
}

/// The number under a key, 8 bytes, big endian; 0 when there is none.
pub(super) async fn number(
    conn: &mut SqliteConnection,
    key: &'static str,
) -> Result<i64, StoreError> {
    let stored: Option<Vec<u8>> = sqlx::query_scalar("SELECT value FROM meta WHERE key = ?")
        .bind(key)
        .fetch_optional(conn)
        .await
        .doing("reading a number")?;
    let Some(bytes) = stored else { return Ok(0) };
    <[u8; 8]>::try_from(bytes)
        .map(i64::from_be_bytes)
        .map_err(|bytes| unreadable(key, hex::encode(bytes)))
}

/// Stores a number under a key.
pub(super) async fn set_number(
    conn: &mut SqliteConnection,
    key: &str,
    number: i64,
) -> Result<(), sqlx::Error> {
    set_meta(conn, key, &number.to_be_bytes()).await
}

/// Key in `meta` of the counter that `devices.revision` is bumped from.
const REVISION: &str = "device_revision";

/// The revision of the devices.
pub(super) async fn revision(conn: &mut SqliteConnection) -> Result<i64, StoreError> {
    number(conn, REVISION).await
}

/// Stores the revision of the devices.
pub(super) async fn set_revision(
    conn: &mut SqliteConnection,
    revision: i64,
) -> Result<(), sqlx::Error> {
    set_number(conn, REVISION, revision).await
}
