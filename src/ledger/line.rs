//! What the timeline of an upgrade tells: codes with arguments. Sentences are made of them where people read.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Facts, FailedIn, Home, Outcome, Unhealthy, UpdateObject, UpdateStep, WhyObject};
use crate::{clock::UtcMillis, package::Version};

/// A line of an upgrade's timeline.
///
/// In JSON it is an object with a `code`; what else is in it are the arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What happened.
    #[serde(flatten)]
    pub happened: Happened,
    /// What the device was asked because of it.
    #[serde(flatten)]
    pub asked: Option<Asked>,
    /// The number of the question in its stage, from 1, where it may be put several times.
    #[serde(rename = "try", skip_serializing_if = "Option::is_none")]
    pub number: Option<usize>,
    /// Why the device was not asked yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postponed: Option<Postponed>,
}

/// What happened. Segments are numbered from 0; `result` is a result code of PCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Happened {
    /// An attempt has begun.
    AttemptBegun {
        /// Its number, from 1.
        attempt: u32,
    },
    /// The device registered.
    Registered,
    /// The device was heard.
    Heard,
    /// What was postponed has left: see what was asked.
    Asked,
    /// The version query was not answered.
    NoAnswer,
    /// The coverage is too old to admit by.
    CoverageOutdated,
    /// The device runs another version than the target.
    RunsOtherVersion {
        /// What it runs.
        version: Version,
        /// What it is to run.
        target: Version,
    },
    /// The device says that it runs the target, and is not believed.
    NotBelieved {
        /// The target.
        version: Version,
    },
    /// A step is done: the device goes on with the next package.
    StepDone {
        /// Its number in the attempt, from 1.
        step: u8,
        /// The version that it has led to.
        version: Version,
    },
    /// The coverage was not told within the limit.
    NoCoverage,
    /// The cell was not told with the coverage.
    CellNotTold,
    /// The coverage could not be measured anew: the device keeps its place.
    NotMeasured {
        /// The cell.
        cell: u32,
    },
    /// The device waits for a slot.
    Queued {
        /// The cell.
        cell: u32,
        /// How many may upgrade at once by its coverage.
        limit: u32,
    },
    /// The device, which is in no cell, waits for a slot.
    QueuedAt {
        /// In whose queue.
        at: Home,
    },
    /// The device sleeps, and is kept awake because its turn is near.
    KeptAwake {
        /// When a slot is expected for it.
        #[serde(with = "crate::clock::rfc3339")]
        turn: UtcMillis,
    },
    /// The lifetime of the device's registration was written, so that it comes at an appointed time.
    Appointed {
        /// When it is expected.
        #[serde(with = "crate::clock::rfc3339")]
        at: UtcMillis,
    },
    /// The device does not have its lifetime written.
    AppointmentRefused {
        /// The code of its answer; `None` for a Reset.
        answer: Option<String>,
    },
    /// The device has a slot.
    SlotGranted {
        /// The cell.
        cell: u32,
    },
    /// The device, which is in no cell, has a slot.
    SlotGrantedAt {
        /// In whose queue it stood.
        at: Home,
    },
    /// The slot was given back, because the download stood still.
    SlotReturnedQuiet {
        /// The cell.
        cell: u32,
        /// Notifications since it last asked for something.
        nudges: u8,
    },
    /// The slot was given back, because the notification did not arrive.
    SlotReturnedUndelivered {
        /// The cell.
        cell: u32,
    },
    /// The device accepted the version.
    VersionAccepted,
    /// The device accepted the version by asking for a segment.
    FirstSegment {
        /// The segment.
        segment: u16,
        /// Segments of the package.
        segments: u16,
    },
    /// The device did not accept the version.
    VersionDeclined {
        /// What it answered.
        result: u8,
    },
    /// The download stands still.
    Quiet {
        /// The segment that was asked for last.
        segment: Option<u16>,
    },
    /// The device has everything.
    Downloaded,
    /// The device says again that it has everything.
    DownloadedAgain,
    /// The device downloads again after the command.
    DownloadsAgain {
        /// The segment that it asked for.
        segment: u16,
    },
    /// The command to upgrade was acknowledged.
    CommandDelivered,
    /// The command to upgrade was accepted.
    CommandAccepted,
    /// The device names another version, and never confirmed the command.
    CommandUnconfirmed {
        /// What it names.
        version: Version,
    },
    /// There is no result yet.
    NoResult,
    /// The device reported the result of the upgrade.
    UpgradeReported {
        /// Its result.
        result: u8,
        /// In the name of this version.
        version: Version,
    },
    /// The device reported success in the name of another version.
    SuccessOfOtherVersion {
        /// That version.
        version: Version,
    },
    /// The device sent a frame that is no PCP.
    NotPcp {
        /// What is wrong with it.
        problem: String,
    },
    /// The device reported a time-out of its own.
    OwnTimeout,
    /// The device asked for a segment of a version that it is not offered.
    SegmentOfOtherVersion {
        /// The segment.
        segment: u16,
        /// The version.
        version: Version,
    },
    /// The device asked for a segment that the package does not have.
    NoSuchSegment {
        /// The segment.
        segment: u16,
        /// Segments of the package.
        segments: u16,
    },
    /// The device began to download again.
    BeganAgain {
        /// How far it was.
        percent: u8,
    },
    /// The device went on elsewhere.
    WentOnElsewhere {
        /// The segment.
        segment: u16,
        /// The segment before.
        last: u16,
        /// How far it was.
        percent: u8,
    },
    /// The device says that it runs the target, which is doubted.
    ClaimDoubted {
        /// The target.
        version: Version,
        /// Why.
        #[serde(flatten)]
        doubt: Doubt,
    },
    /// The device was heard from another address.
    AddressChanged {
        /// IP address and port.
        address: String,
    },
    /// The device's DTLS association ended.
    AssociationEnded,
    /// The device began another DTLS association, which shows that it has restarted.
    AssociationBegun,
    /// The device registered anew.
    RegisteredAnew {
        /// What explains it.
        why: Explanation,
    },
    /// The device ended its registration.
    Deregistered,
    /// The registration ran out.
    RegistrationExpired,
    /// The observation was refused in a content format, and is asked for without one.
    ObservationFormatRefused {
        /// The content format.
        format: u16,
        /// The CoAP code, or `None` for a Reset.
        answer: Option<String>,
    },
    /// The observation was refused.
    ObservationRefused {
        /// The CoAP code.
        answer: String,
    },
    /// The observation was answered without being confirmed.
    ObservationUnconfirmed,
    /// The device takes no attributes of the observation.
    AttributesRefused {
        /// The CoAP code, or `None` for a Reset.
        answer: Option<String>,
    },
    /// A read was refused in a content format, and is put again without one.
    ReadFormatRefused {
        /// What was read.
        path: String,
        /// The content format.
        format: u16,
        /// The CoAP code.
        answer: String,
    },
    /// A read was refused.
    ReadRefused {
        /// What was read.
        path: String,
        /// The CoAP code.
        answer: String,
    },
    /// What a read was answered is not understood.
    NotUnderstood(Misread),
    /// A write was refused.
    WriteRefused {
        /// The CoAP code.
        answer: String,
    },
    /// A write was refused in a form, and another one is used from now on.
    WriteFormRefused {
        /// The CoAP code.
        answer: String,
        /// The form that was refused.
        refused: Form,
        /// The form that is used now.
        next: Form,
    },
    /// Something that was told before has happened again in the stage.
    Repeated {
        /// What.
        what: Repeated,
        /// How often besides.
        times: u32,
    },
    /// The device connected over MQTT.
    Connected,
    /// The device is reached through a gateway, which is not connected: it waits for that.
    GatewayOffline {
        /// The gateway; `None` where it is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gateway: Option<String>,
    },
    /// The device is reached through a gateway, which says that it is not there: it waits for it.
    ChildOffline {
        /// The gateway.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gateway: Option<String>,
    },
    /// The device is reached through another gateway from now on, and its upgrade begins anew through that one.
    GatewayChanged {
        /// The gateway; `None` where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gateway: Option<String>,
    },
    /// The device, which speaks MQTT, has not told what it runs.
    VersionUnknown,
    /// The device, which speaks MQTT, tells another version than the target after it was offered that.
    StillRuns {
        /// What it runs.
        version: Version,
    },
    /// The device, which speaks MQTT, reports that it is on its way.
    OnItsWay {
        /// How far, in percent, where it says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        percent: Option<u8>,
    },
    /// The device fetches the package over HTTP.
    Fetches,
    /// The device was served the whole package over HTTP.
    Fetched,
    /// It is chosen by which of its objects the device is upgraded.
    ObjectChosen {
        /// The object.
        object: UpdateObject,
        /// Why that one.
        why: WhyObject,
        /// The instance, where there may be several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<u16>,
    },
    /// The device tells the state of its upgrade, as a number of its object.
    StateTold {
        /// The object.
        object: UpdateObject,
        /// The state.
        state: u8,
    },
    /// The device tells the result of its upgrade, as a number of its object.
    ResultTold {
        /// The object.
        object: UpdateObject,
        /// The result.
        result: u8,
    },
    /// The device tells which of its components are in the way.
    InConflict {
        /// Their instances.
        instances: Vec<u16>,
    },
    /// The device is idle again, and has lost what it had.
    ProgressLost,
    /// The device has carried out what it was told.
    CarriedOut {
        /// What.
        step: UpdateStep,
    },
    /// The device refused what it was told.
    StepRefused {
        /// What.
        step: UpdateStep,
        /// The code of its answer.
        answer: String,
    },
    /// The device, which speaks MQTT, reports that it is through; its version is waited for.
    Through,
    /// The device claims the target, and was not served the whole package.
    ClaimNotShown {
        /// The target.
        version: Version,
    },
    /// The attempt has ended.
    Ended {
        /// The reason, of [`Outcome::REASONS`].
        reason: String,
        /// When the next attempt begins.
        #[serde(
            default,
            with = "crate::clock::rfc3339::option",
            skip_serializing_if = "Option::is_none"
        )]
        next_attempt_at: Option<UtcMillis>,
        /// What else is known.
        #[serde(flatten)]
        facts: Box<Facts>,
    },
    /// It had failed, and the operator has it tried again.
    TakenUpAgain {},
    /// The owner of its device has confirmed it.
    Confirmed {
        /// Who, as the program says that asked; an empty text when it does not.
        by: String,
    },
    /// The owner of its device has confirmed it for a time.
    ConfirmedFor {
        /// Who, as above.
        by: String,
        /// For when.
        #[serde(with = "crate::clock::rfc3339")]
        at: UtcMillis,
    },
    /// The owner of its device has taken back what he had confirmed for a time.
    ConfirmationTakenBack {
        /// Who, as above.
        by: String,
    },
    /// Its device has not enough left of its budget of this month.
    PutOff {
        /// Of what: `bytes` or `airtime_estimated_ms`.
        resource: String,
        /// What a month has, in that unit.
        budget: u64,
        /// What the device has spent this month.
        used: u64,
        /// What the upgrade costs it.
        needed: u64,
        /// When its next month begins.
        #[serde(with = "crate::clock::rfc3339")]
        until: UtcMillis,
    },
    /// Its device came to fit after the task was created, and has joined it.
    Joined {},
    /// It has succeeded, and the device has to be in health for some time before that counts in its phase.
    SoakBegun {
        /// When the device is asked for its version.
        #[serde(with = "crate::clock::rfc3339")]
        until: UtcMillis,
    },
    /// The device has told the version after that time: it is in health.
    SoakPassed {},
    /// The device is not in health.
    SoakFailed(Unhealthy),
    /// Whether the device is in health is not waited for any more, and counts for nothing.
    SoakPassedOver {
        /// Its device was removed; otherwise the operator passed over it.
        removed: bool,
    },
    /// A sentence from before there were codes.
    Legacy {
        /// The sentence.
        text: String,
    },
}

