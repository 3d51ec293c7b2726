use pcp::ResultCode;
use proptest::prelude::*;

use super::*;
use crate::{
    config::{AdmissionConfig, UpgradeConfig},
    ledger::{Coverage, Outcome, Protocol, Success},
    package::Version,
    upgrade::{Credence, Negotiation},
};

const OLD: &str = "V1.0";
const TARGET: &str = "V2.0";
const UPGRADED: Outcome = Outcome::Succeeded(Success::Upgraded);
const UNVERIFIED: Outcome = Outcome::Succeeded(Success::Unverified);

fn version(text: &str) -> Version {
    Version::new(text).unwrap()
}

fn tells(text: &str) -> Input {
    worth(text, Credence::Sound)
}

fn worth(text: &str, credence: Credence) -> Input {
    Input::VersionAnswered(ResultCode::SUCCESS, Some(version(text)), credence)
}

const fn state(number: u8) -> Input {
    Input::Object(ObjectInput::StateTold(number))
}

const fn result(number: u8) -> Input {
    Input::Object(ObjectInput::ResultTold(number))
}

const fn done(step: UpdateStep) -> Input {
    Input::Object(ObjectInput::CarriedOut(step))
}

const LOOKED: Input = Input::Object(ObjectInput::Looked);
const FETCHED: Input = Input::Object(ObjectInput::Fetched { further: true });
const FETCHED_ALL: Input = Input::Object(ObjectInput::FetchedAll);
const RESTARTED: Input = Input::Registered { restarted: true };

/// An upgrade that is driven by hand, from its slot on.
struct Drive {
    upgrade: UpgradeConfig,
    admission: AdmissionConfig,
    object: UpdateObject,
    version_decides: bool,
    counted: bool,
    now: Instant,
    state: Negotiation,
    actions: Vec<Action>,
}

impl Drive {
    fn with_slot(object: UpdateObject) -> Self {
        let mut drive = Self {
            upgrade: UpgradeConfig::default(),
            admission: AdmissionConfig::default(),
            object,
            version_decides: false,
            counted: true,
            now: Instant::from_millis(0),
            state: Negotiation::Ended(UPGRADED),
            actions: Vec::new(),
        };
        drive.state = Negotiation::begin(drive.now, &drive.rules());
        let coverage = Coverage {
            cell: Some(7),
            ..Coverage::default()
        };
        for event in [
            Input::Heard,
            tells(OLD),
            Input::CoverageAnswered(Some(coverage)),
            Input::SlotGranted,
        ] {
            drive.on(event);
        }
        assert_eq!(drive.actions, [Action::Look]);
        drive
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            target: version(TARGET),
            upgrade: &self.upgrade,
            admission: &self.admission,
            protocol: Protocol::Lwm2m,
            object: self.object,
            version_decides: self.version_decides,
            ran: Some(version(OLD)),
            counted: self.counted,
            connections_told: true,
            home: None,
        }
    }

    fn on(&mut self, event: Input) -> &mut Self {
        let state = std::mem::replace(&mut self.state, Negotiation::Ended(UPGRADED));
        let (state, actions) = state.on(self.now, event, &self.rules());
        (self.state, self.actions) = (state, actions);
        self
    }

    fn all(&mut self, events: &[Input]) -> &mut Self {
        for event in events {
            self.on(*event);
        }
        self
    }

    /// Lets time pass to the next deadline and reach it.
    fn next(&mut self) -> &mut Self {
        let (deadline, at) = self.state.next_deadline().unwrap();
        self.now = at;
        self.on(Input::Reached(deadline))
    }

    /// It is asked for its state, and tells it.
    fn looks(&mut self, number: u8, of_result: u8) -> &mut Self {
        self.all(&[state(number), result(of_result), LOOKED])
    }

    fn offered(object: UpdateObject) -> Self {
        let mut drive = Self::with_slot(object);
        drive.looks(0, 0);
        assert_eq!(drive.actions, [Action::Offer]);
        drive.on(done(UpdateStep::Package));
        drive
    }

    fn downloaded(object: UpdateObject) -> Self {
        let mut drive = Self::offered(object);
        let (downloading, downloaded) = match object {
            UpdateObject::Software => (1, 3),
            _ => (1, 2),
        };
        drive.all(&[state(downloading), FETCHED, FETCHED_ALL, state(downloaded)]);
        assert_eq!(drive.actions, [Action::Command]);
        assert_eq!(drive.state.stage(), Some(Stage::Executing));
        drive
    }

    fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            Negotiation::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    fn failure(&self) -> &Failure {
        match self.outcome() {
            Some(Outcome::Failed(failure)) => failure,
            other => panic!("has not failed: {other:?} {:?}", self.state),
        }
    }
}

