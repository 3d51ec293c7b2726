//! Whom a task is for, besides its selection.

use super::GroupId;
use crate::filter::Filter;

/// Whom a task leaves out of its selection: whoever is in any of these.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exclude {
    /// These endpoints, each of a device that is known.
    pub devices: Vec<String>,
    /// Whom this lets through.
    pub filter: Option<Filter>,
    /// Who belongs to this group.
    pub group: Option<GroupId>,
}

impl Exclude {
    /// Nobody is left out.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.filter.is_none() && self.group.is_none()
    }
}

/// Whom a task is for that is not for a list of devices: of its product those that both let through, or all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Targets {
    /// Whom this lets through.
    pub filter: Option<Filter>,
    /// Who belongs to this group.
    pub group: Option<GroupId>,
}

/// Whom a task leaves out, without the names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Narrowed {
    /// So many endpoints that were named.
    pub devices: u64,
    /// Whom this lets through.
    pub filter: Option<Filter>,
    /// Who belongs to this group.
    pub group: Option<GroupId>,
}

/// What came of a part of a sweep for devices that join a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Joined {
    /// So many have joined.
    pub devices: u64,
    /// The sweep goes on after this device; `None`: it is through.
    pub next: Option<String>,
}
