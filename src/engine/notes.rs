//! What the timeline of an upgrade says.

use pcp::ResultCode;

use super::device::Session;
use crate::upgrade::{Deadline, Event, Rules, Sota, Stage};

/// The line for a step, `None` when it is not worth one.
pub(super) fn of(
    event: Event,
    before: &Sota,
    session: &Session,
    rules: &Rules<'_>,
) -> Option<String> {
    let package = &session.package.identity;
    let cut = package.segmentation;
    let tries = format_args!("try {}", session.account.tries);
    Some(match (event, &session.sota) {
        (Event::Reached(Deadline::ResultGrace), Sota::Executing { .. }) => {
            "no result (PCP 24) yet: asked for its version (PCP 19)".into()
        }
        (Event::Reached(Deadline::RepeatQuestion), _) => {
            format!("no answer yet: asked for its version again (PCP 19), {tries}")
        }
        (Event::Reached(Deadline::Nudge), Sota::Downloading { segment, .. }) => match segment {
            Some(segment) => {
                format!("quiet since segment {segment}: notified again (PCP 20), {tries}")
            }
            None => format!("quiet since the notification: notified again (PCP 20), {tries}"),
        },
        (Event::Registered, Sota::QueryingVersion { .. }) => {
            format!("registered: asked for its version (PCP 19), {tries}")
        }
        (_, Sota::QueryingVersion { .. }) => "heard: asked for its version (PCP 19)".into(),
        (Event::MeasureAnew, _) => {
            "coverage is too old to admit by: asked for it again (/4/0)".into()
        }
        (Event::Registered, Sota::QueryingCoverage { .. }) => {
            format!("registered: asked for its coverage again (/4/0), {tries}")
        }
        (Event::VersionAnswered(_, Some(version)), Sota::QueryingCoverage { .. }) => format!(
            "runs version {version}, not {}: asked for its coverage (/4/0)",
            rules.target
        ),
        (Event::Reached(Deadline::Coverage), Sota::QueryingCell { .. }) => {
            "no coverage within the limit: asked for its cell alone (/4/0/8)".into()
        }
        (_, Sota::QueryingCell { .. }) if session.account.not_understood.is_some() => {
            "what it tells of its coverage is not understood: asked for its cell alone (/4/0/8)"
                .into()
        }
        (_, Sota::QueryingCell { .. }) => {
            "does not tell its cell with its coverage: asked for it alone (/4/0/8)".into()
        }
        (Event::NotificationUndelivered, Sota::WaitingForSlot { place }) => format!(
            "the notification did not arrive: slot in cell {} given back",
            place.cell
        ),
        (Event::Reached(_), Sota::WaitingForSlot { place }) => format!(
            "not reached to measure its coverage anew: keeps its place in cell {}",
            place.cell
        ),
        (Event::CoverageAnswered(_) | Event::CellAnswered(_), Sota::WaitingForSlot { place }) => {
            format!(
                "in cell {}, where {} may upgrade at once by its coverage: waiting for a slot",
                place.cell, place.limit
            )
        }
        (Event::SlotGranted, Sota::Downloading { place, .. }) => format!(
            "slot in cell {} granted: notified of {} (PCP 20), {} segments of {} bytes, check code 0x{:04x}",
            place.cell,
            package.version,
            cut.segment_count(),
            cut.segment_size(),
            package.check_code
        ),
        (Event::SegmentRequested(segment), Sota::Executing { .. }) => {
            format!("downloads again, from segment {segment}: the command is void")
        }
        (Event::SegmentRequested(segment), _) => {
            format!(
                "accepted: asks for segment {segment} of {}",
                cut.segment_count()
            )
        }
        (Event::NotificationAnswered(ResultCode::SUCCESS), _) => {
            "accepted the new version (PCP 20)".into()
        }
        (Event::NotificationAnswered(code), _) => {
            format!("answered the new version (PCP 20) with {code}: asked which it runs (PCP 19)")
        }
        (Event::DownloadReported(_), Sota::Executing { .. })
            if before.stage() == Some(Stage::Downloading) =>
        {
            "downloaded (PCP 22): told to upgrade (PCP 23)".into()
        }
        (Event::DownloadReported(_), Sota::Executing { .. }) => {
            "reported the download again (PCP 22): told to upgrade again (PCP 23)".into()
        }
        (Event::ExecuteDelivered, _) => "has the command to upgrade".into(),
        (Event::ExecuteAnswered(_), _) => "accepted the command to upgrade (PCP 23)".into(),
        (Event::UpgradeReported(code, version), _) => {
            format!("reported {code}, yet version {version} (PCP 24): asked which it runs (PCP 19)")
        }
        (Event::VersionAnswered(_, Some(version)), Sota::Executing { .. }) => format!(
            "still runs {version} and never confirmed the command: told to upgrade again (PCP 23)"
        ),
        _ => return None,
    })
}
