use super::{Invariants, Rule};
use crate::{engine::Tables, shard::Outbox};

/// Alarms and uncommitted changes that a device may cause.
const PER_DEVICE: usize = 64;
/// Publications, acknowledgements and grants that wait for a commit, of a device over MQTT.
const HELD_PER_DEVICE: usize = 64;

impl Invariants {
    /// Sizes of queues and tables.
    pub(in super::super) fn sizes(
        &mut self,
        now_ms: u64,
        tables: Tables,
        cells: usize,
        held: usize,
        uncommitted: usize,
    ) {
        let over_mqtt = (self.subjects.iter()).filter(|subject| subject.over_mqtt.is_some());
        let over_mqtt = if held > self.shards.len() * Outbox::CAPACITY {
            over_mqtt.count()
        } else {
            0
        };
        let (upgrades, shards) = (self.subjects.len(), self.shards.len());
        let gateways = self.gateway_count();
        let devices = upgrades + gateways;
        for (what, size, bound) in [
            ("devices", tables.devices, devices),
            ("upgrades under way", tables.sessions, upgrades),
            ("addresses", tables.peers, devices),
            ("lanes", cells, self.cells.len() + gateways),
            ("alarms", tables.alarms, devices),
            (
                "datagrams that wait for a commit",
                held,
                shards * Outbox::CAPACITY + over_mqtt * HELD_PER_DEVICE,
            ),
            (
                "uncommitted changes",
                uncommitted,
                devices * PER_DEVICE + 1_000,
            ),
        ] {
            if size > bound {
                self.violated(now_ms, Rule::Bounded, || {
                    format!("{size} {what}, {bound} at most")
                });
            }
        }
    }

    /// Sizes of what has to do with MQTT and downloads: downloads that are granted; connections, and those that there are on wires; bytes
    /// of packets that are not whole.
    pub(in super::super) fn mqtt_sizes(
        &mut self,
        now_ms: u64,
        (grants, connections, buffered): (usize, usize, usize),
        wires: usize,
    ) {
        let most = self.rules.mqtt.max_buffered_mib as usize * 1024 * 1024;
        for (what, size, bound) in [
            // one of an attempt before it may be there for a moment
            ("downloads granted", grants, 2 * self.subjects.len()),
            ("connections over MQTT", connections, wires),
            ("bytes of packets that are not whole", buffered, most),
        ] {
            if size > bound {
                self.violated(now_ms, Rule::Bounded, || {
                    format!("{size} {what}, {bound} at most")
                });
            }
        }
    }

    /// Time does not go on: something is due for ever.
    pub(in super::super) fn stuck(&mut self, now_ms: u64) {
        self.violated(now_ms, Rule::Bounded, || {
            "something stays due for ever".to_owned()
        });
    }
}
