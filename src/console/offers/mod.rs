//! Offers: what end users may start by themselves, and on which terms.

mod change;
mod list;
mod one;
mod terms;

use axum::{Router, routing::get};

use super::Console;

/// The pages below `/offers`.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/offers", get(list::show))
        .route("/offers/new", get(change::show_new).post(change::publish))
        .route("/offers/{id}", get(one::show))
        .route(
            "/offers/{id}/change",
            get(change::show).post(change::change),
        )
        .route("/offers/{id}/withdraw", get(one::ask).post(one::withdraw))
}
