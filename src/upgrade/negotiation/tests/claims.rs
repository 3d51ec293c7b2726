//! The cases of a device library that answers 19 and 24 with the target from the notification on.

use super::*;

fn refuted() -> Input {
    says_with(TARGET, Credence::Refuted(install_failed()))
}

#[test]
fn the_target_from_a_device_that_takes_it_is_no_reason_to_do_nothing() {
    for credence in [
        Credence::Premature,
        Credence::Unproven,
        Credence::Refuted(install_failed()),
    ] {
        let drive = Drive::begin()
            .on(Input::Heard)
            .on(says_with(TARGET, credence));
        assert_eq!(drive.state.stage(), Some(Stage::QueryingCoverage));
        // nor is it wherever else it is said unasked
        let drive = Drive::begin().downloading().on(says_with(TARGET, credence));
        assert_eq!(drive.state.stage(), Some(Stage::Downloading));
    }
}

#[test]
fn a_reported_failure_outranks_the_version_unless_the_device_restarts() {
    let reported = || {
        Drive::begin()
            .executing()
            .on(Input::Pcp(PcpInput::ExecuteDelivered))
            .on(reports(ResultCode::INSTALL_FAILED, TARGET))
    };
    let drive = reported();
    assert_eq!(drive.actions, [Action::AskVersion]);
    let drive = drive.on(refuted()).next().on(refuted());
    let failure = Failure::UpgradeFailed(ResultCode::INSTALL_FAILED);
    assert_eq!(*drive.failure(), failure);
    assert_eq!(drive.now, at(120));

    // it says the same again, or another version, or nothing at all
    let again = Input::Pcp(PcpInput::UpgradeReported(
        ResultCode::SUCCESS,
        version(TARGET),
        Credence::Refuted(install_failed()),
    ));
    let drive = reported().on(again);
    assert_eq!(drive.state.stage(), Some(Stage::Executing));
    assert_eq!(*reported().on(says(OLD)).failure(), failure);
    let mut drive = reported();
    while !drive.state.has_ended() {
        drive = drive.next();
    }
    assert_eq!(*drive.failure(), failure);

    // it restarts, and what it says then is sound
    let drive = reported().on(refuted()).after(60).on(REGISTERED).next();
    assert_eq!(drive.now, at(105));
    let drive = drive.on(says(TARGET));
    assert_eq!(*drive.outcome(), Outcome::Succeeded(Success::Upgraded));
    let drive = reported().on(REGISTERED).next().on(says(OLD));
    assert_eq!(*drive.failure(), Failure::WrongVersion(version(OLD)));
}

#[test]
fn an_answer_to_a_question_from_before_the_restart_decides_nothing() {
    let drive = Drive::begin()
        .executing()
        .on(Input::Pcp(PcpInput::ExecuteDelivered))
        .on(Input::Heard)
        .next();
    assert_eq!(drive.actions, [Action::AskVersion]);
    let drive = drive.on(REGISTERED).on(says(TARGET));
    assert_eq!(drive.state.stage(), Some(Stage::Executing));
    let drive = drive.next();
    assert_eq!(drive.actions, [Action::AskVersion]);
    let drive = drive.on(says(OLD));
    assert_eq!(*drive.failure(), Failure::WrongVersion(version(OLD)));
}

#[test]
fn success_in_the_name_of_the_old_version_comes_before_the_restart() {
    let early = || {
        Drive::begin()
            .executing()
            .on(reports(ResultCode::SUCCESS, OLD))
    };
    let drive = early().after(600).on(REGISTERED).next();
    assert_eq!(drive.now, at(645));
    let drive = drive.on(says(TARGET));
    assert_eq!(*drive.outcome(), Outcome::Succeeded(Success::Upgraded));

    let drive = early().on(REGISTERED).next().on(says(OLD));
    assert_eq!(*drive.failure(), Failure::WrongVersion(version(OLD)));
    let drive = early().on(REGISTERED).on(reports(ResultCode::SUCCESS, OLD));
    assert_eq!(*drive.failure(), Failure::WrongVersion(version(OLD)));

    // what it says before the restart decides nothing until the limit is near
    let drive = early().on(Input::Heard).next();
    assert_eq!(drive.now, at(1_800 - 180));
    let drive = drive.on(says(OLD)).next().on(says(OLD));
    assert_eq!(*drive.failure(), Failure::WrongVersion(version(OLD)));
}

