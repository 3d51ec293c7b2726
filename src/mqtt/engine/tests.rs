use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use super::*;
use crate::{
    engine::Command,
    grants::Served as ServedBytes,
    ledger::{
        ActiveUpgrade, DeviceRecord, Evidence, Failure, Happened, Outcome, PackageId, Progress,
        Protocol, RetryPolicy, Served, Stage, StageChange, Standby, StopReason, Success, TaskId,
        UpgradeOrder,
    },
    mqtt::endpoint::{Ending, Event, Style, Uplink, Version as MqttVersion},
    package::{
        CheckCodeKind, Fits, HttpPackage, Package, PcpOffer, SegmentFrames, Segmentation, Version,
    },
    session::{Offer, Offers},
};

const DEVICE: &str = "meter-1";
const SIZE: u64 = 1_000;
const SHA256: &str = "cd2eb0837c9b4c962c22d2ff8b5441b7b45805887f051d39bf133b583baf6860";

fn version(text: &str) -> Version {
    Version::new(text).unwrap()
}

fn package(text: &str) -> Package {
    let content = vec![7; 1_000];
    let segmentation = Segmentation::choose(SIZE, Some(100), false).unwrap();
    Package::over_pcp(
        PcpOffer {
            version: pcp::Version::new(text).unwrap(),
            check_code: CheckCodeKind::Crc.apply(pcp::checksum(&content)),
            segmentation,
        },
        SegmentFrames::build(&content, segmentation).unwrap(),
    )
}

fn offers() -> Arc<Offers> {
    let http = HttpPackage {
        sha256: SHA256.into(),
    };
    let package = package("V2").and_over_http(http);
    Arc::new(Offers::only(PackageId(3), Arc::new(package)))
}

fn order() -> UpgradeOrder {
    UpgradeOrder {
        upgrade: UpgradeId(7),
        task: TaskId(5),
        endpoint: DEVICE.into(),
        served: Served::first(PackageId(3)),
        hardware: None,
        attempt: 1,
        retry: RetryPolicy::default(),
        kept_awake: Standby::default(),
        begun_at: None,
        back: None,
    }
}

fn ids() -> DeviceIds {
    DeviceIds::new([9; 32])
}

fn id() -> DeviceId {
    ids().of(DEVICE)
}

/// An engine, and everything that came out of it.
struct World {
    engine: Engine,
    now: Now,
    changes: Vec<Change>,
    outs: Vec<(Out, Seq)>,
    newest: Seq,
    /// The store commits nothing.
    stalled: bool,
    connections: u32,
    protocol: Protocol,
    /// What `serve` has said last.
    served_bytes: u64,
}

impl World {
    fn of(protocol: Protocol) -> Self {
        Self::with(protocol, Config::default())
    }

    fn with(protocol: Protocol, config: Config) -> Self {
        let now = Now {
            instant: Instant::from_millis(1_000_000_000),
            utc: UtcMillis(1_800_000_000_000),
        };
        let mut world = Self::begun(protocol, config, now);
        world.command(Command::AddDevice {
            endpoint: DEVICE.into(),
            product: "meters".into(),
            secure: false,
            protocol,
        });
        world
    }

    fn begun(protocol: Protocol, config: Config, now: Now) -> Self {
        let setup = Setup {
            config: Arc::new(config),
            ids: ids(),
            token_key: [3; 32],
        };
        let mut engine = Engine::new(setup, now);
        engine.serve_at(Links::new("https://updates.example.com", true).unwrap());
        Self {
            engine,
            now,
            changes: Vec::new(),
            outs: Vec::new(),
            newest: 0,
            stalled: false,
            connections: 0,
            protocol,
            served_bytes: 0,
        }
    }

    fn drain(&mut self) {
        while let Some(effect) = self.engine.poll_effect() {
            match effect {
                Effect::Persist { seq, change } => {
                    assert_eq!(seq, self.newest + 1);
                    self.newest = seq;
                    self.changes.push(change);
                }
                Effect::Out { out, after } => {
                    assert!(after <= self.newest);
                    self.outs.push((out, after));
                }
                Effect::Report(_) | Effect::Left(_) => {}
                Effect::Ask(ask) => panic!("there is nothing to ask the gate for: {ask:?}"),
            }
        }
        if !self.stalled {
            self.engine.committed(self.newest);
        }
    }

    fn command(&mut self, command: Command) {
        self.engine.handle_command(self.now, command);
        self.drain();
    }

    fn start(&mut self) {
        self.command(Command::Start {
            order: order(),
            offers: offers(),
        });
    }

