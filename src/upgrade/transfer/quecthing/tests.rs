use std::time::Duration;

use pcp::ResultCode;

use super::{DOWNLOAD_ERRORS, FAILED, REFUSED};
use crate::{
    clock::Instant,
    config::{AdmissionConfig, UpgradeConfig},
    ledger::{Deadline, Failure, Outcome, Protocol, Stage, Success, UpdateObject},
    package::Version,
    upgrade::{
        Action, Credence, Input, Negotiation, Rules,
        transfer::{MqttInput, Next, Resumed, Transfer},
    },
};

const OLD: &str = "V1";
const TARGET: &str = "V2";

const CONFIRMED: Input = Input::Mqtt(MqttInput::Confirmed);
const DOWNLOAD_ERROR: Input = Input::Mqtt(MqttInput::DownloadError);
const GOES_ON: Input = Input::Mqtt(MqttInput::Progressed {
    percent: None,
    as_target: false,
});
const FETCHED: Input = Input::Mqtt(MqttInput::Fetched {
    further: true,
    in_flight: false,
});
const FETCHED_ALL: Input = Input::Mqtt(MqttInput::FetchedAll);

fn version(text: &str) -> Version {
    Version::new(text).unwrap()
}

fn tells(text: &str) -> Input {
    Input::VersionAnswered(ResultCode::SUCCESS, Some(version(text)), Credence::Sound)
}

/// A device that has told its old version.
fn offered() -> Vec<Input> {
    vec![Input::Connected, tells(OLD)]
}

fn rules<'a>(upgrade: &'a UpgradeConfig, admission: &'a AdmissionConfig) -> Rules<'a> {
    Rules {
        target: version(TARGET),
        upgrade,
        admission,
        protocol: Protocol::QuecThing,
        object: UpdateObject::Pcp,
        version_decides: false,
        ran: None,
        counted: true,
        connections_told: true,
        home: None,
    }
}

/// Where the events lead after the offer, and what was done at the last one. A deadline is reached when it is due.
fn after(events: &[Input]) -> (Negotiation, Vec<Action>) {
    let (upgrade, admission) = (UpgradeConfig::default(), AdmissionConfig::default());
    let rules = rules(&upgrade, &admission);
    let mut now = Instant::from_millis(0);
    let mut state = Negotiation::begin(now, &rules);
    let mut actions = Vec::new();
    for event in offered().iter().chain(events) {
        if let Input::Reached(_) = event {
            let (deadline, at) = state.next_deadline().unwrap();
            assert_eq!(Input::Reached(deadline), *event);
            now = at;
        }
        (state, actions) = state.on(now, *event, &rules);
        now = now + Duration::from_secs(1);
    }
    (state, actions)
}

#[track_caller]
fn ends(events: &[Input], outcome: Outcome) {
    assert_eq!(after(events).0, Negotiation::Ended(outcome));
}

#[test]
fn the_plan_comes_first_and_the_url_with_the_confirmation() {
    let (state, actions) = after(&[]);
    assert_eq!(state.stage(), Some(Stage::Downloading));
    assert_eq!(actions, [Action::Offer]);
    let (state, actions) = after(&[CONFIRMED]);
    assert!(state.is_confirmed());
    assert_eq!(actions, [Action::TellPackage]);
    // one that asks again is told again, within a bound
    assert_eq!(after(&[CONFIRMED, CONFIRMED]).1, [Action::TellPackage]);
    assert_eq!(after(&[CONFIRMED; 20]).1, [Action::TellPackage]);
    assert_eq!(after(&[CONFIRMED; 21]).1, []);
}

#[test]
fn a_whole_download_and_the_target_are_a_success() {
    let events = [CONFIRMED, GOES_ON, FETCHED, FETCHED_ALL, tells(TARGET)];
    ends(&events, Outcome::Succeeded(Success::Upgraded));
}

