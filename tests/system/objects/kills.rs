//! Either side is killed in mid-transfer, and tasks are stopped there.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{
    MINUTE, QUICK, assert_upgraded,
    fetching::{coap_client, over_http},
    server, sha256,
};
use crate::{
    shards::{Nat, counter},
    support::{Lively, Server, identity, noise, wait_for},
};

/// A device of each kind, with what it keeps, that stops in mid-transfer.
struct InTransfer {
    devices: Vec<(&'static str, Vec<String>, Option<Lively>)>,
    tasks: Vec<Value>,
}

/// Endpoint, product, its own options.
const KINDS: [(&str, &str, &[&str]); 6] = [
    ("anjay", "meter", &["--character", "anjay"]),
    ("zephyr", "meter", &["--character", "zephyr"]),
    ("nrf", "meter", &["--character", "nrf"]),
    ("push", "meter", &["--character", "push"]),
    ("soft", "machine", &["--object", "9"]),
    ("web", "web", &["--http"]),
];

/// Lets those that have stopped in mid-transfer go on.
fn go_on(files: &Path) {
    fs::write(files.join("hold"), "").unwrap();
}

/// With products for these devices.
fn server_of_all_kinds() -> Server {
    over_http(&[("CELLWISE_PRODUCTS__MACHINE__UPDATE_BY", "software")])
}

impl InTransfer {
    /// Until each of them has some of its package.
    fn start(server: &Server, files: &Path) -> Self {
        let content = noise(7, 40_000);
        let hash = sha256(&content);
        let hold = files.join("hold");
        let mut this = Self {
            devices: Vec::new(),
            tasks: Vec::new(),
        };
        for product in ["meter", "machine", "web"] {
            let package = if product == "machine" {
                (server.api).upload_component(product, "V2.0", "app", &content)
            } else {
                server.api.upload(product, "V2.0", &content)
            };
            let mut endpoints = Vec::new();
            for (endpoint, _, own) in KINDS.iter().filter(|(_, of, _)| *of == product) {
                server.api.add_device(endpoint, product);
                let state = files.join(endpoint);
                let state = ["--state", state.to_str().unwrap()];
                let common = ["--hold", hold.to_str().unwrap(), "--expect", &hash];
                let options = [&common, &state[..], own].concat();
                let options = options.into_iter().map(str::to_owned).collect();
                this.devices.push((endpoint, options, None));
                endpoints.push(*endpoint);
            }
            let task = server.api.create_task(product, &package, &endpoints);
            this.tasks.push(task);
        }
        this.boot(server);
        for (_, _, device) in &mut this.devices {
            device.as_mut().unwrap().event("progress");
        }
        this
    }

    fn boot(&mut self, server: &Server) {
        for (endpoint, options, device) in &mut self.devices {
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            *device = Some(Lively::start(server.coap, endpoint, &options));
        }
    }

    /// SIGKILL for each.
    fn kill(&mut self) {
        for (_, _, device) in &mut self.devices {
            drop(device.take());
        }
    }

