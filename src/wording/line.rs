use pcp::ResultCode;

use super::{ending, misread::misread, object};
use crate::ledger::{
    Asked, Doubt, Explanation, FailedIn, Form, Happened, Home, Line, Postponed, Question, Repeated,
    Unhealthy,
};

/// A line of a timeline: what happened, and what the device was asked because of it.
pub fn line(line: &Line) -> String {
    let number = (line.number).map_or_else(String::new, |number| format!(", try {number}"));
    let asked = line.asked.as_ref().map(|it| asked(it) + &number);
    let postponed = line.postponed.map(postponed);
    match (&line.happened, asked, postponed) {
        (Happened::Asked, asked, _) => asked.unwrap_or_default(),
        (what, Some(asked), _) => format!("{}: {asked}", happened(what)),
        (what, None, Some(postponed)) => format!("{}; {postponed}", happened(what)),
        (what, None, None) => happened(what),
    }
}

fn happened(happened: &Happened) -> String {
    up_to_the_slot(happened)
        .or_else(|| with_the_slot(happened))
        .unwrap_or_else(|| besides(happened))
}

fn up_to_the_slot(happened: &Happened) -> Option<String> {
    Some(match happened {
        Happened::AttemptBegun { attempt } => {
            format!("attempt {attempt} begins: waiting for the device to be heard")
        }
        Happened::Registered => "registered".into(),
        Happened::Heard => "heard".into(),
        Happened::NoAnswer => "no answer yet".into(),
        Happened::CoverageOutdated => "coverage is too old to admit by".into(),
        Happened::RunsOtherVersion { version, target } => {
            format!("runs version \"{version}\", not \"{target}\"")
        }
        Happened::NotBelieved { version } => {
            format!("is not believed to run \"{version}\" already")
        }
        Happened::StepDone { step, version } => {
            format!("step {step} is done, it runs version \"{version}\"")
        }
        Happened::NoCoverage => "no coverage within the limit".into(),
        Happened::CellNotTold => "its cell is not known from what it tells of its coverage".into(),
        Happened::NotMeasured { cell } => {
            format!("not reached to measure its coverage anew: keeps its place in cell {cell}")
        }
        Happened::Queued { cell, limit } => format!(
            "in cell {cell}, where {limit} may upgrade at once by its coverage: waiting for a slot"
        ),
        Happened::QueuedAt { at } => format!("waiting for a slot of its {}", home(*at)),
        Happened::SlotGrantedAt { at } => format!("slot of its {} granted", home(*at)),
        Happened::KeptAwake { turn } => format!("kept awake: a slot is expected for it at {turn}"),
        Happened::Appointed { at } => {
            format!("expected at {at} by appointment (the lifetime in /1/0/1 was written)")
        }
        Happened::AppointmentRefused { answer } => format!(
            "answered the write of its lifetime (/1/0/1) with {}: it comes when it comes",
            or_reset(answer.as_deref())
        ),
        _ => return None,
    })
}

const fn home(home: Home) -> &'static str {
    match home {
        Home::Site => "site",
        Home::Gateway => "gateway",
    }
}

fn with_the_slot(happened: &Happened) -> Option<String> {
    Some(match happened {
        Happened::SlotGranted { cell } => format!("slot in cell {cell} granted"),
        Happened::SlotReturnedQuiet { cell, nudges } => format!(
            "{nudges} nudges without progress: slot in cell {cell} given back, it keeps its place in the queue until it \
             is heard"
        ),
        Happened::SlotReturnedUndelivered { cell } => {
            format!("the notification did not arrive: slot in cell {cell} given back")
        }
        Happened::VersionAccepted => "accepted the new version (PCP 20)".into(),
        Happened::FirstSegment { segment, segments } => {
            format!("accepted: asks for segment {segment} of {segments}")
        }
        Happened::VersionDeclined { result } => {
            format!(
                "answered the new version (PCP 20) with {}",
                ResultCode(*result)
            )
        }
        Happened::Quiet { segment: None } => "quiet since the notification".into(),
        Happened::Quiet {
            segment: Some(segment),
        } => format!("quiet since segment {segment}"),
        Happened::Downloaded => "downloaded (PCP 22)".into(),
        Happened::DownloadedAgain => "reported the download again (PCP 22)".into(),
        Happened::DownloadsAgain { segment } => {
            format!("downloads again, from segment {segment}: the command is void")
        }
        Happened::CommandDelivered => "has the command to upgrade".into(),
        Happened::CommandAccepted => "accepted the command to upgrade (PCP 23)".into(),
        Happened::CommandUnconfirmed { version } => {
            format!("says \"{version}\", and never confirmed the command")
        }
        Happened::NoResult => "no result (PCP 24) yet".into(),
        Happened::UpgradeReported { result, version } => format!(
            "reported {} in the name of \"{version}\" (PCP 24)",
            ResultCode(*result)
        ),
        Happened::SuccessOfOtherVersion { version } => format!(
            "reported success in the name of \"{version}\" (PCP 24): its restart is waited for"
        ),
        Happened::OwnTimeout => {
            "reported a time-out of its own (PCP 23 with 0x06), which answers nothing".into()
        }
        Happened::SegmentOfOtherVersion { segment, version } => {
            format!("asked for segment {segment} of \"{version}\": told that there is no such task")
        }
        Happened::NoSuchSegment { segment, segments } => {
            format!("asked for segment {segment} of {segments}: told that there is no such segment")
        }
        Happened::BeganAgain { percent } => {
            format!("began again at segment 0 after {percent} %")
        }
        Happened::WentOnElsewhere {
            segment,
            last,
            percent,
        } => format!("goes on at segment {segment} after segment {last}, which is {percent} %"),
        _ => return None,
    })
}

