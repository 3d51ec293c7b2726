//! The devices' sessions: datagrams and commands in, effects out, in order. Pure.
//!
//! ```text
//! handle_datagram ─▶ pulls   (a block of a package, for whoever has the token)
//!                 └▶ receive (who is it? a repeat?) ─▶ dispatch ─▶ requests (LwM2M: register, update, …)
//!                                                  │           └▶ send     (LwM2M: of its own accord)
//!                                                  ├─▶ pcp_uplink (PCP in notifications)
//!                                                  └─▶ reads      (answers of object 4)
//! handle_command  ─▶ commands                             │
//! handle_timeout  ─▶ due deadlines                        ▼
//!                                          drive: the device's session, and what it wants sent
//!                                                         │
//!                                                         ▼
//!                                                   poll_effect
//! ```
//!
//! Whoever drives the engine commits its changes in their order and holds a transmission back until
//! the change it depends on is committed.
//!
//! There may be several engines, each with devices of its own. What they have in common is asked for by effects: a slot
//! (`slots`) of the one [`Gate`](crate::session::Gate), and a device that is heard here and may be another engine's (`moves`), of whoever
//! knows which engine has which device.

mod address;
mod appointed;
mod appointments;
mod asked;
mod body;
mod command;
mod commands;
mod companies;
mod company;
mod device;
mod device_formats;
mod dispatch;
mod drive;
mod effect;
mod evidence;
mod formats;
mod id;
mod incoming;
mod key;
mod link;
mod moves;
mod objects;
mod observation;
mod pcp_downlink;
mod pcp_uplink;
mod profile;
mod pulls;
mod reads;
mod receive;
mod record;
mod registered;
mod requests;
mod respond;
mod roster;
mod send;
mod served;
mod slots;
mod speaker;
mod timers;
mod told;
mod traffic;

pub use command::Command;
pub use effect::{About, Counters, Effect, Report, Seq};
pub use id::ShardId;
pub use moves::{MovingDevice, Seek, Sought, Welcome, Whose};
pub use objects::Reached;
pub use pulls::{Fetched, Lease, PULLS, PullTerms};
pub use speaker::Speaker;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::ledger::{
    ActiveUpgrade, Announced, Binding, Change, CoverageReading, CoverageSource, DeviceId,
    DeviceIds, DeviceRecord, Lwm2mVersion, QueueMode, Registration, UpgradeOrder,
};
use crate::{
    clock::{Instant, Now, UtcMillis},
    coap::{Datagram, Message, Peer, Reassembly},
    config::Config,
    ledger::{Happened, Repeated, Stage, UpgradeId},
    upgrade::Input,
};
use device::Device;
use id::Location;
use incoming::Incoming;
use key::DeviceKey;
use profile::{Profile, Profiles};
use pulls::Leases;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use roster::Roster;
use timers::Timers;

/// What the engine is made from.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The settings.
    pub config: Arc<Config>,
    /// Makes message IDs, tokens and the spread of repeats unpredictable to peers: fresh for every engine and
    /// start, chosen in a simulation.
    pub seed: [u8; 32],
    /// What devices are called among engines: the same for all of them.
    pub ids: DeviceIds,
    /// How many engines share the work, itself included.
    pub engines: u8,
}

/// Rows in the engine's tables, to see that they stay bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tables {
    /// Devices that may register.
    pub devices: usize,
    /// Upgrades under way.
    pub sessions: usize,
    /// Addresses that belong to a device.
    pub peers: usize,
    /// Alarms that are set: one for each device at most.
    pub alarms: usize,
}

impl std::ops::Add for Tables {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            devices: self.devices + other.devices,
            sessions: self.sessions + other.sessions,
            peers: self.peers + other.peers,
            alarms: self.alarms + other.alarms,
        }
    }
}

/// The sessions of the devices of one shard.
#[derive(Debug)]
pub struct Engine {
    config: Arc<Config>,
    profiles: Profiles,
    ids: DeviceIds,
    engines: u8,
    random: ChaCha8Rng,
    started_at: Now,
    now: Now,
    /// When the datagram was heard that is handled, which may have waited for its device.
    heard_at: Instant,
    devices: Roster,
    /// Who has the upgrades that are under way.
    holders: HashMap<UpgradeId, DeviceKey>,
    reassembly: Reassembly,
    timers: Timers,
    /// What is served to devices that fetch their packages, wherever they are.
    leases: Leases,
    /// Where they fetch them.
    reached: Reached,
    /// Devices are looked for one after the other: the next one not before this, microseconds.
    next_look_us: u64,
    store_available: bool,
    /// Since when devices from before the restart are read, while they are.
    restoring: Option<Instant>,
    seq: Seq,
    /// Changes up to here are committed.
    committed: Seq,
    effects: VecDeque<Effect>,
    counters: Counters,
}

