use std::sync::Arc;

use super::{DeviceRecord, UpgradeOrder};
use crate::{
    ledger::{DeviceId, Failure, Protocol, StopReason, TakeBack, UpgradeId, Via},
    session::{GateOrder, Offers},
};

/// What the operator's side asks of the engine.
#[derive(Debug, Clone)]
pub enum Command {
    /// Take these devices from before a restart. Those that are known already stay as they are.
    Restore(Vec<DeviceRecord>),
    /// Every device from before the restart is known.
    Restored,
    /// The endpoint may register; or what the operator has changed about it.
    AddDevice {
        /// The device.
        endpoint: String,
        /// The product it belongs to from now on.
        product: String,
        /// It is refused where nothing is encrypted.
        secure: bool,
        /// What it speaks.
        protocol: Protocol,
        /// How it is reached.
        via: Via,
    },
    /// The endpoint may no longer register; its upgrade fails.
    RemoveDevice {
        /// The device.
        endpoint: String,
    },
    /// Begin an attempt.
    Start {
        /// What to do.
        order: UpgradeOrder,
        /// With what.
        offers: Arc<Offers>,
    },
    /// Record that an attempt cannot even begin.
    Fail {
        /// What was to be done.
        order: UpgradeOrder,
        /// Why it cannot.
        failure: Failure,
    },
    /// End an upgrade.
    Stop {
        /// The device.
        endpoint: String,
        /// The upgrade.
        upgrade: UpgradeId,
        /// Why.
        reason: StopReason,
    },
    /// An upgrade is taken back at another time than was ordered, or not at all.
    TakeBack {
        /// The device.
        endpoint: String,
        /// The upgrade.
        upgrade: UpgradeId,
        /// From now on.
        back: Option<TakeBack>,
    },
    /// Ask the device for its version, unless an upgrade does: now, or when it is heard again.
    AskVersion {
        /// The device.
        endpoint: String,
    },
    /// Forget an upgrade without a word: the store holds another truth about it.
    Abandon {
        /// The upgrade.
        upgrade: UpgradeId,
    },
    /// What the gate says of a device that waits for a slot, or has one from now on.
    Gate {
        /// The device.
        device: DeviceId,
        /// What it says.
        order: GateOrder,
    },
    /// Whether changes can be stored. While they cannot, registrations are answered 5.03; what goes on without a
    /// change goes on.
    StoreAvailable(bool),
}

impl Command {
    /// The device that it is about, by its name.
    pub fn endpoint(&self) -> Option<&str> {
        match self {
            Self::AddDevice { endpoint, .. }
            | Self::RemoveDevice { endpoint }
            | Self::AskVersion { endpoint }
            | Self::TakeBack { endpoint, .. }
            | Self::Stop { endpoint, .. } => Some(endpoint),
            Self::Start { order, .. } | Self::Fail { order, .. } => Some(&order.endpoint),
            Self::Restore(_)
            | Self::Restored
            | Self::Gate { .. }
            | Self::Abandon { .. }
            | Self::StoreAvailable(_) => None,
        }
    }
}
