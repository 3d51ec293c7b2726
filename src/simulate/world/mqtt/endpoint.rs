//! The server's side: the endpoint, and its way to the shard and back.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    super::{Occurrence, World, address, committer::number_of, server::Server},
    BASE_URL, OnWire, Within,
    downloads::Serving,
};
use crate::{
    clock::{Instant, Now},
    config::MqttConfig,
    engine::{Seq, ShardId},
    grants::{Grants, Links, Served, Witness},
    ledger::DeviceId,
    mqtt::{
        endpoint::{
            Claim, ConnId, Ending, Endpoint, Event, Output, PublishError, Reading, Verdict,
        },
        engine::Out,
    },
    simulate::{hooks::Hooks, trace::Way},
};

/// What the system holds of what was sent on a connection, bytes.
const SOCKET_BYTES: usize = 16 * 1024;
/// Events of a connection that the shard has not taken: more of it is not read before some were.
const MAX_UNTAKEN: usize = 32;
/// The longest time for which something is on its way within the server.
const WITHIN: Duration = Duration::from_millis(20);

/// Takes down what was served.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<VecDeque<Served>>);

impl Witness for Told {
    fn served(&self, served: Served) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.push_back(served);
    }
}

impl Told {
    fn take(&self) -> VecDeque<Served> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the shard hears.
#[derive(Debug)]
enum News {
    /// What has happened, and on which wire.
    Event(Event, Option<u32>),
    /// A message to the device could not be sent.
    Unsent(DeviceId),
}

/// The part of a running server that has to do with MQTT and downloads. A crash drops it.
pub(in super::super) struct ServerSide {
    endpoint: Endpoint,
    backlog_bytes: usize,
    pub(super) grants: Arc<Grants>,
    told: Arc<Told>,
    /// The wires of connections.
    wires: BTreeMap<ConnId, u32>,
    news: VecDeque<News>,
    outs: VecDeque<Out>,
    served: VecDeque<Served>,
    /// Downloads, by their numbers.
    pub(super) serving: BTreeMap<u32, Serving>,
}

impl ServerSide {
    pub(in super::super) fn new(config: &MqttConfig, seed: u64) -> Self {
        let (grants, told) = (Arc::new(Grants::default()), Arc::new(Told::default()));
        grants.watch(told.clone());
        if let Ok(links) = Links::new(BASE_URL, true) {
            grants.set_links(links);
        }
        Self {
            endpoint: Endpoint::new(config.into(), seed),
            backlog_bytes: SOCKET_BYTES + config.max_backlog_kib as usize * 1024,
            grants,
            told,
            wires: BTreeMap::new(),
            news: VecDeque::new(),
            outs: VecDeque::new(),
            served: VecDeque::new(),
            serving: BTreeMap::new(),
        }
    }

    /// Where packages are fetched.
    pub(in super::super) fn links(&self) -> Option<Links> {
        self.grants.links().cloned()
    }

    pub(in super::super) fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout()
    }

    pub(in super::super) fn handle_timeout(&mut self, now: Now) {
        self.endpoint.handle_timeout(now);
    }

    /// Downloads that are granted, connections, and bytes of packets that are not whole.
    pub(in super::super) fn sizes(&self) -> (usize, usize, usize) {
        (
            self.grants.count(),
            self.endpoint.connections(),
            self.endpoint.buffered(),
        )
    }
}

impl<H: Hooks> World<H> {
    pub(super) fn side(&mut self) -> Option<&mut ServerSide> {
        self.server.as_mut()?.mqtt.as_mut()
    }

    /// The shard of devices over MQTT.
    pub(in super::super) const fn mqtt_shard(&self) -> ShardId {
        ShardId(self.shards)
    }

    /// Something is on its way within the server.
    pub(super) fn on_its_way(&mut self, what: Within) {
        let at = self.now_ms + self.between(Duration::ZERO, WITHIN);
        self.queue.push(at, Occurrence::Within(self.epoch, what));
    }

