//! Gateways: who is behind which, whom a message on one's connection concerns, and devices that get another one.

use serde_json::Value;

use super::{
    super::{Occurrence, World},
    Field,
};
use crate::{
    engine::Command,
    ledger::{DeviceId, Protocol, Via},
    mqtt::{
        endpoint::{Event, Uplink},
        engine::Out,
    },
    shard::Surroundings as _,
    simulate::{
        hooks::Hooks, invariants, scenario::product_name, world::messages::Done,
        world::messages::Message,
    },
};

/// An operator who finds no server tries again after this time, ms.
const SAID_AGAIN_MS: u64 = 1_000;

/// The device that an event is about by its words, if that is one of the fleet.
fn named(payload: &[u8]) -> Option<usize> {
    let envelope: Value = serde_json::from_slice(payload).ok()?;
    invariants::device(envelope["object_device_id"].as_str()?)
}

impl Field {
    /// The number of the gateway that is called so, from 0.
    fn gateway(&self, device: DeviceId) -> Option<usize> {
        self.gateways.get(&device).copied()
    }

    /// Where a device is: the number of its station, or of its gateway's.
    fn place_of(&self, device: u32) -> Option<u32> {
        self.places.get(&device).copied()
    }

    /// The device with that number.
    pub(in super::super) fn device(&self, number: u32) -> Option<&sim::mqtt::Device> {
        let station = self.stations.get(self.place_of(number)? as usize)?;
        let its = station.its.iter().position(|its| its.number == number)?;
        station.device.upgradable().nth(its)
    }
}

impl<H: Hooks> World<H> {
    /// Whom something that leaves for a device concerns, or for a gateway.
    pub(super) fn concerned(&self, to: DeviceId, payload: &[u8]) -> Option<usize> {
        let field = self.mqtt.as_ref()?;
        match field.gateway(to) {
            Some(_) => named(payload),
            None => field.number(to),
        }
    }

    /// The same of something that happens on the connection of a device, or of a gateway. What a gateway says of a device that is not
    /// behind it concerns nobody.
    pub(super) fn concerns(&self, device: DeviceId, event: &Event) -> Vec<usize> {
        let Some(field) = self.mqtt.as_ref() else {
            return Vec::new();
        };
        let Some(gateway) = field.gateway(device) else {
            return field.number(device).into_iter().collect();
        };
        match event {
            Event::Connected { .. } => self.checker.behind(gateway),
            Event::Message {
                uplink: Uplink::Events { gzip: false },
                payload,
                ..
            } => {
                let its = |device: &usize| self.checker.gateway_of(*device) == Some(gateway);
                named(payload).filter(its).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// What is owed for a message of a gateway concerns the device that this is about.
    pub(super) fn owes(&mut self, device: usize, event: &Event) {
        if let Event::Message {
            device: from,
            ack: Some(ack),
            ..
        } = event
            && let Some(field) = &mut self.mqtt
            && field.gateway(*from).is_some()
        {
            field.acks.insert(*ack, device);
        }
    }

    /// A device is with another gateway now.
    pub(in super::super) fn changes_place(&mut self, device: u32) {
        let now_ms = self.now_ms;
        let Some(field) = &mut self.mqtt else {
            return;
        };
        let (Some(from), Some(moves)) = (field.place_of(device), field.moves.get(&device)) else {
            return;
        };
        let to = field.first_gateway + u32::try_from(moves.to).unwrap_or(u32::MAX);
        let name = field.device(device).map(|it| it.spec().device.clone());
        let Some((name, station)) = name.zip(field.stations.get_mut(from as usize)) else {
            return;
        };
        let its = station.its.iter().position(|its| its.number == device);
        let Some(moving) = (station.device.take_from_behind(now_ms, &name)).zip(its) else {
            return;
        };
        let its = station.its.remove(moving.1);
        self.settle_station(from);
        if let Some(station) = self.station(to) {
            station.its.push(its);
            station.device.put_behind(now_ms, moving.0);
        }
        if let Some(field) = &mut self.mqtt {
            field.places.insert(device, to);
        }
        self.settle_station(to);
    }

    /// The operator says that a device has another gateway.
    pub(in super::super) fn gets_gateway(&mut self, device: u32) -> Result<(), String> {
        if self.server.is_none() {
            // there is nobody to whom it could be said
            let at = self.now_ms + SAID_AGAIN_MS;
            self.queue.push(at, Occurrence::GetsGateway(device));
            return Ok(());
        }
        let found = self.mqtt.as_ref().and_then(|field| {
            let gateway = field.gateway_names.get(field.moves.get(&device)?.to)?;
            let endpoint = field.device(device)?.spec().device.clone();
            Some((gateway.clone(), endpoint))
        });
        let Some((gateway, endpoint)) = found else {
            return Ok(());
        };
        self.store.set_gateway(&endpoint, &gateway)?;
        let via = Via::Gateway(Some(gateway));
        (self.checker).is_to_be_reached(device as usize, &via);
        let product = product_name(self.checker.product_of(device as usize));
        let command = Command::AddDevice {
            endpoint,
            product,
            secure: false,
            protocol: Protocol::Iotda,
            via,
        };
        let done = Done::default();
        self.route(|directory, post| directory.obey(vec![command], &done, post));
        Ok(())
    }

    /// A shard is about to hear that: does that say who is behind which gateway?
    pub(in super::super) fn tells_gateways(&mut self, message: &Message) {
        let Message::Commands { commands, .. } = message else {
            return;
        };
        let now = self.now().utc;
        for command in commands {
            if let Command::AddDevice {
                endpoint,
                via: Via::Gateway(gateway),
                ..
            } = command
                && let Some(device) = invariants::device(endpoint)
            {
                (self.checker).is_reached(now, device, gateway.as_deref());
            }
        }
    }

    /// Whom something concerns that the shard lets out.
    pub(super) fn device_of(&mut self, out: &Out) -> Option<usize> {
        match out {
            Out::Publish {
                device, payload, ..
            } => self.concerned(*device, payload),
            Out::Hold { device, .. } => self.number_of_device(*device),
            Out::Grant(grant) => self.number_of_device(grant.device),
            Out::Acknowledge(ack) => {
                let number = self.wire_of(ack.conn())?;
                let field = self.mqtt.as_mut()?;
                let station = field.wires.get(&number)?.station as usize;
                let station = field.stations.get(station)?;
                if station.device.is_gateway() {
                    return field.acks.get(ack).copied();
                }
                Some(station.number as usize)
            }
            Out::Revoke(_) => None,
        }
    }
}
