use std::{
    hash::{BuildHasher, RandomState},
    ops::{Index, IndexMut},
};

use hashbrown::HashTable;
use slab::Slab;

use super::{
    DeviceId, companies::Companies, device::Device, key::DeviceKey, registered::Registered,
};
use crate::coap::Peer;

/// The devices of an engine, and what finds them: what they are called among engines, and their addresses.
///
/// The indexes hold numbers of rows; what is compared stands in the rows.
#[derive(Debug, Default)]
pub(super) struct Roster {
    rows: Slab<Device>,
    by_id: HashTable<DeviceKey>,
    /// Those that are where their registrations say: at most one to an address.
    by_peer: HashTable<DeviceKey>,
    /// Those behind gateways that are where these are.
    pub(super) companies: Companies,
    hasher: RandomState,
}

impl Index<DeviceKey> for Roster {
    type Output = Device;

    fn index(&self, key: DeviceKey) -> &Device {
        // A key is only ever held while its device is: removal takes it out of every index.
        &self.rows[key.0 as usize]
    }
}

impl IndexMut<DeviceKey> for Roster {
    fn index_mut(&mut self, key: DeviceKey) -> &mut Device {
        &mut self.rows[key.0 as usize]
    }
}

impl Roster {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn peers(&self) -> usize {
        self.by_peer.len()
    }

    pub(super) fn by_id(&self, id: DeviceId) -> Option<DeviceKey> {
        let hash = self.hasher.hash_one(id);
        let same = |key: &DeviceKey| self[*key].id == id;
        self.by_id.find(hash, same).copied()
    }

    /// The device that is at that address.
    pub(super) fn by_peer(&self, peer: Peer) -> Option<DeviceKey> {
        let hash = self.hasher.hash_one(Some(peer));
        let same = |key: &DeviceKey| self[*key].peer() == Some(peer);
        self.by_peer.find(hash, same).copied()
    }

    /// Adds a device that is not there.
    pub(super) fn insert(&mut self, device: Device) -> DeviceKey {
        let hash = self.hasher.hash_one(device.id);
        let key = DeviceKey(u32::try_from(self.rows.insert(device)).unwrap_or(u32::MAX));
        let Self { rows, hasher, .. } = self;
        (self.by_id).insert_unique(hash, key, |key| hasher.hash_one(rows[key.0 as usize].id));
        key
    }

    /// Takes a device out. If it is registered, it is where nobody knows.
    pub(super) fn remove(&mut self, key: DeviceKey) -> Device {
        self.set_through(key, false);
        self.leave(key);
        let hash = self.hasher.hash_one(self[key].id);
        take(&mut self.by_id, hash, key);
        self.rows.remove(key.0 as usize)
    }

    /// Gives the device another registration, or none. One that is not displaced takes its address from whoever
    /// has it, who is returned.
    pub(super) fn register(
        &mut self,
        key: DeviceKey,
        registration: Option<Registered>,
    ) -> Option<DeviceKey> {
        self.leave(key);
        if registration.is_none() {
            self.set_through(key, false);
        }
        let claims = (registration.as_ref())
            .filter(|new| !new.displaced)
            .map(|new| new.peer);
        self[key].registration = registration.map(|new| Registered {
            displaced: true,
            ..new
        });
        self.move_to(key, claims?)
    }

    /// A registered device is at that address now. Returns who was there before: it has moved without a word, or
    /// is gone.
    pub(super) fn move_to(&mut self, key: DeviceKey, peer: Peer) -> Option<DeviceKey> {
        if self[key].peer() == Some(peer) {
            return None;
        }
        self.leave(key);
        let through = self[key].through();
        // whoever is behind a gateway is where that is
        let before = (self.by_peer(peer)).filter(|_| through.is_none());
        if let Some(other) = before {
            self.leave(other);
        }
        let first_id = self[key].next_message_id;
        let registration = self[key].registration.as_mut()?;
        registration.peer = peer;
        registration.displaced = false;
        if let Some(gateway) = through {
            self.companies.join(gateway, key, first_id);
            return None;
        }
        let hash = self.hasher.hash_one(Some(peer));
        let Self { rows, hasher, .. } = self;
        (self.by_peer).insert_unique(hash, key, |key| {
            hasher.hash_one(rows[key.0 as usize].peer())
        });
        before
    }

    /// The device is heard through its gateway from now on, or is not. Where that is news, nobody knows where it is.
    pub(super) fn set_through(&mut self, key: DeviceKey, through: bool) {
        let before = self[key].through();
        if before.is_some() == through {
            return;
        }
        self.leave(key);
        if let Some(gateway) = before
            && let Some(message_id) = self.companies.quit(gateway, key)
        {
            self[key].next_message_id = message_id;
        }
        let known = self[key].known.as_mut();
        if let Some(behind) = known.and_then(|known| known.behind.as_mut()) {
            behind.through = through;
        }
    }

