//! Gateways that say much, acknowledge nothing, or are no more what they were.

use super::*;
use crate::config::MqttMode;

impl World {
    /// A gateway with so many devices behind it.
    fn with_children(count: u32) -> Self {
        let mut world = Self::with_gateways();
        for n in 0..count {
            world.add(&format!("c{n}"), "sensors", &via("gw-1"));
        }
        world
    }

    fn acknowledges_all(&mut self, gateway: &str) {
        for _ in 0..2_000 {
            self.acknowledges(gateway);
        }
    }

    /// Of whom the version was asked since this was asked last.
    fn asked_over_gateways(&mut self) -> BTreeSet<String> {
        let sent = self.sent_to_gateways().into_iter();
        sent.filter(|(_, _, kind)| kind == "version_query")
            .map(|(_, object, _)| object)
            .collect()
    }

    /// What gateways were told of that kind since this was asked last: which devices, in how many messages.
    fn notified(&mut self, kind: &str) -> (BTreeSet<String>, usize) {
        let told = self.published().into_iter();
        let told: Vec<Value> = told
            .map(|mut it| it["services"][0].take())
            .filter(|it| it["event_type"] == kind)
            .collect();
        let devices = told
            .iter()
            .flat_map(|it| it["paras"]["devices"].as_array().unwrap());
        let devices = devices.map(|it| it["device_id"].as_str().unwrap().to_owned());
        (devices.collect(), told.len())
    }

    fn vias(&self) -> usize {
        let vias = self.changes.iter();
        vias.filter(|change| matches!(change, Change::Via { .. }))
            .count()
    }
}

#[test]
fn however_many_children_come_online_each_is_met() {
    let mut world = World::with_children(300);
    world.gateway_connects("gw-1");
    world.acknowledges_all("gw-1");
    for n in 0..300 {
        world.status_of("gw-1", &format!("c{n}"), "OFFLINE");
    }
    world.sent_to_gateways();
    for n in 0..300 {
        world.status_of("gw-1", &format!("c{n}"), "ONLINE");
    }
    world.acknowledges_all("gw-1");
    assert_eq!(world.asked_over_gateways().len(), 300);
}

#[test]
fn a_gateway_that_acknowledges_nothing_is_told_all_the_same() {
    let mut world = World::with_children(30);
    world.gateway_connects("gw-1");
    assert!(world.asked_over_gateways().len() <= 6);
    world.after(Duration::from_secs(9));
    assert_eq!(world.asked_over_gateways().len(), 0);
    world.after(Duration::from_secs(2));
    let next = world.asked_over_gateways().len();
    assert!((1..=6).contains(&next), "{next}");
    world.after(Duration::from_mins(2));
    assert!(world.asked_over_gateways().len() >= 18);
    // and one that acknowledges what is not waited for any more goes on at once
    let mut world = World::with_children(30);
    world.gateway_connects("gw-1");
    world.sent_to_gateways();
    world.engine.unsent(world.now, ids().of("gw-1"));
    world.acknowledges("gw-1");
    assert!(!world.asked_over_gateways().is_empty());
}

#[test]
fn what_could_not_be_sent_to_children_is_sent_again() {
    let mut world = World::with_children(5);
    world.gateway_connects("gw-1");
    assert_eq!(
        world.asked_over_gateways().len(),
        6,
        "of the gateway, and of five"
    );
    world.acknowledges_all("gw-1");
    world.after(Duration::from_mins(1));
    world.gateway_connects("gw-1");
    world.asked_over_gateways();
    world
        .engine
        .devices
        .get_mut(&ids().of("gw-1"))
        .unwrap()
        .unacknowledged
        .clear();
    world.engine.unsent(world.now, ids().of("gw-1"));
    world.after(Duration::from_secs(11));
    world.acknowledges_all("gw-1");
    assert!(world.asked_over_gateways().len() >= 6);
}

