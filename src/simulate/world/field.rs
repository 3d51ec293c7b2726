//! The devices' side: what they do, what the network does to them.

use std::{sync::Arc, time::Duration};

use rand_chacha::rand_core::Rng;
use sim::{
    Device, Port,
    radio::{Direction, Radio},
};

use super::{Occurrence, World, address};
use crate::{
    coap::Peer,
    shard::home,
    simulate::{
        fleet::Member, hooks::Hooks, kept::Kept, offered::Offered, scenario::Scenario, trace::Way,
    },
    store::UpgradeState,
};

/// Ports of the devices' addresses begin here; a new address is the next port.
const FIRST_PORT: u16 = 10_000;

const LAST_PORT: u16 = FIRST_DOWNLOAD_PORT - 1;
/// Ports of the sockets that devices open to download begin here.
const FIRST_DOWNLOAD_PORT: u16 = 40_000;

/// A socket that a device has opened to download.
#[derive(Debug, Clone, Copy)]
struct Download {
    number: Port,
    port: u16,
}

/// A device with its radio.
#[derive(Debug)]
pub(super) struct Unit {
    device: Device,
    radio: Radio,
    port: u16,
    download: Option<Download>,
    /// The version that its upgrade leads to; none where it is skipped.
    target: Option<pcp::Version>,
    /// The version that it runs.
    runs: pcp::Version,
    /// Its hardware, as the operator has given it.
    hardware: Option<String>,
    kept: Kept,
}

impl<H: Hooks> World<H> {
    /// Switches all devices on.
    pub(super) fn populate(
        &mut self,
        members: Vec<Member>,
        scenario: &Scenario,
        offered: &[Arc<Offered>],
    ) {
        let mut rng = scenario.rng(3);
        let place_seed = rng.next_u64();
        for (device, member) in (0..).zip(members) {
            let offered = &offered[member.product];
            let cell = u64::from(member.spec.coverage.cell_id.unwrap_or(0));
            let cell_seed = place_seed ^ cell.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            if let Some(at) = member.joins_at_ms {
                self.queue.push(at, Occurrence::Joins(device));
            }
            let way = offered.way(member.spec.version, member.hardware.as_deref());
            self.units.push(Unit {
                target: way.target(),
                runs: member.spec.version,
                hardware: member.hardware,
                radio: Radio::new(member.class, member.paging, cell_seed, rng.next_u64()),
                device: Device::new(member.spec),
                port: FIRST_PORT,
                download: None,
                kept: Kept::default(),
            });
            self.units[device as usize].device.start(0);
            self.settle_unit(device);
            if let Some(mean) = self.mishaps.power_loss {
                let at = self.until_next(mean);
                self.queue.push(at, Occurrence::PowerLoss(device));
            }
            if let Some(mean) = self.mishaps.new_address {
                let at = self.until_next(mean);
                self.queue.push(at, Occurrence::NewAddress(device));
            }
        }
    }

    pub(super) fn wake(&mut self, device: u32) {
        let alarm_ms = &mut self.alarms[device as usize];
        if *alarm_ms != self.now_ms {
            return; // it was woken since
        }
        *alarm_ms = u64::MAX;
        self.units[device as usize]
            .device
            .handle_timeout(self.now_ms);
        self.settle_unit(device);
    }

    /// A datagram reaches the server, if there is one.
    pub(super) fn arrive_up(&mut self, device: u32, port: u16, bytes: &[u8]) {
        let now = self.now();
        if self.server.is_none() || !self.hooks.hears(bytes) {
            return;
        }
        self.checker.hears(self.now_ms, device as usize, bytes);
        let from = address(device, port);
        let shard = home(from, self.shards);
        let counts = self.with_core(shard, |core, _| {
            let before = *core.counters();
            core.hear(now, &Peer::from(from).into(), bytes);
            (before, *core.counters())
        });
        let Some((before, after)) = counts else {
            return;
        };
        if after.segments_served > before.segments_served {
            self.checker.served(now.utc, device as usize);
        }
        let ignored = after.requests_ignored > before.requests_ignored;
        self.drain();
        if ignored {
            self.checker.ignored(device as usize);
        }
    }

