//! A store that is a table in memory: what the database does with changes, and what it gives back after a restart, without
//! a disk. For simulations and tests; nothing of it survives the process.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    BatchId, CommitReport, UpgradeState,
    apply::{self, Changed, Ending, UpgradeOver},
};
use crate::{
    clock::UtcMillis,
    ledger::{
        ActiveUpgrade, Change, DeviceRecord, Learnt, Outcome, PackageId, RetryPolicy, Standby,
        TaskId, TaskState, UpgradeId, UpgradeOrder,
    },
    task::{Due, TaskHead},
};

/// Devices, tasks and upgrades.
#[derive(Debug, Default)]
pub struct MemoryStore {
    devices: Vec<Device>,
    by_endpoint: HashMap<Box<str>, u32>,
    /// What was committed last, and what came of it.
    last_batch: Option<(BatchId, CommitReport)>,
    /// Number n stands at n − 1.
    tasks: Vec<Task>,
    /// Number n stands at n − 1.
    upgrades: Vec<Upgrade>,
    /// Of each subject: a simulation has so few cells that none is forgotten.
    learnt: BTreeMap<(&'static str, String), Learnt>,
}

#[derive(Debug)]
struct Device {
    endpoint: Box<str>,
    product: Box<str>,
    state: apply::Device,
    /// Upgrades that run on it.
    running: u32,
}

#[derive(Debug)]
struct Task {
    package: PackageId,
    state: TaskState,
    start_at: UtcMillis,
    retry: RetryPolicy,
    /// Upgrades that wait, in the order in which they may begin.
    waiting: BTreeSet<(UtcMillis, UpgradeId)>,
    /// Upgrades without a final outcome.
    open: u64,
}

#[derive(Debug)]
struct Upgrade {
    device: u32,
    task: TaskId,
    now: apply::Upgrade,
    kept_awake: Standby,
}

impl MemoryStore {
    /// Adds a device of a product, if it is not there.
    pub fn add_device(&mut self, endpoint: &str, product: &str) {
        if self.by_endpoint.contains_key(endpoint) {
            return;
        }
        let row = u32::try_from(self.devices.len()).unwrap_or(u32::MAX);
        self.by_endpoint.insert(endpoint.into(), row);
        self.devices.push(Device {
            endpoint: endpoint.into(),
            product: product.into(),
            state: apply::Device::default(),
            running: 0,
        });
    }

    /// Creates a task with a package of its own for these devices. Gives the number of the package, and the upgrades with
    /// their devices in the order of these.
    pub fn create_task(
        &mut self,
        endpoints: &[&str],
        start_at: UtcMillis,
        retry: RetryPolicy,
    ) -> (PackageId, Vec<(UpgradeId, String)>) {
        let number = number_of(self.tasks.len());
        let (task, package) = (TaskId(number), PackageId(number));
        let mut endpoints = endpoints.to_vec();
        endpoints.sort_unstable();
        let rows: Vec<u32> = (endpoints.iter())
            .filter_map(|endpoint| self.by_endpoint.get(*endpoint).copied())
            .collect();
        let mut waiting = BTreeSet::new();
        let mut created = Vec::with_capacity(rows.len());
        for device in rows {
            let upgrade = UpgradeId(number_of(self.upgrades.len()));
            self.upgrades.push(Upgrade {
                device,
                task,
                now: apply::Upgrade::waiting(start_at),
                kept_awake: Standby::default(),
            });
            waiting.insert((start_at, upgrade));
            created.push((upgrade, self.devices[device as usize].endpoint.to_string()));
        }
        self.tasks.push(Task {
            package,
            state: TaskState::Scheduled,
            start_at,
            retry,
            waiting,
            open: created.len() as u64,
        });
        (package, created)
    }

    /// See [`super::Ledger::commit`].
    pub fn commit(&mut self, batch: BatchId, changes: &[Change]) -> CommitReport {
        if let Some((last, report)) = &self.last_batch
            && *last == batch
        {
            return report.clone();
        }
        let mut report = CommitReport::default();
        for change in changes {
            if let Err((upgrade, UpgradeOver)) = self.apply(change)
                && !report.refused.contains(&upgrade)
            {
                report.refused.push(upgrade);
            }
        }
        self.last_batch = Some((batch, report.clone()));
        report
    }

