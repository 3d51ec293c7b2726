//! What was forecast of a simulated task, beside what then happened.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
    sync::Arc,
    time::Duration,
};

use serde::Serialize;

use super::{
    offered::Offered,
    scenario::product_name,
    sites::{self, Sites},
};
use crate::{
    clock::UtcMillis,
    config::Config,
    forecast::{self, Account, Given, Lanes, PackageGiven, Routes, Subject, TaskGiven},
    ledger::{
        ActiveUpgrade, Change, CoverageReading, CoverageSource, DeviceRecord, Learnt, PackageId,
        RetryPolicy, Usage,
    },
    package::Version,
    store::UpgradeState,
    task::{Month, Results, Spent, TaskHead, TaskRules},
};

/// Parts of the devices with a final outcome after which a forecast is made again, percent.
const AGAIN_AT: [usize; 2] = [25, 50];

/// Since the earlier upgrade ended: what was measured in it is no measure any more.
const SINCE: Duration = Duration::from_hours(7 * 24);
/// So many results of a task tell how many of its devices fail.
const TELLING: u64 = 20;

/// What an earlier upgrade of the same fleet has taught. The server that is simulated has it in its store, as one in service would.
#[derive(Debug, Clone, Default)]
pub(super) struct Earlier {
    learnt: Vec<Learnt>,
    /// The coverage of each device, as it was measured last.
    coverage: Vec<(String, CoverageReading)>,
    /// Parts of the devices that failed, by reason.
    failures: Vec<(String, f64)>,
}

impl Earlier {
    /// What the store was told of it, where it ended some days before `now`.
    pub(super) fn changes(&self, now: UtcMillis) -> Vec<Change> {
        let learnt = self.learnt.iter().cloned().map(Box::new);
        let newest = self.coverage.iter().map(|(_, reading)| reading.at).max();
        let moved = newest.map_or(Duration::ZERO, |newest| newest.since(now)) + SINCE;
        let moved_ms = i64::try_from(moved.as_millis()).unwrap_or(i64::MAX);
        let told = self.coverage.iter().map(move |(endpoint, reading)| {
            let at = UtcMillis(reading.at.0.saturating_sub(moved_ms));
            Change::CoverageReported {
                endpoint: endpoint.clone(),
                reading: CoverageReading { at, ..*reading },
                source: CoverageSource::Object,
            }
        });
        learnt.map(Change::Learnt).chain(told).collect()
    }
}

/// What was forecast.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Foreseen {
    /// What was known: `nothing` (a fleet in service that nobody has upgraded), `earlier` (also what an earlier upgrade has taught),
    /// `so_far` (also how the task stands, and what it has taught).
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
    /// How the last attempt ended.
    pub(super) reason: Option<&'a str>,
    /// Its phase, from 0.
    pub(super) phase: u32,
    pub(super) active: Option<&'a ActiveUpgrade>,
    /// What it has spent this month.
    pub(super) used: Usage,
    /// As the operator has given it.
    pub(super) hardware: Option<&'a str>,
    /// The name of its site.
    pub(super) site: Option<&'a str>,
}

/// What a device has spent, where the task has a budget.
fn account(setting: &Setting<'_>, known: &Known<'_>) -> Option<Box<Account>> {
    setting.rules.budget?;
    let coverage = known.record.coverage.map(|reading| reading.coverage);
    let (size_bytes, segments) = setting.offered.largest();
    let need = Usage::of_package(size_bytes, segments, coverage.as_ref());
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
    pub(super) offered: &'a Offered,
    pub(super) sites: &'a Sites,
    /// The task, as the store has it, unless it has ended.
    pub(super) head: Option<TaskHead>,
}

/// Makes forecasts while a simulation goes on.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    /// Parts of the devices that failed in the earlier upgrade, by reason.
    failures: Vec<(String, f64)>,
    /// Those at the start are made.
    begun: bool,
    /// Of [`AGAIN_AT`], so many are made.
    again: usize,
    /// So long after the start of the task one is made, in their order.
    after: VecDeque<Duration>,
    pub(super) made: Vec<Foreseen>,
    /// Devices that were through when each was made.
    pub(super) through: Vec<usize>,
}

impl Foresight {
    pub(super) fn new(earlier: Earlier, after: &[Duration]) -> Self {
        let mut after = after.to_vec();
        after.sort_unstable();
        Self {
            failures: earlier.failures,
            after: after.into(),
            ..Self::default()
        }
    }

    /// Whether a forecast is to be made so long after the start of the task, when so many of the devices are through.
    pub(super) fn is_due(&self, since: Option<Duration>, ended: usize, devices: usize) -> bool {
        since.is_some_and(|since| {
            !self.begun
                || self.percent_due(ended, devices).is_some()
                || self.after.front().is_some_and(|after| *after <= since)
        })
    }

    /// The next part after which one is made, if so many are through.
    fn percent_due(&self, ended: usize, devices: usize) -> Option<usize> {
        let percent = AGAIN_AT.get(self.again).copied()?;
        (ended * 100 >= devices * percent).then_some(percent)
    }

