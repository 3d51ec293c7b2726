//! What was forecast of a simulated task, beside what then happened.

use crate::simulate::scenario::over_pcp;
use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    sync::Arc,
};

use serde::Serialize;

use super::scenario::product_name;
use crate::{
    clock::UtcMillis,
    config::Config,
    filter::Unheard,
    forecast::{self, Account, Given, PackageGiven, Rhythm, Routes, Subject, TaskGiven},
    ledger::{ActiveUpgrade, DeviceRecord, Learnt, RetryPolicy, Usage},
    package::Package,
    store::UpgradeState,
    task::{Census, Deal, Month, Place, Results, Spent, TaskRules},
};

/// Parts of the devices with a final outcome after which a forecast is made again, percent.
const AGAIN_AT: [usize; 2] = [25, 50];

/// What an earlier upgrade of the same fleet has taught.
#[derive(Debug, Clone, Default)]
pub(super) struct Earlier {
    pub(super) learnt: Vec<Learnt>,
    pub(super) devices: HashMap<String, DeviceRecord>,
    /// Parts of the devices that failed, by reason.
    pub(super) failures: Vec<(String, f64)>,
}

/// What was forecast.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Foreseen {
    /// What was known: `nothing` (a fleet that nobody has upgraded), `earlier` (what an earlier upgrade has taught), `so_far` (how
    /// the task stands and what it has taught, and of devices what was known before).
    pub(crate) known: &'static str,
    /// Devices with a final outcome when it was made, percent.
    pub(crate) after_percent: usize,
    /// When it was made, seconds from the start of the task, as all times.
    pub(crate) made_seconds: f64,
    /// The end of the task.
    pub(crate) finish_p50_seconds: Option<f64>,
    /// With nine in ten it ends before.
    pub(crate) finish_p90_seconds: Option<f64>,
    /// When nine of ten devices are through of those that were not when it was made.
    pub(crate) most_p50_seconds: Option<f64>,
    pub(crate) succeeded_p50: u64,
    pub(crate) bytes_p50: u64,
    pub(crate) cells: Vec<CellForeseen>,
    /// When that was so, in fact.
    pub(crate) most_seconds: f64,
    /// When parts of the devices are through of those that were not, as it was forecast and as it was.
    pub(crate) shares: Vec<ShareForeseen>,
}

/// What was forecast of a part of the devices.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ShareForeseen {
    pub(crate) percent: u8,
    pub(crate) p50_seconds: Option<f64>,
    /// In fact.
    pub(crate) seconds: f64,
}

/// What was forecast of a cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CellForeseen {
    pub(crate) cell: Option<u32>,
    pub(crate) finish_p50_seconds: Option<f64>,
}

/// An upgrade, as the store has it.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) record: &'a DeviceRecord,
    pub(super) state: UpgradeState,
    pub(super) attempts: u32,
    pub(super) active: Option<&'a ActiveUpgrade>,
    /// What it has spent this month.
    pub(super) used: Usage,
}

/// What a device has spent, where the task has a budget.
fn account(setting: &Setting<'_>, known: &Known<'_>) -> Option<Box<Account>> {
    setting.rules.budget?;
    let coverage = known.record.coverage.map(|reading| reading.coverage);
    let segments = over_pcp(setting.package).offer.segmentation.segment_count();
    let need = Usage::of_package(
        setting.package.size_bytes,
        segments.into(),
        coverage.as_ref(),
    );
    let spent = Spent {
        used: known.used,
        need,
        month_ends_at: Month::of(setting.now, None).ends_at,
    };
    Some(Box::new(Account { spent, zone: None }))
}

/// The task, and everything around it.
#[derive(Debug, Clone)]
pub(super) struct Setting<'a> {
    pub(super) now: UtcMillis,
    pub(super) start_at: UtcMillis,
    pub(super) config: Arc<Config>,
    pub(super) rules: &'a TaskRules,
    pub(super) retry: RetryPolicy,
    pub(super) package: &'a Package,
}

/// Makes forecasts while a simulation goes on.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    pub(super) earlier: Earlier,
    /// Those at the start are made.
    begun: bool,
    /// Of [`AGAIN_AT`], so many are made.
    again: usize,
    pub(super) made: Vec<Foreseen>,
    /// Devices that were through when each was made.
    pub(super) through: Vec<usize>,
}

