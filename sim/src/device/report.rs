use pcp::{ResultCode, Version};
use serde::{Serialize, Serializer};

use super::{Device, Power, object::Received, registration::Registration, upgrade::Stage};
use crate::fault::Fault;

/// What a device is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// Switched off, restarting or installing.
    Off,
    /// Asleep between two updates of its registration.
    Asleep,
    /// Without a registration.
    Unregistered,
    /// Registered, no upgrade under way.
    Idle,
    /// Fetching segments, or waiting to be notified again.
    Downloading,
    /// Holds the whole package.
    Downloaded,
    /// About to restart for the installation.
    Installing,
    /// Registered, and deaf to everything about upgrades.
    Silent,
}

/// How the last upgrade ended, as the device saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "code")]
pub enum Outcome {
    /// It runs the new version.
    Upgraded,
    /// It refused the query, the notification or the command.
    Refused(#[serde(serialize_with = "code")] ResultCode),
    /// It reported a failed download.
    DownloadFailed(#[serde(serialize_with = "code")] ResultCode),
    /// It runs the old version after a failed installation.
    InstallFailed(#[serde(serialize_with = "code")] ResultCode),
    /// The server refused a segment.
    Abandoned(#[serde(serialize_with = "code")] ResultCode),
    /// Its object tells this result, and it does not run the new version.
    Result(u8),
    /// It fell silent, as ordered.
    WentSilent,
}

impl Outcome {
    /// Whether the device ended up with the new version.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Upgraded)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn code<S: Serializer>(code: &ResultCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(code.0)
}

/// What a device has counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counters {
    /// Datagrams handed out.
    pub datagrams_sent: u64,
    /// Datagrams taken in.
    pub datagrams_received: u64,
    /// Datagrams that came while the device was off or asleep.
    pub datagrams_missed: u64,
    /// Repeats of unacknowledged CoAP messages.
    pub retransmissions: u64,
    /// Repeated requests that were recognised.
    pub duplicates: u64,
    /// Datagrams that are not CoAP.
    pub malformed: u64,
    /// Registrations sent, repeats not counted.
    pub registrations: u64,
    /// Restarts.
    pub restarts: u64,
    /// Writes that are not PCP frames, or none that the device understands.
    pub bad_frames: u64,
    /// Version queries that came.
    pub version_queries: u64,
    /// Notifications of a new version that came.
    pub notifications: u64,
    /// Requests for segments, with repeats.
    pub segments_requested: u64,
    /// Segments taken.
    pub segments_received: u64,
    /// Answers with a segment that was not asked for, or of a wrong length.
    pub segments_ignored: u64,
    /// Upgrade results reported, with repeats.
    pub results_reported: u64,
}

/// What the device holds of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ImageReport {
    /// Segments that it holds.
    pub segments: u16,
    /// Segments that the package has.
    pub segment_count: u16,
    /// Bytes that it holds.
    pub len_bytes: u64,
    /// PCP's check code of these bytes.
    pub check_code: u16,
}

/// A device as it sees itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DeviceReport {
    /// The version that runs.
    #[serde(serialize_with = "version")]
    pub version: Version,
    /// What it is doing.
    pub state: DeviceState,
    /// Whether the server has accepted its registration.
    pub registered: bool,
    /// How the last upgrade ended, if one did.
    pub outcome: Option<Outcome>,
    /// Whether nothing more can be expected of it, unless the server begins something new.
    pub settled: bool,
    /// The package that it holds, if any.
    pub image: Option<ImageReport>,
    /// What it has counted.
    pub counters: Counters,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn version<S: Serializer>(version: &Version, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(version)
}

impl Device {
    /// The device as it sees itself now.
    pub fn report(&self) -> DeviceReport {
        DeviceReport {
            version: self.upgrade.version,
            state: self.state(),
            registered: self.is_registered(),
            outcome: self.upgrade.outcome,
            settled: self.is_settled(),
            image: match &self.object {
                Some(objects) => objects.image().map(Received::report),
                None => self.upgrade.held.as_ref().map(|held| held.report()),
            },
            counters: self.counters,
        }
    }

    /// The package's bytes so far, if the device was told to keep them.
    pub fn image(&self) -> Option<&[u8]> {
        let image = match &self.object {
            Some(objects) => objects.image()?.bytes(),
            None => self.upgrade.held.as_ref()?.image(),
        };
        self.spec.behaviour.keep_image.then_some(image)
    }

    /// Whether the server has accepted the device's registration.
    pub const fn is_registered(&self) -> bool {
        matches!(self.registration, Registration::Held(_))
    }

    /// How the last upgrade ended, if one did.
    pub const fn outcome(&self) -> Option<Outcome> {
        self.upgrade.outcome
    }

    /// Whether nothing more can be expected of the device, unless the server begins something new:
    /// its upgrade has ended and all it has to say about it is said.
    pub fn is_settled(&self) -> bool {
        let queried = self.counters.version_queries > 0;
        match self.upgrade.outcome {
            // These are never accepted.
            None if self.spec.fault.is_some_and(Fault::needs_psk) => {
                self.counters.registrations > 0 && !self.is_registered()
            }
            // Some are asked for their version and then left alone.
            None => {
                queried
                    && (self.has(Fault::AlreadyCurrent)
                        || self.has(Fault::NoObject4)
                        || !self.spec.coverage.is_known())
            }
            Some(_) if self.object.is_some() => {
                self.power != Power::Off && !self.has_untold_result()
            }
            // These say nothing, so that the server has to ask.
            Some(_) if self.is_silent_after_installation() => self.upgrade.queried_since_restart,
            Some(_) => self.power != Power::Off && !self.upgrade.has_something_to_say(),
        }
    }

    fn state(&self) -> DeviceState {
        match self.power {
            Power::Off => return DeviceState::Off,
            Power::Asleep => return DeviceState::Asleep,
            Power::On => {}
        }
        if !self.is_registered() {
            return DeviceState::Unregistered;
        }
        if let Some(state) = self.object_state() {
            return state;
        }
        match self.upgrade.stage {
            Stage::Idle => DeviceState::Idle,
            Stage::Downloading => DeviceState::Downloading,
            Stage::Downloaded => DeviceState::Downloaded,
            Stage::Installing => DeviceState::Installing,
            Stage::Silent | Stage::Deaf => DeviceState::Silent,
        }
    }
}
