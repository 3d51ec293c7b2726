//! What the pages take of a task.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{
    super::{
        chart::{self, Svg},
        viewer::Viewer,
    },
    rules::{Phase, Rules},
};

/// A task, as the API answers it.
#[derive(Debug, Deserialize)]
pub(super) struct Task {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) tenant: Option<String>,
    pub(super) product: String,
    pub(super) version: String,
    pub(super) packages: Vec<TaskPackage>,
    pub(super) stand: Stand,
    /// The one that runs, from 1.
    pub(super) phase: usize,
    pub(super) phases: Vec<PhaseStand>,
    pub(super) approval: Option<Approval>,
    pub(super) over_budget: u64,
    pub(super) traffic: Traffic,
    pub(super) start_at: String,
    pub(super) created_at: String,
    pub(super) created_by: String,
    pub(super) changed_by: Vec<String>,
    pub(super) stopped_at: Option<String>,
    pub(super) ended_at: Option<String>,
    pub(super) total: u64,
    pub(super) excluded: u64,
    pub(super) left_out: u64,
    pub(super) targets: Option<Targets>,
    pub(super) exclude: Option<Excluded>,
    pub(super) skipped: BTreeMap<String, u64>,
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) counts: BTreeMap<String, u64>,
    #[serde(flatten)]
    pub(super) rules: Rules,
}

/// What it waits for.
#[derive(Debug, Deserialize)]
pub(super) struct Stand {
    pub(super) code: String,
    pub(super) text: String,
}

/// A package of it, and for whom that is.
#[derive(Debug, Deserialize)]
pub(super) struct TaskPackage {
    pub(super) package_id: i64,
    pub(super) from: Option<Fitting>,
}

/// For whom a package is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fitting {
    pub(super) versions: Option<Vec<String>>,
    pub(super) version_from: Option<String>,
    pub(super) version_below: Option<String>,
    pub(super) hardware: Option<Vec<String>>,
}

/// A phase, and what came of it.
#[derive(Debug, Deserialize)]
pub(super) struct PhaseStand {
    pub(super) phase: usize,
    pub(super) state: String,
    pub(super) total: u64,
    pub(super) waiting: u64,
    pub(super) running: u64,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) soaking: u64,
    pub(super) unhealthy: u64,
    pub(super) passed: Option<bool>,
    #[serde(flatten)]
    pub(super) rule: Phase,
}

impl PhaseStand {
    /// How far it is.
    pub(super) fn bar(&self) -> Svg {
        chart::bar(&[
            ("good", self.succeeded),
            ("bad", self.failed),
            ("busy", self.running),
            ("rest", self.waiting),
        ])
    }
}

/// Who answered for it.
#[derive(Debug, Deserialize)]
pub(super) struct Approval {
    pub(super) approved: bool,
    pub(super) by: String,
    pub(super) caller: Option<String>,
    pub(super) note: Option<String>,
    pub(super) at: String,
}

/// What it has cost on the air.
#[derive(Debug, Deserialize)]
pub(in crate::console) struct Traffic {
    pub(in crate::console) bytes_down: u64,
    pub(in crate::console) bytes_up: u64,
    pub(in crate::console) repeats_down: u64,
    pub(in crate::console) repeats_up: u64,
    active_seconds: f64,
    airtime_estimated_seconds: f64,
}

impl Traffic {
    /// Seconds in which devices were active.
    pub(in crate::console) fn active(&self) -> u64 {
        whole(self.active_seconds)
    }

    /// Seconds of airtime, as they are estimated.
    pub(in crate::console) fn airtime(&self) -> u64 {
        whole(self.airtime_estimated_seconds)
    }
}

fn whole(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds).map_or(0, |span| span.as_secs())
}

/// Whom it is for.
#[derive(Debug, Deserialize)]
pub(super) struct Targets {
    pub(super) filter: Option<String>,
    pub(super) group: Option<i64>,
}

/// Whom it leaves out.
#[derive(Debug, Deserialize)]
pub(super) struct Excluded {
    pub(super) devices: u64,
    pub(super) filter: Option<String>,
    pub(super) group: Option<i64>,
}

impl Task {
    pub(super) fn count(&self, state: &str) -> u64 {
        self.counts.get(state).copied().unwrap_or_default()
    }

    /// Upgrades that have not begun, or wait for their next attempt.
    pub(super) fn waiting(&self) -> u64 {
        self.count("pending")
    }

    /// Upgrades that have a final outcome.
    pub(super) fn ended(&self) -> u64 {
        ["succeeded", "failed", "cancelled"]
            .map(|state| self.count(state))
            .iter()
            .sum()
    }

    /// Upgrades that have begun and not ended.
    pub(super) fn running(&self) -> u64 {
        let others = self.ended() + self.waiting();
        self.total.saturating_sub(others)
    }

    /// Nothing of it begins or runs any more.
    pub(super) fn has_ended(&self) -> bool {
        matches!(&*self.state, "finished" | "stopped")
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(&*self.state, "paused")
    }

    pub(super) fn waits_for_approval(&self) -> bool {
        self.state == "awaiting_approval"
    }

    /// Whether the viewer has created or changed it: the API lets nobody answer for that.
    pub(super) fn is_of(&self, viewer: &Viewer) -> bool {
        let caller = viewer.caller();
        !caller.may_answer_for(&self.created_by, &self.changed_by, true)
    }

    /// How far it is.
    pub(super) fn bar(&self) -> Svg {
        chart::bar(&[
            ("good", self.count("succeeded")),
            ("bad", self.count("failed")),
            ("busy", self.running()),
            ("warn", self.count("cancelled")),
            ("rest", self.waiting()),
        ])
    }

    /// The class of its state's colour.
    pub(super) fn tone(&self) -> &'static str {
        tone(&self.state)
    }
}

/// The class of the colour of a state, of a task or an upgrade.
pub(in crate::console) fn tone(state: &str) -> &'static str {
    match state {
        "succeeded" | "finished" => "good",
        "failed" | "stopped" => "bad",
        "paused" | "awaiting_approval" | "stopping" | "cancelled" => "warn",
        "pending" | "scheduled" => "",
        _ => "busy",
    }
}
