//! What the gate is told of a device that waits for a slot, and what it has the engine do.

use std::time::Duration;

use super::{Change, Effect, Engine, asked::Tag, key::DeviceKey};
use crate::{
    clock::Instant,
    ledger::{DeviceId, Lane, Stage},
    session::{GateAsk, GateOrder, GateRequest, Presence, Standing, StandingAsked},
    upgrade::{Input, Readiness},
};

/// How long the gate is waited for.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

impl Engine {
    pub(super) fn ask(&mut self, key: DeviceKey, cell: u32, request: GateRequest) {
        let device = self.device(key).id;
        self.ask_about(device, cell, request);
    }

    fn ask_about(&mut self, device: DeviceId, cell: u32, request: GateRequest) {
        self.effects.push_back(Effect::Ask(GateAsk {
            device,
            lane: Lane::Cell(cell),
            request,
        }));
    }

    /// The cell in whose queue the device stands.
    fn queue(&self, key: DeviceKey) -> Option<u32> {
        let session = self.device(key).session.as_ref()?;
        session.negotiation().queued_in()
    }

    /// Has the device wait for a slot, as its upgrade says.
    pub(super) fn queue_up(&mut self, key: DeviceKey) {
        let presence = self.presence(key, self.stage(key));
        let session = self.device_mut(key).session.as_mut();
        let Some((session, (cell, wait))) =
            session.and_then(|session| session.waits(presence).map(|it| (session, it)))
        else {
            return;
        };
        session.told = Some(presence);
        self.ask(key, cell, wait);
    }

    /// Tells the gate what is news of a device that waits.
    pub(super) fn tell_presence(&mut self, key: DeviceKey) {
        let device = self.device(key);
        let Some(session) = device.session.as_ref() else {
            return;
        };
        let Some(cell) = session.negotiation().queued_in() else {
            return;
        };
        let presence = self.presence(key, session.negotiation().stage());
        if (session.told.as_ref()).is_some_and(|told| told.is_much_like(&presence)) {
            return;
        }
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.told = Some(presence);
        }
        self.ask(key, cell, GateRequest::Presence(presence));
    }

    /// Does what the gate says, as far as it still makes sense.
    pub(super) fn obey_gate(&mut self, id: DeviceId, order: GateOrder) {
        let key = self.devices.by_id(id);
        let (Lane::Cell(cell), order) = match (order, key) {
            (GateOrder::Standing(standing), key) => {
                return self.stands(key, standing);
            }
            (GateOrder::Admit { lane, active }, key) => {
                let Lane::Cell(cell) = lane;
                return match key {
                    Some(key) => self.admitted(key, cell, active),
                    // it is no more
                    None => self.ask_about(id, cell, GateRequest::Release),
                };
            }
            (
                GateOrder::Measure { lane } | GateOrder::Ping { lane } | GateOrder::Drain { lane },
                _,
            ) => (lane, order),
        };
        let Some(key) = key.filter(|key| self.queue(*key) == Some(cell)) else {
            // It is not there any more, and nothing is to be waited for.
            return self.ask_about(id, cell, GateRequest::Withdraw);
        };
        match order {
            GateOrder::Measure { .. } => {
                if self.stage(key) == Some(Stage::WaitingForSlot) {
                    self.fire(key, Input::MeasureAnew);
                }
                self.tell_all(key);
            }
            GateOrder::Ping { .. } => {
                if self.readiness(key) == Readiness::Unheard {
                    self.send_ping(key);
                    let device = self.device_mut(key);
                    // what could not be queued would be asked for for ever
                    device.silent |= !device.link.is_pending(|tag| *tag == Tag::Ping);
                }
                self.tell_all(key);
            }
            GateOrder::Drain { .. } => self.keep_awake(key),
            GateOrder::Admit { .. } | GateOrder::Standing(_) => {}
        }
    }

    /// The gate says how the device stands in its queue.
    fn stands(&mut self, key: Option<DeviceKey>, standing: Standing) {
        let Some(key) = key else { return };
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.standing = StandingAsked::Told(standing);
        }
        self.device_timeout(key);
    }

    /// The gate has asked, and is answered whatever came of it.
    fn tell_all(&mut self, key: DeviceKey) {
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.told = None;
        }
        self.settle(key);
    }

    fn readiness(&self, key: DeviceKey) -> Readiness {
        let presence = self.presence(key, self.stage(key));
        presence.readiness(self.now.instant)
    }

    /// The device has a slot, if it can still use it. No slot is held for who sleeps.
    fn admitted(&mut self, key: DeviceKey, cell: u32, active: u32) {
        let waits = self.queue(key) == Some(cell);
        let session = self.device(key).session.as_ref();
        let place = session.and_then(|session| session.negotiation().place());
        // its coverage may have become worse meanwhile
        let fits = place.is_some_and(|place| active <= place.limit);
        let may = waits && fits && self.store_available;
        if !may || self.readiness(key) != Readiness::Ready {
            self.ask(key, cell, GateRequest::Release);
            if waits {
                self.queue_up(key);
            }
            return;
        }
        self.counters.admissions += 1;
        self.fire(key, Input::SlotGranted);
        let session = self.device(key).session.as_ref();
        if let Some(place) = session.and_then(|session| session.negotiation().slot()) {
            let change = Change::Admitted {
                cell: place.cell,
                limit: place.limit,
                active,
                at: self.now.utc,
            };
            self.persist_lazily(change);
        }
        self.settle(key);
    }

    /// Whether the gate is to be heard before the time to wait for a slot is over: the outcome tells how the device
    /// stood.
    pub(super) fn asks_how_it_stands(&mut self, key: DeviceKey) -> bool {
        let until = self.now.instant + ANSWERED_WITHIN;
        let Some(cell) = self.queue(key) else {
            return false;
        };
        let session = self.device_mut(key).session.as_mut();
        if let Some(session) = session.filter(|session| session.standing == StandingAsked::Never) {
            session.standing = StandingAsked::Until(until);
            self.ask(key, cell, GateRequest::Standing);
            return true;
        }
        false
    }

    /// A cell drains for the device: it is sent something now and then, because a device listens for a
    /// while after each exchange, and would sleep again before its turn.
    fn keep_awake(&mut self, key: DeviceKey) {
        let window = self.profile(key).awake_window;
        let now = self.now.instant;
        // in time for an exchange before it sleeps
        let last_chance = self.device(key).heard_at.map(|at| at + window * 2 / 3);
        let at = last_chance.map_or(now, |at| at.min(now + window / 3).max(now));
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.keep_awake_at.get_or_insert(at);
        }
        self.set_alarm(key);
    }

    fn presence(&self, key: DeviceKey, stage: Option<Stage>) -> Presence {
        let window = self.profile(key).awake_window;
        let max_age = Duration::from_secs(self.config.admission.coverage_max_age_s);
        let device = self.device(key);
        let heard_at = device.heard_at;
        let measured_at = device.coverage().map(|(_, at)| at);
        Presence {
            reachable: device.peer().is_some() && !device.silent,
            sleeps: device.sleeps(),
            probing: stage != Some(Stage::WaitingForSlot)
                || device.link.is_pending(|tag| *tag == Tag::Ping),
            awake_until: heard_at.map_or(Instant::ZERO, |at| at + window),
            fresh_until: measured_at.map_or(Instant::ZERO, |at| at + max_age),
        }
    }
}
