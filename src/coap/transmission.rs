use std::time::Duration;

use crate::config::CoapConfig;

/// How requests to one device are repeated, and how many may wait for it (RFC 7252 §4.8).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transmission {
    /// `ACK_TIMEOUT`.
    pub ack_timeout: Duration,
    /// `ACK_RANDOM_FACTOR`, at least 1.
    pub ack_random_factor: f64,
    /// `MAX_RETRANSMIT`.
    pub max_retransmit: u32,
    /// Requests that may wait while another is outstanding.
    pub queue_len: usize,
    /// How long a request that was acknowledged empty may wait for its separate response.
    pub separate_response: Duration,
}

impl From<&CoapConfig> for Transmission {
    fn from(config: &CoapConfig) -> Self {
        Self {
            ack_timeout: Duration::from_millis(config.ack_timeout_ms),
            ack_random_factor: config.ack_random_factor,
            max_retransmit: config.max_retransmit,
            queue_len: config.queue_len,
            separate_response: Duration::from_millis(config.separate_response_ms),
        }
    }
}
