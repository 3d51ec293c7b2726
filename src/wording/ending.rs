use std::fmt::Write;

use pcp::ResultCode;

use super::{misread::misread, object};
use crate::ledger::{
    Cancellation, Facts, Failure, Fate, Inbound, Last, MAX_WANTED, Outbound, Outcome, Refusal,
    Sent, Success, Wanted,
};
use crate::package::{Fits, Version};

/// How an attempt ended: of a failure all that is known of its last moments.
pub fn ending(reason: &str, facts: &Facts) -> String {
    let Some(ended) = Outcome::of(reason, facts) else {
        return reason.to_owned(); // of a newer program
    };
    let mut text = match (&ended, &facts.not_understood) {
        // it may have told its cell
        (Outcome::Failed(Failure::CellUnknown), Some(problem)) => format!(
            "what the device answered about its cell (/4/0/8) is not understood, so it cannot be admitted to one: {}",
            misread(problem)
        ),
        (Outcome::Cancelled(Cancellation::NoPackage | Cancellation::Downgrade), _) => {
            return skipped(&ended, facts);
        }
        _ => outcome(&ended),
    };
    // writing to a String does not fail
    if let Some(description) = &facts.description {
        let _ = write!(text, ". It says {description:?}");
    }
    if let Some(objects) = &facts.objects {
        let objects: Vec<String> = objects.iter().map(u16::to_string).collect();
        let _ = write!(text, ". It announces objects {}", objects.join(", "));
    }
    if let Some(limit) = &facts.limit {
        let _ = write!(text, ". Limit: {} = {}", limit.setting, limit.seconds);
    }
    if let Some(queue) = &facts.queue {
        let upgraded = match queue.taken {
            1 => "device upgraded",
            _ => "devices upgraded",
        };
        let _ = write!(
            text,
            ". {} {upgraded} in cell {}; this one's coverage allowed {}; {} waited before it",
            queue.taken, queue.cell, queue.limit, queue.ahead
        );
        if queue.taken >= queue.limit || queue.ahead > 0 {
            text.push_str(
                ". A longer limit would have helped, or fewer devices of that cell at a time",
            );
        }
    }
    if let Some(last) = &facts.last {
        text.push_str(&moments(last));
    }
    text
}

/// Why a device is skipped: what it runs and is, and what there is for whom.
fn skipped(ended: &Outcome, facts: &Facts) -> String {
    let mut text = outcome(ended);
    if let Some(version) = facts.version {
        let _ = write!(text, ". The device runs version \"{version}\"");
    }
    if let Some(target) = facts.target {
        let _ = write!(
            text,
            ", and the package that is for it has \"{target}\". The task would have to say allow_downgrade"
        );
        return text;
    }
    match &facts.hardware {
        Some(hardware) => {
            let _ = write!(text, ". Its hardware is \"{hardware}\"");
        }
        None if (facts.wanted.iter()).any(|wanted| !wanted.from.hardware.is_empty()) => {
            text.push_str(". Its hardware is not known: set it (PATCH /v1/devices/{endpoint})");
        }
        None => {}
    }
    for Wanted { target, from } in &facts.wanted {
        let _ = write!(text, ". \"{target}\" is for {}", whom(from));
    }
    if facts.wanted.len() == MAX_WANTED {
        text.push_str(". The task tells of all of its packages");
    }
    text
}

/// The devices that a package is for.
fn whom(from: &Fits) -> String {
    let list = |words: Vec<&str>| {
        let cut = if words.len() == MAX_WANTED {
            " or others"
        } else {
            ""
        };
        format!("\"{}\"{cut}", words.join("\" or \""))
    };
    let mut parts = Vec::new();
    if !from.versions.is_empty() {
        let versions = from.versions.iter().map(Version::as_str);
        parts.push(format!("version {}", list(versions.collect())));
    }
    if let Some(version) = from.version_from {
        parts.push(format!("versions from \"{version}\" on"));
    }
    if let Some(version) = from.version_below {
        parts.push(format!("versions below \"{version}\""));
    }
    if !from.hardware.is_empty() {
        let hardware = from.hardware.iter().map(String::as_str);
        parts.push(format!("hardware {}", list(hardware.collect())));
    }
    if parts.is_empty() {
        return "any device".to_owned();
    }
    parts.join(" and ")
}

/// The last moments of an attempt.
fn moments(last: &Last) -> String {
    let since = (last.known_since).map_or_else(String::new, |at| {
        format!(" since the server started at {at}")
    });
    let mut text = match &last.sent {
        Some(sent) => format!(". Sent last: {}", self::sent(sent, &since)),
        None => format!(". Sent last: nothing{since}"),
    };
    if let Some(said) = &last.said {
        let _ = write!(
            text,
            ". Said last: {} at {}",
            inbound(&said.message),
            said.at
        );
    }
    match last.heard_at {
        None => text.push_str(". It was never heard"),
        Some(at) if last.heard_as_stored => {
            let _ = write!(text, ". Heard last, as far as is stored, at {at}");
        }
        Some(at) => {
            let _ = write!(text, ". Heard last at {at}");
        }
    }
    text
}

