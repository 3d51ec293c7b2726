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
//!                              ┌─not delivered──── downloading ──refused, failed, or limit──▶ failed
//!                              ▼                           │ download reported (22): execute (23)
//!                        waiting for slot                  ▼
//!                                                      executing ──24, or version asked──▶ outcome
//! ```
//!
//! The flow and its limits are those of Huawei IoTDA's Upgrade Guide; what devices do besides is
//! gathered from how deployed firmware behaves. The state is consumed by an event and yields the
//! next one: combinations that cannot occur cannot be written down.

use std::time::Duration;

use pcp::{ResultCode, Version};

use super::{Coverage, Deadline, Failure, Outcome, Stage, Success};
use crate::{
    clock::{Instant, Now, UtcMillis},
    config::{AdmissionConfig, UpgradeConfig},
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
    Registered,
    /// The device was heard otherwise: a registration update, service data, an answer to a ping.
    Heard,
    /// 19 was answered.
    VersionAnswered(ResultCode, Option<Version>),
    /// Object 4 was read; `None` when the device does not tell anything of it.
    CoverageAnswered(Option<Coverage>),
    /// The cell was read; `None` when the device does not tell it.
    CellAnswered(Option<u32>),
    /// The admission says that the coverage is too old to admit by.
    MeasureAnew,
    /// The admission gave a slot.
    SlotGranted,
    /// 20 was answered.
    NotificationAnswered(ResultCode),
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
    /// 24 reported the result.
    UpgradeReported(ResultCode, Version),
    /// A deadline of the state is reached.
    Reached(Deadline),
    /// The operator stopped the task, or the device was removed.
    Stopped(StopReason),
}

/// Why an upgrade is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The operator stopped the task.
    TaskStopped,
    /// The device was removed from the inventory.
    DeviceRemoved,
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
    /// Slots that were given back because the device had fallen asleep.
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
        /// When the device asked for something or was nudged last.
        active_at: Instant,
        /// Pause before the next nudge.
        pause: Duration,
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
        asked: bool,
        /// It registered since the command, so that it has restarted.
        restarted: bool,
        /// It was asked since the command and runs the old version.
        still_old: bool,
    },
    /// The attempt has ended.
    Ended(Outcome),
}

/// Slots that an upgrade may give back for a device that fell asleep before it keeps one to the end
/// of its limit.
const MAX_SLOTS_RETURNED: u8 = 3;
/// Commands sent to a device that shows no sign of having received one.
const MAX_COMMANDS: u8 = 3;
/// A nudge that stays without effect doubles the pause, up to this many times the first one.
const MAX_PAUSE_FACTOR: u32 = 8;

type Step = (Sota, Vec<Action>);

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

    const fn again(&self, now: Instant) -> Self {
        Self {
            sent: self.sent + 1, // at most MAX_COMMANDS
            ..Self::first(now)
        }
    }
}

/// What is stored of an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The stage.
    pub stage: Stage,
    /// When its limit runs out.
    pub deadline_at: UtcMillis,
    /// When the device began to wait for a slot.
    pub queued_at: Option<UtcMillis>,
    /// When the limit of that wait runs out.
    pub slot_deadline_at: Option<UtcMillis>,
    /// The cell that it waits for or holds a slot of.
    pub cell: Option<u32>,
    /// Its limit in that cell.
    pub cell_limit: u32,
    /// The version was accepted (downloading), the command received (executing).
    pub confirmed: bool,
    /// The segment asked for last.
    pub segment: Option<u16>,
    /// What the device told of its coverage last.
    pub coverage: Coverage,
}

impl Sota {
    /// An upgrade that begins now.
    pub fn begin(now: Instant, rules: &Rules<'_>) -> Self {
        Self::WaitingForDevice {
            until: now + Deadline::DeviceHeard.duration(rules.upgrade),
        }
    }

