//! The numbers of errors that applications know, and what each stands for here.

use thiserror::Error;

use crate::{clock::UtcMillis, ledger::Outcome};

/// An error as applications of end users know it by its number (Tuya's table of errors of bulk upgrades).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorCode {
    /// 5000: the device runs what there is.
    UpToDate,
    /// 5001: there is no such firmware.
    NoFirmware,
    /// 5002: one device is there once in a request.
    OncePerTask,
    /// 5003: the application could not download it.
    AppDownload,
    /// 5004: it is not known how strong the signal is.
    SignalUnknown,
    /// 5005: the signal is weaker than the offer asks for; the user may go on nevertheless.
    SignalWeak,
    /// 5006: the application cannot connect to the device.
    AppConnection,
    /// 5007: the device could not be taken from its gateway in time.
    Unbinding,
    /// 5009: what the application downloaded is not what was uploaded.
    AppChecksum,
    /// 5010: the application could not send it.
    AppSending,
    /// 5012: the device cannot be reached.
    Offline,
    /// 5013: the device or the offer does not allow it.
    NotAllowed,
    /// 5014: Bluetooth is off.
    BluetoothOff,
    /// 5015: it cannot be told what there is.
    ListUnavailable,
    /// 5016: it took too long.
    TimedOut,
    /// 5017: it could not be started here.
    NotStarted,
    /// 5018: the device reported a failure.
    DeviceFailed,
    /// 5099: anything else.
    Other,
}

/// What only an application itself can meet: these are never sent.
pub const NEVER_SENT: [ErrorCode; 6] = [
    ErrorCode::AppDownload,
    ErrorCode::AppConnection,
    ErrorCode::Unbinding,
    ErrorCode::AppChecksum,
    ErrorCode::AppSending,
    ErrorCode::BluetoothOff,
];

/// Why something that somebody at home wants is not done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The device runs that version, or a higher one.
    #[error("the device runs this version already, or a newer one")]
    UpToDate,
    /// There is no such offer for the device: withdrawn, for another product or version, or not visible to the home.
    #[error("there is no such upgrade for this device; look again at what there is")]
    NotOffered,
    /// The same device is named twice in one request.
    #[error("the device is named twice; name each device once")]
    NamedTwice,
    /// The offer asks for a signal, and none was measured.
    #[error(
        "it is not known how strong the signal of the device is; try again when the device has been heard"
    )]
    SignalUnknown,
    /// The signal is weaker than the offer asks for: continue or cancel.
    #[error(
        "the signal of the device is {rsrp_dbm} dBm, and the upgrade asks for {least_dbm} dBm; continue nevertheless, or cancel"
    )]
    SignalWeak {
        /// The RSRP that was measured last, dBm.
        rsrp_dbm: i32,
        /// What the offer asks for, dBm.
        least_dbm: i32,
        /// Until when the user may say that it goes on.
        until: UtcMillis,
    },
    /// The device has never been heard, or its registration has ended.
    #[error("the device is offline; switch it on, or bring it where it has a connection")]
    Offline,
    /// The offer asks for a battery, and none is known or it is too low.
    #[error("the battery of the device has to have {least} %")]
    Battery {
        /// The charge that the offer asks for, percent.
        least: u8,
    },
    /// The operator has excluded the device from upgrades.
    #[error("this device is not to be upgraded now")]
    Excluded,
    /// What was seen is not what there is any more: start with what is told now.
    #[error("what can be upgraded has changed; look at it again")]
    Stale,
    /// Nothing begins of the standing task of the offer: it was stopped, has ended, or waits for approval.
    #[error("the upgrade cannot be started now; try again later")]
    NotRunning,
    /// It cannot be told now what there is.
    #[error("what can be upgraded cannot be told now; try again later")]
    ListUnavailable,
    /// The device is transferring or installing it.
    #[error("the device has begun the upgrade, which cannot be cancelled any more")]
    TransferBegan,
    /// There is nothing to cancel, to continue or to confirm.
    #[error("nothing waits for that")]
    NothingWaits,
    /// The ten minutes are over.
    #[error("it was waited for an answer for ten minutes; start again")]
    TooLate,
}

impl Refusal {
    /// What it is as a number.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::UpToDate => ErrorCode::UpToDate,
            Self::NotOffered => ErrorCode::NoFirmware,
            Self::NamedTwice => ErrorCode::OncePerTask,
            Self::SignalUnknown => ErrorCode::SignalUnknown,
            Self::SignalWeak { .. } => ErrorCode::SignalWeak,
            Self::Offline => ErrorCode::Offline,
            Self::Battery { .. } | Self::Excluded => ErrorCode::NotAllowed,
            Self::ListUnavailable => ErrorCode::ListUnavailable,
            Self::NotRunning => ErrorCode::NotStarted,
            Self::Stale | Self::TransferBegan | Self::NothingWaits | Self::TooLate => {
                ErrorCode::Other
            }
        }
    }

    /// A stable word for it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::UpToDate => "up_to_date",
            Self::NotOffered => "not_offered",
            Self::NamedTwice => "named_twice",
            Self::SignalUnknown => "signal_unknown",
            Self::SignalWeak { .. } => "signal_weak",
            Self::Offline => "offline",
            Self::Battery { .. } => "battery",
            Self::Excluded => "excluded",
            Self::Stale => "stale",
            Self::NotRunning => "not_running",
            Self::ListUnavailable => "list_unavailable",
            Self::TransferBegan => "transfer_began",
            Self::NothingWaits => "nothing_waits",
            Self::TooLate => "too_late",
        }
    }
}