    fn after(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= until.instant) {
            self.now = self.now + at.since(self.now.instant);
            self.engine.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    fn event(&mut self, event: Event) {
        self.engine.handle_event(self.now, event);
        self.drain();
    }

    fn conn(&self) -> ConnId {
        ConnId {
            slot: 0,
            generation: self.connections,
        }
    }

    fn connect(&mut self) {
        self.connections += 1;
        let conn = self.conn();
        let style = match self.protocol {
            Protocol::ThingsPanel => Style::ThingsPanel,
            _ => Style::Iotda,
        };
        self.event(Event::Connected {
            device: id(),
            conn,
            style,
            version: MqttVersion::V311,
            peer: SocketAddr::from(([10, 0, 0, 1], 4_000)),
            took_over: false,
        });
    }

    fn disconnect(&mut self) {
        let conn = self.conn();
        self.event(Event::Disconnected {
            device: id(),
            conn,
            why: Ending::Lost,
        });
    }

    fn subscribe(&mut self, release: Release) {
        self.event(Event::Subscribed {
            device: id(),
            downlink: Downlink::Push,
            release: Some(release),
        });
    }

    fn says(&mut self, uplink: Uplink, payload: &Value) {
        self.event(Event::Message {
            device: id(),
            uplink,
            payload: payload.to_string().into(),
            ack: None,
        });
    }

    fn says_event(&mut self, event_type: &str, paras: &Value) {
        let payload = json!({
            "object_device_id": DEVICE,
            "services": [{"service_id": "$ota", "event_type": event_type, "event_time": "", "paras": paras}],
        });
        self.says(Uplink::Events { gzip: false }, &payload);
    }

    fn tells(&mut self, version: &str) {
        let paras = json!({"fw_version": version, "sw_version": version});
        self.says_event("version_report", &paras);
    }

    fn reports(&mut self, code: i32, progress: u8, version: &str) {
        let paras = json!({
            "result_code": code, "progress": progress, "version": version, "description": "as it is",
        });
        self.says_event("upgrade_progress_report", &paras);
    }

    /// What was published to the device since this was asked last.
    fn published(&mut self) -> Vec<Value> {
        let outs = std::mem::take(&mut self.outs);
        let payloads = outs.into_iter().filter_map(|(out, _)| match out {
            Out::Publish { payload, .. } => Some(serde_json::from_slice(&payload).unwrap()),
            _ => None,
        });
        payloads.collect()
    }

    fn granted(&self) -> Grant {
        let mut grants = self.outs.iter().filter_map(|(out, _)| match out {
            Out::Grant(grant) => Some((**grant).clone()),
            _ => None,
        });
        grants.next().expect("something was granted")
    }

    /// The device has acknowledged so much of the package, all in all.
    fn serve(&mut self, token: &Token, bytes: u64) {
        self.serve_with(token, bytes, false);
    }

    /// The same; the rest may be on its way.
    fn serve_with(&mut self, token: &Token, bytes: u64, in_flight: bool) {
        let more_bytes = bytes.saturating_sub(std::mem::replace(&mut self.served_bytes, bytes));
        let served = ServedBytes {
            device: id(),
            upgrade: UpgradeId(7),
            token: token.clone(),
            contiguous_bytes: bytes,
            whole: bytes == SIZE,
            in_flight,
            more_bytes,
        };
        self.engine.served(self.now, &served);
        self.drain();
    }

    fn stage(&self) -> Option<Stage> {
        self.engine.stage(id())
    }

    fn outcome(&self) -> Option<Outcome> {
        self.changes.iter().rev().find_map(|change| match change {
            Change::Ended { outcome, .. } => Some(outcome.clone()),
            _ => None,
        })
    }

    fn told(&self) -> Vec<String> {
        let lines = self.changes.iter().filter_map(|change| match change {
            Change::Stage {
                line: Some(line), ..
            }
            | Change::Note { line, .. } => Some(line.parts().0),
            _ => None,
        });
        lines.collect()
    }
}

fn kinds(published: &[Value]) -> Vec<String> {
    let kinds = published.iter().map(|it| {
        let kind = it["services"][0]["event_type"].as_str().unwrap_or("push");
        kind.to_owned()
    });
    kinds.collect()
}

#[test]
fn a_device_of_iotda_is_upgraded_from_its_connection_to_its_last_report() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    assert_eq!(world.stage(), Some(Stage::WaitingForDevice));
    world.connect();
    assert_eq!(kinds(&world.published()), ["version_query"]);
    world.tells("V1");
    let grant = world.granted();
    assert_eq!((grant.upgrade, grant.size_bytes), (UpgradeId(7), SIZE));
    let offer = &world.published()[0]["services"][0];
    assert_eq!(offer["event_type"], "firmware_upgrade");
    let paras = &offer["paras"];
    assert_eq!(paras["version"], "V2");
    assert_eq!(paras["sign"], SHA256);
    assert_eq!(paras["file_size"], SIZE);
    assert_eq!(paras["expires"], 86_400);
    assert_eq!(paras["access_token"], grant.token.as_str());
    assert_eq!(
        paras["url"],
        "https://updates.example.com:443/packages/3/V2.bin"
    );
    world.serve(&grant.token, 0);
    world.serve(&grant.token, 500);
    world.serve(&grant.token, SIZE);
    assert_eq!(world.stage(), Some(Stage::Executing));
    world.reports(0, 100, "V1");
    world.reports(0, 100, "V2");
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
    let revoked = world
        .outs
        .iter()
        .any(|(out, _)| *out == Out::Revoke(grant.token.clone()));
    assert!(revoked);
    assert_eq!(
        world.told(),
        [
            "attempt_begun",
            "connected",
            "runs_other_version",
            "fetches",
            "fetched",
        ]
    );
    assert_eq!(world.engine.tables().sessions, 0);
    // its sample answers the old version for ever: that says nothing of an upgrade that is over
    world.tells("V1");
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
}

