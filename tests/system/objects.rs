//! Devices with the standard's own objects for upgrades (5, 9 and 33629) on aiocoap, which fetch their packages in the ways of the
//! clients in use.

mod fetching;
mod kills;

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Lively, Server, noise};

const MINUTE: Duration = Duration::from_mins(1);

/// Pauses of seconds, and shards so many that what a device fetches from another socket seldom comes to its own.
const QUICK: [(&str, &str); 6] = [
    ("CELLWISE_SHARDS", "4"),
    ("CELLWISE_COAP__ACK_TIMEOUT_MS", "500"),
    ("CELLWISE_UPGRADE__NUDGE_AFTER_S", "2"),
    ("CELLWISE_UPGRADE__REPEAT_QUESTION_S", "2"),
    ("CELLWISE_UPGRADE__RESULT_GRACE_S", "3"),
    ("CELLWISE_UPGRADE__CLAIM_SETTLE_S", "3"),
];

fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// A server whose product `meter` is upgraded by object 5.
fn server(more: &[(&str, &str)]) -> Server {
    let by_firmware = [("CELLWISE_PRODUCTS__METER__UPDATE_BY", "firmware")];
    Server::with(&[&QUICK[..], &by_firmware, more].concat())
}

/// How its upgrade in that task has ended: the reason.
fn ended(server: &Server, task: &Value, endpoint: &str) -> (String, Value) {
    let upgrades = server.api.finished(task, MINUTE);
    let upgrade = upgrades.into_iter().find(|it| it["endpoint"] == endpoint);
    let upgrade = upgrade.expect("its upgrade");
    let reason = upgrade["outcome"]["reason"].as_str();
    (reason.expect("a reason").to_owned(), upgrade)
}

/// All of them have been upgraded, in one attempt.
fn assert_upgraded(server: &Server, task: &Value) {
    for upgrade in server.api.finished(task, MINUTE) {
        assert_eq!(upgrade["state"], "succeeded", "{upgrade}");
        assert_eq!(upgrade["attempts"], 1, "{upgrade}");
    }
}

#[test]
fn clients_in_use_are_upgraded_by_object_5() {
    let server = server(&[]);
    let content = noise(1, 60_000);
    let hash = sha256(&content);
    let package = server.api.upload("meter", "V2.0", &content);
    let kinds: [(&str, &[&str]); 9] = [
        ("anjay", &["--character", "anjay", "--notify", "non"]),
        ("anjay-1.1", &["--lwm2m", "1.1", "--format", "senml-cbor"]),
        ("zephyr", &["--character", "zephyr", "--format", "text"]),
        ("nrf", &["--character", "nrf", "--lose", "7"]),
        (
            "leshan",
            &["--character", "leshan", "--format", "senml-json"],
        ),
        ("push", &["--character", "push", "--blocks", "128"]),
        ("push-cbor", &["--character", "push", "--format", "cbor"]),
        ("sleeps", &["--binding", "UQ"]),
        ("unobserved", &["--no-observe", "--no-text"]),
    ];
    let endpoints = kinds.map(|(endpoint, _)| endpoint);
    for endpoint in endpoints {
        server.api.add_device(endpoint, "meter");
    }
    let task = server.api.create_task("object 5", &package, &endpoints);
    let mut devices = kinds.map(|(endpoint, options)| {
        let options = [&["--expect", &hash], options].concat();
        (endpoint, Lively::start(server.coap, endpoint, &options))
    });
    for (endpoint, device) in &mut devices {
        let downloaded = device.event("downloaded");
        assert_eq!(downloaded["sha256"], hash, "{endpoint}");
        device.event("upgraded");
        if endpoint.starts_with("push") {
            assert!(device.events("offered").is_empty(), "{endpoint}");
            continue;
        }
        let offered = device.event("offered");
        let uri = offered["uri"].as_str().unwrap();
        assert!(uri.starts_with(&server.coap_uri("p/")), "{uri}");
        assert!(uri.len() < 128 && !uri.contains('?'), "{uri}");
        if *endpoint == "nrf" {
            // each answer that was lost was given again, with the token of the repeat
            assert!(device.event("fetched")["repeats"].as_u64().unwrap() >= 8);
        }
    }
    assert_upgraded(&server, &task);
    for endpoint in endpoints {
        let (_, device) = server.api.get(&format!("/v1/devices/{endpoint}"));
        assert_eq!(device["version"], "V2.0", "{device}");
    }
}

