use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use mio::{Events, Interest, Poll, Token, Waker, net::TcpListener};

use super::{
    EndsTheServer, IDLE, Message, MqttIdentities, MqttNews, MqttServer, MqttSetup, MqttSink,
    door::{self, Door, Greeted},
    socket::{Socket, prepare},
    ticket::Tickets,
};
use crate::{
    clock::{Instant, Now, SystemClock},
    mqtt::endpoint::{Claim, ConnId, Endpoint, Event, Output, Reading, Refusal, Verdict},
    strangers::{self, Strangers},
    telemetry::{Figures, Metrics, Share},
};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// Connections that are accepted, and messages that are taken, before others get their turn.
const A_TURN: usize = 256;
/// Bytes that are read of one connection before others get their turn.
const READ_BYTES: usize = 64 << 10;
/// How often it is looked whether the shard has taken what was too much.
const CHOKED: Duration = Duration::from_millis(5);
/// Log lines a second about who was refused; further ones are counted only.
const LINES_PER_SECOND: std::num::NonZeroU32 = std::num::NonZeroU32::new(5).unwrap();

/// One connection.
struct Wire {
    conn: ConnId,
    socket: Socket,
    /// What the system has not taken yet.
    backlog: Vec<u8>,
    /// The endpoint takes no more for now.
    paused: bool,
    /// Something may be there to be read that no event tells of any more.
    unread: bool,
    /// It is read again a little later.
    choked: bool,
    /// A clone goes with each of its events until the shard has taken it.
    events: Arc<()>,
}

struct Thread {
    poll: Poll,
    listener: Option<TcpListener>,
    /// More connections may wait than were accepted.
    accepting: bool,
    endpoint: Endpoint,
    /// By the connection's place.
    wires: Vec<Option<Wire>>,
    /// Connections of which more is to be read.
    ready: Vec<ConnId>,
    /// Connections that are read again once the shard has taken some of what they have said.
    choked: Vec<ConnId>,
    tickets: Tickets,
    buffer: Box<[u8]>,
    messages: mpsc::Receiver<Message>,
    woken: Arc<AtomicBool>,
    backlog_bytes: usize,
    identities: Arc<MqttIdentities>,
    sink: Option<MqttSink>,
    clock: SystemClock,
    strangers: Arc<Strangers>,
    lines: DefaultDirectRateLimiter,
    metrics: Arc<Metrics>,
    share: Share,
    published_at: Instant,
    door: Option<Arc<Door>>,
}

/// Starts the server's threads.
pub(super) fn start(setup: MqttSetup) -> io::Result<MqttServer> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let listener = match setup.tcp {
        Some(listener) => {
            prepare(&listener)?;
            let mut listener = TcpListener::from_std(listener);
            (poll.registry()).register(&mut listener, LISTENER, Interest::READABLE)?;
            Some(listener)
        }
        None => None,
    };
    let (door, prepared) = match setup.tls {
        Some((listener, begin)) => {
            let (door, prepared) = door::prepare(listener, begin)?;
            (Some(Arc::new(door)), Some(prepared))
        }
        None => (None, None),
    };
    let (messages, told) = mpsc::channel();
    let woken = Arc::<AtomicBool>::default();
    let mut thread = Thread {
        poll,
        accepting: listener.is_some(),
        listener,
        endpoint: Endpoint::new(setup.limits, setup.seed),
        wires: Vec::new(),
        ready: Vec::new(),
        choked: Vec::new(),
        tickets: Tickets::default(),
        buffer: vec![0; READ_BYTES].into(),
        messages: told,
        woken: woken.clone(),
        backlog_bytes: setup.backlog_bytes,
        identities: setup.identities,
        sink: setup.sink,
        clock: setup.clock,
        strangers: setup.strangers,
        lines: RateLimiter::direct(Quota::per_second(LINES_PER_SECOND)),
        metrics: setup.metrics,
        share: Share::default(),
        published_at: Instant::ZERO,
        door: door.clone(),
    };
    let server = MqttServer {
        messages,
        waker,
        woken,
        door,
    };
    std::thread::Builder::new()
        .name("mqtt".to_owned())
        .spawn(move || {
            let alive = EndsTheServer;
            thread.run();
            std::mem::forget(alive);
        })?;
    if let Some(prepared) = prepared {
        prepared.open(setup.limits, setup.seed, setup.clock, server.clone())?;
    }
    Ok(server)
}

