//! Devices that are not all alike: what some of them run, and what they are.

use std::ops::RangeInclusive;

use serde::Deserialize;

/// Characters of the name of a hardware (`ledger::Attribute::Hardware`).
const HARDWARE: RangeInclusive<usize> = 1..=64;

/// What some of the devices run and are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    /// Relative to the other shares.
    share: u32,
    /// The version that they run; that of all where it is not given.
    version: Option<String>,
    /// Their hardware, as the operator has given it.
    hardware: Option<String>,
}

impl Group {
    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    pub(super) fn hardware(&self) -> Option<String> {
        self.hardware.clone()
    }
}

/// Refuses groups that nobody is in, and what no device can run or be.
pub(super) fn check(groups: Option<&[Group]>) -> Result<(), String> {
    if groups.is_some_and(<[Group]>::is_empty) {
        return Err("groups: give at least one entry, or leave it out".to_owned());
    }
    for (number, group) in (1..).zip(groups.unwrap_or_default()) {
        let wrong = |what: String| Err(format!("groups: {what} in entry {number}"));
        if group.share == 0 {
            return wrong("share = 0".to_owned());
        }
        if let Some(Err(error)) = group.version().map(pcp::Version::new) {
            return wrong(format!("version: {error}"));
        }
        let length = group.hardware.as_ref().map(|it| it.chars().count());
        if length.is_some_and(|length| !HARDWARE.contains(&length)) {
            return wrong("a hardware that has not 1 to 64 characters".to_owned());
        }
    }
    Ok(())
}

/// The group of a device of that seed, where there are groups.
pub(super) fn of(groups: Option<&[Group]>, seed: u64) -> Option<&Group> {
    let groups = groups?;
    let total: u64 = groups.iter().map(|group| u64::from(group.share)).sum();
    // not the bits by which it is chosen how it listens
    let mut rest = (seed >> 33) % total.max(1);
    groups.iter().find(|group| {
        let share = u64::from(group.share);
        let found = rest < share;
        rest = rest.saturating_sub(share);
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::fleet::FleetFile;

    #[test]
    fn what_no_device_can_be_is_refused() {
        for (text, expected) in [
            ("groups = []", "groups: give at least one entry"),
            ("[[groups]]\nshare = 0", "groups: share = 0 in entry 1"),
            (
                "[[groups]]\nshare = 1\n[[groups]]\nshare = 1\nversion = \"V1.0 and then some more\"",
                "groups: version: ",
            ),
            (
                "[[groups]]\nshare = 1\nhardware = \"\"",
                "groups: a hardware that has not 1 to 64 characters",
            ),
        ] {
            let error = FleetFile::parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(FleetFile::parse("[[groups]]\nshare = 1\nfirmware = \"V1\"").is_err());
    }

    #[test]
    fn groups_are_as_large_as_their_shares() {
        let share = |share| Group {
            share,
            version: None,
            hardware: None,
        };
        let groups = [share(3), share(1)];
        let seeds = (0..4_000_u64).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let first = seeds.filter(|seed| of(Some(&groups), *seed) == Some(&groups[0]));
        assert!((2_850..3_150).contains(&first.count()));
        assert_eq!(of(None, 1), None);
    }
}
