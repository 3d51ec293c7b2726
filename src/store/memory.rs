//! A store that is a table in memory: what the database does with changes, and what it gives back after a restart, without
//! a disk. For simulations and tests; nothing of it survives the process.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{
    BatchId, CellChange, CommitReport, CreateTaskError, LaneLimit, RunningUpgrade, SoaksDue,
    UpgradeState, UpgradeToStop,
    apply::{self, Changed, Ending, UpgradeOver},
};
use crate::{
    clock::UtcMillis,
    filter::Unheard,
    ledger::{
        ActiveUpgrade, Cancellation, Change, DeviceRecord, Further, Lane, Learnt, Outcome,
        PackageId, Protocol, RetryPolicy, Served, Standby, StopReason, TaskId, TaskState, Traffic,
        UpgradeId, UpgradeOrder, Usage, Via,
    },
    package::Version,
    task::{
        CellRules, Census, Deal, Due, Hold, HoldReason, Lot, LotHead, Membership, Month, Move,
        Place, PutOff, Results, RulesError, RulesUpdate, Soak, SoakStep, Soaked, Source, Spent,
        TaskHead, TaskRules,
    },
};

/// A task that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTask {
    /// Its number.
    pub task: TaskId,
    /// That of its first package, which the others follow.
    pub package: PackageId,
    /// Its upgrades with their devices, in the order of these.
    pub upgrades: Vec<(UpgradeId, String)>,
}

/// Devices, tasks and upgrades.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    devices: Vec<Device>,
    by_endpoint: HashMap<Box<str>, u32>,
    /// What was committed last, and what came of it.
    last_batch: Option<(BatchId, CommitReport)>,
    /// Number n stands at n − 1.
    tasks: Vec<Task>,
    /// Number n stands at n − 1.
    upgrades: Vec<Upgrade>,
    /// The rules of cells, and the number of the change that made them so.
    cells: BTreeMap<u32, (i64, CellRules)>,
    /// The limits of sites, in the order in which they were given.
    sites: Vec<LaneLimit>,
    /// The lanes of the sites that devices are at.
    sites_of: HashMap<Box<str>, Lane>,
    /// Soaks that go on, and when there is something to do about each.
    soaks: BTreeMap<UpgradeId, (UtcMillis, Soak)>,
    /// Of each subject: a simulation has so few cells that none is forgotten.
    learnt: BTreeMap<(&'static str, String), Learnt>,
    /// Packages that tasks were created with.
    packages: usize,
}

#[derive(Debug, Clone)]
struct Device {
    endpoint: Box<str>,
    product: Box<str>,
    protocol: Protocol,
    hardware: Option<Box<str>>,
    state: apply::Device,
    /// Upgrades that run on it.
    running: u32,
    /// What its upgrades have cost, in each month of UTC: nothing is known of where it is.
    spent: BTreeMap<i32, Usage>,
}

impl Device {
    fn record(&self) -> DeviceRecord {
        (self.state).record(&self.endpoint, &self.product, self.protocol)
    }
}

#[derive(Debug, Clone)]
struct Task {
    /// Its packages and their versions, at least one.
    packages: Vec<(PackageId, Version)>,
    /// Whom it is for: all devices of this product.
    product: Box<str>,
    state: TaskState,
    start_at: UtcMillis,
    retry: RetryPolicy,
    rules: Arc<TaskRules>,
    hold: Option<Hold>,
    /// What had come of it when it was resumed last.
    resumed_with: Results,
    expired: bool,
    phase: u32,
    lots: Vec<Lot>,
    /// Of each lot upgrades that wait, in the order in which they may begin.
    waiting: Vec<BTreeSet<(UtcMillis, UpgradeId)>>,
    /// What came of each phase.
    results: Vec<Results>,
    /// Upgrades without a final outcome.
    open: u64,
    /// Bytes and segments of its largest package.
    size: (u64, u64),
    /// What its upgrades have cost.
    traffic: Traffic,
}

impl Task {
    /// The version of what an upgrade of it was served last.
    fn target(&self, served: Option<Served>) -> Version {
        let served = served.map(|served| served.package);
        let known = self.packages.iter().find(|(id, _)| Some(*id) == served);
        known.unwrap_or(&self.packages[0]).1
    }

    /// Whether devices join it, until that is over.
    fn may_be_joined(&self) -> bool {
        self.rules.membership == Membership::Joining && !self.expired
    }

