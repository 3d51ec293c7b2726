use std::collections::BTreeMap;

use serde::Serialize;

use crate::{ledger::TaskId, task::HoldReason};

/// Times that are told one by one; further ones are counted only.
const TOLD: usize = 100;

/// How often tasks were held or stopped by what became of their devices, and why.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Halts {
    /// Times that a task was held, by reason.
    pub(crate) held: BTreeMap<&'static str, u64>,
    /// Times that a task was stopped, by reason.
    pub(crate) stopped: BTreeMap<&'static str, u64>,
    /// The first 100 of both.
    pub(crate) first: Vec<Halt>,
}

/// A task was held or stopped.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Halt {
    /// When, seconds from the start of the task.
    pub(crate) at_seconds: u64,
    /// The task, from 1: one for each product of the fleet.
    pub(crate) task: i64,
    pub(crate) stopped: bool,
    /// Why.
    #[serde(flatten)]
    why: HoldReason,
}

impl Halts {
    pub(super) fn add(&mut self, at_ms: u64, task: TaskId, why: &HoldReason, stopped: bool) {
        let counts = if stopped {
            &mut self.stopped
        } else {
            &mut self.held
        };
        *counts.entry(why.code()).or_default() += 1;
        if self.first.len() < TOLD {
            self.first.push(Halt {
                at_seconds: at_ms / 1_000,
                task: task.0,
                stopped,
                why: why.clone(),
            });
        }
    }

    /// Times that a task was held or stopped.
    pub(crate) fn total(&self) -> u64 {
        self.held.values().chain(self.stopped.values()).sum()
    }
}

impl Halt {
    /// What had happened. Phases are numbered as in the task file, from 0.
    pub(crate) fn reason(&self) -> String {
        match &self.why {
            HoldReason::Failures {
                failed,
                results,
                threshold,
            } => format!(
                "{failed} of {results} devices had failed, which is too many (abort[{threshold}])"
            ),
            HoldReason::PhaseDone { phase } => {
                format!("phases[{phase}] had come true, and somebody was to have a look")
            }
            HoldReason::PhaseFailed {
                phase,
                succeeded,
                results,
            } => format!(
                "too few devices of phases[{phase}] had succeeded, {succeeded} of {results}"
            ),
            HoldReason::Paused { .. } => "its operator had paused it".to_owned(),
            HoldReason::Approval => "it was not approved".to_owned(),
        }
    }
}
