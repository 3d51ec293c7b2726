use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    net::IpAddr,
    time::Duration,
};

use thiserror::Error;

use super::{Peer, Resource};
use crate::clock::Instant;

/// Block-wise transfer's description of one block (RFC 7959 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Number of the block, 20 bits.
    pub number: u32,
    /// Whether more follow.
    pub more: bool,
    /// Size exponent: a block has `2^(szx + 4)` bytes; 0 to 6.
    pub szx: u8,
}

/// The option's value is reserved or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("reserved block size")]
pub struct BlockError;

impl Block {
    /// Reads the option's value.
    pub const fn decode(value: u32) -> Result<Self, BlockError> {
        let szx = (value & 7) as u8;
        if szx == 7 || value >> 24 != 0 {
            return Err(BlockError);
        }
        Ok(Self {
            number: value >> 4,
            more: value & 8 != 0,
            szx,
        })
    }

    /// The option's value.
    pub const fn encode(self) -> u32 {
        self.number << 4 | (self.more as u32) << 3 | self.szx as u32
    }

    /// Bytes in a block, 16 to 1024.
    pub const fn size(self) -> usize {
        16 << self.szx
    }
}

/// The part of `body` that the client asked for by Block2, and the option of the response. `None`
/// when the block lies behind the end.
pub fn slice(body: &[u8], asked: Block) -> Option<(&[u8], Block)> {
    let start = (asked.number as usize).checked_mul(asked.size())?;
    if start >= body.len() && start > 0 {
        return None;
    }
    let end = body.len().min(start + asked.size());
    let block = Block {
        more: end < body.len(),
        ..asked
    };
    Some((&body[start..end], block))
}

/// What became of a block of a request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reassembled {
    /// It was the last one: the whole body.
    Complete(Vec<u8>),
    /// Answer 2.31 and wait for the next.
    Continue,
    /// Answer 4.08: blocks before it are missing.
    Incomplete,
    /// Answer 4.13.
    TooLarge,
}

/// Bodies that arrive in blocks (Block1): of a peer one at a time for each resource (RFC 7959 §2.5), as those behind a gateway have
/// one address. Those that come encrypted have a table of their own: a stranger's address may be false, and must not cost them their
/// place.
#[derive(Debug, Default)]
pub struct Reassembly {
    plain: Table,
    secured: Table,
}

/// Bodies under way, and which of them make room for others.
#[derive(Debug, Default)]
struct Table {
    partial: HashMap<Body, Partial>,
    /// In the order in which they were touched.
    oldest: BTreeSet<(Instant, u64, Body)>,
    /// Those of one block, which cost a stranger one datagram.
    of_one_block: BTreeSet<(Instant, u64, Body)>,
    /// Bodies of each source.
    of_source: HashMap<IpAddr, usize>,
    /// Bodies of each peer.
    of_peer: HashMap<Peer, usize>,
    arrivals: u64,
}

/// Whose it is, and for what.
type Body = (Peer, Resource);

#[derive(Debug)]
struct Partial {
    body: Vec<u8>,
    touched: Instant,
    arrival: u64,
    /// Or whole, and kept for a repeat.
    of_one_block: bool,
}

impl Reassembly {
    /// Bodies under way at the same time, of those that encrypt and of those that do not: 8 MiB of them each.
    const MAX_BODIES: usize = 1_024;
    /// Of these, bodies of one IPv4 address, or of one IPv6 /64. A carrier's NAT has many devices behind one.
    const MAX_PER_SOURCE: usize = 256;
    /// Of these, bodies of one peer: a gateway's, for those behind it.
    const MAX_PER_PEER: usize = 64;
    /// Bytes of a body, such as the object list of a registration; longer ones are refused.
    pub const MAX_BODY_LEN: usize = 8 * 1024;
    /// A device that has not sent the next block by then has given up, at NB-IoT's pace.
    const LIFETIME: Duration = Duration::from_secs(93);

