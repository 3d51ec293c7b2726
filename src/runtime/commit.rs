use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{Pulse, ShardHandle};
use crate::{
    engine::{Change, Seq},
    health::{Health, Part},
    store::{Store, StoreError},
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
/// be a device's answer forgotten. Meanwhile the shard is told, and the reason stands in `health`. Only a change
/// that breaks a rule of the database, a fault of ours, is reported and left out: it would stop all others for ever.
/// The end of an attempt may let another upgrade begin, so `rollout` is poked.
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
        let mut writes: Vec<Change> = batch.drain(..).map(|(_, change)| change).collect();
        let ends = writes
            .iter()
            .any(|change| matches!(change, Change::Ended { .. }));
        let mut pause = FIRST_PAUSE;
        let report = loop {
            match store.commit(&writes).await {
                Ok(report) => break report,
                Err(StoreError::Refused { .. }) => {
                    writes = acceptable(&*store, writes).await;
                    tokio::time::sleep(pause).await;
                }
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

/// Writes the changes one by one, and leaves out those that the database refuses. What is committed twice is
/// the same as once.
async fn acceptable(store: &dyn Store, writes: Vec<Change>) -> Vec<Change> {
    let mut accepted = Vec::with_capacity(writes.len());
    for change in writes {
        match store.commit(std::slice::from_ref(&change)).await {
            Err(error @ StoreError::Refused { .. }) => {
                tracing::error!(%error, ?change, "a change is left out");
            }
            _ => accepted.push(change),
        }
    }
    accepted
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

    use super::*;
    use crate::{
        clock::UtcMillis,
        engine::{QueueMode, Registration},
        store::SqliteStore,
    };

    fn registered(endpoint: &str) -> Change {
        Change::Registered {
            endpoint: endpoint.into(),
            registration: Registration {
                location: endpoint.into(),
                peer: std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into(),
                lifetime_s: 300,
                expires_at: UtcMillis(300_000),
                registered_at: UtcMillis(0),
                queue_mode: QueueMode::Off,
            },
            at: UtcMillis(0),
        }
    }

    #[tokio::test]
    async fn a_change_that_breaks_a_rule_does_not_stop_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(dir.path()).await.unwrap());
        let file = SqliteConnectOptions::new().filename(dir.path().join("cellwise.db"));
        let mut side_door = SqliteConnection::connect_with(&file).await.unwrap();
        sqlx::query(
            "CREATE TRIGGER rule BEFORE INSERT ON devices WHEN NEW.endpoint = 'bad' \
             BEGIN SELECT RAISE(ABORT, 'not this one'); END",
        )
        .execute(&mut side_door)
        .await
        .unwrap();
        let (sender, changes) = mpsc::unbounded_channel();
        for (seq, endpoint) in (1..).zip(["a", "bad", "c"]) {
            sender.send((seq, registered(endpoint))).unwrap();
        }
        drop(sender);
        let (shard, _inbox) = ShardHandle::unattached();
        let health = Arc::new(Health::starting());
        commit_changes(store.clone(), health, shard, Arc::default(), changes).await;
        let devices = store.restore_devices(0, 10).await.unwrap().devices;
        let endpoints: Vec<&str> = devices.iter().map(|d| d.endpoint.as_str()).collect();
        assert_eq!(endpoints, ["a", "c"]);
    }
}
