//! Devices that are connected to somebody else's broker: nobody tells when they come and go, and what is published while they are
//! away is lost. One with an upgrade that says nothing is asked for its version now and then, whether it is there or not. Whoever
//! answers is there. Devices of `ThingsPanel` and with `QuecThing` cannot be asked: one that has not shown that it goes along is pushed to
//! now and then.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::{Basis, ConnId, Connection, Engine};
use crate::{
    clock::Instant,
    ledger::{DeviceId, Protocol},
};

/// What stands for a connection of which nobody knows whether it is there.
const NOWHERE: ConnId = ConnId {
    slot: u32::MAX,
    generation: 0,
};

/// When devices are asked next.
#[derive(Debug, Default)]
pub(super) struct Reminders {
    due: BTreeSet<(Instant, DeviceId)>,
    of: HashMap<DeviceId, Instant>,
}

impl Reminders {
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn set(&mut self, id: DeviceId, at: Instant) {
        if let Some(before) = self.of.insert(id, at) {
            self.due.remove(&(before, id));
        }
        self.due.insert((at, id));
    }

    /// Whether that is not asked before then.
    fn is_later(&self, id: DeviceId, then: Instant) -> bool {
        self.of.get(&id).is_none_or(|at| *at > then)
    }

    fn take_due(&mut self, now: Instant) -> Option<DeviceId> {
        let (at, id) = self.due.first().copied()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        self.of.remove(&id);
        Some(id)
    }
}

impl Engine {
    /// The broker can be reached again: devices with upgrades are asked one after the other. What they have said meanwhile is lost.
    pub fn broker_reached(&mut self, now: crate::clock::Now) {
        self.now = now;
        let holders: Vec<DeviceId> = self.holders.values().copied().collect();
        // however often that happens, nobody is asked later for it
        let round = self.spacing_us().saturating_mul(holders.len() as u64);
        let then = now.instant + Duration::from_micros(round);
        for id in holders {
            if self.reminders.is_later(id, then) {
                self.plan_reminder(id);
            }
        }
    }

    /// Whether the device can be spoken to although nobody knows whether it is there.
    pub(super) fn is_on_a_broker(&self) -> bool {
        self.config.mqtt.is_by_broker()
    }

    /// The device is asked when its turn comes: not all in the same second.
    pub(super) fn plan_reminder(&mut self, id: DeviceId) {
        if self.is_on_a_broker() {
            let at = self.next_turn();
            self.reminders.set(id, at);
        }
    }

    /// Something of its package was just served to the device: it is at work, and may read nothing.
    pub(super) fn put_off_reminder(&mut self, id: DeviceId) {
        if self.is_on_a_broker() {
            let at = self.now.instant + self.reminder_interval();
            self.reminders.set(id, at);
        }
    }

    fn reminder_interval(&self) -> Duration {
        Duration::from_secs(self.config.mqtt.broker.ask_every_s)
    }

    /// Asks those whose time has come.
    pub(super) fn remind(&mut self) {
        while let Some(id) = self.reminders.take_due(self.now.instant) {
            let guessed = |it: &Connection| it.basis == Basis::Guessed;
            if self.connections.get(&id).is_some_and(guessed) {
                self.connections.remove(&id);
            }
            let Some(session) = self.session(id) else {
                continue;
            };
            let transfer = session.negotiation().transfer();
            // where nobody counts what it is served, it cannot be told from one that is downloading
            let may_ask = session.exchange.counted || transfer.is_none();
            let may_push = !session.negotiation().is_confirmed();
            match self.protocol(id) {
                _ if self.is_connected(id) => {}
                Some(Protocol::ThingsPanel | Protocol::QuecThing) if may_push => self.guess(id),
                Some(Protocol::Iotda) if may_ask => self.send_version_query(id),
                _ => {}
            }
            self.put_off_reminder(id);
        }
    }

    /// The device is dealt with as if it were there.
    fn guess(&mut self, id: DeviceId) {
        let connection = Connection {
            conn: NOWHERE,
            since: self.now.instant,
            basis: Basis::Guessed,
            subscribed: true,
            told: None,
            deaf: false,
            release: None,
            held_for: BTreeSet::new(),
        };
        self.connections.insert(id, connection);
        self.meet(id);
    }
}