fn sent(sent: &Sent, since: &str) -> String {
    let times = match sent.times {
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    let fate = match &sent.fate {
        Fate::Open => "not acknowledged".to_owned(),
        Fate::Acknowledged => "acknowledged".to_owned(),
        Fate::Refused { answer } => format!("refused with {answer}"),
        Fate::Rejected => "rejected with a Reset".to_owned(),
    };
    format!(
        "{}, {times}{since}, at {}, {fate}",
        outbound(&sent.message),
        sent.at
    )
}

fn outbound(message: &Outbound) -> String {
    match message {
        Outbound::Attributes => "pmin = 0 for /19/0/0".to_owned(),
        Outbound::Observation => "the observation of /19/0/0".to_owned(),
        Outbound::VersionQuery => "the version query (PCP 19)".to_owned(),
        Outbound::Read { path } => format!("the read of {path}"),
        Outbound::NewVersion => "the new version (PCP 20)".to_owned(),
        Outbound::Segment { segment } => format!("segment {segment} (PCP 21)"),
        Outbound::Answer { to } => format!("the answer to the device's message (PCP {to})"),
        Outbound::Command => "the command to upgrade (PCP 23)".to_owned(),
        Outbound::Ping => "a ping".to_owned(),
        Outbound::Lifetime => "the lifetime of its registration (/1/0/1)".to_owned(),
        Outbound::VersionRequest => "the version query (MQTT)".to_owned(),
        Outbound::PackageOffer => "the offer of the package (MQTT)".to_owned(),
        Outbound::ObservationOf { path } => format!("the observation of {path}"),
        Outbound::Update { step, path } => {
            format!("what tells it {} ({path})", object::step(*step))
        }
        Outbound::Block { number } => format!("block {number} of the package"),
    }
}

fn inbound(message: &Inbound) -> String {
    match message {
        Inbound::Registration => "a registration".to_owned(),
        Inbound::Update => "an update of its registration".to_owned(),
        Inbound::ServiceData => "its own data".to_owned(),
        Inbound::Pong => "an answer to a ping".to_owned(),
        Inbound::ReadAnswer { path, answer } => format!("{answer} to the read of {path}"),
        Inbound::Told { path, value } => format!("{value} in {path}"),
        Inbound::BlockRequest => "a request for a block of the package".to_owned(),
        Inbound::Version {
            version: Some(version),
            ..
        } => format!("version \"{version}\" (PCP 19)"),
        Inbound::Version {
            result,
            version: None,
        } => format!("{} to the version query (PCP 19)", ResultCode(*result)),
        Inbound::NewVersionAnswer { result } => {
            format!("{} to the new version (PCP 20)", ResultCode(*result))
        }
        Inbound::SegmentRequest { segment } => {
            format!("the request for segment {segment} (PCP 21)")
        }
        Inbound::DownloadReport { result } => {
            format!("the download report {} (PCP 22)", ResultCode(*result))
        }
        Inbound::CommandAnswer { result } => {
            format!("{} to the command to upgrade (PCP 23)", ResultCode(*result))
        }
        Inbound::Connection => "its connection (MQTT)".to_owned(),
        Inbound::VersionReport { version } => format!("version \"{version}\" (MQTT)"),
        Inbound::ProgressReport {
            code,
            percent,
            version,
            description,
        } => progress(*code, *percent, *version, description.as_deref()),
        Inbound::UpgradeReport { result, version } => format!(
            "the upgrade report {}, version \"{version}\" (PCP 24)",
            ResultCode(*result)
        ),
    }
}

fn progress(
    code: i32,
    percent: Option<u8>,
    version: Option<Version>,
    description: Option<&str>,
) -> String {
    let mut text = match (code, percent) {
        (0, None) => "a progress report".to_owned(),
        (0, Some(percent)) => format!("the progress {percent} %"),
        (code, _) => format!("the failure {}", reported(code)),
    };
    // writing to a String does not fail
    if let Some(version) = version {
        let _ = write!(text, ", version \"{version}\"");
    }
    if let Some(description) = description {
        let _ = write!(text, ", {description:?}");
    }
    text + " (MQTT)"
}

/// What a failure's code means: of IoTDA's ("OTA upgrade", `upgrade_progress_report`), or of `ThingsPanel`'s, which are negative, as are those of
/// `QuecThing` (`upgrade::transfer::quecthing`).
fn reported(code: i32) -> String {
    let meaning = match code {
        1 => "the device is in use",
        2 => "the signal is too weak",
        3 => "it has the newest version already",
        4 => "the battery is too low",
        5 => "there is too little space",
        6 => "the download timed out",
        7 => "the check of the package failed",
        8 => "the kind of package is not supported",
        9 => "there is too little memory",
        10 => "the installation failed",
        255 => "internal error",
        -1 => "the upgrade failed",
        -2 => "the download failed",
        -3 => "the check of the package failed",
        -4 => "the package could not be written",
        -103 => "it refused the plan",
        -106 => "the download failed six times",
        -112 => "the upgrade failed",
        _ => return format!("code {code}"),
    };
    format!("code {code}, {meaning}")
}

/// How an attempt ended, in a sentence.
pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded(Success::Upgraded) => "upgraded".into(),
        Outcome::Succeeded(Success::Unverified) => {
            "upgraded, as the device says; nothing else shows it (unverified)".into()
        }
        Outcome::Succeeded(Success::AlreadyCurrent) => {
            "the device runs the target version already; nothing was done".into()
        }
        Outcome::Cancelled(Cancellation::TaskStopped) => "the task was stopped".into(),
        Outcome::Cancelled(Cancellation::Upgrade) => {
            "the upgrade was cancelled by the operator".into()
        }
        Outcome::Cancelled(Cancellation::Expired) => {
            "it had not begun by the time that its task gives (not_after)".into()
        }
        Outcome::Cancelled(Cancellation::Skipped) => "the operator passed over it".into(),
        Outcome::Cancelled(Cancellation::Refused) => "the owner of the device refused it".into(),
        Outcome::Cancelled(Cancellation::TakenBack) => {
            "taken back at the end of its window, before it was commanded to install".into()
        }
        Outcome::Cancelled(Cancellation::NoPackage) => {
            "skipped: no package of the task is for this device".into()
        }
        Outcome::Cancelled(Cancellation::Downgrade) => {
            "skipped: it would be a downgrade, which the task does not allow".into()
        }
        Outcome::Cancelled(Cancellation::NotReached) => {
            "the upgrade that it was to follow did not succeed".into()
        }
        Outcome::Failed(failure) => self::failure(failure),
    }
}

