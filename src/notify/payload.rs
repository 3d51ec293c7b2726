use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::{Object, Type},
};

use crate::{
    home::{self, ErrorCode, Seen, Stand},
    ledger::Stage,
    store::{Event, Subject},
    tenant, wording,
};

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
#[serde(untagged)]
pub enum Payload {
    /// An upgrade has ended, or, of a device in a home, has begun or waits for the home's word.
    Upgrade(UpgradeEvent),
    /// A start at home waits for the user's word.
    Start(StartEvent),
    /// An offer has become visible to a home.
    Offer(OfferEvent),
    /// A task has ended, or begins no further upgrade.
    Task(TaskEvent),
}

/// An upgrade has ended, or, of a device in a home, has begun or waits for the home's word.
#[derive(Debug, Serialize, ToSchema)]
pub struct UpgradeEvent {
    /// The same whenever the event is told: the idempotency key.
    #[schema(example = "evt_1f3a5b7c9d2e4f60_42")]
    id: String,
    /// What happened.
    #[serde(rename = "type")]
    #[schema(schema_with = upgrade_kinds)]
    kind: String,
    /// When.
    #[schema(format = DateTime)]
    timestamp: String,
    /// Whose outcome it is, and which.
    data: UpgradeEventData,
}

/// A start at home has met a weak signal: it goes on when somebody there says so in time (`POST …/continue`).
#[derive(Debug, Serialize, ToSchema)]
pub struct StartEvent {
    /// The same whenever the event is told: the idempotency key.
    #[schema(example = "evt_1f3a5b7c9d2e4f60_41")]
    id: String,
    /// What happened.
    #[serde(rename = "type")]
    #[schema(schema_with = start_kinds)]
    kind: String,
    /// When.
    #[schema(format = DateTime)]
    timestamp: String,
    /// Which device waits, and why.
    data: StartEventData,
}

/// An offer has become visible to a home with devices that it fits: those at home can start it.
#[derive(Debug, Serialize, ToSchema)]
pub struct OfferEvent {
    /// The same whenever the event is told: the idempotency key.
    #[schema(example = "evt_1f3a5b7c9d2e4f60_40")]
    id: String,
    /// What happened.
    #[serde(rename = "type")]
    #[schema(schema_with = offer_kinds)]
    kind: String,
    /// When.
    #[schema(format = DateTime)]
    timestamp: String,
    /// Which offer, and which home.
    data: OfferEventData,
}

/// A task has ended, or begins no further upgrade.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskEvent {
    /// The same whenever the event is told: the idempotency key.
    #[schema(example = "evt_1f3a5b7c9d2e4f60_43")]
    id: String,
    /// What happened.
    #[serde(rename = "type")]
    #[schema(schema_with = task_kinds)]
    kind: String,
    /// When.
    #[schema(format = DateTime)]
    timestamp: String,
    /// Whose outcome it is, and which.
    data: TaskEventData,
}

/// What is told of an upgrade.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UpgradeEventData {
    /// The task.
    task_id: i64,
    /// The task's name.
    task_name: String,
    /// Whose task it is; not there where it is the tenant `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// The package's product.
    product: String,
    /// The package's version.
    version: String,
    /// `succeeded`, `failed` or `cancelled`; of a device in a home also `started` or `awaiting`.
    state: String,
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
    #[schema(required, format = DateTime)]
    started_at: Option<String>,
    /// The home in which the device was when it happened; `null` where it was in none, and for who is granted some devices of a tenant only.
    #[schema(required)]
    home: Option<String>,
    /// How an application at home sees it; `null` where `home` is.
    #[schema(required)]
    app: Option<StatusAtHome>,
}

