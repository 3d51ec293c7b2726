//! Appointments: a device that sleeps comes when there is a slot for it.
//!
//! Its client updates the registration at a time that follows from its lifetime. So the lifetime is written (LwM2M 1.0 §6.1,
//! /1/0/1) with which the next update falls at the appointed time. What the device's own lifetime was is stored before that,
//! and is written back when the upgrade is over, at the next contact, however it ended and whatever was restarted meanwhile.
//! Who refuses the write is left alone.

use std::time::Duration;

use super::{
    Change, Engine,
    appointed::{Appointed, Taken},
    asked::Tag,
    key::DeviceKey,
    link::below,
};
use crate::{
    clock::Instant,
    coap::{Code, ContentFormat, EXCHANGE_LIFETIME, Kind, MessageBuilder, QueuedRequest},
    config::Appointments,
    ledger::{Appointment, Deadline, Happened, Repeated, UpdateTimer, WakeUps},
    lwm2m::{Container, MAX_LIFETIME_S, ResourcePath, Wrapping, format},
};

/// A device that has not come so long after its time does not come by appointment.
const GRACE: Duration = Duration::from_mins(5);
/// The shortest lifetime that is written: a round trip in deep coverage, with repeats, and as long again.
const SHORTEST_S: u32 = 300;
/// After so many refusals in a row a device is left with the lifetime that it has.
const REFUSED_AT_MOST: u8 = 3;

impl Engine {
    /// Whether the device could be given an appointment.
    pub(super) fn may_appoint(&self, key: DeviceKey) -> bool {
        let device = self.device(key);
        let refuses = (device.known.as_ref()).is_some_and(|known| known.refuses_lifetime);
        // What is without end, or longer than is granted, could not be written back as it was.
        let finite = (device.registration.as_ref())
            .is_some_and(|registration| registration.lifetime_s < MAX_LIFETIME_S);
        self.profile(key).appointments == Appointments::Lifetime && finite && !refuses
    }

    /// When a device that sleeps is to be expected: by appointment, or as it has come before.
    pub(super) fn expected_at(&self, key: DeviceKey) -> Option<Instant> {
        let now = self.now;
        let device = self.device(key);
        let known = device.known.as_ref()?;
        let under_way = device.link.is_pending(|tag| *tag == Tag::Lifetime);
        let appointed = (known.appointed.as_ref())
            .filter(|it| it.stored.at.is_some() && (it.is_taken() || under_way))
            .map(|it| it.due)
            .filter(|due| now.instant < *due + GRACE);
        appointed.or_else(|| {
            let next = known.wake_ups?.next(now.utc)?;
            Some(now.instant_at(next))
        })
    }

    /// Has the device come at about that time, for a slot that is expected for it at `turn`.
    pub(super) fn appoint(&mut self, key: DeviceKey, at: Instant, turn: Instant) {
        let now = self.now.instant;
        // Nobody is made to be silent for so long that it counts as gone.
        let patience = Deadline::DeviceHeard.duration(&self.config.upgrade);
        let at = at.min(now + patience / 4 * 3);
        let window = self.listens(key);
        let device = self.device(key);
        let awake = device.sleeps() && device.is_awake(now, window) && !device.silent;
        let busy = device.link.is_pending(|_| true);
        let before = (device.known.as_ref()).and_then(|known| known.appointed.as_ref());
        let settled = before.is_some_and(|before| {
            let early = at.since(now) / 8 + Duration::from_mins(1);
            let comes = before.is_taken() && before.stored.at.is_some();
            comes && before.due <= turn && before.due + early >= at
        });
        let lately = before.is_some_and(|before| before.was_written_lately(now));
        if !awake || busy || settled || lately || !self.may_appoint(key) || !self.store_available {
            return self.tell_all(key);
        }
        let lifetime_s = (device.registration.as_ref()).map_or(0, |it| it.lifetime_s);
        let before = before.map(|before| before.stored);
        let timer = before.map_or(UpdateTimer::Unknown, |before| before.timer);
        let written_s = timer.lifetime_s(at.since(now));
        let stored = Appointment {
            usual_s: before.map_or(lifetime_s, |before| before.usual_s),
            written_s: written_s.clamp(SHORTEST_S, MAX_LIFETIME_S - 1),
            at: Some(self.now.utc_at(at)),
            timer,
        };
        if self.device_mut(key).may_write(now) {
            self.write_lifetime(key, stored);
        }
        self.tell_all(key);
    }

