use serde::{Deserialize, Serialize};

use super::{Version, natural_cmp};

/// Which devices a package is for: what they run, and what they are. What is not said is not asked.
///
/// Versions of a range are compared by the order of [`natural_cmp`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fits {
    /// They run one of these versions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<Version>,
    /// They run this version, or one above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_from: Option<Version>,
    /// They run a version below this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_below: Option<Version>,
    /// Their hardware, as the operator has given it, is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hardware: Vec<String>,
}

impl Fits {
    /// It is for any device.
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is for a device that runs `version` and is of this hardware.
    pub fn fits(&self, version: Version, hardware: Option<&str>) -> bool {
        self.fits_version(version) && self.fits_hardware(hardware)
    }

    /// Whether it is for a device of this hardware, whatever it runs. One whose hardware is not known fits where none is asked.
    pub fn fits_hardware(&self, hardware: Option<&str>) -> bool {
        self.hardware.is_empty()
            || hardware.is_some_and(|known| self.hardware.iter().any(|it| it == known))
    }

    /// Whether it is for devices whatever they run.
    pub const fn fits_any_version(&self) -> bool {
        self.versions.is_empty() && self.version_from.is_none() && self.version_below.is_none()
    }

    fn fits_version(&self, version: Version) -> bool {
        (self.versions.is_empty() || self.versions.contains(&version))
            && (self.version_from).is_none_or(|from| !is_below(version, from))
            && (self.version_below).is_none_or(|below| is_below(version, below))
    }

    /// Whether there may be a device that both are for.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.hardware_overlaps(other) && self.versions_overlap(other)
    }

    fn hardware_overlaps(&self, other: &Self) -> bool {
        self.hardware.is_empty()
            || other.hardware.is_empty()
            || self.hardware.iter().any(|it| other.hardware.contains(it))
    }

    fn versions_overlap(&self, other: &Self) -> bool {
        let both = |version: &Version| self.fits_version(*version) && other.fits_version(*version);
        if !self.versions.is_empty() {
            return self.versions.iter().any(both);
        }
        if !other.versions.is_empty() {
            return other.versions.iter().any(both);
        }
        // two ranges: the beginning of what they have in common is in it, unless its end comes first
        let from = highest(self.version_from, other.version_from);
        let below = lowest(self.version_below, other.version_below);
        match (from, below) {
            (Some(from), Some(below)) => is_below(from, below),
            _ => true,
        }
    }

    /// Whether a device for which this is runs, with `target`, what `next` is for: the step after it. Running the target of
    /// `next` already needs no step.
    fn is_followed_by(&self, target: Version, next: (&Self, Version)) -> bool {
        let (next, next_target) = next;
        next_target != target && next.fits_version(target) && self.hardware_overlaps(next)
    }
}

/// Whether a version comes before another one: numbers within them count as numbers.
pub fn is_below(version: Version, other: Version) -> bool {
    natural_cmp(version.as_str(), other.as_str()).is_lt()
}

fn highest(a: Option<Version>, b: Option<Version>) -> Option<Version> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if is_below(a, b) { b } else { a }),
        (a, b) => a.or(b),
    }
}

fn lowest(a: Option<Version>, b: Option<Version>) -> Option<Version> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if is_below(a, b) { a } else { b }),
        (a, b) => a.or(b),
    }
}

/// Which of several packages is for a device: the one that fits it, else one whose version it runs, and whose hardware it
/// has. Of packages that do not overlap, at most one fits.
pub fn choose<'f>(
    packages: impl Iterator<Item = (&'f Fits, Version)> + Clone,
    version: Version,
    hardware: Option<&str>,
) -> Option<usize> {
    let fits = (packages.clone()).position(|(fits, _)| fits.fits(version, hardware));
    fits.or_else(|| {
        let mut packages = packages;
        packages.position(|(fits, target)| target == version && fits.fits_hardware(hardware))
    })
}

/// Whether steps from package to package can lead back to where they began.
pub fn leads_in_a_circle(packages: &[(&Fits, Version)]) -> bool {
    // what nothing left leads to cannot be part of a circle
    let mut left: Vec<(&Fits, Version)> = packages.to_vec();
    loop {
        let before = left.len();
        let all = left.clone();
        left.retain(|next| (all.iter()).any(|(fits, target)| fits.is_followed_by(*target, *next)));
        if left.len() == before {
            return !left.is_empty();
        }
    }
}

#[cfg(test)]
mod tests;
