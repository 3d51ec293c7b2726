use std::time::Duration;

use pcp::ResultCode;
use proptest::prelude::*;

use crate::{
    clock::Instant,
    config::{AdmissionConfig, UpgradeConfig},
    ledger::{
        Cancellation, Deadline, Failure, Lane, Outcome, Protocol, Refusal, Stage, StopReason,
        Success, UpdateObject,
    },
    package::Version,
    upgrade::{
        Action, Credence, Input, Negotiation, Rules,
        transfer::{MqttInput, Resumed},
    },
};

const OLD: &str = "V1.0";
const TARGET: &str = "V2.0";

fn version(text: &str) -> Version {
    Version::new(text).unwrap()
}

/// It tells its version: when it was asked, or by itself.
fn tells(text: &str) -> Input {
    Input::VersionAnswered(ResultCode::SUCCESS, Some(version(text)), Credence::Sound)
}

fn progress(percent: u8) -> Input {
    Input::Mqtt(MqttInput::Progressed {
        percent: Some(percent),
        as_target: false,
    })
}

/// Result 0 and the target version.
const FINAL: Input = Input::Mqtt(MqttInput::Progressed {
    percent: Some(100),
    as_target: true,
});
const FETCHED: Input = Input::Mqtt(MqttInput::Fetched {
    further: true,
    in_flight: false,
});
/// And more of it is on its way.
const FETCHING: Input = Input::Mqtt(MqttInput::Fetched {
    further: true,
    in_flight: true,
});
const FETCHED_ALL: Input = Input::Mqtt(MqttInput::FetchedAll);
/// It is asked, and offered it again, when it has been served nothing for so long.
const QUIET: Duration = Duration::from_mins(2);

const fn reports(code: i32) -> Input {
    Input::Mqtt(MqttInput::FailureReported(code))
}

const UPGRADED: Outcome = Outcome::Succeeded(Success::Upgraded);
const UNVERIFIED: Outcome = Outcome::Succeeded(Success::Unverified);

/// An upgrade that is driven by hand.
struct Drive {
    upgrade: UpgradeConfig,
    admission: AdmissionConfig,
    counted: bool,
    /// Its site or gateway.
    home: Option<Lane>,
    now: Instant,
    state: Negotiation,
    actions: Vec<Action>,
}

impl Drive {
    fn begin() -> Self {
        let mut drive = Self {
            upgrade: UpgradeConfig::default(),
            admission: AdmissionConfig::default(),
            counted: true,
            home: None,
            now: Instant::from_millis(0),
            state: Negotiation::Ended(UPGRADED),
            actions: Vec::new(),
        };
        drive.state = Negotiation::begin(drive.now, &drive.rules());
        drive
    }

    /// Packages are served by somebody else.
    fn uncounted() -> Self {
        Self {
            counted: false,
            ..Self::begin()
        }
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            target: version(TARGET),
            upgrade: &self.upgrade,
            admission: &self.admission,
            protocol: Protocol::Iotda,
            object: UpdateObject::Pcp,
            version_decides: false,
            ran: None,
            counted: self.counted,
            connections_told: true,
            home: self.home,
        }
    }

    fn on(mut self, event: Input) -> Self {
        let state = self.state.clone();
        (self.state, self.actions) = state.on(self.now, event, &self.rules());
        self
    }

    fn all(self, events: &[Input]) -> Self {
        events.iter().fold(self, |drive, event| drive.on(*event))
    }

    fn after(mut self, time: Duration) -> Self {
        self.now = self.now + time;
        self
    }

    /// Lets time pass to the next deadline and reach it.
    fn next(mut self) -> Self {
        let (deadline, at) = self.state.next_deadline().unwrap();
        self.now = at;
        self.on(Input::Reached(deadline))
    }

    fn offered(self) -> Self {
        self.all(&[Input::Connected, tells(OLD)])
    }

    fn stage(&self) -> Option<Stage> {
        self.state.stage()
    }

    #[track_caller]
    fn ends(&self, outcome: &Outcome) {
        assert_eq!(self.state, Negotiation::Ended(outcome.clone()));
    }

    #[track_caller]
    fn fails(&self, failure: Failure) {
        self.ends(&Outcome::Failed(failure));
    }
}

