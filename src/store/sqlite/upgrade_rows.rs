//! What is read of upgrades, a few or a million.

use std::sync::Arc;

use serde::Deserialize;

use super::{
    packed::{Flag, packed},
    rows,
};
use crate::{
    clock::UtcMillis,
    home::OfferId,
    ledger::{
        ActiveUpgrade, Further, Lane, PackageId, Progress, RetryPolicy, Served, StageChange,
        Standby, TaskId, UpgradeId, UpgradeOrder,
    },
    package::Version,
    store::{DeviceUpgrade, HomeUpgrade, OutcomeRecord, StoreError, UpgradeRecord, UpgradeState},
    task::{Candidate, Due},
};

/// An [`UpgradeRow`], from `upgrades u`.
macro_rules! upgrade {
    ($segment_size:literal) => {
        concat!(
            "json_array(u.id, u.task_id, u.endpoint, u.attempt, u.not_before, ",
            stage!(),
            ", u.bytes_done, u.bytes_total, ",
            $segment_size,
            ", u.outcome_state, u.outcome_reason, u.outcome_detail, u.outcome_arguments, u.outcome_at, \
             u.created_at, u.started_at, u.ended_at, u.cancel_requested_at, u.unconfirmed, u.confirmed_for)"
        )
    };
}

/// A [`StageRow`], from `upgrades u`.
macro_rules! stage {
    () => {
        "json_array(u.state, u.stage_entered_at, u.stage_deadline_at, u.queued_at, u.slot_deadline_at, u.cell, \
         u.cell_limit, u.confirmed, u.download_errors)"
    };
}

/// An [`OrderRow`], from `upgrades u` and their `tasks t`.
macro_rules! order {
    () => {
        "json_array(u.id, u.task_id, u.endpoint, u.attempt, COALESCE(u.package_id, t.package_id), u.step, \
         IIF(t.packages IS NULL, NULL, (SELECT d.hardware FROM devices d WHERE d.endpoint = u.endpoint)), \
         t.retry_attempts + u.attempts_before, t.retry_interval_s, t.retry_reasons, u.kept_awake_s, u.kept_awake_pings, \
         u.started_at, t.tenant, (SELECT d.site FROM devices d WHERE d.endpoint = u.endpoint), \
         (SELECT d.via FROM devices d WHERE d.endpoint = u.endpoint), \
         (SELECT p.settings ->> '$.per_gateway' FROM devices d CROSS JOIN devices g ON g.endpoint = d.via \
             CROSS JOIN products p ON p.tenant = g.tenant \
                 AND p.name = IIF(g.tenant = 'default', g.product, substr(g.product, length(g.tenant) + 2)) \
             WHERE d.endpoint = u.endpoint AND d.via IS NOT NULL))"
    };
}

/// Upgrades of a task, each an [`UpgradeRow`]. More conditions follow.
macro_rules! of_task {
    () => {
        concat!(
            "SELECT ",
            upgrade!(
                "(SELECT p.segment_size FROM tasks t JOIN packages p ON p.id = COALESCE(u.package_id, t.package_id) \
                 WHERE t.id = ?1)"
            ),
            " AS line FROM upgrades u WHERE u.task_id = ?1 \
                 AND EXISTS (SELECT 1 FROM tasks WHERE hidden = 0 AND id = ?1) AND u.id > ?2"
        )
    };
}

pub(super) const LIST: &str = packed!(of_task!(), " ORDER BY u.id LIMIT ?3");

pub(super) const LIST_IN_STATE: &str =
    packed!(of_task!(), " AND u.state = ?4 ORDER BY u.id LIMIT ?3");

/// Upgrades of a device, each an [`OfDeviceRow`].
pub(super) const OF_DEVICE: &str = packed!(
    "SELECT json_array(",
    upgrade!("p.segment_size"),
    ", t.name, p.version) AS line \
     FROM upgrades u INDEXED BY upgrades_of_device CROSS JOIN tasks t ON t.id = u.task_id \
         CROSS JOIN packages p ON p.id = COALESCE(u.package_id, t.package_id) \
     WHERE u.endpoint = ? AND u.id < ? AND t.hidden = 0 ORDER BY u.id DESC LIMIT ?",
);

/// Upgrades of these numbers, by number, each an [`OfHomeRow`].
pub(super) const OF_HOME: &str = packed!(
    "SELECT json_array(",
    upgrade!("p.segment_size"),
    ", t.name, p.version, (SELECT o.id FROM offers o WHERE o.task_id = u.task_id)) AS line \
     FROM upgrades u CROSS JOIN tasks t ON t.id = u.task_id \
         CROSS JOIN packages p ON p.id = COALESCE(u.package_id, t.package_id) \
     WHERE u.id IN (SELECT value FROM json_each(?)) AND t.hidden = 0 ORDER BY u.id",
);

