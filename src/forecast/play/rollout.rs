//! The task in a course: the planner says what becomes of it and what may begin.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{End, Event, Given, NOT_HEARD, Play, RESUMED_AFTER};
use crate::{
    clock::{Instant, UtcMillis},
    forecast::{
        Account,
        unit::{State, Unit, instant, utc},
    },
    ledger::{Deadline, TaskId, TaskState, UpgradeId},
    task::{HoldReason, LotHead, Move, Paces, Results, Source, TaskHead, plan},
};

/// The task's number in a course.
pub(super) const TASK: TaskId = TaskId(1);
/// Those of all others: what they share slots by is not given.
pub(super) const OTHERS: TaskId = TaskId(2);
/// Outcomes of so long are looked at together.
const TOGETHER: Duration = Duration::from_secs(1);
/// Looks without a step of the task, of which each makes one.
const MOST_MOVES: usize = 1_000;

/// Where the task stands.
#[derive(Debug)]
pub(super) struct Rollout {
    head: TaskHead,
    lots: Vec<Lot>,
    paces: Paces,
    /// When the planner looks next.
    looks_at: Option<Instant>,
    /// What devices have spent, where the task has a budget.
    accounts: HashMap<u32, Account>,
}

/// Devices of one phase and time zone that wait, in the order in which they may begin.
#[derive(Debug)]
struct Lot {
    phase: u32,
    zone: Option<Arc<str>>,
    waiting: BinaryHeap<Reverse<(UtcMillis, u32)>>,
}

impl Rollout {
    pub(super) fn new(given: &Given) -> Self {
        let task = &given.task;
        let phases = task.rules.phase_count().max(task.phase as usize + 1);
        let mut results = task.ended.clone();
        results.resize(phases.max(results.len()), Results::default());
        let state = if task.start_at > given.now {
            TaskState::Scheduled
        } else {
            TaskState::Running
        };
        Self {
            head: TaskHead {
                task: TASK,
                state,
                start_at: task.start_at,
                rules: task.rules.clone(),
                hold: task.hold.clone(),
                expired: task.expired,
                phase: task.phase,
                results,
                resumed_with: task.resumed_with.clone(),
                lots: Vec::new(),
            },
            lots: Vec::new(),
            paces: Paces::default(),
            looks_at: None,
            accounts: HashMap::new(),
        }
    }

    /// Deals the devices out to their lots.
    pub(super) fn deal(&mut self, given: &Given, units: &mut [Unit]) {
        let mut numbers = BTreeMap::new();
        for (number, (subject, unit)) in (0..).zip(given.devices.iter().zip(units)) {
            let place = (subject.phase, subject.zone.clone());
            let next = self.lots.len();
            let lot = *numbers.entry(place).or_insert(next);
            if lot == next {
                self.lots.push(Lot {
                    phase: subject.phase,
                    zone: subject.zone.clone(),
                    waiting: BinaryHeap::new(),
                });
            }
            if let Some(account) = &subject.account {
                self.accounts.insert(number, (**account).clone());
            }
            unit.lot = u32::try_from(lot).ok();
            let results = &mut self.head.results;
            let phase = subject.phase as usize;
            if results.len() <= phase {
                results.resize(phase + 1, Results::default());
            }
            if unit.state == State::Waits {
                results[phase].waiting += 1;
                let since = subject.not_before.max(given.task.start_at);
                self.lots[lot].waiting.push(Reverse((since, number)));
            } else {
                results[phase].running += 1;
            }
        }
    }

    /// What had come of the task when it is looked at.
    fn all(&self) -> Results {
        let mut all = Results::default();
        for phase in &self.head.results {
            all.add(phase);
        }
        all
    }

    fn show(&mut self) {
        let running = self.head.phase;
        let lots = (0..).zip(&self.lots);
        let begun = lots.filter(|(_, lot)| lot.phase <= running);
        self.head.lots = begun
            .map(|(number, lot)| LotHead {
                lot: number,
                zone: lot.zone.clone(),
                first_due: (lot.waiting.peek())
                    .map(|Reverse((since, number))| (*since, UpgradeId(i64::from(*number)))),
            })
            .collect();
    }

    /// The phase that devices join at that time, if any may.
    pub(super) fn joined_phase(&self, now: UtcMillis) -> Option<u32> {
        self.head.takes_up(now).then_some(self.head.phase)
    }

