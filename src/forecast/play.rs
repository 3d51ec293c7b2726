//! One course that things may take: the production planner and gate in virtual time, with devices for which a transfer is a
//! duration.

mod rollout;

use std::{cmp::Reverse, collections::BinaryHeap, ops::ControlFlow, time::Duration};

use super::{
    Given, Subject,
    chance::Chance,
    course::Course,
    pace::Pace,
    unit::{Likeness, State, Unit, instant, utc},
};
use crate::{
    clock::{Instant, Now},
    ledger::{Deadline, DeviceId, Lane},
    session::{Gate, GateAsk, GateOrder, GateRequest, Work},
    task::HoldReason,
    upgrade::Readiness,
};
use rollout::Rollout;

/// Reasons for which devices fail in a course, as outcomes call them.
const NOT_HEARD: &str = "device_not_heard";
const NO_SLOT: &str = "slot_timed_out";
const TOO_LONG: &str = "download_timed_out";

/// So long after it was held a task is resumed: somebody has to see it.
pub(super) const RESUMED_AFTER: Duration = Duration::from_hours(1);
/// Nothing is forecast further ahead.
const FURTHEST: Duration = Duration::from_hours(400 * 24);
/// Events between two questions whether to go on.
const ASK_EVERY: u64 = 1 << 12;
/// The shortest life of an appointment that is written (`engine/appointments.rs`).
const SOONEST: Duration = Duration::from_mins(5);

/// Something that happens at its time, to the device of that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// It wakes up, unless that was put off.
    Wake(u32),
    /// It has answered what it was asked when it was heard.
    Answered(u32),
    /// It has answered a ping.
    Pinged(u32),
    /// Its coverage was measured anew.
    Measured(u32),
    /// Its download has ended, or has taken too long.
    Downloaded(u32),
    /// Its installation has ended.
    Installed(u32),
    /// In that attempt it is not waited for any more.
    Unheard(u32, u32),
    /// In that attempt it waits no more for a slot.
    Unserved(u32, u32),
    /// Its soak is over.
    Soaked(u32),
    /// The planner looks.
    Look,
    /// Somebody has the task go on.
    Resume,
}

/// How an attempt ends.
enum End {
    /// The device has the version.
    Succeeded,
    /// For that reason.
    Failed(String),
}

/// How likely a course is: all downloads take so long against the mean, and single ones as drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draws {
    pub(super) seed: u64,
    /// Standard deviations of the mean by which everything takes longer.
    pub(super) deviations: f64,
    /// Whether single downloads differ.
    pub(super) around: bool,
}

/// A course under way.
pub(super) struct Play<'g> {
    given: &'g Given,
    pace: Pace,
    chance: Chance,
    gate: Gate,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    pushed: u64,
    units: Vec<Unit>,
    rollout: Rollout,
    course: Course,
    /// Devices without a final outcome.
    open: usize,
}

impl<'g> Play<'g> {
    pub(super) fn new(given: &'g Given, draws: Draws) -> Self {
        let pace = Pace::new(given);
        let chance = Chance::new(draws.seed);
        let likeness = Likeness::new(given);
        let subjects = given.devices.iter().chain(&given.others);
        let unit = |(number, subject): (u32, &Subject)| {
            let doubt = pace.doubt(subject.limit);
            let tempo = (draws.deviations * doubt).exp();
            let known = (&likeness, &pace, chance);
            Unit::new(given, (number, subject), known, tempo, draws.around)
        };
        let units: Vec<Unit> = (0..).zip(subjects).map(unit).collect();
        let mut play = Self {
            given,
            chance,
            gate: Gate::new(&given.config.admission),
            now: instant(given.now),
            events: BinaryHeap::new(),
            pushed: 0,
            rollout: Rollout::new(given),
            course: Course::new(given, &units),
            open: given.devices.len(),
            units,
            pace,
        };
        play.settle();
        play
    }

    /// Everything stands as it is known to.
    fn settle(&mut self) {
        self.gate.restore(&self.given.learnt);
        for (cell, rules) in &self.given.cells {
            let lane = Lane::Cell(*cell);
            self.gate.rule(self.clock(), lane, rules.clone());
        }
        self.rollout.deal(self.given, &mut self.units);
        for number in 0..self.unit_count() {
            match self.units[number as usize].state {
                State::Sought => {
                    self.seek(number);
                }
                State::Queued => self.queue_up(number),
                State::Downloading => {
                    self.hold_slot(number);
                    self.download(number);
                }
                State::Installing => {
                    self.hold_slot(number);
                    let install = self.pace.habits.install();
                    self.push(self.now + install / 2, Event::Installed(number));
                }
                State::Waits | State::Asked | State::Over => {}
            }
        }
        self.gate.open(true);
        self.push(self.now, Event::Look);
        if let Some(hold) = &self.given.task.hold {
            let at = if hold.why == HoldReason::Approval {
                self.now // somebody approves it in time
            } else {
                self.now + RESUMED_AFTER
            };
            self.push(at, Event::Resume);
        }
    }