#[expect(clippy::too_many_lines, reason = "one sentence for each code")]
fn besides(happened: &Happened) -> String {
    match happened {
        Happened::NotPcp { problem } => format!("sent a frame that is no PCP: it {problem}"),
        Happened::ClaimDoubted { version, doubt } => {
            format!("says that it runs \"{version}\"; {}", self::doubt(*doubt))
        }
        Happened::AddressChanged { address } => format!("heard from another address: {address}"),
        Happened::AssociationEnded => {
            "its association (DTLS) has ended: it is asked nothing before it begins another".into()
        }
        Happened::AssociationBegun => "a new association (DTLS): it has restarted".into(),
        Happened::RegisteredAnew { why } => format!("registered anew{}", explanation(*why)),
        Happened::Deregistered => "has ended its registration".into(),
        Happened::RegistrationExpired => "its registration has run out".into(),
        Happened::ObservationFormatRefused { format, answer } => format!(
            "refused the observation of /19/0/0 in content format {format} with {}: asked without",
            or_reset(answer.as_deref())
        ),
        Happened::ObservationRefused { answer } => {
            format!("refused the observation of /19/0/0 with {answer}")
        }
        Happened::ObservationUnconfirmed => {
            "answered the observation of /19/0/0 without confirming it (no Observe option)".into()
        }
        Happened::AttributesRefused { answer } => format!(
            "refused pmin = 0 for /19/0/0 with {}",
            or_reset(answer.as_deref())
        ),
        Happened::ReadFormatRefused {
            path,
            format,
            answer,
        } => format!(
            "refused the read of {path} in content format {format} with {answer}: asked without"
        ),
        Happened::ReadRefused { path, answer } => {
            format!("the device answered the read of {path} with {answer}")
        }
        Happened::NotUnderstood(what) => misread(what),
        Happened::WriteRefused { answer } => {
            format!("answered the write to /19/1/0 with {answer}")
        }
        Happened::WriteFormRefused {
            answer,
            refused,
            next,
        } => format!(
            "refused the write to /19/1/0 in {} with {answer}: written in {} from now on",
            form(*refused),
            form(*next)
        ),
        Happened::Repeated { what, times: 1 } => format!("{} once more", repeated(*what)),
        Happened::Repeated { what, times } => format!("{} {times} times more", repeated(*what)),
        Happened::Ended {
            reason,
            next_attempt_at,
            facts,
        } => {
            let ended = ending(reason, facts);
            match next_attempt_at {
                Some(at) => format!("{ended}; the next attempt begins at {at}"),
                None => ended,
            }
        }
        Happened::Confirmed { by } => format!("its owner has confirmed it{}", named(by)),
        Happened::ConfirmedFor { by, at } => {
            format!("its owner has confirmed it for {at}{}", named(by))
        }
        Happened::ConfirmationTakenBack { by } => format!(
            "its owner has taken the confirmation back{}: it waits for another one",
            named(by)
        ),
        Happened::TakenUpAgain {} => "it is tried again, as the operator wants".to_owned(),
        Happened::PutOff {
            resource,
            budget,
            used,
            needed,
            until,
        } => {
            let unit = match resource.as_str() {
                "bytes" => "bytes",
                _ => "ms of airtime (estimated)",
            };
            format!(
                "its device has spent {used} of {budget} {unit} this month, and the upgrade costs {needed}; it waits until {until}"
            )
        }
        Happened::Connected => "connected (MQTT)".to_owned(),
        Happened::GatewayOffline { gateway: None } => {
            "waits: it is reached through a gateway, and it is not known through which".to_owned()
        }
        Happened::GatewayOffline {
            gateway: Some(gateway),
        } => format!("waits: gateway {gateway} is offline"),
        Happened::ChildOffline { gateway } => format!(
            "waits: gateway {} says that it is offline",
            gateway.as_deref().unwrap_or("(unknown)")
        ),
        Happened::GatewayChanged { gateway: None } => {
            "is reached through no gateway any more: it begins anew when it has one".to_owned()
        }
        Happened::GatewayChanged {
            gateway: Some(gateway),
        } => format!("is reached through gateway {gateway} from now on, and begins anew there"),
        Happened::VersionUnknown => "has not told its version".to_owned(),
        Happened::StillRuns { version } => format!("still runs version \"{version}\""),
        Happened::OnItsWay { percent: None } => "reports that it goes on".to_owned(),
        Happened::OnItsWay {
            percent: Some(percent),
        } => format!("reports that it is at {percent} %"),
        Happened::Fetches => "fetches the package".to_owned(),
        Happened::Fetched => "was served the whole package".to_owned(),
        Happened::ObjectChosen {
            object: it,
            why,
            instance,
        } => {
            let instance = instance.map_or_else(String::new, |it| format!(", instance {it}"));
            let why = object::why(*why);
            format!("is upgraded by {}{instance}: {why}", object::object(*it))
        }
        Happened::StateTold { object: it, state } => {
            format!("tells state {state} ({})", object::state(*it, *state))
        }
        Happened::ResultTold { object: it, result } => {
            format!("tells result {result} ({})", object::result(*it, *result))
        }
        Happened::InConflict { instances } => {
            let instances: Vec<String> = instances.iter().map(u16::to_string).collect();
            format!(
                "says that these components are in the way: {}",
                instances.join(", ")
            )
        }
        Happened::ProgressLost => "is idle again, and has lost what it had".to_owned(),
        Happened::CarriedOut { step } => {
            format!("has carried out what it was told: {}", object::step(*step))
        }
        Happened::StepRefused { step, answer } => {
            format!("answered {answer} when it was told {}", object::step(*step))
        }
        Happened::Through => "reports that it is through: its version is waited for".to_owned(),
        Happened::ClaimNotShown { version } => format!(
            "says that it runs \"{version}\", and was not served the whole package: what it tells after its next connection \
             counts"
        ),
        Happened::Joined {} => "the device has joined the task".to_owned(),
        Happened::SoakBegun { until } => {
            format!("it counts in its phase when the device tells the version at {until} or later")
        }
        Happened::SoakPassed {} => "the device still runs the version: it counts".to_owned(),
        Happened::SoakFailed(why) => unhealthy(*why),
        Happened::SoakPassedOver { removed: true } => {
            "the device was removed before its soak was over: it does not count in its phase"
                .to_owned()
        }
        Happened::SoakPassedOver { removed: false } => {
            "the operator passed over its soak: it does not count in its phase".to_owned()
        }
        Happened::Legacy { text } => text.clone(),
        // the others are told above
        _ => String::new(),
    }
}

