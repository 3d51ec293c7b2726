//! Devices behind gateways: a gateway's association speaks for its own device, and for those of which the operator says that they
//! are reached through it. They are sent to at the gateway's address, and follow it.

use super::{
    Engine, Incoming, Location, Speaker,
    companies::Behind,
    device::Device,
    key::DeviceKey,
    link::Try,
    moves::{By, Seek},
    registered::Excuse,
};
use crate::{
    coap::{Code, Message, Peer},
    ledger::{DeviceId, Happened, Repeated, Via},
};

impl Device {
    /// Through which gateway it may be heard.
    pub(super) fn gateway(&self) -> Option<&str> {
        self.behind().map(|behind| &*behind.name)
    }

    /// The gateway through which it was heard last, where that was not over an association of its own.
    pub(super) fn through(&self) -> Option<DeviceId> {
        let behind = self.behind()?;
        behind.through.then_some(behind.gateway)
    }

    fn behind(&self) -> Option<&Behind> {
        self.known.as_ref()?.behind.as_deref()
    }
}

impl Engine {
    /// The operator says through which gateway the device is reached. Over another one it is not heard any more: what was
    /// registered there has ended.
    pub(super) fn reach_through(&mut self, key: DeviceKey, via: &Via) {
        let name = via.gateway();
        if self.device(key).gateway() == name {
            return;
        }
        let before = self.device(key).through();
        if before.is_some() && self.device(key).registration.is_some() {
            let gateway = name.map(str::to_owned);
            self.note(key, Happened::GatewayChanged { gateway }.into());
            self.deregister(key);
            self.device_mut(key).excuse = Some(Excuse::Refused);
        }
        self.devices.set_through(key, false);
        let behind = name.map(|name| {
            Box::new(Behind {
                name: name.into(),
                gateway: self.ids.of(name),
                through: false,
            })
        });
        let device = self.device_mut(key);
        if behind.is_some() || device.known.is_some() {
            device.known.get_or_insert_default().behind = behind;
        }
        if let Some(before) = before {
            self.pass_turn(before);
        }
    }

    /// Whether `speaker` speaks for the device because it is its gateway.
    pub(super) fn goes_through(&self, key: DeviceKey, speaker: &Speaker<'_>) -> bool {
        let behind = self.device(key).behind();
        behind.is_some_and(|behind| speaker.has_shown(&behind.name))
    }

    /// Whether the device may not register through its gateway with its objects there, which is answered. Requests to all of them
    /// go to one address: without a path of its own (LwM2M 1.0 §5.3.1, 1.1 §6.2.1) what is meant for one would be done to another, or to
    /// the gateway.
    pub(super) fn refuses_path(
        &mut self,
        incoming: &Incoming<'_>,
        key: DeviceKey,
        root: Option<&str>,
    ) -> bool {
        let Some(text) = self.path_fault(key, &incoming.speaker, root) else {
            return false;
        };
        self.counters.registrations_refused += 1;
        self.refuse(incoming, (Code::BAD_REQUEST, text));
        true
    }