    /// An upgrade that goes on after a restart: in its stage, under what is left of its limit. `stored` is
    /// what the store held of it, `now` reads both clocks at the same moment.
    pub fn resume(now: Now, stored: &Stored, rules: &Rules<'_>) -> Step {
        let until = now.instant_at(stored.deadline_at);
        let soon = now.instant + Deadline::ResultGrace.duration(rules.upgrade);
        let place = stored.cell.map(|cell| Place {
            cell,
            limit: stored.cell_limit,
            since: stored
                .queued_at
                .map_or(now.instant, |at| now.instant_at(at)),
            until: stored
                .slot_deadline_at
                .map_or(until, |at| now.instant_at(at)),
            slots_returned: 0,
        });
        match (stored.stage, place) {
            (Stage::QueryingVersion, _) => (
                Self::QueryingVersion {
                    until,
                    repeat_at: now.instant + Deadline::RepeatQuestion.duration(rules.upgrade),
                },
                vec![Action::AskVersion],
            ),
            (Stage::QueryingCoverage, place) => (
                Self::QueryingCoverage { until, place },
                vec![Action::ReadCoverage],
            ),
            (Stage::QueryingCell, place) => {
                let state = Self::QueryingCell {
                    until,
                    // told before the cell was asked for alone
                    coverage: match stored.coverage.cell {
                        None => stored.coverage,
                        Some(_) => Coverage::default(),
                    },
                    place,
                };
                (state, vec![Action::ReadCell])
            }
            (Stage::WaitingForSlot, Some(place)) => stay(Self::WaitingForSlot { place }),
            (Stage::Downloading, Some(place)) => {
                let state = Self::Downloading {
                    until,
                    place,
                    accepted: stored.confirmed,
                    segment: stored.segment,
                    active_at: now.instant,
                    pause: Deadline::Nudge.duration(rules.upgrade),
                    doubted: false,
                };
                // The notification may not have left before the restart.
                let again = (!stored.confirmed).then_some(Action::Notify);
                (state, again.into_iter().collect())
            }
            (Stage::Executing, Some(place)) => stay(Self::Executing {
                until,
                place,
                command: Command {
                    sent: 1,
                    sent_at: None,
                    delivered: stored.confirmed,
                    accepted: false,
                },
                // The command may not have left, or the result may have been missed.
                ask_at: soon,
                asked: false,
                restarted: false,
                still_old: false,
            }),
            // A slot without a cell was never stored; beginning anew is what is left.
            (Stage::WaitingForDevice, _) | (_, None) => stay(Self::WaitingForDevice { until }),
        }
    }

    /// The next state, and what to do. Events that mean nothing in a state leave it as it is.
    #[must_use]
    pub fn on(self, now: Instant, event: Event, rules: &Rules<'_>) -> Step {
        if let (false, Event::Stopped(reason)) = (self.has_ended(), event) {
            return ended(match reason {
                StopReason::TaskStopped => Outcome::Cancelled,
                StopReason::DeviceRemoved => Outcome::Failed(Failure::DeviceRemoved),
            });
        }
        // Whatever the stage: a device that says it runs the target version is done.
        match event {
            _ if self.has_ended() => return stay(self),
            Event::UpgradeReported(ResultCode::SUCCESS, version) if version == rules.target => {
                return ended(Outcome::Succeeded(Success::Upgraded));
            }
            Event::VersionAnswered(_, Some(version)) if version == rules.target => {
                return ended(Outcome::Succeeded(match self.stage() {
                    Some(Stage::Executing) => Success::Upgraded,
                    _ => Success::AlreadyCurrent,
                }));
            }
            _ => {}
        }
        match self {
            Self::WaitingForDevice { until } => on_waiting_for_device(until, now, event, rules),
            Self::QueryingVersion { .. } => self.on_querying_version(now, event, rules),
            Self::QueryingCoverage { .. } => self.on_querying_coverage(now, event, rules),
            Self::QueryingCell { .. } => self.on_querying_cell(now, event, rules),
            Self::WaitingForSlot { place } => on_waiting_for_slot(place, now, event, rules),
            Self::Downloading { .. } => self.on_downloading(now, event, rules),
            Self::Executing { .. } => self.on_executing(now, event, rules),
            Self::Ended(_) => stay(self),
        }
    }