#[test]
fn software_is_installed_activated_and_updated() {
    let server = Server::with(&QUICK);
    server.api.add_device("soft", "machine");
    let files = tempfile::tempdir().unwrap();
    let kept = files.path().join("state");
    let common = ["--object", "9", "--state", kept.to_str().unwrap()];
    let mut running = None;
    for (seed, version, told) in [(2, "V2.0", None), (3, "V3.0", Some("1"))] {
        let content = noise(seed, 20_000);
        let package = server
            .api
            .upload_component("machine", version, "app", &content);
        let task = server.api.create_task(version, &package, &["soft"]);
        let hash = sha256(&content);
        let options = [&common[..], &["--to", version, "--expect", &hash]].concat();
        drop(running.take());
        let mut device = Lively::start(server.coap, "soft", &options);
        let activated = device.event("activated");
        assert_eq!(activated["version"], version);
        // the one of that name, or the one that is free
        assert_eq!(activated["instance"], 1);
        let uninstalled = device.events("told_to_uninstall");
        let arguments: Vec<_> = uninstalled
            .iter()
            .map(|it| it["arguments"].as_str().unwrap())
            .collect();
        assert_eq!(arguments, Vec::from_iter(told));
        assert_upgraded(&server, &task);
        running = Some(device);
    }
}

#[test]
fn an_upgrade_after_another_begins_with_a_reset() {
    let server = server(&[]);
    server.api.add_device("again", "meter");
    let files = tempfile::tempdir().unwrap();
    let kept = files.path().join("state");
    let kept = ["--state", kept.to_str().unwrap()];
    let mut running = None;
    for (seed, version, resets) in [(12, "V2.0", 0), (13, "V3.0", 1)] {
        let package = server.api.upload("meter", version, &noise(seed, 20_000));
        let task = server.api.create_task(version, &package, &["again"]);
        drop(running.take());
        let options = [&kept[..], &["--to", version]].concat();
        let mut device = Lively::start(server.coap, "again", &options);
        assert_eq!(device.event("upgraded")["version"], version);
        // its result is that of the upgrade before
        assert_eq!(device.events("reset").len(), resets);
        assert_upgraded(&server, &task);
        running = Some(device);
    }
}

#[test]
fn one_of_several_components_is_upgraded() {
    let server = Server::with(&QUICK);
    let content = noise(4, 20_000);
    let hash = sha256(&content);
    let package = server
        .api
        .upload_component("machine", "V2.0", "host", &content);
    let foreign = server
        .api
        .upload_component("machine", "V2.0", "display", &content);
    server.api.add_device("parts", "machine");
    let task = server.api.create_task("host", &package, &["parts"]);
    let options = [
        "--object",
        "33629",
        "--lwm2m",
        "1.1",
        "--expect",
        &hash,
        "--character",
        "nrf",
    ];
    let mut device = Lively::start(server.coap, "parts", &options);
    let told = device.event("told_to_install");
    // the argument 0: this instance alone
    assert_eq!(
        (&told["instance"], &told["arguments"]),
        (&json!(1), &json!("0"))
    );
    device.event("upgraded");
    assert_upgraded(&server, &task);
    // there is no such component
    let task = server.api.create_task("display", &foreign, &["parts"]);
    let (reason, upgrade) = ended(&server, &task, "parts");
    assert_eq!(reason, "not_supported", "{upgrade}");
}

#[test]
fn what_a_device_tells_of_its_failure_ends_its_upgrade() {
    let server = server(&[
        ("CELLWISE_PRODUCTS__MACHINE__UPDATE_BY", "software"),
        ("CELLWISE_UPGRADE__MAX_NUDGES", "2"),
    ]);
    let content = noise(6, 20_000);
    let package = server.api.upload("meter", "V2.0", &content);
    let software = server
        .api
        .upload_component("machine", "V2.0", "app", &content);
    // endpoint, options, reason, result
    let kinds: [(&str, &[&str], &str, Option<u8>); 7] = [
        ("fails", &["--fail", "5"], "update_result", Some(5)),
        // its image is not what it expects
        ("checks", &["--expect", "00"], "update_result", Some(5)),
        ("lies", &["--character", "liar"], "not_downloaded", None),
        // it says that it is downloading, again and again
        ("idles", &["--character", "idle"], "download_stalled", None),
        (
            "soft",
            &["--object", "9", "--fail", "58"],
            "update_result",
            Some(58),
        ),
        // told to install
        ("breaks", &["--fail-install", "8"], "update_result", Some(8)),
        ("reverts", &["--revert"], "wrong_version", None),
    ];
    let tasks = kinds.map(|(endpoint, options, ..)| {
        let of_software = options.contains(&"--object");
        let product = if of_software { "machine" } else { "meter" };
        let package = if of_software { &software } else { &package };
        server.api.add_device(endpoint, product);
        let task = server.api.create_task(endpoint, package, &[endpoint]);
        (task, Lively::start(server.coap, endpoint, options))
    });
    for ((endpoint, _, reason, result), (task, mut device)) in kinds.into_iter().zip(tasks) {
        let (became, upgrade) = ended(&server, &task, endpoint);
        assert_eq!(became, reason, "{endpoint}: {upgrade}");
        let told = &upgrade["outcome"]["arguments"]["result"];
        assert_eq!(*told, Value::from(result), "{endpoint}: {upgrade}");
        device.event("offered");
        let installs = device.events("told_to_install").len();
        let expected = match endpoint {
            // it is given the package again in the next attempt, if the task has one
            "breaks" | "reverts" => 1,
            _ => 0,
        };
        assert_eq!(installs, expected, "{endpoint}");
    }
}
