//! What one simulated MQTT device is like: its identity, the software on it, its timing, its fault.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::fault::Fault;
use crate::Expected;

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
    pub const ALL: [Self; 4] = [
        Self::Iotda,
        Self::IotdaV2,
        Self::ThingsPanel05,
        Self::ThingsPanel1,
    ];

    /// As it is written on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Iotda => "iotda",
            Self::IotdaV2 => "iotda-v2",
            Self::ThingsPanel05 => "thingspanel-0.5",
            Self::ThingsPanel1 => "thingspanel-1.x",
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
            known: "iotda, iotda-v2, thingspanel-0.5, thingspanel-1.x",
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

/// What a device proves who it is with. Not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Delays of a device, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From the start to the first connection.
    pub start_delay_ms: u64,
    /// From the loss of a connection, or a refusal, to the next attempt.
    pub retry_ms: u64,
    /// From the download to the end of the installation. The C kit's example takes 3 s.
    pub install_ms: u64,
    /// How long a restart takes.
    pub restart_ms: u64,
    /// From a download that was cut to its resumption.
    pub resume_ms: u64,
    /// How long the network is gone, for devices that lose it.
    pub outage_ms: u64,
    /// Between two reconnections of a storm.
    pub storm_gap_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            start_delay_ms: 0,
            retry_ms: 3_000,
            install_ms: 3_000,
            restart_ms: 5_000,
            resume_ms: 2_000,
            outage_ms: 20_000,
            storm_gap_ms: 200,
        }
    }
}

impl Timing {
    /// Everything so many times as fast, but for the start. 0 is taken as 1.
    #[must_use]
    pub fn faster(self, factor: u32) -> Self {
        let factor = u64::from(factor.max(1));
        let shorter = |ms: u64| ms.div_ceil(factor);
        Self {
            start_delay_ms: self.start_delay_ms,
            retry_ms: shorter(self.retry_ms),
            install_ms: shorter(self.install_ms),
            restart_ms: shorter(self.restart_ms),
            resume_ms: shorter(self.resume_ms),
            outage_ms: shorter(self.outage_ms),
            storm_gap_ms: shorter(self.storm_gap_ms),
        }
    }
}

/// Everything that makes a device what it is.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Device ID of IoTDA, device number of `ThingsPanel`; unique on the server.
    pub device: String,
    /// The messages that it understands.
    pub style: Style,
    /// The kit that it is built on; of no effect for `ThingsPanel`.
    pub client: Client,
    /// The device secret of IoTDA; the access token (user name) of `ThingsPanel`.
    pub secret: Secret,
    /// The password of `ThingsPanel`, which a device with an access token alone does not have.
    pub password: Option<Secret>,
    /// Whether the server is to check the hour in the client ID (its third field is 1).
    pub check_stamp: bool,
    /// Whether a `ThingsPanel` 1.x device subscribes to `inform`, as the documentation spells it, and not to
    /// `infrom`, as the published configuration does.
    pub spells_inform: bool,
    /// Whether it is connected to a broker that is not the server: it subscribes to what it is told, and `ThingsPanel`'s topics,
    /// which name no device, are below its name.
    pub on_broker: bool,
    /// The version that it runs at first.
    pub version: String,
    /// The part of the device that is upgraded, as `ThingsPanel` names it.
    pub module: String,
    /// Keep-alive, seconds; the kits have 120.
    pub keep_alive_s: u16,
    /// Whether it restarts to run what it has installed.
    pub restarts: bool,
    /// How it goes wrong, if it does.
    pub fault: Option<Fault>,
    /// Its delays.
    pub timing: Timing,
    /// Seconds since 1970 when its clock begins to count (`now_ms` is 0).
    pub epoch_s: i64,
    /// Its message numbers and jitter follow from this number alone.
    pub seed: u64,
}

impl Spec {
    /// A well-behaved device that runs `version`.
    pub fn new(device: impl Into<String>, style: Style, version: impl Into<String>) -> Self {
        let device = device.into();
        Self {
            secret: Secret(format!("{device}-secret")),
            device,
            style,
            client: Client::Python,
            password: None,
            check_stamp: true,
            spells_inform: false,
            on_broker: false,
            version: version.into(),
            module: "default".to_owned(),
            keep_alive_s: 120,
            restarts: false,
            fault: None,
            timing: Timing::default(),
            epoch_s: 0,
            seed: 0,
        }
    }

    /// What a server should record at the end of an upgrade of this device.
    pub fn expected(&self) -> Expected {
        let fault = self.fault;
        fault.map_or(Expected::Succeeded, |fault| {
            fault.expected(self.style, self.client)
        })
    }
}
