//! Devices in homes whose switch is on are upgraded by themselves, while no hours are quiet there: it is looked for them again and again.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

use crate::{
    clock::SystemClock,
    signal::Signals,
    store::{Store, StoreError},
};

/// Between two rounds, at least.
const EVERY: Duration = Duration::from_mins(1);
/// Between two parts of a round, for all else that is to be done.
const BETWEEN_PARTS: Duration = Duration::from_millis(10);
/// Devices of a part.
const PART: u32 = 200;
/// A pause is so many times as long as the round before it: rounds over many devices take a fifth of the time at most.
const TIMES: u32 = 4;

/// Looks for devices that begin, until the server stops.
pub(super) async fn keep_starting(
    store: Arc<dyn Store>,
    clock: SystemClock,
    signals: Arc<Signals>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let began = clock.now().instant;
        let round = round(&*store, clock, &signals, PART);
        tokio::select! {
            done = round => if let Err(error) = done {
                tracing::warn!(%error, "devices that upgrade by themselves were not looked for");
            },
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let took = clock.now().instant.since(began);
        let pause = EVERY.max(took.saturating_mul(TIMES));
        tokio::select! {
            () = sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Looks at all devices whose switch is on, in parts.
async fn round(
    store: &dyn Store,
    clock: SystemClock,
    signals: &Signals,
    part: u32,
) -> Result<(), StoreError> {
    let mut after: Option<String> = None;
    loop {
        let now = clock.now().utc;
        let (started, next) = store.start_automatic(after.as_deref(), part, now).await?;
        if started > 0 {
            signals.written();
        }
        if next.is_none() {
            return Ok(());
        }
        after = next;
        sleep(BETWEEN_PARTS).await;
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::*;
    use crate::{
        ledger::TaskId,
        store::{SqliteStore, conformance::starts},
    };

    async fn opened(dir: &TempDir) -> SqliteStore {
        SqliteStore::open(dir.path()).await.unwrap()
    }

    /// How many upgrades a task has.
    async fn upgrades(store: &dyn Store, task: TaskId) -> u64 {
        store
            .task(task)
            .await
            .unwrap()
            .unwrap()
            .counts
            .values()
            .sum()
    }

    #[tokio::test]
    async fn a_round_looks_at_all_devices_and_a_restart_begins_nothing_twice() {
        let dir = tempfile::tempdir().unwrap();
        let store = opened(&dir).await;
        let offer = starts::switched_on(&store, ["UTC"; 3]).await;
        starts::never_quiet(&store).await;
        let (clock, signals) = (SystemClock::start(), Signals::default());
        round(&store, clock, &signals, 1).await.unwrap();
        assert_eq!(upgrades(&store, offer.task).await, 3);
        // the rollout is told
        timeout(Duration::from_secs(10), signals.intent.changed())
            .await
            .unwrap();
        store.close().await;
        let store = opened(&dir).await;
        let signals = Signals::default();
        round(&store, clock, &signals, 1).await.unwrap();
        assert_eq!(upgrades(&store, offer.task).await, 3);
        let told = timeout(Duration::from_millis(1), signals.intent.changed());
        told.await.expect_err("nothing began");
    }

    #[tokio::test]
    async fn rounds_follow_each_other_until_the_server_stops() {
        let dir = tempfile::tempdir().unwrap();
        let store = opened(&dir).await;
        let offer = starts::switched_on(&store, ["UTC"; 3]).await;
        starts::never_quiet(&store).await;
        let (stop, told) = watch::channel(false);
        let signals = Arc::new(Signals::default());
        let store = Arc::new(store);
        let rounds = keep_starting(store.clone(), SystemClock::start(), signals.clone(), told);
        let rounds = tokio::spawn(rounds);
        timeout(Duration::from_secs(10), signals.intent.changed())
            .await
            .unwrap();
        assert_eq!(upgrades(&*store, offer.task).await, 3);
        stop.send(true).unwrap();
        timeout(Duration::from_secs(10), rounds)
            .await
            .unwrap()
            .unwrap();
    }
}
