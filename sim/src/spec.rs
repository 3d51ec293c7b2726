//! What one simulated device is like: its name, its radio, its habits, its timing, its fault.

use std::str::FromStr;

use pcp::Version;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    content::ContentFormat,
    fault::{Expected, Fault},
    object::{Character, ObjectSpec, UpdatesBy},
    psk::Psk,
};

/// Everything that makes a device what it is.
#[derive(Debug, Clone)]
pub struct DeviceSpec {
    /// Endpoint client name, unique on the server.
    pub endpoint: String,
    /// What the server knows it by, for DTLS; without it the device speaks plain CoAP.
    pub psk: Option<Psk>,
    /// Another device's name, which [`Fault::ClaimsOtherEndpoint`] registers under.
    pub claims: Option<String>,
    /// The version it runs at first.
    pub version: Version,
    /// By what it is upgraded.
    pub updates_by: UpdatesBy,
    /// What it is like where that is not PCP.
    pub object: ObjectSpec,
    /// What it knows of its radio.
    pub coverage: Coverage,
    /// How it goes wrong, if it does.
    pub fault: Option<Fault>,
    /// Its habits.
    pub behaviour: Behaviour,
    /// Its delays.
    pub timing: Timing,
    /// Its message IDs, tokens and jitter follow from this number alone.
    pub seed: u64,
}

impl DeviceSpec {
    /// A well-behaved device in good coverage, with default habits and timing.
    pub fn new(endpoint: impl Into<String>, version: Version) -> Self {
        Self {
            endpoint: endpoint.into(),
            psk: None,
            claims: None,
            version,
            updates_by: UpdatesBy::default(),
            object: ObjectSpec::default(),
            coverage: CoverageClass::Good.coverage(Some(1)),
            fault: None,
            behaviour: Behaviour::default(),
            timing: Timing::default(),
            seed: 0,
        }
    }

    /// The endpoint name that it registers under.
    pub(crate) fn registers_as(&self) -> &str {
        match (&self.claims, self.fault) {
            (Some(other), Some(Fault::ClaimsOtherEndpoint)) => other,
            _ => &self.endpoint,
        }
    }

    /// What it shakes hands with.
    pub(crate) fn uses_psk(&self) -> Option<Psk> {
        match self.fault {
            Some(Fault::WrongPsk) => self.psk.as_ref().map(Psk::with_wrong_key),
            _ => self.psk.clone(),
        }
    }

    /// Whether nothing comes of what it is told.
    pub(crate) fn is_stub(&self) -> bool {
        self.updates_by != UpdatesBy::Pcp && self.object.character == Character::Stub
    }

    /// What a server should record for this device at the end of an upgrade.
    pub fn expected(&self) -> Expected {
        match self.fault {
            // No slot in a cell is needed to find that there is nothing to do.
            Some(Fault::AlreadyCurrent) => Expected::Succeeded,
            _ if !self.coverage.is_known() => Expected::Failed,
            _ if self.is_stub() => Expected::Failed,
            // nobody tells it of a URI
            Some(Fault::Object(fault))
                if fault.needs_uri() && self.object.character == Character::PushOnly =>
            {
                Expected::Succeeded
            }
            Some(fault) => fault.expected(),
            None => Expected::Succeeded,
        }
    }
}

/// What a device reports in object 4, Connectivity Monitoring. Absent values are absent resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// /4/0/8.
    pub cell_id: Option<u32>,
    /// /4/0/2, -156 to -44 dBm when plausible.
    pub rsrp_dbm: Option<i32>,
    /// /4/0/11, -20 to 40 dB when plausible.
    pub sinr_db: Option<i32>,
    /// What the answers are written in.
    pub format: ContentFormat,
}

impl Coverage {
    /// The class that reports such values; [`CoverageClass::Poor`] for values that are of none.
    pub fn class(&self) -> CoverageClass {
        let alike = |class: &CoverageClass| {
            let usual = class.coverage(self.cell_id);
            (usual.cell_id, usual.rsrp_dbm, usual.sinr_db)
                == (self.cell_id, self.rsrp_dbm, self.sinr_db)
        };
        // the last one without a cell is the one that is meant
        let classes = CoverageClass::ALL.into_iter();
        match self.cell_id {
            Some(_) => classes.clone().find(alike),
            None => classes.rev().find(alike),
        }
        .unwrap_or(CoverageClass::Poor)
    }

    /// Whether a server can place the device: by its cell, or by a plausible pair of measurements.
    pub(crate) fn is_known(&self) -> bool {
        let measured = self.rsrp_dbm.is_some_and(|dbm| (-156..=-44).contains(&dbm))
            && self.sinr_db.is_some_and(|db| (-20..=40).contains(&db));
        self.cell_id.is_some() || measured
    }
}

/// Usual kinds of coverage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoverageClass {
    /// RSRP -90 dBm, SINR 15 dB.
    Good,
    /// RSRP -100 dBm, SINR 3 dB.
    Medium,
    /// RSRP -112 dBm, SINR -8 dB.
    Poor,
    /// The cell ID and nothing else.
    Unmeasurable,
    /// The cell ID, and 80 for the signal strength, as some firmware always answers.
    Implausible,
    /// Not even a cell ID: such a device cannot be placed.
    NoCell,
}

