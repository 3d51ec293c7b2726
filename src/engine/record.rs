//! Keeps the account of an attempt: what was sent and said goes into it, and into the timeline; when the attempt has failed,
//! its detail is made of it.

use super::{
    Change, Engine,
    asked::{Read, Tag},
    device::{Session, StandingAsked},
    key::DeviceKey,
};
use crate::{
    clock::{Instant, UtcMillis},
    ledger::{
        Facts, Failure, Fate, Happened, Inbound, Last, Limit, Outcome, Queue, Repeated, Said,
    },
    upgrade::Sota,
};

impl Engine {
    /// The request that is outstanding has left (again).
    pub(super) fn has_left(&mut self, key: DeviceKey) {
        let at = self.now.utc;
        let device = self.device_mut(key);
        let (Some(tag), Some(session)) = (device.link.outstanding(), device.session.as_mut())
        else {
            return;
        };
        let message = tag.message(session.read.as_ref().map(Read::path));
        let line = session.account.left(message, at);
        if tag == Tag::Execute {
            self.commanded(key);
        }
        if let Some(line) = line {
            self.note(key, line);
        }
    }

    /// Something became of a request.
    pub(super) fn fared(&mut self, key: DeviceKey, tag: Tag, fate: Fate) {
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.account.fared(&tag.message(None), fate);
        }
    }

    /// Something happened that may happen again and again: the first time in a stage it is told at once.
    pub(super) fn note_once(
        &mut self,
        key: DeviceKey,
        what: Repeated,
        line: impl FnOnce() -> Happened,
    ) {
        if self.is_first(key, what) {
            self.note(key, line().into());
        }
    }

    /// Counts what happened. Returns whether it is to be told, the first time in the stage.
    pub(super) fn is_first(&mut self, key: DeviceKey, what: Repeated) -> bool {
        let session = self.device_mut(key).session.as_mut();
        session.is_some_and(|session| session.account.count(what))
    }

    /// Tells how often what was told once has happened again in the stage that ends.
    pub(super) fn tell_repeated(&mut self, key: DeviceKey) {
        if let Some(mut session) = self.device_mut(key).session.take() {
            self.tell_repeated_of(&mut session);
            self.device_mut(key).session = Some(session);
        }
    }

    pub(super) fn tell_repeated_of(&mut self, session: &mut Session) {
        for (what, count) in std::mem::take(&mut session.account.repeated) {
            if count > 1 {
                let times = count - 1;
                self.persist_lazily(Change::Note {
                    upgrade: session.order.upgrade,
                    attempt: session.order.attempt,
                    line: Box::new(Happened::Repeated { what, times }.into()),
                    at: self.now.utc,
                });
            }
        }
    }

    /// The device has said something.
    pub(super) fn said(&mut self, key: DeviceKey, message: Inbound) {
        let at = self.now.utc;
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.account.said = Some(Said { message, at });
        }
    }

    /// What is known of how an attempt ended: of a failure all that is known of its last moments.
    pub(super) fn facts(
        &self,
        key: DeviceKey,
        session: &Session,
        before: &Sota,
        outcome: &Outcome,
    ) -> Facts {
        let facts = outcome.facts();
        let Outcome::Failed(failure) = outcome else {
            return facts;
        };
        let device = self.device(key);
        let account = &session.account;
        let limit = failure.limit().map(|deadline| Limit {
            setting: deadline.setting().into(),
            seconds: deadline.duration(&self.config.upgrade).as_secs(),
        });
        let queue = match (failure, before.place(), session.standing) {
            (Failure::SlotTimedOut, Some(place), StandingAsked::Told(standing)) => Some(Queue {
                cell: place.cell,
                taken: standing.taken,
                limit: place.limit,
                ahead: standing.ahead,
            }),
            _ => None,
        };
        Facts {
            objects: (*failure == Failure::NotSupported).then(|| device.announced_objects()),
            not_understood: (account.not_understood.clone())
                .filter(|_| *failure == Failure::CellUnknown),
            limit,
            queue,
            last: Some(Last {
                sent: account.sent.clone(),
                known_since: account.resumed_at,
                said: account.said.clone(),
                heard_at: device.heard_at.map(|at| self.utc_of(at)),
                heard_as_stored: device.unheard_since_start() && device.heard_at.is_some(),
            }),
            ..facts
        }
    }

    /// The wall-clock time of an instant that has passed.
    fn utc_of(&self, past: Instant) -> UtcMillis {
        let ago = self.now.instant.since(past);
        let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        UtcMillis(self.now.utc.0.saturating_sub(ago_ms))
    }
}
