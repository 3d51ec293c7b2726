//! What the states and the results of the standard's objects say.
//!
//! Source: OMA LwM2M Core 1.2 §E.6 (object 5), OMA LWM2M-SwMgmt 1.0 (object 9), and the registered definition of object 33629.

use crate::ledger::{UpdateObject, UpdateStep, WhyObject};

/// The object, as it is called where people read.
pub(super) fn object(object: UpdateObject) -> String {
    let name = match object {
        UpdateObject::Pcp => "PCP in BinaryAppDataContainer",
        UpdateObject::Firmware => "Firmware Update",
        UpdateObject::Software => "Software Management",
        UpdateObject::Components => "Advanced Firmware Update",
    };
    format!("{name} (object {})", object.number())
}

/// Why the device is upgraded through it.
pub(super) const fn why(why: WhyObject) -> &'static str {
    match why {
        WhyObject::Product => "its product says so",
        WhyObject::Component => "the package is for one of its components",
        WhyObject::Announced => "it announces that object",
        WhyObject::Unannounced => "it does not say which objects it has",
    }
}

/// What a state means.
pub(super) const fn state(object: UpdateObject, state: u8) -> &'static str {
    match (object, state) {
        (UpdateObject::Software, 0) => "initial",
        (UpdateObject::Software, 1) => "download started",
        (UpdateObject::Software, 3) => "delivered",
        (UpdateObject::Software, 4) => "installed",
        (_, 0) => "idle",
        (_, 1) => "downloading",
        (_, 2) => "downloaded",
        (_, 3) => "updating",
        _ => "a state that the standard does not have",
    }
}

/// What a result means.
pub(super) const fn result(object: UpdateObject, result: u8) -> &'static str {
    if matches!(object, UpdateObject::Software) {
        return match result {
            0 => "initial value",
            1 => "downloading",
            2 => "installed",
            3 => "downloaded, and its integrity verified",
            50 => "not enough storage for the package",
            51 => "out of memory during the download",
            52 => "connection lost during the download",
            53 => "the package failed the check of its integrity",
            54 => "unsupported type of package",
            56 => "invalid URI",
            57 => "an error of the device's own during the update",
            58 => "the installation failed",
            59 => "the software before could not be uninstalled for the update",
            _ => "a result that the standard does not have",
        };
    }
    match result {
        0 => "initial value",
        1 => "updated",
        2 => "not enough flash memory for the package",
        3 => "out of RAM during the download",
        4 => "connection lost during the download",
        5 => "the package failed the check of its integrity",
        6 => "unsupported type of package",
        7 => "invalid URI",
        8 => "the update failed",
        9 => "unsupported protocol",
        10 => "cancelled",
        11 => "deferred",
        12 => "in conflict with the state of another component",
        13 => "another component is needed first",
        _ => "a result that the standard does not have",
    }
}

/// What a device is told.
pub(super) const fn step(step: UpdateStep) -> &'static str {
    match step {
        UpdateStep::Reset => "to forget what it has",
        UpdateStep::Package => "to take the package",
        UpdateStep::Install => "to install it",
        UpdateStep::Activate => "to activate it",
    }
}
