//! What all upgrades have in common, from the first sign of life to the outcome.
//!
//! ```text
//! waiting for device ──heard──▶ querying version ──other version──▶ querying coverage
//!        │                          │ same version: succeeded            │ no cell told, or no answer
//!        ▼ limit: failed            ▼ limit: failed                      ▼
//!                                                    querying cell ──no cell, or limit──▶ failed
//!                                                          │ cell known (or told with the coverage)
//!                                                          ▼
//!          ┌──measured anew──────────────────────── waiting for slot ──limit, or not heard──▶ failed
//!          ▼                                               │ granted       ▲
//!   querying coverage (place kept)                         ▼               │ slot given back
//!                                                    transferring ─────────┘
//!                                                          │ see the transfer of the protocol
//!                                                          ▼
//!                                                       outcome
//! ```
//!
//! Over MQTT there is no cell to compete in: what follows another version is the wait for a slot of the device's site or gateway, or the
//! transfer at once where it has neither.
//!
//! What a device says of its version is a claim: each comes with what it is worth by what the device did
//! ([`Credence`]). The state is consumed by an event and yields the next one: combinations that cannot occur cannot be
//! written down.

mod querying;
mod resume;

pub use resume::Stored;

use super::{
    Action, Credence, Input, Place, Rules,
    input::MAX_SLOTS_RETURNED,
    transfer::{Next, Transfer},
};
use crate::{
    clock::Instant,
    ledger::{
        Cancellation, Coverage, Deadline, Failure, Lane, Outcome, Stage, StopReason, Success,
    },
};

/// Where one upgrade stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Negotiation {
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
    /// The device has a slot, or needs none: see the transfer's stages.
    Transferring {
        /// The place that was left for the slot; `None` where there was nothing to compete for.
        place: Option<Place>,
        /// How far it is.
        transfer: Transfer,
    },
    /// The attempt has ended.
    Ended(Outcome),
}

/// The next state, and what to do.
type Step = (Negotiation, Vec<Action>);

impl Negotiation {
    /// An upgrade that begins now.
    pub fn begin(now: Instant, rules: &Rules<'_>) -> Self {
        Self::WaitingForDevice {
            until: now + (Deadline::DeviceHeard.over(rules.protocol)).duration(rules.upgrade),
        }
    }

    /// The device is asked for its version: the first step of an upgrade to a device that was heard, or the next one.
    pub fn ask_version(now: Instant, rules: &Rules<'_>) -> Step {
        let state = Self::QueryingVersion {
            until: now + Deadline::Version.duration(rules.upgrade),
            repeat_at: now + Deadline::RepeatQuestion.duration(rules.upgrade),
        };
        (state, vec![Action::AskVersion])
    }

    /// The next state, and what to do. Events that mean nothing in a state leave it as it is.
    #[must_use]
    pub fn on(self, now: Instant, event: Input, rules: &Rules<'_>) -> Step {
        match event {
            _ if self.has_ended() => return stay(self),
            Input::Stopped(reason) => {
                return ended(match reason {
                    StopReason::TaskStopped | StopReason::TaskWindsDown => {
                        Outcome::Cancelled(Cancellation::TaskStopped)
                    }
                    StopReason::Cancelled => Outcome::Cancelled(Cancellation::Upgrade),
                    StopReason::DeviceRemoved => Outcome::Failed(Failure::DeviceRemoved),
                });
            }
            Input::WindowEnded => {
                return if self.is_commanded() {
                    stay(self)
                } else {
                    ended(Outcome::Cancelled(Cancellation::TakenBack))
                };
            }
            Input::Moved => return stay(Self::begin(now, rules)),
            Input::NotSupported => return failed(Failure::NotSupported),
            // Whatever the stage: a device that says it runs the target version is done, if nothing speaks against it.
            Input::Pcp(said) if said.shows(rules.target) => {
                return ended(Outcome::Succeeded(Success::Upgraded));
            }
            Input::VersionAnswered(_, Some(version), Credence::Sound)
                if version == rules.target && self.takes_answers() =>
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
            Self::Transferring { place, transfer } => {
                let may_return = place.is_some_and(|it| it.slots_returned < MAX_SLOTS_RETURNED);
                match transfer.on(now, event, rules, may_return) {
                    Next::Goes(transfer, actions) => {
                        (Self::Transferring { place, transfer }, actions)
                    }
                    Next::GivesBack => match place {
                        Some(place) => give_back(place),
                        None => Self::ask_version(now, rules),
                    },
                    Next::Ends(outcome) => ended(outcome),
                }
            }
            Self::Ended(_) => stay(self),
        }
    }
}

