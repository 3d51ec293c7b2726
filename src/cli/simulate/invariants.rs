//! What has to hold at every step of a simulation, whatever goes wrong in it.
//!
//! The checker sees what the engine emits, what the store has committed, what leaves for the devices and what
//! reaches them. It knows the devices as they are, not as the engine takes them to be. It holds that
//!
//! * a cell never has more upgrading devices than the class of the one admitted last allows, by the coverage that it
//!   has told, and no longer ago than coverage counts. What a device never told (because its answer was lost, and
//!   its cell was asked for alone) is not measurable;
//! * a stage never lasts longer than its limit, nor an attempt longer than the sum of its stages' limits. Time in
//!   which the server was down, and time whose changes a crash has undone, does not count;
//! * every attempt has exactly one outcome, and the upgrade's outcome is that of its last attempt;
//! * an attempt is a success only if the device runs the target version at that moment, and a failure only if the
//!   device has not told that it does while the attempt ran. A device that finishes its upgrade unheard, after the
//!   limit of the execution, is reported as failed, rightly so: nobody could know. It is counted apart, and its
//!   report is recorded when it comes;
//! * nothing leaves that depends on a change which is not committed;
//! * no device receives a segment of a package other than its upgrade's, or a segment that is not what it is said
//!   to be;
//! * queues and tables stay bounded.

mod coverage;
mod datagrams;
mod ends;
mod view;

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;

use crate::{
    clock::UtcMillis,
    config::Config,
    engine::{Change, Seq, Tables},
    package::Package,
    runtime::Outbox,
    task::UpgradeId,
    upgrade::{Outcome, Stage},
};
use coverage::Told;
pub(super) use ends::Ends;
use view::{Cell, View};

/// Violations that are told; further ones are counted only.
const TOLD: usize = 50;
/// How late something may be that is done in the moment in which it is due, ms.
const SLACK_MS: i64 = 1_000;
/// Alarms and uncommitted changes that a device may cause.
const PER_DEVICE: usize = 64;

/// Something that must not happen, and did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Violation {
    /// Virtual time, ms.
    pub(super) at_ms: u64,
    /// Which rule.
    pub(super) rule: Rule,
    /// What happened.
    pub(super) what: String,
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Rule {
    CellLimit,
    StageLimit,
    OneOutcome,
    TrueOutcome,
    CommittedFirst,
    OwnPackage,
    Bounded,
}

/// A device and its upgrade, as the checker knows them.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) upgrade: UpgradeId,
    /// Index of its product's package.
    pub(super) package: usize,
    /// Its coverage as it is.
    coverage: sim::Coverage,
    /// What it has told of that, as emitted and as committed.
    told_emitted: Option<Told>,
    told_committed: Option<Told>,
    /// It runs the target version.
    pub(super) current: bool,
    /// It has told the server so in the attempt that runs.
    told: bool,
    /// The newest change that concerns it.
    newest: Seq,
    emitted: View,
    committed: View,
    /// How the last attempt ended for the engine: the state's name.
    ended_as: Option<&'static str>,
    /// How the last attempt ended, as committed.
    outcome: Option<Outcome>,
}

impl Subject {
    pub(super) fn new(
        upgrade: UpgradeId,
        package: usize,
        coverage: sim::Coverage,
        current: bool,
    ) -> Self {
        Self {
            upgrade,
            package,
            coverage,
            told_emitted: None,
            told_committed: None,
            current,
            told: false,
            newest: 0,
            emitted: View::default(),
            committed: View::default(),
            ended_as: None,
            outcome: None,
        }
    }
}

/// The checker.
#[derive(Debug)]
pub(super) struct Invariants {
    rules: Arc<Config>,
    packages: Vec<Arc<Package>>,
    /// By device.
    subjects: Vec<Subject>,
    /// Device of each upgrade; number n stands at n − 1.
    devices: Vec<u32>,
    first_cell: u32,
    cells: Vec<Cell>,
    /// Locations of registrations that are not committed.
    new_locations: HashMap<u64, Seq>,
    /// Time that crashes took from the upgrades so far: while the server was down, and what they undid, ms.
    lost_ms: i64,
    open: usize,
    last_end_ms: u64,
    /// Segments that reached a device.
    segments: u64,
    violations: Vec<Violation>,
    count: usize,
}

