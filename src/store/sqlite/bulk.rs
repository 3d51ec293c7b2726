//! One statement for many rows.

use std::{fmt::Write as _, sync::Arc};

use serde::Serializer as _;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};

/// A statement with its values bound so far.
pub(super) type Bound = Query<'static, Sqlite, SqliteArguments>;

/// Rows per statement. Few sizes: a statement is prepared once for each, which costs more than running it.
const SIZES: [usize; 3] = [100, 10, 1];

/// A statement around a list of rows: `head (…), (…) tail`.
pub(super) struct RowStatement {
    pub(super) head: &'static str,
    /// One row with its parentheses and placeholders.
    pub(super) row: &'static str,
    pub(super) tail: &'static str,
}

impl RowStatement {
    /// Runs the statement for all rows, in their order; `bind` binds the values of one.
    pub(super) async fn execute<T>(
        &self,
        conn: &mut SqliteConnection,
        mut rows: &[T],
        bind: impl Fn(Bound, &T) -> Bound,
    ) -> Result<(), sqlx::Error> {
        for size in SIZES {
            if rows.len() < size {
                continue;
            }
            let text = self.text(size);
            while let Some((now, later)) = rows.split_at_checked(size) {
                let query = sqlx::query(AssertSqlSafe(text.clone()));
                now.iter().fold(query, &bind).execute(&mut *conn).await?;
                rows = later;
            }
        }
        Ok(())
    }

    fn text(&self, rows: usize) -> Arc<str> {
        let mut text = String::with_capacity(self.head.len() + self.tail.len() + rows * 64);
        text.push_str(self.head);
        for row in 0..rows {
            let comma = if row == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}{}", self.row); // a string takes everything
        }
        text.push_str(self.tail);
        text.into()
    }
}

/// The form in which a statement takes a list as one parameter, for `json_each`.
pub(super) fn json_list<T: serde::Serialize>(values: impl IntoIterator<Item = T>) -> String {
    let mut list = Vec::new();
    // numbers and strings always have a form in JSON, which is UTF-8
    let _ = serde_json::Serializer::new(&mut list).collect_seq(values);
    String::from_utf8(list).unwrap_or_default()
}
