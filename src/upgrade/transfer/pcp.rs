//! The transfer over PCP.
//!
//! ```text
//! slot granted: notify (20) ──▶ downloading ──download reported (22): execute (23)──▶ executing ──▶ outcome
//!                                │       │                                             │
//!                                │       └─refused, failed, or limit: failed           └─24, or version asked (19)
//!                                └─not delivered, or quiet: the slot goes back
//! ```
//!
//! The flow and its limits are those of Huawei IoTDA's Upgrade Guide; what devices do besides is gathered from how deployed
//! firmware behaves.

mod download;
mod execution;

use ::pcp::ResultCode;

use self::{download::Download, execution::Execution};
use super::Next;
use crate::{
    clock::Instant,
    ledger::{Deadline, Evidence, Stage},
    package::Version,
    upgrade::{Action, Credence, Input, Rules},
};

/// What a device says over PCP, and what becomes of what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PcpInput {
    /// 20 was answered; what that is worth if it calls the target its latest.
    NotificationAnswered(ResultCode, Credence),
    /// 20 was repeated as often as allowed and nothing came back.
    NotificationUndelivered,
    /// 21 asked for a segment of the target version.
    SegmentRequested(u16),
    /// 22 reported the download.
    DownloadReported(ResultCode),
    /// 23 was acknowledged by the device's CoAP layer.
    ExecuteDelivered,
    /// 23 was answered.
    ExecuteAnswered(ResultCode),
    /// 24 reported the result; what that is worth if it says that the target runs.
    UpgradeReported(ResultCode, Version, Credence),
}

impl PcpInput {
    /// Whether the device tells by itself that it runs the target, and nothing speaks against it.
    pub fn shows(self, target: Version) -> bool {
        matches!(
            self,
            Self::UpgradeReported(ResultCode::SUCCESS, version, Credence::Sound | Credence::Unproven)
                if version == target
        )
    }
}

/// A transfer over PCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pcp {
    /// See [`Stage::Downloading`].
    Downloading(Download),
    /// See [`Stage::Executing`].
    Executing(Execution),
}

impl Pcp {
    /// The device has a slot: it is notified of the new version.
    pub(super) fn begin(now: Instant, rules: &Rules<'_>) -> (Self, Vec<Action>) {
        let until = now + Deadline::Download.duration(rules.upgrade);
        let download = Download::new(now, until, rules);
        (Self::Downloading(download), vec![Action::Offer])
    }

    /// The download goes on after a restart of the server.
    pub fn resume_download(
        now: Instant,
        until: Instant,
        accepted: bool,
        segment: Option<u16>,
        rules: &Rules<'_>,
    ) -> (Self, Vec<Action>) {
        let download = Download::resumed(now, until, accepted, segment, rules);
        // The notification may not have left before the restart.
        let again = (!accepted).then_some(Action::Offer);
        (Self::Downloading(download), again.into_iter().collect())
    }

    /// The installation goes on after a restart of the server.
    pub fn resume_execution(
        now: Instant,
        until: Instant,
        delivered: bool,
        evidence: Option<&Evidence>,
        rules: &Rules<'_>,
    ) -> Self {
        Self::Executing(Execution::resumed(now, until, delivered, evidence, rules))
    }

    pub(super) fn on(
        self,
        now: Instant,
        event: Input,
        rules: &Rules<'_>,
        may_return: bool,
    ) -> Next<Self> {
        match self {
            Self::Downloading(download) => download.on(now, event, rules, may_return),
            Self::Executing(execution) => execution.on(now, event, rules),
        }
    }

    pub(super) const fn stage(&self) -> Stage {
        match self {
            Self::Downloading(_) => Stage::Downloading,
            Self::Executing(_) => Stage::Executing,
        }
    }

    pub(super) const fn until(&self) -> (Deadline, Instant) {
        match self {
            Self::Downloading(download) => (Deadline::Download, download.until),
            Self::Executing(execution) => (Deadline::Execution, execution.until),
        }
    }

    pub(super) const fn also_due(&self) -> (Deadline, Instant) {
        match self {
            Self::Downloading(download) => (Deadline::Nudge, download.nudge_at),
            Self::Executing(execution) => (Deadline::ResultGrace, execution.ask_at),
        }
    }

    pub(super) const fn is_confirmed(&self) -> bool {
        match self {
            Self::Downloading(download) => download.accepted,
            Self::Executing(execution) => execution.is_delivered(),
        }
    }

    pub(super) const fn is_claimed(&self) -> bool {
        matches!(self, Self::Executing(execution) if execution.claimed)
    }

    pub(super) const fn takes_answers(&self) -> bool {
        match self {
            Self::Downloading(_) => true,
            Self::Executing(execution) => execution.was_asked(),
        }
    }

    pub(super) const fn is_repeating(&self, deadline: Deadline) -> bool {
        match (deadline, self) {
            (Deadline::ResultGrace, Self::Executing(execution)) => execution.is_asked_again(),
            (Deadline::Nudge, Self::Downloading(download)) => download.nudges > 0,
            _ => false,
        }
    }

    pub(super) const fn segment(&self) -> Option<u16> {
        match self {
            Self::Downloading(download) => download.segment,
            Self::Executing(_) => None,
        }
    }
}

#[cfg(test)]
pub(in crate::upgrade) use execution::MAX_COMMANDS;