/// A refusal for a condition that may pass.
fn refused(refusal: Refusal, code: i32) -> String {
    let why = match refusal {
        Refusal::InUse => "it is in use",
        Refusal::Signal => "its signal is too poor",
        Refusal::Battery => "its battery is too low",
        Refusal::Space => "it has too little space left",
        Refusal::Memory => "it has too little memory left",
    };
    format!("the device refused (code {code}): {why}. Try again once that has changed")
}

#[expect(clippy::too_many_lines, reason = "one sentence for each failure")]
fn failure(failure: &Failure) -> String {
    match failure {
        Failure::DeviceNotHeard => "the device was not heard within the limit".into(),
        Failure::VersionQueryTimedOut => {
            "no answer to the version query (PCP 19) within the limit".into()
        }
        Failure::VersionQueryRefused(code) => {
            format!("the device answered the version query (PCP 19) with {code}")
        }
        Failure::CellUnknown => {
            "the device does not tell its cell (/4/0/8), so it cannot be admitted to one".into()
        }
        Failure::CellQueryTimedOut => {
            "no answer to the read of the cell ID (/4/0/8) within the limit".into()
        }
        Failure::SlotTimedOut => "the cell had no free slot within the limit".into(),
        Failure::NotificationRefused(code) => {
            format!("the device refused the new version (PCP 20) with {code}")
        }
        Failure::DownloadTimedOut(None) => {
            "the device never asked for a segment within the limit of the download".into()
        }
        Failure::DownloadTimedOut(Some(segment)) => format!(
            "the download did not end within the limit; segment {segment} was asked for last"
        ),
        Failure::DownloadStalled => {
            "the download stood still each time the device had a slot, however often it was notified again".into()
        }
        Failure::DownloadFailed(code) => {
            format!("the device reported the download (PCP 22) as {code}")
        }
        Failure::ExecuteRefused(code) => {
            format!("the device refused to upgrade (PCP 23) with {code}")
        }
        Failure::ExecutionTimedOut => {
            "no result (PCP 24) and no version came within the limit".into()
        }
        Failure::UpgradeFailed(code) => {
            format!("the device reported the upgrade (PCP 24) as {code}")
        }
        Failure::WrongVersion(version) => {
            format!("after the upgrade the device runs version \"{version}\"")
        }
        Failure::PackageUnavailable => {
            "the package's file is missing or damaged; upload it again".into()
        }
        Failure::DeviceRemoved => "the device was removed from the inventory".into(),
        Failure::NotSupported => {
            "the device has no object for the upgrade: 19 (PCP), 5, 9 or 33629, as its product and the package want it".into()
        }
        Failure::UpdateResult(it, result) => format!(
            "the device told result {result} of {}: {}",
            object::object(*it),
            object::result(*it, *result)
        ),
        Failure::UpdateRefused(step, code) => format!(
            "the device answered {}.{:02} when it was told {}",
            code >> 5,
            code & 0x1F,
            object::step(*step)
        ),
        Failure::NotIdle => {
            "the device did not forget what it had from before, so that it could not be given the package: restart it, and try again"
                .into()
        }
        Failure::Reported(code) => {
            format!("the device reported a failure (MQTT): {}", reported(*code))
        }
        Failure::Refused(refusal, code) => refused(*refusal, *code),
        Failure::NotDownloaded => {
            "the device says that it has the package, or that it runs the target version, and was not served the whole package; no \
             version that it told after another connection shows it. Look at the device, and try again"
                .into()
        }
        Failure::TransferTimedOut => {
            "the device did not come to tell the target version within the limit".into()
        }
        Failure::NotServed => {
            "the package cannot be served to a device that speaks what this one does; upload one that can".into()
        }
    }
}
