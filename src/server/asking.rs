//! Applications are told of the upgrades that wait for the word of a home (`upgrade.awaiting`), and of the homes to which an offer has become
//! visible (`offer.visible`): it is looked for them again and again.

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
/// Homes that are looked at in one transaction: up to 256 devices of each.
const HOMES: u32 = 100;
/// Between two parts, for all else that is to be written.
const BETWEEN_PARTS: Duration = Duration::from_millis(100);

/// Looks, at once and every few seconds, until the server stops. Neither waits for the other: an offer to many homes takes minutes.
pub(super) async fn keep_asking(
    store: Arc<dyn Store>,
    clock: SystemClock,
    signals: Arc<Signals>,
    mut stop: watch::Receiver<bool>,
) {
    let asking = async {
        loop {
            if let Err(error) = ask(&*store, clock, &signals, PART).await {
                tracing::warn!(%error, "applications are not told yet of upgrades that wait for the word of a home");
            }
            sleep(EVERY).await;
        }
    };
    let showing = async {
        loop {
            if let Err(error) = show(&*store, clock, &signals, HOMES).await {
                tracing::warn!(%error, "applications are not told yet of homes to which an offer has become visible");
            }
            sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = asking => {}
        () = showing => {}
        _ = stop.wait_for(|stop| *stop) => {}
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

/// Has all told of that see an offer since lately, part by part.
async fn show(
    store: &dyn Store,
    clock: SystemClock,
    signals: &Signals,
    part: u32,
) -> Result<(), StoreError> {
    while let Some(told) = store.tell_of_offers(part, clock.now().utc).await? {
        if told > 0 {
            signals.news.tell();
        }
        sleep(BETWEEN_PARTS).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::{
            Events as _, Offers as _, SqliteStore,
            conformance::{home_events, starts},
        },
        tenant::TenantId,
    };

    #[tokio::test]
    async fn all_homes_that_see_an_offer_are_told_of_in_parts_and_a_restart_repeats_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path()).await.unwrap();
        let offer = starts::switched_on(&store, ["UTC"; 3]).await;
        let signals = Signals::default();
        let mut news = signals.news.listen();
        let clock = SystemClock::start();
        // a part, and the server is gone
        let told = store.tell_of_offers(1, clock.now().utc).await;
        assert_eq!(told.unwrap(), Some(1));
        store.close().await;
        let store = SqliteStore::open(dir.path()).await.unwrap();
        show(&store, clock, &signals, 1).await.unwrap();
        assert!(news.has_changed().unwrap());
        news.mark_unchanged();
        show(&store, clock, &signals, 1).await.unwrap();
        assert!(!news.has_changed().unwrap());
        // on other terms it is looked at again, and nobody is told
        let tenant = TenantId::default();
        let changed = store.change_offer(&tenant, offer.id, &offer.terms, None);
        changed.await.unwrap();
        show(&store, clock, &signals, 9).await.unwrap();
        assert!(!news.has_changed().unwrap());
        let events = store.events(0, None, 9).await.unwrap();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["offer.visible"; 3]);
    }

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
