//! The sessions of devices that speak MQTT: what they say and commands in, effects out, in order. Pure.
//!
//! ```text
//! handle_event   ─▶ heard (who is connected; what it says, read by iotda, thingspanel or quecthing)
//! served         ─▶ fate (what it was served of its package)        │
//! handle_command ─▶ obey                                            ▼
//! handle_timeout ─▶ due deadlines ──────────────▶ drive: the device's session, and what it wants said
//!                                                    │
//!                                                    ▼
//!                                                 poll_effect
//! ```
//!
//! The sessions, the changes and the commands are those of devices over `CoAP` (`engine`). What leaves a device's session
//! names the change that it depends on, and is held until that is committed: publications, acknowledgements, grants of
//! downloads. Nothing of MQTT outlives a connection, so that a session says what it wants said once its device has connected:
//! it is asked for its version after each connection, and what it was not seen to take up is offered again.

mod behind;
mod children;
mod device;
mod drive;
mod early;
mod fate;
mod gateways;
mod heard;
mod late;
mod obey;
mod quecthing;
mod remind;
mod say;
mod slots;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use bytes::Bytes;

use super::endpoint::{Ack, ConnId, Downlink, Qos, Release, Version};
use crate::{
    clock::{Instant, Now, UtcMillis},
    config::Config,
    engine::{Counters, Report, Seq, Tables},
    grants::{Grant, Links, Token},
    ledger::{Change, DeviceId, DeviceIds, UpgradeId},
    session::GateAsk,
};
use behind::Children;
use device::Device;
use early::Early;
use late::Late;
use remind::Reminders;

/// What the engine is made from.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The settings.
    pub config: Arc<Config>,
    /// What devices are called: the same for all engines.
    pub ids: DeviceIds,
    /// Makes tokens that nobody else can make: kept as long as upgrades are, so that a token stays what it was.
    pub token_key: [u8; 32],
}

/// What the engine wants done. Effects come out in order.
#[derive(Debug)]
pub enum Effect {
    /// Remember this.
    Persist {
        /// The change's number.
        seq: Seq,
        /// What to remember.
        change: Change,
    },
    /// Let this out, not before that change is committed.
    Out {
        /// What.
        out: Out,
        /// The change.
        after: Seq,
    },
    /// Something an operator wants to see in the log.
    Report(Report),
    /// Tell the gate.
    Ask(GateAsk),
    /// The device is no more.
    Left(DeviceId),
}

/// What leaves the server on a device's behalf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    /// Publish to a device. What it does not get, it is told again after its next connection.
    Publish {
        /// To whom.
        device: DeviceId,
        /// Where.
        downlink: Downlink,
        /// What.
        payload: Bytes,
        /// How.
        qos: Qos,
        /// The upgrade that it is about.
        upgrade: Option<UpgradeId>,
    },
    /// Acknowledge what a device has published.
    Acknowledge(Ack),
    /// Let a device download.
    Grant(Box<Grant>),
    /// Let nobody download with that token any more.
    Revoke(Token),
    /// Keep a device's connection although it says nothing, or do no more.
    Hold {
        /// Whose.
        device: DeviceId,
        /// Whether.
        on: bool,
    },
}

/// How it is known that a device is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// It has connected.
    Connected,
    /// It was heard, over a broker that tells nothing of connections: it may have been connected for long.
    Heard,
    /// It is not known: what it is sent may reach it.
    Guessed,
}

/// How a device is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Since when.
    pub since: UtcMillis,
    /// From which address.
    pub peer: SocketAddr,
    /// Which version of MQTT it speaks.
    pub version: Version,
    /// Its client ID; empty where it has none, never one that holds its token.
    pub client_id: Box<str>,
}

impl Connected {
    /// The version of MQTT that it speaks: `3.1.1` or `5`.
    pub const fn version_name(&self) -> &'static str {
        match self.version {
            Version::V311 => "3.1.1",
            Version::V5 => "5",
        }
    }
}

/// What a connection to our own server tells.
#[derive(Debug)]
struct Told {
    peer: SocketAddr,
    version: Version,
    client_id: Box<str>,
}

/// A device's connection.
#[derive(Debug)]
struct Connection {
    conn: ConnId,
    since: Instant,
    /// How that is known.
    basis: Basis,
    /// `None` over somebody else's broker, which tells nothing of connections.
    told: Option<Told>,
    /// It has subscribed to where it is written to (`ThingsPanel`).
    subscribed: bool,
    /// It has unsubscribed from it: it is sent nothing before it has subscribed again.
    deaf: bool,
    /// Which edition of `ThingsPanel` it is, as far as its topics tell.
    release: Option<Release>,
    /// For whom it is kept although it says nothing: the device, or devices behind it.
    held_for: BTreeSet<DeviceId>,
}

/// The sessions of the devices that speak MQTT.
#[derive(Debug)]
pub struct Engine {
    config: Arc<Config>,
    ids: DeviceIds,
    token_key: [u8; 32],
    /// Where packages are fetched; `None` where none is served over HTTP.
    links: Option<Links>,
    now: Now,
    devices: HashMap<DeviceId, Device>,
    /// Who is connected, also of devices that are not read yet after a start.
    connections: HashMap<DeviceId, Connection>,
    /// Who is behind which gateway.
    gateways: HashMap<DeviceId, Children>,
    /// What devices have said that are not read yet after a start.
    early: Early,
    /// Who has the upgrades that are under way.
    holders: HashMap<UpgradeId, DeviceId>,
    /// When a device has something to do: one entry for a device at most.
    alarms: BTreeSet<(Instant, DeviceId)>,
    /// When a device with an upgrade that says nothing is asked next, where it is connected to somebody else's broker.
    reminders: Reminders,
    /// What devices have fetched after their upgrades.
    late: Late,
    /// Devices are asked one after the other: the next one not before this, microseconds.
    next_look_us: u64,
    seq: Seq,
    committed: Seq,
    /// Tells messages to devices from each other.
    messages: u64,
    /// The number of the newest notification of a gateway's children.
    topology_version: u64,
    effects: VecDeque<Effect>,
    counters: Counters,
}

