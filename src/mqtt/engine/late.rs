//! What devices fetch once their upgrades are over: it counts to these upgrades. A right lasts until it is stored that its upgrade has
//! ended. So a device may fetch for as long as nothing can be stored, and must not have a change written for each report of that.

use std::{collections::BTreeMap, time::Duration};

use super::Engine;
use crate::{
    clock::Instant,
    grants::Served,
    ledger::{Change, DeviceId, TaskId, Traffic, UpgradeId},
};

/// So long after the first bytes that are not written down, they are.
const WRITTEN_AFTER: Duration = Duration::from_mins(1);

/// Bytes that are not written down yet.
#[derive(Debug, Default)]
pub(super) struct Late {
    of: BTreeMap<(DeviceId, UpgradeId), (TaskId, u64)>,
    at: Option<Instant>,
}

impl Late {
    /// When some are to be written down.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.at
    }
}

impl Engine {
    /// A device has fetched some more with a right that it has no more: it counts to the upgrade that it was of, whatever became of that.
    pub(super) fn has_cost(&mut self, served: &Served) {
        let (id, upgrade, bytes) = (served.device, served.upgrade, served.more_bytes);
        let same = (self.session_mut(id)).filter(|it| it.order.upgrade == upgrade);
        if let Some(session) = same {
            return session.meter.fetched(bytes);
        }
        if !self.devices.contains_key(&id) {
            return;
        }
        let key = (id, upgrade);
        if bytes > 0 {
            let (_, unwritten) = (self.late.of.entry(key)).or_insert((served.task, 0));
            *unwritten = unwritten.saturating_add(bytes);
        }
        // little more comes then
        if served.over {
            self.write_late_if_it_may(key);
        }
        self.plan_late();
    }

    /// Writes down what is due.
    pub(super) fn write_late(&mut self) {
        let now = self.now.instant;
        if self.late.at.take_if(|at| *at <= now).is_none() {
            return;
        }
        let keys: Vec<_> = self.late.of.keys().copied().collect();
        for key in keys {
            self.write_late_if_it_may(key);
        }
        self.plan_late();
    }

    /// Writes down all that there is.
    pub(super) fn write_all_late(&mut self) {
        while let Some(key) = self.late.of.keys().next().copied() {
            self.write_late_of(key);
        }
        self.late.at = None;
    }

    /// The device is removed.
    pub(super) fn write_late_of_device(&mut self, id: DeviceId) {
        let all = (id, UpgradeId(i64::MIN))..=(id, UpgradeId(i64::MAX));
        let keys: Vec<_> = self.late.of.range(all).map(|(key, _)| *key).collect();
        for key in keys {
            self.write_late_of(key);
        }
    }

    fn plan_late(&mut self) {
        if self.late.of.is_empty() {
            self.late.at = None;
        } else {
            let at = self.now.instant + WRITTEN_AFTER;
            self.late.at.get_or_insert(at);
        }
    }

    fn write_late_if_it_may(&mut self, key: (DeviceId, UpgradeId)) {
        let may = self.late.of.contains_key(&key) && !self.is_pressed();
        if may && self.may_write_for(key.0) {
            self.write_late_of(key);
        }
    }

    fn write_late_of(&mut self, key: (DeviceId, UpgradeId)) {
        let (id, upgrade) = key;
        let late = self.late.of.remove(&key);
        let (Some((task, bytes)), Some(device)) = (late, self.devices.get(&id)) else {
            return;
        };
        let change = Change::Traffic {
            upgrade,
            task,
            endpoint: device.endpoint.to_string(),
            cell: None, // no device over MQTT tells any
            traffic: Traffic {
                bytes_down: bytes,
                ..Traffic::default()
            },
            at: self.now.utc,
        };
        self.persist_lazily(change);
    }
}
