//! The audit log, and on whose behalf changes are written.
//!
//! Whoever carries something out for a caller does it within [`Acting::scope`]. Each change that is written there leaves a row of the
//! audit log in its own transaction; a store has no other way to write. What takes several transactions leaves one row, with the last
//! of them: until then an open entry says with each what was done so far, and becomes a row at the next start where there was no last.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use serde_json::{Map, Value};

use super::{Page, StoreError};
use crate::{
    audit::{Checkpoint, Entry, EntryResult, Hash, Row},
    clock::UtcMillis,
    tenant::TenantId,
};

tokio::task_local! {
    static ACTING: Arc<Acting>;
}

/// Something that is carried out for somebody.
#[derive(Debug)]
pub struct Acting(Mutex<Act>);

/// How far it is.
#[derive(Debug, Clone)]
pub(super) struct Act {
    pub(super) entry: Entry,
    /// The number of the open entry.
    pub(super) open: Option<i64>,
    /// Every transaction is a part: whoever carries it out says when it is over.
    pub(super) in_parts: bool,
    /// How much of it goes on to its end in tasks of their own, whoever waits for it.
    pub(super) carried: u32,
    /// Nobody waits for it any more.
    pub(super) left: bool,
    /// Rows that were written.
    pub(super) rows: u32,
    pub(super) watched: Vec<Watched>,
}

impl Act {
    /// Says whose matter it is, as far as nobody has said that.
    pub(super) fn belongs_to(&mut self, tenant: Option<String>) {
        if self.entry.tenant.is_none() {
            self.entry.tenant = tenant;
        }
    }
}

/// A row of a table, as it was before.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    /// The table, as the store knows it.
    pub(super) table: usize,
    /// Its key, and the word for it in [`Entry::target`].
    pub(super) key: String,
    pub(super) before: Option<Map<String, Value>>,
}

impl Acting {
    /// On behalf of whom `entry` says.
    pub fn new(entry: Entry) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Act {
            entry,
            open: None,
            in_parts: false,
            carried: 0,
            left: false,
            rows: 0,
            watched: Vec::new(),
        })))
    }

    /// Carries something out: each change that it writes leaves a row.
    pub async fn scope<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> T {
        ACTING.scope(self.clone(), work).await
    }

    /// What is being carried out here, if it is on somebody's behalf.
    pub fn current() -> Option<Arc<Self>> {
        ACTING.try_with(Arc::clone).ok()
    }

    /// What is carried out here is written in several steps, which are one to its caller.
    pub fn in_parts() {
        if let Some(acting) = Self::current() {
            acting.act().in_parts = true;
        }
    }

    /// Notes that something of it goes on to its end in a task of its own.
    pub(super) fn carry(&self) {
        self.act().carried += 1;
    }

    /// What went on in a task of its own is over. Returns whether it is to be ended there, because nobody else does it.
    pub(super) fn carried(&self) -> bool {
        let mut act = self.act();
        act.carried = act.carried.saturating_sub(1);
        act.left && act.carried == 0 && act.open.is_some()
    }

    /// Nobody waits for it any more. Returns whether it is to be ended now: what goes on to its end is ended there.
    pub fn leave(&self) -> bool {
        let mut act = self.act();
        act.left = true;
        act.carried == 0 && act.open.is_some()
    }

    /// Whether it has left a row.
    pub fn has_left_a_row(&self) -> bool {
        self.act().rows > 0
    }

    /// Whether it is written in several steps, and the last of them was not yet.
    pub fn is_open(&self) -> bool {
        self.act().open.is_some()
    }

    /// What is known of it.
    pub fn entry(&self) -> Entry {
        self.act().entry.clone()
    }

    pub(super) fn act(&self) -> MutexGuard<'_, Act> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which rows of the audit log are listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// A matter of one of these tenants; `None`: of anybody.
    pub tenants: Option<Vec<TenantId>>,
    /// Of this caller.
    pub who: Option<String>,
    /// Of this operation.
    pub operation: Option<String>,
    /// About this, or about anything of this kind.
    pub target: Option<String>,
    /// Of which this came.
    pub result: Option<EntryResult>,
    /// Not before.
    pub since: Option<UtcMillis>,
    /// Before.
    pub until: Option<UtcMillis>,
}

/// The newest row of the log; number 0 and [`Hash::NONE`] before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: Hash,
    /// When it was asked for what it says.
    pub at: UtcMillis,
}

/// Who has changed what.
#[async_trait]
pub trait AuditLog: Send + Sync + 'static {
    /// Adds rows about what has written nothing else.
    async fn add_to_audit(&self, entries: &[Entry]) -> Result<(), StoreError>;

    /// What was written in parts is over, with this result: it becomes a row. Nothing happens where it has become one.
    async fn end_act(&self, acting: &Acting, result: &Entry) -> Result<(), StoreError>;

    /// Makes rows of what a crash has interrupted. Only for whoever knows that nobody else writes.
    async fn end_interrupted_acts(&self) -> Result<u64, StoreError>;

    /// Rows that `filter` lets through, newest first, with numbers below `before`.
    async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Page<Row>, StoreError>;

    /// Rows behind `after`, oldest first.
    async fn audit_after(&self, after: u64, limit: u32) -> Result<Vec<Row>, StoreError>;

    /// Number of the newest row that was written before `at`; 0: there is none.
    async fn audit_before(&self, at: UtcMillis) -> Result<u64, StoreError>;

    /// A row.
    async fn audit_row(&self, number: u64) -> Result<Option<Row>, StoreError>;

    /// The newest row, as it is kept apart from the rows.
    async fn audit_head(&self) -> Result<AuditHead, StoreError>;

    /// What the log begins behind; `None`: behind nothing.
    async fn audit_beginning(&self) -> Result<Option<Checkpoint>, StoreError>;

    /// The log begins behind this from now on. What is older may be removed.
    async fn begin_audit_behind(&self, checkpoint: &Checkpoint) -> Result<(), StoreError>;

    /// Removes up to `limit` rows that the log does not begin with any more. Returns how many. With the first of them `told` becomes
    /// a row, with the number of all that go.
    async fn prune_audit(&self, limit: u32, told: Option<&Entry>) -> Result<u64, StoreError>;
}