fn stay(state: Negotiation) -> Step {
    (state, Vec::new())
}

fn ended(outcome: Outcome) -> Step {
    stay(Negotiation::Ended(outcome))
}

fn failed(failure: Failure) -> Step {
    ended(Outcome::Failed(failure))
}

/// The slot goes to the next, and the device keeps its place in the queue.
fn give_back(place: Place) -> Step {
    let place = Place {
        slots_returned: place.slots_returned + 1, // at most MAX_SLOTS_RETURNED
        ..place
    };
    stay(Negotiation::WaitingForSlot { place })
}

impl Negotiation {
    /// The stage, `None` once the attempt has ended.
    pub const fn stage(&self) -> Option<Stage> {
        Some(match self {
            Self::WaitingForDevice { .. } => Stage::WaitingForDevice,
            Self::QueryingVersion { .. } => Stage::QueryingVersion,
            Self::QueryingCoverage { .. } => Stage::QueryingCoverage,
            Self::QueryingCell { .. } => Stage::QueryingCell,
            Self::WaitingForSlot { .. } => Stage::WaitingForSlot,
            Self::Transferring { transfer, .. } => transfer.stage(),
            Self::Ended(_) => return None,
        })
    }

    /// Whether the attempt has ended.
    pub const fn has_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }

    /// Whether the device was commanded to install: that is not taken back.
    pub fn is_commanded(&self) -> bool {
        self.stage() == Some(Stage::Executing)
    }

    /// The place in a queue, or the one that was left for a slot.
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::WaitingForSlot { place } => Some(place),
            Self::QueryingCoverage { place, .. }
            | Self::QueryingCell { place, .. }
            | Self::Transferring { place, .. } => place.as_ref(),
            Self::WaitingForDevice { .. } | Self::QueryingVersion { .. } | Self::Ended(_) => None,
        }
    }

    /// The lane in whose queue it stands, also while its coverage is measured anew.
    pub const fn queued_in(&self) -> Option<Lane> {
        match (self, self.place()) {
            (Self::Transferring { .. }, _) | (_, None) => None,
            (_, Some(place)) => Some(place.lane),
        }
    }

    /// The place that was left for the slot that it holds.
    pub const fn slot(&self) -> Option<&Place> {
        match self {
            Self::Transferring { place, .. } => place.as_ref(),
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
            Self::Transferring { transfer, .. } => transfer.until(),
            Self::Ended(_) => return None,
        })
    }

    /// The deadline that is reached next. The limit of the stage comes first when both are due.
    pub fn next_deadline(&self) -> Option<(Deadline, Instant)> {
        let limit = self.until()?;
        let other = match self {
            Self::QueryingVersion { repeat_at, .. } => (Deadline::RepeatQuestion, *repeat_at),
            Self::Transferring { transfer, .. } => transfer.also_due(),
            _ => return Some(limit),
        };
        Some(if other.1 < limit.1 { other } else { limit })
    }

    /// The transfer that goes on.
    pub const fn transfer(&self) -> Option<&Transfer> {
        match self {
            Self::Transferring { transfer, .. } => Some(transfer),
            _ => None,
        }
    }

    /// Whether the device has shown that it goes along: it accepted the version, or has the command.
    pub fn is_confirmed(&self) -> bool {
        self.transfer().is_some_and(Transfer::is_confirmed)
    }

    /// Errors of its download that the device has reported.
    pub fn download_errors(&self) -> u8 {
        self.transfer().map_or(0, Transfer::download_errors)
    }

    /// Whether the device says that it runs the target, and has given no other sign of it.
    pub fn is_claimed(&self) -> bool {
        self.transfer().is_some_and(Transfer::is_claimed)
    }

    /// The segment that was asked for last in the download that goes on.
    pub fn segment(&self) -> Option<u16> {
        self.transfer().and_then(Transfer::segment)
    }

    /// Whether the question of the deadline that was just reached was put before in vain: what carries
    /// the answer may be missing.
    pub fn is_repeating(&self, deadline: Deadline) -> bool {
        deadline == Deadline::RepeatQuestion
            || (self.transfer()).is_some_and(|transfer| transfer.is_repeating(deadline))
    }

    /// Whether segments are served: the device holds a slot and may ask again for what it had.
    pub const fn serves_segments(&self) -> bool {
        matches!(self, Self::Transferring { .. })
    }

    /// Whether the version that the device names answers a question that was put in this stage.
    fn takes_answers(&self) -> bool {
        self.transfer().is_none_or(Transfer::takes_answers)
    }
}

#[cfg(test)]
mod tests;
