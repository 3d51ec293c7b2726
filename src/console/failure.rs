//! Why there is no page.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};

use crate::api::Problem;

/// Why there is no page.
#[derive(Debug, Clone)]
pub(super) struct Failure(pub(super) Problem);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Failure {
    /// The door makes a page of it, for whoever looks.
    fn into_response(self) -> Response {
        let mut response = status(&self.0).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The status of an answer that tells a problem.
pub(super) fn status(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