#[test]
fn what_another_gateway_was_served_is_not_what_is_left_after_a_restart() {
    let mut world = World::with_gateways();
    let token = world.offered();
    world.serve_for(CHILD, &token, 300);
    let stored = |world: &World| {
        world.changes.iter().rev().find_map(|change| match change {
            Change::Progress { progress, .. } => Some(progress.done_bytes),
            _ => None,
        })
    };
    assert_eq!(stored(&world), Some(300));
    world.add(CHILD, "sensors", &via("gw-2"));
    assert_eq!(stored(&world), Some(0));
}

#[test]
fn a_gateway_that_adds_and_removes_again_and_again_has_a_bounded_amount_written() {
    let mut world = World::with_gateways();
    world.add("free-1", "sensors", &Via::Gateway(None));
    world.gateway_connects("gw-2");
    let devices = json!({"devices": [{"device_id": "free-1"}]});
    let names = json!({"devices": ["free-1"]});
    for _ in 0..500 {
        world.manages("gw-2", "add_sub_device_request", &devices);
        world.manages("gw-2", "delete_sub_device_request", &names);
    }
    assert_eq!(world.vias(), 200);
}

#[test]
fn before_all_devices_are_read_nothing_is_denied() {
    let now = Now {
        instant: Instant::from_millis(1_000_000_000),
        utc: UtcMillis(1_800_000_000_000),
    };
    let mut world = World::begun(Protocol::Iotda, Config::default(), now);
    world.gateway_connects("gw-1");
    world.add("gw-1", "gateways", &Via::Itself);
    world.manages("gw-1", "sub_device_sync_request", &json!({"version": 0}));
    let devices = json!({"devices": [{"device_id": CHILD}]});
    world.manages("gw-1", "add_sub_device_request", &devices);
    let told = world.published();
    assert!(!kinds(&told).contains(&"add_sub_device_notify".to_owned()));
    let answer = told.last().unwrap();
    let refused = &answer["services"][0]["paras"]["failed_devices"][0];
    assert_eq!(refused["error_code"], "TRY_LATER");
    // it is restored as being there already, of which the gateway needs no word of its own
    let record = DeviceRecord {
        endpoint: CHILD.into(),
        product: "sensors".into(),
        secure: false,
        protocol: Protocol::Iotda,
        via: via("gw-1"),
        registration: None,
        last_heard_at: None,
        coverage: None,
        version: Some(version("V1")),
        evidence: Vec::new(),
        wake_ups: None,
        appointment: None,
    };
    world.engine.restore_device(world.now, &record);
    world.drain();
    assert_eq!(world.notified("add_sub_device_notify").1, 0);
    world.command(Command::Restored);
    let told = world.published();
    let told = &told.last().expect("it is told now")["services"][0]["paras"];
    assert_eq!(told["devices"][0]["device_id"], CHILD);
    // rises over restarts
    assert!(told["version"].as_u64().unwrap() >= 1_800_000_000);
}

#[test]
fn children_that_an_operator_moves_are_told_page_by_page() {
    let mut world = World::with_children(120);
    world.gateway_connects("gw-1");
    world.gateway_connects("gw-2");
    world.acknowledges_all("gw-1");
    world.sent_to_gateways();
    for n in 0..120 {
        world.add(&format!("c{n}"), "sensors", &via("gw-2"));
    }
    world.acknowledges_all("gw-1");
    for _ in 0..40 {
        world.acknowledges("gw-2");
    }
    let outs = world.outs.clone();
    let (devices, messages) = world.notified("delete_sub_device_notify");
    assert_eq!(devices.len(), 120);
    assert!(messages <= 12, "{messages}");
    world.outs = outs;
    let (devices, messages) = world.notified("add_sub_device_notify");
    assert_eq!(devices.len(), 120);
    assert!(messages <= 12, "{messages}");
}