#[test]
fn fetches_installs_and_tells_the_new_version() {
    for object in [UpdateObject::Firmware, UpdateObject::Components] {
        let mut drive = Drive::downloaded(object);
        drive.on(done(UpdateStep::Install)).on(state(3));
        assert!(drive.state.is_confirmed());
        drive.on(RESTARTED);
        assert_eq!(drive.actions, [Action::Look]);
        drive.looks(0, 1);
        drive.on(tells(TARGET));
        assert_eq!(drive.outcome(), Some(&UPGRADED));
    }
}

#[test]
fn every_failure_result_ends_it_with_its_number_while_it_is_offered_or_installed() {
    let of_firmware = (2..=10).chain([12, 13, 14, 200]);
    let of_software = (50..=59).chain([60, 200]);
    let table = [
        (
            UpdateObject::Firmware,
            of_firmware.clone().collect::<Vec<u8>>(),
        ),
        (UpdateObject::Components, of_firmware.collect()),
        (UpdateObject::Software, of_software.collect()),
    ];
    for (object, results) in table {
        for number in results {
            let expected = Failure::UpdateResult(object, number);
            let mut drive = Drive::offered(object);
            drive.on(result(number));
            assert_eq!(drive.failure(), &expected, "{object:?} {number}");
            let mut drive = Drive::downloaded(object);
            drive.on(result(number));
            assert_eq!(drive.failure(), &expected, "{object:?} {number}");
        }
    }
    // these are none
    for (object, number) in [
        (UpdateObject::Firmware, 0),
        (UpdateObject::Firmware, 1),
        (UpdateObject::Firmware, 11),
        (UpdateObject::Software, 0),
        (UpdateObject::Software, 1),
        (UpdateObject::Software, 2),
        (UpdateObject::Software, 3),
        (UpdateObject::Software, 49),
    ] {
        let mut drive = Drive::offered(object);
        drive.on(result(number));
        assert_eq!(drive.outcome(), None, "{object:?} {number}");
    }
}

#[test]
fn what_it_has_from_before_is_reset_in_each_way_there_is() {
    for from_before in [1, 2, 4, 99] {
        let mut drive = Drive::with_slot(UpdateObject::Firmware);
        drive.looks(from_before, 0);
        let anew = [Reset::EmptyUri, Reset::NulPackage];
        let anew = anew.into_iter().filter(|_| from_before == 2);
        let ways = [Reset::EmptyUri, Reset::NulPackage].into_iter().chain(anew);
        for way in ways.chain([Reset::Cancel]) {
            assert_eq!(drive.actions, [Action::Reset(way)]);
            drive.on(done(UpdateStep::Reset));
            assert_eq!(drive.actions, [Action::Look]);
            // it may take its time
            drive.looks(from_before, 0);
            assert_eq!(drive.actions, []);
            drive.next();
            assert_eq!(drive.actions, [Action::Look]);
            drive.looks(from_before, 0);
        }
        assert_eq!(drive.failure(), &Failure::NotIdle);
    }
    // a refusal may help all the same
    let mut drive = Drive::with_slot(UpdateObject::Firmware);
    drive.looks(2, 0);
    drive.on(Input::Object(ObjectInput::Refused(UpdateStep::Reset, 0x85)));
    assert_eq!(drive.actions, [Action::Look]);
    drive.looks(0, 0);
    assert_eq!(drive.actions, [Action::Offer]);
}

#[test]
fn a_result_from_before_does_not_count() {
    let mut drive = Drive::with_slot(UpdateObject::Firmware);
    drive.looks(0, 8);
    assert_eq!(drive.actions, [Action::Reset(Reset::EmptyUri)]);
    drive.on(done(UpdateStep::Reset)).looks(0, 8);
    assert_eq!(drive.actions, [Action::Offer]);
    // it notifies it once more, also while it downloads
    drive.on(result(8));
    assert_eq!(drive.outcome(), None);
    drive.all(&[state(1), result(8)]);
    assert_eq!(drive.outcome(), None);
    drive.all(&[state(1), result(0), result(8)]);
    assert_eq!(
        drive.failure(),
        &Failure::UpdateResult(UpdateObject::Firmware, 8)
    );
}

