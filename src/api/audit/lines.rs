//! Lines of the target `cellwise::audit` about whoever was let in, and whoever was not.

use std::{net::IpAddr, num::NonZeroU32, sync::LazyLock};

use axum::extract::Request;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::{access::Caller, api::source::Source};

/// Lines a second about rejected tokens; whoever guesses does not fill the disk.
const REJECTED_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();

static REJECTED: LazyLock<DefaultDirectRateLimiter> =
    LazyLock::new(|| RateLimiter::direct(Quota::per_second(REJECTED_PER_SECOND)));

/// Tells of somebody who was let in, but not for this.
pub(in crate::api) fn not_permitted(caller: &Caller, request: &Request) {
    if REJECTED.check().is_ok() {
        let (source, who) = (Source::of(request), caller.who());
        let (method, path) = (request.method(), request.uri().path());
        tracing::warn!(target: "cellwise::audit", who, %source, "refused, for want of a role: {method} {path}");
    }
}

/// Tells of a password that was wrong, or was not looked at. A name that nobody has may be a password: it is not told.
pub(in crate::api) fn log_in_failed(user: Option<&str>, source: IpAddr) {
    if REJECTED.check().is_ok() {
        tracing::warn!(target: "cellwise::audit", %source, user, "an attempt to log in has failed");
    }
}

/// Tells of somebody who has logged in.
pub(in crate::api) fn logged_in(who: &str, source: IpAddr) {
    tracing::info!(target: "cellwise::audit", %source, who, "logged in");
}

/// Tells of somebody whose device for codes may be lost, or in other hands.
pub(in crate::api) fn recovery_code_used(who: &str, source: IpAddr) {
    tracing::warn!(target: "cellwise::audit", %source, who, "a recovery code was used");
}

/// Tells of somebody who has logged in by a link, and of who had made that.
pub(in crate::api) fn link_used(who: &str, made_by: &str, source: IpAddr) {
    tracing::info!(target: "cellwise::audit", %source, who, made_by, "a login link was used");
}

/// Tells of a token that is not the server's.
pub(in crate::api) fn token_rejected(request: &Request) {
    if REJECTED.check().is_ok() {
        let source = Source::of(request);
        let (method, path) = (request.method(), request.uri().path());
        tracing::warn!(target: "cellwise::audit", %source, "a wrong token was rejected: {method} {path}");
    }
}
