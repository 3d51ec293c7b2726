//! Sealing and opening single records, with and without a Connection ID (RFC 9146 §5).

use aes_gcm::Aes128Gcm;
use ccm::{
    Ccm,
    aead::{AeadInOut, KeyInit, Nonce, Tag},
    consts::{U8, U12},
};

use super::{
    cbc,
    keys::{Key, Suite},
    record::{DTLS_1_2, Record, TLS12_CID},
};

type Aes128Ccm8 = Ccm<aes::Aes128, U8, U12>;

/// Bytes of a nonce that a record carries.
const EXPLICIT: usize = 8;

/// The only epoch that has keys: there is no renegotiation.
const EPOCH: u64 = 1;

/// A record's content, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) kind: u8,
    pub(super) content: Vec<u8>,
}

/// Seals one record of the epoch under a key. An empty `id` makes one without Connection ID. `None`: it is too long.
pub(super) fn seal(
    suite: Suite,
    key: &Key,
    number: u64,
    kind: u8,
    content: &[u8],
    id: &[u8],
) -> Option<Vec<u8>> {
    let place = (EPOCH << 48 | number).to_be_bytes();
    let outer = if id.is_empty() { kind } else { TLS12_CID };
    let mut record = Vec::with_capacity(13 + id.len() + content.len() + 96);
    record.push(outer);
    record.extend(DTLS_1_2);
    record.extend(place);
    record.extend(id);
    record.extend([0, 0]);
    let head = record.len();
    let mut inner_len = content.len();
    if !id.is_empty() {
        inner_len += 1; // the real type
    }
    let additional = additional(outer, place, id, u16::try_from(inner_len).ok()?);
    match suite {
        Suite::Cbc if id.is_empty() => {
            let sealed = cbc::seal(key, &additional, content)?;
            record.extend(sealed);
        }
        // such a suite gets no Connection ID
        Suite::Cbc => return None,
        Suite::Ccm8 | Suite::Gcm => {
            record.extend(place);
            record.extend(content);
            if !id.is_empty() {
                record.push(kind);
            }
            let from = head + EXPLICIT;
            let nonce = nonce(key, place);
            match suite {
                Suite::Gcm => encrypt::<Aes128Gcm>(key, nonce, &additional, &mut record, from),
                _ => encrypt::<Aes128Ccm8>(key, nonce, &additional, &mut record, from),
            }?;
        }
    }
    let len = u16::try_from(record.len() - head).ok()?;
    record[head - 2..head].copy_from_slice(&len.to_be_bytes());
    Some(record)
}

/// Opens one record of the epoch under a key. `None`: whoever has the key has not sealed it so.
pub(super) fn open(suite: Suite, key: &Key, record: &Record<'_>) -> Option<Opened> {
    if u64::from(record.epoch) != EPOCH || record.version != DTLS_1_2 {
        return None;
    }
    let id = record.id.as_ref().map_or(&[][..], |id| &id[..]);
    let place = (EPOCH << 48 | record.number()).to_be_bytes();
    let aead = |tag: usize| {
        let (explicit, sealed) = record.content.split_first_chunk::<EXPLICIT>()?;
        let len = sealed.len().checked_sub(tag)?;
        let additional = additional(record.kind, place, id, u16::try_from(len).ok()?);
        Some((nonce(key, *explicit), additional, sealed))
    };
    let content = match suite {
        Suite::Ccm8 => {
            let (nonce, additional, sealed) = aead(8)?;
            decrypt::<Aes128Ccm8>(key, nonce, &additional, sealed, 8)?
        }
        Suite::Gcm => {
            let (nonce, additional, sealed) = aead(16)?;
            decrypt::<Aes128Gcm>(key, nonce, &additional, sealed, 16)?
        }
        Suite::Cbc if record.id.is_none() => {
            cbc::open(key, &additional(record.kind, place, id, 0), record.content)?
        }
        Suite::Cbc => return None,
    };
    if record.id.is_none() {
        let kind = record.kind;
        return Some(Opened { kind, content });
    }
    unwrap(content)
}

/// Takes the zeros and the real type off (RFC 9146 §4). Whoever has sealed nothing but zeros has no type.
fn unwrap(mut inner: Vec<u8>) -> Option<Opened> {
    let last = inner.iter().rposition(|byte| *byte != 0)?;
    let kind = inner[last];
    inner.truncate(last);
    Some(Opened {
        kind,
        content: inner,
    })
}

