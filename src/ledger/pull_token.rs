use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::{DeviceId, DeviceIds, PackageId, UpgradeId};

/// The path segment under which a device fetches its package in CoAP blocks: 22 characters. It tells the device, and is hard to
/// guess. It is the same after a restart, as nothing but the device's upgrade goes into it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PullToken([u8; Self::LEN]);

impl PullToken {
    const LEN: usize = 16;
    /// Characters of its text.
    pub const TEXT_LEN: usize = 22;

    /// The token with that text; `None` where it is none.
    pub fn parse(text: &[u8]) -> Option<Self> {
        // who decodes wants room for whole groups of four characters
        let mut bytes = [0; 18];
        let text = Some(text).filter(|text| text.len() == Self::TEXT_LEN)?;
        BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        bytes.first_chunk().copied().map(Self)
    }

    /// Its text.
    pub fn text(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Whose it is.
    pub fn device(&self) -> DeviceId {
        let (device, _) = self.halves();
        DeviceId::from_bytes(device)
    }

    /// A number that nobody else can make, and so as good as chance where the token is known to be ours.
    pub fn number(&self) -> u64 {
        let (_, secret) = self.halves();
        u64::from_be_bytes(secret)
    }

    fn halves(&self) -> ([u8; DeviceId::LEN], [u8; DeviceId::LEN]) {
        let half = |from: usize| std::array::from_fn(|at| self.0[from + at]);
        (half(0), half(DeviceId::LEN))
    }
}

/// Never shows what is to be guessed.
impl fmt::Debug for PullToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PullToken({})", self.device())
    }
}

impl DeviceIds {
    /// Under which the device fetches that package in that attempt.
    pub fn pull_token(
        &self,
        device: DeviceId,
        upgrade: UpgradeId,
        attempt: u32,
        package: PackageId,
    ) -> PullToken {
        let mut hash = Sha256::new();
        // a key of its own: no endpoint's name makes what this makes
        hash.update(self.derived("pull"));
        hash.update(device.to_bytes());
        hash.update(upgrade.0.to_be_bytes());
        hash.update(attempt.to_be_bytes());
        hash.update(package.0.to_be_bytes());
        let digest = hash.finalize();
        let device = device.to_bytes();
        PullToken(std::array::from_fn(|at| {
            match at.checked_sub(device.len()) {
                None => device[at],
                Some(at) => digest[at], // the first eight bytes of 32
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depends_on_all_that_it_is_for_and_is_the_same_each_time() {
        let ids = DeviceIds::new([7; 32]);
        let device = ids.of("meter-1");
        let token = ids.pull_token(device, UpgradeId(1), 1, PackageId(1));
        assert_eq!(token.device(), device);
        let text = token.text();
        assert_eq!(text.len(), PullToken::TEXT_LEN);
        assert_eq!(PullToken::parse(text.as_bytes()), Some(token));
        let again = DeviceIds::new([7; 32]).pull_token(device, UpgradeId(1), 1, PackageId(1));
        assert_eq!(again, token);
        for other in [
            ids.pull_token(ids.of("meter-2"), UpgradeId(1), 1, PackageId(1)),
            ids.pull_token(device, UpgradeId(2), 1, PackageId(1)),
            ids.pull_token(device, UpgradeId(1), 2, PackageId(1)),
            ids.pull_token(device, UpgradeId(1), 1, PackageId(2)),
            DeviceIds::new([8; 32]).pull_token(device, UpgradeId(1), 1, PackageId(1)),
        ] {
            assert_ne!(other.number(), token.number());
        }
    }

    #[test]
    fn reads_its_own_text_alone_and_shows_nothing_of_what_is_to_be_guessed() {
        let ids = DeviceIds::new([7; 32]);
        let token = ids.pull_token(ids.of("meter-1"), UpgradeId(1), 1, PackageId(1));
        let text = token.text();
        let cut = &text[..21];
        for other in [
            "",
            cut,
            &format!("{text}A"),
            &format!("{cut}="),
            &format!("{cut}/"),
            &format!("{cut}B"), // bits that are left over
        ] {
            assert_eq!(PullToken::parse(other.as_bytes()), None, "{other}");
        }
        assert!(!format!("{token:?}").contains(&text[11..]));
    }
}
