//! Devices behind a gateway.

use super::*;
use crate::ledger::{Refusal, Via};

mod bounds;

const CHILD: &str = "child-1";

fn conn_of(gateway: &str, generation: u32) -> ConnId {
    ConnId {
        slot: u32::from(gateway.as_bytes()[gateway.len() - 1]),
        generation,
    }
}

impl World {
    /// Two gateways, and a device behind the first one, which is offered a package.
    fn with_gateways() -> Self {
        let now = Now {
            instant: Instant::from_millis(1_000_000_000),
            utc: UtcMillis(1_800_000_000_000),
        };
        let mut world = Self::begun(Protocol::Iotda, Config::default(), now);
        world.add("gw-1", "gateways", &Via::Itself);
        world.add("gw-2", "gateways", &Via::Itself);
        world.add(CHILD, "sensors", &via("gw-1"));
        world.command(Command::Restored);
        world
    }

    fn add(&mut self, endpoint: &str, product: &str, via: &Via) {
        self.command(Command::AddDevice {
            endpoint: endpoint.into(),
            product: product.into(),
            secure: false,
            protocol: Protocol::Iotda,
            via: via.clone(),
        });
    }

    fn order_for(&mut self, endpoint: &str, upgrade: i64) {
        let order = UpgradeOrder {
            upgrade: UpgradeId(upgrade),
            endpoint: endpoint.into(),
            ..order()
        };
        let offers = offers();
        self.command(Command::Start { order, offers });
    }

    fn gateway_connects(&mut self, gateway: &str) {
        self.connections += 1;
        let conn = conn_of(gateway, self.connections);
        self.event(Event::Connected {
            device: ids().of(gateway),
            conn,
            style: Style::Iotda,
            version: MqttVersion::V311,
            peer: SocketAddr::from(([10, 0, 0, 1], 4_000)),
            took_over: false,
            client_id: "".into(),
        });
    }

    fn gateway_leaves(&mut self, gateway: &str) {
        let conn = conn_of(gateway, self.connections);
        self.event(Event::Disconnected {
            device: ids().of(gateway),
            conn,
            why: Ending::Lost,
        });
    }

    /// It says something of that object.
    fn gateway_says(
        &mut self,
        gateway: &str,
        object: &str,
        service: &str,
        kind: &str,
        paras: &Value,
    ) {
        let payload = json!({
            "object_device_id": object,
            "services": [{"service_id": service, "event_type": kind, "event_time": "", "paras": paras}],
        });
        self.event(Event::Message {
            device: ids().of(gateway),
            uplink: Uplink::Events { gzip: false },
            payload: payload.to_string().into(),
            ack: None,
        });
    }

    fn tells_for(&mut self, gateway: &str, child: &str, version: &str) {
        let paras = json!({"fw_version": version});
        self.gateway_says(gateway, child, "$ota", "version_report", &paras);
        self.admit(child);
    }

    /// Where it waits for a slot of its gateway, it is given one.
    fn admit(&mut self, child: &str) {
        let device = ids().of(child);
        let session = self.engine.session(device);
        if let Some(lane) = session.and_then(|it| it.negotiation().queued_in()) {
            let order = GateOrder::Admit { lane, active: 1 };
            self.command(Command::Gate { device, order });
        }
    }

    fn reports_for(&mut self, gateway: &str, child: &str, code: i32, version: &str) {
        let paras = json!({"result_code": code, "progress": 100, "version": version});
        self.gateway_says(gateway, child, "$ota", "upgrade_progress_report", &paras);
    }

    fn manages(&mut self, gateway: &str, kind: &str, paras: &Value) {
        self.gateway_says(gateway, gateway, "$sub_device_manager", kind, paras);
    }

    fn status_of(&mut self, gateway: &str, child: &str, status: &str) {
        let paras = json!({"device_statuses": [{"device_id": child, "status": status}]});
        self.manages(gateway, "sub_device_update_status", &paras);
    }

    fn acknowledges(&mut self, gateway: &str) {
        let device = ids().of(gateway);
        let packet_id = std::num::NonZeroU16::MIN;
        self.event(Event::Delivered { device, packet_id });
    }

