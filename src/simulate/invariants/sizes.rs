use super::{Invariants, Rule};
use crate::{engine::Tables, shard::Outbox};

/// Alarms and uncommitted changes that a device may cause.
const PER_DEVICE: usize = 64;

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
        let (devices, shards) = (self.subjects.len(), self.shards.len());
        for (what, size, bound) in [
            ("devices", tables.devices, devices),
            ("upgrades under way", tables.sessions, devices),
            ("addresses", tables.peers, devices),
            ("cells", cells, self.cells.len()),
            ("alarms", tables.alarms, devices),
            (
                "datagrams that wait for a commit",
                held,
                shards * Outbox::CAPACITY,
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

    /// Time does not go on: something is due for ever.
    pub(in super::super) fn stuck(&mut self, now_ms: u64) {
        self.violated(now_ms, Rule::Bounded, || {
            "something stays due for ever".to_owned()
        });
    }
}