impl Engine {
    /// An engine that knows no device yet.
    pub fn new(setup: Setup, now: Now) -> Self {
        Self {
            profiles: Profiles::new(&setup.config),
            config: setup.config,
            ids: setup.ids,
            engines: setup.engines,
            random: ChaCha8Rng::from_seed(setup.seed),
            started_at: now,
            now,
            heard_at: now.instant,
            devices: Roster::default(),
            holders: HashMap::new(),
            reassembly: Reassembly::default(),
            timers: Timers::default(),
            leases: Leases::default(),
            reached: Reached::default(),
            next_look_us: 0,
            store_available: true,
            restoring: None,
            seq: 0,
            committed: 0,
            effects: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Devices fetch packages there from now on.
    pub fn reached_at(&mut self, reached: Reached) {
        self.reached = reached;
    }

    /// Other limits of cells and other settings of products hold from now on, also for the devices that wait for a slot. The other
    /// settings are to be those that the engine was made with.
    pub fn configure(&mut self, now: Now, config: Arc<Config>) {
        self.now = now;
        let of_cells = self.config.admission != config.admission;
        let of_products = self.config.products != config.products;
        if of_products {
            self.profiles.configure(&config);
        }
        self.config = config;
        let holders: Vec<DeviceKey> = self.holders.values().copied().collect();
        for key in holders {
            if of_cells
                && self.stage(key) == Some(Stage::WaitingForSlot)
                && let Some((coverage, _)) = self.device(key).coverage()
            {
                self.fire(key, Input::CoverageAnswered(Some(coverage)));
                self.settle(key);
            }
            if of_products {
                self.queue_up(key);
                self.settle(key);
            }
        }
    }

    /// Takes a datagram from a device, or from anybody.
    pub fn handle_datagram(&mut self, now: Now, speaker: &Speaker<'_>, bytes: &[u8]) {
        self.now = now;
        self.heard_at = now.instant;
        self.counters.datagrams_received += 1;
        match Message::parse(bytes) {
            Ok(message) => {
                let incoming = Incoming {
                    speaker: *speaker,
                    bytes,
                    message: &message,
                    sought: &Sought::NotYet,
                };
                if !self.pulled(&incoming) {
                    self.receive(&incoming);
                }
            }
            Err(malformed) => {
                self.counters.datagrams_malformed += 1;
                if let Some(reply) = malformed.reply {
                    self.transmit(speaker.peer(), reply, 0);
                }
            }
        }
    }

    /// The DTLS association with whoever is at that address has ended: nothing reaches it before it is heard over
    /// another one.
    pub fn association_ended(&mut self, now: Now, peer: Peer) {
        self.now = now;
        if let Some(company) = self.devices.companies.at(peer) {
            self.scatter(company);
        }
        if let Some(key) = self.devices.by_peer(peer) {
            self.note_once(key, Repeated::Association, || Happened::AssociationEnded);
            self.displace(key);
        }
    }

    /// Somebody else has that address now: who was there is sent nothing before it is heard elsewhere.
    pub fn association_displaced(&mut self, now: Now, peer: Peer) {
        self.now = now;
        if let Some(company) = self.devices.companies.at(peer) {
            self.scatter(company);
        }
        if let Some(key) = self.devices.by_peer(peer) {
            self.displace(key);
        }
    }

    /// Whoever was behind the DTLS association at `from` is where `speaker` is now, as it has shown with its key. A device that
    /// is at `from` and is none of the speaker's does not go with it.
    pub fn association_moved(&mut self, now: Now, from: Peer, speaker: &Speaker<'_>) {
        self.now = now;
        self.moves_by_association(from, speaker);
    }

    /// Takes a command from the operator's side.
    pub fn handle_command(&mut self, now: Now, command: Command) {
        self.now = now;
        self.obey(command);
    }

    /// Does what is due. Call when [`poll_timeout`](Self::poll_timeout) is reached; earlier or later does
    /// no harm.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        self.leases_timeout();
        while let Some(key) = self.timers.pop_due(now.instant) {
            self.device_mut(key).alarm = None;
            self.device_timeout(key);
        }
    }

    /// Changes up to this one are committed.
    pub fn committed(&mut self, seq: Seq) {
        self.committed = self.committed.max(seq);
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let devices = self.timers.next();
        devices.into_iter().chain(self.leases.next()).min()
    }

    /// What was counted since the start.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Devices that may register, and those of them that have an upgrade under way.
    pub fn population(&self) -> (usize, usize) {
        (self.devices.len(), self.holders.len())
    }

    /// When a device that is here was heard last, by any message. `None` when it was not since the engine began: what is
    /// known from before is the store's to tell.
    pub fn last_heard(&self, now: Now, id: DeviceId) -> Option<UtcMillis> {
        let device = self.device(self.devices.by_id(id)?);
        let at = device.heard_at.filter(|_| !device.unheard_since_start())?;
        Some(now.utc.before(now.instant.since(at)))
    }

    /// How large the engine's tables are.
    pub fn tables(&self) -> Tables {
        Tables {
            devices: self.devices.len(),
            sessions: self.holders.len(),
            peers: self.devices.peers(),
            alarms: self.timers.len(),
        }
    }

    // ---- what every part of the engine needs

    fn device(&self, key: DeviceKey) -> &Device {
        &self.devices[key]
    }

    fn device_mut(&mut self, key: DeviceKey) -> &mut Device {
        &mut self.devices[key]
    }

    /// What is set for the device's product.
    fn profile(&self, key: DeviceKey) -> Profile {
        self.profiles[self.device(key).product]
    }

    fn find(&self, endpoint: &str) -> Option<DeviceKey> {
        self.devices.by_id(self.ids.of(endpoint))
    }

    /// The device's row, which is made if there is none, with that product from now on. What was learnt of a device is
    /// forgotten, unless it is known to have had the same: it may be another device of that name.
    fn insert_device(&mut self, endpoint: &str, product: &str) -> DeviceKey {
        let id = self.ids.of(endpoint);
        let known = self.devices.by_id(id);
        let key = known.unwrap_or_else(|| {
            let message_id = (self.random.next_u32() >> 16) as u16; // 16 bits are left
            let device = Device::new(id, endpoint.into(), message_id);
            self.devices.insert(device)
        });
        let before = self.device(key).product;
        if self.profiles.name(before) != product {
            self.profiles.leave(before);
            self.device_mut(key).product = self.profiles.enter(product);
        }
        let tag = Some(Profiles::tag(product));
        let device = self.device_mut(key);
        if let Some(known) = device.known.as_mut().filter(|it| it.product != tag) {
            (known.product, known.wake_ups, known.refuses_lifetime) = (tag, None, false);
        }
        key
    }

    fn remove_device(&mut self, key: DeviceKey) -> MovingDevice {
        let shares = (self.device(key).peer()).and_then(|peer| self.devices.companies.at(peer));
        let mut device = self.devices.remove(key);
        if let Some(gateway) = shares {
            self.pass_turn(gateway);
        }
        if let Some(set) = device.alarm.take() {
            self.timers.cancel(set);
        }
        let product = self.profiles.leave(device.product);
        MovingDevice::new(device, product)
    }

    /// Emits a change that nothing waits for.
    fn persist_lazily(&mut self, change: Change) {
        self.seq += 1;
        let seq = self.seq;
        self.effects.push_back(Effect::Persist { seq, change });
    }

    /// Emits a change that has to be committed before anything more is sent to the device.
    fn persist(&mut self, key: DeviceKey, change: Change) {
        self.persist_lazily(change);
        self.device_mut(key).pending = self.seq;
    }

    /// Whether so many changes wait to be stored that what can wait is left out, and newcomers are put off: nobody's answer
    /// is to be late because of those.
    const fn is_pressed(&self) -> bool {
        const MANY: Seq = 2_000;
        self.seq - self.committed > MANY
    }

    /// Whether so many changes wait to be stored that registrations are answered 5.03: the store does not keep up, or
    /// stands still.
    const fn is_overloaded(&self) -> bool {
        const TOO_MANY: Seq = 20_000;
        self.seq - self.committed > TOO_MANY
    }

    fn transmit(&mut self, peer: Peer, datagram: impl Into<Datagram>, after: Seq) {
        self.effects.push_back(Effect::Transmit {
            peer,
            datagram: datagram.into(),
            after,
            about: None,
        });
    }

    fn report(&mut self, report: Report) {
        self.effects.push_back(Effect::Report(report));
    }

    /// Sets the device's alarm to what is due next, unless an earlier one rings anyway.
    fn set_alarm(&mut self, key: DeviceKey) {
        let deadline = self.next_deadline(key);
        let now = self.now;
        let device = &mut self.devices[key];
        let Some(due) = device.next_due(now, deadline) else {
            return;
        };
        if let Some(set) = device.alarm {
            if self.timers.at(set) <= due {
                return;
            }
            self.timers.cancel(set);
        }
        device.alarm = Some(self.timers.set(due, key));
    }
}

#[cfg(test)]
mod tests;