/// Upgrades of a device since it is in its home, each an [`OfHomeRow`].
pub(super) const HISTORY: &str = packed!(
    "SELECT json_array(",
    upgrade!("p.segment_size"),
    ", t.name, p.version, (SELECT o.id FROM offers o WHERE o.task_id = u.task_id)) AS line \
     FROM homes h CROSS JOIN home_devices i ON i.home_id = h.id \
         CROSS JOIN upgrades u INDEXED BY upgrades_of_device ON u.endpoint = i.endpoint CROSS JOIN tasks t ON t.id = u.task_id \
         CROSS JOIN packages p ON p.id = COALESCE(u.package_id, t.package_id) \
     WHERE h.tenant = ? AND h.home = ? AND i.endpoint = ? AND u.id < ? AND u.created_at >= i.added_at AND t.hidden = 0 \
     ORDER BY u.id DESC LIMIT ?",
);

/// The newest upgrades, each an [`OfDeviceRow`].
pub(super) const NEWEST: &str = packed!(
    "SELECT json_array(",
    upgrade!("p.segment_size"),
    ", t.name, p.version) AS line \
     FROM upgrades u CROSS JOIN tasks t ON t.id = u.task_id CROSS JOIN packages p ON p.id = COALESCE(u.package_id, t.package_id) \
     WHERE u.id < ? AND t.hidden = 0 ORDER BY u.id DESC LIMIT ?",
);

/// The newest upgrades in a cell, each an [`OfDeviceRow`].
pub(super) const NEWEST_IN_CELL: &str = packed!(
    "SELECT json_array(",
    upgrade!("p.segment_size"),
    ", t.name, p.version) AS line \
     FROM upgrades u INDEXED BY upgrades_of_cell CROSS JOIN tasks t ON t.id = u.task_id \
         CROSS JOIN packages p ON p.id = COALESCE(u.package_id, t.package_id) \
     WHERE u.cell = ? AND u.id < ? AND t.hidden = 0 ORDER BY u.id DESC LIMIT ?",
);

/// A [`DetailRow`].
pub(super) const ONE: &str = packed!(
    "SELECT json_array(",
    upgrade!(
        "(SELECT p.segment_size FROM packages p WHERE p.id = COALESCE(u.package_id, t.package_id))"
    ),
    ", COALESCE(u.package_id, t.package_id), t.state, t.rules, t.hold, t.phase, COALESCE(l.phase, 0), l.zone, \
         (SELECT MIN(b.id) FROM upgrades b WHERE b.endpoint = u.endpoint AND b.phase = 1 AND b.id <> u.id), \
         COALESCE((SELECT c.active FROM cells c WHERE c.cell = u.cell), 0), \
         (SELECT COUNT(*) FROM upgrades w WHERE u.state = 'waiting_for_slot' \
             AND w.cell = u.cell AND w.state = 'waiting_for_slot' \
            AND (w.queued_at, w.id) < (u.queued_at, u.id)), \
         (SELECT e.reason FROM exclusions e WHERE e.endpoint = u.endpoint)) AS line \
     FROM upgrades u JOIN tasks t ON t.id = u.task_id LEFT JOIN task_lots l ON l.task_id = u.task_id AND l.lot = u.lot \
     WHERE u.id = ? AND t.hidden = 0",
);

/// Each an [`ActiveRow`].
pub(super) const RESTORE: &str = packed!(
    "SELECT json_array(",
    order!(),
    ", ",
    stage!(),
    ", u.bytes_done, u.bytes_total) AS line FROM upgrades u CROSS JOIN tasks t ON t.id = u.task_id \
     WHERE u.phase = 1 AND u.id > ? ORDER BY u.id LIMIT ?",
);

/// Of one lot of a task those that are due on a free device, each a [`DueRow`].
pub(super) const DUE: &str = packed!(
    "SELECT json_array(",
    order!(),
    ", u.not_before) AS line FROM tasks t CROSS JOIN upgrades u ON u.task_id = t.id \
     WHERE t.id = ? AND u.lot = ? AND u.free = 1 AND u.not_before <= ? ORDER BY u.not_before, u.id LIMIT ?",
);

