use std::net::SocketAddr;

use super::Change;
use crate::{task::UpgradeId, upgrade::Outcome};

/// Numbers the changes in the order in which they were emitted; 0 comes before the first.
pub type Seq = u64;

/// What the engine wants done. Effects come out in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Remember this.
    Persist {
        /// The change's number.
        seq: Seq,
        /// What to remember.
        change: Change,
    },
    /// Send this.
    Transmit {
        /// To whom.
        peer: SocketAddr,
        /// A CoAP message.
        datagram: Vec<u8>,
        /// Not before this change is committed. A restart then never forgets what a device was told.
        after: Seq,
    },
    /// Something an operator wants to see in the log.
    Report(Report),
}

/// Something an operator wants to see in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A device registered.
    Registered {
        /// The device.
        endpoint: String,
        /// Its address.
        peer: SocketAddr,
    },
    /// An endpoint that nobody added tried to register.
    UnknownEndpoint {
        /// The name it gave.
        endpoint: String,
        /// Its address.
        peer: SocketAddr,
    },
    /// An attempt ended.
    UpgradeEnded {
        /// The device.
        endpoint: String,
        /// The upgrade.
        upgrade: UpgradeId,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// How it ended.
        outcome: Outcome,
        /// Whether another attempt follows.
        retried: bool,
    },
}

/// What the engine has counted since it started. Each field becomes a metric of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // the names say it; the metrics' help texts stand in `Counters::each`
pub struct Counters {
    pub datagrams_received: u64,
    pub datagrams_malformed: u64,
    pub datagrams_repeated: u64,
    pub messages_unexpected: u64,
    pub requests_refused: u64,
    pub requests_repeated: u64,
    pub requests_timed_out: u64,
    pub requests_dropped: u64,
    pub registrations: u64,
    pub registrations_refused: u64,
    pub registrations_expired: u64,
    pub service_data: u64,
    pub pcp_malformed: u64,
    pub pcp_unexpected: u64,
    pub segments_served: u64,
    pub segments_refused: u64,
    pub segments_deferred: u64,
    pub admissions: u64,
    pub upgrades_succeeded: u64,
    pub upgrades_failed: u64,
    pub upgrades_cancelled: u64,
}

impl Counters {
    /// Every counter: its name without prefix and suffix, its help text, its value.
    pub fn each(&self) -> [(&'static str, &'static str, u64); 21] {
        [
            (
                "datagrams_received",
                "Datagrams received from devices",
                self.datagrams_received,
            ),
            (
                "datagrams_malformed",
                "Datagrams that were no CoAP message",
                self.datagrams_malformed,
            ),
            (
                "datagrams_repeated",
                "Messages recognised as repeats",
                self.datagrams_repeated,
            ),
            (
                "messages_unexpected",
                "Responses and acknowledgements that answer nothing",
                self.messages_unexpected,
            ),
            (
                "requests_refused",
                "Device requests answered with an error",
                self.requests_refused,
            ),
            (
                "requests_repeated",
                "Requests sent to a device again for want of an acknowledgement",
                self.requests_repeated,
            ),
            (
                "requests_timed_out",
                "Requests to devices given up",
                self.requests_timed_out,
            ),
            (
                "requests_dropped",
                "Requests dropped because a device's queue was full",
                self.requests_dropped,
            ),
            (
                "registrations",
                "Registrations accepted",
                self.registrations,
            ),
            (
                "registrations_refused",
                "Registrations refused",
                self.registrations_refused,
            ),
            (
                "registrations_expired",
                "Registrations whose lifetime ran out",
                self.registrations_expired,
            ),
            (
                "service_data",
                "Notifications that were not PCP",
                self.service_data,
            ),
            (
                "pcp_malformed",
                "PCP frames that could not be decoded",
                self.pcp_malformed,
            ),
            (
                "pcp_unexpected",
                "PCP messages that mean nothing at their time",
                self.pcp_unexpected,
            ),
            (
                "segments_served",
                "Segments sent for the first time or asked for again",
                self.segments_served,
            ),
            (
                "segments_refused",
                "Segment requests answered with an error",
                self.segments_refused,
            ),
            (
                "segments_deferred",
                "Segment requests left alone because the device has no slot yet",
                self.segments_deferred,
            ),
            ("admissions", "Slots granted", self.admissions),
            (
                "upgrades_succeeded",
                "Attempts that succeeded",
                self.upgrades_succeeded,
            ),
            (
                "upgrades_failed",
                "Attempts that failed",
                self.upgrades_failed,
            ),
            (
                "upgrades_cancelled",
                "Attempts that were stopped",
                self.upgrades_cancelled,
            ),
        ]
    }
}
