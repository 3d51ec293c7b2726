//! What has to hold at every step of a simulation, whatever goes wrong in it.
//!
//! The checker sees what the engine emits, what the store has committed, what leaves for the devices and what
//! reaches them. It knows the devices as they are, not as the engine takes them to be. It holds that
//!
//! * a cell never has more upgrading devices than the class of the one admitted last allows, by the coverage that it
//!   has told, and no longer ago than coverage counts. Nor has it more than the operator allows when one is admitted, and
//!   nobody is admitted while it is closed. No site has more than its limit, and the gate counts there whom it lets in. What a device never told (because its answer was lost, and
//!   its cell was asked for alone) is not measurable;
//! * a stage never lasts longer than its limit, nor an attempt longer than the sum of its stages' limits. A limit is
//!   kept in wall-clock time over a restart: what runs out while the server is down ends when it is back. The limit of
//!   the wait for a slot does not begin anew when the coverage is measured anew, and does not run while a device sleeps;
//! * every attempt has exactly one outcome, and the upgrade's outcome is that of its last attempt. What follows a failure
//!   is what was ordered, and no attempt begins before its time, or after the last;
//! * an attempt is a success only if the device runs the target version at that moment, whatever it claims, and a failure
//!   only if the device has not told that it does while the attempt ran and nothing spoke against it. A device that
//!   finishes its upgrade unheard, after the limit of the execution, is reported as failed, rightly so: nobody could
//!   know. It is counted apart, and its report is recorded when it comes. So is one that took the version, or reported a
//!   failure, and of whose restart nothing was seen: others that run the old version say the same;
//! * nothing leaves that depends on a change which is not committed, and changes are committed in their order, none
//!   left out;
//! * no device receives a segment or a notification of a package other than its upgrade's, or a segment that is not what
//!   it is said to be, or a frame that devices misread. Of several packages none is notified that is not for what the device runs
//!   or has answered, and for its hardware;
//! * devices without PCP are told of a package, and to update, when that is committed, and every block that reaches them is one of
//!   their package;
//! * a step of a chain is done when the device runs what it leads to. No device installs a version twice, it ends with the last one
//!   of its chain, and is skipped only where no package is for it;
//! * a download goes on: nobody who has accepted the version is asked which it runs or notified again before it has
//!   been quiet for the pause, least of all because the server was restarted, and no upgrade goes back to what it has
//!   behind it;
//! * no device is given another lifetime before the store knows it, nor keeps it when its upgrade is over and it was heard;
//! * nobody is kept awake for longer than is set, but for what the server cannot know of messages that were lost;
//! * no attempt begins in a phase that has not begun, while its task is held, outside the task's windows, or (the first of an
//!   upgrade) after its last time; in no minute more begin than the rate allows, while the server runs. A phase
//!   follows another one only when that has come true, or the operator says so, and each device is in one phase;
//! * no cell ends before it can have, by the slots that were held in it;
//! * what holds of devices that speak MQTT stands in `over_mqtt`, and of those behind gateways in `gateways`;
//! * queues and tables stay bounded.
//!
//! After every step the slots that the engine counts are compared with those that the checker counts; after a restart
//! those of all cells.

mod bound;
mod claims;
mod commits;
mod coverage;
mod datagrams;
mod ends;
mod gateways;
mod goes_on;
mod lifetimes;
mod objects;
mod over_mqtt;
mod own;
mod putting_back;
mod restart;
mod rollout;
mod sizes;
mod slots;
mod view;

pub(super) use own::Own;
pub(super) use putting_back::AsCopied;
pub(super) use rollout::Member;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde::Serialize;

use super::offered::Offered;
use crate::{
    clock::UtcMillis,
    config::Config,
    engine::{Seq, ShardId},
    ledger::{Appointment, Change, Outcome, RetryPolicy, Stage, UpgradeId},
    simulate::sites::Sites,
    task::CellRules,
};
use coverage::Told;
pub(super) use ends::Ends;
use view::{Cell, View};

/// Violations of a rule that are told; further ones are counted only.
const TOLD: usize = 20;
/// A change of the running server: which shard's, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) shard: ShardId,
    pub(super) seq: Seq,
}

/// How late something may be that is done in the moment in which it is due, ms.
const SLACK_MS: i64 = 1_000;

/// Something that must not happen, and did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Violation {
    /// Virtual time, ms.
    pub(crate) at_ms: u64,
    /// Which rule.
    pub(super) rule: Rule,
    /// What happened.
    pub(crate) what: String,
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Rule {
    CellLimit,
    GatewayLimit,
    StageLimit,
    OneOutcome,
    TrueOutcome,
    CommittedFirst,
    CommitOrder,
    OwnPackage,
    Steps,
    WellFormed,
    GoesOn,
    Bounded,
    KeptAwake,
    Lifetime,
    Bound,
    Phase,
    Held,
    Window,
    Rate,
    Budget,
    Grants,
    CutOff,
}

