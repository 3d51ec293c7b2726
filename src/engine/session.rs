//! Drives a device's state machine: events in; requests, changes and slots out.

use super::{
    Change, Engine, Presence, Report, Request,
    asked::{Read, Tag},
    device::{Session, StandingAsked, queued_in, slot_in},
    key::DeviceKey,
    link::Leaves,
    notes,
    registered::Excuse,
};
use crate::{
    ledger::{Deadline, Facts, Happened, Line, Outcome, Postponed, Repeated, Stage, UpgradeId},
    lwm2m::ResourcePath,
    upgrade::{Action, Event, Sign, Sota},
};

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
        let session = self.device(key).session.as_ref()?;
        session.sota.stage()
    }

    /// Lets something happen to the device's upgrade, if it has one.
    pub(super) fn fire(&mut self, key: DeviceKey, event: Event) {
        let Some(mut session) = self.device_mut(key).session.take() else {
            return;
        };
        let config = self.config.clone();
        let rules = Self::rules(&config, session.package.version);
        let before = session.sota.clone();
        let (after, actions) = before.clone().on(self.now.instant, event, &rules);
        if let Sota::Ended(outcome) = &after {
            let facts = self.facts(key, &session, &before, outcome);
            self.end(key, *session, &before, outcome.clone(), facts);
            self.move_slot(key, &before, &after);
            return;
        }
        session.sota = after.clone();
        if after.stage() != before.stage() {
            session.account.tries = Some(0);
        }
        if let Some(tries) = &mut session.account.tries {
            *tries += actions.len();
        }
        let news = session.refresh_stored(self.now);
        let line = if news || !actions.is_empty() {
            notes::of(event, &before, &session, &rules)
        } else {
            None
        };
        if after.stage() != Some(Stage::WaitingForDevice) {
            session.look_at = None;
        }
        if queued_in(&after).is_none() {
            session.keep_awake_at = None;
            session.standing = StandingAsked::Never;
        }
        self.device_mut(key).session = Some(session);
        if let Event::Reached(deadline) = event {
            self.deadline_passed(key, deadline, &before, &after);
        }
        let asked = (actions.into_iter()).fold(Asked::Nothing, |_, action| self.act(key, action));
        // One that is at work is asked again and again.
        let again = event == Event::Reached(Deadline::ResultGrace)
            && !news
            && !self.is_first(key, Repeated::Question);
        self.record_step(key, news, line.filter(|_| !again), asked);
        let told = self.move_slot(key, &before, &after);
        if let (Some(told), Some(session)) = (told, self.device_mut(key).session.as_mut()) {
            session.told = Some(told);
        }
        if event == Event::Reached(Deadline::Nudge) {
            self.store_last_progress(key);
        }
    }

    /// What follows from a deadline besides what the upgrade does.
    fn deadline_passed(&mut self, key: DeviceKey, deadline: Deadline, before: &Sota, after: &Sota) {
        if before.is_repeating(deadline) {
            // The answer may be missing because the observation is.
            self.device_mut(key).observing = false;
        }
        if slot_in(before).is_some() && slot_in(after).is_none() {
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
        let now = self.now;
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
                session.account.announce(tag.message(None), later);
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
        let (upgrade, attempt, at) = (session.order.upgrade, session.order.attempt, now.utc);
        let change = match line.map(Box::new) {
            line if news => Change::Stage {
                upgrade,
                attempt,
                change: session.stored.clone(),
                line,
                at,
            },
            Some(line) => Change::Note {
                upgrade,
                attempt,
                line,
                at,
            },
            None => return,
        };
        if let Change::Stage { change, .. } = &change
            && session.account.told_in.replace(change.stage) != Some(change.stage)
        {
            self.tell_repeated(key);
        }
        self.persist(key, change);
    }

    /// Tells the gate that the device has given its slot back, or where it waits. Returns what it was told with that.
    ///
    /// The change that says so was emitted before, so that it is committed before anybody else has the slot.
    pub(super) fn move_slot(
        &mut self,
        key: DeviceKey,
        before: &Sota,
        after: &Sota,
    ) -> Option<Presence> {
        if let Some(place) = slot_in(before)
            && slot_in(after).is_none()
        {
            self.ask(key, place.cell, Request::Release);
        }
        let left = queued_in(before).filter(|cell| {
            // a granted slot took the device out of the queue already
            queued_in(after) != Some(*cell) && slot_in(after).is_none()
        });
        if let Some(cell) = left {
            self.ask(key, cell, Request::Withdraw);
        }
        let waits = matches!(after, Sota::WaitingForSlot { .. });
        (waits && before != after)
            .then(|| self.queue_up(key, after))
            .flatten()
    }

    /// Does what the upgrade wants done.
    pub(super) fn act(&mut self, key: DeviceKey, action: Action) -> Asked {
        let Some(session) = self.device(key).session.as_ref() else {
            return Asked::Nothing;
        };
        let package = session.package.clone();
        let offer = &package.pcp.offer;
        let (tag, message) = match action {
            Action::ReadCoverage => {
                if let Some(session) = self.device_mut(key).session.as_mut() {
                    session.account.not_understood = None;
                }
                self.begin_read(key, Read::object());
                return Asked::Now(Tag::Read);
            }
            Action::ReadCell => {
                self.begin_read(key, Read::resource(ResourcePath::CELL_ID));
                return Asked::Now(Tag::Read);
            }
            Action::AskVersion => (Tag::Version, pcp::PlatformMessage::VersionQuery),
            Action::Notify => {
                let message = pcp::PlatformMessage::NewVersion {
                    version: offer.version,
                    segment_size: offer.segmentation.segment_size(),
                    segment_count: offer.segmentation.segment_count(),
                    check_code: offer.check_code,
                };
                (Tag::Notify, message)
            }
            Action::Execute => (Tag::Execute, pcp::PlatformMessage::Execute),
        };
        if matches!(action, Action::AskVersion | Action::Notify) {
            self.observe_if_needed(key);
        }
        if self.device(key).link.is_pending(|pending| *pending == tag) {
            return Asked::Before;
        }
        if action == Action::Notify {
            self.note_sign(key, package.version, Sign::Offered);
        }
        self.send_message(key, tag, &message);
        Asked::Now(tag)
    }

    fn observe_if_needed(&mut self, key: DeviceKey) {
        if !self.device(key).observing {
            self.send_observe(key);
        }
    }

    /// Records how an attempt ended, and forgets it.
    fn end(
        &mut self,
        key: DeviceKey,
        mut session: Session,
        before: &Sota,
        outcome: Outcome,
        facts: Facts,
    ) {
        self.tell_repeated_of(&mut session);
        if let Sota::Downloading {
            segment: Some(segment),
            ..
        } = before
        {
            session.progress_stored_at = None;
            self.store_progress_of(&mut session, *segment);
        }
        let order = session.order;
        if outcome.is_success() {
            let version = session.package.version;
            self.note_sign(key, version, Sign::Runs);
        }
        self.holders.remove(&order.upgrade);
        let counter = match outcome {
            Outcome::Succeeded(_) => &mut self.counters.upgrades_succeeded,
            Outcome::Failed(_) => &mut self.counters.upgrades_failed,
            Outcome::Cancelled(_) => &mut self.counters.upgrades_cancelled,
        };
        *counter += 1;
        let retry_at = match outcome {
            Outcome::Failed(_) => {
                crate::task::next_attempt_at(order.retry, order.attempt, self.now.utc)
            }
            Outcome::Succeeded(_) | Outcome::Cancelled(_) => None,
        };
        let device = self.device_mut(key);
        // Questions of an attempt that has ended need no answer; answers that we owe still leave.
        device
            .link
            .cancel(|tag| !matches!(tag, Tag::Answer(_) | Tag::Attributes | Tag::Observe));
        self.report(Report::UpgradeEnded {
            endpoint: order.endpoint,
            upgrade: order.upgrade,
            attempt: order.attempt,
            outcome: outcome.clone(),
            retried: retry_at.is_some(),
        });
        let at = self.now.utc;
        self.persist(
            key,
            Change::Ended {
                upgrade: order.upgrade,
                task: order.task,
                attempt: order.attempt,
                outcome,
                facts: Box::new(facts),
                retry_at,
                at,
            },
        );
    }

    /// Adds a line to the timeline of the device's upgrade.
    pub(super) fn note(&mut self, key: DeviceKey, line: Line) {
        let Some(session) = self.device(key).session.as_ref() else {
            return;
        };
        let (upgrade, attempt) = (session.order.upgrade, session.order.attempt);
        let at = self.now.utc;
        self.persist_lazily(Change::Note {
            upgrade,
            attempt,
            line: Box::new(line),
            at,
        });
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
        while let Some((deadline, _)) = self
            .device(key)
            .session
            .as_ref()
            .and_then(|session| session.next_deadline())
            .filter(|(_, at)| *at <= now)
        {
            if deadline == Deadline::Slot && self.asks_how_it_stands(key) {
                break;
            }
            self.fire(key, Event::Reached(deadline));
        }
        let device = self.device_mut(key);
        if let Some(session) = device.session.as_mut() {
            if session.look_at.take_if(|at| *at <= now).is_some() {
                self.look_for(key);
            } else if session.keep_awake_at.take_if(|at| *at <= now).is_some() {
                let window = self.profile(key).awake_window;
                let device = self.device(key);
                if !device.sleeps() || device.is_awake(now, window) {
                    self.send_ping(key);
                }
            }
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

    /// Finds out whether a device that waits to be heard can be reached now.
    fn look_for(&mut self, key: DeviceKey) {
        let window = self.profile(key).awake_window;
        let device = self.device(key);
        if device.peer().is_none() || device.silent {
            return;
        }
        if device.is_awake(self.now.instant, window) {
            self.fire(key, Event::Heard);
        } else if !device.sleeps() {
            self.send_ping(key);
        }
    }
}
