//! Tokens of observations: which device was asked to notify, and of what.

use crate::{coap::Token, ledger::DeviceId};

/// What a device is observed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// What it sends over PCP, and its own data: /19/0/0.
    Uplink,
    /// The state of its upgrade, by one of the standard's objects.
    State,
    /// The result of that.
    Result,
}

impl Purpose {
    pub(super) const ALL: [Self; 3] = [Self::Uplink, Self::State, Self::Result];

    /// What tells it from the others in the last byte of a token.
    const fn mark(self) -> u8 {
        match self {
            Self::Uplink => 0,
            Self::State => 1,
            Self::Result => 2,
        }
    }
}

/// An observation. Its token is made of the device's identity and the purpose, and is the same for every registration: no
/// table of tokens is needed, and notifications of an observation from before a restart still tell whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) device: DeviceId,
    pub(super) purpose: Purpose,
}

impl Observation {
    /// Eight bytes; tokens of other requests are shorter.
    pub(super) fn token(self) -> Token {
        let mut bytes = self.device.to_bytes();
        bytes[DeviceId::LEN - 1] ^= self.purpose.mark();
        Token::new(&bytes)
    }

    /// What the token may stand for: one observation for each purpose.
    pub(super) fn of_token(token: Token) -> impl Iterator<Item = Self> {
        let bytes: Option<[u8; DeviceId::LEN]> = token.as_bytes().try_into().ok();
        bytes.into_iter().flat_map(|bytes| {
            Purpose::ALL.into_iter().map(move |purpose| {
                let mut bytes = bytes;
                bytes[DeviceId::LEN - 1] ^= purpose.mark();
                Self {
                    device: DeviceId::from_bytes(bytes),
                    purpose,
                }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::DeviceIds;

    #[test]
    fn a_token_tells_the_device_and_what_it_is_observed_for() {
        let device = DeviceIds::new([7; 32]).of("meter-1");
        for purpose in Purpose::ALL {
            let observation = Observation { device, purpose };
            let found = Observation::of_token(observation.token()).any(|it| it == observation);
            assert!(found, "{purpose:?}");
        }
        assert_eq!(Observation::of_token(Token::new(&[1; 7])).count(), 0);
    }
}
