use std::{borrow::Cow, fmt};

use bytes::Bytes;

use super::MAX_DATAGRAM_LEN;

/// Bytes of a head: room for every message without a long payload, and for what comes before one.
const HEAD_LEN: usize = 31;

/// A message on its way out: a head of its own, and after it what it may share with other messages.
///
/// Making and copying one costs no memory of its own where the head is all there is, or where the body is shared:
/// acknowledgements and segments, which are nearly all that leaves.
#[derive(Clone, PartialEq, Eq)]
pub struct Datagram {
    len: u8,
    head: [u8; HEAD_LEN],
    body: Bytes,
}

impl Datagram {
    /// `head`, then `body`. A head that is too long for its place is moved into the body.
    pub fn with_body(head: &[u8], body: Bytes) -> Self {
        let mut place = [0; HEAD_LEN];
        match (place.get_mut(..head.len()), u8::try_from(head.len())) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(head);
                Self {
                    len,
                    head: place,
                    body,
                }
            }
            _ => Self {
                len: 0,
                head: place,
                body: [head, &body].concat().into(),
            },
        }
    }

    /// Its two parts, in their order.
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.head[..usize::from(self.len)], &self.body]
    }

    /// Its second part, to be shared again.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        usize::from(self.len) + self.body.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it in one piece.
    pub fn to_bytes(&self) -> Cow<'_, [u8]> {
        match self.parts() {
            [head, []] => head.into(),
            [[], body] => body.into(),
            parts => parts.concat().into(),
        }
    }

    /// All of it in one piece, put into `buffer`. Cut where it is longer than any datagram of ours.
    pub fn write_to<'b>(&self, buffer: &'b mut [u8; MAX_DATAGRAM_LEN]) -> &'b [u8] {
        let mut len = 0;
        for part in self.parts() {
            let part = &part[..part.len().min(buffer.len() - len)];
            buffer[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        &buffer[..len]
    }
}

impl From<&[u8]> for Datagram {
    fn from(bytes: &[u8]) -> Self {
        Self::with_body(bytes, Bytes::new())
    }
}

impl<const N: usize> From<[u8; N]> for Datagram {
    fn from(bytes: [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl From<Vec<u8>> for Datagram {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() <= HEAD_LEN {
            bytes.as_slice().into()
        } else {
            Self::with_body(&[], bytes.into())
        }
    }
}

impl fmt::Debug for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Datagram({:02x?})", self.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_its_head_and_then_its_body_whatever_their_lengths() {
        for head_len in [0, 4, 31, 32, 100] {
            for body_len in [0, 1, 511] {
                let whole: Vec<u8> = (0..=255).cycle().take(head_len + body_len).collect();
                let (head, body) = whole.split_at(head_len);
                let datagram = Datagram::with_body(head, Bytes::copy_from_slice(body));
                assert_eq!(datagram.to_bytes(), whole);
                assert_eq!(datagram.len(), whole.len());
                assert_eq!(datagram.parts().concat(), whole);
                assert_eq!(datagram.write_to(&mut [0; MAX_DATAGRAM_LEN]), whole);
                assert_eq!(Datagram::from(whole.clone()).to_bytes(), whole);
            }
        }
    }

    #[test]
    fn shares_its_body() {
        let body = Bytes::from(vec![7; 500]);
        let datagram = Datagram::with_body(&[1, 2], body.clone());
        assert_eq!(datagram.clone().parts()[1].as_ptr(), body.as_ptr());
    }
}
