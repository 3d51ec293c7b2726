//! Drives a device's state machine: events in; requests, changes and slots out.

use super::{
    Change, Engine, Presence, Report, Request,
    asked::{Read, Tag},
    device::{Session, StandingAsked, queued_in, slot_in},
    key::DeviceKey,
    notes,
};
use crate::{
    lwm2m::ResourcePath,
    task::UpgradeId,
    upgrade::{Action, Deadline, Event, Outcome, Sota, Stage},
};

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
        let rules = Self::rules(&config, session.package.identity.version);
        let before = session.sota.clone();
        let (after, actions) = before.clone().on(self.now.instant, event, &rules);
        session.sota = after;
        let detail = match &session.sota {
            Sota::Ended(outcome) => self.detail(key, &session, &before, outcome),
            _ => String::new(),
        };
        if let Sota::Ended(outcome) = &session.sota {
            let (after, outcome) = (session.sota.clone(), outcome.clone());
            self.end(key, *session, outcome, detail);
            self.move_slot(key, &before, &after);
            return;
        }
        if session.sota.stage() != before.stage() {
            session.account.tries = 0;
        }
        session.account.tries += actions.len();
        let news = session.refresh_stored(self.now);
        if news || !actions.is_empty() {
            let note = notes::of(event, &before, &session, &rules);
            let (upgrade, attempt, at) =
                (session.order.upgrade, session.order.attempt, self.now.utc);
            let change = session.stored.clone();
            let change = match (news, note) {
                (true, note) => Some(Change::Stage {
                    upgrade,
                    attempt,
                    change,
                    note: note.unwrap_or_default(),
                    at,
                }),
                (false, Some(note)) => Some(Change::Note {
                    upgrade,
                    attempt,
                    note,
                    at,
                }),
                (false, None) => None,
            };
            if let Some(change) = change {
                self.persist(key, change);
            }
        }
        if let Some(told) = self.move_slot(key, &before, &session.sota) {
            session.told = Some(told);
        }
        if session.sota.stage() != Some(Stage::WaitingForDevice) {
            session.look_at = None;
        }
        if queued_in(&session.sota).is_none() {
            session.keep_awake_at = None;
            session.standing = StandingAsked::Never;
        }
        self.device_mut(key).session = Some(session);
        if let Event::Reached(deadline) = event
            && before.is_repeating(deadline, &rules)
        {
            // The answer may be missing because the observation is.
            self.device_mut(key).observing = false;
        }
        for action in actions {
            self.act(key, action);
        }
        if event == Event::Reached(Deadline::Nudge) {
            self.store_last_progress(key);
        }
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

    pub(super) fn act(&mut self, key: DeviceKey, action: Action) {
        let Some(session) = self.device(key).session.as_ref() else {
            return;
        };
        let identity = session.package.identity;
        match action {
            Action::AskVersion => {
                self.observe_if_needed(key);
                if !self.device(key).link.is_pending(|tag| *tag == Tag::Version) {
                    self.send_message(key, Tag::Version, &pcp::PlatformMessage::VersionQuery);
                }
            }
            Action::ReadCoverage => {
                if let Some(session) = self.device_mut(key).session.as_mut() {
                    session.account.not_understood = None;
                }
                self.begin_read(key, Read::object());
            }
            Action::ReadCell => self.begin_read(key, Read::resource(ResourcePath::CELL_ID)),
            Action::Notify => {
                self.observe_if_needed(key);
                if !self.device(key).link.is_pending(|tag| *tag == Tag::Notify) {
                    let message = pcp::PlatformMessage::NewVersion {
                        version: identity.version,
                        segment_size: identity.segmentation.segment_size(),
                        segment_count: identity.segmentation.segment_count(),
                        check_code: identity.check_code,
                    };
                    self.send_message(key, Tag::Notify, &message);
                }
            }
            Action::Execute => {
                if !self.device(key).link.is_pending(|tag| *tag == Tag::Execute) {
                    self.send_message(key, Tag::Execute, &pcp::PlatformMessage::Execute);
                }
            }
        }
    }

    fn observe_if_needed(&mut self, key: DeviceKey) {
        if !self.device(key).observing {
            self.send_observe(key);
        }
    }

    /// Records how an attempt ended, and forgets it.
    fn end(&mut self, key: DeviceKey, session: Session, outcome: Outcome, detail: String) {
        let order = session.order;
        self.holders.remove(&order.upgrade);
        let counter = match outcome {
            Outcome::Succeeded(_) => &mut self.counters.upgrades_succeeded,
            Outcome::Failed(_) => &mut self.counters.upgrades_failed,
            Outcome::Cancelled => &mut self.counters.upgrades_cancelled,
        };
        *counter += 1;
        let retry_at = match outcome {
            Outcome::Failed(_) => order.retry.next_attempt_at(order.attempt, self.now.utc),
            Outcome::Succeeded(_) | Outcome::Cancelled => None,
        };
        let device = self.device_mut(key);
        // Questions of an attempt that has ended need no answer; answers that we owe still leave.
        device
            .link
            .cancel(|tag| !matches!(tag, Tag::Answer(_) | Tag::Observe));
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
                detail,
                retry_at,
                at,
            },
        );
    }

    /// Adds a line to the timeline of the device's upgrade.
    pub(super) fn note(&mut self, key: DeviceKey, note: String) {
        let Some(session) = self.device(key).session.as_ref() else {
            return;
        };
        let (upgrade, attempt) = (session.order.upgrade, session.order.attempt);
        let at = self.now.utc;
        self.persist_lazily(Change::Note {
            upgrade,
            attempt,
            note,
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
                let window = self.config.lwm2m.awake_window_s;
                let device = self.device(key);
                if !device.sleeps() || device.is_awake(now, window) {
                    self.send_ping(key);
                }
            }
        }
        let expired = self.device(key).registration.as_ref();
        if expired.is_some_and(|registration| registration.expires <= now) {
            self.counters.registrations_expired += 1;
            self.deregister(key);
        }
        self.settle(key);
    }

    /// Finds out whether a device that waits to be heard can be reached now.
    fn look_for(&mut self, key: DeviceKey) {
        let window = self.config.lwm2m.awake_window_s;
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
