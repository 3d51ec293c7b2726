//! Drives the committer: a task that has the store write what the shards emit.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Exchange, until};
use crate::{
    clock::SystemClock,
    engine::{Command, ShardId},
    health::{Health, Part},
    shard::{Committer, Emitted, Message, NotWritten, Told},
    signal::Signals,
    store::{Store, StoreError},
};

/// Changes that are taken at once.
const AT_ONCE: usize = 1_000;

/// Commits the shards' changes in their order until the shards are gone.
///
/// While nothing can be written the shards are told, and the reason stands in `health`. The end of an attempt may let
/// another upgrade begin, so the rollout is signalled. What applications are to be told goes to who tells them.
pub(super) async fn commit_changes(
    mut committer: Committer,
    clock: SystemClock,
    store: Arc<dyn Store>,
    health: Arc<Health>,
    exchange: Arc<Exchange>,
    signals: Arc<Signals>,
    mut changes: mpsc::UnboundedReceiver<Emitted>,
) {
    let mut emitted = Vec::with_capacity(AT_ONCE);
    loop {
        while let Some(batch) = committer.poll_batch(clock.now().instant) {
            match store.commit(batch.id, &batch.changes).await {
                Ok(report) => committer.written(report),
                Err(error @ StoreError::Refused { .. }) => {
                    tracing::error!(%error, changes = batch.changes.len(), "the database refuses changes");
                    committer.not_written(clock.now().instant, batch, NotWritten::Refused);
                }
                Err(error) => {
                    if health.is_ok(Part::Store) {
                        tracing::error!(%error, changes = batch.changes.len(), "changes cannot be stored; trying again");
                    }
                    health.failed(Part::Store, error.to_string());
                    committer.not_written(clock.now().instant, batch, NotWritten::Failed);
                }
            }
            while let Some(told) = committer.poll_told() {
                tell(told, &exchange, &health, &signals);
            }
        }
        if committer.poll_timeout().is_some() {
            // what is emitted meanwhile waits in its channel
            let wait = until(committer.poll_timeout(), clock.now().instant);
            tokio::time::sleep(wait).await;
        } else if changes.recv_many(&mut emitted, AT_ONCE).await == 0 {
            return;
        }
        for emitted in emitted.drain(..) {
            committer.emitted(emitted);
        }
    }
}

fn tell(told: Told, exchange: &Exchange, health: &Health, signals: &Signals) {
    match told {
        Told::StoreAvailable(available) => {
            if available {
                tracing::info!("changes are stored again");
                health.works(Part::Store);
            }
            exchange.store_available(available);
        }
        // One whose device moves this moment is heard of again with its next change.
        Told::Abandon(upgrade) => {
            exchange.tell_all(|| Message::Obey(Command::Abandon { upgrade }));
        }
        Told::Committed(shard, seq) => committed(exchange, shard, seq),
        Told::AttemptEnded => signals.written(),
        Told::Announced => signals.news.tell(),
        Told::LeftOut(change) => tracing::error!(?change, "a change is left out"),
    }
}

fn committed(exchange: &Exchange, shard: ShardId, seq: u64) {
    exchange.send(
        shard,
        super::message::Message::Core(Message::Committed(seq)),
    );
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

    use super::*;
    use crate::{
        clock::UtcMillis,
        ledger::{Binding, Change, DeviceIds, QueueMode, Registration},
        store::{Events as _, Ledger as _, SqliteStore, conformance::home_events},
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
            wake_ups: None,
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
        let clock = SystemClock::start();
        let committer = Committer::new(1);
        commit_changes(
            committer,
            clock,
            store.clone(),
            health,
            exchange,
            Arc::default(),
            changes,
        )
        .await;
        let devices = store.restore_devices(0, 10).await.unwrap().devices;
        let endpoints: Vec<&str> = devices.iter().map(|d| d.endpoint.as_str()).collect();
        assert_eq!(endpoints, ["a", "c"]);
        let written: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM written")
            .fetch_one(&mut side_door)
            .await
            .unwrap();
        assert_eq!(written, 2, "each is written once");
    }

    #[tokio::test]
    async fn who_tells_applications_hears_of_a_beginning_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(dir.path()).await.unwrap());
        let begins = home_events::beginning(&*store).await;
        let signals = Arc::new(Signals::default());
        let mut news = signals.news.listen();
        for (change, tells) in [(begins, true), (registered("d0"), false)] {
            let (sender, changes) = mpsc::unbounded_channel();
            let emitted = Emitted {
                shard: ShardId(0),
                seq: 1,
                change,
            };
            sender.send(emitted).unwrap();
            drop(sender);
            let (exchange, _ends) = Exchange::new(DeviceIds::new([7; 32]), 1);
            commit_changes(
                Committer::new(u64::from(tells)),
                SystemClock::start(),
                store.clone(),
                Arc::new(Health::starting()),
                exchange,
                signals.clone(),
                changes,
            )
            .await;
            assert_eq!(news.has_changed().unwrap(), tells);
            news.mark_unchanged();
        }
        let events = store.events(0, None, 9).await.unwrap();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["upgrade.started"]);
    }
}
