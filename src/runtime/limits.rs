//! Keeps how limits of cells have changed because the cells were crowded: the gate says so, and does not wait for the disk.

use std::sync::Arc;

use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::store::{LimitChange, Store};

/// Changes that wait to be written: more are not kept.
const MOST_WAITING: usize = 4_096;
/// Changes that are written together.
const TOGETHER: usize = 256;

/// Where the gate says what has changed.
pub(super) struct LimitLog {
    changes: Sender<LimitChange>,
}

impl LimitLog {
    /// One that is kept in the store, from within a runtime, until the log is dropped.
    pub(super) fn kept_in(store: Arc<dyn Store>) -> Self {
        let (changes, told) = mpsc::channel(MOST_WAITING);
        tokio::spawn(keep(store, told));
        Self { changes }
    }

    /// A limit has changed.
    pub(super) fn add(&self, change: LimitChange) {
        if self.changes.try_send(change).is_err() {
            tracing::warn!(
                cell = change.cell,
                "a change of the cell's limit is not kept: the database is slow"
            );
        }
    }
}

async fn keep(store: Arc<dyn Store>, mut told: Receiver<LimitChange>) {
    let mut changes = Vec::with_capacity(TOGETHER);
    while told.recv_many(&mut changes, TOGETHER).await > 0 {
        if let Err(error) = store.add_limit_changes(&changes).await {
            tracing::warn!(%error, "changes of cells' limits are not kept");
        }
        changes.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock::UtcMillis,
        store::{Series as _, SqliteStore},
    };

    #[tokio::test]
    async fn what_the_gate_says_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(dir.path()).await.unwrap());
        let log = LimitLog::kept_in(store.clone());
        let change = |at| LimitChange {
            cell: 7,
            at: UtcMillis(at),
            most: Some(35),
            before: None,
            percent: 420,
        };
        log.add(change(1));
        log.add(change(2));
        for _ in 0..500 {
            if store.limit_changes(7).await.unwrap() == [change(1), change(2)] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it is not kept");
    }
}