    /// A datagram reaches a device, if that still has this address.
    pub(super) fn arrive_down(&mut self, device: u32, port: u16, bytes: &[u8]) {
        let unit = &mut self.units[device as usize];
        let Some(through) = unit.socket_at(port) else {
            return;
        };
        self.checker.reaches(self.now_ms, device as usize, bytes);
        if is_ping(bytes) && unit.device.is_listening() {
            unit.kept.awake_ms += self.now_ms - unit.kept.contact_ms;
        }
        unit.kept.contact_ms = self.now_ms;
        (unit.device).handle_datagram_at(self.now_ms, through, bytes);
        self.settle_unit(device);
    }

    pub(super) fn power_loss(&mut self, device: u32) {
        let off_ms = self.between(Duration::from_secs(2), Duration::from_mins(2));
        let unit = &mut self.units[device as usize];
        unit.device.lose_power(self.now_ms, off_ms);
        self.settle_unit(device);
        if let Some(mean) = self.mishaps.power_loss
            && self.checker.open() > 0
        {
            let at = self.now_ms + self.until_next(mean);
            self.queue.push(at, Occurrence::PowerLoss(device));
        }
    }

    pub(super) fn new_address(&mut self, device: u32) {
        let unit = &mut self.units[device as usize];
        unit.port = next_port(unit.port);
        if let Some(download) = &mut unit.download {
            download.port = next_download_port(download.port);
        }
        if let Some(mean) = self.mishaps.new_address
            && self.checker.open() > 0
        {
            let at = self.now_ms + self.until_next(mean);
            self.queue.push(at, Occurrence::NewAddress(device));
        }
    }

    /// Sends what a device has to send, and sets its alarm.
    fn settle_unit(&mut self, device: u32) {
        let unit = &mut self.units[device as usize];
        if unit.device.take_address_change() {
            unit.port = next_port(unit.port);
        }
        let runs = unit.device.version();
        let target = unit.target.filter(|target| *target == runs);
        while let Some((through, bytes)) = unit.device.poll_transmit_from() {
            let port = unit.port_of(through);
            unit.kept.contact_ms = self.now_ms;
            if let Some(target) = target {
                (self.checker).says(device as usize, target, &bytes);
            }
            self.figures.datagrams_up += 1;
            self.figures.bytes_up += bytes.len() as u64;
            let peer = address(device, port);
            self.trace.datagram(self.now_ms, Way::Up, peer, &bytes);
            (self.hooks).passes(self.now_ms, device, Way::Up, &bytes);
            let [first, again] = (unit.radio).carry(self.now_ms, Direction::Up, &self.conditions);
            let cell = unit.device.spec().coverage.cell_id;
            let Some(late_ms) = self.air.late_ms(self.now_ms, cell, bytes.len()) else {
                continue;
            };
            let [first, again] = [first, again].map(|at| at.map(|at| at + late_ms));
            if let Some(at) = again {
                (self.queue).push_datagram(at, Occurrence::Up(device, port), &bytes);
            }
            if let Some(at) = first {
                (self.queue).push_datagram(at, Occurrence::Up(device, port), &bytes);
            }
        }
        let alarm_ms = &mut self.alarms[device as usize];
        if let Some(at) = unit.device.poll_timeout().filter(|at| *at < *alarm_ms) {
            *alarm_ms = at.max(self.now_ms);
            self.queue.push(*alarm_ms, Occurrence::Wake(device));
        }
        if unit.runs != runs {
            unit.runs = runs;
            self.checker.switched(self.now_ms, device as usize, runs);
        }
    }

