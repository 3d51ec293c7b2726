//! A device's side: what it does with its connection.

use std::collections::VecDeque;

use sim::mqtt::{Connect, Device, Event, Link, Output, Spec};

use super::{
    super::{Occurrence, World, address},
    OnWire,
    downloads::Download,
    wire::Wire,
};
use crate::{
    package::Version,
    simulate::{
        fleet::{Gateway, MqttMember},
        hooks::Hooks,
        trace::Way,
    },
    store::UpgradeState,
};

/// The port at which the server listens; it stands in the trace.
const PORT: u16 = 1883;

/// Wires on which nothing happens any more are forgotten that often.
const FORGOTTEN_EVERY: u32 = 64;

/// What has come on a connection.
#[derive(Debug)]
enum Arrival {
    Bytes(Vec<u8>),
    End,
}

/// A device, as it is to become.
#[derive(Debug)]
pub(super) struct Its {
    /// Its number in the fleet.
    pub(super) number: u32,
    /// The version that its upgrade leads to.
    target: pcp::Version,
    /// It runs that version.
    current: bool,
}

impl Its {
    fn new(number: u32, target: pcp::Version, runs: &str) -> Self {
        Self {
            number,
            target,
            current: runs == Version::from(target).as_str(),
        }
    }
}

/// A device, a gateway, or somebody who acts as one.
#[derive(Debug)]
pub(in super::super) struct Station {
    pub(super) device: Device,
    /// The number of the device, or of that in whose name this acts.
    pub(super) number: u32,
    /// It only acts as that device.
    pub(super) acts: bool,
    pub(super) joins_at_ms: Option<u64>,
    pub(super) latency_ms: u64,
    pub(super) bytes_per_s: u64,
    /// What there is to upgrade of it: itself, or those behind it, in their order.
    pub(super) its: Vec<Its>,
    pub(super) wire: Option<u32>,
    link: Option<Link>,
    /// What a device that serves nothing has not looked at.
    unread: VecDeque<Arrival>,
    pub(super) download: Option<Download>,
    /// Bytes of the package that are there.
    pub(super) received: u64,
    /// When it is woken next, ms.
    alarm_ms: u64,
}

impl Station {
    pub(super) fn new(number: u32, member: MqttMember, target: pcp::Version) -> Self {
        let its = Its::new(number, target, &member.spec.version);
        Self {
            joins_at_ms: member.joins_at_ms,
            its: vec![its],
            ..Self::of(member.spec, number, (member.latency_ms, member.bytes_per_s))
        }
    }

    /// A gateway, and those behind it with their numbers and the versions that their upgrades lead to.
    pub(super) fn gateway(
        number: u32,
        gateway: Gateway,
        behind: Vec<(u32, Spec, pcp::Version)>,
    ) -> Self {
        let mut spec = gateway.spec;
        let its = (behind.iter())
            .map(|(number, spec, target)| Its::new(*number, *target, &spec.version))
            .collect();
        spec.behind = behind.into_iter().map(|(_, spec, _)| spec).collect();
        Self {
            its,
            ..Self::of(spec, number, (gateway.latency_ms, gateway.bytes_per_s))
        }
    }

    fn of(spec: Spec, number: u32, (latency_ms, bytes_per_s): (u64, u64)) -> Self {
        Self {
            device: Device::new(spec),
            number,
            acts: false,
            joins_at_ms: None,
            latency_ms,
            bytes_per_s,
            its: Vec::new(),
            wire: None,
            link: None,
            unread: VecDeque::new(),
            download: None,
            received: 0,
            alarm_ms: u64::MAX,
        }
    }

    fn acting(&self, device: Device) -> Self {
        Self {
            device,
            number: self.number,
            acts: true,
            joins_at_ms: None,
            latency_ms: self.latency_ms,
            bytes_per_s: self.bytes_per_s,
            its: Vec::new(),
            wire: None,
            link: None,
            unread: VecDeque::new(),
            download: None,
            received: 0,
            alarm_ms: u64::MAX,
        }
    }

    /// The other device with its client ID, if it has the fault that there is one.
    pub(super) fn twin(&self) -> Option<Self> {
        Device::twin(self.device.spec()).map(|twin| self.acting(twin))
    }