#[test]
fn is_asked_its_version_when_it_connects_and_offered_the_package_without_a_slot() {
    let drive = Drive::begin().on(Input::Connected);
    assert_eq!(drive.stage(), Some(Stage::QueryingVersion));
    assert_eq!(drive.actions, [Action::AskVersion]);
    let drive = drive.on(tells(OLD));
    assert_eq!(drive.stage(), Some(Stage::Downloading));
    assert_eq!(drive.actions, [Action::Offer]);
    assert_eq!(drive.state.place(), None);
    assert_eq!(drive.state.queued_in(), None);
}

#[test]
fn one_with_a_site_waits_for_its_slot_before_it_is_offered_the_package() {
    let site = Lane::site("default", "depot-4");
    let mut drive = Drive::begin();
    drive.home = Some(site);
    let drive = drive.all(&[Input::Connected, tells(OLD)]);
    assert_eq!(drive.stage(), Some(Stage::WaitingForSlot));
    assert_eq!(
        (drive.state.queued_in(), &drive.actions[..]),
        (Some(site), &[][..])
    );
    // it keeps its place
    let drive = drive.all(&[Input::Connected, tells(OLD)]);
    assert_eq!(drive.state.queued_in(), Some(site));
    let drive = drive.on(Input::SlotGranted);
    assert_eq!(drive.stage(), Some(Stage::Downloading));
    assert_eq!(drive.actions, [Action::Offer]);
    assert_eq!(drive.state.slot().map(|place| place.lane), Some(site));
}

#[test]
fn one_that_runs_the_target_already_needs_nothing() {
    let drive = Drive::begin().all(&[Input::Connected, tells(TARGET)]);
    drive.ends(&Outcome::Succeeded(Success::AlreadyCurrent));
}

#[test]
fn waits_25_hours_for_a_connection_and_3_minutes_for_a_version() {
    let hours = |hours| Duration::from_hours(hours);
    let drive = Drive::begin();
    let limit = drive.now + hours(25);
    assert_eq!(drive.state.until(), Some((Deadline::DeviceHeard, limit)));
    drive.next().fails(Failure::DeviceNotHeard);

    let mut drive = Drive::begin().on(Input::Connected);
    let limit = drive.now + Duration::from_mins(3);
    let mut asked = 0;
    while !drive.state.has_ended() {
        drive = drive.next();
        asked += drive.actions.len();
    }
    assert_eq!(drive.now, limit);
    assert_eq!(asked, 2);
    drive.fails(Failure::VersionQueryTimedOut);
}

#[test]
fn succeeds_by_the_last_report_after_a_whole_download_and_asks_nothing_meanwhile() {
    let offered = Drive::begin().offered();
    let limit = offered.now + Duration::from_hours(24);
    assert_eq!(offered.state.until(), Some((Deadline::Transfer, limit)));
    let fetching = offered.on(FETCHED);
    assert!(fetching.state.is_confirmed());
    assert!(fetching.actions.is_empty());
    // nothing falls due before the limit
    assert_eq!(
        fetching.state.next_deadline(),
        Some((Deadline::Transfer, limit))
    );
    let whole = fetching.on(FETCHED_ALL);
    assert_eq!(whole.stage(), Some(Stage::Executing));
    whole.on(FINAL).ends(&UPGRADED);
}

#[test]
fn progress_of_100_with_the_old_version_is_no_end() {
    // a download of a device that reports each step: 0/100 with the old version, and only then with the new one
    let drive = Drive::begin()
        .offered()
        .all(&[FETCHED, FETCHED_ALL, progress(100)]);
    assert_eq!(drive.stage(), Some(Stage::Executing));
    drive.on(FINAL).ends(&UPGRADED);
}

