//! What comes before the payload in a datagram of the paths on which nothing is allocated: header, token, options, written by hand.

use bytes::Bytes;
use coap_lite::CoapOption;

use super::{Code, Datagram, Token, message::PAYLOAD_MARKER};

/// Room for every option that is written here, with the longest path of a device's root.
const ROOM: usize = 160;

/// What comes before the payload.
pub(super) struct Head {
    bytes: [u8; ROOM],
    len: usize,
    /// The number of the option that was put last.
    option: u16,
}

impl Head {
    /// Begins with header and token, which `write` writes, and tells how many bytes they are.
    pub(super) fn begun(write: impl FnOnce(&mut [u8]) -> usize) -> Self {
        let mut bytes = [0; ROOM];
        let len = write(&mut bytes);
        Self {
            bytes,
            len,
            option: 0,
        }
    }

    /// That of a Confirmable request.
    pub(super) fn request(code: Code, message_id: u16, token: Token) -> Self {
        Self::begun(|bytes| {
            let token = token.as_bytes();
            let [id0, id1] = message_id.to_be_bytes();
            let len = token.len().to_le_bytes()[0]; // 8 at most
            bytes[..4].copy_from_slice(&[0x40 | len, code.0, id0, id1]);
            bytes[4..4 + token.len()].copy_from_slice(token);
            4 + token.len()
        })
    }

    /// Puts what finds room.
    fn put(&mut self, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            place.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    /// Adds an option of a number below 269, in the order of their numbers, with a value of at most 268 bytes (RFC 7252 §3.1).
    pub(super) fn option(&mut self, option: CoapOption, value: &[u8]) {
        let number = u16::from(option);
        let (delta, more_delta) = extended(usize::from(number - self.option));
        let (len, more_len) = extended(value.len());
        self.put(&[delta << 4 | len]);
        self.put(more_delta.as_slice());
        self.put(more_len.as_slice());
        self.put(value);
        self.option = number;
    }

    /// Adds an option of format uint, in its shortest form (§3.2).
    pub(super) fn uint(&mut self, option: CoapOption, value: u32) {
        let bytes = value.to_be_bytes();
        let zeros = (value.leading_zeros() / 8) as usize; // at most 4
        self.option(option, &bytes[zeros..]);
    }

    /// The datagram, around a payload that it shares.
    pub(super) fn around(mut self, payload: Bytes) -> Datagram {
        if !payload.is_empty() {
            self.put(&[PAYLOAD_MARKER]);
        }
        Datagram::with_body(&self.bytes[..self.len], payload)
    }
}

/// Four bits, and the byte behind them where they do not do.
fn extended(value: usize) -> (u8, Option<u8>) {
    let value = value.min(268);
    let byte = |value: usize| value.to_le_bytes()[0];
    match value.checked_sub(13) {
        None => (byte(value), None),
        Some(rest) => (13, Some(byte(rest))),
    }
}
