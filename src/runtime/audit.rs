//! Keeps the audit log: writes what was refused, folded, and removes what is older than it is kept.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    audit::{Entry, Key, KeyError, Refused},
    clock::{SystemClock, UtcMillis},
    config::Settings,
    store::{Store, StoreError},
};

/// Between two looks at what was refused.
const EVERY: Duration = Duration::from_secs(1);
/// Looks between two removals of what is old.
const PRUNED_EVERY: u32 = 3_600;
/// Rows that are removed in one transaction.
const PART: u32 = 5_000;
/// Rows that wait for a database that cannot be written.
const MOST_WAITING: usize = 1_000;
const DAY: Duration = Duration::from_hours(24);
/// Longest time between the newest row and now that is believed of the clock.
const MOST_AHEAD: Duration = Duration::from_hours(400 * 24);
/// Who prunes.
const SYSTEM: &str = "system";

/// What is signed with, and what was refused and is not written yet.
#[derive(Debug)]
pub struct AuditTrail {
    key: Key,
    refused: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    folded: Refused,
    rows: Vec<Entry>,
}

impl AuditTrail {
    /// Checkpoints are signed with this key.
    pub fn new(key: Key) -> Self {
        Self {
            key,
            refused: Mutex::default(),
        }
    }

    /// Signs checkpoints.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Something was refused just now to somebody in this network. Nobody waits for the database.
    pub fn refused(&self, entry: Entry, network: Option<String>) {
        self.waiting().folded.note(entry, network);
    }

    /// Writes what is due, or all.
    ///
    /// # Errors
    /// The database: it waits for the next time.
    pub async fn write(
        &self,
        store: &dyn Store,
        now: UtcMillis,
        all: bool,
    ) -> Result<(), StoreError> {
        let rows = {
            let mut waiting = self.waiting();
            let due = if all {
                waiting.folded.all()
            } else {
                waiting.folded.due(now)
            };
            waiting.rows.extend(due);
            waiting.rows.truncate(MOST_WAITING);
            std::mem::take(&mut waiting.rows)
        };
        let written = store.add_to_audit(&rows).await;
        if written.is_err() {
            let mut waiting = self.waiting();
            let later = std::mem::replace(&mut waiting.rows, rows);
            waiting.rows.extend(later);
        }
        written
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why old rows were not removed.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the log is to begin behind cannot be signed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Removes what was written more than `days` days ago, once a checkpoint of it is signed and stored. Returns how many rows.
///
/// # Errors
/// Nothing is removed that no checkpoint stands for.
pub async fn prune_audit(
    store: &dyn Store,
    key: &Key,
    days: u32,
    now: UtcMillis,
) -> Result<u64, PruneError> {
    if days == 0 {
        return Ok(0);
    }
    // a clock that is far ahead removes nothing: what it takes for old may be of yesterday
    if now.before(MOST_AHEAD) > store.audit_head().await?.at {
        return Ok(0);
    }
    let last = store.audit_before(now.before(DAY * days)).await?;
    if let Some(row) = store.audit_row(last).await? {
        let checkpoint = key.sign((row.number, row.hash), &now)?;
        store.begin_audit_behind(&checkpoint).await?;
    }
    let told = Entry {
        at: now,
        who: SYSTEM.to_owned(),
        operation: "prune_audit".to_owned(),
        target: Some("audit".to_owned()),
        ..Entry::default()
    };
    let mut told = Some(&told);
    let mut pruned = 0;
    loop {
        let part = store.prune_audit(PART, told.take()).await?;
        pruned += part;
        if part < u64::from(PART) {
            return Ok(pruned);
        }
    }
}

/// Keeps the log until `stop` turns true.
pub async fn keep_audit(
    trail: Arc<AuditTrail>,
    store: Arc<dyn Store>,
    config: Settings,
    clock: SystemClock,
    mut stop: watch::Receiver<bool>,
) {
    let mut looks = 0_u32;
    while !*stop.borrow() {
        let now = clock.now().utc;
        if let Err(error) = trail.write(&*store, now, false).await {
            tracing::warn!(%error, "what was refused is not in the audit log yet");
        }
        if looks.is_multiple_of(PRUNED_EVERY) {
            let days = config.get().audit.keep_days;
            match prune_audit(&*store, trail.key(), days, now).await {
                Ok(0) => {}
                Ok(rows) => tracing::info!(rows, "old rows of the audit log were removed"),
                Err(error) => tracing::warn!(%error, "old rows of the audit log stay"),
            }
        }
        looks = looks.wrapping_add(1);
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.changed() => {}
        }
    }
}
