//! What a task says of its packages: which device gets which, and in how many steps. Pure.

use std::{collections::HashSet, fmt::Display, ops::RangeInclusive};

use serde::{Deserialize, Serialize};

use super::RuleError;
use crate::{
    ledger::{Conditions, PackageId},
    package::{Fits, Version, is_below, leads_in_a_circle},
};

/// Packages of a task.
pub const MAX_PACKAGES: usize = 20;
/// Versions, or kinds of hardware, that a package lists.
pub const MAX_LISTED: usize = 50;
/// What conditions may ask: percent, KiB, dBm.
const BATTERY_PERCENT: RangeInclusive<u8> = 1..=100;
const SPACE_KIB: RangeInclusive<u32> = 1..=1_000_000_000;
const SIGNAL_DBM: RangeInclusive<i16> = -150..=-1;
/// Longest name of a hardware, characters.
const MAX_HARDWARE: usize = 64;

/// What a task says of its packages. Without a word of it, all of its devices get one package, unless that is a downgrade.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PackageRules {
    /// Its packages, and for whom they are; none, where it has one for all of its devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<PackageRule>,
    /// A device that has one goes on with the package that fits what it runs then, as long as there is one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub steps: bool,
    /// A device may be given a version that is below the one that it runs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_downgrade: bool,
    /// What a device has to be like to take them.
    #[serde(skip_serializing_if = "Conditions::are_none")]
    pub conditions: Conditions,
}

/// A package of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageRule {
    /// The package.
    pub package_id: PackageId,
    /// For whom it is.
    #[serde(default, skip_serializing_if = "Fits::is_any")]
    pub from: Fits,
}

impl PackageRules {
    /// Nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong with them, before it is known what the packages are; nothing, if they can be had.
    pub fn check(&self) -> Vec<RuleError> {
        let mut errors = Vec::new();
        let mut wrong = |field: String, detail: String| errors.push(RuleError { field, detail });
        if self.packages.len() > MAX_PACKAGES {
            wrong(
                "packages".to_owned(),
                format!("at most {MAX_PACKAGES} are possible"),
            );
        }
        if self.steps && self.packages.len() < 2 {
            let detail = "steps need packages: one for each step, each with what it leads from";
            wrong("steps".to_owned(), detail.to_owned());
        }
        for (field, detail) in check_conditions(&self.conditions) {
            wrong(format!("conditions.{field}"), detail);
        }
        // what is too much is not looked at one by one: the answer would be as long
        let packages = &self.packages[..self.packages.len().min(MAX_PACKAGES)];
        for (i, rule) in packages.iter().enumerate() {
            if let Err((field, detail)) = check_fits(&rule.from) {
                wrong(format!("packages[{i}].from{field}"), detail);
            }
        }
        for (i, rule) in packages.iter().enumerate() {
            let overlaps = |(_, before): &(usize, &PackageRule)| before.from.overlaps(&rule.from);
            if let Some((other, before)) = packages[..i].iter().enumerate().find(overlaps) {
                let detail = format!(
                    "a device may fit both packages[{other}] (package {}) and packages[{i}] (package {}); say of each \
                     what it leads from, so that no device fits two",
                    before.package_id.0, rule.package_id.0
                );
                wrong(format!("packages[{i}].from"), detail);
            }
        }
        errors
    }

    /// What is wrong with the steps between packages of these versions, if anything is.
    pub fn check_steps(&self, versions: &[Version]) -> Result<(), RuleError> {
        let rules = self.packages.iter().map(|rule| &rule.from);
        let packages: Vec<(&Fits, Version)> = rules.zip(versions.iter().copied()).collect();
        if !self.steps || !leads_in_a_circle(&packages) {
            return Ok(());
        }
        Err(RuleError {
            field: "steps".to_owned(),
            detail: "the steps lead in a circle: a package leads to a version from which others lead back to where it is \
                     for; say what each package leads from, so that each step goes on"
                .to_owned(),
        })
    }
}

/// What of the conditions cannot be asked.
fn check_conditions(asked: &Conditions) -> Vec<(&'static str, String)> {
    fn outside<N: PartialOrd + Display>(
        asked: Option<N>,
        possible: &RangeInclusive<N>,
    ) -> Option<String> {
        let asked = asked.filter(|asked| !possible.contains(asked))?;
        let (least, most) = (possible.start(), possible.end());
        Some(format!("{least} to {most} are possible, not {asked}"))
    }
    let wrong = [
        (
            "battery_percent",
            outside(asked.battery_percent, &BATTERY_PERCENT),
        ),
        ("space_kib", outside(asked.space_kib, &SPACE_KIB)),
        ("signal_dbm", outside(asked.signal_dbm, &SIGNAL_DBM)),
    ];
    let wrong = wrong.into_iter();
    wrong
        .filter_map(|(field, detail)| Some((field, detail?)))
        .collect()
}

