//! The state and the result of an upgrade: observed, read, sent by the device itself.

use std::time::Duration;

use crate::{
    clock::Instant,
    coap::{Code, Kind, Message, MessageBuilder, QueuedRequest, Token},
    engine::{
        Engine,
        asked::Tag,
        key::DeviceKey,
        link::below,
        observation::{Observation, Purpose},
    },
    ledger::{Happened, Inbound, Repeated, UpdateObject},
    lwm2m::{Value, values_of},
    upgrade::{Input, transfer::object::ObjectInput},
};

use super::gets::{Get, number};

/// The result of an installation that is deferred (OMA LwM2M Core 1.2 §E.6, resource 5).
const DEFERRED: u8 = 11;
/// Results of object 33629 whose cause is another component.
const CONFLICTING_STATE: u8 = 12;
const DEPENDENCY_ERROR: u8 = 13;

/// Half of the numbers that notifications have, and for how long one may be overtaken by another (RFC 7641 §3.4).
const HALF: u32 = 1 << 23;
const REORDERED: Duration = Duration::from_secs(128);

/// The two resources that are observed.
const BOTH: [Purpose; 2] = [Purpose::State, Purpose::Result];

/// Seconds after which a device notifies although nothing has changed (pmax): the less often, the worse its coverage is.
const fn pmax_s(band: u8) -> u32 {
    match band {
        1 => 300,
        0 | 2..=5 => 900,
        _ => 1_800,
    }
}

impl Engine {
    /// Asks for the state and the result of the device's upgrade, and to be told when they change.
    pub(in crate::engine) fn look_at_update(&mut self, key: DeviceKey) {
        let unsettled = (self.device(key).session.as_ref())
            .is_some_and(|session| session.exchange.candidates.is_some());
        if unsettled {
            // after a restart of the server the instance is looked for anew
            self.ask_object_version(key);
            return;
        }
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let route = &mut session.exchange;
        (route.awaits.state, route.awaits.result) = (true, true);
        let attributes = !std::mem::replace(&mut route.attributes, true);
        for purpose in BOTH {
            if attributes {
                self.send_attributes_of(key, purpose);
            }
            self.observe(key, purpose);
        }
    }

    /// Queues pmin and pmax for the resource (Write-Attributes, LwM2M 1.1 Core §6.3.5). A device that does not take them is
    /// observed all the same.
    fn send_attributes_of(&mut self, key: DeviceKey, purpose: Purpose) {
        let device = self.device(key);
        let Some(session) = device.session.as_ref() else {
            return;
        };
        let path = session.exchange.observed(purpose);
        let band = device.coverage().map_or(0, |(coverage, _)| coverage.band());
        let pmax = format!("pmax={}", pmax_s(band));
        let token = self.fresh_token();
        let message_id = self.take_message_id(key);
        let put = MessageBuilder::new(Kind::Confirmable, Code::PUT, message_id, token);
        let write = below(self.device(key), put, path);
        let datagram = write.query("pmin=0").query(&pmax).build();
        let tag = Tag::AttributesOf(purpose);
        self.enqueue(key, QueuedRequest::new(tag, message_id, token, datagram));
    }

    /// Queues the observation, which is a read as well (RFC 7641 §3.1), unless it is on its way.
    fn observe(&mut self, key: DeviceKey, purpose: Purpose) {
        let tag = Tag::Watch(purpose);
        if self.device(key).link.is_pending(|pending| *pending == tag) {
            return;
        }
        let message_id = self.take_message_id(key);
        let device = self.device(key);
        let Some(session) = device.session.as_ref() else {
            return;
        };
        let route = &session.exchange;
        let path = route.observed(purpose);
        let token = Observation::of_update(device.id, purpose, route.at()).token();
        let get = MessageBuilder::new(Kind::Confirmable, Code::GET, message_id, token).observe(0);
        let datagram = below(device, get, path).build();
        self.enqueue(key, QueuedRequest::new(tag, message_id, token, datagram));
    }

    /// The observation was answered; `None`: with a Reset, or not at all.
    pub(in crate::engine) fn watch_answered(
        &mut self,
        key: DeviceKey,
        purpose: Purpose,
        message: Option<&Message>,
    ) {
        let Some(message) = message.filter(|message| message.code().is_success()) else {
            // what cannot be observed may be read
            return self.send_get(key, get_of(purpose));
        };
        self.note_number(key, purpose, message);
        let value = self.value_of(key, purpose, message);
        self.looked_at(key, purpose, value);
    }

    /// Whether a notification of the state or the result, under that token, is of the upgrade that is under way. Any other is
    /// answered with a Reset, which ends the observation in the device (RFC 7641 §3.6).
    pub(in crate::engine) fn wants_update(
        &self,
        key: DeviceKey,
        purpose: Purpose,
        token: Token,
    ) -> bool {
        let device = self.device(key);
        let at = device.session.as_ref().map(|session| session.exchange.at());
        let is_own = |at| Observation::of_update(device.id, purpose, at).token() == token;
        self.is_transferring_by_object(key) && at.is_some_and(is_own)
    }

    /// A notification of the state or the result.
    pub(in crate::engine) fn update_notified(
        &mut self,
        key: DeviceKey,
        purpose: Purpose,
        message: &Message,
    ) {
        if !message.code().is_success() || self.device(key).session.is_none() {
            return; // the observation has ended (RFC 7641 §3.2); it is made anew with the next look
        }
        if !self.note_number(key, purpose, message) {
            self.counters.messages_stale += 1;
            return;
        }
        if let Some(value) = self.value_of(key, purpose, message) {
            self.update_told(key, purpose, value);
        }
    }

