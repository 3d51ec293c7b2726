//! How devices are upgraded that have no PCP: by an object of OMA's, in the ways of clients in the field.

use std::{str::FromStr, sync::Arc};

use pcp::Version;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// By what a device is upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdatesBy {
    /// PCP in object 19.
    #[default]
    Pcp,
    /// Object 5, Firmware Update.
    Firmware,
    /// Object 9, LWM2M Software Management.
    Software,
    /// Object 33629, Advanced Firmware Update: a component in each instance.
    Components,
}

/// The text names nothing by which a device is upgraded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown way to be upgraded '{0}': pcp, firmware, software and components are known")]
pub struct UnknownUpdatesBy(String);

impl UpdatesBy {
    /// All ways.
    pub const ALL: [Self; 4] = [Self::Pcp, Self::Firmware, Self::Software, Self::Components];

    /// Its name, as on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcp => "pcp",
            Self::Firmware => "firmware",
            Self::Software => "software",
            Self::Components => "components",
        }
    }

    /// The object's number; none with PCP, whose frames are service data in object 19.
    pub const fn object(self) -> Option<u16> {
        match self {
            Self::Pcp => None,
            Self::Firmware => Some(5),
            Self::Software => Some(9),
            Self::Components => Some(33_629),
        }
    }
}

impl FromStr for UpdatesBy {
    type Err = UnknownUpdatesBy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        (Self::ALL.into_iter())
            .find(|way| way.name() == text)
            .ok_or_else(|| UnknownUpdatesBy(text.to_owned()))
    }
}

/// Which client in the field a device with one of these objects is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Character {
    /// Eclipse Leshan on Californium: pulls from its own socket, blocks of 512 bytes, forgets at a restart.
    #[default]
    Leshan,
    /// `AVSystem` Anjay 3: a new socket, no Block2 in the first request, compares `ETag`s, resumes after a restart. It takes
    /// no new URI unless it is idle.
    Anjay,
    /// Zephyr: a new socket, blocks of 256 bytes, one token for all of a download, asks for the size, drops a query, takes
    /// 128 bytes of a URI, forgets at a restart.
    Zephyr,
    /// Nordic's nRF Connect SDK: a new socket, blocks of 1024 bytes, takes answers in acknowledgements alone, repeats with
    /// another token, connects anew, and is sure of its success only some time after its restart.
    Nrf,
    /// A device to which packages have to be pushed, in blocks of 128 bytes.
    PushOnly,
    /// Eclipse Wakaama's example: takes every write, and nothing ever happens.
    Stub,
}

/// The text names no character.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown character '{0}': leshan, anjay, zephyr, nrf, pushonly and stub are known")]
pub struct UnknownCharacter(String);

impl FromStr for Character {
    type Err = UnknownCharacter;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        (Self::ALL.into_iter())
            .find(|character| character.name() == text)
            .ok_or_else(|| UnknownCharacter(text.to_owned()))
    }
}

impl Character {
    /// All characters.
    pub const ALL: [Self; 6] = [
        Self::Leshan,
        Self::Anjay,
        Self::Zephyr,
        Self::Nrf,
        Self::PushOnly,
        Self::Stub,
    ];

    /// The character's name, as on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Leshan => "leshan",
            Self::Anjay => "anjay",
            Self::Zephyr => "zephyr",
            Self::Nrf => "nrf",
            Self::PushOnly => "pushonly",
            Self::Stub => "stub",
        }
    }

    /// Whether it pulls from a socket, and over DTLS with an association, of its own.
    pub(crate) const fn has_own_socket(self) -> bool {
        matches!(self, Self::Anjay | Self::Zephyr | Self::Nrf)
    }

    /// The size of blocks that it asks for at first; none where it lets the server choose.
    pub(crate) const fn asks_size(self) -> Option<u16> {
        match self {
            Self::Anjay => None,
            Self::Zephyr => Some(256),
            Self::Nrf => Some(1024),
            Self::Leshan | Self::PushOnly | Self::Stub => Some(512),
        }
    }

    /// The largest blocks that are pushed to it after the first.
    pub(crate) const fn takes_size(self) -> u16 {
        match self {
            Self::PushOnly => 128,
            Self::Zephyr => 256,
            Self::Leshan => 512,
            Self::Anjay | Self::Nrf | Self::Stub => 1024,
        }
    }

    /// Whether it notices that the server has other content than before.
    pub(crate) const fn compares_etags(self) -> bool {
        matches!(self, Self::Anjay | Self::Leshan)
    }

    /// Whether it resumes a download after a restart.
    pub(crate) const fn resumes(self) -> bool {
        matches!(self, Self::Anjay)
    }

    /// Whether a URI makes it begin anew in mid-download; else it refuses one.
    pub(crate) const fn restarts_with_uri(self) -> bool {
        matches!(self, Self::Zephyr | Self::Nrf)
    }

    /// Resource 9 of object 5, its delivery method: 1 is push only, 2 is both.
    pub(crate) const fn delivery_method(self) -> i64 {
        match self {
            Self::PushOnly => 1,
            _ => 2,
        }
    }

    /// Whether it takes attributes of notifications (`pmin`, `pmax`).
    pub(crate) const fn takes_attributes(self) -> bool {
        !matches!(self, Self::PushOnly | Self::Stub)
    }

    /// Whether its object 5 has the resource Cancel, of version 1.1.
    pub(crate) const fn has_cancel(self) -> bool {
        matches!(self, Self::Anjay)
    }

    /// How often it connects anew when the server does not answer.
    pub(crate) const fn connections(self) -> u8 {
        match self {
            Self::Nrf => 3,
            _ => 0,
        }
    }

    /// The longest URI.
    pub(crate) const fn longest_uri(self) -> usize {
        match self {
            Self::Zephyr => 128,
            _ => 255,
        }
    }

    /// Whether a package that could not be installed stays downloaded.
    pub(crate) const fn keeps_what_failed(self) -> bool {
        matches!(self, Self::Anjay | Self::Leshan)
    }
}

/// A package that a device is told to expect: what it is made of tells the device nothing of its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The version that the device runs with it.
    pub version: Version,
    /// Its length and SHA-256; none where whatever comes is taken for it.
    pub content: Option<(u64, [u8; 32])>,
}

impl Image {
    /// The package with these bytes.
    pub fn new(version: Version, bytes: &[u8]) -> Self {
        Self {
            version,
            content: Some((bytes.len() as u64, Sha256::digest(bytes).into())),
        }
    }

    /// Whatever is downloaded is that version.
    pub const fn any(version: Version) -> Self {
        Self {
            version,
            content: None,
        }
    }
}

/// What a device is like that is upgraded by an object; one with PCP has no use for it.
#[derive(Debug, Clone, Default)]
pub struct ObjectSpec {
    /// Which client it is like.
    pub character: Character,
    /// The component that it has besides `main` (object 33629), or the software that is installed (object 9, else
    /// `software`).
    pub component: Option<Arc<str>>,
    /// The packages that it may be given. One that is none of them fails its check.
    pub images: Arc<[Image]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_they_are_written() {
        for way in UpdatesBy::ALL {
            assert_eq!(way.name().parse(), Ok(way));
            let json = serde_json::to_string(&way).unwrap();
            assert_eq!(json, format!("\"{}\"", way.name()));
        }
        for character in Character::ALL {
            assert_eq!(character.name().parse(), Ok(character));
            let json = serde_json::to_string(&character).unwrap();
            assert_eq!(json, format!("\"{}\"", character.name()));
        }
        assert!("ota".parse::<UpdatesBy>().is_err());
        assert!("modem".parse::<Character>().is_err());
    }
}
