//! What is known of how an attempt ended, besides the reason: arguments of an outcome.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Misread, UpdateObject, UpdateStep};
use crate::{
    clock::UtcMillis,
    package::{Fits, Version},
};

/// What is known of how an attempt ended. Each is there where it says something.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// The result code that the device gave (PCP), or the result that its object tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<u8>,
    /// The code of the failure that the device reported (MQTT): one of IoTDA's or a vendor's; those of `ThingsPanel` and
    /// `QuecThing` are negative. Where it refused something in an upgrade by one of the standard's objects, the code of its answer
    /// in `CoAP`: 405 for 4.05.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The object by which the device is upgraded, whose result is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<UpdateObject>,
    /// What it refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<UpdateStep>,
    /// What the device said of it, [`MAX_DESCRIPTION`] characters at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Nothing shows that the device was upgraded but what it says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unverified: bool,
    /// The segment that was asked for last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<u16>,
    /// The version that the device runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The hardware of the device, as the operator has given it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<String>,
    /// The version of the package that is for the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Version>,
    /// What the packages of the task are for, [`MAX_WANTED`] at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wanted: Vec<Wanted>,
    /// The objects that the device announces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<Vec<u16>>,
    /// What was not understood of what the device told of its cell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_understood: Option<Misread>,
    /// The limit that ran out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// How the device stood in its queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// The last moments of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Last>,
}

/// So many characters are kept of what a device says in words.
pub const MAX_DESCRIPTION: usize = 128;

/// So many packages are told of to a device that none is for, and of each so many versions and kinds of hardware.
pub const MAX_WANTED: usize = 5;

/// A package of a task, and the devices that it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its version.
    pub target: Version,
    /// What they run, and what they are.
    pub from: Fits,
}

/// What is known of an outcome besides its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Its arguments.
    Facts(Box<Facts>),
    /// All of it in a sentence, from before there were codes.
    Sentence(String),
}

/// A limit of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Its name in the settings.
    pub setting: Cow<'static, str>,
    /// What it is set to.
    pub seconds: u64,
}

/// How a device stood in the queue of its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// The cell.
    pub cell: u32,
    /// Slots that were taken.
    pub taken: u32,
    /// How many may upgrade at once by its coverage.
    pub limit: u32,
    /// Devices that waited before it.
    pub ahead: usize,
}

/// The last moments of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Last {
    /// What was sent last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<Sent>,
    /// When the server was started, where that was in the midst of the attempt: what was before is not known.
    #[serde(
        default,
        with = "crate::clock::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub known_since: Option<UtcMillis>,
    /// What the device said last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<Said>,
    /// When it was heard last; `None` when it never was.
    #[serde(
        default,
        with = "crate::clock::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub heard_at: Option<UtcMillis>,
    /// That time is what was stored before the server was started; it may have been heard since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub heard_as_stored: bool,
}

/// What was sent to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The message.
    #[serde(flatten)]
    pub message: Outbound,
    /// How often.
    pub times: u32,
    /// When, the last time.
    #[serde(with = "crate::clock::rfc3339")]
    pub at: UtcMillis,
    /// What became of it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// What a device said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The message.
    #[serde(flatten)]
    pub message: Inbound,
    /// When.
    #[serde(with = "crate::clock::rfc3339")]
    pub at: UtcMillis,
}

/// A message to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum Outbound {
    /// The attributes of the observation.
    Attributes,
    /// The observation.
    Observation,
    /// The version query (PCP 19).
    VersionQuery,
    /// A read.
    Read {
        /// Of what.
        path: String,
    },
    /// The new version (PCP 20).
    NewVersion,
    /// A segment (PCP 21).
    Segment {
        /// Its number.
        segment: u16,
    },
    /// The answer to a message of the device.
    Answer {
        /// That message's code in PCP.
        to: u8,
    },
    /// The command to upgrade (PCP 23).
    Command,
    /// A ping.
    Ping,
    /// The lifetime of the registration.
    Lifetime,
    /// The version query over MQTT (IoTDA).
    VersionRequest,
    /// The offer of the package over MQTT.
    PackageOffer,
    /// The observation of a resource.
    ObservationOf {
        /// Which one.
        path: String,
    },
    /// Something in an upgrade by one of the standard's objects.
    Update {
        /// What.
        step: UpdateStep,
        /// The resource that is written or executed.
        path: String,
    },
    /// A block of the package (Block1).
    Block {
        /// Its number.
        number: u32,
    },
}

/// What became of a message to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fate", rename_all = "snake_case")]
pub enum Fate {
    /// It was not acknowledged.
    Open,
    /// It was acknowledged.
    Acknowledged,
    /// It was refused.
    Refused {
        /// The CoAP code.
        answer: String,
    },
    /// It was rejected with a Reset.
    Rejected,
}

/// A message from a device. `result` is a result code of PCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum Inbound {
    /// A registration.
    Registration,
    /// An update of its registration.
    Update,
    /// Its own data.
    ServiceData,
    /// The answer to a ping.
    Pong,
    /// The answer to a read.
    ReadAnswer {
        /// Of what.
        path: String,
        /// The CoAP code.
        answer: String,
    },
    /// The answer to the version query (PCP 19).
    Version {
        /// Its result.
        result: u8,
        /// The version, where it succeeded.
        version: Option<Version>,
    },
    /// The answer to the new version (PCP 20).
    NewVersionAnswer {
        /// Its result.
        result: u8,
    },
    /// The request for a segment (PCP 21).
    SegmentRequest {
        /// The segment's number.
        segment: u16,
    },
    /// The report of the download (PCP 22).
    DownloadReport {
        /// Its result.
        result: u8,
    },
    /// The answer to the command to upgrade (PCP 23).
    CommandAnswer {
        /// Its result.
        result: u8,
    },
    /// A connection over MQTT.
    Connection,
    /// The version, over MQTT.
    VersionReport {
        /// It.
        version: Version,
    },
    /// How an upgrade goes, over MQTT.
    ProgressReport {
        /// The result code; 0 for none.
        code: i32,
        /// Percent, where it says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        percent: Option<u8>,
        /// The version that it names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Version>,
        /// What it says in words, [`MAX_DESCRIPTION`] characters at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
    },
    /// What a resource is, as the device was asked or as it notifies.
    Told {
        /// Of what.
        path: String,
        /// Its value.
        value: u8,
    },
    /// A request for a part of the package in blocks.
    BlockRequest,
    /// The report of the upgrade (PCP 24).
    UpgradeReport {
        /// Its result.
        result: u8,
        /// The version that it names.
        version: Version,
    },
}

impl Outbound {
    /// Whether it is the same, whatever is read.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Read { .. }, Self::Read { .. }) | (Self::Block { .. }, Self::Block { .. }) => {
                true
            }
            (Self::Update { step, .. }, Self::Update { step: other, .. }) => step == other,
            _ => self == other,
        }
    }

    /// Whether it serves the exchange, and is told only where nothing else was sent.
    pub const fn is_aside(&self) -> bool {
        matches!(
            self,
            Self::Attributes | Self::Observation | Self::Ping | Self::Lifetime
        )
    }
}