    fn on_querying_version(self, now: Instant, event: Event, rules: &Rules<'_>) -> Step {
        let Self::QueryingVersion { until, .. } = self else {
            return stay(self);
        };
        let ask_again = || {
            let repeat_at = now + Deadline::RepeatQuestion.duration(rules.upgrade);
            (
                Self::QueryingVersion { until, repeat_at },
                vec![Action::AskVersion],
            )
        };
        match event {
            Event::VersionAnswered(code, _) if !code.is_success() => {
                failed(Failure::VersionQueryRefused(code))
            }
            Event::VersionAnswered(..) => query_coverage(now, None, rules),
            Event::Registered | Event::Reached(Deadline::RepeatQuestion) => ask_again(),
            Event::Reached(Deadline::Version) => failed(Failure::VersionQueryTimedOut),
            _ => stay(self),
        }
    }

    fn on_querying_coverage(self, now: Instant, event: Event, rules: &Rules<'_>) -> Step {
        let Self::QueryingCoverage { place, .. } = self else {
            return stay(self);
        };
        match event {
            Event::CoverageAnswered(Some(coverage)) if coverage.cell.is_some() => {
                queue(now, coverage, place, rules)
            }
            Event::CoverageAnswered(coverage) => {
                query_cell(now, coverage.unwrap_or_default(), place, rules)
            }
            Event::Registered => (self, vec![Action::ReadCoverage]),
            Event::Reached(Deadline::Coverage) => match place {
                Some(place) => stay(Self::WaitingForSlot { place }),
                None => query_cell(now, Coverage::default(), None, rules),
            },
            _ => stay(self),
        }
    }

    fn on_querying_cell(self, now: Instant, event: Event, rules: &Rules<'_>) -> Step {
        let Self::QueryingCell {
            coverage, place, ..
        } = self
        else {
            return stay(self);
        };
        match event {
            Event::CellAnswered(Some(cell)) => {
                let coverage = Coverage {
                    cell: Some(cell),
                    ..coverage
                };
                queue(now, coverage, place, rules)
            }
            Event::CellAnswered(None) => failed(Failure::CellUnknown),
            Event::Registered => (self, vec![Action::ReadCell]),
            Event::Reached(Deadline::Cell) => match place {
                Some(place) => stay(Self::WaitingForSlot { place }),
                None => failed(Failure::CellQueryTimedOut),
            },
            _ => stay(self),
        }
    }

    fn on_downloading(mut self, now: Instant, event: Event, rules: &Rules<'_>) -> Step {
        let first_pause = Deadline::Nudge.duration(rules.upgrade);
        let Self::Downloading {
            place,
            accepted,
            segment,
            active_at,
            pause,
            doubted,
            ..
        } = &mut self
        else {
            return stay(self);
        };
        match event {
            Event::SegmentRequested(number) => {
                *accepted = true;
                *segment = Some(number);
                *active_at = now;
                *pause = first_pause;
                stay(self)
            }
            Event::NotificationAnswered(ResultCode::SUCCESS) => {
                *accepted = true;
                *active_at = now;
                *pause = first_pause;
                stay(self)
            }
            // A device that downloads may call itself in use when it is nudged.
            Event::NotificationAnswered(ResultCode::DEVICE_IN_USE) if *accepted => stay(self),
            // It ran another version when it was asked: it is asked again before this is believed.
            Event::NotificationAnswered(ResultCode::ALREADY_LATEST) if !*doubted => {
                *doubted = true;
                (self, vec![Action::AskVersion])
            }
            Event::VersionAnswered(_, Some(_)) if *doubted => {
                failed(Failure::NotificationRefused(ResultCode::ALREADY_LATEST))
            }
            Event::NotificationAnswered(code) => failed(Failure::NotificationRefused(code)),
            // It fell asleep before the notification: a slot is not held for it. A device that was
            // downloading when the server forgot what it had told it counts as accepted.
            Event::NotificationUndelivered
                if !*accepted && place.slots_returned < MAX_SLOTS_RETURNED =>
            {
                let place = Place {
                    slots_returned: place.slots_returned + 1,
                    ..*place
                };
                stay(Self::WaitingForSlot { place })
            }
            Event::DownloadReported(ResultCode::SUCCESS) => execute(now, *place, rules),
            Event::DownloadReported(code) => failed(Failure::DownloadFailed(code)),
            // It is awake: what a growing pause put off is due now.
            Event::Registered | Event::Heard => {
                *pause = first_pause;
                stay(self)
            }
            Event::Reached(Deadline::Nudge) => {
                *active_at = now;
                *pause = (*pause * 2).min(first_pause * MAX_PAUSE_FACTOR);
                (self, vec![Action::Notify])
            }
            Event::Reached(Deadline::Download) => failed(Failure::DownloadTimedOut(*segment)),
            // 23 with 0x06 beside a repeated request is a device's own time-out, no failure.
            _ => stay(self),
        }
    }

