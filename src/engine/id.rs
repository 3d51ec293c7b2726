use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::coap::Token;

/// One of the engines that share the work, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u8);

impl ShardId {
    /// Its place among all.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What stands for a device wherever its name would be long: 64 bits that only this server can make from the name
/// (RFC 7252 §5.3.1 wants tokens hard to guess).
///
/// It is the token of the observation of the device's uplink. Because it never changes, notifications of an observation
/// from before a restart or a new registration still tell whose they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId([u8; Self::LEN]);

impl DeviceId {
    /// Bytes, as many as a token may have. Tokens of other requests are shorter.
    pub(super) const LEN: usize = 8;

    /// The same as a number, as good as chance: nobody else can make devices' numbers.
    pub const fn number(self) -> u64 {
        u64::from_be_bytes(self.0)
    }

    /// One of so many that the device falls to by chance.
    pub fn among(self, shards: u8) -> ShardId {
        ShardId(self.0[0] % shards.max(1))
    }

    /// The device whose observation has that token, if there is one.
    pub(super) fn of_token(token: Token) -> Option<Self> {
        token.as_bytes().try_into().ok().map(Self)
    }

    pub(super) fn token(self) -> Token {
        Token::new(&self.0)
    }
}

/// The path segment after `rd/` under which a device updates its registration: 15 characters. It tells the device, and
/// which of its registrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) device: DeviceId,
    pub(super) registration: [u8; 3],
}

impl Location {
    /// `None` when it is none of ours.
    pub(super) fn parse(segment: &[u8]) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(segment).ok()?;
        let (device, registration) = bytes.split_first_chunk()?;
        Some(Self {
            device: DeviceId(*device),
            registration: registration.try_into().ok()?,
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; DeviceId::LEN + 3];
        bytes[..DeviceId::LEN].copy_from_slice(&self.device.0);
        bytes[DeviceId::LEN..].copy_from_slice(&self.registration);
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Makes the devices' [`DeviceId`]s.
#[derive(Clone)]
pub struct DeviceIds {
    key: [u8; 32],
}

impl DeviceIds {
    /// From a key that is kept as long as the devices are, and known to nobody else.
    pub const fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The device of that name.
    pub fn of(&self, endpoint: &str) -> DeviceId {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update(endpoint.as_bytes());
        let digest = hash.finalize();
        // the first eight bytes of 32
        DeviceId(std::array::from_fn(|at| digest[at]))
    }
}

/// Never shows the key.
impl fmt::Debug for DeviceIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceIds")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_told_by_token_and_location() {
        let ids = DeviceIds::new([7; 32]);
        let id = ids.of("meter-1");
        assert_ne!(id, ids.of("meter-2"));
        assert_ne!(id, DeviceIds::new([8; 32]).of("meter-1"));
        assert_eq!(DeviceId::of_token(id.token()), Some(id));
        assert_eq!(DeviceId::of_token(Token::new(&[1; 7])), None);
        let location = Location {
            device: id,
            registration: [1, 2, 3],
        };
        let text = location.to_string();
        assert_eq!(text.len(), 15);
        assert_eq!(Location::parse(text.as_bytes()), Some(location));
        for other in ["", &text[..14], &format!("{text}A"), "+/0000000000000"] {
            assert_eq!(Location::parse(other.as_bytes()), None, "{other}");
        }
    }
}
