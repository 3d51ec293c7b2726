//! How many devices of a site may upgrade at once.

use async_trait::async_trait;
use thiserror::Error;

use super::{CellChange, Page, StoreError};
use crate::{ledger::Lane, tenant::TenantId};

/// Sites of a tenant that may have a limit.
pub const MAX_SITES: u32 = 10_000;
/// The highest limit of a site.
pub const MAX_SITE_LIMIT: u32 = 100_000;

/// A site, as its devices have it in their attribute `site`: each tenant has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteKey {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name, 1 to 128 characters.
    pub name: String,
}

impl SiteKey {
    /// The lane in which its devices compete.
    pub fn lane(&self) -> Lane {
        Lane::site(self.tenant.as_str(), &self.name)
    }

    /// What tells it from all others: no tenant has a stroke in its name.
    pub fn text(&self) -> String {
        format!("{}/{}", self.tenant.as_str(), self.name)
    }
}

/// A site that has a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRecord {
    /// Its number: the order in which sites were given their first limit.
    pub id: i64,
    /// Which it is.
    pub key: SiteKey,
    /// How many of its devices may upgrade at once, 1 to [`MAX_SITE_LIMIT`].
    pub limit: u32,
    /// The operator's note.
    pub note: Option<String>,
    /// Another number after each change.
    pub revision: i64,
}

/// Another limit of a site, or of one gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLimit {
    /// Its place among the changes of all sites and gateways.
    pub revision: i64,
    /// Its lane.
    pub lane: Lane,
    /// How many of its devices may upgrade at once; `None` where nothing is said of it.
    pub limit: Option<u32>,
}

/// What has changed of what is ruled for lanes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LaneChanges {
    /// Cells whose rules have changed.
    pub cells: Vec<CellChange>,
    /// Sites and gateways whose limit has changed.
    pub limits: Vec<LaneLimit>,
}

impl LaneChanges {
    /// Whether nothing has changed.
    pub const fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.limits.is_empty()
    }
}

/// Why the limit of a site stays as it is.
#[derive(Debug, Error)]
pub enum SiteError {
    /// It has none.
    #[error("site {0:?} has no limit")]
    NotFound(String),
    /// As many as there may be.
    #[error("{MAX_SITES} sites have a limit already; take one away first")]
    TooMany,
    /// Somebody has changed it since it was seen.
    #[error(
        "the limit of site {name:?} was changed meanwhile: it has revision {revision}; look at it again"
    )]
    Changed {
        /// Its name.
        name: String,
        /// What it has now; 0 where it has no limit.
        revision: i64,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How many devices of sites may upgrade at once.
#[async_trait]
pub trait Sites: Send + Sync + 'static {
    /// Gives a site this limit and this note, whether it had any or not. With `seen` only if that is its revision, 0 of one without a
    /// limit.
    async fn set_site(
        &self,
        key: &SiteKey,
        limit: u32,
        note: Option<&str>,
        seen: Option<i64>,
    ) -> Result<SiteRecord, SiteError>;

    /// Takes the limit of a site away. With `seen` only if that is its revision.
    async fn clear_site(&self, key: &SiteKey, seen: Option<i64>) -> Result<(), SiteError>;

    /// A site, if it has a limit.
    async fn site(&self, key: &SiteKey) -> Result<Option<SiteRecord>, StoreError>;

    /// Sites that have a limit, of these tenants or of all, with numbers below `before`, newest first.
    async fn sites(
        &self,
        tenants: Option<&[TenantId]>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Page<SiteRecord>, StoreError>;

    /// Up to `limit` sites and gateways whose limit has changed after `revision`, oldest change first. One that changed several times
    /// appears once, as it is now. Limits of gateways are set with their devices ([`DeviceUpdate`](super::DeviceUpdate)).
    async fn lane_limits_since(
        &self,
        revision: i64,
        limit: u32,
    ) -> Result<Vec<LaneLimit>, StoreError>;
}