#[test]
fn a_claim_without_a_sign_of_a_restart_is_to_be_made_twice() {
    let unproven = || says_with(TARGET, Credence::Unproven);
    let drive = Drive::begin()
        .executing()
        .on(Input::Pcp(PcpInput::ExecuteDelivered))
        .on(Input::Heard)
        .next()
        .on(unproven());
    assert_eq!(drive.state.stage(), Some(Stage::Executing));
    let first = drive.now;
    let drive = drive.after(10).on(Input::Heard).next();
    assert_eq!(drive.now.since(first).as_secs(), 300);
    let drive = drive.on(unproven());
    assert_eq!(*drive.outcome(), Outcome::Succeeded(Success::Upgraded));
}

#[test]
fn a_claim_that_could_not_be_made_twice_counts_when_the_limit_runs_out() {
    let unproven = || says_with(TARGET, Credence::Unproven);
    let claimed = |after_s| {
        Drive::begin()
            .executing()
            .on(Input::Pcp(PcpInput::ExecuteDelivered))
            .after(after_s)
            .on(Input::Heard)
            .next()
            .on(unproven())
    };
    let mut drive = claimed(15);
    while !drive.state.has_ended() {
        drive = drive.next();
    }
    assert_eq!(*drive.outcome(), Outcome::Succeeded(Success::Upgraded));
    // what it said before it restarted does not
    let mut drive = claimed(15).on(REGISTERED);
    while !drive.state.has_ended() {
        drive = drive.next();
    }
    assert_eq!(*drive.failure(), Failure::ExecutionTimedOut);
    // nor does what it said sooner than it could have installed anything
    let mut drive = claimed(0);
    while !drive.state.has_ended() {
        drive = drive.next();
    }
    assert_eq!(*drive.failure(), Failure::ExecutionTimedOut);
}

#[test]
fn a_device_that_never_got_the_command_cannot_run_the_target() {
    let mut drive = Drive::begin().executing();
    let mut commands = 1;
    while !drive.state.has_ended() {
        drive = drive.on(Input::Heard).next();
        if drive.actions == [Action::AskVersion] {
            drive = drive.on(says_with(TARGET, Credence::Premature));
            commands += usize::from(drive.actions == [Action::Command]);
        }
    }
    assert_eq!(commands, usize::from(MAX_COMMANDS));
    assert_eq!(*drive.failure(), Failure::ExecutionTimedOut);
}

#[test]
fn a_device_that_was_commanded_before_may_call_the_version_its_latest() {
    let latest = |credence| {
        Input::Pcp(PcpInput::NotificationAnswered(
            ResultCode::ALREADY_LATEST,
            credence,
        ))
    };
    let asked = |credence| {
        let drive = Drive::begin().downloading().on(latest(credence));
        assert_eq!(drive.actions, [Action::AskVersion]);
        drive.on(says_with(TARGET, credence))
    };
    assert_eq!(
        *asked(Credence::Unproven).outcome(),
        Outcome::Succeeded(Success::AlreadyCurrent)
    );
    for credence in [Credence::Premature, Credence::Refuted(install_failed())] {
        let refused = Failure::NotificationRefused(ResultCode::ALREADY_LATEST);
        assert_eq!(*asked(credence).failure(), refused);
    }
    // in the midst of a download it means nothing
    let drive = Drive::begin()
        .downloading()
        .on(Input::Pcp(PcpInput::SegmentRequested(4)))
        .on(latest(Credence::Premature));
    assert_eq!(drive.state.stage(), Some(Stage::Downloading));
    assert!(drive.actions.is_empty());
}

#[test]
fn an_answer_to_a_question_from_before_the_restart_of_the_server_counts_where_it_is_the_target() {
    // it has restarted since the command: nothing speaks against what it says
    let upgraded = Outcome::Succeeded(Success::Upgraded);
    let drive = Drive::begin().executing().restart();
    assert_eq!(*drive.on(says(TARGET)).outcome(), upgraded);
    // the old version may be what it ran before
    let drive = Drive::begin().executing().restart().on(says(OLD));
    assert_eq!(drive.state.stage(), Some(Stage::Executing));
    let drive = drive.next();
    assert_eq!(drive.actions, [Action::AskVersion]);
}

#[test]
fn a_claim_that_may_be_of_before_the_restart_of_the_device_is_looked_into_at_once() {
    let drive = (Drive::begin().executing())
        .on(Input::Pcp(PcpInput::ExecuteDelivered))
        .on(Input::Registered { restarted: true })
        .on(says(TARGET));
    assert_eq!(drive.state.stage(), Some(Stage::Executing));
    let at = drive.now;
    let asked = drive.next();
    assert_eq!(
        (asked.now, asked.actions.as_slice()),
        (at, &[Action::AskVersion][..])
    );
}
