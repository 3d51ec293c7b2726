use super::{Version, is_below};

/// The versions of a product that mend a vulnerability, at least one, in the order of versions.
///
/// Every version below the lowest of them is affected, and every version from the highest on is mended. Between them lie
/// branches that the order cannot tell apart: with 1.9.1 and 2.1 mended, 2.0 may be affected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mending(Vec<Version>);

/// What a vulnerability is to a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exposure {
    /// It is one of those that mend it, or above all of them.
    Mended,
    /// It is below all of those that mend it.
    Affected,
    /// It lies between two that mend it, and is none of them.
    Between,
}

impl Mending {
    /// These versions, in any order; `None` when there is none.
    pub fn new(versions: impl IntoIterator<Item = Version>) -> Option<Self> {
        let mut versions: Vec<Version> = versions.into_iter().collect();
        versions.sort_by(|a, b| super::natural_cmp(a.as_str(), b.as_str()));
        versions.dedup();
        (!versions.is_empty()).then_some(Self(versions))
    }

    /// The versions, the lowest first.
    pub fn versions(&self) -> &[Version] {
        &self.0
    }

    /// What it is to a device that runs this version.
    pub fn exposure(&self, version: Version) -> Exposure {
        let [lowest, .., highest] = &self.0[..] else {
            // there is at least one
            let affected = self.0.first().is_some_and(|one| is_below(version, *one));
            return if affected {
                Exposure::Affected
            } else {
                Exposure::Mended
            };
        };
        if is_below(version, *lowest) {
            Exposure::Affected
        } else if self.0.contains(&version) || !is_below(version, *highest) {
            Exposure::Mended
        } else {
            Exposure::Between
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        Version::new(text).unwrap()
    }

    fn mending(versions: &[&str]) -> Mending {
        Mending::new(versions.iter().map(|text| version(text))).unwrap()
    }

    #[test]
    fn below_the_mending_version_is_affected_by_the_order_of_numbers() {
        let mending = mending(&["V1.10"]);
        for (text, expected) in [
            ("V1.9", Exposure::Affected),
            ("V1.10", Exposure::Mended),
            ("V1.11", Exposure::Mended),
            ("V2", Exposure::Mended),
            ("V1.10-rc1", Exposure::Mended),
            ("V0.99", Exposure::Affected),
        ] {
            assert_eq!(mending.exposure(version(text)), expected, "{text}");
        }
    }

    #[test]
    fn between_two_branches_nobody_knows() {
        let mending = mending(&["2.1", "1.9.1"]);
        for (text, expected) in [
            ("1.9", Exposure::Affected),
            ("1.9.1", Exposure::Mended),
            ("1.9.2", Exposure::Between),
            ("2.0", Exposure::Between),
            ("2.1", Exposure::Mended),
            ("3", Exposure::Mended),
        ] {
            assert_eq!(mending.exposure(version(text)), expected, "{text}");
        }
        assert_eq!(Mending::new([]), None);
    }

    proptest! {
        #[test]
        fn a_higher_version_is_never_worse_off_where_one_mends(one in "[0-9]{1,3}", a in "[0-9]{1,3}", b in "[0-9]{1,3}") {
            let mending = mending(&[&one]);
            let (low, high) = if is_below(version(&a), version(&b)) { (a, b) } else { (b, a) };
            if mending.exposure(version(&low)) == Exposure::Mended {
                prop_assert_eq!(mending.exposure(version(&high)), Exposure::Mended);
            }
        }

        #[test]
        fn what_mends_is_mended(versions in proptest::collection::vec("[0-9.]{1,4}", 1..6)) {
            let versions: Vec<Version> = versions.iter().map(|text| version(text)).collect();
            let mending = Mending::new(versions.clone()).unwrap();
            for version in versions {
                prop_assert_eq!(mending.exposure(version), Exposure::Mended);
            }
        }
    }
}
