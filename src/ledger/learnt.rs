//! What is learnt of products and cells while the server runs, so that the next start goes on with it.

use serde::{Deserialize, Serialize};

use super::{Lane, Mean};

/// Something that was learnt. What is learnt later of the same subject takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Learnt {
    /// Of the devices of a product.
    Product {
        /// The product; empty for all that have no settings of their own.
        product: Box<str>,
        /// What they do.
        habits: ProductHabits,
    },
    /// Of downloads.
    Download(DownloadPace),
}

/// What the devices of a product do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProductHabits {
    /// The longest silence after which a device has answered, ms.
    pub answered_ms: u64,
    /// The shortest after which devices have not, ms.
    pub silent_ms: Option<u64>,
    /// After how many answers in a row a longer silence is tried.
    pub tries_after: u32,
    /// How long they install, ms.
    pub install_ms: Mean,
}

/// How long a KiB takes to devices of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownloadPace {
    /// In this lane; `None` in all together.
    pub lane: Option<Lane>,
    /// How many devices of that coverage may upgrade at once.
    pub limit: u32,
    /// Milliseconds for a KiB.
    pub ms_per_kib: Mean,
}

impl Learnt {
    /// What it is about: a kind, and what of that kind. The store keeps both: they stay as they are.
    pub fn subject(&self) -> (&'static str, String) {
        match self {
            Self::Product { product, .. } => ("product", product.to_string()),
            Self::Download(DownloadPace { lane, limit, .. }) => match lane {
                Some(Lane::Cell(cell)) => ("cell", format!("{cell}/{limit}")),
                // nothing is learnt of other lanes
                Some(Lane::Site(_) | Lane::Gateway(_)) | None => ("limit", limit.to_string()),
            },
        }
    }
}

/// How a device that sleeps was kept awake for an upgrade, in all its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Standby {
    /// For so many seconds.
    pub time_s: u32,
    /// With so many pings.
    pub pings: u32,
}

impl Standby {
    /// The larger of both, in each respect.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            time_s: self.time_s.max(other.time_s),
            pings: self.pings.max(other.pings),
        }
    }
}
