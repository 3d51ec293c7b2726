use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::{
    payload::Instance,
    post::{Posted, Poster},
    signature::Secret,
};
use crate::clock::UtcMillis;

/// What a receiver is told to see whether it hears.
#[derive(Debug, Serialize)]
pub struct Ping {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: String,
    data: Nothing,
    #[serde(skip)]
    at: UtcMillis,
}

#[derive(Debug, Serialize)]
struct Nothing {}

impl Instance {
    /// A ping to a webhook.
    pub fn ping(&self, webhook: i64, at: UtcMillis) -> Ping {
        Ping {
            id: format!(
                "{}_{}",
                self.event_id(webhook).replacen("evt", "ping", 1),
                at.0
            ),
            kind: "ping",
            timestamp: at.to_string(),
            data: Nothing {},
            at,
        }
    }
}

/// Posts a ping to a webhook, once, within `limit`.
///
/// # Errors
/// What it met with, when the receiver did not accept it.
pub async fn ping(
    url: &str,
    secret: &Secret,
    ping: Ping,
    allowed: &[IpNet],
    limit: Duration,
) -> Result<(), String> {
    let poster = Poster::new(allowed, limit).map_err(|error| error.to_string())?;
    // serialising strings does not fail
    let body = serde_json::to_string(&ping).unwrap_or_default();
    let headers = secret.headers(&ping.id, ping.at, &body);
    match poster.post(url, headers, body).await {
        Posted::Accepted => Ok(()),
        Posted::Refused(error) | Posted::Gone(error) | Posted::Failed(error, _) => Err(error),
    }
}