    /// All of them, with nothing left in doubt of what was served in blocks.
    fn are_upgraded(&self, server: &Server) {
        for task in &self.tasks {
            assert_upgraded(server, task);
            for upgrade in server.api.finished(task, MINUTE) {
                let over_http = upgrade["endpoint"] == "web";
                let reason = &upgrade["outcome"]["reason"];
                assert!(over_http || reason == "upgraded", "{upgrade}");
            }
        }
    }
}

#[test]
fn a_server_killed_in_mid_transfer_brings_it_to_its_end() {
    let mut server = server_of_all_kinds();
    let files = tempfile::tempdir().unwrap();
    let mut transfers = InTransfer::start(&server, files.path());
    server.kill_and_restart();
    go_on(files.path());
    transfers.are_upgraded(&server);
    for (kind, _, device) in &mut transfers.devices {
        let device = device.as_mut().unwrap();
        device.event("downloaded");
        // whoever fetches goes on with what it has
        let offers = usize::from(*kind != "push");
        assert_eq!(device.events("offered").len(), offers, "{kind}");
    }
}

#[test]
fn a_device_killed_in_mid_transfer_resumes_or_begins_anew() {
    let server = server_of_all_kinds();
    let files = tempfile::tempdir().unwrap();
    let mut transfers = InTransfer::start(&server, files.path());
    transfers.kill();
    go_on(files.path());
    transfers.boot(&server);
    transfers.are_upgraded(&server);
    for (kind, _, device) in &mut transfers.devices {
        let device = device.as_mut().unwrap();
        device.event("downloaded");
        let resumed = device.events("resumes");
        let offered = device.events("offered");
        match *kind {
            // with the URI and the ETag that it has
            "anjay" | "soft" | "web" => {
                let bytes = resumed[0]["bytes"].as_u64().unwrap();
                assert!(bytes >= 8_192, "{kind}: {resumed:?}");
                assert!(offered.is_empty(), "{kind}: {offered:?}");
            }
            "push" => assert!(resumed.is_empty() && offered.is_empty()),
            _ => assert_eq!((resumed.len(), offered.len()), (0, 1), "{kind}"),
        }
    }
}

#[test]
fn a_server_killed_while_devices_install_hears_how_that_ended() {
    let mut server = server(&[]);
    let content = noise(14, 20_000);
    let package = server.api.upload("meter", "V2.0", &content);
    let kinds = ["anjay", "zephyr", "nrf", "push"];
    for kind in kinds {
        server.api.add_device(kind, "meter");
    }
    let task = server.api.create_task("installing", &package, &kinds);
    let mut devices = kinds.map(|kind| {
        let options = ["--character", kind, "--reboot", "2"];
        Lively::start(server.coap, kind, &options)
    });
    for device in &mut devices {
        device.event("told_to_install");
    }
    server.kill_and_restart();
    for device in &mut devices {
        device.event("upgraded");
        assert_eq!(device.events("told_to_install").len(), 1);
    }
    assert_upgraded(&server, &task);
}

#[test]
fn a_server_killed_in_mid_transfer_over_dtls_brings_it_to_its_end() {
    let by_firmware = [
        ("CELLWISE_COAP__ENABLED", "false"),
        ("CELLWISE_PRODUCTS__METER__UPDATE_BY", "firmware"),
    ];
    let mut server = Server::secured(&[&QUICK[..], &by_firmware].concat());
    let package = server.api.upload("meter", "V2.0", &noise(16, 40_000));
    let kinds = ["anjay", "nrf"];
    let key = b"sixteen byte key";
    let files = tempfile::tempdir().unwrap();
    for kind in kinds {
        server.api.add_secured(kind, "meter", key);
    }
    let task = server.api.create_task("secured", &package, &kinds);
    let mut devices = kinds.map(|kind| {
        let (who, key) = (identity(kind), hex::encode(key));
        let hold = files.path().join("hold");
        let options = ["--character", kind, "--update-every", "1"];
        let own = [
            "--hold",
            hold.to_str().unwrap(),
            "--identity",
            &who,
            "--key",
            &key,
        ];
        let options = [&options[..], &own].concat();
        Lively::start(server.coaps(), kind, &options)
    });
    for device in &mut devices {
        device.event("progress");
    }
    server.kill_and_restart();
    for device in &mut devices {
        wait_for(MINUTE, "another registration", || {
            (device.events("registered").len() > 1).then_some(())
        });
    }
    go_on(files.path());
    assert_upgraded(&server, &task);
    for device in &mut devices {
        // neither association outlives the server
        device.event("connects_anew");
        assert!(device.events("registered").len() >= 3);
        assert_eq!(device.events("offered").len(), 1);
    }
}

#[test]
fn a_transfer_goes_on_while_the_addresses_that_it_comes_from_change() {
    let server = server(&[]);
    let content = noise(15, 40_000);
    let package = server.api.upload("meter", "V2.0", &content);
    let kinds = ["anjay", "zephyr", "nrf"];
    for kind in kinds {
        server.api.add_device(kind, "meter");
    }
    let task = server.api.create_task("roaming", &package, &kinds);
    let hash = sha256(&content);
    let devices = kinds.map(|kind| {
        let nat = Nat::new(server.coap, 9);
        let through = nat.inside.to_string();
        let options = ["--character", kind, "--expect", &hash];
        let options = [&options[..], &["--through", &through]].concat();
        (Lively::start(server.coap, kind, &options), nat)
    });
    assert_upgraded(&server, &task);
    for (mut device, _nat) in devices {
        device.event("downloaded");
        assert_eq!(device.events("offered").len(), 1);
    }
    for upgrade in server.api.finished(&task, MINUTE) {
        // each shard has told what it served
        assert_eq!(upgrade["outcome"]["reason"], "upgraded", "{upgrade}");
    }
}

pub(super) fn stop(server: &Server, task: &Value) {
    let (status, body) = (server.api).post(&format!("/v1/tasks/{task}/stop"), &json!({}));
    assert_eq!(status, 200, "{body}");
}

#[test]
fn a_task_stopped_in_mid_transfer_takes_the_package_back() {
    let server = server(&[]);
    let package = server.api.upload("meter", "V2.0", &noise(10, 60_000));
    let kinds = ["anjay", "push"];
    for kind in kinds {
        server.api.add_device(kind, "meter");
    }
    let task = server.api.create_task("stopped", &package, &kinds);
    let mut devices = kinds.map(|kind| {
        // it is never there
        let options = ["--character", kind, "--hold", "/nonexistent/hold"];
        Lively::start(server.coap, kind, &options)
    });
    for device in &mut devices {
        device.event("progress");
    }
    stop(&server, &task);
    for device in &mut devices {
        // an empty URI
        assert_eq!(device.event("reset")["state"], 1);
        assert!(device.events("downloaded").is_empty());
    }
    wait_for(MINUTE, "the end of the task", || {
        let (_, body) = server.api.get(&format!("/v1/tasks/{task}"));
        (body["state"] == "stopped").then_some(())
    });
    let (_, body) = server.api.get(&format!("/v1/tasks/{task}/upgrades"));
    for upgrade in body["items"].as_array().unwrap() {
        assert_eq!(upgrade["state"], "cancelled", "{upgrade}");
    }
    // nobody fetches it any more
    let uri = devices[0].event("offered")["uri"]
        .as_str()
        .unwrap()
        .to_owned();
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("nothing");
    let done = coap_client("coap-client-notls", &uri, &file, &[]);
    assert!(done.stderr.contains("4.04"), "{done:?}");
}

#[test]
fn a_device_that_was_away_when_its_task_was_stopped_gives_up_the_package_when_it_is_back() {
    let server = server(&[("CELLWISE_COAP__MAX_RETRANSMIT", "1")]);
    let package = server.api.upload("meter", "V2.0", &noise(11, 60_000));
    server.api.add_device("away", "meter");
    let task = server.api.create_task("away", &package, &["away"]);
    let files = tempfile::tempdir().unwrap();
    let state = files.path().join("state");
    let options = ["--character", "idle", "--state", state.to_str().unwrap()];
    let mut device = Lively::start(server.coap, "away", &options);
    device.event("offered");
    drop(device);
    let given_up = || counter(&server, "cellwise_requests_timed_out_total");
    let before = given_up();
    stop(&server, &task);
    wait_for(MINUTE, "the cancellation to be given up", || {
        (given_up() > before).then_some(())
    });
    let mut device = Lively::start(server.coap, "away", &options);
    assert_eq!(device.event("restored")["states"], json!([1]));
    assert_eq!(device.event("reset")["state"], 1);
}
