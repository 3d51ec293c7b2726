//! Devices that are heard through a gateway: they share its address with it and with each other.
//!
//! To whoever is at an address, all of them are one endpoint of `CoAP`: their requests have message IDs of one sequence, and
//! leave one after the other (RFC 7252 §4.4, §4.7).

use std::collections::{HashMap, VecDeque};

use super::key::DeviceKey;
use crate::{coap::Peer, ledger::DeviceId};

/// Through which gateway a device may be heard, as the operator says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Behind {
    /// The endpoint name of the gateway.
    pub(super) name: Box<str>,
    /// What that is called among engines.
    pub(super) gateway: DeviceId,
    /// It was heard through it last, and not over an association of its own.
    pub(super) through: bool,
}

/// The devices behind one gateway that were heard through it.
#[derive(Debug)]
struct Company {
    /// Where the gateway, or any of them, was heard last. `None` after its association has ended.
    peer: Option<Peer>,
    members: Vec<DeviceKey>,
    /// Those with a request to send, the first one first.
    turns: VecDeque<DeviceKey>,
    /// Whose request has left last.
    speaking: Option<DeviceKey>,
    next_message_id: u16,
}

impl Company {
    fn falls_silent(&mut self) {
        self.turns.clear();
        self.speaking = None;
    }
}

/// All of them, by their gateways. Most engines have none.
#[derive(Debug, Default)]
pub(super) struct Companies {
    of: HashMap<DeviceId, Company>,
    /// One company to an address.
    at: HashMap<Peer, DeviceId>,
}

impl Companies {
    /// The gateway of those who share that address.
    pub(super) fn at(&self, peer: Peer) -> Option<DeviceId> {
        if self.at.is_empty() {
            return None; // most often
        }
        self.at.get(&peer).copied()
    }

    /// Where they are.
    pub(super) fn peer(&self, gateway: DeviceId) -> Option<Peer> {
        self.of.get(&gateway)?.peer
    }

    /// Whether anybody was heard through that gateway.
    pub(super) fn has(&self, gateway: DeviceId) -> bool {
        self.of.contains_key(&gateway)
    }

    /// Those who were heard through the gateway.
    pub(super) fn members(&self, gateway: DeviceId) -> &[DeviceKey] {
        self.of.get(&gateway).map_or(&[], |it| &it.members)
    }

    /// A device is heard through the gateway. `message_id` is where they begin to count, if it is the first.
    pub(super) fn join(&mut self, gateway: DeviceId, key: DeviceKey, message_id: u16) {
        let company = self.of.entry(gateway).or_insert_with(|| Company {
            peer: None,
            members: Vec::new(),
            turns: VecDeque::new(),
            speaking: None,
            next_message_id: message_id,
        });
        if !company.members.contains(&key) {
            company.members.push(key);
        }
    }

    /// A device is not heard through the gateway any more. Returns how far they have counted, if it was the last one: whoever is the
    /// first again is to go on from there.
    pub(super) fn quit(&mut self, gateway: DeviceId, key: DeviceKey) -> Option<u16> {
        self.hush(gateway, key);
        let company = self.of.get_mut(&gateway)?;
        company.members.retain(|member| *member != key);
        if !company.members.is_empty() {
            return None;
        }
        if let Some(peer) = company.peer {
            self.at.remove(&peer);
        }
        (self.of.remove(&gateway)).map(|company| company.next_message_id)
    }

    /// They are there from now on, or nobody knows where. Returns whose company was at that address, which is there no more.
    pub(super) fn move_to(&mut self, gateway: DeviceId, peer: Option<Peer>) -> Option<DeviceId> {
        let company = self.of.get_mut(&gateway)?;
        if company.peer == peer {
            return None;
        }
        if let Some(before) = company.peer {
            self.at.remove(&before);
        }
        company.peer = peer;
        // whoever comes along says again that it wants to speak
        company.falls_silent();
        let other = self.at.insert(peer?, gateway)?;
        if let Some(other) = self.of.get_mut(&other) {
            other.peer = None;
            other.falls_silent();
        }
        Some(other)
    }

    /// The message ID of what is sent there next.
    pub(super) fn take_message_id(&mut self, gateway: DeviceId) -> Option<u16> {
        let company = self.of.get_mut(&gateway)?;
        let id = company.next_message_id;
        company.next_message_id = id.wrapping_add(1);
        Some(id)
    }

    /// A device at that address has a request to send.
    pub(super) fn wants_to_speak(&mut self, gateway: DeviceId, key: DeviceKey) {
        if let Some(company) = self.of.get_mut(&gateway)
            && !company.turns.contains(&key)
        {
            company.turns.push_back(key);
        }
    }

    /// Whose request has left last.
    pub(super) fn speaking(&self, gateway: DeviceId) -> Option<DeviceKey> {
        self.of.get(&gateway)?.speaking
    }

    /// Whether others have requests to send before the device.
    pub(super) fn is_behind(&self, gateway: DeviceId, key: DeviceKey) -> bool {
        let company = self.of.get(&gateway);
        let first = company.and_then(|company| company.turns.front());
        first.is_some_and(|first| *first != key)
    }

    /// Whose turn it is to speak: its request leaves now.
    pub(super) fn next_speaker(&mut self, gateway: DeviceId) -> Option<DeviceKey> {
        let company = self.of.get_mut(&gateway)?;
        company.speaking = None;
        let next = company.turns.pop_front()?;
        company.speaking = Some(next);
        Some(next)
    }

    /// A device is not at that address any more.
    pub(super) fn hush(&mut self, gateway: DeviceId, key: DeviceKey) {
        if let Some(company) = self.of.get_mut(&gateway) {
            company.turns.retain(|waiting| *waiting != key);
            company.speaking.take_if(|speaking| *speaking == key);
        }
    }
}
