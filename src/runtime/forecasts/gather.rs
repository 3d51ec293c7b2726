//! What a forecast is made of, read from the store in parts: the writer is left to others, and nothing that is read is locked.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::Ended;
use crate::{
    clock::UtcMillis,
    config::Config,
    filter::Filter,
    forecast::{Given, MOST_DEVICES, PackageGiven, Place, Subject, TaskGiven},
    ledger::{ActiveUpgrade, TaskId, UpgradeId},
    store::{
        CreateTaskError, DeviceDetail, DeviceFilter, NewTask, OpenUpgrade, PackageRecord,
        Selection, Store, StoreError, TaskRecord,
    },
    task::{CellRules, Census, Deal, Place as InDraw, Results, TaskRules, stratum},
};

/// Rows that are read at once.
const PART: u32 = 5_000;
/// Names that an error tells of.
const NAMED: usize = 5;
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
    /// Refuses a task that could not be created.
    pub(super) async fn check(&self, new: &NewTask) -> Result<(), CreateTaskError> {
        let package = self.package(new).await?;
        let out = LeftOut::of(self, new, &package.package.product).await?;
        let (mut excluded, mut left_out) = (0, 0);
        let mut after = Page::First;
        // until there is somebody
        while let Some(devices) = self.next(new, &package, &mut after).await? {
            let all = devices.len();
            let devices: Vec<_> = devices.into_iter().filter(|it| !out.has(it)).collect();
            left_out += (all - devices.len()) as u64;
            excluded += devices.iter().filter(|it| it.excluded.is_some()).count() as u64;
            let listed = matches!(new.selection, Selection::Devices(_));
            if !listed && devices.iter().any(|it| it.excluded.is_none()) {
                return Ok(());
            }
            if listed && devices.iter().any(|it| it.excluded.is_none()) {
                after.found();
            }
        }
        match after {
            Page::Last { found: true } => Ok(()),
            _ if left_out > 0 => Err(CreateTaskError::AllLeftOut { left_out, excluded }),
            _ if excluded > 0 => Err(CreateTaskError::AllExcluded { excluded }),
            _ => Err(CreateTaskError::NoDevices {
                product: package.package.product,
            }),
        }
    }

    /// What is known of a task that is not created.
    pub(super) async fn of_new(
        &self,
        new: &NewTask,
        ends: &impl Fn() -> bool,
    ) -> Result<Given, Ended> {
        let package = self.package(new).await?;
        let version = &package.package.version;
        let start_at = new.start_at.unwrap_or(self.now).max(self.now);
        let out = LeftOut::of(self, new, &package.package.product).await?;
        let mut devices: Vec<(Subject, InDraw)> = Vec::new();
        let mut after = Page::First;
        while let Some(page) = self.next(new, &package, &mut after).await? {
            for detail in page
                .iter()
                .filter(|detail| detail.excluded.is_none() && !out.has(detail))
            {
                let mut subject =
                    Subject::of(&detail.device, Some(version), &self.config, start_at);
                let zone = detail.attributes.time_zone.as_deref();
                subject.zone = zone.filter(|_| new.rules.knows_zones()).map(Into::into);
                devices.push((subject, in_draw(&new.rules, detail, new.created_at)));
            }
            goes_on(devices.len(), ends)?;
        }
        // each once, in the order in which they are dealt out
        devices.sort_unstable_by(|(a, _), (b, _)| a.endpoint.cmp(&b.endpoint));
        devices.dedup_by(|(a, _), (b, _)| a.endpoint == b.endpoint);
        let mut census = Census::default();
        for (_, place) in &devices {
            census.count(*place);
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
        let others = self.others(None, devices.len(), ends).await?;
        self.given(&package, task, failures, devices, others).await
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
        let active = self.active().await?;
        let mut devices = Vec::new();
        let mut after = None;
        loop {
            let part = self.store.open_upgrades(id, after, PART).await?;
            self.subjects(&task, &package, &active, part.items, &mut devices)
                .await?;
            goes_on(devices.len(), ends)?;
            after = part.next;
            if after.is_none() {
                break;
            }
        }
        let failures = self.failures(&task.product, Some(&task)).await?;
        let heads = self.store.task_heads(self.now).await?;
        let head = heads.into_iter().find(|head| head.task == id);
        let others = self.others(Some(id), devices.len(), ends).await?;
        let given = TaskGiven {
            start_at: task.start_at,
            rules: task.rules.clone(),
            retry: task.retry,
            hold: task.hold.clone(),
            phase: task.phase,
            ended: (task.results.iter())
                .map(|phase| Results {
                    waiting: 0,
                    running: 0,
                    ..phase.clone()
                })
                .collect(),
            resumed_with: head.map(|head| head.resumed_with).unwrap_or_default(),
            expired: task.expired,
        };
        self.given(&package, given, failures, devices, others).await
    }

    /// The devices of upgrades that have no final outcome.
    async fn subjects(
        &self,
        task: &TaskRecord,
        package: &PackageRecord,
        active: &HashMap<UpgradeId, ActiveUpgrade>,
        open: Vec<OpenUpgrade>,
        devices: &mut Vec<Subject>,
    ) -> Result<(), StoreError> {
        let names: Vec<String> = open.iter().map(|it| it.endpoint.clone()).collect();
        let details = self.store.devices_named(&names).await?;
        let details: HashMap<&str, &DeviceDetail> = (details.iter())
            .map(|detail| (detail.device.endpoint.as_str(), detail))
            .collect();
        let bytes = package.package.pcp.segmentation.size_bytes();
        for upgrade in open {
            let Some(detail) = details.get(upgrade.endpoint.as_str()) else {
                continue; // it was removed: its upgrade ends
            };
            let active = active.get(&upgrade.upgrade);
            if detail.excluded.is_some() && active.is_none() {
                continue; // it does not begin
            }
            let version = &package.package.version;
            let mut subject = Subject::of(
                &detail.device,
                Some(version),
                &self.config,
                upgrade.not_before,
            );
            subject.phase = upgrade.phase;
            subject.attempts = upgrade.attempts;
            subject.zone = (upgrade.zone.as_deref())
                .filter(|_| task.rules.knows_zones())
                .map(Into::into);
            if let Some(active) = active {
                subject.goes_on(active, bytes);
            }
            devices.push(subject);
        }
        Ok(())
    }

    async fn given(
        &self,
        package: &PackageRecord,
        task: TaskGiven,
        failures: Vec<(String, f64)>,
        devices: Vec<Subject>,
        others: Vec<Subject>,
    ) -> Result<Given, Ended> {
        let segmentation = &package.package.pcp.segmentation;
        Ok(Given {
            now: self.now,
            config: self.config.clone(),
            product: package.package.product.clone(),
            learnt: self.store.restore_learnt().await?,
            cells: self.cells().await?,
            task,
            package: PackageGiven {
                bytes: segmentation.size_bytes(),
                segments: segmentation.segment_count().into(),
            },
            failures,
            devices,
            others,
        })
    }

    async fn package(&self, new: &NewTask) -> Result<PackageRecord, CreateTaskError> {
        let package = self.store.package(new.package).await?;
        let package = package.ok_or(CreateTaskError::PackageNotFound(new.package))?;
        if let Some(at) = package.superseded_at {
            let package = new.package;
            return Err(CreateTaskError::PackageSuperseded { package, at });
        }
        if package.deleted_at.is_some() {
            return Err(CreateTaskError::PackageNotFound(new.package));
        }
        match &new.selection {
            Selection::Product(named) if *named != package.package.product => {
                return Err(CreateTaskError::OtherProduct {
                    package: package.package.product,
                    task: named.clone(),
                });
            }
            Selection::Group(group) if self.store.group(*group).await?.is_none() => {
                return Err(CreateTaskError::GroupNotFound(*group));
            }
            _ => {}
        }
        Ok(package)
    }

    /// The next devices that the task is for, those included that are excluded; `None` when there are none.
    async fn next(
        &self,
        new: &NewTask,
        package: &PackageRecord,
        page: &mut Page,
    ) -> Result<Option<Vec<DeviceDetail>>, CreateTaskError> {
        let product = &package.package.product;
        if let Selection::Devices(names) = &new.selection {
            let (from, found) = match page {
                Page::First => (0, false),
                Page::Listed { from, found } => (*from, *found),
                _ => return Ok(None),
            };
            let part: Vec<String> = names
                .iter()
                .skip(from)
                .take(PART as usize)
                .cloned()
                .collect();
            if part.is_empty() {
                *page = Page::Last { found };
                return Ok(None);
            }
            let devices = self.store.devices_named(&part).await?;
            refuse_wrong(&part, &devices, product)?;
            *page = Page::Listed {
                from: from + part.len(),
                found,
            };
            return Ok(Some(devices));
        }
        let after = match page {
            Page::First => None,
            Page::After(after) => Some(std::mem::take(after)),
            _ => return Ok(None),
        };
        let mut filter = DeviceFilter {
            product: Some(product.clone()),
            now: new.created_at,
            ..DeviceFilter::default()
        };
        match &new.selection {
            Selection::Filter(given) => filter.filter = Some(given.clone()),
            Selection::Group(group) => filter.group = Some(*group),
            Selection::Devices(_) | Selection::Product(_) | Selection::All => {}
        }
        let found = self.store.devices(&filter, after.as_deref(), PART).await?;
        *page = match found.next {
            Some(next) => Page::After(next),
            None => Page::Last { found: false },
        };
        Ok(Some(found.items))
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
                let mut subject = Subject::of(&detail.device, None, &self.config, self.now);
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
        let tasks = self.store.tasks(None, EARLIER_TASKS).await?;
        let of_product = tasks.items.into_iter().filter(|it| it.product == product);
        let results: Vec<Results> = of_product.flat_map(|it| it.results).collect();
        Ok(shares(&results).unwrap_or_default())
    }
}

