//! Keeps the correspondence of an attempt: what was sent and said goes into it, and into the timeline; when the attempt has failed,
//! its detail is made of it.

use super::{Change, Engine, Report, UpgradeOrder, asked::Tag, key::DeviceKey};
use crate::{
    clock::{Instant, UtcMillis},
    ledger::{Fate, Happened, Inbound, Outcome, Repeated, Said, UpdateStep},
    session::Contact,
};

impl Engine {
    /// The request that is outstanding has left (again).
    pub(super) fn has_left(&mut self, key: DeviceKey) {
        let at = self.now.utc;
        let device = self.device(key);
        let Some(tag) = device.link.outstanding() else {
            return;
        };
        let path = self.path_of_tag(key, tag);
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let message = tag.message(path);
        let line = session.correspondence.left(message, at);
        if matches!(tag, Tag::Execute | Tag::Step(UpdateStep::Install)) {
            self.commanded(key);
        }
        if let Some(line) = line {
            self.note(key, line);
        }
    }

    /// Something became of a request.
    pub(super) fn fared(&mut self, key: DeviceKey, tag: Tag, fate: Fate) {
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.correspondence.fared(&tag.message(None), fate);
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
        session.is_some_and(|session| session.correspondence.count(what))
    }

    /// The device has said something.
    pub(super) fn said(&mut self, key: DeviceKey, message: Inbound) {
        let at = self.now.utc;
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.correspondence.said = Some(Said { message, at });
        }
    }

    /// What is known of the device, for the facts of a failure.
    pub(super) fn contact(&self, key: DeviceKey) -> Contact {
        let device = self.device(key);
        Contact {
            heard_at: device.heard_at.map(|at| self.utc_of(at)),
            as_stored: device.unheard_since_start(),
            objects: device.announced_objects(),
        }
    }

    /// An attempt has ended.
    pub(super) fn count_and_report(
        &mut self,
        order: &UpgradeOrder,
        outcome: &Outcome,
        ended: &Change,
    ) {
        let counter = match outcome {
            Outcome::Succeeded(_) => &mut self.counters.upgrades_succeeded,
            Outcome::Failed(_) => &mut self.counters.upgrades_failed,
            Outcome::Cancelled(_) => &mut self.counters.upgrades_cancelled,
        };
        *counter += 1;
        self.report(Report::UpgradeEnded {
            endpoint: order.endpoint.clone(),
            upgrade: order.upgrade,
            attempt: order.attempt,
            outcome: outcome.clone(),
            retried: matches!(
                ended,
                Change::Ended {
                    retry_at: Some(_),
                    ..
                }
            ),
        });
    }

    /// The wall-clock time of an instant that has passed.
    fn utc_of(&self, past: Instant) -> UtcMillis {
        let ago = self.now.instant.since(past);
        let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        UtcMillis(self.now.utc.0.saturating_sub(ago_ms))
    }
}
