use std::{collections::HashMap, fs, io, path::Path};

use thiserror::Error;

use super::FleetError;
use crate::psk::{Key, Psk, PskError};

/// What is replaced by the endpoint name.
const ENDPOINT: &str = "{endpoint}";

/// The keys of a fleet: those of single devices, and one for all others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Psks {
    /// By endpoint name.
    each: HashMap<String, Psk>,
    /// The template of the identity, and the key.
    others: Option<(String, Key)>,
}

/// Why a file of keys cannot be used. Keys are not repeated.
#[derive(Debug, Error)]
pub enum PskFileError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is nothing in it.
    #[error("there is no key in it")]
    Empty,
    /// Three fields make a line.
    #[error("line {line}: 'endpoint,identity,key' is needed")]
    Fields {
        /// Counted from 1.
        line: usize,
    },
    /// The identity or the key is none.
    #[error("line {line}: {source}")]
    Psk {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: PskError,
    },
    /// Which key is meant?
    #[error("line {line}: {endpoint} has a key already")]
    Twice {
        /// Counted from 1.
        line: usize,
        /// The endpoint name.
        endpoint: String,
    },
}

impl Psks {
    /// One key for all devices. In their identity, `{endpoint}` stands for the endpoint name.
    pub fn same(identity: impl Into<String>, key: Key) -> Self {
        Self::default().or_same(identity, key)
    }

    /// The same key for all devices that have none of their own.
    #[must_use]
    pub fn or_same(mut self, identity: impl Into<String>, key: Key) -> Self {
        self.others = Some((identity.into(), key));
        self
    }

    /// Reads a file; see [`Self::parse`].
    pub fn read(path: &Path) -> Result<Self, PskFileError> {
        Self::parse(&fs::read_to_string(path)?)
    }

    /// Reads lines `endpoint,identity,key` with keys in hexadecimal digits. The identity may contain
    /// commas. Empty lines, and what begins with `#`, are comments.
    pub fn parse(text: &str) -> Result<Self, PskFileError> {
        let mut each = HashMap::new();
        for (index, text) in text.lines().enumerate() {
            let line = index + 1;
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let fields = text
                .split_once(',')
                .and_then(|(endpoint, rest)| Some((endpoint.trim(), rest.rsplit_once(',')?)));
            let Some((endpoint, (identity, key))) =
                fields.filter(|(endpoint, _)| !endpoint.is_empty())
            else {
                return Err(PskFileError::Fields { line });
            };
            let psk = Key::from_hex(key.trim())
                .and_then(|key| Psk::new(identity.trim(), key))
                .map_err(|source| PskFileError::Psk { line, source })?;
            if each.insert(endpoint.to_owned(), psk).is_some() {
                let endpoint = endpoint.to_owned();
                return Err(PskFileError::Twice { line, endpoint });
            }
        }
        if each.is_empty() {
            return Err(PskFileError::Empty);
        }
        let others = None;
        Ok(Self { each, others })
    }

    /// The key of a device.
    pub(super) fn of(&self, endpoint: &str) -> Result<Psk, FleetError> {
        if let Some(psk) = self.each.get(endpoint) {
            return Ok(psk.clone());
        }
        let endpoint = endpoint.to_owned();
        let Some((template, key)) = &self.others else {
            return Err(FleetError::NoPsk { endpoint });
        };
        Psk::new(template.replace(ENDPOINT, &endpoint), key.clone())
            .map_err(|source| FleetError::Psk { endpoint, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::from_hex(text).unwrap()
    }

    #[test]
    fn own_keys_come_before_the_common_one() {
        let file = "# keys\n\nsim-1, one, 0a0b\r\n sim-2,urn:x,y,0C0D\n";
        let psks = Psks::parse(file)
            .unwrap()
            .or_same("id-{endpoint}", key("ff"));
        let of = |endpoint| psks.of(endpoint).unwrap();
        assert_eq!(of("sim-1"), Psk::new("one", key("0a0b")).unwrap());
        assert_eq!(of("sim-2"), Psk::new("urn:x,y", key("0c0d")).unwrap());
        assert_eq!(of("sim-3"), Psk::new("id-sim-3", key("ff")).unwrap());
    }

    #[test]
    fn a_device_without_a_key_is_named() {
        let error = Psks::parse("a,b,01").unwrap().of("c").unwrap_err();
        assert!(error.to_string().starts_with("c has no key"), "{error}");
        let long = Psks::same("{endpoint}".repeat(65), key("01"));
        let error = long.of("ab").unwrap_err().to_string();
        assert!(error.contains("not 130"), "{error}");
    }

    #[test]
    fn says_which_line_is_wrong_and_repeats_no_key() {
        for (text, error) in [
            ("a,b,01\nc,d", "line 2: 'endpoint,identity,key' is needed"),
            (",b,01", "line 1: 'endpoint,identity,key' is needed"),
            (
                "\na,b,c0ffe",
                "line 2: a key is written in pairs of hexadecimal digits, and 5 digits are not",
            ),
            (
                "a,b,zz",
                "line 1: character 1 of the key is no hexadecimal digit",
            ),
            ("a,,01", "line 1: an identity has 1 to 128 bytes, not 0"),
            ("a,b,", "line 1: a key has 1 to 64 bytes, not 0"),
            ("a,b,01\n#\na,c,02", "line 3: a has a key already"),
            ("# nothing", "there is no key in it"),
        ] {
            assert_eq!(Psks::parse(text).unwrap_err().to_string(), error, "{text}");
        }
    }
}
