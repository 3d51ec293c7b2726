//! What a device did with versions that it was offered.

use pcp::ResultCode;
use serde::{Deserialize, Serialize};

use crate::{clock::UtcMillis, package::Version};

/// Which report told of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedIn {
    /// The download (PCP 22).
    Download,
    /// The installation (PCP 24).
    Installation,
}

/// A failure that a device reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportedFailure {
    /// Which report told of it.
    pub failed_in: FailedIn,
    /// The code that it gave.
    pub code: ResultCode,
}

/// Why a device is not in health after its upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Unhealthy {
    /// It has told another version than the one that it was upgraded to.
    OtherVersion {
        /// The version that it told.
        version: Version,
    },
    /// It was not heard after its soak.
    NotHeard,
    /// It was heard after its soak, and did not tell its version.
    VersionNotTold,
}

/// What a device did with one version since it restarted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// The version.
    pub version: Version,
    /// It has accepted the version, asked for segments of it, or reported that it holds it. Otherwise it was notified of
    /// it, and what it has answered is not known.
    pub taken: bool,
    /// It was told to install the version (PCP 23) after all else that is told here. It may not have heard it.
    pub commanded: bool,
    /// It has said since that it runs the version, when it was asked.
    pub claimed: bool,
    /// The failure that it reported last.
    pub failure: Option<ReportedFailure>,
    /// When the newest of it was heard.
    pub at: UtcMillis,
}

impl Evidence {
    /// The same, when an unknown time has passed since: the device may have been told to install the version meanwhile, and may
    /// have restarted. So neither a download that had just begun nor a failure speaks against it any more, nor a claim for it.
    #[must_use]
    pub const fn put_back(self) -> Self {
        Self {
            commanded: true,
            claimed: false,
            failure: None,
            ..self
        }
    }

    /// Of a version of which nothing is known, and which the device may have been offered in an unknown time before `at`: some say
    /// from then on that they run it.
    pub const fn unknown(version: Version, at: UtcMillis) -> Self {
        Self {
            version,
            taken: false,
            commanded: true,
            claimed: false,
            failure: None,
            at,
        }
    }
}

/// Versions of which evidence is kept. A device that was offered more since its last restart loses the oldest.
pub const MAX_VERSIONS: usize = 4;
