//! What a forecast is made of: the task, the fleet as it is known, and what was learnt.

use std::sync::Arc;

use super::{Lanes, LanesId, RouteId, Routes};
use crate::{
    clock::UtcMillis,
    config::{Appointments, Config},
    ledger::{
        ActiveUpgrade, DeviceRecord, Learnt, QueueMode, RetryPolicy, Stage, UpdateTimer, Usage,
    },
    task::{CellRules, Hold, Month, Results, Spent, TaskRules},
};

/// Everything that a forecast follows from. The same gives the same.
#[derive(Debug, Clone)]
pub struct Given {
    /// When it is made; nothing happens before.
    pub now: UtcMillis,
    /// The server's settings.
    pub config: Arc<Config>,
    /// The product of the devices.
    pub product: String,
    /// What was learnt of products and cells.
    pub learnt: Vec<Learnt>,
    /// The rules of cells.
    pub cells: Vec<(u32, CellRules)>,
    /// The sites and gateways for which devices compete besides, and their limits.
    pub lanes: Lanes,
    /// The task.
    pub task: TaskGiven,
    /// What devices download, by what they run and are.
    pub routes: Routes,
    /// Of all devices so large a part fails for each of these reasons, 0 to 1.
    pub failures: Vec<(String, f64)>,
    /// The devices of the task that have no final outcome.
    pub devices: Vec<Subject>,
    /// Devices of other tasks whose upgrades have begun: they stand in the same queues, and are not counted.
    pub others: Vec<Subject>,
    /// So many devices a day join the task while it runs, as far as that was observed: they want slots too, and are not counted.
    /// `None` where nobody may join.
    pub joining_per_day: Option<f64>,
}

/// How the task is run, and where it stands.
#[derive(Debug, Clone, Default)]
pub struct TaskGiven {
    /// When it starts, or started.
    pub start_at: UtcMillis,
    /// How it is run.
    pub rules: Arc<TaskRules>,
    /// What follows a failure.
    pub retry: RetryPolicy,
    /// Why nothing of it begins now.
    pub hold: Option<Hold>,
    /// The phase that runs, from 0.
    pub phase: u32,
    /// What had come of the devices that are not given any more, by phases.
    pub ended: Vec<Results>,
    /// What had come of it when it was resumed last.
    pub resumed_with: Results,
    /// What had not begun by its last time is done away with.
    pub expired: bool,
}

/// A package, as it is downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PackageGiven {
    /// Bytes of the package.
    pub bytes: u64,
    /// Messages in which it comes.
    pub segments: u64,
}

/// A device, as it is known.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// Its name.
    pub endpoint: Box<str>,
    /// Its phase, from 0.
    pub phase: u32,
    /// Its time zone, where that matters.
    pub zone: Option<Arc<str>>,
    /// It begins at this time or later.
    pub not_before: UtcMillis,
    /// Attempts that have begun.
    pub attempts: u32,
    /// Of these, those before it was taken up again: they do not count.
    pub attempts_before: u32,
    /// How far its upgrade is.
    pub place: Place,
    /// The cell in which it was heard last.
    pub cell: Option<u32>,
    /// How many may upgrade at once in its cell for it to be one of them, where its cell is known.
    pub limit: u32,
    /// The site and gateway for which it competes besides.
    pub lanes: LanesId,
    /// When its coverage was measured.
    pub measured_at: Option<UtcMillis>,
    /// When it was heard last.
    pub heard_at: Option<UtcMillis>,
    /// How it can be reached.
    pub rhythm: Rhythm,
    /// Whether it comes when it is told to.
    pub comes_when_told: bool,
    /// What it downloads; `None`: what it runs is not known.
    pub route: Option<RouteId>,
    /// What it has spent, and where, if the task has a budget.
    pub account: Option<Box<Account>>,
}

