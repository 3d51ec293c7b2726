//! The devices' sessions: datagrams and commands in, effects out, in order. Pure.
//!
//! ```text
//! handle_datagram ─▶ receive (who is it? a repeat?) ─▶ requests (LwM2M: register, update, …)
//!                                                  ├─▶ uplink   (PCP in notifications)
//!                                                  └─▶ reads    (answers of object 4)
//! handle_command  ─▶ commands                             │
//! handle_timeout  ─▶ due deadlines                        ▼
//!                                          session: the state machine, and what it wants sent
//!                                                         │
//!                                          slots: admission of whoever waits in the cell
//!                                                         ▼
//!                                                   poll_effect
//! ```
//!
//! Whoever drives the engine commits its changes in their order and holds a transmission back until
//! the change it depends on is committed.

mod account;
mod asked;
mod change;
mod command;
mod commands;
mod device;
mod effect;
mod key;
mod link;
mod notes;
mod reads;
mod receive;
mod requests;
mod session;
mod slots;
mod speaker;
mod timers;
mod uplink;

pub use change::{
    ActiveUpgrade, Change, CoverageReading, DeviceRecord, QueueMode, Registration, StageChange,
    UpgradeOrder,
};
pub use command::Command;
pub use effect::{Counters, Effect, Report, Seq};
pub use speaker::Speaker;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use sha2::{Digest, Sha256};
use slab::Slab;

use crate::{
    clock::{Instant, Now},
    coap::{Message, Peer, Reassembly, Token},
    config::Config,
    upgrade::{Admission, Rules},
};
use device::Device;
use key::DeviceKey;
use timers::{Alarm, Timers};

/// Bytes in the token of an observation, as many as a token may have. Those of other requests are shorter.
const OBSERVATION_TOKEN_LEN: usize = 8;

/// What the engine is made from.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The settings.
    pub config: Arc<Config>,
    /// Makes message IDs, tokens, locations and the spread of repeats unpredictable to peers: fresh for
    /// every start, chosen in a simulation.
    pub seed: [u8; 32],
    /// Makes a device's observation token the same for ever and known to nobody else: kept in the store.
    pub token_key: [u8; 32],
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
    /// Registrations.
    pub locations: usize,
    /// Cells in which anybody upgrades or waits.
    pub cells: usize,
    /// Alarms that are set: one for each device and paced cell at most.
    pub alarms: usize,
}

/// The sessions of all devices of one shard.
#[derive(Debug)]
pub struct Engine {
    config: Arc<Config>,
    token_key: [u8; 32],
    random: ChaCha8Rng,
    now: Now,
    devices: Slab<Device>,
    by_endpoint: HashMap<Box<str>, DeviceKey>,
    by_peer: HashMap<Peer, DeviceKey>,
    by_location: HashMap<Box<str>, DeviceKey>,
    by_token: HashMap<Token, DeviceKey>,
    reassembly: Reassembly,
    admission: Admission<DeviceKey>,
    /// Cells in which something changed since they were polled.
    touched_cells: Vec<u32>,
    timers: Timers,
    /// The alarm that is set for each cell whose admissions are paced.
    cell_alarms: HashMap<u32, Instant>,
    /// Devices are looked for one after the other: the next one not before this, microseconds.
    next_look_us: u64,
    sessions: usize,
    admitting: bool,
    store_available: bool,
    seq: Seq,
    effects: VecDeque<Effect>,
    counters: Counters,
}

