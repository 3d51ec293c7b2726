//! The negotiation of one upgrade ("software over the air"), from the first sign of life to the
//! outcome.
//!
//! ```text
//! waiting for device ──heard──▶ querying version ──other version──▶ querying coverage
//!        │                          │ same version: succeeded            │ no cell told, or no answer
//!        ▼ limit: failed            ▼ limit: failed                      ▼
//!                                                    querying cell ──no cell, or limit──▶ failed
//!                                                          │ cell known (or told with the coverage)
//!                                                          ▼
//!          ┌──measured anew──────────────────────── waiting for slot ──limit──▶ failed
//!          ▼                                               │ granted: notify (20)
//!   querying coverage (place kept)                         ▼
//!                    ┌─not delivered, or quiet─── downloading ──refused, failed, or limit──▶ failed
//!                    ▼                                     │ download reported (22): execute (23)
//!                        waiting for slot                  ▼
//!                                                      executing ──24, or version asked──▶ outcome
//! ```
//!
//! The flow and its limits are those of Huawei IoTDA's Upgrade Guide; what devices do besides is
//! gathered from how deployed firmware behaves. What a device says of its version is a claim: each comes with what it is
//! worth by what the device did ([`Credence`](super::Credence)). The state is consumed by an event and yields the
//! next one: combinations that cannot occur cannot be written down.

mod querying;
mod resume;
mod upgrading;

pub use resume::Stored;

use std::time::Duration;

use pcp::ResultCode;

use super::{
    Cancellation, Coverage, Credence, Deadline, Failure, Outcome, ReportedFailure, Stage,
    StopReason, Success,
};
use crate::{
    clock::Instant,
    config::{AdmissionConfig, UpgradeConfig},
    package::Version,
};

/// The settings an upgrade follows, and the version it leads to.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The version that the package holds.
    pub target: Version,
    /// Stage limits.
    pub upgrade: &'a UpgradeConfig,
    /// Coverage classes.
    pub admission: &'a AdmissionConfig,
}

/// What happens to an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The device registered: whatever it was asked before is forgotten.
    Registered {
        /// Nothing but a restart of the device explains it.
        restarted: bool,
    },
    /// The device has restarted, by another sign than a registration.
    Restarted,
    /// The device was heard otherwise: a registration update, service data, an answer to a ping.
    Heard,
    /// 19 was answered; what that is worth if it names the target.
    VersionAnswered(ResultCode, Option<Version>, Credence),
    /// Object 4 was read; `None` when the device does not tell anything of it.
    CoverageAnswered(Option<Coverage>),
    /// The cell was read; `None` when the device does not tell it.
    CellAnswered(Option<u32>),
    /// The admission says that the coverage is too old to admit by.
    MeasureAnew,
    /// The admission gave a slot.
    SlotGranted,
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
    /// The device does not have what carries PCP (object 19).
    NotSupported,
    /// A deadline of the state is reached.
    Reached(Deadline),
    /// The operator stopped the task, cancelled the upgrade, or removed the device.
    Stopped(StopReason),
}

/// What to do, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send 19.
    AskVersion,
    /// Read object 4.
    ReadCoverage,
    /// Read the cell alone.
    ReadCell,
    /// Send 20.
    Notify,
    /// Send 23.
    Execute,
}

/// A place in a cell's queue, kept while the coverage is measured anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The cell.
    pub cell: u32,
    /// How many may upgrade in the cell at once for this device to be one of them.
    pub limit: u32,
    /// When the device began to wait.
    pub since: Instant,
    /// When the limit of the wait runs out.
    pub until: Instant,
    /// Slots that were given back because the device had fallen asleep, or its download had gone quiet.
    pub slots_returned: u8,
}

/// Where one upgrade stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sota {
    /// See [`Stage::WaitingForDevice`].
    WaitingForDevice {
        /// Limit.
        until: Instant,
    },
    /// See [`Stage::QueryingVersion`].
    QueryingVersion {
        /// Limit.
        until: Instant,
        /// Asked again then.
        repeat_at: Instant,
    },
    /// See [`Stage::QueryingCoverage`].
    QueryingCoverage {
        /// Limit.
        until: Instant,
        /// The place to return to, when the coverage is measured anew.
        place: Option<Place>,
    },
    /// See [`Stage::QueryingCell`].
    QueryingCell {
        /// Limit.
        until: Instant,
        /// What is known besides the cell.
        coverage: Coverage,
        /// The place to return to, when the coverage is measured anew.
        place: Option<Place>,
    },
    /// See [`Stage::WaitingForSlot`].
    WaitingForSlot {
        /// The place in the queue.
        place: Place,
    },
    /// See [`Stage::Downloading`].
    Downloading {
        /// Limit.
        until: Instant,
        /// The place that was left for the slot.
        place: Place,
        /// The device has accepted the version, in words or by asking for a segment.
        accepted: bool,
        /// The segment asked for last.
        segment: Option<u16>,
        /// When it is nudged, unless it asks for something before.
        nudge_at: Instant,
        /// How long it may be quiet: longer after each nudge that brought no progress.
        pause: Duration,
        /// Nudges since it asked for a segment.
        nudges: u8,
        /// It calls the version its own, and was asked for its version once more.
        doubted: bool,
    },
    /// See [`Stage::Executing`].
    Executing {
        /// Limit.
        until: Instant,
        /// The place that was left for the slot.
        place: Place,
        /// What is known of the command.
        command: Command,
        /// When the device is asked for its version.
        ask_at: Instant,
        /// Whether it was asked in this stage: older answers do not count.
        asked: Asked,
        /// It has restarted since the command.
        restarted: bool,
        /// It was asked since the command, and what it answered may be from before its restart: the old version, or the
        /// target where that is unproven. It is asked once more.
        doubted: bool,
        /// It said that it runs the target, which is unproven.
        claimed: bool,
        /// It reported success in the name of another version, as some do before they restart.
        reported_early: bool,
        /// It reported this failure in the name of the target, and has not restarted since.
        failed: Option<ReportedFailure>,
    },
    /// The attempt has ended.
    Ended(Outcome),
}

