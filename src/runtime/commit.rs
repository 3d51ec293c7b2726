use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{Pulse, ShardHandle};
use crate::{
    engine::{Change, Seq},
    health::{Health, Part},
    store::Store,
};

/// Changes in one transaction. More wait for the next one, which takes them all again.
pub const COMMIT_BATCH: usize = 1_000;
/// Before the first repeat of a batch that could not be written; each further pause is twice as long.
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// No pause is longer.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Commits the shard's changes in their order until the shard is gone: whatever has gathered while one
/// transaction ran goes into the next.
///
/// A batch that cannot be written is tried again for as long as it takes: a change that was dropped would
/// be a device's answer forgotten. Meanwhile the shard is told, and the reason stands in `health`. The end of an
/// attempt may let another upgrade begin, so `rollout` is poked.
pub async fn commit_changes(
    store: Arc<dyn Store>,
    health: Arc<Health>,
    shard: ShardHandle,
    rollout: Arc<Pulse>,
    mut changes: mpsc::UnboundedReceiver<(Seq, Change)>,
) {
    let mut batch = Vec::with_capacity(COMMIT_BATCH);
    while changes.recv_many(&mut batch, COMMIT_BATCH).await > 0 {
        let last = batch.last().map_or(0, |(seq, _)| *seq);
        let writes: Vec<Change> = batch.drain(..).map(|(_, change)| change).collect();
        let ends = writes
            .iter()
            .any(|change| matches!(change, Change::Ended { .. }));
        let mut pause = FIRST_PAUSE;
        let report = loop {
            match store.commit(&writes).await {
                Ok(report) => break report,
                Err(error) => {
                    if health.is_ok(Part::Store) {
                        tracing::error!(%error, changes = writes.len(), "changes cannot be stored; trying again");
                        shard.store_available(false);
                    }
                    health.failed(Part::Store, error.to_string());
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        };
        if !health.is_ok(Part::Store) {
            tracing::info!("changes are stored again");
            health.works(Part::Store);
            shard.store_available(true);
        }
        shard.committed(last, report.refused);
        if ends {
            rollout.poke();
        }
    }
}
