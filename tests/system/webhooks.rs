//! Applications are told every outcome, whatever happens to the server and to the receiver.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use axum::{Router, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use serde_json::{Value, json};
use sim::fleet::{Fleet, FleetConfig, Timing};
use standardwebhooks::Webhook;

use crate::support::{Server, noise, wait_for};

const DEVICES: usize = 60;
const KILLS: usize = 5;
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Fails at every event's first request, and keeps what it took.
struct Receiver {
    verifier: Webhook,
    seen: Mutex<BTreeSet<String>>,
    /// Bodies by `webhook-id`, which tells repeats.
    taken: Mutex<BTreeMap<String, Value>>,
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    receiver.verifier.verify(body.as_bytes(), &headers).unwrap();
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    if receiver.seen.lock().unwrap().insert(id.clone()) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let body: Value = serde_json::from_str(&body).unwrap();
    let before = receiver.taken.lock().unwrap().insert(id, body.clone());
    assert!(before.is_none_or(|before| before == body));
    StatusCode::NO_CONTENT
}

/// Reads the stream until an event of type `last`; returns IDs and bodies.
pub(crate) async fn read_events(
    url: &str,
    token: &str,
    after: Option<&str>,
    last: &str,
) -> Vec<(String, Value)> {
    let mut request = reqwest::Client::new().get(url).bearer_auth(token);
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    let mut response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let (mut text, mut events) = (String::new(), Vec::new());
    loop {
        while let Some((block, rest)) = text.split_once("\n\n") {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            if let (Some(id), Some(data)) = (field("id: "), field("data: ")) {
                events.push((id.to_owned(), serde_json::from_str(data).unwrap()));
            }
            if field("event: ") == Some(last) {
                return events;
            }
            text = rest.to_owned();
        }
        let chunk = response.chunk().await.unwrap().expect("the stream goes on");
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

#[test]
fn every_outcome_reaches_the_application_in_spite_of_kills_and_refusals() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let receiver = Arc::new(Receiver {
        verifier: Webhook::new(SECRET).unwrap(),
        seen: Mutex::default(),
        taken: Mutex::default(),
    });
    let router = Router::new()
        .route("/hook", post(receive))
        .with_state(receiver.clone());
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });

    let refusing = Server::start();
    let body = json!({ "url": url });
    assert_eq!(refusing.api.post("/v1/webhooks", &body).0, 422);
    drop(refusing);
    let mut server = Server::with(&[
        ("CELLWISE_COAP__ACK_TIMEOUT_MS", "500"),
        ("CELLWISE_UPGRADE__REPEAT_QUESTION_S", "2"),
        ("CELLWISE_UPGRADE__NUDGE_AFTER_S", "1"),
        ("CELLWISE_UPGRADE__RESULT_GRACE_S", "2"),
        ("CELLWISE_WEBHOOKS__ALLOW_NETWORKS", r#"["127.0.0.0/8"]"#),
        ("CELLWISE_WEBHOOKS__FIRST_PAUSE_S", "1"),
    ]);
    let package = server.api.upload("default", "V2.0", &noise(7, 8 * 1024));
    let version = |text| pcp::Version::new(text).unwrap();
    let mut config = FleetConfig::new(DEVICES, version("V1.0"));
    config.target = Some(version("V2.0"));
    config.timing = Timing::default().faster(100);
    config.start_spread_ms = 2_000;
    config.faults = vec!["refuse-notification=0x04=3".parse().unwrap()];
    let specs = Fleet::specs(&config).unwrap();
    let devices: Vec<Value> = (specs.iter())
        .map(|spec| json!({ "endpoint": spec.endpoint }))
        .collect();
    let (status, body) = server
        .api
        .post("/v1/devices", &json!({ "devices": devices }));
    assert_eq!(status, 200, "{body}");
    let task = json!({
        "name": "told", "package_id": package, "all": true, "webhook": {"url": url, "secret": SECRET},
    });
    let (status, task) = server.api.post("/v1/tasks", &task);
    assert_eq!(status, 201, "{task}");
    let fleet = runtime.block_on(Fleet::start(specs, server.coap)).unwrap();
    for _ in 0..KILLS {
        thread::sleep(Duration::from_millis(700)); // anywhere
        server.kill_and_restart();
    }
    let upgrades = server.api.finished(&task["id"], Duration::from_mins(2));
    runtime.block_on(fleet.stop());
    let expected: BTreeSet<(String, String)> = (upgrades.iter())
        .map(|upgrade| {
            (
                upgrade["endpoint"].to_string(),
                upgrade["state"].to_string(),
            )
        })
        .collect();
    assert_eq!(expected.len(), DEVICES);
    wait_for(Duration::from_mins(2), "the last event", || {
        (receiver.taken.lock().unwrap().len() > DEVICES).then_some(())
    });

    let told: Vec<Value> = receiver.taken.lock().unwrap().values().cloned().collect();
    let of = |kind: &str| {
        let matching = told
            .iter()
            .filter(|event| event["type"].as_str().unwrap().starts_with(kind));
        matching.cloned().collect::<Vec<Value>>()
    };
    let outcome = |event: &Value| {
        let data = &event["data"];
        (data["endpoint"].to_string(), data["state"].to_string())
    };
    let outcomes: BTreeSet<(String, String)> = of("upgrade.").iter().map(outcome).collect();
    assert_eq!(outcomes, expected);
    assert_eq!(of("upgrade.").len(), DEVICES, "one ID for each outcome");
    assert_eq!(of("task.finished").len(), 1);
    assert_eq!(told.len(), DEVICES + 1);

    // the stream tells the same, from the beginning and from where a client was
    let path = server.api.url("/v1/events?after=0");
    let token = server.api.token().to_owned();
    let all = runtime.block_on(read_events(&path, &token, None, "task.finished"));
    let streamed: BTreeSet<String> = all
        .iter()
        .map(|(_, event)| event["id"].to_string())
        .collect();
    let posted: BTreeSet<String> = told.iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(streamed, posted);
    let middle = &all[DEVICES / 2].0;
    let rest = runtime.block_on(read_events(&path, &token, Some(middle), "task.finished"));
    assert_eq!(rest, all[DEVICES / 2 + 1..]);
    assert!(server.terminate(Duration::from_secs(10)).success());
}