/// Where a device stands in the draw of a task that is created at `now`.
fn in_draw(rules: &TaskRules, detail: &DeviceDetail, now: UtcMillis) -> InDraw {
    let mut place = InDraw::of(rules, detail, now);
    if rules.stratified {
        let device = &detail.device;
        let coverage = device.coverage.as_ref().map(|it| it.coverage.clone());
        let coverage = coverage.unwrap_or_default();
        let version = device.version.map(|version| version.to_string());
        let model = detail.attributes.model.as_deref();
        place.stratum = stratum(model, version.as_deref(), coverage.band(), coverage.cell);
    }
    place
}

/// Whom a task leaves out of its selection.
struct LeftOut {
    names: HashSet<String>,
    filter: Option<Filter>,
    now: UtcMillis,
}

impl LeftOut {
    async fn of(gather: &Gather, new: &NewTask, product: &str) -> Result<Self, CreateTaskError> {
        let exclude = &new.exclude;
        let mut names: HashSet<String> = exclude.devices.iter().cloned().collect();
        for part in exclude.devices.chunks(PART as usize) {
            let known = gather.store.devices_named(part).await?;
            let known: HashSet<&str> = known.iter().map(|it| it.device.endpoint.as_str()).collect();
            let unknown = part.iter().filter(|name| !known.contains(name.as_str()));
            let mut first: Vec<String> = unknown.cloned().collect();
            if !first.is_empty() {
                let count = first.len() as u64;
                first.truncate(NAMED);
                return Err(CreateTaskError::UnknownExcluded { count, first });
            }
        }
        if let Some(group) = exclude.group {
            if gather.store.group(group).await?.is_none() {
                return Err(CreateTaskError::ExcludedGroupNotFound(group));
            }
            let filter = DeviceFilter {
                product: Some(product.to_owned()),
                group: Some(group),
                now: new.created_at,
                ..DeviceFilter::default()
            };
            let mut after = None;
            loop {
                let page = gather
                    .store
                    .devices(&filter, after.as_deref(), PART)
                    .await?;
                names.extend(page.items.into_iter().map(|it| it.device.endpoint));
                after = page.next;
                if after.is_none() || names.len() > MOST_DEVICES {
                    break;
                }
            }
        }
        Ok(Self {
            names,
            filter: exclude.filter.clone(),
            now: new.created_at,
        })
    }

