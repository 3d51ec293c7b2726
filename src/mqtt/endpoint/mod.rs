//! The MQTT server that devices connect to: 3.1.1 and 5, QoS 0 and 1 in both directions, QoS 2 inbound. No retained messages, no
//! wills, nothing from device to device. No socket and no clock: bytes go in, [`Output`]s come out.
//!
//! A driver calls
//! * [`Endpoint::accept`] for a new connection, which gives it its [`ConnId`]; then [`Endpoint::receive`] with what it says, and
//!   [`Endpoint::closed`] when it is over;
//! * [`Endpoint::handle_timeout`] when [`Endpoint::poll_timeout`] is reached;
//! * [`Endpoint::poll_output`] after each of these, until there is nothing more. [`Output::Authenticate`] is answered with
//!   [`Endpoint::authenticated`], at once or later: the connection is not read meanwhile.
//!
//! Whoever serves the devices gets [`Event`]s, and calls
//! * [`Endpoint::publish`] with a payload for a device: [`Downlink::Events`] for IoTDA, [`Downlink::Push`] for ThingsPanel. The
//!   endpoint knows the topic's spelling. What depends on something that is to be committed is published after that;
//! * [`Endpoint::acknowledge`] with the [`Ack`] of a message, once what follows from it is committed: only then PUBACK or PUBREC
//!   leaves, in the order in which the device's messages came (MQTT 5 §4.6);
//! * [`Endpoint::hold`] while a device downloads: many devices do that on the thread that speaks MQTT, and send no PINGREQ until
//!   it ends. Their keep-alive is not enforced then, for a bounded time;
//! * [`Endpoint::kick`] when a device's credentials, or the device, are changed or removed.
//!
//! Sessions end with their connections, whatever a client asks for ("clean session"): nothing is kept for a device that is not
//! connected, and nothing is sent a second time. Who serves a device asks it again after [`Event::Connected`].
//!
//! Clauses are those of MQTT 5 where nothing else is said.

mod connection;
mod counts;
mod event;
mod frame;
mod greet;
mod identity;
mod limits;
mod outbox;
mod packet;
mod ration;
mod reply;
mod serve;
mod table;
mod topic;

pub use counts::Counts;
pub use event::{Ack, ConnId, Ending, Event, Output, PublishError, Qos, Reading, Verdict, Version};
pub use identity::{Claim, Credential, Identity, Refusal, Style};
pub use limits::Limits;
pub use ration::{Ration, Source};
pub(in crate::mqtt) use topic::Spelling;
pub use topic::{Downlink, MAX_TOPIC_LEN, TopicError, Uplink, uplink};

use std::{net::SocketAddr, time::Duration};

pub use super::thingspanel::Release;
use crate::{
    clock::{Instant, Now},
    ledger::DeviceId,
};
use connection::{Connection, State};
use frame::frame;
use outbox::Outbox;
use packet::Fault;
use table::Table;

/// A connection is looked at as often at least, so that what is kept of connections that are over goes.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// The connections of devices, and of those who say they are.
pub struct Endpoint {
    limits: Limits,
    table: Table,
    outbox: Outbox,
    counts: Counts,
    connects: Ration,
    connects_in_all: Ration,
    failures: Ration,
    failures_of_name: Ration,
    /// Bytes of incomplete packets that are kept.
    buffered: usize,
}

impl Endpoint {
    /// Nobody is connected yet. The seed is not for strangers to know.
    pub fn new(limits: Limits, seed: u64) -> Self {
        const SECOND: Duration = Duration::from_secs(1);
        const MINUTE: Duration = Duration::from_mins(1);
        Self {
            table: Table::default(),
            outbox: Outbox::default(),
            counts: Counts::default(),
            connects: Ration::new(seed, limits.connects_per_address_per_second, SECOND),
            connects_in_all: Ration::new(seed, limits.connects_per_second, SECOND),
            failures: Ration::new(seed, limits.failures_per_address_per_minute, MINUTE),
            failures_of_name: Ration::new(
                seed,
                (limits.failures_per_address_per_minute / 2).max(1),
                MINUTE,
            ),
            buffered: 0,
            limits,
        }
    }

    /// Somebody has connected. `certified` are the names in the certificate that was shown: the subject's common name and the
    /// alternative names.
    ///
    /// # Errors
    /// There is no room for it: the connection is to be closed.
    pub fn accept(
        &mut self,
        now: Now,
        peer: SocketAddr,
        certified: Box<[Box<str>]>,
    ) -> Result<ConnId, Refusal> {
        let share = self.table.share(Source::of(peer));
        let limits = &self.limits;
        let room = self.table.len() < limits.connections
            && share.connections < limits.connections_per_address
            && self.table.unknown() < limits.unknown_connections
            && share.unknown < limits.unknown_connections.div_ceil(2);
        let timer = now.instant + limits.connect_within;
        let connection = Connection {
            peer,
            certified,
            state: State::Unknown,
            partial: Vec::new(),
            timer,
            heard_at: now.instant,
            begun_at: None,
        };
        let conn = room.then(|| self.table.insert(connection)).flatten();
        if conn.is_some() {
            self.counts.mqtt_connections_accepted += 1;
        } else {
            self.counts.refused(Refusal::Full);
        }
        conn.ok_or(Refusal::Full)
    }