    /// Why the device may not be reached through its gateway, who speaks for it, with its objects there.
    pub(super) fn path_fault(
        &self,
        key: DeviceKey,
        speaker: &Speaker<'_>,
        root: Option<&str>,
    ) -> Option<&'static str> {
        if !self.goes_through(key, speaker) {
            return None;
        }
        if root.is_none() {
            return Some(
                "a device behind a gateway needs a path of its own: </path>;rt=\"oma.lwm2m\"",
            );
        }
        let behind = self.device(key).behind();
        let members = behind.map_or(&[][..], |it| self.devices.companies.members(it.gateway));
        let gateway = self.devices.by_peer(speaker.peer());
        let mut others = members.iter().copied().chain(gateway);
        let taken = others.any(|other| other != key && self.device(other).root_path() == root);
        taken.then_some("the path is another device's")
    }

    /// The registered device in whose name a request comes, and which is at its sender's address: one behind a gateway, by
    /// the name or the location in the request; otherwise the one whose address it is.
    pub(super) fn here(&self, incoming: &Incoming<'_>) -> Option<DeviceKey> {
        let peer = incoming.peer();
        let company = self.devices.companies.at(peer);
        let named = company.and_then(|_| self.named(incoming.message));
        let behind = named.filter(|key| {
            let device = self.device(*key);
            device.through() == company && device.peer() == Some(peer)
        });
        behind.or_else(|| self.devices.by_peer(peer))
    }

    /// The device that a request of the registration interface names.
    fn named(&self, message: &Message) -> Option<DeviceKey> {
        match (message.code(), message.path().as_slice()) {
            (Code::POST, [b"rd"]) => {
                let mut queries = message.queries();
                let name = queries.find_map(|query| query.strip_prefix(b"ep="))?;
                self.find(std::str::from_utf8(name).ok()?)
            }
            (_, [b"rd", location]) => self.devices.by_id(Location::parse(location)?.device),
            _ => None,
        }
    }

    /// The device at that address that waits for such an answer: they have one sequence of message IDs, and tokens of chance.
    pub(super) fn awaited_by(&self, peer: Peer, message: &Message) -> Option<DeviceKey> {
        let company = self.devices.companies.at(peer)?;
        let own = self.devices.by_peer(peer);
        let members = self.devices.companies.members(company);
        let mut all = members.iter().copied().chain(own);
        all.find(|key| {
            let device = self.device(*key);
            device.peer() == Some(peer) && device.link.awaits(message)
        })
    }

    /// Whoever is at that address now is not the gateway of those who were.
    pub(super) fn check_company(&mut self, speaker: &Speaker<'_>) {
        let Some(company) = self.devices.companies.at(speaker.peer()) else {
            return;
        };
        let mut shown = speaker.endpoints().iter();
        if !shown.any(|name| self.ids.of(name) == company) {
            self.scatter(company);
        }
    }

    /// Those behind the gateway are not reached: its association has ended, or its address is another's.
    pub(super) fn scatter(&mut self, gateway: DeviceId) {
        self.devices.companies.move_to(gateway, None);
        for key in self.devices.companies.members(gateway).to_vec() {
            if self.device(key).peer().is_some() {
                self.note_once(key, Repeated::Association, || Happened::AssociationEnded);
                self.displace(key);
            }
        }
    }

    /// The device was heard at that address. Where it is a gateway, or behind one, all that are behind that are there.
    pub(super) fn gathers(&mut self, key: DeviceKey, peer: Peer) {
        let device = self.device(key);
        let gateway = device.through().unwrap_or(device.id);
        let companies = &mut self.devices.companies;
        if !peer.secured || !companies.has(gateway) || companies.peer(gateway) == Some(peer) {
            return;
        }
        if let Some(other) = companies.move_to(gateway, Some(peer)) {
            self.scatter(other);
        }
        for member in self.devices.companies.members(gateway).to_vec() {
            if member != key && self.device(member).peer() != Some(peer) {
                self.devices.move_to(member, peer);
                self.device_mut(member).link.send_again();
                self.settle(member);
            }
        }
    }

    /// Queries for those behind a gateway that goes elsewhere: they are to follow it there.
    pub(super) fn followers(&self, gateway: DeviceId, seek: &Seek) -> Vec<Seek> {
        if !seek.peer().secured {
            return Vec::new();
        }
        let members = self.devices.companies.members(gateway).iter();
        members
            .map(|key| seek.after(self.device(*key).id))
            .collect()
    }

    /// A device behind a gateway has come after that, without having been heard.
    pub(super) fn follow(&mut self, key: DeviceKey, seek: &Seek) {
        let speaker = seek.speaker();
        if seek.by == By::Gateway
            && self.device(key).registration.is_some()
            && self.goes_through(key, &speaker)
        {
            self.move_to(key, &speaker);
            self.settle(key);
        }
    }

    // ---- whose turn it is to speak

    /// The gateway with which the device shares its address, itself perhaps.
    pub(super) fn shares_with(&self, key: DeviceKey) -> Option<DeviceId> {
        self.devices.companies.at(self.device(key).peer()?)
    }

    /// The device's next request leaves, or waits for its turn where others have requests at the same address.
    pub(super) fn flush_in_turn(&mut self, key: DeviceKey) {
        match self.shares_with(key) {
            None => self.send_next(key),
            Some(gateway) => {
                if self.device(key).link.next_waiting().is_some() {
                    self.devices.companies.wants_to_speak(gateway, key);
                }
                self.pass_turn(gateway);
            }
        }
    }

    /// Whose request at the gateway's address is not answered, and was not repeated.
    fn speaks_at(&self, gateway: DeviceId) -> Option<DeviceKey> {
        let companies = &self.devices.companies;
        // the gateway's own may have left before it was known that others are there
        let own = companies.peer(gateway);
        let own = own.and_then(|peer| self.devices.by_peer(peer));
        let mut both = companies.speaking(gateway).into_iter().chain(own);
        both.find(|key| self.device(*key).link.is_fresh())
    }

    /// Whether another one's request at the device's address leaves first, or is not answered yet.
    pub(super) fn waits_for_its_turn(&self, key: DeviceKey) -> bool {
        self.shares_with(key).is_some_and(|gateway| {
            self.speaks_at(gateway).is_some_and(|other| other != key)
                || self.devices.companies.is_behind(gateway, key)
        })
    }

    /// The request of one at the device's address is answered, or was repeated: another one's may leave.
    pub(super) fn pass_turn_of(&mut self, key: DeviceKey) {
        if let Some(gateway) = self.shares_with(key) {
            self.pass_turn(gateway);
        }
    }

    /// The device has shared its address with that gateway, if with any. If it does so no more, whose turn is next does not wait
    /// for it.
    pub(super) fn has_left_company(&mut self, key: DeviceKey, before: Option<DeviceId>) {
        if let Some(gateway) = before.filter(|before| self.shares_with(key) != Some(*before)) {
            self.pass_turn(gateway);
        }
    }

    /// Lets the next requests leave: one at a time, as far as it was not repeated. One for a device that its gateway does not
    /// reach is repeated for minutes, and the others are not to wait for it.
    pub(super) fn pass_turn(&mut self, gateway: DeviceId) {
        loop {
            if self.speaks_at(gateway).is_some() {
                return;
            }
            let Some(next) = self.devices.companies.next_speaker(gateway) else {
                return;
            };
            if self.may_be_sent_to(next) {
                self.send_next(next);
                self.set_alarm(next);
            }
        }
    }

    /// The device's next request leaves.
    fn send_next(&mut self, key: DeviceKey) {
        if let Some((peer, datagram)) = self.poll_request(key) {
            self.leave(key, peer, datagram, Try::First);
        }
    }

    /// The message ID of the next message to the device.
    pub(super) fn take_message_id(&mut self, key: DeviceKey) -> u16 {
        self.devices.take_message_id(key)
    }
}
