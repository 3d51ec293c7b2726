//! What the timeline of an upgrade says of a step.

use pcp::ResultCode;

use super::{Exchange, Session};
use crate::{
    ledger::{Asked, Deadline, Happened, Home, Line, Question, Stage, UpdateObject},
    upgrade::{
        Action, Input, Negotiation, Place, Rules,
        transfer::{MqttInput, Transfer, object::ObjectInput, pcp::PcpInput},
    },
};

/// What a device is asked once more because the server was restarted.
pub fn asked_again(action: Action) -> Line {
    let question = match action {
        Action::AskVersion => Question::Version,
        Action::ReadCoverage => Question::Coverage,
        Action::ReadCell => Question::Cell,
        Action::Offer | Action::TellPackage => Question::ToDownload,
        Action::Command | Action::Activate => Question::ToUpgrade,
        Action::Look | Action::Reset(_) => Question::State,
    };
    let asked = Asked::AfterServerRestart { question };
    Line::asking(Happened::Asked, asked, None)
}

/// The line for a step, `None` when it is not worth one.
pub(super) fn of<X: Exchange>(
    event: Input,
    before: &Negotiation,
    session: &Session<X>,
    rules: &Rules<'_>,
    actions: &[Action],
) -> Option<Line> {
    if rules.protocol.is_mqtt() {
        let home = rules.home.and_then(Home::of);
        return match (event, session.negotiation(), home) {
            (_, after @ Negotiation::WaitingForSlot { .. }, Some(at)) => {
                (before.stage() != after.stage()).then(|| Happened::QueuedAt { at }.into())
            }
            (Input::SlotGranted, _, Some(at)) => Some(Line::asking(
                Happened::SlotGrantedAt { at },
                to_fetch(session),
                None,
            )),
            _ => over_mqtt(event, before, session, rules),
        };
    }
    if before.slot().is_none() && session.negotiation().slot().is_none() {
        let line = up_to_the_slot(event, session, rules);
        return line.map(|line| by_read(line, rules));
    }
    match rules.object {
        UpdateObject::Pcp => with_the_slot(event, before, session, rules),
        _ => by_object(event, before, session, rules, actions),
    }
}

/// A device without PCP is asked for its version by a read.
fn by_read(line: Line, rules: &Rules<'_>) -> Line {
    let asked = match line.asked {
        Some(Asked::Version | Asked::VersionAgain) if rules.object != UpdateObject::Pcp => {
            Some(Asked::ReadVersion)
        }
        other => other,
    };
    Line { asked, ..line }
}

/// The line for a step of a transfer by one of the standard's objects.
fn by_object<X: Exchange>(
    event: Input,
    before: &Negotiation,
    session: &Session<X>,
    rules: &Rules<'_>,
    actions: &[Action],
) -> Option<Line> {
    let (object, after) = (rules.object, session.negotiation());
    let offered = |transfer: &Transfer| transfer.offers() > 1;
    let asked = match actions.first() {
        Some(Action::Look) => Some(Asked::State),
        Some(Action::Reset(_)) => Some(Asked::ToReset),
        Some(Action::Offer) if after.transfer().is_some_and(offered) => Some(Asked::ToFetchAgain),
        Some(Action::Offer) => Some(to_fetch(session)),
        Some(Action::Command) => Some(Asked::ToInstall),
        Some(Action::Activate) => Some(Asked::ToActivate),
        Some(Action::AskVersion) => Some(Asked::ReadVersion),
        _ => None,
    };
    let told = after.transfer().and_then(Transfer::told_state);
    let cell = after.place().and_then(Place::cell);
    let happened = match event {
        Input::SlotGranted => Happened::SlotGranted { cell: cell? },
        Input::Object(ObjectInput::StateTold(state)) => Happened::StateTold { object, state },
        Input::Object(ObjectInput::ResultTold(result)) => Happened::ResultTold { object, result },
        Input::Object(ObjectInput::Looked) => match (told, asked.as_ref()) {
            (Some(0), Some(Asked::ToFetchAgain)) => Happened::ProgressLost,
            (Some(state), _) => Happened::StateTold { object, state },
            (None, _) => return None,
        },
        Input::Object(ObjectInput::CarriedOut(step)) => Happened::CarriedOut { step },
        Input::Object(ObjectInput::Fetched { .. }) => Happened::Fetches,
        Input::Object(ObjectInput::FetchedAll) => Happened::Fetched,
        Input::Object(ObjectInput::Undelivered) => {
            Happened::SlotReturnedUndelivered { cell: cell? }
        }
        Input::Registered { .. } => Happened::Registered,
        Input::VersionAnswered(_, Some(version), _) => Happened::StillRuns { version },
        Input::Reached(Deadline::Nudge) if before.slot().is_some() && after.slot().is_none() => {
            Happened::SlotReturnedUndelivered { cell: cell? }
        }
        Input::Reached(_) => Happened::NoAnswer,
        _ => return None,
    };
    Some(Line {
        asked,
        ..happened.into()
    })
}

/// What a device over MQTT is offered.
fn to_fetch<X: Exchange>(session: &Session<X>) -> Asked {
    Asked::ToFetch {
        new_version: session.package.version,
        size_bytes: session.package.size_bytes,
    }
}