    /// Somebody who connects in its name once.
    pub(super) fn visitor(&self) -> Self {
        // nobody is behind it
        let spec = Spec {
            behind: Vec::new(),
            ..self.device.spec().clone()
        };
        self.acting(Device::double(&spec, 1))
    }
}

/// How an upgrade of a device is to end by its character.
pub(in super::super) fn expected(spec: &Spec) -> UpgradeState {
    match spec.expected() {
        sim::Expected::Succeeded => UpgradeState::Succeeded,
        sim::Expected::Failed => UpgradeState::Failed,
    }
}

/// How a device goes wrong, if it does.
pub(in super::super) fn character(spec: &Spec) -> String {
    let fault = (spec.fault).map_or_else(|| "well-behaved".to_owned(), String::from);
    if spec.style.is_iotda() {
        format!("{} {} {fault}", spec.style, spec.client)
    } else {
        format!("{} {fault}", spec.style)
    }
}

impl<H: Hooks> World<H> {
    pub(super) fn station(&mut self, station: u32) -> Option<&mut Station> {
        self.mqtt.as_mut()?.stations.get_mut(station as usize)
    }

    /// A device does what is due.
    pub(in super::super) fn station_wakes(&mut self, number: u32) {
        let now_ms = self.now_ms;
        let Some(station) = self.station(number) else {
            return;
        };
        if station.alarm_ms != now_ms {
            return; // it was woken since
        }
        station.alarm_ms = u64::MAX;
        if !station.device.is_blocked()
            && let Some(link) = &mut station.link
        {
            link.handle_timeout(now_ms);
        }
        station.device.handle_timeout(now_ms);
        self.settle_station(number);
    }

    /// Does what a device wants, and sets its alarm.
    pub(super) fn settle_station(&mut self, number: u32) {
        while self.station_goes_on(number) {}
        let now_ms = self.now_ms;
        let Some(field) = &mut self.mqtt else {
            return;
        };
        let Some(station) = field.stations.get_mut(number as usize) else {
            return;
        };
        let blocked = station.device.is_blocked();
        let link = station.link.as_ref().filter(|_| !blocked);
        let due = [
            station.device.poll_timeout(),
            link.and_then(Link::poll_timeout),
        ];
        if let Some(at) = due.into_iter().flatten().min()
            && at < station.alarm_ms
        {
            station.alarm_ms = at.max(now_ms);
            (self.queue).push(station.alarm_ms, Occurrence::Station(number));
        }
        for (its, device) in station.its.iter_mut().zip(station.device.upgradable()) {
            if !its.current && device.version() == Version::from(its.target).as_str() {
                its.current = true;
                (self.checker).switched(now_ms, its.number as usize, its.target);
            }
        }
    }

    /// Does the next thing that a device wants. Tells whether there was anything.
    fn station_goes_on(&mut self, number: u32) -> bool {
        let now_ms = self.now_ms;
        let Some(station) = self.station(number) else {
            return false;
        };
        if let Some(output) = station.device.poll_output() {
            self.carry_out(number, output);
            self.send_up(number);
            return true;
        }
        if let Some(event) = station.link.as_mut().and_then(Link::poll_event) {
            let device = &mut station.device;
            match event {
                Event::Connected => device.connected(now_ms),
                Event::Subscribed(accepted) => device.subscribed(now_ms, accepted),
                Event::Message { topic, payload } => device.message(now_ms, &topic, &payload),
                Event::Refused(code) => {
                    device.refused(now_ms, code);
                    self.leave_wire(number, true);
                }
                Event::Broken(_) => {
                    device.disconnected(now_ms);
                    self.leave_wire(number, true);
                }
            }
            return true;
        }
        if station.device.is_blocked() {
            return false;
        }
        let arrived = match station.unread.pop_front() {
            Some(Arrival::Bytes(bytes)) => {
                if let Some(link) = &mut station.link {
                    link.receive(now_ms, &bytes);
                }
                true
            }
            Some(Arrival::End) => {
                station.device.disconnected(now_ms);
                self.leave_wire(number, false);
                true
            }
            None => false,
        };
        self.send_up(number);
        arrived
    }

