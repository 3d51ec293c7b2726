use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
};

use super::{
    handshake::Handshake,
    limits::{Source, source},
    setup::Limits,
};
use crate::clock::Instant;

/// The handshakes under way, one per address.
#[derive(Default)]
pub(super) struct HalfOpen {
    by_peer: HashMap<SocketAddr, Handshake>,
    /// When each is due, as of its last change.
    due: BTreeSet<(Instant, SocketAddr)>,
    per_source: HashMap<Source, usize>,
}

/// Why there is no room for another handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// Too many in total.
    Total,
    /// Too many with this source.
    Source,
}

impl HalfOpen {
    pub(super) fn len(&self) -> usize {
        self.by_peer.len()
    }

    pub(super) fn contains(&self, peer: &SocketAddr) -> bool {
        self.by_peer.contains_key(peer)
    }

    pub(super) fn get(&self, peer: &SocketAddr) -> Option<&Handshake> {
        self.by_peer.get(peer)
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = (SocketAddr, &Handshake)> {
        self.by_peer
            .iter()
            .map(|(peer, handshake)| (*peer, handshake))
    }

    /// Whether `peer` may begin a handshake; one that it has already makes room.
    pub(super) fn has_room(&self, peer: SocketAddr, limits: &Limits) -> Result<(), Full> {
        let own = usize::from(self.contains(&peer));
        let with_source = self.per_source.get(&source(peer)).copied().unwrap_or(0);
        if with_source - own >= limits.half_open_per_source {
            return Err(Full::Source);
        }
        if self.len() - own >= limits.half_open {
            return Err(Full::Total);
        }
        Ok(())
    }

    /// In place of the one that `peer` had, if any.
    pub(super) fn insert(&mut self, peer: SocketAddr, handshake: Handshake) -> Option<Handshake> {
        let replaced = self.remove(&peer);
        self.due.insert((handshake.due(), peer));
        *self.per_source.entry(source(peer)).or_default() += 1;
        self.by_peer.insert(peer, handshake);
        replaced
    }

    pub(super) fn remove(&mut self, peer: &SocketAddr) -> Option<Handshake> {
        let handshake = self.by_peer.remove(peer)?;
        self.due.remove(&(handshake.due(), *peer));
        let source = source(*peer);
        if let Some(count) = self.per_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&source);
            }
        }
        Some(handshake)
    }

    /// Changes one, and keeps the order of deadlines.
    pub(super) fn with<T>(
        &mut self,
        peer: SocketAddr,
        change: impl FnOnce(&mut Handshake) -> T,
    ) -> Option<T> {
        let handshake = self.by_peer.get_mut(&peer)?;
        let before = handshake.due();
        let result = change(handshake);
        let after = handshake.due();
        if before != after {
            self.due.remove(&(before, peer));
            self.due.insert((after, peer));
        }
        Some(result)
    }

    /// The earliest deadline.
    pub(super) fn next_due(&self) -> Option<(Instant, SocketAddr)> {
        self.due.first().copied()
    }
}