#[test]
fn nothing_leaves_before_what_it_depends_on() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    // the stage of the offer is the newest change that it depends on
    let stage = world.changes.iter().rposition(|change| {
        matches!(change, Change::Stage { change, .. } if change.stage == Stage::Downloading)
    });
    let stage = Seq::try_from(stage.unwrap()).unwrap() + 1;
    for (out, after) in &world.outs {
        if let Out::Grant(_) = out {
            assert!(*after >= stage);
        }
        if let Out::Publish { payload, .. } = out
            && payload.windows(16).any(|part| part == b"firmware_upgrade")
        {
            assert!(*after >= stage);
        }
    }
    // the connection is held from then on, and let go some time after the whole package: it may be writing it
    let holds = |world: &World| -> Vec<bool> {
        let holds = world.outs.iter().filter_map(|(out, _)| match out {
            Out::Hold { on, .. } => Some(*on),
            _ => None,
        });
        holds.collect()
    };
    assert_eq!(holds(&world), [true]);
    let token = world.granted().token;
    world.serve(&token, SIZE);
    world.after(Duration::from_mins(9));
    assert_eq!(holds(&world), [true]);
    world.after(Duration::from_mins(2));
    assert_eq!(holds(&world), [true, false]);
}

#[test]
fn each_connection_of_a_device_that_may_be_downloading_is_held() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    let token = world.granted().token;
    let holds = |world: &mut World| {
        let outs = std::mem::take(&mut world.outs);
        (outs.iter()).any(|(out, _)| matches!(out, Out::Hold { on: true, .. }))
    };
    assert!(holds(&mut world));
    world.serve(&token, 300);
    assert!(!holds(&mut world), "it is held already");
    world.connect();
    assert!(holds(&mut world));
    world.reports(7, 0, "V2");
    world.connect();
    assert!(!holds(&mut world), "nothing goes on any more");
}

#[test]
fn a_success_that_is_claimed_before_all_has_arrived_waits_for_the_rest() {
    let claimed = |arrived: u64| {
        let mut world = World::of(Protocol::Iotda);
        world.start();
        world.connect();
        world.tells("V1");
        let token = world.granted().token;
        world.serve_with(&token, arrived, true);
        world.reports(0, 100, "V2");
        assert_eq!(world.outcome(), None);
        (world, token)
    };
    let (mut world, token) = claimed(300);
    world.serve(&token, SIZE);
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
    let cost = world.changes.iter().filter_map(|change| match change {
        Change::Traffic { traffic, .. } => Some(traffic.bytes_down),
        _ => None,
    });
    assert_eq!(cost.sum::<u64>(), SIZE);
    // one that took nothing: its connection ends, and nothing speaks for it any more
    let (mut world, token) = claimed(0);
    world.serve(&token, 0);
    world.after(Duration::from_mins(29));
    assert_eq!(world.outcome(), None);
    world.after(Duration::from_mins(1));
    let failure = Outcome::Failed(Failure::NotDownloaded);
    assert_eq!(world.outcome(), Some(failure));
}

