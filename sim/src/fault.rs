//! Failures to order: ways in which devices in the field go wrong, or go right unusually.
//!
//! A fault is written as its name, where it takes a result code followed by `=0xNN`, where it strikes in
//! mid-download optionally by `@SEGMENT`: `refuse-notification=0x04`, `stops-mid-download@40`.
//!
//! Some devices lie: a widely used library tells the target version from the notification on, whatever runs. What
//! it claims is in RAM, so that a restart makes it tell the truth, until it is notified again.

mod object;
mod text;

use pcp::ResultCode;
use serde::{Deserialize, Serialize};

use crate::object::UpdatesBy;
pub use object::ObjectFault;
pub use text::FaultError;

/// What a server should record for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// The device ends up with the target version, however long the way.
    Succeeded,
    /// It does not.
    Failed,
}

/// Before which segment's request a fault strikes; `None` is the middle of the package.
pub type Segment = Option<u16>;

/// One way to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Fault {
    /// Answers the version query with a failure.
    RefuseVersionQuery(ResultCode),
    /// Answers the notification of a new version with a failure.
    RefuseNotification(ResultCode),
    /// Finds its signal too weak: [`Self::RefuseNotification`] with 0x02.
    WeakSignal,
    /// Answers the command to upgrade with a failure.
    RefuseExecute(ResultCode),
    /// Downloads everything, then reports a failure.
    ReportDownload(ResultCode),
    /// Cannot install the package, comes back with the old version and says so.
    ReportUpgrade(ResultCode),
    /// Goes silent for good, except for keeping its registration.
    StopsMidDownload(Segment),
    /// Misses answers, asks once more, then waits until the version is notified again.
    SilentAfterOneRepeat(Segment),
    /// Restarts with a new address, registers anew and goes on where it was.
    RebootsInDownload(Segment),
    /// Restarts, forgets what it has, and starts over when notified again.
    LosesProgress(Segment),
    /// Never answers the notification, just asks for segments.
    NeverAnswersNotification,
    /// Restarts for the installation without having answered the command.
    NeverAnswersExecute,
    /// Comes back with the new version and never says so.
    NeverReportsResult,
    /// Comes back with the old version and never says so.
    FailsInstallSilently,
    /// Keeps its registration over the installation, sends its own data afterwards and no report.
    OnlyServiceData,
    /// Has everything and says nothing, until the version is notified again.
    HoldsDownloadReport,
    /// Sends everything twice, and takes every write twice.
    RepeatsEverything,
    /// Answers a command to upgrade that nobody sent, with 0x06, beside a repeated request.
    ExecuteTimeoutNoise(Segment),
    /// Reports the upgrade long after it.
    LateReport,
    /// Goes on using its first observation's token after having registered again.
    OldToken,
    /// Takes every segment as full, so that the last one has to be padded.
    FullSegments,
    /// Holds 512 bytes of a frame, and misreads a data length whose low byte is 0.
    SmallBuffer,
    /// Has no Connectivity Monitoring object, so that its cell cannot be known.
    NoObject4,
    /// Runs the target version already; a fleet gives it that version.
    AlreadyCurrent,
    /// Claims to run the target version from its notification on.
    ClaimsTarget,
    /// The same, and cannot install the package: reports a failure that names the target, stays up, and goes on
    /// claiming to run it.
    ClaimsTargetFails(ResultCode),
    /// The same, and restarts once the failure is reported, with the old version, which it then tells.
    ClaimsTargetRestartsOld,
    /// The same, but its bootloader completes the installation: it comes back with the target, and tells so when it is
    /// asked.
    ClaimsTargetLateSuccess,
    /// Claims to run the target version; its application restarts in mid-download and loses the network for
    /// [`Timing::outage_ms`](crate::spec::Timing), but not its registration. It goes on when it is notified.
    ClaimsCurrentMidDownload(Segment),
    /// Reports its success before the restart that leads to it, and still names the old version. After the restart
    /// it reports again, or only answers when it is asked, by its seed.
    ReportsBeforeRestart,
    /// Writes versions with what does not belong to them: stale bytes after the NUL, blanks, 0xFF, or a line's end.
    DirtyVersion,
    /// Never goes on with the download; it still tells its version, and acknowledges whatever is written.
    DeafDownload(Segment),
    /// Has another key than the server, so that it is never heard.
    WrongPsk,
    /// Registers under another device's endpoint name, over an association with its own key.
    ClaimsOtherEndpoint,
    /// A fault with object 5, 9 or 33629.
    Object(ObjectFault),
}