    fn apply(&mut self, change: &Change) -> Result<(), (UpgradeId, UpgradeOver)> {
        match change {
            Change::Stage {
                upgrade,
                attempt,
                change,
                at,
                ..
            } => {
                let row = self.upgrade(*upgrade).ok_or((*upgrade, UpgradeOver))?;
                let before = row.now.not_before;
                let changed = row.now.stage(*attempt, change, *at);
                if changed.map_err(|refused| (*upgrade, refused))? == Changed::Phase {
                    self.begun(*upgrade, before);
                }
            }
            Change::Progress {
                upgrade, progress, ..
            } => {
                if let Some(row) = self.upgrade(*upgrade) {
                    row.now.progress(*progress);
                }
            }
            Change::Ended {
                upgrade,
                attempt,
                outcome,
                retry_at,
                at,
                ..
            } => {
                let ending = Ending {
                    outcome: outcome.clone(),
                    facts: None, // it has no timelines
                    at: *at,
                };
                self.ended(*upgrade, *attempt, ending, *retry_at);
            }
            Change::KeptAwake { upgrade, standby } => {
                if let Some(row) = self.upgrade(*upgrade) {
                    row.kept_awake = row.kept_awake.max(*standby);
                }
            }
            Change::Learnt(learnt) => {
                self.learnt.insert(learnt.subject(), (**learnt).clone());
            }
            Change::Note { .. } | Change::Admitted { .. } => {}
            change => {
                let Some(endpoint) = apply::device_of(change) else {
                    return Ok(());
                };
                if matches!(change, Change::Registered { .. }) {
                    self.add_device(endpoint, "default");
                }
                let row = self.by_endpoint.get(endpoint).copied();
                if let Some(device) = row.and_then(|row| self.devices.get_mut(row as usize)) {
                    device.state.apply(change);
                }
            }
        }
        Ok(())
    }

    /// An upgrade that waited runs.
    fn begun(&mut self, upgrade: UpgradeId, not_before: UtcMillis) {
        let Some((device, task)) = self.upgrade(upgrade).map(|row| (row.device, row.task)) else {
            return;
        };
        self.devices[device as usize].running += 1;
        if let Some(task) = self.task(task) {
            task.waiting.remove(&(not_before, upgrade));
        }
    }

    fn ended(
        &mut self,
        upgrade: UpgradeId,
        attempt: u32,
        ending: Ending,
        retry_at: Option<UtcMillis>,
    ) {
        let Some(row) = self.upgrade(upgrade) else {
            return;
        };
        let (device, task, before) = (row.device, row.task, row.now.state);
        let not_before = row.now.not_before;
        let runs = (self.task(task)).is_some_and(|task| task.state == TaskState::Running);
        let retry_at = retry_at.filter(|_| runs);
        let Some(row) = self.upgrade(upgrade) else {
            return;
        };
        if row.now.ended(attempt, ending, retry_at) == Changed::Nothing {
            return;
        }
        if matches!(before, UpgradeState::Active(_)) {
            self.devices[device as usize].running -= 1;
        }
        let Some(task) = self.task(task) else { return };
        task.waiting.remove(&(not_before, upgrade));
        if let Some(not_before) = retry_at {
            task.waiting.insert((not_before, upgrade));
        } else {
            task.open -= 1;
            if task.open == 0 {
                task.state = TaskState::Finished;
            }
        }
    }

    /// Every device, ordered by endpoint; see [`super::Ledger::restore_devices`].
    pub fn restore_devices(&self) -> Vec<DeviceRecord> {
        let mut records: Vec<DeviceRecord> = (self.devices.iter())
            .map(|device| device.state.record(&device.endpoint, &device.product))
            .collect();
        records.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        records
    }

    /// Every upgrade in a stage, ordered by number; see [`super::Ledger::restore_upgrades`].
    pub fn restore_upgrades(&self) -> Vec<ActiveUpgrade> {
        (self.upgrades.iter().zip(1..))
            .filter_map(|(row, id)| {
                let stage = row.now.stage.as_deref()?.clone();
                Some(ActiveUpgrade {
                    order: self.order(UpgradeId(id), row, row.now.attempt)?,
                    stage,
                    progress: row.now.progress,
                })
            })
            .collect()
    }

    /// See [`super::Ledger::restore_learnt`].
    pub fn restore_learnt(&self) -> Vec<Learnt> {
        self.learnt.values().cloned().collect()
    }

