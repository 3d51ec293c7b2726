//! Devices that speak MQTT and download over HTTP.
//!
//! ```text
//! devices ──▶ wires ──▶ endpoint ──▶ news ──▶ engine ──▶ changes ──▶ committer
//!    ▲  ▲       │          ▲                    │  ▲
//!    │  │       └── wires ─┘◀──── what it says ──┘  └── what was served
//!    │  └── pieces of a package ◀── grants ◀── grants of downloads
//! ```
//!
//! The endpoint, the engine in its shard, and the grants are those of the server. What the runtime does with sockets, this does with
//! wires: bytes arrive in order and a little later, until the wire breaks. That may be noticed at both ends, or at one, or at none.

mod downloads;
mod endpoint;
mod mishaps;
mod station;
mod wire;

pub(super) use endpoint::ServerSide;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rand_chacha::{ChaCha8Rng, rand_core::Rng as _};

use super::{EPOCH_MS, Occurrence, World};
use crate::{
    ledger::{DeviceId, DeviceIds},
    mqtt::endpoint::{Credential, Identity, Style},
    simulate::{
        faults::Lines, fleet::MqttMember, hooks::Hooks, offered::Offered, offered::over_pcp,
        scenario::Scenario,
    },
};
use station::Station;
use wire::Wire;

/// Where packages are fetched. Nobody looks it up.
const BASE_URL: &str = "http://packages.simulated";

/// What happens on a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnWire {
    /// The server is reached.
    Opens,
    /// Bytes come to the server.
    Up,
    /// Bytes come to the device.
    Down,
    /// The server sees that it is over.
    EndsAtServer,
    /// The device does.
    EndsAtDevice,
}

/// What is due between the parts of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    /// The shard hears what has happened at the endpoint.
    News,
    /// The endpoint hears what the shard wants.
    Outs,
    /// The shard hears what was served.
    Served,
    /// The listener for downloads misses the peer of the connection with this number.
    Missed(u32),
}

/// The devices, and what lies between them and the server.
pub(super) struct Field {
    rng: ChaCha8Rng,
    lines: Lines,
    /// Makes the tokens of downloads; as long as the store.
    pub(super) token_key: [u8; 32],
    /// By their user names.
    identities: HashMap<String, Arc<Identity>>,
    /// The numbers of devices in the fleet.
    numbers: HashMap<DeviceId, u32>,
    /// The devices, in the order of their numbers; behind them who acts in the name of one.
    stations: Vec<Station>,
    /// The number of the first device.
    first: u32,
    wires: BTreeMap<u32, Wire>,
    /// Wires and downloads so far.
    opened: u32,
}

impl Field {
    /// Of devices that are switched off, the first of which has that number.
    pub(super) fn new(
        members: Vec<MqttMember>,
        first: usize,
        scenario: &Scenario,
        ids: &DeviceIds,
        offered: &[Arc<Offered>],
    ) -> Self {
        let mut rng = scenario.rng(4);
        let mut token_key = [0; 32];
        rng.fill_bytes(&mut token_key);
        let mut field = Self {
            rng,
            lines: scenario.faults.lines(),
            token_key,
            identities: HashMap::new(),
            numbers: HashMap::new(),
            stations: Vec::with_capacity(members.len()),
            first: u32::try_from(first).unwrap_or(u32::MAX),
            wires: BTreeMap::new(),
            opened: 0,
        };
        for (number, mut member) in (field.first..).zip(members) {
            member.spec.epoch_s = i64::try_from(EPOCH_MS / 1_000).unwrap_or(0);
            let spec = &member.spec;
            let device = ids.of(&spec.device);
            let (user, style, credential) = if spec.style.is_iotda() {
                let secret = Credential::Secret(spec.secret.0.as_bytes().into());
                (spec.device.clone(), Style::Iotda, secret)
            } else {
                let token = Credential::Token {
                    token: spec.secret.0.as_str().into(),
                    password: None,
                };
                (spec.secret.0.clone(), Style::ThingsPanel, token)
            };
            let identity = Identity {
                device,
                name: spec.device.as_str().into(),
                style,
                credential,
            };
            field.identities.insert(user, Arc::new(identity));
            field.numbers.insert(device, number);
            let target = over_pcp(offered[member.product].last()).offer.version;
            let station = Station::new(number, member, target);
            field.stations.push(station);
        }
        let doubles = field.stations.iter().filter_map(Station::twin);
        let doubles: Vec<Station> = doubles.collect();
        field.stations.extend(doubles);
        field
    }

    /// The number of a device in the fleet.
    pub(super) fn number(&self, device: DeviceId) -> Option<usize> {
        self.numbers.get(&device).map(|number| *number as usize)
    }

    /// Connections that are there, or about to be.
    pub(super) fn wires(&self) -> usize {
        self.wires.len()
    }

    /// The device with that number.
    pub(super) fn device(&self, number: u32) -> Option<&Station> {
        let row = number.checked_sub(self.first)?;
        let station = self.stations.get(row as usize)?;
        (station.number == number && !station.acts).then_some(station)
    }

    fn next_number(&mut self) -> u32 {
        self.opened += 1;
        self.opened
    }

    /// A time of up to so many ms.
    fn up_to(&mut self, ms: u64) -> u64 {
        let product = u128::from(self.rng.next_u64()) * (u128::from(ms) + 1);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// Whether something comes true that does so in so many of `of` cases.
    fn happens(&mut self, in_cases: u64, of: u64) -> bool {
        in_cases > 0 && self.rng.next_u64() % of < in_cases
    }
}

impl<H: Hooks> World<H> {
    /// Switches the devices that speak MQTT on.
    pub(super) fn populate_mqtt(&mut self) {
        let Some(field) = &mut self.mqtt else {
            return;
        };
        let stations = u32::try_from(field.stations.len()).unwrap_or(u32::MAX);
        for station in &mut field.stations {
            station.device.start(0);
            if let Some(at) = station.joins_at_ms.filter(|_| !station.acts) {
                self.queue.push(at, Occurrence::Joins(station.number));
            }
        }
        for station in 0..stations {
            self.settle_station(station);
            self.plan_mishap(station);
        }
    }
}
