//! What upgrades cost on the air, as it is shown.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    ledger::Traffic,
    task::{MonthUsage, OverBudget, Resource},
};

/// What upgrades have cost on the air, in all attempts, as far as it is written down (docs/traffic.md).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TrafficBody {
    /// Bytes of CoAP messages to the device, repeats included; without DTLS, UDP and IP.
    bytes_down: u64,
    /// Bytes of CoAP messages from the device, repeats included; without DTLS, UDP and IP.
    bytes_up: u64,
    /// Messages that the server sent again.
    repeats_down: u64,
    /// Messages that came again.
    repeats_up: u64,
    /// Time in which the device was active, measured: from each message to the next, 20 seconds of each pause at the most.
    active_seconds: f64,
    /// Time that the messages occupied the channel, estimated from the bytes, the repeats and the coverage.
    airtime_estimated_seconds: f64,
}

impl From<Traffic> for TrafficBody {
    fn from(traffic: Traffic) -> Self {
        Self {
            bytes_down: traffic.bytes_down,
            bytes_up: traffic.bytes_up,
            repeats_down: traffic.repeats_down,
            repeats_up: traffic.repeats_up,
            active_seconds: seconds(traffic.active_ms),
            airtime_estimated_seconds: seconds(traffic.airtime_estimated_ms),
        }
    }
}

/// What upgrades of a device have cost on the air in a calendar month, in all tasks (docs/traffic.md).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MonthUsageBody {
    /// When the month began where the device is: in its `time_zone`, or in UTC where it has none.
    #[schema(format = DateTime)]
    begins_at: String,
    /// When the next one begins.
    #[schema(format = DateTime)]
    ends_at: String,
    /// Bytes of CoAP messages in both directions, repeats included; without DTLS, UDP and IP.
    bytes: u64,
    /// Time that the messages occupied the channel, estimated from the bytes, the repeats and the coverage.
    airtime_estimated_seconds: f64,
}

impl From<MonthUsage> for MonthUsageBody {
    fn from(usage: MonthUsage) -> Self {
        Self {
            begins_at: usage.month.begins_at.to_string(),
            ends_at: usage.month.ends_at.to_string(),
            bytes: usage.used.bytes,
            airtime_estimated_seconds: seconds(usage.used.airtime_estimated_ms),
        }
    }
}

/// Why an upgrade waits for a month in which its device may spend again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OverBudgetBody {
    /// What has run out.
    #[schema(value_type = ResourceName)]
    resource: &'static str,
    /// What a month has, in that unit.
    budget: f64,
    /// What the device has spent this month, in all tasks.
    used: f64,
    /// What the largest package of the task costs it.
    needed: f64,
    /// When its next month begins.
    #[schema(format = DateTime)]
    until: String,
}

/// What runs out.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "stands in the description only")]
enum ResourceName {
    Bytes,
    AirtimeEstimatedSeconds,
}

impl From<&OverBudget> for OverBudgetBody {
    fn from(over: &OverBudget) -> Self {
        let number = |number: u64| match over.resource {
            Resource::Bytes => whole(number),
            Resource::Airtime => seconds(number),
        };
        Self {
            resource: match over.resource {
                Resource::Bytes => "bytes",
                Resource::Airtime => "airtime_estimated_seconds",
            },
            budget: number(over.budget),
            used: number(over.used),
            needed: number(over.need),
            until: over.until.to_string(),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "what is shown is far below 2^53, or need not be exact"
)]
const fn whole(number: u64) -> f64 {
    number as f64
}

fn seconds(ms: u64) -> f64 {
    whole(ms) / 1_000.0
}
