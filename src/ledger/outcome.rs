use pcp::ResultCode;

use super::{Deadline, Facts, Refusal, UpdateObject, UpdateStep};
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
    /// Wanted it begun by a time that has passed.
    Expired,
    /// Passed over this upgrade: what came of it does not count.
    Skipped,
    /// Let the owner of the device decide, who has refused it.
    Refused,
    /// Has windows end so that what is not commanded to install by then is taken back: it begins again in the next one, unless
    /// nothing of its task or on its device begins any more.
    TakenBack,
    /// Gave the task no package for what the device runs, or for what it is: it is skipped.
    NoPackage,
    /// Gave the task a package below what the device runs, and did not allow that: it is skipped.
    Downgrade,
    /// Had it follow another upgrade of the device, which did not succeed.
    NotReached,
}

/// Why an upgrade is a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Success {
    /// The device was upgraded.
    Upgraded,
    /// The device says that it was upgraded, and what it was served could not be counted, or it never tells a version.
    Unverified,
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
    /// The device, which speaks MQTT, reported a failure, by this code.
    Reported(i32),
    /// The device claims to run the version, and was not served the whole package.
    NotDownloaded,
    /// The device, which speaks MQTT, did not come to run the version within the limit.
    TransferTimedOut,
    /// The package cannot be served to a device that speaks what this one does.
    NotServed,
    /// The device, or its gateway for it, refused for a condition that may pass; by this code of its protocol.
    Refused(Refusal, i32),
    /// The device told this result of its upgrade by one of the standard's objects.
    UpdateResult(UpdateObject, u8),
    /// The device refused something in its upgrade by one of the standard's objects, with this code of `CoAP`.
    UpdateRefused(UpdateStep, u8),
    /// The device does not come to be idle, so that it cannot be given a package.
    NotIdle,
}