    /// What was published since this was asked last: to which gateway, about whom, what.
    fn sent_to_gateways(&mut self) -> Vec<(String, String, String)> {
        let outs = std::mem::take(&mut self.outs);
        let named = |id: DeviceId| {
            let names = ["gw-1", "gw-2", CHILD];
            let name = names.into_iter().find(|name| ids().of(name) == id);
            name.unwrap_or("?").to_owned()
        };
        let sent = outs.into_iter().filter_map(|(out, _)| match out {
            Out::Publish {
                device, payload, ..
            } => {
                let it: Value = serde_json::from_slice(&payload).unwrap();
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let kind = text(&it["services"][0]["event_type"]);
                Some((named(device), text(&it["object_device_id"]), kind))
            }
            _ => None,
        });
        sent.collect()
    }

    fn serve_for(&mut self, child: &str, token: &Token, bytes: u64) {
        let served = ServedBytes {
            device: ids().of(child),
            upgrade: UpgradeId(7),
            task: TaskId(5),
            token: token.clone(),
            contiguous_bytes: bytes,
            whole: bytes == SIZE,
            in_flight: false,
            more_bytes: bytes,
            over: false,
        };
        self.engine.served(self.now, &served);
        self.drain();
    }

    fn stage_of(&self, endpoint: &str) -> Option<Stage> {
        self.engine.stage(ids().of(endpoint))
    }

    /// The child was offered the package through the first gateway; what it fetches that with.
    fn offered(&mut self) -> Token {
        self.order_for(CHILD, 7);
        self.gateway_connects("gw-1");
        self.after(Duration::from_secs(1));
        self.tells_for("gw-1", CHILD, "V1");
        assert_eq!(self.stage_of(CHILD), Some(Stage::Downloading));
        self.granted().token
    }
}

fn via(gateway: &str) -> Via {
    Via::Gateway(Some(gateway.to_owned()))
}

fn sent(gateway: &str, object: &str, kind: &str) -> (String, String, String) {
    (gateway.to_owned(), object.to_owned(), kind.to_owned())
}

#[test]
fn a_child_is_upgraded_over_its_gateways_connection() {
    let mut world = World::with_gateways();
    world.order_for(CHILD, 7);
    assert_eq!(world.told(), ["attempt_begun", "gateway_offline"]);
    world.gateway_connects("gw-2");
    assert_eq!(world.stage_of(CHILD), Some(Stage::WaitingForDevice));
    world.sent_to_gateways();
    world.gateway_connects("gw-1");
    let asked = [
        sent("gw-1", "gw-1", "version_query"),
        sent("gw-1", CHILD, "version_query"),
    ];
    assert_eq!(world.sent_to_gateways(), asked);
    world.tells_for("gw-1", CHILD, "V1");
    let token = world.granted().token;
    let held = Out::Hold {
        device: ids().of("gw-1"),
        on: true,
    };
    assert!(world.outs.iter().any(|(out, _)| *out == held));
    assert_eq!(
        world.sent_to_gateways(),
        [sent("gw-1", CHILD, "firmware_upgrade")]
    );
    world.serve_for(CHILD, &token, SIZE);
    world.reports_for("gw-1", CHILD, 0, "V2");
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
    let released = Out::Hold {
        device: ids().of("gw-1"),
        on: false,
    };
    assert!(world.outs.iter().any(|(out, _)| *out == released));
}

#[test]
fn a_success_without_a_download_is_judged_by_the_version_after_another_connection() {
    for (version, expected) in [
        ("V2", Outcome::Succeeded(Success::Unverified)),
        ("V1", Outcome::Failed(Failure::NotDownloaded)),
    ] {
        let mut world = World::with_gateways();
        world.offered();
        world.reports_for("gw-1", CHILD, 0, "V2");
        world.tells_for("gw-1", CHILD, "V1");
        assert_eq!(world.outcome(), None, "it was not asked");
        world.gateway_leaves("gw-1");
        world.sent_to_gateways();
        world.gateway_connects("gw-1");
        let asked = sent("gw-1", CHILD, "version_query");
        assert!(world.sent_to_gateways().contains(&asked));
        world.tells_for("gw-1", CHILD, version);
        assert_eq!(world.outcome(), Some(expected));
    }
    // the child itself may be what connects
    let mut world = World::with_gateways();
    world.offered();
    world.reports_for("gw-1", CHILD, 0, "V2");
    world.sent_to_gateways();
    world.status_of("gw-1", CHILD, "ONLINE");
    assert_eq!(
        world.sent_to_gateways(),
        [sent("gw-1", CHILD, "version_query")]
    );
    world.tells_for("gw-1", CHILD, "V1");
    let failed = Outcome::Failed(Failure::NotDownloaded);
    assert_eq!(world.outcome(), Some(failed));
}

