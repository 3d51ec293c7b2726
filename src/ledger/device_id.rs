use std::fmt;

use sha2::{Digest, Sha256};

/// What stands for a device wherever its name would be long: 64 bits that only this server can make from the name
/// (RFC 7252 §5.3.1 wants tokens hard to guess).
///
/// Tokens of observations and locations of registrations are made of it. Because it never changes, what a device sends under
/// one from before a restart or a new registration still tells whose it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId([u8; Self::LEN]);

impl DeviceId {
    /// Bytes, as many as a token of CoAP may have.
    pub const LEN: usize = 8;

    /// The same as a number, as good as chance: nobody else can make devices' numbers.
    pub const fn number(self) -> u64 {
        u64::from_be_bytes(self.0)
    }

    /// The identity with these bytes.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        self.0
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

    /// A key for something else. No endpoint's name makes it: none begins with the key.
    pub(super) fn derived(&self, what: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update(self.key);
        hash.update(what.as_bytes());
        hash.finalize().into()
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
    fn depends_on_the_name_and_the_key() {
        let ids = DeviceIds::new([7; 32]);
        let id = ids.of("meter-1");
        assert_eq!(id, ids.of("meter-1"));
        assert_ne!(id, ids.of("meter-2"));
        assert_ne!(id, DeviceIds::new([8; 32]).of("meter-1"));
        assert_eq!(DeviceId::from_bytes(id.to_bytes()), id);
    }
}
