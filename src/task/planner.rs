//! What may begin now, and why the rest may not.
//!
//! The store tells of each task that has not ended where it stands and what of it is due ([`TaskHead`]); [`plan`] says what
//! becomes of the tasks ([`Move`]), and of what upgrades may begin ([`Source`]):
//!
//! ```text
//! approved? ─▶ start time ─▶ thresholds of failures ─▶ the phase: has it come true? ─▶ window ─▶ rate ─▶ begin
//! ```
//!
//! Of what is due in the sources, each device does the upgrade that has been due longest ([`that_begin`]). So a task
//! that may start nothing holds no device. What is asked of the store does not grow with the fleet: a task has a head for each of
//! its lots, which are as many as it has phases and time zones.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    AbortAction, Budget, Hold, HoldReason, Membership, OverBudget, Paces, PutOff, Results, Share,
    Spent, TakeBack, TaskId, TaskRules, TaskState, Then, UpgradeId, UpgradeOrder, Verdict,
    WindowState,
};
use crate::clock::{Now, UtcMillis};

/// A task that has not ended, and the head of what waits in it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskHead {
    /// The task.
    pub task: TaskId,
    /// Where it stands: scheduled or running.
    pub state: TaskState,
    /// When it starts, or started.
    pub start_at: UtcMillis,
    /// How it is run.
    pub rules: Arc<TaskRules>,
    /// Nothing of it begins until somebody says so.
    pub hold: Option<Hold>,
    /// What had not begun by its last time is done away with.
    pub expired: bool,
    /// The phase that runs, from 0. What is in those before it may begin too.
    pub phase: u32,
    /// What came of each phase.
    pub results: Vec<Results>,
    /// What had come of the task when it was resumed last: thresholds look at what came since.
    pub resumed_with: Results,
    /// What of it is due, in the phases that have begun.
    pub lots: Vec<LotHead>,
}

/// What of a task begins under the same conditions: devices of one phase and one time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LotHead {
    /// Its number in the task.
    pub lot: u32,
    /// Its time zone, where that matters.
    pub zone: Option<Arc<str>>,
    /// Of its upgrades that are due on a device that is free, the one that has been due longest: since when, and its number.
    pub first_due: Option<(UtcMillis, UpgradeId)>,
}

/// What becomes of a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Move {
    /// Its start time has come.
    Begin(TaskId),
    /// The next phase begins.
    NextPhase {
        /// The task.
        task: TaskId,
        /// The phase that ran, from 0.
        from: u32,
    },
    /// Nothing of it begins any more, until somebody resumes it.
    Hold(TaskId, Hold),
    /// It is stopped, because of its failures.
    Stop(TaskId, HoldReason),
    /// What has not begun is done away with.
    Expire(TaskId),
}

/// Upgrades that may begin, if they are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Of this task,
    pub task: TaskId,
    /// which comes before those of a lower priority,
    pub priority: u8,
    /// in this lot,
    pub lot: u32,
    /// so many; of all lots of the task together,
    pub limit: u32,
    /// where it begins so many a minute,
    pub per_minute: Option<u32>,
    /// each is taken back then,
    pub back: Option<TakeBack>,
    /// and each device may spend so much in a month.
    pub budget: Option<Budget>,
}

/// What may happen now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// What becomes of tasks. When it is done, a new plan is to be made.
    pub moves: Vec<Move>,
    /// What may begin: that of tasks of a higher priority first, then in the order in which the first of each became due.
    pub start: Vec<Source>,
    /// When there will be another plan, although nothing happens before.
    pub next: Option<UtcMillis>,
}

/// An upgrade that is due, on a device that is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Since when.
    pub since: UtcMillis,
    /// What is to be done.
    pub order: UpgradeOrder,
    /// What its device has spent this month, where the source has a budget.
    pub spent: Option<Spent>,
}