#[test]
fn a_gateway_that_restarts_in_the_download_is_asked_and_offered_again() {
    let mut world = World::with_gateways();
    let token = world.offered();
    world.serve_for(CHILD, &token, 300);
    world.gateway_leaves("gw-1");
    world.gateway_connects("gw-1");
    let held = Out::Hold {
        device: ids().of("gw-1"),
        on: true,
    };
    assert!(world.outs.iter().filter(|(out, _)| *out == held).count() >= 2);
    world.sent_to_gateways();
    // its download may go on beside the connection that broke
    world.after(Duration::from_mins(3));
    assert_eq!(
        world.sent_to_gateways(),
        [sent("gw-1", CHILD, "version_query")]
    );
    world.tells_for("gw-1", CHILD, "V1");
    assert_eq!(
        world.sent_to_gateways(),
        [sent("gw-1", CHILD, "firmware_upgrade")]
    );
    world.serve_for(CHILD, &token, SIZE);
    world.reports_for("gw-1", CHILD, 0, "V2");
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
}

/// An offer may have to wait for the gateway's acknowledgements, and the child fetch meanwhile what it was offered before.
#[test]
fn what_waited_to_be_said_is_not_said_in_the_midst_of_a_download() {
    let offer = sent("gw-1", CHILD, "firmware_upgrade");
    for (bytes, expected) in [(300, true), (SIZE, false)] {
        let mut world = World::with_gateways();
        let token = world.offered();
        world.sent_to_gateways();
        let child = ids().of(CHILD);
        let session = world.engine.session_mut(child).unwrap();
        session.exchange.owes_offer = true;
        world.serve_for(CHILD, &token, bytes);
        world.engine.say_what_is_owed(child);
        world.drain();
        assert!(!world.sent_to_gateways().contains(&offer), "{bytes}");
        world.after(Duration::from_mins(3));
        assert_eq!(
            world.sent_to_gateways().contains(&offer),
            expected,
            "{bytes}"
        );
    }
}

#[test]
fn a_child_that_moves_begins_anew_through_its_new_gateway() {
    let mut world = World::with_gateways();
    let token = world.offered();
    world.gateway_connects("gw-2");
    world.sent_to_gateways();
    world.add(CHILD, "sensors", &via("gw-2"));
    assert!(world.told().contains(&"gateway_changed".to_owned()));
    let told = world
        .outs
        .iter()
        .any(|(out, _)| *out == Out::Revoke(token.clone()));
    assert!(told);
    let sent_now = world.sent_to_gateways();
    for expected in [
        sent("gw-1", "gw-1", "delete_sub_device_notify"),
        sent("gw-2", "gw-2", "add_sub_device_notify"),
        sent("gw-2", CHILD, "version_query"),
    ] {
        assert!(sent_now.contains(&expected), "{sent_now:?}");
    }
    // what the old one reports, or has downloaded, counts no more
    world.reports_for("gw-1", CHILD, 0, "V2");
    world.tells_for("gw-1", CHILD, "V2");
    world.serve_for(CHILD, &token, SIZE);
    assert_eq!(world.outcome(), None);
    assert_eq!(world.stage_of(CHILD), Some(Stage::QueryingVersion));
    world.asks.clear();
    world.tells_for("gw-2", CHILD, "V1");
    let waits = |ask: &GateRequest| matches!(ask, GateRequest::Wait { .. });
    assert!(world.asks.iter().any(waits), "for its new gateway");
    let new = world.granted().token;
    assert_ne!(new, token);
    world.serve_for(CHILD, &new, SIZE);
    world.reports_for("gw-2", CHILD, 0, "V2");
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
}

#[test]
fn a_child_without_a_gateway_waits_and_says_so() {
    let mut world = World::with_gateways();
    world.offered();
    world.add(CHILD, "sensors", &Via::Gateway(None));
    assert_eq!(world.stage_of(CHILD), Some(Stage::WaitingForDevice));
    world.sent_to_gateways();
    world.reports_for("gw-1", CHILD, 0, "V2");
    assert_eq!(world.outcome(), None);
    world.add(CHILD, "sensors", &via("gw-1"));
    assert!(
        world
            .sent_to_gateways()
            .contains(&sent("gw-1", CHILD, "version_query"))
    );
}

