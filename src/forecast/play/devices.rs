//! What devices do in a course, and what the gate has them do: as an engine would have it, without datagrams.

use std::time::Duration;

use super::{
    End, Event, NO_SLOT, Play, TOO_LONG,
    rollout::{OTHERS, TASK},
};
use crate::{
    forecast::unit::{State, Unit},
    ledger::{Deadline, DeviceId},
    session::{GateOrder, GateRequest, Work},
    upgrade::Readiness,
};

/// The shortest life of an appointment that is written (`engine/appointments.rs`).
const SOONEST: Duration = Duration::from_mins(5);

impl Play<'_> {
    /// The upgrade has begun: the device is asked as soon as it can be reached.
    pub(super) fn seek(&mut self, number: u32) {
        let patience = Deadline::DeviceHeard.duration(&self.given.config.upgrade);
        let listens = self.pace.habits.listening.window();
        let now = self.now;
        let unit = self.unit(number);
        unit.state = State::Sought;
        let (away, asleep) = (unit.away, unit.is_asleep(now, listens));
        let attempt = unit.attempts;
        if !away && !asleep {
            return self.contact(number);
        }
        self.push(now + patience, Event::Unheard(number, attempt));
        if !away {
            self.plan_wake(number);
        }
    }

    fn plan_wake(&mut self, number: u32) {
        let now = self.now;
        let unit = self.unit(number);
        let at = unit.wakes_at.max(now);
        let comes = unit.sleeps || now < unit.absent_until;
        if comes && unit.wake_planned.is_none_or(|planned| at < planned) {
            unit.wake_planned = Some(at);
            self.push(at, Event::Wake(number));
        }
    }

    pub(super) fn wake(&mut self, number: u32) {
        let now = self.now;
        let unit = self.unit(number);
        if unit.wake_planned != Some(now) {
            return; // it was put forward
        }
        unit.wake_planned = None;
        if !matches!(unit.state, State::Sought | State::Queued) {
            return; // it will be when it matters
        }
        if unit.wakes_at > now {
            return self.plan_wake(number);
        }
        self.contact(number);
        // once more at the same interval, and it is known
        self.unit(number).regular = true;
        self.plan_wake(number);
    }

    /// The device is heard.
    pub(super) fn contact(&mut self, number: u32) {
        let now = self.now;
        let unit = self.unit(number);
        unit.heard(now);
        match unit.state {
            State::Sought => {
                unit.state = State::Asked;
                // for its version, and its coverage
                let asked = unit.round_trip * 2;
                self.push(now + asked, Event::Answered(number));
            }
            State::Queued => self.tell_presence(number),
            State::Waits | State::Asked | State::Downloading | State::Installing | State::Over => {}
        }
    }

    pub(super) fn answered(&mut self, number: u32) {
        let now = self.now;
        let unit = self.unit(number);
        if unit.state != State::Asked {
            return;
        }
        unit.heard(now);
        unit.measured_at = Some(now);
        let route = unit.route;
        let step = unit.step;
        let route = self.given.routes.get(route);
        if let Some(reason) = route.skipped {
            return self.end(number, End::Skipped(reason));
        }
        if route.steps.len() <= step {
            return self.end(number, End::Succeeded);
        }
        let unit = self.unit(number);
        unit.state = State::Queued;
        unit.queued_at = now;
        self.queue_up(number);
    }

    /// It waits for a slot from now on, or still.
    pub(super) fn queue_up(&mut self, number: u32) {
        let patience = Deadline::Slot.duration(&self.given.config.upgrade);
        let unit = &self.units[number as usize];
        let (attempt, since) = (unit.attempts, unit.queued_at);
        let wait = GateRequest::Wait {
            task: if unit.lot.is_some() { TASK } else { OTHERS },
            limit: unit.limit,
            further: self.given.lanes.get(unit.lanes),
            since,
            work: self.work(unit),
            adaptive: None,
            presence: unit.presence(number, &self.pace, self.given),
        };
        self.ask(number, wait);
        if !self.units[number as usize].sleeps {
            let until = (since + patience).max(self.now);
            self.push(until, Event::Unserved(number, attempt));
        }
        self.plan_wake(number);
    }

    fn work(&self, unit: &Unit) -> Work {
        Work {
            bytes: unit.left,
            install: self.pace.habits.install(),
        }
    }

    pub(super) fn hold_slot(&mut self, number: u32) {
        let unit = &self.units[number as usize];
        let request = GateRequest::Hold {
            limit: unit.limit,
            further: self.given.lanes.get(unit.lanes),
            work: self.work(unit),
            adaptive: None,
        };
        self.course.admitted(number, self.now);
        self.ask(number, request);
    }

    pub(super) fn tell_presence(&mut self, number: u32) {
        let unit = &self.units[number as usize];
        let presence = unit.presence(number, &self.pace, self.given);
        self.ask(number, GateRequest::Presence(presence));
    }

    /// Does what the gate says, as an engine does.
    pub(super) fn obey(&mut self, device: DeviceId, order: GateOrder) {
        let number = Unit::number(device);
        let now = self.now;
        if self.units[number as usize].state != State::Queued {
            if let GateOrder::Admit { .. } = order {
                self.ask(number, GateRequest::Release);
            }
            return;
        }
        let round_trip = self.units[number as usize].round_trip;
        match order {
            GateOrder::Admit { active, .. } => self.admitted(number, active),
            GateOrder::Measure { .. } => {
                self.probe(number, Event::Measured(number), round_trip * 2);
            }
            GateOrder::Ping { .. } => self.probe(number, Event::Pinged(number), round_trip),
            GateOrder::KeepAwake { .. } => self.keep_awake(number),
            GateOrder::Appoint { at, .. } => {
                let patience = Deadline::DeviceHeard.duration(&self.given.config.upgrade);
                let at = at.min(now + patience / 4 * 3).max(now + SOONEST);
                self.unit(number).appoint(at);
                self.tell_presence(number);
                self.plan_wake(number);
            }
            GateOrder::Standing(standing) => {
                let patience = Deadline::Slot.duration(&self.given.config.upgrade);
                let unit = &self.units[number as usize];
                let until = unit.queued_at + patience + standing.closed.time;
                let attempt = unit.attempts;
                if standing.closed.now {
                    // without an end nothing comes of it
                    if let Some(opens_at) = standing.closed.opens_at {
                        let at = opens_at.max(now + Duration::from_secs(1));
                        self.push(at, Event::Unserved(number, attempt));
                    }
                } else if until > now {
                    self.push(until, Event::Unserved(number, attempt));
                } else {
                    self.ask(number, GateRequest::Withdraw);
                    self.end(number, End::Failed(NO_SLOT.to_owned()));
                }
            }
            GateOrder::WriteDown(_) => {}
        }
    }

    fn probe(&mut self, number: u32, then: Event, after: Duration) {
        self.unit(number).probing = true;
        self.tell_presence(number);
        self.push(self.now + after, then);
    }

    fn admitted(&mut self, number: u32, active: u32) {
        let now = self.now;
        let unit = &self.units[number as usize];
        let presence = unit.presence(number, &self.pace, self.given);
        if presence.readiness(now) != Readiness::Ready || active > unit.limit {
            self.ask(number, GateRequest::Release);
            return self.queue_up(number);
        }
        self.unit(number).state = State::Downloading;
        self.course.admitted(number, now);
        self.download(number);
    }

    /// It is kept awake, if it still is and may be.
    fn keep_awake(&mut self, number: u32) {
        let listens = self.pace.habits.listening.window();
        let admission = &self.given.config.admission;
        let now = self.now;
        let unit = &mut self.units[number as usize];
        let Some(heard_at) = unit.heard_at.filter(|at| now < *at + listens) else {
            return;
        };
        if unit.kept.spare(admission) < now.since(heard_at) {
            return;
        }
        unit.kept.ping(now, heard_at);
        let round_trip = unit.round_trip;
        self.probe(number, Event::Pinged(number), round_trip);
    }

    pub(super) fn download(&mut self, number: u32) {
        let most = Deadline::Download.duration(&self.given.config.upgrade);
        let unit = &self.units[number as usize];
        let mean = self.pace.download(unit.lane, unit.limit, unit.left);
        let takes = mean.mul_f64(unit.tempo).min(most);
        let ends = self.now + takes;
        self.unit(number).downloads = Some((self.now, ends));
        self.push(ends, Event::Downloaded(number));
    }

    pub(super) fn downloaded(&mut self, number: u32) {
        let most = Deadline::Download.duration(&self.given.config.upgrade);
        let install = self.pace.habits.install();
        let unit = &self.units[number as usize];
        if unit.state != State::Downloading || unit.downloads.is_none_or(|(_, to)| to != self.now) {
            return; // it was taken back meanwhile
        }
        let (lane, limit, left, tempo) = (unit.lane, unit.limit, unit.left, unit.tempo);
        let takes = self.pace.download(lane, limit, left).mul_f64(tempo);
        let now = self.now;
        self.unit(number).heard(now);
        if takes > most {
            // the next attempt goes on where this one was
            let done = most.as_secs_f64() / takes.as_secs_f64();
            let rest = Duration::from_millis(left).mul_f64(1.0 - done);
            self.unit(number).left = u64::try_from(rest.as_millis()).unwrap_or(left).max(1);
            self.ask(number, GateRequest::Release);
            self.course.released(
                number,
                now,
                left - self.units[number as usize].left.min(left),
            );
            return self.end(number, End::Failed(TOO_LONG.to_owned()));
        }
        self.unit(number).left = 0;
        self.unit(number).state = State::Installing;
        if self.units[number as usize].lot.is_some() && self.is_counted(number) {
            self.course.downloaded(left);
        }
        self.ask(number, GateRequest::Downloaded { install });
        self.push(now + install, Event::Installed(number));
    }

    pub(super) fn installed(&mut self, number: u32) {
        let now = self.now;
        let given = self.given;
        let unit = self.unit(number);
        unit.heard(now);
        let fails = unit.fails;
        if fails.is_none() {
            unit.step += 1;
        }
        // what failed is downloaded again; each further step is as an upgrade of its own
        let next = given.routes.get(unit.route).steps.get(unit.step);
        unit.left = next.map_or(0, |it| it.bytes);
        let asked = unit.round_trip * 2;
        self.ask(number, GateRequest::Release);
        self.course.released(number, now, 0);
        if fails.is_none() && next.is_some() {
            self.unit(number).state = State::Asked;
            return self.push(now + asked, Event::Answered(number));
        }
        let reason = fails.and_then(|reason| self.given.failures.get(reason));
        let end = match reason {
            Some((reason, _)) => End::Failed(reason.clone()),
            None => End::Succeeded,
        };
        self.end(number, end);
    }
}