/// The line for a step of an upgrade over MQTT.
#[expect(clippy::too_many_lines, reason = "one line for each step")]
fn over_mqtt<X: Exchange>(
    event: Input,
    before: &Negotiation,
    session: &Session<X>,
    rules: &Rules<'_>,
) -> Option<Line> {
    let number = session.correspondence.tries;
    let after = session.negotiation();
    let offered = before.transfer().is_some();
    let offer = || to_fetch(session);
    let target = rules.target;
    Some(match event {
        // these tell their version by themselves
        Input::Connected if rules.protocol.tells_by_itself() && offered => {
            Line::asking(Happened::Connected, Asked::ToFetchAgain, None)
        }
        Input::HeardAgain if rules.protocol.tells_by_itself() && offered => {
            Line::asking(Happened::Heard, Asked::ToFetchAgain, None)
        }
        Input::Connected if rules.protocol.tells_by_itself() => Happened::Connected.into(),
        Input::Heard | Input::HeardAgain if rules.protocol.tells_by_itself() => {
            Happened::Heard.into()
        }
        Input::Heard | Input::HeardAgain => {
            Line::asking(Happened::Heard, Asked::ReportVersion, None)
        }
        Input::Connected => Line::asking(Happened::Connected, Asked::ReportVersion, number),
        Input::Reached(Deadline::Nudge) if rules.protocol.tells_by_itself() => {
            Line::asking(Happened::Quiet { segment: None }, Asked::ToFetchAgain, None)
        }
        Input::Reached(Deadline::Nudge) => Line::asking(
            Happened::Quiet { segment: None },
            Asked::ReportVersion,
            None,
        ),
        Input::Reached(Deadline::RepeatQuestion) if after.transfer().is_some() => {
            Line::asking(Happened::VersionUnknown, offer(), None)
        }
        Input::Reached(Deadline::RepeatQuestion) => {
            Line::asking(Happened::NoAnswer, Asked::ReportVersion, number)
        }
        Input::VersionAnswered(_, None, _) => Line::asking(Happened::VersionUnknown, offer(), None),
        Input::VersionAnswered(_, Some(version), _) if offered && version != target => {
            Line::asking(Happened::StillRuns { version }, Asked::ToFetchAgain, None)
        }
        Input::VersionAnswered(_, Some(version), _) if offered => {
            Happened::ClaimNotShown { version }.into()
        }
        Input::VersionAnswered(_, Some(version), _) if version == target => {
            Line::asking(Happened::NotBelieved { version }, offer(), None)
        }
        Input::VersionAnswered(_, Some(version), _) => Line::asking(
            Happened::RunsOtherVersion { version, target },
            offer(),
            None,
        ),
        Input::Mqtt(said) => match said {
            _ if after.is_claimed() && !before.is_claimed() => {
                Happened::ClaimNotShown { version: target }.into()
            }
            MqttInput::Fetched { .. } => Happened::Fetches.into(),
            MqttInput::FetchedAll => Happened::Fetched.into(),
            MqttInput::Done { .. } => Happened::Through.into(),
            MqttInput::Progressed { percent, .. } => Happened::OnItsWay { percent }.into(),
            MqttInput::Confirmed => Happened::OnItsWay { percent: None }.into(),
            MqttInput::DownloadError | MqttInput::FailureReported(_) => return None,
        },
        _ => return None,
    })
}

fn up_to_the_slot<X: Exchange>(
    event: Input,
    session: &Session<X>,
    rules: &Rules<'_>,
) -> Option<Line> {
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
        (Input::Reached(_), Negotiation::WaitingForSlot { place }) => Happened::NotMeasured {
            cell: place.cell()?,
        }
        .into(),
        (
            Input::CoverageAnswered(_) | Input::CellAnswered(_),
            Negotiation::WaitingForSlot { place },
        ) => {
            let (cell, limit) = (place.cell()?, place.limit);
            Happened::Queued { cell, limit }.into()
        }
        _ => return None,
    })
}

#[expect(clippy::too_many_lines, reason = "one match over all actions")]
fn with_the_slot<X: Exchange>(
    event: Input,
    before: &Negotiation,
    session: &Session<X>,
    rules: &Rules<'_>,
) -> Option<Line> {
    let number = session.correspondence.tries;
    let offer = session.package.pcp_offer();
    let after = session.negotiation();
    let cell = after.place()?.cell()?;
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
        (Input::SlotGranted, Some(Stage::Downloading)) => match offer {
            Some(offer) => Line::asking(
                Happened::SlotGranted { cell },
                Asked::ToDownload {
                    new_version: session.package.version,
                    segments: offer.segmentation.segment_count(),
                    segment_size: offer.segmentation.segment_size(),
                    check_code: offer.check_code,
                },
                None,
            ),
            None => Happened::SlotGranted { cell }.into(),
        },
        (Input::Pcp(PcpInput::SegmentRequested(segment)), Some(Stage::Executing)) => {
            Happened::DownloadsAgain { segment }.into()
        }
        (Input::Pcp(PcpInput::SegmentRequested(segment)), _) => {
            let segments = offer?.segmentation.segment_count();
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
