//! Who is there, as far as messages tell: somebody else's broker does not say who connects and disconnects.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::super::endpoint::ConnId;
use crate::{clock::Instant, ledger::DeviceId};

/// A device that was heard lately.
#[derive(Debug, Clone, Copy)]
struct Seen {
    conn: ConnId,
    heard_at: Instant,
}

/// The devices that were heard lately.
#[derive(Debug)]
pub(super) struct Presence {
    online: Duration,
    seen: HashMap<DeviceId, Seen>,
    /// When it is to be looked whether a device has fallen silent: one entry for each.
    looks: BTreeSet<(Instant, DeviceId)>,
    next: u64,
}

impl Presence {
    /// A device is there for so long after it was heard.
    pub(super) fn new(online: Duration) -> Self {
        Self {
            online,
            seen: HashMap::new(),
            looks: BTreeSet::new(),
            next: 0,
        }
    }

    /// A device is heard. Returns what stands for its being there, where that has just begun: it was not there, or says that it has
    /// connected anew.
    pub(super) fn heard(&mut self, now: Instant, device: DeviceId, anew: bool) -> Option<ConnId> {
        if let Some(seen) = self.seen.get_mut(&device) {
            seen.heard_at = now;
            if !anew {
                return None;
            }
        } else {
            self.looks.insert((now + self.online, device));
        }
        let conn = self.number();
        let heard_at = now;
        self.seen.insert(device, Seen { conn, heard_at });
        Some(conn)
    }

    /// Numbers from the lowest place: none of the broker's own connection, which has the highest.
    fn number(&mut self) -> ConnId {
        self.next += 1;
        let (high, low) = (self.next >> 32, self.next & u64::from(u32::MAX));
        ConnId {
            // 24 bits: the highest place is the broker's own
            slot: u32::try_from(high & 0x00ff_ffff).unwrap_or_default(),
            generation: u32::try_from(low).unwrap_or_default(),
        }
    }

    /// The next one that has fallen silent.
    pub(super) fn silent(&mut self, now: Instant) -> Option<(DeviceId, ConnId)> {
        while let Some((at, device)) = self.looks.first().copied() {
            if at > now {
                return None;
            }
            self.looks.pop_first();
            let Some(seen) = self.seen.get(&device) else {
                continue;
            };
            let until = seen.heard_at + self.online;
            if until > now {
                self.looks.insert((until, device));
            } else {
                let conn = seen.conn;
                self.seen.remove(&device);
                return Some((device, conn));
            }
        }
        None
    }

    /// When it is to be looked for silent ones.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.looks.first().map(|(at, _)| *at)
    }

    /// Nothing more is known of the device.
    pub(super) fn forget(&mut self, device: DeviceId) -> Option<ConnId> {
        // what was to be looked at finds nobody
        self.seen.remove(&device).map(|seen| seen.conn)
    }

    /// Nothing more is known of any of them.
    pub(super) fn forget_all(&mut self) -> Vec<(DeviceId, ConnId)> {
        self.looks.clear();
        let mut all: Vec<_> = (self.seen.drain())
            .map(|(device, seen)| (device, seen.conn))
            .collect();
        all.sort_unstable();
        all
    }

    /// How many are there.
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }
}
