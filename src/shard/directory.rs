//! Which shard has which device, and what follows from that for whatever is said about a device.
//!
//! Whoever sends something about a device asks here while nobody else does, and messages to a shard arrive in their order. So
//! whoever follows the directory finds the device, or a row that is on its way, behind which to look again. The directory
//! gives the messages to a [`Post`]; it never waits.

use std::sync::Arc;

use hashbrown::HashTable;

use super::{
    home_of,
    message::{Done, Errand, Message, Post},
    newcomers::{Admittance, Newcomers},
};
use crate::{
    clock::Instant,
    engine::{Command, Fetched, MovingDevice, Seek, ShardId, Sought},
    grants::Served,
    ledger::{DeviceId, DeviceIds, DeviceRecord, Protocol, PullToken},
    session::GateOrder,
};

/// Datagrams whose devices are sought at once: some milliseconds' worth.
const MOST_SOUGHT: usize = 10_000;

/// What is known at once of a device that a shard seeks.
#[derive(Debug)]
pub(super) enum Found {
    /// The shard will hear of it.
    Later,
    Now(Box<Seek>, Sought),
    /// Too many are sought. Devices repeat what goes unanswered.
    Never,
}

/// Which shard has which device.
#[derive(Debug)]
pub struct Directory {
    ids: DeviceIds,
    shards: u8,
    /// The shard of devices that speak MQTT, behind the others.
    mqtt: Option<ShardId>,
    rows: HashTable<Entry>,
    newcomers: Newcomers,
    /// Each clone stands for a datagram whose device is sought.
    errands: Arc<()>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: DeviceId,
    shard: ShardId,
    /// Its row was sent there, and is not there yet.
    arriving: bool,
}

/// A number that is as good as chance: nobody else can make devices' numbers.
const fn hash(id: DeviceId) -> u64 {
    id.number()
}

impl Directory {
    /// Of no device yet, between so many shards.
    pub fn new(ids: DeviceIds, shards: u8) -> Self {
        Self {
            ids,
            shards,
            mqtt: None,
            rows: HashTable::new(),
            newcomers: Newcomers::default(),
            errands: Arc::new(()),
        }
    }

    /// The same, and one more shard for devices that speak MQTT.
    #[must_use]
    pub fn with_mqtt(self) -> Self {
        Self {
            mqtt: Some(ShardId(self.shards)),
            ..self
        }
    }

    /// How many shards there are for devices over `CoAP`.
    pub const fn shards(&self) -> u8 {
        self.shards
    }

    /// The shard of devices that speak MQTT, where there is one.
    pub const fn mqtt(&self) -> Option<ShardId> {
        self.mqtt
    }