#[test]
fn progress_may_come_in_one_burst_before_what_was_served_is_known() {
    let drive = Drive::begin().offered();
    let drive = drive.all(&[progress(0), progress(50), progress(100), FINAL]);
    assert!(!drive.state.has_ended());
    assert!(drive.state.is_claimed());
    drive.all(&[FETCHED, FETCHED_ALL]).ends(&UPGRADED);
}

#[test]
fn a_failure_ends_it_whatever_version_it_names_and_vendors_have_codes_of_their_own() {
    // but for 1 and 3, which need not be failures
    for code in [2, 4, 5, 6, 7, 8, 9, 10, 255, 77, 1_000] {
        let failed = Input::Mqtt(MqttInput::FailureReported(code));
        let drive = Drive::begin().offered().all(&[FETCHED, failed]);
        drive.fails(match code {
            2 => Failure::Refused(Refusal::Signal, 2),
            4 => Failure::Refused(Refusal::Battery, 4),
            5 => Failure::Refused(Refusal::Space, 5),
            9 => Failure::Refused(Refusal::Memory, 9),
            _ => Failure::Reported(code),
        });
    }
}

#[test]
fn silence_after_the_download_ends_by_the_limit_alone() {
    // a wrong hash, seen on the wire: the device says nothing, and its connection lives
    let drive = Drive::begin().offered().all(&[FETCHED, FETCHED_ALL]);
    let limit = drive.now + Duration::from_hours(24);
    let drive = drive.next();
    assert_eq!(drive.now, limit);
    drive.fails(Failure::TransferTimedOut);
}

#[test]
fn each_reconnection_asks_for_the_version_and_the_target_then_ends_it() {
    // the last report was lost with the connection
    let drive = Drive::begin()
        .offered()
        .all(&[FETCHED, FETCHED_ALL, Input::Connected]);
    assert_eq!(drive.actions, [Action::AskVersion]);
    drive.on(tells(TARGET)).ends(&UPGRADED);
}

#[test]
fn one_that_connects_anew_while_it_downloads_is_neither_asked_nor_offered_it_again() {
    let drive = Drive::begin().offered().on(FETCHED);
    let begun = drive.now;
    let drive = drive.after(QUIET / 2).on(Input::Connected);
    assert!(drive.actions.is_empty());
    // nor when it tells by itself what it runs
    let drive = drive.on(tells(OLD));
    assert!(drive.actions.is_empty());
    let due = Some((Deadline::Nudge, begun + QUIET));
    assert_eq!(drive.state.next_deadline(), due);
    // it goes on: it is looked at later
    let drive = drive.on(FETCHED);
    let again = Some((Deadline::Nudge, drive.now + QUIET));
    let drive = drive.next();
    assert!(drive.actions.is_empty());
    assert_eq!(drive.state.next_deadline(), again);
    // it does not: what it was offered is lost
    let drive = drive.next();
    assert_eq!(drive.actions, [Action::AskVersion]);
    assert_eq!(drive.on(tells(OLD)).actions, [Action::Offer]);
}

#[test]
fn a_version_that_is_shown_waits_for_what_is_on_its_way() {
    let shown = || {
        let drive = Drive::begin().offered();
        drive.all(&[FETCHING, Input::Connected, tells(TARGET)])
    };
    assert_eq!(shown().stage(), Some(Stage::Executing));
    let settled = Some((Deadline::Nudge, shown().now + Duration::from_secs(10)));
    assert_eq!(shown().state.next_deadline(), settled);
    // all of it arrives
    shown().on(FETCHED_ALL).ends(&UPGRADED);
    // its connection ends before, or it takes too long
    shown().on(FETCHED).ends(&UNVERIFIED);
    shown().next().ends(&UNVERIFIED);
    // words take nothing away from it, another version does
    shown().all(&[FETCHING, FINAL]).next().ends(&UNVERIFIED);
    let other = shown().on(tells(OLD));
    assert_eq!(other.stage(), Some(Stage::Downloading));
    // a claim that nothing shows has as long as any
    let claimed = Drive::begin().offered().all(&[FETCHING, FINAL]);
    assert!(claimed.state.is_claimed());
    claimed.on(FETCHED_ALL).ends(&UPGRADED);
}

