//! Counts what applications ask for, and how it is answered.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};

use super::{
    door::Door,
    figures::{self, Ration},
    state::AppState,
};

/// The answer was counted.
#[derive(Debug, Clone, Copy)]
struct Counted;

/// Counts a request by what it asked for and how it was answered.
pub(super) async fn count(
    State(door): State<Arc<Door>>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let route = path.and_then(|path| door.route(path.as_str(), request.method()).flatten());
    let mut response = next.run(request).await;
    figures::answered(&door.state().metrics, route.map(|it| it.name), &response);
    response.extensions_mut().insert(Counted);
    response
}

/// Counts what was refused before it was looked at: its address asks too often.
pub(super) async fn count_refused(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    if response.extensions().get::<Counted>().is_none() {
        figures::answered(&state.metrics, None, &response);
        figures::refused(&state.metrics, Ration::Address);
    }
    response
}
