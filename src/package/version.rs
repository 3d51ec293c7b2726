use std::{fmt, str::FromStr};

use arrayvec::ArrayString;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

const MAX_LEN: usize = 64;

/// A version of a device's software: text of 1 to 64 printable ASCII characters.
///
/// [`Version::new`] is for what an operator types. [`Version::told`] is for what a device says, which may be anything, or
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(ArrayString<MAX_LEN>);

/// Why a text cannot be a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum VersionError {
    /// There is none.
    #[error("a version needs at least one character")]
    Empty,
    /// More than anybody would read.
    #[error("a version has at most {MAX_LEN} characters, this one has {len}")]
    TooLong {
        /// Bytes in the text.
        len: usize,
    },
    /// Outside printable ASCII, or a space at either end, where nobody would see it.
    #[error(
        "byte 0x{byte:02X} at position {index} is not allowed: \
         a version has printable ASCII characters and no space at its ends"
    )]
    NotPrintable {
        /// Position of the byte, from 0.
        index: usize,
        /// The byte.
        byte: u8,
    },
    /// It would be taken for a device's version with a byte that is not printable.
    #[error("\\x and two hexadecimal digits stand for a byte that is not printable")]
    Escape,
}

impl Version {
    /// A version of 1 to 64 printable ASCII characters: 0x21 to 0x7E, and spaces between them.
    pub fn new(text: &str) -> Result<Self, VersionError> {
        let Some(last) = text.len().checked_sub(1) else {
            return Err(VersionError::Empty);
        };
        let refused = |(index, byte): &(usize, u8)| match byte {
            b' ' => *index == 0 || *index == last,
            byte => !byte.is_ascii_graphic(),
        };
        if let Some((index, byte)) = text.bytes().enumerate().find(refused) {
            return Err(VersionError::NotPrintable { index, byte });
        }
        let is_escape = |part: &[u8]| part.starts_with(b"\\x") && is_hex(&part[2..]);
        if text.as_bytes().windows(4).any(is_escape) {
            return Err(VersionError::Escape);
        }
        ArrayString::from(text)
            .map(Self)
            .map_err(|_| VersionError::TooLong { len: text.len() })
    }

    /// What a device calls its version, whatever the bytes are: one that is not printable ASCII becomes `\xNN`, and a
    /// backslash beside one too. What exceeds 64 characters is cut off.
    pub fn told(bytes: &[u8]) -> Self {
        let printable = |byte: &u8| matches!(byte, b' '..=b'~');
        let plain = bytes.iter().all(printable);
        let mut text = ArrayString::new();
        for byte in bytes {
            let fits = if plain || (printable(byte) && *byte != b'\\') {
                text.try_push(char::from(*byte)).is_ok()
            } else {
                text.try_push_str(&format!("\\x{byte:02X}")).is_ok()
            };
            if !fits {
                break;
            }
        }
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_hex(digits: &[u8]) -> bool {
    let is_digit = |digit: &u8| matches!(digit, b'0'..=b'9' | b'A'..=b'F');
    digits.iter().all(is_digit)
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({:?})", self.as_str())
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Any text that fits: it was written down before, and may be what a device said.
impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Version;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a version of at most {MAX_LEN} characters")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Version, E> {
                ArrayString::from(text)
                    .map(Version)
                    .map_err(|_| E::invalid_length(text.len(), &self))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_comes_back_as_it_was_typed() {
        let long = "1".repeat(64);
        for text in ["V1.0", "1", "FW 2.1 beta", "~!", r"A\B", r"\xGG", &long] {
            assert_eq!(Version::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn refuses_what_nobody_could_read() {
        use VersionError::{Empty, Escape, NotPrintable, TooLong};
        let unprintable = |index, byte| NotPrintable { index, byte };
        let long = "1".repeat(65);
        for (text, error) in [
            ("", Empty),
            (&long, TooLong { len: 65 }),
            ("V1\n", unprintable(2, b'\n')),
            (" V1", unprintable(0, b' ')),
            ("V1 ", unprintable(2, b' ')),
            ("V\u{b7}1", unprintable(1, 0xC2)),
            (r"V\x01", Escape),
        ] {
            assert_eq!(Version::new(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn what_a_device_says_is_shown_and_never_taken_for_another_version() {
        for (bytes, text) in [
            (&b"V1.0"[..], "V1.0"),
            (br"A\B", r"A\B"),
            (b"V\x01\xFE1", r"V\x01\xFE1"),
            (b"A\\\x01", r"A\x5C\x01"),
            (b"", ""),
            (&[0xFF; 16], &r"\xFF".repeat(16)),
            (&[0xFF; 17], &r"\xFF".repeat(16)),
            (&[b'a'; 70], &"a".repeat(64)),
        ] {
            let told = Version::told(bytes);
            assert_eq!(told.as_str(), text);
            let json = serde_json::to_string(&told).unwrap();
            assert_eq!(serde_json::from_str::<Version>(&json).unwrap(), told);
        }
        // what has a byte that cannot be typed is no version that anybody can type
        assert!(Version::new(Version::told(b"V\x01").as_str()).is_err());
    }
}
