use hashbrown::HashTable;

use super::{DeviceId, Seek, Sought};

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
    rows: HashTable<(DeviceId, ShardId)>,
}

/// A number that is as good as chance: nobody else can make devices' numbers.
fn hash(id: DeviceId) -> u64 {
    u64::from_be_bytes(id.bytes())
}

impl Directory {
    /// Who has the device.
    pub fn find(&self, id: DeviceId) -> Option<ShardId> {
        let row = self.rows.find(hash(id), |(other, _)| *other == id);
        row.map(|(_, shard)| *shard)
    }

    /// Who has a device that `here` does not have.
    pub fn elsewhere(&self, here: ShardId, id: DeviceId) -> Option<ShardId> {
        self.find(id).filter(|shard| *shard != here)
    }

    /// Nobody else has a device that was heard `here`: whether it may come nevertheless.
    pub fn welcome(&mut self, here: ShardId, seek: &Seek) -> Sought {
        let most = seek.newcomer.filter(|_| self.find(seek.device).is_none());
        if most.is_some_and(|most| self.len() < most) {
            self.place(seek.device, here);
            return Sought::Newcomer;
        }
        Sought::Nobody
    }

    /// The device is there from now on.
    pub fn place(&mut self, id: DeviceId, shard: ShardId) {
        let same = |(other, _): &(DeviceId, ShardId)| *other == id;
        match self.rows.find_mut(hash(id), same) {
            Some(row) => row.1 = shard,
            None => {
                (self.rows).insert_unique(hash(id), (id, shard), |(id, _)| hash(*id));
            }
        }
    }

    /// Nobody has the device any more.
    pub fn remove(&mut self, id: DeviceId) {
        if let Ok(row) = (self.rows).find_entry(hash(id), |(other, _)| *other == id) {
            row.remove();
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
                for device in 0..20 {
                    let found = directory.find(ids.of(&device.to_string()));
                    prop_assert_eq!(found, expected.get(&device).copied());
                }
                prop_assert_eq!(directory.len(), expected.len());
            }
        }
    }
}
