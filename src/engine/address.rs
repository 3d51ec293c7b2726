//! Where a device is, whether it receives what is sent there, and what its moving means.

use super::{Engine, Speaker, key::DeviceKey, registered::Validation};
use crate::{
    coap::Peer,
    ledger::{Happened, Repeated},
};

impl Engine {
    /// The device has shown that it receives what is sent to its address.
    pub(super) fn validate(&mut self, key: DeviceKey) {
        let now = self.now;
        let device = self.device_mut(key);
        let Some(registration) = &mut device.registration else {
            return;
        };
        if registration.validation == Validation::Valid {
            return;
        }
        registration.validation = Validation::Valid;
        let peer = registration.peer;
        let whole = now.instant_at(registration.since + registration.lifetime());
        registration.expires = registration.expires.max(whole);
        let longer = device.is_newcomer();
        self.device_mut(key).proven = self.mark(peer);
        if longer && self.device_mut(key).may_write(now.instant) {
            self.persist_registration(key, None);
        }
    }

    /// Whether the device is known to receive what is sent to that address.
    pub(super) fn is_valid_at(&self, key: DeviceKey, peer: Peer) -> bool {
        let device = self.device(key);
        let registered = device.registration.as_ref();
        peer.secured
            || registered.is_some_and(|it| it.is_valid_at(peer))
            || (device.proven != 0 && device.proven == self.mark(peer))
    }

    /// Tells an address from others, as far as 32 bits do. Nobody else can make it, and it is never 0.
    fn mark(&self, peer: Peer) -> u32 {
        let number = self.ids.of(&peer.to_string()).number();
        u32::try_from(number >> 32).unwrap_or(0) | 1
    }

    /// The device is heard from that address, which the store is told where it is news: a NAT has forgotten the old one.
    /// `false` when it is left alone: it has moved so often lately, or is heard through a gateway without a path of its own there.
    pub(super) fn moves_to(&mut self, key: DeviceKey, speaker: &Speaker<'_>) -> bool {
        let peer = speaker.peer();
        if self.device(key).peer() == Some(peer) {
            return true;
        }
        let now = self.now.instant;
        let root = self.device(key).root_path();
        let misplaced = self.path_fault(key, speaker, root).is_some();
        if misplaced || self.is_overloaded() || !self.device_mut(key).may_write(now) {
            self.counters.requests_ignored += 1;
            return false;
        }
        self.move_to(key, speaker);
        self.persist_registration(key, None);
        true
    }

    /// An association is heard from another address, and who is behind it goes with it. The store is told of the device, unless
    /// there is much to write: then its next registration or update does.
    pub(super) fn moves_by_association(&mut self, from: Peer, speaker: &Speaker<'_>) {
        let as_before = Speaker::new(from, speaker.endpoints());
        let bound = self.bound_to(&as_before).or_else(|| {
            // those behind a gateway go where it is
            let company = self.devices.companies.at(from)?;
            let members = self.devices.companies.members(company);
            let at_from = |key: &&DeviceKey| self.device(**key).peer() == Some(from);
            members.iter().find(at_from).copied()
        });
        let Some(key) = bound else { return };
        let now = self.now.instant;
        let device = self.device(key);
        let through = device.through().is_some();
        let gathers = through || self.devices.companies.has(device.id);
        let may_write = self.device_mut(key).may_write(now);
        // a gateway that moves without end is left alone for a while: each time costs all that are behind it
        if gathers && !may_write {
            self.counters.requests_ignored += 1;
            return self.displace(key);
        }
        self.arrive(key, speaker.peer(), through);
        if may_write && !self.is_overloaded() {
            self.persist_registration(key, None);
        }
    }

    /// The device is heard from another address.
    pub(super) fn move_to(&mut self, key: DeviceKey, speaker: &Speaker<'_>) {
        let through = self.goes_through(key, speaker);
        self.arrive(key, speaker.peer(), through);
    }

    fn arrive(&mut self, key: DeviceKey, peer: Peer, through: bool) {
        let shared = self.shares_with(key);
        let before = self.device(key).peer();
        if before != Some(peer) && !peer.secured {
            self.device_mut(key).proven = self.mark(peer);
        }
        if peer.secured
            && let Some(registration) = &mut self.device_mut(key).registration
        {
            registration.validation = Validation::Valid; // by its handshake
        }
        if before != Some(peer) {
            self.devices.set_through(key, through);
        }
        let displaced = self.devices.move_to(key, peer);
        self.has_left_its_address(displaced);
        self.gathers(key, peer);
        if before.is_some_and(|before| before != peer) {
            self.note_once(key, Repeated::Address, || Happened::AddressChanged {
                address: peer.address.to_string(),
            });
        }
        self.has_left_company(key, shared);
    }

    /// Somebody else is where that device was. It is sent nothing more, which would reach the wrong device, and
    /// asked again when it is heard from where it is.
    pub(super) fn has_left_its_address(&mut self, displaced: Option<DeviceKey>) {
        if let Some(other) = displaced {
            self.device_mut(other).link.send_again();
            self.tell_presence(other);
        }
    }
}