impl Foresight {
    pub(super) fn new(earlier: Earlier) -> Self {
        Self {
            earlier,
            ..Self::default()
        }
    }

    /// Whether a forecast is to be made now, when so many of the devices are through.
    pub(super) fn is_due(&self, started: bool, ended: usize, devices: usize) -> bool {
        let again = AGAIN_AT.get(self.again);
        started && (!self.begun || again.is_some_and(|percent| ended * 100 >= devices * percent))
    }

    /// Makes what is due.
    pub(super) fn make(&mut self, setting: &Setting<'_>, all: &[Known<'_>], learnt: &[Learnt]) {
        if !self.begun {
            self.begun = true;
            self.add("nothing", 0, setting, &given(setting, all, learnt, None));
            let earlier = std::mem::take(&mut self.earlier);
            let given = given(setting, all, &earlier.learnt, Some(&earlier));
            self.add("earlier", 0, setting, &given);
            self.earlier = earlier;
            return;
        }
        let percent = AGAIN_AT.get(self.again).copied().unwrap_or(0);
        self.again += 1;
        // of a task with phases nobody but the store knows who is in which
        if setting.rules.phases.is_empty() {
            let learnt = gone_on_with(&self.earlier.learnt, learnt);
            let given = given(setting, all, &learnt, Some(&self.earlier));
            self.add("so_far", percent, setting, &given);
        }
    }

    fn add(&mut self, known: &'static str, percent: usize, setting: &Setting<'_>, given: &Given) {
        let through = given.task.ended.iter().map(|it| it.succeeded + it.failed());
        self.through
            .push(usize::try_from(through.sum::<u64>()).unwrap_or(0));
        let go_on = |_| ControlFlow::Continue(());
        let Some(forecast) = forecast::forecast(given, go_on) else {
            return;
        };
        let seconds = |at: UtcMillis| at.since(setting.start_at).as_secs_f64();
        let most = forecast.shares.iter().find(|share| share.percent == 90);
        self.made.push(Foreseen {
            known,
            after_percent: percent,
            made_seconds: seconds(setting.now),
            finish_p50_seconds: forecast.finish.p50.map(seconds),
            finish_p90_seconds: forecast.finish.p90.map(seconds),
            most_p50_seconds: most.and_then(|share| share.at.p50).map(seconds),
            succeeded_p50: forecast.succeeded.p50,
            bytes_p50: forecast.bytes.p50,
            cells: (forecast.cells.iter().take(10))
                .map(|cell| CellForeseen {
                    cell: cell.cell,
                    finish_p50_seconds: cell.ends.p50.map(seconds),
                })
                .collect(),
            most_seconds: 0.0,
            shares: (forecast.shares.iter())
                .map(|share| ShareForeseen {
                    percent: share.percent,
                    p50_seconds: share.at.p50.map(seconds),
                    seconds: 0.0,
                })
                .collect(),
        });
    }

    /// What was made, with what happened in fact: when devices were through, in order, seconds from the start.
    pub(super) fn close(mut self, ends_s: &[f64]) -> Vec<Foreseen> {
        for (made, through) in self.made.iter_mut().zip(&self.through) {
            let left = ends_s.len().saturating_sub(*through);
            let at = |percent: u8| {
                let nth = through + (left * usize::from(percent)).div_ceil(100);
                ends_s.get(nth.saturating_sub(1)).copied().unwrap_or(0.0)
            };
            made.most_seconds = at(90);
            for share in &mut made.shares {
                share.seconds = at(share.percent);
            }
        }
        self.made
    }
}

/// What a simulation has taught that has ended.
pub(super) fn taught(
    (outcomes, reasons): (&BTreeMap<&str, u64>, &BTreeMap<String, u64>),
    learnt: Vec<Learnt>,
    devices: Vec<DeviceRecord>,
) -> Earlier {
    let all: u64 = outcomes.values().sum();
    let share = |count: u64| float(count) / float(all.max(1));
    let failures = reasons
        .iter()
        .filter(|(reason, _)| crate::ledger::Outcome::FAILURES.contains(&reason.as_str()));
    Earlier {
        learnt,
        failures: failures
            .map(|(reason, count)| (reason.clone(), share(*count)))
            .collect(),
        devices: (devices.into_iter())
            .map(|device| (device.endpoint.clone(), device))
            .collect(),
    }
}

fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// What a server knows that has learnt something in an earlier upgrade, and goes on with it.
fn gone_on_with(earlier: &[Learnt], learnt: &[Learnt]) -> Vec<Learnt> {
    let mut all: BTreeMap<_, Learnt> = (learnt.iter())
        .map(|it| (it.subject(), it.clone()))
        .collect();
    for before in earlier {
        match (all.get_mut(&before.subject()), before) {
            (Some(Learnt::Download(pace)), Learnt::Download(before)) => {
                pace.ms_per_kib = pace.ms_per_kib.and(&before.ms_per_kib);
            }
            (Some(_), _) => {}
            (None, _) => {
                all.insert(before.subject(), before.clone());
            }
        }
    }
    all.into_values().collect()
}

/// The same draw as that of the task, but for its seed.
fn deal(rules: &TaskRules, all: &[Known<'_>]) -> Deal {
    let mut census = Census::default();
    for known in all {
        census.count(place(rules, known));
    }
    Deal::new(rules, &census, 1)
}

/// Nothing was known of the devices at the start of the task.
fn place(rules: &TaskRules, known: &Known<'_>) -> Place {
    let unheard = Unheard {
        endpoint: &known.record.endpoint,
        product: &known.record.product,
        created_at: UtcMillis(0),
    };
    Place::of(rules, &unheard, UtcMillis(0))
}

fn given(
    setting: &Setting<'_>,
    all: &[Known<'_>],
    learnt: &[Learnt],
    earlier: Option<&Earlier>,
) -> Given {
    let offer = &over_pcp(setting.package).offer;
    let version = crate::package::Version::from(offer.version);
    let bytes = offer.segmentation.size_bytes();
    let package = PackageGiven {
        bytes,
        segments: offer.segmentation.segment_count().into(),
    };
    let mut routes = Routes::one(version, package);
    let mut deal = deal(setting.rules, all);
    let mut ended = vec![Results::default(); setting.rules.phase_count()];
    let mut devices = Vec::with_capacity(all.len());
    for known in all {
        let lot = deal.lot(&known.record.endpoint, place(setting.rules, known), None);
        let phase = deal.lots().get(lot as usize).map_or(0, |lot| lot.phase);
        let results = &mut ended[phase as usize];
        match known.state {
            UpgradeState::Succeeded => results.succeeded += 1,
            UpgradeState::Failed => *results.failed.entry("failed".to_owned()).or_default() += 1,
            UpgradeState::Cancelled => {}
            UpgradeState::Pending | UpgradeState::Active(_) => {
                let mut subject = Subject::of(known.record, &setting.config, setting.start_at);
                subject.route = known.record.version.map(|runs| routes.of(runs, None));
                subject.phase = phase;
                subject.account = account(setting, known);
                subject.attempts = known.attempts;
                if let Some(active) = known.active {
                    subject.goes_on(active, bytes);
                }
                if let Some(before) = earlier.and_then(|it| it.devices.get(&*subject.endpoint)) {
                    add_known(
                        &mut subject,
                        &Subject::of(before, &setting.config, setting.now),
                    );
                }
                devices.push(subject);
            }
        }
    }
    Given {
        now: setting.now,
        config: setting.config.clone(),
        product: product_name(0),
        learnt: learnt.to_vec(),
        cells: Vec::new(),
        task: TaskGiven {
            start_at: setting.start_at,
            rules: Arc::new(setting.rules.clone()),
            retry: setting.retry,
            ended,
            ..TaskGiven::default()
        },
        routes,
        failures: earlier.map_or_else(Vec::new, |it| it.failures.clone()),
        devices,
        others: Vec::new(),
        joining_per_day: None,
    }
}

/// Adds what was known of a device before.
fn add_known(subject: &mut Subject, before: &Subject) {
    if subject.cell.is_none() {
        (subject.cell, subject.limit) = (before.cell, before.limit);
    }
    // one whose registration is on its way, or that was heard too seldom since
    if matches!(before.rhythm, Rhythm::Learnt(_))
        || matches!(subject.rhythm, Rhythm::Away | Rhythm::Unheard)
    {
        subject.rhythm = before.rhythm;
    }
}