/// What a device has spent of its budget.
#[derive(Debug, Clone)]
pub struct Account {
    /// In the month in which the forecast is made, and what the package costs.
    pub spent: Spent,
    /// Its time zone.
    pub zone: Option<Box<str>>,
}

impl Account {
    /// As it stands at that time. Nothing is spent in a month that begins.
    pub fn at(&mut self, now: UtcMillis) -> &mut Spent {
        if now >= self.spent.month_ends_at {
            self.spent.used = Usage::default();
            self.spent.month_ends_at = Month::of(now, self.zone.as_deref()).ends_at;
        }
        &mut self.spent
    }
}

/// How far an upgrade is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// It waits for its time.
    #[default]
    Waits,
    /// It has begun; the device was not heard, or was not asked everything.
    Begun,
    /// It waits for a slot, since then.
    Queued(UtcMillis),
    /// It has a slot, and so many bytes are left to download.
    Downloading(u64),
    /// It has a slot, and installs since then.
    Installing(UtcMillis),
}

/// How a device can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rhythm {
    /// At any time.
    #[default]
    Listens,
    /// It sleeps, and wakes up as regularly as was learnt: so many seconds from one time to the next.
    Learnt(u32),
    /// It sleeps. How often it wakes up was not learnt; it updates its registration so often, seconds.
    Sleeps(u32),
    /// It was heard before, and is not registered any more: nobody knows whether it comes back.
    Away,
    /// It was never heard: it comes as the others do.
    Unheard,
}

impl Subject {
    /// A device as the store has it, in the first phase of a task that begins at `not_before`.
    pub fn of(device: &DeviceRecord, config: &Config, not_before: UtcMillis) -> Self {
        let coverage = device.coverage.as_ref();
        let told = config.products.get(&device.product);
        let registration = device.registration.as_ref();
        let rhythm = match (registration, device.wake_ups) {
            (None, _) if device.last_heard_at.is_some() => Rhythm::Away,
            (None, _) => Rhythm::Unheard,
            (Some(it), _) if it.queue_mode == QueueMode::Off => Rhythm::Listens,
            (_, Some(wakes)) if wakes.seen > 0 && wakes.spread_s <= wakes.period_s / 32 => {
                Rhythm::Learnt(wakes.period_s)
            }
            (Some(it), _) => {
                let every = UpdateTimer::Half.interval(it.lifetime_s);
                Rhythm::Sleeps(u32::try_from(every.as_secs()).unwrap_or(u32::MAX))
            }
        };
        let limit = coverage.map_or(0, |reading| reading.coverage.limit(&config.admission));
        Self {
            endpoint: device.endpoint.as_str().into(),
            not_before,
            cell: coverage.and_then(|reading| reading.coverage.cell),
            limit,
            measured_at: coverage.map(|reading| reading.at),
            // when it was heard is stored now and then, and when it woke up each time
            heard_at: (device.last_heard_at).max(device.wake_ups.map(|wakes| wakes.last_at)),
            comes_when_told: told.is_some_and(|it| it.appointments == Appointments::Lifetime),
            rhythm,
            ..Self::default()
        }
    }

    /// Its upgrade has begun, and stands so. The package has so many bytes.
    pub fn goes_on(&mut self, active: &ActiveUpgrade, bytes: u64) {
        let stage = &active.stage;
        let done = active.progress.map_or(0, |progress| progress.done_bytes);
        self.attempts = active.order.attempt;
        self.place = match stage.stage {
            Stage::WaitingForSlot => Place::Queued(stage.queued_at.unwrap_or(stage.entered_at)),
            Stage::Downloading => Place::Downloading(bytes.saturating_sub(done)),
            Stage::Executing => Place::Installing(stage.entered_at),
            Stage::WaitingForDevice
            | Stage::QueryingVersion
            | Stage::QueryingCoverage
            | Stage::QueryingCell => Place::Begun,
        };
        self.cell = stage.cell.or(self.cell);
        self.limit = stage.cell_limit.unwrap_or(self.limit);
    }
}
