//! What an attempt can say for itself when it fails: what was sent last, what came back, which limit ran out.

use pcp::{DeviceMessage, ResultCode};

use super::asked::Tag;
use crate::{clock::UtcMillis, coap::Code, ledger::Stage, lwm2m::ResourcePath, package::Version};

/// Facts of one attempt. They are not stored: what a restart forgets, a failure after it does not tell.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) sent: Option<Sent>,
    pub(super) said: Option<(Said, UtcMillis)>,
    /// The attempt goes on since a restart at that time.
    pub(super) resumed_at: Option<UtcMillis>,
    /// Questions of the stage that runs, this one included. `None` after a restart in its midst, which forgets them.
    pub(super) tries: Option<usize>,
    /// What was wrong with an answer to the question for its coverage or its cell that could not be read.
    pub(super) not_understood: Option<String>,
    /// What was queued, and is told when it leaves.
    pub(super) announced: Vec<(Tag, String)>,
    /// What happened in the stage, and how often: the first time is told at once, the others at its end.
    pub(super) repeated: Vec<(Repeated, u32)>,
    /// The stage that was told last.
    pub(super) told_in: Option<Stage>,
}

/// What may happen any number of times, and is told in two lines at most for each stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeated {
    Registration,
    Address,
    Association,
    Observation,
    Write,
    Jump,
    Refusal,
    NotPcp,
    OwnTimeout,
    Claim,
    Attributes,
    Question,
}

impl Repeated {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Registration => "registered anew",
            Self::Address => "was heard from another address",
            Self::Association => "its association (DTLS) has ended",
            Self::Observation => "did not confirm the observation of /19/0/0",
            Self::Write => "answered a write to /19/1/0 with an error",
            Self::Jump => "asked for another segment than the next",
            Self::Refusal => "asked for a segment that it was refused",
            Self::NotPcp => "sent a frame that is no PCP",
            Self::OwnTimeout => "reported a time-out of its own (PCP 23 with 0x06)",
            Self::Claim => "claimed the target without having restarted",
            Self::Attributes => "refused pmin = 0 for /19/0/0",
            Self::Question => "no result (PCP 24) yet, and to be asked for its version (PCP 19)",
        }
    }
}

impl Account {
    /// Of an attempt that begins.
    pub(super) fn begun() -> Self {
        Self {
            tries: Some(0),
            ..Self::default()
        }
    }

    /// Of an attempt that goes on after a restart at that time.
    pub(super) fn resumed(at: UtcMillis) -> Self {
        Self {
            resumed_at: Some(at),
            tries: None,
            ..Self::default()
        }
    }

    /// A request was queued, which is told when it leaves.
    pub(super) fn announce(&mut self, tag: Tag, line: String) {
        self.announced.retain(|(other, _)| *other != tag);
        self.announced.push((tag, line)); // one of each kind that the upgrade sends
    }

    /// Counts what happened. Returns whether it is the first time in the stage.
    pub(super) fn count(&mut self, what: Repeated) -> bool {
        if let Some((_, count)) = self.repeated.iter_mut().find(|(known, _)| *known == what) {
            *count = count.saturating_add(1);
            return false;
        }
        self.repeated.push((what, 1));
        true
    }
}

/// What was sent last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) what: Tag,
    /// Of a read.
    pub(super) path: Option<ResourcePath>,
    pub(super) times: u32,
    pub(super) at: UtcMillis,
    pub(super) fate: Fate,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Acknowledged,
    Refused(Code),
    Rejected,
}

/// What the device said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Registration,
    Update,
    ServiceData,
    Pong,
    ReadAnswer(ResourcePath, Code),
    Version(ResultCode, Option<Version>),
    NotificationAnswer(ResultCode),
    SegmentRequest(u16),
    DownloadReport(ResultCode),
    ExecuteAnswer(ResultCode),
    UpgradeReport(ResultCode, Version),
}

impl Said {
    /// What a PCP message says.
    pub(super) fn of(message: &DeviceMessage<'_>) -> Option<Self> {
        Some(match *message {
            DeviceMessage::VersionResponse { result, version } => {
                Self::Version(result, version.map(Version::from))
            }
            DeviceMessage::NotificationResponse { result } => Self::NotificationAnswer(result),
            DeviceMessage::SegmentRequest { segment, .. } => Self::SegmentRequest(segment),
            DeviceMessage::DownloadReport { status } => Self::DownloadReport(status),
            DeviceMessage::ExecuteResponse { result } => Self::ExecuteAnswer(result),
            DeviceMessage::UpgradeReport { result, version } => {
                Self::UpgradeReport(result, version.into())
            }
            DeviceMessage::Unknown { .. } => return None,
        })
    }

    pub(super) fn text(self) -> String {
        match self {
            Self::Registration => "a registration".to_owned(),
            Self::Update => "an update of its registration".to_owned(),
            Self::ServiceData => "its own data".to_owned(),
            Self::Pong => "an answer to a ping".to_owned(),
            Self::ReadAnswer(path, code) => format!("{code} to the read of {path}"),
            Self::Version(_, Some(version)) => format!("version \"{version}\" (PCP 19)"),
            Self::Version(code, None) => format!("{code} to the version query (PCP 19)"),
            Self::NotificationAnswer(code) => format!("{code} to the new version (PCP 20)"),
            Self::SegmentRequest(segment) => format!("the request for segment {segment} (PCP 21)"),
            Self::DownloadReport(code) => format!("the download report {code} (PCP 22)"),
            Self::ExecuteAnswer(code) => format!("{code} to the command to upgrade (PCP 23)"),
            Self::UpgradeReport(code, version) => {
                format!("the upgrade report {code}, version \"{version}\" (PCP 24)")
            }
        }
    }
}

impl Sent {
    pub(super) fn text(&self, resumed_at: Option<UtcMillis>) -> String {
        let what = match self.what {
            Tag::Attributes => "pmin = 0 for /19/0/0".to_owned(),
            Tag::Observe => "the observation of /19/0/0".to_owned(),
            Tag::Version => "the version query (PCP 19)".to_owned(),
            Tag::Read => (self.path).map_or_else(
                || "the read of /4/0".to_owned(),
                |path| format!("the read of {path}"),
            ),
            Tag::Notify => "the new version (PCP 20)".to_owned(),
            Tag::Segment(segment) => format!("segment {segment} (PCP 21)"),
            Tag::Answer(code) => format!("the answer to the device's message (PCP {code})"),
            Tag::Execute => "the command to upgrade (PCP 23)".to_owned(),
            Tag::Ping => "a ping".to_owned(),
        };
        let times = match self.times {
            1 => "once".to_owned(),
            times => format!("{times} times"),
        };
        let times = match resumed_at {
            None => times,
            Some(at) => format!("{times} since the server started at {at}"),
        };
        let fate = match self.fate {
            Fate::Open => "not acknowledged".to_owned(),
            Fate::Acknowledged => "acknowledged".to_owned(),
            Fate::Refused(code) => format!("refused with {code}"),
            Fate::Rejected => "rejected with a Reset".to_owned(),
        };
        format!("{what}, {times}, at {}, {fate}", self.at)
    }
}

/// What serves the exchange, and is told only where nothing else was sent.
pub(super) const fn is_aside(tag: Tag) -> bool {
    matches!(tag, Tag::Attributes | Tag::Observe | Tag::Ping)
}