/// Slots that an upgrade may give back: for a device that fell asleep before the notification, which keeps the next one
/// to the end of its limit, and for one whose download goes quiet, which fails with the next one.
const MAX_SLOTS_RETURNED: u8 = 3;
/// Commands sent to a device that shows no sign of having received one.
const MAX_COMMANDS: u8 = 3;
/// A nudge that stays without effect doubles the pause, up to this many times the first one.
const MAX_PAUSE_FACTOR: u32 = 8;

type Step = (Sota, Vec<Action>);

/// Whether a device was asked for its version since it was told to upgrade, and restarted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It was not, or it has restarted since.
    No,
    /// Before the server was restarted, it may be; the device had restarted then. That it runs the target counts, that it
    /// runs another version may be of before its restart.
    Perhaps,
    /// It was.
    Yes,
}

/// What is known of a command to upgrade (PCP 23).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// How often it was sent.
    sent: u8,
    /// When it was sent last; `None` when the device showed that it has no effect any more.
    sent_at: Option<Instant>,
    /// The device has it.
    delivered: bool,
    /// The device has said that it upgrades.
    accepted: bool,
}

impl Command {
    const fn first(now: Instant) -> Self {
        Self {
            sent: 1,
            sent_at: Some(now),
            delivered: false,
            accepted: false,
        }
    }

    /// Whether it may be sent again: the device shows no sign of having it, and had time to.
    fn may_repeat(&self, now: Instant, rules: &Rules<'_>) -> bool {
        let pause = Deadline::RepeatQuestion.duration(rules.upgrade);
        !self.delivered
            && self.sent < MAX_COMMANDS
            && self.sent_at.is_none_or(|at| now.since(at) >= pause)
    }

    /// The device shows that it has it.
    const fn confirm(&mut self) {
        self.delivered = true;
        self.accepted = true;
    }

    /// The device shows that it has it no longer.
    const fn lose(&mut self) {
        self.delivered = false;
        self.accepted = false;
        self.sent_at = None;
    }

    const fn again(&self, now: Instant) -> Self {
        Self {
            sent: self.sent + 1, // at most MAX_COMMANDS
            ..Self::first(now)
        }
    }
}

impl Sota {
    /// An upgrade that begins now.
    pub fn begin(now: Instant, rules: &Rules<'_>) -> Self {
        Self::WaitingForDevice {
            until: now + Deadline::DeviceHeard.duration(rules.upgrade),
        }
    }

    /// The next state, and what to do. Events that mean nothing in a state leave it as it is.
    #[must_use]
    pub fn on(self, now: Instant, event: Event, rules: &Rules<'_>) -> Step {
        if let (false, Event::Stopped(reason)) = (self.has_ended(), event) {
            return ended(match reason {
                StopReason::TaskStopped => Outcome::Cancelled(Cancellation::TaskStopped),
                StopReason::Cancelled => Outcome::Cancelled(Cancellation::Upgrade),
                StopReason::DeviceRemoved => Outcome::Failed(Failure::DeviceRemoved),
            });
        }
        // Whatever the stage: a device that says it runs the target version is done, if nothing speaks against it.
        match event {
            _ if self.has_ended() => return stay(self),
            Event::NotSupported => return failed(Failure::NotSupported),
            Event::UpgradeReported(
                ResultCode::SUCCESS,
                version,
                Credence::Sound | Credence::Unproven,
            ) if version == rules.target => {
                return ended(Outcome::Succeeded(Success::Upgraded));
            }
            // What was asked before a restart may have been answered before it.
            Event::VersionAnswered(_, Some(version), Credence::Sound)
                if version == rules.target
                    && !matches!(
                        self,
                        Self::Executing {
                            asked: Asked::No,
                            ..
                        }
                    ) =>
            {
                return ended(Outcome::Succeeded(match self.stage() {
                    Some(Stage::Executing) => Success::Upgraded,
                    _ => Success::AlreadyCurrent,
                }));
            }
            _ => {}
        }
        match self {
            Self::WaitingForDevice { until } => {
                querying::on_waiting_for_device(until, now, event, rules)
            }
            Self::QueryingVersion { .. } => self.on_querying_version(now, event, rules),
            Self::QueryingCoverage { .. } => self.on_querying_coverage(now, event, rules),
            Self::QueryingCell { .. } => self.on_querying_cell(now, event, rules),
            Self::WaitingForSlot { place } => {
                querying::on_waiting_for_slot(place, now, event, rules)
            }
            Self::Downloading { .. } => self.on_downloading(now, event, rules),
            Self::Executing { .. } => self.on_executing(now, event, rules),
            Self::Ended(_) => stay(self),
        }
    }
}

