//! Every fault, against a patient server.

use sim::{
    Character, Expected, Fault, ObjectFault, UpdatesBy,
    coap::Code,
    device::{DeviceState, Outcome},
};

use super::{
    field::{Field, URI, package, spec, version},
    patient::{Delivery, places, upgrade},
};

const OBJECTS: [UpdatesBy; 3] = [
    UpdatesBy::Firmware,
    UpdatesBy::Software,
    UpdatesBy::Components,
];

fn faulty(by: UpdatesBy, character: Character, fault: Fault) -> Field {
    let mut spec = spec(by, character);
    spec.fault = Some(fault);
    if fault == Fault::AlreadyCurrent {
        spec.version = version("V2");
    }
    Field::new(spec)
}

/// Faults of whoever pulls have no effect on a push.
fn expected(fault: Fault, delivery: Delivery) -> Expected {
    match fault {
        Fault::Object(ObjectFault::RefusesUri | ObjectFault::ReportsResult(7 | 9))
            if delivery == Delivery::Push =>
        {
            Expected::Succeeded
        }
        // this server lets the version decide
        Fault::Object(ObjectFault::ClaimsSuccessWithOldVersion) => Expected::Failed,
        fault => fault.expected(),
    }
}

#[test]
fn every_fault_ends_as_it_says() {
    let mut faults: Vec<Fault> = Fault::catalogue().map(|(fault, _)| fault).collect();
    faults.extend((2..=10).map(|result| Fault::Object(ObjectFault::ReportsResult(result))));
    for by in OBJECTS {
        for character in Character::ALL {
            for delivery in [Delivery::Pull, Delivery::Push] {
                if character == Character::Stub
                    || (character == Character::PushOnly && delivery == Delivery::Pull)
                {
                    continue;
                }
                for fault in &faults {
                    if fault.fits(by) && !fault.needs_psk() {
                        ends_as_it_says(by, character, delivery, *fault);
                    }
                }
            }
        }
    }
}

fn ends_as_it_says(by: UpdatesBy, character: Character, delivery: Delivery, fault: Fault) {
    let what = format!("{by:?} {character:?} {delivery:?} {fault}");
    let mut field = faulty(by, character, fault);
    let expected = expected(fault, delivery);
    assert_eq!(upgrade(&mut field, by, delivery), expected, "{what}");
    field.pass(2_000_000);
    let report = field.device.report();
    let upgraded = report.version == version("V2");
    assert_eq!(upgraded, expected == Expected::Succeeded, "{what}");
    if !matches!(fault, Fault::NoObject4 | Fault::AlreadyCurrent) {
        let success = report.outcome.map(Outcome::is_success);
        assert_eq!(success, Some(expected == Expected::Succeeded), "{what}");
        // the server reads once more what it may have missed
        field.read(&places(by).state);
        assert!(field.device.report().settled, "{what}: {report:?}");
    }
    if upgraded && fault != Fault::AlreadyCurrent {
        assert_eq!(field.device.image(), Some(&*package()), "{what}");
    }
}

#[test]
fn without_faults_all_are_upgraded() {
    for by in OBJECTS {
        for character in Character::ALL {
            let delivery = match character {
                Character::PushOnly => Delivery::Push,
                _ => Delivery::Pull,
            };
            let spec = spec(by, character);
            let expected = spec.expected();
            assert_eq!(expected == Expected::Failed, character == Character::Stub);
            let found = upgrade(&mut Field::new(spec), by, delivery);
            assert_eq!(found, expected, "{by:?} {character:?}");
        }
    }
}

#[test]
fn each_result_of_object_5_is_told_where_it_occurs() {
    for result in 2..=10 {
        let fault = Fault::Object(ObjectFault::ReportsResult(result));
        let mut field = faulty(UpdatesBy::Firmware, Character::Zephyr, fault);
        field.write("5/0/1", URI.as_bytes());
        field.pass(600_000);
        let asked = field.asked.len();
        match result {
            7 | 9 => assert_eq!(asked, 0, "{result}"),
            2..=4 | 10 => assert_eq!(asked, 10, "{result}"),
            _ => assert_eq!(asked, 20, "{result}"),
        }
        if result == 8 {
            assert_eq!(field.number("5/0/3"), Some(2));
            field.execute("5/0/2", "");
            field.pass(120_000);
        }
        assert_eq!(
            (field.number("5/0/3"), field.number("5/0/5")),
            (Some(0), Some(result))
        );
        assert_eq!(field.device.outcome(), Some(Outcome::Result(result)));
        assert_eq!(field.device.version(), version("V1"));
    }
}

#[test]
fn a_failed_update_stays_downloaded_with_some_clients() {
    let fault = Fault::Object(ObjectFault::ReportsResult(8));
    let mut field = faulty(UpdatesBy::Firmware, Character::Anjay, fault);
    field.write("5/0/1", URI.as_bytes());
    field.pass(600_000);
    field.execute("5/0/2", "");
    field.pass(120_000);
    assert_eq!(
        (field.number("5/0/3"), field.number("5/0/5")),
        (Some(2), Some(8))
    );
    assert_eq!(field.registrations, 1);
}

