use std::{
    cmp::Reverse,
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
    by_peer: HashMap<SocketAddr, Entry>,
    /// When each is due, as of its last change.
    due: BTreeSet<(Instant, SocketAddr)>,
    per_source: HashMap<Source, Group>,
    /// The sources, in the order in which they have to make room, the first to do so last.
    crowded: BTreeSet<Rank>,
}

struct Entry {
    begun: Instant,
    handshake: Handshake,
}

/// The handshakes with a source, the oldest first.
#[derive(Default)]
struct Group {
    /// The peer has not answered yet.
    unanswered: BTreeSet<(Instant, SocketAddr)>,
    answered: BTreeSet<(Instant, SocketAddr)>,
}

impl Group {
    fn len(&self) -> usize {
        self.unanswered.len() + self.answered.len()
    }

    /// The one that has to make room: the oldest without an answer, else the oldest.
    fn first(&self) -> Option<(Instant, SocketAddr)> {
        (self.unanswered.first())
            .or_else(|| self.answered.first())
            .copied()
    }

    fn side(&mut self, answered: bool) -> &mut BTreeSet<(Instant, SocketAddr)> {
        if answered {
            &mut self.answered
        } else {
            &mut self.unanswered
        }
    }
}

/// How many are unanswered, how many are not, since when there is the one to make room.
type Rank = (usize, usize, Reverse<Instant>, Source);

/// `None` when there is none.
fn rank(source: Source, group: &Group) -> Option<Rank> {
    let (since, _) = group.first()?;
    let (unanswered, answered) = (group.unanswered.len(), group.answered.len());
    Some((unanswered, answered, Reverse(since), source))
}

/// Why there was no room for another handshake.
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
        self.by_peer.get(peer).map(|entry| &entry.handshake)
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = (SocketAddr, &Handshake)> {
        self.by_peer
            .iter()
            .map(|(peer, entry)| (*peer, &entry.handshake))
    }

    /// Makes room for a handshake with `peer`, where there is none: of those with its source the oldest goes, or, when
    /// there are too many in total, the oldest of those with the source that has most. Those that the peer has not
    /// answered count and go before all others: nobody who goes on is in the way of those who only begin. So whoever
    /// leaves many half open is in his own way, and nobody is turned away because of what somebody else has left.
    /// Gives back what had to go, and why.
    pub(super) fn make_room(
        &mut self,
        peer: SocketAddr,
        limits: &Limits,
    ) -> Option<(Full, SocketAddr, Handshake)> {
        if self.contains(&peer) {
            return None; // it makes room itself
        }
        let own = source(peer);
        let with_source = self.per_source.get(&own).map_or(0, Group::len);
        let (full, source) = if with_source >= limits.half_open_per_source {
            (Full::Source, own)
        } else if self.len() >= limits.half_open {
            let (.., most) = *self.crowded.last()?;
            (Full::Total, most)
        } else {
            return None;
        };
        let (_, oldest) = self.per_source.get(&source)?.first()?;
        let displaced = self.remove(&oldest)?;
        Some((full, oldest, displaced))
    }

    /// In place of the one that `peer` had, if any.
    pub(super) fn insert(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        handshake: Handshake,
    ) -> Option<Handshake> {
        let replaced = self.remove(&peer);
        self.due.insert((handshake.due(), peer));
        let answered = handshake.is_answered();
        self.change_source(source(peer), |group| {
            group.side(answered).insert((now, peer));
        });
        let entry = Entry {
            begun: now,
            handshake,
        };
        self.by_peer.insert(peer, entry);
        replaced
    }

    pub(super) fn remove(&mut self, peer: &SocketAddr) -> Option<Handshake> {
        let Entry { begun, handshake } = self.by_peer.remove(peer)?;
        self.due.remove(&(handshake.due(), *peer));
        self.change_source(source(*peer), |group| {
            group.side(handshake.is_answered()).remove(&(begun, *peer));
        });
        Some(handshake)
    }

    /// Changes which handshakes there are with a source, and keeps the order of sources.
    fn change_source(&mut self, source: Source, change: impl FnOnce(&mut Group)) {
        let mut group = self.per_source.remove(&source).unwrap_or_default();
        if let Some(rank) = rank(source, &group) {
            self.crowded.remove(&rank);
        }
        change(&mut group);
        if let Some(rank) = rank(source, &group) {
            self.crowded.insert(rank);
            self.per_source.insert(source, group);
        }
    }

    /// Changes one, and keeps the orders of deadlines and of sources.
    pub(super) fn with<T>(
        &mut self,
        peer: SocketAddr,
        change: impl FnOnce(&mut Handshake) -> T,
    ) -> Option<T> {
        let Entry { begun, handshake } = self.by_peer.get_mut(&peer)?;
        let (begun, before) = (*begun, (handshake.due(), handshake.is_answered()));
        let result = change(handshake);
        let after = (handshake.due(), handshake.is_answered());
        if before.0 != after.0 {
            self.due.remove(&(before.0, peer));
            self.due.insert((after.0, peer));
        }
        if before.1 != after.1 {
            self.change_source(source(peer), |group| {
                group.side(before.1).remove(&(begun, peer));
                group.side(after.1).insert((begun, peer));
            });
        }
        Some(result)
    }

    /// The earliest deadline.
    pub(super) fn next_due(&self) -> Option<(Instant, SocketAddr)> {
        self.due.first().copied()
    }
}