/// What is authenticated beside the content: RFC 5246 §6.2.3.3, or RFC 9146 §5.3.
fn additional(kind: u8, place: [u8; 8], id: &[u8], len: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(23 + id.len());
    if id.is_empty() {
        bytes.extend(place);
        bytes.push(kind);
        bytes.extend(DTLS_1_2);
    } else {
        bytes.extend([0xff; 8]);
        bytes.push(TLS12_CID);
        bytes.push(u8::try_from(id.len()).unwrap_or(u8::MAX)); // 32 at most
        bytes.push(TLS12_CID);
        bytes.extend(DTLS_1_2);
        bytes.extend(place);
        bytes.extend(id);
    }
    bytes.extend(len.to_be_bytes());
    bytes
}

fn nonce(key: &Key, explicit: [u8; EXPLICIT]) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&key.salt);
    nonce[4..].copy_from_slice(&explicit);
    nonce
}

/// Encrypts what follows `from`, and puts the tag behind it.
fn encrypt<A: AeadInOut + KeyInit>(
    key: &Key,
    nonce: [u8; 12],
    additional: &[u8],
    record: &mut Vec<u8>,
    from: usize,
) -> Option<()> {
    let cipher = A::new_from_slice(&key.cipher).ok()?;
    let nonce = Nonce::<A>::try_from(&nonce[..]).ok()?;
    let content = record.get_mut(from..)?;
    let tag = cipher.encrypt_inout_detached(&nonce, additional, content.into());
    record.extend_from_slice(&tag.ok()?);
    Some(())
}

fn decrypt<A: AeadInOut + KeyInit>(
    key: &Key,
    nonce: [u8; 12],
    additional: &[u8],
    sealed: &[u8],
    tag_len: usize,
) -> Option<Vec<u8>> {
    let cipher = A::new_from_slice(&key.cipher).ok()?;
    let nonce = Nonce::<A>::try_from(&nonce[..]).ok()?;
    let (content, tag) = sealed.split_at_checked(sealed.len().checked_sub(tag_len)?)?;
    let tag = Tag::<A>::try_from(tag).ok()?;
    let mut content = content.to_vec();
    cipher
        .decrypt_inout_detached(&nonce, additional, content.as_mut_slice().into(), &tag)
        .ok()?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtls::record::records;

    fn key() -> Key {
        Key {
            cipher: [7; 16],
            salt: [1, 2, 3, 4],
            mac: Some(Box::new([9; 32])),
        }
    }

    const ID: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

    /// Records of number 5 with "hello" in them, made with the `cryptography` package of Python from the words of RFC 5246, RFC 6655, RFC 5288
    /// and RFC 9146.
    const FROZEN: [(Suite, &[u8], &str); 4] = [
        (
            Suite::Ccm8,
            &[],
            "17fefd000100000000000500150001000000000005c6f1524d021f22d6cefd39e97c",
        ),
        (
            Suite::Ccm8,
            &ID,
            "19fefd0001000000000005000102030405060700160001000000000005c6f1524d02c563da9e896d77b118",
        ),
        (
            Suite::Gcm,
            &[],
            "17fefd0001000000000005001d0001000000000005f4c4493e2b7c650aff33f1aa8f3b54491ffe70b63e",
        ),
        (
            Suite::Gcm,
            &ID,
            "19fefd00010000000000050001020304050607001e0001000000000005f4c4493e2b387f0f718c89395c7ae8d09e36c2708f79",
        ),
    ];

    #[test]
    fn frozen_records_are_sealed_and_opened_as_ever() {
        for (suite, id, frozen) in FROZEN {
            let record = seal(suite, &key(), 5, 23, b"hello", id).unwrap();
            assert_eq!(hex::encode(&record), frozen, "{suite:?}");
            let read = records(&record).next().unwrap();
            let opened = open(suite, &key(), &read).unwrap();
            assert_eq!((opened.kind, &opened.content[..]), (23, &b"hello"[..]));
        }
    }

    #[test]
    fn no_bit_of_a_record_may_change() {
        let none: &[u8] = &[];
        let cases = [
            (Suite::Ccm8, none),
            (Suite::Ccm8, &ID),
            (Suite::Gcm, none),
            (Suite::Gcm, &ID),
            (Suite::Cbc, none),
        ];
        for (suite, id) in cases {
            let record = seal(suite, &key(), 5, 23, b"hello", id).unwrap();
            for bit in 0..record.len() * 8 {
                let mut forged = record.clone();
                forged[bit / 8] ^= 1 << (bit % 8);
                for read in records(&forged) {
                    assert_eq!(open(suite, &key(), &read), None, "{suite:?} {bit}");
                }
            }
        }
    }

    #[test]
    fn padding_is_taken_off_and_nothing_but_padding_is_nothing() {
        let opened = unwrap(b"data\x16\0\0\0".to_vec()).unwrap();
        assert_eq!((opened.kind, &opened.content[..]), (22, &b"data"[..]));
        assert_eq!(unwrap(vec![0; 9]), None);
        assert_eq!(unwrap(Vec::new()), None);
    }
}
