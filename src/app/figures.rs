//! What the metrics tell of applications: what they ask for, and what they are refused because they ask too often.

use axum::response::Response;

use crate::telemetry::Metrics;

const REQUESTS: &str = "app_requests";
const REQUESTS_HELP: &str = "Requests of end users' applications that were answered.";
const REFUSED: &str = "app_refused";
const REFUSED_HELP: &str =
    "Requests of end users' applications that were refused because there were too many.";
const LISTENERS: &str = "app_listeners";
const LISTENERS_HELP: &str = "Streams of events of homes that are open.";
/// Whatever is no operation.
const NONE: &str = "none";

/// Of what there was too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ration {
    /// Requests of an address.
    Address,
    /// Wrong tokens of an address.
    WrongTokens,
    /// Requests of a user.
    User,
    /// Requests for a home.
    Home,
    /// Devices that are started.
    Starts,
    /// Streams.
    Listeners,
}

impl Ration {
    const ALL: [Self; 6] = [
        Self::Address,
        Self::WrongTokens,
        Self::User,
        Self::Home,
        Self::Starts,
        Self::Listeners,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::WrongTokens => "wrong_tokens",
            Self::User => "user",
            Self::Home => "home",
            Self::Starts => "starts",
            Self::Listeners => "listeners",
        }
    }
}

/// Something was refused.
pub(super) fn refused(metrics: &Metrics, ration: Ration) {
    let labels = [("ration", ration.name())];
    metrics.labelled_counter(REFUSED, REFUSED_HELP, &labels, 1);
}

/// So many streams are open.
pub(super) fn listeners(metrics: &Metrics, open: usize) {
    let open = u64::try_from(open).unwrap_or(u64::MAX);
    metrics.labelled_gauge(LISTENERS, LISTENERS_HELP, &[], open);
}

/// What is told before anybody has asked for anything.
pub(super) fn begin(metrics: &Metrics) {
    for ration in Ration::ALL {
        let labels = [("ration", ration.name())];
        metrics.labelled_counter(REFUSED, REFUSED_HELP, &labels, 0);
    }
    let labels = [("operation", NONE), ("status", class(200))];
    metrics.labelled_counter(REQUESTS, REQUESTS_HELP, &labels, 0);
    listeners(metrics, 0);
}

/// A request was answered: what it asked for, and how.
pub(super) fn answered(metrics: &Metrics, operation: Option<&str>, response: &Response) {
    let status = class(response.status().as_u16());
    let labels = [("operation", operation.unwrap_or(NONE)), ("status", status)];
    metrics.labelled_counter(REQUESTS, REQUESTS_HELP, &labels, 1);
}

const fn class(status: u16) -> &'static str {
    match status {
        0..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
