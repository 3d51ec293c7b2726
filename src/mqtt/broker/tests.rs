use super::*;
use crate::{
    clock::UtcMillis,
    ledger::DeviceIds,
    mqtt::endpoint::{Credential, Style},
};

const UP: &str = "$oc/devices/meter-1/sys/events/up";

fn now(seconds: u64) -> Now {
    Now {
        instant: Instant::from_millis(1_000_000 + seconds * 1_000),
        utc: UtcMillis(1_800_000_000_000),
    }
}

fn identity(name: &str, style: Style, credential: Credential) -> Arc<Identity> {
    Arc::new(Identity {
        device: DeviceIds::new([1; 32]).of(name),
        name: name.into(),
        style,
        credential,
    })
}

fn meter() -> Arc<Identity> {
    identity("meter-1", Style::Iotda, Credential::Certificate)
}

fn panel() -> Arc<Identity> {
    let token = Credential::Token {
        token: "tok".into(),
        password: None,
    };
    identity("panel-1", Style::ThingsPanel, token)
}

fn known(named: Named<'_>) -> Option<Arc<Identity>> {
    match named {
        Named::Device("meter-1") => Some(meter()),
        Named::Device("panel-1") | Named::Token("tok") => Some(panel()),
        _ => None,
    }
}

fn config(change: impl FnOnce(&mut MqttConfig)) -> MqttConfig {
    let mut config = MqttConfig::default();
    change(&mut config);
    config
}

/// A broker that is connected, and what it has said was taken.
fn connected(config: &MqttConfig) -> Broker {
    let mut broker = Broker::new(config, 7);
    broker.connected();
    assert!(broker.granted(&[true]));
    outputs(&mut broker);
    broker
}

fn outputs(broker: &mut Broker) -> Vec<Output> {
    std::iter::from_fn(|| broker.poll_output()).collect()
}

/// What came out, in short.
fn told(broker: &mut Broker) -> Vec<String> {
    let outputs = outputs(broker).into_iter().map(|output| match output {
        Output::Subscribe(filters) => format!("subscribe {}", filters.join(" ")),
        Output::Publish { topic, qos, .. } => format!("publish {topic} {qos:?}"),
        Output::Acknowledge(packet_id) => format!("acknowledge {packet_id}"),
        Output::Event(Event::Heard { anew, release, .. }) => format!("heard {anew} {release:?}"),
        Output::Event(Event::Message { uplink, ack, .. }) => {
            format!("message {uplink:?} {}", ack.is_some())
        }
        Output::Event(Event::Disconnected { why, .. }) => format!("away {}", why.name()),
        Output::Event(other) => panic!("{other:?}"),
        Output::Reached => "reached".to_owned(),
        Output::Unsent { error, .. } => format!("unsent: {error}"),
        Output::Unknown(name) => format!("unknown {name}"),
        Output::End(reason) => format!("end: {reason}"),
    });
    outputs.collect()
}

fn says(broker: &mut Broker, at: Now, topic: &str, payload: &[u8], packet_id: u16) {
    let publication = Publication {
        topic,
        payload: Bytes::copy_from_slice(payload),
        retained: false,
        packet_id: NonZeroU16::new(packet_id),
    };
    broker.message(at, publication, known);
}

fn ack(broker: &Broker, packet_id: u16) -> Ack {
    Ack::new(broker.link(), NonZeroU16::new(packet_id).unwrap(), false)
}