    fn on_executing(mut self, now: Instant, event: Event, rules: &Rules<'_>) -> Step {
        let grace = Deadline::ResultGrace.duration(rules.upgrade);
        let pause = Deadline::RepeatQuestion.duration(rules.upgrade);
        let Self::Executing {
            until,
            command,
            ask_at,
            asked,
            restarted,
            still_old,
            ..
        } = &mut self
        else {
            return stay(self);
        };
        match event {
            Event::ExecuteDelivered => {
                command.delivered = true;
                stay(self)
            }
            Event::ExecuteAnswered(ResultCode::SUCCESS) => {
                command.delivered = true;
                command.accepted = true;
                stay(self)
            }
            // A device that takes the command twice is in use the second time.
            Event::ExecuteAnswered(code)
                if !command.accepted && code != ResultCode::DOWNLOAD_TIMED_OUT =>
            {
                failed(Failure::ExecuteRefused(code))
            }
            Event::UpgradeReported(ResultCode::SUCCESS, version) => {
                failed(Failure::WrongVersion(version))
            }
            Event::UpgradeReported(code, version) if version != rules.target => {
                failed(Failure::UpgradeFailed(code))
            }
            // Failed, yet the target version? The device is asked which it runs.
            Event::UpgradeReported(..) | Event::Reached(Deadline::ResultGrace) => {
                *asked = true;
                *ask_at = now + pause;
                (self, vec![Action::AskVersion])
            }
            // Back from its restart, without a result yet.
            Event::Registered => {
                *restarted = true;
                *ask_at = (*ask_at).min(now + grace);
                stay(self)
            }
            Event::Heard => {
                *ask_at = (*ask_at).min(now + grace);
                stay(self)
            }
            Event::VersionAnswered(_, Some(_)) if *asked && command.may_repeat(now, rules) => {
                // It never received the command, so there is nothing to have failed.
                *command = command.again(now);
                *asked = false;
                *ask_at = last_question(*until, rules).max(now + grace);
                (self, vec![Action::Execute])
            }
            // A device that has not restarted may be at work, and say so truthfully. Once.
            Event::VersionAnswered(_, Some(_)) if *asked && !*restarted && !*still_old => {
                *asked = false;
                *still_old = true;
                *ask_at = (now + pause * 5).min(last_question(*until, rules).max(now + pause));
                stay(self)
            }
            Event::VersionAnswered(_, Some(version)) if *asked => {
                failed(Failure::WrongVersion(version))
            }
            // It has lost what it had downloaded, and the command with it.
            Event::SegmentRequested(_) => {
                command.delivered = false;
                command.accepted = false;
                command.sent_at = None;
                stay(self)
            }
            // It reports the download again: it has not received the command.
            Event::DownloadReported(ResultCode::SUCCESS) if command.may_repeat(now, rules) => {
                *command = command.again(now);
                (self, vec![Action::Execute])
            }
            Event::DownloadReported(ResultCode::SUCCESS) => stay(self),
            Event::DownloadReported(code) => failed(Failure::DownloadFailed(code)),
            Event::Reached(Deadline::Execution) => failed(Failure::ExecutionTimedOut),
            _ => stay(self),
        }
    }
}

