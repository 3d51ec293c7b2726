use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, hash_map::Entry},
};

use super::{
    connection::{Connection, State},
    event::ConnId,
    ration::Source,
};
use crate::{clock::Instant, ledger::DeviceId};

/// All connections: by number, by device, by when their timers are due; and how many each address has.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_device: HashMap<DeviceId, ConnId>,
    by_source: HashMap<Source, Share>,
    timers: BinaryHeap<Reverse<(Instant, ConnId)>>,
    unknown: usize,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

/// What an address has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) connections: usize,
    pub(super) unknown: usize,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn devices(&self) -> usize {
        self.by_device.len()
    }

    /// Connections that have not shown whose they are.
    pub(super) const fn unknown(&self) -> usize {
        self.unknown
    }

    pub(super) fn share(&self, source: Source) -> Share {
        self.by_source.get(&source).copied().unwrap_or_default()
    }

    /// Takes in a connection of nobody yet. `None` where there is no number left.
    pub(super) fn insert(&mut self, connection: Connection) -> Option<ConnId> {
        let source = Source::of(connection.peer);
        let slot = if let Some(slot) = self.free.pop() {
            slot
        } else {
            let slot = u32::try_from(self.slots.len()).ok()?;
            self.slots.push(Slot::default());
            slot
        };
        let place = self.slots.get_mut(usize::try_from(slot).ok()?)?;
        let timer = connection.timer;
        place.connection = Some(Box::new(connection));
        let conn = ConnId {
            slot,
            generation: place.generation,
        };
        let share = self.by_source.entry(source).or_default();
        share.connections += 1;
        share.unknown += 1;
        self.unknown += 1;
        self.timers.push(Reverse((timer, conn)));
        Some(conn)
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Connection> {
        let slot = self.slots.get(usize::try_from(conn.slot).ok()?)?;
        (slot.connection.as_deref()).filter(|_| slot.generation == conn.generation)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(usize::try_from(conn.slot).ok()?)?;
        (slot.connection.as_deref_mut()).filter(|_| slot.generation == conn.generation)
    }

    /// The connection has shown to be a device's, which has no other.
    pub(super) fn known(&mut self, conn: ConnId, device: DeviceId) {
        let Some(source) = self.get(conn).map(|it| Source::of(it.peer)) else {
            return;
        };
        self.by_device.insert(device, conn);
        self.unknown -= 1;
        if let Some(share) = self.by_source.get_mut(&source) {
            share.unknown -= 1;
        }
    }

    pub(super) fn of_device(&self, device: DeviceId) -> Option<ConnId> {
        self.by_device.get(&device).copied()
    }

    /// Takes a connection out.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Box<Connection>> {
        self.get(conn)?;
        let slot = self.slots.get_mut(usize::try_from(conn.slot).ok()?)?;
        let connection = slot.connection.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(conn.slot);
        let was_unknown = match &connection.state {
            State::Unknown | State::Judged(_) => true,
            State::Open(open) => {
                if let Entry::Occupied(entry) = self.by_device.entry(open.identity.device)
                    && *entry.get() == conn
                {
                    entry.remove();
                }
                false
            }
        };
        self.unknown -= usize::from(was_unknown);
        if let Entry::Occupied(mut entry) = self.by_source.entry(Source::of(connection.peer)) {
            let share = entry.get_mut();
            share.connections -= 1;
            share.unknown -= usize::from(was_unknown);
            if share.connections == 0 {
                entry.remove();
            }
        }
        Some(connection)
    }

    /// The timer of a connection is looked at then, and not before.
    pub(super) fn set_timer(&mut self, conn: ConnId, at: Instant) {
        if let Some(connection) = self.get_mut(conn) {
            connection.timer = at;
            self.timers.push(Reverse((at, conn)));
        }
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// A connection whose timer is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<ConnId> {
        while self.next_timer().is_some_and(|at| at <= now) {
            let Reverse((at, conn)) = self.timers.pop()?;
            if self.get(conn).is_some_and(|it| it.timer == at) {
                return Some(conn);
            }
        }
        None
    }

    /// Entries of the queue of timers.
    #[cfg(test)]
    pub(super) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// The connection that has the most of an incomplete packet, and how many bytes.
    pub(super) fn largest_partial(&self) -> Option<(ConnId, usize)> {
        let slots = self.slots.iter().zip(0..);
        let partial = slots.filter_map(|(slot, number)| {
            let conn = ConnId {
                slot: number,
                generation: slot.generation,
            };
            Some((conn, slot.connection.as_ref()?.partial.len()))
        });
        partial.max_by_key(|(_, bytes)| *bytes)
    }

    /// Every connection of a device.
    pub(super) fn open(&self) -> Vec<ConnId> {
        self.by_device.values().copied().collect()
    }

    /// Every connection.
    pub(super) fn all(&self) -> Vec<ConnId> {
        let slots = self.slots.iter().zip(0..);
        let taken = slots.filter(|(slot, _)| slot.connection.is_some());
        taken
            .map(|(slot, number)| ConnId {
                slot: number,
                generation: slot.generation,
            })
            .collect()
    }
}
