//! What applications are told, and how far that is: events, webhooks, and the deliveries between them.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Page, StoreError};
use crate::{
    clock::UtcMillis,
    home::{HomeId, OfferId},
    ledger::{Stage, TaskId, Told, UpgradeId},
    package::Version,
    task::Hold,
    tenant::TenantId,
    vault::Vault,
};

/// Number of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebhookId(pub i64);

/// Number of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub i64);

/// Something that applications are told. Nothing in it changes any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its number: grows with every event, in the order in which they became durable.
    pub id: i64,
    /// When it happened.
    pub at: UtcMillis,
    /// What: `upgrade.succeeded`, `upgrade.failed`, `upgrade.cancelled`, `task.finished`, `task.stopped` or `task.paused`; of a device in a
    /// home also `upgrade.started`, `upgrade.awaiting` and `start.waiting`; of a home `offer.visible`.
    pub kind: String,
    /// The task.
    pub task: TaskId,
    /// The task's name.
    pub task_name: String,
    /// The package's product.
    pub product: String,
    /// The package's version.
    pub version: Version,
    /// What it is about.
    pub subject: Subject,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// One device's upgrade: how it ended, or, in a home, that it has begun or waits for the home's word.
    Upgrade {
        /// The upgrade.
        upgrade: UpgradeId,
        /// The device.
        endpoint: String,
        /// Attempts that had begun.
        attempts: u32,
        /// The outcome's code.
        reason: Option<String>,
        /// What else is known of it.
        told: Option<Told>,
        /// The cell in which it took place, if it came so far.
        cell: Option<u32>,
        /// When it began; `None` when it never did.
        started_at: Option<UtcMillis>,
        /// The home in which the device was at that time.
        home: Option<HomeId>,
        /// Its stage, where it has begun.
        stage: Option<Stage>,
    },
    /// A start at home that met a weak signal, and waits for the user's word.
    Start {
        /// The device.
        endpoint: String,
        /// The home in which it was at that time.
        home: HomeId,
        /// Until when, and why.
        waits: WeakStart,
    },
    /// A home to which an offer has become visible.
    Offer {
        /// The home.
        home: HomeId,
        /// What it sees.
        sees: OfferSeen,
    },
    /// That of a task, whose upgrades have all ended; or that it begins no further one.
    Task {
        /// Why it begins no further upgrade, or has stopped by itself.
        hold: Option<Hold>,
        /// Upgrades that succeeded.
        succeeded: u64,
        /// Upgrades that failed.
        failed: u64,
        /// Upgrades that were cancelled.
        cancelled: u64,
    },
}

/// Why a start waits for the user's word, and how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeakStart {
    /// The offer whose condition is not met.
    pub offer: OfferId,
    /// The RSRP that was measured last, dBm.
    pub rsrp_dbm: i32,
    /// What the offer asks for, dBm.
    pub least_dbm: i32,
    /// From then on nothing waits.
    pub until: UtcMillis,
}

/// What a home sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferSeen {
    /// The offer.
    pub offer: OfferId,
    /// For how many of its devices that is.
    pub devices: u32,
}

/// A webhook to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWebhook {
    /// The tenant whose outcomes it is told; `None` means everybody's, or those of the task.
    pub tenant: Option<TenantId>,
    /// The task whose outcomes it is told; `None` means every task.
    pub task: Option<TaskId>,
    /// Where events are posted.
    pub url: String,
    /// Signs them.
    pub secret: Vec<u8>,
    /// What the secret is sealed with, for this webhook alone; `None`: there is no credential key, and it is stored as it is.
    pub vault: Option<Vault>,
    /// When it was added.
    pub created_at: UtcMillis,
}

/// Where events are posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRecord {
    /// Its number.
    pub id: WebhookId,
    /// Whose it is; `None`: the carrier's.
    pub tenant: Option<TenantId>,
    /// The task whose outcomes it is told; `None` means every task.
    pub task: Option<TaskId>,
    /// Where events are posted.
    pub url: String,
    /// When it was added.
    pub created_at: UtcMillis,
    /// Deliveries that are still tried.
    pub pending: u64,
    /// Deliveries that were given up.
    pub failed: u64,
}

/// A webhook that has something to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusyWebhook {
    /// The webhook.
    pub id: WebhookId,
    /// Where events are posted.
    pub url: String,
    /// Signs them, as it is stored: [`webhook_secret`](super::webhook_secret) opens it.
    pub secret: Vec<u8>,
    /// When its next delivery is due.
    pub due_at: UtcMillis,
    /// Since when it does not work.
    pub failing_since: Option<UtcMillis>,
}

