//! Drives the session of a device: what happens goes in; publications, changes and grants come out.

use super::{
    Effect, Engine,
    device::{Device, Session},
};
use crate::{
    engine::Report,
    ledger::{Change, Deadline, DeviceId, Outcome, Repeated, Stage, Success},
    package::Version,
    session::{self, Contact, Step, StepDone},
    upgrade::{Input, Negotiation, Sign},
};

impl Engine {
    pub(super) fn session(&self, id: DeviceId) -> Option<&Session> {
        self.devices.get(&id)?.session.as_deref()
    }

    pub(super) fn session_mut(&mut self, id: DeviceId) -> Option<&mut Session> {
        self.devices.get_mut(&id)?.session.as_deref_mut()
    }

    /// The stage of the device's upgrade.
    pub(super) fn stage(&self, id: DeviceId) -> Option<Stage> {
        self.session(id)?.negotiation().stage()
    }

    /// Lets something happen to the device's upgrade, if it has one.
    pub(super) fn fire(&mut self, id: DeviceId, event: Input) {
        let (now, config) = (self.now, self.config.clone());
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        let known = device.version;
        let Some(session) = device.session.as_mut() else {
            return;
        };
        let Step {
            before,
            actions,
            line,
            news,
            done,
        } = session.on(now, event, known, &config);
        let after = session.negotiation().clone();
        if let Negotiation::Ended(outcome) = after {
            return self.end(id, &before, outcome);
        }
        // one that connects, or is heard, again and again is told of once in a stage
        let repeats = match event {
            Input::Connected => Some(Repeated::Connection),
            Input::HeardAgain => Some(Repeated::HeardAgain),
            _ => None,
        };
        let again = !news && repeats.is_some_and(|repeats| !session.correspondence.count(repeats));
        let changes = session.record(news, line.filter(|_| !again), now.utc);
        if let Some(StepDone { version, .. }) = done {
            // what it was offered for the step is void
            let token = session.exchange.next_step();
            device.let_go_at = None;
            self.silence(id, token);
            self.runs_target(id, version);
        }
        for change in changes {
            self.persist(id, change);
        }
        self.leave_lane(id, &before, &after);
        if matches!(after, Negotiation::WaitingForSlot { .. }) && before != after {
            self.queue_up(id);
        }
        for action in actions {
            self.act(id, action);
        }
    }

    /// Records how the device's attempt ended, and forgets it.
    pub(super) fn end(&mut self, id: DeviceId, before: &Negotiation, outcome: Outcome) {
        let (now, config) = (self.now, self.config.clone());
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        let contact = contact(device, now);
        let Some(mut session) = device.session.take() else {
            return;
        };
        device.tell_at = None;
        device.let_go_at = None;
        if let Some(change) = session.take_traffic(None, now.utc) {
            self.persist_lazily(change);
        }
        let facts = session.facts(before, &outcome, contact, &config);
        for change in session.take_repeated(now.utc) {
            self.persist_lazily(change);
        }
        if let Some(change) = session.take_served() {
            self.persist_lazily(change);
        }
        if outcome.is_success() {
            self.runs_target(id, session.package.version);
            if let Some(device) = self.devices.get_mut(&id) {
                device.concluded = outcome == Outcome::Succeeded(Success::Unverified);
            }
        }
        self.holders.remove(&session.order.upgrade);
        let change = session::ended(&session.order, outcome.clone(), facts, now.utc);
        let counter = match &outcome {
            Outcome::Succeeded(_) => &mut self.counters.upgrades_succeeded,
            Outcome::Failed(_) => &mut self.counters.upgrades_failed,
            Outcome::Cancelled(_) => &mut self.counters.upgrades_cancelled,
        };
        *counter += 1;
        let retried = matches!(&change, Change::Ended { retry_at, .. } if retry_at.is_some());
        self.effects.push_back(Effect::Report(Report::UpgradeEnded {
            endpoint: session.order.endpoint.clone(),
            upgrade: session.order.upgrade,
            attempt: session.order.attempt,
            outcome: outcome.clone(),
            retried,
        }));
        self.persist(id, change);
        self.leave_lane(id, before, &Negotiation::Ended(outcome));
        self.silence(id, session.exchange.token);
        // it may be a gateway, for which others wait
        self.wait_for_room(id);
    }