/// What of the upgrades that are due begins, and what does not because its device has not enough left of its budget.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Begin {
    /// What begins.
    pub orders: Vec<UpgradeOrder>,
    /// What waits until next month.
    pub put_off: Vec<PutOff>,
}

/// An upgrade that has not begun, or waits for its next attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The upgrade.
    pub upgrade: UpgradeId,
    /// Where its task stands.
    pub task_state: TaskState,
    /// How the task is run.
    pub rules: Arc<TaskRules>,
    /// Nothing of the task begins.
    pub hold: Option<Hold>,
    /// The phase of the task that runs, from 0.
    pub running_phase: u32,
    /// The phase that the upgrade is in, from 0.
    pub phase: u32,
    /// The time zone of its device, where that matters.
    pub zone: Option<Arc<str>>,
    /// Not before this time: the task's start, or the next attempt.
    pub not_before: UtcMillis,
    /// Another upgrade of the same device that has begun and not ended.
    pub device_busy_with: Option<UpgradeId>,
    /// Why its device is not to be upgraded, while it is excluded.
    pub excluded: Option<String>,
    /// The owner of its device has not confirmed it yet.
    pub unconfirmed: bool,
    /// The owner of its device has confirmed it for this time.
    pub confirmed_for: Option<UtcMillis>,
    /// What its device has spent this month, where the task has a budget.
    pub spent: Option<Spent>,
}

/// Why an upgrade may not begin yet.
#[derive(Debug, Clone, PartialEq)]
pub enum NotYet {
    /// The task's start time has not come.
    TaskScheduled(UtcMillis),
    /// The task was stopped or has ended.
    TaskNotRunning(TaskState),
    /// Nothing of the task begins until somebody says so.
    TaskHeld(Hold),
    /// It is in a later phase than the one that runs.
    LaterPhase {
        /// Its own, from 0.
        phase: u32,
        /// The one that runs, from 0.
        running: u32,
    },
    /// No window of the task is open; when the next one opens, if one does within a year.
    WindowClosed(Option<UtcMillis>),
    /// The pause after a failure is not over.
    Until(UtcMillis),
    /// A device does one upgrade at a time.
    DeviceBusy(UpgradeId),
    /// The operator has excluded its device, for this reason.
    DeviceExcluded(String),
    /// The owner of its device has not confirmed it.
    NotConfirmed,
    /// The owner of its device has confirmed it for this time.
    ConfirmedFor(UtcMillis),
    /// Its device has not enough left of its budget of this month.
    OverBudget(OverBudget),
    /// The task begins so many a minute.
    Rate(u32),
}

/// What may happen at `now`.
pub fn plan(heads: &[TaskHead], paces: &Paces, now: Now) -> Plan {
    let mut plan = Plan::default();
    let mut start = Vec::new();
    for head in heads {
        if let Some(step) = head.step(now.utc) {
            plan.moves.push(step);
            continue;
        }
        plan.look_again(head.rules.not_after.filter(|_| !head.expired));
        if head.state == TaskState::Running && head.hold.is_none() {
            head.sources(paces, now, &mut start, &mut plan);
        }
    }
    // what takes long comes last: what was planned for the others is true still
    (plan.moves).sort_by_key(|step| matches!(step, Move::Expire(_) | Move::Stop(..)));
    start.sort_unstable_by_key(|(first, source): &((UtcMillis, UpgradeId), Source)| {
        (Reverse(source.priority), *first, source.task)
    });
    plan.start = start.into_iter().map(|(_, source)| source).collect();
    plan
}

impl Plan {
    fn look_again(&mut self, at: Option<UtcMillis>) {
        self.next = self.next.into_iter().chain(at).min();
    }
}

impl TaskHead {
    /// What becomes of it, if anything does.
    fn step(&self, now: UtcMillis) -> Option<Move> {
        if !self.expired && self.rules.not_after.is_some_and(|last| last <= now) {
            return Some(Move::Expire(self.task));
        }
        if self.hold.is_some() {
            return None;
        }
        if self.state == TaskState::Scheduled {
            return (self.start_at <= now).then_some(Move::Begin(self.task));
        }
        self.too_many_failures(now).or_else(|| self.phase_over(now))
    }

