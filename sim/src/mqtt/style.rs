//! The messages that a device understands, and the kit that it is built on.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The messages that a device understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Style {
    /// Huawei IoTDA, `firmware_upgrade` and `software_upgrade`: the download's right is an access token.
    #[serde(rename = "iotda")]
    Iotda,
    /// Huawei IoTDA, those and their `_v2`: the URL carries its own right.
    #[serde(rename = "iotda-v2")]
    IotdaV2,
    /// `ThingsPanel` 0.5: topics by access token, quality of service 0, versions are reported.
    #[serde(rename = "thingspanel-0.5")]
    ThingsPanel05,
    /// `ThingsPanel` 1.x: topics by device number, quality of service 1, no version is ever reported.
    #[serde(rename = "thingspanel-1.x")]
    ThingsPanel1,
    /// QuecThing (Quectel's Acceleronix): frames, versions are told with the question for a plan.
    #[serde(rename = "quecthing")]
    QuecThing,
}

/// Why a text names no [`Style`] or [`Client`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{text}' is none of {known}")]
pub struct UnknownName {
    text: String,
    known: &'static str,
}

impl Style {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Iotda,
        Self::IotdaV2,
        Self::ThingsPanel05,
        Self::ThingsPanel1,
        Self::QuecThing,
    ];

    /// As it is written on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Iotda => "iotda",
            Self::IotdaV2 => "iotda-v2",
            Self::ThingsPanel05 => "thingspanel-0.5",
            Self::ThingsPanel1 => "thingspanel-1.x",
            Self::QuecThing => "quecthing",
        }
    }

    /// Whether it is one of Huawei IoTDA's.
    pub const fn is_iotda(self) -> bool {
        matches!(self, Self::Iotda | Self::IotdaV2)
    }
}

impl fmt::Display for Style {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Style {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|style| style.name() == text);
        found.ok_or_else(|| UnknownName {
            text: text.to_owned(),
            known: "iotda, iotda-v2, thingspanel-0.5, thingspanel-1.x, quecthing",
        })
    }
}

/// The software kit that an IoTDA device is built on. Devices of `ThingsPanel` have none of these habits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Client {
    /// Downloads on the thread that serves MQTT; is silent when the download fails.
    Python,
    /// Reports the end of the download with the old version, then the end of the upgrade with the new one.
    Java,
    /// Writes HTTP by hand, with bare line feeds; reports failures with the target version.
    C,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Python, Self::Java, Self::C];

    /// As it is written on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Java => "java",
            Self::C => "c",
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Client {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|client| client.name() == text);
        found.ok_or_else(|| UnknownName {
            text: text.to_owned(),
            known: "python, java, c",
        })
    }
}
