//! What users have started at home is forgotten after the days of `app.keep_starts_days`, and their tokens when they have ended.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

use crate::{
    clock::{SystemClock, UtcMillis},
    config::Settings,
    store::{Store, StoreError},
};

/// Between two looks.
const EVERY: Duration = Duration::from_hours(1);
/// Rows of one kind that go in one transaction, for which all other writers wait.
const PART: u32 = 1_000;
/// Between two parts, for all else that is to be written.
const BETWEEN_PARTS: Duration = Duration::from_millis(100);
const DAY: Duration = Duration::from_hours(24);

/// Forgets, at once and once an hour, until the server stops.
pub(super) async fn keep_forgetting(
    store: Arc<dyn Store>,
    config: Settings,
    clock: SystemClock,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let days = config.get().app.keep_starts_days;
        tokio::select! {
            done = forget(&*store, days, clock.now().utc) => if let Err(error) = done {
                tracing::warn!(%error, "what users have started long ago is not forgotten yet");
            },
            _ = stop.wait_for(|stop| *stop) => return,
        }
        tokio::select! {
            () = sleep(EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Forgets all that is older than so many days, 0 for nothing, part by part.
async fn forget(store: &dyn Store, days: u32, now: UtcMillis) -> Result<(), StoreError> {
    let before = (days > 0).then(|| now.before(DAY * days));
    while store.forget_old(before, now, PART).await? >= PART.into() {
        sleep(BETWEEN_PARTS).await;
    }
    Ok(())
}