    /// See [`super::Agenda::task_heads`].
    pub fn task_heads(&self, now: UtcMillis) -> Vec<TaskHead> {
        (self.tasks.iter().zip(1..))
            .filter(|(task, _)| matches!(task.state, TaskState::Scheduled | TaskState::Running))
            .map(|(task, id)| {
                let waiting = task.waiting.len() as u64;
                TaskHead {
                    task: TaskId(id),
                    state: task.state,
                    start_at: task.start_at,
                    waiting,
                    running: task.open - waiting,
                    first_due: self.due_in(task, now).next().map(|(due, _)| due),
                }
            })
            .collect()
    }

    /// See [`super::Agenda::begin_tasks`].
    pub fn begin_tasks(&mut self, tasks: &[TaskId]) {
        for task in tasks {
            if let Some(task) = self.task(*task)
                && task.state == TaskState::Scheduled
            {
                task.state = TaskState::Running;
            }
        }
    }

    /// See [`super::Agenda::due_upgrades`].
    pub fn due_upgrades(&self, tasks: &[TaskId], now: UtcMillis, limit: u32) -> Vec<Due> {
        let limit = limit as usize;
        let tasks = tasks
            .iter()
            .filter_map(|task| self.tasks.get(row_of(task.0)?));
        let mut due: Vec<((UtcMillis, UpgradeId), &Upgrade)> = tasks
            .flat_map(|task| self.due_in(task, now).take(limit))
            .collect();
        due.sort_unstable_by_key(|(due, _)| *due);
        due.truncate(limit);
        (due.into_iter())
            .filter_map(|((since, upgrade), row)| {
                let order = self.order(upgrade, row, row.now.attempt.saturating_add(1))?;
                Some(Due { since, order })
            })
            .collect()
    }

    /// What is due in a task, on devices that are free.
    fn due_in(
        &self,
        task: &Task,
        now: UtcMillis,
    ) -> impl Iterator<Item = ((UtcMillis, UpgradeId), &Upgrade)> {
        (task.waiting.iter().copied())
            .take_while(move |(at, _)| *at <= now)
            .filter_map(|due| Some((due, self.upgrades.get(row_of(due.1.0)?)?)))
            .filter(|(_, row)| self.devices[row.device as usize].running == 0)
    }

    /// See [`super::Agenda::next_due`].
    pub fn next_due(&self, now: UtcMillis) -> Option<UtcMillis> {
        let after = (UtcMillis(now.0.saturating_add(1)), UpgradeId(i64::MIN));
        let of_task = |task: &Task| {
            let start =
                Some(task.start_at).filter(|at| task.state == TaskState::Scheduled && *at > now);
            let upgrade = task.waiting.range(after..).next().map(|(at, _)| *at);
            start.into_iter().chain(upgrade).min()
        };
        self.tasks.iter().filter_map(of_task).min()
    }

    /// Where every upgrade stands, ordered by number: its attempts, its state, and how the last attempt ended.
    pub fn upgrades(
        &self,
    ) -> impl Iterator<Item = (UpgradeId, u32, UpgradeState, Option<&Outcome>)> {
        self.upgrades.iter().zip(1..).map(|(row, id)| {
            let outcome = row.now.ending.as_deref().map(|ending| &ending.outcome);
            (UpgradeId(id), row.now.attempt, row.now.state, outcome)
        })
    }

    fn order(&self, upgrade: UpgradeId, row: &Upgrade, attempt: u32) -> Option<UpgradeOrder> {
        let task = self.tasks.get(row_of(row.task.0)?)?;
        Some(UpgradeOrder {
            upgrade,
            task: row.task,
            endpoint: self.devices.get(row.device as usize)?.endpoint.to_string(),
            package: task.package,
            attempt,
            retry: task.retry,
            kept_awake: row.kept_awake,
        })
    }

    fn upgrade(&mut self, id: UpgradeId) -> Option<&mut Upgrade> {
        self.upgrades.get_mut(row_of(id.0)?)
    }

    fn task(&mut self, id: TaskId) -> Option<&mut Task> {
        self.tasks.get_mut(row_of(id.0)?)
    }
}

fn row_of(number: i64) -> Option<usize> {
    usize::try_from(number.checked_sub(1)?).ok()
}

fn number_of(row: usize) -> i64 {
    i64::try_from(row + 1).unwrap_or(i64::MAX)
}