    /// Takes one block of a body from `peer` for that resource.
    pub fn accept(
        &mut self,
        now: Instant,
        (peer, resource): (Peer, Resource),
        block: Block,
        payload: &[u8],
    ) -> Reassembled {
        let key = (peer, resource);
        let table = if peer.secured {
            &mut self.secured
        } else {
            &mut self.plain
        };
        table.expire(now);
        let offset = block.number as usize * block.size(); // 20 bits times 1024 at most
        if offset + payload.len() > Self::MAX_BODY_LEN {
            table.remove(key);
            return Reassembled::TooLarge;
        }
        if block.more && payload.len() != block.size() {
            table.remove(key);
            return Reassembled::Incomplete;
        }
        let mut body = match table.remove(key) {
            _ if offset == 0 => Vec::new(),
            // the last block again, because our answer to it was lost
            Some(body) if body.len() >= offset => body,
            _ => return Reassembled::Incomplete,
        };
        body.truncate(offset);
        body.extend_from_slice(payload);
        if !block.more && offset == 0 {
            return Reassembled::Complete(body);
        }
        table.make_room(peer);
        if block.more {
            table.insert(now, key, body, offset == 0);
            return Reassembled::Continue;
        }
        // Should the answer be lost, the last block comes again. Others may have its place.
        let before = body[..offset].to_vec();
        table.insert(now, key, before, true);
        Reassembled::Complete(body)
    }
}

impl Table {
    /// Forgets those that were given up: each once, in the order of their age.
    fn expire(&mut self, now: Instant) {
        while let Some((touched, _, key)) = self.oldest.first()
            && now.since(*touched) >= Reassembly::LIFETIME
        {
            let key = *key;
            self.remove(key);
        }
    }

    /// Makes room for one more body of this peer: where it or its source has its share, or the table is full, the oldest body of
    /// one block goes, or else the oldest of all. Nobody is locked out by those who have sent a second block.
    fn make_room(&mut self, from: Peer) {
        let share = self.of_source.get(&source(from)).copied();
        let own = self.of_peer.get(&from).copied();
        let mut candidates = self.of_one_block.iter().chain(&self.oldest);
        let goes = if own.is_some_and(|own| own >= Reassembly::MAX_PER_PEER) {
            candidates.find(|(_, _, (peer, _))| *peer == from)
        } else if share.is_some_and(|share| share >= Reassembly::MAX_PER_SOURCE) {
            candidates.find(|(_, _, (peer, _))| source(*peer) == source(from))
        } else if self.partial.len() >= Reassembly::MAX_BODIES {
            candidates.next()
        } else {
            None
        };
        if let Some((_, _, key)) = goes.copied() {
            self.remove(key);
        }
    }

    fn insert(&mut self, now: Instant, key: Body, body: Vec<u8>, of_one_block: bool) {
        self.arrivals += 1;
        let place = (now, self.arrivals, key);
        self.oldest.insert(place);
        if of_one_block {
            self.of_one_block.insert(place);
        }
        *self.of_source.entry(source(key.0)).or_default() += 1;
        *self.of_peer.entry(key.0).or_default() += 1;
        let partial = Partial {
            body,
            touched: now,
            arrival: self.arrivals,
            of_one_block,
        };
        self.partial.insert(key, partial);
    }

    fn remove(&mut self, key: Body) -> Option<Vec<u8>> {
        let partial = self.partial.remove(&key)?;
        let place = (partial.touched, partial.arrival, key);
        self.oldest.remove(&place);
        if partial.of_one_block {
            self.of_one_block.remove(&place);
        }
        uncount(self.of_source.entry(source(key.0)));
        uncount(self.of_peer.entry(key.0));
        Some(partial.body)
    }
}

