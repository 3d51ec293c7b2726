use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use crate::{
    clock::Instant,
    ledger::{DeviceId, Lane},
};

/// When the devices that wait in each lane are to be pinged, if they are to stay awake.
#[derive(Debug, Default)]
pub(super) struct Nods {
    lanes: HashMap<Lane, BTreeSet<(Instant, DeviceId)>>,
}

impl Nods {
    /// Those who are about to fall asleep within this time are thought of together.
    const TOGETHER: Duration = Duration::from_secs(2);

    pub(super) fn insert(&mut self, lane: Lane, at: Instant, device: DeviceId) {
        self.lanes.entry(lane).or_default().insert((at, device));
    }

    pub(super) fn remove(&mut self, lane: Lane, at: Instant, device: DeviceId) {
        if let Some(nods) = self.lanes.get_mut(&lane) {
            nods.remove(&(at, device));
            if nods.is_empty() {
                self.lanes.remove(&lane);
            }
        }
    }

    /// The next time in a lane.
    pub(super) fn next(&self, lane: Lane) -> Option<Instant> {
        let (at, _) = self.lanes.get(&lane)?.first()?;
        Some(*at)
    }

    /// Those whose time has come, and those whose time is about to, once one's has.
    pub(super) fn take_due(&mut self, lane: Lane, now: Instant) -> Vec<DeviceId> {
        let mut due = Vec::new();
        if self.next(lane).is_some_and(|at| at <= now)
            && let Some(nods) = self.lanes.get_mut(&lane)
        {
            while let Some((at, device)) = nods.pop_first() {
                if at > now + Self::TOGETHER {
                    nods.insert((at, device));
                    break;
                }
                due.push(device);
            }
            if nods.is_empty() {
                self.lanes.remove(&lane);
            }
        }
        due
    }
}
