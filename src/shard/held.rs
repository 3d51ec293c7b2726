//! What devices over MQTT are told, and what devices are granted, until the change is committed on which it depends.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    engine::Seq,
    ledger::{DeviceId, UpgradeId},
    mqtt::{endpoint::ConnId, engine::Out},
};

/// Publications to one device that are held: a question and an offer, and some that were repeated.
const MAX_PUBLICATIONS: usize = 8;

/// What waits, in the order in which it came. While the store is stuck it does not grow with how often a device connects: a
/// publication or an acknowledgement is for the connection that it was meant for.
#[derive(Debug, Default)]
pub(super) struct Held {
    outs: BTreeMap<Key, Out>,
    /// Those that have a bound of their own.
    by_owner: HashMap<Owner, Vec<Key>>,
    next: u64,
}

/// The change, and a number that rises.
type Key = (Seq, u64);

/// What shares a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Owner {
    /// Publications to a device.
    Publications(DeviceId),
    /// Whether a device's connection is kept: what was said last holds.
    Hold(DeviceId),
    /// Acknowledgements on the connections at a place of the endpoint's table, of which one only is there.
    Acks(u32),
}

fn owner(out: &Out) -> Option<Owner> {
    match out {
        Out::Publish { device, .. } => Some(Owner::Publications(*device)),
        Out::Hold { device, .. } => Some(Owner::Hold(*device)),
        Out::Acknowledge(ack) => Some(Owner::Acks(ack.conn().slot)),
        Out::Grant(_) | Out::Revoke(_) => None,
    }
}

impl Held {
    /// Holds that until the change is committed. Tells whether an earlier publication to the same device has made room for it.
    pub(super) fn hold(&mut self, after: Seq, out: Out) -> bool {
        let key = (after, self.next);
        self.next += 1;
        let mut dropped = false;
        if let Some(owner) = owner(&out) {
            match &out {
                Out::Publish { .. } => {
                    let held = self.by_owner.get(&owner).map(Vec::as_slice);
                    if let Some([first, ..]) = held.filter(|it| it.len() >= MAX_PUBLICATIONS) {
                        self.remove(*first);
                        dropped = true;
                    }
                }
                Out::Acknowledge(ack) => self.keep_acks_of(ack.conn()),
                _ => self.remove_all(owner),
            }
            self.by_owner.entry(owner).or_default().push(key);
        }
        self.outs.insert(key, out);
        dropped
    }

    /// What has waited for changes up to that one, in its order.
    pub(super) fn committed(&mut self, seq: Seq) -> Vec<Out> {
        let mut released = Vec::new();
        while let Some(entry) = self.outs.first_entry()
            && entry.key().0 <= seq
        {
            let (key, out) = entry.remove_entry();
            self.forget(key, &out);
            released.push(out);
        }
        released
    }

    /// The device has connected anew: what it was to be told before is not for this connection. Tells whether there was any.
    pub(super) fn connected(&mut self, device: DeviceId) -> bool {
        let owner = Owner::Publications(device);
        let had = self.by_owner.contains_key(&owner);
        self.remove_all(owner);
        had
    }

    /// The connection is over: nothing is acknowledged on it.
    pub(super) fn disconnected(&mut self, conn: ConnId) {
        let owner = Owner::Acks(conn.slot);
        if self.conn_of(owner) == Some(conn) {
            self.remove_all(owner);
        }
    }

    /// The upgrade is none: what its device was to be told because of it, and its grant, do not leave. Gives the connections over
    /// which something was to.
    pub(super) fn abandoned(&mut self, upgrade: UpgradeId) -> BTreeSet<DeviceId> {
        let its = self.outs.iter().filter(|(_, out)| match out {
            Out::Grant(grant) => grant.upgrade == upgrade,
            Out::Publish { upgrade: about, .. } => *about == Some(upgrade),
            _ => false,
        });
        let its: Vec<Key> = its.map(|(key, _)| *key).collect();
        let mut links = BTreeSet::new();
        for key in its {
            if let Some(Out::Publish { device, .. }) = self.remove(key) {
                links.insert(device);
            }
        }
        links
    }

    /// That leaves at once: what was said before of the same, and waits, does not leave after it.
    pub(super) fn leaves(&mut self, out: &Out) {
        if let Out::Hold { device, .. } = out {
            self.remove_all(Owner::Hold(*device));
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.outs.len()
    }

    fn conn_of(&self, owner: Owner) -> Option<ConnId> {
        let key = self.by_owner.get(&owner)?.first()?;
        match self.outs.get(key)? {
            Out::Acknowledge(ack) => Some(ack.conn()),
            _ => None,
        }
    }

    /// The place is that connection's from now on.
    fn keep_acks_of(&mut self, conn: ConnId) {
        let owner = Owner::Acks(conn.slot);
        if self.conn_of(owner).is_some_and(|held| held != conn) {
            self.remove_all(owner);
        }
    }

    fn remove(&mut self, key: Key) -> Option<Out> {
        let out = self.outs.remove(&key)?;
        self.forget(key, &out);
        Some(out)
    }

    fn remove_all(&mut self, owner: Owner) {
        for key in self.by_owner.remove(&owner).unwrap_or_default() {
            self.outs.remove(&key);
        }
    }

    fn forget(&mut self, key: Key, out: &Out) {
        if let Some(owner) = owner(out)
            && let Some(keys) = self.by_owner.get_mut(&owner)
        {
            keys.retain(|held| *held != key);
            if keys.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests;
