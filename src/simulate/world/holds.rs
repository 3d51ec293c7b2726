//! The operator of a simulation has tasks go on that are held.

use std::time::Duration;

use super::{Occurrence, World};
use crate::{
    ledger::{Cancellation, Outcome, TaskId},
    simulate::{hooks::Hooks, store::Final},
    store::UpgradeState,
    task::{HoldReason, Move},
};

/// So long after it was held a task is resumed.
const RESUMED_AFTER: Duration = Duration::from_hours(1);
/// So long after an attempt to resume it that found no server.
const TRIED_AGAIN_AFTER: Duration = Duration::from_mins(1);

impl<H: Hooks> World<H> {
    /// The store has moved tasks on.
    pub(super) fn moved(&mut self, moves: &[Move]) -> Result<(), String> {
        let mut cancels = false;
        for step in moves {
            self.checker.moved(self.now_ms, step);
            match step {
                Move::Hold(task, hold) => {
                    self.halted(*task, &hold.why, false);
                    self.resume_after(*task, RESUMED_AFTER);
                }
                Move::Stop(task, why) => {
                    cancels = true;
                    self.halted(*task, why, true);
                }
                Move::Expire(_) => cancels = true,
                Move::Begin(_) | Move::NextPhase { .. } => {}
            }
        }
        if cancels {
            for end in self.store.finals()? {
                if let Some(outcome) = cancellation(&end) {
                    (self.checker).cancelled(self.now_ms, end.upgrade, &outcome);
                }
            }
        }
        Ok(())
    }

    fn halted(&mut self, task: TaskId, why: &HoldReason, stopped: bool) {
        let at_ms = self.now_ms.saturating_sub(self.start_ms);
        self.halts.add(at_ms, task, why, stopped);
        let line = format!("task {} {}", task.0, why.code());
        self.trace.note(self.now_ms, &line);
    }

    fn resume_after(&mut self, task: TaskId, pause: Duration) {
        let at = self.now_ms + super::millis(pause);
        let task = u32::try_from(task.0).unwrap_or(u32::MAX);
        self.queue.push(at, Occurrence::Resume(task));
    }

    /// The operator has a task go on: after a phase, with the next one.
    pub(super) fn resume(&mut self, task: u32) -> Result<(), String> {
        let (task, now) = (TaskId(task.into()), self.now().utc);
        if self.server.is_none() {
            self.resume_after(task, TRIED_AGAIN_AFTER);
            return Ok(());
        }
        let heads = self.store.task_heads(now)?;
        let head = heads.into_iter().find(|head| head.task == task);
        let phases = match head.and_then(|head| head.hold).map(|hold| hold.why) {
            Some(HoldReason::PhaseDone { .. } | HoldReason::PhaseFailed { .. }) => 1,
            _ => 0,
        };
        if self.store.resume(task, now)? {
            self.checker.resumed(task, phases);
        }
        self.signal()
    }
}

/// How an upgrade was cancelled, if it was.
fn cancellation(end: &Final) -> Option<Outcome> {
    let why = match (end.state, end.reason.as_deref()?) {
        (UpgradeState::Cancelled, "expired") => Cancellation::Expired,
        (UpgradeState::Cancelled, "task_stopped") => Cancellation::TaskStopped,
        _ => return None,
    };
    Some(Outcome::Cancelled(why))
}
