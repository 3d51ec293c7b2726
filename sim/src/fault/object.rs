//! Faults of devices that are upgraded by an object of OMA's instead of PCP.

use super::Expected;
use crate::object::UpdatesBy;

/// One way to go wrong with object 5, 9 or 33629.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectFault {
    /// Ends with this result of object 5, 2 to 10, where it would occur; with object 9 with what stands for it there.
    ReportsResult(u8),
    /// Defers the update (result 11), and carries it out later.
    Defers,
    /// Never shows that it is updating.
    HidesUpdating,
    /// Is observed, and never notifies: it has to be read.
    NeverNotifies,
    /// Takes the command to update or to install, and nothing happens.
    IgnoresUpdate,
    /// Comes back as if it were still updating, and tells its result after another registration.
    ResultAfterRegistration,
    /// Comes back with the old version, and reports success.
    ClaimsSuccessWithOldVersion,
    /// Reports success as soon as it is told of a package.
    ClaimsSuccessWithNothing,
    /// Has result 1 from an earlier update, until it has downloaded.
    StaleSuccess,
    /// Asks for each block twice.
    RepeatsBlocks,
    /// Asks for every other block before the one that precedes it.
    AsksOutOfOrder,
    /// Cannot uninstall its software (59), which an update of that begins with.
    UninstallFails,
    /// Cannot install the software (58), which stays delivered.
    InstallFails,
    /// Refuses a URI (4.00).
    RefusesUri,
    /// Refuses to be observed (4.05).
    RefusesObservation,
}

impl ObjectFault {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ReportsResult(_) => "reports-result",
            Self::Defers => "defers",
            Self::HidesUpdating => "hides-updating",
            Self::NeverNotifies => "never-notifies",
            Self::IgnoresUpdate => "ignores-update",
            Self::ResultAfterRegistration => "result-after-registration",
            Self::ClaimsSuccessWithOldVersion => "claims-success-with-old-version",
            Self::ClaimsSuccessWithNothing => "claims-success-with-nothing",
            Self::StaleSuccess => "stale-success",
            Self::RepeatsBlocks => "repeats-blocks",
            Self::AsksOutOfOrder => "asks-out-of-order",
            Self::UninstallFails => "uninstall-fails",
            Self::InstallFails => "install-fails",
            Self::RefusesUri => "refuses-uri",
            Self::RefusesObservation => "refuses-observation",
        }
    }

    pub(super) const fn expected(self) -> Expected {
        match self {
            Self::ReportsResult(_)
            | Self::IgnoresUpdate
            | Self::ClaimsSuccessWithOldVersion
            | Self::ClaimsSuccessWithNothing
            | Self::UninstallFails
            | Self::InstallFails
            | Self::RefusesUri => Expected::Failed,
            Self::Defers
            | Self::HidesUpdating
            | Self::NeverNotifies
            | Self::ResultAfterRegistration
            | Self::StaleSuccess
            | Self::RepeatsBlocks
            | Self::AsksOutOfOrder
            | Self::RefusesObservation => Expected::Succeeded,
        }
    }

    /// Whether a device that is upgraded so can have it.
    pub(super) const fn fits(self, updates_by: UpdatesBy) -> bool {
        match self {
            Self::UninstallFails | Self::InstallFails => matches!(updates_by, UpdatesBy::Software),
            // software is installed without a restart
            Self::Defers
            | Self::HidesUpdating
            | Self::ResultAfterRegistration
            | Self::StaleSuccess => {
                matches!(updates_by, UpdatesBy::Firmware | UpdatesBy::Components)
            }
            _ => !matches!(updates_by, UpdatesBy::Pcp),
        }
    }

    /// Whether only a device that is told of a URI has it.
    pub(crate) const fn needs_uri(self) -> bool {
        matches!(self, Self::RefusesUri | Self::ReportsResult(7 | 9))
    }
}
