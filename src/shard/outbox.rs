//! Datagrams that wait for a commit.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use crate::{
    coap::{Datagram, Peer},
    engine::{About, Seq},
    ledger::UpgradeId,
};

/// A datagram on its way to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// To whom.
    pub peer: Peer,
    /// A CoAP message.
    pub datagram: Datagram,
}

/// A datagram that waits, and the upgrade that its device has under way.
type Held = (Outgoing, Option<About>);

/// A request that has waited for a change and does not leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The change.
    pub after: Seq,
    /// The request.
    pub outgoing: Outgoing,
    /// For which upgrade it was.
    pub about: About,
}

/// Datagrams that wait for a commit.
#[derive(Debug, Default)]
pub struct Outbox {
    committed: Seq,
    held: BTreeMap<Seq, Vec<Held>>,
    /// How many of them are for whom.
    of_peer: HashMap<Peer, u8>,
    len: usize,
}

impl Outbox {
    /// Datagrams held at the same time. While the store is stuck every further one is dropped: devices
    /// and the engine repeat what goes unanswered.
    pub const CAPACITY: usize = 100_000;
    /// Of these, datagrams for one peer: whoever makes many does not have those of others dropped.
    pub const PER_PEER: u8 = 32;

    /// Returns the datagram if it may leave now, else holds it until change `after` is committed.
    /// `Err` when too many are held. `about`: for which upgrade it is sent.
    pub fn offer(
        &mut self,
        outgoing: Outgoing,
        after: Seq,
        about: Option<About>,
    ) -> Result<Option<Outgoing>, Outgoing> {
        if after <= self.committed {
            return Ok(Some(outgoing));
        }
        if self.len >= Self::CAPACITY {
            return Err(outgoing);
        }
        let own = self.of_peer.entry(outgoing.peer).or_default();
        if *own >= Self::PER_PEER {
            return Err(outgoing);
        }
        *own += 1;
        self.len += 1;
        self.held.entry(after).or_default().push((outgoing, about));
        Ok(None)
    }

    /// Everything up to `seq` is committed: gives what may leave now, in order.
    pub fn committed(&mut self, seq: Seq) -> Vec<Outgoing> {
        self.committed = self.committed.max(seq);
        let later = self.held.split_off(&(self.committed + 1));
        let now = std::mem::replace(&mut self.held, later);
        let released = now.into_values().flatten();
        let released: Vec<Outgoing> = released.map(|(outgoing, _)| outgoing).collect();
        for outgoing in &released {
            self.left(outgoing.peer);
        }
        released
    }

    /// A change of the upgrade was refused: what its device was to be asked because of it does not leave. Gives that. Whoever misses
    /// something else among it repeats, as if it were lost.
    pub fn abandoned(&mut self, upgrade: UpgradeId) -> Vec<Dropped> {
        let mut dropped = Vec::new();
        for (after, held) in &mut self.held {
            let of = |about: &Option<About>| about.is_some_and(|about| about.upgrade == upgrade);
            let its = held.extract_if(.., |(_, about)| of(about));
            dropped.extend(its.filter_map(|(outgoing, about)| {
                about.map(|about| Dropped {
                    after: *after,
                    outgoing,
                    about,
                })
            }));
        }
        self.held.retain(|_, held| !held.is_empty());
        for dropped in &dropped {
            self.left(dropped.outgoing.peer);
        }
        dropped
    }

    /// One for that peer waits no more.
    fn left(&mut self, peer: Peer) {
        self.len -= 1; // it was counted
        if let Entry::Occupied(mut own) = self.of_peer.entry(peer) {
            *own.get_mut() -= 1; // it was counted
            if *own.get() == 0 {
                own.remove();
            }
        }
    }

    /// Datagrams that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(n: u8) -> Outgoing {
        Outgoing {
            peer: std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into(),
            datagram: [n].into(),
        }
    }

    #[test]
    fn what_depends_on_a_change_leaves_after_its_commit_and_the_rest_at_once() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.offer(datagram(1), 2, None), Ok(None));
        assert_eq!(outbox.offer(datagram(2), 0, None), Ok(Some(datagram(2))));
        assert_eq!(outbox.offer(datagram(3), 1, None), Ok(None));
        assert_eq!(outbox.committed(1), [datagram(3)]);
        assert_eq!(outbox.len(), 1);
        assert_eq!(outbox.committed(5), [datagram(1)]);
        assert_eq!(outbox.offer(datagram(4), 5, None), Ok(Some(datagram(4))));
    }

    #[test]
    fn holds_a_bounded_number_and_of_one_peer_a_share() {
        let to = |n: u32| Outgoing {
            peer: std::net::SocketAddr::from((n.to_be_bytes(), 1)).into(),
            datagram: [1].into(),
        };
        let mut outbox = Outbox::default();
        for _ in 0..Outbox::PER_PEER {
            assert_eq!(outbox.offer(to(0), 9, None), Ok(None));
        }
        assert_eq!(outbox.offer(to(0), 9, None), Err(to(0)));
        for n in 0..Outbox::CAPACITY - usize::from(Outbox::PER_PEER) {
            let n = u32::try_from(n).unwrap() + 1;
            assert_eq!(outbox.offer(to(n), 9, None), Ok(None));
        }
        assert_eq!(outbox.offer(to(u32::MAX), 9, None), Err(to(u32::MAX)));
        assert_eq!(outbox.committed(9).len(), Outbox::CAPACITY);
        assert!(outbox.is_empty() && outbox.of_peer.is_empty());
        assert_eq!(outbox.offer(to(0), 10, None), Ok(None));
    }

    #[test]
    fn what_is_about_an_upgrade_that_was_refused_does_not_leave() {
        let mut outbox = Outbox::default();
        let about = |upgrade| {
            Some(About {
                upgrade: UpgradeId(upgrade),
                again: false,
            })
        };
        assert_eq!(outbox.offer(datagram(1), 2, about(7)), Ok(None));
        assert_eq!(outbox.offer(datagram(2), 2, None), Ok(None));
        assert_eq!(outbox.offer(datagram(3), 3, about(8)), Ok(None));
        assert_eq!(outbox.offer(datagram(4), 4, about(7)), Ok(None));
        let dropped = outbox.abandoned(UpgradeId(7));
        let dropped: Vec<_> = (dropped.into_iter())
            .map(|it| (it.after, it.outgoing))
            .collect();
        assert_eq!(dropped, [(2, datagram(1)), (4, datagram(4))]);
        assert!(outbox.abandoned(UpgradeId(7)).is_empty());
        assert_eq!(outbox.len(), 2);
        assert_eq!(outbox.committed(9), [datagram(2), datagram(3)]);
        assert!(outbox.is_empty() && outbox.of_peer.is_empty());
    }
}