#[test]
fn a_success_from_before_is_none() {
    let mut drive = Drive::with_slot(UpdateObject::Firmware);
    drive.looks(0, 1);
    drive.on(done(UpdateStep::Reset)).looks(0, 1);
    assert_eq!(drive.actions, [Action::Offer]);
    drive.on(done(UpdateStep::Package));
    drive.all(&[result(1), state(0), tells(TARGET)]);
    assert_eq!(drive.outcome(), None, "nothing was served to it");
}

#[test]
fn what_is_refused_because_it_was_done_before_is_none() {
    // the acknowledgement was lost, and the repeat is refused
    let lost = |step| Input::Object(ObjectInput::Refused(step, 0x80));
    let mut drive = Drive::with_slot(UpdateObject::Firmware);
    drive.looks(0, 0);
    drive.on(lost(UpdateStep::Package));
    drive.looks(1, 0);
    assert_eq!(drive.outcome(), None);
    drive.all(&[FETCHED, lost(UpdateStep::Package)]);
    assert_eq!(drive.actions, []);
    drive.all(&[FETCHED_ALL, state(2)]);
    assert_eq!(drive.actions, [Action::Command]);
    drive.on(lost(UpdateStep::Install));
    assert_eq!(drive.actions, [Action::Look]);
    drive.looks(3, 0);
    assert!(drive.state.is_confirmed());
    drive.on(lost(UpdateStep::Install));
    assert_eq!(drive.outcome(), None);
}

#[test]
fn a_result_that_is_told_first_after_a_restart_of_the_server_may_be_from_before_the_offer() {
    let drive = Drive::with_slot(UpdateObject::Firmware);
    let rules = drive.rules();
    let at = Instant::from_millis(10_000);
    for told in [1, 8] {
        let stored = ResumedByObject {
            at,
            until: at + Duration::from_mins(30),
            installing: false,
            confirmed: true,
            whole: false,
            restarted: false,
        };
        let (mut transfer, _) = ByObject::resume(&stored, &rules);
        for event in [state(1), result(told), LOOKED, result(told)] {
            match transfer.on(at, event, &rules, false) {
                Next::Goes(next, actions) => {
                    assert_eq!(actions, [], "{told}");
                    transfer = next;
                }
                other => panic!("{told}: {other:?}"),
            }
        }
        assert_eq!(transfer.stage(), Stage::Downloading);
    }
}

#[test]
fn one_that_was_being_written_to_is_idle_by_an_empty_uri_in_the_end() {
    // Zephyr takes an empty URI for nothing while it downloads, and one NUL for the last block
    let mut drive = Drive::with_slot(UpdateObject::Firmware);
    drive.looks(1, 0);
    drive
        .on(done(UpdateStep::Reset))
        .looks(1, 0)
        .next()
        .looks(1, 0);
    assert_eq!(drive.actions, [Action::Reset(Reset::NulPackage)]);
    drive
        .on(done(UpdateStep::Reset))
        .looks(2, 0)
        .next()
        .looks(2, 0);
    assert_eq!(drive.actions, [Action::Reset(Reset::EmptyUri)]);
    drive.on(done(UpdateStep::Reset)).looks(0, 0);
    assert_eq!(drive.actions, [Action::Offer]);
}

#[test]
fn what_was_deferred_is_not_waited_for_for_ever() {
    let mut drive = Drive::downloaded(UpdateObject::Firmware);
    drive.on(done(UpdateStep::Install)).on(result(11));
    let mut looks = 0;
    for _ in 0..1_000 {
        if drive.outcome().is_some() {
            break;
        }
        drive.next();
        if drive.actions == [Action::Look] {
            looks += 1;
            drive.looks(2, 11);
        }
    }
    assert_eq!(drive.failure(), &Failure::ExecutionTimedOut);
    assert!(looks <= 4, "asked {looks} times");
}

#[test]
fn no_software_is_uninstalled_that_may_be_installed() {
    // the command was sent, and nothing is known of it
    let mut drive = Drive::downloaded(UpdateObject::Software);
    let left_open = |drive: &Drive| {
        drive
            .state
            .transfer()
            .is_some_and(crate::upgrade::transfer::Transfer::is_left_open)
    };
    assert!(!left_open(&drive));
    // the software of before is back: it is uninstalled for the update before it is offered again
    drive = Drive::offered(UpdateObject::Software);
    drive.on(state(1));
    assert!(left_open(&drive));
    drive.looks(4, 0);
    assert_eq!(drive.actions, [Action::Reset(Reset::UninstallForUpdate)]);
    assert!(!left_open(&drive));
}