#[test]
fn what_is_fetched_again_costs_the_device_something() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    let token = world.granted().token;
    world.serve(&token, SIZE);
    world.served_bytes = 0; // it fetches it once more
    world.serve(&token, SIZE);
    world.reports(7, 0, "V2");
    let cost = world.changes.iter().filter_map(|change| match change {
        Change::Traffic { traffic, .. } => Some(traffic.bytes_down),
        _ => None,
    });
    assert_eq!(cost.sum::<u64>(), 2 * SIZE);
}

#[test]
fn a_connection_that_flaps_beside_a_download_ends_nothing() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    let token = world.granted().token;
    world.published();
    for part in 1..=8 {
        world.serve(&token, part * 100);
        world.after(Duration::from_mins(1));
        world.connect();
        assert!(
            world.published().is_empty(),
            "nothing is asked while it downloads"
        );
    }
    // a device that was offered it twice says so
    world.reports(1, 80, "V1");
    assert_eq!(world.outcome(), None);
    let evidence = world.changes.iter().rev().find_map(|change| match change {
        Change::Evidence { evidence, .. } => Some(evidence[0]),
        _ => None,
    });
    assert_eq!(evidence.unwrap().failure, None);
    world.serve(&token, SIZE);
    world.reports(0, 100, "V2");
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
}

#[test]
fn a_late_failure_of_another_upgrade_is_none_of_this_one() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.stalled = true;
    world.tells("V1");
    // the offer has not left
    world.reports(7, 0, "V2");
    assert_eq!(world.outcome(), None);
    world.stalled = false;
    world.drain();
    world.reports(7, 0, "V0");
    assert_eq!(world.outcome(), None);
    assert_eq!(world.engine.counters().mqtt_unexpected, 2);
    world.reports(7, 0, "V1");
    assert_eq!(world.outcome().unwrap().reason(), "reported_failure");
}

#[test]
fn while_the_store_stalls_one_query_and_one_offer_wait_for_a_device() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.stalled = true;
    for _ in 0..50 {
        world.connect();
    }
    assert_eq!(kinds(&world.published()), ["version_query"]);
    for _ in 0..50 {
        world.tells("V1");
        world.connect();
    }
    assert_eq!(kinds(&world.published()), ["firmware_upgrade"]);
    // what waited has been given up
    world.engine.unsent(world.now, id());
    world.after(Duration::from_secs(11));
    assert_eq!(kinds(&world.published()), ["version_query"]);
    world.stalled = false;
    world.drain();
    world.connect();
    assert_eq!(kinds(&world.published()), ["version_query"]);
}

#[test]
fn acknowledgements_are_of_what_was_sent_in_their_order() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    // it acknowledges what it was asked after it has answered
    world.tells("V1");
    let delivered = || Event::Delivered {
        device: id(),
        packet_id: std::num::NonZeroU16::MIN,
    };
    let fate = |world: &World| {
        let session = world.engine.session(id()).unwrap();
        session.correspondence.sent.as_ref().unwrap().fate.clone()
    };
    world.event(delivered());
    assert_ne!(fate(&world), crate::ledger::Fate::Acknowledged);
    world.event(delivered());
    assert_eq!(fate(&world), crate::ledger::Fate::Acknowledged);
}

#[test]
fn signs_are_stored_however_much_a_device_says() {
    let mut world = World::of(Protocol::Iotda);
    world.connect();
    for number in 0..200 {
        world.tells(&format!("V1.{number}"));
    }
    world.start();
    world.after(Duration::from_millis(500));
    world.tells("V1");
    let stored = |change: &Change| matches!(change, Change::Evidence { .. });
    assert!(world.changes.iter().any(stored));
    // what is known is written once a minute
    let mut world = World::of(Protocol::Iotda);
    world.connect();
    for _ in 0..60 {
        world.tells("V1");
        world.after(Duration::from_secs(1));
    }
    assert_eq!(world.changes.len(), 1);
}

#[test]
fn a_failure_is_told_in_the_device_s_words_and_a_token_is_void_after_it() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    world.reports(7, 0, "V2");
    let Some(Change::Ended { outcome, facts, .. }) = world.changes.last() else {
        panic!("{:?}", world.changes.last());
    };
    assert_eq!(outcome.reason(), "reported_failure");
    assert_eq!(facts.code, Some(7));
    assert_eq!(facts.description.as_deref(), Some("as it is"));
    // what it fetches afterwards counts for nothing
    let token = world.granted().token;
    let changes = world.changes.len();
    world.serve(&token, SIZE);
    assert_eq!(world.changes.len(), changes);
    // and is refuted until it has connected anew: what it says before that is not believed
    world.command(Command::Start {
        order: UpgradeOrder {
            attempt: 2,
            ..order()
        },
        offers: offers(),
    });
    world.after(Duration::from_secs(1));
    world.tells("V2");
    assert_eq!(world.stage(), Some(Stage::Downloading));
    assert!(world.told().contains(&"not_believed".to_owned()));
}