    /// The message ID of what is sent to the device next. Those at one address count together.
    pub(super) fn take_message_id(&mut self, key: DeviceKey) -> u16 {
        let device = &self[key];
        let shared = device.peer().and_then(|peer| self.companies.at(peer));
        let company = device.through().or(shared);
        company
            .and_then(|company| self.companies.take_message_id(company))
            .unwrap_or_else(|| self[key].take_message_id())
    }

    /// The message ID of what is sent to an address next that those behind a gateway share.
    pub(super) fn message_id_at(&mut self, peer: Peer) -> Option<u16> {
        let company = self.companies.at(peer)?;
        self.companies.take_message_id(company)
    }

    /// The device is not where its registration says.
    pub(super) fn leave(&mut self, key: DeviceKey) {
        let Some(peer) = self[key].peer() else { return };
        let through = self[key].through();
        if let Some(company) = through.or_else(|| self.companies.at(peer)) {
            self.companies.hush(company, key);
        }
        if through.is_none() {
            let hash = self.hasher.hash_one(Some(peer));
            take(&mut self.by_peer, hash, key);
        }
        if let Some(registration) = self[key].registration.as_mut() {
            registration.displaced = true;
        }
    }
}

fn take(table: &mut HashTable<DeviceKey>, hash: u64, key: DeviceKey) {
    if let Ok(entry) = table.find_entry(hash, |other| *other == key) {
        entry.remove();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        clock::{Instant, UtcMillis},
        engine::{DeviceIds, registered::Validation, told::ObjectSet},
        ledger::{Binding, QueueMode},
    };

    #[derive(Debug, Clone)]
    enum Step {
        Register {
            device: u8,
            port: u16,
            displaced: bool,
        },
        Deregister(u8),
        Move(u8, u16),
        Leave(u8),
        Remove(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let (device, port) = (0..6u8, 0..4u16);
        prop_oneof![
            4 => (device.clone(), port.clone(), prop::bool::weighted(0.2)).prop_map(
                |(device, port, displaced)| Step::Register {
                    device,
                    port,
                    displaced
                }
            ),
            1 => device.clone().prop_map(Step::Deregister),
            3 => (device.clone(), port).prop_map(|(device, port)| Step::Move(device, port)),
            1 => device.clone().prop_map(Step::Leave),
            1 => device.prop_map(Step::Remove),
        ]
    }

    fn peer(port: u16) -> Peer {
        SocketAddr::from(([10, 0, 0, 1], port)).into()
    }

    fn id(device: u8) -> DeviceId {
        DeviceIds::new([7; 32]).of(&device.to_string())
    }

    fn add(roster: &mut Roster, device: u8) -> DeviceKey {
        let new = || Device::new(id(device), device.to_string().into(), 0);
        (roster.by_id(id(device))).unwrap_or_else(|| roster.insert(new()))
    }

    proptest! {
        #[test]
        fn whatever_happens_everybody_is_found_by_what_identifies_them_and_nobody_else(
            steps in prop::collection::vec(step(), 1..100),
        ) {
            let mut roster = Roster::default();
            for step in steps {
                match step {
                    Step::Register { device, port, displaced } => {
                        let key = add(&mut roster, device);
                        let before = roster.by_peer(peer(port)).filter(|other| *other != key);
                        let lost = roster.register(key, Some(Registered {
                            validation: Validation::Valid,
                            nonce: [0; 3],
                            peer: peer(port),
                            message_id: None,
                            displaced,
                            lifetime_s: 1,
                            since: UtcMillis(0),
                            expires: Instant::ZERO,
                            stored_until: None,
                            supposed: false,
                            queue_mode: QueueMode::Off,
                            lwm2m_version: None,
                            binding: Binding::default(),
                            objects: ObjectSet::default(),
                        }));
                        prop_assert_eq!(lost, before.filter(|_| !displaced));
                    }
                    Step::Deregister(device) => {
                        let key = add(&mut roster, device);
                        prop_assert_eq!(roster.register(key, None), None);
                    }
                    Step::Move(device, port) => {
                        let key = add(&mut roster, device);
                        if roster[key].registration.is_some() {
                            roster.move_to(key, peer(port));
                            prop_assert_eq!(roster.by_peer(peer(port)), Some(key));
                        }
                    }
                    Step::Leave(device) => {
                        let key = add(&mut roster, device);
                        roster.leave(key);
                        prop_assert_eq!(roster[key].peer(), None);
                    }
                    Step::Remove(device) => {
                        if let Some(key) = roster.by_id(id(device)) {
                            roster.remove(key);
                        }
                    }
                }
                let mut found = 0;
                for device in 0..6 {
                    let Some(key) = roster.by_id(id(device)) else {
                        continue;
                    };
                    prop_assert_eq!(&*roster[key].endpoint, &device.to_string());
                    if let Some(peer) = roster[key].peer() {
                        prop_assert_eq!(roster.by_peer(peer), Some(key));
                        found += 1;
                    }
                }
                prop_assert_eq!(found, roster.peers());
            }
        }
    }
}
