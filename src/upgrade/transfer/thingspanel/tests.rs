use std::time::Duration;

use pcp::ResultCode;

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

const OLD: &str = "v1.0.0";
const TARGET: &str = "v1.0.1";

fn version(text: &str) -> Version {
    Version::new(text).unwrap()
}

fn tells(text: &str) -> Input {
    Input::VersionAnswered(ResultCode::SUCCESS, Some(version(text)), Credence::Sound)
}

/// The engine has not heard a version, and will not (release 1.x).
const TELLS_NONE: Input = Input::VersionAnswered(ResultCode::SUCCESS, None, Credence::Sound);

fn step(percent: u8) -> Input {
    Input::Mqtt(MqttInput::Progressed {
        percent: Some(percent),
        as_target: false,
    })
}

const fn step_100(tells_versions: bool) -> Input {
    Input::Mqtt(MqttInput::Done { tells_versions })
}

const FETCHED: Input = Input::Mqtt(MqttInput::Fetched {
    further: true,
    in_flight: false,
});
const FETCHED_ANEW: Input = Input::Mqtt(MqttInput::Fetched {
    further: false,
    in_flight: false,
});
const FETCHED_ALL: Input = Input::Mqtt(MqttInput::FetchedAll);

fn rules<'c>(upgrade: &'c UpgradeConfig, admission: &'c AdmissionConfig) -> Rules<'c> {
    Rules {
        target: version(TARGET),
        upgrade,
        admission,
        protocol: Protocol::ThingsPanel,
        object: UpdateObject::Pcp,
        version_decides: false,
        ran: None,
        counted: true,
        connections_told: true,
        home: None,
    }
}