/// Why a device is not in health, and what to do.
/// Who it was, where that is known.
fn named(by: &str) -> String {
    match by {
        "" => String::new(),
        by => format!(" ({by})"),
    }
}

fn unhealthy(why: Unhealthy) -> String {
    match why {
        Unhealthy::OtherVersion { version } => format!(
            "the device is not in health: after its upgrade it told version {:?}; look at the device, and upgrade it with \
             another task",
            version.as_str()
        ),
        Unhealthy::NotHeard => {
            "the device is not in health: it was not heard after its soak; look at the device".to_owned()
        }
        Unhealthy::VersionNotTold => {
            "the device is not in health: it was heard after its soak, and did not tell its version when it was asked \
             (PCP 19); look at the device"
                .to_owned()
        }
    }
}

const VERSION: &str = "asked for its version (PCP 19)";
const COVERAGE: &str = "asked for its coverage (/4/0)";
const CELL: &str = "asked for its cell alone (/4/0/8)";
const TO_UPGRADE: &str = "told to upgrade (PCP 23)";

fn asked(asked: &Asked) -> String {
    let text = match asked {
        Asked::Version => VERSION,
        Asked::VersionAgain => "asked for its version again (PCP 19)",
        Asked::WhichVersion => "asked which it runs (PCP 19)",
        Asked::Coverage => COVERAGE,
        Asked::CoverageAgain => "asked for its coverage again (/4/0)",
        Asked::Cell => CELL,
        Asked::CellAgain => "asked for its cell again (/4/0/8)",
        Asked::ToDownload {
            new_version,
            segments,
            segment_size,
            check_code,
        } => {
            return format!(
                "notified of \"{new_version}\" (PCP 20), {segments} segments of {segment_size} bytes, check code \
                 0x{check_code:04x}"
            );
        }
        Asked::ToDownloadAgain => "notified again (PCP 20)",
        Asked::ToUpgrade => TO_UPGRADE,
        Asked::ToUpgradeAgain => "told to upgrade again (PCP 23)",
        Asked::ReportVersion => "asked for its version (MQTT)",
        Asked::ToFetch {
            new_version,
            size_bytes,
        } => return format!("offered \"{new_version}\", {size_bytes} bytes"),
        Asked::ToFetchAgain => "offered it again",
        Asked::ReadVersion => "asked which version it runs",
        Asked::State => "asked for the state and the result of its upgrade",
        Asked::ToReset => "told to forget what it has",
        Asked::ToInstall => "told to install it",
        Asked::ToActivate => "told to activate it",
        Asked::AfterServerRestart { question } => {
            let asked = match question {
                Question::Version => VERSION,
                Question::Coverage => COVERAGE,
                Question::Cell => CELL,
                Question::ToDownload => "notified (PCP 20)",
                Question::ToUpgrade => TO_UPGRADE,
                Question::State => "asked for the state of its upgrade",
            };
            return format!("{asked} once more, because the server was restarted");
        }
    };
    text.to_owned()
}

