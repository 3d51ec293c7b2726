//! What the task of a product has for its devices: one package for all of them, or several, each for those that it says.

use std::{ops::RangeInclusive, sync::Arc};

use serde::Deserialize;

use crate::{
    ledger::{Conditions, PackageId},
    package::{Fits, Package, PcpOffer, PcpPackage, Version, is_below},
    session::{Offer, Offers},
    task::{PackageRule, PackageRules},
};

/// Size of a package, KiB.
const SIZES_KIB: RangeInclusive<u32> = 1..=31_000;

/// A package, as the task file has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PackageFile {
    /// The version that it leads to.
    pub(super) version: Version,
    /// Its size; that of the command line where it is not given.
    pub(super) size_kib: Option<u32>,
    /// For whom it is.
    #[serde(default)]
    from: Fits,
}

/// The packages of a task, as its file has them. None: one for all of its devices.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PackagesFile {
    pub(super) packages: Vec<PackageFile>,
    steps: bool,
    allow_downgrade: bool,
    /// No simulated device is told of them: it refuses by itself.
    conditions: Conditions,
}

impl PackagesFile {
    /// What is wrong with them, each with the field in which it is.
    pub(super) fn check(&self) -> Vec<String> {
        let mut errors: Vec<String> = (self.packages.iter().enumerate())
            .filter(|(_, package)| {
                package
                    .size_kib
                    .is_some_and(|kib| !SIZES_KIB.contains(&kib))
            })
            .map(|(i, _)| {
                let [least, most] = [SIZES_KIB.start(), SIZES_KIB.end()];
                format!("packages[{i}].size_kib: {least} to {most} are possible")
            })
            .collect();
        let too_long = |package: &PackageFile| pcp::Version::new(package.version.as_str()).is_err();
        for (i, _) in (self.packages.iter().enumerate()).filter(|(_, it)| too_long(it)) {
            errors.push(format!(
                "packages[{i}].version: PCP has versions of 1 to 16 characters"
            ));
        }
        let rules = self.rules(&self.numbers());
        let versions: Vec<Version> = self.packages.iter().map(|it| it.version).collect();
        errors.extend(rules.check().iter().map(ToString::to_string));
        errors.extend(rules.check_steps(&versions).err().map(|it| it.to_string()));
        errors
    }

    /// What the task says of its packages, which have these numbers.
    fn rules(&self, numbers: &[PackageId]) -> PackageRules {
        let rules = (numbers.iter().zip(&self.packages)).map(|(number, package)| PackageRule {
            package_id: *number,
            from: package.from.clone(),
        });
        PackageRules {
            packages: rules.collect(),
            steps: self.steps,
            allow_downgrade: self.allow_downgrade,
            conditions: self.conditions,
        }
    }

    /// Numbers in a message: those of the packages in the file, from 1.
    fn numbers(&self) -> Vec<PackageId> {
        let numbers = (1..).take(self.packages.len());
        numbers.map(PackageId).collect()
    }
}

/// The packages that the task of a product has for its devices.
#[derive(Debug)]
pub(super) struct Offered {
    /// At least one.
    packages: Vec<Arc<Package>>,
    file: PackagesFile,
}

/// What is to become of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It ends with this version: that of the last package which is for it, or its own where none is to be installed.
    To(pcp::Version),
    /// It is skipped, for this reason.
    Skipped(&'static str),
}

impl Way {
    /// The version with which it ends, where it is not skipped.
    pub(super) const fn target(self) -> Option<pcp::Version> {
        match self {
            Self::To(version) => Some(version),
            Self::Skipped(_) => None,
        }
    }
}

impl Offered {
    /// These, which were made as the file says; one where it says nothing of them.
    pub(super) const fn new(packages: Vec<Arc<Package>>, file: PackagesFile) -> Self {
        Self { packages, file }
    }

    pub(super) fn packages(&self) -> &[Arc<Package>] {
        &self.packages
    }

    /// The last one: whoever runs its version has nothing before it.
    pub(super) fn last(&self) -> &Arc<Package> {
        &self.packages[self.packages.len() - 1]
    }

    /// The largest one, in bytes and segments: a budget has to have room for it, whatever its device turns out to run.
    pub(super) fn largest(&self) -> (u64, u64) {
        let sizes = self.packages.iter().map(|package| {
            let segments = over_pcp(package).offer.segmentation.segment_count();
            (package.size_bytes, u64::from(segments))
        });
        sizes.max().unwrap_or_default()
    }

    /// Most packages that a device installs one after another.
    pub(super) const fn most_steps(&self) -> u64 {
        if self.file.steps {
            self.packages.len() as u64
        } else {
            1
        }
    }

    /// What the task says of them, where they have these numbers.
    pub(super) fn rules(&self, numbers: &[PackageId]) -> PackageRules {
        self.file.rules(numbers)
    }