fn check_fits(fits: &Fits) -> Result<(), (&'static str, String)> {
    let listed = |field, len: usize, different: usize| {
        if len > MAX_LISTED {
            return Err((field, format!("at most {MAX_LISTED} are possible")));
        }
        if different < len {
            return Err((field, "one is there twice".to_owned()));
        }
        Ok(())
    };
    let versions: HashSet<_> = fits.versions.iter().collect();
    listed(".versions", fits.versions.len(), versions.len())?;
    let hardware: HashSet<_> = fits.hardware.iter().collect();
    listed(".hardware", fits.hardware.len(), hardware.len())?;
    let is_name = |name: &String| {
        (1..=MAX_HARDWARE).contains(&name.chars().count()) && !name.chars().any(char::is_control)
    };
    if !fits.hardware.iter().all(is_name) {
        let detail = format!("each has 1 to {MAX_HARDWARE} characters and no control characters");
        return Err((".hardware", detail));
    }
    let range = fits.version_from.is_some() || fits.version_below.is_some();
    if range && !fits.versions.is_empty() {
        let detail = "give either versions, or version_from and version_below";
        return Err((".versions", detail.to_owned()));
    }
    if let (Some(from), Some(below)) = (fits.version_from, fits.version_below)
        && !is_below(from, below)
    {
        let detail = format!("no version is {from} or above it, and below {below}");
        return Err((".version_below", detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(json: &str) -> Vec<String> {
        let rules: PackageRules = serde_json::from_str(json).unwrap();
        let errors = rules.check();
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn says_what_is_wrong_with_each_field() {
        let twice =
            r#"{"packages": [{"package_id": 1, "from": {"versions": ["V1"]}}, {"package_id": 2}]}"#;
        for (json, fields) in [
            ("{}", &[][..]),
            (r#"{"allow_downgrade": true}"#, &[]),
            (
                r#"{"conditions": {"battery_percent": 100, "space_kib": 1, "signal_dbm": -110}}"#,
                &[],
            ),
            (
                r#"{"conditions": {"battery_percent": 101, "space_kib": 0, "signal_dbm": 0}}"#,
                &[
                    "conditions.battery_percent",
                    "conditions.space_kib",
                    "conditions.signal_dbm",
                ],
            ),
            (r#"{"packages": [{"package_id": 1}]}"#, &[]),
            (twice, &["packages[1].from"]),
            (
                r#"{"steps": true, "packages": [{"package_id": 1}]}"#,
                &["steps"],
            ),
            (
                r#"{"packages": [{"package_id": 1, "from": {"versions": ["V1", "V1"]}}]}"#,
                &["packages[0].from.versions"],
            ),
            (
                r#"{"packages": [{"package_id": 1, "from": {"versions": ["V1"], "version_below": "V2"}}]}"#,
                &["packages[0].from.versions"],
            ),
            (
                r#"{"packages": [{"package_id": 1, "from": {"version_from": "V10", "version_below": "V9"}}]}"#,
                &["packages[0].from.version_below"],
            ),
            (
                r#"{"packages": [{"package_id": 1, "from": {"hardware": [""]}}]}"#,
                &["packages[0].from.hardware"],
            ),
        ] {
            assert_eq!(wrong(json), fields, "{json}");
        }
        let rules: PackageRules = serde_json::from_str(twice).unwrap();
        let detail = rules.check().remove(0).detail;
        assert!(
            detail.starts_with(
                "a device may fit both packages[0] (package 1) and packages[1] (package 2)"
            ),
            "{detail}"
        );
    }

    #[test]
    fn too_much_is_told_in_a_few_lines() {
        let many = vec![r#"{"package_id": 1}"#; 5_000].join(", ");
        let errors = wrong(&format!(r#"{{"packages": [{many}]}}"#));
        assert_eq!(errors.len(), MAX_PACKAGES);
        let versions: Vec<String> = (0..=MAX_LISTED).map(|n| format!("\"V{n}\"")).collect();
        let list = format!(
            r#"{{"packages": [{{"package_id": 1, "from": {{"versions": [{}]}}}}]}}"#,
            versions.join(", ")
        );
        assert_eq!(wrong(&list), ["packages[0].from.versions"]);
    }

    #[test]
    fn steps_in_a_circle_are_refused() {
        let rules: PackageRules = serde_json::from_str(
            r#"{"steps": true, "packages": [{"package_id": 1, "from": {"versions": ["V1"]}},
                {"package_id": 2, "from": {"versions": ["V2"]}}]}"#,
        )
        .unwrap();
        let version = |text| Version::new(text).unwrap();
        assert!(rules.check_steps(&[version("V2"), version("V3")]).is_ok());
        let error = rules.check_steps(&[version("V2"), version("V1")]);
        assert_eq!(error.unwrap_err().field, "steps");
    }

    #[test]
    fn what_is_said_comes_back() {
        let text = r#"{"packages":[{"package_id":7,"from":{"version_below":"V2","hardware":["B"]}}],"allow_downgrade":true}"#;
        let rules: PackageRules = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&rules).unwrap(), text);
        assert!(!rules.is_empty());
        assert_eq!(
            serde_json::to_string(&PackageRules::default()).unwrap(),
            "{}"
        );
    }
}