    /// The device runs the version that it was to run, as far as can be known.
    fn runs_target(&mut self, id: DeviceId, version: Version) {
        self.note_sign(id, version, Sign::Runs);
        let at = self.now.utc;
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        if device.version != Some(version) {
            device.version = Some(version);
            let endpoint = device.endpoint.to_string();
            self.persist(
                id,
                Change::VersionReported {
                    endpoint,
                    version,
                    at,
                },
            );
        }
    }

    /// Takes note of what the device did with a version, durably where that is news: a few times in a session.
    pub(super) fn note_sign(&mut self, id: DeviceId, version: Version, sign: Sign) {
        let now = self.now;
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        if device.evidence.note(version, sign, now.utc) {
            self.persist_evidence(id);
        }
    }

    /// Takes note, durably, that the device fetches a version in this attempt, even where it did so in an earlier one.
    pub(super) fn note_that_it_takes(&mut self, id: DeviceId, version: Version) {
        let at = self.now.utc;
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        if !device.evidence.note(version, Sign::Takes, at) {
            device.evidence.renew(version, at);
        }
        self.persist_evidence(id);
    }

    fn persist_evidence(&mut self, id: DeviceId) {
        let now = self.now;
        let Some(device) = self.devices.get(&id) else {
            return;
        };
        let change = Change::Evidence {
            endpoint: device.endpoint.to_string(),
            evidence: device.evidence.as_slice().to_vec(),
            at: now.utc,
        };
        self.persist(id, change);
    }

    /// Does what is due for a device.
    pub(super) fn device_timeout(&mut self, id: DeviceId) {
        let now = self.now;
        while let Some((deadline, at)) = self.session(id).and_then(Session::next_deadline) {
            if at > now.instant {
                break;
            }
            match self.told_before(id, deadline) {
                Some(version) => self.answers(id, Some(version)),
                None => self.fire(id, Input::Reached(deadline)),
            }
        }
        if self.session(id).is_some_and(|it| it.is_over_time(now.utc)) {
            self.fire(id, Input::WindowEnded);
        }
        let look = self.session_mut(id).map(|session| &mut session.look_at);
        let looks = look.is_some_and(|at| at.take_if(|at| *at <= now.instant).is_some());
        if looks && self.is_connected(id) && self.stage(id) == Some(Stage::WaitingForDevice) {
            self.fire(id, Input::Heard);
        }
        let device = self.devices.get_mut(&id);
        let let_go = device.and_then(|it| it.let_go_at.take_if(|at| *at <= now.instant));
        if let_go.is_some() {
            self.hold(id, false);
        }
        let device = self.devices.get_mut(&id);
        let settled = device.and_then(|it| it.tells_by.take_if(|at| *at <= now.instant));
        if settled.is_some() {
            self.holds_what_it_told(id);
        }
        let device = self.devices.get_mut(&id);
        let tell = device.and_then(|it| it.tell_at.take_if(|at| *at <= now.instant));
        if tell.is_some() {
            self.say_what_is_owed(id);
            self.goes_on(id);
        }
        self.set_alarm(id);
    }

    /// What a device that tells its version at start-up alone has told before, once it has had the time to tell it anew.
    fn told_before(&self, id: DeviceId, deadline: Deadline) -> Option<Version> {
        let device = self.devices.get(&id)?;
        let waits = deadline == Deadline::RepeatQuestion
            && device.protocol.tells_by_itself()
            && self.stage(id) == Some(Stage::QueryingVersion);
        let known = device.version.filter(|_| waits)?;
        if device.concluded && !self.is_of_use(id, known) {
            return None;
        }
        Some(known)
    }

    /// Whether a version that was concluded, and that nobody has told, says what to do. Not where it would say that there is
    /// nothing to do: then the device is pushed to.
    pub(super) fn is_of_use(&self, id: DeviceId, concluded: Version) -> bool {
        let target = self.session(id).map(|session| session.package.version);
        target != Some(concluded)
    }
}

fn contact(device: &Device, now: crate::clock::Now) -> Contact {
    let heard_at = device
        .heard_at
        .map(|at| now.utc.before(now.instant.since(at)));
    Contact {
        heard_at: heard_at.or(device.stored_heard_at),
        as_stored: heard_at.is_none(),
        objects: Vec::new(),
    }
}
