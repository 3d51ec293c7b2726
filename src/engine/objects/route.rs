//! How one upgrade reaches its device over LwM2M, and what is under way for it.

use std::time::Duration;

use super::instance::UpdateInstance;
use crate::{
    clock::Instant,
    coap::Push,
    engine::{asked::Read, observation::Purpose},
    ledger::{Protocol, UpdateObject},
    lwm2m::ResourcePath,
    package::Package,
    session,
};

/// What is kept beside the session of a device over LwM2M.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(in crate::engine) struct Route {
    /// The read of its coverage that is under way.
    pub(in crate::engine) read: Option<Read>,
    /// By which object it is upgraded, once that is chosen.
    pub(super) object: UpdateObject,
    pub(super) chosen: bool,
    /// Its product names the resource that tells the version.
    pub(super) version_decides: bool,
    /// The instance of the object.
    pub(super) instance: u16,
    /// Instances whose names are still to be asked for, and one that has none.
    pub(super) candidates: Option<Candidates>,
    /// Where the version is that runs.
    pub(super) version_at: Option<ResourcePath>,
    /// The version that was told there, while the package's is asked for besides.
    pub(super) told_there: Option<crate::package::Version>,
    /// The attributes of its observations were written, or refused.
    pub(super) attributes: bool,
    /// What is still to be answered of the look at its state.
    pub(super) awaits: Awaits,
    /// The newest notification of its state, and of its result (RFC 7641 §3.4).
    pub(super) newest: [Option<(u32, Instant)>; 2],
    /// How it takes packages.
    pub(super) abilities: Abilities,
    /// The package is offered once that is known.
    pub(super) offers_then: bool,
    /// The result that counts once it has told which components are in the way.
    pub(super) conflict: Option<u8>,
    /// The server has restarted in its download, and whether it was written to is not known.
    pub(super) resumes: bool,
    /// What is being written to it.
    pub(super) push: Option<Box<Push>>,
    /// When it was told last how far that is.
    pub(super) push_told_at: Option<Instant>,
    /// What was written to it was written in TLV, as it takes no text.
    pub(super) writes_tlv: bool,
}

/// Instances that may be the right one.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pub(super) left: Vec<u16>,
    /// One that has no name, and so can take a software.
    pub(super) free: Option<u16>,
}

/// What is still to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Awaits {
    pub(super) state: bool,
    pub(super) result: bool,
}

impl Awaits {
    pub(super) const fn any(self) -> bool {
        self.state || self.result
    }
}

/// How a device takes packages, as far as it tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Abilities {
    pub(super) known: bool,
    /// 0: it fetches them, 1: they are written to it, 2: both (resource 9).
    pub(super) delivery: Option<u8>,
    /// By which protocols it fetches them (resource 8).
    pub(super) protocols: Vec<u8>,
    /// How long it may defer an installation (resource 13).
    pub(super) defer: Option<Duration>,
}

impl session::Exchange for Route {
    fn protocol(&self) -> Protocol {
        Protocol::Lwm2m
    }

    fn object(&self) -> UpdateObject {
        self.object
    }

    fn version_decides(&self) -> bool {
        self.version_decides
    }

    fn serves(&self, package: &Package) -> bool {
        let in_blocks = package.content.is_some();
        match (self.chosen, self.object) {
            (true, UpdateObject::Pcp) => package.pcp.is_some(),
            (true, _) => in_blocks || package.http.is_some(),
            // it is not known yet which objects it has
            (false, _) => package.pcp.is_some() || in_blocks,
        }
    }
}

impl Route {
    /// The instance by which the device is upgraded.
    pub(in crate::engine) const fn at(&self) -> UpdateInstance {
        UpdateInstance::new(self.object, self.instance)
    }

    /// Whether it is upgraded by one of the standard's objects.
    pub(in crate::engine) fn is_by_object(&self) -> bool {
        self.object != UpdateObject::Pcp
    }

    /// Whether the version that is told is the device's, and not that of a component of it.
    pub(in crate::engine) fn tells_of_device(&self, package: &Package) -> bool {
        package.component.is_none()
            || matches!(self.object, UpdateObject::Pcp | UpdateObject::Firmware)
    }

    /// What is read or observed for that purpose.
    pub(super) const fn observed(&self, purpose: Purpose) -> ResourcePath {
        match purpose {
            Purpose::Uplink => ResourcePath::UPLINK,
            Purpose::State => self.at().state(),
            Purpose::Result => self.at().result(),
        }
    }

    /// Where the version is that runs.
    pub(super) fn version_at(&self) -> ResourcePath {
        self.version_at
            .unwrap_or_else(|| self.at().running_version())
    }
}
