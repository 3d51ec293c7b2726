use async_trait::async_trait;

use super::{StoreError, UpgradeState};
use crate::{
    clock::UtcMillis,
    ledger::{PackageId, TaskId, UpgradeId},
    package::{CveId, Exposure, Mending, Version},
};

/// A product with packages that mend a vulnerability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MendedProduct {
    /// The product.
    pub product: String,
    /// Their versions.
    pub mending: Mending,
    /// All of its packages after which a device is mended: these, and those of higher versions.
    pub packages: Vec<PackageId>,
}

/// What is known of a device that a vulnerability concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The endpoint name.
    pub endpoint: String,
    /// What it told last that it runs.
    pub version: Option<Version>,
    /// When it was heard last, as it is stored.
    pub last_heard_at: Option<UtcMillis>,
    /// Why it is not to be upgraded, while it is excluded.
    pub excluded: Option<String>,
    /// Its newest upgrade to a mending package.
    pub latest: Option<LatestUpgrade>,
    /// Its first one that succeeded.
    pub reached: Option<Reached>,
}

/// The newest upgrade of a device to a mending package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestUpgrade {
    /// The upgrade.
    pub upgrade: UpgradeId,
    /// Its task.
    pub task: TaskId,
    /// The task's name.
    pub task_name: String,
    /// Where it stands.
    pub state: UpgradeState,
    /// How its last attempt ended, if one has.
    pub reason: Option<String>,
}

/// The first upgrade of a device to a mending package that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// When.
    pub at: UtcMillis,
    /// The upgrade.
    pub upgrade: UpgradeId,
    /// Its task.
    pub task: TaskId,
    /// The task's name.
    pub task_name: String,
    /// The version of its package.
    pub version: Version,
    /// `upgraded`, or `already_current`.
    pub reason: String,
}

/// What a vulnerability is to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It runs a version that mends it.
    Mended,
    /// It runs a version that does not.
    Affected,
    /// Nobody knows.
    Unknown,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mended, Self::Affected, Self::Unknown];

    /// Its stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mended => "mended",
            Self::Affected => "affected",
            Self::Unknown => "unknown",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

/// How a device came to be mended, or why it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// An upgrade has reached it.
    Reached,
    /// It runs the version, and no upgrade that is known has brought it.
    RunsIt,
    /// It is excluded from upgrades.
    Excluded,
    /// Its upgrade waits.
    Queued,
    /// Its upgrade runs.
    UnderWay,
    /// Its upgrade has failed.
    Failed,
    /// Its upgrade was cancelled, or it was skipped.
    Cancelled,
    /// Its upgrade had succeeded, and it tells a version again that is below.
    OlderAgain,
    /// It was never heard.
    NeverHeard,
    /// It has not told what it runs.
    VersionUnknown,
    /// It runs a version between two that mend: which of them it follows is not known.
    BetweenVersions,
    /// No task had it.
    NotInTask,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Reached,
        Self::RunsIt,
        Self::Excluded,
        Self::Queued,
        Self::UnderWay,
        Self::Failed,
        Self::Cancelled,
        Self::OlderAgain,
        Self::NeverHeard,
        Self::VersionUnknown,
        Self::BetweenVersions,
        Self::NotInTask,
    ];

    /// A stable word for programs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::RunsIt => "runs_it",
            Self::Excluded => "excluded",
            Self::Queued => "queued",
            Self::UnderWay => "under_way",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::OlderAgain => "older_again",
            Self::NeverHeard => "never_heard",
            Self::VersionUnknown => "version_unknown",
            Self::BetweenVersions => "between_versions",
            Self::NotInTask => "not_in_task",
        }
    }
}

impl Reach {
    /// What the vulnerability is to the device, by what it tells itself, and why. A success that the device contradicts is none.
    pub fn judge(&self, mending: &Mending) -> (Standing, Why) {
        let exposure = self.version.map(|version| mending.exposure(version));
        let standing = match exposure {
            Some(Exposure::Mended) => Standing::Mended,
            Some(Exposure::Affected) => Standing::Affected,
            Some(Exposure::Between) | None => Standing::Unknown,
        };
        let why = match standing {
            Standing::Mended if self.reached.is_some() => Why::Reached,
            Standing::Mended => Why::RunsIt,
            Standing::Affected | Standing::Unknown => self.why_not(exposure),
        };
        (standing, why)
    }

