mod claims;

use std::{fmt::Write, time::Duration};

use pcp::ResultCode;
use proptest::prelude::*;

use super::*;
use crate::{
    clock::{Now, UtcMillis},
    config::{AdmissionConfig, UpgradeConfig},
    ledger::{FailedIn, Lane, Protocol, ReportedFailure, UpdateObject},
    package::Version,
    upgrade::transfer::pcp::{MAX_COMMANDS, PcpInput},
};

const OLD: &str = "V1.0";
const TARGET: &str = "V2.0";

fn version(text: &str) -> Version {
    Version::new(text).unwrap()
}

struct Settings {
    upgrade: UpgradeConfig,
    admission: AdmissionConfig,
}

impl Settings {
    fn new() -> Self {
        Self {
            upgrade: UpgradeConfig::default(),
            admission: AdmissionConfig::default(),
        }
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            target: version(TARGET),
            upgrade: &self.upgrade,
            admission: &self.admission,
            protocol: Protocol::Lwm2m,
            object: UpdateObject::Pcp,
            version_decides: false,
            ran: None,
            counted: true,
            connections_told: true,
            home: None,
        }
    }
}

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1_000)
}

/// An upgrade that is driven by hand.
struct Drive {
    settings: Settings,
    now: Instant,
    state: Negotiation,
    actions: Vec<Action>,
}

impl Drive {
    fn begin() -> Self {
        let settings = Settings::new();
        let state = Negotiation::begin(at(0), &settings.rules());
        Self {
            settings,
            now: at(0),
            state,
            actions: Vec::new(),
        }
    }

    fn on(mut self, event: Input) -> Self {
        let rules = self.settings.rules();
        let (state, actions) = self.state.on(self.now, event, &rules);
        self.state = state;
        self.actions = actions;
        self
    }

    fn after(mut self, seconds: u64) -> Self {
        self.now = self.now + Duration::from_secs(seconds);
        self
    }

    /// Lets time pass to the next deadline and reach it.
    fn next(mut self) -> Self {
        let (deadline, at) = self.state.next_deadline().unwrap();
        self.now = at;
        self.on(Input::Reached(deadline))
    }

    fn queried(self) -> Self {
        self.on(Input::Heard).on(says(OLD))
    }

    fn waiting(self) -> Self {
        self.queried().on(Input::CoverageAnswered(Some(good())))
    }

    fn downloading(self) -> Self {
        self.waiting().on(Input::SlotGranted)
    }

    fn executing(self) -> Self {
        self.downloading()
            .on(Input::Pcp(PcpInput::DownloadReported(ResultCode::SUCCESS)))
    }

    fn outcome(&self) -> &Outcome {
        match &self.state {
            Negotiation::Ended(outcome) => outcome,
            other => panic!("has not ended: {other:?}"),
        }
    }

    fn failure(&self) -> &Failure {
        match self.outcome() {
            Outcome::Failed(failure) => failure,
            other => panic!("has not failed: {other:?}"),
        }
    }
}

/// Its answer to the version query, against which nothing speaks.
fn says(text: &str) -> Input {
    says_with(text, Credence::Sound)
}

fn says_with(text: &str, credence: Credence) -> Input {
    Input::VersionAnswered(ResultCode::SUCCESS, Some(version(text)), credence)
}

fn reports(code: ResultCode, text: &str) -> Input {
    Input::Pcp(PcpInput::UpgradeReported(
        code,
        version(text),
        Credence::Unproven,
    ))
}

fn install_failed() -> ReportedFailure {
    ReportedFailure {
        failed_in: FailedIn::Installation,
        code: ResultCode::INSTALL_FAILED,
    }
}

const REGISTERED: Input = Input::Registered { restarted: true };

fn good() -> Coverage {
    Coverage {
        cell: Some(7),
        rsrp_dbm: Some(-90),
        sinr_db: Some(15),
    }
}