/// Every fault with an example of its parameter, and what it does, for help texts.
const CATALOGUE: [(Fault, &str); 49] = {
    use Fault as F;
    use ObjectFault as O;
    [
        (
            F::RefuseVersionQuery(ResultCode::INTERNAL_ERROR),
            "answers the version query with a failure",
        ),
        (
            F::RefuseNotification(ResultCode::LOW_BATTERY),
            "answers the new version notification with a failure",
        ),
        (
            F::WeakSignal,
            "answers the new version notification with 0x02",
        ),
        (
            F::RefuseExecute(ResultCode::DEVICE_IN_USE),
            "answers the command to upgrade with a failure",
        ),
        (
            F::ReportDownload(ResultCode::CHECK_FAILED),
            "downloads everything, then reports a failure",
        ),
        (
            F::ReportUpgrade(ResultCode::INSTALL_FAILED),
            "comes back with the old version and reports a failure",
        ),
        (
            F::StopsMidDownload(None),
            "goes silent for good in mid-download",
        ),
        (
            F::SilentAfterOneRepeat(None),
            "misses answers, asks once more, then waits to be notified again",
        ),
        (
            F::RebootsInDownload(None),
            "restarts with a new address and goes on where it was",
        ),
        (
            F::LosesProgress(None),
            "restarts and starts over when notified again",
        ),
        (
            F::NeverAnswersNotification,
            "asks for segments without having answered the notification",
        ),
        (
            F::NeverAnswersExecute,
            "upgrades without having answered the command",
        ),
        (
            F::NeverReportsResult,
            "comes back with the new version and never reports it",
        ),
        (
            F::FailsInstallSilently,
            "comes back with the old version and never reports it",
        ),
        (
            F::OnlyServiceData,
            "upgrades within its registration and sends its own data instead of a report",
        ),
        (
            F::HoldsDownloadReport,
            "downloads everything and reports it when notified again",
        ),
        (
            F::RepeatsEverything,
            "sends everything twice and takes every write twice",
        ),
        (
            F::ExecuteTimeoutNoise(None),
            "sends an execute response 0x06 in mid-download",
        ),
        (F::LateReport, "reports the upgrade long after it"),
        (
            F::OldToken,
            "keeps the first observation's token after registering again",
        ),
        (
            F::FullSegments,
            "needs the last segment padded to full size",
        ),
        (
            F::SmallBuffer,
            "holds 512 bytes of a frame, misreads segments of 253 and 509 bytes",
        ),
        (F::NoObject4, "has no object 4, so that its cell is unknown"),
        (F::AlreadyCurrent, "runs the target version already"),
        (
            F::ClaimsTarget,
            "claims the target version from its notification on, until it restarts",
        ),
        (
            F::ClaimsTargetFails(ResultCode::INSTALL_FAILED),
            "claims the target, fails to install, reports so, and goes on claiming",
        ),
        (
            F::ClaimsTargetRestartsOld,
            "claims the target, reports a failure, restarts with the old version",
        ),
        (
            F::ClaimsTargetLateSuccess,
            "claims the target, reports a failure, restarts with the target",
        ),
        (
            F::ClaimsCurrentMidDownload(None),
            "claims the target, loses the network in mid-download, goes on when notified",
        ),
        (
            F::ReportsBeforeRestart,
            "reports success with the old version before it restarts with the new one",
        ),
        (
            F::DirtyVersion,
            "writes versions with stale bytes, blanks, 0xFF or CR LF after them",
        ),
        (
            F::DeafDownload(None),
            "never goes on in mid-download, and still tells its version",
        ),
        (
            F::WrongPsk,
            "has another key than the server, and is never heard (with --psk)",
        ),
        (
            F::ClaimsOtherEndpoint,
            "registers under another device's name with its own key (with --psk)",
        ),
        (
            F::Object(O::ReportsResult(8)),
            "fails with this result of its object, 0x02 to 0x0A",
        ),
        (
            F::Object(O::Defers),
            "defers the update, and carries it out later",
        ),
        (
            F::Object(O::HidesUpdating),
            "never shows that it is updating",
        ),
        (
            F::Object(O::NeverNotifies),
            "is observed and never notifies, so that it has to be read",
        ),
        (
            F::Object(O::IgnoresUpdate),
            "takes the command to update or to install, and nothing happens",
        ),
        (
            F::Object(O::ResultAfterRegistration),
            "tells its result after another registration",
        ),
        (
            F::Object(O::ClaimsSuccessWithOldVersion),
            "comes back with the old version and reports success",
        ),
        (
            F::Object(O::ClaimsSuccessWithNothing),
            "reports success as soon as it is told of a package",
        ),
        (
            F::Object(O::StaleSuccess),
            "has the result of an earlier success until it has downloaded",
        ),
        (F::Object(O::RepeatsBlocks), "asks for each block twice"),
        (
            F::Object(O::AsksOutOfOrder),
            "asks for every other block before the one that precedes it",
        ),
        (
            F::Object(O::UninstallFails),
            "cannot uninstall its software (object 9)",
        ),
        (
            F::Object(O::InstallFails),
            "cannot install the software, which stays delivered (object 9)",
        ),
        (F::Object(O::RefusesUri), "refuses a URI"),
        (F::Object(O::RefusesObservation), "refuses to be observed"),
    ]
};

