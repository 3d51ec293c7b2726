use std::{collections::HashMap, hash::RandomState, net::SocketAddr, sync::Arc};

use lru::LruCache;

use super::{association::Association, identity::Identity};
use crate::clock::Instant;

/// An established association and whose it is.
pub(super) struct Entry {
    pub(super) association: Association,
    pub(super) identity: Arc<Identity>,
    /// Of the `ClientHello` that it began with.
    pub(super) random: [u8; 32],
    pub(super) established: Instant,
    /// Handshake datagrams that it takes yet: a peer repeats its last flight when ours was lost. What
    /// exceeds them comes from somebody else.
    pub(super) handshake_allowance: u8,
}

/// The established associations, one per address, in the order of their last use.
pub(super) struct Kept {
    by_peer: LruCache<SocketAddr, Entry, RandomState>,
    /// The addresses of each identity, the newest last.
    by_identity: HashMap<Arc<Identity>, Vec<SocketAddr>>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            by_peer: LruCache::unbounded_with_hasher(RandomState::new()),
            by_identity: HashMap::new(),
        }
    }
}

impl Kept {
    pub(super) fn len(&self) -> usize {
        self.by_peer.len()
    }

    /// Looks without using.
    pub(super) fn peek(&self, peer: &SocketAddr) -> Option<&Entry> {
        self.by_peer.peek(peer)
    }

    /// As [`peek`](Self::peek), to change it. What anybody can send is no use of an association.
    pub(super) fn peek_mut(&mut self, peer: &SocketAddr) -> Option<&mut Entry> {
        self.by_peer.peek_mut(peer)
    }

    /// The association is in use.
    pub(super) fn touch(&mut self, peer: &SocketAddr) {
        self.by_peer.promote(peer);
    }

    /// The address has no association.
    pub(super) fn insert(&mut self, peer: SocketAddr, entry: Entry) {
        let identity = Arc::clone(&entry.identity);
        self.by_identity.entry(identity).or_default().push(peer);
        self.by_peer.put(peer, entry);
    }

    pub(super) fn remove(&mut self, peer: &SocketAddr) -> Option<Entry> {
        let entry = self.by_peer.pop(peer)?;
        if let Some(peers) = self.by_identity.get_mut(&entry.identity) {
            peers.retain(|other| other != peer);
            if peers.is_empty() {
                self.by_identity.remove(&entry.identity);
            }
        }
        Some(entry)
    }

    /// The address whose association was not used for longest.
    pub(super) fn least_used(&self) -> Option<SocketAddr> {
        self.by_peer.peek_lru().map(|(peer, _)| *peer)
    }

    /// The addresses at which `identity` has an association, the newest last.
    pub(super) fn peers_of(&self, identity: &Identity) -> &[SocketAddr] {
        self.by_identity.get(identity).map_or(&[], Vec::as_slice)
    }
}