    /// Why a device is not mended: what an operator does about it comes first.
    fn why_not(&self, exposure: Option<Exposure>) -> Why {
        if self.excluded.is_some() {
            return Why::Excluded;
        }
        match (self.latest.as_ref().map(|it| it.state), exposure) {
            (Some(UpgradeState::Pending), _) => Why::Queued,
            (Some(UpgradeState::Active(_)), _) => Why::UnderWay,
            (Some(UpgradeState::Failed), _) => Why::Failed,
            (Some(UpgradeState::Cancelled), _) => Why::Cancelled,
            (Some(UpgradeState::Succeeded), Some(_)) => Why::OlderAgain,
            (_, None) if self.last_heard_at.is_none() => Why::NeverHeard,
            (_, None) => Why::VersionUnknown,
            (None, Some(Exposure::Between)) => Why::BetweenVersions,
            (None, Some(_)) => Why::NotInTask,
        }
    }
}

/// Devices in the order of their endpoint names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachPage {
    /// The devices.
    pub items: Vec<Reach>,
    /// Whether others follow.
    pub more: bool,
}

/// Whom a vulnerability concerns, and who was reached.
#[async_trait]
pub trait Reaches: Send + Sync + 'static {
    /// The products that have packages which mend it, in the order of their names. A package that was deleted counts while a task
    /// refers to it.
    async fn mended_products(&self, cve: &CveId) -> Result<Vec<MendedProduct>, StoreError>;

    /// Up to `limit` devices of the product after `after`. All come, whatever they run.
    async fn reach(
        &self,
        product: &MendedProduct,
        after: Option<&str>,
        limit: u32,
    ) -> Result<ReachPage, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Stage;

    fn version(text: &str) -> Version {
        Version::new(text).unwrap()
    }

    /// A device that runs 1.0 where 2.0 mends, was heard, and is in no task.
    fn device() -> Reach {
        Reach {
            endpoint: "d".to_owned(),
            version: Some(version("1.0")),
            last_heard_at: Some(UtcMillis(1)),
            excluded: None,
            latest: None,
            reached: None,
        }
    }

    fn latest(state: UpgradeState) -> LatestUpgrade {
        LatestUpgrade {
            upgrade: UpgradeId(1),
            task: TaskId(1),
            task_name: "night".to_owned(),
            state,
            reason: None,
        }
    }

    fn reached() -> Reached {
        Reached {
            at: UtcMillis(2),
            upgrade: UpgradeId(1),
            task: TaskId(1),
            task_name: "night".to_owned(),
            version: version("2.0"),
            reason: "upgraded".to_owned(),
        }
    }

    #[test]
    fn each_device_has_one_reason() {
        let with_latest = |state| Reach {
            latest: Some(latest(state)),
            ..device()
        };
        let succeeded = Reach {
            reached: Some(reached()),
            ..with_latest(UpgradeState::Succeeded)
        };
        let running = |text: &str, device: Reach| Reach {
            version: Some(version(text)),
            ..device
        };
        let silent = Reach {
            version: None,
            ..device()
        };
        let never = Reach {
            last_heard_at: None,
            ..silent.clone()
        };
        for (device, standing, why) in [
            (
                running("2.0", succeeded.clone()),
                Standing::Mended,
                Why::Reached,
            ),
            (
                running("2.5", succeeded.clone()),
                Standing::Mended,
                Why::Reached,
            ),
            (running("2.0", device()), Standing::Mended, Why::RunsIt),
            (
                running("2.0", with_latest(UpgradeState::Failed)),
                Standing::Mended,
                Why::RunsIt,
            ),
            (succeeded, Standing::Affected, Why::OlderAgain),
            (device(), Standing::Affected, Why::NotInTask),
            (
                Reach {
                    excluded: Some("lab".to_owned()),
                    ..with_latest(UpgradeState::Pending)
                },
                Standing::Affected,
                Why::Excluded,
            ),
            (
                with_latest(UpgradeState::Pending),
                Standing::Affected,
                Why::Queued,
            ),
            (
                with_latest(UpgradeState::Active(Stage::Downloading)),
                Standing::Affected,
                Why::UnderWay,
            ),
            (
                with_latest(UpgradeState::Failed),
                Standing::Affected,
                Why::Failed,
            ),
            (
                with_latest(UpgradeState::Cancelled),
                Standing::Affected,
                Why::Cancelled,
            ),
            (silent, Standing::Unknown, Why::VersionUnknown),
            (never.clone(), Standing::Unknown, Why::NeverHeard),
            (
                Reach {
                    latest: Some(latest(UpgradeState::Pending)),
                    ..never
                },
                Standing::Unknown,
                Why::Queued,
            ),
        ] {
            let mending = Mending::new([version("2.0")]).unwrap();
            assert_eq!(device.judge(&mending), (standing, why), "{device:?}");
        }
        let branches = Mending::new([version("1.5"), version("2.1")]).unwrap();
        let between = running("2.0", device());
        assert_eq!(
            between.judge(&branches),
            (Standing::Unknown, Why::BetweenVersions)
        );
    }
}
