use std::time::Duration;

use super::{faults::Mishaps, invariants::Number, trace::Way};
use crate::{
    config::Config,
    engine::Seq,
    grants::Served,
    ledger::{ActiveUpgrade, Change, DeviceRecord},
    mqtt::{endpoint::Event, engine::Out},
    shard::Outgoing,
    task::{Due, TaskHead},
};

/// Where tests reach into the driver, to break the core on purpose and see that it is noticed.
pub(super) trait Hooks {
    /// The settings with which the engine runs; those of the checker stay.
    fn config(&self, config: &Config) -> Config {
        config.clone()
    }

    /// What happens to devices and the server.
    fn mishaps(&self, mishaps: Mishaps) -> Mishaps {
        mishaps
    }

    /// How long a message between shards is on its way at most.
    fn on_its_way(&self) -> Duration {
        Duration::from_millis(20)
    }

    /// A change on its way to the store. `false` drops it, and it is taken for committed.
    fn commits(&mut self, _change: &mut Change) -> bool {
        true
    }

    /// A batch of changes on its way to the store, each with its number.
    fn batches(&mut self, _changes: &mut Vec<(Number, Change)>) {}

    /// What the store gives back to a server that starts.
    fn restores(&mut self, _devices: &mut Vec<DeviceRecord>, _upgrades: &mut Vec<ActiveUpgrade>) {}

    /// Where the tasks stand, on its way to the planner.
    fn plans(&mut self, _heads: &mut Vec<TaskHead>) {}

    /// Upgrades that are due, on their way to the reconciler.
    fn dues(&mut self, _due: &mut Vec<Due>) {}

    /// A datagram on its way to the outbox, with the change after which it may leave.
    fn sends(&mut self, _outgoing: &mut Outgoing, _after: &mut Seq) {}

    /// What a device over MQTT is told or granted, on its way to where it is held, with the change after which it may leave.
    fn lets_out(&mut self, _out: &Out, _after: &mut Seq) {}

    /// The same when it leaves. `false`: it is lost on its way.
    fn leaves(&mut self, _out: &Out) -> bool {
        true
    }

    /// What a device was served over HTTP, on its way to the engine. `false`: the engine does not hear it.
    fn serves(&mut self, _served: &mut Served) -> bool {
        true
    }

    /// What has happened at the endpoint, on its way to the engine.
    fn hears_of(&mut self, _event: &mut Event) {}

    /// A datagram reaches the server. `false`: the engine does not hear it.
    fn hears(&mut self, _datagram: &[u8]) -> bool {
        true
    }

    /// A datagram goes on the air, from a device or to it, at this virtual time. Nothing can be changed any more.
    fn passes(&mut self, _now_ms: u64, _device: u32, _way: Way, _datagram: &[u8]) {}
}

/// Breaks nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Honest;

impl Hooks for Honest {}
