//! Traces of requests, where the settings name a collector ([`crate::telemetry::Traces`]).

use std::{sync::Arc, time::SystemTime};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method},
    middleware::Next,
    response::Response,
};

use super::door::Door;
use crate::{
    access::Caller,
    telemetry::{Traced, Traces},
};

/// What spans are made with.
#[derive(Clone)]
pub(super) struct Tracing {
    pub(super) traces: Traces,
    pub(super) door: Arc<Door>,
}

/// Has a span for each request of a route, whether it is let in or not. Of a stream it ends with the head of the answer.
#[expect(
    clippy::disallowed_methods,
    reason = "a span has the times of the wall clock"
)]
pub(super) async fn trace(
    State(tracing): State<Tracing>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    let mut span = Span {
        tracing,
        method: request.method().clone(),
        path,
        traceparent: request.headers().get("traceparent").cloned(),
        began: SystemTime::now(),
        status: None,
    };
    let response = next.run(request).await;
    span.status = Some(response.status().as_u16());
    // of a stranger it would decide whether what the stranger does is traced
    if response.extensions().get::<Caller>().is_none() {
        span.traceparent = None;
    }
    response
}

/// A request that is to be told of when it is over, also where nobody waits for its answer any more.
struct Span {
    tracing: Tracing,
    method: Method,
    path: MatchedPath,
    traceparent: Option<HeaderValue>,
    began: SystemTime,
    /// What was answered.
    status: Option<u16>,
}

impl Drop for Span {
    fn drop(&mut self) {
        let path = self.path.as_str();
        let traceparent = self.traceparent.as_ref().filter(|_| self.status.is_some());
        let span = self.tracing.traces.begin(&Traced {
            method: known(&self.method),
            route: path,
            operation: self.tracing.door.name_of(path, &self.method),
            traceparent: traceparent.and_then(|value| value.to_str().ok()),
            began: self.began,
        });
        if let Some(status) = self.status {
            span.answered(status);
        }
    }
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
