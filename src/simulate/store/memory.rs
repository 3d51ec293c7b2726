//! A store that is only a table in memory, for simulations: what the SQLite store does with changes, and
//! what it gives back after a restart, without a disk.

use std::collections::{BTreeSet, HashMap};

use crate::{
    clock::UtcMillis,
    ledger::{
        ActiveUpgrade, Change, CoverageReading, DeviceRecord, Evidence, Outcome, PackageId,
        Progress, Registration, RetryPolicy, StageChange, TaskId, TaskState, UpgradeId,
        UpgradeOrder,
    },
    store::{BatchId, CommitReport, UpgradeState},
    task::Candidate,
};

use super::{Created, Final};

/// Devices, tasks, upgrades and cells.
#[derive(Debug, Default)]
pub(in super::super) struct MemoryStore {
    devices: Vec<Device>,
    by_endpoint: HashMap<Box<str>, u32>,
    /// What was committed last, and what came of it.
    last_batch: Option<(BatchId, CommitReport)>,
    tasks: Vec<Task>,
    /// Number n stands at n − 1.
    upgrades: Vec<Upgrade>,
    /// Upgrades that wait, in the order in which they may begin.
    waiting: BTreeSet<(UtcMillis, UpgradeId)>,
}

#[derive(Debug)]
struct Device {
    endpoint: Box<str>,
    product: Box<str>,
    registration: Option<Box<Registration>>,
    last_heard_at: Option<UtcMillis>,
    coverage: Option<CoverageReading>,
    version: Option<crate::package::Version>,
    evidence: Vec<Evidence>,
}

#[derive(Debug)]
struct Task {
    package: PackageId,
    state: TaskState,
    start_at: UtcMillis,
    retry: RetryPolicy,
    /// Upgrades without a final outcome.
    open: usize,
}

#[derive(Debug)]
struct Upgrade {
    device: u32,
    task: TaskId,
    attempt: u32,
    phase: Phase,
    outcome: Option<Box<Outcome>>,
}

#[derive(Debug)]
enum Phase {
    Waiting {
        not_before: UtcMillis,
    },
    Active {
        stage: Box<StageChange>,
        progress: Option<Progress>,
    },
    Ended,
}

impl Upgrade {
    /// Whether a change of that attempt is still to be taken: not of one that has ended.
    const fn takes(&self, attempt: u32) -> bool {
        match self.phase {
            Phase::Active { .. } => self.attempt <= attempt,
            Phase::Waiting { .. } => self.attempt < attempt,
            Phase::Ended => false,
        }
    }
}

impl MemoryStore {
    /// Adds a device of a product.
    pub(super) fn add_device(&mut self, endpoint: &str, product: &str) {
        let row = u32::try_from(self.devices.len()).unwrap_or(u32::MAX);
        self.by_endpoint.insert(endpoint.into(), row);
        self.devices.push(Device {
            endpoint: endpoint.into(),
            product: product.into(),
            registration: None,
            last_heard_at: None,
            coverage: None,
            version: None,
            evidence: Vec::new(),
        });
    }

    /// Creates a task for all devices of a product; gives the number of its package, and its upgrades in
    /// their order.
    pub(super) fn create_task(
        &mut self,
        product: &str,
        start_at: UtcMillis,
        retry: RetryPolicy,
    ) -> (PackageId, Vec<Created>) {
        let package = PackageId(i64::try_from(self.tasks.len() + 1).unwrap_or(i64::MAX));
        self.tasks.push(Task {
            package,
            state: TaskState::Scheduled,
            start_at,
            retry,
            open: 0,
        });
        let task = TaskId(i64::try_from(self.tasks.len()).unwrap_or(i64::MAX));
        let mut rows: Vec<u32> = (0..)
            .zip(&self.devices)
            .filter(|(_, device)| &*device.product == product)
            .map(|(row, _)| row)
            .collect();
        rows.sort_by_key(|row| &self.devices[*row as usize].endpoint);
        let mut created = Vec::with_capacity(rows.len());
        for device in rows {
            self.upgrades.push(Upgrade {
                device,
                task,
                attempt: 0,
                phase: Phase::Waiting {
                    not_before: start_at,
                },
                outcome: None,
            });
            let upgrade = UpgradeId(i64::try_from(self.upgrades.len()).unwrap_or(i64::MAX));
            self.waiting.insert((start_at, upgrade));
            created.push(Created {
                upgrade,
                endpoint: self.devices[device as usize].endpoint.to_string(),
            });
        }
        if let Some(row) = self.tasks.last_mut() {
            row.open = created.len();
        }
        (package, created)
    }

