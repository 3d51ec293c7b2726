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
        let round = round(&*store, clock, &signals);
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

/// Looks at all devices whose switch is on.
async fn round(store: &dyn Store, clock: SystemClock, signals: &Signals) -> Result<(), StoreError> {
    let mut after: Option<String> = None;
    loop {
        let now = clock.now().utc;
        let (started, next) = store.start_automatic(after.as_deref(), PART, now).await?;
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