/// Where the events lead, and what was done at the last one. A deadline is reached when it is due.
fn drive(events: &[Input], counted: bool) -> (Negotiation, Vec<Action>) {
    let (upgrade, admission) = (UpgradeConfig::default(), AdmissionConfig::default());
    let rules = Rules {
        counted,
        ..rules(&upgrade, &admission)
    };
    let mut now = Instant::from_millis(0);
    let mut state = Negotiation::begin(now, &rules);
    let mut actions = Vec::new();
    for event in events {
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

fn after(events: &[Input]) -> (Negotiation, Vec<Action>) {
    drive(events, true)
}

#[track_caller]
fn ends(events: &[Input], outcome: &Outcome) {
    assert_eq!(after(events).0, Negotiation::Ended(outcome.clone()));
}

#[track_caller]
fn fails(events: &[Input], failure: Failure) {
    ends(events, &Outcome::Failed(failure));
}

const UPGRADED: Outcome = Outcome::Succeeded(Success::Upgraded);
const UNVERIFIED: Outcome = Outcome::Succeeded(Success::Unverified);

#[test]
fn one_that_is_offline_is_waited_for() {
    // there, it fails at once
    fails(
        &[Input::Reached(Deadline::DeviceHeard)],
        Failure::DeviceNotHeard,
    );
    let (state, actions) = after(&[Input::Connected, tells(OLD)]);
    assert_eq!(state.stage(), Some(Stage::Downloading));
    assert_eq!(actions, [Action::Offer]);
}

#[test]
fn one_whose_version_is_not_known_is_pushed_to_all_the_same() {
    let (state, actions) = after(&[Input::Connected, TELLS_NONE]);
    assert_eq!(state.stage(), Some(Stage::Downloading));
    assert_eq!(actions, [Action::Offer]);
    // nor is it waited for long where that is not known
    let silent = [Input::Connected, Input::Reached(Deadline::RepeatQuestion)];
    let (state, actions) = after(&silent);
    assert_eq!(state.stage(), Some(Stage::Downloading));
    assert_eq!(actions, [Action::Offer]);
}

#[test]
fn step_100_waits_for_the_version_where_one_is_told() {
    let done = [
        Input::Connected,
        tells(OLD),
        step(50),
        FETCHED,
        FETCHED_ALL,
        step_100(true),
    ];
    assert_eq!(after(&done).0.stage(), Some(Stage::Executing));
    let told = [&done[..], &[tells(TARGET)]].concat();
    ends(&told, &UPGRADED);
    // one that told it at its start alone, and does not start anew
    let silent = [&done[..], &[Input::Reached(Deadline::ResultGrace)]].concat();
    ends(&silent, &UNVERIFIED);
    let partly = [Input::Connected, tells(OLD), FETCHED, step_100(true)];
    let silent = [&partly[..], &[Input::Reached(Deadline::ResultGrace)]].concat();
    fails(&silent, Failure::NotDownloaded);
}

#[test]
fn what_it_said_before_a_restart_of_the_server_holds() {
    let (upgrade, admission) = (UpgradeConfig::default(), AdmissionConfig::default());
    let rules = rules(&upgrade, &admission);
    let at = Instant::from_millis(0);
    let stored = Resumed {
        at,
        until: at + Duration::from_hours(3),
        confirmed: true,
        whole: true,
        begun: true,
        lost: false,
        through_until: Some(at + Duration::from_mins(30)),
        download_errors: 0,
    };
    let resumed = Transfer::resume_over_mqtt(Protocol::ThingsPanel, &stored);
    let (transfer, actions) = resumed.unwrap();
    assert!(actions.is_empty());
    let (deadline, due) = transfer.also_due();
    assert_eq!(
        (deadline, due),
        (Deadline::ResultGrace, at + Duration::from_mins(30))
    );
    let next = transfer.on(due, Input::Reached(deadline), &rules, false);
    assert_eq!(next, Next::Ends(UNVERIFIED));
}

#[test]
fn where_a_restart_has_lost_what_it_was_served_its_word_is_all_there_is() {
    let (upgrade, admission) = (UpgradeConfig::default(), AdmissionConfig::default());
    let rules = rules(&upgrade, &admission);
    let at = Instant::from_millis(0);
    let resumed = |lost| {
        let stored = Resumed {
            at,
            until: at + Duration::from_hours(3),
            confirmed: true,
            whole: false,
            begun: true,
            lost,
            through_until: None,
            download_errors: 0,
        };
        let resumed = Transfer::resume_over_mqtt(Protocol::ThingsPanel, &stored);
        resumed.unwrap().0
    };
    let next = resumed(true).on(at, step_100(false), &rules, false);
    assert_eq!(next, Next::Ends(UNVERIFIED));
    let Next::Goes(through, _) = resumed(true).on(at, step_100(true), &rules, false) else {
        panic!("waits for its version");
    };
    let next = through.on(at, tells(TARGET), &rules, false);
    assert_eq!(next, Next::Ends(UNVERIFIED));
    // where nothing was lost it is not
    let next = resumed(false).on(at, step_100(false), &rules, false);
    assert!(matches!(next, Next::Goes(..)));
}

#[test]
fn one_that_comes_back_without_having_finished_is_pushed_to_again() {
    // it lost its power in the download
    let (upgrade, admission) = (UpgradeConfig::default(), AdmissionConfig::default());
    let rules = rules(&upgrade, &admission);
    let begin = |events: &[Input]| {
        let start = Instant::from_millis(0);
        events
            .iter()
            .fold(Negotiation::begin(start, &rules), |state, event| {
                state.on(start, *event, &rules).0
            })
    };
    let later = |minutes| Instant::from_millis(0) + Duration::from_mins(minutes);
    let at_work = begin(&[Input::Connected, TELLS_NONE, FETCHED]);
    let (state, actions) = at_work.clone().on(later(3), Input::Connected, &rules);
    // it may be through already, and about to say so
    assert!(actions.is_empty());
    let (_, actions) = state.clone().on(later(3), tells(OLD), &rules);
    assert_eq!(actions, [Action::Offer]);
    assert_eq!(state.next_deadline(), Some((Deadline::Nudge, later(4))));
    let (state, actions) = state.on(later(4), Input::Reached(Deadline::Nudge), &rules);
    assert_eq!(actions, [Action::Offer]);
    // that it tells the version that it was to leave says nothing more
    let (_, actions) = state.on(later(4), tells(OLD), &rules);
    assert!(actions.is_empty());
    // one whose download goes on beside is left alone, until that is quiet
    let (state, actions) = at_work.clone().on(later(1), Input::Connected, &rules);
    assert!(actions.is_empty());
    let due = (Deadline::Nudge, later(2));
    assert_eq!(state.next_deadline(), Some(due));
    let (_, actions) = state.on(later(2), Input::Reached(Deadline::Nudge), &rules);
    assert_eq!(actions, [Action::Offer]);
    // one that has all of it has the time to install it
    let has_all = begin(&[Input::Connected, TELLS_NONE, FETCHED, FETCHED_ALL]);
    let (state, actions) = has_all.on(later(3), Input::Connected, &rules);
    assert!(actions.is_empty());
    assert_eq!(state.next_deadline(), Some((Deadline::Nudge, later(30))));
    let (_, actions) = state.on(later(30), Input::Reached(Deadline::Nudge), &rules);
    assert_eq!(actions, [Action::Offer]);
    // that is not done for ever
    let mut state = at_work;
    let mut pushes = 0;
    for connection in 1..10 {
        let (next, actions) = state.on(later(connection * 5), Input::Connected, &rules);
        assert!(actions.is_empty());
        let nudge = Input::Reached(Deadline::Nudge);
        let (next, actions) = next.on(later(connection * 5 + 1), nudge, &rules);
        (state, pushes) = (next, pushes + actions.len());
    }
    assert_eq!(pushes, 4);
    assert!(!state.has_ended());
}

#[test]
fn step_100_after_a_whole_download_is_enough_where_no_version_is_ever_told() {
    let begun = [Input::Connected, TELLS_NONE, FETCHED];
    let with = |more: &[Input]| [&begun[..], more].concat();
    ends(&with(&[FETCHED_ALL, step_100(false)]), &UNVERIFIED);
    // the report overtakes what is known of the download
    ends(&with(&[step_100(false), FETCHED_ALL]), &UNVERIFIED);
    let never = with(&[step_100(false), Input::Reached(Deadline::ResultGrace)]);
    fails(&never, Failure::NotDownloaded);
    // where nobody counts, that is all there is
    let (state, _) = drive(&with(&[step_100(false)]), false);
    assert_eq!(state, Negotiation::Ended(UNVERIFIED));
}

#[test]
fn is_pushed_again_three_times_when_it_tells_the_old_version_and_the_fourth_fails() {
    let mut events = vec![Input::Connected, tells(OLD), step(10)];
    for _ in 0..3 {
        events.push(tells(OLD));
        let (state, actions) = after(&events);
        assert_eq!(actions, [Action::Offer]);
        assert_eq!(state.stage(), Some(Stage::Downloading));
    }
    events.push(tells(OLD));
    fails(&events, Failure::WrongVersion(version(OLD)));
}

#[test]
fn a_push_that_was_taken_does_not_count_when_it_tells_the_old_version_after_its_link_broke() {
    let mut events = vec![Input::Connected, tells(OLD)];
    // it gets further with each connection
    for _ in 0..20 {
        events.extend([FETCHED, Input::Connected, tells(OLD)]);
        let (state, actions) = after(&events);
        assert_eq!(state.stage(), Some(Stage::Downloading));
        // it may have forgotten the push
        assert_eq!(actions, [Action::Offer]);
    }
    // links that break before it gets anywhere count from there on, and only until it gets further
    for _ in 0..3 {
        for _ in 0..3 {
            events.extend([Input::Connected, tells(OLD)]);
            assert_eq!(after(&events).1, [Action::Offer]);
        }
        let fourth = [&events[..], &[Input::Connected, tells(OLD)]].concat();
        fails(&fourth, Failure::WrongVersion(version(OLD)));
        events.extend([FETCHED, Input::Connected, tells(OLD)]);
    }
}

#[test]
fn a_push_that_led_no_further_counts_and_so_does_one_whose_package_it_has() {
    // it begins anew each time
    let mut events = vec![Input::Connected, tells(OLD), FETCHED, tells(OLD)];
    for _ in 0..3 {
        events.extend([FETCHED_ANEW, Input::Connected, tells(OLD)]);
        assert_eq!(after(&events).1, [Action::Offer]);
    }
    events.extend([FETCHED_ANEW, Input::Connected, tells(OLD)]);
    fails(&events, Failure::WrongVersion(version(OLD)));
    // it has all of it, and does not install it
    let mut events = vec![Input::Connected, tells(OLD), FETCHED, FETCHED_ALL];
    for _ in 0..3 {
        events.push(tells(OLD));
        assert_eq!(after(&events).1, [Action::Offer]);
    }
    events.push(tells(OLD));
    fails(&events, Failure::WrongVersion(version(OLD)));
}

#[test]
fn where_nobody_counts_its_steps_say_whether_it_gets_further() {
    let mut events = vec![Input::Connected, tells(OLD)];
    for percent in [10, 20, 30, 40, 50] {
        events.extend([step(percent), Input::Connected, tells(OLD)]);
        let (state, actions) = drive(&events, false);
        assert_eq!(state.stage(), Some(Stage::Downloading));
        assert_eq!(actions, [Action::Offer]);
    }
    for _ in 0..4 {
        events.extend([step(50), Input::Connected, tells(OLD)]);
    }
    let (state, _) = drive(&events, false);
    let failed = Outcome::Failed(Failure::WrongVersion(version(OLD)));
    assert_eq!(state, Negotiation::Ended(failed));
}

#[test]
fn negative_steps_are_failures() {
    for code in [-1, -2, -3, -4] {
        let failed = Input::Mqtt(MqttInput::FailureReported(code));
        fails(
            &[Input::Connected, tells(OLD), failed],
            Failure::Reported(code),
        );
    }
}

#[test]
fn a_push_that_nothing_followed_leaves_again_with_the_next_connection() {
    let pushed = [Input::Connected, tells(OLD), Input::Connected];
    assert_eq!(after(&pushed).1, [Action::Offer]);
    // nor does that count among those for the old version, and one that is at work is left alone
    let at_work = [Input::Connected, tells(OLD), step(1), Input::Connected];
    assert_eq!(after(&at_work).1, []);
}

#[test]
fn a_target_that_is_told_without_a_download_has_to_be_told_after_another_connection() {
    let begun = [Input::Connected, tells(OLD), tells(TARGET)];
    assert!(after(&begun).0.is_claimed());
    let shown = [&begun[..], &[Input::Connected, tells(TARGET)]].concat();
    ends(&shown, &UNVERIFIED);
    let not_shown = [&begun[..], &[Input::Reached(Deadline::ResultGrace)]].concat();
    fails(&not_shown, Failure::NotDownloaded);
}
