//! Many rows as one value.
//!
//! sqlx copies each value of a row to a place of its own on the heap, and hands each row over to another thread. With the
//! columns of a device, this takes several times as long as finding the row. So the database itself makes a JSON array of
//! each row, and one text of the rows, a line for each: nothing in JSON has a line break unescaped.

use serde::Deserialize;
use sqlx::{
    Executor, Row as _, Sqlite,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{Doing, rows};
use crate::store::{Page, StoreError};

/// A statement that packs the rows of another, whose only column is `line`, a JSON array. They keep their order.
macro_rules! packed {
    ($($select:expr),+ $(,)?) => {
        concat!("SELECT group_concat(line, char(10)) FROM (", $($select,)+ ") AS found")
    };
}
pub(super) use packed;

/// What is before and behind the other statement, where it is put together.
pub(super) const BEGIN: &str = "SELECT group_concat(line, char(10)) FROM (";
pub(super) const END: &str = ") AS found";

/// The rows that a [`packed!`] statement found.
pub(super) struct Packed(Option<String>);

impl Packed {
    /// Runs the statement.
    pub(super) async fn fetch<'e>(
        query: Query<'e, Sqlite, SqliteArguments>,
        executor: impl Executor<'e, Database = Sqlite>,
        doing: &'static str,
    ) -> Result<Self, StoreError> {
        let row = query.fetch_one(executor).await.doing(doing)?;
        Self::of(&row)
    }

    /// From the statement's one row.
    pub(super) fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        row.try_get(0).map(Self).doing("reading packed rows")
    }

    /// The rows. `R` has a field for each element of their arrays, in the same order.
    pub(super) fn rows<'r, R: Deserialize<'r>>(
        &'r self,
    ) -> impl Iterator<Item = Result<R, StoreError>> {
        self.lines().map(|line| {
            serde_json::from_str(line)
                .map_err(|error| rows::unreadable("row", format!("{line}: {error}")))
        })
    }

    /// Makes a page of at most `limit` records from rows that were fetched with [`rows::one_more`].
    pub(super) fn page<'r, R: Deserialize<'r>, T>(
        &'r self,
        limit: u32,
        record: impl Fn(R) -> Result<T, StoreError>,
    ) -> Result<Page<T>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let rows = self.rows().take(limit);
        Ok(Page {
            items: rows
                .map(|row| row.and_then(&record))
                .collect::<Result<_, _>>()?,
            more: self.lines().nth(limit).is_some(),
        })
    }

    /// The rows of a statement whose `line` is a text without line breaks, and no JSON.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.lines()
    }

    fn lines(&self) -> std::str::Lines<'_> {
        self.0.as_deref().unwrap_or_default().lines()
    }
}

/// A truth value, which the database keeps as a number.
#[derive(Deserialize)]
#[serde(from = "u8")]
pub(super) struct Flag(pub(super) bool);

impl From<u8> for Flag {
    fn from(number: u8) -> Self {
        Self(number != 0)
    }
}
