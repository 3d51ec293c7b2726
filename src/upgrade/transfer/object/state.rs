//! What the states and results of the objects mean for an upgrade, and how a device is made idle.

use crate::ledger::UpdateObject;

/// How a device is made to forget what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// By an empty package URI (objects 5 and 33629).
    EmptyUri,
    /// By a package of one NUL (objects 5 and 33629).
    NulPackage,
    /// By its resource Cancel (objects 5 and 33629).
    Cancel,
    /// By its resource Uninstall, for an update of what is installed (object 9).
    UninstallForUpdate,
    /// By its resource Uninstall (object 9).
    Uninstall,
}

impl Reset {
    /// The next way, where this one did not help.
    pub(super) const fn next(self) -> Option<Self> {
        match self {
            Self::EmptyUri => Some(Self::NulPackage),
            Self::NulPackage => Some(Self::Cancel),
            Self::UninstallForUpdate => Some(Self::Uninstall),
            Self::Cancel | Self::Uninstall => None,
        }
    }
}

/// Where a device stands, whichever object it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Idle,
    Downloading,
    /// It has the whole package, and may be told to install it.
    Downloaded,
    Updating,
    /// Object 9: a software is installed.
    Installed,
    /// Of no meaning that is known.
    Other,
}

impl State {
    pub(super) const fn of(object: UpdateObject, number: u8) -> Self {
        match (object, number) {
            (_, 0) => Self::Idle,
            (UpdateObject::Software, 1 | 2) | (_, 1) => Self::Downloading,
            (UpdateObject::Software, 3) | (_, 2) => Self::Downloaded,
            (UpdateObject::Software, 4) => Self::Installed,
            (_, 3) => Self::Updating,
            _ => Self::Other,
        }
    }
}

/// What a result says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Nothing,
    Success,
    Deferred,
    Failure,
}

/// What that result of the object says.
pub(super) const fn verdict(object: UpdateObject, result: u8) -> Verdict {
    match (object, result) {
        (UpdateObject::Software, 2) => Verdict::Success,
        (UpdateObject::Software, 50..) => Verdict::Failure,
        (UpdateObject::Software, _) | (_, 0) => Verdict::Nothing,
        (_, 1) => Verdict::Success,
        (_, 11) => Verdict::Deferred,
        _ => Verdict::Failure,
    }
}