const fn postponed(postponed: Postponed) -> &'static str {
    match postponed {
        Postponed::NotRegistered => "it is not registered: it is asked when it is",
        Postponed::AddressUnknown => {
            "its address is not known any more: it is asked when it is heard"
        }
        Postponed::ServerStarting => {
            "devices are still being read after the start: it is asked then"
        }
        Postponed::Asleep => "it sleeps: it is asked when it is heard",
        Postponed::AskedBefore => "what it was asked before is still under way",
    }
}

fn doubt(doubt: Doubt) -> String {
    match doubt {
        Doubt::NoRestart => {
            "no sign of a restart was seen since it was notified of it or told to upgrade".into()
        }
        Doubt::NotCommanded => {
            "it has taken it since it restarted last, and was not told to install it".into()
        }
        Doubt::Failed { failed_in, result } => {
            let pcp = match failed_in {
                FailedIn::Download => 22,
                FailedIn::Installation => 24,
            };
            format!(
                "it has reported {} (PCP {pcp}), and has not restarted since",
                ResultCode(result)
            )
        }
    }
}

const fn explanation(why: Explanation) -> &'static str {
    match why {
        Explanation::Restarted => ": it has restarted",
        Explanation::Expired => ", after its registration had run out",
        Explanation::Refused => {
            ", after it was told that its registration is unknown, or got no answer"
        }
        Explanation::ServerRestarted => ", heard for the first time since the server was started",
        Explanation::ServerYoung => {
            ", shortly after the server was started: it may have been without an answer before"
        }
        Explanation::EarlierMessage => ", by a message from before",
    }
}

fn form(form: Form) -> String {
    let instance = if form.instance {
        ", as an instance"
    } else {
        ""
    };
    format!("content format {}{instance}", form.format)
}

fn or_reset(answer: Option<&str>) -> &str {
    answer.unwrap_or("a Reset")
}

const fn repeated(what: Repeated) -> &'static str {
    match what {
        Repeated::Registration => "registered anew",
        Repeated::Address => "was heard from another address",
        Repeated::Association => "its association (DTLS) has ended",
        Repeated::Observation => "did not confirm the observation of /19/0/0",
        Repeated::Write => "answered a write to /19/1/0 with an error",
        Repeated::Jump => "asked for another segment than the next",
        Repeated::Refusal => "asked for a segment that it was refused",
        Repeated::NotPcp => "sent a frame that is no PCP",
        Repeated::OwnTimeout => "reported a time-out of its own (PCP 23 with 0x06)",
        Repeated::Claim => "claimed the target without having restarted",
        Repeated::Attributes => "refused pmin = 0 for /19/0/0",
        Repeated::KeptAwake => "kept awake by a ping",
        Repeated::Appointed => "given another appointment",
        Repeated::Connection => "connected anew (MQTT)",
        Repeated::HeardAgain => "was heard again (MQTT)",
        Repeated::AppointmentRefused => "refused an appointment",
        Repeated::Question => "no result (PCP 24) yet, and to be asked for its version (PCP 19)",
    }
}