/// What each reason of an outcome is to an application.
const OF_REASONS: [(&str, ErrorCode); Outcome::REASONS.len()] = [
    ("upgraded", ErrorCode::UpToDate),
    ("already_current", ErrorCode::UpToDate),
    ("task_stopped", ErrorCode::NotStarted),
    ("cancelled", ErrorCode::Other),
    ("expired", ErrorCode::TimedOut),
    ("skipped", ErrorCode::Other),
    ("refused_by_owner", ErrorCode::Other),
    ("not_reached", ErrorCode::Other),
    ("taken_back", ErrorCode::TimedOut),
    ("no_package", ErrorCode::NoFirmware),
    ("downgrade", ErrorCode::UpToDate),
    ("device_not_heard", ErrorCode::Offline),
    ("version_query_timed_out", ErrorCode::Offline),
    ("version_query_refused", ErrorCode::DeviceFailed),
    ("cell_unknown", ErrorCode::SignalUnknown),
    ("cell_query_timed_out", ErrorCode::SignalUnknown),
    ("slot_timed_out", ErrorCode::TimedOut),
    ("notification_refused", ErrorCode::NotAllowed),
    ("download_timed_out", ErrorCode::TimedOut),
    ("download_stalled", ErrorCode::TimedOut),
    ("download_failed", ErrorCode::DeviceFailed),
    ("execute_refused", ErrorCode::DeviceFailed),
    ("execution_timed_out", ErrorCode::TimedOut),
    ("upgrade_failed", ErrorCode::DeviceFailed),
    ("wrong_version", ErrorCode::DeviceFailed),
    ("package_unavailable", ErrorCode::NoFirmware),
    ("device_removed", ErrorCode::Other),
    ("not_supported", ErrorCode::NotAllowed),
    ("reported_failure", ErrorCode::DeviceFailed),
    ("not_downloaded", ErrorCode::DeviceFailed),
    ("transfer_timed_out", ErrorCode::TimedOut),
    ("not_served", ErrorCode::NotStarted),
    ("refused_in_use", ErrorCode::NotAllowed),
    ("refused_signal", ErrorCode::SignalWeak),
    ("refused_battery", ErrorCode::NotAllowed),
    ("refused_space", ErrorCode::NotAllowed),
    ("refused_memory", ErrorCode::NotAllowed),
    ("update_result", ErrorCode::DeviceFailed),
    ("update_refused", ErrorCode::DeviceFailed),
    ("not_idle", ErrorCode::NotAllowed),
];

impl ErrorCode {
    /// All of them, by their numbers.
    pub const ALL: [Self; 18] = [
        Self::UpToDate,
        Self::NoFirmware,
        Self::OncePerTask,
        Self::AppDownload,
        Self::SignalUnknown,
        Self::SignalWeak,
        Self::AppConnection,
        Self::Unbinding,
        Self::AppChecksum,
        Self::AppSending,
        Self::Offline,
        Self::NotAllowed,
        Self::BluetoothOff,
        Self::ListUnavailable,
        Self::TimedOut,
        Self::NotStarted,
        Self::DeviceFailed,
        Self::Other,
    ];

    /// Its number.
    pub const fn number(self) -> u16 {
        match self {
            Self::UpToDate => 5000,
            Self::NoFirmware => 5001,
            Self::OncePerTask => 5002,
            Self::AppDownload => 5003,
            Self::SignalUnknown => 5004,
            Self::SignalWeak => 5005,
            Self::AppConnection => 5006,
            Self::Unbinding => 5007,
            Self::AppChecksum => 5009,
            Self::AppSending => 5010,
            Self::Offline => 5012,
            Self::NotAllowed => 5013,
            Self::BluetoothOff => 5014,
            Self::ListUnavailable => 5015,
            Self::TimedOut => 5016,
            Self::NotStarted => 5017,
            Self::DeviceFailed => 5018,
            Self::Other => 5099,
        }
    }

    /// What the reason of an outcome ([`Outcome::REASONS`]) is; [`Self::Other`] for a word that is none.
    pub fn of_reason(reason: &str) -> Self {
        let known = OF_REASONS.iter().find(|(word, _)| *word == reason);
        known.map_or(Self::Other, |(_, code)| *code)
    }

    /// The reasons of outcomes that are this one.
    pub fn reasons(self) -> impl Iterator<Item = &'static str> {
        (OF_REASONS.iter())
            .filter(move |(_, code)| *code == self)
            .map(|(word, _)| *word)
    }

    /// Whether it is ever sent.
    pub fn is_sent(self) -> bool {
        !NEVER_SENT.contains(&self)
    }
}
