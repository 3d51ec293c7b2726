//! The packages of a task, as the API takes and shows them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{
        extract::{self, Fields},
        problem::{FieldError, Problem},
    },
    ledger::{Conditions, PackageId},
    package::{Fits, Version},
    task::{MAX_PACKAGES, PackageRule, PackageRules},
};

/// A package of a task, and the devices that it is for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskPackage {
    /// The package.
    #[serde(deserialize_with = "extract::whole")]
    package_id: i64,
    /// What its devices run, and what they are; any device of the product when not given.
    from: Option<PackageFrom>,
}

/// What a device has to be like to be upgraded, at least. It is told to devices whose protocol has a field for it, and they, or their
/// gateway, refuse where it does not hold (`refused_battery`, `refused_space`, `refused_signal`).
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConditionsBody {
    /// The charge of its battery, percent.
    #[schema(minimum = 1, maximum = 100, example = 30)]
    battery_percent: Option<u8>,
    /// The space that it has left, KiB.
    #[schema(minimum = 1, maximum = 1_000_000_000, example = 2_048)]
    space_kib: Option<u32>,
    /// The strength of its signal, dBm.
    #[schema(minimum = -150, maximum = -1, example = -110)]
    signal_dbm: Option<i16>,
}

impl From<ConditionsBody> for Conditions {
    fn from(body: ConditionsBody) -> Self {
        Self {
            battery_percent: body.battery_percent,
            space_kib: body.space_kib,
            signal_dbm: body.signal_dbm,
        }
    }
}

impl ConditionsBody {
    /// `None` where nothing is asked.
    pub(super) fn shown(asked: Conditions) -> Option<Self> {
        (!asked.are_none()).then_some(Self {
            battery_percent: asked.battery_percent,
            space_kib: asked.space_kib,
            signal_dbm: asked.signal_dbm,
        })
    }
}

/// The devices that a package is for. What is not given is not asked. Give either `versions`, or `version_from` and
/// `version_below`: these compare numbers within a version as numbers, so that `V1.9` is below `V1.10`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PackageFrom {
    /// They run one of these versions: 1 to 50, each 1 to 64 printable ASCII characters without a space at its ends.
    #[schema(min_items = 1, max_items = 50, example = json!(["V1.0", "V1.1"]))]
    versions: Option<Vec<String>>,
    /// They run this version, or one above it.
    #[schema(min_length = 1, max_length = 64)]
    version_from: Option<String>,
    /// They run a version below this one.
    #[schema(min_length = 1, max_length = 64, example = "V2.0")]
    version_below: Option<String>,
    /// Their `hardware` is one of these: 1 to 50, each 1 to 64 characters. A device whose hardware is not set has none of them.
    #[schema(min_items = 1, max_items = 50, example = json!(["B"]))]
    hardware: Option<Vec<String>>,
}

/// What a request says of the packages of a task.
#[derive(Debug, Default)]
pub(super) struct SaidOfPackages {
    pub(super) package_id: Option<i64>,
    pub(super) packages: Option<Vec<TaskPackage>>,
    pub(super) steps: bool,
    pub(super) allow_downgrade: bool,
    pub(super) conditions: Conditions,
}

impl SaidOfPackages {
    /// The package, or the first of several, and what is said of them, if that can be had.
    pub(super) fn rules(self) -> Result<(PackageId, PackageRules), Problem> {
        let mut rules = PackageRules {
            packages: Vec::new(),
            steps: self.steps,
            allow_downgrade: self.allow_downgrade,
            conditions: self.conditions,
        };
        let first = match (self.package_id, self.packages) {
            (Some(id), None) => id,
            (None, Some(packages)) => {
                let first = packages.first().map(|package| package.package_id);
                let detail = "name at least one package";
                let first = first.ok_or_else(|| Problem::field("packages", detail))?;
                rules.packages = parse(packages)?;
                first
            }
            (None, None) => {
                let detail = "it is missing: give package_id, or packages";
                return Err(Problem::field("package_id", detail));
            }
            (Some(_), Some(_)) => {
                let detail = "give either package_id or packages, not both";
                return Err(Problem::field("packages", detail));
            }
        };
        let errors = rules.check().into_iter();
        let errors: Vec<FieldError> = errors
            .map(|error| FieldError::new(error.field, error.detail))
            .collect();
        if errors.is_empty() {
            return Ok((PackageId(first), rules));
        }
        Err(Problem::fields(errors))
    }
}

fn parse(packages: Vec<TaskPackage>) -> Result<Vec<PackageRule>, Problem> {
    let mut fields = Fields::default();
    fields.check(
        "packages",
        packages.len() <= MAX_PACKAGES,
        format!("at most {MAX_PACKAGES} are possible"),
    );
    let mut rules = Vec::with_capacity(packages.len().min(MAX_PACKAGES));
    // what is too much is not looked at one by one: the answer would be as long
    for (i, package) in packages.into_iter().take(MAX_PACKAGES).enumerate() {
        let from = package.from.unwrap_or_default();
        rules.push(PackageRule {
            package_id: PackageId(package.package_id),
            from: from.parse(&format!("packages[{i}].from"), &mut fields),
        });
    }
    fields.finish()?;
    Ok(rules)
}

impl PackageFrom {
    fn parse(self, field: &str, fields: &mut Fields) -> Fits {
        let mut listed = |name: &str, list: Option<&Vec<String>>| {
            let ok = list.is_none_or(|list| !list.is_empty());
            fields.check(&format!("{field}.{name}"), ok, "name at least one");
        };
        listed("versions", self.versions.as_ref());
        listed("hardware", self.hardware.as_ref());
        let mut version =
            |name: &str, text: &String| fields.take(&format!("{field}.{name}"), Version::new(text));
        let versions = self.versions.unwrap_or_default();
        let mut parsed = Vec::new();
        for text in &versions {
            // the first that is none is told
            let Some(version) = version("versions", text) else {
                break;
            };
            parsed.push(version);
        }
        let from = self.version_from.as_ref();
        let below = self.version_below.as_ref();
        Fits {
            versions: parsed,
            version_from: from.and_then(|text| version("version_from", text)),
            version_below: below.and_then(|text| version("version_below", text)),
            hardware: self.hardware.unwrap_or_default(),
        }
    }
}

/// The packages of a task that has these, or this one alone.
pub(super) fn shown(alone: PackageId, rules: &PackageRules) -> Vec<TaskPackage> {
    if rules.packages.is_empty() {
        return vec![TaskPackage {
            package_id: alone.0,
            from: None,
        }];
    }
    let text = |version: Version| version.to_string();
    let packages = rules.packages.iter().map(|rule| TaskPackage {
        package_id: rule.package_id.0,
        from: (!rule.from.is_any()).then(|| PackageFrom {
            versions: (!rule.from.versions.is_empty())
                .then(|| rule.from.versions.iter().copied().map(text).collect()),
            version_from: rule.from.version_from.map(text),
            version_below: rule.from.version_below.map(text),
            hardware: (!rule.from.hardware.is_empty()).then(|| rule.from.hardware.clone()),
        }),
    });
    packages.collect()
}