fn stay(state: Sota) -> Step {
    (state, Vec::new())
}

fn ended(outcome: Outcome) -> Step {
    stay(Sota::Ended(outcome))
}

fn failed(failure: Failure) -> Step {
    ended(Outcome::Failed(failure))
}

impl Sota {
    /// The stage, `None` once the attempt has ended.
    pub const fn stage(&self) -> Option<Stage> {
        Some(match self {
            Self::WaitingForDevice { .. } => Stage::WaitingForDevice,
            Self::QueryingVersion { .. } => Stage::QueryingVersion,
            Self::QueryingCoverage { .. } => Stage::QueryingCoverage,
            Self::QueryingCell { .. } => Stage::QueryingCell,
            Self::WaitingForSlot { .. } => Stage::WaitingForSlot,
            Self::Downloading { .. } => Stage::Downloading,
            Self::Executing { .. } => Stage::Executing,
            Self::Ended(_) => return None,
        })
    }

    /// Whether the attempt has ended.
    pub const fn has_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }

    /// The place in a cell's queue, or the one that was left for a slot.
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::WaitingForSlot { place }
            | Self::Downloading { place, .. }
            | Self::Executing { place, .. } => Some(place),
            Self::QueryingCoverage { place, .. } | Self::QueryingCell { place, .. } => {
                place.as_ref()
            }
            _ => None,
        }
    }

    /// The limit of the stage.
    pub const fn until(&self) -> Option<(Deadline, Instant)> {
        Some(match self {
            Self::WaitingForDevice { until } => (Deadline::DeviceHeard, *until),
            Self::QueryingVersion { until, .. } => (Deadline::Version, *until),
            Self::QueryingCoverage { until, .. } => (Deadline::Coverage, *until),
            Self::QueryingCell { until, .. } => (Deadline::Cell, *until),
            Self::WaitingForSlot { place } => (Deadline::Slot, place.until),
            Self::Downloading { until, .. } => (Deadline::Download, *until),
            Self::Executing { until, .. } => (Deadline::Execution, *until),
            Self::Ended(_) => return None,
        })
    }

    /// The deadline that is reached next. The limit of the stage comes first when both are due.
    pub fn next_deadline(&self) -> Option<(Deadline, Instant)> {
        let limit = self.until()?;
        let other = match self {
            Self::QueryingVersion { repeat_at, .. } => (Deadline::RepeatQuestion, *repeat_at),
            Self::Downloading { nudge_at, .. } => (Deadline::Nudge, *nudge_at),
            Self::Executing { ask_at, .. } => (Deadline::ResultGrace, *ask_at),
            _ => return Some(limit),
        };
        Some(if other.1 < limit.1 { other } else { limit })
    }

    /// Whether the device has shown that it goes along: it accepted the version, or has the command.
    pub const fn is_confirmed(&self) -> bool {
        match self {
            Self::Downloading { accepted, .. } => *accepted,
            Self::Executing { command, .. } => command.delivered,
            _ => false,
        }
    }

    /// Whether the device says that it runs the target, and has given no other sign of it.
    pub const fn is_claimed(&self) -> bool {
        matches!(self, Self::Executing { claimed: true, .. })
    }

    /// The segment that was asked for last.
    pub const fn segment(&self) -> Option<u16> {
        match self {
            Self::Downloading { segment, .. } => *segment,
            _ => None,
        }
    }

    /// Whether the question of the deadline that was just reached was put before in vain: what carries
    /// the answer may be missing.
    pub const fn is_repeating(&self, deadline: Deadline) -> bool {
        match (deadline, self) {
            (Deadline::RepeatQuestion, _) => true,
            (Deadline::ResultGrace, Self::Executing { asked, .. }) => matches!(asked, Asked::Yes),
            (Deadline::Nudge, Self::Downloading { nudges, .. }) => *nudges > 0,
            _ => false,
        }
    }

    /// Whether segments are served: the device holds a slot and may ask again for what it had.
    pub const fn serves_segments(&self) -> bool {
        matches!(self, Self::Downloading { .. } | Self::Executing { .. })
    }
}

#[cfg(test)]
mod tests;
