//! How it stands in lanes, which the gate alone knows.

use std::time::Duration;

use async_trait::async_trait;

use super::Exchange;
use crate::{
    clock::{Now, UtcMillis},
    ledger::Lane,
    session::{Adapted, LaneView},
};

/// The gate answers in milliseconds. Nothing is told of what has not come by then.
const ANSWERED_WITHIN: Duration = Duration::from_millis(500);

/// Knows how it stands in lanes.
#[async_trait]
pub trait Lanes: Send + Sync {
    /// How it stands in a lane; `None` where that cannot be told within moments.
    async fn lane(&self, lane: Lane) -> Option<LaneNow>;
}

/// How it stands in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneNow {
    /// How long a KiB takes there, on average, as far as that was measured.
    pub per_kib: Option<Duration>,
    /// When all who wait will be through at the earliest, as far as that can be told.
    pub through_at: Option<UtcMillis>,
    /// How its limit was lowered because it is crowded, and when.
    pub adapted: Option<(Adapted, UtcMillis)>,
    /// Slots of it that are taken.
    pub taken: u32,
    /// Devices that wait for one.
    pub waiting: usize,
}

impl LaneNow {
    pub(super) fn of(now: Now, view: LaneView) -> Self {
        Self {
            per_kib: view.per_kib,
            through_at: view.through_at.map(|at| now.utc_at(at)),
            adapted: (view.adapted).map(|it| (it, now.utc.before(now.instant.since(it.at)))),
            taken: view.taken,
            waiting: view.waiting,
        }
    }
}

#[async_trait]
impl Lanes for Exchange {
    async fn lane(&self, lane: Lane) -> Option<LaneNow> {
        let answered = tokio::time::timeout(ANSWERED_WITHIN, self.look(lane));
        answered.await.ok()?.ok()
    }
}