#[test]
fn an_update_of_somebody_else_is_awaited() {
    let mut drive = Drive::with_slot(UpdateObject::Firmware);
    drive.looks(3, 0);
    for _ in 0..5 {
        drive.next();
        assert_eq!(drive.actions, [Action::Look]);
        drive.looks(3, 0);
    }
    drive.next().looks(0, 1);
    assert_eq!(drive.actions, [Action::Reset(Reset::EmptyUri)]);
}

#[test]
fn one_that_loses_what_it_had_is_offered_it_again_a_few_times() {
    let mut drive = Drive::offered(UpdateObject::Firmware);
    for _ in 1..MAX_OFFERS {
        drive.all(&[state(1), FETCHED, RESTARTED]);
        assert_eq!(drive.actions, [Action::Look]);
        drive.looks(0, 0);
        assert_eq!(drive.actions, [Action::Offer]);
        drive.on(done(UpdateStep::Package));
    }
    drive.all(&[state(1), RESTARTED]).looks(0, 0);
    assert_eq!(drive.failure(), &Failure::DownloadStalled);
}

#[test]
fn one_that_takes_everything_and_never_moves_stalls() {
    // Wakaama's example client
    let mut drive = Drive::offered(UpdateObject::Firmware);
    for _ in 0..50 {
        if drive.outcome().is_some() {
            break;
        }
        drive.next();
        match drive.actions[..] {
            [Action::Look] => drive.looks(0, 0),
            [Action::Offer] => drive.on(done(UpdateStep::Package)),
            _ => &mut drive,
        };
    }
    assert_eq!(drive.failure(), &Failure::DownloadStalled);
}

#[test]
fn downloaded_without_having_been_served_is_not_believed() {
    let mut drive = Drive::offered(UpdateObject::Firmware);
    drive.all(&[state(1), state(2)]);
    assert_eq!(drive.actions, []);
    // the last block may be told a moment later
    let mut late = Drive::offered(UpdateObject::Firmware);
    late.all(&[state(1), FETCHED, state(2), FETCHED_ALL]);
    assert_eq!(late.actions, [Action::Command]);
    drive.next();
    assert_eq!(drive.failure(), &Failure::NotDownloaded);
}

#[test]
fn updating_need_not_be_seen_nor_a_result() {
    let mut drive = Drive::downloaded(UpdateObject::Firmware);
    drive.all(&[RESTARTED]).looks(0, 0);
    assert_eq!(drive.actions, [Action::AskVersion]);
    drive.on(tells(TARGET));
    assert_eq!(drive.outcome(), Some(&UPGRADED));
    // nor a restart, as some notify nothing
    let mut drive = Drive::downloaded(UpdateObject::Firmware);
    drive.on(done(UpdateStep::Install)).next().looks(0, 0);
    assert_eq!(drive.actions, [Action::AskVersion]);
    drive.on(worth(TARGET, Credence::Unproven));
    assert_eq!(drive.outcome(), Some(&UPGRADED));
}

#[test]
fn idle_with_the_old_version_after_a_restart_has_failed() {
    let mut drive = Drive::downloaded(UpdateObject::Firmware);
    drive
        .all(&[done(UpdateStep::Install), RESTARTED])
        .looks(0, 0);
    assert_eq!(drive.actions, [Action::AskVersion]);
    drive.on(tells(OLD));
    assert_eq!(drive.failure(), &Failure::WrongVersion(version(OLD)));
}

#[test]
fn a_success_that_its_version_does_not_show_is_unverified_and_none_where_it_is_the_old_one_or_decides()
 {
    for (decides, tells_now) in [(false, "V1.5"), (true, "V1.5"), (false, OLD)] {
        let mut drive = Drive::downloaded(UpdateObject::Firmware);
        drive.version_decides = decides;
        drive
            .all(&[done(UpdateStep::Install), RESTARTED])
            .looks(0, 1);
        for _ in 0..10 {
            if drive.outcome().is_some() {
                break;
            }
            if drive.actions == [Action::AskVersion] {
                drive.on(tells(tells_now));
            } else {
                drive.next();
            }
        }
        if decides || tells_now == OLD {
            let failed = Failure::WrongVersion(version(tells_now));
            assert_eq!(drive.failure(), &failed);
        } else {
            assert_eq!(drive.outcome(), Some(&UNVERIFIED));
        }
    }
}