    /// Something comes to the server from a device.
    pub(in super::super) fn comes_up(&mut self, number: u32, what: OnWire, bytes: &[u8]) {
        let (now, epoch) = (self.now(), self.epoch);
        let (now_ms, queue) = (self.now_ms, &mut self.queue);
        let Some(field) = &mut self.mqtt else {
            return;
        };
        let side = (self.server.as_mut()).and_then(|server| server.mqtt.as_mut());
        let Some(wire) = field.wires.get_mut(&number).filter(|wire| !wire.dead) else {
            return;
        };
        match (what, side) {
            (OnWire::Opens, Some(side)) => {
                let port = u16::try_from(number % 50_000).unwrap_or(0) + 10_000;
                let device = field.stations[wire.station as usize].number;
                let accepted = side
                    .endpoint
                    .accept(now, address(device, port), Box::default());
                if let Ok(conn) = accepted {
                    wire.epoch = Some(epoch);
                    wire.conn = Some(conn);
                    side.wires.insert(conn, number);
                    return;
                }
                field.put(queue, now_ms, number, OnWire::EndsAtDevice, &[]);
            }
            (OnWire::Up, Some(_)) if wire.epoch == Some(epoch) && wire.conn.is_some() => {
                wire.unread.push_back(bytes.to_vec());
                self.read(number);
            }
            (OnWire::EndsAtServer, Some(_)) if wire.epoch == Some(epoch) => {
                wire.ends = true;
                self.read(number);
            }
            (OnWire::EndsAtServer, _) => {}
            // nobody is there, or somebody who knows nothing of it
            _ => field.put(queue, now_ms, number, OnWire::EndsAtDevice, &[]),
        }
    }

    /// Reads what is there.
    fn read(&mut self, number: u32) {
        let now = self.now();
        loop {
            let Some(field) = &mut self.mqtt else {
                return;
            };
            let Some(side) = (self.server.as_mut()).and_then(|server| server.mqtt.as_mut()) else {
                return;
            };
            let Some(wire) = field.wires.get_mut(&number) else {
                return;
            };
            let Some(conn) = wire.conn else {
                return;
            };
            if wire.paused || wire.untaken >= MAX_UNTAKEN {
                return;
            }
            if let Some(bytes) = wire.unread.pop_front() {
                let reading = side.endpoint.receive(now, conn, &bytes);
                wire.paused = reading == Reading::Paused;
            } else if wire.ends {
                wire.conn = None;
                side.endpoint.closed(conn);
            } else {
                return;
            }
            self.pump();
        }
    }

    /// Does what the endpoint wants done.
    pub(in super::super) fn pump(&mut self) {
        let now = self.now();
        while let Some(output) = self.side().and_then(|side| side.endpoint.poll_output()) {
            match output {
                Output::Send { conn, bytes } => self.send_on_wire(conn, &bytes),
                Output::Close { conn } => {
                    if let Some(number) = self.wire_of(conn)
                        && let Some(field) = &mut self.mqtt
                    {
                        if let Some(wire) = field.wires.get_mut(&number) {
                            wire.conn = None;
                            wire.unread.clear();
                        }
                        let ends = OnWire::EndsAtDevice;
                        field.put(&mut self.queue, self.now_ms, number, ends, &[]);
                    }
                }
                Output::Resume { conn } => {
                    if let Some(number) = self.wire_of(conn)
                        && let Some(field) = &mut self.mqtt
                        && let Some(wire) = field.wires.get_mut(&number)
                    {
                        wire.paused = false;
                        self.read(number);
                    }
                }
                Output::Authenticate { conn, claim, .. } => {
                    let verdict = self.judge(now, &claim);
                    if let Some(side) = self.side() {
                        side.endpoint.authenticated(now, conn, verdict);
                    }
                }
                Output::Event(event) => self.happened(event),
            }
        }
    }

    pub(super) fn wire_of(&mut self, conn: ConnId) -> Option<u32> {
        self.side()?.wires.get(&conn).copied()
    }

    fn judge(&self, now: Now, claim: &Claim) -> Verdict {
        let user = claim.user.as_deref().unwrap_or_default();
        let found = (self.mqtt.as_ref()).and_then(|field| field.identities.get(user));
        match found.map(|identity| (identity, identity.verify(claim, now.utc))) {
            Some((identity, Ok(()))) => Verdict::Device(identity.clone()),
            Some((_, Err(refusal))) => Verdict::Refused(refusal),
            None => Verdict::Refused(crate::mqtt::endpoint::Refusal::UnknownDevice),
        }
    }

