//! What happens to an upgrade, and what it wants done.

use std::time::Duration;

use pcp::ResultCode;

use super::{
    evidence::Credence,
    transfer::{
        MqttInput,
        object::{ObjectInput, Reset},
        pcp::PcpInput,
    },
};
use crate::{
    clock::Instant,
    config::{AdmissionConfig, UpgradeConfig},
    ledger::{Coverage, Deadline, Lane, Protocol, StopReason, UpdateObject},
    package::Version,
};

/// The settings an upgrade follows, and the version it leads to.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The version that the package holds.
    pub target: Version,
    /// Stage limits.
    pub upgrade: &'a UpgradeConfig,
    /// Coverage classes.
    pub admission: &'a AdmissionConfig,
    /// What the device speaks.
    pub protocol: Protocol,
    /// By which of its objects it is upgraded, where it speaks LwM2M.
    pub object: UpdateObject,
    /// Whether what it tells as its version decides, whatever result it tells: its product names the resource.
    pub version_decides: bool,
    /// What it ran before, as it has said when it was asked.
    pub ran: Option<Version>,
    /// Whether it can be counted how much of a package it was served, where it fetches that over HTTP.
    pub counted: bool,
    /// Whether it is told when it connects anew: not so on somebody else's broker.
    pub connections_told: bool,
    /// In whose queue a device stands that is in no cell: of its gateway, or its site; `None` where it has neither.
    pub home: Option<Lane>,
}

/// What happens to an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The device registered: whatever it was asked before is forgotten.
    Registered {
        /// Nothing but a restart of the device explains it.
        restarted: bool,
    },
    /// The device has restarted, by another sign than a registration.
    Restarted,
    /// The device, which speaks MQTT, has connected: what it was asked before is lost.
    Connected,
    /// The device is reached through another gateway from now on: what it was asked and offered through the one before is void.
    Moved,
    /// The device, which speaks MQTT, is heard after a silence, and nobody tells whether it has connected anew meanwhile: what it
    /// was asked before may be lost.
    HeardAgain,
    /// The device, which speaks MQTT and cannot be asked, is not heard, and nobody tells whether it is connected: it is dealt with as if
    /// it were there.
    MayBeThere,
    /// The device was heard otherwise: a registration update, service data, an answer to a ping.
    Heard,
    /// The device was asked for its version, and answered; what that is worth if it names the target.
    VersionAnswered(ResultCode, Option<Version>, Credence),
    /// The coverage was read; `None` when the device does not tell anything of it.
    CoverageAnswered(Option<Coverage>),
    /// The cell was read; `None` when the device does not tell it.
    CellAnswered(Option<u32>),
    /// The admission says that the coverage is too old to admit by.
    MeasureAnew,
    /// The device, which waits for a slot, could not have been served for so long: it slept, or its lane was closed.
    Slept(Duration),
    /// The admission gave a slot.
    SlotGranted,
    /// The device does not have what carries the upgrade.
    NotSupported,
    /// A deadline of the state is reached.
    Reached(Deadline),
    /// The operator stopped the task, cancelled the upgrade, or removed the device.
    Stopped(StopReason),
    /// Its window has ended: what is not commanded to install is taken back.
    WindowEnded,
    /// Something of the transfer over PCP.
    Pcp(PcpInput),
    /// Something of a transfer over MQTT.
    Mqtt(MqttInput),
    /// Something of a transfer by one of the standard's objects.
    Object(ObjectInput),
}

/// What to do, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask for the version.
    AskVersion,
    /// Read the coverage.
    ReadCoverage,
    /// Read the cell alone.
    ReadCell,
    /// Offer the new version.
    Offer,
    /// Tell where the package is, to a device that has confirmed the offer first (`QuecThing`).
    TellPackage,
    /// Command the installation.
    Command,
    /// Ask for the state and the result of its upgrade, and to be told when they change (objects 5, 9 and 33629).
    Look,
    /// Have it forget what it has (objects 5, 9 and 33629).
    Reset(Reset),
    /// Have it activate what it has installed (object 9).
    Activate,
}

/// A place in a queue, kept while the coverage is measured anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// In whose queue: of a cell, or of a gateway or site for a device that is in none.
    pub lane: Lane,
    /// How many may upgrade in the lane at once for this device to be one of them.
    pub limit: u32,
    /// When the device began to wait.
    pub since: Instant,
    /// When the limit of the wait runs out.
    pub until: Instant,
    /// Slots that were given back because the device had fallen asleep, or its download had gone quiet.
    pub slots_returned: u8,
}

impl Place {
    /// The cell, if it is in the queue of one.
    pub const fn cell(&self) -> Option<u32> {
        match self.lane {
            Lane::Cell(cell) => Some(cell),
            Lane::Site(_) | Lane::Gateway(_) => None,
        }
    }
}

/// Slots that an upgrade may give back: for a device that fell asleep before the offer, which keeps the next one to the end of
/// its limit, and for one whose download goes quiet, which fails with the next one.
pub(super) const MAX_SLOTS_RETURNED: u8 = 3;
