use serde_json::{Map, Value, json};

use super::*;
use crate::{
    clock::UtcMillis,
    ledger::{
        Asked, Doubt, Explanation, Facts, FailedIn, Fate, Form, Happened, Home, Inbound, Last,
        Limit, Line, Misread, Outbound, Postponed, Question, Queue, Repeated, Said, Sent,
        Unhealthy, Wanted,
    },
    package::{Fits, Version},
    task::Stand,
};

const AT: UtcMillis = UtcMillis(1_800_000_000_000);

fn version(text: &str) -> Version {
    Version::new(text).unwrap()
}

fn read() -> String {
    "/4/0".to_owned()
}

fn code() -> String {
    "4.05".to_owned()
}

fn of_the_negotiation() -> Vec<Happened> {
    let (v1, v2) = (version("V1"), version("V2"));
    vec![
        Happened::AttemptBegun { attempt: 2 },
        Happened::Registered,
        Happened::Heard,
        Happened::NoAnswer,
        Happened::CoverageOutdated,
        Happened::RunsOtherVersion {
            version: v1,
            target: v2,
        },
        Happened::NotBelieved { version: v2 },
        Happened::StepDone {
            step: 1,
            version: v2,
        },
        Happened::NoCoverage,
        Happened::CellNotTold,
        Happened::NotMeasured { cell: 7 },
        Happened::Queued { cell: 7, limit: 10 },
        Happened::QueuedAt { at: Home::Site },
        Happened::QueuedAt { at: Home::Gateway },
        Happened::KeptAwake { turn: UtcMillis(0) },
        Happened::Appointed { at: UtcMillis(0) },
        Happened::AppointmentRefused {
            answer: Some("4.05".into()),
        },
        Happened::AppointmentRefused { answer: None },
        Happened::SlotGranted { cell: 7 },
        Happened::SlotGrantedAt { at: Home::Site },
        Happened::SlotReturnedQuiet { cell: 7, nudges: 3 },
        Happened::SlotReturnedUndelivered { cell: 7 },
        Happened::VersionAccepted,
        Happened::FirstSegment {
            segment: 0,
            segments: 9,
        },
        Happened::VersionDeclined { result: 3 },
        Happened::Quiet { segment: None },
        Happened::Quiet { segment: Some(4) },
        Happened::Downloaded,
        Happened::DownloadedAgain,
        Happened::DownloadsAgain { segment: 0 },
        Happened::CommandDelivered,
        Happened::CommandAccepted,
        Happened::CommandUnconfirmed { version: v1 },
        Happened::NoResult,
        Happened::UpgradeReported {
            result: 10,
            version: v2,
        },
        Happened::SuccessOfOtherVersion { version: v1 },
    ]
}

fn besides() -> Vec<Happened> {
    let v1 = version("V1");
    let form = |format, instance| Form { format, instance };
    vec![
        Happened::NotPcp {
            problem: "is short".into(),
        },
        Happened::OwnTimeout,
        Happened::SegmentOfOtherVersion {
            segment: 1,
            version: v1,
        },
        Happened::NoSuchSegment {
            segment: 9,
            segments: 9,
        },
        Happened::BeganAgain { percent: 30 },
        Happened::WentOnElsewhere {
            segment: 5,
            last: 1,
            percent: 11,
        },
        Happened::AddressChanged {
            address: "[::1]:5".into(),
        },
        Happened::AssociationEnded,
        Happened::AssociationBegun,
        Happened::Deregistered,
        Happened::RegistrationExpired,
        Happened::ObservationRefused { answer: code() },
        Happened::ObservationUnconfirmed,
        Happened::ReadFormatRefused {
            path: read(),
            format: 112,
            answer: code(),
        },
        Happened::ReadRefused {
            path: read(),
            answer: code(),
        },
        Happened::WriteRefused { answer: code() },
        Happened::WriteFormRefused {
            answer: code(),
            refused: form(42, false),
            next: form(11_542, true),
        },
        Happened::TakenUpAgain {},
        Happened::Connected,
        Happened::GatewayOffline { gateway: None },
        Happened::GatewayOffline {
            gateway: Some("gw-7".into()),
        },
        Happened::ChildOffline {
            gateway: Some("gw-7".into()),
        },
        Happened::GatewayChanged { gateway: None },
        Happened::GatewayChanged {
            gateway: Some("gw-8".into()),
        },
        Happened::VersionUnknown,
        Happened::StillRuns { version: v1 },
        Happened::OnItsWay { percent: None },
        Happened::OnItsWay { percent: Some(30) },
        Happened::Fetches,
        Happened::Fetched,
        Happened::Through,
        Happened::ClaimNotShown { version: v1 },
        Happened::Joined {},
        Happened::Confirmed { by: "anna".into() },
        Happened::Confirmed { by: String::new() },
        Happened::ConfirmedFor {
            by: "anna".into(),
            at: AT,
        },
        Happened::ConfirmationTakenBack { by: String::new() },
        Happened::PutOff {
            resource: "bytes".into(),
            budget: 2_000_000,
            used: 1_500_000,
            needed: 600_000,
            until: AT,
        },
        Happened::PutOff {
            resource: "airtime_estimated_ms".into(),
            budget: 60_000,
            used: 30_000,
            needed: 40_000,
            until: AT,
        },
        Happened::SoakBegun { until: AT },
        Happened::SoakPassed {},
        Happened::SoakFailed(Unhealthy::OtherVersion {
            version: version("V1"),
        }),
        Happened::SoakFailed(Unhealthy::NotHeard),
        Happened::SoakFailed(Unhealthy::VersionNotTold),
        Happened::SoakPassedOver { removed: true },
        Happened::SoakPassedOver { removed: false },
        Happened::Ended {
            reason: "slot_timed_out".into(),
            next_attempt_at: Some(AT),
            facts: Box::new(all_facts()),
        },
    ]
}

