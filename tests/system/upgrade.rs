use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{Device, Server, noise};

const MINUTE: Duration = Duration::from_mins(1);

fn event<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let found = events.iter().find(|event| event["event"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {events:?}"))
}

#[test]
fn aiocoap_devices_are_upgraded_in_every_format_they_speak() {
    let server = Server::start();
    let content = noise(1, 5_300);
    let package = server.api.upload("meter", "V2.0", &content);
    let kinds: [(&str, &[&str]); 7] = [
        ("tlv", &["--format", "tlv"]),
        ("text", &["--format", "text"]),
        ("bare", &["--format", "bare"]),
        ("json", &["--format", "senml-json", "--notify", "non"]),
        ("cbor", &["--format", "senml-cbor", "--silent-20"]),
        ("reboots", &["--drop-after", "4", "--restart"]),
        ("sleeps", &["--binding", "UQ"]),
    ];
    let endpoints = kinds.map(|(endpoint, _)| endpoint);
    for endpoint in endpoints {
        server.api.add_device(endpoint, "meter");
    }
    let task = server.api.create_task("all formats", &package, &endpoints);
    let devices = kinds.map(|(endpoint, options)| Device::start(&server, endpoint, options));
    for device in devices {
        let events = device.upgraded();
        let downloaded = event(&events, "downloaded");
        assert_eq!(downloaded["bytes"], 5_300);
        assert_eq!(downloaded["sha256"], hex::encode(Sha256::digest(&content)));
        assert_eq!(event(&events, "upgraded")["version"], "V2.0");
    }
    let upgrades = server.api.finished(&task, MINUTE);
    assert_eq!(upgrades.len(), endpoints.len());
    for upgrade in upgrades {
        assert_eq!(upgrade["state"], "succeeded", "{upgrade}");
    }
}

#[test]
fn a_device_that_tells_its_cell_alone_is_upgraded() {
    let server = Server::start();
    let package = server.api.upload("meter", "V2.0", &noise(2, 700));
    server.api.add_device("plain", "meter");
    let task = server.api.create_task("cell alone", &package, &["plain"]);
    // RSRP and SINR as firmware without them answers: a constant
    let device = Device::start(&server, "plain", &["--rsrp", "80", "--sinr", "80"]);
    device.upgraded();
    let upgrades = server.api.finished(&task, MINUTE);
    assert_eq!(upgrades[0]["state"], "succeeded", "{upgrades:?}");
}

#[test]
fn a_device_that_runs_the_version_is_left_alone() {
    let server = Server::start();
    let package = server.api.upload("meter", "V2.0", &noise(3, 700));
    server.api.add_device("current", "meter");
    let task = server
        .api
        .create_task("nothing to do", &package, &["current"]);
    // it waits in vain to be told of a new version
    let _device = Device::start(&server, "current", &["--version", "V2.0", "--wait", "5"]);
    let upgrades = server.api.finished(&task, MINUTE);
    assert_eq!(upgrades[0]["state"], "succeeded", "{upgrades:?}");
}
