//! The MQTT of one device: 3.1.1, clean sessions, quality of service 0 and 1. Bytes and the time go in, bytes and
//! events come out. The packets are written and read by `rumqttc`.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::{
    Error, QoS,
    v4::{self, ConnectReturnCode, Packet, PubAck, Publish, Subscribe, SubscribeReasonCode},
};

use super::device::Connect;

/// The longest packet that a device takes, bytes.
const MOST_BYTES: usize = 256 * 1024;

/// What has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server has accepted the connection.
    Connected,
    /// It has refused it, with this code.
    Refused(u8),
    /// It has answered a subscription, with whether it is accepted.
    Subscribed(bool),
    /// A message.
    Message {
        /// Its topic.
        topic: String,
        /// The message.
        payload: Bytes,
    },
    /// What came is not MQTT, or nothing came for too long: the connection is to be closed.
    Broken(String),
}

/// One connection.
#[derive(Debug)]
pub struct Link {
    input: BytesMut,
    output: BytesMut,
    events: VecDeque<Event>,
    packet_id: u16,
    keep_alive_ms: u64,
    /// When the next PINGREQ is due, or the answer to the last one is overdue.
    due_ms: u64,
    pinging: bool,
    unacknowledged: u64,
}

impl Link {
    /// A connection that was opened now: a CONNECT is to be sent.
    pub fn open(now_ms: u64, connect: &Connect) -> Self {
        let mut packet = v4::Connect::new(connect.client_id.clone());
        packet.keep_alive = connect.keep_alive_s;
        let password = connect.password.as_ref().map_or("", |secret| &secret.0);
        packet.set_login(connect.user_name.clone(), password);
        let keep_alive_ms = u64::from(connect.keep_alive_s) * 1_000;
        let mut link = Self {
            input: BytesMut::new(),
            output: BytesMut::new(),
            events: VecDeque::new(),
            packet_id: 0,
            keep_alive_ms,
            due_ms: u64::MAX,
            pinging: false,
            unacknowledged: 0,
        };
        link.write(now_ms, &Packet::Connect(packet));
        link
    }

    /// Takes bytes from the server.
    pub fn receive(&mut self, now_ms: u64, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        loop {
            match Packet::read(&mut self.input, MOST_BYTES) {
                Ok(packet) => self.packet(now_ms, packet),
                Err(Error::InsufficientBytes(_)) => {
                    if self.input.is_empty() {
                        // thousands of idle devices hold no buffers
                        self.input = BytesMut::new();
                    }
                    return;
                }
                Err(error) => {
                    self.input.clear();
                    let why = format!("what the server sent is not MQTT 3.1.1: {error}");
                    return self.events.push_back(Event::Broken(why));
                }
            }
        }
    }

    /// Subscribes.
    pub fn subscribe(&mut self, now_ms: u64, topic: &str, qos: u8) {
        let mut packet = Subscribe::new(topic, quality(qos));
        packet.pkid = self.next_id();
        self.write(now_ms, &Packet::Subscribe(packet));
    }

    /// Publishes.
    pub fn publish(&mut self, now_ms: u64, topic: &str, payload: Vec<u8>, qos: u8) {
        let mut packet = Publish::new(topic, quality(qos), payload);
        if packet.qos != QoS::AtMostOnce {
            packet.pkid = self.next_id();
            self.unacknowledged += 1;
        }
        self.write(now_ms, &Packet::Publish(packet));
    }

    /// Says that the connection ends.
    pub fn disconnect(&mut self, now_ms: u64) {
        self.write(now_ms, &Packet::Disconnect);
    }

    /// What is to be sent, all of it.
    pub fn take_output(&mut self) -> Option<Bytes> {
        (!self.output.is_empty()).then(|| std::mem::take(&mut self.output).freeze())
    }

    /// What has come, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Keeps the connection alive.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        if now_ms < self.due_ms {
            return;
        }
        if self.pinging {
            self.due_ms = u64::MAX;
            let why = "the server does not answer PINGREQ".to_owned();
            return self.events.push_back(Event::Broken(why));
        }
        self.write(now_ms, &Packet::PingReq);
        self.pinging = true;
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<u64> {
        (self.due_ms != u64::MAX).then_some(self.due_ms)
    }

    /// Messages that the server has not acknowledged.
    pub const fn unacknowledged(&self) -> u64 {
        self.unacknowledged
    }

    fn packet(&mut self, now_ms: u64, packet: Packet) {
        match packet {
            Packet::ConnAck(answer) => self.events.push_back(match answer.code {
                ConnectReturnCode::Success => Event::Connected,
                code => Event::Refused(code as u8),
            }),
            Packet::SubAck(answer) => {
                let refused = answer.return_codes.contains(&SubscribeReasonCode::Failure);
                self.events.push_back(Event::Subscribed(!refused));
            }
            Packet::Publish(message) => {
                if message.qos != QoS::AtMostOnce {
                    self.write(now_ms, &Packet::PubAck(PubAck::new(message.pkid)));
                }
                self.events.push_back(Event::Message {
                    topic: message.topic,
                    payload: message.payload,
                });
            }
            Packet::PubAck(_) => self.unacknowledged = self.unacknowledged.saturating_sub(1),
            Packet::PingResp => self.pinging = false,
            other => {
                let why = format!("no server sends this: {other:?}");
                self.events.push_back(Event::Broken(why));
            }
        }
    }

    fn write(&mut self, now_ms: u64, packet: &Packet) {
        if let Err(error) = packet.write(&mut self.output, MOST_BYTES) {
            let why = format!("a packet cannot be written: {error}");
            self.events.push_back(Event::Broken(why));
        }
        if !self.pinging && self.keep_alive_ms > 0 {
            self.due_ms = now_ms.saturating_add(self.keep_alive_ms);
        }
    }

    const fn next_id(&mut self) -> u16 {
        self.packet_id = match self.packet_id.checked_add(1) {
            Some(id) => id,
            None => 1,
        };
        self.packet_id
    }
}

const fn quality(qos: u8) -> QoS {
    match qos {
        0 => QoS::AtMostOnce,
        _ => QoS::AtLeastOnce,
    }
}

#[cfg(test)]
mod tests;
