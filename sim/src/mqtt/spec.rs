//! What one simulated MQTT device is like: its identity, the software on it, its timing, its fault.

use std::fmt;

use super::{
    fault::Fault,
    style::{Client, Style},
};
use crate::Expected;

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
#[expect(clippy::struct_excessive_bools, reason = "each is a habit of its own")]
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
    /// Devices behind it: it is a gateway, of style [`Style::Iotda`] or [`Style::IotdaV2`] as they are. They have no connection,
    /// and no secret, of their own.
    pub behind: Vec<Self>,
    /// Whether it says itself, as a gateway, which devices are behind it.
    pub tells_who_is_behind: bool,
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
            behind: Vec::new(),
            tells_who_is_behind: false,
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
