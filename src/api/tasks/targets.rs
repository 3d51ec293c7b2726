//! Whom a task is for, besides its selection, as the API takes and shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::extract::{self, Fields},
    filter::Filter,
    store::{Exclude, GroupId, Narrowed, Targets},
    task::Membership,
};

/// Whether devices join a task that come to fit after it was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum MembershipName {
    /// None does.
    #[default]
    Snapshot,
    /// They do, until it ends.
    Joining,
}

impl From<MembershipName> for Membership {
    fn from(name: MembershipName) -> Self {
        match name {
            MembershipName::Snapshot => Self::Snapshot,
            MembershipName::Joining => Self::Joining,
        }
    }
}

impl From<Membership> for MembershipName {
    fn from(membership: Membership) -> Self {
        match membership {
            Membership::Snapshot => Self::Snapshot,
            Membership::Joining => Self::Joining,
        }
    }
}

/// Devices that may be named. More make a group.
const MAX_EXCLUDED: usize = 10_000;

/// Devices that a task leaves out of its selection: whoever is in any of these. Give one of them at least.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExcludeBody {
    /// The endpoint names of devices that are known, 1 to 10,000; for more, add a group.
    #[schema(min_items = 1, max_items = 10_000, example = json!(["urn:imei:123456789012345"]))]
    devices: Option<Vec<String>>,
    /// Whom this lets through: RSQL, up to 4,096 characters (docs/fleet-and-filters.md).
    #[schema(max_length = 4096, format = "rsql", example = "site==hospital*")]
    filter: Option<String>,
    /// Who belongs to the group of this number. It cannot be removed before the task has ended.
    #[serde(default, deserialize_with = "extract::optional_whole")]
    group: Option<i64>,
}

impl ExcludeBody {
    /// Whom it means; what is wrong goes to `fields`.
    pub(super) fn read(self, fields: &mut Fields) -> Exclude {
        let given = self.devices.is_some() || self.filter.is_some() || self.group.is_some();
        fields.check("exclude", given, "give devices, a filter or a group");
        let filter = match &self.filter {
            Some(text) => fields.take("exclude.filter", Filter::parse(text)),
            None => None,
        };
        if let Some(devices) = &self.devices {
            fields.check(
                "exclude.devices",
                (1..=MAX_EXCLUDED).contains(&devices.len()),
                format!("1 to {MAX_EXCLUDED} devices are possible; put more into a group, and give its number"),
            );
        }
        Exclude {
            devices: self.devices.unwrap_or_default(),
            filter,
            group: self.group.map(GroupId),
        }
    }
}

/// Whom a task is for: the devices of its product that this lets through, or all of them where both are `null`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TargetsBody {
    /// Whom this lets through.
    #[schema(required)]
    filter: Option<String>,
    /// Who belongs to the group of this number.
    #[schema(required)]
    group: Option<i64>,
}

impl From<Targets> for TargetsBody {
    fn from(targets: Targets) -> Self {
        Self {
            filter: targets.filter.map(|filter| filter.to_string()),
            group: targets.group.map(|group| group.0),
        }
    }
}

/// Devices that a task leaves out of its selection.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NarrowedBody {
    /// So many devices that were named.
    devices: u64,
    /// Whom this lets through.
    #[schema(required)]
    filter: Option<String>,
    /// Who belongs to the group of this number.
    #[schema(required)]
    group: Option<i64>,
}

impl From<Narrowed> for NarrowedBody {
    fn from(narrowed: Narrowed) -> Self {
        Self {
            devices: narrowed.devices,
            filter: narrowed.filter.map(|filter| filter.to_string()),
            group: narrowed.group.map(|group| group.0),
        }
    }
}