fn happenings() -> Vec<Happened> {
    let v2 = version("V2");
    let doubts = [
        Doubt::NoRestart,
        Doubt::NotCommanded,
        Doubt::Failed {
            failed_in: FailedIn::Download,
            result: 7,
        },
    ];
    let explanations = [
        Explanation::Restarted,
        Explanation::Expired,
        Explanation::Refused,
        Explanation::ServerRestarted,
        Explanation::ServerYoung,
        Explanation::EarlierMessage,
    ];
    let repeated = [
        Repeated::Registration,
        Repeated::Address,
        Repeated::Association,
        Repeated::Observation,
        Repeated::Write,
        Repeated::Jump,
        Repeated::Refusal,
        Repeated::NotPcp,
        Repeated::OwnTimeout,
        Repeated::Claim,
        Repeated::Attributes,
        Repeated::Question,
        Repeated::KeptAwake,
        Repeated::Appointed,
        Repeated::AppointmentRefused,
        Repeated::Connection,
        Repeated::HeardAgain,
    ];
    let misreads = [
        Misread::Unreadable {
            path: read(),
            problem: "it ends".into(),
        },
        Misread::Cell {
            path: read(),
            told: "\"x\"".into(),
        },
        Misread::Format {
            path: read(),
            format: 50,
        },
    ];
    let answers = [None, Some(code())];
    let doubted = |doubt| Happened::ClaimDoubted { version: v2, doubt };
    let format_refused = |answer| Happened::ObservationFormatRefused { format: 42, answer };
    let attributes_refused = |answer| Happened::AttributesRefused { answer };
    (of_the_negotiation().into_iter())
        .chain(besides())
        .chain(doubts.map(doubted))
        .chain(explanations.map(|why| Happened::RegisteredAnew { why }))
        .chain(repeated.map(|what| Happened::Repeated { what, times: 2 }))
        .chain(misreads.map(Happened::NotUnderstood))
        .chain(answers.clone().map(format_refused))
        .chain(answers.map(attributes_refused))
        .collect()
}

fn all_facts() -> Facts {
    Facts {
        object: None,
        step: None,
        result: None,
        code: None,
        description: None,
        unverified: false,
        segment: Some(12),
        version: Some(version("V1")),
        hardware: Some("B".into()),
        target: Some(version("V2")),
        wanted: vec![Wanted {
            target: version("V2"),
            from: Fits::default(),
        }],
        objects: Some(vec![3, 4]),
        not_understood: Some(Misread::Format {
            path: read(),
            format: 50,
        }),
        limit: Some(Limit {
            setting: "upgrade.wait_for_slot_s".into(),
            seconds: 60,
        }),
        queue: Some(Queue {
            cell: 7,
            taken: 1,
            limit: 1,
            ahead: 3,
        }),
        last: Some(Last {
            sent: Some(Sent {
                message: Outbound::Segment { segment: 12 },
                times: 2,
                at: AT,
                fate: Fate::Refused { answer: code() },
            }),
            known_since: Some(AT),
            said: Some(Said {
                message: Inbound::Version {
                    result: 0,
                    version: Some(version("V1")),
                },
                at: AT,
            }),
            heard_at: Some(AT),
            heard_as_stored: true,
        }),
    }
}

const TIMELINE: &str = include_str!("../../docs/timeline.md");