#[test]
fn subscriptions_are_renewed_with_every_connection() {
    let config = config(|it| it.broker.share_group = "cellwise".to_owned());
    let mut broker = Broker::new(&config, 7);
    for _ in 0..2 {
        broker.connected();
        assert_eq!(
            told(&mut broker),
            ["subscribe $share/cellwise/$oc/devices/+/sys/events/up \
                 $share/cellwise/$oc/bridges/+/devices/+/sys/events/up \
                 $share/cellwise/+/ota/device/inform $share/cellwise/+/ota/device/progress \
                 $share/cellwise/+/ota/devices/progress"]
        );
        assert!(!broker.granted(&[true, false, false, false, false]));
        assert_eq!(told(&mut broker), ["reached"]);
        broker.disconnected();
    }
    let counts = broker.counts();
    assert_eq!(counts.mqtt_broker_subscriptions_granted, 2);
    assert_eq!(counts.mqtt_broker_subscriptions_refused, 8);
    assert_eq!(counts.mqtt_broker_connections_lost, 2);
}

#[test]
fn a_device_is_there_from_its_first_message_until_it_is_silent() {
    let mut broker = connected(&MqttConfig::default());
    says(&mut broker, now(0), UP, b"{}", 1);
    assert_eq!(
        told(&mut broker),
        ["heard false None", "message Events { gzip: false } true"]
    );
    says(&mut broker, now(170), UP, b"{}", 2);
    assert_eq!(told(&mut broker), ["message Events { gzip: false } true"]);
    // 180 s after its last message
    broker.handle_timeout(now(349));
    assert_eq!(told(&mut broker).len(), 0);
    assert_eq!(broker.devices(), 1);
    broker.handle_timeout(now(350));
    assert_eq!(told(&mut broker), ["away keep_alive"]);
    assert_eq!((broker.devices(), broker.poll_timeout()), (0, None));
    says(&mut broker, now(351), UP, b"{}", 0);
    assert_eq!(
        told(&mut broker),
        ["heard false None", "message Events { gzip: false } false"]
    );
    // what it says of its connection counts, also while it is there
    let log = br#"{"services":[{"service_id":"$log","paras":{"content":"connect complete"}}]}"#;
    says(&mut broker, now(352), UP, log, 0);
    assert_eq!(
        told(&mut broker),
        ["heard true None", "message Events { gzip: false } false"]
    );
    broker.disconnected();
    assert_eq!(told(&mut broker), ["away lost"]);
    // and nothing is left of it
    broker.handle_timeout(now(10_000));
    assert_eq!(told(&mut broker).len(), 0);
}

#[test]
fn messages_are_acknowledged_in_their_order_once_they_are_settled() {
    let mut broker = connected(&MqttConfig::default());
    for packet_id in 1..=3 {
        says(&mut broker, now(0), UP, b"{}", packet_id);
    }
    // on nobody's topic: settled at once, and still not before the others
    says(&mut broker, now(0), "elsewhere", b"", 4);
    outputs(&mut broker);
    let (first, second, third) = (ack(&broker, 1), ack(&broker, 2), ack(&broker, 3));
    broker.acknowledge(third);
    broker.acknowledge(second);
    assert_eq!(told(&mut broker).len(), 0);
    broker.acknowledge(first);
    let all = [1, 2, 3, 4].map(|it| format!("acknowledge {it}"));
    assert_eq!(told(&mut broker), all);
    assert_eq!(broker.unsettled(), 0);
    // those of a connection that is over are not acknowledged on the next one
    says(&mut broker, now(1), UP, b"{}", 5);
    let before = ack(&broker, 5);
    broker.disconnected();
    broker.connected();
    says(&mut broker, now(1), UP, b"{}", 5);
    outputs(&mut broker);
    broker.acknowledge(before);
    assert_eq!(told(&mut broker).len(), 0);
    let again = ack(&broker, 5);
    broker.acknowledge(again);
    assert_eq!(told(&mut broker), ["acknowledge 5"]);
}

#[test]
fn what_is_to_be_acknowledged_is_never_dropped_for_its_number() {
    let mut broker = connected(&config(|it| it.unacknowledged_per_second = 3));
    for packet_id in 1..=100 {
        says(&mut broker, now(0), UP, b"{}", packet_id);
    }
    // and takes nothing from the others
    for _ in 0..4 {
        says(&mut broker, now(0), UP, b"{}", 0);
    }
    let messages = told(&mut broker)
        .iter()
        .filter(|it| it.starts_with("message"))
        .count();
    assert_eq!(messages, 103);
    assert_eq!(broker.counts().mqtt_broker_messages_too_many, 1);
    assert_eq!(broker.unsettled(), 100);
}