/// What the device was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "asked", rename_all = "snake_case")]
pub enum Asked {
    /// For its version.
    Version,
    /// For its version, once more.
    VersionAgain,
    /// Which version it runs now.
    WhichVersion,
    /// For its coverage.
    Coverage,
    /// For its coverage, once more.
    CoverageAgain,
    /// For its cell alone.
    Cell,
    /// For its cell, once more.
    CellAgain,
    /// To download: it was notified of the new version.
    ToDownload {
        /// The version.
        new_version: Version,
        /// Segments of the package.
        segments: u16,
        /// Bytes of a segment.
        segment_size: u16,
        /// The versionCheckCode.
        check_code: u16,
    },
    /// To download, once more.
    ToDownloadAgain,
    /// To upgrade.
    ToUpgrade,
    /// To upgrade, once more.
    ToUpgradeAgain,
    /// For its version, over MQTT.
    ReportVersion,
    /// To fetch and install the package, over MQTT.
    ToFetch {
        /// The version.
        new_version: Version,
        /// Bytes of the package.
        size_bytes: u64,
    },
    /// To fetch and install it, once more.
    ToFetchAgain,
    /// What it runs, by a read of the resource that tells it.
    ReadVersion,
    /// The state and the result of its upgrade.
    State,
    /// To forget what it has.
    ToReset,
    /// To install what it was served.
    ToInstall,
    /// To activate what it has installed.
    ToActivate,
    /// The same as before the server was restarted.
    AfterServerRestart {
        /// What.
        question: Question,
    },
}

