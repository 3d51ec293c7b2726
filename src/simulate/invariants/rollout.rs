//! How tasks are run: phases, thresholds, rates and windows.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::{Invariants, Rule, SLACK_MS, Subject};
use crate::{
    clock::UtcMillis,
    ledger::{Outcome, Stage, TaskId, Traffic, UpgradeId, Usage},
    task::{Census, Draw, Move, PhaseRule, Place, TaskHead, TaskRules},
};

/// In which a task begins no more upgrades than its rate says: a minute, but for the time that a command is on its way, ms.
const MINUTE_MS: i64 = 60_000 - SLACK_MS;

/// The tasks, in the order of their numbers, and how they are run.
#[derive(Debug, Clone, Default)]
pub(super) struct Rollout {
    rules: Arc<TaskRules>,
    tasks: Vec<Task>,
    /// The phase of each device, from 0; nothing where tasks are run without rules.
    phases: Vec<u32>,
    /// When an attempt began last, ms.
    last_begun_ms: u64,
    /// What each device has spent in which month of UTC, where the tasks have a budget, as it is committed.
    spent: BTreeMap<(usize, i8), Usage>,
}

/// A device of a task.
#[derive(Debug)]
pub(in super::super) struct Member {
    /// Its number.
    pub(in super::super) device: usize,
    pub(in super::super) endpoint: String,
    /// Where it stands in the draw.
    pub(in super::super) place: Place,
}

/// A task.
#[derive(Debug, Clone)]
struct Task {
    /// The phase that runs, from 0.
    phase: u32,
    held: bool,
    stopped: bool,
    expired: bool,
    counts: Vec<Count>,
    /// When upgrades began within the last minute, while this server ran, ms.
    begun: VecDeque<i64>,
}

/// Devices of a phase.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    devices: u64,
    succeeded: u64,
    failed: u64,
    cancelled: u64,
}

impl Count {
    /// Whether the next phase may begin. `rules` are those of this one.
    fn has_come_true(self, rules: &TaskRules, phase: u32) -> bool {
        let rule = rules.phase(phase);
        let results = self.succeeded + self.failed;
        let all = self.devices - self.cancelled;
        let wanted = rule.min_results.map_or(all, |wanted| wanted.min(all));
        #[expect(
            clippy::cast_precision_loss,
            reason = "devices are far fewer than 2^53"
        )]
        let share = self.succeeded as f64 / results.max(1) as f64;
        let needed = rule.success_percent.unwrap_or(100.0) / 100.0;
        results >= wanted && (results == 0 || share >= needed - 1e-9)
    }
}

impl Rollout {
    /// Tasks of these devices, in the order of their names.
    fn new(rules: &TaskRules, devices: usize, tasks: &[Vec<Member>]) -> Self {
        let mut phases = vec![0; devices];
        let tasks = (1..).zip(tasks).map(|(number, members)| {
            let mut census = Census::default();
            for member in members {
                census.count(member.place);
            }
            let mut draw = Draw::new(rules, &census, number);
            let mut counts = vec![Count::default(); rules.phase_count()];
            for member in members {
                let phase = draw.phase(&member.endpoint, member.place);
                counts[phase as usize].devices += 1;
                if let Some(row) = phases.get_mut(member.device) {
                    *row = phase;
                }
            }
            Task {
                phase: 0,
                held: false,
                stopped: false,
                expired: false,
                counts,
                begun: VecDeque::new(),
            }
        });
        let tasks = tasks.collect();
        Self {
            rules: Arc::new(rules.clone()),
            tasks,
            phases,
            last_begun_ms: 0,
            spent: BTreeMap::new(),
        }
    }

    fn task(&mut self, task: TaskId) -> Option<&mut Task> {
        self.tasks.get_mut(row_of(task)?)
    }

    /// Whether a device's task is stopped: then no further attempt follows a failure.
    pub(super) fn is_stopped(&self, task: usize) -> bool {
        self.tasks.get(task).is_some_and(|task| task.stopped)
    }

    /// Whether the last time of a device's task has come: then nothing that is taken back begins again.
    pub(super) fn is_expired(&self, task: usize) -> bool {
        self.tasks.get(task).is_some_and(|task| task.expired)
    }