#[test]
fn what_is_connected_already_is_asked_and_what_is_not_is_waited_for() {
    let mut world = World::of(Protocol::Iotda);
    world.connect();
    world.tells("V1");
    world.published();
    world.start();
    world.after(Duration::from_secs(1));
    assert_eq!(kinds(&world.published()), ["version_query"]);
    world.tells("V1");
    assert_eq!(kinds(&world.published()), ["firmware_upgrade"]);
    world.reports(0, 10, "V1");
    world.disconnect();
    assert!(!world.engine.is_connected(id()));
    world.connect();
    assert_eq!(kinds(&world.published()), ["version_query"]);
    world.tells("V2");
    // it was served nothing of it
    assert_eq!(
        world.outcome(),
        Some(Outcome::Succeeded(Success::Unverified))
    );
}

#[test]
fn a_device_that_connects_again_and_again_fills_no_timeline() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    let before = world.changes.len();
    for _ in 0..50 {
        world.connect();
    }
    assert_eq!(world.changes.len(), before + 1);
}

#[test]
fn a_flood_of_versions_is_written_at_a_bounded_pace() {
    let mut world = World::of(Protocol::Iotda);
    world.connect();
    for number in 0..200 {
        world.tells(&format!("V{number}"));
    }
    assert!(world.changes.len() <= 20, "{}", world.changes.len());
}

#[test]
fn settings_of_a_product_choose_events_of_version_2_and_software() {
    let mut config = Config::default();
    let product = config.products.entry("meters".into()).or_default();
    product.ota = crate::config::OtaKind::Software;
    product.ota_events = crate::config::OtaEvents::V2;
    let mut world = World::with(Protocol::Iotda, config);
    world.start();
    world.connect();
    // both versions are told: that of the software counts
    world.says_event(
        "version_report",
        &json!({"fw_version": "V2", "sw_version": "V1"}),
    );
    let token = world.granted().token;
    let published = world.published();
    assert_eq!(kinds(&published), ["version_query", "software_upgrade_v2"]);
    let paras = &published[1]["services"][0]["paras"];
    assert_eq!(paras.get("access_token"), None);
    let url = format!(
        "https://updates.example.com:443/t/{}/V2.bin",
        token.as_str()
    );
    assert_eq!(paras["url"], url);
}

#[test]
fn goes_on_after_a_restart_of_the_server() {
    let mut before = World::of(Protocol::Iotda);
    before.start();
    before.connect();
    before.tells("V1");
    let token = before.granted().token;
    before.serve(&token, 400);
    let evidence = before.changes.iter().rev().find_map(|change| match change {
        Change::Evidence { evidence, .. } => Some(evidence.clone()),
        _ => None,
    });
    let stage = before.changes.iter().rev().find_map(|change| match change {
        Change::Stage { change, .. } => Some(change.clone()),
        _ => None,
    });
    let mut world = resumed(before.now, stage.unwrap(), evidence.unwrap());
    // the same token, and what was served counts on
    let grant = world.granted();
    assert_eq!(
        (grant.token.clone(), grant.already_contiguous),
        (token, 400)
    );
    assert!(world.published().is_empty());
    world.connect();
    assert_eq!(kinds(&world.published()), ["version_query"]);
    world.serve(&grant.token, SIZE);
    world.reports(0, 100, "V2");
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
}

fn resumed(now: Now, stage: StageChange, evidence: Vec<Evidence>) -> World {
    let now = now + Duration::from_mins(1);
    let mut world = World::begun(Protocol::Iotda, Config::default(), now);
    let record = DeviceRecord {
        endpoint: DEVICE.into(),
        product: "meters".into(),
        secure: false,
        protocol: Protocol::Iotda,
        registration: None,
        last_heard_at: None,
        coverage: None,
        version: Some(version("V1")),
        evidence,
        wake_ups: None,
        appointment: None,
    };
    world.engine.restore_device(now, &record);
    let upgrade = ActiveUpgrade {
        order: order(),
        stage,
        progress: Some(Progress {
            done_bytes: 400,
            total_bytes: SIZE,
        }),
    };
    world.engine.restore_upgrade(now, upgrade, offers());
    world.drain();
    world
}