    /// Makes what is due, of what the store knows.
    pub(super) fn make(&mut self, setting: &Setting<'_>, all: &[Known<'_>], learnt: &[Learnt]) {
        let ended = all.iter().filter(|known| known.state.is_final()).count();
        if !self.begun {
            self.begun = true;
            let unmeasured: Vec<DeviceRecord> = (all.iter())
                .map(|known| DeviceRecord {
                    coverage: None,
                    ..known.record.clone()
                })
                .collect();
            let unmeasured: Vec<Known<'_>> = (all.iter().zip(&unmeasured))
                .map(|(known, record)| Known { record, ..*known })
                .collect();
            let blank = given(setting, &unmeasured, &[], &[]);
            self.add("nothing", (ended, 0), setting, &blank);
            let given = given(setting, all, learnt, &self.failures);
            return self.add("earlier", (ended, 0), setting, &given);
        }
        if let Some(percent) = self.percent_due(ended, all.len()) {
            self.again += 1;
            let given = given(setting, all, learnt, &self.failures);
            self.add("so_far", (ended, percent), setting, &given);
        }
        let since = setting.now.since(setting.start_at);
        while self.after.pop_front_if(|after| *after <= since).is_some() {
            let percent = ended * 100 / all.len().max(1);
            let given = given(setting, all, learnt, &self.failures);
            self.add("so_far", (ended, percent), setting, &given);
        }
    }

    fn add(
        &mut self,
        known: &'static str,
        (ended, percent): (usize, usize),
        setting: &Setting<'_>,
        given: &Given,
    ) {
        let go_on = |_| ControlFlow::Continue(());
        let Some(forecast) = forecast::forecast(given, go_on) else {
            return;
        };
        self.through.push(ended);
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
                    cell: cell.lane,
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
    devices: &[DeviceRecord],
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
        coverage: (devices.iter())
            .filter_map(|device| Some((device.endpoint.clone(), device.coverage?)))
            .collect(),
    }
}

fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// As a server makes it of its store (`runtime/forecasts/gather.rs`).
fn given(
    setting: &Setting<'_>,
    all: &[Known<'_>],
    learnt: &[Learnt],
    failures: &[(String, f64)],
) -> Given {
    let packages = setting.offered.over_pcp().into_iter().map(|offer| {
        let given = PackageGiven {
            bytes: offer.segmentation.size_bytes(),
            segments: offer.segmentation.segment_count().into(),
        };
        (Version::from(offer.version), given)
    });
    let packages: Vec<_> = packages.collect();
    // in their order: nobody asks for their numbers
    let numbers: Vec<_> = (1..).take(packages.len()).map(PackageId).collect();
    let mut routes = Routes::new(&setting.offered.rules(&numbers), &packages);
    let mut lanes =
        Lanes::new((setting.sites.all()).map(|(name, limit)| (Sites::lane(name), limit)));
    let mut ended = vec![Results::default(); setting.rules.phase_count()];
    let mut devices = Vec::with_capacity(all.len());
    for known in all {
        if known.state.is_final() {
            if let Some(results) = ended.get_mut(known.phase as usize) {
                add(results, known);
            }
            continue;
        }
        let mut subject = Subject::of(known.record, &setting.config, setting.start_at);
        subject.route = (known.record.version).map(|runs| routes.of(runs, known.hardware));
        subject.lanes = lanes.of(known.site.map(|site| (sites::TENANT, site)), None);
        subject.phase = known.phase;
        subject.account = account(setting, known);
        subject.attempts = known.attempts;
        if let Some(active) = known.active {
            let first = routes.get(subject.route.unwrap_or_default()).steps.first();
            subject.goes_on(active, first.map_or(0, |it| it.bytes));
        }
        devices.push(subject);
    }
    // without rules nobody looks at what has come of a task
    if let Some(head) = setting.head.as_ref().filter(|it| !it.results.is_empty()) {
        ended = (head.results.iter().cloned())
            .map(|results| Results {
                waiting: 0,
                running: 0,
                ..results
            })
            .collect();
    }
    Given {
        now: setting.now,
        config: setting.config.clone(),
        product: product_name(0),
        learnt: learnt.to_vec(),
        cells: Vec::new(),
        lanes,
        failures: shares_that_fail(&ended).unwrap_or_else(|| failures.to_vec()),
        task: stands(setting, ended),
        routes,
        devices,
        others: Vec::new(),
        joining_per_day: None,
    }
}

/// Where the task stands, when that came of its devices.
fn stands(setting: &Setting<'_>, ended: Vec<Results>) -> TaskGiven {
    let task = TaskGiven {
        start_at: setting.start_at,
        rules: Arc::new(setting.rules.clone()),
        retry: setting.retry,
        ended,
        ..TaskGiven::default()
    };
    match &setting.head {
        Some(head) => TaskGiven {
            hold: head.hold.clone(),
            phase: head.phase,
            resumed_with: head.resumed_with.clone(),
            expired: head.expired,
            ..task
        },
        None => task,
    }
}

/// A device has a final outcome.
fn add(results: &mut Results, known: &Known<'_>) {
    match known.state {
        UpgradeState::Succeeded => results.succeeded += 1,
        UpgradeState::Failed => {
            let reason = known.reason.unwrap_or_default().to_owned();
            *results.failed.entry(reason).or_default() += 1;
        }
        UpgradeState::Cancelled | UpgradeState::Pending | UpgradeState::Active(_) => {}
    }
}

/// Parts of the devices that have failed, by reason, where enough have a result.
fn shares_that_fail(ended: &[Results]) -> Option<Vec<(String, f64)>> {
    let mut all = Results::default();
    for phase in ended {
        all.add(phase);
    }
    let results = all.succeeded + all.failed();
    (results >= TELLING).then(|| {
        let failed = all.failed.into_iter();
        let shares = failed.map(|(reason, count)| (reason, float(count) / float(results)));
        shares.collect()
    })
}
