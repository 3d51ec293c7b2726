use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use super::{
    canary::Pause,
    fleet::Plan,
    lanes::LaneLine,
    watch::{Cell, Seen},
};

/// How the demo ended.
#[derive(Debug)]
pub(super) struct Report {
    devices: usize,
    succeeded: usize,
    failed: usize,
    expected_failures: usize,
    wall: Duration,
    segments_served: u64,
    /// What devices have downloaded over HTTPS, where there are such devices.
    downloaded_bytes: Option<u64>,
    cells: Vec<(Cell, u64)>,
    /// Gateways, where the devices are behind some.
    lanes: Vec<LaneLine>,
    /// Failures by what the operator is told of them.
    reasons: BTreeMap<String, usize>,
    /// The share of the slots' time that was idle while a device was awake that could have had it.
    idle: Option<f64>,
    /// What the first phase came to, where there are phases.
    pause: Option<Pause>,
    /// What is not as it should be.
    surprises: Vec<String>,
}

/// More of the slots' time should not be idle.
const MOST_IDLE: f64 = 0.02;

impl Report {
    #[expect(clippy::too_many_lines, reason = "one figure after the other")]
    pub(super) fn new(
        plan: &Plan,
        ended: Seen,
        (segments_served, downloaded_bytes): (u64, Option<u64>),
        idle: Option<f64>,
        mut pause: Option<Pause>,
    ) -> Self {
        let mut reasons = BTreeMap::new();
        let mut surprises = Vec::new();
        let mut succeeded = 0;
        for upgrade in &ended.upgrades {
            let success = upgrade.state == "succeeded";
            if success {
                succeeded += 1;
            } else {
                // its first sentence: the others tell of this device alone
                let reason = upgrade.detail.split(". ").next().unwrap_or_default();
                *reasons.entry(reason.to_owned()).or_default() += 1;
            }
            if plan.succeeds.get(&upgrade.endpoint) != Some(&success) {
                surprises.push(format!(
                    "{} {}: {}",
                    upgrade.endpoint, upgrade.state, upgrade.detail
                ));
            }
        }
        let missing = plan.succeeds.len() - ended.upgrades.len().min(plan.succeeds.len());
        if missing > 0 {
            surprises.push(format!("{missing} devices have no upgrade"));
        }
        let cells: Vec<(Cell, u64)> = ended
            .cells
            .into_iter()
            .map(|cell| {
                let devices = plan.cells.get(&cell.id).copied().unwrap_or(0);
                (cell, devices)
            })
            .collect();
        for (cell, _) in &cells {
            if cell.concurrent_peak > cell.limit_max {
                surprises.push(format!(
                    "cell {}: {} at once, {} allowed",
                    cell.id, cell.concurrent_peak, cell.limit_max
                ));
            }
        }
        if let Some(idle) = idle.filter(|idle| *idle > MOST_IDLE) {
            surprises.push(format!(
                "{:.1} % of the slots' time was idle while a device was awake that could have had it",
                idle * 100.0
            ));
        }
        if let Some(pause) = &mut pause {
            surprises.append(&mut pause.surprises);
        }
        Self {
            idle,
            pause,
            devices: plan.succeeds.len(),
            succeeded,
            failed: ended.upgrades.len() - succeeded,
            expected_failures: plan.expected_failures(),
            wall: ended.wall,
            segments_served,
            downloaded_bytes,
            cells,
            lanes: Vec::new(),
            reasons,
            surprises,
        }
    }

    /// With what there is to say of gateways, and what of them is not as it should be.
    pub(super) fn with_lanes(mut self, lanes: Vec<LaneLine>, surprises: Vec<String>) -> Self {
        self.lanes = lanes;
        self.surprises.extend(surprises);
        self
    }

    pub(super) fn is_as_expected(&self) -> bool {
        self.surprises.is_empty()
    }

    /// Says on standard error what is not as it should be.
    pub(super) fn complain(&self) {
        for surprise in &self.surprises {
            crate::cli::output::remark(surprise);
        }
    }

    /// The report as one JSON object.
    pub(super) fn to_json(&self) -> serde_json::Result<String> {
        let cells = self.cells.iter().map(|(cell, devices)| CellLine {
            cell_id: cell.id,
            limit_max: cell.limit_max,
            concurrent_peak: cell.concurrent_peak,
            devices: *devices,
        });
        serde_json::to_string(&Line {
            devices: self.devices,
            succeeded: self.succeeded,
            failed: self.failed,
            expected_failures: self.expected_failures,
            wall_seconds: self.wall.as_secs_f64(),
            segments_served: self.segments_served,
            downloaded_bytes: self.downloaded_bytes,
            idle_slot_share: self.idle,
            pause: self.pause.as_ref(),
            cells: cells.collect(),
            lanes: &self.lanes,
        })
    }
}

#[derive(Serialize)]
struct Line<'r> {
    devices: usize,
    succeeded: usize,
    failed: usize,
    expected_failures: usize,
    wall_seconds: f64,
    segments_served: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    downloaded_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_slot_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause: Option<&'r Pause>,
    cells: Vec<CellLine>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    lanes: &'r [LaneLine],
}

#[derive(Serialize)]
struct CellLine {
    cell_id: u32,
    limit_max: u64,
    concurrent_peak: u64,
    devices: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.cells.is_empty() {
            writeln!(f, "cell  devices  most at once  limit")?;
        }
        for (cell, devices) in &self.cells {
            writeln!(
                f,
                "{:<4}  {devices:>7}  {:>12}  {:>5}",
                cell.id, cell.concurrent_peak, cell.limit_max
            )?;
        }
        if !self.lanes.is_empty() {
            writeln!(f, "gateway            devices  most at once  limit")?;
        }
        for lane in &self.lanes {
            writeln!(f, "{lane}")?;
        }
        writeln!(
            f,
            "\n{} devices: {} upgraded, {} failed ({} were made to), {} segments in {:.1} s",
            self.devices,
            self.succeeded,
            self.failed,
            self.expected_failures,
            self.segments_served,
            self.wall.as_secs_f64()
        )?;
        if let Some(bytes) = self.downloaded_bytes {
            writeln!(f, "{} KiB were downloaded over HTTPS", bytes / 1_024)?;
        }
        if let Some(idle) = self.idle {
            writeln!(
                f,
                "{:.2} % of the slots' time was idle while a device was awake that could have had it",
                idle * 100.0
            )?;
        }
        if let Some(pause) = &self.pause {
            writeln!(f, "{}", pause.told())?;
        }
        for (reason, count) in &self.reasons {
            writeln!(f, "  {count} × {reason}")?;
        }
        match self.surprises.len() {
            0 => write!(f, "Every device ended as it should."),
            count => write!(f, "{count} things are not as they should be."),
        }
    }
}