    /// Takes note of which notification it is. `false` for one that was overtaken by a newer one (RFC 7641 §3.4).
    fn note_number(&mut self, key: DeviceKey, purpose: Purpose, message: &Message) -> bool {
        if !self.is_newest(key, purpose, message) {
            return false;
        }
        let now = self.now.instant;
        if let (Some(number), Some(session)) =
            (message.observe(), self.device_mut(key).session.as_mut())
        {
            session.exchange.newest[usize::from(purpose == Purpose::Result)] = Some((number, now));
        }
        true
    }

    /// Whether no newer notification has come before it. One that comes in the answer to a question is the newest.
    pub(in crate::engine) fn is_newest(
        &self,
        key: DeviceKey,
        purpose: Purpose,
        message: &Message,
    ) -> bool {
        let newest = (self.device(key).session.as_ref())
            .and_then(|session| session.exchange.newest[usize::from(purpose == Purpose::Result)]);
        let (Some(number), Some(newest)) = (message.observe(), newest) else {
            return true;
        };
        message.kind() == Kind::Acknowledgement || is_newer(newest, (number, self.now.instant))
    }

    fn value_of(&self, key: DeviceKey, purpose: Purpose, message: &Message) -> Option<u8> {
        let session = self.device(key).session.as_ref()?;
        let path = session.exchange.observed(purpose);
        let format = message.content_format().map(|format| format.0);
        let values = values_of(format, &path, message.payload()).ok()?;
        values.first().and_then(number)
    }

    /// One of the two questions of a look is answered, or will not be.
    pub(super) fn looked_at(&mut self, key: DeviceKey, purpose: Purpose, value: Option<u8>) {
        if let Some(session) = self.device_mut(key).session.as_mut() {
            let awaits = &mut session.exchange.awaits;
            match purpose {
                Purpose::State => awaits.state = false,
                _ => awaits.result = false,
            }
        }
        if let Some(value) = value {
            self.update_told(key, purpose, value);
        }
        let session = self.device(key).session.as_ref();
        if session.is_some_and(|session| !session.exchange.awaits.any()) {
            self.fire(key, Input::Object(ObjectInput::Looked));
            self.resume_push(key);
            self.push_on(key);
        }
    }

    /// It tells its state, or its result.
    pub(in crate::engine) fn update_told(&mut self, key: DeviceKey, purpose: Purpose, value: u8) {
        let Some(session) = self.device(key).session.as_ref() else {
            return;
        };
        let path = session.exchange.observed(purpose).to_string();
        let defers = purpose == Purpose::Result
            && value == DEFERRED
            && session.exchange.object != UpdateObject::Software
            && session.exchange.abilities.defer.is_none();
        let in_conflict = purpose == Purpose::Result
            && matches!(value, CONFLICTING_STATE | DEPENDENCY_ERROR)
            && session.exchange.object == UpdateObject::Components
            && (session.negotiation().transfer()).is_some_and(|it| it.offers() > 0);
        self.said(key, Inbound::Told { path, value });
        if in_conflict {
            if let Some(session) = self.device_mut(key).session.as_mut() {
                session.exchange.conflict = Some(value);
            }
            return self.send_get(key, Get::Conflicts);
        }
        if defers {
            self.send_get(key, Get::Defer);
        }
        self.fire(
            key,
            Input::Object(match purpose {
                Purpose::State => ObjectInput::StateTold(value),
                _ => ObjectInput::ResultTold(value),
            }),
        );
    }

    /// The device has sent values of its own accord (Send): those of its upgrade are taken.
    pub(in crate::engine) fn update_sent(
        &mut self,
        key: DeviceKey,
        value_at: impl Fn(&crate::lwm2m::ResourcePath) -> Option<Value>,
    ) {
        for purpose in BOTH {
            let session = self.device(key).session.as_ref();
            let by_object = session.filter(|session| session.exchange.is_by_object());
            let path = by_object.map(|session| session.exchange.observed(purpose));
            if let Some(value) = path
                .and_then(|path| value_at(&path))
                .as_ref()
                .and_then(number)
            {
                self.update_told(key, purpose, value);
            }
        }
    }

    /// It takes no attributes: it is observed all the same.
    pub(in crate::engine) fn attributes_of_refused(&mut self, key: DeviceKey, code: Option<Code>) {
        self.note_once(key, Repeated::Attributes, || Happened::AttributesRefused {
            answer: code.map(|code| code.to_string()),
        });
    }
}

const fn get_of(purpose: Purpose) -> Get {
    match purpose {
        Purpose::Result => Get::Result,
        Purpose::State | Purpose::Uplink => Get::State,
    }
}

/// Whether a notification of that number, which came then, is newer than the newest one before it (RFC 7641 §3.4).
fn is_newer((known, known_at): (u32, Instant), (number, at): (u32, Instant)) -> bool {
    (known < number && number - known < HALF)
        || (known > number && known - number > HALF)
        || at.since(known_at) > REORDERED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_newer_by_half_of_them_or_after_two_minutes() {
        let at = |seconds: u64| Instant::from_millis(seconds * 1_000);
        let newer = |known, number, seconds| is_newer((known, at(0)), (number, at(seconds)));
        assert!(newer(1, 2, 0) && !newer(2, 1, 0) && !newer(2, 2, 0));
        // they begin anew after 2^24
        assert!(newer((1 << 24) - 1, 0, 0) && !newer(0, (1 << 24) - 1, 0));
        assert!(!newer(2, 1, 128) && newer(2, 1, 129) && newer(2, 2, 129));
    }
}