#[test]
fn a_package_that_is_not_served_over_http_fails_before_anything_is_offered() {
    let mut world = World::of(Protocol::Iotda);
    let package = Arc::new(package("V2"));
    world.command(Command::Start {
        order: order(),
        offers: Arc::new(Offers::only(PackageId(3), package)),
    });
    world.connect();
    world.tells("V1");
    assert_eq!(world.outcome().unwrap().reason(), "not_served");
    assert_eq!(kinds(&world.published()), ["version_query"]);
}

#[test]
fn a_package_whose_size_has_ten_digits_is_offered_where_the_product_allows_it() {
    let large = || {
        let http = HttpPackage {
            sha256: SHA256.into(),
        };
        let package = Package::over_http(version("V2"), 1_000_000_000, http);
        Arc::new(Offers::only(PackageId(3), Arc::new(package)))
    };
    for (protocol, allowed, offered) in [
        (Protocol::Iotda, false, false),
        (Protocol::Iotda, true, true),
        (Protocol::ThingsPanel, false, true),
    ] {
        let mut config = Config::default();
        let product = config.products.entry("meters".into()).or_default();
        product.iotda_large_downloads = allowed;
        let mut world = World::with(protocol, config);
        world.command(Command::Start {
            order: order(),
            offers: large(),
        });
        world.connect();
        world.tells("V1");
        let reason = world.outcome().map(|outcome| outcome.reason());
        let expected = (!offered).then_some("not_served");
        assert_eq!(reason, expected, "{protocol:?} {allowed}");
    }
}

#[test]
fn an_offer_that_could_not_be_sent_leaves_again() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    world.published();
    world.engine.unsent(world.now, id());
    world.after(Duration::from_secs(11));
    assert_eq!(kinds(&world.published()), ["firmware_upgrade"]);
    // a question too, and nothing that it is seen to have got
    let token = world.engine.session(id()).unwrap().exchange.token.clone();
    world.serve(&token.unwrap(), 100);
    world.engine.unsent(world.now, id());
    world.after(Duration::from_secs(11));
    assert!(world.published().is_empty());
    world.after(Duration::from_mins(2));
    world.connect();
    assert_eq!(kinds(&world.published()), ["version_query"]);
    world.engine.unsent(world.now, id());
    world.after(Duration::from_secs(11));
    assert_eq!(kinds(&world.published()), ["version_query"]);
    // one that is gone is offered it when it is there again
    world.disconnect();
    world.engine.unsent(world.now, id());
    world.after(Duration::from_mins(1));
    assert!(world.published().is_empty());
}

#[test]
fn stopping_and_removing_end_what_was_offered() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    world.command(Command::Stop {
        endpoint: DEVICE.into(),
        upgrade: UpgradeId(7),
        reason: StopReason::TaskWindsDown,
    });
    assert_eq!(world.outcome(), None, "one that was offered it goes on");
    let token = world.granted().token;
    world.command(Command::RemoveDevice {
        endpoint: DEVICE.into(),
    });
    assert_eq!(world.outcome().unwrap().reason(), "device_removed");
    let revoked = world
        .outs
        .iter()
        .any(|(out, _)| *out == Out::Revoke(token.clone()));
    assert!(revoked);
    assert!(!world.engine.has(id()));
    assert_eq!(world.engine.poll_timeout(), None);
}

#[test]
fn a_device_that_connects_before_it_is_read_is_met_when_it_is() {
    let now = Now {
        instant: Instant::from_millis(1_000_000_000),
        utc: UtcMillis(1_800_000_000_000),
    };
    let mut world = World::begun(Protocol::Iotda, Config::default(), now);
    world.connect();
    assert!(world.published().is_empty());
    world.command(Command::AddDevice {
        endpoint: DEVICE.into(),
        product: "meters".into(),
        secure: false,
        protocol: Protocol::Iotda,
    });
    // its version is not known yet
    assert_eq!(kinds(&world.published()), ["version_query"]);
    assert_eq!(world.engine.last_heard(world.now, id()), Some(now.utc));
}