    /// A device has joined that phase, and may begin from now on. Gives its lot.
    pub(super) fn takes_up(&mut self, number: u32, phase: u32, now: UtcMillis) -> Option<u32> {
        let lot = self.lots.iter().position(|lot| lot.phase == phase);
        let lot = lot.unwrap_or_else(|| {
            self.lots.push(Lot {
                phase,
                zone: None,
                waiting: BinaryHeap::new(),
            });
            self.lots.len() - 1
        });
        self.lots[lot].waiting.push(Reverse((now, number)));
        if let Some(results) = self.head.results.get_mut(phase as usize) {
            results.waiting += 1;
        }
        u32::try_from(lot).ok()
    }

    /// When the first one is due that is not yet.
    fn next_due(&self, now: UtcMillis) -> Option<UtcMillis> {
        let running = self.head.phase;
        let lots = self.lots.iter().filter(|lot| lot.phase <= running);
        let first = lots.filter_map(|lot| lot.waiting.peek());
        let first = first.map(|Reverse((since, _))| *since);
        let starts = (self.head.state == TaskState::Scheduled).then_some(self.head.start_at);
        first.chain(starts).filter(|since| *since > now).min()
    }

    /// Whether the device has not enough left of its budget; it waits then until a month begins in which it has, if it ever does.
    fn puts_off(&mut self, number: u32, lot: Option<u32>, now: UtcMillis) -> bool {
        let budget = self.head.rules.budget;
        let Some((budget, account)) = budget.zip(self.accounts.get_mut(&number)) else {
            return false;
        };
        let spent = account.at(now);
        let Err(over) = budget.check(spent) else {
            // what the attempt costs counts for the next one
            spent.used.bytes += spent.need.bytes;
            spent.used.airtime_estimated_ms += spent.need.airtime_estimated_ms;
            return false;
        };
        let ever = budget.has_room_for(spent.need).is_ok();
        if let Some(lot) = lot
            .filter(|_| ever)
            .and_then(|lot| self.lots.get_mut(lot as usize))
        {
            lot.waiting.push(Reverse((over.until, number)));
        }
        true
    }

    /// The next device that is due in these sources, in the order in which they became so.
    fn take(&mut self, sources: &[Source], now: UtcMillis) -> Option<u32> {
        let first = |lot: &Lot| lot.waiting.peek().map(|Reverse(first)| *first);
        let lots = sources.iter().filter_map(|source| {
            let (since, number) = first(self.lots.get(source.lot as usize)?)?;
            (since <= now).then_some((since, number, source.lot))
        });
        let (_, number, lot) = lots.min()?;
        self.lots[lot as usize].waiting.pop();
        Some(number)
    }
}

