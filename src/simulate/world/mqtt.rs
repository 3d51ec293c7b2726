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
mod gateways;
mod mishaps;
mod station;
mod wire;

pub(super) use endpoint::ServerSide;
pub(super) use station::{character, expected};

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rand_chacha::{ChaCha8Rng, rand_core::Rng as _};
use sim::mqtt::Spec;

use super::{EPOCH_MS, Occurrence, World};
use crate::{
    ledger::{DeviceId, DeviceIds, Protocol},
    mqtt::endpoint::{Ack, Credential, Identity, Style},
    simulate::{
        faults::Lines,
        fleet::{Gateway, Moves, MqttMember, protocol},
        hooks::Hooks,
        offered::Offered,
        offered::over_pcp,
        scenario::Scenario,
    },
};
use station::Station;
use wire::Wire;

/// When virtual time begins, seconds since 1970.
const EPOCH_S: i64 = EPOCH_MS.cast_signed() / 1_000;

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
    /// The devices with a connection, in the order of their numbers; behind them gateways, and then who acts in the name of one.
    stations: Vec<Station>,
    /// The stations at which devices are.
    places: HashMap<u32, u32>,
    /// The station of the first gateway, and what the gateways are called.
    first_gateway: u32,
    gateway_names: Vec<String>,
    /// The numbers of gateways, from 0.
    gateways: HashMap<DeviceId, usize>,
    /// The devices that messages of gateways were about for which an acknowledgement is owed.
    acks: HashMap<Ack, usize>,
    /// Devices that get another gateway.
    moves: BTreeMap<u32, Moves>,
    wires: BTreeMap<u32, Wire>,
    /// Wires and downloads so far.
    opened: u32,
}

impl Field {
    /// Of devices that are switched off, the first of which has that number.
    pub(super) fn new(
        (members, gateways): (Vec<MqttMember>, Vec<Gateway>),
        first: usize,
        scenario: &Scenario,
        ids: &DeviceIds,
        offered: &[Arc<Offered>],
    ) -> Self {
        let mut rng = scenario.rng(4);
        let mut token_key = [0; 32];
        rng.fill_bytes(&mut token_key);
        let first = u32::try_from(first).unwrap_or(u32::MAX);
        let mut field = Self {
            rng,
            lines: scenario.faults.lines(),
            token_key,
            identities: HashMap::new(),
            numbers: HashMap::new(),
            stations: Vec::with_capacity(members.len()),
            places: HashMap::new(),
            first_gateway: 0,
            gateway_names: Vec::new(),
            gateways: HashMap::new(),
            acks: HashMap::new(),
            moves: BTreeMap::new(),
            wires: BTreeMap::new(),
            opened: 0,
        };
        let next = first.saturating_add(u32::try_from(members.len()).unwrap_or(u32::MAX));
        let mut behind: Vec<Vec<(u32, MqttMember)>> = Vec::new();
        behind.resize_with(gateways.len(), Vec::new);
        for (number, mut member) in (first..).zip(members) {
            member.spec.epoch_s = EPOCH_S;
            let device = ids.of(&member.spec.device);
            field.numbers.insert(device, number);
            if let Some(place) = member.behind {
                field.moves.extend(place.moves.map(|moves| (number, moves)));
                behind[place.gateway].push((number, member));
                continue;
            }
            field.may_connect(device, &member.spec);
            let target = over_pcp(offered[member.product].last()).offer.version;
            field.places.insert(number, field.next_station());
            field.stations.push(Station::new(number, member, target));
        }
        field.add_gateways(next, gateways.into_iter().zip(behind), ids, offered);
        let doubles = field.stations.iter().filter_map(Station::twin);
        let doubles: Vec<Station> = doubles.collect();
        field.stations.extend(doubles);
        field
    }

    /// Adds gateways, the first of which has that number, each with those behind it.
    fn add_gateways(
        &mut self,
        first: u32,
        gateways: impl Iterator<Item = (Gateway, Vec<(u32, MqttMember)>)>,
        ids: &DeviceIds,
        offered: &[Arc<Offered>],
    ) {
        self.first_gateway = self.next_station();
        for (number, (mut gateway, its)) in (first..).zip(gateways) {
            gateway.spec.epoch_s = EPOCH_S;
            let device = ids.of(&gateway.spec.device);
            self.gateways.insert(device, self.gateway_names.len());
            self.gateway_names.push(gateway.spec.device.clone());
            self.may_connect(device, &gateway.spec);
            let place = self.next_station();
            let its = its.into_iter().map(|(number, member)| {
                let target = over_pcp(offered[member.product].last()).offer.version;
                (number, member.spec, target)
            });
            let its: Vec<_> = its.collect();
            self.places.extend(its.iter().map(|its| (its.0, place)));
            self.stations.push(Station::gateway(number, gateway, its));
        }
    }

    fn next_station(&self) -> u32 {
        u32::try_from(self.stations.len()).unwrap_or(u32::MAX)
    }

    /// The device may connect, as whom it is.
    fn may_connect(&mut self, device: DeviceId, spec: &Spec) {
        let secret = || Credential::Secret(spec.secret.0.as_bytes().into());
        let (user, style, credential) = match protocol(spec.style) {
            Protocol::QuecThing => (spec.device.clone(), Style::QuecThing, secret()),
            Protocol::ThingsPanel => {
                let token = Credential::Token {
                    token: spec.secret.0.as_str().into(),
                    password: None,
                };
                (spec.secret.0.clone(), Style::ThingsPanel, token)
            }
            Protocol::Iotda | Protocol::Lwm2m => (spec.device.clone(), Style::Iotda, secret()),
        };
        let identity = Identity {
            device,
            name: spec.device.as_str().into(),
            style,
            credential,
        };
        self.identities.insert(user, Arc::new(identity));
    }

    /// The number of a device in the fleet.
    pub(super) fn number(&self, device: DeviceId) -> Option<usize> {
        self.numbers.get(&device).map(|number| *number as usize)
    }

    /// Connections that are there, or about to be.
    pub(super) fn wires(&self) -> usize {
        self.wires.len()
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
        for (device, moves) in &field.moves {
            self.queue
                .push(moves.at_ms, Occurrence::ChangesPlace(*device));
            if let Some(at) = moves.told_at_ms {
                self.queue.push(at, Occurrence::GetsGateway(*device));
            }
        }
        for station in 0..stations {
            self.settle_station(station);
            self.plan_mishap(station);
        }
    }
}
