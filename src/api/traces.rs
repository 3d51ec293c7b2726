//! Traces of requests, where the settings name a collector ([`crate::telemetry::Traces`]).

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};

use super::door::Door;
use crate::telemetry::{Traced, Traces};

/// What spans are made with.
#[derive(Clone)]
pub(super) struct Tracing {
    pub(super) traces: Traces,
    pub(super) door: Arc<Door>,
}

/// Has a span for each request of a route, whether it is let in or not. Of a stream it ends with the head of the answer.
pub(super) async fn trace(
    State(tracing): State<Tracing>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method();
    let traceparent = request.headers().get("traceparent");
    let span = tracing.traces.begin(&Traced {
        method: known(method),
        route: path.as_str(),
        operation: tracing.door.name_of(path.as_str(), method),
        traceparent: traceparent.and_then(|value| value.to_str().ok()),
    });
    let response = next.run(request).await;
    span.answered(response.status().as_u16());
    response
}

/// Methods are the caller's words; those that nobody knows have one name (OpenTelemetry's conventions for HTTP).
fn known(method: &Method) -> &str {
    let all = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    if all.contains(method) {
        method.as_str()
    } else {
        "_OTHER"
    }
}
