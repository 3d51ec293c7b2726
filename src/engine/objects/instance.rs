//! The resources of the objects by which devices are upgraded.
//!
//! Sources: OMA LwM2M Core 1.2 §E.6 (object 5), OMA LWM2M-SwMgmt 1.0 (object 9), and the registered definition of object 33629,
//! which has the numbers of object 5.

use crate::{ledger::UpdateObject, lwm2m::ResourcePath};

/// An instance of an object by which a device is upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct UpdateInstance {
    object: UpdateObject,
    instance: u16,
}

impl UpdateInstance {
    /// That instance of that object; object 5 has one.
    pub(in crate::engine) const fn new(object: UpdateObject, instance: u16) -> Self {
        Self { object, instance }
    }

    /// The object.
    pub(in crate::engine) const fn object(self) -> UpdateObject {
        self.object
    }

    /// The number of the instance.
    pub(in crate::engine) const fn instance(self) -> u16 {
        self.instance
    }

    const fn resource(self, of_firmware: u16, of_software: u16) -> ResourcePath {
        let resource = match self.object {
            UpdateObject::Software => of_software,
            _ => of_firmware,
        };
        ResourcePath::of_resource(self.object.number(), self.instance, resource)
    }

    /// Package: its bytes are written to it.
    pub(in crate::engine) const fn package(self) -> ResourcePath {
        self.resource(0, 2)
    }

    /// Package URI.
    pub(in crate::engine) const fn uri(self) -> ResourcePath {
        self.resource(1, 3)
    }

    /// Update, or Install.
    pub(in crate::engine) const fn install(self) -> ResourcePath {
        self.resource(2, 4)
    }

    /// State, or Update State.
    pub(in crate::engine) const fn state(self) -> ResourcePath {
        self.resource(3, 7)
    }

    /// Update Result.
    pub(in crate::engine) const fn result(self) -> ResourcePath {
        self.resource(5, 9)
    }

    /// Which protocols a package can be fetched by, of objects 5 and 33629.
    pub(in crate::engine) const fn protocols(self) -> ResourcePath {
        self.resource(8, u16::MAX)
    }

    /// Whether packages are fetched, written, or both, of objects 5 and 33629.
    pub(in crate::engine) const fn delivery_method(self) -> ResourcePath {
        self.resource(9, u16::MAX)
    }

    /// Cancel, of objects 5 and 33629.
    pub(in crate::engine) const fn cancel(self) -> ResourcePath {
        self.resource(10, u16::MAX)
    }

    /// For how many seconds an installation may be deferred, of objects 5 and 33629.
    pub(in crate::engine) const fn max_defer_period(self) -> ResourcePath {
        self.resource(13, u16::MAX)
    }

    /// Which instances are in the way, of object 33629.
    pub(in crate::engine) const fn conflicts(self) -> ResourcePath {
        self.resource(17, u16::MAX)
    }

    /// Uninstall, of object 9.
    pub(in crate::engine) const fn uninstall(self) -> ResourcePath {
        self.resource(u16::MAX, 6)
    }

    /// Activate, of object 9.
    pub(in crate::engine) const fn activate(self) -> ResourcePath {
        self.resource(u16::MAX, 10)
    }

    /// What the software or the component is called.
    pub(in crate::engine) const fn name(self) -> ResourcePath {
        self.resource(14, 0)
    }

    /// The version of the package that was downloaded or installed last.
    pub(in crate::engine) const fn package_version(self) -> ResourcePath {
        self.resource(7, 1)
    }

    /// Where the version is that runs: of a device as a whole in object 3.
    pub(in crate::engine) const fn running_version(self) -> ResourcePath {
        match self.object {
            UpdateObject::Components => self.resource(15, u16::MAX),
            UpdateObject::Software => self.package_version(),
            UpdateObject::Pcp | UpdateObject::Firmware => ResourcePath::FIRMWARE_VERSION,
        }
    }
}
