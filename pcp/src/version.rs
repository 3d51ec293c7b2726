use core::{
    fmt::{self, Write},
    str::FromStr,
};

use thiserror::Error;

const LEN: usize = 16;

/// A software version as PCP carries it: 16 bytes, ASCII by the protocol, padded with NULs.
///
/// Devices fill the field in many ways: with stale bytes behind the first NUL, with blanks, 0xFF, CR or LF at the
/// end. What they mean is what stands before the first NUL, without these. [`Version::from_bytes`] keeps that alone, so
/// that two versions are equal when devices mean the same. [`Version::new`] is for what an operator types.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version([u8; LEN]);

/// Why a text cannot be a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum VersionError {
    /// Nothing but padding would be sent.
    #[error("a version needs at least one character")]
    Empty,
    /// More than the field holds.
    #[error("a version has at most {LEN} characters, this one has {len}")]
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
}

impl Version {
    /// A version of 1 to 16 printable ASCII characters (0x21 to 0x7E, and spaces between them).
    pub fn new(text: &str) -> Result<Self, VersionError> {
        let bytes = text.as_bytes();
        let Some(last) = bytes.len().checked_sub(1) else {
            return Err(VersionError::Empty);
        };
        let mut padded = [0; LEN];
        let Some(field) = padded.get_mut(..bytes.len()) else {
            return Err(VersionError::TooLong { len: bytes.len() });
        };
        field.copy_from_slice(bytes);
        let refused = |(index, byte): &(usize, u8)| match byte {
            b' ' => *index == 0 || *index == last,
            byte => !byte.is_ascii_graphic(),
        };
        match bytes.iter().copied().enumerate().find(refused) {
            Some((index, byte)) => Err(VersionError::NotPrintable { index, byte }),
            None => Ok(Self(padded)),
        }
    }

    /// The version that a device or platform sent, whatever its bytes are: what stands before the first NUL, without
    /// blanks, 0xFF, CR and LF at its end.
    pub fn from_bytes(mut bytes: [u8; LEN]) -> Self {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(LEN);
        let filling = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0xFF);
        let len = bytes[..end]
            .iter()
            .rposition(|byte| !filling(byte))
            .map_or(0, |last| last + 1);
        bytes[len..].fill(0);
        Self(bytes)
    }

    /// All 16 bytes, as they are sent: padded with NULs.
    pub const fn as_bytes(&self) -> &[u8; LEN] {
        &self.0
    }

    /// The bytes without the padding.
    pub fn significant(&self) -> &[u8] {
        let len = self.0.iter().position(|byte| *byte == 0).unwrap_or(LEN);
        &self.0[..len]
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

/// The characters; a byte that is not printable ASCII as `\xNN`, and so a backslash itself, too, which
/// keeps two different versions from looking the same.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.significant() {
            match byte {
                b' '..=b'~' if *byte != b'\\' => f.write_char(char::from(*byte))?,
                byte => write!(f, "\\x{byte:02X}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version(\"{self}\")")
    }
}

#[cfg(test)]
mod tests {
    use std::{format, string::ToString};

    use super::*;

    #[test]
    fn a_version_comes_back_as_it_was_typed() {
        for text in ["V1.0", "1", "FW 2.1 beta", "1234567890123456", "~!"] {
            assert_eq!(Version::new(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_devices_could_not_show() {
        use VersionError::{Empty, NotPrintable, TooLong};
        let cases = [
            ("", Empty),
            ("12345678901234567", TooLong { len: 17 }),
            (
                "V1\n",
                NotPrintable {
                    index: 2,
                    byte: b'\n',
                },
            ),
            (
                " V1",
                NotPrintable {
                    index: 0,
                    byte: b' ',
                },
            ),
            (
                "V1 ",
                NotPrintable {
                    index: 2,
                    byte: b' ',
                },
            ),
            (
                "V\u{b7}1",
                NotPrintable {
                    index: 1,
                    byte: 0xC2,
                },
            ),
        ];
        for (text, error) in cases {
            assert_eq!(Version::new(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn padding_is_not_part_of_the_version() {
        let version = Version::new("V1.0").unwrap();
        assert_eq!(version.significant(), b"V1.0");
        assert_eq!(version.as_bytes()[4..], [0; 12]);
        assert_eq!(Version::from_bytes([0; 16]).significant(), b"");
    }

    #[test]
    fn what_devices_fill_the_field_with_is_not_part_of_the_version() {
        let clean = Version::new("V1.0").unwrap();
        for field in [
            b"V1.0\0\0\0\0\0\0\0\0\0\0\0\0",
            b"V1.0\0stale bytes",
            b"V1.0            ",
            b"V1.0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            b"V1.0\r\n\0\0\0\0\0\0\0\0\0\0",
            b"V1.0 \r\n\0junk \xFF\xFF\xFF",
        ] {
            let version = Version::from_bytes(*field);
            assert_eq!(version, clean, "{}", field.escape_ascii());
            assert_eq!(version.as_bytes(), clean.as_bytes());
        }
        let other = Version::from_bytes(*b"V1.0 b\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(other, Version::new("V1.0 b").unwrap());
        assert_ne!(other, clean);
        let nothing = Version::from_bytes(*b"\0V1.0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(nothing.significant(), b"");
    }

    #[test]
    fn bytes_that_cannot_be_shown_are_escaped() {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(b"V\x01\xFE1");
        let version = Version::from_bytes(bytes);
        assert_eq!(version.to_string(), r"V\x01\xFE1");
        assert_eq!(format!("{version:?}"), r#"Version("V\x01\xFE1")"#);
        assert_ne!(version, Version::new(r"V\x01\xFE1").unwrap());
        assert_ne!(
            version.to_string(),
            Version::new(r"V\x01\xFE1").unwrap().to_string()
        );
    }
}
