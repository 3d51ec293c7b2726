//! The engine of a shard: one for devices over `CoAP`, or the one for devices over MQTT.

use std::sync::Arc;

use crate::{
    clock::{Instant, Now, UtcMillis},
    config::Config,
    engine::{About, Command, Counters, Engine, Seq, Tables},
    grants::Served,
    ledger::{ActiveUpgrade, DeviceId, DeviceRecord, Learnt},
    mqtt,
    session::Offers,
};

/// What a shard drives. Both are given the same commands, and write down the same changes.
#[derive(Debug)]
pub enum Machine {
    /// Devices that speak LwM2M over `CoAP`.
    Coap(Box<Engine>),
    /// Devices that speak MQTT.
    Mqtt(Box<mqtt::engine::Engine>),
}

impl From<Engine> for Machine {
    fn from(engine: Engine) -> Self {
        Self::Coap(Box::new(engine))
    }
}

impl From<mqtt::engine::Engine> for Machine {
    fn from(engine: mqtt::engine::Engine) -> Self {
        Self::Mqtt(Box::new(engine))
    }
}

/// The same of either engine.
macro_rules! either {
    ($machine:expr, $engine:ident => $what:expr) => {
        match $machine {
            Machine::Coap($engine) => $what,
            Machine::Mqtt($engine) => $what,
        }
    };
}

impl Machine {
    /// Takes a command from the operator's side.
    pub fn handle_command(&mut self, now: Now, command: Command) {
        either!(self, engine => engine.handle_command(now, command));
    }

    /// Gives back a device that the store knows.
    pub fn restore_device(&mut self, now: Now, record: &DeviceRecord) {
        either!(self, engine => engine.restore_device(now, record));
    }

    /// Gives back an upgrade that had begun.
    pub fn restore_upgrade(&mut self, now: Now, upgrade: ActiveUpgrade, offers: Arc<Offers>) {
        either!(self, engine => engine.restore_upgrade(now, upgrade, offers));
    }

    /// Goes on with what was learnt of products before a restart, which is about devices over `CoAP`.
    pub fn restore_learnt(&mut self, learnt: &[Learnt]) {
        if let Self::Coap(engine) = self {
            engine.restore_learnt(learnt);
        }
    }

    /// Devices from before a restart are still to come. The engine for MQTT needs no word of it: who connects was looked up.
    pub fn expect_devices(&mut self) {
        if let Self::Coap(engine) = self {
            engine.expect_devices();
        }
    }

    /// Devices, and those of them that have an upgrade under way.
    pub fn population(&self) -> (usize, usize) {
        either!(self, engine => engine.population())
    }

    pub(super) fn configure(&mut self, now: Now, config: Arc<Config>) {
        either!(self, engine => engine.configure(now, config));
    }

    pub(super) fn handle_timeout(&mut self, now: Now) {
        either!(self, engine => engine.handle_timeout(now));
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        either!(self, engine => engine.poll_timeout())
    }

    pub(super) fn committed(&mut self, seq: Seq) {
        either!(self, engine => engine.committed(seq));
    }

    /// A request never left. What devices over MQTT are told does not count.
    pub(super) fn unsent(&mut self, about: About, bytes: usize, secured: bool) {
        if let Self::Coap(engine) = self {
            engine.unsent(about, bytes, secured);
        }
    }

    pub(super) fn served(&mut self, now: Now, served: &Served) {
        either!(self, engine => engine.served(now, served));
    }

    pub(super) fn has(&self, device: DeviceId) -> bool {
        either!(self, engine => engine.has(device))
    }

    pub(super) fn last_heard(&self, now: Now, device: DeviceId) -> Option<UtcMillis> {
        either!(self, engine => engine.last_heard(now, device))
    }

    pub(super) fn connected(&self, now: Now, device: DeviceId) -> Option<mqtt::engine::Connected> {
        match self {
            Self::Coap(_) => None,
            Self::Mqtt(engine) => engine.connected(now, device),
        }
    }

    pub(super) const fn counters(&self) -> &Counters {
        either!(self, engine => engine.counters())
    }

    pub(super) fn tables(&self) -> Tables {
        either!(self, engine => engine.tables())
    }
}
