//! Drives the session of a device that speaks LwM2M: what happens goes in; requests, changes and slots come out.

use std::time::Duration;

use super::{
    Engine,
    asked::{Read, Tag},
    device::Session,
    key::DeviceKey,
    link::Leaves,
    registered::Excuse,
};
use crate::{
    clock::{Instant, UtcMillis},
    ledger::{Deadline, Happened, Line, Outcome, Postponed, Repeated, Stage, UpgradeId},
    lwm2m::ResourcePath,
    package::Version,
    session::{self, GateRequest, Step, StepDone},
    upgrade::{Action, Input, Negotiation, Sign},
};

/// How long after a device did not answer it is looked for again; the next times twice as long each.
const LOOKS_AGAIN: Duration = Duration::from_mins(1);
/// Until it is looked for once in an hour.
const MOST_LOOKS: u8 = 6;

/// What became of what an upgrade wants to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    /// It was queued.
    Now(Tag),
    /// The same is under way already.
    Before,
}

impl Engine {
    /// The stage of the device's upgrade.
    pub(super) fn stage(&self, key: DeviceKey) -> Option<Stage> {
        self.device(key).session.as_ref()?.negotiation().stage()
    }

    /// Lets something happen to the device's upgrade, if it has one.
    pub(super) fn fire(&mut self, key: DeviceKey, event: Input) {
        self.choose_first(key, event);
        let (now, config) = (self.now, self.config.clone());
        let known = match event {
            Input::VersionAnswered(..) => self.known_to_run(key),
            _ => None,
        };
        let Some(session) = self.device_mut(key).session.as_mut() else {
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
            return self.end(key, &before, outcome);
        }
        if let Some(StepDone {
            version,
            entered_at,
        }) = done
        {
            self.runs_target(key, version, &before, entered_at);
        }
        if let Input::Reached(deadline) = event {
            self.deadline_passed(key, deadline, &before, &after);
        }
        match event {
            Input::CoverageAnswered(_) | Input::CellAnswered(_) => self.measured(key),
            Input::Reached(Deadline::Coverage | Deadline::Cell)
                if after.stage() == Some(Stage::WaitingForSlot) =>
            {
                self.put_off(key);
            }
            _ => {}
        }
        let asked = (actions.into_iter()).fold(Asked::Nothing, |_, action| self.act(key, action));
        // One that is at work is asked again and again.
        let again = event == Input::Reached(Deadline::ResultGrace)
            && !news
            && !self.is_first(key, Repeated::Question);
        self.record_step(key, news, line.filter(|_| !again), asked);
        let waits_long = matches!(
            after.stage(),
            Some(Stage::WaitingForSlot | Stage::Executing)
        );
        if waits_long && after.stage() != before.stage() {
            self.store_traffic(key);
        }
        if before.transfer().is_some() && after.transfer().is_none() {
            // it is served as long as it has its slot
            self.serves_no_more(key);
        }
        self.move_slot(key, &before, &after);
        if event == Input::Reached(Deadline::Nudge) {
            self.store_last_progress(key);
        }
        self.tell_progress(key, &before, &after);
    }

    /// What follows from a deadline besides what the upgrade does.
    fn deadline_passed(
        &mut self,
        key: DeviceKey,
        deadline: Deadline,
        before: &Negotiation,
        after: &Negotiation,
    ) {
        if before.is_repeating(deadline) {
            // The answer may be missing because the observation is.
            self.device_mut(key).observing = false;
        }
        if before.slot().is_some() && after.slot().is_none() {
            // Its download stands still: it is waited for until it is heard, and told nothing meanwhile.
            let device = self.device_mut(key);
            device.silent = true;
            device
                .link
                .cancel(|tag| matches!(tag, Tag::Notify | Tag::Segment(_)));
        }
    }

    /// Records what has happened to the upgrade, and what the device was asked for it, if that leaves now. What leaves
    /// later has a line then.
    fn record_step(&mut self, key: DeviceKey, news: bool, line: Option<Line>, asked: Asked) {
        let leaves = match asked {
            Asked::Now(tag) => Some((tag, self.leaves(key, tag))),
            Asked::Nothing | Asked::Before => None,
        };
        let at = self.now.utc;
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let line = line.map(|line| match (leaves, line) {
            (Some((_, Leaves::Now)), line) => line,
            (
                Some((tag, leaves)),
                Line {
                    happened,
                    asked: Some(asked),
                    number,
                    ..
                },
            ) => {
                let later = Line::asking(Happened::Asked, asked, number);
                session.correspondence.announce(tag.message(None), later);
                let postponed = match leaves {
                    Leaves::Later(why) => Some(why),
                    Leaves::Now | Leaves::Behind => None,
                };
                Line {
                    postponed,
                    ..happened.into()
                }
            }
            (_, Line { happened, .. }) => Line {
                postponed: (asked == Asked::Before).then_some(Postponed::AskedBefore),
                ..happened.into()
            },
        });
        for change in session.record(news, line, at) {
            self.persist(key, change);
        }
    }