#[test]
fn one_that_says_it_is_in_use_while_it_downloads_has_not_failed() {
    let drive = Drive::begin().offered().all(&[FETCHED, reports(1)]);
    assert_eq!(drive.stage(), Some(Stage::Downloading));
    // nor where it was offered it twice
    let offered_twice = [Input::Connected, tells(OLD), reports(1)];
    let drive = Drive::begin().offered().all(&offered_twice);
    assert_eq!(drive.stage(), Some(Stage::Downloading));
    // it is in use with something else
    let drive = Drive::begin().offered().on(reports(1));
    drive.fails(Failure::Refused(Refusal::InUse, 1));
}

#[test]
fn of_one_that_has_the_newest_already_its_version_decides() {
    let says = || Drive::begin().offered().all(&[FETCHED_ALL, reports(3)]);
    assert_eq!(says().actions, [Action::AskVersion]);
    says().on(tells(TARGET)).ends(&UPGRADED);
    says().on(tells(OLD)).fails(Failure::Reported(3));
}

#[test]
fn a_reconnection_alone_is_no_restart_and_the_offer_is_repeated_three_times() {
    let mut drive = Drive::begin().offered();
    for _ in 0..3 {
        drive = drive.all(&[Input::Connected, tells(OLD)]);
        assert_eq!(drive.actions, [Action::Offer]);
        assert_eq!(drive.stage(), Some(Stage::Downloading));
        // what it tells without having connected anew since changes nothing
        drive = drive.on(tells(OLD));
        assert!(drive.actions.is_empty());
    }
    drive = drive.all(&[Input::Connected, tells(OLD)]);
    assert!(drive.actions.is_empty());
    drive.next().fails(Failure::TransferTimedOut);
}

#[test]
fn one_whose_link_breaks_again_and_again_is_offered_it_as_long_as_it_gets_further() {
    let mut drive = Drive::begin().offered();
    for _ in 0..10 {
        drive = drive.on(FETCHED).after(QUIET);
        drive = drive.all(&[Input::Connected, tells(OLD)]);
        assert_eq!(drive.actions, [Action::Offer]);
    }
    let no_further = Input::Mqtt(MqttInput::Fetched {
        further: false,
        in_flight: false,
    });
    for _ in 0..3 {
        drive = drive.on(no_further).after(QUIET);
        drive = drive.all(&[Input::Connected, tells(OLD)]);
        assert_eq!(drive.actions, [Action::Offer]);
    }
    drive = drive.on(no_further).after(QUIET);
    drive = drive.all(&[Input::Connected, tells(OLD)]);
    assert!(drive.actions.is_empty());
}

#[test]
fn one_that_has_the_whole_package_is_not_offered_it_again() {
    let drive = Drive::begin()
        .offered()
        .all(&[FETCHED, FETCHED_ALL, Input::Connected, tells(OLD)]);
    assert!(drive.actions.is_empty());
    assert_eq!(drive.stage(), Some(Stage::Executing));
    drive.on(FINAL).ends(&UPGRADED);
}

#[test]
fn success_without_a_whole_download_fails_unless_a_later_connection_shows_it() {
    // seen of a gateway's demo: success within 40 ms, for a child that never fetched anything
    let claimed = || {
        Drive::begin()
            .offered()
            .after(Duration::from_millis(40))
            .on(FINAL)
    };
    let drive = claimed();
    assert_eq!(drive.stage(), Some(Stage::Executing));
    let limit = drive.now + Duration::from_mins(30);
    let drive = drive.next();
    assert_eq!(drive.now, limit);
    drive.fails(Failure::NotDownloaded);
    // a second claim gives it no more time
    let drive = claimed().after(Duration::from_mins(20)).on(FINAL);
    assert_eq!(
        drive.state.next_deadline(),
        Some((Deadline::ResultGrace, limit))
    );
    // without a connection in between it only repeats what it has said
    let drive = claimed().on(tells(TARGET));
    assert!(!drive.state.has_ended());
    let drive = claimed().on(Input::Connected);
    assert_eq!(drive.actions, [Action::AskVersion]);
    drive.on(tells(TARGET)).ends(&UNVERIFIED);
    let drive = claimed().all(&[Input::Connected, tells(OLD)]);
    drive.fails(Failure::NotDownloaded);
}

