//! CoAP's message layer, from a client's side: repeats of its own confirmable messages, one outstanding
//! at a time, and recognition of repeated ones (RFC 7252 §4.2, §4.5, §4.7).

use std::collections::VecDeque;

use super::{Device, port::Port, timers::Timer};
use crate::{
    coap::{Code, Message, MessageType, Token, Writer},
    fault::Fault,
};

/// Small devices remember few message IDs.
const REMEMBERED: usize = 4;

/// Confirmable messages that wait behind the outstanding one; the oldest is dropped for a fifth.
const WAITING: usize = 4;

/// What a confirmable message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Register,
    Update,
    Notification,
    Response,
}

/// A confirmable message of the device's.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) purpose: Purpose,
    pub(super) id: u16,
    pub(super) token: Token,
    datagram: Vec<u8>,
    retransmissions_left: u8,
    timeout_ms: u64,
    acknowledged: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Link {
    next_id: u16,
    outstanding: Option<Exchange>,
    waiting: VecDeque<Exchange>,
    /// Message IDs of the server's, with the reply that a repeat gets again.
    seen: VecDeque<(u16, Vec<u8>)>,
    pub(super) out: VecDeque<(Port, Vec<u8>)>,
}

impl Link {
    pub(super) const fn new(first_id: u16) -> Self {
        Self {
            next_id: first_id,
            outstanding: None,
            waiting: VecDeque::new(),
            seen: VecDeque::new(),
            out: VecDeque::new(),
        }
    }

    /// The next datagram that leaves. An empty queue keeps no memory: there are many devices, and few of them have
    /// anything to send at a time.
    pub(super) fn take_out(&mut self) -> Option<(Port, Vec<u8>)> {
        let next = self.out.pop_front();
        if self.out.is_empty() {
            self.out = VecDeque::new();
        }
        next
    }

    pub(super) const fn take_id(&mut self) -> u16 {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        id
    }

    /// A restart: what was sent is forgotten, what has left the device has left it.
    pub(super) fn reset(&mut self) {
        self.outstanding = None;
        self.waiting.clear();
        self.seen.clear();
    }

    pub(super) const fn outstanding(&self) -> Option<&Exchange> {
        self.outstanding.as_ref()
    }

    pub(super) fn holds(&self, purpose: Purpose) -> bool {
        self.outstanding
            .iter()
            .chain(&self.waiting)
            .any(|exchange| exchange.purpose == purpose)
    }

    pub(super) fn remember(&mut self, id: u16, reply: Vec<u8>) {
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back((id, reply));
    }

    pub(super) fn reply_to_repeat(&self, id: u16) -> Option<&[u8]> {
        self.seen
            .iter()
            .find(|(seen, _)| *seen == id)
            .map(|(_, reply)| &**reply)
    }
}

impl Device {
    /// Puts a datagram on its way. Whoever sends is awake.
    pub(super) fn transmit(&mut self, now_ms: u64, datagram: Vec<u8>) {
        self.transmit_from(now_ms, Port::Main, datagram);
    }

    /// The same, through one of its sockets.
    pub(super) fn transmit_from(&mut self, now_ms: u64, port: Port, datagram: Vec<u8>) {
        self.stay_awake(now_ms);
        if self.has(Fault::RepeatsEverything) {
            self.counters.datagrams_sent += 1;
            self.link.out.push_back((port, datagram.clone()));
        }
        self.counters.datagrams_sent += 1;
        self.link.out.push_back((port, datagram));
    }

    /// Sends a confirmable message, now or when the ones before it are done: NSTART is 1.
    pub(super) fn send_confirmable(
        &mut self,
        now_ms: u64,
        purpose: Purpose,
        id: u16,
        token: Token,
        datagram: Vec<u8>,
    ) {
        let ack_timeout_ms = self.spec.timing.ack_timeout_ms;
        let exchange = Exchange {
            purpose,
            id,
            token,
            datagram,
            retransmissions_left: self.spec.timing.max_retransmit,
            // ACK_RANDOM_FACTOR is 1.5.
            timeout_ms: ack_timeout_ms.saturating_add(self.rng.below(ack_timeout_ms / 2 + 1)),
            acknowledged: false,
        };
        if self.link.outstanding.is_none() {
            self.begin(now_ms, exchange);
            return;
        }
        if self.link.waiting.len() == WAITING {
            self.link.waiting.pop_front();
        }
        self.link.waiting.push_back(exchange);
    }