/// V1 → V2 → V3, after the first step ended with the device's report.
fn between_two_steps() -> World {
    let offer = |id: i64, from: &str, target: &str| {
        let http = HttpPackage {
            sha256: SHA256.into(),
        };
        Offer {
            id: PackageId(id),
            version: version(target),
            from: Fits {
                versions: vec![from.parse().unwrap()],
                ..Fits::default()
            },
            package: Some(Arc::new(package(target).and_over_http(http))),
        }
    };
    let list = vec![offer(3, "V1", "V2"), offer(4, "V2", "V3")];
    let mut world = World::of(Protocol::Iotda);
    world.command(Command::Start {
        order: order(),
        offers: Arc::new(Offers::new(list, true, false).unwrap()),
    });
    world.connect();
    world.tells("V1");
    let token = world.granted().token;
    world.serve(&token, SIZE);
    world.published();
    world.reports(0, 100, "V2");
    assert_eq!(world.outcome(), None);
    assert_eq!(kinds(&world.published()), ["version_query"]);
    // it tells the old version for as long as it runs
    world.tells("V1");
    assert_eq!(world.outcome(), None);
    assert!(world.published().is_empty());
    world
}

#[test]
fn a_step_that_ended_with_a_report_is_not_judged_by_a_version_before_another_connection() {
    let mut world = between_two_steps();
    world.connect();
    assert_eq!(kinds(&world.published()), ["version_query"]);
    world.tells("V2");
    let token = world.granted().token;
    assert_eq!(kinds(&world.published()), ["firmware_upgrade"]);
    world.serve(&token, SIZE);
    world.reports(0, 100, "V3");
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
}

#[test]
fn a_step_whose_device_does_not_connect_anew_is_followed_by_the_next_one_after_a_while() {
    let mut world = between_two_steps();
    world.after(Duration::from_secs(181));
    let published = world.published();
    let offer = published.last().unwrap();
    assert_eq!(offer["services"][0]["paras"]["version"], "V3");
}

#[test]
fn a_step_that_did_not_take_is_known_by_the_version_after_another_connection() {
    let mut world = between_two_steps();
    world.connect();
    world.tells("V1");
    let failure = Failure::WrongVersion(version("V1"));
    assert_eq!(world.outcome(), Some(Outcome::Failed(failure)));
}

// ---- ThingsPanel

#[test]
fn a_device_of_release_0_5_is_pushed_to_when_it_has_told_its_version() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    world.subscribe(Release::V05);
    assert!(world.published().is_empty());
    let inform =
        |version: &str| json!({"id": "1", "params": {"version": version, "module": "default"}});
    world.says(Uplink::Inform(Release::V05), &inform("V1"));
    let token = world.granted().token;
    let push = &world.published()[0];
    assert_eq!(push["code"], 200);
    assert_eq!(push["params"]["version"], "V2");
    assert_eq!(push["params"]["size"], SIZE);
    assert_eq!(push["params"]["signMethod"], "SHA256");
    world.serve(&token, SIZE);
    let step = |step: &str| json!({"step": step, "desc": "", "module": "default"});
    world.says(Uplink::Progress(Release::V05), &step("30"));
    world.says(Uplink::Progress(Release::V05), &step("100"));
    assert_eq!(world.outcome(), None);
    // what is about another part of it is not about this upgrade
    let mcu = json!({"id": "2", "params": {"version": "V2", "module": "MCU"}});
    world.says(Uplink::Inform(Release::V05), &mcu);
    assert_eq!(world.outcome(), None);
    world.says(Uplink::Inform(Release::V05), &inform("V2"));
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
}

#[test]
fn a_device_of_release_0_5_whose_link_breaks_in_its_download_is_pushed_to_as_long_as_it_gets_further()
 {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    let inform = json!({"params": {"version": "V1", "module": "default"}});
    world.connect();
    world.subscribe(Release::V05);
    world.says(Uplink::Inform(Release::V05), &inform);
    let token = world.granted().token;
    world.published();
    let mut again = |bytes: u64| {
        world.serve(&token, bytes);
        world.disconnect();
        world.connect();
        world.subscribe(Release::V05);
        world.says(Uplink::Inform(Release::V05), &inform);
        assert!(world.outcome().is_some() || kinds(&world.published()) == ["push"]);
        world.outcome()
    };
    for part in 1..=8 {
        assert_eq!(again(part * 100), None, "{part}");
    }
    // it begins at the beginning from now on, and never comes as far
    for part in 1..=3 {
        assert_eq!(again(800), None, "{part}");
    }
    let failure = Failure::WrongVersion(version("V1"));
    assert_eq!(again(800), Some(Outcome::Failed(failure)));
}