#[test]
fn a_message_that_is_never_settled_ends_the_connection() {
    let mut broker = connected(&config(|it| it.broker.online_s = 86_400));
    let silent = broker.poll_timeout();
    assert_eq!(silent, None);
    for packet_id in 1..=3 {
        says(
            &mut broker,
            now(packet_id),
            UP,
            b"{}",
            u16::try_from(packet_id).unwrap(),
        );
    }
    // on nobody's topic: that it is settled shows nothing of the store
    says(&mut broker, now(4), "elsewhere", b"", 4);
    outputs(&mut broker);
    broker.handle_timeout(now(1_000));
    assert_eq!(told(&mut broker).len(), 0, "the store may take its time");
    let second = ack(&broker, 2);
    broker.acknowledge(second);
    assert_eq!(broker.poll_timeout(), Some(now(301).instant));
    broker.handle_timeout(now(300));
    assert_eq!(told(&mut broker).len(), 0);
    broker.handle_timeout(now(301));
    let ended = told(&mut broker);
    assert!(
        ended.len() == 1 && ended[0].starts_with("end: "),
        "{ended:?}"
    );
    broker.handle_timeout(now(302));
    assert_eq!(told(&mut broker).len(), 0, "once");
    assert_eq!(broker.counts().mqtt_broker_messages_stuck, 1);
    broker.disconnected();
    broker.connected();
    outputs(&mut broker);
    broker.handle_timeout(now(5_000));
    assert_eq!(told(&mut broker).len(), 0);
    // one that is settled in time
    says(&mut broker, now(6_000), UP, b"{}", 1);
    says(&mut broker, now(6_000), UP, b"{}", 2);
    outputs(&mut broker);
    let (first, second) = (ack(&broker, 1), ack(&broker, 2));
    broker.acknowledge(second);
    broker.acknowledge(first);
    assert_eq!(told(&mut broker), ["acknowledge 1", "acknowledge 2"]);
    broker.handle_timeout(now(7_000));
    assert_eq!(told(&mut broker).len(), 0);
}

#[test]
fn a_hostile_broker_is_bounded_and_counted() {
    let config = config(|it| {
        it.broker.receive_maximum = 2;
        it.unacknowledged_per_second = 3;
    });
    let mut broker = connected(&config);
    let foreign = [
        "",
        "$oc/devices/meter-1",
        "$oc/devices//sys/events/up",
        "$oc/devices/meter-1/sys/events/up/+",
        "$oc/devices/panel-1/sys/events/up",
        "meter-1/ota/device/inform",
        "panel-1/$oc/devices/panel-1/sys/events/up",
        &"x/".repeat(400),
    ];
    for (number, topic) in foreign.into_iter().enumerate() {
        let now = now(number as u64 * 10);
        says(&mut broker, now, topic, b"{}", 0);
    }
    let events = |told: &[String]| told.iter().filter(|it| it.starts_with("message")).count();
    assert_eq!(events(&told(&mut broker)), 0);
    says(
        &mut broker,
        now(100),
        "$oc/devices/nobody/sys/events/up",
        b"{}",
        0,
    );
    assert_eq!(told(&mut broker), ["unknown nobody"]);
    // more than what is read
    let huge = vec![b' '; 65 * 1_024];
    says(&mut broker, now(110), UP, &huge, 0);
    let retained = Publication {
        topic: UP,
        payload: Bytes::from_static(b"{}"),
        retained: true,
        packet_id: None,
    };
    broker.message(now(110), retained, known);
    assert_eq!(told(&mut broker).len(), 0);
    // one device that floods
    for _ in 0..10 {
        says(&mut broker, now(200), UP, b"{}", 0);
    }
    assert_eq!(events(&told(&mut broker)), 3);
    let counts = *broker.counts();
    assert_eq!(counts.mqtt_broker_messages_received, 8 + 1 + 2 + 10);
    assert_eq!(counts.mqtt_broker_messages_taken, 3);
    assert_eq!(counts.mqtt_broker_messages_too_many, 7);
    assert_eq!(counts.mqtt_broker_messages_too_large, 1);
    assert_eq!(counts.mqtt_broker_messages_retained, 1);
    assert_eq!(
        counts.mqtt_broker_messages_foreign + counts.mqtt_broker_messages_unknown_device,
        9
    );
    // more at once than it was told
    for packet_id in 1..=3 {
        says(&mut broker, now(300), UP, b"{}", packet_id);
    }
    let told = told(&mut broker);
    assert!(told.last().unwrap().starts_with("end: "), "{told:?}");
    assert_eq!(broker.unsettled(), 2);
}

