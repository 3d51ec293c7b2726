//! Stops, ordered and not.

use std::time::Duration;

use serde_json::{Value, json};
use sim::{
    Expected,
    fleet::{Fleet, FleetConfig, Timing},
};
use sqlx::{Connection, sqlite::SqliteConnectOptions};

use crate::support::{Random, Server, noise, wait_for};

const DEVICES: usize = 200;
const KILLS: usize = 20;

/// Pauses are seconds instead of minutes, because the devices are a hundred times as fast as in the field.
const QUICK: [(&str, &str); 8] = [
    ("CELLWISE_COAP__ACK_TIMEOUT_MS", "500"),
    ("CELLWISE_UPGRADE__REPEAT_QUESTION_S", "2"),
    ("CELLWISE_UPGRADE__NUDGE_AFTER_S", "1"),
    ("CELLWISE_UPGRADE__RESULT_GRACE_S", "2"),
    ("CELLWISE_ADMISSION__OVERTAKE_S", "3"),
    ("CELLWISE_ADMISSION__PER_CELL_PER_SECOND", "2"),
    ("CELLWISE_ADMIN__REQUESTS_PER_SECOND", "100000"),
    ("CELLWISE_LOG__FILTER", "warn"),
];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn a_server_killed_twenty_times_finishes_its_task() {
    let mut server = Server::with(&QUICK);
    let package = server.api.upload("default", "V2.0", &noise(7, 30 * 1024));
    let version = |text| pcp::Version::new(text).unwrap();
    let mut config = FleetConfig::new(DEVICES, version("V1.0"));
    config.target = Some(version("V2.0"));
    config.timing = Timing::default().faster(100);
    config.start_spread_ms = 3_000;
    config.faults = [
        "refuse-notification=0x04=3",
        "reboots-in-download=5",
        "already-current=3",
    ]
    .iter()
    .map(|fault| fault.parse().unwrap())
    .collect();
    let specs = Fleet::specs(&config).unwrap();
    let expected: Vec<(String, bool)> = specs
        .iter()
        .map(|spec| {
            (
                spec.endpoint.clone(),
                spec.expected() == Expected::Succeeded,
            )
        })
        .collect();
    let devices: Vec<Value> = expected
        .iter()
        .map(|(endpoint, _)| json!({ "endpoint": endpoint }))
        .collect();
    let (status, body) = server
        .api
        .post("/v1/devices", &json!({ "devices": devices }));
    assert_eq!(status, 200, "{body}");
    let task = json!({"name": "restarts", "package_id": package, "all": true});
    let (status, task) = server.api.post("/v1/tasks", &task);
    assert_eq!(status, 201, "{task}");

    let runtime = runtime();
    let fleet = runtime.block_on(Fleet::start(specs, server.coap)).unwrap();
    let seed = u64::from(std::process::id());
    let mut random = Random::new(seed);
    for _ in 0..KILLS {
        // anywhere: while devices register, negotiate, download, upgrade
        std::thread::sleep(Duration::from_millis(50 + random.below(500) as u64));
        server.kill_and_restart();
    }
    wait_for(Duration::from_mins(5), "the end of the task", || {
        let (_, task) = server.api.get(&format!("/v1/tasks/{}", task["id"]));
        (task["state"] == "finished").then_some(())
    });
    runtime.block_on(fleet.stop());
    let (_, page) = server
        .api
        .get(&format!("/v1/tasks/{}/upgrades?limit=1000", task["id"]));
    let upgrades = page["items"].as_array().unwrap();
    assert_eq!(upgrades.len(), DEVICES);
    for (endpoint, succeeds) in expected {
        let upgrade = upgrades
            .iter()
            .find(|u| u["endpoint"] == *endpoint)
            .unwrap();
        let wanted = if succeeds { "succeeded" } else { "failed" };
        assert_eq!(upgrade["state"], wanted, "seed {seed}: {upgrade}");
        assert_eq!(upgrade["attempts"], 1, "seed {seed}: {upgrade}");
    }
    let (_, cells) = server.api.get("/v1/cells");
    for cell in cells["items"].as_array().unwrap() {
        assert_eq!((&cell["active"], &cell["waiting"]), (&json!(0), &json!(0)));
    }
}

#[test]
fn sigterm_ends_the_server_also_when_nothing_can_be_stored() {
    let mut server = Server::start();
    assert!(server.terminate(Duration::from_secs(10)).success());

    let mut server = Server::with(&[("CELLWISE_LWM2M__REGISTRATION", "open")]);
    let runtime = runtime();
    let database = SqliteConnectOptions::new().filename(server.data_dir().join("cellwise.db"));
    let mut lock = runtime
        .block_on(sqlx::SqliteConnection::connect_with(&database))
        .unwrap();
    let _held = runtime
        .block_on(lock.begin_with("BEGIN IMMEDIATE"))
        .unwrap();
    // a registration that cannot be committed
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let register = b"\x40\x02\x00\x01\xb2rd\x44ep=x";
    socket.send_to(register, server.coap).unwrap();
    wait_for(Duration::from_secs(30), "the server to say so", || {
        (server.api.get("/readyz").0 == 503).then_some(())
    });
    assert!(server.terminate(Duration::from_secs(10)).success());
}