/// One that was counted is gone.
fn uncount<K>(entry: Entry<'_, K, usize>) {
    if let Entry::Occupied(mut count) = entry {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// An IPv6 host has a whole /64 to send from.
fn source(peer: Peer) -> IpAddr {
    match peer.address.ip().to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(0);

    fn peer(port: u16) -> Body {
        let peer: Peer = std::net::SocketAddr::from(([127, 0, 0, 1], port)).into();
        (peer, Resource::default())
    }

    fn block(number: u32, more: bool) -> Block {
        Block {
            number,
            more,
            szx: 0,
        }
    }

    #[test]
    fn the_option_reads_as_rfc_7959_writes_it() {
        let value = Block {
            number: 5,
            more: true,
            szx: 6,
        };
        assert_eq!(value.encode(), 0x5E);
        assert_eq!(Block::decode(0x5E), Ok(value));
        assert_eq!(value.size(), 1024);
        assert_eq!(Block::decode(7), Err(BlockError));
    }

    #[test]
    fn puts_a_body_together() {
        let mut reassembly = Reassembly::default();
        let mut accept = |b, payload: &[u8]| reassembly.accept(NOW, peer(1), b, payload);
        assert_eq!(accept(block(0, true), &[1; 16]), Reassembled::Continue);
        assert_eq!(accept(block(1, true), &[2; 16]), Reassembled::Continue);
        assert_eq!(accept(block(1, true), &[2; 16]), Reassembled::Continue); // a repeat
        let mut whole = vec![1; 16];
        whole.extend([2; 16]);
        whole.push(3);
        for _ in 0..2 {
            let last = accept(block(2, false), &[3]); // and a repeat
            assert_eq!(last, Reassembled::Complete(whole.clone()));
        }
    }

    #[test]
    fn bodies_for_several_resources_come_side_by_side_and_are_bounded() {
        let mut reassembly = Reassembly::default();
        let (gateway, _) = peer(1);
        let mut accept = |resource: u64, b, payload: &[u8]| {
            let body = (gateway, Resource(resource));
            reassembly.accept(NOW, body, b, payload)
        };
        for resource in [1_u8, 2] {
            let first = accept(resource.into(), block(0, true), &[resource; 16]);
            assert_eq!(first, Reassembled::Continue);
        }
        for resource in [1_u8, 2] {
            let whole = accept(resource.into(), block(1, false), &[9]);
            let mut expected = vec![resource; 16];
            expected.push(9);
            assert_eq!(whole, Reassembled::Complete(expected));
        }
        for resource in 3..1_000 {
            accept(resource, block(0, true), &[0; 16]);
        }
        let oldest = accept(3, block(1, false), &[9]);
        assert_eq!(oldest, Reassembled::Incomplete);
        let newest = accept(999, block(1, false), &[9]);
        assert!(matches!(newest, Reassembled::Complete(_)));
        let count = reassembly.plain.partial.len();
        assert_eq!(count, Reassembly::MAX_PER_PEER);
        assert_eq!(reassembly.plain.of_peer.get(&gateway), Some(&count));
    }

    #[test]
    fn a_gap_is_incomplete_and_an_endless_body_too_large() {
        let mut reassembly = Reassembly::default();
        assert_eq!(
            reassembly.accept(NOW, peer(1), block(1, true), &[0; 16]),
            Reassembled::Incomplete
        );
        let far = Block {
            number: 0xF_FFFF,
            more: true,
            szx: 6,
        };
        assert_eq!(
            reassembly.accept(NOW, peer(1), far, &[0; 1024]),
            Reassembled::TooLarge
        );
    }

    /// Of which nobody else is.
    fn host(number: u32) -> Body {
        let peer: Peer = std::net::SocketAddr::from((number.to_be_bytes(), 1)).into();
        (peer, Resource::default())
    }

    #[test]
    fn the_oldest_body_of_one_block_makes_room() {
        let mut reassembly = Reassembly::default();
        let first = block(0, true);
        // somebody who has gone on
        assert_eq!(
            reassembly.accept(NOW, host(1), first, &[0; 16]),
            Reassembled::Continue
        );
        assert_eq!(
            reassembly.accept(NOW, host(1), block(1, true), &[0; 16]),
            Reassembled::Continue
        );
        for number in 2..5_000 {
            let taken = reassembly.accept(NOW, host(number), first, &[0; 16]);
            assert_eq!(taken, Reassembled::Continue);
            assert!(reassembly.plain.partial.len() <= Reassembly::MAX_BODIES);
        }
        let last = |number, block| (host(number), block, [0; 3]);
        let (peer, end, bytes) = last(1, block(2, false));
        let whole = reassembly.accept(NOW, peer, end, &bytes);
        assert!(matches!(whole, Reassembled::Complete(body) if body.len() == 35));
        // the oldest of the others has gone, the newest has not
        for (number, kept) in [(2, false), (4_999, true)] {
            let (peer, end, bytes) = last(number, block(1, false));
            let ended = reassembly.accept(NOW, peer, end, &bytes);
            assert_eq!(matches!(ended, Reassembled::Complete(_)), kept, "{number}");
        }
    }

    #[test]
    fn a_source_has_a_share_and_who_encrypts_a_table_of_its_own() {
        let mut reassembly = Reassembly::default();
        let first = block(0, true);
        let other = host(7);
        let secured = (Peer::secured(peer(1).0.address), Resource::default());
        for honest in [other, secured] {
            assert_eq!(
                reassembly.accept(NOW, honest, first, &[0; 16]),
                Reassembled::Continue
            );
        }
        for port in 0..2_000 {
            reassembly.accept(NOW, peer(port), first, &[0; 16]);
        }
        assert_eq!(
            reassembly.plain.partial.len(),
            1 + Reassembly::MAX_PER_SOURCE
        );
        for honest in [other, secured] {
            let whole = reassembly.accept(NOW, honest, block(1, false), &[0; 3]);
            assert!(matches!(whole, Reassembled::Complete(_)));
        }
        // what is kept for a repeat is given up as the others
        let later = NOW + Reassembly::LIFETIME;
        reassembly.accept(later, secured, block(0, false), &[0; 3]);
        assert!(reassembly.secured.partial.is_empty() && reassembly.secured.of_source.is_empty());
    }

    #[test]
    fn where_all_have_gone_on_the_oldest_makes_room() {
        let mut reassembly = Reassembly::default();
        for number in 0..1_024 {
            for block in [block(0, true), block(1, true)] {
                reassembly.accept(NOW, host(number), block, &[0; 16]);
            }
        }
        let mut accept = |number, block, payload: &[u8]| {
            let taken = reassembly.accept(NOW, host(number), block, payload);
            assert!(reassembly.plain.partial.len() <= Reassembly::MAX_BODIES);
            taken
        };
        let first = accept(9_999, block(0, true), &[0; 16]);
        assert_eq!(first, Reassembled::Continue);
        let gone = accept(0, block(2, false), &[0; 3]);
        assert_eq!(gone, Reassembled::Incomplete);
        for (number, count) in [(1, 35), (9_999, 19)] {
            let last = accept(number, block(count / 16, false), &[0; 3]);
            assert!(matches!(last, Reassembled::Complete(body) if body.len() == count as usize));
        }
        let later = NOW + Reassembly::LIFETIME;
        reassembly.accept(later, host(9_998), block(0, true), &[0; 16]);
        assert_eq!(reassembly.plain.partial.len(), 1);
        assert_eq!(reassembly.plain.oldest.len(), 1);
    }

    #[test]
    fn slices_a_body_as_asked() {
        let body = [7; 20];
        let (part, sent) = slice(&body, block(0, false)).unwrap();
        assert_eq!((part.len(), sent.more), (16, true));
        let (part, sent) = slice(&body, block(1, false)).unwrap();
        assert_eq!((part.len(), sent.more), (4, false));
        assert!(slice(&body, block(2, false)).is_none());
    }
}