/// A delivery that is to be tried.
#[derive(Debug, Clone, PartialEq)]
pub struct DueDelivery {
    /// The delivery.
    pub id: DeliveryId,
    /// How often it was replayed.
    pub round: u32,
    /// Attempts so far in this round.
    pub attempts: u32,
    /// When the first of them was made.
    pub first_at: Option<UtcMillis>,
    /// What is delivered.
    pub event: Event,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempted {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The round in which the attempt began.
    pub round: u32,
    /// When the attempt began.
    pub at: UtcMillis,
    /// Whether the receiver works, whatever it thinks of this delivery.
    pub works: bool,
    /// What came of it.
    pub result: AttemptResult,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptResult {
    /// The receiver has it.
    Delivered,
    /// It is tried again.
    Again {
        /// When.
        at: UtcMillis,
        /// Why.
        error: String,
    },
    /// It is tried no more.
    GivenUp {
        /// Why.
        error: String,
    },
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is tried, or tried again.
    Pending,
    /// The receiver has it.
    Delivered,
    /// It was given up, and can be replayed.
    Failed,
}

impl DeliveryState {
    /// The state's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Pending, Self::Delivered, Self::Failed]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// A delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// Its number.
    pub id: DeliveryId,
    /// The event.
    pub event: i64,
    /// What happened.
    pub kind: String,
    /// How far it is.
    pub state: DeliveryState,
    /// Attempts since it was created or replayed.
    pub attempts: u32,
    /// When it is tried again, while it is pending.
    pub next_at: Option<UtcMillis>,
    /// When it was tried last.
    pub last_at: Option<UtcMillis>,
    /// What the last attempt that failed met with.
    pub last_error: Option<String>,
}

/// Why a webhook was not added.
#[derive(Debug, Error)]
pub enum AddWebhookError {
    /// No such task.
    #[error("there is no task {}", .0.0)]
    NoTask(TaskId),
    /// The table is full.
    #[error("there are {0} webhooks already; remove those that nobody needs")]
    TooMany(u32),
    /// So many are told the same already.
    #[error(
        "there are {0} webhooks for the same already, all tasks or that task; remove those that nobody needs"
    )]
    TooManyAlike(u32),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Webhooks that a server knows at most.
pub const MAX_WEBHOOKS: u32 = 10_000;
/// Of these, those for all tasks, those for all tasks of any one tenant, and those for any one task: an outcome is written with a
/// delivery to each.
pub const MAX_WEBHOOKS_ALIKE: u32 = 50;

/// The durable side of telling applications.
///
/// An outcome, its event, and a delivery to each webhook that is there at the time are written in one
/// transaction: none is without the others.
#[async_trait]
pub trait Events: Send + Sync + 'static {
    /// Up to `limit` events with numbers above `after`, of one task or of all, oldest first. Events become visible in the
    /// order of their numbers: who has read up to a number misses none. A database whose transactions overlap gives the
    /// numbers under a lock that is held until the commit.
    async fn events(
        &self,
        after: i64,
        task: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError>;

    /// The numbers of the newest event that is not kept any more and of the newest that there was; 0 when there is
    /// none. Older ones may be kept still: they are while something of them is to be delivered.
    async fn event_range(&self) -> Result<(i64, i64), StoreError>;

    /// Adds a webhook: it is told what happens from now on. Where there are [`MAX_WEBHOOKS`] already, the oldest of a
    /// task that has ended makes room, if none of its deliveries is pending or failed.
    async fn add_webhook(&self, new: &NewWebhook) -> Result<WebhookRecord, AddWebhookError>;

    /// Webhooks of these tenants, or all, with numbers above `after`, oldest first.
    async fn webhooks(
        &self,
        tenants: Option<&[TenantId]>,
        after: Option<WebhookId>,
        limit: u32,
    ) -> Result<Page<WebhookRecord>, StoreError>;

    /// A webhook.
    async fn webhook(&self, id: WebhookId) -> Result<Option<WebhookRecord>, StoreError>;

    /// What a webhook's posts are signed with, as it is stored: [`webhook_secret`](super::webhook_secret) opens it.
    async fn webhook_secret(&self, id: WebhookId) -> Result<Option<Vec<u8>>, StoreError>;

    /// Seals the secrets that were stored as they are, or not for their webhook alone: all of them, or none. Returns how many.
    async fn seal_webhook_secrets(&self, vault: &Vault) -> Result<usize, StoreError>;

    /// Removes a webhook and its deliveries. Returns whether there was one.
    async fn remove_webhook(&self, id: WebhookId) -> Result<bool, StoreError>;

    /// Webhooks that have a delivery to be tried, now or later.
    async fn busy_webhooks(&self) -> Result<Vec<BusyWebhook>, StoreError>;

    /// Up to `limit` deliveries of a webhook that are due at `now`, longest due first.
    async fn due_deliveries(
        &self,
        webhook: WebhookId,
        now: UtcMillis,
        limit: u32,
    ) -> Result<Vec<DueDelivery>, StoreError>;

    /// The delivery of a webhook that became due last before `now`.
    async fn last_due(
        &self,
        webhook: WebhookId,
        now: UtcMillis,
    ) -> Result<Option<DueDelivery>, StoreError>;

    /// Writes what came of attempts, and since when their webhooks do not work, in one transaction. Deliveries
    /// that are not pending any more, or were replayed since, stay as they are.
    async fn record_attempts(&self, attempts: &[Attempted]) -> Result<(), StoreError>;

    /// Gives up to `limit` deliveries of a webhook up that were due before `due_before`. Returns how many.
    async fn give_up(
        &self,
        webhook: WebhookId,
        due_before: UtcMillis,
        now: UtcMillis,
        error: &str,
        limit: u32,
    ) -> Result<u64, StoreError>;

    /// Deliveries of a webhook, in `state` if one is given, newest first, with numbers below `before`.
    async fn deliveries(
        &self,
        webhook: WebhookId,
        state: Option<DeliveryState>,
        before: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Page<DeliveryRecord>, StoreError>;

    /// Delivers again, from `now` on: one delivery, whatever its state, or up to `limit` that were given up.
    /// Returns how many.
    async fn replay(
        &self,
        webhook: WebhookId,
        delivery: Option<DeliveryId>,
        now: UtcMillis,
        limit: u32,
    ) -> Result<u64, StoreError>;

    /// Deletes up to `limit` of each: deliveries that ended before `before`, events that are older and have no
    /// delivery, and webhooks of tasks that have ended, or were deleted, that have none. Returns how many rows.
    async fn forget_events(&self, before: UtcMillis, limit: u32) -> Result<u64, StoreError>;
}
