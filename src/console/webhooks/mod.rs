//! Webhooks: how they stand, and what they were sent.

mod list;
mod one;

use axum::{Router, routing::get};

use super::Console;

/// The pages below `/webhooks`.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/webhooks", get(list::show))
        .route("/webhooks/new", get(list::show_new).post(list::add))
        .route("/webhooks/{id}", get(one::show))
        .route(
            "/webhooks/{id}/{operation}",
            get(one::ask).post(one::carry_out),
        )
        .route(
            "/webhooks/{id}/deliveries/{delivery}/replay",
            get(one::ask_delivery).post(one::replay_delivery),
        )
}