impl Play<'_> {
    /// Whether a device belongs to those of which it is forecast when they are through.
    pub(super) fn is_counted(&self, number: u32) -> bool {
        (number as usize) < self.given.devices.len()
    }

    /// Plans a look at the task, unless one comes before.
    pub(super) fn look_at(&mut self, at: Instant) {
        if self.rollout.looks_at.is_none_or(|before| at < before) {
            self.rollout.looks_at = Some(at);
            self.push(at, Event::Look);
        }
    }

    /// What becomes of the task, and what may begin.
    pub(super) fn look(&mut self) {
        if self.rollout.looks_at.is_some_and(|at| at > self.now) {
            return; // of a time that was put forward
        }
        self.rollout.looks_at = None;
        let now = self.clock();
        for _ in 0..MOST_MOVES {
            self.rollout.show();
            let heads = std::slice::from_ref(&self.rollout.head);
            let planned = plan(heads, &self.rollout.paces, now);
            for step in &planned.moves {
                self.make(step);
            }
            let moved = !planned.moves.is_empty();
            let begun = !moved && self.begin(&planned.start);
            if moved || begun {
                continue;
            }
            let due = self.rollout.next_due(now.utc);
            if let Some(at) = due.into_iter().chain(planned.next).min() {
                self.look_at(instant(at).max(self.now + Duration::from_millis(1)));
            }
            return;
        }
        self.look_at(self.now + Duration::from_millis(1));
    }

    /// Begins what may. Returns whether anything has.
    fn begin(&mut self, sources: &[Source]) -> bool {
        let now = self.clock();
        let Some(source) = sources.first().copied() else {
            return false;
        };
        let mut begun = 0_u32;
        while begun < source.limit
            && let Some(number) = self.rollout.take(sources, now.utc)
        {
            let lot = self.unit(number).lot;
            if self.rollout.puts_off(number, lot, now.utc) {
                continue;
            }
            begun += 1;
            let unit = self.unit(number);
            unit.attempts += 1;
            unit.taken_back = false;
            unit.begun_at = unit.begun_at.or(Some(now.instant));
            if let Some(results) = self.results_of(lot) {
                results.waiting = results.waiting.saturating_sub(1);
                results.running += 1;
            }
            self.course.began(self.now);
            self.plan_taking_back(number);
            self.seek(number);
        }
        if let Some(per_minute) = source.per_minute {
            let task = self.rollout.head.task;
            (self.rollout.paces).begun(task, per_minute, begun, now);
        }
        begun > 0
    }

    /// It is taken back when its window ends, as the rules of the task say.
    pub(super) fn plan_taking_back(&mut self, number: u32) {
        let unit = &self.units[number as usize];
        let lot = unit.lot.and_then(|lot| self.rollout.lots.get(lot as usize));
        let Some(lot) = lot else {
            return; // of another task
        };
        let rules = &self.given.task.rules;
        if let Some(back) = rules.taken_back(lot.zone.as_deref(), utc(self.now)) {
            let attempt = unit.attempts;
            self.push(instant(back.at), Event::TakenBack(number, attempt));
        }
    }

    /// Its window has ended: unless it installs it waits for the next one, and goes on with what it has.
    pub(super) fn take_back(&mut self, number: u32) {
        let now = self.now;
        let patience = Deadline::DeviceHeard.duration(&self.given.config.upgrade);
        let expired = self.rollout.head.expired;
        let unit = self.unit(number);
        let (lot, since, before) = (unit.lot, unit.since, unit.state);
        let gone = unit.away && unit.begun_at.is_some_and(|at| at + patience <= now);
        if before == State::Sought && gone {
            return self.end(number, End::Failed(NOT_HEARD.to_owned()));
        }
        let mut done = 0;
        match before {
            State::Waits | State::Installing | State::Over => return,
            State::Sought | State::Asked | State::Queued => {}
            State::Downloading => {
                if let Some((from, to)) = unit.downloads.take() {
                    let share =
                        now.since(from).as_secs_f64() / to.since(from).as_secs_f64().max(0.001);
                    let left =
                        Duration::from_millis(unit.left).mul_f64((1.0 - share).clamp(0.0, 1.0));
                    let left = u64::try_from(left.as_millis()).unwrap_or(unit.left).max(1);
                    done = unit.left - left.min(unit.left);
                    unit.left = left;
                }
            }
        }
        unit.state = if expired { State::Over } else { State::Waits };
        unit.taken_back = true;
        unit.attempts_before += 1; // it counts for nothing
        if expired {
            unit.ended_at = Some(now);
        }
        match before {
            State::Queued => self.ask(number, crate::session::GateRequest::Withdraw),
            State::Downloading => {
                self.ask(number, crate::session::GateRequest::Release);
                self.course.released(number, now, done);
            }
            _ => {}
        }
        if let Some(results) = self.results_of(lot) {
            results.running = results.running.saturating_sub(1);
            results.waiting += u64::from(!expired);
        }
        if expired && self.is_counted(number) {
            self.open -= 1;
            self.course.gave_up(number, true);
        } else if expired {
            // one that has joined
        } else if let Some(lot) = lot.and_then(|lot| self.rollout.lots.get_mut(lot as usize)) {
            lot.waiting.push(Reverse((since, number)));
        }
        self.look_at(now);
    }

    fn results_of(&mut self, lot: Option<u32>) -> Option<&mut Results> {
        let phase = self.rollout.lots.get(lot? as usize)?.phase;
        self.rollout.head.results.get_mut(phase as usize)
    }

    fn make(&mut self, step: &Move) {
        let now = self.now;
        let head = &mut self.rollout.head;
        match step {
            Move::Begin(_) => head.state = TaskState::Running,
            Move::NextPhase { from, .. } => {
                head.phase = from + 1;
                self.course.phase_began(from + 1, now);
            }
            Move::Hold(_, hold) => {
                self.course.held(&hold.why, now);
                head.hold = Some(hold.clone());
                self.push(now + RESUMED_AFTER, Event::Resume);
            }
            Move::Stop(_, why) => {
                self.course.held(why, now);
                self.rollout.head.state = TaskState::Stopping;
                self.give_up(false);
            }
            Move::Expire(_) => {
                head.expired = true;
                self.give_up(true);
            }
        }
    }

    /// Somebody has the task go on: after a phase, with the next one.
    pub(super) fn resume(&mut self) {
        let all = self.rollout.all();
        let head = &mut self.rollout.head;
        let Some(hold) = head.hold.take() else {
            return;
        };
        head.resumed_with = all;
        if let HoldReason::PhaseDone { phase } | HoldReason::PhaseFailed { phase, .. } = hold.why {
            head.phase = phase + 1;
            self.course.phase_began(phase + 1, self.now);
        }
        self.look_at(self.now);
    }

    /// What has not begun is done away with; of a task that is stopped, what runs as well.
    fn give_up(&mut self, expires: bool) {
        let now = self.now;
        for number in 0..self.unit_count() {
            let unit = self.unit(number);
            if unit.lot.is_none() {
                continue; // of another task
            }
            // what has begun once is tried again, also after the last time
            let waits = unit.state == State::Waits;
            let stays = expires && (!waits || (unit.attempts > 0 && !unit.taken_back));
            if unit.state == State::Over || stays {
                continue;
            }
            let (lot, before) = (unit.lot, unit.state);
            unit.state = State::Over;
            unit.ended_at = Some(now);
            if let Some(results) = self.results_of(lot) {
                if waits {
                    results.waiting = results.waiting.saturating_sub(1);
                } else {
                    results.running = results.running.saturating_sub(1);
                }
            }
            match before {
                State::Queued => self.ask(number, crate::session::GateRequest::Withdraw),
                State::Downloading | State::Installing => {
                    self.ask(number, crate::session::GateRequest::Release);
                    self.course.released(number, now, 0);
                }
                State::Waits | State::Sought | State::Asked | State::Over => {}
            }
            if self.is_counted(number) {
                self.open -= 1;
                self.course.gave_up(number, expires);
            }
        }
        let units = &self.units;
        for lot in &mut self.rollout.lots {
            let waits = |number: u32| units[number as usize].state == State::Waits;
            lot.waiting.retain(|Reverse((_, number))| waits(*number));
        }
    }

    /// An attempt has ended.
    pub(super) fn end(&mut self, number: u32, end: End) {
        let now = self.now;
        let retry = self.given.task.retry;
        let unit = self.unit(number);
        let (lot, attempts, before) = (unit.lot, unit.attempts, unit.attempts_before);
        let Some(lot_number) = lot else {
            unit.state = State::Over; // of another task
            return;
        };
        let again = match &end {
            End::Succeeded | End::Skipped(_) => false,
            End::Failed(reason) => {
                attempts.saturating_sub(before) <= retry.attempts && retry.reasons.has(reason)
            }
        };
        unit.state = if again { State::Waits } else { State::Over };
        if !again {
            unit.ended_at = Some(now);
        }
        let Some(results) = self.results_of(lot) else {
            return;
        };
        results.running = results.running.saturating_sub(1);
        if again {
            results.waiting += 1;
            let at = utc(now) + Duration::from_secs(retry.interval_s.into());
            if let Some(lot) = self.rollout.lots.get_mut(lot_number as usize) {
                lot.waiting.push(Reverse((at, number)));
            }
            return self.look_at(instant(at));
        }
        let counted = self.is_counted(number);
        self.open -= usize::from(counted);
        let phase = self.rollout.lots[lot_number as usize].phase;
        match end {
            End::Succeeded => {
                let results = &mut self.rollout.head.results[phase as usize];
                results.succeeded += 1;
                self.course.succeeded += u64::from(counted);
                self.plan_soak(number, phase);
            }
            End::Skipped(reason) if counted => self.course.skipped(reason),
            End::Skipped(_) => {}
            End::Failed(reason) => {
                if counted {
                    self.course.failed(&reason);
                }
                let results = &mut self.rollout.head.results[phase as usize];
                *results.failed.entry(reason).or_default() += 1;
            }
        }
        if self.open > 0 {
            self.look_at(now + TOGETHER);
        }
    }

    /// It is heard in health after the soak of its phase, where that has one.
    fn plan_soak(&mut self, number: u32, phase: u32) {
        let now = self.now;
        let soak_s = self.given.task.rules.phase(phase).soak_seconds;
        if soak_s == 0 {
            return;
        }
        let over = now + Duration::from_secs(soak_s.into());
        let unit = &self.units[number as usize];
        // one that sleeps is heard when it wakes up
        let heard = if unit.sleeps && over > now + unit.period {
            over + unit.period / 2
        } else {
            over
        };
        self.push(heard, Event::Soaked(number));
    }

    /// So many devices were heard in health that had succeeded before the course began.
    pub(super) fn soaked_before(&mut self, phase: u32, devices: u64) {
        if let Some(results) = self.rollout.head.results.get_mut(phase as usize) {
            results.healthy += devices;
        }
        self.look_at(self.now + TOGETHER);
    }

    /// The device was heard in health after its soak.
    pub(super) fn soaked(&mut self, number: u32) {
        let lot = self.units[number as usize].lot;
        if let Some(results) = self.results_of(lot) {
            results.healthy += 1;
        }
        self.look_at(self.now + TOGETHER);
    }
}