    fn has(&self, detail: &DeviceDetail) -> bool {
        let matches = |filter: &Filter| filter.matches(detail, self.now);
        self.names.contains(&detail.device.endpoint) || self.filter.as_ref().is_some_and(matches)
    }
}

/// Where the next devices begin.
enum Page {
    First,
    After(String),
    /// Of a list, those from this position on; somebody was found who is not excluded.
    Listed {
        from: usize,
        found: bool,
    },
    Last {
        found: bool,
    },
}

impl Page {
    fn found(&mut self) {
        if let Self::Listed { found, .. } | Self::Last { found } = self {
            *found = true;
        }
    }
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

/// Refuses names of devices that are not there, or of another product.
fn refuse_wrong(
    names: &[String],
    devices: &[DeviceDetail],
    product: &str,
) -> Result<(), CreateTaskError> {
    let known: BTreeMap<&str, &str> = (devices.iter())
        .map(|it| (it.device.endpoint.as_str(), it.device.product.as_str()))
        .collect();
    let some = |wrong: &dyn Fn(Option<&str>) -> bool| {
        let mut wrong: Vec<String> = (names.iter())
            .filter(|name| wrong(known.get(name.as_str()).copied()))
            .cloned()
            .collect();
        let count = wrong.len() as u64;
        wrong.truncate(NAMED);
        (count, wrong)
    };
    let (count, first) = some(&|product| product.is_none());
    if count > 0 {
        return Err(CreateTaskError::UnknownDevices { count, first });
    }
    let (count, first) = some(&|it| it.is_some_and(|it| it != product));
    if count > 0 {
        let product = product.to_owned();
        return Err(CreateTaskError::DevicesOfOtherProduct {
            product,
            count,
            first,
        });
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
