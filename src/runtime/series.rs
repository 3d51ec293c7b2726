//! Keeps series of how things go on: tasks every few minutes, cells every hour. Devices' coverage is kept as it is written.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::Forecasts;
use crate::{
    clock::{SystemClock, UtcMillis},
    ledger::TaskId,
    store::{Store, StoreError, TaskPoint, TaskRecord, UpgradeState},
};

/// Between two points of a task.
const EVERY: Duration = Duration::from_mins(5);
const HOUR_MS: i64 = 3_600_000;

/// Adds points until `stop` turns true. What cannot be written is missing: a series has gaps, as it has while the server is down.
pub async fn keep_series(
    store: Arc<dyn Store>,
    forecasts: Forecasts,
    clock: SystemClock,
    mut stop: watch::Receiver<bool>,
) {
    let mut series = SeriesKeeper {
        store,
        forecasts,
        known: BTreeSet::new(),
        hour: None,
    };
    while !*stop.borrow() {
        if let Err(error) = series.add(clock.now().utc).await {
            tracing::warn!(%error, "points of series are missing");
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Adds points to series.
struct SeriesKeeper {
    store: Arc<dyn Store>,
    forecasts: Forecasts,
    /// Tasks that had not ended: each gets one point more when it has.
    known: BTreeSet<TaskId>,
    /// Of the last points of cells.
    hour: Option<i64>,
}

impl SeriesKeeper {
    async fn add(&mut self, now: UtcMillis) -> Result<(), StoreError> {
        let heads = self.store.task_heads(now).await?;
        let open: BTreeSet<TaskId> = heads.iter().map(|head| head.task).collect();
        let all: Vec<TaskId> = open.union(&self.known).copied().collect();
        for id in all {
            if let Some(task) = self.store.task(id).await? {
                let point = self.point(&task, now);
                self.store.add_task_point(id, &point).await?;
            }
        }
        self.known = open;
        let hour = now.0.div_euclid(HOUR_MS);
        if self.hour != Some(hour) {
            self.store.add_cell_points(now).await?;
            self.hour = Some(hour);
        }
        Ok(())
    }

    fn point(&self, task: &TaskRecord, now: UtcMillis) -> TaskPoint {
        let mut point = TaskPoint {
            at: now,
            expected: self.forecasts.expected(task.id, task.total(), now),
            ..TaskPoint::default()
        };
        for (state, count) in &task.counts {
            let part = match state {
                UpgradeState::Pending => &mut point.waiting,
                UpgradeState::Active(_) => &mut point.running,
                UpgradeState::Succeeded => &mut point.succeeded,
                UpgradeState::Failed => &mut point.failed,
                UpgradeState::Cancelled => &mut point.cancelled,
            };
            *part += count;
        }
        point
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Config, Settings},
        store::{Agenda as _, Series as _, SqliteStore, conformance::task_for_three},
    };

    #[tokio::test]
    async fn a_task_is_followed_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(dir.path()).await.unwrap());
        let task = task_for_three(&*store).await;
        let clock = SystemClock::start();
        let settings = Settings::new(Arc::new(Config::default()));
        let stop = watch::channel(false).1;
        let forecasts = Forecasts::new(store.clone(), settings, clock, stop);
        let mut series = SeriesKeeper {
            store: store.clone(),
            forecasts: forecasts.clone(),
            known: BTreeSet::new(),
            hour: None,
        };
        let now = clock.now().utc;
        series.add(now).await.unwrap();
        forecasts.of_task(task, None).unwrap();
        for _ in 0..3_000 {
            if forecasts.expected(task, 3, now).is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let later = now + Duration::from_mins(5);
        series.add(later).await.unwrap();
        store.stop_task(task, later, false).await.unwrap();
        let last = later + Duration::from_mins(5);
        series.add(last).await.unwrap();
        series.add(last + Duration::from_mins(5)).await.unwrap();
        let points = store.task_series(task).await.unwrap();
        let shown: Vec<_> = points
            .iter()
            .map(|it| (it.at, it.waiting, it.cancelled, it.expected))
            .collect();
        assert_eq!(
            shown,
            [
                (now, 3, 0, None),
                (later, 3, 0, Some(0)),
                (last, 0, 3, Some(0)),
            ]
        );
    }
}
