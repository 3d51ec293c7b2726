//! What is read of events and deliveries.

use serde::Deserialize;

use super::{packed::packed, rows};
use crate::{
    clock::UtcMillis,
    home::HomeId,
    ledger::{TaskId, UpgradeId},
    package::Version,
    store::{
        DeliveryId, DeliveryRecord, DeliveryState, DueDelivery, Event, StoreError, Subject,
        UpgradeState,
    },
};

/// What an event is called that is about an offer and a home.
const OFFER_VISIBLE: &str = "offer.visible";

/// An [`EventRow`], from `events e`, with that home.
macro_rules! event {
    () => {
        event!("e.home")
    };
    ($home:literal) => {
        concat!(
            "json_array(e.id, e.at, e.kind, e.task_id, e.task_name, e.product, e.version, e.upgrade_id, e.endpoint, \
             e.attempts, e.reason, e.detail, e.arguments, e.cell, e.started_at, e.succeeded, e.failed, e.cancelled, ",
            $home,
            ", e.stage)"
        )
    };
}

pub(super) const EVENTS: &str = packed!(
    "SELECT ",
    event!(),
    " AS line FROM events e WHERE e.id > ? ORDER BY e.id LIMIT ?",
);

pub(super) const EVENTS_OF_TASK: &str = packed!(
    "SELECT ",
    event!(),
    " AS line FROM events e WHERE e.task_id = ? AND e.id > ? ORDER BY e.id LIMIT ?",
);

/// Deliveries of a webhook that are due, with their events, each a [`DueRow`]. Their order follows. Who made a task within a filter is
/// told nothing of homes.
macro_rules! due {
    ($order:literal) => {
        packed!(
            "SELECT json_array(d.id, d.round, d.attempts, d.first_at, ",
            event!(
                "IIF(EXISTS (SELECT 1 FROM webhooks w CROSS JOIN tasks t ON t.id = w.task_id \
                     WHERE w.id = d.webhook_id AND t.scope IS NOT NULL), NULL, e.home)"
            ),
            ") AS line FROM deliveries d JOIN events e ON e.id = d.event_id \
             WHERE d.webhook_id = ? AND d.state = 'pending' AND d.next_at <= ? ",
            $order,
        )
    };
}

pub(super) const DUE: &str = due!("ORDER BY d.next_at, d.id LIMIT ?");

pub(super) const LAST_DUE: &str = due!("ORDER BY d.next_at DESC, d.id DESC LIMIT 1");

/// Deliveries of a webhook, each a [`DeliveryRow`]. More conditions follow.
macro_rules! deliveries {
    () => {
        "SELECT json_array(d.id, d.event_id, e.kind, d.state, d.attempts, d.next_at, d.last_at, d.last_error) AS line \
         FROM deliveries d JOIN events e ON e.id = d.event_id WHERE d.webhook_id = ?1 AND d.id < ?2"
    };
}

pub(super) const DELIVERIES: &str = packed!(deliveries!(), " ORDER BY d.id DESC LIMIT ?3");

pub(super) const DELIVERIES_IN_STATE: &str = packed!(
    deliveries!(),
    " AND d.state = ?4 ORDER BY d.id DESC LIMIT ?3"
);

#[derive(Deserialize)]
pub(super) struct EventRow {
    id: i64,
    at: UtcMillis,
    kind: String,
    task: TaskId,
    task_name: String,
    product: String,
    version: Version,
    upgrade: Option<UpgradeId>,
    endpoint: Option<String>,
    attempts: Option<u32>,
    reason: Option<String>,
    detail: Option<String>,
    arguments: Option<String>,
    cell: Option<u32>,
    started_at: Option<UtcMillis>,
    succeeded: Option<u64>,
    failed: Option<u64>,
    cancelled: Option<u64>,
    home: Option<HomeId>,
    stage: Option<String>,
}

impl EventRow {
    pub(super) fn event(self) -> Result<Event, StoreError> {
        let incomplete = || rows::unreadable("events.id", self.id);
        let entered = self.stage.as_deref().map(rows::upgrade_state).transpose()?;
        let stage = match entered {
            Some(UpgradeState::Active(stage)) => Some(stage),
            _ => None,
        };
        let subject = match (self.upgrade, self.endpoint) {
            (Some(upgrade), endpoint) => Subject::Upgrade {
                upgrade,
                endpoint: endpoint.ok_or_else(incomplete)?,
                attempts: self.attempts.ok_or_else(incomplete)?,
                reason: self.reason,
                told: rows::told(self.arguments.as_deref(), self.detail)?,
                cell: self.cell,
                started_at: self.started_at,
                home: self.home,
                stage,
            },
            (None, Some(endpoint)) => Subject::Start {
                endpoint,
                home: self.home.ok_or_else(incomplete)?,
                waits: (self.arguments.as_deref())
                    .and_then(|arguments| serde_json::from_str(arguments).ok())
                    .ok_or_else(incomplete)?,
            },
            (None, None) if self.kind == OFFER_VISIBLE => Subject::Offer {
                home: self.home.ok_or_else(incomplete)?,
                sees: (self.arguments.as_deref())
                    .and_then(|arguments| serde_json::from_str(arguments).ok())
                    .ok_or_else(incomplete)?,
            },
            (None, None) => Subject::Task {
                hold: (self.arguments.as_deref())
                    .map(serde_json::from_str)
                    .transpose()
                    .map_err(|_| incomplete())?,
                succeeded: self.succeeded.ok_or_else(incomplete)?,
                failed: self.failed.ok_or_else(incomplete)?,
                cancelled: self.cancelled.ok_or_else(incomplete)?,
            },
        };
        Ok(Event {
            id: self.id,
            at: self.at,
            kind: self.kind,
            task: self.task,
            task_name: self.task_name,
            product: self.product,
            version: self.version,
            subject,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct DueRow {
    id: i64,
    round: u32,
    attempts: u32,
    first_at: Option<UtcMillis>,
    event: EventRow,
}

impl DueRow {
    pub(super) fn due(self) -> Result<DueDelivery, StoreError> {
        Ok(DueDelivery {
            id: DeliveryId(self.id),
            round: self.round,
            attempts: self.attempts,
            first_at: self.first_at,
            event: self.event.event()?,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct DeliveryRow<'r> {
    id: i64,
    event: i64,
    kind: String,
    state: &'r str,
    attempts: u32,
    next_at: UtcMillis,
    last_at: Option<UtcMillis>,
    last_error: Option<String>,
}

impl DeliveryRow<'_> {
    pub(super) fn record(self) -> Result<DeliveryRecord, StoreError> {
        let state = DeliveryState::from_name(self.state)
            .ok_or_else(|| rows::unreadable("deliveries.state", self.state))?;
        Ok(DeliveryRecord {
            id: DeliveryId(self.id),
            event: self.event,
            kind: self.kind,
            state,
            attempts: self.attempts,
            next_at: (state == DeliveryState::Pending).then_some(self.next_at),
            last_at: self.last_at,
            last_error: self.last_error,
        })
    }
}
