//! What a task has for its devices: one package for all, or several, of which the one is served that fits what the device
//! answers when it is asked for its version.

use std::sync::Arc;

use crate::{
    ledger::{Cancellation, Conditions, MAX_WANTED, PackageId, Wanted},
    package::{Fits, Package, Version, choose, is_below},
};

/// The packages of a task. At least one of them can be had.
#[derive(Debug)]
pub struct Offers {
    list: Vec<Offer>,
    steps: bool,
    allow_downgrade: bool,
    conditions: Conditions,
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
            conditions: Conditions::default(),
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
            conditions: Conditions::default(),
        }
    }

    /// The same, for devices that are like this. Those that are told of it say themselves whether they are.
    #[must_use]
    pub fn under(self, conditions: Conditions) -> Self {
        Self { conditions, ..self }
    }

    /// What a device has to be like.
    pub const fn conditions(&self) -> Conditions {
        self.conditions
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

    /// Whether one that can be had is so.
    pub(super) fn any(&self, is_so: impl Fn(&Package) -> bool) -> bool {
        let mut packages = self
            .list
            .iter()
            .filter_map(|offer| offer.package.as_deref());
        packages.any(is_so)
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

    /// What is for a device of this hardware, whatever it runs.
    pub(super) fn for_any_version(&self, hardware: Option<&str>) -> Option<&Offer> {
        (self.list.iter())
            .find(|offer| offer.from.fits_any_version() && offer.from.fits_hardware(hardware))
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
        // a version that nobody can type has no place in the order
        let readable = Version::new(runs.as_str()).is_ok();
        if readable && is_below(offer.version, runs) && !self.allow_downgrade {
            return Err((Cancellation::Downgrade, Some(offer.version)));
        }
        Ok(offer)
    }

    /// Whether a device that came to run a version by step number `step` goes on with another one.
    pub(super) fn goes_on(&self, step: u8, runs: Version, hardware: Option<&str>) -> bool {
        usize::from(step) < self.list.len() && self.has_next(runs, hardware)
    }

    /// Whether a device that came to run a version by as many steps as there are is to do another one.
    pub(super) fn fell_back(&self, step: u8, runs: Version, hardware: Option<&str>) -> bool {
        usize::from(step) >= self.list.len() && self.has_next(runs, hardware)
    }

    fn has_next(&self, runs: Version, hardware: Option<&str>) -> bool {
        self.steps && (self.choose(runs, hardware)).is_ok_and(|offer| offer.version != runs)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(number: u8) -> Version {
        Version::new(&format!("V{number}")).unwrap()
    }

    /// A package for some of the versions V0 to V11, of some hardware, and to which of them it leads.
    fn offer() -> impl Strategy<Value = Offer> {
        let versions = proptest::collection::vec(0..12_u8, 0..3);
        let hardware = proptest::option::of(proptest::sample::select(vec!["A", "B"]));
        (versions, hardware, 0..12_u8).prop_map(|(versions, hardware, target)| Offer {
            id: PackageId(target.into()),
            version: version(target),
            from: Fits {
                versions: versions.into_iter().map(version).collect(),
                hardware: hardware.into_iter().map(str::to_owned).collect(),
                ..Fits::default()
            },
            package: None,
        })
    }

    fn offers() -> impl Strategy<Value = Offers> {
        let list = proptest::collection::vec(offer(), 1..6);
        (list, any::<bool>(), any::<bool>()).prop_map(|(list, steps, allow_downgrade)| {
            // those that a task may have together
            let mut kept: Vec<Offer> = Vec::new();
            for offer in list {
                if !kept.iter().any(|other| other.from.overlaps(&offer.from)) {
                    kept.push(offer);
                }
            }
            Offers {
                list: kept,
                steps,
                allow_downgrade,
                conditions: Conditions::default(),
            }
        })
    }

    proptest! {
        #[test]
        fn nobody_is_served_what_is_not_for_it(
            offers in offers(),
            runs in (0..12_u8).prop_map(version),
            hardware in proptest::option::of(proptest::sample::select(vec!["A", "B"])),
        ) {
            let fitting = offers.list.iter().filter(|it| it.from.fits(runs, hardware)).count();
            prop_assert!(fitting <= 1);
            match offers.choose(runs, hardware) {
                Ok(offer) => {
                    let has_it = offer.version == runs && offer.from.fits_hardware(hardware);
                    prop_assert!(offer.from.fits(runs, hardware) || has_it);
                    prop_assert!(offers.allow_downgrade || !is_below(offer.version, runs));
                }
                Err((Cancellation::NoPackage, None)) => prop_assert_eq!(fitting, 0),
                Err((Cancellation::Downgrade, Some(target))) => {
                    prop_assert!(!offers.allow_downgrade && is_below(target, runs));
                }
                Err(other) => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn steps_come_to_an_end(
            offers in offers(),
            runs in (0..12_u8).prop_map(version),
            hardware in proptest::option::of(proptest::sample::select(vec!["A", "B"])),
        ) {
            let (mut step, mut runs) = (1_u8, runs);
            while let Ok(offer) = offers.choose(runs, hardware) {
                runs = offer.version;
                if !offers.goes_on(step, runs, hardware) {
                    break;
                }
                step += 1;
            }
            prop_assert!(usize::from(step) <= offers.list.len());
            prop_assert!(offers.steps || step == 1);
        }
    }
}
