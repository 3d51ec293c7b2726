//! What an attempt can say for itself when it fails: what was sent last, what came back, which limit ran out.

use std::fmt::Write;

use pcp::{DeviceMessage, ResultCode, Version};

use super::{
    Change, Engine, Standing,
    asked::Tag,
    device::{Session, StandingAsked},
    key::DeviceKey,
};
use crate::{
    clock::{Instant, UtcMillis},
    coap::Code,
    lwm2m::ResourcePath,
    upgrade::{Failure, Outcome, Sota, Stage},
};

/// Facts of one attempt. They are not stored: what a restart forgets, a failure after it does not tell.
#[derive(Debug, Default)]
pub(super) struct Account {
    sent: Option<Sent>,
    said: Option<(Said, UtcMillis)>,
    /// The attempt goes on since a restart at that time.
    resumed_at: Option<UtcMillis>,
    /// Questions of the stage that runs, this one included. `None` after a restart in its midst, which forgets them.
    pub(super) tries: Option<usize>,
    /// What was wrong with an answer to the question for its coverage or its cell that could not be read.
    pub(super) not_understood: Option<String>,
    /// What was queued, and is told when it leaves.
    announced: Vec<(Tag, String)>,
    /// What happened in the stage, and how often: the first time is told at once, the others at its end.
    repeated: Vec<(Repeated, u32)>,
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
    const fn text(self) -> &'static str {
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
    fn count(&mut self, what: Repeated) -> bool {
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
struct Sent {
    what: Tag,
    /// Of a read.
    path: Option<ResourcePath>,
    times: u32,
    at: UtcMillis,
    fate: Fate,
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
    pub(super) const fn of(message: &DeviceMessage<'_>) -> Option<Self> {
        Some(match *message {
            DeviceMessage::VersionResponse { result, version } => Self::Version(result, version),
            DeviceMessage::NotificationResponse { result } => Self::NotificationAnswer(result),
            DeviceMessage::SegmentRequest { segment, .. } => Self::SegmentRequest(segment),
            DeviceMessage::DownloadReport { status } => Self::DownloadReport(status),
            DeviceMessage::ExecuteResponse { result } => Self::ExecuteAnswer(result),
            DeviceMessage::UpgradeReport { result, version } => {
                Self::UpgradeReport(result, version)
            }
            DeviceMessage::Unknown { .. } => return None,
        })
    }

    fn text(self) -> String {
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
    fn text(&self, resumed_at: Option<UtcMillis>) -> String {
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
const fn is_aside(tag: Tag) -> bool {
    matches!(tag, Tag::Attributes | Tag::Observe | Tag::Ping)
}

impl Engine {
    /// The request that is outstanding has left (again).
    pub(super) fn has_left(&mut self, key: DeviceKey) {
        let at = self.now.utc;
        let device = self.device_mut(key);
        let (Some(tag), Some(session)) = (device.link.outstanding(), device.session.as_mut())
        else {
            return;
        };
        let announced = &mut session.account.announced;
        let line = announced.iter().position(|(queued, _)| *queued == tag);
        let line = line.map(|index| announced.swap_remove(index).1);
        self.has_left_as(key, tag, at);
        if tag == Tag::Execute {
            self.commanded(key);
        }
        if let Some(line) = line {
            self.note(key, line);
        }
    }

    fn has_left_as(&mut self, key: DeviceKey, tag: Tag, at: UtcMillis) {
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let sent = &mut session.account.sent;
        let before = sent.filter(|sent| !is_aside(sent.what));
        if is_aside(tag) && before.is_some() {
            return;
        }
        let path = session.read.as_ref().map(super::asked::Read::path);
        let path = path.filter(|_| tag == Tag::Read);
        let again = sent.filter(|sent| sent.what == tag && sent.path == path);
        *sent = Some(Sent {
            what: tag,
            path,
            times: again.map_or(1, |sent| sent.times.saturating_add(1)),
            at,
            fate: again.map_or(Fate::Open, |sent| sent.fate),
        });
    }

    /// Something became of a request.
    pub(super) fn fared(&mut self, key: DeviceKey, tag: Tag, fate: Fate) {
        if let Some(session) = self.device_mut(key).session.as_mut()
            && let Some(sent) = &mut session.account.sent
            && sent.what == tag
        {
            sent.fate = fate;
        }
    }

    /// Something happened that may happen again and again: the first time in a stage it is told at once.
    pub(super) fn note_once(
        &mut self,
        key: DeviceKey,
        what: Repeated,
        line: impl FnOnce() -> String,
    ) {
        if self.is_first(key, what) {
            self.note(key, line());
        }
    }

    /// Counts what happened. Returns whether it is to be told, the first time in the stage.
    pub(super) fn is_first(&mut self, key: DeviceKey, what: Repeated) -> bool {
        let session = self.device_mut(key).session.as_mut();
        session.is_some_and(|session| session.account.count(what))
    }

    /// Tells how often what was told once has happened again in the stage that ends.
    pub(super) fn tell_repeated(&mut self, key: DeviceKey) {
        if let Some(mut session) = self.device_mut(key).session.take() {
            self.tell_repeated_of(&mut session);
            self.device_mut(key).session = Some(session);
        }
    }

    pub(super) fn tell_repeated_of(&mut self, session: &mut Session) {
        for (what, count) in std::mem::take(&mut session.account.repeated) {
            if count > 1 {
                let times = match count - 1 {
                    1 => "once more".to_owned(),
                    more => format!("{more} times more"),
                };
                self.persist_lazily(Change::Note {
                    upgrade: session.order.upgrade,
                    attempt: session.order.attempt,
                    note: format!("{} {times}", what.text()),
                    at: self.now.utc,
                });
            }
        }
    }

    /// The device has said something.
    pub(super) fn said(&mut self, key: DeviceKey, said: Said) {
        let at = self.now.utc;
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.account.said = Some((said, at));
        }
    }

    /// How an attempt ended, for the operator: of a failure all that is known of its last moments.
    pub(super) fn detail(
        &self,
        key: DeviceKey,
        session: &Session,
        before: &Sota,
        outcome: &Outcome,
    ) -> String {
        let mut text = outcome.to_string();
        let Outcome::Failed(failure) = outcome else {
            return text;
        };
        if let (Failure::CellUnknown, Some(problem)) = (failure, &session.account.not_understood) {
            // it may have told its cell
            text = format!(
                "what the device answered about its cell (/4/0/8) is not understood, so it cannot be admitted to one: \
                 {problem}"
            );
        }
        // writing to a String does not fail
        if *failure == Failure::NotSupported {
            let objects = self.device(key).announced_objects();
            let _ = write!(text, ". It announces objects {objects} and no 19");
        }
        if let Some(deadline) = failure.limit() {
            let seconds = deadline.duration(&self.config.upgrade).as_secs();
            let _ = write!(text, ". Limit: {} = {seconds}", deadline.setting());
        }
        if *failure == Failure::SlotTimedOut
            && let (Some(place), StandingAsked::Told(standing)) = (before.place(), session.standing)
        {
            let Standing { taken, ahead } = standing;
            let _ = write!(
                text,
                ". {taken} {} in cell {}; this one's coverage allowed {}; {ahead} waited before it",
                if taken == 1 {
                    "device upgraded"
                } else {
                    "devices upgraded"
                },
                place.cell,
                place.limit
            );
        }
        let account = &session.account;
        match (&account.sent, account.resumed_at) {
            (Some(sent), _) => {
                let _ = write!(text, ". Sent last: {}", sent.text(account.resumed_at));
            }
            (None, Some(at)) => {
                let _ = write!(
                    text,
                    ". Sent last: nothing since the server started at {at}"
                );
            }
            (None, None) => text.push_str(". Sent last: nothing"),
        }
        if let Some((said, at)) = account.said {
            let _ = write!(text, ". Said last: {} at {at}", said.text());
        }
        let device = self.device(key);
        match device.heard_at.map(|at| self.utc_of(at)) {
            None => text.push_str(". It was never heard"),
            Some(at) if device.unheard_since_start() => {
                let _ = write!(text, ". Heard last, as far as is stored, at {at}");
            }
            Some(at) => {
                let _ = write!(text, ". Heard last at {at}");
            }
        }
        text
    }

    /// The wall-clock time of an instant that has passed.
    fn utc_of(&self, past: Instant) -> UtcMillis {
        let ago = self.now.instant.since(past);
        let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        UtcMillis(self.now.utc.0.saturating_sub(ago_ms))
    }
}
