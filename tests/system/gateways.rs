//! Devices behind a gateway on paho-mqtt: plans under conditions, and upgrades that the owners of devices confirm.

use std::time::Duration;

use cellwise::clock::SystemClock;
use serde_json::{Value, json};

use crate::{
    mqtt::{add, became, iotda, mqtts, secured},
    support::{Device, Server, noise, wait_for},
};

const MINUTE: Duration = Duration::from_mins(1);

fn add_behind(server: &Server, gateway: &str, children: &[&str]) {
    for child in children {
        let body = json!({"endpoint": child, "product": "sensors", "via": gateway,
            "mqtt": {"style": "iotda", "gateway": true}});
        let (status, told) = server.api.post("/v1/devices", &body);
        assert_eq!(status, 201, "{told}");
    }
}

fn create(server: &Server, task: &Value) -> i64 {
    let (status, created) = server.api.post("/v1/tasks", task);
    assert_eq!(status, 201, "{created}");
    created["id"].as_i64().expect("a number")
}

fn upgrade_of(server: &Server, task: i64, child: &str) -> Value {
    let (_, body) = server.api.get(&format!("/v1/tasks/{task}/upgrades"));
    let upgrades = body["items"].as_array().expect("upgrades").clone();
    let mut upgrades = upgrades.into_iter();
    (upgrades.find(|it| it["endpoint"] == child)).expect("its upgrade")
}

/// The owner of a device answers.
fn answer(server: &Server, task: i64, child: &str, body: &Value) -> Value {
    let id = &upgrade_of(server, task, child)["id"];
    let (status, told) = (server.api).post(&format!("/v1/upgrades/{id}/confirm"), body);
    assert_eq!(status, 200, "{told}");
    told
}

#[test]
fn a_paho_gateway_refuses_by_condition_and_is_offered_nothing_before_owners_confirm_it() {
    let files = tempfile::tempdir().unwrap();
    let mut server = secured(files.path());
    add(&server, "gw-1", "gateways", &iotda("gw-1"));
    let silent = ["c-signal", "c-space", "c-memory", "c-busy"];
    let manual = ["c-manual", "c-later", "c-refused", "c-silent"];
    add_behind(&server, "gw-1", &silent);
    add_behind(&server, "gw-1", &manual);
    let id = server.api.upload("sensors", "V2.0", &noise(13, 30_000));
    let conditions = json!({"battery_percent": 30, "space_kib": 64, "signal_dbm": -110});
    let silent = create(
        &server,
        &json!({"name": "silent", "package_id": id, "devices": silent, "conditions": conditions,
            "retry": {"attempts": 1, "interval_seconds": 1, "reasons": ["refused_space"]}}),
    );
    let manual = create(
        &server,
        &json!({"name": "manual", "package_id": id, "devices": manual, "confirmation": "device_owner"}),
    );
    let refused = answer(&server, manual, "c-refused", &json!({"confirmed": false}));
    assert_eq!(refused["outcome"]["reason"], "refused_by_owner");
    let now = SystemClock::start().now().utc;
    let at = (now + Duration::from_secs(6)).to_string();
    let later = answer(
        &server,
        manual,
        "c-later",
        &json!({"at": at, "by": "flat 12"}),
    );
    assert_eq!(later["awaits_confirmation"], false);

    // it outlives the server
    server.kill_and_restart();
    let address = mqtts(&server).to_string();
    let authority = files.path().join("server.pem");
    let mut options = vec!["--server", &*address, "--ca", authority.to_str().unwrap()];
    options.extend(["--secret", "gw-1-secret"]);
    let habits = [
        "c-signal=refuses@2",
        "c-space=refuses@5",
        "c-memory=refuses@9",
        "c-busy=refuses@1",
        "c-manual=good",
        "c-later=good",
        "c-refused=unasked",
        "c-silent=unasked",
    ];
    options.extend(habits.iter().flat_map(|habit| ["--child", habit]));
    let gateway = Device::over_mqtt("iotda_gateway.py", "gw-1", &options);

    wait_for(MINUTE, "a second attempt of the one without space", || {
        let upgrade = upgrade_of(&server, silent, "c-space");
        (upgrade["attempts"] == 2 && upgrade["state"] == "failed").then_some(())
    });
    answer(&server, manual, "c-manual", &json!({}));
    let events = gateway.upgraded();
    let told = |child: &str| {
        let messages = events.iter().map(|event| &event["message"]);
        let of_child = messages.filter(|message| message["object_device_id"] == child);
        let offers = of_child.map(|message| &message["services"][0]["paras"]);
        let info = offers.map(|offer| &offer["custom_info"]);
        info.filter_map(Value::as_str).collect::<Vec<_>>()
    };
    let asked: Value = serde_json::from_str(told("c-signal")[0]).expect("conditions");
    assert_eq!(asked, conditions);
    assert_eq!(told("c-manual"), [""]);
    assert_eq!(told("c-silent").len() + told("c-refused").len(), 0);
    let upgrades = server.api.finished(&json!(silent), MINUTE);
    for (child, reason, code, attempts) in [
        ("c-signal", "refused_signal", 2, 1),
        ("c-space", "refused_space", 5, 2),
        ("c-memory", "refused_memory", 9, 1),
        ("c-busy", "refused_in_use", 1, 1),
    ] {
        let (told, arguments) = became(&upgrades, child);
        assert_eq!((&*told, &arguments["code"]), (reason, &json!(code)));
        let upgrade = upgrades.iter().find(|it| it["endpoint"] == child);
        assert_eq!(
            upgrade.expect("its upgrade")["attempts"],
            attempts,
            "{child}"
        );
    }
    for child in ["c-manual", "c-later"] {
        let upgrade = wait_for(MINUTE, "a success", || {
            let upgrade = upgrade_of(&server, manual, child);
            (upgrade["state"] == "succeeded").then_some(upgrade)
        });
        assert_eq!(upgrade["outcome"]["reason"], "upgraded", "{child}");
    }
    let later = upgrade_of(&server, manual, "c-later");
    assert!(
        later["started_at"].as_str() >= later["confirmed_for"].as_str(),
        "{later}"
    );
    assert_eq!(upgrade_of(&server, manual, "c-silent")["state"], "pending");
}