    /// Sends a datagram to a device.
    pub(super) fn send_down(&mut self, device: u32, port: u16, bytes: &[u8]) {
        self.figures.datagrams_down += 1;
        self.figures.bytes_down += bytes.len() as u64;
        let peer = address(device, port);
        self.trace.datagram(self.now_ms, Way::Down, peer, bytes);
        (self.hooks).passes(self.now_ms, device, Way::Down, bytes);
        let Some(unit) = self.units.get_mut(device as usize) else {
            return;
        };
        unit.kept.pings += u32::from(is_ping(bytes));
        let [first, again] = (unit.radio).carry(self.now_ms, Direction::Down, &self.conditions);
        let cell = unit.device.spec().coverage.cell_id;
        let Some(late_ms) = self.air.late_ms(self.now_ms, cell, bytes.len()) else {
            return;
        };
        let [first, again] = [first, again].map(|at| at.map(|at| at + late_ms));
        if let Some(at) = again {
            (self.queue).push_datagram(at, Occurrence::Down(device, port), bytes);
        }
        if let Some(at) = first {
            (self.queue).push_datagram(at, Occurrence::Down(device, port), bytes);
        }
    }
}

impl Unit {
    /// The port of the address that a socket has. A new socket has a new one, which those before it have no more.
    fn port_of(&mut self, through: Port) -> u16 {
        if through == Port::Main {
            return self.port;
        }
        match self.download {
            Some(download) if download.number == through => download.port,
            before => {
                let port = before.map_or(FIRST_DOWNLOAD_PORT, |it| next_download_port(it.port));
                let number = through;
                self.download = Some(Download { number, port });
                port
            }
        }
    }

    /// The socket that still has the address of that port.
    fn socket_at(&self, port: u16) -> Option<Port> {
        if port == self.port {
            return Some(Port::Main);
        }
        let download = self.download.filter(|download| download.port == port)?;
        Some(download.number)
    }

    /// The state in which its character lets its upgrade end: one that is skipped is asked what it runs before.
    pub(super) fn expected(&self) -> UpgradeState {
        let spec = self.device.spec();
        let is_asked = !matches!(spec.fault, Some(sim::Fault::RefuseVersionQuery(_)));
        match spec.expected() {
            _ if self.target.is_none() && is_asked => UpgradeState::Cancelled,
            // no slot in a cell is needed to find that there is nothing to do
            _ if self.target == Some(spec.version) && is_asked => UpgradeState::Succeeded,
            sim::Expected::Succeeded => UpgradeState::Succeeded,
            sim::Expected::Failed => UpgradeState::Failed,
        }
    }

    /// Its hardware, as the operator has given it.
    pub(super) fn hardware(&self) -> Option<&str> {
        self.hardware.as_deref()
    }

    /// Its endpoint name.
    pub(super) fn endpoint(&self) -> &str {
        &self.device.spec().endpoint
    }

    /// Whether it sleeps between its messages.
    pub(super) fn sleeps(&self) -> bool {
        self.device.spec().behaviour.queue_mode.is_some()
    }

    /// The lifetime of its registration, and the one that it came with; seconds.
    pub(super) const fn lifetimes(&self) -> (u32, u32) {
        let own_s = self.device.spec().behaviour.lifetime_s;
        (self.device.lifetime_s(), own_s)
    }

    /// A device that sleeps speaks, and is understood, within so many ms.
    pub(super) fn speaks_within_ms(&self) -> u64 {
        const SLACK_MS: u64 = 3_600_000;
        let sleep_ms = (self.device.spec().behaviour.queue_mode).map_or(0, |mode| mode.sleep_ms);
        3 * sleep_ms + SLACK_MS
    }

    pub(super) const fn kept(&self) -> Kept {
        self.kept
    }

    /// How it goes wrong, if it does.
    pub(super) fn character(&self) -> String {
        (self.device.spec().fault).map_or_else(|| "well-behaved".to_owned(), String::from)
    }
}

/// An empty Confirmable message (RFC 7252 §4.3).
fn is_ping(bytes: &[u8]) -> bool {
    matches!(bytes, [0x40, 0, _, _])
}

const fn next_port(port: u16) -> u16 {
    match port {
        LAST_PORT.. => FIRST_PORT,
        _ => port + 1,
    }
}

fn next_download_port(port: u16) -> u16 {
    port.checked_add(1).unwrap_or(FIRST_DOWNLOAD_PORT)
}
