//! What can be told of a datagram without a key: the headers of its records (RFC 6347 §4.1) and, in
//! the clear, those of its handshake messages (§4.2.2).
//!
//! Everything here is hostile. Nothing is kept; what decides who may cause work is read here, what
//! decides whether a peer is genuine is left to the record layer.

use super::cid::{OWN_LEN, OwnId};

/// Bytes of a record's header without Connection ID.
pub(super) const RECORD_HEADER_LEN: usize = 13;
/// Bytes of a handshake message's header.
const HANDSHAKE_HEADER_LEN: usize = 12;

pub(super) const DTLS_1_2: [u8; 2] = [0xfe, 0xfd];
/// Fits into the library's buffer, which holds a record of 2^14 bytes and more.
const MAX_DATAGRAM_LEN: usize = 1 << 14;

const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;
/// A record with a Connection ID (RFC 9146 §4).
pub(super) const TLS12_CID: u8 = 25;
/// Of RFC 6520, which nobody speaks here.
const HEARTBEAT: u8 = 24;

pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const FINISHED: u8 = 20;

/// A record's header and its content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) kind: u8,
    pub(super) version: [u8; 2],
    pub(super) epoch: u16,
    sequence: [u8; 6],
    /// One of the server's, for it is to the server.
    pub(super) id: Option<OwnId>,
    pub(super) content: &'a [u8],
    /// The whole of it.
    pub(super) bytes: &'a [u8],
}

impl Record<'_> {
    /// Its place in the epoch.
    pub(super) fn number(&self) -> u64 {
        let [s0, s1, s2, s3, s4, s5] = self.sequence;
        u64::from_be_bytes([0, 0, s0, s1, s2, s3, s4, s5])
    }

    /// Whether application data may be in it.
    pub(super) fn may_hold_data(&self) -> bool {
        matches!(self.kind, APPLICATION_DATA | TLS12_CID)
    }

    /// Whether a message of a handshake may be in it, under a key.
    pub(super) fn may_end_handshake(&self) -> bool {
        self.epoch > 0 && matches!(self.kind, HANDSHAKE | TLS12_CID)
    }

    /// Whether it could be part of a handshake before there are keys.
    pub(super) fn may_be_clear(&self) -> bool {
        matches!(self.kind, CHANGE_CIPHER_SPEC | ALERT | HANDSHAKE)
            && matches!(self.version, [0xfe, 0xfd | 0xff])
    }

    /// Whether it could be what ends a handshake or what follows it, before the keys are known: one of the first records of
    /// the epoch (RFC 6347 §4.1).
    pub(super) fn may_come_early(&self) -> bool {
        /// More than a peer sends before it has an answer.
        const FIRST: u64 = 16;
        let kind = self.may_hold_data() || self.kind == HANDSHAKE;
        self.epoch == 1 && kind && self.number() < FIRST
    }
}

/// The records of a datagram, up to the first that is none.
pub(super) fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let (record, after) = split(rest)?;
        rest = after;
        Some(record)
    })
}

fn split(datagram: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (head, mut rest) = datagram.split_first_chunk::<11>()?;
    let [kind, major, minor, e0, e1, s0, s1, s2, s3, s4, s5] = *head;
    // DTLS 1.0 and 1.2 are 254.255 and 254.253; a ClientHello may name either (RFC 6347 §4.1).
    if major != 0xfe || !(CHANGE_CIPHER_SPEC..=TLS12_CID).contains(&kind) || kind == HEARTBEAT {
        return None;
    }
    let mut id = None;
    if kind == TLS12_CID {
        let (own, after) = rest.split_first_chunk::<OWN_LEN>()?;
        (id, rest) = (Some(*own), after);
    }
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (content, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    let record = Record {
        kind,
        version: [major, minor],
        epoch: u16::from_be_bytes([e0, e1]),
        sequence: [s0, s1, s2, s3, s4, s5],
        id,
        content,
        bytes: &datagram[..datagram.len() - rest.len()],
    };
    Some((record, rest))
}

/// The Connection ID of the first record.
pub(super) fn first_id(datagram: &[u8]) -> Option<OwnId> {
    split(datagram)?.0.id
}

/// What a datagram is, by its first record.
#[derive(Debug, Clone, Copy)]
pub(super) enum Datagram<'a> {
    /// The beginning of a handshake, in the clear.
    Hello(ClientHello<'a>),
    /// Another handshake message in the clear.
    Handshake,
    /// An alert in the clear: anybody could have written it.
    ClearAlert,
    /// A handshake message under a key.
    ProtectedHandshake,
    /// Application data or an alert under a key.
    Protected,
}

/// The part of a `ClientHello` that a server must see before it remembers anything.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientHello<'a> {
    /// Of its record.
    pub(super) sequence: [u8; 6],
    pub(super) random: [u8; 32],
    pub(super) cookie: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// `None`: nothing that DTLS would begin with.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (first, _) = split(bytes)?;
        match (first.kind, first.epoch) {
            (HANDSHAKE, 0) => match Message::read(first.content)? {
                (message, _) if message.kind == CLIENT_HELLO && message.offset == 0 => {
                    ClientHello::read(first.sequence, message.fragment).map(Self::Hello)
                }
                _ => Some(Self::Handshake),
            },
            (CHANGE_CIPHER_SPEC, 0) => Some(Self::Handshake),
            (ALERT, 0) => Some(Self::ClearAlert),
            (_, 0) => None,
            (HANDSHAKE | CHANGE_CIPHER_SPEC, _) => Some(Self::ProtectedHandshake),
            _ => Some(Self::Protected),
        }
    }
}