#[derive(Deserialize)]
pub(super) struct UpgradeRow<'r> {
    id: UpgradeId,
    task: TaskId,
    endpoint: String,
    attempts: u32,
    not_before: UtcMillis,
    #[serde(borrow)]
    stage: StageRow<'r>,
    bytes_done: Option<u64>,
    bytes_total: u64,
    segment_size: u64,
    outcome_state: Option<String>,
    outcome_reason: Option<String>,
    outcome_detail: Option<String>,
    outcome_arguments: Option<String>,
    outcome_at: Option<UtcMillis>,
    created_at: UtcMillis,
    started_at: Option<UtcMillis>,
    ended_at: Option<UtcMillis>,
    cancel_requested_at: Option<UtcMillis>,
    unconfirmed: Flag,
    confirmed_for: Option<UtcMillis>,
}

/// How far a download is, of its columns.
pub(super) fn progress(done: Option<u64>, total_bytes: u64) -> Option<Progress> {
    let done_bytes = done?;
    Some(Progress {
        done_bytes,
        total_bytes,
    })
}

/// The segment that was asked for last: the one that begins there, or the last one.
fn segment(progress: Progress, segment_size: u64) -> u16 {
    let size = segment_size.max(1);
    let last = progress.total_bytes.div_ceil(size).saturating_sub(1);
    u16::try_from((progress.done_bytes / size).min(last)).unwrap_or(u16::MAX)
}

impl UpgradeRow<'_> {
    pub(super) fn record(self) -> Result<UpgradeRecord, StoreError> {
        let progress = progress(self.bytes_done, self.bytes_total);
        let told = rows::told(self.outcome_arguments.as_deref(), self.outcome_detail)?;
        let outcome = match (self.outcome_state, self.outcome_reason, told) {
            (Some(state), Some(reason), Some(told)) => Some(OutcomeRecord {
                state,
                reason,
                told,
                at: there(self.outcome_at, "upgrades.outcome_at")?,
            }),
            (None, ..) => None,
            (Some(state), ..) => {
                return Err(rows::unreadable(
                    "upgrades.outcome_state",
                    format!("{state} alone"),
                ));
            }
        };
        Ok(UpgradeRecord {
            id: self.id,
            task: self.task,
            endpoint: self.endpoint,
            state: self.stage.state()?,
            attempts: self.attempts,
            not_before: self.not_before,
            stage: self.stage.stage()?,
            cell: self.stage.cell,
            progress,
            segment: progress.map(|it| segment(it, self.segment_size)),
            outcome,
            created_at: self.created_at,
            started_at: self.started_at,
            ended_at: self.ended_at,
            cancel_requested_at: self.cancel_requested_at,
            unconfirmed: self.unconfirmed.0,
            confirmed_for: self.confirmed_for,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct OfDeviceRow<'r> {
    #[serde(borrow)]
    upgrade: UpgradeRow<'r>,
    task_name: String,
    version: Version,
}

impl OfDeviceRow<'_> {
    pub(super) fn upgrade(self) -> Result<DeviceUpgrade, StoreError> {
        Ok(DeviceUpgrade {
            upgrade: self.upgrade.record()?,
            task_name: self.task_name,
            version: self.version,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct OfHomeRow<'r> {
    #[serde(borrow)]
    upgrade: UpgradeRow<'r>,
    task_name: String,
    version: Version,
    offer: Option<OfferId>,
}

impl OfHomeRow<'_> {
    pub(super) fn upgrade(self) -> Result<HomeUpgrade, StoreError> {
        Ok(HomeUpgrade {
            upgrade: DeviceUpgrade {
                upgrade: self.upgrade.record()?,
                task_name: self.task_name,
                version: self.version,
            },
            offer: self.offer,
        })
    }
}

#[derive(Deserialize)]
struct StageRow<'r> {
    state: &'r str,
    entered_at: Option<UtcMillis>,
    deadline_at: Option<UtcMillis>,
    queued_at: Option<UtcMillis>,
    slot_deadline_at: Option<UtcMillis>,
    cell: Option<u32>,
    cell_limit: Option<u32>,
    confirmed: Flag,
    download_errors: u8,
}

impl StageRow<'_> {
    fn state(&self) -> Result<UpgradeState, StoreError> {
        rows::upgrade_state(self.state)
    }

    /// The stage of an upgrade that runs.
    fn stage(&self) -> Result<Option<StageChange>, StoreError> {
        let UpgradeState::Active(stage) = self.state()? else {
            return Ok(None);
        };
        Ok(Some(StageChange {
            stage,
            entered_at: there(self.entered_at, "upgrades.stage_entered_at")?,
            deadline_at: there(self.deadline_at, "upgrades.stage_deadline_at")?,
            queued_at: self.queued_at,
            slot_deadline_at: self.slot_deadline_at,
            cell: self.cell,
            cell_limit: self.cell_limit,
            confirmed: self.confirmed.0,
            download_errors: self.download_errors,
        }))
    }
}

fn there<T>(value: Option<T>, column: &str) -> Result<T, StoreError> {
    value.ok_or_else(|| rows::unreadable(column, "NULL"))
}

#[derive(Deserialize)]
pub(super) struct DetailRow<'r> {
    #[serde(borrow)]
    upgrade: Option<UpgradeRow<'r>>,
    pub(super) package: PackageId,
    task_state: &'r str,
    rules: Option<String>,
    hold: Option<String>,
    running_phase: u32,
    phase: u32,
    zone: Option<String>,
    busy_with: Option<UpgradeId>,
    pub(super) slots_taken: u32,
    pub(super) ahead: u32,
    excluded: Option<String>,
}

