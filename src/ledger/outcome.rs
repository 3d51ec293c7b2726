use std::fmt;

use pcp::ResultCode;

use super::Deadline;
use crate::package::Version;

/// How an attempt to upgrade a device ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The device runs the target version.
    Succeeded(Success),
    /// It does not, or nobody knows.
    Failed(Failure),
    /// The operator wanted it no more.
    Cancelled(Cancellation),
}

/// What the operator did to end an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// Stopped the task.
    TaskStopped,
    /// Cancelled this upgrade alone.
    Upgrade,
}

/// Why an upgrade is a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Success {
    /// The device was upgraded.
    Upgraded,
    /// The device ran the target version already; nothing was done.
    AlreadyCurrent,
}

/// Why an upgrade failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was heard from the device within the limit.
    DeviceNotHeard,
    /// The version query stayed without an answer.
    VersionQueryTimedOut,
    /// The device answered the version query with an error.
    VersionQueryRefused(ResultCode),
    /// The device could not tell its cell.
    CellUnknown,
    /// The device did not answer when asked for its cell.
    CellQueryTimedOut,
    /// The cell had no slot for it within the limit.
    SlotTimedOut,
    /// The device refused the new version.
    NotificationRefused(ResultCode),
    /// The download did not end within the limit; the segment asked for last, if any was.
    DownloadTimedOut(Option<u16>),
    /// The download stood still each time the device had a slot.
    DownloadStalled,
    /// The device reported that the download failed.
    DownloadFailed(ResultCode),
    /// The device refused to upgrade.
    ExecuteRefused(ResultCode),
    /// No result came within the limit.
    ExecutionTimedOut,
    /// The device reported that the upgrade failed.
    UpgradeFailed(ResultCode),
    /// The device runs another version after the upgrade.
    WrongVersion(Version),
    /// The package's file is gone or is not what was uploaded.
    PackageUnavailable,
    /// The device was removed from the inventory.
    DeviceRemoved,
    /// The device does not have the object that carries PCP.
    NotSupported,
}

impl Outcome {
    /// Every word that [`reason`](Self::reason) has.
    pub const REASONS: [&str; 21] = [
        "upgraded",
        "already_current",
        "task_stopped",
        "cancelled",
        "device_not_heard",
        "version_query_timed_out",
        "version_query_refused",
        "cell_unknown",
        "cell_query_timed_out",
        "slot_timed_out",
        "notification_refused",
        "download_timed_out",
        "download_stalled",
        "download_failed",
        "execute_refused",
        "execution_timed_out",
        "upgrade_failed",
        "wrong_version",
        "package_unavailable",
        "device_removed",
        "not_supported",
    ];

    /// `succeeded`, `failed` or `cancelled`: the upgrade's state in the API and the store.
    pub const fn state(&self) -> &'static str {
        match self {
            Self::Succeeded(_) => "succeeded",
            Self::Failed(_) => "failed",
            Self::Cancelled(_) => "cancelled",
        }
    }

    /// A stable word for programs.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Succeeded(Success::Upgraded) => "upgraded",
            Self::Succeeded(Success::AlreadyCurrent) => "already_current",
            Self::Cancelled(Cancellation::TaskStopped) => "task_stopped",
            Self::Cancelled(Cancellation::Upgrade) => "cancelled",
            Self::Failed(failure) => match failure {
                Failure::DeviceNotHeard => "device_not_heard",
                Failure::VersionQueryTimedOut => "version_query_timed_out",
                Failure::VersionQueryRefused(_) => "version_query_refused",
                Failure::CellUnknown => "cell_unknown",
                Failure::CellQueryTimedOut => "cell_query_timed_out",
                Failure::SlotTimedOut => "slot_timed_out",
                Failure::NotificationRefused(_) => "notification_refused",
                Failure::DownloadTimedOut(_) => "download_timed_out",
                Failure::DownloadStalled => "download_stalled",
                Failure::DownloadFailed(_) => "download_failed",
                Failure::ExecuteRefused(_) => "execute_refused",
                Failure::ExecutionTimedOut => "execution_timed_out",
                Failure::UpgradeFailed(_) => "upgrade_failed",
                Failure::WrongVersion(_) => "wrong_version",
                Failure::PackageUnavailable => "package_unavailable",
                Failure::DeviceRemoved => "device_removed",
                Failure::NotSupported => "not_supported",
            },
        }
    }

    /// Whether the device runs the target version.
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Succeeded(_))
    }
}