#[test]
fn a_device_of_release_1_is_pushed_to_when_it_has_subscribed_and_step_100_is_its_last_word() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    assert!(world.published().is_empty());
    world.subscribe(Release::V1);
    let token = world.granted().token;
    let push = &world.published()[0];
    assert_eq!(push["code"], "200");
    assert_eq!(push["params"]["size"], "1000");
    world.serve(&token, 0);
    world.serve(&token, SIZE);
    world.says(Uplink::Progress(Release::V1), &json!({"step": 100}));
    assert_eq!(
        world.outcome(),
        Some(Outcome::Succeeded(Success::Unverified))
    );
}

#[test]
fn a_device_that_tells_nothing_of_itself_is_pushed_to_after_a_while() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    world.after(Duration::from_secs(59));
    assert!(world.published().is_empty());
    world.after(Duration::from_secs(2));
    assert_eq!(kinds(&world.published()), ["push"]);
    assert!(world.told().contains(&"version_unknown".to_owned()));
}

#[test]
fn a_push_leaves_again_when_the_device_has_subscribed_anew() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    world.subscribe(Release::V1);
    assert_eq!(kinds(&world.published()), ["push"]);
    world.disconnect();
    world.connect();
    assert!(world.published().is_empty());
    world.subscribe(Release::V1);
    assert_eq!(kinds(&world.published()), ["push"]);
    // one that never subscribes is told some seconds after its connection
    world.connect();
    world.after(Duration::from_secs(6));
    assert_eq!(kinds(&world.published()), ["push"]);
}

#[test]
fn one_that_subscribes_after_it_was_told_is_told_where_it_listens() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    world.after(Duration::from_secs(61));
    assert_eq!(kinds(&world.published()), ["push"]);
    world.subscribe(Release::V05);
    assert_eq!(kinds(&world.published()), ["push"]);
    // once
    world.subscribe(Release::V05);
    assert!(world.published().is_empty());
}

#[test]
fn one_of_release_1_that_lost_its_power_in_the_download_is_pushed_to_again() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    world.subscribe(Release::V1);
    let token = world.granted().token;
    world.published();
    world.serve(&token, 400);
    world.disconnect();
    world.after(Duration::from_mins(3));
    world.connect();
    world.subscribe(Release::V1);
    // it may be through already, and about to say so
    assert!(world.published().is_empty());
    world.after(Duration::from_secs(61));
    assert_eq!(kinds(&world.published()), ["push"]);
    // it has not told that it runs it: another task for the same version is no matter of course
    world.serve(&token, SIZE);
    world.says(Uplink::Progress(Release::V1), &json!({"step": 100}));
    let unverified = Some(Outcome::Succeeded(Success::Unverified));
    assert_eq!(world.outcome(), unverified);
    world.start();
    world.after(Duration::from_secs(1));
    world.subscribe(Release::V1);
    assert_eq!(kinds(&world.published()), ["push"]);
}

#[test]
fn one_of_release_0_5_that_never_tells_its_version_is_through_when_it_has_said_so() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    world.subscribe(Release::V05);
    world.after(Duration::from_secs(61));
    let token = world.granted().token;
    world.serve(&token, SIZE);
    world.says(Uplink::Progress(Release::V05), &json!({"step": 100}));
    let unverified = Some(Outcome::Succeeded(Success::Unverified));
    assert_eq!(world.outcome(), unverified);
}

#[test]
fn negative_steps_fail_with_the_device_s_words() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    world.subscribe(Release::V1);
    let failed = json!({"step": "-3", "desc": "md5 differs"});
    world.says(Uplink::Progress(Release::V1), &failed);
    let Some(Change::Ended { facts, .. }) = world.changes.last() else {
        panic!("{:?}", world.changes.last());
    };
    assert_eq!(facts.code, Some(-3));
    assert_eq!(facts.description.as_deref(), Some("md5 differs"));
}

#[test]
fn garbage_is_counted_and_changes_nothing() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    world.subscribe(Release::V1);
    let changes = world.changes.len();
    for payload in ["", "[]", "{}", r#"{"step":1e9}"#] {
        for uplink in [
            Uplink::Progress(Release::V1),
            Uplink::Inform(Release::V05),
            Uplink::Events { gzip: true },
            Uplink::Events { gzip: false },
            Uplink::Other,
        ] {
            world.event(Event::Message {
                device: id(),
                uplink,
                payload: payload.into(),
                ack: None,
            });
        }
    }
    assert_eq!(world.changes.len(), changes);
    assert!(world.engine.counters().mqtt_unreadable >= 8);
    let begun = matches!(
        world.changes.first(),
        Some(Change::Stage { line: Some(line), .. }) if matches!(line.happened, Happened::AttemptBegun { .. })
    );
    assert!(begun);
}