impl Invariants {
    pub(super) fn new(
        rules: Arc<Config>,
        packages: Vec<Arc<Package>>,
        subjects: Vec<Subject>,
        first_cell: u32,
        cells: u32,
    ) -> Self {
        let mut devices = vec![0; subjects.len()];
        let mut rows = vec![Cell::default(); cells as usize];
        for (device, subject) in (0..).zip(&subjects) {
            if let Some(row) = row_of(subject.upgrade).and_then(|row| devices.get_mut(row)) {
                *row = device;
            }
            let coverage = subject.coverage;
            let row = coverage
                .cell_id
                .and_then(|cell| cell.checked_sub(first_cell));
            if let Some(cell) = row.and_then(|row| rows.get_mut(row as usize)) {
                let admission = &rules.admission;
                let limit = coverage::limit(coverage.rsrp_dbm, coverage.sinr_db, admission);
                cell.devices += 1;
                cell.limits = (cell.limits.0.min(limit), cell.limits.1.max(limit));
            }
        }
        Self {
            rules,
            packages,
            open: subjects.len(),
            subjects,
            devices,
            first_cell,
            cells: rows,
            new_locations: HashMap::new(),
            lost_ms: 0,
            last_end_ms: 0,
            segments: 0,
            violations: Vec::new(),
            count: 0,
        }
    }

    pub(super) fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// All violations, those included that are not told.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Upgrades without a final outcome.
    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// When the last upgrade ended, ms.
    pub(super) const fn last_end_ms(&self) -> u64 {
        self.last_end_ms
    }

    /// Segments that reached a device, repeats included.
    pub(super) const fn segments(&self) -> u64 {
        self.segments
    }

    /// Each cell with its number.
    pub(super) fn cells(&self) -> impl Iterator<Item = (u32, &Cell)> {
        (self.first_cell..).zip(&self.cells)
    }

    fn violated(&mut self, at_ms: u64, rule: Rule, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.violations.len() < TOLD {
            let what = what();
            self.violations.push(Violation { at_ms, rule, what });
        }
    }

    /// The device of an upgrade.
    pub(super) fn device_of(&self, upgrade: UpgradeId) -> Option<usize> {
        let device = *self.devices.get(row_of(upgrade)?)?;
        Some(device as usize)
    }

    /// The engine wants a change remembered.
    pub(super) fn emitted(&mut self, now_ms: u64, now: UtcMillis, seq: Seq, change: &Change) {
        match change {
            Change::Registered {
                endpoint,
                registration,
                ..
            } => {
                self.touch(endpoint, seq);
                if let Some(location) = location(registration.location.as_bytes()) {
                    self.new_locations.insert(location, seq);
                }
            }
            Change::Deregistered { endpoint, .. } | Change::VersionReported { endpoint, .. } => {
                self.touch(endpoint, seq);
            }
            Change::Stage {
                upgrade,
                attempt,
                change,
                ..
            } => {
                let Some(device) = self.device_of(*upgrade) else {
                    return;
                };
                self.subjects[device].newest = seq;
                self.stage_entered(now_ms, now, device, *attempt, change);
            }
            Change::Ended {
                upgrade,
                attempt,
                outcome,
                ..
            } => {
                let Some(device) = self.device_of(*upgrade) else {
                    return;
                };
                self.subjects[device].newest = seq;
                self.attempt_ended(now_ms, now, device, *attempt, outcome);
            }
            Change::Admitted { cell, active, .. } => {
                let holders = self.cell(*cell).map(|cell| cell.holders);
                if holders != Some(*active) {
                    self.violated(now_ms, Rule::CellLimit, || {
                        format!("cell {cell}: {active} hold a slot for the engine, {holders:?} do")
                    });
                }
            }
            Change::CoverageReported { endpoint, reading } => {
                if let Some(device) = device(endpoint) {
                    self.coverage_told(now_ms, device, reading);
                }
            }
            Change::Note { .. } | Change::Progress { .. } => {}
        }
    }

    fn touch(&mut self, endpoint: &str, seq: Seq) {
        if let Some(subject) = device(endpoint).and_then(|device| self.subjects.get_mut(device)) {
            subject.newest = seq;
        }
    }

    fn cell(&mut self, cell: u32) -> Option<&mut Cell> {
        let row = cell.checked_sub(self.first_cell)?;
        self.cells.get_mut(row as usize)
    }

