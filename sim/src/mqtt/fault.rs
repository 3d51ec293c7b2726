//! Ways in which MQTT devices go wrong, or go right unusually.
//!
//! A fault is written as its name, where it takes a number followed by `@NUMBER`: `refuses@6`,
//! `old-version-first@3`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::style::{Client, Style};
use crate::Expected;

/// One way to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Fault {
    /// Reports a failure instead of downloading: the result code of IoTDA (1 to 255), the step of
    /// `ThingsPanel` (1 to 4 for -1 to -4). With QuecThing it refuses the plan, with so little battery.
    Refuses(u8),
    /// Finds that what it has downloaded is not what it should be. What it does then is its kit's habit: IoTDA's
    /// Python kit is silent.
    CorruptDownload,
    /// Its download breaks off, and it does not resume.
    BrokenDownload,
    /// Its download breaks off, and it resumes with a Range.
    CutDownload,
    /// Loses the network in mid-download, connects again and resumes.
    DropsInDownload,
    /// Serves nothing while it downloads, not even its keep-alive. IoTDA's Python kit always does so.
    BlockedDownload,
    /// Reports success, and goes on telling the old version.
    OldVersionAfterSuccess,
    /// Reports success without having downloaded anything.
    ClaimsWithoutDownload,
    /// Loses the network before its last report, which it never sends.
    LosesReport,
    /// Reports all of its progress at once, at the end.
    ProgressBurst,
    /// Reconnects again and again before it downloads.
    ReconnectStorm,
    /// Another device has its client ID for a while; they kick each other out.
    SharesClientId,
    /// Does not answer when it is asked for its version (IoTDA).
    NoVersion,
    /// Reports its old version instead of downloading, this many times (`ThingsPanel` 0.5).
    OldVersionFirst(u8),
    /// Runs the target version already; a fleet gives it that version.
    AlreadyCurrent,
    /// Has another secret than the server, so that it is never let in.
    WrongSecret,
    /// Behind a gateway that has the package already: it runs the target, and reports success, in the moment in which it is offered
    /// it. It restarts after that.
    SuccessAtOnce,
    /// Behind a gateway that stops serving it, without a word, once a package was offered for it.
    LostChild,
}

/// How often a server pushes again to a device that reports the version it should leave.
const FURTHER_PUSHES: u8 = 3;

/// Every fault with an example of its number, and what it does, for help texts.
const CATALOGUE: [(Fault, &str); 18] = [
    (
        Fault::Refuses(6),
        "reports a failure instead of downloading: a result code, or 1 to 4 for steps -1 to -4",
    ),
    (
        Fault::CorruptDownload,
        "finds another checksum than it was told",
    ),
    (Fault::BrokenDownload, "its download breaks off for good"),
    (
        Fault::CutDownload,
        "its download breaks off and is resumed with a Range",
    ),
    (
        Fault::DropsInDownload,
        "loses the network in mid-download, connects again and resumes",
    ),
    (
        Fault::BlockedDownload,
        "serves nothing while it downloads, not even its keep-alive",
    ),
    (
        Fault::OldVersionAfterSuccess,
        "reports success, and goes on telling the old version",
    ),
    (
        Fault::ClaimsWithoutDownload,
        "reports success without a download",
    ),
    (
        Fault::LosesReport,
        "upgrades, and loses the network before its last report",
    ),
    (
        Fault::ProgressBurst,
        "reports all of its progress at once at the end",
    ),
    (
        Fault::ReconnectStorm,
        "reconnects twenty times before it downloads",
    ),
    (
        Fault::SharesClientId,
        "another device with its client ID kicks it out ten times",
    ),
    (
        Fault::NoVersion,
        "does not tell its version when it is asked (iotda)",
    ),
    (
        Fault::OldVersionFirst(FURTHER_PUSHES),
        "reports its old version instead of downloading, so many times (thingspanel-0.5)",
    ),
    (
        Fault::AlreadyCurrent,
        "runs the target version already (--target)",
    ),
    (Fault::WrongSecret, "is never let in"),
    (
        Fault::SuccessAtOnce,
        "its gateway has the package already: it upgrades and reports success at once (--behind)",
    ),
    (
        Fault::LostChild,
        "its gateway stops serving it once it is offered a package (--behind)",
    ),
];

