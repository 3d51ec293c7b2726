//! One course that things may take: the production planner and gate in virtual time, with devices for which a transfer is a
//! duration.

mod devices;
mod joining;
mod rollout;

use std::{cmp::Reverse, collections::BinaryHeap, ops::ControlFlow, time::Duration};

use super::{
    Given, Subject,
    chance::{Chance, Draws},
    course::Course,
    pace::Pace,
    unit::{Likeness, State, Unit, instant, utc},
};
use crate::{
    clock::{Instant, Now},
    ledger::Lane,
    session::{Gate, GateAsk, GateRequest},
    task::{HoldReason, Share},
};
use rollout::{Rollout, TASK};

/// Reasons for which devices fail in a course, as outcomes call them.
const NOT_HEARD: &str = "device_not_heard";
const NO_SLOT: &str = "slot_timed_out";
const TOO_LONG: &str = "download_timed_out";

/// So long after it was held a task is resumed: somebody has to see it.
pub(super) const RESUMED_AFTER: Duration = Duration::from_hours(1);
/// Nothing is forecast further ahead.
const FURTHEST: Duration = Duration::from_hours(400 * 24);
/// Steps of a course, and so many more for each device: what has not ended by then does not end. A task takes some dozens for each.
const MOST_STEPS: u64 = 10_000_000;
const STEPS_OF_DEVICE: u64 = 2_000;
/// Events between two questions whether to go on.
const ASK_EVERY: u64 = 1 << 12;

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
    /// That attempt is taken back, unless it is commanded to install by then.
    TakenBack(u32, u32),
    /// Its soak is over.
    Soaked(u32),
    /// So many devices of a phase are in health that had succeeded before.
    SoakedBefore(u32, u64),
    /// The planner looks.
    Look,
    /// Somebody has the task go on.
    Resume,
    /// A device joins the task.
    Joins,
}

/// How an attempt ends.
enum End {
    /// The device has the version.
    Succeeded,
    /// For that reason.
    Failed(String),
    /// Nothing is done to the device, for that reason.
    Skipped(&'static str),
}

/// A course under way.
pub(super) struct Play<'g> {
    given: &'g Given,
    pace: Pace,
    likeness: Likeness,
    draws: Draws,
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
        let chance = draws.chance();
        let likeness = Likeness::new(given);
        let subjects = given.devices.iter().chain(&given.others);
        let unit = |(number, subject): (u32, &Subject)| {
            Unit::new(given, (number, subject), (&likeness, &pace), draws)
        };
        let units: Vec<Unit> = (0..).zip(subjects).map(unit).collect();
        let mut play = Self {
            given,
            likeness,
            draws,
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
        self.gate.share(TASK, Share::of(&self.given.task.rules));
        for (cell, rules) in &self.given.cells {
            let lane = Lane::Cell(*cell);
            self.gate.rule(self.clock(), lane, rules.clone());
        }
        for (lane, most) in self.given.lanes.limits() {
            self.gate.limit(lane, Some(most));
        }
        self.rollout.deal(self.given, &mut self.units);
        for number in 0..self.unit_count() {
            if self.units[number as usize].state != State::Waits {
                self.plan_taking_back(number);
            }
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
        for (phase, ended) in (0_u32..).zip(&self.given.task.ended) {
            let rule = self.given.task.rules.phase(phase);
            let soaking = ended.soaking(rule);
            if soaking > 0 {
                // nobody knows since when: at the latest it is over then
                let over = self.now + Duration::from_secs(rule.soak_seconds.into());
                self.push(over, Event::SoakedBefore(phase, soaking));
            }
        }
        self.gate.open(true);
        self.push(self.now, Event::Look);
        self.plan_joining();
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
        let most = MOST_STEPS + STEPS_OF_DEVICE * self.units.len() as u64;
        let mut steps = 0_u64;
        while self.open > 0 && steps < most {
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
            Event::TakenBack(number, attempt) => {
                if self.units[number as usize].attempts == attempt {
                    self.take_back(number);
                }
            }
            Event::Soaked(number) => self.soaked(number),
            Event::SoakedBefore(phase, devices) => self.soaked_before(phase, devices),
            Event::Look => self.look(),
            Event::Joins => self.joins(),
            Event::Resume => self.resume(),
        }
    }
}
