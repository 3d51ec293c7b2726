//! What the network does to connections.

use sim::mqtt::Style;

use super::{
    super::{Occurrence, World},
    OnWire,
};
use crate::simulate::hooks::Hooks;

/// The longest time for which nothing gets through, ms.
const LONGEST_STALL_MS: u64 = 5 * 60 * 1_000;

impl<H: Hooks> World<H> {
    pub(super) fn plan_mishap(&mut self, station: u32) {
        let Some(field) = &self.mqtt else {
            return;
        };
        let Some(mean) = field.lines.mishap.filter(|_| self.checker.open() > 0) else {
            return;
        };
        let at = self.now_ms + self.until_next(mean);
        self.queue.push(at, Occurrence::Mishap(station));
    }

    /// Something happens to a device's connection.
    pub(in super::super) fn mishap(&mut self, number: u32) {
        let now_ms = self.now_ms;
        let Some(field) = &mut self.mqtt else {
            return;
        };
        let kind = field.up_to(3);
        let stalls_ms = field.up_to(LONGEST_STALL_MS);
        let Some(station) = field.stations.get(number as usize) else {
            return;
        };
        // one that tells its version whenever it connects is given up for what another one tells
        let style = station.device.spec().style;
        let unmistakable = !matches!(style, Style::ThingsPanel05 | Style::QuecThing);
        if let Some(wire) = station.wire {
            match kind {
                0 => {
                    for end in [OnWire::EndsAtServer, OnWire::EndsAtDevice] {
                        field.put(&mut self.queue, now_ms, wire, end, &[]);
                    }
                    // what was on its way before it is lost or not, as it came to pass
                }
                1 => {
                    if let Some(wire) = field.wires.get_mut(&wire) {
                        wire.dead = true;
                    }
                }
                2 => {
                    if let Some(wire) = field.wires.get_mut(&wire) {
                        wire.stalled_until_ms = now_ms + stalls_ms;
                    }
                }
                _ if unmistakable && !station.acts => {
                    let visitor = station.visitor();
                    let visits = u32::try_from(field.stations.len()).unwrap_or(u32::MAX);
                    field.stations.push(visitor);
                    let visitor = &mut field.stations[visits as usize];
                    visitor.device.start(now_ms);
                    self.settle_station(visits);
                }
                _ => {}
            }
        }
        self.plan_mishap(number);
    }
}
