//! Tasks: all of them, one, and what an operator does with it.

mod list;
mod operations;

use axum::{Router, routing::get};

use super::Console;

/// The pages below `/tasks`.
pub(super) fn routes() -> Router<Console> {
    Router::new().route("/tasks", get(list::show)).route(
        "/tasks/{id}/{operation}",
        get(operations::ask).post(operations::carry_out),
    )
}