    fn send_on_wire(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(number) = self.wire_of(conn) else {
            return;
        };
        let now_ms = self.now_ms;
        let Some(field) = &mut self.mqtt else {
            return;
        };
        let Some(wire) = field.wires.get_mut(&number) else {
            return;
        };
        wire.under_way += bytes.len();
        let under_way = wire.under_way;
        if let Some(station) = field.stations.get(wire.station as usize) {
            let peer = address(station.number, u16::try_from(number % 50_000).unwrap_or(0));
            self.trace.datagram(now_ms, Way::Down, peer, bytes);
        }
        self.figures.mqtt_bytes_down += bytes.len() as u64;
        field.put(&mut self.queue, now_ms, number, OnWire::Down, bytes);
        if let Some(side) = self.side()
            && under_way > side.backlog_bytes
        {
            side.endpoint.backlog(conn);
        }
    }

    /// Something has happened at the endpoint: the shard hears of it a little later.
    fn happened(&mut self, event: Event) {
        let (device, conn) = match &event {
            Event::Connected { device, conn, .. } | Event::Disconnected { device, conn, .. } => {
                (*device, Some(*conn))
            }
            Event::Message { device, .. }
            | Event::Subscribed { device, .. }
            | Event::Unsubscribed { device, .. }
            | Event::Delivered { device, .. } => (*device, None),
            // the first is told by somebody else's broker, and there is none
            Event::Heard { .. } | Event::Refused { .. } => return,
        };
        let Some(side) = self.side() else {
            return;
        };
        let conn = conn.or_else(|| side.endpoint.connection_of(device));
        let number = conn.and_then(|conn| side.wires.get(&conn).copied());
        let is_cut_off = matches!(
            event,
            Event::Disconnected {
                why: Ending::KeepAlive,
                ..
            }
        );
        side.news.push_back(News::Event(event, number));
        if let Some(field) = &mut self.mqtt
            && let Some(number) = number
            && let Some(wire) = field.wires.get_mut(&number)
        {
            wire.untaken += 1;
            if is_cut_off {
                let whole = !wire.dead && wire.stalled_until_ms <= self.now_ms;
                let station = field.stations.get(wire.station as usize);
                let blocked = station.filter(|it| {
                    whole && it.wire == Some(number) && !it.acts && it.device.is_blocked()
                });
                if let Some(station) = blocked {
                    (self.checker).cut_off(self.now_ms, station.number as usize);
                }
            }
        }
        self.on_its_way(Within::News);
    }

    /// What was on its way within the server arrives.
    pub(in super::super) fn arrives_within(&mut self, what: Within) -> Result<(), String> {
        let now = self.now();
        match what {
            Within::News => {
                let Some(news) = self.side().and_then(|side| side.news.pop_front()) else {
                    return Ok(());
                };
                match news {
                    News::Event(event, wire) => self.hears_of(event, wire),
                    News::Unsent(device) => {
                        self.with_core(self.mqtt_shard(), |core, _| core.unsent(now, device));
                    }
                }
            }
            Within::Served => {
                let Some(mut served) = self.side().and_then(|side| side.served.pop_front()) else {
                    return Ok(());
                };
                if !self.hooks.serves(&mut served) {
                    return Ok(());
                }
                if let Some(device) = self.number_of_device(served.device) {
                    (self.checker).hears_served(self.now_ms, device, &served);
                }
                self.with_core(self.mqtt_shard(), |core, _| core.served(now, &served));
            }
            Within::Outs => {
                self.endpoint_obeys(now);
                return Ok(());
            }
            Within::Missed(number) => {
                self.misses(number);
                return Ok(());
            }
        }
        self.drain();
        self.go_on()
    }

    fn hears_of(&mut self, mut event: Event, wire: Option<u32>) {
        let now = self.now();
        self.takes_ticket(now, wire);
        let device = match &event {
            Event::Connected { device, .. }
            | Event::Disconnected { device, .. }
            | Event::Message { device, .. }
            | Event::Subscribed { device, .. }
            | Event::Unsubscribed { device, .. }
            | Event::Heard { device, .. }
            | Event::Delivered { device, .. } => Some(*device),
            Event::Refused { .. } => None,
        };
        for device in device.map_or_else(Vec::new, |device| self.concerns(device, &event)) {
            self.owes(device, &event);
            self.checker.hears_of(self.now_ms, device, &event);
        }
        self.hooks.hears_of(&mut event);
        self.with_core(self.mqtt_shard(), |core, _| core.hear_of(now, event));
    }