impl Failure {
    /// The limit that ran out, if one did.
    pub const fn limit(&self) -> Option<Deadline> {
        match self {
            Self::DeviceNotHeard => Some(Deadline::DeviceHeard),
            Self::VersionQueryTimedOut => Some(Deadline::Version),
            Self::CellQueryTimedOut => Some(Deadline::Cell),
            Self::SlotTimedOut => Some(Deadline::Slot),
            Self::DownloadTimedOut(_) => Some(Deadline::Download),
            Self::ExecutionTimedOut => Some(Deadline::Execution),
            Self::VersionQueryRefused(_)
            | Self::CellUnknown
            | Self::NotificationRefused(_)
            | Self::DownloadStalled
            | Self::DownloadFailed(_)
            | Self::ExecuteRefused(_)
            | Self::UpgradeFailed(_)
            | Self::WrongVersion(_)
            | Self::PackageUnavailable
            | Self::DeviceRemoved
            | Self::NotSupported => None,
        }
    }
}

/// A sentence for the operator.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded(Success::Upgraded) => f.write_str("upgraded"),
            Self::Succeeded(Success::AlreadyCurrent) => {
                f.write_str("the device runs the target version already; nothing was done")
            }
            Self::Cancelled(Cancellation::TaskStopped) => f.write_str("the task was stopped"),
            Self::Cancelled(Cancellation::Upgrade) => {
                f.write_str("the upgrade was cancelled by the operator")
            }
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeviceNotHeard => f.write_str("the device was not heard within the limit"),
            Self::VersionQueryTimedOut => {
                f.write_str("no answer to the version query (PCP 19) within the limit")
            }
            Self::VersionQueryRefused(code) => {
                write!(
                    f,
                    "the device answered the version query (PCP 19) with {code}"
                )
            }
            Self::CellUnknown => f.write_str(
                "the device does not tell its cell (/4/0/8), so it cannot be admitted to one",
            ),
            Self::CellQueryTimedOut => {
                f.write_str("no answer to the read of the cell ID (/4/0/8) within the limit")
            }
            Self::SlotTimedOut => f.write_str("the cell had no free slot within the limit"),
            Self::NotificationRefused(code) => {
                write!(f, "the device refused the new version (PCP 20) with {code}")
            }
            Self::DownloadTimedOut(None) => {
                f.write_str("the device never asked for a segment within the limit of the download")
            }
            Self::DownloadTimedOut(Some(segment)) => write!(
                f,
                "the download did not end within the limit; segment {segment} was asked for last"
            ),
            Self::DownloadStalled => f.write_str(
                "the download stood still each time the device had a slot, however often it was notified again",
            ),
            Self::DownloadFailed(code) => {
                write!(f, "the device reported the download (PCP 22) as {code}")
            }
            Self::ExecuteRefused(code) => {
                write!(f, "the device refused to upgrade (PCP 23) with {code}")
            }
            Self::ExecutionTimedOut => {
                f.write_str("no result (PCP 24) and no version came within the limit")
            }
            Self::UpgradeFailed(code) => {
                write!(f, "the device reported the upgrade (PCP 24) as {code}")
            }
            Self::WrongVersion(version) => {
                write!(f, "after the upgrade the device runs version \"{version}\"")
            }
            Self::PackageUnavailable => {
                f.write_str("the package's file is missing or damaged; upload it again")
            }
            Self::DeviceRemoved => f.write_str("the device was removed from the inventory"),
            Self::NotSupported => {
                f.write_str("the device has no object 19, which carries the upgrade (PCP)")
            }
        }
    }
}

/// Why an upgrade is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The operator stopped the task.
    TaskStopped,
    /// The operator cancelled this upgrade.
    Cancelled,
    /// The device was removed from the inventory.
    DeviceRemoved,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_listed() {
        let code = ResultCode::INTERNAL_ERROR;
        let version = Version::new("V1").unwrap();
        let failures = [
            Failure::DeviceNotHeard,
            Failure::VersionQueryTimedOut,
            Failure::VersionQueryRefused(code),
            Failure::CellUnknown,
            Failure::CellQueryTimedOut,
            Failure::SlotTimedOut,
            Failure::NotificationRefused(code),
            Failure::DownloadTimedOut(None),
            Failure::DownloadStalled,
            Failure::DownloadFailed(code),
            Failure::ExecuteRefused(code),
            Failure::ExecutionTimedOut,
            Failure::UpgradeFailed(code),
            Failure::WrongVersion(version),
            Failure::PackageUnavailable,
            Failure::DeviceRemoved,
            Failure::NotSupported,
        ];
        let reasons: Vec<&str> = [
            Outcome::Succeeded(Success::Upgraded),
            Outcome::Succeeded(Success::AlreadyCurrent),
            Outcome::Cancelled(Cancellation::TaskStopped),
            Outcome::Cancelled(Cancellation::Upgrade),
        ]
        .into_iter()
        .chain(failures.into_iter().map(Outcome::Failed))
        .map(|outcome| outcome.reason())
        .collect();
        assert_eq!(reasons, Outcome::REASONS);
    }
}
