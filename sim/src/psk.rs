//! What a device proves its identity with: an identity and a key that it shares with the server.

use std::fmt;

use thiserror::Error;

/// The longest key, in bytes; implementations have to support as much (RFC 4279 §5.3).
pub const MAX_KEY_LEN: usize = 64;
/// The longest identity, in bytes; implementations have to support as much (RFC 4279 §5.3).
pub const MAX_IDENTITY_LEN: usize = 128;

/// Why something is no pre-shared key. The messages do not repeat the key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PskError {
    /// Each byte is two digits.
    #[error("a key is written in pairs of hexadecimal digits, and {0} digits are not")]
    OddDigits(usize),
    /// Neither 0 to 9 nor a to f.
    #[error("character {0} of the key is no hexadecimal digit")]
    NotHexadecimal(usize),
    /// Nothing, or more than [`MAX_KEY_LEN`].
    #[error("a key has 1 to {MAX_KEY_LEN} bytes, not {0}")]
    KeyLength(usize),
    /// Nothing, or more than [`MAX_IDENTITY_LEN`].
    #[error("an identity has 1 to {MAX_IDENTITY_LEN} bytes, not {0}")]
    IdentityLength(usize),
}

/// A pre-shared key, 1 to 64 bytes. It is not shown when it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// A key of 1 to [`MAX_KEY_LEN`] bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, PskError> {
        let bytes = bytes.into();
        match bytes.len() {
            1..=MAX_KEY_LEN => Ok(Self(bytes)),
            len => Err(PskError::KeyLength(len)),
        }
    }

    /// A key that is written in hexadecimal digits, as in `00112233445566778899aabbccddeeff`.
    pub fn from_hex(text: &str) -> Result<Self, PskError> {
        let digits = text
            .chars()
            .enumerate()
            .map(|(index, c)| {
                let digit = c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit.ok_or(PskError::NotHexadecimal(index + 1))
            })
            .collect::<Result<Vec<u8>, _>>()?;
        let (pairs, []) = digits.as_chunks::<2>() else {
            return Err(PskError::OddDigits(digits.len()));
        };
        Self::new(
            pairs
                .iter()
                .map(|[high, low]| high << 4 | low)
                .collect::<Vec<_>>(),
        )
    }

    /// The key itself.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Another key of the same length.
    fn spoilt(&self) -> Self {
        Self(self.0.iter().map(|byte| !byte).collect())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// An identity with its key: what a device's operator has told the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Psk {
    /// Whom the key belongs to (RFC 4279 §5.1).
    pub identity: String,
    /// The key.
    pub key: Key,
}

impl Psk {
    /// An identity of 1 to [`MAX_IDENTITY_LEN`] bytes with its key.
    pub fn new(identity: impl Into<String>, key: Key) -> Result<Self, PskError> {
        let identity = identity.into();
        match identity.len() {
            1..=MAX_IDENTITY_LEN => Ok(Self { identity, key }),
            len => Err(PskError::IdentityLength(len)),
        }
    }

    /// The same identity with a key that is not the one that the server knows.
    #[must_use]
    pub(crate) fn with_wrong_key(&self) -> Self {
        Self {
            identity: self.identity.clone(),
            key: self.key.spoilt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_hexadecimal_digits() {
        let key = Key::from_hex("00ffA5").unwrap();
        assert_eq!(key.bytes(), [0x00, 0xFF, 0xA5]);
        assert_eq!(Key::from_hex(&"ab".repeat(64)).unwrap().bytes().len(), 64);
        for (text, error) in [
            ("abc", PskError::OddDigits(3)),
            ("ab1x", PskError::NotHexadecimal(4)),
            ("", PskError::KeyLength(0)),
            (&"ab".repeat(65), PskError::KeyLength(65)),
        ] {
            assert_eq!(Key::from_hex(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        let psk = Psk::new("meter", Key::from_hex("c0ffee").unwrap()).unwrap();
        let text = format!("{psk:?}").to_lowercase();
        assert!(!text.contains("c0") && !text.contains("192"), "{text}");
        assert_ne!(psk, psk.with_wrong_key());
    }

    #[test]
    fn an_identity_has_its_length() {
        let key = Key::new([1]).unwrap();
        assert!(Psk::new("i".repeat(128), key.clone()).is_ok());
        assert_eq!(
            Psk::new("i".repeat(129), key.clone()),
            Err(PskError::IdentityLength(129))
        );
        assert_eq!(Psk::new("", key), Err(PskError::IdentityLength(0)));
    }
}
