//! A CoAP message arrives: whose is it, was it here before, and which part of the engine takes it.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Engine, Incoming, Sought,
    device::HeardIn,
    key::DeviceKey,
    link::{STRANGE_NOTIFICATION, Try},
    moves::By,
    observation::{Observation, Purpose},
    respond::created,
};
use crate::{
    coap::{Code, Datagram, Kind, Message, Peer, Reply, empty_ack, reset, short_response},
    ledger::{DeviceId, Stage},
    upgrade::Input,
};

impl Engine {
    pub(super) fn receive(&mut self, incoming: &Incoming<'_>) {
        let bound = self.bound_to(&incoming.speaker);
        if let Some(key) = bound {
            self.device_mut(key).has_sent(incoming.bytes.len());
        }
        let code = incoming.message.code();
        if code.is_request() {
            let bound = self.here(incoming);
            return self.receive_request(bound, incoming);
        }
        let peer = incoming.peer();
        let key = match (self.sender(bound, incoming), incoming.sought) {
            (Sender::Known(key), _) => key,
            (Sender::Elsewhere(id), Sought::NotYet) => {
                return self.seek(id, By::Token, None, incoming);
            }
            (Sender::Elsewhere(_), Sought::NotTheirs(endpoint)) => {
                self.turn_away(&incoming.speaker, endpoint.to_string());
                return self.reject(peer, incoming.message);
            }
            // The token may be a device's that is not read yet.
            (Sender::Elsewhere(_), _) => match bound.filter(|_| self.restoring.is_none()) {
                Some(key) => key,
                None => return self.reject(peer, incoming.message),
            },
            (Sender::Nobody, _) => return self.reject(peer, incoming.message),
        };
        if !self.may_speak_for(&incoming.speaker, key) {
            return self.reject(peer, incoming.message);
        }
        let carries_response = matches!(
            incoming.message.kind(),
            Kind::Confirmable | Kind::NonConfirmable
        );
        if carries_response && self.answer_repeat(key, incoming) {
            self.count_came(key, incoming, Try::Again);
            // A network may have kept it until the device was elsewhere.
            if self.device(key).peer() == Some(peer) {
                self.heard(key);
                self.settle(key);
            }
            return;
        }
        if !self.moves_to(key, &incoming.speaker) {
            return;
        }
        if carries_response && self.device(key).is_observed_by(incoming.message.token()) {
            self.validate(key); // nobody else knows the token
        }
        self.look_at_association(key, &incoming.speaker);
        self.heard(key);
        match incoming.message.kind() {
            Kind::Confirmable if code == Code::EMPTY => {
                // CoAP ping (RFC 7252 §4.3)
                self.transmit(peer, reset(incoming.message.message_id()), 0);
                self.fire(key, Input::Heard);
            }
            Kind::Acknowledgement | Kind::Reset => self.answered(key, incoming),
            Kind::Confirmable | Kind::NonConfirmable if code.is_response() => {
                self.receive_response(key, incoming);
            }
            _ => self.counters.messages_unexpected += 1, // an empty Non-confirmable message
        }
        self.settle(key);
    }

    /// The device that a message without request comes from: by the token that only it and we know, or
    /// by its address.
    fn sender(&self, by_peer: Option<DeviceKey>, incoming: &Incoming<'_>) -> Sender {
        let message = incoming.message;
        if let Some(key) = self.awaited_by(incoming.peer(), message) {
            return Sender::Known(key);
        }
        // Most notifications come from where their device is known to be, and the other messages have tokens that
        // are none of an observation.
        let at_peer = by_peer.map(|key| self.device(key).id);
        let by_peer = by_peer.map_or(Sender::Nobody, Sender::Known);
        if !message.code().is_response() {
            return by_peer;
        }
        let token = message.token();
        if at_peer.is_some_and(|device| Observation::under(device, token).is_some()) {
            return by_peer;
        }
        let mut elsewhere = None;
        for device in Observation::of_token(token).map(Observation::device) {
            match self.devices.by_id(device) {
                Some(key) if self.device(key).registration.is_some() => return Sender::Known(key),
                Some(_) => {}
                None => elsewhere = elsewhere.or(Some(device)),
            }
        }
        elsewhere.map_or(by_peer, Sender::Elsewhere)
    }

    /// A message that makes no sense here (RFC 7252 §4.2, §4.3): reset when it is Confirmable.
    fn reject(&mut self, peer: Peer, message: &Message) {
        self.counters.messages_unexpected += 1;
        // Whoever is not known yet says it again.
        if message.kind() == Kind::Confirmable && self.restoring.is_none() {
            self.transmit(peer, reset(message.message_id()), 0);
        }
    }

    /// Answers a message that was received before as it was then. Returns whether it was.
    pub(super) fn answer_repeat(&mut self, key: DeviceKey, incoming: &Incoming<'_>) -> bool {
        let now = self.now.instant;
        let device = self.device(key);
        let id = incoming.message.message_id();
        let Some(reply) = device.answered_before(now, incoming.bytes, incoming.message) else {
            return false;
        };
        let datagram = match reply {
            Reply::Silence => None,
            Reply::Ack => Some(empty_ack(id).into()),
            Reply::Code(code) => Some(short_response(incoming.message, *code, id, Bytes::new())),
            Reply::Registered => (device.location())
                .map(|location| created(incoming.message, id, location).build().into()),
            Reply::Response(response) => Some(Datagram::clone(response)),
        };
        let after = device.pending;
        self.counters.datagrams_repeated += 1;
        // What waits for a commit is sent then, once.
        if let Some(datagram) = datagram.filter(|_| after <= self.committed) {
            self.transmit(incoming.peer(), datagram, after);
        }
        true
    }

