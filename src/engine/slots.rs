//! Gives slots to those who wait.

use std::time::Duration;

use super::{
    Change, Engine,
    asked::Tag,
    device::{Device, queued_in, slot_in},
    key::DeviceKey,
    timers::Alarm,
};
use crate::{
    clock::Instant,
    config::Config,
    upgrade::{Event, Readiness, Stage, Step},
};

impl Engine {
    /// Lets the cell in whose queue the device stands be polled.
    pub(super) fn touch_queue(&mut self, key: DeviceKey) {
        let session = self.device(key).session.as_ref();
        if let Some(cell) = session.and_then(|session| queued_in(&session.sota)) {
            self.touched_cells.push(cell);
        }
    }

    /// Polls every cell in which something changed.
    pub(super) fn poll_touched_cells(&mut self) {
        while let Some(cell) = self.touched_cells.pop() {
            self.touched_cells.retain(|other| *other != cell);
            while self.poll_cell(cell) {}
        }
    }

    /// Polls the cell at `at`, unless it is polled earlier anyway.
    fn set_cell_alarm(&mut self, cell: u32, at: Instant) {
        if let Some(set) = self.cell_alarms.get(&cell).copied() {
            if self.timers.at(set) <= at {
                return;
            }
            self.timers.cancel(set);
        }
        let set = self.timers.set(at, Alarm::Cell(cell));
        self.cell_alarms.insert(cell, set);
    }

    /// Nobody is waited for: the cell is polled when something changes in it.
    fn clear_cell_alarm(&mut self, cell: u32) {
        if let Some(set) = self.cell_alarms.remove(&cell) {
            self.timers.cancel(set);
        }
    }

    /// Takes one step for a cell. Returns whether there may be another.
    fn poll_cell(&mut self, cell: u32) -> bool {
        if !self.admitting || !self.store_available {
            self.clear_cell_alarm(cell);
            return false;
        }
        let now = self.now.instant;
        let (devices, config) = (&self.devices, &self.config);
        let step = self
            .admission
            .poll(now, cell, |key| readiness(&devices[key], now, config));
        match step {
            Some(Step::Admit(key)) => {
                self.counters.admissions += 1;
                self.fire(key, Event::SlotGranted);
                self.record_admission(key);
                self.settle(key);
            }
            Some(Step::Measure(key)) => {
                self.fire(key, Event::MeasureAnew);
                self.settle(key);
            }
            Some(Step::Ping(key)) => {
                self.send_ping(key);
                self.settle(key);
                // what could not be queued would be asked for for ever
                return self.device(key).link.is_pending(|tag| *tag == Tag::Ping);
            }
            Some(Step::Drain(key)) => {
                self.keep_awake(key);
                return false;
            }
            Some(Step::Later(at)) => {
                self.set_cell_alarm(cell, at);
                return false;
            }
            None => {
                self.clear_cell_alarm(cell);
                return false;
            }
        }
        true
    }

    fn record_admission(&mut self, key: DeviceKey) {
        let session = self.device(key).session.as_ref();
        let Some(place) = session.and_then(|session| slot_in(&session.sota)) else {
            return;
        };
        let change = Change::Admitted {
            cell: place.cell,
            limit: place.limit,
            active: self.admission.active(place.cell),
            at: self.now.utc,
        };
        self.persist_lazily(change);
    }

    /// A cell drains for the device: it is sent something now and then, because a device listens for a
    /// while after each exchange, and would sleep again before its turn.
    fn keep_awake(&mut self, key: DeviceKey) {
        let window = Duration::from_secs(self.config.lwm2m.awake_window_s);
        let now = self.now.instant;
        // in time for an exchange before it sleeps
        let last_chance = self.device(key).heard_at.map(|at| at + window * 2 / 3);
        let at = last_chance.map_or(now, |at| at.min(now + window / 3).max(now));
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.keep_awake_at.get_or_insert(at);
        }
        self.set_alarm(key);
    }
}

fn readiness(device: &Device, now: Instant, config: &Config) -> Readiness {
    let stage = device.session.as_ref().and_then(|s| s.sota.stage());
    let awake = device.is_awake(now, config.lwm2m.awake_window_s);
    if device.peer().is_none() || device.silent || (device.sleeps() && !awake) {
        return Readiness::Asleep;
    }
    if stage != Some(Stage::WaitingForSlot) || device.link.is_pending(|tag| *tag == Tag::Ping) {
        return Readiness::Probing;
    }
    if !awake {
        return Readiness::Unheard;
    }
    let max_age_s = config.admission.coverage_max_age_s;
    match device.coverage() {
        Some((_, at)) if now.since(at).as_secs() < max_age_s => Readiness::Ready,
        _ => Readiness::Stale,
    }
}
