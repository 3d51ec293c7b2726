use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{Exchange, Pulse};
use crate::{
    engine::{Change, Seq, ShardId},
    health::{Health, Part},
    store::{BatchId, Store, StoreError},
    task::UpgradeId,
};

/// Changes in one transaction. More wait for the next one, which takes them all again.
pub const COMMIT_BATCH: usize = 1_000;
/// Before the first repeat of a batch that could not be written; each further pause is twice as long.
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// No pause is longer.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A change that a shard's engine has emitted.
pub(super) struct Emitted {
    pub(super) shard: ShardId,
    pub(super) seq: Seq,
    pub(super) change: Change,
}

/// Commits the shards' changes in their order until the shards are gone: whatever has gathered while one
/// transaction ran goes into the next.
///
/// A batch that cannot be written is tried again for as long as it takes: a change that was dropped would
/// be a device's answer forgotten. Meanwhile the shards are told, and the reason stands in `health`. Only a change
/// that breaks a rule of the database, a fault of ours, is reported and left out: it would stop all others for ever.
/// The end of an attempt may let another upgrade begin, so `rollout` is poked. No other process ever commits as `writer`.
pub(super) async fn commit_changes(
    store: Arc<dyn Store>,
    health: Arc<Health>,
    exchange: Arc<Exchange>,
    rollout: Arc<Pulse>,
    writer: u64,
    mut changes: mpsc::UnboundedReceiver<Emitted>,
) {
    let mut id = BatchId::first_of(writer);
    let mut batch = Vec::with_capacity(COMMIT_BATCH);
    while changes.recv_many(&mut batch, COMMIT_BATCH).await > 0 {
        let mut last = BTreeMap::new();
        let emitted = batch.drain(..).map(|emitted| {
            last.insert(emitted.shard, emitted.seq);
            emitted.change
        });
        let mut writes = Writes::new(id, emitted.collect());
        let ends = (writes.left.iter()).any(|change| matches!(change, Change::Ended { .. }));
        let mut pause = FIRST_PAUSE;
        loop {
            match writes.write(&*store).await {
                Ok(()) => break,
                Err(error) => {
                    if health.is_ok(Part::Store) {
                        tracing::error!(%error, changes = writes.left.len(), "changes cannot be stored; trying again");
                        exchange.store_available(false);
                    }
                    health.failed(Part::Store, error.to_string());
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        if !health.is_ok(Part::Store) {
            tracing::info!("changes are stored again");
            health.works(Part::Store);
            exchange.store_available(true);
        }
        id = writes.id;
        exchange.abandon(&writes.refused);
        for (shard, seq) in last {
            exchange.committed(shard, seq);
        }
        if ends {
            rollout.poke();
        }
    }
}

/// Changes that are written together, or one by one once the database has refused one of them.
///
/// Whatever is tried again has the number that it had before: it may have been written although that was not heard.
struct Writes {
    /// Of the next commit.
    id: BatchId,
    left: Vec<Change>,
    singly: bool,
    refused: Vec<UpgradeId>,
}

impl Writes {
    const fn new(id: BatchId, changes: Vec<Change>) -> Self {
        Self {
            id,
            left: changes,
            singly: false,
            refused: Vec::new(),
        }
    }

    /// Writes what is left, but for what the database refuses, which is left out and reported.
    ///
    /// # Errors
    /// The database has failed; what is left is to be written yet.
    async fn write(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        if !self.singly {
            match store.commit(self.id, &self.left).await {
                Ok(report) => {
                    self.refused.extend(report.refused);
                    self.left.clear();
                }
                Err(StoreError::Refused { .. }) => self.singly = true,
                Err(error) => return Err(error),
            }
            self.id = self.id.next();
        }
        while let Some(change) = self.left.first() {
            match store.commit(self.id, std::slice::from_ref(change)).await {
                Ok(report) => self.refused.extend(report.refused),
                Err(error @ StoreError::Refused { .. }) => {
                    tracing::error!(%error, ?change, "a change is left out");
                }
                Err(error) => return Err(error),
            }
            self.id = self.id.next();
            self.left.remove(0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

    use super::*;
    use crate::{
        clock::UtcMillis,
        engine::{Binding, DeviceIds, QueueMode, Registration},
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
                message_id: None,
                queue_mode: QueueMode::Off,
                lwm2m_version: None,
                binding: Binding::default(),
                announced: None,
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
        for statement in [
            "CREATE TABLE written (endpoint TEXT)",
            "CREATE TRIGGER inserted AFTER INSERT ON devices BEGIN INSERT INTO written VALUES (NEW.endpoint); END",
            "CREATE TRIGGER updated AFTER UPDATE ON devices BEGIN INSERT INTO written VALUES (NEW.endpoint); END",
        ] {
            sqlx::query(statement)
                .execute(&mut side_door)
                .await
                .unwrap();
        }
        let (sender, changes) = mpsc::unbounded_channel();
        for (seq, endpoint) in (1..).zip(["a", "bad", "c"]) {
            let change = registered(endpoint);
            let shard = ShardId(0);
            let _ = sender.send(Emitted { shard, seq, change });
        }
        drop(sender);
        let (exchange, _ends) = Exchange::new(DeviceIds::new([7; 32]), 1);
        let health = Arc::new(Health::starting());
        commit_changes(store.clone(), health, exchange, Arc::default(), 1, changes).await;
        let devices = store.restore_devices(0, 10).await.unwrap().devices;
        let endpoints: Vec<&str> = devices.iter().map(|d| d.endpoint.as_str()).collect();
        assert_eq!(endpoints, ["a", "c"]);
        let written: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM written")
            .fetch_one(&mut side_door)
            .await
            .unwrap();
        assert_eq!(written, 2, "each is written once");
    }
}
