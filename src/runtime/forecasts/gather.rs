//! What a forecast is made of, read from the store in parts: the writer is left to others, and nothing that is read is locked.

mod joining;
mod lanes;
mod left_out;
mod selection;

use std::{collections::HashMap, sync::Arc};

use lanes::lanes_of;
use left_out::LeftOut;
use selection::Page;

use super::Ended;
use crate::{
    clock::UtcMillis,
    config::Config,
    forecast::{
        Account, Given, Lanes, MOST_DEVICES, PackageGiven, Place, RouteId, Routes, Subject,
        TaskGiven,
    },
    ledger::{ActiveUpgrade, TaskId, UpgradeId, Usage},
    store::{
        CreateTaskError, DeviceDetail, NewTask, OpenUpgrade, PackageRecord, Store, StoreError,
        Targets, TaskRecord,
    },
    task::{
        CellRules, Census, Deal, Month, PackageRules, Place as InDraw, Results, Spent, TaskRules,
        stratum,
    },
};

/// Rows that are read at once.
const PART: u32 = 5_000;
/// Earlier tasks of the product from which it is taken how many devices fail.
const EARLIER_TASKS: u32 = 100;
/// So many results tell something.
const TELLING: u64 = 20;

/// Reads what a forecast is made of.
pub(super) struct Gather {
    pub(super) store: Arc<dyn Store>,
    pub(super) config: Arc<Config>,
    pub(super) now: UtcMillis,
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<CreateTaskError> for Ended {
    fn from(error: CreateTaskError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Gather {
    /// What is known of a task that is not created.
    pub(super) async fn of_new(
        &self,
        new: &NewTask,
        ends: &impl Fn() -> bool,
    ) -> Result<Given, Ended> {
        let package = self.package(new).await?;
        let mut routes = self.routes(&package, &new.packages).await?;
        let mut lanes = self.lanes().await?;
        let start_at = new.start_at.unwrap_or(self.now).max(self.now);
        let out = LeftOut::of(self, new, &package.package.product).await?;
        let mut devices: Vec<(Subject, InDraw)> = Vec::new();
        let mut after = Page::First;
        while let Some(page) = self.next(new, &package, &mut after).await? {
            for detail in page
                .iter()
                .filter(|detail| detail.excluded.is_none() && !out.has(detail))
            {
                let mut subject = Subject::of(&detail.device, &self.config, start_at);
                subject.route = route(&mut routes, detail);
                subject.lanes = lanes_of(&mut lanes, detail);
                let zone = detail.attributes.time_zone.as_deref();
                subject.zone = zone.filter(|_| new.rules.knows_zones()).map(Into::into);
                devices.push((subject, in_draw(&new.rules, detail, new.created_at)));
            }
            goes_on(devices.len(), ends)?;
        }
        if new.rules.budget.is_some() {
            let subjects = devices.iter_mut().map(|(subject, _)| subject);
            self.accounts(&routes, subjects).await?;
            goes_on(devices.len(), ends)?;
        }
        // each once, in the order in which they are dealt out
        devices.sort_unstable_by(|(a, _), (b, _)| a.endpoint.cmp(&b.endpoint));
        devices.dedup_by(|(a, _), (b, _)| a.endpoint == b.endpoint);
        let mut census = Census::default();
        for (_, place) in &devices {
            census.count(*place);
        }
        if let Some(phase) = census.empty_phase(&new.rules) {
            return Err(CreateTaskError::EmptyPhase { phase }.into());
        }
        let mut deal = Deal::new(&new.rules, &census, 1);
        for (device, place) in &mut devices {
            let lot = deal.lot(&device.endpoint, *place, device.zone.as_deref());
            device.phase = (deal.lots().get(lot as usize)).map_or(0, |lot| lot.phase);
        }
        let devices: Vec<Subject> = devices.into_iter().map(|(device, _)| device).collect();
        let task = TaskGiven {
            start_at,
            rules: Arc::new(new.rules.clone()),
            retry: new.retry,
            ..TaskGiven::default()
        };
        let failures = self.failures(&package.package.product, None).await?;
        let others = self.others(None, &mut lanes, devices.len(), ends).await?;
        let targets = Some(joining::targets(new));
        let known = (routes, lanes);
        self.given(&package, known, task, failures, (devices, others), targets)
            .await
    }

    /// What is known of a task that is there.
    pub(super) async fn of_task(
        &self,
        id: TaskId,
        ends: &impl Fn() -> bool,
    ) -> Result<Given, Ended> {
        let task = self.store.task(id).await?;
        let task = task.ok_or_else(|| Ended::Failed(format!("there is no task {}", id.0)))?;
        let package = self.store.package(task.package).await?;
        let package = package.ok_or_else(|| {
            Ended::Failed(format!("package {} of the task is gone", task.package.0))
        })?;
        let mut known = (
            self.routes(&package, &task.packages).await?,
            self.lanes().await?,
        );
        let active = self.active().await?;
        let mut devices = Vec::new();
        // of each phase, those that are excluded: they wait, and hold it open
        let mut excluded: Vec<u64> = vec![0; task.results.len()];
        let mut after = None;
        loop {
            let part = self.store.open_upgrades(id, after, PART).await?;
            let open = (part.items, &mut excluded[..]);
            self.subjects(&task, &mut known, &active, open, &mut devices)
                .await?;
            goes_on(devices.len(), ends)?;
            after = part.next;
            if after.is_none() {
                break;
            }
        }
        if task.rules.budget.is_some() {
            self.accounts(&known.0, devices.iter_mut()).await?;
            goes_on(devices.len(), ends)?;
        }
        let failures = self.failures(&task.product, Some(&task)).await?;
        let heads = self.store.task_heads(self.now).await?;
        let head = heads.into_iter().find(|head| head.task == id);
        let others = self.others(Some(id), &mut known.1, devices.len(), ends);
        let others = others.await?;
        let given = TaskGiven {
            start_at: task.start_at,
            rules: task.rules.clone(),
            retry: task.retry,
            hold: task.hold.clone(),
            phase: task.phase,
            ended: (task.results.iter().zip(excluded))
                .map(|(phase, excluded)| Results {
                    waiting: excluded,
                    running: 0,
                    ..phase.clone()
                })
                .collect(),
            resumed_with: head.map(|head| head.resumed_with).unwrap_or_default(),
            expired: task.expired,
        };
        let targets = task.targets.clone();
        self.given(&package, known, given, failures, (devices, others), targets)
            .await
    }

    /// The devices of upgrades that have no final outcome.
    async fn subjects(
        &self,
        task: &TaskRecord,
        (routes, lanes): &mut (Routes, Lanes),
        active: &HashMap<UpgradeId, ActiveUpgrade>,
        (open, excluded): (Vec<OpenUpgrade>, &mut [u64]),
        devices: &mut Vec<Subject>,
    ) -> Result<(), StoreError> {
        let names: Vec<String> = open.iter().map(|it| it.endpoint.clone()).collect();
        let details = self.store.devices_named(&names).await?;
        let details: HashMap<&str, &DeviceDetail> = (details.iter())
            .map(|detail| (detail.device.endpoint.as_str(), detail))
            .collect();
        for upgrade in open {
            let Some(detail) = details.get(upgrade.endpoint.as_str()) else {
                continue; // it was removed: its upgrade ends
            };
            let active = active.get(&upgrade.upgrade);
            if detail.excluded.is_some() && active.is_none() {
                if let Some(excluded) = excluded.get_mut(upgrade.phase as usize) {
                    *excluded += 1;
                }
                continue; // it does not begin
            }
            let mut subject = Subject::of(&detail.device, &self.config, upgrade.not_before);
            subject.route = route(routes, detail);
            subject.lanes = lanes_of(lanes, detail);
            subject.phase = upgrade.phase;
            subject.attempts = upgrade.attempts;
            subject.attempts_before = upgrade.attempts_before;
            subject.zone = (upgrade.zone.as_deref())
                .filter(|_| task.rules.knows_zones())
                .map(Into::into);
            if let Some(active) = active {
                let first = routes.get(subject.route.unwrap_or_default()).steps.first();
                subject.goes_on(active, first.map_or(0, |it| it.bytes));
            }
            devices.push(subject);
        }
        Ok(())
    }

    async fn given(
        &self,
        package: &PackageRecord,
        (routes, mut lanes): (Routes, Lanes),
        task: TaskGiven,
        failures: Vec<(String, f64)>,
        (devices, others): (Vec<Subject>, Vec<Subject>),
        targets: Option<Targets>,
    ) -> Result<Given, Ended> {
        let product = &package.package.product;
        let joining = self.joining_per_day(&task.rules, product, targets);
        let joining_per_day = joining.await?;
        self.add_products(&mut lanes).await?;
        Ok(Given {
            now: self.now,
            config: self.config.clone(),
            product: package.package.product.clone(),
            learnt: self.store.restore_learnt().await?,
            cells: self.cells().await?,
            lanes,
            task,
            routes,
            failures,
            devices,
            others,
            joining_per_day,
        })
    }

    /// What devices download of the packages of a task, of which this is the first.
    async fn routes(
        &self,
        first: &PackageRecord,
        rules: &PackageRules,
    ) -> Result<Routes, StoreError> {
        let given = |record: &PackageRecord| {
            let given = PackageGiven {
                bytes: record.package.size_bytes,
                segments: record.package.segment_count(),
            };
            (record.package.version, given)
        };
        if rules.packages.is_empty() {
            return Ok(Routes::new(rules, &[given(first)]));
        }
        let mut packages = Vec::with_capacity(rules.packages.len());
        for rule in &rules.packages {
            // those of a task that has not ended stay
            if let Some(record) = self.store.package(rule.package_id).await? {
                packages.push(given(&record));
            }
        }
        Ok(Routes::new(rules, &packages))
    }

    /// Adds what each device has spent this month.
    async fn accounts(
        &self,
        routes: &Routes,
        subjects: impl Iterator<Item = &mut Subject>,
    ) -> Result<(), StoreError> {
        let package = routes.largest();
        let mut subjects: Vec<&mut Subject> = subjects.collect();
        for part in subjects.chunks_mut(PART as usize) {
            let names: Vec<String> = part.iter().map(|it| it.endpoint.to_string()).collect();
            let used = self.store.used(&names, self.now).await?;
            let details = self.store.devices_named(&names).await?;
            let details: HashMap<&str, &DeviceDetail> = (details.iter())
                .map(|detail| (detail.device.endpoint.as_str(), detail))
                .collect();
            for subject in part {
                let Some(detail) = details.get(&*subject.endpoint) else {
                    continue;
                };
                let zone = detail.attributes.time_zone.as_deref();
                let coverage = detail.device.coverage.map(|reading| reading.coverage);
                let spent = Spent {
                    used: used.get(&*subject.endpoint).copied().unwrap_or_default(),
                    need: Usage::of_package(package.bytes, package.segments, coverage.as_ref()),
                    month_ends_at: Month::of(self.now, zone).ends_at,
                };
                let zone = zone.map(Into::into);
                subject.account = Some(Box::new(Account { spent, zone }));
            }
        }
        Ok(())
    }

    async fn cells(&self) -> Result<Vec<(u32, CellRules)>, StoreError> {
        let mut cells = Vec::new();
        let mut revision = 0;
        loop {
            let changes = self.store.cell_changes_since(revision, PART).await?;
            let Some(last) = changes.last() else {
                return Ok(cells);
            };
            revision = last.revision;
            let ruled = changes.into_iter().filter(|it| !it.rules.is_empty());
            cells.extend(ruled.map(|it| (it.cell, it.rules)));
        }
    }

    /// What runs.
    async fn active(&self) -> Result<HashMap<UpgradeId, ActiveUpgrade>, StoreError> {
        let mut active = HashMap::new();
        let mut after = None;
        loop {
            let part = self.store.restore_upgrades(after, PART).await?;
            let Some(last) = part.last() else {
                return Ok(active);
            };
            after = Some(last.order.upgrade);
            active.extend(part.into_iter().map(|it| (it.order.upgrade, it)));
        }
    }

    /// Devices of other tasks that hold slots, or wait for them.
    async fn others(
        &self,
        task: Option<TaskId>,
        lanes: &mut Lanes,
        devices: usize,
        ends: &impl Fn() -> bool,
    ) -> Result<Vec<Subject>, Ended> {
        let mut others = Vec::new();
        let active = self.active().await?.into_values();
        let mut active: Vec<ActiveUpgrade> = active
            .filter(|it| Some(it.order.task) != task && it.stage.cell.is_some())
            .collect();
        active.sort_unstable_by_key(|it| it.order.upgrade);
        for part in active.chunks(PART as usize) {
            let names: Vec<String> = part.iter().map(|it| it.order.endpoint.clone()).collect();
            let details = self.store.devices_named(&names).await?;
            let details: HashMap<&str, &DeviceDetail> = (details.iter())
                .map(|detail| (detail.device.endpoint.as_str(), detail))
                .collect();
            for upgrade in part {
                let Some(detail) = details.get(upgrade.order.endpoint.as_str()) else {
                    continue;
                };
                let total = upgrade.progress.map_or(0, |progress| progress.total_bytes);
                let mut subject = Subject::of(&detail.device, &self.config, self.now);
                subject.lanes = lanes_of(lanes, detail);
                subject.goes_on(upgrade, total);
                if subject.place != Place::Begun {
                    others.push(subject);
                }
            }
            goes_on(devices + others.len(), ends)?;
        }
        Ok(others)
    }

    /// Which part of the devices fails, by reason: of this task where enough have a result, of the last tasks of the product
    /// otherwise.
    async fn failures(
        &self,
        product: &str,
        task: Option<&TaskRecord>,
    ) -> Result<Vec<(String, f64)>, StoreError> {
        if let Some(shares) = task.and_then(|task| shares(&task.results)) {
            return Ok(shares);
        }
        let tasks = self.store.tasks(false, None, EARLIER_TASKS).await?;
        let of_product = tasks.items.into_iter().filter(|it| it.product == product);
        let results: Vec<Results> = of_product.flat_map(|it| it.results).collect();
        Ok(shares(&results).unwrap_or_default())
    }
}

/// What a device downloads, where it is known what it runs.
fn route(routes: &mut Routes, detail: &DeviceDetail) -> Option<RouteId> {
    let runs = detail.device.version?;
    Some(routes.of(runs, detail.attributes.hardware.as_deref()))
}

/// Where a device stands in the draw of a task that is created at `now`.
fn in_draw(rules: &TaskRules, detail: &DeviceDetail, now: UtcMillis) -> InDraw {
    let mut place = InDraw::of(rules, detail, now);
    if rules.stratified {
        let device = &detail.device;
        let coverage = device.coverage.as_ref().map(|it| it.coverage);
        let coverage = coverage.unwrap_or_default();
        let version = device.version.map(|version| version.to_string());
        let model = detail.attributes.model.as_deref();
        place.stratum = stratum(model, version.as_deref(), coverage.band(), coverage.cell);
    }
    place
}

fn goes_on(devices: usize, ends: &impl Fn() -> bool) -> Result<(), Ended> {
    if ends() {
        return Err(Ended::Cancelled);
    }
    if devices > MOST_DEVICES {
        return Err(Ended::Failed(format!(
            "there are more than {MOST_DEVICES} devices, those of other tasks included that have begun; forecast a part of \
             them, by a filter or a group"
        )));
    }
    Ok(())
}

/// Which part has failed, by reason; `None` where too few have a result.
fn shares(results: &[Results]) -> Option<Vec<(String, f64)>> {
    let mut all = Results::default();
    for phase in results {
        all.add(phase);
    }
    let count = all.succeeded + all.failed();
    if count < TELLING {
        return None;
    }
    let part = |failed: u64| float(failed) / float(count);
    let shares = all
        .failed
        .iter()
        .map(|(reason, failed)| (reason.clone(), part(*failed)));
    Some(shares.collect())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "devices are far fewer than 2^53"
)]
const fn float(count: u64) -> f64 {
    count as f64
}