    /// It ends with its last upgrade, unless others may join.
    fn end_if_over(&mut self) {
        if self.open > 0 {
            return;
        }
        self.state = match self.state {
            TaskState::Stopping => TaskState::Stopped,
            TaskState::Running if self.may_be_joined() => TaskState::Running,
            _ => TaskState::Finished,
        };
    }

    /// The lot of the phase that runs: whoever joins is in it.
    fn running_lot(&mut self) -> u32 {
        let phase = self.phase;
        if let Some(lot) = self.lots.iter().find(|lot| lot.phase == phase) {
            return lot.lot;
        }
        let lot = u32::try_from(self.lots.len()).unwrap_or(u32::MAX);
        let zone = None;
        self.lots.push(Lot { lot, phase, zone });
        self.waiting.push(BTreeSet::new());
        lot
    }

    /// An upgrade of this lot came to be in another state.
    fn moved(&mut self, lot: u32, from: UpgradeState, to: UpgradeState, reason: Option<&str>) {
        let results = &mut self.results[self.lots[lot as usize].phase as usize];
        match from {
            UpgradeState::Pending => results.waiting -= 1,
            UpgradeState::Active(_) => results.running -= 1,
            UpgradeState::Succeeded | UpgradeState::Failed | UpgradeState::Cancelled => {}
        }
        match to {
            UpgradeState::Pending => results.waiting += 1,
            UpgradeState::Active(_) => results.running += 1,
            UpgradeState::Succeeded => results.succeeded += 1,
            UpgradeState::Failed => {
                let reason = reason.unwrap_or_default().to_owned();
                *results.failed.entry(reason).or_default() += 1;
            }
            UpgradeState::Cancelled => {}
        }
    }
}

#[derive(Debug, Clone)]
struct Upgrade {
    device: u32,
    task: TaskId,
    lot: u32,
    now: apply::Upgrade,
    kept_awake: Standby,
    /// Attempts that were taken back: they count for nothing.
    taken_back: u32,
    traffic: Traffic,
}

impl MemoryStore {
    /// Adds a device of a product, if it is not there.
    pub fn add_device(&mut self, endpoint: &str, product: &str, protocol: Protocol) {
        if self.by_endpoint.contains_key(endpoint) {
            return;
        }
        let row = u32::try_from(self.devices.len()).unwrap_or(u32::MAX);
        self.by_endpoint.insert(endpoint.into(), row);
        self.devices.push(Device {
            endpoint: endpoint.into(),
            product: product.into(),
            protocol,
            hardware: None,
            state: apply::Device::default(),
            running: 0,
            spent: BTreeMap::new(),
        });
    }

    /// The operator says of which hardware a device is.
    pub fn set_hardware(&mut self, endpoint: &str, hardware: Option<&str>) {
        let row = self.by_endpoint.get(endpoint).copied();
        if let Some(device) = row.and_then(|row| self.devices.get_mut(row as usize)) {
            device.hardware = hardware.map(Into::into);
        }
    }

    /// The operator says how a device is reached.
    pub fn set_via(&mut self, endpoint: &str, via: &Via) {
        let row = self.by_endpoint.get(endpoint).copied();
        if let Some(device) = row.and_then(|row| self.devices.get_mut(row as usize)) {
            device.state.set_via(via.clone());
        }
    }

    /// The device, which may be added later, is at that site.
    pub fn set_site_of(&mut self, endpoint: &str, site: Lane) {
        self.sites_of.insert(endpoint.into(), site);
    }

    /// Sites have these limits from now on: told once.
    pub fn set_sites(&mut self, limits: impl IntoIterator<Item = (Lane, u32)>) {
        let changes = (1..)
            .zip(limits)
            .map(|(revision, (lane, limit))| LaneLimit {
                revision,
                lane,
                limit: Some(limit),
            });
        self.sites = changes.collect();
    }

    /// See [`super::Sites::lane_limits_since`].
    pub fn lane_limits_since(&self, revision: i64, limit: u32) -> Vec<LaneLimit> {
        let later = (self.sites.iter()).filter(|change| change.revision > revision);
        later.take(limit as usize).copied().collect()
    }

