//! Applications are told of the upgrades that wait for the word of a home (`upgrade.awaiting`): it is looked for them again and again.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

use crate::{
    clock::SystemClock,
    signal::Signals,
    store::{Store, StoreError},
};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// Upgrades that are told of in one transaction, for which all other writers wait.
const PART: u32 = 1_000;
/// Between two parts, for all else that is to be written.
const BETWEEN_PARTS: Duration = Duration::from_millis(100);

/// Looks, at once and every few seconds, until the server stops.
pub(super) async fn keep_asking(
    store: Arc<dyn Store>,
    clock: SystemClock,
    signals: Arc<Signals>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            done = ask(&*store, clock, &signals, PART) => if let Err(error) = done {
                tracing::warn!(%error, "applications are not told yet of upgrades that wait for the word of a home");
            },
            _ = stop.wait_for(|stop| *stop) => return,
        }
        tokio::select! {
            () = sleep(EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Has all told of that wait, part by part.
async fn ask(
    store: &dyn Store,
    clock: SystemClock,
    signals: &Signals,
    part: u32,
) -> Result<(), StoreError> {
    loop {
        let looked_at = store.ask_homes(part, clock.now().utc).await?;
        if looked_at > 0 {
            signals.news.tell();
        }
        if looked_at < part.into() {
            return Ok(());
        }
        sleep(BETWEEN_PARTS).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Events as _, SqliteStore, conformance::home_events};

    #[tokio::test]
    async fn all_that_wait_are_told_of_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path()).await.unwrap();
        home_events::asked_for(&store).await;
        let signals = Signals::default();
        let mut news = signals.news.listen();
        ask(&store, SystemClock::start(), &signals, 1)
            .await
            .unwrap();
        let events = store.events(0, None, 9).await.unwrap();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["upgrade.awaiting"; 2]);
        assert!(news.has_changed().unwrap());
        news.mark_unchanged();
        ask(&store, SystemClock::start(), &signals, 1)
            .await
            .unwrap();
        assert!(!news.has_changed().unwrap());
    }
}