impl CoverageClass {
    /// All classes.
    pub const ALL: [Self; 6] = [
        Self::Good,
        Self::Medium,
        Self::Poor,
        Self::Unmeasurable,
        Self::Implausible,
        Self::NoCell,
    ];

    /// The class's name, as on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Medium => "medium",
            Self::Poor => "poor",
            Self::Unmeasurable => "unmeasurable",
            Self::Implausible => "implausible",
            Self::NoCell => "no-cell",
        }
    }

    /// Typical values of the class, in the given cell, in TLV.
    pub const fn coverage(self, cell_id: Option<u32>) -> Coverage {
        let (rsrp_dbm, sinr_db) = match self {
            Self::Good => (Some(-90), Some(15)),
            Self::Medium => (Some(-100), Some(3)),
            Self::Poor => (Some(-112), Some(-8)),
            Self::Unmeasurable | Self::NoCell => (None, None),
            Self::Implausible => (Some(80), None),
        };
        Coverage {
            cell_id: if matches!(self, Self::NoCell) {
                None
            } else {
                cell_id
            },
            rsrp_dbm,
            sinr_db,
            format: ContentFormat::Tlv,
        }
    }
}

/// The text names no class.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "unknown coverage '{0}': good, medium, poor, unmeasurable, implausible and no-cell are known"
)]
pub struct UnknownCoverage(String);

impl FromStr for CoverageClass {
    type Err = UnknownCoverage;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|class| class.name() == text)
            .ok_or_else(|| UnknownCoverage(text.to_owned()))
    }
}

/// How a device registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegistrationStyle {
    /// With lifetime, binding, version and the list of its objects, as most clients do.
    #[default]
    Full,
    /// With its endpoint name and nothing else; lifetime and binding are the standard's defaults.
    Minimal,
}

/// How a device sends notifications (RFC 7641 §4.5 leaves it the choice).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotificationType {
    /// Acknowledged and repeated by CoAP.
    #[default]
    Confirmable,
    /// Repeated by the upgrade client only.
    NonConfirmable,
}

/// A device that listens only for a while after its last message (binding UQ).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueMode {
    /// How long it listens after it was last active, in ms.
    pub awake_ms: u64,
    /// How long it then sleeps before it updates its registration, in ms.
    pub sleep_ms: u64,
}

/// When a client updates its registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Updates {
    /// At half of the lifetime.
    #[default]
    AtHalf,
    /// `MAX_TRANSMIT_WAIT` before its end (RFC 7252 §4.8.2: 93 s), or at half where it is shorter than twice that.
    BeforeEnd,
}

impl Updates {
    /// How long after the last update the next is due, ms.
    pub fn after_ms(self, lifetime_s: u32) -> u64 {
        const BEFORE_END_MS: u64 = 93_000;
        let whole_ms = u64::from(lifetime_s) * 1_000;
        match self {
            Self::BeforeEnd if whole_ms > 2 * BEFORE_END_MS => whole_ms - BEFORE_END_MS,
            Self::AtHalf | Self::BeforeEnd => whole_ms / 2,
        }
    }
}

/// What a client does when the server writes the lifetime of its registration (/1/0/1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LifetimeWrites {
    /// It takes it, tells it with an update, and keeps it in flash memory.
    #[default]
    Kept,
    /// It takes it, and has its own again after a restart.
    Lost,
    /// It takes it as TLV only.
    AsTlv,
    /// It refuses (4.05).
    Refused,
}

/// Habits that differ between devices, none of them wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behaviour {
    /// Lifetime of the registration in seconds, as it comes from the factory.
    pub lifetime_s: u32,
    /// When it updates the registration.
    pub updates: Updates,
    /// What it does with another lifetime.
    pub lifetime: LifetimeWrites,
    /// How it registers.
    pub registration: RegistrationStyle,
    /// How it notifies.
    pub notifications: NotificationType,
    /// Whether it sleeps.
    pub queue_mode: Option<QueueMode>,
    /// Whether it recognises a repeated message ID; many devices act on a repeated write again.
    pub deduplicates: bool,
    /// Whether it acknowledges a request first and responds in a message of its own.
    pub separate_responses: bool,
    /// Whether it keeps the package's bytes; otherwise only their number and check code.
    pub keep_image: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            lifetime_s: 86_400, // OMA LwM2M Core 1.2 §6.2.1
            updates: Updates::default(),
            lifetime: LifetimeWrites::default(),
            registration: RegistrationStyle::default(),
            notifications: NotificationType::default(),
            queue_mode: None,
            deduplicates: true,
            separate_responses: false,
            keep_image: false,
        }
    }
}

