//! What can be told of a datagram without a key: the headers of its records (RFC 6347 §4.1) and, in
//! the clear, those of its handshake messages (§4.2.2).
//!
//! Everything here is hostile. Nothing is kept; what decides who may cause work is read here, what
//! decides whether a peer is genuine is left to the record layer.

/// Bytes of a record's header.
pub(super) const RECORD_HEADER_LEN: usize = 13;
/// Bytes of a handshake message's header.
const HANDSHAKE_HEADER_LEN: usize = 12;

const DTLS_1_2: [u8; 2] = [0xfe, 0xfd];
/// Fits into the library's buffer, which holds a record of 2^14 bytes and more.
const MAX_DATAGRAM_LEN: usize = 1 << 14;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

/// A record's header and its content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    kind: u8,
    version: [u8; 2],
    pub(super) epoch: u16,
    sequence: [u8; 6],
    content: &'a [u8],
}

impl Record<'_> {
    /// Its place in the epoch.
    pub(super) fn number(&self) -> u64 {
        let [s0, s1, s2, s3, s4, s5] = self.sequence;
        u64::from_be_bytes([0, 0, s0, s1, s2, s3, s4, s5])
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
    let (header, rest) = datagram.split_first_chunk::<RECORD_HEADER_LEN>()?;
    let [kind, major, minor, e0, e1, s0, s1, s2, s3, s4, s5, l0, l1] = *header;
    // DTLS 1.0 and 1.2 are 254.255 and 254.253; a ClientHello may name either (RFC 6347 §4.1).
    if major != 0xfe || !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&kind) {
        return None;
    }
    let (content, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
    let record = Record {
        kind,
        version: [major, minor],
        epoch: u16::from_be_bytes([e0, e1]),
        sequence: [s0, s1, s2, s3, s4, s5],
        content,
    };
    Some((record, rest))
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

/// Whether the datagram begins with a `ServerHello`, and so a server's flight.
pub(super) fn begins_flight(datagram: &[u8]) -> bool {
    records(datagram).next().is_some_and(|record| {
        let message = Message::read(record.content);
        record.kind == HANDSHAKE
            && record.epoch == 0
            && message
                .is_some_and(|(message, _)| message.kind == SERVER_HELLO && message.offset == 0)
    })
}

/// Whether the library would keep the datagram for later, before the peer has changed to its keys: it begins under a key, and
/// could be what ends a handshake or what follows it (the first records of the epoch, RFC 6347 §4.1).
pub(super) fn may_come_early(datagram: &[u8]) -> bool {
    /// More than a peer sends before it has an answer.
    const FIRST: u64 = 16;
    records(datagram).next().is_some_and(|record| {
        let kind = record.kind == HANDSHAKE || record.kind == APPLICATION_DATA;
        record.epoch == 1 && kind && record.number() < FIRST
    })
}

/// Whether the first record of the datagram is under no key.
pub(super) fn begins_in_the_clear(datagram: &[u8]) -> bool {
    records(datagram)
        .next()
        .is_some_and(|record| record.epoch == 0)
}

/// Whether the peer changes to its keys in the datagram.
pub(super) fn changes_cipher(datagram: &[u8]) -> bool {
    records(datagram).any(|record| record.epoch == 0 && record.kind == CHANGE_CIPHER_SPEC)
}

/// Whether a record of the datagram is under a key.
pub(super) fn has_protected(datagram: &[u8]) -> bool {
    records(datagram).any(|record| record.epoch > 0)
}

/// Whether a handshake message of the datagram is under a key: the end of a handshake.
pub(super) fn has_protected_handshake(datagram: &[u8]) -> bool {
    records(datagram).any(|record| record.epoch > 0 && record.kind == HANDSHAKE)
}

/// Whether the datagram may be handed to the library once the suite is known, which seals nothing in
/// fewer than `shortest` bytes.
///
/// OpenSSL leaves forged records out, yet not all of them: one that is too short for its suite's nonce
/// and tag ends the connection, and after one of another version it reads the content as further
/// records. So every byte has to be part of a record, in the clear or long enough, and of DTLS 1.2 if
/// the peer knows the version (`settled`). No peer sends anything else, and there is no second epoch
/// under a key without renegotiation.
pub(super) fn is_sound(datagram: &[u8], shortest: usize, settled: bool) -> bool {
    let mut len = 0;
    let sound = records(datagram).all(|record| {
        len += RECORD_HEADER_LEN + record.content.len();
        let long_enough = match record.epoch {
            0 => true,
            1 => record.content.len() >= shortest,
            _ => false,
        };
        (record.version == DTLS_1_2 || !settled) && long_enough
    });
    sound && len == datagram.len() && len <= MAX_DATAGRAM_LEN
}

/// The records of application data under a key.
pub(super) fn application_records(datagram: &[u8]) -> usize {
    records(datagram)
        .filter(|record| record.kind == APPLICATION_DATA && record.epoch > 0)
        .count()
}

/// Gives the records in the clear numbers from `next` on, in order; the first ever seen keeps its own,
/// which follows from the `ClientHello`'s (RFC 6347 §4.2.1).
pub(super) fn renumber(datagram: &mut [u8], next: &mut Option<u64>) {
    let mut rest = datagram;
    while let Some((record, _)) = split(rest) {
        let len = RECORD_HEADER_LEN + record.content.len();
        let own = record.number();
        let clear = record.epoch == 0;
        let (this, after) = rest.split_at_mut(len);
        if clear {
            let number = *next.get_or_insert(own);
            this[5..11].copy_from_slice(&number.to_be_bytes()[2..]);
            *next = Some(number + 1);
        }
        rest = after;
    }
}

/// The datagram's records, each by itself.
#[cfg(test)]
pub(super) fn each(datagram: &[u8]) -> Vec<&[u8]> {
    let mut rest = datagram;
    let mut found = Vec::new();
    while let Some((_, after)) = split(rest) {
        found.push(&rest[..rest.len() - after.len()]);
        rest = after;
    }
    found
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
    fn records_in_the_clear_are_numbered_on() {
        let mut datagram = record(HANDSHAKE, 0, 9, b"a");
        datagram.extend(record(CHANGE_CIPHER_SPEC, 0, 10, b"b"));
        datagram.extend(record(HANDSHAKE, 1, 0, b"c"));
        let mut next = None;
        renumber(&mut datagram.clone(), &mut next);
        renumber(&mut datagram, &mut next);
        let numbers: Vec<u8> = records(&datagram)
            .map(|record| record.sequence[5])
            .collect();
        assert_eq!(numbers, [11, 12, 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), begin in 0..4usize) {
            for (at, byte) in [22, 0xfe, 0xfd, 0].into_iter().take(begin).enumerate() {
                if let Some(place) = bytes.get_mut(at) { *place = byte; }
            }
            let _ = Datagram::read(&bytes);
            let _ = (longest_announced(&bytes), has_protected(&bytes), application_records(&bytes));
            let _ = has_protected_handshake(&bytes);
            renumber(&mut bytes, &mut None);
        }
    }
}