impl Fault {
    /// Every fault, with an example of its parameter, and what it does.
    pub fn catalogue() -> impl Iterator<Item = (Self, &'static str)> {
        CATALOGUE.into_iter()
    }

    /// The fault's name without parameters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RefuseVersionQuery(_) => "refuse-version-query",
            Self::RefuseNotification(_) => "refuse-notification",
            Self::WeakSignal => "weak-signal",
            Self::RefuseExecute(_) => "refuse-execute",
            Self::ReportDownload(_) => "report-download",
            Self::ReportUpgrade(_) => "report-upgrade",
            Self::StopsMidDownload(_) => "stops-mid-download",
            Self::SilentAfterOneRepeat(_) => "silent-after-one-repeat",
            Self::RebootsInDownload(_) => "reboots-in-download",
            Self::LosesProgress(_) => "loses-progress",
            Self::NeverAnswersNotification => "never-answers-notification",
            Self::NeverAnswersExecute => "never-answers-execute",
            Self::NeverReportsResult => "never-reports-result",
            Self::FailsInstallSilently => "fails-install-silently",
            Self::OnlyServiceData => "only-service-data",
            Self::HoldsDownloadReport => "holds-download-report",
            Self::RepeatsEverything => "repeats-everything",
            Self::ExecuteTimeoutNoise(_) => "execute-timeout-noise",
            Self::LateReport => "late-report",
            Self::OldToken => "old-token",
            Self::FullSegments => "full-segments",
            Self::SmallBuffer => "small-buffer",
            Self::NoObject4 => "no-object-4",
            Self::AlreadyCurrent => "already-current",
            Self::ClaimsTarget => "claims-target",
            Self::ClaimsTargetFails(_) => "claims-target-fails",
            Self::ClaimsTargetRestartsOld => "claims-target-restarts-old",
            Self::ClaimsTargetLateSuccess => "claims-target-late-success",
            Self::ClaimsCurrentMidDownload(_) => "claims-current-mid-download",
            Self::ReportsBeforeRestart => "reports-before-restart",
            Self::DirtyVersion => "dirty-version",
            Self::DeafDownload(_) => "deaf-download",
            Self::WrongPsk => "wrong-psk",
            Self::ClaimsOtherEndpoint => "claims-other-endpoint",
            Self::Object(fault) => fault.name(),
        }
    }

    /// What a server should record for a device that goes wrong in this way, and has a cell.
    ///
    /// [`Self::FullSegments`] fails unless the product's packages are padded, or their size happens to
    /// be a multiple of the segment size. [`Self::ClaimsCurrentMidDownload`] fails when neither a retry nor the
    /// limit of the download outlasts its outage.
    pub const fn expected(self) -> Expected {
        match self {
            Self::Object(fault) => fault.expected(),
            Self::RefuseVersionQuery(_)
            | Self::RefuseNotification(_)
            | Self::WeakSignal
            | Self::RefuseExecute(_)
            | Self::ReportDownload(_)
            | Self::ReportUpgrade(_)
            | Self::StopsMidDownload(_)
            | Self::FailsInstallSilently
            | Self::FullSegments
            | Self::NoObject4
            | Self::ClaimsTargetFails(_)
            | Self::ClaimsTargetRestartsOld
            | Self::DeafDownload(_)
            | Self::WrongPsk
            | Self::ClaimsOtherEndpoint => Expected::Failed,
            Self::SilentAfterOneRepeat(_)
            | Self::RebootsInDownload(_)
            | Self::LosesProgress(_)
            | Self::NeverAnswersNotification
            | Self::NeverAnswersExecute
            | Self::NeverReportsResult
            | Self::OnlyServiceData
            | Self::HoldsDownloadReport
            | Self::RepeatsEverything
            | Self::ExecuteTimeoutNoise(_)
            | Self::LateReport
            | Self::OldToken
            | Self::SmallBuffer
            | Self::AlreadyCurrent
            | Self::ClaimsTarget
            | Self::ClaimsTargetLateSuccess
            | Self::ClaimsCurrentMidDownload(_)
            | Self::ReportsBeforeRestart
            | Self::DirtyVersion => Expected::Succeeded,
        }
    }

    /// Whether it is a fault of an association, which a device without a key cannot have. A server that
    /// checks what it should never accepts a registration of such a device, so that its upgrade ends
    /// without it having been heard.
    pub const fn needs_psk(self) -> bool {
        matches!(self, Self::WrongPsk | Self::ClaimsOtherEndpoint)
    }

    /// Whether a device that is upgraded so can have it. With an object a segment is a block.
    pub const fn fits(self, updates_by: UpdatesBy) -> bool {
        match (self, updates_by) {
            (Self::Object(fault), _) => fault.fits(updates_by),
            (_, UpdatesBy::Pcp) => true,
            // software is installed without a restart
            (Self::NeverReportsResult | Self::FailsInstallSilently, _) => {
                !matches!(updates_by, UpdatesBy::Software)
            }
            _ => matches!(
                self,
                Self::StopsMidDownload(_)
                    | Self::RebootsInDownload(_)
                    | Self::LosesProgress(_)
                    | Self::RepeatsEverything
                    | Self::NoObject4
                    | Self::AlreadyCurrent
                    | Self::WrongPsk
                    | Self::ClaimsOtherEndpoint
            ),
        }
    }

    /// Whether the device tells the target version as soon as it was notified of it.
    pub(crate) const fn claims_target(self) -> bool {
        matches!(
            self,
            Self::ClaimsTarget
                | Self::ClaimsTargetFails(_)
                | Self::ClaimsTargetRestartsOld
                | Self::ClaimsTargetLateSuccess
                | Self::ClaimsCurrentMidDownload(_)
        )
    }

    /// Where in the download the fault strikes: before the request for this segment.
    pub(crate) fn strikes_before(self, segment_count: u16) -> Option<u16> {
        match self {
            Self::StopsMidDownload(segment)
            | Self::SilentAfterOneRepeat(segment)
            | Self::RebootsInDownload(segment)
            | Self::LosesProgress(segment)
            | Self::ClaimsCurrentMidDownload(segment)
            | Self::DeafDownload(segment)
            | Self::ExecuteTimeoutNoise(segment) => Some(
                segment
                    .unwrap_or(segment_count / 2)
                    .min(segment_count.saturating_sub(1)),
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strikes_within_the_package() {
        let fault = Fault::LosesProgress;
        assert_eq!(fault(None).strikes_before(10), Some(5));
        assert_eq!(fault(None).strikes_before(1), Some(0));
        assert_eq!(fault(Some(9)).strikes_before(4), Some(3));
        assert_eq!(Fault::OldToken.strikes_before(4), None);
    }

    #[test]
    fn a_fault_fits_what_a_device_is_upgraded_by() {
        let install = Fault::Object(ObjectFault::InstallFails);
        let defers = Fault::Object(ObjectFault::Defers);
        let stops = Fault::StopsMidDownload(None);
        let fitting = |fault: Fault| UpdatesBy::ALL.map(|way| fault.fits(way));
        assert_eq!(fitting(install), [false, false, true, false]);
        assert_eq!(fitting(defers), [false, true, false, true]);
        assert_eq!(fitting(stops), [true; 4]);
        assert_eq!(fitting(Fault::OldToken), [true, false, false, false]);
    }
}