/// Delays of a device, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// From the start to the first registration.
    pub start_delay_ms: u64,
    /// CoAP's `ACK_TIMEOUT`; doubled with each repeat, and up to half as long again by chance.
    pub ack_timeout_ms: u64,
    /// CoAP's `MAX_RETRANSMIT`.
    pub max_retransmit: u8,
    /// From a failed registration to the next attempt.
    pub registration_retry_ms: u64,
    /// From the answer to a notification to the first request for a segment.
    pub first_request_delay_ms: u64,
    /// From a segment to the request for the next.
    pub segment_delay_ms: u64,
    /// After which an unanswered message of the upgrade client is repeated.
    pub repeat_after_ms: u64,
    /// How often it is repeated before the device falls silent.
    pub repeats: u8,
    /// From the command to upgrade to the restart.
    pub execute_delay_ms: u64,
    /// How long the device is off to install.
    pub install_ms: u64,
    /// How long the device is off when it restarts in mid-download.
    pub restart_ms: u64,
    /// How late [`Fault::LateReport`] is.
    pub late_report_ms: u64,
    /// How long [`Fault::ClaimsCurrentMidDownload`] is without a network.
    pub outage_ms: u64,
    /// After which an unanswered flight of a DTLS handshake is repeated; doubled with each repeat
    /// (RFC 6347 §4.2.4.1), and up to a quarter longer or shorter by chance.
    pub handshake_timeout_ms: u64,
    /// How often a flight is repeated before the handshake has failed, 16 at most.
    pub handshake_retransmits: u8,
    /// From a failed handshake to the next; doubled with each failure, up to 16 times.
    pub handshake_retry_ms: u64,
    /// How long the server is silent, although it was asked more than once, until the device takes its
    /// DTLS association for forgotten.
    pub silence_ms: u64,
}

/// [`Timing::NB_IOT`].
impl Default for Timing {
    fn default() -> Self {
        Self::NB_IOT
    }
}

impl Timing {
    /// As in an NB-IoT network.
    pub const NB_IOT: Self = Self {
        start_delay_ms: 0,
        ack_timeout_ms: 10_000,
        max_retransmit: 2,
        registration_retry_ms: 60_000,
        first_request_delay_ms: 2_000,
        segment_delay_ms: 500,
        repeat_after_ms: 20_000,
        repeats: 3,
        execute_delay_ms: 1_000,
        install_ms: 60_000,
        restart_ms: 10_000,
        late_report_ms: 600_000,
        outage_ms: 4_500_000,
        handshake_timeout_ms: 9_000, // RFC 7925 §11
        handshake_retransmits: 3,
        handshake_retry_ms: 60_000,
        silence_ms: 25_000,
    };

    /// The same device in a world `factor` times as fast, for demonstrations. What takes any time at
    /// all still takes a millisecond.
    #[must_use]
    pub fn faster(self, factor: u32) -> Self {
        let divide = |ms: u64| (ms / u64::from(factor.max(1))).max(u64::from(ms > 0));
        Self {
            start_delay_ms: divide(self.start_delay_ms),
            ack_timeout_ms: divide(self.ack_timeout_ms),
            max_retransmit: self.max_retransmit,
            registration_retry_ms: divide(self.registration_retry_ms),
            first_request_delay_ms: divide(self.first_request_delay_ms),
            segment_delay_ms: divide(self.segment_delay_ms),
            repeat_after_ms: divide(self.repeat_after_ms),
            repeats: self.repeats,
            execute_delay_ms: divide(self.execute_delay_ms),
            install_ms: divide(self.install_ms),
            restart_ms: divide(self.restart_ms),
            late_report_ms: divide(self.late_report_ms),
            outage_ms: divide(self.outage_ms),
            handshake_timeout_ms: divide(self.handshake_timeout_ms),
            handshake_retransmits: self.handshake_retransmits,
            handshake_retry_ms: divide(self.handshake_retry_ms),
            silence_ms: divide(self.silence_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_classes_are_read_back_as_they_are_written() {
        for class in CoverageClass::ALL {
            assert_eq!(class.name().parse(), Ok(class));
        }
        assert_eq!(
            "splendid".parse::<CoverageClass>(),
            Err(UnknownCoverage("splendid".into()))
        );
    }

    #[test]
    fn a_coverage_knows_its_class() {
        for class in CoverageClass::ALL {
            assert_eq!(class.coverage(Some(7)).class(), class);
        }
    }

    #[test]
    fn a_device_that_cannot_be_placed_is_expected_to_fail() {
        let mut spec = DeviceSpec::new("a", Version::new("V1").unwrap());
        assert_eq!(spec.expected(), Expected::Succeeded);
        spec.coverage = CoverageClass::Implausible.coverage(Some(3));
        assert_eq!(spec.expected(), Expected::Succeeded);
        spec.coverage = CoverageClass::NoCell.coverage(Some(3));
        assert_eq!(spec.expected(), Expected::Failed);
        spec.fault = Some(Fault::AlreadyCurrent);
        assert_eq!(spec.expected(), Expected::Succeeded);
    }

    #[test]
    fn a_faster_world_keeps_every_delay() {
        let fast = Timing::default().faster(1_000_000);
        assert_eq!(fast.install_ms, 1);
        assert_eq!(fast.start_delay_ms, 0);
        assert_eq!(Timing::default().faster(0), Timing::default());
    }
}