    /// What is sent of them over PCP.
    pub(super) fn over_pcp(&self) -> Vec<PcpOffer> {
        let offers = self.packages.iter().map(|package| over_pcp(package).offer);
        offers.collect()
    }

    /// What the engine is given, where they have these numbers.
    pub(super) fn offers(&self, numbers: &[PackageId]) -> Option<Offers> {
        let list =
            (numbers.iter().zip(&self.packages).enumerate()).map(|(i, (id, package))| Offer {
                id: *id,
                version: package.version,
                from: self.from(i),
                package: Some(package.clone()),
            });
        Offers::new(list.collect(), self.file.steps, self.file.allow_downgrade)
    }

    fn from(&self, package: usize) -> Fits {
        let file = self.file.packages.get(package);
        file.map(|it| it.from.clone()).unwrap_or_default()
    }

    /// Whether a package is for a device of this hardware that runs `version`, and is no downgrade, unless that may be.
    pub(super) fn is_for(&self, package: usize, version: Version, hardware: Option<&str>) -> bool {
        let below = is_below(self.packages[package].version, version);
        (self.file.allow_downgrade || !below) && self.from(package).fits(version, hardware)
    }

    /// What is to become of a device of this hardware that runs `version`: told here, and not asked of what the server does.
    pub(super) fn way(&self, mut version: pcp::Version, hardware: Option<&str>) -> Way {
        let all = || 0..self.packages.len();
        for step in 0..=self.packages.len() {
            let runs = Version::from(version);
            if step > 0 && !self.file.steps {
                break;
            }
            let for_it = all().find(|package| self.from(*package).fits(runs, hardware));
            let has_it = |package: usize| {
                self.packages[package].version == runs && self.from(package).fits_hardware(hardware)
            };
            match for_it {
                Some(package) if !has_it(package) && self.is_for(package, runs, hardware) => {
                    version = over_pcp(&self.packages[package]).offer.version;
                }
                Some(package) if step == 0 && !has_it(package) => return Way::Skipped("downgrade"),
                None if step == 0 && !all().any(has_it) => return Way::Skipped("no_package"),
                Some(_) | None => break,
            }
        }
        Way::To(version)
    }
}

/// How a package of a scenario is served: each of them was made for it.
#[expect(
    clippy::expect_used,
    reason = "`Scenario::package` makes packages for PCP, and nobody else makes one"
)]
pub(super) fn over_pcp(package: &Package) -> &PcpPackage {
    package
        .pcp
        .as_ref()
        .expect("a package that is served over PCP")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::Scenario;

    fn offered(toml: &str) -> Offered {
        let scenario = Scenario {
            packages: toml::from_str(toml).unwrap(),
            ..Scenario::new(1, 1, 1)
        };
        assert_eq!(scenario.packages.check(), [""; 0]);
        let offered = scenario.offered().unwrap().remove(0);
        Arc::into_inner(offered).unwrap()
    }

    fn way(offered: &Offered, runs: &str, hardware: Option<&str>) -> String {
        match offered.way(pcp::Version::new(runs).unwrap(), hardware) {
            Way::To(version) => version.to_string(),
            Way::Skipped(why) => why.to_owned(),
        }
    }

    const CHAIN: &str = r#"
        [[packages]]
        version = "V2"
        from = { version_below = "V2", hardware = ["A", "B"] }
        [[packages]]
        version = "V3"
        from = { version_from = "V2", version_below = "V3", hardware = ["A"] }
    "#;

    #[test]
    fn tells_what_becomes_of_a_device() {
        let one = offered("");
        let given = [("V1.0", "V2.0"), ("V2.0", "V2.0"), ("V3.0", "downgrade")];
        for (runs, ends) in given {
            assert_eq!(way(&one, runs, None), ends);
        }
        let back = offered("allow_downgrade = true");
        assert_eq!(way(&back, "V3.0", None), "V2.0");
        let chain = offered(&format!("steps = true\n{CHAIN}"));
        for (runs, hardware, ends) in [
            ("V1", Some("A"), "V3"),
            ("V1", Some("B"), "V2"),
            ("V2", Some("A"), "V3"),
            ("V3", Some("A"), "V3"),
            ("V2", Some("B"), "V2"),
            ("V3", Some("B"), "no_package"),
            ("V1", Some("C"), "no_package"),
            ("V1", None, "no_package"),
        ] {
            assert_eq!(way(&chain, runs, hardware), ends, "{runs} {hardware:?}");
        }
        assert_eq!(chain.most_steps(), 2);
        let one_step = offered(CHAIN);
        assert_eq!(way(&one_step, "V1", Some("A")), "V2");
        assert_eq!(one_step.most_steps(), 1);
    }
}
