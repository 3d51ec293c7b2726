use std::{collections::HashMap, time::Duration};

use thiserror::Error;

use super::Peer;
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
    /// Answer 5.03: too many are under way.
    Busy,
}

/// Bodies that arrive in blocks (Block1), one per peer at a time.
#[derive(Debug, Default)]
pub struct Reassembly {
    partial: HashMap<Peer, Partial>,
}

#[derive(Debug)]
struct Partial {
    body: Vec<u8>,
    touched: Instant,
}

impl Reassembly {
    /// Bodies under way at the same time: 8 MiB of them.
    const MAX_PEERS: usize = 1_024;
    /// Bytes of a body, such as the object list of a registration; longer ones are refused.
    pub const MAX_BODY_LEN: usize = 8 * 1024;
    /// A device that has not sent the next block by then has given up, at NB-IoT's pace.
    const LIFETIME: Duration = Duration::from_secs(93);

    /// Takes one block from `peer`.
    pub fn accept(
        &mut self,
        now: Instant,
        peer: Peer,
        block: Block,
        payload: &[u8],
    ) -> Reassembled {
        self.partial
            .retain(|_, partial| now.since(partial.touched) < Self::LIFETIME);
        let offset = block.number as usize * block.size(); // 20 bits times 1024 at most
        if offset + payload.len() > Self::MAX_BODY_LEN {
            self.partial.remove(&peer);
            return Reassembled::TooLarge;
        }
        if block.more && payload.len() != block.size() {
            self.partial.remove(&peer);
            return Reassembled::Incomplete;
        }
        let mut body = match self.partial.remove(&peer) {
            _ if offset == 0 => Vec::new(),
            // the last block again, because our answer to it was lost
            Some(partial) if partial.body.len() >= offset => partial.body,
            _ => return Reassembled::Incomplete,
        };
        body.truncate(offset);
        body.extend_from_slice(payload);
        if !block.more {
            return Reassembled::Complete(body);
        }
        if self.partial.len() >= Self::MAX_PEERS {
            return Reassembled::Busy;
        }
        self.partial.insert(peer, Partial { body, touched: now });
        Reassembled::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(0);

    fn peer(port: u16) -> Peer {
        std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()
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
        assert_eq!(accept(block(2, false), &[3]), Reassembled::Complete(whole));
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

    #[test]
    fn holds_a_bounded_number_of_bodies() {
        let mut reassembly = Reassembly::default();
        let mut accept = |now, port| reassembly.accept(now, peer(port), block(0, true), &[0; 16]);
        for port in 0..1_024 {
            assert_eq!(accept(NOW, port), Reassembled::Continue);
        }
        assert_eq!(accept(NOW, 2_000), Reassembled::Busy);
        assert_eq!(accept(NOW, 7), Reassembled::Continue);
        let later = NOW + Reassembly::LIFETIME;
        assert_eq!(accept(later, 2_000), Reassembled::Continue);
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