#[test]
fn a_success_without_a_version_is_one() {
    let mut drive = Drive::downloaded(UpdateObject::Firmware);
    drive.all(&[done(UpdateStep::Install), result(1)]);
    assert_eq!(drive.actions, [Action::AskVersion]);
    drive.on(Input::VersionAnswered(
        ResultCode::SUCCESS,
        None,
        Credence::Sound,
    ));
    assert_eq!(drive.outcome(), Some(&UPGRADED));
    // but one that is never there to be asked has shown nothing
    let mut drive = Drive::downloaded(UpdateObject::Firmware);
    drive.all(&[done(UpdateStep::Install), result(1)]);
    for _ in 0..50 {
        if drive.outcome().is_none() {
            drive.next();
        }
    }
    assert_eq!(drive.failure(), &Failure::ExecutionTimedOut);
}

#[test]
fn deferred_is_waited_for_as_long_as_the_device_may() {
    let mut drive = Drive::downloaded(UpdateObject::Firmware);
    let day = Duration::from_hours(24);
    drive.all(&[
        done(UpdateStep::Install),
        Input::Object(ObjectInput::Deferrable(day)),
        result(11),
    ]);
    let (deadline, until) = drive.state.until().unwrap();
    assert_eq!(deadline, Deadline::Execution);
    assert!(until >= drive.now + day);
    drive.all(&[state(3), RESTARTED]).looks(0, 1);
    drive.on(tells(TARGET));
    assert_eq!(drive.outcome(), Some(&UPGRADED));
}

#[test]
fn a_refused_command_ends_it_and_one_that_got_lost_is_repeated() {
    let mut drive = Drive::downloaded(UpdateObject::Firmware);
    drive.on(Input::Object(ObjectInput::Refused(
        UpdateStep::Install,
        0x85,
    )));
    assert_eq!(drive.actions, [Action::Look]);
    drive.looks(2, 0);
    let refused = Failure::UpdateRefused(UpdateStep::Install, 0x85);
    assert_eq!(drive.failure(), &refused);
    let mut drive = Drive::downloaded(UpdateObject::Firmware);
    for _ in 1..MAX_COMMANDS {
        drive.next();
        assert_eq!(drive.actions, [Action::Look]);
        drive.looks(2, 0);
        assert_eq!(drive.actions, [Action::Command]);
    }
    while drive.outcome().is_none() {
        drive.next();
        if drive.actions == [Action::Look] {
            drive.looks(2, 0);
        }
        assert_ne!(drive.actions, [Action::Command]);
    }
    assert_eq!(drive.failure(), &Failure::ExecutionTimedOut);
}

#[test]
fn a_refused_package_ends_it() {
    let mut drive = Drive::with_slot(UpdateObject::Firmware);
    drive.looks(0, 0);
    drive.on(Input::Object(ObjectInput::Refused(
        UpdateStep::Package,
        0x80,
    )));
    assert_eq!(drive.actions, [Action::Look]);
    drive.looks(0, 0);
    let refused = Failure::UpdateRefused(UpdateStep::Package, 0x80);
    assert_eq!(drive.failure(), &refused);
}

#[test]
fn a_device_that_falls_asleep_before_the_offer_gives_its_slot_back_and_none_after_it() {
    let undelivered = Input::Object(ObjectInput::Undelivered);
    let mut drive = Drive::with_slot(UpdateObject::Firmware);
    drive.on(undelivered);
    assert_eq!(drive.state.stage(), Some(Stage::WaitingForSlot));
    let mut drive = Drive::offered(UpdateObject::Firmware);
    drive.on(undelivered);
    assert_eq!(drive.state.stage(), Some(Stage::Downloading));
}

#[test]
fn software_is_delivered_installed_and_activated() {
    let mut drive = Drive::with_slot(UpdateObject::Software);
    // installed: it is uninstalled for the update
    drive.looks(4, 2);
    assert_eq!(drive.actions, [Action::Reset(Reset::UninstallForUpdate)]);
    drive.on(done(UpdateStep::Reset)).looks(0, 0);
    assert_eq!(drive.actions, [Action::Offer]);
    drive.all(&[done(UpdateStep::Package), state(1), result(1), FETCHED]);
    drive.all(&[FETCHED_ALL, state(2)]);
    assert_eq!(drive.actions, [], "it checks what it has");
    drive.all(&[state(3)]);
    assert_eq!(drive.actions, [Action::Command]);
    drive.all(&[result(3), done(UpdateStep::Install), state(4)]);
    assert_eq!(drive.actions, [Action::Activate]);
    drive.on(done(UpdateStep::Activate));
    assert_eq!(drive.actions, [Action::AskVersion]);
    drive.on(tells(TARGET));
    assert_eq!(drive.outcome(), Some(&UPGRADED));
}

