//! The dispatcher over a real store, against receivers that are there, slow, or dead.

use std::{
    collections::HashSet,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use standardwebhooks::Webhook;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::{AbortHandle, JoinHandle},
    time::timeout,
};

use super::*;
use crate::{
    clock::{SystemClock, UtcMillis},
    config::{Config, Settings, WebhookConfig},
    ledger::{AttributesChange, Change, Outcome, RetryPolicy, Success, TaskId, UpgradeId},
    package::{PcpOffer, Segmentation, Version},
    signal::Signals,
    store::{
        Agenda as _, AttemptResult, Attempted, Catalog as _, DeliveryState, Events as _, Exclude,
        Inventory as _, Journal as _, Ledger as _, NewDevice, NewPackage, NewTask, NewWebhook,
        Origin, Papers, Selection, SqliteStore, WebhookId,
    },
    task::{PackageRules, TaskRules},
};

/// What a test waits for comes within this.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request that a receiver got.
#[derive(Debug)]
struct Got {
    path: String,
    headers: HeaderMap,
    body: String,
}

impl Got {
    fn id(&self) -> &str {
        self.headers["webhook-id"].to_str().unwrap()
    }
}

/// Answers by path: /ok 204, /busy 503, /wrong 400, /gone 410, /moved 307 to /ok, /endless 200 without end, /gated
/// when the gate is open, /shy 503 to what comes for the first time, /silent never.
struct Receiver {
    address: SocketAddr,
    got: mpsc::UnboundedReceiver<Got>,
    gate: watch::Sender<bool>,
    served: AbortHandle,
}

