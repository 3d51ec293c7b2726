use std::time::Duration;

use super::Protocol;
use crate::config::UpgradeConfig;

/// Everything in an upgrade that runs out.
///
/// Lengths are settings; their defaults, and where they come from, stand in [`UpgradeConfig`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deadline {
    /// The device must be heard: 24 h, so that a meter that reports daily gets its chance.
    DeviceHeard,
    /// A device over MQTT must connect: 25 h, an hour more than a day.
    Connection,
    /// The version must be answered: 3 min, two repeats at NB-IoT's pace.
    Version,
    /// Coverage must be answered: 3 min; then the cell alone is asked for.
    Coverage,
    /// The cell must be answered: 3 min.
    Cell,
    /// A slot must become free: a week, because a cell of bad coverage takes one device at a time.
    Slot,
    /// The download must end: 60 min, for some hundred segments in deep coverage.
    Download,
    /// A device over MQTT must have fetched and installed what it was offered: 24 h, as long as its token lasts.
    Transfer,
    /// The result must come: 30 min, for the slowest flash and reboot.
    Execution,
    /// An unanswered version query is put again: longer than an exchange with its repeats usually takes.
    RepeatQuestion,
    /// A quiet download is nudged: longer than a device's own pause before it repeats a request (5 to
    /// 30 s), so that a device that helps itself is left alone.
    Nudge,
    /// A device heard again after the command is asked for its version: long enough for its own
    /// report, shorter than its awake window.
    ResultGrace,
}

impl Deadline {
    /// The one that takes its place where the device speaks that protocol.
    #[must_use]
    pub const fn over(self, protocol: Protocol) -> Self {
        match self {
            Self::DeviceHeard if protocol.is_mqtt() => Self::Connection,
            Self::Download if protocol.is_mqtt() => Self::Transfer,
            other => other,
        }
    }

    /// The name of its length in the settings.
    pub const fn setting(self) -> &'static str {
        match self {
            Self::DeviceHeard => "upgrade.wait_for_device_s",
            Self::Connection => "upgrade.wait_for_connection_s",
            Self::Version => "upgrade.query_version_s",
            Self::Coverage => "upgrade.query_coverage_s",
            Self::Cell => "upgrade.query_cell_s",
            Self::Slot => "upgrade.wait_for_slot_s",
            Self::Download => "upgrade.download_s",
            Self::Transfer => "upgrade.transfer_s",
            Self::Execution => "upgrade.execute_s",
            Self::RepeatQuestion => "upgrade.repeat_question_s",
            Self::Nudge => "upgrade.nudge_after_s",
            Self::ResultGrace => "upgrade.result_grace_s",
        }
    }

    /// How long it is.
    pub const fn duration(self, config: &UpgradeConfig) -> Duration {
        Duration::from_secs(match self {
            Self::DeviceHeard => config.wait_for_device_s,
            Self::Connection => config.wait_for_connection_s,
            Self::Version => config.query_version_s,
            Self::Coverage => config.query_coverage_s,
            Self::Cell => config.query_cell_s,
            Self::Slot => config.wait_for_slot_s,
            Self::Download => config.download_s,
            Self::Transfer => config.transfer_s,
            Self::Execution => config.execute_s,
            Self::RepeatQuestion => config.repeat_question_s,
            Self::Nudge => config.nudge_after_s,
            Self::ResultGrace => config.result_grace_s,
        })
    }
}
