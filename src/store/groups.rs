//! Groups of devices: what an operator names to list them, or to upgrade them.

use async_trait::async_trait;
use thiserror::Error;

use super::{Page, StoreError};
use crate::{clock::UtcMillis, filter::Filter, ledger::TaskId, tenant::TenantId};

/// Groups that a tenant may have.
pub const MAX_GROUPS: u32 = 1_000;

/// Number of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub i64);

/// A group to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGroup {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name, which no other of the tenant has.
    pub name: String,
    /// Who belongs to it.
    pub members: NewMembers,
    /// Now.
    pub created_at: UtcMillis,
}

/// Who belongs to a group that is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewMembers {
    /// These devices, which may be none.
    Listed(Vec<String>),
    /// Whom this lets through, whenever that is asked.
    Matching(Filter),
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRecord {
    /// Whose it is: it has devices of no other tenant.
    pub tenant: TenantId,
    /// Its number.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// Who belongs to it.
    pub members: Members,
    /// When it was added.
    pub created_at: UtcMillis,
    /// Counts its changes, from 1.
    pub revision: i64,
}

/// Who belongs to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Members {
    /// So many devices of a list.
    Listed(u64),
    /// Whom this lets through.
    Matching(Filter),
}

/// What to change about a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupUpdate {
    /// Its name; `None` leaves it as it is.
    pub name: Option<String>,
    /// The filter of a group that has one; `None` leaves it as it is.
    pub filter: Option<Filter>,
    /// Devices that come to a list. One that is in it already stays.
    pub add: Vec<String>,
    /// Devices that leave a list, after others have come. One that is not in it is no error.
    pub remove: Vec<String>,
    /// Only if this is its revision.
    pub seen: Option<i64>,
}

/// Why a group was not added, changed or removed.
#[derive(Debug, Error)]
pub enum GroupError {
    /// No such group.
    #[error("there is no group {}", .0.0)]
    NotFound(GroupId),
    /// Names tell groups apart.
    #[error("group {} has the name {name:?} already; each needs one of its own", .group.0)]
    NameTaken {
        /// The name.
        name: String,
        /// Which group has it.
        group: GroupId,
    },
    /// As many as there may be.
    #[error("there are {MAX_GROUPS} groups already; remove one first")]
    TooMany,
    /// Endpoints that nobody added.
    #[error("{count} of the devices are unknown: {}; add them first", .first.join(", "))]
    UnknownDevices {
        /// How many.
        count: u64,
        /// The first few of them.
        first: Vec<String>,
    },
    /// Somebody has changed it since it was seen.
    #[error("group {} was changed meanwhile: it has revision {revision}; look at it again", .group.0)]
    Changed {
        /// The group.
        group: GroupId,
        /// What it has now.
        revision: i64,
    },
    /// A list has no filter to be changed.
    #[error("group {} is a list and has no filter; add devices to it, or remove them", .0.0)]
    IsList(GroupId),
    /// A filter has no devices to be added.
    #[error("group {} is a filter and has no list; change its filter", .0.0)]
    IsFilter(GroupId),
    /// Tasks were created for it, or leave it out, and have not ended.
    #[error(
        "group {} is used by {}{}; wait until they have ended, or stop them",
        .group.0,
        .tasks.iter().map(|(id, name)| format!("task {} ({name:?})", id.0)).collect::<Vec<_>>().join(", "),
        if *.more { " and others" } else { "" }
    )]
    InUse {
        /// The group.
        group: GroupId,
        /// The tasks, oldest first, some at most.
        tasks: Vec<(TaskId, String)>,
        /// There are more of them.
        more: bool,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Groups of devices.
#[async_trait]
pub trait Groups: Send + Sync + 'static {
    /// Adds a group. All devices of a list have to be known.
    async fn add_group(&self, new: &NewGroup) -> Result<GroupRecord, GroupError>;

    /// A group.
    async fn group(&self, id: GroupId) -> Result<Option<GroupRecord>, StoreError>;

    /// Groups of these tenants, or of all, with numbers below `before`, newest first.
    async fn groups(
        &self,
        tenants: Option<&[TenantId]>,
        before: Option<GroupId>,
        limit: u32,
    ) -> Result<Page<GroupRecord>, StoreError>;

    /// Changes a group. Tasks that were created for it keep the devices that they have; more may join.
    async fn update_group(
        &self,
        id: GroupId,
        update: &GroupUpdate,
    ) -> Result<GroupRecord, GroupError>;

    /// Removes a group, unless a task that was created for it, or leaves it out, has not ended. Nobody sees it from the beginning on, and
    /// changes are committed meanwhile. With `seen` only if that is its revision.
    async fn remove_group(&self, id: GroupId, seen: Option<i64>) -> Result<(), GroupError>;
}
