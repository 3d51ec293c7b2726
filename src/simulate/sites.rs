//! The sites of a simulated fleet: which devices are at which, and how many of each may upgrade at once.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::ledger::Lane;

/// The tenant of all devices.
pub(super) const TENANT: &str = "default";

/// A site of a fleet file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteFile {
    /// How many of its devices may upgrade at once.
    limit: u32,
    /// Its part of the devices, relative to the other shares; 1 when not given.
    #[serde(default = "one")]
    share: u32,
}

const fn one() -> u32 {
    1
}

/// The sites of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Sites {
    /// Their names and limits.
    all: Vec<(String, u32)>,
    /// The number in `all` of each device's.
    of: Vec<usize>,
}

impl Sites {
    /// Deals devices with these seeds out.
    pub(super) fn deal(
        file: &BTreeMap<String, SiteFile>,
        seeds: impl Iterator<Item = u64>,
    ) -> Self {
        let total: u64 = file.values().map(|site| u64::from(site.share)).sum();
        if total == 0 {
            return Self::default();
        }
        let site_of = |seed: u64| {
            let mut rest = (seed >> 16) % total;
            file.values().position(|site| {
                let share = u64::from(site.share);
                let here = rest < share;
                rest = rest.saturating_sub(share);
                here
            })
        };
        Self {
            all: file
                .iter()
                .map(|(name, site)| (name.clone(), site.limit))
                .collect(),
            of: seeds
                .map(|seed| site_of(seed).unwrap_or_default())
                .collect(),
        }
    }

    /// Their names and limits.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, u32)> {
        self.all.iter().map(|(name, limit)| (name.as_str(), *limit))
    }

    /// The number of a device's site.
    pub(super) fn number_of(&self, device: usize) -> Option<usize> {
        self.of.get(device).copied()
    }

    /// The name of a device's site.
    pub(super) fn name_of(&self, device: usize) -> Option<&str> {
        Some(&self.all.get(self.number_of(device)?)?.0)
    }

    /// The lane of a site.
    pub(super) fn lane(name: &str) -> Lane {
        Lane::site(TENANT, name)
    }

    /// A name, with its limit.
    pub(super) fn site(&self, number: usize) -> Option<(&str, u32)> {
        self.all().nth(number)
    }
}

/// Whether a fleet file's sites can be.
///
/// # Errors
/// A limit or a share is 0.
pub(super) fn check(file: &BTreeMap<String, SiteFile>) -> Result<(), String> {
    for (name, site) in file {
        if site.limit == 0 || site.share == 0 {
            return Err(format!(
                "sites.{name}: limit and share are at least 1; leave the site out"
            ));
        }
    }
    Ok(())
}
