//! What a task has for its devices: one package for all, or several, of which the one is served that fits what the device
//! answers when it is asked for its version.

use std::sync::Arc;

use crate::{
    ledger::{Cancellation, MAX_WANTED, PackageId, Wanted},
    package::{Fits, Package, Version, choose, is_below},
};

/// The packages of a task. At least one of them can be had.
#[derive(Debug)]
pub struct Offers {
    list: Vec<Offer>,
    steps: bool,
    allow_downgrade: bool,
}

/// A package of a task.
#[derive(Debug)]
pub struct Offer {
    /// Its number.
    pub id: PackageId,
    /// The version that it leads to.
    pub version: Version,
    /// For whom it is.
    pub from: Fits,
    /// What is served; `None` where its file is missing or damaged.
    pub package: Option<Arc<Package>>,
}

impl Offers {
    /// `None` when none of them can be had. `steps`: a device that has one goes on with the one that fits what it runs then.
    pub fn new(list: Vec<Offer>, steps: bool, allow_downgrade: bool) -> Option<Self> {
        let any = list.iter().any(|offer| offer.package.is_some());
        any.then_some(Self {
            list,
            steps,
            allow_downgrade,
        })
    }

    /// One for any device, unless that is a downgrade.
    pub fn only(id: PackageId, package: Arc<Package>) -> Self {
        let offer = Offer {
            id,
            version: package.version,
            from: Fits::default(),
            package: Some(package),
        };
        Self {
            list: vec![offer],
            steps: false,
            allow_downgrade: false,
        }
    }

    /// The same, where what is below the version that a device runs may be served.
    #[must_use]
    pub fn allowing_downgrades(self) -> Self {
        Self {
            allow_downgrade: true,
            ..self
        }
    }

    /// All of them can be had.
    pub fn is_whole(&self) -> bool {
        self.list.iter().all(|offer| offer.package.is_some())
    }

    /// A package by its number, as far as it can be had.
    pub fn package(&self, id: PackageId) -> Option<&Arc<Package>> {
        let offer = self.list.iter().find(|offer| offer.id == id)?;
        offer.package.as_ref()
    }

    /// What a device is likely to be served, by what is known of it: it is asked before it is.
    pub(super) fn assumed(
        &self,
        runs: Option<Version>,
        hardware: Option<&str>,
    ) -> Option<(PackageId, Arc<Package>)> {
        let chosen = runs.and_then(|runs| self.position(runs, hardware));
        let chosen = chosen.and_then(|index| self.list.get(index));
        let (chosen, all) = (chosen.into_iter(), self.list.iter());
        chosen
            .chain(all)
            .find_map(|offer| Some((offer.id, offer.package.clone()?)))
    }

    /// What is for a device that runs this version and is of this hardware.
    ///
    /// # Errors
    /// Why it is skipped.
    pub(super) fn choose(
        &self,
        runs: Version,
        hardware: Option<&str>,
    ) -> Result<&Offer, (Cancellation, Option<Version>)> {
        let chosen = self.position(runs, hardware);
        let offer = chosen.and_then(|index| self.list.get(index));
        let offer = offer.ok_or((Cancellation::NoPackage, None))?;
        if is_below(offer.version, runs) && !self.allow_downgrade {
            return Err((Cancellation::Downgrade, Some(offer.version)));
        }
        Ok(offer)
    }

    /// Whether a device that came to run a version by step number `step` goes on with another one.
    pub(super) fn goes_on(&self, step: u8, runs: Version, hardware: Option<&str>) -> bool {
        self.steps
            && usize::from(step) < self.list.len()
            && (self.choose(runs, hardware)).is_ok_and(|offer| offer.version != runs)
    }

    /// Whether it is a version to which one of them leads.
    pub(super) fn leads_to(&self, version: Version) -> bool {
        self.list.iter().any(|offer| offer.version == version)
    }

    /// For whom they are, as far as that is told.
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        let wanted = self.list.iter().take(MAX_WANTED).map(|offer| {
            let mut from = offer.from.clone();
            from.versions.truncate(MAX_WANTED);
            from.hardware.truncate(MAX_WANTED);
            let target = offer.version;
            Wanted { target, from }
        });
        wanted.collect()
    }

    fn position(&self, runs: Version, hardware: Option<&str>) -> Option<usize> {
        let packages = self.list.iter().map(|offer| (&offer.from, offer.version));
        choose(packages, runs, hardware)
    }
}