fn every_event() -> Vec<Input> {
    let low_battery = ResultCode::LOW_BATTERY;
    let no_cell = Coverage {
        cell: None,
        ..good()
    };
    vec![
        REGISTERED,
        Input::Registered { restarted: false },
        Input::Restarted,
        Input::Heard,
        says(TARGET),
        says_with(TARGET, Credence::Unproven),
        says_with(TARGET, Credence::Premature),
        says_with(TARGET, Credence::Refuted(install_failed())),
        says(OLD),
        Input::VersionAnswered(ResultCode::INTERNAL_ERROR, None, Credence::Sound),
        Input::CoverageAnswered(Some(good())),
        Input::CoverageAnswered(Some(no_cell)),
        Input::CoverageAnswered(None),
        Input::CellAnswered(Some(7)),
        Input::CellAnswered(None),
        Input::MeasureAnew,
        Input::SlotGranted,
        Input::Pcp(PcpInput::NotificationAnswered(
            ResultCode::SUCCESS,
            Credence::Sound,
        )),
        Input::Pcp(PcpInput::NotificationAnswered(low_battery, Credence::Sound)),
        Input::Pcp(PcpInput::NotificationAnswered(
            ResultCode::ALREADY_LATEST,
            Credence::Sound,
        )),
        Input::Pcp(PcpInput::NotificationAnswered(
            ResultCode::ALREADY_LATEST,
            Credence::Premature,
        )),
        Input::Pcp(PcpInput::NotificationUndelivered),
        Input::Pcp(PcpInput::SegmentRequested(3)),
        Input::Pcp(PcpInput::DownloadReported(ResultCode::SUCCESS)),
        Input::Pcp(PcpInput::DownloadReported(ResultCode::CHECK_FAILED)),
        Input::Pcp(PcpInput::ExecuteDelivered),
        Input::Pcp(PcpInput::ExecuteAnswered(ResultCode::SUCCESS)),
        Input::Pcp(PcpInput::ExecuteAnswered(ResultCode::DOWNLOAD_TIMED_OUT)),
        Input::Pcp(PcpInput::ExecuteAnswered(low_battery)),
        reports(ResultCode::SUCCESS, TARGET),
        Input::Pcp(PcpInput::UpgradeReported(
            ResultCode::SUCCESS,
            version(TARGET),
            Credence::Refuted(install_failed()),
        )),
        reports(ResultCode::SUCCESS, OLD),
        reports(ResultCode::INSTALL_FAILED, OLD),
        reports(ResultCode::INSTALL_FAILED, TARGET),
        Input::NotSupported,
        Input::Reached(Deadline::DeviceHeard),
        Input::Reached(Deadline::Version),
        Input::Reached(Deadline::Coverage),
        Input::Reached(Deadline::Cell),
        Input::Reached(Deadline::Slot),
        Input::Reached(Deadline::Download),
        Input::Reached(Deadline::Execution),
        Input::Reached(Deadline::RepeatQuestion),
        Input::Reached(Deadline::Nudge),
        Input::Reached(Deadline::ResultGrace),
        Input::Stopped(StopReason::TaskStopped),
        Input::Stopped(StopReason::Cancelled),
        Input::Stopped(StopReason::DeviceRemoved),
    ]
}

/// Every state that differs in what an event does to it.
fn every_state() -> Vec<(&'static str, Negotiation)> {
    vec![
        ("waiting_for_device", Drive::begin().state),
        ("querying_version", Drive::begin().on(Input::Heard).state),
        ("querying_coverage", Drive::begin().queried().state),
        (
            "querying_cell",
            Drive::begin()
                .queried()
                .on(Input::CoverageAnswered(None))
                .state,
        ),
        ("waiting_for_slot", Drive::begin().waiting().state),
        (
            "querying_coverage (anew)",
            Drive::begin().waiting().on(Input::MeasureAnew).state,
        ),
        (
            "querying_cell (anew)",
            Drive::begin()
                .waiting()
                .on(Input::MeasureAnew)
                .on(Input::CoverageAnswered(None))
                .state,
        ),
        ("downloading", Drive::begin().downloading().state),
        (
            "downloading (accepted)",
            Drive::begin()
                .downloading()
                .on(Input::Pcp(PcpInput::SegmentRequested(0)))
                .state,
        ),
        ("executing", Drive::begin().executing().state),
        (
            "executing (asked)",
            Drive::begin()
                .executing()
                .on(Input::Reached(Deadline::ResultGrace))
                .state,
        ),
        (
            "executing (delivered, asked)",
            Drive::begin()
                .executing()
                .on(Input::Pcp(PcpInput::ExecuteDelivered))
                .on(Input::Reached(Deadline::ResultGrace))
                .state,
        ),
        (
            "executing (reported early)",
            Drive::begin()
                .executing()
                .on(reports(ResultCode::SUCCESS, OLD))
                .state,
        ),
        (
            "executing (reported a failure of the target, asked twice)",
            Drive::begin()
                .executing()
                .on(reports(ResultCode::INSTALL_FAILED, TARGET))
                .on(says_with(TARGET, Credence::Refuted(install_failed())))
                .on(Input::Reached(Deadline::ResultGrace))
                .state,
        ),
        (
            "ended",
            Negotiation::Ended(Outcome::Cancelled(Cancellation::TaskStopped)),
        ),
    ]
}

