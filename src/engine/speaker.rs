//! Who may speak for which device.

use super::{
    Engine, Report,
    device::{Device, HeardOver},
    key::DeviceKey,
};
use crate::{clock::Instant, coap::Peer};

/// Who has sent a datagram.
#[derive(Debug, Clone, Copy)]
pub struct Speaker<'n> {
    peer: Peer,
    /// Endpoints that it has shown to be.
    endpoints: &'n [Box<str>],
    /// When its association began, if that was with a whole handshake.
    handshake_at: Option<Instant>,
}

impl<'n> Speaker<'n> {
    /// Somebody at `peer` who has shown to be any of `endpoints`. Over DTLS nothing else is believed; elsewhere
    /// nobody can show anything.
    pub const fn new(peer: Peer, endpoints: &'n [Box<str>]) -> Self {
        Self {
            peer,
            endpoints,
            handshake_at: None,
        }
    }

    /// The same, whose association began then with a whole handshake. One that was resumed has no such time.
    #[must_use]
    pub const fn since(self, handshake_at: Option<Instant>) -> Self {
        Self {
            handshake_at,
            ..self
        }
    }

    /// When its association began, if that was with a whole handshake.
    pub(super) const fn handshake_at(&self) -> Option<Instant> {
        self.handshake_at
    }

    /// From where.
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// Endpoints that it has shown to be.
    pub(super) const fn endpoints(&self) -> &'n [Box<str>] {
        self.endpoints
    }

    /// Whether it has shown to be that endpoint, over DTLS.
    pub(super) fn has_shown(&self, endpoint: &str) -> bool {
        self.peer.secured && self.endpoints.iter().any(|own| **own == *endpoint)
    }

    /// Whether it may be the device, or is the gateway through which that is reached.
    pub(super) fn may_be(&self, device: &Device) -> bool {
        if self.peer.secured {
            let gateway = device.gateway();
            self.has_shown(&device.endpoint) || gateway.is_some_and(|name| self.has_shown(name))
        } else {
            // nobody speaks in the clear for one that is registered over its gateway's association, which after a restart has ended
            let registered = device.registration.as_ref();
            let guarded =
                device.gateway().is_some() && registered.is_some_and(|it| it.peer.secured);
            device.heard_over != HeardOver::Secured && device.through().is_none() && !guarded
        }
    }
}

/// Nothing is encrypted.
impl From<Peer> for Speaker<'static> {
    fn from(peer: Peer) -> Self {
        Self::new(peer, &[])
    }
}

impl Engine {
    /// Whether what is heard from `speaker` may be the device's. What is not is told to the operator.
    pub(super) fn may_speak_for(&mut self, speaker: &Speaker<'_>, key: DeviceKey) -> bool {
        let device = self.device(key);
        if speaker.may_be(device) {
            return true;
        }
        let endpoint = device.endpoint.to_string();
        self.turn_away(speaker, endpoint);
        false
    }

    /// Whether `speaker` may register as `endpoint`. What it may not is told to the operator.
    pub(super) fn may_register(&mut self, speaker: &Speaker<'_>, endpoint: &str) -> bool {
        let may = match self.find(endpoint) {
            Some(key) => speaker.may_be(self.device(key)),
            None => !speaker.peer.secured || speaker.has_shown(endpoint),
        };
        if !may {
            self.turn_away(speaker, endpoint.to_owned());
        }
        may
    }

    pub(super) fn turn_away(&mut self, speaker: &Speaker<'_>, endpoint: String) {
        self.counters.impostors += 1;
        let identities = speaker.endpoints.iter().map(ToString::to_string).collect();
        self.report(Report::Impostor {
            endpoint,
            peer: speaker.peer,
            identities,
        });
    }

    /// The device at the speaker's address. One that somebody else has shown to be at, or that is not to be spoken
    /// to unencrypted, loses the address.
    pub(super) fn bound_to(&mut self, speaker: &Speaker<'_>) -> Option<DeviceKey> {
        self.check_company(speaker);
        let key = self.devices.by_peer(speaker.peer)?;
        let device = self.device(key);
        if speaker.may_be(device) {
            return Some(key);
        }
        self.displace(key);
        None
    }

    /// A device that is heard only where datagrams are encrypted is no longer spoken to anywhere else.
    pub(super) fn check_channel(&mut self, key: DeviceKey) {
        let device = self.device(key);
        if device.peer().is_some_and(|peer| !peer.secured)
            && device.heard_over == HeardOver::Secured
        {
            self.displace(key);
        }
    }

    pub(super) fn displace(&mut self, key: DeviceKey) {
        self.devices.leave(key);
        self.has_left_its_address(Some(key));
    }
}