#[test]
fn what_a_failed_installation_left_delivered_is_uninstalled() {
    let mut drive = Drive::with_slot(UpdateObject::Software);
    drive.looks(3, 58);
    assert_eq!(drive.actions, [Action::Reset(Reset::Uninstall)]);
}

#[test]
fn it_goes_on_after_a_restart_of_the_server_by_what_the_device_tells() {
    let rules = Drive::with_slot(UpdateObject::Firmware);
    let rules = rules.rules();
    let at = Instant::from_millis(10_000);
    let stored = |installing, confirmed, whole| ResumedByObject {
        at,
        until: at + Duration::from_mins(30),
        installing,
        confirmed,
        whole,
        restarted: false,
    };
    let resume = |stored, told: &[Input]| {
        let (mut transfer, actions) = ByObject::resume(&stored, &rules);
        assert_eq!(actions, [Action::Look]);
        let mut last = Vec::new();
        for event in told {
            match transfer.on(at, *event, &rules, false) {
                Next::Goes(next, actions) => (transfer, last) = (next, actions),
                other => panic!("{other:?}"),
            }
        }
        last
    };
    // it was downloading, and still is
    let goes_on = resume(stored(false, true, false), &[state(1), result(0), LOOKED]);
    assert_eq!(goes_on, []);
    // it has lost what it had meanwhile
    let again = resume(stored(false, true, false), &[state(0), result(0), LOOKED]);
    assert_eq!(again, [Action::Offer]);
    // it has everything, and the command may not have left
    let command = resume(stored(true, false, true), &[state(2), result(0), LOOKED]);
    assert_eq!(command, [Action::Command]);
    let through = resume(stored(true, true, true), &[state(0), result(1)]);
    assert_eq!(through, [Action::AskVersion]);
}

fn any_event() -> impl Strategy<Value = Input> {
    prop_oneof![
        (0..6_u8).prop_map(state),
        (0..15_u8).prop_map(result),
        Just(LOOKED),
        Just(FETCHED),
        Just(FETCHED_ALL),
        Just(RESTARTED),
        Just(Input::Registered { restarted: false }),
        Just(Input::Object(ObjectInput::Undelivered)),
        prop::sample::select(&UpdateStep::ALL[..]).prop_map(done),
        (prop::sample::select(&UpdateStep::ALL[..]), 0x80..0x90_u8)
            .prop_map(|(step, code)| Input::Object(ObjectInput::Refused(step, code))),
        prop::bool::ANY.prop_map(|new| worth(if new { TARGET } else { OLD }, Credence::Unproven)),
    ]
}

proptest! {
    /// Whatever a device says: it is never told to install what it was not served, offers and commands are bounded, and it ends.
    #[test]
    fn nothing_is_installed_that_was_not_served(
        object in prop::sample::select(&[UpdateObject::Firmware, UpdateObject::Software][..]),
        events in prop::collection::vec((any_event(), 0..4_u8), 0..200),
    ) {
        let mut drive = Drive::with_slot(object);
        let (mut served, mut offers, mut commands, mut since_offer) = (false, 0, 0, 0);
        for (event, steps) in events {
            if drive.state.slot().is_none() {
                break;
            }
            served |= event == FETCHED_ALL;
            drive.on(event);
            for action in drive.actions.clone() {
                match action {
                    Action::Offer => (served, offers, since_offer) = (false, offers + 1, 0),
                    Action::Command => {
                        prop_assert!(served, "told to install what it was not served");
                        commands += 1;
                        since_offer += 1;
                    }
                    _ => {}
                }
            }
            prop_assert!(offers <= MAX_OFFERS);
            prop_assert!(since_offer <= MAX_COMMANDS);
            for _ in 0..steps {
                if drive.state.slot().is_some() {
                    drive.next();
                    for action in &drive.actions {
                        prop_assert_ne!(*action, Action::Command);
                    }
                }
            }
        }
        prop_assert!(commands <= usize::from(MAX_OFFERS * MAX_COMMANDS));
        let mut left = 500;
        while drive.state.slot().is_some() && left > 0 {
            drive.next();
            left -= 1;
        }
        prop_assert!(drive.state.slot().is_none(), "{:?}", drive.state);
        if let Some(Outcome::Succeeded(success)) = drive.outcome() {
            prop_assert!(served || *success == Success::Unverified);
        }
    }
}