impl DetailRow<'_> {
    /// The upgrade, and what is beside it.
    pub(super) fn split(mut self) -> Result<(Self, UpgradeRecord), StoreError> {
        let upgrade = there(self.upgrade.take(), "upgrades.id")?.record()?;
        Ok((self, upgrade))
    }

    /// What the planner decides on.
    pub(super) fn candidate(&self, upgrade: &UpgradeRecord) -> Result<Candidate, StoreError> {
        let rules = self.rules.as_deref().map(rows::rules_of).transpose()?;
        let hold = self.hold.as_deref().map(|hold| {
            serde_json::from_str(hold).map_err(|error| rows::unreadable("tasks.hold", error))
        });
        Ok(Candidate {
            upgrade: upgrade.id,
            task_state: rows::task_state(self.task_state)?,
            rules: Arc::new(rules.unwrap_or_default()),
            hold: hold.transpose()?,
            running_phase: self.running_phase,
            phase: self.phase,
            zone: self.zone.as_deref().map(Into::into),
            not_before: upgrade.not_before,
            device_busy_with: self.busy_with,
            excluded: self.excluded.clone(),
            unconfirmed: upgrade.unconfirmed,
            confirmed_for: upgrade.confirmed_for,
            spent: None,
        })
    }
}

#[derive(Deserialize)]
struct OrderRow {
    id: UpgradeId,
    task: TaskId,
    endpoint: String,
    begun: u32,
    package: PackageId,
    step: u8,
    hardware: Option<Box<str>>,
    retry_attempts: u32,
    retry_interval_s: u32,
    retry_reasons: Option<String>,
    kept_awake_s: u32,
    kept_awake_pings: u32,
    begun_at: Option<UtcMillis>,
    tenant: Box<str>,
    site: Option<Box<str>>,
    via: Option<Box<str>>,
    per_gateway: Option<u32>,
}

impl OrderRow {
    fn order(self, attempt: u32) -> Result<UpgradeOrder, StoreError> {
        Ok(UpgradeOrder {
            upgrade: self.id,
            task: self.task,
            endpoint: self.endpoint,
            served: Served {
                package: self.package,
                step: self.step,
            },
            hardware: self.hardware,
            attempt,
            retry: RetryPolicy {
                attempts: self.retry_attempts,
                interval_s: self.retry_interval_s,
                reasons: rows::retry_reasons(self.retry_reasons)?,
            },
            kept_awake: Standby {
                time_s: self.kept_awake_s,
                pings: self.kept_awake_pings,
            },
            begun_at: self.begun_at,
            back: None,
            further: Further::of(
                self.site.map(|site| Lane::site(&self.tenant, &site)),
                self.via.map(|via| Lane::gateway(&via)),
            )
            .with_limit(self.per_gateway),
        })
    }
}

#[derive(Deserialize)]
pub(super) struct ActiveRow<'r> {
    order: OrderRow,
    #[serde(borrow)]
    stage: StageRow<'r>,
    bytes_done: Option<u64>,
    bytes_total: u64,
}

impl ActiveRow<'_> {
    pub(super) fn active(self) -> Result<ActiveUpgrade, StoreError> {
        let attempt = self.order.begun;
        Ok(ActiveUpgrade {
            order: self.order.order(attempt)?,
            stage: there(self.stage.stage()?, "upgrades.stage")?,
            progress: progress(self.bytes_done, self.bytes_total),
        })
    }
}

#[derive(Deserialize)]
pub(super) struct DueRow {
    order: OrderRow,
    not_before: UtcMillis,
}

impl DueRow {
    pub(super) fn due(self) -> Result<Due, StoreError> {
        let attempt = self.order.begun.saturating_add(1);
        Ok(Due {
            since: self.not_before,
            order: self.order.order(attempt)?,
            spent: None,
        })
    }
}
