//! Who has changed what, and who was not let in: lines of the target `cellwise::audit`.

use std::{num::NonZeroU32, sync::LazyLock};

use axum::{
    extract::Request,
    http::{Method, header},
    middleware::Next,
    response::Response,
};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::source::Source;
use crate::access::Caller;

/// Lines a second about rejected tokens; whoever guesses does not fill the disk.
const REJECTED_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();

static REJECTED: LazyLock<DefaultDirectRateLimiter> =
    LazyLock::new(|| RateLimiter::direct(Quota::per_second(REJECTED_PER_SECOND)));

/// Tells of every request that may change something what came of it. The path names what was changed, or the location
/// what was created.
pub(super) async fn changes(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    if matches!(method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    let source = Source::of(&request);
    let who = request.extensions().get::<Caller>().map(Caller::who);
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let created = response.headers().get(header::LOCATION);
    let created = created.and_then(|location| location.to_str().ok());
    let status = response.status().as_u16();
    tracing::info!(target: "cellwise::audit", who, %source, status, created, "{method} {path}");
    response
}

/// Tells of somebody who was let in, but not for this.
pub(super) fn not_permitted(caller: &Caller, request: &Request) {
    if REJECTED.check().is_ok() {
        let (source, who) = (Source::of(request), caller.who());
        let (method, path) = (request.method(), request.uri().path());
        tracing::warn!(target: "cellwise::audit", who, %source, "refused, for want of a role: {method} {path}");
    }
}

/// Tells of a token that is not the server's.
pub(super) fn token_rejected(request: &Request) {
    if REJECTED.check().is_ok() {
        let source = Source::of(request);
        let (method, path) = (request.method(), request.uri().path());
        tracing::warn!(target: "cellwise::audit", %source, "a wrong token was rejected: {method} {path}");
    }
}