impl Receiver {
    async fn start() -> Self {
        Self::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    async fn listen(address: SocketAddr) -> Self {
        let (told, got) = mpsc::unbounded_channel();
        let (gate, gated) = watch::channel(false);
        let state = (told, gated, Arc::default());
        let router = Router::new().fallback(answer).with_state(state);
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async move { axum::serve(listener, router).await.unwrap() };
        Self {
            address,
            got,
            gate,
            served: tokio::spawn(serve).abort_handle(),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn next(&mut self) -> Got {
        timeout(PATIENCE, self.got.recv()).await.unwrap().unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.served.abort();
    }
}

type Answering = (
    mpsc::UnboundedSender<Got>,
    watch::Receiver<bool>,
    Arc<Mutex<HashSet<String>>>,
);

async fn answer(
    State((told, mut gate, seen)): State<Answering>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let path = uri.path().to_owned();
    let status = match &*path {
        "/shy" if !seen.lock().unwrap().insert(body.clone()) => StatusCode::NO_CONTENT,
        "/busy" | "/shy" => StatusCode::SERVICE_UNAVAILABLE,
        "/wrong" => StatusCode::BAD_REQUEST,
        "/gone" => StatusCode::GONE,
        "/moved" => StatusCode::TEMPORARY_REDIRECT,
        _ => StatusCode::NO_CONTENT,
    };
    let is = |other| path == other;
    let (silent, gated, endless) = (is("/silent"), is("/gated"), is("/endless"));
    let _ = told.send(Got {
        path,
        headers,
        body,
    }); // the test may be over
    if silent {
        std::future::pending::<()>().await;
    }
    if gated {
        let _ = gate.wait_for(|open| *open).await; // the test may be over
    }
    if endless {
        return Body::from_stream(stream::pending::<Result<&str, Infallible>>()).into_response();
    }
    (status, [("location", "/ok")]).into_response()
}

/// A store with a task, and a dispatcher that can be stopped and started.
struct House {
    store: SqliteStore,
    signals: Arc<Signals>,
    config: WebhookConfig,
    task: TaskId,
    upgrades: Vec<UpgradeId>,
    running: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

fn now() -> UtcMillis {
    SystemClock::start().now().utc
}

impl House {
    async fn new(dir: &Path, devices: usize) -> Self {
        let store = SqliteStore::open(dir).await.unwrap();
        let package = NewPackage {
            product: "p".to_owned(),
            version: Version::new("V2").unwrap(),
            component: None,
            sha256: hex::encode([7; 32]),
            crc: 1,
            size_bytes: 1_200,
            md5: None,
            pcp: Some(PcpOffer {
                version: pcp::Version::new("V2").unwrap(),
                check_code: 1,
                segmentation: Segmentation::choose(1_200, None, false).unwrap(),
            }),
            created_at: now(),
            papers: Papers::default(),
        };
        let package = store.insert_package(&package).await.unwrap().record;
        let devices: Vec<NewDevice> = (0..devices)
            .map(|number| NewDevice {
                attributes: AttributesChange::default(),
                psk: None,
                mqtt: None,
                endpoint: format!("d{number}"),
                product: "p".to_owned(),
                via: None,
            })
            .collect();
        store.add_devices(&devices, now()).await.unwrap();
        let task = NewTask {
            name: "night".to_owned(),
            package: package.id,
            packages: PackageRules::default(),
            selection: Selection::All,
            exclude: Exclude::default(),
            start_at: None,
            retry: RetryPolicy::default(),
            rules: TaskRules::default(),
            webhook: None,
            created_at: now(),
            origin: Origin::default(),
        };
        let task = store.create_task(&task).await.unwrap().id;
        let upgrades = store.upgrades(task, None, None, 1_000).await.unwrap().items;
        Self {
            store,
            signals: Arc::default(),
            config: WebhookConfig {
                allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
                timeout_s: 1,
                first_pause_s: 1,
                ..WebhookConfig::default()
            },
            task,
            upgrades: upgrades.iter().map(|upgrade| upgrade.id).collect(),
            running: None,
        }
    }

    async fn webhook(&self, url: &str) -> (WebhookId, Secret) {
        let secret = Secret::generate().unwrap();
        let new = NewWebhook {
            tenant: None,
            task: None,
            url: url.to_owned(),
            secret: secret.as_bytes().to_vec(),
            vault: None,
            created_at: now(),
        };
        (self.store.add_webhook(&new).await.unwrap().id, secret)
    }

    fn start(&mut self) {
        let setup = DispatcherSetup {
            store: Arc::new(self.store.clone()),
            config: Settings::new(Arc::new(Config {
                webhooks: self.config.clone(),
                ..Config::default()
            })),
            signals: self.signals.clone(),
            clock: SystemClock::start(),
            instance: Instance::new(&[0xAB; 32]),
            vault: None,
        };
        let (stop, told_to_stop) = watch::channel(false);
        let dispatcher = Dispatcher::new(setup).unwrap();
        self.running = Some((stop, tokio::spawn(dispatcher.run(told_to_stop))));
    }

    async fn stop(&mut self) {
        let (stop, running) = self.running.take().unwrap();
        stop.send(true).unwrap();
        timeout(PATIENCE, running).await.unwrap().unwrap();
    }

    /// Lets an upgrade succeed.
    async fn succeed(&self, number: usize) {
        self.succeed_at(number, now()).await;
    }

    async fn succeed_at(&self, number: usize, at: UtcMillis) {
        let end = Change::Ended {
            upgrade: self.upgrades[number],
            task: self.task,
            attempt: 1,
            outcome: Outcome::Succeeded(Success::Upgraded),
            facts: Box::default(),
            retry_at: None,
            at,
        };
        self.store
            .commit(crate::store::conformance::next_batch(), &[end])
            .await
            .unwrap();
        self.signals.written();
    }

    /// Waits until a delivery of a webhook was tried in vain.
    async fn tried(&self, webhook: WebhookId) {
        let tried = async {
            loop {
                let page = self.store.deliveries(webhook, None, None, 1_000).await;
                if page
                    .unwrap()
                    .items
                    .iter()
                    .any(|row| row.last_error.is_some())
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, tried).await.expect("no attempt");
    }

    /// Waits until so many deliveries of a webhook are in a state; returns the last error of the newest.
    async fn until(
        &self,
        webhook: WebhookId,
        state: DeliveryState,
        count: usize,
    ) -> Option<String> {
        let reached = async {
            loop {
                let page = self.store.deliveries(webhook, Some(state), None, 1_000);
                let page = page.await.unwrap();
                if page.items.len() == count {
                    return page.items.into_iter().next().and_then(|row| row.last_error);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, reached)
            .await
            .expect("no such deliveries")
    }
}

#[tokio::test]
async fn events_are_posted_as_standard_webhooks_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start().await;
    let mut house = House::new(dir.path(), 1).await;
    let (webhook, secret) = house.webhook(&receiver.url("/ok")).await;
    house.start();
    house.succeed(0).await;
    let (first, second) = (receiver.next().await, receiver.next().await);
    // somebody else's code checks the signature, the time included
    let verifier = Webhook::new(&secret.reveal()).unwrap();
    for got in [&first, &second] {
        verifier.verify(got.body.as_bytes(), &got.headers).unwrap();
        assert_eq!(got.headers["content-type"], "application/json");
        let changed = got.body.replace("night", "knight");
        assert!(verifier.verify(changed.as_bytes(), &got.headers).is_err());
    }
    let mut kinds: Vec<String> = [&first, &second]
        .map(|got| {
            let body: serde_json::Value = serde_json::from_str(&got.body).unwrap();
            assert_eq!(body["id"], got.id());
            assert_eq!(body["data"]["task_name"], "night");
            assert_eq!(body["data"]["version"], "V2");
            body["type"].as_str().unwrap().to_owned()
        })
        .into();
    kinds.sort();
    assert_eq!(kinds, ["task.finished", "upgrade.succeeded"]);
    assert_ne!(first.id(), second.id());
    house.until(webhook, DeliveryState::Delivered, 2).await;
    house.stop().await;
}

#[tokio::test]
async fn what_a_dead_receiver_missed_comes_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let address = receiver.address;
    let mut house = House::new(dir.path(), 2).await;
    let (webhook, _) = house.webhook(&receiver.url("/ok")).await;
    drop(receiver);
    house.start();
    house.succeed(0).await;
    house.tried(webhook).await;
    // the server restarts meanwhile
    house.stop().await;
    let mut receiver = Receiver::listen(address).await;
    house.start();
    let got = receiver.next().await;
    assert!(got.body.contains("upgrade.succeeded"));
    house.until(webhook, DeliveryState::Delivered, 1).await;
    house.stop().await;
}

#[tokio::test]
async fn what_was_cut_off_comes_again_under_the_same_id() {
    let dir = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start().await;
    let mut house = House::new(dir.path(), 2).await;
    house.webhook(&receiver.url("/silent")).await;
    house.config.timeout_s = 300;
    house.start();
    house.succeed(0).await;
    let first = receiver.next().await;
    house.stop().await; // nothing is written down: it is not known whether the receiver has it
    house.start();
    let again = receiver.next().await;
    assert_eq!((first.id(), &first.body), (again.id(), &again.body));
    house.stop().await;
}

#[tokio::test]
async fn slow_receivers_delay_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut house = House::new(dir.path(), 100).await;
    let (mut receivers, mut slow) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        let receiver = Receiver::start().await;
        for _ in 0..2 {
            slow.push(house.webhook(&receiver.url("/silent")).await.0);
        }
        receivers.push(receiver);
    }
    let mut quick = Receiver::start().await;
    let (of_quick, _) = house.webhook(&quick.url("/ok")).await;
    house.config.timeout_s = 300;
    for number in 0..100 {
        house.succeed(number).await;
    }
    house.start();
    let mut ids = HashSet::new();
    for _ in 0..101 {
        ids.insert(quick.next().await.id().to_owned());
    }
    assert_eq!(ids.len(), 101, "each once");
    house.until(of_quick, DeliveryState::Delivered, 101).await;
    for of_slow in slow {
        house.until(of_slow, DeliveryState::Pending, 101).await;
    }
    house.stop().await;
}

#[tokio::test]
async fn a_dead_path_delays_no_other_path() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut house = House::new(dir.path(), 2).await;
    house.config.first_pause_s = 300;
    let (dead, _) = house.webhook(&receiver.url("/busy")).await;
    let (works, _) = house.webhook(&receiver.url("/ok")).await;
    house.start();
    house.succeed(0).await;
    house.until(works, DeliveryState::Delivered, 1).await;
    house.tried(dead).await;
    house.succeed(1).await;
    house.until(works, DeliveryState::Delivered, 3).await;
    house.until(dead, DeliveryState::Pending, 3).await;
    house.stop().await;
}

#[tokio::test]
async fn the_status_is_enough_of_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut house = House::new(dir.path(), 2).await;
    house.config.timeout_s = 300;
    let (endless, _) = house.webhook(&receiver.url("/endless")).await;
    house.start();
    house.succeed(0).await;
    house.until(endless, DeliveryState::Delivered, 1).await;
    house.stop().await;
}

#[tokio::test]
async fn what_fails_is_given_up_in_the_end_and_can_be_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start().await;
    let mut house = House::new(dir.path(), 2).await;
    house.config.give_up_after_s = 1;
    let (busy, _) = house.webhook(&receiver.url("/busy")).await;
    house.start();
    house.succeed(0).await;
    let first = receiver.next().await;
    let error = house.until(busy, DeliveryState::Failed, 1).await.unwrap();
    assert_eq!(error, "the receiver answered 503 Service Unavailable");
    assert_eq!(receiver.next().await.id(), first.id());
    let replayed = house.store.replay(busy, None, now(), 10).await.unwrap();
    assert_eq!(replayed, 1);
    house.signals.written();
    assert_eq!(receiver.next().await.id(), first.id());
    house.stop().await;
}

