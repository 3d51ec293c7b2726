//! A TCP connection between a device and the server's endpoint.

use std::collections::VecDeque;

use super::{super::Occurrence, Field, OnWire};
use crate::{mqtt::endpoint::ConnId, simulate::queue::Queue};

/// How much longer bytes are on their way than the device's latency, ms.
const JITTER_MS: u64 = 60;

/// A connection.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) station: u32,
    /// Which server it was opened to, once it was.
    pub(super) epoch: Option<u32>,
    /// What the server's endpoint calls it.
    pub(super) conn: Option<ConnId>,
    /// Nothing gets through any more, and nobody was told.
    pub(super) dead: bool,
    /// Nothing gets through before that, ms.
    pub(super) stalled_until_ms: u64,
    /// When the last bytes arrive, ms.
    up_at_ms: u64,
    down_at_ms: u64,
    /// Bytes that the server has sent and that have not arrived.
    pub(super) under_way: usize,
    /// The server does not read it for now.
    pub(super) paused: bool,
    /// What has come meanwhile.
    pub(super) unread: VecDeque<Vec<u8>>,
    /// The other side has closed it behind that.
    pub(super) ends: bool,
    /// Its events that the shard has not taken.
    pub(super) untaken: usize,
}

impl Wire {
    pub(super) const fn new(station: u32) -> Self {
        Self {
            station,
            epoch: None,
            conn: None,
            dead: false,
            stalled_until_ms: 0,
            up_at_ms: 0,
            down_at_ms: 0,
            under_way: 0,
            paused: false,
            unread: VecDeque::new(),
            ends: false,
            untaken: 0,
        }
    }
}

impl Field {
    /// Puts something on a wire, behind what was put there in the same direction. On a dead one nothing arrives.
    pub(super) fn put(
        &mut self,
        queue: &mut Queue<Occurrence>,
        now_ms: u64,
        number: u32,
        what: OnWire,
        bytes: &[u8],
    ) {
        let jitter_ms = self.up_to(JITTER_MS);
        let Some(wire) = self.wires.get_mut(&number).filter(|wire| !wire.dead) else {
            return;
        };
        let latency_ms = (self.stations.get(wire.station as usize)).map_or(0, |it| it.latency_ms);
        let last_ms = match what {
            OnWire::Opens | OnWire::Up | OnWire::EndsAtServer => &mut wire.up_at_ms,
            OnWire::Down | OnWire::EndsAtDevice => &mut wire.down_at_ms,
        };
        let at_ms = (now_ms + latency_ms + jitter_ms)
            .max(*last_ms)
            .max(wire.stalled_until_ms);
        *last_ms = at_ms;
        queue.push_datagram(at_ms, Occurrence::Wire(number, what), bytes);
    }

    /// Forgets wires that both sides have done with.
    pub(super) fn forget_wires(&mut self) {
        let stations = &self.stations;
        self.wires.retain(|number, wire| {
            let station = stations.get(wire.station as usize);
            wire.conn.is_some() || station.is_some_and(|it| it.wire == Some(*number))
        });
    }

    /// The wire, if it is one on which something arrives.
    pub(super) fn wire_mut(&mut self, number: u32) -> Option<&mut Wire> {
        self.wires.get_mut(&number).filter(|wire| !wire.dead)
    }
}