    /// The shard has taken an event of that wire, which may be read on.
    fn takes_ticket(&mut self, now: Now, wire: Option<u32>) {
        let Some(number) = wire else {
            return;
        };
        let Some(field) = &mut self.mqtt else {
            return;
        };
        let Some(wire) = field.wires.get_mut(&number) else {
            return;
        };
        let choked = wire.untaken >= MAX_UNTAKEN;
        wire.untaken = wire.untaken.saturating_sub(1);
        let conn = wire.conn;
        if choked {
            if let (Some(side), Some(conn)) = (self.side(), conn) {
                side.endpoint.unread(now, conn);
            }
            self.read(number);
        }
    }

    fn endpoint_obeys(&mut self, now: Now) {
        let Some(side) = self.side() else {
            return;
        };
        match side.outs.pop_front() {
            Some(Out::Publish {
                device,
                downlink,
                payload,
                qos,
                upgrade: _,
            }) => {
                let sent = side.endpoint.publish(device, downlink, payload, qos);
                // on this connection the others would fare no better
                if let Err(PublishError::NotConnected | PublishError::QueueFull) = sent {
                    side.news.push_back(News::Unsent(device));
                    self.on_its_way(Within::News);
                }
            }
            Some(Out::Acknowledge(ack)) => side.endpoint.acknowledge(now, ack),
            Some(Out::Hold { device, on }) => side.endpoint.hold(now, device, on),
            Some(Out::Grant(_) | Out::Revoke(_)) | None => {}
        }
        self.pump();
    }

    /// What was told by the grants goes to the shard.
    pub(super) fn tell_served(&mut self) {
        let told = self.side().map(|side| side.told.take());
        for served in told.into_iter().flatten() {
            if let Some(side) = self.side() {
                side.served.push_back(served);
            }
            self.on_its_way(Within::Served);
        }
    }

    pub(super) fn number_of_device(&self, device: DeviceId) -> Option<usize> {
        self.mqtt.as_ref()?.number(device)
    }

    /// The shard is about to let something out, after that change.
    pub(in super::super) fn holds_out(&mut self, from: ShardId, out: &Out, after: &mut Seq) {
        let device = self.device_of(out);
        (self.checker).holds_out(self.now_ms, device, out, number_of((from, *after)));
        self.hooks.lets_out(out, after);
    }

    /// The shard lets something out.
    pub(in super::super) fn goes_out(&mut self, out: Out) {
        let device = self.device_of(&out);
        if let (Out::Acknowledge(ack), Some(field)) = (&out, &mut self.mqtt) {
            field.acks.remove(ack);
        }
        self.checker.goes_out(self.now_ms, device, &out);
        if !self.hooks.leaves(&out) {
            return;
        }
        let Some(side) = self.side() else {
            return;
        };
        match out {
            Out::Grant(grant) => side.grants.grant(*grant),
            Out::Revoke(token) => side.grants.revoke(&token),
            out => {
                side.outs.push_back(out);
                self.on_its_way(Within::Outs);
            }
        }
    }

    /// The server is gone: who was connected finds out, soon or when it says something.
    pub(in super::super) fn crash_mqtt(&mut self, server: &Server) {
        if server.mqtt.is_none() {
            return;
        }
        let now_ms = self.now_ms;
        let Some(field) = &mut self.mqtt else {
            return;
        };
        field.acks.clear();
        let numbers: Vec<u32> = field.wires.keys().copied().collect();
        for number in numbers {
            let silent = field.happens(1, 2);
            if let Some(wire) = field.wires.get_mut(&number) {
                wire.conn = None;
                wire.unread.clear();
                wire.untaken = 0;
            }
            if !silent {
                field.put(&mut self.queue, now_ms, number, OnWire::EndsAtDevice, &[]);
            }
        }
        self.downloads_break();
    }
}