#[test]
fn a_gateway_that_is_no_more_or_anothers_has_no_children() {
    let mut world = World::with_gateways();
    world.order_for(CHILD, 7);
    let lanes = |world: &World| {
        let session = world.engine.session(ids().of(CHILD)).unwrap();
        session.order.further.known_at(Instant::ZERO)
    };
    // the store may not know yet what a gateway has said
    let gateway = Some(Lane::gateway("gw-1"));
    assert_eq!(lanes(&world), Further::of(None, gateway));
    world.command(Command::RemoveDevice {
        endpoint: "gw-1".into(),
    });
    assert_eq!(lanes(&world), Further::NONE);
    assert!(world.told().contains(&"gateway_changed".to_owned()));
    world.add("gw-1", "gateways", &Via::Itself);
    world.gateway_connects("gw-1");
    assert!(!world.engine.is_connected(ids().of(CHILD)));
    for (product, stays) in [("others", true), ("acme/gateways", false)] {
        let mut world = World::with_gateways();
        world.gateway_connects("gw-1");
        world.add("gw-1", product, &Via::Itself);
        assert_eq!(world.engine.is_connected(ids().of(CHILD)), stays);
    }
}

#[test]
fn over_somebody_elses_broker_a_silent_gateway_says_nothing_of_its_children() {
    let now = Now {
        instant: Instant::from_millis(1_000_000_000),
        utc: UtcMillis(1_800_000_000_000),
    };
    let mut config = Config::default();
    config.mqtt.mode = MqttMode::Broker;
    let mut world = World::begun(Protocol::Iotda, config, now);
    world.add("gw-1", "gateways", &Via::Itself);
    world.add(CHILD, "sensors", &via("gw-1"));
    world.command(Command::Restored);
    world.order_for(CHILD, 7);
    let heard = |world: &mut World| {
        world.connections += 1;
        let conn = conn_of("gw-1", world.connections);
        world.event(Event::Heard {
            device: ids().of("gw-1"),
            conn,
            anew: false,
            release: None,
        });
    };
    heard(&mut world);
    world.status_of("gw-1", CHILD, "OFFLINE");
    world.gateway_leaves("gw-1");
    heard(&mut world);
    assert!(!world.engine.is_connected(ids().of(CHILD)));
    world.status_of("gw-1", CHILD, "ONLINE");
    assert!(world.engine.is_connected(ids().of(CHILD)));
    world.tells_for("gw-1", CHILD, "V1");
    world.reports_for("gw-1", CHILD, 0, "V2");
    world.gateway_leaves("gw-1");
    heard(&mut world);
    world.tells_for("gw-1", CHILD, "V2");
    assert_eq!(world.outcome(), None);
    // its own coming online shows it
    world.after(Duration::from_secs(1));
    world.status_of("gw-1", CHILD, "ONLINE");
    world.tells_for("gw-1", CHILD, "V2");
    let succeeded = Outcome::Succeeded(Success::Unverified);
    assert_eq!(world.outcome(), Some(succeeded));
}

#[test]
fn over_somebody_elses_broker_children_are_met_in_lots() {
    let now = Now {
        instant: Instant::from_millis(1_000_000_000),
        utc: UtcMillis(1_800_000_000_000),
    };
    let mut config = Config::default();
    config.mqtt.mode = MqttMode::Broker;
    let mut world = World::begun(Protocol::Iotda, config, now);
    world.add("gw-1", "gateways", &Via::Itself);
    for n in 0..200 {
        world.add(&format!("c{n}"), "sensors", &via("gw-1"));
    }
    world.connections += 1;
    let conn = conn_of("gw-1", world.connections);
    world.event(Event::Heard {
        device: ids().of("gw-1"),
        conn,
        anew: true,
        release: None,
    });
    let mut asked = world.asked_over_gateways();
    assert!(asked.len() <= 6);
    for _ in 0..60 {
        world.after(Duration::from_secs(1));
        let now = world.asked_over_gateways();
        assert!(now.len() <= 6, "{}", now.len());
        asked.extend(now);
    }
    assert_eq!(asked.len(), 201);
}