#[test]
fn devices_are_written_to_where_they_listen() {
    let mut broker = connected(&MqttConfig::default());
    let payload = Bytes::from_static(b"x");
    let (meter, panel) = (meter(), panel());
    let say = |broker: &mut Broker, to: &Identity, downlink| {
        broker.publish(to.device, Some(to), downlink, &payload, Qos::AtLeastOnce);
        told(broker)
    };
    // also one that was not heard: it may be there
    assert_eq!(
        say(&mut broker, &meter, Downlink::Events),
        ["publish $oc/devices/meter-1/sys/events/down AtLeastOnce"]
    );
    assert_eq!(
        say(&mut broker, &panel, Downlink::Push),
        [
            "publish panel-1/ota/devices/infrom/panel-1 AtLeastOnce",
            "publish panel-1/ota/devices/inform/panel-1 AtLeastOnce"
        ]
    );
    // release 0.5, as its topic tells
    says(&mut broker, now(0), "panel-1/ota/device/inform", b"{}", 0);
    assert_eq!(
        told(&mut broker),
        ["heard false Some(V05)", "message Inform(V05) false"]
    );
    assert_eq!(
        say(&mut broker, &panel, Downlink::PushV05),
        ["publish panel-1/ota/device/inform/tok AtLeastOnce"]
    );
    assert_eq!(
        say(&mut broker, &panel, Downlink::Events),
        ["unsent: the device is of another kind"]
    );
    broker.publish(
        meter.device,
        None,
        Downlink::Events,
        &payload,
        Qos::AtLeastOnce,
    );
    assert_eq!(told(&mut broker), ["unsent: the device is not connected"]);
    broker.disconnected();
    outputs(&mut broker);
    assert_eq!(
        say(&mut broker, &meter, Downlink::Events),
        ["unsent: the device is not connected"]
    );
}

