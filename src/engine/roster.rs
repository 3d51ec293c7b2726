use std::{
    hash::{BuildHasher, RandomState},
    ops::{Index, IndexMut},
};

use hashbrown::HashTable;
use slab::Slab;

use super::{
    device::{Device, Location, Registered},
    key::DeviceKey,
};
use crate::coap::{Peer, Token};

/// All devices, and what finds them: their names, the tokens of their observations, their registrations' locations
/// and addresses.
///
/// The indexes hold numbers of rows; what is compared stands in the rows.
#[derive(Debug, Default)]
pub(super) struct Roster {
    rows: Slab<Device>,
    by_endpoint: HashTable<DeviceKey>,
    by_token: HashTable<DeviceKey>,
    by_location: HashTable<DeviceKey>,
    /// Those that are where their registrations say: at most one to an address.
    by_peer: HashTable<DeviceKey>,
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

    pub(super) fn registrations(&self) -> usize {
        self.by_location.len()
    }

    pub(super) fn peers(&self) -> usize {
        self.by_peer.len()
    }

    pub(super) fn by_endpoint(&self, endpoint: &str) -> Option<DeviceKey> {
        let hash = self.hasher.hash_one(endpoint);
        let same = |key: &DeviceKey| *self[*key].endpoint == *endpoint;
        self.by_endpoint.find(hash, same).copied()
    }

    pub(super) fn by_token(&self, token: Token) -> Option<DeviceKey> {
        let hash = self.hasher.hash_one(token);
        let same = |key: &DeviceKey| self[*key].token == token;
        self.by_token.find(hash, same).copied()
    }

    pub(super) fn by_location(&self, location: Location) -> Option<DeviceKey> {
        let hash = self.hasher.hash_one(Some(location));
        let same = |key: &DeviceKey| self[*key].location() == Some(location);
        self.by_location.find(hash, same).copied()
    }

    /// The device that is at that address.
    pub(super) fn by_peer(&self, peer: Peer) -> Option<DeviceKey> {
        let hash = self.hasher.hash_one(Some(peer));
        let same = |key: &DeviceKey| self[*key].peer() == Some(peer);
        self.by_peer.find(hash, same).copied()
    }

    /// Adds a device. Nobody may have its name or its token.
    pub(super) fn insert(&mut self, device: Device) -> DeviceKey {
        let endpoint = self.hasher.hash_one(&*device.endpoint);
        let token = self.hasher.hash_one(device.token);
        let key = DeviceKey(u32::try_from(self.rows.insert(device)).unwrap_or(u32::MAX));
        let Self { rows, hasher, .. } = self;
        (self.by_endpoint).insert_unique(endpoint, key, |key| {
            hasher.hash_one(&*rows[key.0 as usize].endpoint)
        });
        (self.by_token).insert_unique(token, key, |key| {
            hasher.hash_one(rows[key.0 as usize].token)
        });
        key
    }

    pub(super) fn remove(&mut self, key: DeviceKey) -> Device {
        self.register(key, None);
        let device = &self[key];
        let endpoint = self.hasher.hash_one(&*device.endpoint);
        let token = self.hasher.hash_one(device.token);
        take(&mut self.by_endpoint, endpoint, key);
        take(&mut self.by_token, token, key);
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
        if let Some(location) = self[key].location() {
            let hash = self.hasher.hash_one(Some(location));
            take(&mut self.by_location, hash, key);
        }
        let claims = (registration.as_ref())
            .filter(|new| !new.displaced)
            .map(|new| new.peer);
        self[key].registration = registration.map(|new| Registered {
            displaced: true,
            ..new
        });
        if let Some(location) = self[key].location() {
            let hash = self.hasher.hash_one(Some(location));
            let Self { rows, hasher, .. } = self;
            (self.by_location).insert_unique(hash, key, |key| {
                hasher.hash_one(rows[key.0 as usize].location())
            });
        }
        self.move_to(key, claims?)
    }