    /// A response in a message of its own: a notification, or a separate response.
    fn receive_response(&mut self, key: DeviceKey, incoming: &Incoming<'_>) {
        let now = self.now.instant;
        let id = incoming.message.message_id();
        let token = incoming.message.token();
        let notifies = self.device(key).observed_for(token);
        let of_update = notifies.filter(|purpose| *purpose != Purpose::Uplink);
        let awaited = self.device(key).link.awaits(incoming.message);
        if let Some(purpose) = of_update
            && !awaited
            && !self.wants_update(key, purpose, token)
        {
            return self.end_observation(incoming);
        }
        let overtaken =
            of_update.is_some_and(|purpose| !self.is_newest(key, purpose, incoming.message));
        // before the upgrade ends with it
        if notifies.is_some() || awaited {
            self.count_came(key, incoming, Try::First);
        }
        let known = if notifies.is_some() && self.is_stale(key, id) {
            self.counters.messages_stale += 1;
            true
        } else if !overtaken && self.take_answer(key, incoming.message) {
            true
        } else if let Some(purpose) = notifies {
            self.silence(key); // it may have woken up just now
            match purpose {
                Purpose::Uplink => self.notified(key, incoming.message),
                purpose => self.update_notified(key, purpose, incoming.message),
            }
            true
        } else {
            self.counters.messages_unexpected += 1;
            false
        };
        let confirmable = incoming.message.kind() == Kind::Confirmable;
        let reply = if confirmable {
            Reply::Ack
        } else {
            Reply::Silence
        };
        if known {
            let device = self.device_mut(key);
            device.recent.remember(now, id, incoming.bytes, reply);
            let after = device.pending;
            if confirmable {
                self.transmit(incoming.peer(), empty_ack(id), after);
            }
        } else if confirmable {
            // ends whatever observation the device believes in (RFC 7641 §3.6)
            self.transmit(incoming.peer(), reset(id), 0);
            if incoming.message.observe().is_some() && self.observes_uplink(key) {
                self.observe_anew(key, STRANGE_NOTIFICATION);
            }
        }
    }

    /// Nobody wants the notification: a Reset ends the observation, also where it is Non-confirmable (RFC 7641 §3.6, §4.5). It
    /// is not remembered: the same again gets another one.
    fn end_observation(&mut self, incoming: &Incoming<'_>) {
        self.counters.messages_unexpected += 1;
        let id = incoming.message.message_id();
        self.transmit(incoming.peer(), reset(id), 0);
    }

    /// Whether the device sent the message before it registered. If it has restarted in between, what the message tells is
    /// over.
    pub(super) fn is_stale(&self, key: DeviceKey, message_id: u16) -> bool {
        let registration = self.device(key).registration.as_ref();
        registration.is_some_and(|it| it.is_newer_than(message_id, self.now.utc))
    }

    /// A notification of the uplink: PCP, or the device's own data.
    pub(super) fn notified(&mut self, key: DeviceKey, message: &Message) {
        if !message.code().is_success() {
            // The device ended the observation (RFC 7641 §3.2); it is asked for again when needed.
            self.device_mut(key).observing = false;
            return;
        }
        self.device_mut(key).observing = true;
        let content_format = message.content_format().map(|format| format.0);
        self.content_received(key, content_format, message.payload());
    }

    /// Something was received from the device, whatever it was: an upgrade that waits for a sign of life begins. That may have been
    /// a while ago, where another engine has received it.
    pub(super) fn heard(&mut self, key: DeviceKey) {
        let now = self.now.instant;
        let at = self.heard_at.min(now);
        self.learn_rhythm(key, at);
        let ack_timeout = self.profile(key).transmission.ack_timeout;
        let (listens, started_at) = (self.listens(key), self.started_at.instant);
        let device = self.device_mut(key);
        let asleep_from = device.asleep_from(listens, started_at);
        let silence = (device.heard_at).is_some_and(|before| at.since(before) > ack_timeout);
        let returned = silence || device.heard_in == HeardIn::ThisRunAfterSilence;
        device.heard_at = device.heard_at.max(Some(at));
        // one that has fallen asleep since is not reached
        device.silent &= at < now && device.sleeps() && !device.is_awake(now, listens);
        device.heard_in = if returned {
            HeardIn::ThisRunAfterSilence
        } else {
            HeardIn::ThisRun
        };
        self.forgets_now(key);
        if self.device(key).session.is_none() {
            return;
        }
        let slept = asleep_from.map_or(Duration::ZERO, |from| at.since(from));
        match self.stage(key) {
            Some(Stage::WaitingForDevice) if self.device(key).peer().is_some() => {
                self.fire(key, Input::Heard);
            }
            Some(Stage::WaitingForSlot) if !slept.is_zero() => {
                self.fire(key, Input::Slept(slept));
            }
            _ => {}
        }
    }

    /// Sends what may leave now, sets the device's alarm, and tells the gate how it is.
    pub(super) fn settle(&mut self, key: DeviceKey) {
        let now = self.now.instant;
        let once = self.is_asked_once(key);
        let device = self.device_mut(key);
        let returned = device.heard_in == HeardIn::ThisRunAfterSilence;
        if returned {
            device.heard_in = HeardIn::ThisRun;
        }
        if returned
            && !once
            && let Some(datagram) = device.link.repeat_overdue(now)
            && let Some(peer) = device.peer()
        {
            self.leave(key, peer, datagram, Try::Again);
        }
        self.give_back_lifetime(key);
        self.flush(key);
        self.device_mut(key).rest(now);
        self.set_alarm(key);
        self.pass_turn_of(key);
        self.tell_presence(key);
    }
}

/// Whom a message seems to come from.
enum Sender {
    Known(DeviceKey),
    /// Another engine may have the device.
    Elsewhere(DeviceId),
    Nobody,
}