impl Asked {
    /// Whether it is asked in a transfer: to download, to fetch or to upgrade.
    pub const fn is_of_transfer(&self) -> bool {
        match self {
            Self::ToDownload { .. }
            | Self::ToDownloadAgain
            | Self::ToUpgrade
            | Self::ToUpgradeAgain
            | Self::ToFetch { .. }
            | Self::ToFetchAgain
            | Self::State
            | Self::ToReset
            | Self::ToInstall
            | Self::ToActivate
            | Self::AfterServerRestart {
                question: Question::ToDownload | Question::ToUpgrade | Question::State,
            } => true,
            Self::Version
            | Self::VersionAgain
            | Self::WhichVersion
            | Self::Coverage
            | Self::CoverageAgain
            | Self::Cell
            | Self::CellAgain
            | Self::ReportVersion
            | Self::ReadVersion
            | Self::AfterServerRestart {
                question: Question::Version | Question::Coverage | Question::Cell,
            } => false,
        }
    }
}

/// What may be asked once more because the server was restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// For its version.
    Version,
    /// For its coverage.
    Coverage,
    /// For its cell alone.
    Cell,
    /// To download.
    ToDownload,
    /// To upgrade.
    ToUpgrade,
    /// For the state of its upgrade.
    State,
}

/// Why a device is not asked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Postponed {
    /// It is not registered.
    NotRegistered,
    /// Its address is not known any more.
    AddressUnknown,
    /// Devices are still being read after the start of the server.
    ServerStarting,
    /// It sleeps.
    Asleep,
    /// What it was asked before is under way.
    AskedBefore,
}

