//! What the door has put into a request that it has let in: handlers take it from there.

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};

use super::problem::Problem;
use crate::{
    access::{Caller, Scope},
    store::TokenId,
};

/// What somebody was let in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// The token in the file.
    AdminToken,
    /// A token of the API.
    ApiToken(TokenId),
    /// A session.
    Session {
        /// The SHA-256 of what the cookie holds.
        hash: [u8; 32],
        /// What changes something carries besides.
        csrf_token: String,
        /// The user has to set up a second factor before anything else.
        has_to_enrol: bool,
    },
}

/// What the door has put into a request.
fn admitted<T: Clone + Send + Sync + 'static>(parts: &Parts) -> Result<T, Problem> {
    let found = parts.extensions.get::<T>().cloned();
    found.ok_or_else(|| {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "The token is missing or wrong",
            "nobody was let in",
        )
    })
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        admitted(parts)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Scope {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        admitted(parts)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Credential {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        admitted(parts)
    }
}

/// The caller has no session, which this is for.
pub(super) fn no_session() -> Problem {
    let title = "The caller is not logged in";
    Problem::conflict(
        "no-session",
        title,
        "the caller has a token, and no session",
    )
}