    /// An upgrade has its outcome.
    pub(super) fn over(&mut self, task: usize, device: usize, outcome: &Outcome) {
        let phase = self.phases.get(device).copied().unwrap_or(0);
        let Some(task) = self.tasks.get_mut(task) else {
            return;
        };
        if let Some(count) = task.counts.get_mut(phase as usize) {
            match outcome {
                Outcome::Succeeded(_) => count.succeeded += 1,
                Outcome::Failed(_) => count.failed += 1,
                Outcome::Cancelled(_) => count.cancelled += 1,
            }
        }
    }

    /// A device has spent something.
    pub(super) fn spent(&mut self, device: usize, traffic: &Traffic, at: UtcMillis) {
        if self.rules.budget.is_some() {
            *(self.spent.entry((device, month(at))).or_default()) += traffic;
        }
    }

    /// What a device has spent in the month of that time.
    fn used(&self, device: usize, at: UtcMillis) -> Usage {
        let used = self.spent.get(&(device, month(at)));
        used.copied().unwrap_or_default()
    }

    /// What was begun by a server that is gone counts no more: the pace of a task begins anew with the server.
    pub(super) fn crashed(&mut self) {
        for task in &mut self.tasks {
            task.begun.clear();
        }
    }
}

impl Invariants {
    /// The tasks are run so. Each has these devices, in the order of their names.
    pub(in super::super) fn run_by(&mut self, rules: &TaskRules, tasks: &[Vec<Member>]) {
        if !rules.is_empty() {
            self.rollout = Rollout::new(rules, self.subjects.len(), tasks);
        }
    }

    /// What a device has spent in the month of that time, where the tasks have a budget.
    pub(in super::super) fn used(&self, device: usize, at: UtcMillis) -> Usage {
        self.rollout.used(device, at)
    }

    /// The phase of a device, from 0.
    pub(in super::super) fn phase_of(&self, device: usize) -> u32 {
        self.rollout.phases.get(device).copied().unwrap_or(0)
    }

    /// When an attempt began last that belongs to a task with rules, ms.
    pub(in super::super) const fn last_begun_ms(&self) -> u64 {
        self.rollout.last_begun_ms
    }

    /// An attempt begins: in a phase that has begun, while its task is not held, within a window, and no faster than the
    /// rate says.
    pub(super) fn attempt_begins(
        &mut self,
        now_ms: u64,
        now: UtcMillis,
        device: usize,
        attempt: u32,
    ) {
        self.attempt_begins_over_mqtt(now, device);
        let Some(phase) = self.rollout.phases.get(device).copied() else {
            return;
        };
        let subject = &self.subjects[device];
        let (upgrade, product) = (subject.upgrade.0, subject.product);
        let rules = Arc::clone(&self.rollout.rules);
        self.rollout.last_begun_ms = now_ms;
        let Some(task) = self.rollout.tasks.get_mut(product) else {
            return;
        };
        let (running, held) = (task.phase, task.held);
        while (task.begun.front()).is_some_and(|at| *at <= now.0 - MINUTE_MS) {
            task.begun.pop_front();
        }
        task.begun.push_back(now.0);
        let begun = task.begun.len();
        let succeeded = task.counts.iter().map(|count| count.succeeded).sum();
        if phase > running {
            self.violated(now_ms, Rule::Phase, || {
                format!("{upgrade}: begins in phase {phase}, and phase {running} runs")
            });
        }
        if held {
            self.violated(now_ms, Rule::Held, || {
                format!("{upgrade}: begins while its task is held")
            });
        }
        let within = |at| rules.window(None, at).is_open();
        if !within(now) && !within(UtcMillis(now.0 - SLACK_MS)) {
            self.violated(now_ms, Rule::Window, || {
                format!("{upgrade}: begins at {now}, outside the windows of its task")
            });
        }
        let last = rules
            .not_after
            .filter(|last| attempt == 1 && now.0 > last.0 + SLACK_MS);
        if let Some(last) = last {
            self.violated(now_ms, Rule::Window, || {
                format!("{upgrade}: begins at {now}, and may not after {last}")
            });
        }
        self.within_budget(now_ms, now, device);
        let most = rules.rate.map(|rate| rate.after(succeeded));
        if let Some(most) = most.filter(|most| begun > *most as usize) {
            self.violated(now_ms, Rule::Rate, || {
                format!("{upgrade}: begins as one of {begun} within a minute; {most} are allowed")
            });
        }
    }

