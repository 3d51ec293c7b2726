use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::sync::{Notify, watch};

/// Pokes the rollout and those who tell applications what happened, and says when the rollout has looked.
#[derive(Debug)]
pub struct Pulse {
    poked: Notify,
    /// Looks that have begun.
    begun: AtomicU64,
    /// The number of the newest look that is through with the devices; `None` before the first.
    done: watch::Sender<Option<u64>>,
    /// Changes with every poke: upgrades may have ended.
    news: watch::Sender<()>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            poked: Notify::new(),
            begun: AtomicU64::new(0),
            done: watch::Sender::new(None),
            news: watch::Sender::new(()),
        }
    }
}

impl Pulse {
    /// Lets the rollout look at once.
    pub fn poke(&self) {
        self.poked.notify_one();
        self.news.send_replace(());
    }

    /// Changes whenever somebody pokes.
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Lets the rollout look at once, and returns when the engine knows every device that was added, and
    /// none that was removed, before the call. Gives up after `limit`: the rollout tries again by itself.
    pub async fn poke_and_wait(&self, limit: Duration) {
        let mut done = self.done.subscribe();
        if done.borrow().is_none() {
            return self.poke(); // no rollout runs yet: it begins with all of them
        }
        // A look that has begun already may have missed what was written meanwhile.
        let wanted = self.begun.load(Ordering::Acquire) + 1;
        self.poke();
        let known = done.wait_for(|done| done.is_some_and(|done| done >= wanted));
        let _ = tokio::time::timeout(limit, known).await; // late, and on its way
    }

    /// Waits until somebody pokes.
    pub async fn poked(&self) {
        self.poked.notified().await;
    }

    /// A look begins: its number.
    pub(super) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The look of that number is through with the devices.
    pub(super) fn devices_known(&self, look: u64) {
        self.done.send_replace(Some(look));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn waits_for_a_look_that_began_later() {
        let pulse = Arc::new(Pulse::default());
        let first = pulse.begin();
        pulse.devices_known(first);
        let running = pulse.begin(); // may have read before the write
        let waiting = tokio::spawn({
            let pulse = pulse.clone();
            async move { pulse.poke_and_wait(Duration::from_mins(1)).await }
        });
        pulse.poked().await;
        pulse.devices_known(running);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let next = pulse.begin();
        pulse.devices_known(next);
        waiting.await.unwrap();
    }
}
