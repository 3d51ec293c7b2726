//! What comes under a key, and where associations move and end.

use std::{net::SocketAddr, sync::Arc};

use super::{CloseReason, Dtls, Identity, Output, association::State, kept::Key, record, transmit};

/// How many times what was received may be sent to an address that has not shown to be the peer's (RFC 9146 §6 asks for a bound, RFC 9853 for this one).
const AMPLIFICATION: usize = 3;

impl Dtls {
    /// Records under a key. Those of a handshake's end may be overtaken by those that follow.
    pub(super) fn open(&mut self, peer: SocketAddr, bytes: &[u8]) {
        let owner = match record::first_id(bytes) {
            Some(id) => self.kept.with_id(id),
            None => self.kept.at(&peer),
        };
        let authentic = owner.is_some_and(|key| self.receive(key, peer, bytes));
        if !authentic && self.half_open.contains(&peer) {
            self.enqueue_charged(peer, bytes);
        } else if owner.is_none() {
            self.counts.dtls_datagrams_unassociated += 1;
        }
    }

    /// Tells whether anything of the datagram was the peer's.
    pub(super) fn receive(&mut self, key: Key, from: SocketAddr, datagram: &[u8]) -> bool {
        let Some(entry) = self.kept.peek_mut(key) else {
            return false;
        };
        let received = entry.association.receive(datagram);
        let identity = Arc::clone(&entry.identity);
        self.counts.dtls_records_opened += received.data.len() as u64;
        self.counts.dtls_records_rejected += received.rejected;
        if !received.authentic {
            return false;
        }
        self.kept.touch(key);
        if received.newest {
            self.is_heard_from(key, from, datagram.len());
        }
        let Some(entry) = self.kept.peek(key) else {
            return true;
        };
        let peer = entry.peer;
        // to nobody else, if somebody has its address
        if entry.reached_at().is_some() {
            let data = (received.data.into_iter()).map(|bytes| Output::Data {
                peer,
                identity: Arc::clone(&identity),
                bytes,
            });
            self.events.extend(data);
            if self.may_answer(key, &received.answer) {
                transmit(&mut self.events, peer, received.answer);
            }
        }
        match received.state {
            State::Open => {}
            State::Closed => self.close(key, CloseReason::Peer),
            State::Failed => self.close(key, CloseReason::Failed),
        }
        true
    }

    /// Whether a flight may be repeated: to an address that is in doubt as little is sent of it as of anything else.
    fn may_answer(&mut self, key: Key, flight: &[Vec<u8>]) -> bool {
        let len: usize = flight.iter().map(Vec::len).sum();
        let Some(entry) = self.kept.peek_mut(key) else {
            return false;
        };
        let Some(left) = &mut entry.unproven else {
            return true;
        };
        let rest = left.checked_sub(len);
        *left = rest.unwrap_or(*left);
        rest.is_some()
    }

    /// The newest record of an association has come from that address, in a datagram of `len` bytes.
    fn is_heard_from(&mut self, key: Key, peer: SocketAddr, len: usize) {
        let Some(entry) = self.kept.peek_mut(key) else {
            return;
        };
        let from = entry.reached_at();
        if from == Some(peer) {
            entry.unproven = None;
            if let Some(held) = entry.held.take() {
                // what cannot be sent now is lost, as on the network
                let _ = self.send(peer, &held);
            }
            return;
        }
        let identity = Arc::clone(&entry.identity);
        if let Some(holder) = self.kept.at(&peer) {
            let Some(there) = self.kept.peek(holder) else {
                return;
            };
            // Whoever has no ID cannot be found elsewhere; that the sender is really there is for a handshake to show.
            // And a late record does not bring back what the peer has replaced since.
            let is_late = there.identity == identity && holder > key;
            if there.association.ids().is_none() || is_late {
                return;
            }
            self.displace(holder, &identity);
        }
        self.kept.move_to(key, peer);
        if let Some(entry) = self.kept.peek_mut(key) {
            entry.unproven = Some(AMPLIFICATION * len);
        }
        self.counts.dtls_associations_moved += 1;
        self.events.push_back(Output::Moved {
            from,
            peer,
            identity,
        });
    }

    /// `identity` has the address of that association. What somebody else has there, and is known by its ID, goes on.
    pub(super) fn displace(&mut self, key: Key, identity: &Identity) {
        let Some(entry) = self.kept.peek(key) else {
            return;
        };
        if *entry.identity == *identity {
            return self.close(key, CloseReason::Replaced);
        }
        if entry.association.ids().is_none() {
            return self.close(key, CloseReason::Displaced);
        }
        self.counts.dtls_associations_detached += 1;
        self.events.push_back(Output::Closed {
            peer: entry.peer,
            identity: Arc::clone(&entry.identity),
            reason: CloseReason::Displaced,
        });
        self.kept.detach(key);
    }

    /// Ends an association.
    pub(super) fn close(&mut self, key: Key, reason: CloseReason) {
        let Some(mut entry) = self.kept.remove(key) else {
            return;
        };
        let count = match reason {
            CloseReason::Peer => &mut self.counts.dtls_associations_closed,
            CloseReason::Failed => &mut self.counts.dtls_associations_failed,
            CloseReason::Evicted => &mut self.counts.dtls_associations_evicted,
            CloseReason::Replaced | CloseReason::Displaced => {
                &mut self.counts.dtls_associations_replaced
            }
            CloseReason::Ended => &mut self.counts.dtls_associations_ended,
        };
        *count += 1;
        // whoever has its address now has an association of its own
        let Some(peer) = entry.reached_at() else {
            return;
        };
        // A device whose association is dropped for room sleeps, and one whose association is replaced
        // has another: only the others are told.
        if matches!(reason, CloseReason::Peer | CloseReason::Ended) {
            transmit(&mut self.events, peer, entry.association.close());
        }
        self.events.push_back(Output::Closed {
            peer,
            identity: entry.identity,
            reason,
        });
    }
}
