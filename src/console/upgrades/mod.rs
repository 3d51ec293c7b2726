//! Upgrades: the newest of all tasks, one with its timeline, and what an operator does with it.

mod list;
mod operations;
mod show;

use axum::{Router, routing::get};
use serde::Deserialize;

use super::Console;

/// The pages below `/upgrades`.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/upgrades", get(list::show))
        .route("/upgrades/{id}", get(show::show))
        .route(
            "/upgrades/{id}/{operation}",
            get(operations::ask).post(operations::carry_out),
        )
}

/// An upgrade, as the lists of the API have it.
#[derive(Debug, Deserialize)]
pub(super) struct Upgrade {
    pub(super) id: i64,
    pub(super) task_id: i64,
    pub(super) endpoint: String,
    pub(super) state: String,
    pub(super) attempts: u32,
    pub(super) stage: Option<Stage>,
    pub(super) progress_percent: u8,
    pub(super) segment: Option<u16>,
    pub(super) cell_id: Option<u32>,
    pub(super) outcome: Option<Outcome>,
    pub(super) not_before: Option<String>,
    pub(super) created_at: String,
    pub(super) started_at: Option<String>,
    pub(super) ended_at: Option<String>,
    pub(super) cancel_requested_at: Option<String>,
    pub(super) awaits_confirmation: bool,
    pub(super) confirmed_for: Option<String>,
}

/// The stage that it is in.
#[derive(Debug, Deserialize)]
pub(super) struct Stage {
    pub(super) entered_at: String,
    pub(super) deadline_at: String,
    pub(super) cell_limit: Option<u32>,
}

/// How its last attempt ended.
#[derive(Debug, Deserialize)]
pub(super) struct Outcome {
    pub(super) state: String,
    pub(super) reason: String,
    pub(super) detail: String,
    pub(super) at: String,
}

impl Upgrade {
    /// Whether its last attempt ended for this reason.
    pub(super) fn ended_for(&self, reason: &str) -> bool {
        let outcome = self.outcome.as_ref();
        outcome.is_some_and(|outcome| outcome.reason == reason)
    }

    fn has_ended(&self) -> bool {
        matches!(&*self.state, "succeeded" | "failed" | "cancelled")
    }

    /// The class of its state's colour.
    pub(super) fn tone(&self) -> &'static str {
        super::tasks::tone(&self.state)
    }
}