impl Fault {
    /// Every fault, with an example of its number, and what it does.
    pub fn catalogue() -> impl Iterator<Item = (Self, &'static str)> {
        CATALOGUE.into_iter()
    }

    /// The fault's name without its number.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refuses(_) => "refuses",
            Self::CorruptDownload => "corrupt-download",
            Self::BrokenDownload => "broken-download",
            Self::CutDownload => "cut-download",
            Self::DropsInDownload => "drops-in-download",
            Self::BlockedDownload => "blocked-download",
            Self::OldVersionAfterSuccess => "old-version-after-success",
            Self::ClaimsWithoutDownload => "claims-without-download",
            Self::LosesReport => "loses-report",
            Self::ProgressBurst => "progress-burst",
            Self::ReconnectStorm => "reconnect-storm",
            Self::SharesClientId => "shares-client-id",
            Self::NoVersion => "no-version",
            Self::OldVersionFirst(_) => "old-version-first",
            Self::AlreadyCurrent => "already-current",
            Self::WrongSecret => "wrong-secret",
            Self::SuccessAtOnce => "success-at-once",
            Self::LostChild => "lost-child",
        }
    }

    /// Whether devices of this style can have it.
    pub const fn is_for(self, style: Style) -> bool {
        match self {
            Self::Refuses(code) => code > 0 && (style.is_iotda() || code <= 4),
            Self::OldVersionFirst(_) => matches!(style, Style::ThingsPanel05),
            // only IoTDA's are asked, and have gateways
            Self::NoVersion | Self::SuccessAtOnce | Self::LostChild => style.is_iotda(),
            // it reports its version at every connection, and its server may give it up for that
            Self::SharesClientId => !matches!(style, Style::ThingsPanel05 | Style::QuecThing),
            // release 1.x of ThingsPanel never tells a version
            Self::AlreadyCurrent => !matches!(style, Style::ThingsPanel1),
            _ => true,
        }
    }

    /// Whether devices behind a gateway can have it: they have no connection of their own.
    pub const fn is_for_behind(self) -> bool {
        !matches!(
            self,
            Self::SharesClientId | Self::WrongSecret | Self::BlockedDownload
        )
    }

    /// Whether devices with a connection of their own can have it.
    pub const fn is_for_connected(self) -> bool {
        !matches!(self, Self::SuccessAtOnce | Self::LostChild)
    }

    /// Whether gateways can have it. All others are of the devices behind them.
    pub const fn is_for_gateways(self) -> bool {
        matches!(self, Self::DropsInDownload)
    }

    /// What a server should record for a device that goes wrong in this way.
    ///
    /// It is taken that the server offers `iotda-v2` devices the `_v2` messages, and counts the bytes that it serves.
    pub const fn expected(self, style: Style, client: Client) -> Expected {
        match self {
            Self::Refuses(_)
            | Self::BrokenDownload
            | Self::ClaimsWithoutDownload
            | Self::NoVersion
            | Self::LostChild
            | Self::WrongSecret => Expected::Failed,
            Self::CorruptDownload => match (style, client) {
                // does not check
                (Style::IotdaV2, Client::Python) => Expected::Succeeded,
                _ => Expected::Failed,
            },
            // a report of version and success ends an upgrade of IoTDA, and release 1.x of ThingsPanel has no other word;
            // release 0.5 reports its old version whenever it connects, and is pushed to three times more; one with QuecThing
            // tells it with its success
            Self::OldVersionAfterSuccess if matches!(style, Style::QuecThing) => Expected::Failed,
            Self::OldVersionAfterSuccess | Self::ReconnectStorm => match style {
                Style::ThingsPanel05 => Expected::Failed,
                _ => Expected::Succeeded,
            },
            // no version will be told either
            Self::LosesReport => match style {
                Style::ThingsPanel1 => Expected::Failed,
                _ => Expected::Succeeded,
            },
            Self::OldVersionFirst(times) if times > FURTHER_PUSHES => Expected::Failed,
            Self::OldVersionFirst(_)
            | Self::CutDownload
            | Self::DropsInDownload
            | Self::BlockedDownload
            | Self::ProgressBurst
            | Self::SharesClientId
            | Self::SuccessAtOnce
            | Self::AlreadyCurrent => Expected::Succeeded,
        }
    }

    const fn number(self) -> Option<u8> {
        match self {
            Self::Refuses(number) | Self::OldVersionFirst(number) => Some(number),
            _ => None,
        }
    }
}