    /// A registered device is at that address now. Returns who was there before: it has moved without a word, or
    /// is gone.
    pub(super) fn move_to(&mut self, key: DeviceKey, peer: Peer) -> Option<DeviceKey> {
        if self[key].peer() == Some(peer) {
            return None;
        }
        self.leave(key);
        let before = self.by_peer(peer);
        if let Some(other) = before {
            self.leave(other);
        }
        let registration = self[key].registration.as_mut()?;
        registration.peer = peer;
        registration.displaced = false;
        let hash = self.hasher.hash_one(Some(peer));
        let Self { rows, hasher, .. } = self;
        (self.by_peer).insert_unique(hash, key, |key| {
            hasher.hash_one(rows[key.0 as usize].peer())
        });
        before
    }

    /// The device is not where its registration says.
    pub(super) fn leave(&mut self, key: DeviceKey) {
        let Some(peer) = self[key].peer() else { return };
        let hash = self.hasher.hash_one(Some(peer));
        take(&mut self.by_peer, hash, key);
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
        engine::QueueMode,
    };

    #[derive(Debug, Clone)]
    enum Step {
        Register {
            device: u8,
            location: u64,
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
            4 => (device.clone(), any::<u64>(), port.clone(), prop::bool::weighted(0.2)).prop_map(
                |(device, location, port, displaced)| Step::Register {
                    device,
                    location,
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

    fn token(device: u8) -> Token {
        Token::new(&[device; 8])
    }

    fn add(roster: &mut Roster, device: u8) -> DeviceKey {
        let name = device.to_string();
        (roster.by_endpoint(&name))
            .unwrap_or_else(|| roster.insert(Device::new(name.into(), token(device), 0)))
    }

    proptest! {
        #[test]
        fn whatever_happens_everybody_is_found_by_what_identifies_them_and_nobody_else(
            steps in prop::collection::vec(step(), 1..100),
        ) {
            let mut roster = Roster::default();
            for step in steps {
                match step {
                    Step::Register { device, location, port, displaced } => {
                        let key = add(&mut roster, device);
                        let before = roster.by_peer(peer(port)).filter(|other| *other != key);
                        let lost = roster.register(key, Some(Registered {
                            location: Location::from_random(location),
                            peer: peer(port),
                            displaced,
                            lifetime_s: 1,
                            since: UtcMillis(0),
                            expires: Instant::ZERO,
                            stored_until: None,
                            supposed: false,
                            queue_mode: QueueMode::Off,
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
                        if let Some(key) = roster.by_endpoint(&device.to_string()) {
                            roster.remove(key);
                        }
                    }
                }
                let mut found = (0, 0);
                for device in 0..6 {
                    let Some(key) = roster.by_endpoint(&device.to_string()) else {
                        prop_assert_eq!(roster.by_token(token(device)), None);
                        continue;
                    };
                    prop_assert_eq!(roster.by_token(token(device)), Some(key));
                    if let Some(peer) = roster[key].peer() {
                        prop_assert_eq!(roster.by_peer(peer), Some(key));
                        found.0 += 1;
                    }
                    if let Some(location) = roster[key].location() {
                        prop_assert!(roster.by_location(location).is_some());
                        found.1 += 1;
                    }
                }
                prop_assert_eq!(found, (roster.peers(), roster.registrations()));
            }
        }
    }

    #[test]
    fn a_location_is_twelve_hexadecimal_digits_and_nothing_else() {
        let location = Location::from_random(0x0012_3456_789A_BCDE);
        assert_eq!(location.to_string(), "00123456789a");
        assert_eq!(Location::parse(b"00123456789a"), Some(location));
        for other in [
            &b""[..],
            b"00123456789",
            b"00123456789A",
            b"+0123456789a",
            b"0012345678\xff\xff",
            b"00123456789a0",
        ] {
            assert_eq!(Location::parse(other), None);
        }
    }
}