    /// Tells the gate that the device has given its slot back, or where it waits.
    ///
    /// The change that says so was emitted before, so that it is committed before anybody else has the slot.
    pub(super) fn move_slot(&mut self, key: DeviceKey, before: &Negotiation, after: &Negotiation) {
        let leaves = session::leaves(before, after);
        let queues = matches!(after, Negotiation::WaitingForSlot { .. }) && before != after;
        // one that goes on to another queue keeps for how long it was passed over: it is there before it leaves the first
        let withdraws = |(_, request): &(_, GateRequest)| *request == GateRequest::Withdraw;
        if let Some((lane, request)) = leaves.filter(|it| !withdraws(it)) {
            self.ask(key, lane, request);
        }
        if queues {
            self.queue_up(key);
        }
        if let Some((lane, request)) = leaves.filter(withdraws) {
            self.ask(key, lane, request);
        }
        if queues {
            // One whose download stands still would answer, and not go on: it is waited for.
            if before.slot().is_none() {
                self.look_again(key);
            }
        }
    }

    /// Does what the upgrade wants done.
    pub(super) fn act(&mut self, key: DeviceKey, action: Action) -> Asked {
        if let Some(asked) = self.act_by_object(key, action) {
            return asked;
        }
        let tag = match action {
            Action::ReadCoverage => {
                if let Some(session) = self.device_mut(key).session.as_mut() {
                    session.correspondence.not_understood = None;
                }
                self.begin_read(key, Read::object());
                return Asked::Now(Tag::Read);
            }
            Action::ReadCell => {
                self.begin_read(key, Read::resource(ResourcePath::CELL_ID));
                return Asked::Now(Tag::Read);
            }
            Action::AskVersion => Tag::Version,
            // PCP has one word for both
            Action::Offer | Action::TellPackage => Tag::Notify,
            Action::Command => Tag::Execute,
            // they are of other transfers
            Action::Look | Action::Reset(_) | Action::Activate => return Asked::Nothing,
        };
        // What the device answers comes by its observation.
        if action != Action::Command && !self.device(key).observing {
            self.send_observe(key);
        }
        if self.device(key).link.is_pending(|pending| *pending == tag) {
            return Asked::Before;
        }
        self.say(key, tag);
        Asked::Now(tag)
    }

    /// Records how the device's attempt ended, and forgets it.
    fn end(&mut self, key: DeviceKey, before: &Negotiation, outcome: Outcome) {
        // what was fetched last counts for it
        self.close_pull(key);
        // the account of an attempt is told, whatever else waits
        let coverage = self.device(key).coverage().map(|(coverage, _)| coverage);
        let Some(mut session) = self.device_mut(key).session.take() else {
            return;
        };
        let now = self.now;
        if let Some(change) = session.take_traffic(coverage.as_ref(), now.utc) {
            self.persist_lazily(change);
        }
        let facts = session.facts(before, &outcome, self.contact(key), &self.config);
        for change in session.take_repeated(now.utc) {
            self.persist_lazily(change);
        }
        if let Some(done_bytes) = session.position(before) {
            self.store_progress_of(&mut session, done_bytes, false);
        }
        if let Some(change) = session.take_served() {
            self.persist_lazily(change);
        }
        if outcome.is_success() {
            let (version, entered_at) = (session.package.version, session.entered_at());
            self.runs_target(key, version, before, entered_at);
        }
        let Session {
            order,
            kept,
            exchange,
            ..
        } = *session;
        if kept.pings > 0 {
            let known = self.device_mut(key).known.get_or_insert_default();
            known.kept = Some((order.upgrade, kept));
        }
        self.holders.remove(&order.upgrade);
        // Questions of an attempt that has ended need no answer; answers that we owe still leave.
        (self.device_mut(key).link).cancel(|tag| {
            !matches!(
                tag,
                Tag::Answer(_) | Tag::Attributes | Tag::Observe | Tag::Forget(..)
            )
        });
        let change = session::ended(&order, outcome.clone(), facts, now.utc);
        self.count_and_report(&order, &outcome, &change);
        self.persist(key, change);
        self.move_slot(key, before, &Negotiation::Ended(outcome));
        self.ends_by_object(key, before, &exchange);
    }