#[test]
fn a_success_without_a_download_is_a_claim_that_a_later_connection_has_to_show() {
    let claims = [CONFIRMED, tells(TARGET)];
    let (state, _) = after(&claims);
    assert!(state.is_claimed());
    let shown = [&claims[..], &[Input::Connected, tells(TARGET)]].concat();
    ends(&shown, Outcome::Succeeded(Success::Unverified));
    let never = [&claims[..], &[Input::Reached(Deadline::ResultGrace)]].concat();
    ends(&never, Outcome::Failed(Failure::NotDownloaded));
    let mut old = claims.to_vec();
    old.extend([tells(OLD); 4]);
    let failure = Failure::WrongVersion(version(OLD));
    ends(&old, Outcome::Failed(failure));
}

#[test]
fn a_connection_between_the_confirmation_and_the_claim_shows_nothing() {
    let claims = [CONFIRMED, Input::Connected, tells(TARGET)];
    let (state, _) = after(&claims);
    assert!(state.is_claimed());
    let old = [&claims[..], &[Input::Connected, tells(OLD), CONFIRMED]].concat();
    let (state, _) = after(&[&old[..], &[Input::Connected, tells(TARGET)]].concat());
    assert!(state.is_claimed());
    // one that was served some of it may have restarted to run it
    let served = [CONFIRMED, FETCHED, Input::Connected, tells(TARGET)];
    ends(&served, Outcome::Succeeded(Success::Unverified));
}

#[test]
fn what_it_has_agreed_to_is_not_taken_for_more_after_a_restart_of_the_server() {
    let (upgrade, admission) = (UpgradeConfig::default(), AdmissionConfig::default());
    let rules = rules(&upgrade, &admission);
    let at = Instant::from_millis(0);
    let claimed = Some(at + Duration::from_mins(30));
    for (begun, through_until) in [(false, None), (true, None), (false, claimed)] {
        let stored = Resumed {
            at,
            until: at + Duration::from_hours(3),
            confirmed: true,
            whole: false,
            begun,
            lost: false,
            through_until,
            download_errors: 0,
        };
        let (transfer, _) = Transfer::resume_over_mqtt(Protocol::QuecThing, &stored).unwrap();
        let Next::Goes(transfer, _) = transfer.on(at, Input::Connected, &rules, false) else {
            panic!("a connection ends nothing")
        };
        let next = transfer.on(at, tells(TARGET), &rules, false);
        let ends = next == Next::Ends(Outcome::Succeeded(Success::Unverified));
        // a connection after the claim shows it
        assert_eq!(ends, begun || through_until.is_some(), "{next:?}");
    }
}

#[test]
fn the_sixth_error_of_a_download_is_a_failure() {
    let mut events = vec![CONFIRMED];
    events.extend([DOWNLOAD_ERROR; 5]);
    assert_eq!(after(&events).0.stage(), Some(Stage::Downloading));
    events.push(FETCHED);
    events.push(DOWNLOAD_ERROR);
    ends(&events, Outcome::Failed(Failure::Reported(DOWNLOAD_ERRORS)));
}

#[test]
fn what_it_refuses_or_reports_as_failed_has_failed() {
    for code in [REFUSED, FAILED] {
        let event = Input::Mqtt(MqttInput::FailureReported(code));
        ends(&[event], Outcome::Failed(Failure::Reported(code)));
    }
}

#[test]
fn one_that_starts_anew_in_its_download_is_offered_it_again_as_long_as_it_gets_further() {
    let mut events = vec![CONFIRMED];
    for _ in 0..8 {
        events.extend([FETCHED, Input::Connected, tells(OLD)]);
        let (state, actions) = after(&events);
        assert_eq!(state.stage(), Some(Stage::Downloading));
        assert_eq!(actions, [Action::Offer]);
        events.push(CONFIRMED);
        assert_eq!(after(&events).1, [Action::TellPackage]);
    }
}

#[test]
fn one_that_confirms_and_does_nothing_more_times_out() {
    let (state, _) = after(&[CONFIRMED]);
    assert_eq!(state.next_deadline().unwrap().0, Deadline::Transfer);
    let events = [CONFIRMED, Input::Reached(Deadline::Transfer)];
    ends(&events, Outcome::Failed(Failure::TransferTimedOut));
}