    fn begin(&mut self, now_ms: u64, exchange: Exchange) {
        self.timers
            .set(Timer::Exchange, now_ms, exchange.timeout_ms);
        self.transmit(now_ms, exchange.datagram.clone());
        self.link.outstanding = Some(exchange);
    }

    /// Ends the outstanding exchange and begins the next one.
    fn end_exchange(&mut self, now_ms: u64) -> Option<Purpose> {
        let ended = self.link.outstanding.take()?;
        self.timers.stop(Timer::Exchange);
        if let Some(next) = self.link.waiting.pop_front() {
            self.begin(now_ms, next);
        }
        Some(ended.purpose)
    }

    pub(super) fn exchange_due(&mut self, now_ms: u64) {
        let Some(exchange) = &mut self.link.outstanding else {
            return;
        };
        if exchange.acknowledged || exchange.retransmissions_left == 0 {
            if let Some(purpose) = self.end_exchange(now_ms) {
                self.exchange_failed(now_ms, purpose);
            }
            return;
        }
        exchange.retransmissions_left -= 1;
        exchange.timeout_ms = exchange.timeout_ms.saturating_mul(2);
        let timeout_ms = exchange.timeout_ms;
        let datagram = exchange.datagram.clone();
        self.timers.set(Timer::Exchange, now_ms, timeout_ms);
        self.counters.retransmissions += 1;
        self.transmit(now_ms, datagram);
    }

    fn exchange_failed(&mut self, now_ms: u64, purpose: Purpose) {
        match purpose {
            Purpose::Register => self.registration_failed(now_ms),
            Purpose::Update => self.register(now_ms),
            // The upgrade client repeats what matters.
            Purpose::Notification | Purpose::Response => {}
        }
    }

    /// An acknowledgement, empty or with the response to a request of the device's.
    pub(super) fn on_acknowledgement(&mut self, now_ms: u64, message: &Message<'_>) {
        let Some(exchange) = &mut self.link.outstanding else {
            return;
        };
        if exchange.id != message.id {
            return;
        }
        if message.code != Code::EMPTY {
            self.on_response(now_ms, message);
            return;
        }
        match exchange.purpose {
            Purpose::Notification | Purpose::Response => {
                self.end_exchange(now_ms);
            }
            Purpose::Register | Purpose::Update => {
                // The response will come in a message of its own; wait for it as long as for all
                // repeats together.
                exchange.acknowledged = true;
                let factor = 1 << (u32::from(self.spec.timing.max_retransmit) + 1).min(16);
                let patience_ms = self.spec.timing.ack_timeout_ms.saturating_mul(factor);
                self.timers.set(Timer::Exchange, now_ms, patience_ms);
            }
        }
    }

    /// A response, piggybacked or separate. Returns whether it answers something.
    pub(super) fn on_response(&mut self, now_ms: u64, message: &Message<'_>) -> bool {
        let expected = |exchange: &Exchange| {
            exchange.token == message.token
                && matches!(exchange.purpose, Purpose::Register | Purpose::Update)
        };
        if !self.link.outstanding().is_some_and(expected) {
            return false;
        }
        match self.end_exchange(now_ms) {
            Some(Purpose::Register) => self.on_registered(now_ms, message),
            Some(Purpose::Update) => self.on_updated(now_ms, message.code),
            Some(Purpose::Notification | Purpose::Response) | None => {}
        }
        true
    }

    /// The server could not make sense of a message. After a notification it means that the server has
    /// forgotten the observation (RFC 7641 §3.2).
    pub(super) fn on_reset(&mut self, now_ms: u64, id: u16) {
        let outstanding = self
            .link
            .outstanding()
            .is_some_and(|exchange| exchange.id == id);
        if self.last_notification_id == Some(id) {
            self.observation = None;
        }
        self.forget_observation(id);
        if outstanding && let Some(purpose) = self.end_exchange(now_ms) {
            self.exchange_failed(now_ms, purpose);
        }
    }

    pub(super) fn send_empty(&mut self, now_ms: u64, message_type: MessageType, id: u16) {
        self.transmit(now_ms, Writer::empty(message_type, id));
    }
}
