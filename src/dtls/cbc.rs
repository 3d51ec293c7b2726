//! CBC under a MAC (RFC 5246 §6.2.3.2). How long it takes to refuse a record does not tell how much of its padding was
//! right (the attack called Lucky Thirteen, of 2013): the MAC is computed over as many blocks whatever the padding says.

use openssl::symm::{Cipher, Crypter, Mode};
use sha2::{Digest as _, Sha256, block_api::compress256};
use subtle::{
    Choice, ConditionallySelectable as _, ConstantTimeEq as _, ConstantTimeGreater as _,
    ConstantTimeLess as _,
};

use super::keys::Key;

const BLOCK: usize = 16;
const MAC: usize = 32;
/// Of the header that goes into the MAC; its last two are the content's length.
const HEADER: usize = 13;
/// The state that SHA-256 begins with (FIPS 180-4 §5.3.3).
const BEGIN: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// Vector and blocks of a record with that header and content.
pub(super) fn seal(key: &Key, header: &[u8], content: &[u8]) -> Option<Vec<u8>> {
    let mut vector = [0; BLOCK];
    openssl::rand::rand_bytes(&mut vector).ok()?;
    seal_with(key, vector, header, content)
}

fn seal_with(key: &Key, vector: [u8; BLOCK], header: &[u8], content: &[u8]) -> Option<Vec<u8>> {
    let mac_key = key.mac.as_deref()?;
    let inner = Sha256::new()
        .chain_update(pad(mac_key, 0x36))
        .chain_update(header)
        .chain_update(content)
        .finalize();
    let mut plain = content.to_vec();
    plain.extend(outer(mac_key, &inner));
    let padding = BLOCK - 1 - plain.len() % BLOCK;
    let byte = u8::try_from(padding).ok()?; // less than a block
    plain.extend(std::iter::repeat_n(byte, padding + 1));
    let mut sealed = vector.to_vec();
    sealed.extend(run(key, Mode::Encrypt, &vector, &plain)?);
    Some(sealed)
}

/// The content of a record, if its padding and its MAC are right. The length in `header` is filled in here.
pub(super) fn open(key: &Key, header: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mac_key = key.mac.as_deref()?;
    let (vector, blocks) = sealed.split_first_chunk::<BLOCK>()?;
    if blocks.len() < MAC + BLOCK || !blocks.len().is_multiple_of(BLOCK) || header.len() != HEADER {
        return None;
    }
    let mut plain = run(key, Mode::Decrypt, vector, blocks)?;
    let (padding_is_good, len) = unpad(&plain)?;
    let inner = inner_mac(mac_key, header, &plain, len);
    let expected = outer(mac_key, &inner);
    let found = mac_at(&plain, len);
    let good = padding_is_good & expected.ct_eq(&found);
    if !bool::from(good) {
        return None;
    }
    plain.truncate(usize::try_from(len).ok()?);
    Some(plain)
}

/// Whether the padding is right, and the content's length; that without padding if it is not.
fn unpad(plain: &[u8]) -> Option<(Choice, u32)> {
    let len = u32::try_from(plain.len()).ok()?;
    let mac = u32::try_from(MAC).ok()?;
    let last = u32::from(*plain.last()?);
    // more than there is room for
    let mut good = !(last + 1 + mac).ct_gt(&len);
    for (back, byte) in (0..=255_u32).zip(plain.iter().rev()) {
        let is_padding = !back.ct_gt(&last);
        good &= !is_padding | u32::from(*byte).ct_eq(&last);
    }
    let padding = u32::conditional_select(&0, &last, good);
    Some((good, len - mac - 1 - padding))
}

/// The MAC that follows a content of `len`, read without telling where.
fn mac_at(plain: &[u8], len: u32) -> [u8; MAC] {
    let mut found = [0; MAC];
    // a padding has 256 bytes at most
    let first = plain.len().saturating_sub(MAC + 256);
    for (place, offset) in found.iter_mut().zip(0_u32..) {
        let wanted = len + offset;
        for (at, byte) in plain.iter().enumerate().skip(first) {
            let at = u32::try_from(at).unwrap_or(u32::MAX); // a record has 16 bits of length
            place.conditional_assign(byte, at.ct_eq(&wanted));
        }
    }
    found
}

