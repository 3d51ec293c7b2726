//! What of a device over LwM2M takes a package.

use serde::{Deserialize, Serialize};

/// The object of a device through which it is upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateObject {
    /// PCP in `BinaryAppDataContainer` (object 19).
    #[default]
    Pcp,
    /// Firmware Update (object 5, OMA LwM2M Core §E.6).
    Firmware,
    /// Software Management (object 9, OMA LWM2M-SwMgmt 1.0).
    Software,
    /// Advanced Firmware Update (object 33629): an instance for each component.
    Components,
}

impl UpdateObject {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pcp, Self::Firmware, Self::Software, Self::Components];

    /// The name used in the API and the settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcp => "pcp",
            Self::Firmware => "firmware",
            Self::Software => "software",
            Self::Components => "components",
        }
    }

    /// The object's number.
    pub const fn number(self) -> u16 {
        match self {
            Self::Pcp => 19,
            Self::Firmware => 5,
            Self::Software => 9,
            Self::Components => 33_629,
        }
    }
}

/// What a device is told in an upgrade by one of the standard's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateStep {
    /// To forget what it has, so that it is idle.
    Reset,
    /// Where the package is, or its blocks.
    Package,
    /// To install it.
    Install,
    /// To activate what it has installed (object 9).
    Activate,
}

impl UpdateStep {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Reset, Self::Package, Self::Install, Self::Activate];
}

/// Why a device is upgraded through an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyObject {
    /// Its product says so (`update_by`).
    Product,
    /// The package is for a software or component, which the object has.
    Component,
    /// It announces the object, and none that would be preferred.
    Announced,
    /// It does not say which objects it has.
    Unannounced,
}