    /// See [`crate::store::Store::commit`].
    pub(super) fn commit(&mut self, batch: BatchId, changes: &[Change]) -> CommitReport {
        if let Some((last, report)) = &self.last_batch
            && *last == batch
        {
            return report.clone();
        }
        let mut report = CommitReport::default();
        for change in changes {
            self.apply(change, &mut report);
        }
        self.last_batch = Some((batch, report.clone()));
        report
    }

    fn apply(&mut self, change: &Change, report: &mut CommitReport) {
        match change {
            Change::Registered {
                endpoint,
                registration,
                at,
            } => {
                if !self.by_endpoint.contains_key(&**endpoint) {
                    self.add_device(endpoint, "default");
                }
                if let Some(device) = self.device(endpoint) {
                    let before = device.registration.as_deref();
                    let now = registration.clone().after(before);
                    device.registration = Some(Box::new(now));
                    device.last_heard_at = Some(*at);
                }
            }
            Change::Deregistered { endpoint, .. } => {
                if let Some(device) = self.device(endpoint) {
                    device.registration = None;
                }
            }
            Change::VersionReported {
                endpoint,
                version,
                at,
            } => {
                if let Some(device) = self.device(endpoint) {
                    device.version = Some(*version);
                    device.last_heard_at = device.last_heard_at.max(Some(*at));
                }
            }
            Change::CoverageReported {
                endpoint, reading, ..
            } => {
                if let Some(device) = self.device(endpoint) {
                    device.coverage = Some(*reading);
                    device.last_heard_at = device.last_heard_at.max(Some(reading.at));
                }
            }
            Change::Evidence {
                endpoint,
                evidence,
                at,
            } => {
                if let Some(device) = self.device(endpoint) {
                    device.evidence.clone_from(evidence);
                    device.last_heard_at = device.last_heard_at.max(Some(*at));
                }
            }
            Change::Stage {
                upgrade,
                attempt,
                change,
                ..
            } => self.stage(*upgrade, *attempt, change, report),
            Change::Progress {
                upgrade, progress, ..
            } => {
                if let Some(row) = self.upgrade(*upgrade)
                    && let Phase::Active {
                        progress: stored, ..
                    } = &mut row.phase
                {
                    *stored = Some(*progress);
                }
            }
            Change::Note { .. } | Change::Admitted { .. } => {}
            Change::Ended {
                upgrade,
                task,
                attempt,
                outcome,
                retry_at,
                ..
            } => self.ended(*upgrade, *task, *attempt, outcome, *retry_at),
        }
    }

    fn stage(
        &mut self,
        upgrade: UpgradeId,
        attempt: u32,
        change: &StageChange,
        report: &mut CommitReport,
    ) {
        let Some(row) = self.upgrade(upgrade) else {
            report.refused.push(upgrade);
            return;
        };
        if !row.takes(attempt) {
            if matches!(row.phase, Phase::Ended) && !report.refused.contains(&upgrade) {
                report.refused.push(upgrade);
            }
            return;
        }
        let kept = match &row.phase {
            Phase::Active { progress, .. } if row.attempt == attempt => *progress,
            _ => None,
        };
        let before = std::mem::replace(
            &mut row.phase,
            Phase::Active {
                stage: Box::new(change.clone()),
                progress: kept,
            },
        );
        row.attempt = attempt;
        if let Phase::Waiting { not_before } = before {
            self.waiting.remove(&(not_before, upgrade));
        }
    }

    fn ended(
        &mut self,
        upgrade: UpgradeId,
        task: TaskId,
        attempt: u32,
        outcome: &Outcome,
        retry_at: Option<UtcMillis>,
    ) {
        let running = self
            .task(task)
            .is_some_and(|task| task.state == TaskState::Running);
        let retry_at = retry_at.filter(|_| running);
        let Some(row) = self.upgrade(upgrade).filter(|row| row.takes(attempt)) else {
            return;
        };
        row.attempt = attempt;
        row.outcome = Some(Box::new(outcome.clone()));
        let next = match retry_at {
            Some(not_before) => Phase::Waiting { not_before },
            None => Phase::Ended,
        };
        if let Phase::Waiting { not_before } = std::mem::replace(&mut row.phase, next) {
            self.waiting.remove(&(not_before, upgrade));
        }
        if let Some(not_before) = retry_at {
            self.waiting.insert((not_before, upgrade));
        } else if let Some(task) = self.task(task) {
            task.open -= 1;
            if task.open == 0 {
                task.state = TaskState::Finished;
            }
        }
    }