    /// All shards.
    fn all(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards).map(ShardId).chain(self.mqtt)
    }

    /// What devices are called among shards.
    pub const fn ids(&self) -> &DeviceIds {
        &self.ids
    }

    /// Devices.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no device.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Who has the device, or will have it before anything arrives that is sent from now on.
    pub fn find(&self, id: DeviceId) -> Option<ShardId> {
        self.entry(id).map(|entry| entry.shard)
    }

    /// The same, and for a device that nobody has the shard to which it falls.
    pub fn holder(&self, id: DeviceId) -> ShardId {
        self.find(id)
            .unwrap_or_else(|| ShardId::by_chance(id, self.shards))
    }

    /// Puts a device from before a restart where it will be heard, unless it is known already. Returns where it was put.
    pub fn settle(&mut self, device: &DeviceRecord) -> Option<ShardId> {
        let id = self.ids.of(&device.endpoint);
        if self.find(id).is_some() {
            return None;
        }
        let mqtt = self.mqtt.filter(|_| device.protocol.is_mqtt());
        let shard = mqtt.unwrap_or_else(|| home_of(id, device, self.shards));
        self.place(id, shard);
        Some(shard)
    }

    // ---- from the operator's side

    /// Sends each command to the shard that has its device; one that is about no device goes to the first.
    pub fn obey<D: Done>(&mut self, commands: Vec<Command>, done: &D, post: &mut dyn Post<D>) {
        let mut lots: Vec<Vec<Command>> = self.all().map(|_| Vec::new()).collect();
        for command in commands {
            let device = command.endpoint().map(|name| self.ids.of(name));
            let mut shard = device.map_or(ShardId(0), |device| self.holder(device));
            if let (
                Some(device),
                Command::AddDevice {
                    endpoint, protocol, ..
                },
            ) = (device, &command)
            {
                let right = self.right_shard(device, *protocol);
                if right != shard && self.find(device).is_some() {
                    // it speaks something else from now on, which nobody may say while it is upgraded
                    let endpoint = endpoint.clone();
                    lots[shard.index()].push(Command::RemoveDevice { endpoint });
                    self.place(device, right);
                }
                shard = right;
                self.entry_or_place(device, shard);
            }
            lots[shard.index()].push(command);
        }
        for (shard, commands) in self.all().zip(lots) {
            if !commands.is_empty() {
                let done = done.clone();
                post.post(shard, Message::Commands { commands, done });
            }
        }
    }

    /// Gives the shards devices from before a restart that nobody has yet, each to the one that will hear it.
    pub fn restore<D: Done>(
        &mut self,
        devices: Vec<DeviceRecord>,
        done: &D,
        post: &mut dyn Post<D>,
    ) {
        let mut lots: Vec<Vec<DeviceRecord>> = self.all().map(|_| Vec::new()).collect();
        for device in devices {
            if let Some(shard) = self.settle(&device) {
                lots[shard.index()].push(device);
            }
        }
        for (shard, lot) in self.all().zip(lots) {
            let commands = vec![Command::Restore(lot)];
            let done = done.clone();
            post.post(shard, Message::Commands { commands, done });
        }
    }

    /// Has every shard know that no device from before the restart follows.
    pub fn restored<D: Done>(&self, done: &D, post: &mut dyn Post<D>) {
        for shard in self.all() {
            let commands = vec![Command::Restored];
            let done = done.clone();
            post.post(shard, Message::Commands { commands, done });
        }
    }

    /// Tells a device's shard what the gate says.
    pub fn tell<D>(&self, device: DeviceId, order: GateOrder, post: &mut dyn Post<D>) {
        let command = Command::Gate { device, order };
        post.post(self.holder(device), Message::Obey(command));
    }

    /// Tells a device's shard what it was served over HTTP.
    pub fn served<D>(&self, served: Served, post: &mut dyn Post<D>) {
        let shard = self.holder(served.device);
        post.post(shard, Message::Served(Box::new(served)));
    }

    /// That came to `here`, which does not have the device (any more). It is sent after it, where anybody has it.
    pub(super) fn pass_served<D>(
        &self,
        here: ShardId,
        served: Box<Served>,
        post: &mut dyn Post<D>,
    ) {
        if let Some(shard) = self.where_to(here, served.device) {
            post.post(shard, Message::Served(served));
        }
    }

    /// A command came to `here`, which does not have its device (any more). It is sent after it; `None` then.
    pub(super) fn pass_on<D: Done>(
        &self,
        here: ShardId,
        device: DeviceId,
        command: Command,
        done: Option<&D>,
        post: &mut dyn Post<D>,
    ) -> Option<Command> {
        let Some(shard) = self.where_to(here, device) else {
            return Some(command);
        };
        // The device speaks something else from now on, and was removed where it was: it is not to be removed where it is.
        let is_mqtts = |shard| self.mqtt == Some(shard);
        if matches!(command, Command::RemoveDevice { .. }) && is_mqtts(here) != is_mqtts(shard) {
            return None;
        }
        let message = match done {
            Some(done) => Message::Commands {
                commands: vec![command],
                done: done.clone(),
            },
            None => Message::Obey(command),
        };
        post.post(shard, message);
        None
    }

    // ---- devices that are heard elsewhere

    /// `here` has heard a device that it does not have.
    pub(super) fn seek<D>(
        &mut self,
        now: Instant,
        here: ShardId,
        seek: Box<Seek>,
        post: &mut dyn Post<D>,
    ) -> Found {
        let Some(shard) = self.where_to(here, seek.device) else {
            let sought = self.welcome(now, here, &seek);
            return Found::Now(seek, sought);
        };
        // the directory itself has one
        if Arc::strong_count(&self.errands) > MOST_SOUGHT {
            return Found::Never;
        }
        let errand = Errand {
            seek,
            for_shard: here,
            _counted: self.errands.clone(),
        };
        post.post(shard, Message::Seek(errand));
        Found::Later
    }

    /// A device that was sought at `here` is not there (any more).
    pub(super) fn seek_on<D>(
        &mut self,
        now: Instant,
        here: ShardId,
        errand: Errand,
        post: &mut dyn Post<D>,
    ) {
        let (to, message) = match self.where_to(here, errand.seek.device) {
            // It came there meanwhile, and is found when it is looked for again.
            Some(shard) if shard == errand.for_shard => {
                (shard, Message::Sought(errand, Sought::NotYet))
            }
            Some(shard) => (shard, Message::Seek(errand)),
            // It was removed meanwhile.
            None => {
                let sought = self.welcome(now, errand.for_shard, &errand.seek);
                (errand.for_shard, Message::Sought(errand, sought))
            }
        };
        post.post(to, message);
    }

    /// Gives a device to the shard that sought it.
    pub(super) fn hand_over<D>(
        &mut self,
        row: MovingDevice,
        errand: Errand,
        post: &mut dyn Post<D>,
    ) {
        let to = errand.for_shard;
        self.set(Entry {
            id: errand.seek.device,
            shard: to,
            arriving: true,
        });
        post.post(to, Message::Arrived(row, errand));
    }

    // ---- packages that are served elsewhere

    /// Tells whoever has the device what it was served. Nobody is told where it is gone.
    pub(super) fn tell_fetched<D>(
        &self,
        here: ShardId,
        fetched: Box<Fetched>,
        post: &mut dyn Post<D>,
    ) {
        if let Some(shard) = self.where_to(here, fetched.token.device()) {
            post.post(shard, Message::Fetched(fetched));
        }
    }

    /// Has all others know that nothing is served under that token any more.
    pub(super) fn recall<D>(&self, here: ShardId, token: PullToken, post: &mut dyn Post<D>) {
        for shard in (0..self.shards).map(ShardId).filter(|it| *it != here) {
            post.post(shard, Message::Recall(token));
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

    /// Where a device that speaks that belongs: where it is, as far as that fits.
    fn right_shard(&self, id: DeviceId, protocol: Protocol) -> ShardId {
        match self.mqtt {
            Some(mqtt) if protocol.is_mqtt() => mqtt,
            mqtt => (self.find(id))
                .filter(|shard| Some(*shard) != mqtt)
                .unwrap_or_else(|| ShardId::by_chance(id, self.shards)),
        }
    }

    /// The device is no more there. Where it has gone elsewhere meanwhile, it stays there.
    pub(super) fn remove_from(&mut self, here: ShardId, id: DeviceId) {
        if self.find(id) == Some(here) {
            self.remove(id);
        }
    }

    /// Nobody has the device any more.
    pub(super) fn remove(&mut self, id: DeviceId) {
        if let Ok(entry) = (self.rows).find_entry(hash(id), |entry| entry.id == id) {
            entry.remove();
        }
    }

    /// Where something is to be sent that concerns a device that `here` does not have: to whoever has it, or will have it
    /// before this arrives. That may be `here` itself, where it is then behind the row. `None` when nobody has it.
    fn where_to(&self, here: ShardId, id: DeviceId) -> Option<ShardId> {
        let entry = self.entry(id)?;
        (entry.shard != here || entry.arriving).then_some(entry.shard)
    }

    /// Nobody has a device that was heard `here`: whether it may come nevertheless.
    fn welcome(&mut self, now: Instant, here: ShardId, seek: &Seek) -> Sought {
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

    fn entry(&self, id: DeviceId) -> Option<&Entry> {
        self.rows.find(hash(id), |entry| entry.id == id)
    }

    fn entry_or_place(&mut self, id: DeviceId, shard: ShardId) {
        if self.entry(id).is_none() {
            self.place(id, shard);
        }
    }

    fn set(&mut self, new: Entry) {
        match (self.rows).find_mut(hash(new.id), |entry| entry.id == new.id) {
            Some(entry) => *entry = new,
            None => {
                (self.rows).insert_unique(hash(new.id), new, |entry| hash(entry.id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        grants::Token,
        ledger::{TaskId, UpgradeId},
    };

    #[derive(Debug, Clone)]
    struct NobodyWaits;

    impl Done for NobodyWaits {
        fn committed(self) {}
    }

    impl Post<NobodyWaits> for Vec<(ShardId, Message<NobodyWaits>)> {
        fn post(&mut self, to: ShardId, message: Message<NobodyWaits>) {
            self.push((to, message));
        }
    }

    #[test]
    fn what_a_device_was_served_follows_it() {
        let ids = DeviceIds::new([7; 32]);
        let mut directory = Directory::new(ids.clone(), 3);
        let device = ids.of("d0");
        let served = Served {
            device,
            upgrade: UpgradeId(1),
            task: TaskId(1),
            token: Token::new(&"t".repeat(22)).unwrap(),
            contiguous_bytes: 1,
            whole: false,
            in_flight: false,
            more_bytes: 1,
            over: false,
        };
        let mut sent: Vec<(ShardId, Message<NobodyWaits>)> = Vec::new();
        directory.place(device, ShardId(2));
        directory.served(served.clone(), &mut sent);
        // it has gone on meanwhile
        directory.place(device, ShardId(1));
        directory.pass_served(ShardId(2), Box::new(served.clone()), &mut sent);
        // it was removed meanwhile
        directory.remove(device);
        directory.pass_served(ShardId(1), Box::new(served.clone()), &mut sent);
        let to: Vec<_> = (sent.iter())
            .map(|(to, message)| match message {
                Message::Served(told) if **told == served => *to,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(to, [ShardId(2), ShardId(1)]);
    }

    proptest! {
        #[test]
        fn tells_who_has_a_device(steps in prop::collection::vec((0..20u8, 0..4u8), 0..200)) {
            let ids = DeviceIds::new([7; 32]);
            let mut directory = Directory::new(ids.clone(), 3);
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
                directory.set(Entry {
                    id: sent,
                    shard: ShardId(1),
                    arriving: true,
                });
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

    /// It was moved to other devices of its kind, or speaks something else from now on.
    #[test]
    fn the_removal_of_a_device_is_passed_on_among_shards_of_what_it_speaks_alone() {
        let ids = DeviceIds::new([7; 32]);
        let mut directory = Directory::new(ids.clone(), 2).with_mqtt();
        let id = ids.of("a");
        let remove = || Command::RemoveDevice {
            endpoint: "a".into(),
        };
        for (here, there, passed) in [(0, 1, true), (0, 2, false), (2, 0, false)] {
            directory.place(id, ShardId(there));
            let mut posted = Vec::new();
            let done = Some(&NobodyWaits);
            let kept = directory.pass_on(ShardId(here), id, remove(), done, &mut posted);
            assert!(kept.is_none());
            assert_eq!(posted.len(), usize::from(passed), "{here} to {there}");
        }
    }

    #[test]
    fn devices_go_where_what_they_speak_is_spoken() {
        let ids = DeviceIds::new([7; 32]);
        let mut directory = Directory::new(ids.clone(), 2).with_mqtt();
        let id = ids.of("a");
        let add = |protocol| Command::AddDevice {
            endpoint: "a".into(),
            product: "p".into(),
            secure: false,
            protocol,
            via: crate::ledger::Via::Itself,
        };
        let mut said = Vec::new();
        for protocol in [
            Protocol::Lwm2m,
            Protocol::Iotda,
            Protocol::ThingsPanel,
            Protocol::Lwm2m,
        ] {
            let mut posted = Vec::new();
            directory.obey(vec![add(protocol)], &NobodyWaits, &mut posted);
            for (to, message) in posted {
                let Message::Commands { commands, .. } = message else {
                    panic!("unexpected {message:?}");
                };
                for command in commands {
                    let adds = matches!(command, Command::AddDevice { .. });
                    if !adds {
                        // it comes later than what follows from it elsewhere
                        directory.remove_from(to, id);
                    }
                    said.push((to == ShardId(2), adds));
                }
            }
            assert_eq!(
                directory.find(id) == Some(ShardId(2)),
                protocol.is_mqtt(),
                "{protocol:?}"
            );
        }
        let (coap, mqtt) = (false, true);
        assert_eq!(
            said,
            [
                (coap, true),
                (coap, false),
                (mqtt, true),
                (mqtt, true),
                (coap, true),
                (mqtt, false),
            ]
        );
    }

    #[test]
    fn commands_go_to_who_has_the_device_and_a_new_device_is_placed() {
        let ids = DeviceIds::new([7; 32]);
        let mut directory = Directory::new(ids.clone(), 3);
        directory.place(ids.of("a"), ShardId(2));
        let add = |endpoint: &str| Command::AddDevice {
            endpoint: endpoint.into(),
            product: "p".into(),
            secure: false,
            protocol: crate::ledger::Protocol::Lwm2m,
            via: crate::ledger::Via::Itself,
        };
        let mut posted = Vec::new();
        directory.obey(vec![add("a"), add("b")], &NobodyWaits, &mut posted);
        let b = directory.find(ids.of("b")).unwrap();
        assert_eq!(b, ShardId::by_chance(ids.of("b"), 3));
        let lots: HashMap<ShardId, usize> = posted
            .iter()
            .map(|(to, message)| match message {
                Message::Commands { commands, .. } => (*to, commands.len()),
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        let expected = if b == ShardId(2) {
            HashMap::from([(b, 2)])
        } else {
            HashMap::from([(ShardId(2), 1), (b, 1)])
        };
        assert_eq!(lots, expected);
    }
}