#[test]
fn a_child_whose_gateway_leaves_says_so_once_in_a_stage() {
    let mut world = World::with_gateways();
    world.gateway_connects("gw-1");
    world.order_for(CHILD, 7);
    let offline = |world: &World| {
        let told = world.told();
        let count = |code: &str| told.iter().filter(|it| *it == code).count();
        (count("gateway_offline"), count("child_offline"))
    };
    assert_eq!(offline(&world), (0, 0));
    world.gateway_leaves("gw-1");
    assert_eq!(offline(&world), (1, 0));
    world.gateway_connects("gw-1");
    world.after(Duration::from_secs(1));
    world.tells_for("gw-1", CHILD, "V1");
    assert_eq!(world.stage_of(CHILD), Some(Stage::Downloading));
    let before = offline(&world);
    for _ in 0..3 {
        world.gateway_leaves("gw-1");
        world.gateway_connects("gw-1");
    }
    assert_eq!(world.stage_of(CHILD), Some(Stage::Downloading));
    assert_eq!(offline(&world), (before.0 + 1, before.1));
    // that the child is not there is another thing; neither is news when they take turns
    for _ in 0..5 {
        world.status_of("gw-1", CHILD, "OFFLINE");
        world.status_of("gw-1", CHILD, "ONLINE");
        world.gateway_leaves("gw-1");
        world.gateway_connects("gw-1");
    }
    assert_eq!(world.stage_of(CHILD), Some(Stage::Downloading));
    assert_eq!(offline(&world), (before.0 + 1, before.1 + 1));
}

#[test]
fn refusals_by_condition_have_reasons_of_their_own() {
    // "in use" is none while the offer before may be at work
    let refusals = [
        (1, Refusal::InUse),
        (2, Refusal::Signal),
        (4, Refusal::Battery),
        (5, Refusal::Space),
        (9, Refusal::Memory),
    ];
    for (code, refusal) in refusals {
        let mut world = World::with_gateways();
        world.offered();
        world.reports_for("gw-1", CHILD, code, "V1");
        let failed = Outcome::Failed(Failure::Refused(refusal, code));
        assert_eq!(world.outcome(), Some(failed));
    }
}

#[test]
fn a_gateway_is_told_its_children_and_may_claim_those_that_nobody_has() {
    let mut world = World::with_gateways();
    world.add("free-1", "sensors", &Via::Gateway(None));
    world.add("others-1", "acme/sensors", &Via::Gateway(None));
    world.gateway_connects("gw-1");
    world.gateway_connects("gw-2");
    world.published();
    world.manages("gw-1", "sub_device_sync_request", &json!({"version": 0}));
    let told = world.published();
    let told = told
        .iter()
        .find(|it| it["services"][0]["event_type"] == "add_sub_device_notify");
    let devices = &told.expect("it is told")["services"][0]["paras"]["devices"];
    assert_eq!(devices.as_array().unwrap().len(), 1);
    assert_eq!(devices[0]["device_id"], CHILD);
    let names = [CHILD, "free-1", "others-1", "nobody", "gw-1"];
    let devices: Vec<Value> = names.iter().map(|name| json!({"node_id": name})).collect();
    world.manages(
        "gw-2",
        "add_sub_device_request",
        &json!({"devices": devices}),
    );
    let answers = world.published();
    let answer = answers
        .iter()
        .find(|it| it["services"][0]["event_type"] == "add_sub_device_response");
    let paras = &answer.expect("it is answered")["services"][0]["paras"];
    assert_eq!(paras["successful_devices"][0]["device_id"], "free-1");
    let codes: Vec<&str> = (paras["failed_devices"].as_array().unwrap().iter())
        .map(|it| it["error_code"].as_str().unwrap())
        .collect();
    assert_eq!(
        codes,
        [
            "OTHERS_CHILD",
            "UNKNOWN_DEVICE",
            "UNKNOWN_DEVICE",
            "UNKNOWN_DEVICE"
        ]
    );
    let written = world.changes.iter().find_map(|change| match change {
        Change::Via {
            endpoint,
            before,
            via,
            ..
        } => Some((endpoint.clone(), before.clone(), via.clone())),
        _ => None,
    });
    let expected = ("free-1".to_owned(), None, Some("gw-2".to_owned()));
    assert_eq!(written, Some(expected));
    // and give back what is its own
    let both = json!({"devices": ["free-1", CHILD]});
    world.manages("gw-2", "delete_sub_device_request", &both);
    let answers = world.published();
    let paras = &answers.last().unwrap()["services"][0]["paras"];
    assert_eq!(paras["successful_devices"], json!(["free-1"]));
    assert_eq!(paras["failed_devices"][0]["device_id"], CHILD);
}

