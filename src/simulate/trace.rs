use std::{
    fmt::Write,
    net::SocketAddr,
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread::JoinHandle,
};

use sha2::{Digest, Sha256};

use crate::ledger::Change;

/// Bytes that are handed to the hashing thread at once.
const PART: usize = 1 << 20;
/// Parts that may wait for it.
const PARTS: usize = 16;

/// The way of a datagram, in the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Way {
    Up = b'U',
    Down = b'D',
}

/// SHA-256 over all that happened: every datagram that was sent, with its time and the device's address, every
/// change that was committed, every outcome. It is computed on a thread of its own.
pub(super) struct Trace {
    part: Vec<Entry>,
    bytes: Vec<u8>,
    parts: SyncSender<Vec<Entry>>,
    /// What was hashed comes back, so that memory is given back by the thread that took it: an allocator serves one
    /// thread faster than two.
    hashed: Receiver<Vec<Entry>>,
    spare: Vec<Vec<u8>>,
    thread: JoinHandle<[u8; 32]>,
}

enum Entry {
    Bytes(Vec<u8>),
    Changes(u64, Vec<Change>),
}

impl Trace {
    pub(super) fn start() -> Self {
        let (parts, incoming) = sync_channel(PARTS);
        let (outgoing, hashed) = channel();
        Self {
            part: Vec::new(),
            bytes: Vec::with_capacity(PART),
            parts,
            hashed,
            spare: Vec::new(),
            thread: std::thread::spawn(move || hash(&incoming, &outgoing)),
        }
    }

    pub(super) fn datagram(&mut self, now_ms: u64, way: Way, peer: SocketAddr, datagram: &[u8]) {
        let len = u32::try_from(datagram.len()).unwrap_or(u32::MAX);
        self.bytes.push(way as u8);
        self.bytes.extend(now_ms.to_be_bytes());
        match peer {
            SocketAddr::V4(peer) => self.bytes.extend(peer.ip().octets()),
            SocketAddr::V6(peer) => self.bytes.extend(peer.ip().octets()),
        }
        self.bytes.extend(peer.port().to_be_bytes());
        self.bytes.extend(len.to_be_bytes());
        self.bytes.extend_from_slice(datagram);
        if self.bytes.len() >= PART - 4_096 {
            self.hand_over();
        }
    }

    /// A batch of changes was committed.
    pub(super) fn committed(&mut self, now_ms: u64, changes: Vec<Change>) {
        self.close_bytes();
        self.part.push(Entry::Changes(now_ms, changes));
        if self.part.len() >= 256 {
            self.hand_over();
        }
    }

    /// Anything else, such as a crash or an outcome.
    pub(super) fn note(&mut self, now_ms: u64, text: &str) {
        self.bytes.push(b'N');
        self.bytes.extend(now_ms.to_be_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    fn close_bytes(&mut self) {
        if !self.bytes.is_empty() {
            let next = self.spare.pop().unwrap_or_default();
            let bytes = std::mem::replace(&mut self.bytes, next);
            self.part.push(Entry::Bytes(bytes));
        }
    }

    fn hand_over(&mut self) {
        self.close_bytes();
        // the thread ends with this sender only
        let _ = self.parts.send(std::mem::take(&mut self.part));
        for entry in self.hashed.try_iter().flatten() {
            if let Entry::Bytes(mut bytes) = entry {
                bytes.clear();
                self.spare.push(bytes);
            }
        }
    }

    /// The hash in lower-case hexadecimal digits.
    pub(super) fn finish(mut self) -> String {
        self.hand_over();
        drop(self.parts);
        self.thread
            .join()
            .map_or_else(|_| String::new(), hex::encode)
    }
}

fn hash(parts: &Receiver<Vec<Entry>>, hashed: &Sender<Vec<Entry>>) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut text = String::new();
    for part in parts {
        for entry in &part {
            match entry {
                Entry::Bytes(bytes) => hash.update(bytes),
                Entry::Changes(now_ms, changes) => {
                    for change in changes {
                        text.clear();
                        // writing to a String does not fail
                        let _ = write!(text, "C{now_ms} {change:?}");
                        hash.update(text.as_bytes());
                    }
                }
            }
        }
        let _ = hashed.send(part); // nobody takes it back at the end
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(write: impl Fn(&mut Trace)) -> String {
        let mut trace = Trace::start();
        write(&mut trace);
        trace.finish()
    }

    #[test]
    fn every_part_of_a_datagram_counts() {
        let a: SocketAddr = "10.0.0.1:1".parse().unwrap();
        let b: SocketAddr = "10.0.0.1:2".parse().unwrap();
        let all = [
            trace(|t| t.datagram(1, Way::Up, a, b"x")),
            trace(|t| t.datagram(2, Way::Up, a, b"x")),
            trace(|t| t.datagram(1, Way::Down, a, b"x")),
            trace(|t| t.datagram(1, Way::Up, b, b"x")),
            trace(|t| t.datagram(1, Way::Up, a, b"y")),
            trace(|t| t.note(1, "x")),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(all[0], trace(|t| t.datagram(1, Way::Up, a, b"x")));
        assert_eq!(all[0].len(), 64);
    }
}