#[test]
fn a_deferred_update_happens_later() {
    let mut field = faulty(
        UpdatesBy::Firmware,
        Character::Leshan,
        Fault::Object(ObjectFault::Defers),
    );
    field.push("5/0/0", 512, &package());
    assert_eq!(field.execute("5/0/2", ""), Some(Code::CHANGED));
    field.pass(300_000);
    assert_eq!(
        (field.number("5/0/3"), field.number("5/0/5")),
        (Some(2), Some(11))
    );
    assert_eq!(field.device.outcome(), None);
    field.pass(400_000);
    assert_eq!(
        (field.number("5/0/3"), field.number("5/0/5")),
        (Some(0), Some(1))
    );
    assert_eq!(field.device.version(), version("V2"));
}

#[test]
fn a_stale_success_is_there_before_anything_is() {
    let fault = Fault::Object(ObjectFault::StaleSuccess);
    let mut field = faulty(UpdatesBy::Firmware, Character::Anjay, fault);
    assert_eq!(field.number("5/0/5"), Some(1));
    field.write("5/0/1", b"");
    field.write("5/0/1", URI.as_bytes());
    assert_eq!(
        (field.number("5/0/3"), field.number("5/0/5")),
        (Some(1), Some(1))
    );
    field.pass(600_000);
    assert_eq!(
        (field.number("5/0/3"), field.number("5/0/5")),
        (Some(2), Some(0))
    );
}

#[test]
fn a_result_after_another_registration_is_not_told_before() {
    let fault = Fault::Object(ObjectFault::ResultAfterRegistration);
    let mut field = faulty(UpdatesBy::Firmware, Character::Leshan, fault);
    field.push("5/0/0", 512, &package());
    field.execute("5/0/2", "");
    field.pass(120_000);
    assert_eq!(
        (field.number("5/0/3"), field.number("5/0/5")),
        (Some(3), Some(0))
    );
    assert_eq!(field.registrations, 2);
    field.pass(600_000);
    assert_eq!(
        (field.number("5/0/3"), field.number("5/0/5")),
        (Some(0), Some(1))
    );
    assert_eq!(field.registrations, 3);
}

#[test]
fn a_device_that_hides_its_update_notifies_no_state_3() {
    for hides in [false, true] {
        let mut spec = spec(UpdatesBy::Firmware, Character::Leshan);
        spec.fault = hides.then_some(Fault::Object(ObjectFault::HidesUpdating));
        let mut field = Field::new(spec);
        field.push("5/0/0", 512, &package());
        field.observe("5/0/3");
        field.execute("5/0/2", "");
        assert_eq!(field.told.len(), usize::from(!hides));
    }
}

#[test]
fn observations_are_refused_or_lead_to_nothing() {
    let fault = Fault::Object(ObjectFault::RefusesObservation);
    let mut field = faulty(UpdatesBy::Firmware, Character::Leshan, fault);
    let sent = field.observe("5/0/3").unwrap();
    assert_eq!(sent.code(), Code::METHOD_NOT_ALLOWED);
    assert_eq!(field.number("5/0/3"), Some(0), "it can be read");
    let fault = Fault::Object(ObjectFault::NeverNotifies);
    let mut field = faulty(UpdatesBy::Firmware, Character::Leshan, fault);
    assert_eq!(field.observe("5/0/3").unwrap().code(), Code::CONTENT);
    field.push("5/0/0", 512, &package());
    assert!(field.told.is_empty());
}

#[test]
fn software_that_cannot_be_installed_stays_delivered() {
    let fault = Fault::Object(ObjectFault::InstallFails);
    let mut field = faulty(UpdatesBy::Software, Character::Zephyr, fault);
    field.execute("9/0/6", "1");
    field.push("9/0/2", 64, &package());
    field.execute("9/0/4", "");
    field.pass(120_000);
    assert_eq!(
        (field.number("9/0/7"), field.number("9/0/9")),
        (Some(3), Some(58))
    );
    let fault = Fault::Object(ObjectFault::UninstallFails);
    let mut field = faulty(UpdatesBy::Software, Character::Zephyr, fault);
    field.execute("9/0/6", "1");
    assert_eq!(
        (field.number("9/0/7"), field.number("9/0/9")),
        (Some(4), Some(59))
    );
}

#[test]
fn a_device_that_stops_in_mid_download_says_nothing_more() {
    for delivery in [Delivery::Pull, Delivery::Push] {
        let mut field = faulty(
            UpdatesBy::Firmware,
            Character::Zephyr,
            Fault::StopsMidDownload(Some(3)),
        );
        match delivery {
            Delivery::Pull => {
                field.write("5/0/1", URI.as_bytes());
                field.pass(600_000);
                assert_eq!(field.asked.len(), 3);
            }
            Delivery::Push => assert_eq!(field.push("5/0/0", 256, &package()), None),
        }
        assert_eq!(field.number("5/0/3"), None);
        assert_eq!(field.device.report().state, DeviceState::Silent);
        field.pass(90_000_000);
        assert!(field.device.is_registered());
    }
}

#[test]
fn a_restart_in_mid_download_comes_from_another_address() {
    for (fault, resumes) in [
        (Fault::RebootsInDownload(Some(3)), true),
        (Fault::LosesProgress(Some(3)), false),
    ] {
        let mut field = faulty(UpdatesBy::Firmware, Character::Anjay, fault);
        field.write("5/0/1", URI.as_bytes());
        field.pass(600_000);
        assert_eq!((field.registrations, field.address_changes), (2, 1));
        let state = if resumes { 2 } else { 0 };
        assert_eq!(field.number("5/0/3"), Some(state));
    }
}
