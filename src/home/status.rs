//! How an upgrade stands, as applications know it.

use super::ErrorCode;
use crate::ledger::Stage;

/// Where the upgrade of a device stands, as applications know it by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// 0: there is nothing.
    None,
    /// 1: there is an upgrade to be started.
    Available,
    /// 2: the device fetches it, or installs it.
    Upgrading,
    /// 3: the device runs the new version.
    Succeeded,
    /// 4: it failed.
    Failed,
    /// 5: it is waited for the device, which sleeps or was not heard since.
    WaitingForWakeUp,
    /// 6: the device has all of it, and has not begun to install it.
    Downloaded,
    /// 7: it took too long.
    TimedOut,
    /// 100: it was started, and has its turn soon.
    Preparing,
}

/// Progress that is not known.
pub const UNKNOWN_PROGRESS: i8 = -1;

/// Where an upgrade stands, as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand<'r> {
    /// It has not begun, or waits for its next attempt.
    Waiting,
    /// It runs.
    Active(Stage),
    /// It has ended, for this reason ([`crate::ledger::Outcome::REASONS`]), as a success.
    Succeeded(&'r str),
    /// It has ended, for this reason, as a failure.
    Failed(&'r str),
    /// It was cancelled, for this reason.
    Cancelled(&'r str),
}

/// An upgrade, as far as its status depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'r> {
    /// Where it stands.
    pub stand: Stand<'r>,
    /// How far the download of this attempt is, percent; `None` where that is not known.
    pub percent: Option<u8>,
    /// The device has acknowledged the command to install.
    pub confirmed: bool,
    /// The device sleeps: it listens after its own messages only, and is not awake now.
    pub asleep: bool,
}

/// What an application is told of an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Where it stands.
    pub status: Status,
    /// How far it is, 0 to 100, or [`UNKNOWN_PROGRESS`].
    pub progress: i8,
    /// Why it did not succeed.
    pub error: Option<ErrorCode>,
}

impl Status {
    /// All of them, by their numbers.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::Available,
        Self::Upgrading,
        Self::Succeeded,
        Self::Failed,
        Self::WaitingForWakeUp,
        Self::Downloaded,
        Self::TimedOut,
        Self::Preparing,
    ];

    /// Its number.
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Available => 1,
            Self::Upgrading => 2,
            Self::Succeeded => 3,
            Self::Failed => 4,
            Self::WaitingForWakeUp => 5,
            Self::Downloaded => 6,
            Self::TimedOut => 7,
            Self::Preparing => 100,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Available => "available",
            Self::Upgrading => "upgrading",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::WaitingForWakeUp => "waiting_for_wake_up",
            Self::Downloaded => "downloaded",
            Self::TimedOut => "timed_out",
            Self::Preparing => "preparing",
        }
    }

    /// Whether something goes on that is to be followed.
    pub const fn is_under_way(self) -> bool {
        matches!(
            self,
            Self::Upgrading | Self::WaitingForWakeUp | Self::Downloaded | Self::Preparing
        )
    }
}

impl Told {
    /// Of a device that has no upgrade under way: whether there is one to be started.
    pub const fn idle(available: bool) -> Self {
        Self {
            status: if available {
                Status::Available
            } else {
                Status::None
            },
            progress: UNKNOWN_PROGRESS,
            error: None,
        }
    }

    /// Of an upgrade.
    pub fn of(seen: &Seen<'_>) -> Self {
        let (status, progress) = match seen.stand {
            Stand::Waiting if seen.asleep => (Status::WaitingForWakeUp, UNKNOWN_PROGRESS),
            Stand::Waiting => (Status::Preparing, UNKNOWN_PROGRESS),
            Stand::Active(stage) => active(stage, seen),
            Stand::Succeeded(_) => (Status::Succeeded, 100),
            Stand::Failed(reason) | Stand::Cancelled(reason) => {
                return Self::ended(reason);
            }
        };
        Self {
            status,
            progress,
            error: None,
        }
    }

    fn ended(reason: &str) -> Self {
        let code = ErrorCode::of_reason(reason);
        let status = match code {
            ErrorCode::TimedOut => Status::TimedOut,
            _ => Status::Failed,
        };
        Self {
            status,
            progress: UNKNOWN_PROGRESS,
            error: Some(code),
        }
    }
}

fn active(stage: Stage, seen: &Seen<'_>) -> (Status, i8) {
    match stage {
        Stage::WaitingForDevice => (Status::WaitingForWakeUp, UNKNOWN_PROGRESS),
        Stage::QueryingVersion
        | Stage::QueryingCoverage
        | Stage::QueryingCell
        | Stage::WaitingForSlot
            if seen.asleep =>
        {
            (Status::WaitingForWakeUp, UNKNOWN_PROGRESS)
        }
        Stage::QueryingVersion
        | Stage::QueryingCoverage
        | Stage::QueryingCell
        | Stage::WaitingForSlot => (Status::Preparing, UNKNOWN_PROGRESS),
        Stage::Downloading => match seen.percent.map(|percent| percent.min(100)) {
            Some(100) => (Status::Downloaded, 100),
            Some(percent) => (Status::Upgrading, percent.cast_signed()),
            None => (Status::Upgrading, UNKNOWN_PROGRESS),
        },
        Stage::Executing if seen.confirmed => (Status::Upgrading, UNKNOWN_PROGRESS),
        Stage::Executing => (Status::Downloaded, 100),
    }
}