impl Outcome {
    /// Every word that [`reason`](Self::reason) has.
    pub const REASONS: [&str; 40] = [
        "upgraded",
        "already_current",
        "task_stopped",
        "cancelled",
        "expired",
        "skipped",
        "refused_by_owner",
        "taken_back",
        "no_package",
        "downgrade",
        "not_reached",
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
        "reported_failure",
        "not_downloaded",
        "transfer_timed_out",
        "not_served",
        "refused_in_use",
        "refused_signal",
        "refused_battery",
        "refused_space",
        "refused_memory",
        "update_result",
        "update_refused",
        "not_idle",
    ];
    /// Those of them for which a device is skipped: there is nothing for it in the task, or an operator passes over it.
    pub const SKIPS: [&str; 3] = ["skipped", "no_package", "downgrade"];
    /// Those of them that are failures.
    pub const FAILURES: &'static [&'static str] = Self::REASONS.split_at(11).1;

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
            Self::Succeeded(Success::Upgraded | Success::Unverified) => "upgraded",
            Self::Succeeded(Success::AlreadyCurrent) => "already_current",
            Self::Cancelled(Cancellation::TaskStopped) => "task_stopped",
            Self::Cancelled(Cancellation::Upgrade) => "cancelled",
            Self::Cancelled(Cancellation::Expired) => "expired",
            Self::Cancelled(Cancellation::Skipped) => "skipped",
            Self::Cancelled(Cancellation::Refused) => "refused_by_owner",
            Self::Cancelled(Cancellation::TakenBack) => "taken_back",
            Self::Cancelled(Cancellation::NoPackage) => "no_package",
            Self::Cancelled(Cancellation::Downgrade) => "downgrade",
            Self::Cancelled(Cancellation::NotReached) => "not_reached",
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
                Failure::Reported(_) => "reported_failure",
                Failure::NotDownloaded => "not_downloaded",
                Failure::TransferTimedOut => "transfer_timed_out",
                Failure::NotServed => "not_served",
                Failure::Refused(refusal, _) => refusal.reason(),
                Failure::UpdateResult(..) => "update_result",
                Failure::UpdateRefused(..) => "update_refused",
                Failure::NotIdle => "not_idle",
            },
        }
    }

    /// Whether the attempt was taken back at the end of a window.
    pub const fn is_taken_back(&self) -> bool {
        matches!(self, Self::Cancelled(Cancellation::TakenBack))
    }

    /// Whether the device runs the target version.
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Succeeded(_))
    }

    /// Its arguments.
    pub fn facts(&self) -> Facts {
        let none = Facts::default();
        let failure = match self {
            Self::Failed(failure) => failure,
            Self::Succeeded(Success::Unverified) => {
                return Facts {
                    unverified: true,
                    ..none
                };
            }
            Self::Succeeded(_) | Self::Cancelled(_) => return none,
        };
        match failure {
            Failure::VersionQueryRefused(code)
            | Failure::NotificationRefused(code)
            | Failure::DownloadFailed(code)
            | Failure::ExecuteRefused(code)
            | Failure::UpgradeFailed(code) => Facts {
                result: Some(code.0),
                ..none
            },
            Failure::DownloadTimedOut(segment) => Facts {
                segment: *segment,
                ..none
            },
            Failure::Reported(code) | Failure::Refused(_, code) => Facts {
                code: Some(*code),
                ..none
            },
            Failure::WrongVersion(version) => Facts {
                version: Some(*version),
                ..none
            },
            Failure::UpdateResult(object, result) => Facts {
                object: Some(*object),
                result: Some(*result),
                ..none
            },
            Failure::UpdateRefused(step, code) => Facts {
                step: Some(*step),
                code: Some(i32::from(code >> 5) * 100 + i32::from(code & 0x1F)),
                ..none
            },
            _ => none,
        }
    }

    /// The outcome of a reason and its arguments, `None` when there is none.
    pub fn of(reason: &str, facts: &Facts) -> Option<Self> {
        let code = || facts.result.map(ResultCode);
        Some(Self::Failed(match reason {
            "upgraded" if facts.unverified => return Some(Self::Succeeded(Success::Unverified)),
            "upgraded" => return Some(Self::Succeeded(Success::Upgraded)),
            "already_current" => return Some(Self::Succeeded(Success::AlreadyCurrent)),
            "task_stopped" => return Some(Self::Cancelled(Cancellation::TaskStopped)),
            "cancelled" => return Some(Self::Cancelled(Cancellation::Upgrade)),
            "expired" => return Some(Self::Cancelled(Cancellation::Expired)),
            "skipped" => return Some(Self::Cancelled(Cancellation::Skipped)),
            "refused_by_owner" => return Some(Self::Cancelled(Cancellation::Refused)),
            "taken_back" => return Some(Self::Cancelled(Cancellation::TakenBack)),
            "no_package" => return Some(Self::Cancelled(Cancellation::NoPackage)),
            "downgrade" => return Some(Self::Cancelled(Cancellation::Downgrade)),
            "not_reached" => return Some(Self::Cancelled(Cancellation::NotReached)),
            "device_not_heard" => Failure::DeviceNotHeard,
            "version_query_timed_out" => Failure::VersionQueryTimedOut,
            "version_query_refused" => Failure::VersionQueryRefused(code()?),
            "cell_unknown" => Failure::CellUnknown,
            "cell_query_timed_out" => Failure::CellQueryTimedOut,
            "slot_timed_out" => Failure::SlotTimedOut,
            "notification_refused" => Failure::NotificationRefused(code()?),
            "download_timed_out" => Failure::DownloadTimedOut(facts.segment),
            "download_stalled" => Failure::DownloadStalled,
            "download_failed" => Failure::DownloadFailed(code()?),
            "execute_refused" => Failure::ExecuteRefused(code()?),
            "execution_timed_out" => Failure::ExecutionTimedOut,
            "upgrade_failed" => Failure::UpgradeFailed(code()?),
            "wrong_version" => Failure::WrongVersion(facts.version?),
            "package_unavailable" => Failure::PackageUnavailable,
            "device_removed" => Failure::DeviceRemoved,
            "not_supported" => Failure::NotSupported,
            "reported_failure" => Failure::Reported(facts.code?),
            "not_downloaded" => Failure::NotDownloaded,
            "transfer_timed_out" => Failure::TransferTimedOut,
            "not_served" => Failure::NotServed,
            "update_result" => Failure::UpdateResult(facts.object?, facts.result?),
            "update_refused" => Failure::UpdateRefused(facts.step?, coap_code(facts.code?)?),
            "not_idle" => Failure::NotIdle,
            _ => Failure::Refused(Refusal::named(reason)?, facts.code?),
        }))
    }
}