#[test]
fn a_reconnection_before_a_claim_does_not_speak_for_it() {
    let drive = Drive::begin()
        .offered()
        .all(&[FETCHED, Input::Connected, FINAL]);
    assert!(drive.state.is_claimed());
    drive.next().fails(Failure::NotDownloaded);
}

#[test]
fn a_target_told_after_a_connection_is_a_success_that_says_what_was_not_served() {
    // it went along, and came back with the target: that it was served all of it nobody knows
    let begun = Drive::begin().offered().on(FETCHED).after(QUIET);
    begun
        .all(&[Input::Connected, tells(TARGET)])
        .ends(&UNVERIFIED);
    // it did nothing at all: a connection that broke is no restart
    let drive = Drive::begin().offered();
    let drive = drive.all(&[Input::Connected, tells(TARGET)]);
    assert!(drive.state.is_claimed());
    drive.next().fails(Failure::NotDownloaded);
}

#[test]
fn where_nobody_counts_a_claim_is_accepted_as_unverified() {
    Drive::uncounted().offered().on(FINAL).ends(&UNVERIFIED);
    let drive = Drive::uncounted().offered();
    drive.on(tells(TARGET)).ends(&UNVERIFIED);
    // a version after a connection is more than a claim
    let drive = Drive::uncounted().offered().on(Input::Connected);
    drive.on(tells(TARGET)).ends(&UPGRADED);
}

#[test]
fn goes_on_after_a_restart_of_the_server() {
    let drive = Drive::begin().offered();
    let until = drive.now + Duration::from_hours(3);
    let resumed = |confirmed, whole| {
        let stored = Resumed {
            at: drive.now,
            until,
            confirmed,
            whole,
            begun: true,
            lost: false,
            through_until: None,
            download_errors: 0,
        };
        super::super::Transfer::resume_over_mqtt(Protocol::Iotda, &stored).unwrap()
    };
    let (transfer, actions) = resumed(false, false);
    assert_eq!(
        actions,
        [Action::Offer],
        "it may not have left before the restart"
    );
    assert_eq!(transfer.until(), (Deadline::Transfer, until));
    let (transfer, actions) = resumed(true, true);
    assert!(actions.is_empty());
    assert_eq!(transfer.stage(), Stage::Executing);
    let place = None;
    let drive = Drive {
        state: Negotiation::Transferring { place, transfer },
        ..drive
    };
    drive.on(FINAL).ends(&UPGRADED);
}

/// After a restart of the server on somebody else's broker, in the midst of its download.
fn resumed_on_a_broker(lost: bool, through: bool) -> Drive {
    let drive = Drive::begin().offered();
    let stored = Resumed {
        at: drive.now,
        until: drive.now + Duration::from_hours(3),
        confirmed: true,
        whole: false,
        begun: true,
        lost,
        through_until: through.then(|| drive.now + Duration::from_mins(30)),
        download_errors: 0,
    };
    let resumed = super::super::Transfer::resume_over_mqtt(Protocol::Iotda, &stored);
    let (transfer, _) = resumed.unwrap();
    Drive {
        state: Negotiation::Transferring {
            place: None,
            transfer,
        },
        ..drive
    }
}