    /// Every device; see [`crate::store::Store::restore_devices`].
    pub(super) fn restore_devices(&self) -> Vec<DeviceRecord> {
        let mut records: Vec<DeviceRecord> = self
            .devices
            .iter()
            .map(|device| DeviceRecord {
                secure: false,
                endpoint: device.endpoint.to_string(),
                product: device.product.to_string(),
                registration: device.registration.as_deref().cloned(),
                last_heard_at: device.last_heard_at,
                coverage: device.coverage,
                version: device.version,
                evidence: device.evidence.clone(),
            })
            .collect();
        records.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        records
    }

    /// Every upgrade in a stage, ordered by number; see [`crate::store::Store::restore_upgrades`].
    pub(super) fn restore_upgrades(&self) -> Vec<ActiveUpgrade> {
        self.upgrades
            .iter()
            .zip(1..)
            .filter_map(|(row, id)| match &row.phase {
                Phase::Active { stage, progress } => Some(ActiveUpgrade {
                    order: self.order(UpgradeId(id), row, row.attempt)?,
                    stage: (**stage).clone(),
                    progress: *progress,
                }),
                Phase::Waiting { .. } | Phase::Ended => None,
            })
            .collect()
    }

    /// See [`crate::store::Store::start_due_tasks`].
    pub(super) fn start_due_tasks(&mut self, now: UtcMillis) {
        for task in &mut self.tasks {
            if task.state == TaskState::Scheduled && task.start_at <= now {
                task.state = TaskState::Running;
            }
        }
    }

    /// See [`crate::store::Store::startable`]. A device has one upgrade here.
    pub(super) fn startable(&self, now: UtcMillis, limit: u32) -> Vec<(Candidate, UpgradeOrder)> {
        self.waiting
            .iter()
            .take_while(|(at, _)| *at <= now)
            .filter_map(|(not_before, upgrade)| {
                let row = self.upgrades.get(row_of(*upgrade)?)?;
                let task_state = self.tasks.get(row_of(UpgradeId(row.task.0))?)?.state;
                let candidate = Candidate {
                    upgrade: *upgrade,
                    task_state,
                    not_before: *not_before,
                    device_busy_with: None,
                };
                let order = self.order(*upgrade, row, row.attempt.saturating_add(1))?;
                (task_state == TaskState::Running).then_some((candidate, order))
            })
            .take(limit as usize)
            .collect()
    }

    /// See [`crate::store::Store::next_due`].
    pub(super) fn next_due(&self, now: UtcMillis) -> Option<UtcMillis> {
        let after = (UtcMillis(now.0.saturating_add(1)), UpgradeId(i64::MIN));
        let upgrade = self.waiting.range(after..).next().map(|(at, _)| *at);
        let task = (self.tasks.iter())
            .filter(|task| task.state == TaskState::Scheduled && task.start_at > now)
            .map(|task| task.start_at);
        upgrade.into_iter().chain(task).min()
    }

    /// Where every upgrade stands at the end.
    pub(super) fn finals(&self) -> Vec<Final> {
        self.upgrades
            .iter()
            .zip(1..)
            .map(|(row, id)| Final {
                upgrade: UpgradeId(id),
                attempts: row.attempt,
                state: match (&row.phase, row.outcome.as_deref()) {
                    (Phase::Active { stage, .. }, _) => UpgradeState::Active(stage.stage),
                    (Phase::Ended, Some(Outcome::Succeeded(_))) => UpgradeState::Succeeded,
                    (Phase::Ended, Some(Outcome::Failed(_))) => UpgradeState::Failed,
                    (Phase::Ended, Some(Outcome::Cancelled(_))) => UpgradeState::Cancelled,
                    (Phase::Ended, None) | (Phase::Waiting { .. }, _) => UpgradeState::Pending,
                },
                reason: (row.outcome.as_deref()).map(|outcome| outcome.reason().to_owned()),
            })
            .collect()
    }

    fn order(&self, upgrade: UpgradeId, row: &Upgrade, attempt: u32) -> Option<UpgradeOrder> {
        let task = self.tasks.get(row_of(UpgradeId(row.task.0))?)?;
        Some(UpgradeOrder {
            upgrade,
            task: row.task,
            endpoint: self.devices.get(row.device as usize)?.endpoint.to_string(),
            package: task.package,
            attempt,
            retry: task.retry,
        })
    }

    fn device(&mut self, endpoint: &str) -> Option<&mut Device> {
        let row = *self.by_endpoint.get(endpoint)?;
        self.devices.get_mut(row as usize)
    }

    fn upgrade(&mut self, id: UpgradeId) -> Option<&mut Upgrade> {
        self.upgrades.get_mut(row_of(id)?)
    }

    fn task(&mut self, id: TaskId) -> Option<&mut Task> {
        self.tasks.get_mut(row_of(UpgradeId(id.0))?)
    }
}

fn row_of(id: UpgradeId) -> Option<usize> {
    usize::try_from(id.0.checked_sub(1)?).ok()
}