/// Why a device is not believed that it runs the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Doubt {
    /// No sign of a restart was seen.
    NoRestart,
    /// It was not told to install it.
    NotCommanded,
    /// It has reported a failure since it restarted last.
    Failed {
        /// Which report.
        failed_in: FailedIn,
        /// Its result code.
        result: u8,
    },
}

/// What explains a registration of a device that is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Explanation {
    /// Nothing else: it has restarted.
    Restarted,
    /// Its registration had run out.
    Expired,
    /// It was told that its registration is unknown, or got no answer.
    Refused,
    /// It is heard for the first time since the server was started.
    ServerRestarted,
    /// The server was started shortly before.
    ServerYoung,
    /// It is a message from before.
    EarlierMessage,
}

/// What is wrong with the answer to a read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "misread", rename_all = "snake_case")]
pub enum Misread {
    /// It cannot be read.
    Unreadable {
        /// What was read.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// What it tells as the cell is none.
    Cell {
        /// What was read.
        path: String,
        /// What it tells.
        told: String,
    },
    /// Its content format is not known here.
    Format {
        /// What was read.
        path: String,
        /// The content format.
        format: u16,
    },
}

/// The form in which a frame is written to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    /// The content format.
    pub format: u16,
    /// As an instance of its resource.
    pub instance: bool,
}

