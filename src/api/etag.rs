//! Changes that are made only by whoever has seen what is changed: `ETag` and `If-Match` (RFC 9110 §8.8.3, §13.1.1).
//!
//! The tag is the revision of what operators say of a thing, in quotation marks. What devices say, and what is counted, does not
//! change it. The store compares it in the transaction that changes the thing.

use std::str::FromStr;

use axum::{
    Json,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::problem::Problem;

/// The revision that the caller has seen; `None` where it does not say, or any will do (`*`).
///
/// # Errors
/// It is no `ETag` of ours.
pub(super) fn if_match<T: FromStr>(headers: &HeaderMap) -> Result<Option<T>, Problem> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let (Some(value), another) = (values.next(), values.next()) else {
        return Ok(None);
    };
    let tag = value.to_str().unwrap_or_default().trim();
    if tag == "*" && another.is_none() {
        return Ok(None);
    }
    let revision = tag.trim_matches('"').parse().ok();
    if let Some(revision) = revision.filter(|_| another.is_none()) {
        return Ok(Some(revision));
    }
    let detail = "give one ETag as it was answered, such as \"3\"";
    Err(Problem::field("If-Match", detail))
}

/// An answer with its `ETag`.
pub(super) fn tagged(revision: i64, body: impl Serialize) -> Response {
    ([tag(revision)], Json(body)).into_response()
}

/// The header of a revision.
pub(super) fn tag(revision: i64) -> (header::HeaderName, String) {
    (header::ETAG, format!("\"{revision}\""))
}
