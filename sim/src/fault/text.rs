//! Faults as they are written, on command lines and in files.

use std::{fmt, str::FromStr};

use pcp::ResultCode;
use thiserror::Error;

use super::{CATALOGUE, Fault, ObjectFault, Segment};

/// Failures of object 5 (OMA LwM2M Core 1.1 §E.6); 11 is none.
const OBJECT_RESULTS: std::ops::RangeInclusive<u8> = 2..=10;

/// Why a text names no fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FaultError {
    /// No such name.
    #[error("unknown fault '{name}'")]
    Unknown {
        /// What was given.
        name: String,
    },
    /// The fault is a refusal or failure of some kind.
    #[error("fault '{name}' needs a result code other than 0x00, as in '{name}=0x04'")]
    NeedsCode {
        /// The fault.
        name: String,
    },
    /// The fault is a failure of an object's.
    #[error("fault '{name}' takes a result from 0x02 to 0x0A")]
    NeedsResult {
        /// The fault.
        name: String,
    },
    /// A result code or segment number where there can be none.
    #[error("fault '{name}' takes no '{argument}'")]
    UnexpectedArgument {
        /// The fault.
        name: String,
        /// What follows the name.
        argument: String,
    },
    /// Not a segment number.
    #[error("'{text}' is no segment number (0 to 65535)")]
    Segment {
        /// What follows the `@`.
        text: String,
    },
}

impl Fault {
    fn with_code(self, code: ResultCode) -> Option<Self> {
        Some(match self {
            Self::RefuseVersionQuery(_) => Self::RefuseVersionQuery(code),
            Self::RefuseNotification(_) => Self::RefuseNotification(code),
            Self::RefuseExecute(_) => Self::RefuseExecute(code),
            Self::ReportDownload(_) => Self::ReportDownload(code),
            Self::ReportUpgrade(_) => Self::ReportUpgrade(code),
            Self::ClaimsTargetFails(_) => Self::ClaimsTargetFails(code),
            Self::Object(ObjectFault::ReportsResult(_)) => {
                if !OBJECT_RESULTS.contains(&code.0) {
                    return None;
                }
                Self::Object(ObjectFault::ReportsResult(code.0))
            }
            _ => return None,
        })
    }

    fn with_segment(self, segment: u16) -> Option<Self> {
        let segment = Some(segment);
        Some(match self {
            Self::StopsMidDownload(_) => Self::StopsMidDownload(segment),
            Self::SilentAfterOneRepeat(_) => Self::SilentAfterOneRepeat(segment),
            Self::RebootsInDownload(_) => Self::RebootsInDownload(segment),
            Self::LosesProgress(_) => Self::LosesProgress(segment),
            Self::ClaimsCurrentMidDownload(_) => Self::ClaimsCurrentMidDownload(segment),
            Self::DeafDownload(_) => Self::DeafDownload(segment),
            Self::ExecuteTimeoutNoise(_) => Self::ExecuteTimeoutNoise(segment),
            _ => return None,
        })
    }

    const fn code(self) -> Option<ResultCode> {
        match self {
            Self::RefuseVersionQuery(code)
            | Self::RefuseNotification(code)
            | Self::RefuseExecute(code)
            | Self::ReportDownload(code)
            | Self::ReportUpgrade(code)
            | Self::ClaimsTargetFails(code) => Some(code),
            Self::Object(ObjectFault::ReportsResult(result)) => Some(ResultCode(result)),
            _ => None,
        }
    }

    /// Whether its name alone stands for the code that the catalogue has.
    const fn has_usual_code(self) -> bool {
        matches!(self, Self::ClaimsTargetFails(_) | Self::Object(_))
    }

    const fn segment(self) -> Segment {
        match self {
            Self::StopsMidDownload(segment)
            | Self::SilentAfterOneRepeat(segment)
            | Self::RebootsInDownload(segment)
            | Self::LosesProgress(segment)
            | Self::ClaimsCurrentMidDownload(segment)
            | Self::DeafDownload(segment)
            | Self::ExecuteTimeoutNoise(segment) => segment,
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if let Some(code) = self.code() {
            write!(f, "=0x{:02X}", code.0)?;
        }
        if let Some(segment) = self.segment() {
            write!(f, "@{segment}")?;
        }
        Ok(())
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, argument) = text
            .find(['=', '@'])
            .map_or((text, ""), |at| text.split_at(at));
        let Some(fault) = CATALOGUE
            .iter()
            .map(|(fault, _)| *fault)
            .find(|fault| fault.name() == name)
        else {
            return Err(FaultError::Unknown { name: name.into() });
        };
        let needs_code = || match fault {
            Fault::Object(_) => FaultError::NeedsResult { name: name.into() },
            _ => FaultError::NeedsCode { name: name.into() },
        };
        let unexpected = || FaultError::UnexpectedArgument {
            name: name.into(),
            argument: argument.into(),
        };
        if argument.is_empty() {
            return match fault.code() {
                Some(_) if !fault.has_usual_code() => Err(needs_code()),
                _ => Ok(fault),
            };
        }
        if let Some(segment) = argument.strip_prefix('@') {
            let number = segment.parse().map_err(|_| FaultError::Segment {
                text: segment.into(),
            })?;
            return fault.with_segment(number).ok_or_else(unexpected);
        }
        if fault.code().is_none() {
            return Err(unexpected());
        }
        argument
            .strip_prefix("=0x")
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .filter(|code| *code != 0)
            .and_then(|code| fault.with_code(ResultCode(code)))
            .ok_or_else(needs_code)
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
        let stops = Fault::StopsMidDownload(Some(40));
        assert_eq!("stops-mid-download@40".parse(), Ok(stops));
        let fails = |code| Ok(Fault::ClaimsTargetFails(ResultCode(code)));
        assert_eq!("claims-target-fails".parse(), fails(0x0A));
        assert_eq!("claims-target-fails=0x7F".parse(), fails(0x7F));
        let result = |result| Ok(Fault::Object(ObjectFault::ReportsResult(result)));
        assert_eq!("reports-result".parse(), result(8));
        assert_eq!("reports-result=0x0A".parse(), result(10));
        let json = serde_json::to_string(&stops).unwrap();
        assert_eq!(json, r#""stops-mid-download@40""#);
        assert_eq!(serde_json::from_str::<Fault>(&json).unwrap(), stops);
    }

    #[test]
    fn says_what_is_wrong_with_a_fault() {
        let error = |text: &str| text.parse::<Fault>().unwrap_err().to_string();
        assert_eq!(
            error("goes-up-in-smoke"),
            "unknown fault 'goes-up-in-smoke'"
        );
        let needs_code = "fault 'refuse-execute' needs a result code other than 0x00, as in 'refuse-execute=0x04'";
        for text in ["refuse-execute", "refuse-execute=0x00", "refuse-execute=4"] {
            assert_eq!(error(text), needs_code);
        }
        assert_eq!(
            error("claims-target-fails=0x00"),
            "fault 'claims-target-fails' needs a result code other than 0x00, as in 'claims-target-fails=0x04'"
        );
        assert_eq!(
            error("reports-result=0x0B"),
            "fault 'reports-result' takes a result from 0x02 to 0x0A"
        );
        assert_eq!(error("old-token@3"), "fault 'old-token' takes no '@3'");
        assert_eq!(
            error("old-token=0x04"),
            "fault 'old-token' takes no '=0x04'"
        );
        assert_eq!(
            error("loses-progress@x"),
            "'x' is no segment number (0 to 65535)"
        );
    }
}