/// What may happen any number of times, and is told in two lines at most for each stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeated {
    /// It registered anew.
    Registration,
    /// It was heard from another address.
    Address,
    /// Its association ended.
    Association,
    /// It did not confirm the observation.
    Observation,
    /// It refused a write.
    Write,
    /// It asked for another segment than the next.
    Jump,
    /// It asked for a segment that it was refused.
    Refusal,
    /// It sent a frame that is no PCP.
    NotPcp,
    /// It reported a time-out of its own.
    OwnTimeout,
    /// It claimed the target.
    Claim,
    /// It refused the attributes of the observation.
    Attributes,
    /// There was no result, and it was to be asked for its version.
    Question,
    /// It was kept awake.
    KeptAwake,
    /// It was given an appointment.
    Appointed,
    /// It refused one.
    AppointmentRefused,
    /// It connected over MQTT.
    Connection,
    /// It was heard over MQTT after a silence.
    HeardAgain,
}

impl Happened {
    /// The end of an attempt, with what is known besides the outcome's own arguments.
    pub fn ended(outcome: &Outcome, next_attempt_at: Option<UtcMillis>, facts: Box<Facts>) -> Line {
        Line::from(Self::Ended {
            reason: outcome.reason().to_owned(),
            next_attempt_at,
            facts,
        })
    }
}

impl From<Happened> for Line {
    fn from(happened: Happened) -> Self {
        Self {
            happened,
            asked: None,
            number: None,
            postponed: None,
        }
    }
}

impl Line {
    /// A sentence as a line, for tests.
    #[cfg(test)]
    pub(crate) fn sentence(text: &str) -> Box<Self> {
        let text = text.to_owned();
        Box::new(Happened::Legacy { text }.into())
    }

    /// What happened, and what the device is asked because of it.
    pub fn asking(happened: Happened, asked: Asked, number: Option<usize>) -> Self {
        Self {
            happened,
            asked: Some(asked),
            number,
            postponed: None,
        }
    }

    /// The code and the arguments.
    pub fn parts(&self) -> (String, Map<String, Value>) {
        // every part of a line has a form in JSON, and all of them make an object
        let Ok(Value::Object(mut arguments)) = serde_json::to_value(self) else {
            return (String::new(), Map::new());
        };
        match arguments.remove("code") {
            Some(Value::String(code)) => (code, arguments),
            _ => (String::new(), arguments),
        }
    }

    /// As [`parts`](Self::parts), with the arguments as the text of an object: what is written for every change is not built
    /// twice.
    pub fn text_parts(&self) -> (String, String) {
        let text = serde_json::to_string(self).unwrap_or_default();
        // the code comes first, and is a word
        let rest = text.strip_prefix(r#"{"code":""#);
        let Some((code, rest)) = rest.and_then(|rest| rest.split_once('"')) else {
            return (String::new(), "{}".to_owned());
        };
        let arguments = rest.strip_prefix(',').unwrap_or(rest);
        (code.to_owned(), format!("{{{arguments}"))
    }

    /// The line of a code and its arguments.
    ///
    /// # Errors
    /// There is no such code, or its arguments are others.
    pub fn of(code: &str, mut arguments: Map<String, Value>) -> Result<Self, serde_json::Error> {
        arguments.insert("code".to_owned(), Value::String(code.to_owned()));
        serde_json::from_value(Value::Object(arguments))
    }
}
