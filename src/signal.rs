//! Hints between those who write and those who follow what is written, so that nobody has to look all the time. A hint says
//! that there may be something to read; what it is stands in the store, and is found without the hint a little later.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use tokio::sync::{Notify, watch};

/// The hints of one process.
#[derive(Debug, Default)]
pub struct Signals {
    /// The operator wants something else.
    pub intent: Intent,
    /// Something has happened that applications are told.
    pub news: News,
    /// Devices may fit tasks that did not before.
    pub members: Members,
    /// The shards know of devices that were added or removed.
    pub devices: Devices,
}

impl Signals {
    /// Intent was written, or an attempt has ended: upgrades may begin or end, and there may be something to tell.
    pub fn written(&self) {
        self.intent.written();
        self.news.tell();
    }

    /// As [`written`](Self::written), of devices; returns when the shards know every device that was added, and none that
    /// was removed, before the call. Gives up after `limit`: it happens later then.
    pub async fn devices_written(&self, limit: Duration) {
        let Some(known) = self.devices.next() else {
            return self.written(); // nobody follows yet: who begins to begins with all of them
        };
        self.written();
        let _ = tokio::time::timeout(limit, known).await; // late, and on its way
    }
}

/// Has one follower, which reads all intent there is.
#[derive(Debug, Default)]
pub struct Intent(Notify);

impl Intent {
    /// Lets the follower look at once.
    pub fn written(&self) {
        self.0.notify_one();
    }

    /// Returns when there is something to look at since it returned last.
    pub async fn changed(&self) {
        self.0.notified().await;
    }
}

/// Whether devices were added or changed, or groups of them, or exclusions have ended. What devices tell of themselves, and
/// the hours that pass, give no hint.
#[derive(Debug, Default)]
pub struct Members(AtomicBool);

impl Members {
    /// Something was written; say then that intent was.
    pub fn changed(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether anything was since this was asked last.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

/// Has many listeners.
#[derive(Debug, Default)]
pub struct News(watch::Sender<()>);

impl News {
    /// There may be something new.
    pub fn tell(&self) {
        self.0.send_replace(());
    }

    /// Changes whenever there may be something new.
    pub fn listen(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

/// How far the follower is with the devices.
#[derive(Debug, Default)]
pub struct Devices {
    /// Looks that have begun.
    begun: AtomicU64,
    /// The number of the newest look that is through; `None` before the first.
    through: watch::Sender<Option<u64>>,
}

impl Devices {
    /// A look at them begins: its number.
    pub fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The shards know what the look of that number has found.
    pub fn through(&self, look: u64) {
        self.through.send_replace(Some(look));
    }

    /// Returns when a look is through that begins from now on: one that has begun already may have missed what was written
    /// meanwhile. `None` when none was through yet.
    fn next(&self) -> Option<impl Future<Output = ()> + use<>> {
        let mut through = self.through.subscribe();
        if through.borrow().is_none() {
            return None;
        }
        let wanted = self.begun.load(Ordering::Acquire) + 1;
        Some(async move {
            let known = through.wait_for(|look| look.is_some_and(|look| look >= wanted));
            let _ = known.await; // whoever follows has ended
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn waits_for_a_look_that_began_later() {
        let signals = Arc::new(Signals::default());
        let first = signals.devices.begin();
        signals.devices.through(first);
        let running = signals.devices.begin(); // may have read before the write
        let waiting = tokio::spawn({
            let signals = signals.clone();
            async move { signals.devices_written(Duration::from_mins(1)).await }
        });
        signals.intent.changed().await;
        signals.devices.through(running);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let next = signals.devices.begin();
        signals.devices.through(next);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn what_was_written_before_anybody_followed_is_found_by_the_first_look() {
        let signals = Signals::default();
        signals.devices_written(Duration::from_mins(1)).await;
        signals.intent.changed().await;
    }
}
