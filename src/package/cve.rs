use std::{fmt, str::FromStr};

use arrayvec::ArrayString;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// `CVE-`, four digits, `-`, and up to 19 digits.
const MAX_LEN: usize = 28;

/// The number of a vulnerability, such as `CVE-2026-12345` (CVE Record Format 5, `cveId`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CveId(ArrayString<MAX_LEN>);

/// A text is no number of a vulnerability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a CVE is written as CVE-2026-12345: CVE, a year of four digits, and 4 to 19 digits")]
pub struct CveError;

impl CveId {
    /// The number that is written so. Letters are upper-case.
    pub fn new(text: &str) -> Result<Self, CveError> {
        let (year, number) = (text.strip_prefix("CVE-"))
            .and_then(|rest| rest.split_once('-'))
            .ok_or(CveError)?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let ok =
            year.len() == 4 && (4..=19).contains(&number.len()) && digits(year) && digits(number);
        if !ok {
            return Err(CveError);
        }
        ArrayString::from(text).map(Self).map_err(|_| CveError)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CveId {
    type Err = CveError;

    fn from_str(text: &str) -> Result<Self, CveError> {
        Self::new(text)
    }
}

impl fmt::Display for CveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for CveId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CveId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = CveId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a CVE such as CVE-2026-12345")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CveId, E> {
                CveId::new(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_taken_as_it_is_published_and_nothing_else() {
        for text in [
            "CVE-1999-0001",
            "CVE-2026-12345",
            "CVE-2026-1234567890123456789",
        ] {
            let id = CveId::new(text).unwrap();
            assert_eq!(id.as_str(), text);
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(serde_json::from_str::<CveId>(&json).unwrap(), id);
        }
        for text in [
            "",
            "CVE-",
            "cve-2026-1234",
            "CVE-2026-123",
            "CVE-226-1234",
            "CVE-20266-1234",
            "CVE-2026-12345678901234567890",
            "CVE-2026-12a4",
            "CVE-2026-1234 ",
            " CVE-2026-1234",
            "CVE-2026--1234",
            "CVE-٢٠٢٦-1234",
        ] {
            assert_eq!(CveId::new(text), Err(CveError), "{text:?}");
        }
    }
}
