use serde_json::{Value, json};

use super::*;
use crate::{
    clock::UtcMillis,
    home::OfferId,
    ledger::{TaskId, UpgradeId},
    package::Version,
    store::{OfferSeen, WeakStart},
};

fn told(kind: &str, subject: Subject) -> Value {
    let event = Event {
        id: 42,
        at: UtcMillis(1_800_000_000_000),
        kind: kind.to_owned(),
        task: TaskId(7),
        task_name: "Locks".to_owned(),
        product: "lock".to_owned(),
        version: Version::new("V2").unwrap(),
        subject,
    };
    let payload = Payload::new(&event, &Instance::new(&[7; 8]));
    assert_eq!(payload.id(), "evt_0707070707070707_42");
    serde_json::to_value(payload).unwrap()
}

fn upgrade(home: Option<&str>, reason: Option<&str>, stage: Option<Stage>) -> Subject {
    Subject::Upgrade {
        upgrade: UpgradeId(9),
        endpoint: "lock-1".to_owned(),
        attempts: 1,
        reason: reason.map(str::to_owned),
        told: None,
        cell: None,
        started_at: None,
        home: home.map(|home| home.parse().unwrap()),
        stage,
    }
}

#[test]
fn what_happens_at_home_is_told_with_the_home_and_as_an_application_sees_it() {
    for (kind, reason, stage, app) in [
        (
            "upgrade.awaiting",
            None,
            None,
            json!({"status": 100, "status_name": "preparing", "error": null}),
        ),
        (
            "upgrade.started",
            None,
            Some(Stage::WaitingForDevice),
            json!({"status": 5, "status_name": "waiting_for_wake_up", "error": null}),
        ),
        (
            "upgrade.succeeded",
            Some("upgraded"),
            None,
            json!({"status": 3, "status_name": "succeeded", "error": null}),
        ),
        (
            "upgrade.failed",
            Some("download_timed_out"),
            None,
            json!({"status": 7, "status_name": "timed_out", "error": 5016}),
        ),
        (
            "upgrade.cancelled",
            Some("refused_by_owner"),
            None,
            json!({"status": 4, "status_name": "failed", "error": 5099}),
        ),
    ] {
        let data = told(kind, upgrade(Some("h-1"), reason, stage))["data"].take();
        assert_eq!(data["home"], "h-1");
        assert_eq!(data["app"], app, "{kind}");
        assert_eq!(
            Some(data["state"].as_str().unwrap()),
            kind.strip_prefix("upgrade.")
        );
        assert!(UPGRADE_KINDS.contains(&kind));
    }
    let data = told("upgrade.succeeded", upgrade(None, Some("upgraded"), None))["data"].take();
    assert_eq!((&data["home"], &data["app"]), (&Value::Null, &Value::Null));
    assert!(data.as_object().unwrap().contains_key("home"));
}

#[test]
fn a_home_that_sees_an_offer_is_told_with_it() {
    let subject = Subject::Offer {
        home: "h-1".parse().unwrap(),
        sees: OfferSeen {
            offer: OfferId(3),
            devices: 2,
        },
    };
    let expected = json!({
        "id": "evt_0707070707070707_42", "type": "offer.visible", "timestamp": "2027-01-15T08:00:00.000Z",
        "data": {
            "task_id": 7, "task_name": "Locks", "product": "lock", "version": "V2", "state": "visible",
            "home": "h-1", "offer": 3, "devices": 2,
        },
    });
    assert_eq!(told("offer.visible", subject), expected);
}

#[test]
fn a_start_that_waits_is_told_with_what_it_waits_for() {
    let subject = Subject::Start {
        endpoint: "lock-1".to_owned(),
        home: "h-1".parse().unwrap(),
        waits: WeakStart {
            offer: OfferId(3),
            rsrp_dbm: -121,
            least_dbm: -115,
            until: UtcMillis(1_800_000_600_000),
        },
    };
    let expected = json!({
        "id": "evt_0707070707070707_42", "type": "start.waiting", "timestamp": "2027-01-15T08:00:00.000Z",
        "data": {
            "task_id": 7, "task_name": "Locks", "product": "lock", "version": "V2", "state": "waiting",
            "endpoint": "lock-1", "home": "h-1", "offer": 3, "rsrp_dbm": -121, "least_dbm": -115,
            "until": "2027-01-15T08:10:00.000Z",
            "app": {"status": 1, "status_name": "available", "error": 5005},
        },
    });
    assert_eq!(told("start.waiting", subject), expected);
}
