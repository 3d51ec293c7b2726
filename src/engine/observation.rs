//! Tokens of observations: which device was asked to notify, and of what.

use crate::{
    coap::Token,
    engine::objects::UpdateInstance,
    ledger::{DeviceId, UpdateObject},
};

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

/// Instances that tell apart by tokens: each has one for its state and one for its result.
const PLACES: u8 = 1 + OF_SOFTWARE + OF_COMPONENTS;
/// Instances of object 9 that have tokens of their own, as they are numbered one after the other.
const OF_SOFTWARE: u8 = 15;
/// The same of object 33629.
const OF_COMPONENTS: u8 = 16;

/// An observation. Its token is made of the device's identity, the purpose and the instance, and is the same for every
/// registration: no table of tokens is needed, and notifications of an observation from before a restart still tell whose they
/// are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Observation {
    device: DeviceId,
    /// What tells it from the device's others in the last byte of its token.
    mark: u8,
}

impl Observation {
    /// Of what the device sends over PCP.
    pub(super) const fn of_uplink(device: DeviceId) -> Self {
        Self { device, mark: 0 }
    }

    /// Of the state or the result of the instance by which it is upgraded.
    pub(super) fn of_update(device: DeviceId, purpose: Purpose, at: UpdateInstance) -> Self {
        let within = |most: u8| u8::try_from(at.instance() % u16::from(most)).unwrap_or(0);
        let place = match at.object() {
            UpdateObject::Pcp | UpdateObject::Firmware => 0,
            UpdateObject::Software => 1 + within(OF_SOFTWARE),
            UpdateObject::Components => 1 + OF_SOFTWARE + within(OF_COMPONENTS),
        };
        let mark = match purpose {
            Purpose::Uplink => 0,
            Purpose::State => 1 + 2 * place,
            Purpose::Result => 2 + 2 * place,
        };
        Self { device, mark }
    }

    pub(super) const fn purpose(self) -> Purpose {
        match self.mark {
            0 => Purpose::Uplink,
            mark if mark % 2 == 1 => Purpose::State,
            _ => Purpose::Result,
        }
    }

    pub(super) const fn device(self) -> DeviceId {
        self.device
    }

    /// Eight bytes; tokens of other requests are shorter.
    pub(super) fn token(self) -> Token {
        let mut bytes = self.device.to_bytes();
        bytes[DeviceId::LEN - 1] ^= self.mark;
        Token::new(&bytes)
    }

    /// The observation of that device with that token.
    pub(super) fn under(device: DeviceId, token: Token) -> Option<Self> {
        let bytes: [u8; DeviceId::LEN] = token.as_bytes().try_into().ok()?;
        let own = device.to_bytes();
        let (last, rest) = bytes.split_last()?;
        let (own_last, own_rest) = own.split_last()?;
        let mark = last ^ own_last;
        (rest == own_rest && mark <= 2 * PLACES).then_some(Self { device, mark })
    }

    /// What the token may stand for, of whatever device.
    pub(super) fn of_token(token: Token) -> impl Iterator<Item = Self> {
        let bytes: Option<[u8; DeviceId::LEN]> = token.as_bytes().try_into().ok();
        bytes.into_iter().flat_map(|bytes| {
            (0..=2 * PLACES).map(move |mark| {
                let mut bytes = bytes;
                bytes[DeviceId::LEN - 1] ^= mark;
                Self {
                    device: DeviceId::from_bytes(bytes),
                    mark,
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
    fn a_token_tells_the_device_what_it_is_observed_for_and_which_instance() {
        let ids = DeviceIds::new([7; 32]);
        let (device, other) = (ids.of("meter-1"), ids.of("meter-2"));
        let at = UpdateInstance::new;
        let mut observations = vec![Observation::of_uplink(device)];
        for purpose in [Purpose::State, Purpose::Result] {
            let firmware = at(UpdateObject::Firmware, 0);
            observations.push(Observation::of_update(device, purpose, firmware));
            for instance in 0..15 {
                for object in [UpdateObject::Software, UpdateObject::Components] {
                    let of = Observation::of_update(device, purpose, at(object, instance));
                    assert_eq!(of.purpose(), purpose);
                    observations.push(of);
                }
            }
        }
        for (index, observation) in observations.iter().enumerate() {
            let token = observation.token();
            assert_eq!(Observation::under(device, token), Some(*observation));
            assert_eq!(Observation::under(other, token), None);
            assert!(Observation::of_token(token).any(|it| it == *observation));
            let earlier = &observations[..index];
            assert!(earlier.iter().all(|it| it.token() != token), "{index}");
        }
        assert_eq!(Observation::of_token(Token::new(&[1; 7])).count(), 0);
    }
}