/// A device and its upgrade, as the checker knows them.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) upgrade: UpgradeId,
    /// Its product, and so its task.
    pub(super) product: usize,
    /// Its coverage as it is.
    coverage: sim::Coverage,
    /// What it has told of that, as emitted and as committed.
    told_emitted: Option<Told>,
    told_committed: Option<Told>,
    /// What it runs, and what is to become of it.
    own: Own,
    /// It runs the version with which it is to end.
    pub(super) current: bool,
    /// It listens for a while after its messages only.
    sleeps: bool,
    claims: claims::Claims,
    /// The newest change that concerns it.
    newest: Option<Number>,
    emitted: View,
    committed: View,
    /// How the last attempt ended for the engine: the state's name.
    ended_as: Option<&'static str>,
    /// How the last attempt ended, as committed.
    outcome: Option<Outcome>,
    /// The lifetime that it may have instead of its own, as committed.
    appointment: Option<Box<Appointment>>,
    /// When its upgrade had its outcome, ms.
    over_ms: Option<u64>,
    /// When its last attempt ended, as committed, ms.
    ended_ms: Option<u64>,
    /// What is known of it besides, where it speaks MQTT.
    over_mqtt: Option<Box<over_mqtt::OverMqtt>>,
    written: goes_on::Written,
    held: bound::Held,
    /// What it does by the object that it is upgraded by, where it has one.
    habits: objects::Habits,
}

impl Subject {
    pub(super) fn new(
        upgrade: UpgradeId,
        product: usize,
        coverage: sim::Coverage,
        own: Own,
        sleeps: bool,
    ) -> Self {
        Self {
            upgrade,
            product,
            coverage,
            told_emitted: None,
            told_committed: None,
            current: own.is_current(),
            own,
            sleeps,
            claims: claims::Claims::default(),
            newest: None,
            emitted: View::default(),
            committed: View::default(),
            ended_as: None,
            outcome: None,
            appointment: None,
            over_ms: None,
            ended_ms: None,
            over_mqtt: None,
            written: goes_on::Written::default(),
            held: bound::Held::default(),
            habits: objects::Habits::default(),
        }
    }
}

/// A shard of the running server.
#[derive(Debug, Default)]
struct Shard {
    /// Its newest change.
    newest: Seq,
    /// Its changes that are committed: all up to this one.
    last_committed: Seq,
    /// Datagrams that wait for a commit, by the change that they need.
    held: BTreeMap<Seq, usize>,
}

/// The checker.
#[derive(Debug)]
pub(super) struct Invariants {
    rules: Arc<Config>,
    retry: RetryPolicy,
    /// By product.
    offered: Vec<Arc<Offered>>,
    /// By device.
    subjects: Vec<Subject>,
    /// Device of each upgrade; number n stands at n − 1.
    devices: Vec<u32>,
    first_cell: u32,
    cells: Vec<Cell>,
    /// What the operator rules for them, as far as the gate knows.
    ruled: HashMap<u32, CellRules>,
    /// Where devices are, and how many of each site hold a slot.
    sites: Sites,
    at_site: Vec<u32>,
    /// Locations of registrations that are not committed.
    new_locations: HashMap<Box<[u8]>, Number>,
    /// Cells in which a slot was taken or given back since they were compared.
    touched: BTreeSet<u32>,
    /// The upgrade that has entered a cell, and how many may be there by its device's coverage. How many there are
    /// follows.
    entering: Option<(i64, u32)>,
    shards: Vec<Shard>,
    /// Gateways, and who is behind them.
    gateways: gateways::Gateways,
    /// What devices over MQTT are told and granted, and has not left.
    outs: over_mqtt::Outs,
    /// How the tasks are run, and how far they are.
    rollout: rollout::Rollout,
    /// When the running server was started.
    started_at: UtcMillis,
    /// Time that crashes took from the upgrades so far: while the server was down, and what they undid, ms.
    lost_ms: i64,
    /// Until when the store failed last, ms.
    store_failed_until_ms: u64,
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
        retry: RetryPolicy,
        offered: Vec<Arc<Offered>>,
        subjects: Vec<Subject>,
        first_cell: u32,
        cells: u32,
        shards: u8,
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
            retry,
            offered,
            open: subjects.len(),
            subjects,
            devices,
            first_cell,
            cells: rows,
            ruled: HashMap::new(),
            sites: Sites::default(),
            at_site: Vec::new(),
            new_locations: HashMap::new(),
            touched: BTreeSet::new(),
            entering: None,
            shards: (0..shards).map(|_| Shard::default()).collect(),
            gateways: gateways::Gateways::default(),
            outs: over_mqtt::Outs::new(),
            rollout: rollout::Rollout::default(),
            started_at: UtcMillis(i64::MIN),
            lost_ms: 0,
            store_failed_until_ms: 0,
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