    /// The store has a change for good.
    pub(super) fn committed(&mut self, now_ms: u64, change: &Change) {
        match change {
            Change::Registered { registration, .. } => {
                if let Some(location) = location(registration.location.as_bytes()) {
                    self.new_locations.remove(&location);
                }
            }
            Change::CoverageReported { endpoint, reading } => {
                let told = self.told(reading);
                let subject = device(endpoint).and_then(|device| self.subjects.get_mut(device));
                if let Some(subject) = subject {
                    subject.told_committed = Some(told);
                }
            }
            Change::Stage {
                upgrade,
                attempt,
                change,
                at,
                ..
            } => {
                if let Some(device) = self.device_of(*upgrade) {
                    let lost_ms = self.lost_ms;
                    let view = &mut self.subjects[device].committed;
                    view.enter(*attempt, change, *at, lost_ms);
                }
            }
            Change::Ended {
                upgrade,
                attempt,
                outcome,
                retry_at,
                ..
            } => {
                let Some(device) = self.device_of(*upgrade) else {
                    return;
                };
                let subject = &mut self.subjects[device];
                let again = subject.committed.ended >= *attempt;
                subject.committed.end(*attempt);
                subject.outcome = Some(outcome.clone());
                let emitted = subject.ended_as;
                if emitted != Some(outcome.state()) {
                    self.violated(now_ms, Rule::OneOutcome, || {
                        format!("{}: ended as {emitted:?}, stored is {outcome:?}", upgrade.0)
                    });
                }
                if again {
                    self.violated(now_ms, Rule::OneOutcome, || {
                        format!("{}: attempt {attempt} has a second outcome", upgrade.0)
                    });
                } else if retry_at.is_none() {
                    self.open -= 1;
                    self.last_end_ms = now_ms;
                }
            }
            _ => {}
        }
    }

    /// The server is gone, and with it all that was not committed. `undone_ms` is the age of the oldest change
    /// among it.
    pub(super) fn crashed(&mut self, undone_ms: u64) {
        self.lost_ms += i64::try_from(undone_ms).unwrap_or(0);
        self.new_locations.clear();
        for cell in &mut self.cells {
            cell.holders = 0;
        }
        for subject in &mut self.subjects {
            subject.emitted = subject.committed;
            subject.told_emitted = subject.told_committed;
            subject.told = false;
            subject.newest = 0;
            if let Some(cell) = subject.committed.slot_in()
                && let Some(row) = cell.checked_sub(self.first_cell)
                && let Some(cell) = self.cells.get_mut(row as usize)
            {
                cell.holders += 1;
            }
        }
    }

    /// The server is back.
    pub(super) fn restarted(&mut self, down_ms: u64) {
        self.lost_ms += i64::try_from(down_ms).unwrap_or(0);
    }

    /// Time does not go on: something is due for ever.
    pub(super) fn stuck(&mut self, now_ms: u64) {
        self.violated(now_ms, Rule::Bounded, || {
            "something stays due for ever".to_owned()
        });
    }

    /// Sizes of queues and tables.
    pub(super) fn sizes(&mut self, now_ms: u64, tables: Tables, held: usize, uncommitted: usize) {
        let devices = self.subjects.len();
        for (what, size, bound) in [
            ("devices", tables.devices, devices),
            ("upgrades under way", tables.sessions, devices),
            ("addresses", tables.peers, devices),
            ("registrations", tables.locations, devices),
            ("cells", tables.cells, self.cells.len()),
            ("alarms", tables.alarms, devices * PER_DEVICE + 1_000),
            ("datagrams that wait for a commit", held, Outbox::CAPACITY),
            (
                "uncommitted changes",
                uncommitted,
                devices * PER_DEVICE + 1_000,
            ),
        ] {
            if size > bound {
                self.violated(now_ms, Rule::Bounded, || {
                    format!("{size} {what}, {bound} at most")
                });
            }
        }
    }
}

fn row_of(upgrade: UpgradeId) -> Option<usize> {
    usize::try_from(upgrade.0.checked_sub(1)?).ok()
}

/// The number of a device, with which its endpoint's name ends.
pub(super) fn device(endpoint: &str) -> Option<usize> {
    endpoint.rsplit('-').next()?.parse().ok()
}

/// A registration's location as a number.
fn location(location: &[u8]) -> Option<u64> {
    u64::from_str_radix(str::from_utf8(location).ok()?, 16).ok()
}

/// The limit of a stage, ms.
fn limit_ms(stage: Stage, config: &Config) -> i64 {
    let limits = &config.upgrade;
    let seconds = match stage {
        Stage::WaitingForDevice => limits.wait_for_device_s,
        Stage::QueryingVersion => limits.query_version_s,
        Stage::QueryingCoverage => limits.query_coverage_s,
        Stage::QueryingCell => limits.query_cell_s,
        Stage::WaitingForSlot => limits.wait_for_slot_s,
        Stage::Downloading => limits.download_s,
        Stage::Executing => limits.execute_s,
    };
    i64::try_from(seconds * 1_000).unwrap_or(i64::MAX)
}