impl Engine {
    /// An engine that knows no device yet.
    pub fn new(setup: Setup, now: Now) -> Self {
        Self {
            admission: Admission::new(&setup.config.admission),
            config: setup.config,
            token_key: setup.token_key,
            random: ChaCha8Rng::from_seed(setup.seed),
            now,
            devices: Slab::new(),
            by_endpoint: HashMap::new(),
            by_peer: HashMap::new(),
            by_location: HashMap::new(),
            by_token: HashMap::new(),
            reassembly: Reassembly::default(),
            touched_cells: Vec::new(),
            timers: Timers::default(),
            cell_alarms: HashMap::new(),
            next_look_us: 0,
            sessions: 0,
            admitting: true,
            store_available: true,
            seq: 0,
            effects: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes a datagram from a device, or from anybody.
    pub fn handle_datagram(&mut self, now: Now, speaker: &Speaker<'_>, bytes: &[u8]) {
        self.now = now;
        self.counters.datagrams_received += 1;
        match Message::parse(bytes) {
            Ok(message) => self.receive(speaker, bytes, &message),
            Err(malformed) => {
                self.counters.datagrams_malformed += 1;
                if let Some(reply) = malformed.reply {
                    self.transmit(speaker.peer(), reply.to_vec(), 0);
                }
            }
        }
        self.poll_touched_cells();
    }

    /// Takes a command from the operator's side.
    pub fn handle_command(&mut self, now: Now, command: Command) {
        self.now = now;
        self.obey(command);
        self.poll_touched_cells();
    }

    /// Does what is due. Call when [`poll_timeout`](Self::poll_timeout) is reached; earlier or later does
    /// no harm.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        while let Some((at, alarm)) = self.timers.pop_due(now.instant) {
            match alarm {
                Alarm::Cell(cell) => {
                    if self.cell_alarms.get(&cell) == Some(&at) {
                        self.cell_alarms.remove(&cell);
                        self.touched_cells.push(cell);
                    }
                }
                Alarm::Device(key) => {
                    let Some(device) = self.devices.get_mut(key.0 as usize) else {
                        continue;
                    };
                    if device.alarm == Some(at) {
                        device.alarm = None;
                        self.device_timeout(key);
                    }
                }
            }
        }
        self.poll_touched_cells();
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// What was counted since the start.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Devices that may register, and those of them that have an upgrade under way.
    pub fn population(&self) -> (usize, usize) {
        (self.devices.len(), self.sessions)
    }

    /// How large the engine's tables are.
    pub fn tables(&self) -> Tables {
        Tables {
            devices: self.devices.len(),
            sessions: self.sessions,
            peers: self.by_peer.len(),
            locations: self.by_location.len(),
            cells: self.admission.cell_count(),
            alarms: self.timers.len(),
        }
    }

    /// Slots of a cell that are taken.
    pub fn slots_taken(&self, cell: u32) -> u32 {
        self.admission.active(cell)
    }

    // ---- what every part of the engine needs

    fn device(&self, key: DeviceKey) -> &Device {
        // A key is only ever held while its device is: removal takes it out of every index.
        &self.devices[key.0 as usize]
    }

    fn device_mut(&mut self, key: DeviceKey) -> &mut Device {
        &mut self.devices[key.0 as usize]
    }

    fn find(&self, endpoint: &str) -> Option<DeviceKey> {
        self.by_endpoint.get(endpoint).copied()
    }

    fn insert_device(&mut self, endpoint: &str) -> DeviceKey {
        if let Some(known) = self.find(endpoint) {
            return known;
        }
        let endpoint: Box<str> = endpoint.into();
        let token = self.observation_token(&endpoint);
        let message_id = (self.random.next_u32() >> 16) as u16; // 16 bits are left
        let index = self
            .devices
            .insert(Device::new(endpoint.clone(), token, message_id));
        let key = DeviceKey(u32::try_from(index).unwrap_or(u32::MAX));
        self.by_endpoint.insert(endpoint, key);
        self.by_token.insert(token, key);
        key
    }

    fn remove_device(&mut self, key: DeviceKey) {
        self.unbind(key);
        let device = self.devices.remove(key.0 as usize);
        self.by_endpoint.remove(&device.endpoint);
        self.by_token.remove(&device.token);
        if let Some(at) = device.alarm {
            self.timers.cancel(at, Alarm::Device(key));
        }
    }

    /// Bytes that only this server can make for this endpoint (RFC 7252 §5.3.1 wants tokens hard to
    /// guess). Because they never change, notifications of an observation from before a restart or a
    /// new registration still tell whose they are.
    fn observation_token(&self, endpoint: &str) -> Token {
        let mut hash = Sha256::new();
        hash.update(self.token_key);
        hash.update(endpoint.as_bytes());
        Token::new(&hash.finalize()[..OBSERVATION_TOKEN_LEN])
    }

    fn rules(config: &Config, target: pcp::Version) -> Rules<'_> {
        Rules {
            target,
            upgrade: &config.upgrade,
            admission: &config.admission,
        }
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

    fn transmit(&mut self, peer: Peer, datagram: Vec<u8>, after: Seq) {
        self.effects.push_back(Effect::Transmit {
            peer,
            datagram,
            after,
        });
    }

    fn report(&mut self, report: Report) {
        self.effects.push_back(Effect::Report(report));
    }

    /// Sets the device's alarm to what is due next, unless an earlier one rings anyway.
    fn set_alarm(&mut self, key: DeviceKey) {
        let device = &mut self.devices[key.0 as usize];
        let Some(due) = device.next_due() else {
            return;
        };
        if device.alarm.is_none_or(|set| due < set) {
            let replaced = device.alarm.replace(due);
            self.timers.set(due, Alarm::Device(key), replaced);
        }
    }
}

#[cfg(test)]
mod tests;