#[test]
fn devices_with_quecthing_are_on_their_own_topics_where_they_are_on_the_broker() {
    let tracker = identity("qdp1", Style::QuecThing, Credential::Certificate);
    let found = |named: Named<'_>| match named {
        Named::Device("qdp1") => Some(tracker.clone()),
        named => known(named),
    };
    let say = |broker: &mut Broker, topic: &str| {
        let publication = Publication {
            topic,
            payload: Bytes::from_static(&[0xAA]),
            retained: false,
            packet_id: None,
        };
        broker.message(now(0), publication, found);
        told(broker)
    };
    let write = |broker: &mut Broker| {
        let payload = Bytes::new();
        broker.publish(
            tracker.device,
            Some(&tracker),
            Downlink::Push,
            &payload,
            Qos::AtLeastOnce,
        );
        told(broker)
    };
    // not unless it is said
    let mut without = connected(&MqttConfig::default());
    assert_eq!(say(&mut without, "q/2/d/qdp1/ota"), ["unknown q"]);
    assert!(write(&mut without)[0].starts_with("unsent: "));
    let with = config(|it| it.broker.styles.push(crate::config::BrokerStyle::QuecThing));
    let mut broker = Broker::new(&with, 7);
    broker.connected();
    assert!(told(&mut broker)[0].ends_with(" q/2/d/+/ota"));
    broker.granted(&[true]);
    outputs(&mut broker);
    assert_eq!(
        say(&mut broker, "q/2/d/qdp1/ota"),
        ["heard false None", "message Frames false"]
    );
    assert_eq!(write(&mut broker), ["publish q/1/d/qdp1/ota AtLeastOnce"]);
    // no other topic, and no other kind of device, is theirs
    for topic in ["q/2/d/qdp1/x/ota", "q/2/d//ota", "q/2/d/meter-1/ota"] {
        let told = say(&mut broker, topic);
        assert!(!told.iter().any(|it| it.starts_with("message")), "{told:?}");
    }
    // and those of ThingsPanel are theirs as before
    assert_eq!(
        say(&mut broker, "panel-1/ota/device/inform")[1],
        "message Inform(V05) false"
    );
}

#[test]
fn roots_and_mounts_are_the_operators() {
    let config = config(|it| {
        it.broker.iotda_root = "fleet/oc".to_owned();
        it.broker.thingspanel_mount = "tp/{token}/up/".to_owned();
    });
    let mut broker = connected(&config);
    says(
        &mut broker,
        now(0),
        "fleet/oc/bridges/b/devices/meter-1/sys/events/up",
        b"{}",
        0,
    );
    says(
        &mut broker,
        now(0),
        "tp/tok/up/ota/devices/progress",
        b"{}",
        0,
    );
    assert_eq!(
        told(&mut broker),
        [
            "heard false None",
            "message Events { gzip: false } false",
            "heard false Some(V1)",
            "message Progress(V1) false"
        ]
    );
    says(&mut broker, now(0), UP, b"{}", 0);
    assert_eq!(told(&mut broker).len(), 0);
    let (meter, panel) = (meter(), panel());
    let payload = Bytes::from_static(b"x");
    for (to, downlink) in [(&meter, Downlink::Events), (&panel, Downlink::Push)] {
        broker.publish(to.device, Some(to), downlink, &payload, Qos::AtMostOnce);
    }
    assert_eq!(
        told(&mut broker),
        [
            "publish fleet/oc/devices/meter-1/sys/events/down AtMostOnce",
            "publish tp/tok/up/ota/devices/infrom/panel-1 AtMostOnce",
            "publish tp/tok/up/ota/devices/inform/panel-1 AtMostOnce"
        ]
    );
    // a token that is more than a level, or a wildcard, is no topic
    let hostile = Credential::Token {
        token: "a/#".into(),
        password: None,
    };
    let hostile = identity("panel-2", Style::ThingsPanel, hostile);
    broker.publish(
        hostile.device,
        Some(&hostile),
        Downlink::Push,
        &payload,
        Qos::AtMostOnce,
    );
    assert_eq!(told(&mut broker), ["unsent: the device is of another kind"]);
    // who is removed is not there
    broker.forget(meter.device);
    assert_eq!(told(&mut broker), ["away credentials"]);
}

#[test]
fn a_push_on_the_topic_of_a_token_is_none_for_a_device_without_one() {
    let mut broker = connected(&MqttConfig::default());
    let own = identity("panel-3", Style::ThingsPanel, Credential::Certificate);
    for downlink in [Downlink::PushV05, Downlink::Push] {
        broker.publish(
            own.device,
            Some(&own),
            downlink,
            &Bytes::from_static(b"{}"),
            Qos::AtMostOnce,
        );
    }
    let told = told(&mut broker);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|it| it.starts_with("publish ")), "{told:?}");
    assert_eq!(broker.counts().mqtt_broker_messages_unsent, 0);
}