/// Why a text names no fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FaultError {
    /// No such name.
    #[error("unknown fault '{name}' of an MQTT device")]
    Unknown {
        /// What was given.
        name: String,
    },
    /// The fault takes a number.
    #[error("fault '{name}' needs a number from 1 to 255, as in '{name}@3'")]
    NeedsNumber {
        /// The fault.
        name: String,
    },
    /// A number where there can be none.
    #[error("fault '{name}' takes no '@{number}'")]
    UnexpectedNumber {
        /// The fault.
        name: String,
        /// What follows the `@`.
        number: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self.number() {
            Some(number) => write!(f, "@{number}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, number) = match text.split_once('@') {
            Some((name, number)) => (name, Some(number)),
            None => (text, None),
        };
        let mut known = CATALOGUE.iter().map(|(fault, _)| *fault);
        let Some(fault) = known.find(|fault| fault.name() == name) else {
            return Err(FaultError::Unknown { name: name.into() });
        };
        let parsed = number
            .and_then(|text| text.parse().ok())
            .filter(|number| *number > 0);
        match (fault, parsed, number) {
            (Self::Refuses(_), Some(code), _) => Ok(Self::Refuses(code)),
            (Self::OldVersionFirst(_), Some(times), _) => Ok(Self::OldVersionFirst(times)),
            (Self::Refuses(_) | Self::OldVersionFirst(_), None, _) => {
                Err(FaultError::NeedsNumber { name: name.into() })
            }
            (_, _, Some(number)) => Err(FaultError::UnexpectedNumber {
                name: name.into(),
                number: number.into(),
            }),
            (fault, _, None) => Ok(fault),
        }
    }
}

impl TryFrom<String> for Fault {
    type Error = FaultError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_read_back_as_it_is_written() {
        for (fault, _) in Fault::catalogue() {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        let json = serde_json::to_string(&Fault::Refuses(255)).unwrap();
        assert_eq!(json, r#""refuses@255""#);
        assert_eq!(
            serde_json::from_str::<Fault>(&json).unwrap(),
            Fault::Refuses(255)
        );
    }

    #[test]
    fn says_what_is_wrong_with_a_fault() {
        let error = |text: &str| text.parse::<Fault>().unwrap_err().to_string();
        assert_eq!(
            error("old-token"),
            "unknown fault 'old-token' of an MQTT device"
        );
        for text in ["refuses", "refuses@", "refuses@0", "refuses@256"] {
            assert_eq!(
                error(text),
                "fault 'refuses' needs a number from 1 to 255, as in 'refuses@3'"
            );
        }
        assert_eq!(
            error("cut-download@3"),
            "fault 'cut-download' takes no '@3'"
        );
    }

    #[test]
    fn some_faults_are_of_some_styles_only() {
        let expected = |fault: Fault, style| fault.expected(style, Client::Java);
        assert!(Fault::NoVersion.is_for(Style::IotdaV2));
        assert!(!Fault::NoVersion.is_for(Style::ThingsPanel1));
        assert!(!Fault::Refuses(5).is_for(Style::ThingsPanel1));
        assert!(Fault::Refuses(5).is_for(Style::Iotda));
        let repeats = |times| expected(Fault::OldVersionFirst(times), Style::ThingsPanel05);
        assert_eq!(
            (repeats(3), repeats(4)),
            (Expected::Succeeded, Expected::Failed)
        );
    }
}
