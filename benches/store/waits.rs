//! How long the engine's changes wait while something large is written.

use std::time::Duration;

use cellwise::store::{Ledger as _, SqliteStore};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    Figures,
    fleet::next_batch,
    fleet::{self, Fleet},
    now,
};

/// Between two commits of one change.
const PAUSE: Duration = Duration::from_millis(5);

/// Commits one change after another until it is told to end.
pub(crate) struct Waits {
    end: oneshot::Sender<()>,
    task: JoinHandle<Vec<Duration>>,
}

impl Waits {
    pub(crate) fn begin(fleet: &Fleet, store: &SqliteStore) -> Self {
        let (end, mut ended) = oneshot::channel();
        let store = store.clone();
        let changes: Vec<_> = (0..fleet.devices.min(1_000))
            .map(fleet::registered)
            .collect();
        let task = tokio::spawn(async move {
            let mut waits = Vec::new();
            for change in changes.iter().cycle() {
                if ended.try_recv().is_ok() {
                    break;
                }
                let begun = now();
                store
                    .commit(next_batch(), std::slice::from_ref(change))
                    .await
                    .unwrap();
                waits.push(begun.elapsed());
                tokio::time::sleep(PAUSE).await;
            }
            waits
        });
        Self { end, task }
    }

    pub(crate) async fn end(self, name: &str, figures: &mut Figures) {
        self.end.send(()).unwrap();
        let mut waits = self.task.await.unwrap();
        waits.sort_unstable();
        figures.millis(&format!("{name}_median_ms"), waits[waits.len() / 2]);
        figures.millis(&format!("{name}_longest_ms"), waits[waits.len() - 1]);
    }
}