impl Engine {
    /// An engine that knows no device yet.
    pub fn new(setup: Setup, now: Now) -> Self {
        Self {
            config: setup.config,
            ids: setup.ids,
            token_key: setup.token_key,
            links: None,
            now,
            devices: HashMap::new(),
            connections: HashMap::new(),
            gateways: HashMap::new(),
            early: Early::default(),
            holders: HashMap::new(),
            alarms: BTreeSet::new(),
            reminders: Reminders::default(),
            late: Late::default(),
            next_look_us: 0,
            seq: 0,
            committed: 0,
            messages: 0,
            topology_version: 0,
            effects: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Packages are fetched there. Call before anything is restored.
    pub fn serve_at(&mut self, links: Links) {
        self.links = Some(links);
    }

    /// Other settings apply from now on.
    pub fn configure(&mut self, now: Now, config: Arc<Config>) {
        self.now = now;
        self.config = config;
    }

    /// Does what is due. Call when [`poll_timeout`](Self::poll_timeout) is reached; earlier or later does no harm.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        while let Some((at, id)) = self.alarms.first().copied() {
            if at > now.instant {
                break;
            }
            self.alarms.pop_first();
            if let Some(device) = self.devices.get_mut(&id) {
                device.alarm = None;
            }
            self.device_timeout(id);
        }
        self.remind();
        self.write_late();
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let alarm = self.alarms.first().map(|(at, _)| *at);
        let due = [alarm, self.reminders.next(), self.late.next()];
        due.into_iter().flatten().min()
    }

    /// Changes up to this one are committed.
    pub fn committed(&mut self, seq: Seq) {
        self.committed = self.committed.max(seq);
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What was counted since the start.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Devices that may connect, and those of them that have an upgrade under way.
    pub fn population(&self) -> (usize, usize) {
        (self.devices.len(), self.holders.len())
    }

    /// How large the engine's tables are.
    pub fn tables(&self) -> Tables {
        Tables {
            devices: self.devices.len(),
            sessions: self.holders.len(),
            peers: self.connections.len() + self.early.len(),
            alarms: self.alarms.len(),
        }
    }

    /// Whether the device is here.
    pub fn has(&self, id: DeviceId) -> bool {
        self.devices.contains_key(&id)
    }

    /// Whether the device is connected, or its gateway for it.
    pub fn is_connected(&self, id: DeviceId) -> bool {
        self.connection(id).is_some()
    }

    /// How the device is connected; `None` where it is not, or nobody tells.
    pub fn connected(&self, now: Now, id: DeviceId) -> Option<Connected> {
        let connection = self.connections.get(&id)?;
        let told = connection.told.as_ref()?;
        Some(Connected {
            since: now.utc.before(now.instant.since(connection.since)),
            peer: told.peer,
            version: told.version,
            client_id: told.client_id.clone(),
        })
    }

    /// When the device was heard last, by any message. `None` when it was not since the engine began.
    pub fn last_heard(&self, now: Now, id: DeviceId) -> Option<UtcMillis> {
        let at = self.devices.get(&id)?.heard_at?;
        Some(now.utc.before(now.instant.since(at)))
    }

    // ---- what every part of the engine needs

    /// Emits a change that nothing waits for.
    fn persist_lazily(&mut self, change: Change) {
        self.seq += 1;
        let seq = self.seq;
        self.effects.push_back(Effect::Persist { seq, change });
    }

    /// Emits a change that has to be committed before anything more leaves for the device.
    fn persist(&mut self, id: DeviceId, change: Change) {
        self.persist_lazily(change);
        let seq = self.seq;
        if let Some(device) = self.devices.get_mut(&id) {
            device.pending = seq;
        }
    }

    /// Keeps the device's connection although it says nothing, or does no more.
    fn hold(&mut self, id: DeviceId, on: bool) {
        let Some(link) = self.link(id) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(&link) else {
            return;
        };
        let before = !connection.held_for.is_empty();
        if on {
            connection.held_for.insert(id);
        } else {
            connection.held_for.remove(&id);
        }
        let on = !connection.held_for.is_empty();
        if on != before {
            self.let_out(id, Out::Hold { device: link, on });
        }
    }

    /// Lets something out on the device's behalf, once all is committed that it depends on.
    fn let_out(&mut self, id: DeviceId, out: Out) {
        let after = self.devices.get(&id).map_or(0, |device| device.pending);
        self.effects.push_back(Effect::Out { out, after });
    }

    /// Whether so many changes wait to be stored that what can be told again is left out.
    const fn is_pressed(&self) -> bool {
        const MANY: Seq = 2_000;
        self.seq - self.committed > MANY
    }

    /// Sets the device's alarm to what is due next.
    fn set_alarm(&mut self, id: DeviceId) {
        let now = self.now;
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        let due = device.next_due(now);
        if due == device.alarm {
            return;
        }
        if let Some(set) = device.alarm.take() {
            self.alarms.remove(&(set, id));
        }
        if let Some(due) = due {
            device.alarm = Some(due);
            self.alarms.insert((due, id));
        }
    }
}
