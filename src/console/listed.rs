//! Lists: a page at a time, by the API's cursors.

use serde::Deserialize;

use super::{
    fields::{Fields, encode},
    viewer::Viewer,
};

/// Rows of a page.
pub(super) const ROWS: u32 = 50;

/// A page of a list, as the API answers it.
#[derive(Debug, Deserialize)]
pub(super) struct Listed<T> {
    pub(super) items: Vec<T>,
    pub(super) next_cursor: Option<String>,
}

/// Which page of a list the address asks for, and how it goes on.
pub(super) struct Pager {
    /// The address of the first page, where this is another one.
    pub(super) first: Option<String>,
    /// That of the next one, if there is one.
    pub(super) next: Option<String>,
}

impl Pager {
    /// Of a page of the console, which was made of these fields.
    pub(super) fn of(viewer: &Viewer, path: &str, query: &Fields, next: Option<&str>) -> Self {
        let mut kept = query.clone();
        kept.0
            .retain(|(name, value)| name != "cursor" && name != "done" && !value.is_empty());
        let kept = kept.query();
        let address = |cursor: Option<&str>| {
            let cursor = cursor.map(|cursor| format!("cursor={}", encode(cursor)));
            let parts = [Some(kept.clone()).filter(|kept| !kept.is_empty()), cursor];
            let parts: Vec<_> = parts.into_iter().flatten().collect();
            let joint = if parts.is_empty() { "" } else { "?" };
            viewer.url(format_args!("{path}{joint}{}", parts.join("&")))
        };
        Self {
            first: query.some("cursor").map(|_| address(None)),
            next: next.map(|cursor| address(Some(cursor))),
        }
    }
}

/// The query of the API for a page: `limit=50&cursor=…`, with those of these fields that hold something.
pub(super) fn query(fields: &Fields, names: &[&str]) -> String {
    let mut query = Fields(vec![("limit".to_owned(), ROWS.to_string())]);
    for name in names.iter().chain(&["cursor"]) {
        if let Some(value) = fields.some(name) {
            query.0.push(((*name).to_owned(), value.to_owned()));
        }
    }
    query.query()
}
