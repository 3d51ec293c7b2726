use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::ledger::DeviceId;

/// One of the engines that share the work, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u8);

impl ShardId {
    /// One of so many to which the device falls by chance.
    pub const fn by_chance(device: DeviceId, shards: u8) -> Self {
        let shards = if shards == 0 { 1 } else { shards };
        Self(device.to_bytes()[0] % shards)
    }

    /// Its place among all.
    pub const fn index(self) -> usize {
        self.0 as usize
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
            device: DeviceId::from_bytes(*device),
            registration: registration.try_into().ok()?,
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; DeviceId::LEN + 3];
        bytes[..DeviceId::LEN].copy_from_slice(&self.device.to_bytes());
        bytes[DeviceId::LEN..].copy_from_slice(&self.registration);
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::DeviceIds;

    #[test]
    fn a_location_tells_the_device_and_the_registration() {
        let location = Location {
            device: DeviceIds::new([7; 32]).of("meter-1"),
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