    fn carry_out(&mut self, number: u32, output: Output) {
        let now_ms = self.now_ms;
        let link = |world: &mut Self, what: &dyn Fn(&mut Link)| {
            if let Some(link) = world.station(number).and_then(|it| it.link.as_mut()) {
                what(link);
            }
        };
        match output {
            Output::Connect(connect) => self.opens_wire(number, &connect),
            Output::Disconnect { orderly } => {
                self.send_up(number);
                if orderly {
                    link(self, &|link| link.disconnect(now_ms));
                    self.send_up(number);
                }
                self.leave_wire(number, orderly);
            }
            Output::Subscribe { topic, qos } => {
                link(self, &|link| link.subscribe(now_ms, &topic, qos));
            }
            Output::Publish {
                topic,
                payload,
                qos,
            } => link(self, &|link| {
                link.publish(now_ms, &topic, payload.clone(), qos);
            }),
            Output::Download(request) => self.downloads(number, request),
            Output::StopDownload => self.stops_download(number),
        }
    }

    fn opens_wire(&mut self, number: u32, connect: &Connect) {
        self.leave_wire(number, false);
        let now_ms = self.now_ms;
        let Some(field) = &mut self.mqtt else {
            return;
        };
        let wire = field.next_number();
        if wire.is_multiple_of(FORGOTTEN_EVERY) {
            field.forget_wires();
        }
        field.wires.insert(wire, Wire::new(number));
        if let Some(station) = field.stations.get_mut(number as usize) {
            station.link = Some(Link::open(now_ms, connect));
            station.wire = Some(wire);
        }
        field.put(&mut self.queue, now_ms, wire, OnWire::Opens, &[]);
        self.send_up(number);
    }

    /// Sends what its MQTT has to send.
    fn send_up(&mut self, number: u32) {
        let now_ms = self.now_ms;
        let Some(field) = &mut self.mqtt else {
            return;
        };
        let Some(station) = field.stations.get_mut(number as usize) else {
            return;
        };
        let Some(wire) = station.wire else {
            return;
        };
        let Some(bytes) = station.link.as_mut().and_then(Link::take_output) else {
            return;
        };
        let peer = address(station.number, PORT);
        self.trace.datagram(now_ms, Way::Up, peer, &bytes);
        self.figures.mqtt_bytes_up += bytes.len() as u64;
        field.put(&mut self.queue, now_ms, wire, OnWire::Up, &bytes);
    }

    /// The device has no more to do with its connection. `told`: the server is told so, unless the network keeps it to itself.
    pub(super) fn leave_wire(&mut self, number: u32, told: bool) {
        let now_ms = self.now_ms;
        let Some(field) = &mut self.mqtt else {
            return;
        };
        let unnoticed = !told && field.happens(field.lines.unnoticed_percent, 100);
        let Some(station) = field.stations.get_mut(number as usize) else {
            return;
        };
        station.link = None;
        station.unread.clear();
        let Some(wire) = station.wire.take() else {
            return;
        };
        if unnoticed {
            if let Some(wire) = field.wires.get_mut(&wire) {
                wire.dead = true;
            }
        } else {
            field.put(&mut self.queue, now_ms, wire, OnWire::EndsAtServer, &[]);
        }
    }

    /// Bytes come to a device, or the end of its connection.
    pub(in super::super) fn comes_down(&mut self, wire: u32, bytes: Option<&[u8]>) {
        let now_ms = self.now_ms;
        let Some(field) = &mut self.mqtt else {
            return;
        };
        let Some(found) = field.wire_mut(wire) else {
            return;
        };
        found.under_way = (found.under_way).saturating_sub(bytes.map_or(0, <[u8]>::len));
        let number = found.station;
        let Some(station) = field.stations.get_mut(number as usize) else {
            return;
        };
        if station.wire != Some(wire) {
            // it has closed it: that is answered with a reset
            if bytes.is_some() {
                field.put(&mut self.queue, now_ms, wire, OnWire::EndsAtServer, &[]);
            }
            return;
        }
        station.unread.push_back(match bytes {
            Some(bytes) => Arrival::Bytes(bytes.to_vec()),
            None => Arrival::End,
        });
        self.settle_station(number);
    }
}