/// The inner hash of HMAC over `header` and the first `len` bytes of `plain`, in a time that depends on the length of
/// `plain` alone.
fn inner_mac(mac_key: &[u8; 32], header: &[u8], plain: &[u8], len: u32) -> [u8; 32] {
    let mut head = header.to_vec();
    let len_bytes = len.to_be_bytes();
    head.truncate(HEADER - 2);
    head.extend(&len_bytes[2..]);
    let mut state = BEGIN;
    compress256(&mut state, &[pad(mac_key, 0x36)]);
    let header_len = u32::try_from(HEADER).unwrap_or(0);
    let total = header_len + len;
    let bits = (u64::from(total) + 64) * 8;
    // the block that the length goes into: a byte and eight more follow what is hashed
    let final_block = (total + 8) / 64;
    let longest = HEADER + plain.len();
    let mut chosen = [0_u32; 8];
    for index in 0..=u32::try_from(longest / 64).unwrap_or(0) {
        let is_final = index.ct_eq(&final_block);
        let mut block = [0; 64];
        for (place, at) in block.iter_mut().zip(index * 64..) {
            let from = usize::try_from(at).unwrap_or(usize::MAX);
            let byte = match from.checked_sub(HEADER) {
                None => head[from],
                Some(from) => plain.get(from).copied().unwrap_or(0),
            };
            place.conditional_assign(&byte, at.ct_lt(&total));
            place.conditional_assign(&0x80, at.ct_eq(&total));
        }
        for (place, byte) in block[56..].iter_mut().zip(bits.to_be_bytes()) {
            place.conditional_assign(&byte, is_final);
        }
        compress256(&mut state, &[block]);
        for (word, now) in chosen.iter_mut().zip(state) {
            word.conditional_assign(&now, is_final);
        }
    }
    let mut hash = [0; 32];
    for (place, word) in hash.chunks_exact_mut(4).zip(chosen) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    hash
}

fn outer(mac_key: &[u8; 32], inner: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(pad(mac_key, 0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

/// The block that HMAC begins with (RFC 2104 §2).
fn pad(mac_key: &[u8; 32], with: u8) -> [u8; 64] {
    let mut block = [with; 64];
    for (place, byte) in block.iter_mut().zip(mac_key) {
        *place ^= byte;
    }
    block
}

fn run(key: &Key, mode: Mode, vector: &[u8; BLOCK], input: &[u8]) -> Option<Vec<u8>> {
    let mut crypter = Crypter::new(Cipher::aes_128_cbc(), mode, &key.cipher, Some(vector)).ok()?;
    crypter.pad(false);
    let mut output = vec![0; input.len() + BLOCK];
    let mut len = crypter.update(input, &mut output).ok()?;
    len += crypter.finalize(&mut output[len..]).ok()?;
    output.truncate(len);
    Some(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key {
            cipher: [7; 16],
            salt: [0; 4],
            mac: Some(Box::new([9; 32])),
        }
    }

    fn header(len: usize) -> [u8; HEADER] {
        let [high, low] = u16::try_from(len).unwrap().to_be_bytes();
        [0, 1, 0, 0, 0, 0, 0, 3, 23, 0xfe, 0xfd, high, low]
    }

    #[test]
    fn what_was_sealed_is_opened_whatever_its_length() {
        for len in 0..600 {
            let content: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let sealed = seal(&key(), &header(len), &content).unwrap();
            assert_eq!(open(&key(), &header(0), &sealed), Some(content), "{len}");
        }
    }

    /// A padding may be longer than a block (RFC 5246 §6.2.3.2), and has to be right in each of its bytes.
    #[test]
    fn every_padding_is_taken_and_none_that_is_wrong() {
        let mac_key = [9; 32];
        let content = b"some content";
        let inner = Sha256::new()
            .chain_update(pad(&mac_key, 0x36))
            .chain_update(header(content.len()))
            .chain_update(content)
            .finalize();
        let body = [&content[..], &outer(&mac_key, &inner)].concat();
        let first = BLOCK - 1 - body.len() % BLOCK;
        for padding in (first..256).step_by(BLOCK) {
            let mut plain = body.clone();
            plain.extend(std::iter::repeat_n(
                u8::try_from(padding).unwrap(),
                padding + 1,
            ));
            let sealed = |plain: &[u8]| {
                let blocks = run(&key(), Mode::Encrypt, &[3; BLOCK], plain).unwrap();
                [&[3; BLOCK][..], &blocks].concat()
            };
            let opened = open(&key(), &header(0), &sealed(&plain));
            assert_eq!(opened.as_deref(), Some(&content[..]), "{padding}");
            for at in 0..plain.len() {
                let mut wrong = plain.clone();
                wrong[at] ^= 1;
                assert_eq!(
                    open(&key(), &header(0), &sealed(&wrong)),
                    None,
                    "{padding} {at}"
                );
            }
        }
        for len in 0..100 {
            assert_eq!(open(&key(), &header(0), &vec![255; len]), None);
        }
    }

    /// Made with Python's `hmac` module and `openssl enc -aes-128-cbc -nopad`.
    #[test]
    fn a_frozen_record_is_sealed_as_ever() {
        let sealed = seal_with(&key(), [3; BLOCK], &header(5), b"hello").unwrap();
        assert_eq!(hex::encode(&sealed[BLOCK..]), FROZEN);
    }

    const FROZEN: &str = "b86e6f726adbd9e165e4cab77bdc5962af9fe5e8fb396b7c5c995331604bd0c471f27fef57de1255229ac07dcc031ceb";
}