#[test]
fn transition_table() {
    let settings = Settings::new();
    let mut table = String::new();
    for (name, state) in every_state() {
        writeln!(table, "{name}").unwrap();
        for event in every_event() {
            let (next, actions) = state.clone().on(at(0), event, &settings.rules());
            if next == state && actions.is_empty() {
                continue;
            }
            let next = match &next {
                Negotiation::Ended(outcome) => format!("{}: {}", outcome.state(), outcome.reason()),
                same if same.stage() == state.stage() => "·".to_owned(),
                other => other.stage().unwrap().name().to_owned(),
            };
            write!(table, "    {event:?} -> {next}").unwrap();
            if !actions.is_empty() {
                write!(table, " {actions:?}").unwrap();
            }
            table.push('\n');
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn the_same_version_is_nothing_to_do() {
    let drive = Drive::begin().on(Input::Heard);
    let drive = drive.on(says(TARGET));
    assert_eq!(
        *drive.outcome(),
        Outcome::Succeeded(Success::AlreadyCurrent)
    );
}

#[test]
fn asks_for_the_version_again_before_the_limit() {
    let mut drive = Drive::begin().on(Input::Heard);
    for _ in 0..2 {
        drive = drive.next();
        assert_eq!(drive.actions, [Action::AskVersion]);
    }
    assert_eq!(*drive.next().failure(), Failure::VersionQueryTimedOut);
}

#[test]
fn measuring_anew_keeps_the_place_and_its_limit() {
    let before = Drive::begin().waiting();
    let place = *before.state.place().unwrap();
    let after = before
        .after(700)
        .on(Input::MeasureAnew)
        .after(5)
        .on(Input::CoverageAnswered(Some(Coverage {
            rsrp_dbm: Some(-112),
            ..good()
        })));
    let moved = after.state.place().unwrap();
    assert_eq!((moved.since, moved.until), (place.since, place.until));
    assert_eq!((place.limit, moved.limit), (50, 1));
}

#[test]
fn a_device_that_sleeps_while_it_is_measured_anew_goes_back_to_its_place() {
    let drive = Drive::begin().waiting().on(Input::MeasureAnew).next();
    assert_eq!(drive.state.stage(), Some(Stage::WaitingForSlot));
}

#[test]
fn the_slot_of_a_device_that_fell_asleep_is_given_back_a_few_times() {
    let mut drive = Drive::begin().waiting();
    for _ in 0..MAX_SLOTS_RETURNED {
        drive = drive
            .on(Input::SlotGranted)
            .on(Input::Pcp(PcpInput::NotificationUndelivered));
        assert_eq!(drive.state.stage(), Some(Stage::WaitingForSlot));
    }
    drive = drive
        .on(Input::SlotGranted)
        .on(Input::Pcp(PcpInput::NotificationUndelivered));
    assert_eq!(drive.state.stage(), Some(Stage::Downloading));
}

#[test]
fn a_quiet_download_is_nudged_with_growing_pauses_until_it_goes_on() {
    let mut drive = Drive::begin()
        .downloading()
        .on(Input::Pcp(PcpInput::SegmentRequested(4)));
    let mut pauses = Vec::new();
    for _ in 0..5 {
        let before = drive.now;
        drive = drive.next();
        assert_eq!(drive.actions, [Action::Offer]);
        pauses.push(drive.now.since(before).as_secs());
    }
    assert_eq!(pauses, [60, 120, 240, 480, 480]);
    // neither a renewal nor a request for the same segment is progress, and who asks keeps its slot
    let drive = drive
        .on(Input::Heard)
        .on(Input::Pcp(PcpInput::SegmentRequested(4)));
    let before = drive.now;
    let drive = drive.next();
    assert_eq!(drive.now.since(before).as_secs(), 480);
    assert_eq!(drive.actions, [Action::Offer]);
    let drive = Drive::begin()
        .downloading()
        .on(Input::Pcp(PcpInput::SegmentRequested(4)));
    let drive = drive
        .next()
        .next()
        .on(Input::Pcp(PcpInput::SegmentRequested(5)));
    let before = drive.now;
    let drive = drive.next();
    assert_eq!(drive.now.since(before).as_secs(), 60);
    let before = drive.now;
    assert_eq!(drive.next().now.since(before).as_secs(), 120);
}

#[test]
fn a_download_that_stands_still_gives_its_slot_to_the_next_and_fails_after_a_few() {
    let mut drive = Drive::begin()
        .downloading()
        .on(Input::Pcp(PcpInput::SegmentRequested(4)));
    let began = drive.now;
    for returned in 1..=MAX_SLOTS_RETURNED {
        while drive.state.stage() == Some(Stage::Downloading) {
            drive = drive.next();
        }
        assert_eq!(drive.state.stage(), Some(Stage::WaitingForSlot));
        let place = drive.state.place().unwrap();
        assert_eq!((place.slots_returned, place.since), (returned, at(0)));
        drive = drive.on(Input::SlotGranted);
        assert_eq!(drive.actions, [Action::Offer]);
    }
    assert_eq!(drive.now.since(began).as_secs(), 3 * 1_860);
    while !drive.state.has_ended() {
        drive = drive.next();
    }
    assert_eq!(*drive.failure(), Failure::DownloadStalled);
}

#[test]
fn a_device_that_registers_anew_in_mid_download_is_nudged_within_seconds() {
    let drive = Drive::begin()
        .downloading()
        .on(Input::Pcp(PcpInput::SegmentRequested(4)));
    let drive = drive.after(5).on(REGISTERED);
    let before = drive.now;
    let drive = drive.next();
    assert_eq!(drive.now.since(before).as_secs(), 10);
    assert_eq!(drive.actions, [Action::Offer]);
    // one that goes on by itself is left alone
    let drive = drive
        .on(REGISTERED)
        .after(5)
        .on(Input::Pcp(PcpInput::SegmentRequested(5)));
    let before = drive.now;
    assert_eq!(drive.next().now.since(before).as_secs(), 60);
}

#[test]
fn a_download_that_never_ends_names_the_segment_asked_for_last() {
    let mut drive = Drive::begin().downloading();
    let mut segment = 0;
    while !drive.state.has_ended() {
        segment += 1;
        drive = drive
            .on(Input::Pcp(PcpInput::SegmentRequested(segment)))
            .next();
    }
    assert_eq!(*drive.failure(), Failure::DownloadTimedOut(Some(segment)));
    assert_eq!(drive.now, at(3_600));
}

#[test]
fn asks_a_device_that_comes_back_without_a_result() {
    let back = Drive::begin()
        .executing()
        .on(Input::Pcp(PcpInput::ExecuteDelivered))
        .after(120)
        .on(REGISTERED);
    let asked = back.next();
    assert_eq!(asked.now, at(165));
    assert_eq!(asked.actions, [Action::AskVersion]);
    let old = asked.on(says(OLD));
    assert_eq!(*old.failure(), Failure::WrongVersion(version(OLD)));
}

#[test]
fn a_device_that_comes_back_at_the_last_moment_is_asked_at_once() {
    let silent = Drive::begin()
        .executing()
        .on(Input::Pcp(PcpInput::ExecuteDelivered));
    let silent = silent.next().next().next();
    assert_eq!(silent.now, at(1_740));
    let back = silent.after(30).on(REGISTERED);
    let asked = back.next();
    assert_eq!(asked.now, at(1_770));
    assert_eq!(asked.actions, [Action::AskVersion]);
}

#[test]
fn an_answer_from_before_the_command_does_not_count() {
    let drive = Drive::begin()
        .executing()
        .on(Input::Pcp(PcpInput::ExecuteDelivered))
        .on(says(OLD));
    assert_eq!(drive.state.stage(), Some(Stage::Executing));
}

#[test]
fn a_device_that_never_got_the_command_is_commanded_again() {
    let mut drive = Drive::begin().executing();
    for _ in 1..MAX_COMMANDS {
        drive = drive.after(60).on(Input::Heard).next();
        drive = drive.on(says(OLD));
        assert_eq!(drive.actions, [Action::Command]);
    }
    let drive = drive.on(REGISTERED).next();
    let drive = drive.on(says(OLD));
    assert_eq!(*drive.failure(), Failure::WrongVersion(version(OLD)));
}

#[test]
fn a_silent_device_is_asked_once_more_before_the_execution_limit() {
    let asked = Drive::begin()
        .executing()
        .on(Input::Pcp(PcpInput::ExecuteDelivered))
        .next();
    assert_eq!(asked.actions, [Action::AskVersion]);
    assert_eq!(asked.now, at(1_800 - 180));
    let drive = asked.on(says(TARGET));
    assert!(drive.outcome().is_success());
}

/// What happens besides deadlines.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Input(Input),
    /// The server restarts, and goes on from what is stored.
    Restart,
}

fn turn() -> impl Strategy<Value = Turn> {
    let mut outside = every_event();
    outside.retain(|event| !matches!(event, Input::Reached(_) | Input::Stopped(_)));
    let outside = prop::sample::select(outside);
    let stopped = prop::sample::select(vec![
        StopReason::TaskStopped,
        StopReason::Cancelled,
        StopReason::DeviceRemoved,
    ]);
    prop_oneof![
        40 => outside.prop_map(Turn::Input),
        // what leads on: most of the others end an upgrade before it gets anywhere
        60 => prop::sample::select(vec![
            Input::Heard,
            says(OLD),
            Input::CoverageAnswered(Some(good())),
            Input::SlotGranted,
            Input::Pcp(PcpInput::NotificationUndelivered),
            Input::Pcp(PcpInput::SegmentRequested(0)),
            Input::Pcp(PcpInput::DownloadReported(ResultCode::SUCCESS)),
        ]).prop_map(Turn::Input),
        3 => Just(Turn::Restart),
        1 => stopped.prop_map(|reason| Turn::Input(Input::Stopped(reason))),
    ]
}

impl Drive {
    /// As the engine stores it and gives it back.
    fn restart(mut self) -> Self {
        let utc = |at: Instant| UtcMillis(i64::try_from(at.as_millis()).unwrap());
        let now = Now {
            instant: self.now,
            utc: utc(self.now),
        };
        let place = self.state.place();
        let stored = Stored {
            whole: false,
            begun: false,
            stage: self.state.stage().unwrap(),
            deadline_at: utc(self.state.until().unwrap().1),
            queued_at: place.map(|place| utc(place.since)),
            slot_deadline_at: place.map(|place| utc(place.until)),
            cell: place.and_then(Place::cell),
            cell_limit: place.map_or(1, |place| place.limit),
            confirmed: self.state.is_confirmed(),
            download_errors: self.state.download_errors(),
            segment: None,
            coverage: Coverage::default(),
            evidence: None,
        };
        (self.state, self.actions) = Negotiation::resume(now, &stored, &self.settings.rules());
        self
    }
}

/// The stages that may follow one, besides itself; from each an upgrade may end.
fn followers(stage: Stage) -> &'static [Stage] {
    match stage {
        Stage::WaitingForDevice => &[Stage::QueryingVersion],
        Stage::QueryingVersion => &[Stage::QueryingCoverage],
        Stage::QueryingCoverage => &[Stage::QueryingCell, Stage::WaitingForSlot],
        Stage::QueryingCell => &[Stage::WaitingForSlot],
        Stage::WaitingForSlot => &[Stage::QueryingCoverage, Stage::Downloading],
        Stage::Downloading => &[Stage::WaitingForSlot, Stage::Executing],
        Stage::Executing => &[],
    }
}

/// What one event may change.
fn check_step(before: &Negotiation, event: Input, after: &Negotiation, actions: &[Action]) {
    let from = before.stage().unwrap();
    let Some(to) = after.stage() else {
        assert!(actions.is_empty(), "nothing is done for what has ended");
        return check_outcome(before, event, after);
    };
    assert!(
        to == from || followers(from).contains(&to),
        "{from:?} -> {to:?} by {event:?}"
    );
    if to == from {
        assert_eq!(
            before.until(),
            after.until(),
            "{event:?} moves the limit of {from:?}"
        );
    }
    if to.holds_slot() && !from.holds_slot() {
        assert_eq!(event, Input::SlotGranted, "takes a slot that nobody gave");
    }
    if from.holds_slot() && !to.holds_slot() {
        let quiet = [
            Input::Pcp(PcpInput::NotificationUndelivered),
            Input::Reached(Deadline::Nudge),
        ];
        assert!(quiet.contains(&event), "gives its slot back");
    }
    if let Some(place) = before.place() {
        let kept = after.place().expect("a place is kept to the end");
        assert_eq!(
            (kept.since, kept.until),
            (place.since, place.until),
            "{event:?}"
        );
        assert!(kept.slots_returned <= MAX_SLOTS_RETURNED);
        assert!(
            !from.holds_slot() || kept.lane == place.lane,
            "a slot is of one cell"
        );
    }
    let asked = |action: &Action| match action {
        Action::AskVersion => to != Stage::WaitingForDevice,
        Action::ReadCoverage => to == Stage::QueryingCoverage,
        Action::ReadCell => to == Stage::QueryingCell,
        Action::Offer | Action::TellPackage => to == Stage::Downloading,
        Action::Command => to == Stage::Executing,
        // they are of the other transfers
        Action::Look | Action::Reset(_) | Action::Activate => false,
    };
    assert!(actions.iter().all(asked), "{actions:?} in {to:?}");
}

/// Success is what the device has said, at the latest before the limit that runs out; a stop is never one.
fn check_outcome(before: &Negotiation, event: Input, ended: &Negotiation) {
    let from = before.stage().unwrap();
    let Negotiation::Ended(outcome) = ended else {
        panic!("{ended:?} has no stage");
    };
    let target = Some(version(TARGET));
    // Of what it says, whether it is a reason to believe it, and whether it is one at once.
    let (believed, at_once) = match event {
        Input::VersionAnswered(_, said, credence) => (
            said == target && matches!(credence, Credence::Sound | Credence::Unproven),
            said == target && credence == Credence::Sound && before.takes_answers(),
        ),
        Input::Pcp(PcpInput::UpgradeReported(ResultCode::SUCCESS, said, credence)) => {
            let sound = matches!(credence, Credence::Sound | Credence::Unproven);
            (Some(said) == target && sound, Some(said) == target && sound)
        }
        Input::Reached(Deadline::Execution) => (before.is_claimed(), false),
        _ => (false, false),
    };
    assert!(believed || !outcome.is_success(), "{event:?}");
    assert!(outcome.is_success() || !at_once, "{event:?}");
    if *outcome == Outcome::Succeeded(Success::AlreadyCurrent) {
        assert_ne!(from, Stage::Executing, "it was upgraded then");
    }
    let cancelled = match outcome {
        Outcome::Cancelled(Cancellation::TaskStopped) => Some(StopReason::TaskStopped),
        Outcome::Cancelled(Cancellation::Upgrade) => Some(StopReason::Cancelled),
        Outcome::Cancelled(
            Cancellation::Expired
            | Cancellation::Skipped
            | Cancellation::Refused
            | Cancellation::NotReached,
        ) => {
            panic!("that is the planner's to say")
        }
        Outcome::Cancelled(Cancellation::TakenBack) => {
            assert!(event == Input::WindowEnded && from != Stage::Executing);
            None
        }
        Outcome::Cancelled(Cancellation::NoPackage | Cancellation::Downgrade) => {
            panic!("that is chosen before")
        }
        Outcome::Succeeded(_) | Outcome::Failed(_) => None,
    };
    let stopped = match event {
        Input::Stopped(reason) if reason != StopReason::DeviceRemoved => Some(reason),
        _ => None,
    };
    assert_eq!(cancelled, stopped, "{event:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever a device does, and however often the server restarts: its upgrade goes from stage to stage
    /// in order and ends once, within the sum of the limits.
    #[test]
    fn any_order_of_events_ends_once(turns in prop::collection::vec((0u64..40_000, turn()), 0..100)) {
        let mut drive = Drive::begin();
        let mut turns = turns.into_iter().peekable();
        // 24 h + 3 × 3 min + a week and a half hour of measuring anew + (60 min, given back thrice) + 30 min
        let bound = at((24 + 7 * 24 + 8) * 3_600);
        let mut at_once = 0;
        while let Some((deadline, due)) = drive.state.next_deadline() {
            let next = turns.peek().map(|(pause, _)| drive.now + Duration::from_millis(*pause));
            let event = match next {
                Some(then) if then < due => {
                    at_once = 0;
                    drive.now = then;
                    match turns.next().unwrap().1 {
                        Turn::Input(event) => event,
                        Turn::Restart => {
                            let before = drive.state.clone();
                            drive = drive.restart();
                            prop_assert_eq!(before.stage(), drive.state.stage());
                            prop_assert_eq!(before.until(), drive.state.until());
                            continue;
                        }
                    }
                }
                _ => {
                    at_once = if due <= drive.now { at_once + 1 } else { 0 };
                    prop_assert!(at_once <= 2, "{deadline:?} is due again and again");
                    drive.now = due.max(drive.now);
                    Input::Reached(deadline)
                }
            };
            let before = drive.state.clone();
            drive = drive.on(event);
            check_step(&before, event, &drive.state, &drive.actions);
            prop_assert!(drive.now < bound);
        }
        prop_assert!(drive.state.has_ended());
        for event in every_event() {
            let after = Drive { state: drive.state.clone(), ..Drive::begin() }.on(event);
            prop_assert_eq!(&after.state, &drive.state, "an outcome is the last word");
            prop_assert!(after.actions.is_empty());
        }
    }
}

#[test]
fn a_device_that_has_not_restarted_is_asked_twice_before_it_has_failed() {
    let old = || says(OLD);
    let drive = Drive::begin()
        .executing()
        .on(Input::Pcp(PcpInput::ExecuteDelivered))
        .on(Input::Heard)
        .next()
        .on(old());
    assert_eq!(drive.state.stage(), Some(Stage::Executing));
    let drive = drive.next();
    assert_eq!(drive.actions, [Action::AskVersion]);
    assert_eq!(
        *drive.on(old()).failure(),
        Failure::WrongVersion(version(OLD))
    );
}

#[test]
fn a_device_that_calls_the_version_its_own_is_asked_again() {
    let drive = Drive::begin()
        .downloading()
        .on(Input::Pcp(PcpInput::NotificationAnswered(
            ResultCode::ALREADY_LATEST,
            Credence::Sound,
        )));
    assert_eq!(drive.actions, [Action::AskVersion]);
    // it may say so twice, and nothing but its version counts
    let drive = drive.on(Input::Pcp(PcpInput::NotificationAnswered(
        ResultCode::ALREADY_LATEST,
        Credence::Sound,
    )));
    let refused = drive.on(says(OLD));
    assert_eq!(
        *refused.failure(),
        Failure::NotificationRefused(ResultCode::ALREADY_LATEST)
    );
}

#[test]
fn coverage_that_is_told_late_counts_for_the_place_in_the_queue() {
    let poor = Coverage {
        cell: None, // as when the values are read one by one
        rsrp_dbm: Some(-112),
        sinr_db: Some(-8),
    };
    let place = |drive: &Drive| *drive.state.place().unwrap();
    let drive = Drive::begin().waiting();
    let before = place(&drive);
    let drive = drive
        .on(Input::MeasureAnew)
        .next()
        .on(Input::CoverageAnswered(Some(poor)));
    assert_eq!(drive.state.stage(), Some(Stage::WaitingForSlot));
    assert_eq!(place(&drive), Place { limit: 1, ..before });
    let drive = drive.on(Input::CellAnswered(Some(8)));
    let unmeasured = Place {
        lane: Lane::Cell(8),
        limit: 10,
        ..before
    };
    assert_eq!(place(&drive), unmeasured);
}

#[test]
fn coverage_that_is_told_without_its_cell_counts_when_the_cell_is_never_told() {
    let poor = Coverage {
        cell: None,
        rsrp_dbm: Some(-112),
        sinr_db: Some(-8),
    };
    let drive = Drive::begin()
        .waiting()
        .on(Input::MeasureAnew)
        .on(Input::CoverageAnswered(Some(poor)));
    assert_eq!(drive.state.stage(), Some(Stage::QueryingCell));
    let drive = drive.next();
    assert_eq!(drive.state.stage(), Some(Stage::WaitingForSlot));
    assert_eq!(drive.state.place().unwrap().limit, 1);
}
