use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::Instant;

/// Where upgrades compete: so many go on in a lane at the same time. A device's limit tells how many may, itself included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// A cell of the radio network, by its ID (LwM2M object 4, resource 8).
    Cell(u32),
    /// A site: devices of a tenant that have the same attribute `site`.
    Site(LaneName),
    /// A gateway, by the endpoint name of its own device.
    Gateway(LaneName),
}

/// What stands for a name in a [`Lane`]: sixteen bytes of its hash, so that a lane is small and copied, and nobody finds a name whose lane
/// is another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneName([u8; 16]);

/// The lanes that an upgrade competes in besides its home lane, whose queue it stands in: at most two. It has a slot in all of
/// its lanes or in none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Further {
    lanes: [Option<Lane>; 2],
    /// How many devices of the gateway may upgrade at once, where its product says so.
    per_gateway: Option<u32>,
    /// When that was found out.
    as_of: Instant,
}

/// In whose queue a device stands that is in no cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Home {
    /// Its site's.
    Site,
    /// Its gateway's.
    Gateway,
}

impl Home {
    /// Whose queue that of a lane is; `None` for a cell's.
    pub const fn of(lane: Lane) -> Option<Self> {
        match lane {
            Lane::Cell(_) => None,
            Lane::Site(_) => Some(Self::Site),
            Lane::Gateway(_) => Some(Self::Gateway),
        }
    }
}

impl Lane {
    /// The lane of a site of a tenant.
    pub fn site(tenant: &str, site: &str) -> Self {
        Self::Site(LaneName::of(&[tenant, site]))
    }

    /// The lane of the gateway of that endpoint name.
    pub fn gateway(endpoint: &str) -> Self {
        Self::Gateway(LaneName::of(&[endpoint]))
    }
}

impl LaneName {
    /// Of several names: each is followed by a byte that none of them has.
    fn of(names: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for name in names {
            hash.update(name.as_bytes());
            hash.update([0xFF]); // in no UTF-8
        }
        let digest = hash.finalize();
        // the first sixteen bytes of 32
        Self(std::array::from_fn(|at| digest[at]))
    }
}

impl Default for Further {
    fn default() -> Self {
        Self::NONE
    }
}

impl Further {
    /// None: the upgrade competes in its home lane alone.
    pub const NONE: Self = Self::of(None, None);

    /// A site, and a gateway, as far as there is either.
    pub const fn of(site: Option<Lane>, gateway: Option<Lane>) -> Self {
        Self {
            lanes: [gateway, site],
            per_gateway: None,
            as_of: Instant::ZERO,
        }
    }

    /// The same, where so many devices of the gateway may upgrade at once; as many as of any gateway where it is `None`.
    #[must_use]
    pub const fn with_limit(self, per_gateway: Option<u32>) -> Self {
        Self {
            per_gateway,
            ..self
        }
    }

    /// How many devices of the gateway may upgrade at once, where its product says so.
    pub const fn per_gateway(self) -> Option<u32> {
        self.per_gateway
    }

    /// The same, as it is known at `now`.
    #[must_use]
    pub const fn known_at(self, now: Instant) -> Self {
        Self { as_of: now, ..self }
    }

    /// When [`per_gateway`](Self::per_gateway) was found out.
    pub const fn as_of(self) -> Instant {
        self.as_of
    }

    /// The lanes: the gateway first.
    pub fn lanes(self) -> impl Iterator<Item = Lane> {
        self.lanes.into_iter().flatten()
    }

    /// Whose queue an upgrade stands in that is in no cell: the gateway's, else the site's.
    pub fn home(self) -> Option<Lane> {
        self.lanes().next()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.home().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_its_tenants_own() {
        assert_eq!(Lane::site("acme", "depot-4"), Lane::site("acme", "depot-4"));
        assert_ne!(
            Lane::site("acme", "depot-4"),
            Lane::site("default", "depot-4")
        );
        assert_ne!(Lane::site("acme", "depot"), Lane::site("acmedepot", ""));
    }

    #[test]
    fn a_gateway_comes_before_a_site() {
        let (site, gateway) = (Lane::site("default", "depot-4"), Lane::gateway("gw-1"));
        let further = Further::of(Some(site), Some(gateway));
        assert_eq!(further.lanes().collect::<Vec<_>>(), [gateway, site]);
        assert_eq!(further.home(), Some(gateway));
        assert!(Further::of(None, None).is_empty() && Further::NONE.is_empty());
    }
}