#[test]
fn every_line_comes_back_from_its_code_and_arguments_and_has_a_sentence() {
    let asked = [
        Asked::Version,
        Asked::VersionAgain,
        Asked::WhichVersion,
        Asked::Coverage,
        Asked::CoverageAgain,
        Asked::Cell,
        Asked::CellAgain,
        Asked::ToDownload {
            new_version: version("V2"),
            segments: 9,
            segment_size: 500,
            check_code: 0xBEEF,
        },
        Asked::ToDownloadAgain,
        Asked::ToUpgrade,
        Asked::ToUpgradeAgain,
        Asked::ReportVersion,
        Asked::ToFetch {
            new_version: version("V2"),
            size_bytes: 5_000,
        },
        Asked::ToFetchAgain,
        Asked::AfterServerRestart {
            question: Question::Cell,
        },
    ];
    let postponed = [
        Postponed::NotRegistered,
        Postponed::AddressUnknown,
        Postponed::ServerStarting,
        Postponed::Asleep,
        Postponed::AskedBefore,
    ];
    let lines = (happenings().into_iter().map(Line::from))
        .chain(asked.map(|asked| Line::asking(Happened::Asked, asked, Some(3))))
        .chain(postponed.map(|why| Line {
            postponed: Some(why),
            ..Happened::Quiet { segment: None }.into()
        }));
    for told in lines {
        let (code, arguments) = told.parts();
        assert!(!code.is_empty(), "{told:?}");
        let (same_code, written) = told.text_parts();
        let read: Map<String, Value> = serde_json::from_str(&written).unwrap();
        assert_eq!((&same_code, &read), (&code, &arguments), "{written}");
        let row = format!("\n| `{code}` |");
        assert!(TIMELINE.contains(&row), "docs/timeline.md has no {code}");
        let again = Line::of(&code, arguments.clone());
        assert_eq!(again.ok().as_ref(), Some(&told), "{code} {arguments:?}");
        let sentence = line(&told);
        assert!(sentence.len() >= 5, "{told:?}: {sentence:?}");
    }
}

#[test]
fn a_line_is_an_object_with_a_code() {
    let granted = Line::asking(
        Happened::SlotGranted { cell: 7 },
        Asked::ToDownload {
            new_version: version("V2"),
            segments: 9,
            segment_size: 500,
            check_code: 0xBEEF,
        },
        None,
    );
    let (code, arguments) = granted.parts();
    assert_eq!(code, "slot_granted");
    let expected = json!({
        "cell": 7, "asked": "to_download", "new_version": "V2", "segments": 9, "segment_size": 500, "check_code": 0xBEEF
    });
    assert_eq!(serde_json::Value::Object(arguments), expected);
    assert_eq!(
        line(&granted),
        "slot in cell 7 granted: notified of \"V2\" (PCP 20), 9 segments of 500 bytes, check code 0xbeef"
    );
}

#[test]
fn an_outcome_of_a_newer_program_is_told_by_its_word() {
    assert_eq!(
        ending("struck_by_lightning", &all_facts()),
        "struck_by_lightning"
    );
}

#[test]
fn all_that_is_known_of_an_end_is_told() {
    assert_eq!(
        ending("slot_timed_out", &all_facts()),
        "the cell had no free slot within the limit. It announces objects 3, 4. \
         Limit: upgrade.wait_for_slot_s = 60. \
         1 device upgraded in cell 7; this one's coverage allowed 1; 3 waited before it. \
         A longer limit would have helped, or fewer devices of that cell at a time. \
         Sent last: segment 12 (PCP 21), 2 times since the server started at 2027-01-15T08:00:00.000Z, at \
         2027-01-15T08:00:00.000Z, refused with 4.05. Said last: version \"V1\" (PCP 19) at 2027-01-15T08:00:00.000Z. \
         Heard last, as far as is stored, at 2027-01-15T08:00:00.000Z"
    );
}

#[test]
fn what_a_device_over_mqtt_reports_is_told_in_its_words() {
    let facts = Facts {
        code: Some(7),
        description: Some("sha256 differs".into()),
        ..Facts::default()
    };
    assert_eq!(
        ending("reported_failure", &facts),
        "the device reported a failure (MQTT): code 7, the check of the package failed. It says \"sha256 differs\""
    );
    let of_a_vendor = Facts {
        code: Some(77),
        ..Facts::default()
    };
    assert_eq!(
        ending("reported_failure", &of_a_vendor),
        "the device reported a failure (MQTT): code 77"
    );
    let weak = Facts {
        code: Some(4),
        ..Facts::default()
    };
    assert_eq!(
        ending("refused_battery", &weak),
        "the device refused (code 4): its battery is too low. Try again once that has changed"
    );
    let unverified = Facts {
        unverified: true,
        ..Facts::default()
    };
    assert_eq!(
        ending("upgraded", &unverified),
        "upgraded, as the device says; nothing else shows it (unverified)"
    );
}

#[test]
fn a_task_that_waits_for_devices_says_until_when() {
    for (waits, expected) in [
        (
            Stand::AwaitsDevices(None),
            "nothing is left to do; it waits for devices that join, until it is stopped",
        ),
        (
            Stand::AwaitsDevices(Some(AT)),
            "nothing is left to do; it waits for devices that join, until 2027-01-15T08:00:00.000Z",
        ),
        (
            Stand::EmptyPhase(1),
            "nobody is in phase 2; it waits for devices that join, or for the next phase to be begun",
        ),
    ] {
        assert_eq!(waits.code(), "joining");
        assert_eq!(stand(&waits), expected);
    }
}