    /// Writes back what the device's own lifetime was, when no upgrade is under way and the device listens.
    pub(super) fn give_back_lifetime(&mut self, key: DeviceKey) {
        let device = self.device(key);
        let known = device.known.as_ref();
        let Some(appointed) = known.and_then(|known| known.appointed.as_ref()) else {
            return;
        };
        let now = self.now.instant;
        let free = device.session.is_none() && device.peer().is_some() && self.restoring.is_none();
        let stored = appointed.stored;
        let lately = appointed.was_written_lately(now) && stored.at.is_none();
        let refuses = appointed.refused >= REFUSED_AT_MOST;
        let listens = device.is_awake(now, self.listens(key)) && !device.silent;
        if !free
            || lately
            || refuses
            || !listens
            || device.link.is_pending(|_| true)
            || !self.store_available
        {
            return;
        }
        let stored = Appointment {
            written_s: stored.usual_s,
            at: None,
            ..stored
        };
        if self.device_mut(key).may_write(now) {
            self.write_lifetime(key, stored);
        }
    }

    /// A device that slept is heard. What it was made to do is no habit.
    pub(super) fn learn_rhythm(&mut self, key: DeviceKey, heard_at: Instant) {
        let (listens, started_at) = (self.listens(key), self.started_at.instant);
        let at = self.now.utc.before(self.now.instant.since(heard_at));
        let device = self.device_mut(key);
        let asleep_from = device.asleep_from(listens, started_at);
        let appointed = (device.known.as_ref()).is_some_and(|known| known.appointed.is_some());
        if appointed || asleep_from.is_none_or(|from| heard_at <= from) {
            return;
        }
        let wake_ups = &mut device.known.get_or_insert_default().wake_ups;
        *wake_ups = Some(match *wake_ups {
            Some(before) => before.again(at),
            None => WakeUps::first(at),
        });
    }

    fn write_lifetime(&mut self, key: DeviceKey, stored: Appointment) {
        let now = self.now.instant;
        let known = self.device_mut(key).known.get_or_insert_default();
        let before = known.appointed.as_deref();
        let in_tlv = before.is_some_and(|before| before.in_tlv);
        let mut appointed = Box::new(Appointed {
            stored,
            counted_from: now,
            due: now,
            written_at: Some(now),
            taken: Taken::Open,
            in_tlv,
            owes: before.is_some(),
            refused: before.map_or(0, |before| before.refused),
        });
        appointed.counts(now);
        known.appointed = Some(appointed);
        // Whether it answers or not, it may be silent for so long.
        if let Some(registration) = self.device_mut(key).registration.as_mut() {
            let until = now + Duration::from_secs(stored.written_s.into());
            registration.expires = registration.expires.max(until);
        }
        self.persist_registration(key, None);
        self.store_appointment(key, Some(stored));
        self.send_lifetime(key, stored.written_s, in_tlv);
    }

    fn send_lifetime(&mut self, key: DeviceKey, lifetime_s: u32, in_tlv: bool) {
        let path = ResourcePath::LIFETIME;
        let token = self.fresh_token();
        (self.device_mut(key).link).cancel(|tag| *tag == Tag::Lifetime);
        let message_id = self.take_message_id(key);
        let device = self.device(key);
        let put = MessageBuilder::new(Kind::Confirmable, Code::PUT, message_id, token);
        let (format, payload) = if in_tlv {
            // integers of TLV have a sign (LwM2M 1.0 §6.4.3.1); no lifetime needs the bit
            let tlv = Wrapping {
                container: Container::Tlv,
                multiple: false,
            };
            (format::TLV, tlv.wrap(&path, &lifetime_s.to_be_bytes()))
        } else {
            (format::TEXT, lifetime_s.to_string().into_bytes())
        };
        let put = below(device, put, path).content_format(ContentFormat(format));
        let datagram = put.payload(payload).build();
        let request = QueuedRequest::new(Tag::Lifetime, message_id, token, datagram);
        self.enqueue(key, request);
    }