/// What is told of a start that waits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StartEventData {
    /// The standing task of the offer.
    task_id: i64,
    /// The task's name.
    task_name: String,
    /// Whose task it is; not there where it is the tenant `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// The package's product.
    product: String,
    /// The package's version.
    version: String,
    /// `waiting`.
    state: String,
    /// The device.
    endpoint: String,
    /// The home in which it was when it happened.
    home: String,
    /// The offer.
    offer: i64,
    /// The signal (RSRP) that was measured last, dBm.
    rsrp_dbm: i32,
    /// The signal for which the offer asks, dBm.
    least_dbm: i32,
    /// Until when it waits for a word.
    #[schema(format = DateTime)]
    until: String,
    /// How an application at home sees it.
    app: StatusAtHome,
}

/// What is told of an offer that a home sees.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OfferEventData {
    /// The standing task of the offer.
    task_id: i64,
    /// The task's name.
    task_name: String,
    /// Whose task it is; not there where it is the tenant `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// The package's product.
    product: String,
    /// The package's version.
    version: String,
    /// `visible`.
    state: String,
    /// The home.
    home: String,
    /// The offer.
    offer: i64,
    /// For how many devices of the home it is.
    devices: u32,
}

/// How an application at home sees a device, by the numbers of `/app/v1`. Whether it sleeps at that moment is not looked at.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatusAtHome {
    /// 1 available, 2 upgrading, 3 succeeded, 4 failed, 5 waiting for the device, 7 timed out, 100 preparing.
    #[schema(example = 3)]
    status: u8,
    /// The same in a word.
    #[schema(example = "succeeded")]
    status_name: &'static str,
    /// The number of the error (5000 to 5099), where there is one.
    #[schema(required)]
    error: Option<u16>,
}

/// What is told of a task.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskEventData {
    /// The task.
    task_id: i64,
    /// The task's name.
    task_name: String,
    /// Whose task it is; not there where it is the tenant `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// The package's product.
    product: String,
    /// The package's version.
    version: String,
    /// `finished`, `stopped` or `paused`.
    state: String,
    /// Why it begins no further upgrade, or has stopped by itself: `paused`, `failures`, `phase_done`, `phase_failed` or
    /// `approval`; `null` when an operator has stopped it, or it has finished.
    #[schema(required)]
    reason: Option<String>,
    /// The same in words.
    #[schema(required)]
    detail: Option<String>,
    /// Upgrades that succeeded.
    succeeded: u64,
    /// Upgrades that failed.
    failed: u64,
    /// Upgrades that were cancelled.
    cancelled: u64,
}

/// Types of events about an upgrade.
pub const UPGRADE_KINDS: [&str; 5] = [
    "upgrade.succeeded",
    "upgrade.failed",
    "upgrade.cancelled",
    "upgrade.started",
    "upgrade.awaiting",
];
/// Types of events about a start.
pub const START_KINDS: [&str; 1] = ["start.waiting"];
/// Types of events about an offer.
pub const OFFER_KINDS: [&str; 1] = ["offer.visible"];
/// Types of events about a task.
pub const TASK_KINDS: [&str; 3] = ["task.finished", "task.stopped", "task.paused"];

fn upgrade_kinds() -> Object {
    one_of(UPGRADE_KINDS)
}

fn start_kinds() -> Object {
    one_of(START_KINDS)
}

fn offer_kinds() -> Object {
    one_of(OFFER_KINDS)
}

fn task_kinds() -> Object {
    one_of(TASK_KINDS)
}

