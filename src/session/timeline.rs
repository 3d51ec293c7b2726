//! What the timeline of an upgrade says of a step.

use pcp::ResultCode;

use super::Session;
use crate::{
    ledger::{Asked, Deadline, Happened, Line, Question, Stage},
    upgrade::{Action, Input, Negotiation, Rules, transfer::pcp::PcpInput},
};

/// What a device is asked once more because the server was restarted.
pub fn asked_again(action: Action) -> Line {
    let question = match action {
        Action::AskVersion => Question::Version,
        Action::ReadCoverage => Question::Coverage,
        Action::ReadCell => Question::Cell,
        Action::Offer => Question::ToDownload,
        Action::Command => Question::ToUpgrade,
    };
    let asked = Asked::AfterServerRestart { question };
    Line::asking(Happened::Asked, asked, None)
}

/// The line for a step, `None` when it is not worth one.
pub(super) fn of<X>(
    event: Input,
    before: &Negotiation,
    session: &Session<X>,
    rules: &Rules<'_>,
) -> Option<Line> {
    if before.slot().is_none() && session.negotiation().slot().is_none() {
        up_to_the_slot(event, session, rules)
    } else {
        with_the_slot(event, before, session, rules)
    }
}

fn up_to_the_slot<X>(event: Input, session: &Session<X>, rules: &Rules<'_>) -> Option<Line> {
    // Of a stage in whose midst the server was restarted nobody knows.
    let number = session.correspondence.tries;
    let registered = matches!(event, Input::Registered { .. });
    Some(match (event, session.negotiation()) {
        (Input::Reached(Deadline::RepeatQuestion), _) => {
            Line::asking(Happened::NoAnswer, Asked::VersionAgain, number)
        }
        (_, Negotiation::QueryingVersion { .. }) if registered => {
            Line::asking(Happened::Registered, Asked::Version, number)
        }
        (_, Negotiation::QueryingVersion { .. }) => {
            Line::asking(Happened::Heard, Asked::Version, None)
        }
        (Input::MeasureAnew, _) => {
            Line::asking(Happened::CoverageOutdated, Asked::CoverageAgain, None)
        }
        (_, Negotiation::QueryingCoverage { .. }) if registered => {
            Line::asking(Happened::Registered, Asked::CoverageAgain, number)
        }
        (_, Negotiation::QueryingCell { .. }) if registered => {
            Line::asking(Happened::Registered, Asked::CellAgain, number)
        }
        (Input::VersionAnswered(_, Some(version), _), Negotiation::QueryingCoverage { .. }) => {
            let target = rules.target;
            let happened = if version == target {
                Happened::NotBelieved { version }
            } else {
                Happened::RunsOtherVersion { version, target }
            };
            Line::asking(happened, Asked::Coverage, None)
        }
        (Input::Reached(Deadline::Coverage), Negotiation::QueryingCell { .. }) => {
            Line::asking(Happened::NoCoverage, Asked::Cell, None)
        }
        (_, Negotiation::QueryingCell { .. }) => {
            Line::asking(Happened::CellNotTold, Asked::Cell, None)
        }
        (Input::Reached(_), Negotiation::WaitingForSlot { place }) => {
            Happened::NotMeasured { cell: place.cell }.into()
        }
        (
            Input::CoverageAnswered(_) | Input::CellAnswered(_),
            Negotiation::WaitingForSlot { place },
        ) => {
            let (cell, limit) = (place.cell, place.limit);
            Happened::Queued { cell, limit }.into()
        }
        _ => return None,
    })
}

#[expect(clippy::too_many_lines, reason = "one match over all actions")]
fn with_the_slot<X>(
    event: Input,
    before: &Negotiation,
    session: &Session<X>,
    rules: &Rules<'_>,
) -> Option<Line> {
    let number = session.correspondence.tries;
    let offer = &session.package.pcp.offer;
    let after = session.negotiation();
    let cell = after.place()?.cell;
    Some(match (event, after.stage()) {
        (Input::Reached(Deadline::ResultGrace), Some(Stage::Executing)) => {
            Line::asking(Happened::NoResult, Asked::Version, None)
        }
        (Input::Reached(Deadline::Nudge), Some(Stage::Downloading)) => {
            let segment = after.segment();
            Line::asking(Happened::Quiet { segment }, Asked::ToDownloadAgain, number)
        }
        (Input::Reached(Deadline::Nudge), Some(Stage::WaitingForSlot)) => {
            let nudges = rules.upgrade.max_nudges;
            Happened::SlotReturnedQuiet { cell, nudges }.into()
        }
        (Input::Pcp(PcpInput::NotificationUndelivered), Some(Stage::WaitingForSlot)) => {
            Happened::SlotReturnedUndelivered { cell }.into()
        }
        (Input::SlotGranted, Some(Stage::Downloading)) => Line::asking(
            Happened::SlotGranted { cell },
            Asked::ToDownload {
                new_version: session.package.version,
                segments: offer.segmentation.segment_count(),
                segment_size: offer.segmentation.segment_size(),
                check_code: offer.check_code,
            },
            None,
        ),
        (Input::Pcp(PcpInput::SegmentRequested(segment)), Some(Stage::Executing)) => {
            Happened::DownloadsAgain { segment }.into()
        }
        (Input::Pcp(PcpInput::SegmentRequested(segment)), _) => {
            let segments = offer.segmentation.segment_count();
            Happened::FirstSegment { segment, segments }.into()
        }
        (Input::Pcp(PcpInput::NotificationAnswered(ResultCode::SUCCESS, _)), _) => {
            Happened::VersionAccepted.into()
        }
        (Input::Pcp(PcpInput::NotificationAnswered(code, _)), _) => Line::asking(
            Happened::VersionDeclined { result: code.0 },
            Asked::WhichVersion,
            None,
        ),
        (Input::Pcp(PcpInput::DownloadReported(_)), Some(Stage::Executing))
            if before.stage() == Some(Stage::Downloading) =>
        {
            Line::asking(Happened::Downloaded, Asked::ToUpgrade, None)
        }
        (Input::Pcp(PcpInput::DownloadReported(_)), Some(Stage::Executing)) => {
            Line::asking(Happened::DownloadedAgain, Asked::ToUpgradeAgain, None)
        }
        (Input::Pcp(PcpInput::ExecuteDelivered), _) => Happened::CommandDelivered.into(),
        (Input::Pcp(PcpInput::ExecuteAnswered(_)), _) => Happened::CommandAccepted.into(),
        (Input::Pcp(PcpInput::UpgradeReported(ResultCode::SUCCESS, version, _)), _)
            if version != rules.target =>
        {
            Happened::SuccessOfOtherVersion { version }.into()
        }
        (Input::Pcp(PcpInput::UpgradeReported(code, version, _)), _) => Line::asking(
            Happened::UpgradeReported {
                result: code.0,
                version,
            },
            Asked::WhichVersion,
            None,
        ),
        (Input::VersionAnswered(_, Some(version), _), Some(Stage::Executing)) => Line::asking(
            Happened::CommandUnconfirmed { version },
            Asked::ToUpgradeAgain,
            None,
        ),
        _ => return None,
    })
}