    /// The device runs the version that it was to run; the stage in which that was seen was entered then.
    fn runs_target(
        &mut self,
        key: DeviceKey,
        version: Version,
        before: &Negotiation,
        entered_at: UtcMillis,
    ) {
        self.note_sign(key, version, Sign::Runs);
        if before.stage() == Some(Stage::Executing) {
            let took = self.now.utc.since(entered_at);
            self.learn(key, |habits| habits.installed(took));
        }
    }

    /// Adds a line to the timeline of the device's upgrade.
    pub(super) fn note(&mut self, key: DeviceKey, line: Line) {
        let at = self.now.utc;
        let session = self.device(key).session.as_ref();
        if let Some(change) = session.map(|session| session.note(line, at)) {
            self.persist_lazily(change);
        }
    }

    /// Whether the device has that upgrade under way.
    pub(super) fn has_upgrade(&self, key: DeviceKey, upgrade: UpgradeId) -> bool {
        let session = self.device(key).session.as_ref();
        session.is_some_and(|session| session.order.upgrade == upgrade)
    }

    /// Does what is due for a device.
    pub(super) fn device_timeout(&mut self, key: DeviceKey) {
        let now = self.now.instant;
        self.link_timeout(key);
        while let Some((deadline, _)) = self.next_deadline(key).filter(|(_, at)| *at <= now) {
            if deadline == Deadline::Slot && self.asks_how_it_stands(key) {
                break;
            }
            self.fire(key, Input::Reached(deadline));
        }
        let session = self.device(key).session.as_ref();
        if session.is_some_and(|session| session.is_over_time(self.now.utc)) {
            let event = if self.is_given_up(key) {
                Input::Reached(Deadline::DeviceHeard)
            } else {
                Input::WindowEnded
            };
            self.fire(key, event);
        }
        let device = self.device_mut(key);
        let look_at = (device.session.as_mut()).map(|session| &mut session.look_at);
        if look_at.is_some_and(|look_at| look_at.take_if(|at| *at <= now).is_some()) {
            self.look_for(key);
        }
        let expired = self.device(key).registration.as_ref();
        if expired.is_some_and(|registration| registration.expires <= now) {
            self.counters.registrations_expired += 1;
            self.note(key, Happened::RegistrationExpired.into());
            self.deregister(key);
            self.device_mut(key).excuse = Some(Excuse::Expired);
        }
        self.settle(key);
    }

    /// Whether a device that is waited for has been, window for window, for as long as one is at all.
    fn is_given_up(&self, key: DeviceKey) -> bool {
        let patience = Deadline::DeviceHeard.duration(&self.config.upgrade);
        let device = self.device(key);
        let begun_at = (device.session.as_ref()).and_then(|session| session.order.begun_at);
        // Of what was heard before a restart not all is stored.
        let heard_at = device.heard_at.max(Some(self.started_at.instant));
        self.stage(key) == Some(Stage::WaitingForDevice)
            && begun_at.is_some_and(|at| at + patience <= self.now.utc)
            && heard_at.is_some_and(|at| at + patience <= self.now.instant)
    }

    /// The device has told its coverage.
    fn measured(&mut self, key: DeviceKey) {
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.put_off = None;
        }
    }

    /// What runs out next of the device's upgrade.
    pub(super) fn next_deadline(&self, key: DeviceKey) -> Option<(Deadline, Instant)> {
        let device = self.device(key);
        device.session.as_ref()?;
        let started_at = self.started_at.instant;
        let asleep_from = device.asleep_from(self.listens(key), started_at);
        device.next_deadline(asleep_from, started_at, &self.config.upgrade)
    }

    /// Finds out whether a device that waits to be heard can be reached now, or one that waits for a slot and did not answer.
    fn look_for(&mut self, key: DeviceKey) {
        let window = self.listens(key);
        let device = self.device(key);
        let waits_for_slot = self.stage(key) == Some(Stage::WaitingForSlot);
        if device.peer().is_none() || (device.silent && !waits_for_slot) {
            return;
        }
        if device.is_awake(self.now.instant, window) && !device.silent {
            self.fire(key, Input::Heard);
        } else if !device.sleeps() {
            self.send_ping(key);
        }
    }

    /// A device that listens all the time and waits for a slot has not answered. Its turn may come long before it speaks by
    /// itself: it is looked for again, at longer and longer intervals.
    pub(super) fn look_again(&mut self, key: DeviceKey) {
        let now = self.now.instant;
        let stage = self.stage(key);
        let device = self.device_mut(key);
        if device.sleeps() || !device.silent {
            return;
        }
        if let Some(session) = device.session.as_mut()
            && stage == Some(Stage::WaitingForSlot)
        {
            session.look_at = Some(now + LOOKS_AGAIN * (1 << session.looks));
            session.looks = (session.looks + 1).min(MOST_LOOKS);
        }
    }
}
