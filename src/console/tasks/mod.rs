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
    new::time,
    view::{Traffic, tone},
};
use super::Console;

/// The days of the week, as the API names them.
pub(super) const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The states of upgrades, as the API names them.
pub(super) const STATES: &[&str] = &[
    "pending",
    "waiting_for_device",
    "querying_version",
    "querying_coverage",
    "querying_cell",
    "waiting_for_slot",
    "downloading",
    "executing",
    "succeeded",
    "failed",
    "cancelled",
];

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