#[tokio::test]
async fn a_receiver_that_takes_each_event_the_second_time_gets_all() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut house = House::new(dir.path(), 10).await;
    let (shy, _) = house.webhook(&receiver.url("/shy")).await;
    for number in 0..10 {
        house.succeed(number).await;
    }
    house.start();
    house.until(shy, DeliveryState::Delivered, 11).await;
    house.stop().await;
}

#[tokio::test]
async fn what_is_replayed_while_it_is_tried_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start().await;
    let mut house = House::new(dir.path(), 2).await;
    house.config.timeout_s = 300;
    let (webhook, _) = house.webhook(&receiver.url("/gated")).await;
    house.start();
    house.succeed(0).await;
    let first = receiver.next().await;
    let page = house
        .store
        .deliveries(webhook, None, None, 1)
        .await
        .unwrap();
    let delivery = Some(page.items[0].id);
    let replayed = house.store.replay(webhook, delivery, now(), 1).await;
    assert_eq!(replayed.unwrap(), 1);
    house.signals.written();
    receiver.gate.send(true).unwrap();
    let again = receiver.next().await;
    assert_eq!(again.id(), first.id());
    house.until(webhook, DeliveryState::Delivered, 1).await;
    house.stop().await;
}

#[tokio::test]
async fn a_backlog_is_given_up_although_the_server_restarts_often() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut house = House::new(dir.path(), 6).await;
    house.config.first_pause_s = 300;
    house.config.give_up_after_s = 3_600;
    let (busy, _) = house.webhook(&receiver.url("/busy")).await;
    let long_ago = now().before(Duration::from_hours(2));
    for number in 0..5 {
        house.succeed_at(number, long_ago).await;
    }
    // one was tried before the restart, the others never
    let due = house.store.due_deliveries(busy, now(), 1).await.unwrap();
    let failed = Attempted {
        delivery: due[0].id,
        round: due[0].round,
        at: long_ago,
        works: false,
        result: AttemptResult::Again {
            at: now(),
            error: "dead".to_owned(),
        },
    };
    house.store.record_attempts(&[failed]).await.unwrap();
    house.start();
    house.until(busy, DeliveryState::Failed, 3).await;
    // that one, and the next, with which the dispatcher found that nothing has changed
    house.until(busy, DeliveryState::Pending, 2).await;
    house.stop().await;
}

