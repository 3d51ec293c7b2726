//! What the timeline of an upgrade says.

use pcp::ResultCode;

use super::device::{Session, slot_in};
use crate::{
    ledger::{Deadline, Stage},
    upgrade::{Action, Event, Rules, Sota},
};

/// A line: what has happened, and what the device is asked because of it. The second half is told when that leaves.
pub(super) struct Line {
    pub(super) happened: String,
    pub(super) asked: Option<String>,
}

fn line(happened: impl Into<String>) -> Line {
    Line {
        happened: happened.into(),
        asked: None,
    }
}

fn asking(happened: impl Into<String>, asked: impl Into<String>) -> Line {
    Line {
        happened: happened.into(),
        asked: Some(asked.into()),
    }
}

const VERSION: &str = "asked for its version (PCP 19)";
const VERSION_RUN: &str = "asked which it runs (PCP 19)";

/// What a device is asked once more because the server was restarted.
pub(super) fn asked_again(action: Action) -> String {
    let asked = match action {
        Action::AskVersion => VERSION,
        Action::ReadCoverage => "asked for its coverage (/4/0)",
        Action::ReadCell => "asked for its cell alone (/4/0/8)",
        Action::Notify => "notified (PCP 20)",
        Action::Execute => "told to upgrade (PCP 23)",
    };
    format!("{asked} once more, because the server was restarted")
}

/// The line for a step, `None` when it is not worth one.
pub(super) fn of(
    event: Event,
    before: &Sota,
    session: &Session,
    rules: &Rules<'_>,
) -> Option<Line> {
    // Of a stage in whose midst the server was restarted nobody knows.
    let tries = (session.account.tries).map_or_else(String::new, |tries| format!(", try {tries}"));
    if slot_in(before).is_none() && slot_in(&session.sota).is_none() {
        up_to_the_slot(event, &session.sota, rules, &tries)
    } else {
        with_the_slot(event, before, session, rules, &tries)
    }
}

fn up_to_the_slot(event: Event, sota: &Sota, rules: &Rules<'_>, tries: &str) -> Option<Line> {
    let registered = matches!(event, Event::Registered { .. });
    Some(match (event, sota) {
        (Event::Reached(Deadline::RepeatQuestion), _) => asking(
            "no answer yet",
            format!("asked for its version again (PCP 19){tries}"),
        ),
        (_, Sota::QueryingVersion { .. }) if registered => {
            asking("registered", format!("{VERSION}{tries}"))
        }
        (_, Sota::QueryingVersion { .. }) => asking("heard", VERSION),
        (Event::MeasureAnew, _) => asking(
            "coverage is too old to admit by",
            "asked for its coverage again (/4/0)",
        ),
        (_, Sota::QueryingCoverage { .. }) if registered => asking(
            "registered",
            format!("asked for its coverage again (/4/0){tries}"),
        ),
        (_, Sota::QueryingCell { .. }) if registered => asking(
            "registered",
            format!("asked for its cell again (/4/0/8){tries}"),
        ),
        (Event::VersionAnswered(_, Some(version), _), Sota::QueryingCoverage { .. }) => asking(
            if version == rules.target {
                format!("is not believed to run \"{version}\" already")
            } else {
                format!("runs version \"{version}\", not \"{}\"", rules.target)
            },
            "asked for its coverage (/4/0)",
        ),
        (Event::Reached(Deadline::Coverage), Sota::QueryingCell { .. }) => asking(
            "no coverage within the limit",
            "asked for its cell alone (/4/0/8)",
        ),
        (_, Sota::QueryingCell { .. }) => asking(
            "its cell is not known from what it tells of its coverage",
            "asked for its cell alone (/4/0/8)",
        ),
        (Event::Reached(_), Sota::WaitingForSlot { place }) => line(format!(
            "not reached to measure its coverage anew: keeps its place in cell {}",
            place.cell
        )),
        (Event::CoverageAnswered(_) | Event::CellAnswered(_), Sota::WaitingForSlot { place }) => {
            line(format!(
                "in cell {}, where {} may upgrade at once by its coverage: waiting for a slot",
                place.cell, place.limit
            ))
        }
        _ => return None,
    })
}

fn with_the_slot(
    event: Event,
    before: &Sota,
    session: &Session,
    rules: &Rules<'_>,
    tries: &str,
) -> Option<Line> {
    let package = &session.package.pcp.offer;
    let cut = package.segmentation;
    Some(match (event, &session.sota) {
        (Event::Reached(Deadline::ResultGrace), Sota::Executing { .. }) => {
            asking("no result (PCP 24) yet", VERSION)
        }
        (Event::Reached(Deadline::Nudge), Sota::Downloading { segment, .. }) => asking(
            match segment {
                Some(segment) => format!("quiet since segment {segment}"),
                None => "quiet since the notification".into(),
            },
            format!("notified again (PCP 20){tries}"),
        ),
        (Event::Reached(Deadline::Nudge), Sota::WaitingForSlot { place }) => line(format!(
            "{} nudges without progress: slot in cell {} given back, it keeps its place in the queue until it is heard",
            rules.upgrade.max_nudges, place.cell
        )),
        (Event::NotificationUndelivered, Sota::WaitingForSlot { place }) => line(format!(
            "the notification did not arrive: slot in cell {} given back",
            place.cell
        )),
        (Event::SlotGranted, Sota::Downloading { place, .. }) => asking(
            format!("slot in cell {} granted", place.cell),
            format!(
                "notified of \"{}\" (PCP 20), {} segments of {} bytes, check code 0x{:04x}",
                package.version,
                cut.segment_count(),
                cut.segment_size(),
                package.check_code
            ),
        ),
        (Event::SegmentRequested(segment), Sota::Executing { .. }) => line(format!(
            "downloads again, from segment {segment}: the command is void"
        )),
        (Event::SegmentRequested(segment), _) => line(format!(
            "accepted: asks for segment {segment} of {}",
            cut.segment_count()
        )),
        (Event::NotificationAnswered(ResultCode::SUCCESS, _), _) => {
            line("accepted the new version (PCP 20)")
        }
        (Event::NotificationAnswered(code, _), _) => asking(
            format!("answered the new version (PCP 20) with {code}"),
            VERSION_RUN,
        ),
        (Event::DownloadReported(_), Sota::Executing { .. })
            if before.stage() == Some(Stage::Downloading) =>
        {
            asking("downloaded (PCP 22)", "told to upgrade (PCP 23)")
        }
        (Event::DownloadReported(_), Sota::Executing { .. }) => asking(
            "reported the download again (PCP 22)",
            "told to upgrade again (PCP 23)",
        ),
        (Event::ExecuteDelivered, _) => line("has the command to upgrade"),
        (Event::ExecuteAnswered(_), _) => line("accepted the command to upgrade (PCP 23)"),
        (Event::UpgradeReported(ResultCode::SUCCESS, version, _), _) if version != rules.target => {
            line(format!(
                "reported success in the name of \"{version}\" (PCP 24): its restart is waited for"
            ))
        }
        (Event::UpgradeReported(code, version, _), _) => asking(
            format!("reported {code} in the name of \"{version}\" (PCP 24)"),
            VERSION_RUN,
        ),
        (Event::VersionAnswered(_, Some(version), _), Sota::Executing { .. }) => asking(
            format!("says \"{version}\", and never confirmed the command"),
            "told to upgrade again (PCP 23)",
        ),
        _ => return None,
    })
}