#[test]
fn an_upgrade_competes_by_the_limit_of_its_gateways_product() {
    let mut world = World::with_gateways();
    let mut config = Config::default();
    let settings = crate::config::ProductConfig {
        per_gateway: Some(2),
        ..crate::config::ProductConfig::default()
    };
    config.products.insert("gateways".into(), settings);
    world.engine.configure(world.now, Arc::new(config));
    world.order_for(CHILD, 7);
    let session = world.engine.session(ids().of(CHILD)).unwrap();
    assert_eq!(session.order.further.per_gateway(), Some(2));
}

#[test]
fn what_is_stored_says_the_limit_of_a_gateway_that_is_not_read_yet() {
    let stored =
        |gateway: &str| Further::of(None, Some(Lane::gateway(gateway))).with_limit(Some(2));
    let competes =
        |world: &World, before| world.engine.further(ids().of(CHILD), before).per_gateway();
    let now = Now {
        instant: Instant::from_millis(1_000_000_000),
        utc: UtcMillis(1_800_000_000_000),
    };
    let mut world = World::begun(Protocol::Iotda, Config::default(), now);
    world.add(CHILD, "sensors", &via("gw-1"));
    assert_eq!(competes(&world, stored("gw-1")), Some(2));
    assert_eq!(competes(&world, stored("gw-2")), None, "another one's");
    world.add("gw-1", "gateways", &Via::Itself);
    assert_eq!(
        competes(&world, stored("gw-1")),
        None,
        "its product says none"
    );
}

#[test]
fn a_product_may_have_its_gateways_claim_nothing() {
    let mut world = World::with_gateways();
    let mut config = Config::default();
    let settings = crate::config::ProductConfig {
        fixed_children: true,
        ..crate::config::ProductConfig::default()
    };
    config.products.insert("gateways".into(), settings);
    world.engine.configure(world.now, Arc::new(config));
    world.add("free-1", "sensors", &Via::Gateway(None));
    world.gateway_connects("gw-1");
    let before = world.changes.len();
    let devices = json!({"devices": [{"device_id": "free-1"}]});
    world.manages("gw-1", "add_sub_device_request", &devices);
    world.manages(
        "gw-1",
        "delete_sub_device_request",
        &json!({"devices": [CHILD]}),
    );
    let via = |change: &Change| matches!(change, Change::Via { .. });
    assert!(!world.changes[before..].iter().any(via));
    assert_eq!(
        world.engine.child_of(ids().of("gw-1"), CHILD),
        Some(ids().of(CHILD))
    );
}

#[test]
fn many_children_are_told_as_their_gateway_acknowledges() {
    let mut world = World::with_gateways();
    for n in 0..200 {
        let name = format!("c{n}");
        world.add(&name, "sensors", &via("gw-1"));
        world.order_for(&name, 100 + n);
    }
    world.gateway_connects("gw-1");
    let mut asked = world.sent_to_gateways().len();
    assert!(asked < 10, "{asked} at once");
    for _ in 0..300 {
        world.acknowledges("gw-1");
        let now = world.sent_to_gateways().len();
        assert!(now <= 2, "{now} for one acknowledgement");
        asked += now;
    }
    // the gateway, the child of before, and these
    assert_eq!(asked, 202);
    // what a gateway claims for them is written at a bounded pace
    let before = world.changes.len();
    for round in 0..10 {
        for n in 0..200 {
            world.tells_for("gw-1", &format!("c{n}"), &format!("W{round}"));
        }
    }
    let reports = world.changes[before..]
        .iter()
        .filter(|change| matches!(change, Change::VersionReported { .. }));
    assert!(reports.count() <= 200);
}

#[test]
fn what_a_gateway_says_for_others_is_listed_and_changes_nothing() {
    let mut world = World::with_gateways();
    world.offered();
    world.gateway_connects("gw-2");
    let before = world.engine.counters().mqtt_unexpected;
    world.tells_for("gw-2", CHILD, "V2");
    world.reports_for("gw-2", CHILD, 10, "V2");
    world.status_of("gw-2", CHILD, "OFFLINE");
    assert_eq!(world.engine.counters().mqtt_unexpected, before + 3);
    assert_eq!(world.outcome(), None);
    assert!(world.engine.is_connected(ids().of(CHILD)));
}