#[tokio::test]
async fn refusals_and_redirections_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start().await;
    let mut house = House::new(dir.path(), 2).await;
    house.config.give_up_after_s = 1;
    let (gone, _) = house.webhook(&receiver.url("/gone")).await;
    let (wrong, _) = house.webhook(&receiver.url("/wrong")).await;
    let (moved, _) = house.webhook(&receiver.url("/moved")).await;
    let (odd, _) = house.webhook("https://nobody.invalid/").await;
    house.start();
    house.succeed(0).await;
    let error = async |webhook| {
        house
            .until(webhook, DeliveryState::Failed, 1)
            .await
            .unwrap()
    };
    assert_eq!(error(gone).await, "the receiver answered 410 Gone");
    assert_eq!(error(wrong).await, "the receiver answered 400 Bad Request");
    let moved = error(moved).await;
    assert!(moved.ends_with("redirections are not followed"), "{moved}");
    let odd = error(odd).await;
    assert!(odd.starts_with("the receiver cannot be reached"), "{odd}");
    house.stop().await;
    let mut gone = 0;
    while let Ok(got) = receiver.got.try_recv() {
        assert_ne!(got.path, "/ok", "a redirection was followed");
        gone += usize::from(got.path == "/gone");
    }
    assert_eq!(gone, 1, "410 ends it");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_posted_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start().await;
    let mut house = House::new(dir.path(), 2).await;
    house.config.allow_networks.clear();
    house.config.give_up_after_s = 1;
    let port = receiver.address.port();
    let (by_name, _) = house.webhook(&format!("http://localhost:{port}/ok")).await;
    let (by_address, _) = house.webhook(&receiver.url("/ok")).await;
    house.start();
    house.succeed(0).await;
    for webhook in [by_name, by_address] {
        let error = house
            .until(webhook, DeliveryState::Failed, 1)
            .await
            .unwrap();
        assert!(error.contains("is not a public address"), "{error}");
    }
    house.stop().await;
    assert!(receiver.got.try_recv().is_err());
}