    /// Devices.
    pub(super) const fn devices(&self) -> usize {
        self.subjects.len()
    }

    /// The product of a device.
    pub(super) fn product_of(&self, device: usize) -> usize {
        (self.subjects.get(device)).map_or(0, |subject| subject.product)
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
        let of_this = self.violations.iter().filter(|told| told.rule == rule);
        if of_this.count() < TOLD {
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
    #[expect(clippy::too_many_lines, reason = "one match over all changes")]
    pub(super) fn emitted(&mut self, now_ms: u64, now: UtcMillis, number: Number, change: &Change) {
        self.shards[number.shard.index()].newest = number.seq;
        match change {
            Change::Registered {
                endpoint,
                registration,
                ..
            } => {
                self.touch(endpoint, number);
                if let Some(device) = device(endpoint)
                    && registration.registered_at == now
                {
                    self.registers(now, device);
                    self.registers_anew(now, device);
                }
                // of an older one the store knows, or the change before this one tells
                if registration.registered_at == now {
                    let location = registration.location.as_bytes().into();
                    self.new_locations.entry(location).or_insert(number);
                }
            }
            Change::Deregistered { endpoint, .. } => {
                self.touch(endpoint, number);
                if let Some(device) = device(endpoint) {
                    self.leaves_the_register(device);
                }
            }
            Change::VersionReported { endpoint, .. } | Change::Appointed { endpoint, .. } => {
                self.touch(endpoint, number);
            }
            Change::Via { endpoint, via, .. } => {
                self.touch(endpoint, number);
                if let Some(device) = device(endpoint) {
                    self.is_reached(now, device, via.as_deref());
                }
            }
            Change::Evidence {
                endpoint, evidence, ..
            } => {
                self.touch(endpoint, number);
                if let Some(device) = device(endpoint) {
                    self.evidence(device, evidence, false);
                }
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
                self.subjects[device].newest = Some(number);
                self.stage_entered(now_ms, now, device, *attempt, change);
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
                self.subjects[device].newest = Some(number);
                self.attempt_ended(now_ms, now, device, *attempt, outcome, *retry_at);
            }
            Change::Admitted { cell, active, .. } => self.admitted(now_ms, *cell, *active),
            Change::CoverageReported {
                endpoint, reading, ..
            } => {
                if let Some(device) = device(endpoint) {
                    self.coverage_told(now_ms, device, reading);
                }
            }
            Change::Note { .. }
            | Change::Progress { .. }
            | Change::Serves { .. }
            | Change::KeptAwake { .. }
            | Change::LetGo { .. }
            | Change::Traffic { .. }
            | Change::Learnt(_) => {}
        }
    }

    fn touch(&mut self, endpoint: &str, number: Number) {
        if let Some(subject) = device(endpoint).and_then(|device| self.subjects.get_mut(device)) {
            subject.newest = Some(number);
        }
    }

    fn cell(&mut self, cell: u32) -> Option<&mut Cell> {
        let row = cell.checked_sub(self.first_cell)?;
        self.cells.get_mut(row as usize)
    }
}

fn row_of(upgrade: UpgradeId) -> Option<usize> {
    usize::try_from(upgrade.0.checked_sub(1)?).ok()
}

/// The number of a device, with which its endpoint's name ends.
pub(super) fn device(endpoint: &str) -> Option<usize> {
    endpoint.rsplit('-').next()?.parse().ok()
}

/// How a device is reached, as far as limits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    OverPcp,
    OverMqtt,
    /// Over MQTT through a gateway, whose other devices it competes with.
    Behind,
}

/// The limit of a stage of a device that is reached so, ms.
fn limit_ms(stage: Stage, reach: Reach, config: &Config) -> i64 {
    let over_mqtt = reach != Reach::OverPcp;
    let limits = &config.upgrade;
    let seconds = match stage {
        Stage::WaitingForDevice if over_mqtt => limits.wait_for_connection_s,
        // one limit for both
        Stage::Downloading | Stage::Executing if over_mqtt => limits.transfer_s,
        Stage::QueryingCoverage | Stage::QueryingCell if over_mqtt => 0,
        Stage::WaitingForSlot if reach == Reach::OverMqtt => 0,
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