/// The code of `CoAP` that reads as this number: 405 for 4.05.
fn coap_code(number: i32) -> Option<u8> {
    let (class, detail) = (number / 100, number % 100);
    let fits = (0..8).contains(&class) && (0..32).contains(&detail);
    fits.then(|| u8::try_from(class << 5 | detail).ok())?
}

impl Failure {
    /// The limit that ran out, if one did.
    pub const fn limit(&self) -> Option<Deadline> {
        match self {
            Self::DeviceNotHeard => Some(Deadline::DeviceHeard),
            Self::VersionQueryTimedOut => Some(Deadline::Version),
            Self::CellQueryTimedOut => Some(Deadline::Cell),
            Self::SlotTimedOut => Some(Deadline::Slot),
            Self::DownloadTimedOut(_) | Self::TransferTimedOut => Some(Deadline::Download),
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
            | Self::NotSupported
            | Self::Reported(_)
            | Self::NotDownloaded
            | Self::NotServed
            | Self::Refused(..)
            | Self::UpdateResult(..)
            | Self::UpdateRefused(..)
            | Self::NotIdle => None,
        }
    }
}

/// Why an upgrade is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The operator stopped the task.
    TaskStopped,
    /// The operator stopped the task, and lets go on what holds a slot.
    TaskWindsDown,
    /// The operator cancelled this upgrade.
    Cancelled,
    /// The device was removed from the inventory.
    DeviceRemoved,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_listed_and_comes_back() {
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
            Failure::Reported(-3),
            Failure::NotDownloaded,
            Failure::TransferTimedOut,
            Failure::NotServed,
            Failure::Refused(Refusal::InUse, 1),
            Failure::Refused(Refusal::Signal, 2),
            Failure::Refused(Refusal::Battery, 4),
            Failure::Refused(Refusal::Space, 5),
            Failure::Refused(Refusal::Memory, 9),
            Failure::UpdateResult(UpdateObject::Firmware, 5),
            Failure::UpdateRefused(UpdateStep::Package, 0x8F),
            Failure::NotIdle,
        ];
        let outcomes: Vec<Outcome> = [
            Outcome::Succeeded(Success::Upgraded),
            Outcome::Succeeded(Success::AlreadyCurrent),
            Outcome::Cancelled(Cancellation::TaskStopped),
            Outcome::Cancelled(Cancellation::Upgrade),
            Outcome::Cancelled(Cancellation::Expired),
            Outcome::Cancelled(Cancellation::Skipped),
            Outcome::Cancelled(Cancellation::Refused),
            Outcome::Cancelled(Cancellation::TakenBack),
            Outcome::Cancelled(Cancellation::NoPackage),
            Outcome::Cancelled(Cancellation::Downgrade),
            Outcome::Cancelled(Cancellation::NotReached),
        ]
        .into_iter()
        .chain(failures.into_iter().map(Outcome::Failed))
        .collect();
        let reasons: Vec<&str> = outcomes.iter().map(Outcome::reason).collect();
        assert_eq!(reasons, Outcome::REASONS);
        let failed = outcomes.iter().filter(|it| it.state() == "failed");
        let failures: Vec<&str> = failed.map(Outcome::reason).collect();
        assert_eq!(failures, Outcome::FAILURES);
        assert!((Outcome::SKIPS.iter()).all(|skip| !Outcome::FAILURES.contains(skip)));
        for outcome in outcomes {
            // by its word and its arguments it is the same again
            let again = Outcome::of(outcome.reason(), &outcome.facts());
            assert_eq!(again, Some(outcome));
        }
        let unverified = Outcome::Succeeded(Success::Unverified);
        let again = Outcome::of(unverified.reason(), &unverified.facts());
        assert_eq!(again, Some(unverified));
        assert_eq!(Outcome::of("struck_by_lightning", &Facts::default()), None);
    }
}