impl<'a> ClientHello<'a> {
    /// The cookie has to be in the first fragment: no fragment is kept before it (RFC 6347 §4.2.1).
    fn read(sequence: [u8; 6], body: &'a [u8]) -> Option<Self> {
        let (_version, rest) = body.split_first_chunk::<2>()?;
        let (random, rest) = rest.split_first_chunk::<32>()?;
        let (_session_id, rest) = split_vector(rest)?;
        let (cookie, _) = split_vector(rest)?;
        Some(Self {
            sequence,
            random: *random,
            cookie,
        })
    }
}

/// A vector with one byte of length, and what follows.
fn split_vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*len))
}

struct Message<'a> {
    kind: u8,
    len: u32,
    offset: u32,
    fragment: &'a [u8],
}

impl<'a> Message<'a> {
    fn read(content: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, rest) = content.split_first_chunk::<HANDSHAKE_HEADER_LEN>()?;
        let [kind, l0, l1, l2, _, _, o0, o1, o2, f0, f1, f2] = *header;
        let fragment_len = u32::from_be_bytes([0, f0, f1, f2]);
        let (fragment, rest) = rest.split_at_checked(usize::try_from(fragment_len).ok()?)?;
        let message = Self {
            kind,
            len: u32::from_be_bytes([0, l0, l1, l2]),
            offset: u32::from_be_bytes([0, o0, o1, o2]),
            fragment,
        };
        Some((message, rest))
    }
}

/// The longest handshake message that the datagram announces in the clear, bytes. Memory for the whole
/// of it is taken at its first fragment.
pub(super) fn longest_announced(datagram: &[u8]) -> u32 {
    records(datagram)
        .filter(|record| record.kind == HANDSHAKE && record.epoch == 0)
        .flat_map(|record| {
            let mut rest = record.content;
            std::iter::from_fn(move || {
                let (message, after) = Message::read(rest)?;
                rest = after;
                Some(message.len)
            })
        })
        .max()
        .unwrap_or(0)
}

/// Whether every byte is part of a record of one of the two epochs that there are without renegotiation. No peer sends
/// anything else. The rest of a `ClientHello` that came in fragments may name DTLS 1.0.
pub(super) fn is_sound(datagram: &[u8]) -> bool {
    let mut len = 0;
    let sound = records(datagram).all(|record| {
        len += record.bytes.len();
        record.epoch <= 1
    });
    sound && len == datagram.len() && len <= MAX_DATAGRAM_LEN
}

/// The datagram's records, each by itself.
#[cfg(test)]
pub(super) fn each(datagram: &[u8]) -> Vec<&[u8]> {
    records(datagram).map(|record| record.bytes).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u8, epoch: u16, sequence: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0xfe, 0xfd];
        bytes.extend(epoch.to_be_bytes());
        bytes.extend([0, 0, 0, 0, 0, sequence]);
        bytes.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        bytes.extend(content);
        bytes
    }

    #[test]
    fn a_hello_is_read_up_to_its_cookie() {
        let mut body = vec![0xfe, 0xfd];
        body.extend([7; 32]);
        body.extend([1, 99, 3, 1, 2, 3]);
        let mut message = vec![1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        message.push(u8::try_from(body.len()).unwrap());
        message.extend(&body);
        let datagram = record(HANDSHAKE, 0, 5, &message);
        let Some(Datagram::Hello(hello)) = Datagram::read(&datagram) else {
            panic!("no hello");
        };
        assert_eq!(hello.random, [7; 32]);
        assert_eq!(hello.cookie, [1, 2, 3]);
        assert_eq!(hello.sequence, [0, 0, 0, 0, 0, 5]);
        assert_eq!(longest_announced(&datagram), 256);
        for len in 0..datagram.len() {
            assert!(Datagram::read(&datagram[..len]).is_none());
        }
    }

    #[test]
    fn a_record_with_an_id_has_it_before_its_length() {
        let mut datagram = vec![TLS12_CID, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9];
        datagram.extend([1, 2, 3, 4, 5, 6, 7, 8, 0, 2, 70, 71]);
        datagram.extend(record(APPLICATION_DATA, 1, 10, b"c"));
        let read: Vec<_> = records(&datagram)
            .map(|record| (record.id, record.number(), record.content))
            .collect();
        let id = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(read, [(Some(id), 9, &[70, 71][..]), (None, 10, b"c")]);
        assert_eq!(first_id(&datagram), Some(id));
        assert!(is_sound(&datagram));
        assert!(!is_sound(&datagram[1..]) && !is_sound(&[&datagram[..], &[0]].concat()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), begin in 0..4usize) {
            for (at, byte) in [22, 0xfe, 0xfd, 0].into_iter().take(begin).enumerate() {
                if let Some(place) = bytes.get_mut(at) { *place = byte; }
            }
            let _ = Datagram::read(&bytes);
            let _ = (longest_announced(&bytes), is_sound(&bytes), first_id(&bytes));
        }
    }
}
