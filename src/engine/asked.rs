//! What a device is asked.

use crate::{
    ledger::Outbound,
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
}

impl Tag {
    /// What it is among the facts of an attempt; of a read, what was read.
    pub(super) fn message(self, path: Option<ResourcePath>) -> Outbound {
        match self {
            Self::Attributes => Outbound::Attributes,
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
