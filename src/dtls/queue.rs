use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    net::SocketAddr,
};

use super::limits::{Source, source};

/// Datagrams of one peer that may wait: about a flight with a chain of certificates in small pieces.
const PER_PEER: usize = 16;
/// The part of the whole queue that a source may take.
const SHARE_OF_SOURCE: usize = 8;

/// Datagrams of handshakes that wait for their turn. No peer and no source takes more than its share of the places, so
/// nobody alone keeps the others out.
pub(super) struct Queue {
    max_len: usize,
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    per_peer: HashMap<SocketAddr, usize>,
    per_source: HashMap<Source, usize>,
}

impl Queue {
    pub(super) fn new(max_len: usize) -> Self {
        Self {
            max_len,
            waiting: VecDeque::new(),
            per_peer: HashMap::new(),
            per_source: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there was a place for it.
    pub(super) fn push(&mut self, peer: SocketAddr, bytes: &[u8]) -> bool {
        let source = source(peer);
        let of_peer = self.per_peer.get(&peer).copied().unwrap_or(0);
        let of_source = self.per_source.get(&source).copied().unwrap_or(0);
        if self.len() >= self.max_len
            || of_peer >= PER_PEER
            || of_source >= self.max_len.div_ceil(SHARE_OF_SOURCE)
        {
            return false;
        }
        self.per_peer.insert(peer, of_peer + 1);
        self.per_source.insert(source, of_source + 1);
        self.waiting.push_back((peer, bytes.to_vec()));
        true
    }

    pub(super) fn pop(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let (peer, bytes) = self.waiting.pop_front()?;
        one_less(&mut self.per_peer, &peer);
        one_less(&mut self.per_source, &source(peer));
        Some((peer, bytes))
    }
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], port))
    }

    #[test]
    fn nobody_takes_more_than_a_share_and_places_come_free_again() {
        let mut queue = Queue::new(800);
        for _ in 0..2 {
            let taken = (0..50).filter(|_| queue.push(peer(1, 1), b"")).count();
            assert_eq!(taken, PER_PEER);
            let taken = (0..800).filter(|n| queue.push(peer(1, 2 + n), b"")).count();
            assert_eq!(taken, 100 - PER_PEER);
            for host in 2..=8 {
                assert!((0..100).all(|n| queue.push(peer(host, n), b"")));
            }
            assert_eq!(queue.len(), 800);
            while queue.pop().is_some() {}
            assert!(queue.per_peer.is_empty() && queue.per_source.is_empty());
        }
    }

    #[test]
    fn even_a_short_queue_has_a_place_for_each() {
        let mut queue = Queue::new(1);
        assert!(queue.push(peer(1, 1), b"a"));
        assert!(!queue.push(peer(2, 1), b"b"));
        assert_eq!(queue.pop(), Some((peer(1, 1), b"a".to_vec())));
    }
}