    /// Plays it to its end. `go_on` hears how many devices have a final outcome, and may end it.
    pub(super) fn run(
        mut self,
        mut go_on: impl FnMut(usize) -> ControlFlow<()>,
    ) -> ControlFlow<(), Course> {
        let ends = self.now + FURTHEST;
        let mut steps = 0_u64;
        while self.open > 0 {
            let next = self.events.peek().map(|Reverse((at, ..))| *at);
            let Some(at) = next.into_iter().chain(self.gate.poll_timeout()).min() else {
                break; // nothing will ever happen: a cell is closed without end, say
            };
            self.now = self.now.max(at);
            if self.now > ends {
                break;
            }
            while let Some(Reverse((at, _, event))) = self.events.peek().copied()
                && at <= self.now
            {
                self.events.pop();
                self.happens(event);
                steps += 1;
                if steps.is_multiple_of(ASK_EVERY)
                    && go_on(self.given.devices.len() - self.open).is_break()
                {
                    return ControlFlow::Break(());
                }
            }
            self.gate.keep_time(self.clock());
            self.gate.handle_timeout(self.now);
            while let Some((device, order)) = self.gate.poll_order() {
                self.obey(device, order);
            }
            steps += 1;
            if steps.is_multiple_of(ASK_EVERY)
                && go_on(self.given.devices.len() - self.open).is_break()
            {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(self.course.close(self.given, &self.units))
    }

    fn clock(&self) -> Now {
        Now {
            instant: self.now,
            utc: utc(self.now),
        }
    }

    fn unit_count(&self) -> u32 {
        u32::try_from(self.units.len()).unwrap_or(u32::MAX)
    }

    fn push(&mut self, at: Instant, event: Event) {
        self.pushed += 1;
        self.events.push(Reverse((at, self.pushed, event)));
    }

    fn unit(&mut self, number: u32) -> &mut Unit {
        &mut self.units[number as usize]
    }

    fn ask(&mut self, number: u32, request: GateRequest) {
        let lane = self.units[number as usize].lane;
        let device = Unit::id(number, self.chance);
        let ask = GateAsk {
            device,
            lane,
            request,
        };
        self.gate.handle(self.now, ask);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Wake(number) => self.wake(number),
            Event::Answered(number) => self.answered(number),
            Event::Pinged(number) => self.contact(number),
            Event::Measured(number) => {
                let now = self.now;
                self.unit(number).measured_at = Some(now);
                self.contact(number);
            }
            Event::Downloaded(number) => self.downloaded(number),
            Event::Installed(number) => self.installed(number),
            Event::Unheard(number, attempt) => {
                let unit = &self.units[number as usize];
                if unit.state == State::Sought && unit.attempts == attempt {
                    self.end(number, End::Failed(NOT_HEARD.to_owned()));
                }
            }
            Event::Unserved(number, attempt) => {
                let unit = &self.units[number as usize];
                if unit.state == State::Queued && unit.attempts == attempt {
                    self.ask(number, GateRequest::Standing);
                }
            }
            Event::Soaked(number) => self.soaked(number),
            Event::Look => self.look(),
            Event::Resume => self.resume(),
        }
    }

    /// The upgrade has begun: the device is asked as soon as it can be reached.
    fn seek(&mut self, number: u32) {
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
        if unit.sleeps && unit.wake_planned.is_none_or(|planned| at < planned) {
            unit.wake_planned = Some(at);
            self.push(at, Event::Wake(number));
        }
    }

    fn wake(&mut self, number: u32) {
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
    fn contact(&mut self, number: u32) {
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

    fn answered(&mut self, number: u32) {
        let now = self.now;
        let unit = self.unit(number);
        if unit.state != State::Asked {
            return;
        }
        unit.heard(now);
        unit.measured_at = Some(now);
        if unit.current {
            return self.end(number, End::Succeeded);
        }
        unit.state = State::Queued;
        unit.queued_at = now;
        self.queue_up(number);
    }

    /// It waits for a slot from now on, or still.
    fn queue_up(&mut self, number: u32) {
        let patience = Deadline::Slot.duration(&self.given.config.upgrade);
        let unit = &self.units[number as usize];
        let (attempt, since) = (unit.attempts, unit.queued_at);
        let wait = GateRequest::Wait {
            limit: unit.limit,
            since,
            work: self.work(unit),
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

    fn hold_slot(&mut self, number: u32) {
        let unit = &self.units[number as usize];
        let request = GateRequest::Hold {
            limit: unit.limit,
            work: self.work(unit),
        };
        self.course.admitted(number, self.now);
        self.ask(number, request);
    }

    fn tell_presence(&mut self, number: u32) {
        let unit = &self.units[number as usize];
        let presence = unit.presence(number, &self.pace, self.given);
        self.ask(number, GateRequest::Presence(presence));
    }

    /// Does what the gate says, as an engine does.
    fn obey(&mut self, device: DeviceId, order: GateOrder) {
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
                self.probe(number, Event::Measured(number), round_trip * 2)
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
                    self.push(
                        now + Duration::from_hours(1),
                        Event::Unserved(number, attempt),
                    );
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

    fn download(&mut self, number: u32) {
        let most = Deadline::Download.duration(&self.given.config.upgrade);
        let unit = &self.units[number as usize];
        let mean = self.pace.download(unit.lane, unit.limit, unit.left);
        let takes = mean.mul_f64(unit.tempo).min(most);
        self.push(self.now + takes, Event::Downloaded(number));
    }

    fn downloaded(&mut self, number: u32) {
        let most = Deadline::Download.duration(&self.given.config.upgrade);
        let install = self.pace.habits.install();
        let unit = &self.units[number as usize];
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
        self.course.downloaded(left);
        self.ask(number, GateRequest::Downloaded { install });
        self.push(now + install, Event::Installed(number));
    }

    fn installed(&mut self, number: u32) {
        let now = self.now;
        let bytes = self.given.package.bytes;
        let unit = self.unit(number);
        unit.heard(now);
        let fails = unit.fails;
        if fails.is_some() {
            unit.left = bytes;
        }
        self.ask(number, GateRequest::Release);
        self.course.released(number, now, 0);
        let reason = fails.and_then(|reason| self.given.failures.get(reason));
        let end = match reason {
            Some((reason, _)) => End::Failed(reason.clone()),
            None => End::Succeeded,
        };
        self.end(number, end);
    }
}
