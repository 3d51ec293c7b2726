use serde::Serialize;
use utoipa::ToSchema;

use crate::store::{Event, Subject};

/// Marks one database among others, so that an event's ID is used nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance(String);

impl Instance {
    /// The mark made of the database's random bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(hex::encode(&bytes[..bytes.len().min(8)]))
    }

    /// An event's ID: the same on every attempt, and at every receiver.
    pub(super) fn event_id(&self, number: i64) -> String {
        format!("evt_{}_{number}", self.0)
    }
}

/// What applications are told of an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct Payload {
    /// The same whenever the event is told: the idempotency key.
    #[schema(example = "evt_1f3a5b7c9d2e4f60_42")]
    id: String,
    /// What happened.
    #[serde(rename = "type")]
    #[schema(example = "upgrade.succeeded")]
    kind: String,
    /// When.
    #[schema(format = "date-time")]
    timestamp: String,
    data: Data,
}

/// Whose outcome it is, and which.
#[derive(Debug, Serialize, ToSchema)]
struct Data {
    /// The task.
    task_id: i64,
    /// The task's name.
    task_name: String,
    /// The package's product.
    product: String,
    /// The package's version.
    version: String,
    /// `succeeded`, `failed` or `cancelled`; of a task: `finished` or `stopped`.
    state: String,
    #[serde(flatten)]
    outcome: Outcome,
}

/// What is told of an upgrade, or of a task.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Outcome {
    Upgrade {
        /// The upgrade.
        upgrade_id: i64,
        /// The device.
        endpoint: String,
        /// Attempts that had begun.
        attempts: u32,
        /// The outcome's code.
        #[schema(required)]
        reason: Option<String>,
        /// The outcome in words.
        #[schema(required)]
        detail: Option<String>,
        /// The cell in which it took place, if it came so far.
        #[schema(required)]
        cell: Option<u32>,
        /// When it began; `null` when it never did.
        #[schema(required, format = "date-time")]
        started_at: Option<String>,
    },
    Task {
        /// Upgrades that succeeded.
        succeeded: u64,
        /// Upgrades that failed.
        failed: u64,
        /// Upgrades that were cancelled.
        cancelled: u64,
    },
}

impl Payload {
    /// What is told of `event`, an event of the database that `instance` marks.
    pub fn new(event: &Event, instance: &Instance) -> Self {
        let state = event.kind.split_once('.').map_or("", |(_, state)| state);
        let outcome = match &event.subject {
            Subject::Upgrade {
                upgrade,
                endpoint,
                attempts,
                reason,
                detail,
                cell,
                started_at,
            } => Outcome::Upgrade {
                upgrade_id: upgrade.0,
                endpoint: endpoint.clone(),
                attempts: *attempts,
                reason: reason.clone(),
                detail: detail.clone(),
                cell: *cell,
                started_at: started_at.map(|at| at.to_string()),
            },
            Subject::Task {
                succeeded,
                failed,
                cancelled,
            } => Outcome::Task {
                succeeded: *succeeded,
                failed: *failed,
                cancelled: *cancelled,
            },
        };
        Self {
            id: instance.event_id(event.id),
            kind: event.kind.clone(),
            timestamp: event.at.to_string(),
            data: Data {
                task_id: event.task.0,
                task_name: event.task_name.clone(),
                product: event.product.clone(),
                version: event.version.to_string(),
                state: state.to_owned(),
                outcome,
            },
        }
    }

    /// The event's ID.
    pub fn id(&self) -> &str {
        &self.id
    }
}
