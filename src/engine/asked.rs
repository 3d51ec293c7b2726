//! What a device is asked.

use super::{
    objects::{Again, Get, UpdateInstance},
    observation::Purpose,
};
use crate::{
    ledger::{Outbound, UpdateStep},
    lwm2m::{ConnectivityReading, ResourcePath},
};

/// Why a request was sent to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// Write the attributes that the observation of the uplink is to have.
    Attributes,
    /// Observe the uplink.
    Observe,
    /// PCP 19.
    Version,
    /// Read object 4 or a resource of it.
    Read,
    /// PCP 20.
    Notify,
    /// PCP 21, the answer that carries this segment.
    Segment(u16),
    /// The answer to the PCP message of this code.
    Answer(u8),
    /// PCP 23.
    Execute,
    /// An empty message that is to be rejected.
    Ping,
    /// Write the lifetime of the registration.
    Lifetime,
    /// Read a resource of the object by which it is upgraded.
    Get(Get),
    /// Write the attributes that the observation of its state or its result is to have.
    AttributesOf(Purpose),
    /// Observe its state or its result.
    Watch(Purpose),
    /// What it is told in an upgrade by one of the standard's objects.
    Step(UpdateStep),
    /// A block of the package, of this number.
    Block(u32),
    /// Have it forget a package, as its upgrade has ended.
    Forget(UpdateInstance, Again),
}

impl Tag {
    /// Whether it carries a frame of PCP.
    pub(super) const fn is_frame(self) -> bool {
        matches!(
            self,
            Self::Version | Self::Notify | Self::Segment(_) | Self::Answer(_) | Self::Execute
        )
    }

    /// Whether it is about one of the standard's objects by which devices are upgraded.
    pub(super) const fn is_of_object(self) -> bool {
        matches!(
            self,
            Self::Get(_)
                | Self::AttributesOf(_)
                | Self::Watch(_)
                | Self::Step(_)
                | Self::Block(_)
                | Self::Forget(..)
        )
    }

    /// What it is among the facts of an attempt; of a read, what was read.
    pub(super) fn message(self, path: Option<ResourcePath>) -> Outbound {
        match self {
            Self::Attributes | Self::AttributesOf(_) => Outbound::Attributes,
            Self::Observe => Outbound::Observation,
            Self::Version => Outbound::VersionQuery,
            Self::Read => {
                let path = path.unwrap_or(ResourcePath::CONNECTIVITY);
                Outbound::Read {
                    path: path.to_string(),
                }
            }
            Self::Notify => Outbound::NewVersion,
            Self::Segment(segment) => Outbound::Segment { segment },
            Self::Answer(to) => Outbound::Answer { to },
            Self::Execute => Outbound::Command,
            Self::Ping => Outbound::Ping,
            Self::Lifetime => Outbound::Lifetime,
            Self::Get(_) => Outbound::Read {
                path: path.unwrap_or(ResourcePath::FIRMWARE_VERSION).to_string(),
            },
            Self::Watch(_) => Outbound::ObservationOf {
                path: path.map(|path| path.to_string()).unwrap_or_default(),
            },
            Self::Step(step) => Outbound::Update {
                step,
                path: path.map(|path| path.to_string()).unwrap_or_default(),
            },
            Self::Block(number) => Outbound::Block { number },
            Self::Forget(at, _) => Outbound::Update {
                step: UpdateStep::Reset,
                path: at.uri().to_string(),
            },
        }
    }
}

/// A read under way.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) path: ResourcePath,
    /// What earlier reads of the same question yielded.
    pub(super) so_far: ConnectivityReading,
    pub(super) body: Vec<u8>,
}

impl Read {
    pub(super) fn object() -> Self {
        Self::resource(ResourcePath::CONNECTIVITY)
    }

    pub(super) const fn path(&self) -> ResourcePath {
        self.path
    }

    pub(super) fn resource(path: ResourcePath) -> Self {
        Self {
            path,
            so_far: ConnectivityReading::default(),
            body: Vec::new(),
        }
    }
}
