use serde::{Deserialize, Serialize};

/// Where an upgrade that has begun stands. Each stage has its own time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing was heard from the device since the upgrade began.
    WaitingForDevice,
    /// The device was asked for its version (PCP 19).
    QueryingVersion,
    /// The device was asked for cell, RSRP and SINR.
    QueryingCoverage,
    /// The device was asked for its cell alone.
    QueryingCell,
    /// The cell has no slot for the device yet.
    WaitingForSlot,
    /// The new version was notified (PCP 20); the device fetches segments (PCP 21). Holds a slot.
    Downloading,
    /// The device was told to upgrade (PCP 23). Holds a slot.
    Executing,
}

impl Stage {
    /// Every stage, in the order of the flow.
    pub const ALL: [Self; 7] = [
        Self::WaitingForDevice,
        Self::QueryingVersion,
        Self::QueryingCoverage,
        Self::QueryingCell,
        Self::WaitingForSlot,
        Self::Downloading,
        Self::Executing,
    ];

    /// The name used in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WaitingForDevice => "waiting_for_device",
            Self::QueryingVersion => "querying_version",
            Self::QueryingCoverage => "querying_coverage",
            Self::QueryingCell => "querying_cell",
            Self::WaitingForSlot => "waiting_for_slot",
            Self::Downloading => "downloading",
            Self::Executing => "executing",
        }
    }

    /// The stage of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }

    /// Whether a device in this stage occupies a slot of its cell, where it competes for one.
    pub const fn holds_slot(self) -> bool {
        self.is_transfer()
    }

    /// Whether a device in this stage has been offered the new version.
    pub const fn is_transfer(self) -> bool {
        matches!(self, Self::Downloading | Self::Executing)
    }
}