    /// Creates a task with packages of its own, which lead to these versions (at least one), for these devices, of which nothing
    /// is known but their names.
    ///
    /// # Errors
    /// A phase would have no device.
    #[expect(clippy::too_many_lines, reason = "the parts of a task")]
    pub fn create_task(
        &mut self,
        endpoints: &[&str],
        targets: &[Version],
        (created_at, start_at): (UtcMillis, UtcMillis),
        retry: RetryPolicy,
        rules: &TaskRules,
    ) -> Result<CreatedTask, CreateTaskError> {
        let number = number_of(self.tasks.len());
        let (task, package) = (TaskId(number), PackageId(number_of(self.packages)));
        let mut endpoints = endpoints.to_vec();
        endpoints.sort_unstable();
        let rows: Vec<u32> = (endpoints.iter())
            .filter_map(|endpoint| self.by_endpoint.get(*endpoint).copied())
            .collect();
        let product = (rows.first()).map(|row| self.devices[*row as usize].product.clone());
        let product = product.unwrap_or_default();
        let places: Vec<Place> = (rows.iter())
            .map(|row| &self.devices[*row as usize])
            .map(|device| {
                let device = Unheard {
                    endpoint: &device.endpoint,
                    product: &device.product,
                    created_at,
                };
                Place::of(rules, &device, created_at)
            })
            .collect();
        let mut census = Census::default();
        for place in &places {
            census.count(*place);
        }
        if let Some(phase) = census.empty_phase(rules) {
            return Err(CreateTaskError::EmptyPhase { phase });
        }
        let mut deal = Deal::new(rules, &census, number.unsigned_abs());
        let mut waiting = Vec::new();
        let mut results = vec![Results::default(); rules.phase_count()];
        let mut created = Vec::with_capacity(rows.len());
        for (device, place) in rows.into_iter().zip(places) {
            let upgrade = UpgradeId(number_of(self.upgrades.len()));
            let lot = deal.lot(&self.devices[device as usize].endpoint, place, None);
            waiting.resize_with(deal.lots().len(), BTreeSet::new);
            self.upgrades.push(Upgrade {
                device,
                task,
                lot,
                now: apply::Upgrade::waiting(start_at),
                kept_awake: Standby::default(),
                taken_back: 0,
                traffic: Traffic::default(),
            });
            waiting[lot as usize].insert((start_at, upgrade));
            results[deal.lots()[lot as usize].phase as usize].waiting += 1;
            created.push((upgrade, self.devices[device as usize].endpoint.to_string()));
        }
        self.packages += targets.len();
        let packages = (package.0..).map(PackageId).zip(targets.iter().copied());
        self.tasks.push(Task {
            packages: packages.collect(),
            product,
            state: TaskState::Scheduled,
            start_at,
            retry,
            rules: Arc::new(rules.clone()),
            hold: None,
            resumed_with: Results::default(),
            expired: false,
            phase: 0,
            lots: deal.lots().to_vec(),
            waiting,
            results,
            open: created.len() as u64,
            size: (0, 0),
            traffic: Traffic::default(),
        });
        Ok(CreatedTask {
            task,
            package,
            upgrades: created,
        })
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

    #[expect(clippy::too_many_lines, reason = "one match over all changes")]
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
            Change::Serves {
                upgrade,
                attempt,
                served,
            } => {
                if let Some(row) = self.upgrade(*upgrade) {
                    row.now.serves(*attempt, *served);
                }
            }
            Change::KeptAwake { upgrade, standby } => {
                if let Some(row) = self.upgrade(*upgrade) {
                    row.kept_awake = row.kept_awake.max(*standby);
                }
            }
            Change::Traffic {
                upgrade,
                task,
                endpoint,
                traffic,
                at,
                ..
            } => {
                if let Some(row) = self.upgrade(*upgrade) {
                    row.traffic += *traffic;
                }
                if let Some(task) = self.task(*task) {
                    task.traffic += *traffic;
                }
                let row = self.by_endpoint.get(&**endpoint).copied();
                if let Some(device) = row.and_then(|row| self.devices.get_mut(row as usize)) {
                    *(device.spent.entry(Month::of(*at, None).number)).or_default() += traffic;
                }
            }
            Change::Learnt(learnt) => {
                self.learnt.insert(learnt.subject(), (**learnt).clone());
            }
            Change::LetGo {
                upgrade,
                attempt,
                at,
            } => self.let_go(*upgrade, *attempt, *at),
            Change::Note { .. } | Change::Admitted { .. } => {}
            change => {
                let Some(endpoint) = apply::device_of(change) else {
                    return Ok(());
                };
                if matches!(change, Change::Registered { .. }) {
                    self.add_device(endpoint, "default", Protocol::Lwm2m);
                }
                let row = self.by_endpoint.get(endpoint).copied();
                if let Some(device) = row.and_then(|row| self.devices.get_mut(row as usize)) {
                    device.state.apply(change);
                }
                if let (Change::VersionReported { version, at, .. }, Some(row)) = (change, row) {
                    self.version_told(row, *version, *at);
                }
            }
        }
        Ok(())
    }

    /// An upgrade that waited runs.
    fn begun(&mut self, upgrade: UpgradeId, not_before: UtcMillis) {
        let row = self.upgrade(upgrade);
        let Some((device, task, lot, now)) =
            row.map(|row| (row.device, row.task, row.lot, row.now.state))
        else {
            return;
        };
        self.devices[device as usize].running += 1;
        if let Some(task) = self.task(task) {
            task.waiting[lot as usize].remove(&(not_before, upgrade));
            task.moved(lot, UpgradeState::Pending, now, None);
        }
    }

    /// The engine has let go of an attempt.
    fn let_go(&mut self, upgrade: UpgradeId, attempt: u32, at: UtcMillis) {
        let task = self.upgrade(upgrade).map(|row| row.task);
        let task = task.and_then(|task| self.task(task));
        let goes_on = task.is_some_and(|task| task.state == TaskState::Running);
        let Some(row) = self.upgrade(upgrade) else {
            return;
        };
        let before = row.now.state;
        if !row.now.runs(attempt) {
            return;
        }
        if !goes_on {
            return self.ended(upgrade, attempt, Ending::unwanted(at), None);
        }
        row.now.let_go(attempt);
        row.taken_back += 1;
        let (device, task, lot, next) = (row.device, row.task, row.lot, row.now.not_before);
        self.devices[device as usize].running -= 1;
        if let Some(task) = self.task(task) {
            task.moved(lot, before, UpgradeState::Pending, None);
            task.waiting[lot as usize].insert((next, upgrade));
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
        let (device, task_id, lot, before) = (row.device, row.task, row.lot, row.now.state);
        let not_before = row.now.not_before;
        let taken_back = ending.outcome.is_taken_back();
        let runs = (self.task(task_id))
            .is_some_and(|task| task.state == TaskState::Running && !(taken_back && task.expired));
        let retry_at = retry_at.filter(|_| runs);
        let Some(row) = self.upgrade(upgrade) else {
            return;
        };
        let (reason, ended_at) = (ending.outcome.reason(), ending.at);
        if row.now.ended(attempt, ending, retry_at) == Changed::Nothing {
            return;
        }
        row.taken_back += u32::from(taken_back);
        let (now, next, served) = (row.now.state, row.now.not_before, row.now.served);
        if matches!(before, UpgradeState::Active(_)) {
            self.devices[device as usize].running -= 1;
        }
        let Some(task) = self.task(task_id) else {
            return;
        };
        task.moved(lot, before, now, Some(reason));
        let soak_s = task.rules.phase(task.lots[lot as usize].phase).soak_seconds;
        if now == UpgradeState::Succeeded && soak_s > 0 {
            let due_at = ended_at + Duration::from_secs(soak_s.into());
            let soak = Soak {
                target: task.target(served),
                began_at: ended_at,
                due_at,
            };
            self.soaks.insert(upgrade, (due_at, soak));
        }
        let Some(task) = self.task(task_id) else {
            return;
        };
        task.waiting[lot as usize].remove(&(not_before, upgrade));
        if retry_at.is_some() {
            task.waiting[lot as usize].insert((next, upgrade));
        } else {
            task.open -= 1;
            task.end_if_over();
        }
    }

    /// Every device, ordered by endpoint; see [`super::Ledger::restore_devices`].
    pub fn restore_devices(&self) -> Vec<DeviceRecord> {
        let mut records: Vec<DeviceRecord> = (self.devices.iter()).map(Device::record).collect();
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

    /// See [`super::Cells::update_cells`].
    ///
    /// # Errors
    /// The update does not fit.
    pub fn update_cell(
        &mut self,
        cell: u32,
        update: RulesUpdate,
        now: UtcMillis,
    ) -> Result<(), RulesError> {
        let last = self.cells.values().map(|(revision, _)| *revision).max();
        let (revision, rules) = self.cells.entry(cell).or_default();
        rules.update(update, now)?;
        *revision = last.unwrap_or(0) + 1;
        Ok(())
    }

    /// See [`super::Cells::cell_changes_since`].
    pub fn cell_changes_since(&self, revision: i64, limit: u32) -> Vec<CellChange> {
        let after = |(_, (changed, _)): &(&u32, &(i64, CellRules))| *changed > revision;
        let newer = self.cells.iter().filter(after);
        let mut changes: Vec<CellChange> = newer
            .map(|(cell, (revision, rules))| CellChange {
                revision: *revision,
                cell: *cell,
                rules: rules.clone(),
            })
            .collect();
        changes.sort_unstable_by_key(|change| change.revision);
        changes.truncate(limit as usize);
        changes
    }

    /// See [`super::Ledger::restore_learnt`].
    pub fn restore_learnt(&self) -> Vec<Learnt> {
        self.learnt.values().cloned().collect()
    }

    /// It was put back to an older state, which this is: see `SqliteStore::was_put_back`.
    pub fn was_put_back(&mut self, now: UtcMillis) {
        for device in &mut self.devices {
            device.state.put_back([], now);
        }
        for upgrade in &self.upgrades {
            if !upgrade.now.state.is_final()
                && let Some(task) = row_of(upgrade.task.0).and_then(|row| self.tasks.get(row))
                && let Some(device) = self.devices.get_mut(upgrade.device as usize)
            {
                let versions = task.packages.iter().map(|(_, version)| *version);
                device.state.put_back(versions, now);
            }
        }
    }

    /// See [`super::Agenda::task_heads`].
    pub fn task_heads(&self, now: UtcMillis) -> Vec<TaskHead> {
        (self.tasks.iter().zip(1..))
            .filter(|(task, _)| task.state.may_begin())
            .map(|(task, id)| TaskHead {
                task: TaskId(id),
                state: task.state,
                start_at: task.start_at,
                rules: Arc::clone(&task.rules),
                hold: task.hold.clone(),
                expired: task.expired,
                phase: task.phase,
                results: if task.rules.is_empty() {
                    Vec::new()
                } else {
                    task.results.clone()
                },
                resumed_with: task.resumed_with.clone(),
                lots: (task.lots.iter())
                    .filter(|lot| lot.phase <= task.phase)
                    .map(|lot| LotHead {
                        lot: lot.lot,
                        zone: lot.zone.clone(),
                        first_due: self.due_in(task, lot.lot, now).next().map(|(due, _)| due),
                    })
                    .collect(),
            })
            .collect()
    }

    /// See [`super::Agenda::make_moves`].
    pub fn make_moves(&mut self, moves: &[Move], now: UtcMillis) {
        for step in moves {
            match step {
                Move::Begin(task) => {
                    if let Some(task) = self.task(*task)
                        && task.state == TaskState::Scheduled
                    {
                        task.state = TaskState::Running;
                    }
                }
                Move::NextPhase { task, from } => {
                    if let Some(task) = self.task(*task)
                        && task.phase == *from
                    {
                        task.phase += 1;
                    }
                }
                Move::Hold(task, hold) => {
                    if let Some(task) = self.task(*task) {
                        task.hold.get_or_insert_with(|| hold.clone());
                    }
                }
                Move::Stop(task, _) => {
                    if let Some(task) = self.task(*task) {
                        task.state = TaskState::Stopping;
                    }
                    self.cancel_waiting(*task, Cancellation::TaskStopped, now, |_| true);
                }
                Move::Expire(task) => {
                    if let Some(task) = self.task(*task) {
                        task.expired = true;
                    }
                    self.cancel_waiting(*task, Cancellation::Expired, now, |row| {
                        let last = row.ending.as_deref().map(|ending| &ending.outcome);
                        row.attempt == 0 || last.is_some_and(Outcome::is_taken_back)
                    });
                    if let Some(task) = self.task(*task) {
                        task.end_if_over();
                    }
                }
            }
        }
    }

    /// Has devices join a task that were added since it was created. See [`super::Agenda::join`]. Gives their upgrades.
    pub fn join(&mut self, task: TaskId, now: UtcMillis) -> Vec<(UpgradeId, String)> {
        let heads = self.task_heads(now);
        let head = heads.iter().find(|head| head.task == task);
        if !head.is_some_and(|head| head.takes_up(now)) {
            return Vec::new();
        }
        let Some(row) = row_of(task.0).filter(|row| *row < self.tasks.len()) else {
            return Vec::new();
        };
        let there: BTreeSet<u32> = (self.upgrades.iter())
            .filter(|upgrade| upgrade.task == task)
            .map(|upgrade| upgrade.device)
            .collect();
        let product = self.tasks[row].product.clone();
        let mut devices: Vec<(Box<str>, u32)> = (0..)
            .zip(&self.devices)
            .filter(|(number, device)| device.product == product && !there.contains(number))
            .map(|(number, device)| (device.endpoint.clone(), number))
            .collect();
        devices.sort_unstable();
        let mut joined = Vec::with_capacity(devices.len());
        for (endpoint, device) in devices {
            let lot = self.tasks[row].running_lot();
            let upgrade = UpgradeId(number_of(self.upgrades.len()));
            self.upgrades.push(Upgrade {
                device,
                task,
                lot,
                now: apply::Upgrade::waiting(now),
                kept_awake: Standby::default(),
                taken_back: 0,
                traffic: Traffic::default(),
            });
            let task = &mut self.tasks[row];
            task.waiting[lot as usize].insert((now, upgrade));
            task.results[task.phase as usize].waiting += 1;
            task.open += 1;
            joined.push((upgrade, endpoint.into()));
        }
        joined
    }

    /// Has a task go on that is held: after a phase, with the next one. See [`super::TaskChange::Resume`]. Returns whether it was held.
    pub fn resume(&mut self, task: TaskId) -> bool {
        let Some(task) = self.task(task).filter(|task| task.state.may_begin()) else {
            return false;
        };
        let phases = match task.hold.as_ref().map(|hold| &hold.why) {
            None | Some(HoldReason::Approval) => return false,
            Some(HoldReason::PhaseDone { .. } | HoldReason::PhaseFailed { .. }) => 1,
            Some(HoldReason::Paused { .. } | HoldReason::Failures { .. }) => 0,
        };
        task.hold = None;
        task.phase += phases;
        task.resumed_with = Results::default();
        for phase in &task.results {
            task.resumed_with.add(phase);
        }
        true
    }

    /// Ends what waits in a task, of these upgrades.
    fn cancel_waiting(
        &mut self,
        task: TaskId,
        why: Cancellation,
        at: UtcMillis,
        these: impl Fn(&apply::Upgrade) -> bool,
    ) {
        let waiting = self.task(task).map(|task| task.waiting.clone());
        for (_, upgrade) in waiting.into_iter().flatten().flatten() {
            if self.upgrade(upgrade).is_some_and(|row| these(&row.now)) {
                let ending = Ending {
                    outcome: Outcome::Cancelled(why),
                    facts: None,
                    at,
                };
                self.cancelled(upgrade, ending);
            }
        }
    }

    /// One that waited has ended.
    fn cancelled(&mut self, upgrade: UpgradeId, ending: Ending) {
        let Some(row) = self.upgrade(upgrade) else {
            return;
        };
        let (task, lot, not_before) = (row.task, row.lot, row.now.not_before);
        row.now.state = UpgradeState::Cancelled;
        row.now.ending = Some(Box::new(ending));
        let Some(task) = self.task(task) else { return };
        task.waiting[lot as usize].remove(&(not_before, upgrade));
        task.moved(lot, UpgradeState::Pending, UpgradeState::Cancelled, None);
        task.open -= 1;
        task.end_if_over();
    }

    /// See [`super::Agenda::upgrades_to_stop`].
    pub fn upgrades_to_stop(&self, limit: u32) -> Vec<UpgradeToStop> {
        let stopping = |id: TaskId| {
            let task = row_of(id.0).and_then(|row| self.tasks.get(row));
            task.is_some_and(|task| task.state == TaskState::Stopping)
        };
        if !self
            .tasks
            .iter()
            .any(|task| task.state == TaskState::Stopping)
        {
            return Vec::new();
        }
        (self.upgrades.iter().zip(1..))
            .filter(|(row, _)| {
                matches!(row.now.state, UpgradeState::Active(_)) && stopping(row.task)
            })
            .take(limit as usize)
            .map(|(row, id)| UpgradeToStop {
                upgrade: UpgradeId(id),
                task: row.task,
                endpoint: self.devices[row.device as usize].endpoint.to_string(),
                reason: StopReason::TaskStopped,
            })
            .collect()
    }

    /// See [`super::Agenda::due_upgrades`].
    pub fn due_upgrades(&self, sources: &[Source], now: UtcMillis, limit: u32) -> Vec<Due> {
        let limit = limit as usize;
        let mut due: Vec<_> = (sources.iter())
            .filter_map(|source| Some((source, self.tasks.get(row_of(source.task.0)?)?)))
            .flat_map(|(source, task)| {
                let most = limit.min(source.limit as usize);
                let due = self.due_in(task, source.lot, now).take(most);
                due.map(|(due, row)| ((Reverse(source.priority), due), row, source.back))
            })
            .collect();
        due.sort_unstable_by_key(|(due, ..)| *due);
        due.truncate(limit);
        (due.into_iter())
            .filter_map(|((_, (since, upgrade)), row, back)| {
                let order = self.order(upgrade, row, row.now.attempt.saturating_add(1))?;
                let order = UpgradeOrder { back, ..order };
                let budget = sources
                    .iter()
                    .find(|source| source.task == row.task)?
                    .budget;
                let spent = budget.and_then(|_| self.spent(row.task, &order.endpoint, now));
                Some(Due {
                    since,
                    order,
                    spent,
                })
            })
            .collect()
    }

    /// See [`super::Agenda::taking_back`].
    pub fn taking_back(&self) -> Vec<(TaskId, Arc<TaskRules>)> {
        (self.tasks.iter().zip(1..))
            .filter(|(task, _)| task.state.is_running() && task.rules.take_back_windows().is_some())
            .map(|(task, id)| (TaskId(id), Arc::clone(&task.rules)))
            .collect()
    }

    /// See [`super::Agenda::running_upgrades`].
    pub fn running_upgrades(
        &self,
        task: TaskId,
        after: Option<UpgradeId>,
        limit: u32,
    ) -> Vec<RunningUpgrade> {
        let after = after.map_or(0, |after| after.0);
        let lots = row_of(task.0).and_then(|row| self.tasks.get(row));
        let lots = lots.map_or(&[][..], |task| &task.lots);
        (self.upgrades.iter().zip(1..))
            .filter(|(row, id)| {
                let runs = matches!(row.now.state, UpgradeState::Active(_));
                runs && row.task == task && *id > after
            })
            .take(limit as usize)
            .map(|(row, id)| RunningUpgrade {
                upgrade: UpgradeId(id),
                endpoint: self.devices[row.device as usize].endpoint.to_string(),
                zone: (lots.get(row.lot as usize))
                    .and_then(|lot| lot.zone.as_deref().map(Into::into)),
            })
            .collect()
    }

    /// The largest package of a task has so many bytes and segments.
    pub fn package_is(&mut self, task: TaskId, size_bytes: u64, segments: u64) {
        if let Some(task) = self.task(task) {
            task.size = (size_bytes, segments);
        }
    }

    /// See [`super::Agenda::spent`].
    pub fn spent(&self, task: TaskId, endpoint: &str, now: UtcMillis) -> Option<Spent> {
        let (size_bytes, segments) = self.tasks.get(row_of(task.0)?)?.size;
        let device = self
            .devices
            .get(*self.by_endpoint.get(endpoint)? as usize)?;
        let record = device.record();
        let coverage = record.coverage.map(|reading| reading.coverage);
        let month = Month::of(now, None);
        Some(Spent {
            used: device.spent.get(&month.number).copied().unwrap_or_default(),
            need: Usage::of_package(size_bytes, segments, coverage.as_ref()),
            month_ends_at: month.ends_at,
        })
    }

    /// See [`super::Agenda::put_off`].
    pub fn put_off(&mut self, put_off: &[PutOff]) {
        for PutOff { upgrade, over } in put_off {
            let Some(row) = self.upgrade(*upgrade) else {
                continue;
            };
            if row.now.state != UpgradeState::Pending {
                continue;
            }
            let (task, lot, before) = (row.task, row.lot, row.now.not_before);
            let later = before.max(over.until);
            row.now.not_before = later;
            if let Some(task) = self.task(task) {
                let waiting = &mut task.waiting[lot as usize];
                if waiting.remove(&(before, *upgrade)) {
                    waiting.insert((later, *upgrade));
                }
            }
        }
    }

    /// What an upgrade has cost, and its task.
    pub fn traffic(&self, upgrade: UpgradeId) -> Option<(Traffic, Traffic)> {
        let row = self.upgrades.get(row_of(upgrade.0)?)?;
        let task = self.tasks.get(row_of(row.task.0)?)?;
        Some((row.traffic, task.traffic))
    }

    /// What is due in a lot of a task, on devices that are free.
    fn due_in(
        &self,
        task: &Task,
        lot: u32,
        now: UtcMillis,
    ) -> impl Iterator<Item = ((UtcMillis, UpgradeId), &Upgrade)> {
        let waiting = task.waiting.get(lot as usize).into_iter().flatten();
        (waiting.copied())
            .take_while(move |(at, _)| *at <= now)
            .filter_map(|due| Some((due, self.upgrades.get(row_of(due.1.0)?)?)))
            .filter(|(_, row)| self.devices[row.device as usize].running == 0)
    }

    /// A device has told its version.
    fn version_told(&mut self, device: u32, version: Version, at: UtcMillis) {
        let of_device = |upgrade: &UpgradeId| {
            let row = row_of(upgrade.0).and_then(|row| self.upgrades.get(row));
            row.is_some_and(|row| row.device == device)
        };
        let soaks = self.soaks.iter().filter(|(upgrade, _)| of_device(upgrade));
        let ended: Vec<_> = soaks
            .filter_map(|(upgrade, (_, soak))| Some((*upgrade, soak.told(version, at)?)))
            .collect();
        for (upgrade, soaked) in ended {
            self.soaked(upgrade, &soaked);
        }
    }

    fn soaked(&mut self, upgrade: UpgradeId, soaked: &Soaked) {
        self.soaks.remove(&upgrade);
        let Some((task, lot)) = self.upgrade(upgrade).map(|row| (row.task, row.lot)) else {
            return;
        };
        let Some(task) = self.task(task) else { return };
        let results = &mut task.results[task.lots[lot as usize].phase as usize];
        match soaked {
            Ok(()) => results.healthy += 1,
            Err(_) => results.unhealthy += 1,
        }
    }

    /// See [`super::Agenda::soaks_due`].
    pub fn soaks_due(&mut self, now: UtcMillis, wait: Duration, limit: u32) -> SoaksDue {
        let mut due: Vec<_> = (self.soaks.iter())
            .filter(|(_, (next_at, _))| *next_at <= now)
            .map(|(upgrade, (next_at, soak))| (*next_at, *upgrade, soak.clone()))
            .collect();
        due.sort_unstable_by_key(|(next_at, upgrade, _)| (*next_at, *upgrade));
        due.truncate(limit as usize);
        let mut found = SoaksDue {
            ask: Vec::new(),
            looked_at: due.len() as u64,
        };
        for (_, upgrade, soak) in due {
            let Some(row) = self.upgrade(upgrade).map(|row| row.device) else {
                continue;
            };
            let device = &self.devices[row as usize];
            let heard_at = device.record().last_heard_at;
            let next_at = match soak.next(wait, heard_at, now) {
                SoakStep::Ended(soaked) => {
                    self.soaked(upgrade, &soaked);
                    continue;
                }
                SoakStep::WaitUntil(at) => at,
                SoakStep::Ask(again_at) => {
                    found.ask.push(device.endpoint.to_string());
                    again_at
                }
            };
            self.soaks.insert(upgrade, (next_at, soak));
        }
        found
    }

    /// See [`super::Agenda::next_due`].
    pub fn next_due(&self, now: UtcMillis) -> Option<UtcMillis> {
        let after = (UtcMillis(now.0.saturating_add(1)), UpgradeId(i64::MIN));
        let of_task = |task: &Task| {
            let start =
                Some(task.start_at).filter(|at| task.state == TaskState::Scheduled && *at > now);
            let lots = task.waiting.iter();
            let upgrades = lots.filter_map(|waiting| waiting.range(after..).next());
            start.into_iter().chain(upgrades.map(|(at, _)| *at)).min()
        };
        let soaks = (self.soaks.values()).filter_map(|(at, _)| (*at > now).then_some(*at));
        self.tasks.iter().filter_map(of_task).chain(soaks).min()
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
        let device = self.devices.get(row.device as usize)?;
        let site = self.sites_of.get(&device.endpoint).copied();
        Some(UpgradeOrder {
            upgrade,
            task: row.task,
            endpoint: device.endpoint.to_string(),
            served: (row.now.served).unwrap_or(Served::first(task.packages[0].0)),
            hardware: device.hardware.clone(),
            attempt,
            retry: RetryPolicy {
                attempts: task.retry.attempts + row.taken_back,
                ..task.retry
            },
            kept_awake: row.kept_awake,
            begun_at: row.now.started_at,
            back: None,
            further: Further::of(site, device.state.gateway().map(Lane::gateway)),
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
