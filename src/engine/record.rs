//! Keeps the account of an attempt: what was sent and said goes into it, and into the timeline; when the attempt has failed,
//! its detail is made of it.

use std::fmt::Write;

use super::{
    Change, Engine, Standing,
    account::{Fate, Repeated, Said, Sent, is_aside},
    asked::Tag,
    device::{Session, StandingAsked},
    key::DeviceKey,
};
use crate::{
    clock::{Instant, UtcMillis},
    ledger::{Failure, Outcome},
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
        let announced = &mut session.account.announced;
        let line = announced.iter().position(|(queued, _)| *queued == tag);
        let line = line.map(|index| announced.swap_remove(index).1);
        self.has_left_as(key, tag, at);
        if tag == Tag::Execute {
            self.commanded(key);
        }
        if let Some(line) = line {
            self.note(key, line);
        }
    }

    fn has_left_as(&mut self, key: DeviceKey, tag: Tag, at: UtcMillis) {
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let sent = &mut session.account.sent;
        let before = sent.filter(|sent| !is_aside(sent.what));
        if is_aside(tag) && before.is_some() {
            return;
        }
        let path = session.read.as_ref().map(super::asked::Read::path);
        let path = path.filter(|_| tag == Tag::Read);
        let again = sent.filter(|sent| sent.what == tag && sent.path == path);
        *sent = Some(Sent {
            what: tag,
            path,
            times: again.map_or(1, |sent| sent.times.saturating_add(1)),
            at,
            fate: again.map_or(Fate::Open, |sent| sent.fate),
        });
    }

    /// Something became of a request.
    pub(super) fn fared(&mut self, key: DeviceKey, tag: Tag, fate: Fate) {
        if let Some(session) = self.device_mut(key).session.as_mut()
            && let Some(sent) = &mut session.account.sent
            && sent.what == tag
        {
            sent.fate = fate;
        }
    }

    /// Something happened that may happen again and again: the first time in a stage it is told at once.
    pub(super) fn note_once(
        &mut self,
        key: DeviceKey,
        what: Repeated,
        line: impl FnOnce() -> String,
    ) {
        if self.is_first(key, what) {
            self.note(key, line());
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
                let times = match count - 1 {
                    1 => "once more".to_owned(),
                    more => format!("{more} times more"),
                };
                self.persist_lazily(Change::Note {
                    upgrade: session.order.upgrade,
                    attempt: session.order.attempt,
                    note: format!("{} {times}", what.text()),
                    at: self.now.utc,
                });
            }
        }
    }

    /// The device has said something.
    pub(super) fn said(&mut self, key: DeviceKey, said: Said) {
        let at = self.now.utc;
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.account.said = Some((said, at));
        }
    }

    /// How an attempt ended, for the operator: of a failure all that is known of its last moments.
    pub(super) fn detail(
        &self,
        key: DeviceKey,
        session: &Session,
        before: &Sota,
        outcome: &Outcome,
    ) -> String {
        let mut text = outcome.to_string();
        let Outcome::Failed(failure) = outcome else {
            return text;
        };
        if let (Failure::CellUnknown, Some(problem)) = (failure, &session.account.not_understood) {
            // it may have told its cell
            text = format!(
                "what the device answered about its cell (/4/0/8) is not understood, so it cannot be admitted to one: \
                 {problem}"
            );
        }
        // writing to a String does not fail
        if *failure == Failure::NotSupported {
            let objects = self.device(key).announced_objects();
            let _ = write!(text, ". It announces objects {objects} and no 19");
        }
        if let Some(deadline) = failure.limit() {
            let seconds = deadline.duration(&self.config.upgrade).as_secs();
            let _ = write!(text, ". Limit: {} = {seconds}", deadline.setting());
        }
        if *failure == Failure::SlotTimedOut
            && let (Some(place), StandingAsked::Told(standing)) = (before.place(), session.standing)
        {
            let Standing { taken, ahead } = standing;
            let _ = write!(
                text,
                ". {taken} {} in cell {}; this one's coverage allowed {}; {ahead} waited before it",
                if taken == 1 {
                    "device upgraded"
                } else {
                    "devices upgraded"
                },
                place.cell,
                place.limit
            );
        }
        let account = &session.account;
        match (&account.sent, account.resumed_at) {
            (Some(sent), _) => {
                let _ = write!(text, ". Sent last: {}", sent.text(account.resumed_at));
            }
            (None, Some(at)) => {
                let _ = write!(
                    text,
                    ". Sent last: nothing since the server started at {at}"
                );
            }
            (None, None) => text.push_str(". Sent last: nothing"),
        }
        if let Some((said, at)) = account.said {
            let _ = write!(text, ". Said last: {} at {at}", said.text());
        }
        let device = self.device(key);
        match device.heard_at.map(|at| self.utc_of(at)) {
            None => text.push_str(". It was never heard"),
            Some(at) if device.unheard_since_start() => {
                let _ = write!(text, ". Heard last, as far as is stored, at {at}");
            }
            Some(at) => {
                let _ = write!(text, ". Heard last at {at}");
            }
        }
        text
    }

    /// The wall-clock time of an instant that has passed.
    fn utc_of(&self, past: Instant) -> UtcMillis {
        let ago = self.now.instant.since(past);
        let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        UtcMillis(self.now.utc.0.saturating_sub(ago_ms))
    }
}