    /// An attempt begins on a device that has enough left of its budget.
    fn within_budget(&mut self, now_ms: u64, now: UtcMillis, device: usize) {
        let Some(budget) = self.rollout.rules.budget else {
            return;
        };
        let subject = &self.subjects[device];
        let (upgrade, product) = (subject.upgrade.0, subject.product);
        let used = self.rollout.used(device, now);
        let (need, _) = self.offered[product].largest();
        let bytes = budget.bytes_per_month;
        if let Some(bytes) = bytes.filter(|bytes| used.bytes + need > *bytes) {
            let spent = used.bytes;
            self.violated(now_ms, Rule::Budget, || {
                format!("{upgrade}: begins, has spent {spent} bytes of {bytes}, and costs {need}")
            });
        }
        let airtime = budget.airtime_estimated_seconds_per_month;
        if let Some(seconds) =
            airtime.filter(|seconds| used.airtime_estimated_ms > *seconds * 1_000)
        {
            self.violated(now_ms, Rule::Budget, || {
                format!("{upgrade}: begins, and has spent all of {seconds} s of airtime")
            });
        }
    }

    /// When the window opens that follows that time.
    pub(super) fn next_window(&self, now: UtcMillis) -> UtcMillis {
        let back = self.rollout.rules.taken_back(None, now);
        back.and_then(|back| back.opens_at).unwrap_or(now)
    }

    /// An upgrade is taken back: its window has just ended, or had while no server ran, and it was not commanded.
    pub(super) fn is_taken_back(
        &mut self,
        now_ms: u64,
        now: UtcMillis,
        device: usize,
        stage: Option<Stage>,
    ) {
        let rules = Arc::clone(&self.rollout.rules);
        let upgrade = self.subjects[device].upgrade.0;
        let ends = rules.take_back_windows().is_some() && !rules.window(None, now).is_open();
        if !ends || stage.is_none_or(|stage| stage == Stage::Executing) {
            self.violated(now_ms, Rule::Window, || {
                format!("{upgrade}: is taken back at {now}, in {stage:?}")
            });
        }
    }

    /// An upgrade is commanded to install: within a window, where what is not commanded by its end is taken back.
    pub(super) fn is_commanded(&mut self, now_ms: u64, now: UtcMillis, device: usize) {
        let rules = Arc::clone(&self.rollout.rules);
        let upgrade = self.subjects[device].upgrade.0;
        if rules.take_back_windows().is_some() && !rules.window(None, now).is_open() {
            self.violated(now_ms, Rule::Window, || {
                format!("{upgrade}: is commanded at {now}, outside the windows of its task")
            });
        }
    }

    /// The store has moved a task on.
    pub(in super::super) fn moved(&mut self, now_ms: u64, step: &Move) {
        let rules = Arc::clone(&self.rollout.rules);
        match step {
            Move::NextPhase { task, from } => {
                let number = task.0;
                let Some(task) = self.rollout.task(*task) else {
                    return;
                };
                task.phase += 1;
                let count = task.counts.get(*from as usize).copied();
                let count = count.unwrap_or_default();
                let rule = rules.phase(*from);
                if rule.soak_seconds > 0 {
                    self.have_soaked(now_ms, (number, *from), rule, count);
                }
                if !count.has_come_true(&rules, *from) {
                    self.violated(now_ms, Rule::Phase, || {
                        format!(
                            "task {number}: the phase after {from} begins, of which came {count:?}"
                        )
                    });
                }
            }
            Move::Hold(task, _) => {
                if let Some(task) = self.rollout.task(*task) {
                    task.held = true;
                }
            }
            Move::Stop(task, _) => {
                if let Some(task) = self.rollout.task(*task) {
                    task.stopped = true;
                }
            }
            Move::Expire(task) => {
                if let Some(task) = self.rollout.task(*task) {
                    task.expired = true;
                }
            }
            Move::Begin(_) => {}
        }
    }