#[test]
fn where_a_restart_has_lost_what_it_was_served_it_is_believed_when_it_stands_by_its_claim() {
    for claim in [FINAL, tells(TARGET)] {
        let drive = resumed_on_a_broker(true, false).on(claim);
        assert!(drive.state.is_claimed());
        // it is asked, in vain at first, and each time later
        let drive = drive.next();
        assert_eq!(drive.actions, [Action::AskVersion]);
        let asked_at = drive.now;
        let drive = drive.next();
        assert_eq!(drive.actions, [Action::AskVersion]);
        assert_eq!(drive.now.since(asked_at), Duration::from_secs(20));
        drive.on(tells(TARGET)).ends(&UNVERIFIED);
    }
    // a report is no answer
    let drive = resumed_on_a_broker(true, false).on(FINAL).next().on(FINAL);
    assert!(drive.state.is_claimed());
    // one that has claimed it before the restart is asked at once
    let drive = resumed_on_a_broker(true, true).next();
    assert_eq!(drive.actions, [Action::AskVersion]);
    drive.on(tells(TARGET)).ends(&UNVERIFIED);
}

#[test]
fn what_tells_another_version_or_nothing_after_such_a_restart_has_not_succeeded() {
    let mut drive = resumed_on_a_broker(true, false).on(FINAL);
    let claimed_at = drive.now;
    while drive.state.is_claimed() {
        drive = drive.next();
        if drive.state.is_claimed() {
            drive = drive.on(tells(OLD));
        }
    }
    assert!(drive.now.since(claimed_at) >= Duration::from_mins(30));
    drive.fails(Failure::NotDownloaded);
    // where nothing was lost, an answer shows nothing
    let drive = resumed_on_a_broker(false, false)
        .on(FINAL)
        .on(tells(TARGET));
    assert!(drive.state.is_claimed());
    drive.next().fails(Failure::NotDownloaded);
}

#[test]
fn what_has_everything_is_not_taken_back_at_the_end_of_its_window() {
    let drive = Drive::begin().offered().on(FETCHED).on(Input::WindowEnded);
    drive.ends(&Outcome::Cancelled(Cancellation::TakenBack));
    let drive = Drive::begin()
        .offered()
        .all(&[FETCHED_ALL, Input::WindowEnded]);
    assert_eq!(drive.stage(), Some(Stage::Executing));
    let drive = drive.on(Input::Stopped(StopReason::Cancelled));
    drive.ends(&Outcome::Cancelled(Cancellation::Upgrade));
}

fn anything() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::Connected),
        Just(Input::Heard),
        Just(Input::HeardAgain),
        Just(Input::MayBeThere),
        prop::sample::select(vec![OLD, TARGET, "V9"]).prop_map(tells),
        (0..=100u8).prop_map(progress),
        Just(FINAL),
        Just(FETCHED),
        Just(FETCHED_ALL),
        Just(FETCHING),
        (1..300).prop_map(|code| Input::Mqtt(MqttInput::FailureReported(code))),
        Just(Input::Reached(Deadline::RepeatQuestion)),
        Just(Input::Reached(Deadline::Nudge)),
    ]
}

proptest! {
    #[test]
    fn nothing_succeeds_by_words_alone(events in prop::collection::vec(anything(), 0..30)) {
        let mut drive = Drive::begin().offered();
        let (mut whole, mut connected, mut offers) = (false, false, 0);
        for event in events {
            whole |= event == FETCHED_ALL;
            connected |= event == Input::Connected;
            drive = drive.on(event);
            offers += drive.actions.iter().filter(|it| **it == Action::Offer).count();
            match &drive.state {
                Negotiation::Ended(Outcome::Succeeded(success)) => {
                    prop_assert!(whole || connected);
                    prop_assert!(whole || *success == Success::Unverified);
                    break;
                }
                Negotiation::Ended(_) => break,
                _ => {}
            }
        }
        prop_assert!(offers <= 3);
        // whatever was said, it comes to an end within a day
        let limit = Instant::from_millis(0) + Duration::from_hours(24);
        for _ in 0..3 {
            if drive.state.has_ended() {
                break;
            }
            drive = drive.next();
        }
        prop_assert!(drive.state.has_ended());
        prop_assert!(drive.now <= limit);
    }
}
