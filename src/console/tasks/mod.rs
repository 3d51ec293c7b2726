//! Tasks: all of them, one, and what an operator does with it.

mod approvals;
mod change;
mod export;
mod forecast;
mod list;
mod new;
mod operations;
mod review;
mod rules;
mod series;
mod show;
mod upgrades;
mod view;

use axum::{
    Router,
    routing::{get, post},
};

pub(super) use self::{
    export::write_field,
    new::time,
    view::{Traffic, tone},
};
use super::Console;

/// The pages below `/tasks`, and `/approvals`.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/tasks", get(list::show))
        .route("/tasks/new", get(new::show).post(new::send))
        .route("/tasks/new/preview", post(new::preview))
        .route("/tasks/{id}", get(show::show))
        .route("/tasks/{id}/upgrades", get(upgrades::show))
        .route("/tasks/{id}/upgrades.csv", get(export::send))
        .route("/tasks/{id}/change", get(change::show).post(change::send))
        .route(
            "/tasks/{id}/{operation}",
            get(operations::ask).post(operations::carry_out),
        )
        .route("/approvals", get(approvals::show))
}