    /// The first threshold that is reached.
    fn too_many_failures(&self, now: UtcMillis) -> Option<Move> {
        let mut since = Results::default();
        for phase in &self.results {
            since.add(phase);
        }
        since.subtract(&self.resumed_with);
        let results = since.succeeded + since.failed();
        let reached = self
            .rules
            .abort
            .iter()
            .enumerate()
            .find_map(|(i, threshold)| {
                let failed = since.failed_for(&threshold.reasons);
                let reached = results >= threshold.min_results.max(1)
                    && (threshold.count.is_some_and(|count| failed >= count)
                        || (threshold.percent).is_some_and(|percent| {
                            failed > 0 && at_least(failed, percent, results)
                        }));
                let why = HoldReason::Failures {
                    failed,
                    results,
                    threshold: i,
                };
                reached.then_some((threshold.action, why))
            });
        reached.map(|(action, why)| match action {
            AbortAction::Pause => Move::Hold(self.task, Hold { why, at: now }),
            AbortAction::Stop => Move::Stop(self.task, why),
        })
    }

    /// Whether the phase that runs is over, if another one follows.
    fn phase_over(&self, now: UtcMillis) -> Option<Move> {
        let phase = self.phase;
        if phase as usize + 1 >= self.rules.phase_count() {
            return None;
        }
        let rule = self.rules.phase(phase);
        let results = self.results.get(phase as usize)?;
        let hold = |why| Some(Move::Hold(self.task, Hold { why, at: now }));
        match results.verdict(rule) {
            Verdict::Open { .. } => None,
            // nobody is in it, and somebody may join
            Verdict::Failed { results: 0, .. } if self.rules.membership == Membership::Joining => {
                None
            }
            Verdict::Passed if rule.then == Then::Wait => hold(HoldReason::PhaseDone { phase }),
            Verdict::Passed => Some(Move::NextPhase {
                task: self.task,
                from: phase,
            }),
            Verdict::Failed { succeeded, results } => hold(HoldReason::PhaseFailed {
                phase,
                succeeded,
                results,
            }),
        }
    }

    /// Adds what of it may begin.
    fn sources(
        &self,
        paces: &Paces,
        now: Now,
        start: &mut Vec<((UtcMillis, UpgradeId), Source)>,
        plan: &mut Plan,
    ) {
        let due: Vec<_> = (self.lots.iter())
            .filter_map(|lot| Some((lot, lot.first_due.filter(|(since, _)| *since <= now.utc)?)))
            .collect();
        let per_minute = self.per_minute();
        let limit = match per_minute {
            None => u32::MAX,
            Some(_) if due.is_empty() => return,
            Some(per_minute) => match paces.allowed(self.task, per_minute, now) {
                Ok(allowed) => allowed,
                Err(at) => {
                    let wait = at.since(now.instant);
                    return plan.look_again(Some(now.utc + wait));
                }
            },
        };
        // many lots, few zones
        let mut windows = HashMap::new();
        for (lot, first) in due {
            let zone = lot.zone.as_deref();
            let window = windows.entry(zone);
            match *window.or_insert_with(|| self.rules.window(zone, now.utc)) {
                WindowState::Open { .. } => {
                    let (task, lot) = (self.task, lot.lot);
                    let source = Source {
                        task,
                        priority: Share::of(&self.rules).priority,
                        lot,
                        limit,
                        per_minute,
                        back: self.rules.taken_back(zone, now.utc),
                        budget: self.rules.budget,
                    };
                    start.push((first, source));
                }
                WindowState::Closed { opens_at } => plan.look_again(opens_at),
            }
        }
    }

