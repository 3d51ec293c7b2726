use std::fmt::Write;

use proptest::prelude::*;

use super::*;

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
    state: Sota,
    actions: Vec<Action>,
}

impl Drive {
    fn begin() -> Self {
        let settings = Settings::new();
        let state = Sota::begin(at(0), &settings.rules());
        Self {
            settings,
            now: at(0),
            state,
            actions: Vec::new(),
        }
    }

    fn on(mut self, event: Event) -> Self {
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
        self.on(Event::Reached(deadline))
    }

    fn queried(self) -> Self {
        self.on(Event::Heard).on(Event::VersionAnswered(
            ResultCode::SUCCESS,
            Some(version(OLD)),
        ))
    }

    fn waiting(self) -> Self {
        self.queried().on(Event::CoverageAnswered(Some(good())))
    }

    fn downloading(self) -> Self {
        self.waiting().on(Event::SlotGranted)
    }

    fn executing(self) -> Self {
        self.downloading()
            .on(Event::DownloadReported(ResultCode::SUCCESS))
    }

    fn outcome(&self) -> &Outcome {
        match &self.state {
            Sota::Ended(outcome) => outcome,
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

fn good() -> Coverage {
    Coverage {
        cell: Some(7),
        rsrp_dbm: Some(-90),
        sinr_db: Some(15),
    }
}

fn every_event() -> Vec<Event> {
    let low_battery = ResultCode::LOW_BATTERY;
    let no_cell = Coverage {
        cell: None,
        ..good()
    };
    vec![
        Event::Registered,
        Event::Heard,
        Event::VersionAnswered(ResultCode::SUCCESS, Some(version(TARGET))),
        Event::VersionAnswered(ResultCode::SUCCESS, Some(version(OLD))),
        Event::VersionAnswered(ResultCode::INTERNAL_ERROR, None),
        Event::CoverageAnswered(Some(good())),
        Event::CoverageAnswered(Some(no_cell)),
        Event::CoverageAnswered(None),
        Event::CellAnswered(Some(7)),
        Event::CellAnswered(None),
        Event::MeasureAnew,
        Event::SlotGranted,
        Event::NotificationAnswered(ResultCode::SUCCESS),
        Event::NotificationAnswered(low_battery),
        Event::NotificationUndelivered,
        Event::SegmentRequested(3),
        Event::DownloadReported(ResultCode::SUCCESS),
        Event::DownloadReported(ResultCode::CHECK_FAILED),
        Event::ExecuteDelivered,
        Event::ExecuteAnswered(ResultCode::SUCCESS),
        Event::ExecuteAnswered(ResultCode::DOWNLOAD_TIMED_OUT),
        Event::ExecuteAnswered(low_battery),
        Event::UpgradeReported(ResultCode::SUCCESS, version(TARGET)),
        Event::UpgradeReported(ResultCode::SUCCESS, version(OLD)),
        Event::UpgradeReported(ResultCode::INSTALL_FAILED, version(OLD)),
        Event::UpgradeReported(ResultCode::INSTALL_FAILED, version(TARGET)),
        Event::Reached(Deadline::DeviceHeard),
        Event::Reached(Deadline::Version),
        Event::Reached(Deadline::Coverage),
        Event::Reached(Deadline::Cell),
        Event::Reached(Deadline::Slot),
        Event::Reached(Deadline::Download),
        Event::Reached(Deadline::Execution),
        Event::Reached(Deadline::RepeatQuestion),
        Event::Reached(Deadline::Nudge),
        Event::Reached(Deadline::ResultGrace),
        Event::Stopped(StopReason::TaskStopped),
        Event::Stopped(StopReason::DeviceRemoved),
    ]
}

/// Every state that differs in what an event does to it.
fn every_state() -> Vec<(&'static str, Sota)> {
    vec![
        ("waiting_for_device", Drive::begin().state),
        ("querying_version", Drive::begin().on(Event::Heard).state),
        ("querying_coverage", Drive::begin().queried().state),
        (
            "querying_cell",
            Drive::begin()
                .queried()
                .on(Event::CoverageAnswered(None))
                .state,
        ),
        ("waiting_for_slot", Drive::begin().waiting().state),
        (
            "querying_coverage (anew)",
            Drive::begin().waiting().on(Event::MeasureAnew).state,
        ),
        (
            "querying_cell (anew)",
            Drive::begin()
                .waiting()
                .on(Event::MeasureAnew)
                .on(Event::CoverageAnswered(None))
                .state,
        ),
        ("downloading", Drive::begin().downloading().state),
        (
            "downloading (accepted)",
            Drive::begin()
                .downloading()
                .on(Event::SegmentRequested(0))
                .state,
        ),
        ("executing", Drive::begin().executing().state),
        (
            "executing (asked)",
            Drive::begin()
                .executing()
                .on(Event::Reached(Deadline::ResultGrace))
                .state,
        ),
        (
            "executing (delivered, asked)",
            Drive::begin()
                .executing()
                .on(Event::ExecuteDelivered)
                .on(Event::Reached(Deadline::ResultGrace))
                .state,
        ),
        ("ended", Sota::Ended(Outcome::Cancelled)),
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
                Sota::Ended(outcome) => format!("{}: {}", outcome.state(), outcome.reason()),
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
    let drive = Drive::begin().on(Event::Heard);
    let drive = drive.on(Event::VersionAnswered(
        ResultCode::SUCCESS,
        Some(version(TARGET)),
    ));
    assert_eq!(
        *drive.outcome(),
        Outcome::Succeeded(Success::AlreadyCurrent)
    );
}

#[test]
fn asks_for_the_version_again_before_the_limit() {
    let mut drive = Drive::begin().on(Event::Heard);
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
        .on(Event::MeasureAnew)
        .after(5)
        .on(Event::CoverageAnswered(Some(Coverage {
            rsrp_dbm: Some(-112),
            ..good()
        })));
    let moved = after.state.place().unwrap();
    assert_eq!((moved.since, moved.until), (place.since, place.until));
    assert_eq!((place.limit, moved.limit), (50, 1));
}

#[test]
fn a_device_that_sleeps_while_it_is_measured_anew_goes_back_to_its_place() {
    let drive = Drive::begin().waiting().on(Event::MeasureAnew).next();
    assert_eq!(drive.state.stage(), Some(Stage::WaitingForSlot));
}

#[test]
fn the_slot_of_a_device_that_fell_asleep_is_given_back_a_few_times() {
    let mut drive = Drive::begin().waiting();
    for _ in 0..MAX_SLOTS_RETURNED {
        drive = drive
            .on(Event::SlotGranted)
            .on(Event::NotificationUndelivered);
        assert_eq!(drive.state.stage(), Some(Stage::WaitingForSlot));
    }
    drive = drive
        .on(Event::SlotGranted)
        .on(Event::NotificationUndelivered);
    assert_eq!(drive.state.stage(), Some(Stage::Downloading));
}

#[test]
fn a_quiet_download_is_nudged_with_growing_pauses_until_it_goes_on() {
    let mut drive = Drive::begin().downloading().on(Event::SegmentRequested(4));
    let mut pauses = Vec::new();
    for _ in 0..5 {
        let before = drive.now;
        drive = drive.next();
        assert_eq!(drive.actions, [Action::Notify]);
        pauses.push(drive.now.since(before).as_secs());
    }
    assert_eq!(pauses, [60, 120, 240, 480, 480]);
    drive = drive.on(Event::SegmentRequested(5));
    let before = drive.now;
    assert_eq!(drive.next().now.since(before).as_secs(), 60);
}

#[test]
fn a_download_that_never_ends_names_the_segment_asked_for_last() {
    let mut drive = Drive::begin().downloading().on(Event::SegmentRequested(4));
    while !drive.state.has_ended() {
        drive = drive.next();
    }
    assert_eq!(*drive.failure(), Failure::DownloadTimedOut(Some(4)));
    assert_eq!(drive.now, at(3_600));
}

#[test]
fn asks_a_device_that_comes_back_without_a_result() {
    let back = Drive::begin()
        .executing()
        .on(Event::ExecuteDelivered)
        .after(120)
        .on(Event::Registered);
    let asked = back.next();
    assert_eq!(asked.now, at(165));
    assert_eq!(asked.actions, [Action::AskVersion]);
    let old = asked.on(Event::VersionAnswered(
        ResultCode::SUCCESS,
        Some(version(OLD)),
    ));
    assert_eq!(*old.failure(), Failure::WrongVersion(version(OLD)));
}

#[test]
fn an_answer_from_before_the_command_does_not_count() {
    let drive = Drive::begin()
        .executing()
        .on(Event::ExecuteDelivered)
        .on(Event::VersionAnswered(
            ResultCode::SUCCESS,
            Some(version(OLD)),
        ));
    assert_eq!(drive.state.stage(), Some(Stage::Executing));
}

#[test]
fn a_device_that_never_got_the_command_is_commanded_again() {
    let mut drive = Drive::begin().executing();
    for _ in 1..MAX_COMMANDS {
        drive = drive.after(60).on(Event::Heard).next();
        drive = drive.on(Event::VersionAnswered(
            ResultCode::SUCCESS,
            Some(version(OLD)),
        ));
        assert_eq!(drive.actions, [Action::Execute]);
    }
    let drive = drive.on(Event::Registered).next();
    let drive = drive.on(Event::VersionAnswered(
        ResultCode::SUCCESS,
        Some(version(OLD)),
    ));
    assert_eq!(*drive.failure(), Failure::WrongVersion(version(OLD)));
}

#[test]
fn a_silent_device_is_asked_once_more_before_the_execution_limit() {
    let asked = Drive::begin()
        .executing()
        .on(Event::ExecuteDelivered)
        .next();
    assert_eq!(asked.actions, [Action::AskVersion]);
    assert_eq!(asked.now, at(1_800 - 180));
    let drive = asked.on(Event::VersionAnswered(
        ResultCode::SUCCESS,
        Some(version(TARGET)),
    ));
    assert!(drive.outcome().is_success());
}

fn event() -> impl Strategy<Value = Event> {
    prop::sample::select(every_event()).prop_filter("from outside", |event| {
        !matches!(event, Event::Reached(_) | Event::Stopped(_))
    })
}

proptest! {
    /// Whatever a device does, its upgrade ends within the sum of the limits.
    #[test]
    fn any_order_of_events_ends(events in prop::collection::vec((0u64..40_000, event()), 0..200)) {
        let mut drive = Drive::begin();
        let mut events = events.into_iter().peekable();
        // 24 h + 3 × 3 min + a week and a half hour of measuring anew + (60 min, given back thrice) + 30 min
        let bound = at((24 + 7 * 24 + 8) * 3_600);
        while let Some((deadline, due)) = drive.state.next_deadline() {
            let next = events.peek().map(|(pause, _)| drive.now + Duration::from_millis(*pause));
            match next {
                Some(then) if then < due => {
                    let (_, event) = events.next().unwrap();
                    drive.now = then;
                    drive = drive.on(event);
                }
                _ => {
                    drive.now = due.max(drive.now);
                    drive = drive.on(Event::Reached(deadline));
                }
            }
            prop_assert!(drive.now < bound);
        }
        prop_assert!(drive.state.has_ended());
    }
}

#[test]
fn a_device_that_has_not_restarted_is_asked_twice_before_it_has_failed() {
    let old = || Event::VersionAnswered(ResultCode::SUCCESS, Some(version(OLD)));
    let drive = Drive::begin()
        .executing()
        .on(Event::ExecuteDelivered)
        .on(Event::Heard)
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
        .on(Event::NotificationAnswered(ResultCode::ALREADY_LATEST));
    assert_eq!(drive.actions, [Action::AskVersion]);
    let refused = drive.on(Event::VersionAnswered(
        ResultCode::SUCCESS,
        Some(version(OLD)),
    ));
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
        .on(Event::MeasureAnew)
        .next()
        .on(Event::CoverageAnswered(Some(poor)));
    assert_eq!(drive.state.stage(), Some(Stage::WaitingForSlot));
    assert_eq!(place(&drive), Place { limit: 1, ..before });
    let drive = drive.on(Event::CellAnswered(Some(8)));
    let unmeasured = Place {
        cell: 8,
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
        .on(Event::MeasureAnew)
        .on(Event::CoverageAnswered(Some(poor)));
    assert_eq!(drive.state.stage(), Some(Stage::QueryingCell));
    let drive = drive.next();
    assert_eq!(drive.state.stage(), Some(Stage::WaitingForSlot));
    assert_eq!(drive.state.place().unwrap().limit, 1);
}
