//! What the timeline of an upgrade says of a step.

use pcp::ResultCode;

use super::device::{Session, slot_in};
use crate::{
    ledger::{Asked, Deadline, Happened, Line, Question, Stage},
    upgrade::{Action, Event, Rules, Sota},
};

/// What a device is asked once more because the server was restarted.
pub(super) fn asked_again(action: Action) -> Line {
    let question = match action {
        Action::AskVersion => Question::Version,
        Action::ReadCoverage => Question::Coverage,
        Action::ReadCell => Question::Cell,
        Action::Notify => Question::ToDownload,
        Action::Execute => Question::ToUpgrade,
    };
    let asked = Asked::AfterServerRestart { question };
    Line::asking(Happened::Asked, asked, None)
}

/// The line for a step, `None` when it is not worth one.
pub(super) fn of(
    event: Event,
    before: &Sota,
    session: &Session,
    rules: &Rules<'_>,
) -> Option<Line> {
    if slot_in(before).is_none() && slot_in(&session.sota).is_none() {
        up_to_the_slot(event, session, rules)
    } else {
        with_the_slot(event, before, session, rules)
    }
}

fn up_to_the_slot(event: Event, session: &Session, rules: &Rules<'_>) -> Option<Line> {
    // Of a stage in whose midst the server was restarted nobody knows.
    let number = session.account.tries;
    let registered = matches!(event, Event::Registered { .. });
    Some(match (event, &session.sota) {
        (Event::Reached(Deadline::RepeatQuestion), _) => {
            Line::asking(Happened::NoAnswer, Asked::VersionAgain, number)
        }
        (_, Sota::QueryingVersion { .. }) if registered => {
            Line::asking(Happened::Registered, Asked::Version, number)
        }
        (_, Sota::QueryingVersion { .. }) => Line::asking(Happened::Heard, Asked::Version, None),
        (Event::MeasureAnew, _) => {
            Line::asking(Happened::CoverageOutdated, Asked::CoverageAgain, None)
        }
        (_, Sota::QueryingCoverage { .. }) if registered => {
            Line::asking(Happened::Registered, Asked::CoverageAgain, number)
        }
        (_, Sota::QueryingCell { .. }) if registered => {
            Line::asking(Happened::Registered, Asked::CellAgain, number)
        }
        (Event::VersionAnswered(_, Some(version), _), Sota::QueryingCoverage { .. }) => {
            let target = rules.target;
            let happened = if version == target {
                Happened::NotBelieved { version }
            } else {
                Happened::RunsOtherVersion { version, target }
            };
            Line::asking(happened, Asked::Coverage, None)
        }
        (Event::Reached(Deadline::Coverage), Sota::QueryingCell { .. }) => {
            Line::asking(Happened::NoCoverage, Asked::Cell, None)
        }
        (_, Sota::QueryingCell { .. }) => Line::asking(Happened::CellNotTold, Asked::Cell, None),
        (Event::Reached(_), Sota::WaitingForSlot { place }) => {
            Happened::NotMeasured { cell: place.cell }.into()
        }
        (Event::CoverageAnswered(_) | Event::CellAnswered(_), Sota::WaitingForSlot { place }) => {
            let (cell, limit) = (place.cell, place.limit);
            Happened::Queued { cell, limit }.into()
        }
        _ => return None,
    })
}

fn with_the_slot(
    event: Event,
    before: &Sota,
    session: &Session,
    rules: &Rules<'_>,
) -> Option<Line> {
    let number = session.account.tries;
    let offer = &session.package.pcp.offer;
    Some(match (event, &session.sota) {
        (Event::Reached(Deadline::ResultGrace), Sota::Executing { .. }) => {
            Line::asking(Happened::NoResult, Asked::Version, None)
        }
        (Event::Reached(Deadline::Nudge), Sota::Downloading { segment, .. }) => {
            let segment = *segment;
            Line::asking(Happened::Quiet { segment }, Asked::ToDownloadAgain, number)
        }
        (Event::Reached(Deadline::Nudge), Sota::WaitingForSlot { place }) => {
            let (cell, nudges) = (place.cell, rules.upgrade.max_nudges);
            Happened::SlotReturnedQuiet { cell, nudges }.into()
        }
        (Event::NotificationUndelivered, Sota::WaitingForSlot { place }) => {
            Happened::SlotReturnedUndelivered { cell: place.cell }.into()
        }
        (Event::SlotGranted, Sota::Downloading { place, .. }) => Line::asking(
            Happened::SlotGranted { cell: place.cell },
            Asked::ToDownload {
                new_version: session.package.version,
                segments: offer.segmentation.segment_count(),
                segment_size: offer.segmentation.segment_size(),
                check_code: offer.check_code,
            },
            None,
        ),
        (Event::SegmentRequested(segment), Sota::Executing { .. }) => {
            Happened::DownloadsAgain { segment }.into()
        }
        (Event::SegmentRequested(segment), _) => {
            let segments = offer.segmentation.segment_count();
            Happened::FirstSegment { segment, segments }.into()
        }
        (Event::NotificationAnswered(ResultCode::SUCCESS, _), _) => {
            Happened::VersionAccepted.into()
        }
        (Event::NotificationAnswered(code, _), _) => Line::asking(
            Happened::VersionDeclined { result: code.0 },
            Asked::WhichVersion,
            None,
        ),
        (Event::DownloadReported(_), Sota::Executing { .. })
            if before.stage() == Some(Stage::Downloading) =>
        {
            Line::asking(Happened::Downloaded, Asked::ToUpgrade, None)
        }
        (Event::DownloadReported(_), Sota::Executing { .. }) => {
            Line::asking(Happened::DownloadedAgain, Asked::ToUpgradeAgain, None)
        }
        (Event::ExecuteDelivered, _) => Happened::CommandDelivered.into(),
        (Event::ExecuteAnswered(_), _) => Happened::CommandAccepted.into(),
        (Event::UpgradeReported(ResultCode::SUCCESS, version, _), _) if version != rules.target => {
            Happened::SuccessOfOtherVersion { version }.into()
        }
        (Event::UpgradeReported(code, version, _), _) => Line::asking(
            Happened::UpgradeReported {
                result: code.0,
                version,
            },
            Asked::WhichVersion,
            None,
        ),
        (Event::VersionAnswered(_, Some(version), _), Sota::Executing { .. }) => Line::asking(
            Happened::CommandUnconfirmed { version },
            Asked::ToUpgradeAgain,
            None,
        ),
        _ => return None,
    })
}