    /// The device has answered the write of its lifetime, with that code, or with a Reset.
    pub(super) fn lifetime_answered(&mut self, key: DeviceKey, code: Option<Code>) {
        let now = self.now;
        let device = self.device_mut(key);
        let Some(known) = device.known.as_mut() else {
            return;
        };
        let Some(appointed) = known.appointed.as_mut() else {
            return;
        };
        let stored = appointed.stored;
        if code.is_some_and(Code::is_success) {
            appointed.taken = appointed.taken.max(Taken::Answered);
            appointed.refused = 0;
            appointed.counts(now.instant);
            // It lasts so long now, whether the device says so or not.
            if let Some(registration) = device.registration.as_mut() {
                registration.lifetime_s = match stored.at {
                    Some(_) => registration.lifetime_s.max(stored.written_s),
                    None => stored.usual_s,
                };
                registration.expires =
                    (registration.expires).max(now.instant + registration.lifetime());
            }
            self.persist_registration(key, None);
            return match stored.at {
                Some(at) => {
                    self.note_once(key, Repeated::Appointed, || Happened::Appointed { at });
                }
                None => self.forget_appointment(key),
            };
        }
        // Not every client reads plain text.
        let unread = code.is_some_and(|code| {
            code == Code::UNSUPPORTED_CONTENT_FORMAT || code == Code::BAD_REQUEST
        });
        if unread && !appointed.in_tlv {
            appointed.in_tlv = true;
            return self.send_lifetime(key, stored.written_s, true);
        }
        // What it took before is written back; one that cannot do now what it could before is asked again.
        known.refuses_lifetime = true;
        appointed.refused = appointed.refused.saturating_add(1);
        if appointed.owes {
            appointed.stored.at = None;
            let stored = appointed.stored;
            self.store_appointment(key, Some(stored));
        } else {
            self.forget_appointment(key);
        }
        self.note_once(key, Repeated::AppointmentRefused, || {
            Happened::AppointmentRefused {
                answer: code.map(|code| code.to_string()),
            }
        });
    }

    /// The device has registered, or updated its registration: its client counts from now on. It may have said what its
    /// lifetime is.
    pub(super) fn lifetime_told(&mut self, key: DeviceKey, lifetime_s: Option<u32>) {
        let (now, started_at) = (self.now.instant, self.started_at.instant);
        let device = self.device_mut(key);
        let under_way = device.link.is_pending(|tag| *tag == Tag::Lifetime);
        let known = device.known.as_mut();
        let Some(appointed) = known.and_then(|known| known.appointed.as_mut()) else {
            return;
        };
        let taken = appointed.taken;
        let stored = &mut appointed.stored;
        if taken >= Taken::Answered && stored.at.is_some() {
            let took = now.since(appointed.counted_from);
            stored.timer = stored.timer.seen(stored.written_s, took);
        }
        let mut over = false;
        let has_it = lifetime_s == Some(stored.written_s);
        // A write that is under way may yet arrive, or a copy of it; and what comes may be the repeat of what was said before.
        let written_at = appointed.written_at.unwrap_or(started_at);
        let arrived =
            !under_way && taken >= Taken::Answered && now.since(written_at) > EXCHANGE_LIFETIME;
        if let Some(has_s) = lifetime_s.filter(|_| arrived && !has_it) {
            // With a restart of the server the last write may not have left: it has what it was given before. A client may round
            // what it is given, and one that restarts may have what it was given by the write before the last. Only a longer one than
            // its own, of a client that has said that it has the last, is somebody else's.
            let foreign = taken == Taken::Told && has_s > stored.usual_s;
            over = has_s == stored.usual_s || foreign;
            stored.written_s = has_s;
        }
        over |= has_it && stored.written_s == stored.usual_s;
        if has_it {
            appointed.taken = Taken::Told;
        }
        appointed.counts(now);
        if over {
            self.forget_appointment(key);
        }
    }

    /// The device has its own lifetime.
    fn forget_appointment(&mut self, key: DeviceKey) {
        let device = self.device_mut(key);
        device.link.cancel(|tag| *tag == Tag::Lifetime);
        if let Some(known) = device.known.as_mut() {
            known.appointed = None;
        }
        self.store_appointment(key, None);
    }

    fn store_appointment(&mut self, key: DeviceKey, appointment: Option<Appointment>) {
        let change = Change::Appointed {
            endpoint: self.device(key).endpoint.to_string(),
            appointment,
        };
        self.persist(key, change);
    }
}