    /// The next phase begins: so many devices of this one have told the version after their soak as are wanted at least.
    fn have_soaked(
        &mut self,
        now_ms: u64,
        (task, phase): (i64, u32),
        rule: &PhaseRule,
        count: Count,
    ) {
        let soak_ms = u64::from(rule.soak_seconds) * 1_000;
        let has_soaked = |device: usize, subject: &Subject| {
            let over_ms = subject.over_ms.filter(|_| {
                let succeeded = subject.outcome.as_ref().is_some_and(Outcome::is_success);
                succeeded && row_of(TaskId(task)) == Some(subject.product)
            });
            let told_ms = over_ms.and(subject.claims.true_ms);
            self.rollout.phases.get(device) == Some(&phase)
                && (told_ms.zip(over_ms)).is_some_and(|(told_ms, over_ms)| {
                    told_ms + SLACK_MS.unsigned_abs() >= over_ms + soak_ms
                })
        };
        let soaked = (self.subjects.iter().enumerate())
            .filter(|(device, subject)| has_soaked(*device, subject))
            .count();
        let all = count.devices - count.cancelled;
        let wanted = rule.min_results.map_or(all, |wanted| wanted.min(all));
        #[expect(
            clippy::cast_precision_loss,
            reason = "devices are far fewer than 2^53"
        )]
        let enough =
            soaked as f64 + 1e-9 >= wanted as f64 * rule.success_percent.unwrap_or(100.0) / 100.0;
        if !enough {
            self.violated(now_ms, Rule::Phase, || {
                format!("task {task}: the phase after {phase} begins, of which {soaked} devices have soaked of {wanted}")
            });
        }
    }

    /// A task goes on that was held, so many phases further.
    pub(in super::super) fn resumed(&mut self, task: TaskId, phases: u32) {
        if let Some(task) = self.rollout.task(task) {
            task.held = false;
            task.phase += phases;
        }
    }

    /// An upgrade is cancelled in the store that waited for an attempt. Others have ended before, and stay what they are.
    pub(in super::super) fn cancelled(
        &mut self,
        now_ms: u64,
        upgrade: UpgradeId,
        outcome: &Outcome,
    ) {
        let Some(device) = self.device_of(upgrade) else {
            return;
        };
        let subject = &mut self.subjects[device];
        if subject.committed.over {
            return;
        }
        subject.committed.over = true;
        subject.emitted.over = true;
        subject.outcome = Some(outcome.clone());
        subject.over_ms = Some(now_ms);
        let product = subject.product;
        self.open = self.open.saturating_sub(1);
        self.last_end_ms = now_ms;
        self.rollout.over(product, device, outcome);
    }

    /// A device that was added while its task runs joins that, in the phase that runs, and once.
    pub(in super::super) fn joins(
        &mut self,
        now_ms: u64,
        task: TaskId,
        upgrade: UpgradeId,
        endpoint: &str,
    ) {
        let Some(device) = super::device(endpoint).filter(|it| *it < self.subjects.len()) else {
            return;
        };
        let before = std::mem::replace(&mut self.subjects[device].upgrade, upgrade);
        if before != UpgradeId(0) {
            self.violated(now_ms, Rule::Phase, || {
                format!(
                    "{endpoint}: joins its task with upgrade {}, and has {} there",
                    upgrade.0, before.0
                )
            });
        }
        let row = super::row_of(upgrade).and_then(|row| self.devices.get_mut(row));
        if let (Some(row), Ok(device)) = (row, u32::try_from(device)) {
            *row = device;
        }
        let Some(task) = self.rollout.task(task) else {
            return;
        };
        let phase = task.phase;
        if let Some(count) = task.counts.get_mut(phase as usize) {
            count.devices += 1;
        }
        if let Some(row) = self.rollout.phases.get_mut(device) {
            *row = phase;
        }
    }

    /// The store counts each device of a task once: in the phase that it was drawn for.
    pub(in super::super) fn counts_each_once(&mut self, now_ms: u64, head: &TaskHead) {
        let number = head.task.0;
        let Some(task) = self.rollout.task(head.task) else {
            return;
        };
        let wrong = (0_u32..).zip(&task.counts).find_map(|(phase, count)| {
            let results = head.results.get(phase as usize);
            let told = results.map_or(0, |it| it.waiting + it.running + it.succeeded + it.failed());
            let expected = count.devices - count.cancelled;
            (told != expected).then_some((phase, told, expected))
        });
        if let Some((phase, told, expected)) = wrong {
            self.violated(now_ms, Rule::Phase, || {
                format!("task {number}: {told} devices are counted in phase {phase}, {expected} are in it")
            });
        }
    }
}

/// The month of a time in UTC. No simulation lasts a year.
fn month(at: UtcMillis) -> i8 {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    at.to_zoned(jiff::tz::TimeZone::UTC).month()
}

fn row_of(task: TaskId) -> Option<usize> {
    usize::try_from(task.0.checked_sub(1)?).ok()
}