impl Thread {
    fn run(&mut self) {
        let mut events = Events::with_capacity(1_024);
        loop {
            if let Err(error) = self.poll.poll(&mut events, Some(self.wait()))
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the event queue of MQTT failed");
                drop(EndsTheServer);
            }
            let now = self.clock.now();
            for event in &events {
                match event.token() {
                    LISTENER => self.accepting = true,
                    WAKER => {}
                    Token(place) => {
                        // a read that did not fill the buffer has not met the end of the stream
                        let ends = event.is_read_closed() || event.is_error();
                        if event.is_readable() || ends {
                            self.readable(now, place, ends);
                        }
                        if event.is_writable() {
                            self.writable(now, place);
                        }
                    }
                }
            }
            for conn in std::mem::take(&mut self.ready) {
                if self.wire(conn).is_some() {
                    self.read(now, conn, true);
                }
            }
            for conn in std::mem::take(&mut self.choked) {
                if let Some(wire) = self.wire(conn) {
                    wire.choked = false;
                    self.endpoint.unread(now, conn);
                    self.read(now, conn, true);
                }
            }
            if self.accepting {
                self.accept(now);
            }
            if let Some(ended) = self.take_messages(now) {
                self.endpoint.stop();
                self.pump(now);
                self.publish(now);
                let _ = ended.send(()); // nobody waits for it
                return;
            }
            self.endpoint.handle_timeout(now);
            self.pump(now);
            self.publish(now);
        }
    }

    fn wait(&self) -> Duration {
        if self.accepting || !self.ready.is_empty() || self.woken.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        let now = self.clock.now().instant;
        let due = self.endpoint.poll_timeout();
        let most = if self.choked.is_empty() { IDLE } else { CHOKED };
        // a millisecond more, so that it is due then
        due.map_or(most, |at| at.since(now) + Duration::from_millis(1))
            .min(most)
    }

    fn accept(&mut self, now: Now) {
        for _ in 0..A_TURN {
            let Some(listener) = &self.listener else {
                return;
            };
            match listener.accept() {
                Ok((stream, peer)) => {
                    self.begin(now, Socket::Plain(stream), peer, Box::default());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.accepting = false;
                    return;
                }
                // the one connection is over, or there is no handle left: it is tried again within a second
                Err(error) => {
                    if self.lines.check().is_ok() {
                        tracing::warn!(%error, "a connection to the MQTT port was not accepted");
                    }
                    self.accepting = false;
                    return;
                }
            }
        }
    }

    fn begin(
        &mut self,
        now: Now,
        mut socket: Socket,
        peer: SocketAddr,
        certified: Box<[Box<str>]>,
    ) {
        let Ok(conn) = self.endpoint.accept(now, peer, certified) else {
            return socket.close();
        };
        let Ok(place) = usize::try_from(conn.slot) else {
            return self.endpoint.closed(conn);
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = (self.poll.registry()).register(socket.tcp(), Token(place), interest);
        if let Err(error) = registered {
            if self.lines.check().is_ok() {
                tracing::warn!(%error, "a connection to the MQTT port was not taken");
            }
            return self.endpoint.closed(conn);
        }
        if self.wires.len() <= place {
            self.wires.resize_with(place + 1, || None);
        }
        let reads_all = socket.reads_all();
        if let Some(wire) = self.wires.get_mut(place) {
            *wire = Some(Wire {
                conn,
                socket,
                backlog: Vec::new(),
                paused: false,
                unread: false,
                choked: false,
                events: Arc::default(),
            });
        }
        if !reads_all {
            // what has come with the end of the handshake is in the library already
            self.ready.push(conn);
        }
    }

    fn wire(&mut self, conn: ConnId) -> Option<&mut Wire> {
        let place = usize::try_from(conn.slot).ok()?;
        let wire = self.wires.get_mut(place)?.as_mut();
        wire.filter(|it| it.conn == conn)
    }

    fn readable(&mut self, now: Now, place: usize, to_the_end: bool) {
        if let Some(Some(wire)) = self.wires.get(place) {
            self.read(now, wire.conn, to_the_end);
        }
    }

    /// Reads what is there, within bounds.
    fn read(&mut self, now: Now, conn: ConnId, to_the_end: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut left = READ_BYTES;
        let tickets = self.tickets.clone();
        while let Some(wire) = self.wire(conn) {
            if wire.paused || !wire.backlog.is_empty() {
                wire.unread = true;
                break;
            }
            if tickets.are_out(&wire.events) {
                if !std::mem::replace(&mut wire.choked, true) {
                    self.choked.push(conn);
                }
                break;
            }
            if left == 0 {
                self.ready.push(conn);
                break;
            }
            let read = match wire.socket.read(&mut buffer) {
                Ok(0) => {
                    self.lose(conn);
                    break;
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.lose(conn);
                    break;
                }
            };
            left = left.saturating_sub(read);
            let all = wire.socket.reads_all() && read < buffer.len() && !to_the_end;
            let bytes = buffer.get(..read).unwrap_or_default();
            let reading = self.endpoint.receive(now, conn, bytes);
            if reading == Reading::Paused
                && let Some(wire) = self.wire(conn)
            {
                wire.paused = true;
                wire.unread = true;
            }
            self.pump(now);
            if all && reading == Reading::On {
                break;
            }
        }
        self.buffer = buffer;
    }

    fn writable(&mut self, now: Now, place: usize) {
        let Some(Some(wire)) = self.wires.get_mut(place) else {
            return;
        };
        if wire.backlog.is_empty() {
            return;
        }
        let conn = wire.conn;
        match flush(wire) {
            Ok(()) if wire.backlog.is_empty() => {
                wire.backlog = Vec::new();
                if std::mem::take(&mut wire.unread) {
                    self.read(now, conn, true);
                }
            }
            Ok(()) => {}
            Err(_) => {
                self.lose(conn);
                self.pump(now);
            }
        }
    }

    /// The peer or the network has ended it.
    fn lose(&mut self, conn: ConnId) {
        self.endpoint.closed(conn);
        self.remove(conn);
    }

    fn remove(&mut self, conn: ConnId) {
        if self.wire(conn).is_some()
            && let Some(mut wire) = usize::try_from(conn.slot)
                .ok()
                .and_then(|place| self.wires.get_mut(place)?.take())
        {
            let _ = flush(&mut wire); // what the system does not take now is lost
            wire.socket.close();
        }
    }

    /// Does what follows from what was taken.
    fn pump(&mut self, now: Now) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Send { conn, bytes } => self.send(conn, &bytes),
                Output::Close { conn } => self.remove(conn),
                Output::Resume { conn } => {
                    if let Some(wire) = self.wire(conn) {
                        wire.paused = false;
                        if std::mem::take(&mut wire.unread) {
                            self.ready.push(conn);
                        }
                    }
                }
                Output::Authenticate { conn, claim, .. } => {
                    let verdict = self.judge(now, &claim);
                    self.endpoint.authenticated(now, conn, verdict);
                }
                Output::Event(event) => self.tell(now, event),
            }
        }
    }

    fn judge(&self, now: Now, claim: &Claim) -> Verdict {
        match self.identities.find(claim) {
            Ok(identity) => match identity.verify(claim, now.utc) {
                Ok(()) => Verdict::Device(identity),
                Err(refusal) => Verdict::Refused(refusal),
            },
            Err(refusal) => Verdict::Refused(refusal),
        }
    }

    fn send(&mut self, conn: ConnId, bytes: &Bytes) {
        let most = self.backlog_bytes;
        let Some(wire) = self.wire(conn) else {
            return;
        };
        let mut bytes: &[u8] = bytes;
        while wire.backlog.is_empty() && !bytes.is_empty() {
            match wire.socket.write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // the next read tells that it is over
                Err(_) => return,
            }
        }
        if bytes.is_empty() {
            return;
        }
        if wire.backlog.len() + bytes.len() > most {
            self.endpoint.backlog(conn);
            return;
        }
        wire.backlog.extend_from_slice(bytes);
    }

    fn tell(&mut self, now: Now, event: Event) {
        if let Event::Refused {
            peer,
            name,
            refusal,
        } = &event
        {
            self.refused(*peer, name, *refusal);
            return;
        }
        match (&mut self.sink, event) {
            (Some(sink), event) => {
                let (device, bytes) = match &event {
                    Event::Message {
                        device, payload, ..
                    } => (Some(*device), payload.len()),
                    Event::Connected { device, .. }
                    | Event::Heard { device, .. }
                    | Event::Subscribed { device, .. }
                    | Event::Unsubscribed { device, .. }
                    | Event::Delivered { device, .. }
                    | Event::Disconnected { device, .. } => (Some(*device), 0),
                    Event::Refused { .. } => (None, 0),
                };
                let conn = device.and_then(|device| self.endpoint.connection_of(device));
                let place = conn.and_then(|conn| usize::try_from(conn.slot).ok());
                let wire = place.and_then(|place| self.wires.get(place)?.as_ref());
                // the last words of a connection that is over are nobody's
                let events = wire.map_or_else(Arc::default, |wire| wire.events.clone());
                sink(MqttNews::Event(event, self.tickets.take(events, bytes)));
            }
            (None, Event::Message { ack: Some(ack), .. }) => self.endpoint.acknowledge(now, ack),
            (None, _) => {}
        }
    }

    fn refused(&self, peer: SocketAddr, name: &str, refusal: Refusal) {
        let listed = match refusal {
            Refusal::UnknownDevice => strangers::Refusal::UnknownMqttDevice,
            Refusal::WrongCredential | Refusal::ClientId => strangers::Refusal::WrongMqttCredential,
            Refusal::StaleStamp => strangers::Refusal::StaleMqttStamp,
            _ => return,
        };
        self.strangers.refused(name.as_bytes(), listed, peer);
        if self.lines.check().is_ok() {
            let told = match refusal {
                Refusal::UnknownDevice => {
                    "there is no such device that speaks MQTT; add it, or give it a credential"
                }
                Refusal::WrongCredential => "the credential is not the device's",
                Refusal::StaleStamp => {
                    "the stamp in its client ID is more than an hour off; set its clock"
                }
                _ => "its client ID is not DEVICE_0_0_YYYYMMDDHH or DEVICE_0_1_YYYYMMDDHH",
            };
            let name: String = name.chars().take(strangers::MAX_NAME_LEN).collect();
            let name = name.escape_default();
            tracing::warn!(target: "cellwise::audit", %peer, %name, "an MQTT connection was refused: {told}");
        }
    }

    /// Returns whom to tell when all has ended, where it is to.
    fn take_messages(&mut self, now: Now) -> Option<tokio::sync::oneshot::Sender<()>> {
        if !self.woken.swap(false, Ordering::AcqRel) {
            return None;
        }
        for taken in 0.. {
            if taken == A_TURN {
                self.woken.store(true, Ordering::Release);
                break;
            }
            let Ok(message) = self.messages.try_recv() else {
                break;
            };
            match message {
                Message::Publish {
                    device,
                    downlink,
                    payload,
                    qos,
                } => {
                    let sent = self.endpoint.publish(device, downlink, payload, qos);
                    if let (Err(error), Some(sink)) = (sent, &mut self.sink) {
                        sink(MqttNews::Unsent {
                            device,
                            downlink,
                            error,
                        });
                    }
                }
                Message::Acknowledge(ack) => self.endpoint.acknowledge(now, ack),
                Message::Hold(device, held) => self.endpoint.hold(now, device, held),
                Message::Kick(device, why) => self.endpoint.kick(device, why),
                Message::Greeted(greeted) => {
                    let Greeted {
                        stream,
                        peer,
                        certified,
                    } = *greeted;
                    self.begin(now, Socket::Secured(Box::new(stream)), peer, certified);
                }
                Message::Stop(ended) => return Some(ended),
            }
        }
        self.pump(now);
        None
    }

    /// Publishes figures once a second.
    fn publish(&mut self, now: Now) {
        if now.instant.since(self.published_at) < IDLE {
            return;
        }
        self.published_at = now.instant;
        // one that was not accepted because there was no handle left is tried again
        self.accepting = self.listener.is_some();
        let mut figures: Figures<'_> = self.metrics.of(&mut self.share);
        for (name, help, value) in self.endpoint.counts().each() {
            figures.counter(name, help, value);
        }
        let gauges = [
            (
                "mqtt_devices",
                "Devices that are connected over MQTT.",
                self.endpoint.devices(),
            ),
            (
                "mqtt_connections",
                "Connections over MQTT, with those that have not shown whose they are.",
                self.endpoint.connections(),
            ),
            (
                "mqtt_buffered_bytes",
                "Bytes of incomplete packets that are kept.",
                self.endpoint.buffered(),
            ),
        ];
        for (name, help, value) in gauges {
            figures.gauge(name, help, value);
        }
        if let Some(door) = &self.door {
            let counts = &door.counts;
            let handshakes = [
                (
                    "mqtt_tls_handshakes_started",
                    "TLS handshakes begun for MQTT.",
                    &counts.begun,
                ),
                (
                    "mqtt_tls_handshakes_refused",
                    "Connections to the TLS port closed at once because too many begin.",
                    &counts.refused,
                ),
                (
                    "mqtt_tls_handshakes_failed",
                    "TLS handshakes for MQTT that failed, or were not complete in time.",
                    &counts.failed,
                ),
                (
                    "mqtt_tls_handshakes_complete",
                    "TLS handshakes for MQTT completed.",
                    &counts.complete,
                ),
            ];
            for (name, help, value) in handshakes {
                figures.counter(name, help, value.load(Ordering::Relaxed));
            }
        }
    }
}

/// Sends what waits, as far as the system takes it.
fn flush(wire: &mut Wire) -> io::Result<()> {
    let mut sent = 0;
    while let Some(rest) = wire.backlog.get(sent..).filter(|rest| !rest.is_empty()) {
        match wire.socket.write(rest) {
            Ok(written) => sent += written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    wire.backlog.drain(..sent);
    Ok(())
}