    /// Beginnings a minute that its rate allows now.
    pub fn per_minute(&self) -> Option<u32> {
        let succeeded = self.results.iter().map(|phase| phase.succeeded).sum();
        self.rules.rate.map(|rate| rate.after(succeeded))
    }
}

/// Whether `part` is so many percent of `whole`, or more.
pub(super) fn at_least(part: u64, percent: f64, whole: u64) -> bool {
    #[expect(
        clippy::cast_precision_loss,
        reason = "devices are far fewer than 2^53"
    )]
    let (part, whole) = (part as f64, whole as f64);
    // 1 of 3 is 33.3 percent, and a third as it is written
    part * 100.0 + 1e-9 >= percent * whole
}

/// Of upgrades that are due in `sources`, those of tasks of a higher priority first, then in the order in which they became so, those that begin: a device does one at a time, and
/// a task has no more than it may. One whose device has not enough left of its budget is put off, and takes nobody's place.
pub fn that_begin(due: Vec<Due>, sources: &[Source]) -> Begin {
    let mut devices = HashSet::new();
    let limits = sources.iter().map(|source| (source.task, source.limit));
    let mut left: HashMap<TaskId, u32> = limits.collect();
    let budgets = (sources.iter()).filter_map(|source| Some((source.task, source.budget?)));
    let budgets: HashMap<TaskId, Budget> = budgets.collect();
    let mut begin = Begin::default();
    for Due { order, spent, .. } in due {
        let budget = budgets.get(&order.task);
        if let Some((budget, spent)) = budget.zip(spent)
            && let Err(over) = budget.check(&spent)
        {
            let upgrade = order.upgrade;
            begin.put_off.push(PutOff { upgrade, over });
            continue;
        }
        let left = left.get_mut(&order.task).filter(|left| **left > 0);
        if let Some(left) = left.filter(|_| devices.insert(order.endpoint.clone())) {
            *left -= 1;
            begin.orders.push(order);
        }
    }
    begin
}

/// Whether `candidate` may begin at `now`, and if not, why.
pub fn explain(candidate: &Candidate, now: UtcMillis) -> Result<(), NotYet> {
    if let Some(reason) = &candidate.excluded {
        return Err(NotYet::DeviceExcluded(reason.clone()));
    }
    if let Some(hold) = candidate
        .hold
        .clone()
        .filter(|_| candidate.task_state.may_begin())
    {
        return Err(NotYet::TaskHeld(hold));
    }
    let confirmed_for = candidate.confirmed_for.filter(|at| *at > now);
    match candidate.task_state {
        TaskState::Running => {}
        TaskState::Scheduled => {
            let start = NotYet::TaskScheduled(candidate.not_before);
            // that is not before the start
            return Err(confirmed_for.map_or(start, NotYet::ConfirmedFor));
        }
        state => return Err(NotYet::TaskNotRunning(state)),
    }
    if candidate.unconfirmed {
        return Err(NotYet::NotConfirmed);
    }
    if let Some(at) = confirmed_for {
        return Err(NotYet::ConfirmedFor(at));
    }
    let (phase, running) = (candidate.phase, candidate.running_phase);
    if phase > running {
        return Err(NotYet::LaterPhase { phase, running });
    }
    // it was put off for that until then
    if let Some((budget, spent)) = candidate.rules.budget.zip(candidate.spent)
        && let Err(over) = budget.check(&spent)
    {
        return Err(NotYet::OverBudget(over));
    }
    if candidate.not_before > now {
        return Err(NotYet::Until(candidate.not_before));
    }
    if let Some(other) = candidate.device_busy_with {
        return Err(NotYet::DeviceBusy(other));
    }
    let rules = &candidate.rules;
    if let WindowState::Closed { opens_at } = rules.window(candidate.zone.as_deref(), now) {
        return Err(NotYet::WindowClosed(opens_at));
    }
    match rules.rate {
        Some(rate) => Err(NotYet::Rate(rate.per_minute)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