fn on_waiting_for_device(until: Instant, now: Instant, event: Event, rules: &Rules<'_>) -> Step {
    match event {
        Event::Registered | Event::Heard => (
            Sota::QueryingVersion {
                until: now + Deadline::Version.duration(rules.upgrade),
                repeat_at: now + Deadline::RepeatQuestion.duration(rules.upgrade),
            },
            vec![Action::AskVersion],
        ),
        Event::Reached(Deadline::DeviceHeard) => failed(Failure::DeviceNotHeard),
        _ => stay(Sota::WaitingForDevice { until }),
    }
}

fn query_coverage(now: Instant, place: Option<Place>, rules: &Rules<'_>) -> Step {
    let until = now + Deadline::Coverage.duration(rules.upgrade);
    (
        Sota::QueryingCoverage { until, place },
        vec![Action::ReadCoverage],
    )
}

fn query_cell(now: Instant, coverage: Coverage, place: Option<Place>, rules: &Rules<'_>) -> Step {
    let state = Sota::QueryingCell {
        until: now + Deadline::Cell.duration(rules.upgrade),
        coverage,
        place,
    };
    (state, vec![Action::ReadCell])
}

/// Takes a place in the queue of the cell, or keeps the one it had.
fn queue(now: Instant, coverage: Coverage, place: Option<Place>, rules: &Rules<'_>) -> Step {
    let Some(cell) = coverage.cell else {
        return failed(Failure::CellUnknown);
    };
    let limit = coverage.limit(rules.admission);
    let place = place.map_or_else(
        || Place {
            cell,
            limit,
            since: now,
            until: now + Deadline::Slot.duration(rules.upgrade),
            slots_returned: 0,
        },
        |place| Place {
            cell,
            limit,
            ..place
        },
    );
    stay(Sota::WaitingForSlot { place })
}

fn on_waiting_for_slot(place: Place, now: Instant, event: Event, rules: &Rules<'_>) -> Step {
    match event {
        Event::MeasureAnew => query_coverage(now, Some(place), rules),
        Event::SlotGranted => {
            let state = Sota::Downloading {
                until: now + Deadline::Download.duration(rules.upgrade),
                place,
                accepted: false,
                segment: None,
                active_at: now,
                pause: Deadline::Nudge.duration(rules.upgrade),
                doubted: false,
            };
            (state, vec![Action::Notify])
        }
        Event::Reached(Deadline::Slot) => failed(Failure::SlotTimedOut),
        _ => stay(Sota::WaitingForSlot { place }),
    }
}

fn execute(now: Instant, place: Place, rules: &Rules<'_>) -> Step {
    let until = now + Deadline::Execution.duration(rules.upgrade);
    let state = Sota::Executing {
        until,
        place,
        command: Command::first(now),
        ask_at: last_question(until, rules),
        asked: false,
        restarted: false,
        still_old: false,
    };
    (state, vec![Action::Execute])
}

/// When a device that comes back in silence is asked for its version: before the limit runs out.
fn last_question(until: Instant, rules: &Rules<'_>) -> Instant {
    let execution = Deadline::Execution.duration(rules.upgrade);
    let ahead = Deadline::Version.duration(rules.upgrade).min(execution / 2);
    until.before(ahead)
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
            Self::Downloading {
                active_at, pause, ..
            } => (Deadline::Nudge, *active_at + *pause),
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

    /// Whether the question of the deadline that was just reached was put before in vain: what carries
    /// the answer may be missing.
    pub fn is_repeating(&self, deadline: Deadline, rules: &Rules<'_>) -> bool {
        match (deadline, self) {
            (Deadline::RepeatQuestion, _) => true,
            (Deadline::ResultGrace, Self::Executing { asked, .. }) => *asked,
            (Deadline::Nudge, Self::Downloading { pause, .. }) => {
                *pause > Deadline::Nudge.duration(rules.upgrade)
            }
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
