use std::{collections::HashMap, hash::RandomState, net::SocketAddr, sync::Arc};

use lru::LruCache;

use super::{association::Association, cid::OwnId, identity::Identity};
use crate::clock::Instant;

/// An established association and whose it is.
pub(super) struct Entry {
    pub(super) association: Association,
    pub(super) identity: Arc<Identity>,
    /// Of the `ClientHello` that it began with.
    pub(super) random: [u8; 32],
    pub(super) established: Instant,
    /// Where the peer is, or was: see [`Kept::detach`].
    pub(super) peer: SocketAddr,
    /// Bytes that may be sent yet before the peer is heard again from there (RFC 9146 §6 asks for a way to know that it is); `None` where that is not in doubt.
    pub(super) unproven: Option<usize>,
    /// The newest of what was too long to be sent there yet.
    pub(super) held: Option<Box<[u8]>>,
    /// The address is its own.
    attached: bool,
}

impl Entry {
    pub(super) fn new(
        association: Association,
        identity: Arc<Identity>,
        random: [u8; 32],
        established: Instant,
        peer: SocketAddr,
    ) -> Self {
        Self {
            association,
            identity,
            random,
            established,
            peer,
            unproven: None,
            held: None,
            attached: true,
        }
    }

    /// Where the peer can be reached.
    pub(super) fn reached_at(&self) -> Option<SocketAddr> {
        self.attached.then_some(self.peer)
    }
}

/// Names an association among those that are kept, and none after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(u64);

/// The established associations, one per address at most, in the order of their last use.
///
/// A network gives an address to somebody else when it has forgotten who had it. One that is known by its Connection ID is
/// kept then without an address, until it is heard again.
pub(super) struct Kept {
    entries: LruCache<Key, Entry, RandomState>,
    next: u64,
    by_peer: HashMap<SocketAddr, Key>,
    by_id: HashMap<OwnId, Key>,
    /// Those of each identity, the newest last.
    by_identity: HashMap<Arc<Identity>, Vec<Key>>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            entries: LruCache::unbounded_with_hasher(RandomState::new()),
            next: 0,
            by_peer: HashMap::new(),
            by_id: HashMap::new(),
            by_identity: HashMap::new(),
        }
    }
}

impl Kept {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Who is at that address.
    pub(super) fn at(&self, peer: &SocketAddr) -> Option<Key> {
        self.by_peer.get(peer).copied()
    }

    /// Whose records carry that ID.
    pub(super) fn with_id(&self, id: OwnId) -> Option<Key> {
        self.by_id.get(&id).copied()
    }

    /// Looks without using.
    pub(super) fn peek(&self, key: Key) -> Option<&Entry> {
        self.entries.peek(&key)
    }

    /// As [`peek`](Self::peek), to change it. What anybody can send is no use of an association.
    pub(super) fn peek_mut(&mut self, key: Key) -> Option<&mut Entry> {
        self.entries.peek_mut(&key)
    }

    /// The association is in use.
    pub(super) fn touch(&mut self, key: Key) {
        self.entries.promote(&key);
    }

    /// Neither its address nor its ID has an association.
    pub(super) fn insert(&mut self, entry: Entry) {
        let key = Key(self.next);
        self.next += 1;
        self.by_peer.insert(entry.peer, key);
        if let Some(ids) = entry.association.ids() {
            self.by_id.insert(ids.own, key);
        }
        let identity = Arc::clone(&entry.identity);
        self.by_identity.entry(identity).or_default().push(key);
        self.entries.put(key, entry);
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Entry> {
        let entry = self.entries.pop(&key)?;
        if entry.attached {
            self.by_peer.remove(&entry.peer);
        }
        if let Some(ids) = entry.association.ids() {
            self.by_id.remove(&ids.own);
        }
        if let Some(keys) = self.by_identity.get_mut(&entry.identity) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.by_identity.remove(&entry.identity);
            }
        }
        Some(entry)
    }

    /// Somebody else has its address, or may have.
    pub(super) fn detach(&mut self, key: Key) {
        if let Some(entry) = self.entries.peek_mut(&key)
            && std::mem::replace(&mut entry.attached, false)
        {
            self.by_peer.remove(&entry.peer);
        }
    }

    /// It is at another address, which nobody has.
    pub(super) fn move_to(&mut self, key: Key, peer: SocketAddr) {
        self.detach(key);
        if let Some(entry) = self.entries.peek_mut(&key) {
            entry.attached = true;
            entry.peer = peer;
            self.by_peer.insert(peer, key);
        }
    }

    /// The one that was not used for longest.
    pub(super) fn least_used(&self) -> Option<Key> {
        self.entries.peek_lru().map(|(key, _)| *key)
    }

    /// The associations of `identity`, the newest last.
    pub(super) fn of(&self, identity: &Identity) -> &[Key] {
        self.by_identity.get(identity).map_or(&[], Vec::as_slice)
    }
}