    /// Bytes have come.
    pub fn receive(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> Reading {
        let Some(connection) = self.table.get_mut(conn) else {
            return Reading::Over;
        };
        if connection.partial.is_empty() {
            let (used, reading) = self.work(now, conn, bytes);
            if reading == Reading::Over {
                return reading;
            }
            let left = bytes.get(used..).unwrap_or_default();
            return self.keep(now, conn, left.to_vec(), reading);
        }
        let mut partial = std::mem::take(&mut connection.partial);
        self.buffered -= partial.len();
        partial.extend_from_slice(bytes);
        self.go_through(now, conn, partial)
    }

    /// Goes on with what was kept.
    fn go_on(&mut self, now: Now, conn: ConnId) {
        let Some(connection) = self.table.get_mut(conn) else {
            return;
        };
        let partial = std::mem::take(&mut connection.partial);
        self.buffered -= partial.len();
        if self.go_through(now, conn, partial) == Reading::On {
            self.outbox.push(Output::Resume { conn });
        }
    }

    fn go_through(&mut self, now: Now, conn: ConnId, mut partial: Vec<u8>) -> Reading {
        let (used, reading) = self.work(now, conn, &partial);
        if reading == Reading::Over {
            return reading;
        }
        partial.drain(..used);
        self.keep(now, conn, partial, reading)
    }

    /// Keeps the beginning of a packet, or what waits.
    fn keep(&mut self, now: Now, conn: ConnId, mut partial: Vec<u8>, reading: Reading) -> Reading {
        if partial.is_empty() {
            return reading;
        }
        // Whoever has the most makes room, so that no crowd of half packets keeps others from saying anything.
        while self.buffered + partial.len() > self.limits.buffered_bytes {
            match self.table.largest_partial() {
                Some((other, bytes)) if bytes > partial.len() => {
                    self.end_or_refuse(other, Ending::Slow, Fault::ServerBusy);
                }
                _ => {
                    self.end_or_refuse(conn, Ending::Slow, Fault::ServerBusy);
                    return Reading::Over;
                }
            }
        }
        // a large packet was before it
        if partial.capacity() > 2 * partial.len() {
            partial.shrink_to_fit();
        }
        self.buffered += partial.len();
        if let Some(connection) = self.table.get_mut(conn) {
            connection.partial = partial;
            if reading == Reading::On {
                connection.begun_at.get_or_insert(now.instant);
            }
        }
        reading
    }

    /// Goes through whole packets. Returns how many bytes they have.
    fn work(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> (usize, Reading) {
        let mut used = 0;
        loop {
            let Some(connection) = self.table.get_mut(conn) else {
                return (used, Reading::Over);
            };
            if connection.paused(&self.limits) {
                return (used, Reading::Paused);
            }
            let unknown = matches!(connection.state, State::Unknown);
            let most = if unknown {
                self.limits.connect_bytes
            } else {
                self.limits.packet_bytes
            };
            let rest = bytes.get(used..).unwrap_or_default();
            if unknown && rest.first().is_some_and(|first| *first != packet::CONNECT) {
                self.fail(conn, Fault::ProtocolError);
                return (used, Reading::Over);
            }
            let found = match frame(rest) {
                Ok(None) => return (used, Reading::On),
                Ok(Some(found)) if found.len <= most => found,
                Ok(Some(_)) => {
                    self.fail(conn, Fault::PacketTooLarge);
                    return (used, Reading::Over);
                }
                Err(frame::TooLong) => {
                    self.fail(conn, Fault::MalformedPacket);
                    return (used, Reading::Over);
                }
            };
            let Some(packet) = rest.get(..found.len) else {
                return (used, Reading::On);
            };
            used += found.len;
            connection.heard_at = now.instant;
            connection.begun_at = None;
            self.counts.mqtt_packets_received += 1;
            if unknown {
                self.greet(now, conn, packet, found);
            } else {
                self.serve(now, conn, packet, found);
            }
        }
    }

    /// The peer or the network has ended the connection.
    pub fn closed(&mut self, conn: ConnId) {
        self.drop_connection(conn, Some(Ending::Lost), false);
    }

    /// What the connection has said meanwhile was not read, which was not its fault: its silence counts from now on.
    pub fn unread(&mut self, now: Now, conn: ConnId) {
        if let Some(connection) = self.table.get_mut(conn)
            && connection.open().is_some()
        {
            connection.heard_at = now.instant;
            connection.begun_at = (connection.begun_at).map(|_| now.instant);
        }
    }

    /// The peer does not take what is sent to it: more waits than the driver keeps for one connection.
    pub fn backlog(&mut self, conn: ConnId) {
        self.end(conn, Ending::Backlog, None);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called; `None` where there is nothing to wait for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.table.next_timer()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(conn) = self.table.due(now.instant) {
            let Some(connection) = self.table.get(conn) else {
                continue;
            };
            let deadline = connection.deadline(&self.limits);
            if deadline > now.instant {
                let next = deadline.min(now.instant + LOOK_EVERY);
                self.table.set_timer(conn, next);
            } else if connection.open().is_some() && connection.is_slow(now.instant) {
                self.end(conn, Ending::Slow, Some(Fault::QuotaExceeded));
            } else if connection.open().is_some() {
                self.end(conn, Ending::KeepAlive, Some(Fault::KeepAliveTimeout));
            } else {
                self.counts.refused(Refusal::Slow);
                self.drop_connection(conn, None, true);
            }
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outbox.pop()
    }

    /// While a device downloads, its keep-alive is not enforced: for the time that the limits give, and no longer than until it
    /// is called with `false`.
    pub fn hold(&mut self, now: Now, device: DeviceId, held: bool) {
        let Some(conn) = self.table.of_device(device) else {
            return;
        };
        let until = held.then(|| now.instant + self.limits.hold);
        let Some(connection) = self.table.get_mut(conn) else {
            return;
        };
        let Some(open) = connection.open_mut() else {
            return;
        };
        if open.held_until.is_some() == held {
            return;
        }
        open.held_until = until;
        if !held {
            // it may have been silent for long, and has a whole span from now on
            connection.heard_at = now.instant;
        }
        let deadline = connection.deadline(&self.limits);
        self.table
            .set_timer(conn, deadline.min(now.instant + LOOK_EVERY));
    }

    /// Ends the connection of a device.
    pub fn kick(&mut self, device: DeviceId, why: Ending) {
        let reason = match why {
            Ending::Stopping => Fault::ServerShuttingDown,
            Ending::TakenOver => Fault::SessionTakenOver,
            _ => Fault::AdministrativeAction,
        };
        if let Some(conn) = self.table.of_device(device) {
            self.end(conn, why, Some(reason));
        }
    }

    /// Ends all connections, because the server stops.
    pub fn stop(&mut self) {
        for conn in self.table.open() {
            self.end(conn, Ending::Stopping, Some(Fault::ServerShuttingDown));
        }
        for conn in self.table.all() {
            self.drop_connection(conn, None, true);
        }
    }

    /// What was counted.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The connection of a device.
    pub fn connection_of(&self, device: DeviceId) -> Option<ConnId> {
        self.table.of_device(device)
    }

    /// Devices that are connected.
    pub fn devices(&self) -> usize {
        self.table.devices()
    }

    /// Connections, with those of strangers.
    pub fn connections(&self) -> usize {
        self.table.len()
    }

    /// Bytes of incomplete packets that are kept.
    pub const fn buffered(&self) -> usize {
        self.buffered
    }

    /// The client has done what MQTT does not allow, or more than is bounded.
    fn fail(&mut self, conn: ConnId, fault: Fault) {
        self.end_or_refuse(conn, Ending::Protocol, fault);
    }

    fn end_or_refuse(&mut self, conn: ConnId, why: Ending, fault: Fault) {
        match self.table.get(conn) {
            Some(it) if it.open().is_some() => self.end(conn, why, Some(fault)),
            Some(_) => {
                self.counts.refused(Refusal::Malformed);
                self.drop_connection(conn, None, true);
            }
            None => {}
        }
    }

    /// Ends the connection of a device, with a reason where MQTT 5 has one.
    fn end(&mut self, conn: ConnId, why: Ending, reason: Option<Fault>) {
        if let Some(open) = self.table.get(conn).and_then(Connection::open)
            && let Some(reason) = reason
        {
            let version = open.version;
            let most = usize::try_from(open.packet_bytes).unwrap_or(usize::MAX);
            // what cannot be said is not said
            let written = (self.outbox).packet(conn, |out| reply::disconnect(out, version, reason));
            if let Ok(written) = written
                && written > most
            {
                self.outbox.take_back(written);
            }
        }
        self.drop_connection(conn, Some(why), true);
    }

    /// Forgets a connection. `close` has the driver close it.
    fn drop_connection(&mut self, conn: ConnId, why: Option<Ending>, close: bool) {
        let Some(connection) = self.table.remove(conn) else {
            return;
        };
        self.buffered -= connection.partial.len();
        if close {
            self.outbox.push(Output::Close { conn });
        }
        if let (Some(open), Some(why)) = (connection.open(), why) {
            self.counts.ended(why);
            if why != Ending::TakenOver {
                self.outbox.event(Event::Disconnected {
                    device: open.identity.device,
                    conn,
                    why,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
