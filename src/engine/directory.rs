use hashbrown::HashTable;

use super::{
    DeviceId, Seek, Sought,
    newcomers::{Admittance, Newcomers},
};
use crate::clock::Instant;

/// One of the engines that share the work, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u8);

impl ShardId {
    /// Its place among all.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Which engine has which device.
#[derive(Debug, Default)]
pub struct Directory {
    rows: HashTable<Entry>,
    newcomers: Newcomers,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: DeviceId,
    shard: ShardId,
    /// Its row was sent there, and is not there yet.
    arriving: bool,
}

/// A number that is as good as chance: nobody else can make devices' numbers.
fn hash(id: DeviceId) -> u64 {
    u64::from_be_bytes(id.bytes())
}

impl Directory {
    fn entry(&self, id: DeviceId) -> Option<&Entry> {
        self.rows.find(hash(id), |entry| entry.id == id)
    }

    /// Who has the device, or will have it before anything arrives that is sent from now on.
    pub fn find(&self, id: DeviceId) -> Option<ShardId> {
        self.entry(id).map(|entry| entry.shard)
    }

    /// Where something is to be sent that concerns a device that `here` does not have: to whoever has it, or will have it
    /// before this arrives. That may be `here` itself, where it is then behind the row. `None` when nobody has it.
    pub fn where_to(&self, here: ShardId, id: DeviceId) -> Option<ShardId> {
        let entry = self.entry(id)?;
        (entry.shard != here || entry.arriving).then_some(entry.shard)
    }

    /// Nobody has a device that was heard `here`: whether it may come nevertheless.
    pub fn welcome(&mut self, now: Instant, here: ShardId, seek: &Seek) -> Sought {
        let Some(welcome) = (seek.newcomer).filter(|_| self.find(seek.device).is_none()) else {
            return Sought::Nobody;
        };
        let from = seek.peer().address.ip();
        let devices = self.len();
        match self.newcomers.admit(now, from, devices, welcome) {
            Admittance::Admitted => {
                self.place(seek.device, here);
                Sought::Newcomer
            }
            Admittance::Full => Sought::Nobody,
            Admittance::TooFast => Sought::TooManyCome,
        }
    }

    /// The device is there from now on.
    pub fn place(&mut self, id: DeviceId, shard: ShardId) {
        self.set(Entry {
            id,
            shard,
            arriving: false,
        });
    }

    /// The device's row was sent there.
    pub fn send(&mut self, id: DeviceId, shard: ShardId) {
        self.set(Entry {
            id,
            shard,
            arriving: true,
        });
    }

    fn set(&mut self, new: Entry) {
        match (self.rows).find_mut(hash(new.id), |entry| entry.id == new.id) {
            Some(entry) => *entry = new,
            None => {
                (self.rows).insert_unique(hash(new.id), new, |entry| hash(entry.id));
            }
        }
    }

    /// Nobody has the device any more.
    pub fn remove(&mut self, id: DeviceId) {
        if let Ok(entry) = (self.rows).find_entry(hash(id), |entry| entry.id == id) {
            entry.remove();
        }
    }

    /// Devices.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no device.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::DeviceIds;

    proptest! {
        #[test]
        fn tells_who_has_a_device(steps in prop::collection::vec((0..20u8, 0..4u8), 0..200)) {
            let ids = DeviceIds::new([7; 32]);
            let mut directory = Directory::default();
            let mut expected = HashMap::new();
            for (device, shard) in steps {
                let id = ids.of(&device.to_string());
                if shard == 3 {
                    directory.remove(id);
                    expected.remove(&device);
                } else {
                    directory.place(id, ShardId(shard));
                    expected.insert(device, ShardId(shard));
                }
                let sent = ids.of("sent");
                directory.send(sent, ShardId(1));
                prop_assert_eq!(directory.where_to(ShardId(0), sent), Some(ShardId(1)));
                prop_assert_eq!(directory.where_to(ShardId(1), sent), Some(ShardId(1)));
                directory.place(sent, ShardId(1));
                prop_assert_eq!(directory.where_to(ShardId(0), sent), Some(ShardId(1)));
                prop_assert_eq!(directory.where_to(ShardId(1), sent), None);
                directory.remove(sent);
                prop_assert_eq!(directory.where_to(ShardId(0), sent), None);
                for device in 0..20 {
                    let found = directory.find(ids.of(&device.to_string()));
                    prop_assert_eq!(found, expected.get(&device).copied());
                }
                prop_assert_eq!(directory.len(), expected.len());
            }
        }
    }
}