fn one_of<const N: usize>(kinds: [&'static str; N]) -> Object {
    Object::builder()
        .schema_type(Type::String)
        .enum_values(Some(kinds))
        .build()
}

impl Payload {
    /// What is told of `event`, an event of the database that `instance` marks.
    #[expect(clippy::too_many_lines, reason = "one field after the other")]
    pub fn new(event: &Event, instance: &Instance) -> Self {
        let state = event.kind.split_once('.').map_or("", |(_, state)| state);
        let (id, kind) = (instance.event_id(event.id), event.kind.clone());
        let timestamp = event.at.to_string();
        let (task_id, task_name) = (event.task.0, event.task_name.clone());
        let tenant = tenant::told(&event.product);
        let product = tenant::product_name(&event.product).to_owned();
        let version = event.version.to_string();
        let state = state.to_owned();
        match &event.subject {
            Subject::Upgrade {
                upgrade,
                endpoint,
                attempts,
                reason,
                told,
                cell,
                started_at,
                home,
                stage,
            } => Self::Upgrade(UpgradeEvent {
                id,
                kind,
                timestamp,
                data: UpgradeEventData {
                    task_id,
                    task_name,
                    tenant,
                    product,
                    version,
                    app: (home.as_ref())
                        .map(|_| StatusAtHome::of(&state, reason.as_deref(), *stage)),
                    home: home.as_ref().map(ToString::to_string),
                    state,
                    upgrade_id: upgrade.0,
                    endpoint: endpoint.clone(),
                    attempts: *attempts,
                    reason: reason.clone(),
                    detail: (reason.as_deref().zip(told.as_ref()))
                        .map(|(reason, told)| wording::told(reason, told)),
                    cell: *cell,
                    started_at: started_at.map(|at| at.to_string()),
                },
            }),
            Subject::Start {
                endpoint,
                home,
                waits,
            } => Self::Start(StartEvent {
                id,
                kind,
                timestamp,
                data: StartEventData {
                    task_id,
                    task_name,
                    tenant,
                    product,
                    version,
                    state,
                    endpoint: endpoint.clone(),
                    home: home.to_string(),
                    offer: waits.offer.0,
                    rsrp_dbm: waits.rsrp_dbm,
                    least_dbm: waits.least_dbm,
                    until: waits.until.to_string(),
                    app: StatusAtHome {
                        error: Some(ErrorCode::SignalWeak.number()),
                        ..home::Told::idle(true).into()
                    },
                },
            }),
            Subject::Offer { home, sees } => Self::Offer(OfferEvent {
                id,
                kind,
                timestamp,
                data: OfferEventData {
                    task_id,
                    task_name,
                    tenant,
                    product,
                    version,
                    state,
                    home: home.to_string(),
                    offer: sees.offer.0,
                    devices: sees.devices,
                },
            }),
            Subject::Task {
                hold,
                succeeded,
                failed,
                cancelled,
            } => Self::Task(TaskEvent {
                id,
                kind,
                timestamp,
                data: TaskEventData {
                    task_id,
                    task_name,
                    tenant,
                    product,
                    version,
                    state,
                    reason: hold.as_ref().map(|hold| hold.why.code().to_owned()),
                    detail: hold.as_ref().and_then(|hold| match &*event.kind {
                        "task.stopped" => wording::stopped_for(hold),
                        _ => Some(wording::hold(hold)),
                    }),
                    succeeded: *succeeded,
                    failed: *failed,
                    cancelled: *cancelled,
                },
            }),
        }
    }

    /// The event's ID.
    pub fn id(&self) -> &str {
        match self {
            Self::Upgrade(event) => &event.id,
            Self::Start(event) => &event.id,
            Self::Offer(event) => &event.id,
            Self::Task(event) => &event.id,
        }
    }
}

impl StatusAtHome {
    /// Of an upgrade in that state, which has ended for that reason or is in that stage.
    fn of(state: &str, reason: Option<&str>, entered: Option<Stage>) -> Self {
        let reason = reason.unwrap_or_default();
        let stand = match state {
            "succeeded" => Stand::Succeeded(reason),
            "failed" => Stand::Failed(reason),
            "cancelled" => Stand::Cancelled(reason),
            _ => entered.map_or(Stand::Waiting, Stand::Active),
        };
        let seen = Seen {
            stand,
            percent: None,
            confirmed: false,
            asleep: false,
        };
        home::Told::of(&seen).into()
    }
}

impl From<home::Told> for StatusAtHome {
    fn from(told: home::Told) -> Self {
        Self {
            status: told.status.number(),
            status_name: told.status.name(),
            error: told.error.map(ErrorCode::number),
        }
    }
}

#[cfg(test)]
mod tests;
