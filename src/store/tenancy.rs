use std::collections::BTreeMap;

use async_trait::async_trait;
use thiserror::Error;

use super::{Page, StoreError};
use crate::{clock::UtcMillis, tenant::TenantId};

/// Tenants that there may be, those that were deleted counted with them.
pub const MAX_TENANTS: u32 = 1_000;

/// A tenant to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTenant {
    /// What it is called in paths and filters, which no other is or was.
    pub id: TenantId,
    /// What people call it.
    pub name: String,
    /// Now.
    pub created_at: UtcMillis,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRecord {
    /// What it is called in paths and filters.
    pub id: TenantId,
    /// What people call it.
    pub name: String,
    /// When it was added.
    pub created_at: UtcMillis,
    /// Counts its changes, from 1.
    pub revision: u32,
}

/// What a tenant has, and what became of its upgrades.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantCount {
    /// Who.
    pub tenant: TenantId,
    /// Devices that belong to it, with some that were removed a moment ago.
    pub devices: u64,
    /// Tasks that run.
    pub tasks_running: u64,
    /// Upgrades that have ended, by how: `succeeded`, `failed`, `cancelled`.
    pub ended: BTreeMap<String, u64>,
}

/// Why a tenant was not added, changed or deleted.
#[derive(Debug, Error)]
pub enum TenantError {
    /// There is one, or was one. What is kept of it, as the audit log, would be the other's.
    #[error("there is, or was, a tenant {0} already; choose another id")]
    Taken(TenantId),
    /// As many as there may be.
    #[error("there are {MAX_TENANTS} tenants already, or were; there may be no more")]
    TooMany,
    /// No such tenant.
    #[error("there is no tenant {0}")]
    NotFound(TenantId),
    /// Somebody has changed it since it was seen.
    #[error("tenant {tenant} was changed meanwhile: it has revision {revision}; look at it again")]
    Changed {
        /// The tenant.
        tenant: TenantId,
        /// Its revision.
        revision: u32,
    },
    /// What belongs to nobody else belongs to it.
    #[error("tenant {0} cannot be deleted: what nobody else was made the owner of is its own")]
    Default(TenantId),
    /// Something belongs to it.
    #[error("tenant {tenant} has {what}; remove them first")]
    InUse {
        /// The tenant.
        tenant: TenantId,
        /// What it has.
        what: &'static str,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// To whom things belong. There is always one tenant, `default`.
#[async_trait]
pub trait Tenancy: Send + Sync + 'static {
    /// Adds a tenant.
    async fn add_tenant(&self, new: &NewTenant) -> Result<TenantRecord, TenantError>;

    /// A tenant.
    async fn tenant(&self, id: &TenantId) -> Result<Option<TenantRecord>, StoreError>;

    /// Tenants by their ids, after `after`.
    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Page<TenantRecord>, StoreError>;

    /// What each tenant has, the oldest first, and how its upgrades have ended by the events behind `after`, up to `until`.
    async fn count_tenants(&self, after: i64, until: i64) -> Result<Vec<TenantCount>, StoreError>;

    /// Gives a tenant another name; with `seen` only if that is its revision.
    async fn rename_tenant(
        &self,
        id: &TenantId,
        name: &str,
        seen: Option<u32>,
    ) -> Result<TenantRecord, TenantError>;

    /// Deletes a tenant to which nothing belongs, and on which nobody is granted anything.
    async fn delete_tenant(
        &self,
        id: &TenantId,
        now: UtcMillis,
        seen: Option<u32>,
    ) -> Result<(), TenantError>;
}
