use super::*;
use crate::{
    ledger::DeviceId,
    mqtt::endpoint::{Credential, Identity},
};

fn iotda() -> Identity {
    Identity {
        device: DeviceId::from_bytes([1; 8]),
        name: "meter-1".into(),
        style: Style::Iotda,
        credential: Credential::Secret(b"secret".as_slice().into()),
    }
}

fn thingspanel() -> Identity {
    Identity {
        device: DeviceId::from_bytes([2; 8]),
        name: "number-2".into(),
        style: Style::ThingsPanel,
        credential: Credential::Token {
            token: "token-2".into(),
            password: None,
        },
    }
}

fn quecthing() -> Identity {
    Identity {
        device: DeviceId::from_bytes([3; 8]),
        name: "qdp11AB867".into(),
        style: Style::QuecThing,
        credential: Credential::Secret(b"secret".as_slice().into()),
    }
}

#[test]
fn a_device_with_quecthing_speaks_and_hears_below_its_own_id() {
    let it = quecthing();
    for (topic, expected) in [
        ("q/2/d/qdp11AB867/ota", Ok(Uplink::Frames)),
        ("q/2/d/qdp11AB867/bus", Ok(Uplink::Other)),
        ("q/2/d/qdp11AB867/sys", Ok(Uplink::Other)),
        ("q/2/d/qdp11AB8/ota", Err(TopicError::Foreign)),
        ("q/2/d/qdp11AB8670/ota", Err(TopicError::Foreign)),
        ("q/1/d/qdp11AB867/ota", Err(TopicError::Foreign)),
        ("q/2/d/qdp11AB867", Err(TopicError::Foreign)),
        (
            "$oc/devices/qdp11AB867/sys/events/up",
            Err(TopicError::Foreign),
        ),
    ] {
        assert_eq!(uplink(&it, topic), expected, "{topic}");
    }
    let ota = Spelling::QuecOta.bit();
    for (filter, expected) in [
        ("q/1/d/qdp11AB867/+", Ok(ota)),
        ("q/1/d/qdp11AB867/#", Ok(ota)),
        ("q/1/d/qdp11AB867/ota", Ok(ota)),
        ("q/1/d/qdp11AB867/bus", Ok(0)),
        ("q/1/d/+/ota", Err(TopicError::Foreign)),
        ("q/1/d/qdp11AB8/+", Err(TopicError::Foreign)),
        ("q/1/#", Err(TopicError::Foreign)),
    ] {
        assert_eq!(subscription(&it, filter), expected, "{filter}");
    }
    let topic = Spelling::QuecOta.topic(&it);
    assert_eq!(topic.as_deref(), Some("q/1/d/qdp11AB867/ota"));
    assert_eq!(Spelling::QuecOta.topic(&thingspanel()), None);
    assert_eq!(Spelling::Infrom.topic(&it), None);
}

#[test]
fn events_of_iotda_are_found_under_every_prefix() {
    let it = iotda();
    let events = |gzip| Ok(Uplink::Events { gzip });
    let cases = [
        ("$oc/devices/meter-1/sys/events/up", events(false)),
        (
            "$oc/devices/meter-1/sys/events/up?encoding=gzip",
            events(true),
        ),
        (
            "$oc/devices/meter-1/sys/events/up?a=b&encoding=gzip",
            events(true),
        ),
        (
            "$oc/bridges/b1/devices/meter-1/sys/events/up",
            events(false),
        ),
        (
            "$oc/devices/meter-1/sys/properties/report",
            Ok(Uplink::Other),
        ),
        ("$oc/devices/meter-1/sys/bootstrap/up", Ok(Uplink::Other)),
        ("$oc/devices/meter-1/user/anything", Ok(Uplink::Other)),
    ];
    for (topic, expected) in cases {
        assert_eq!(uplink(&it, topic), expected, "{topic}");
    }
}

#[test]
fn what_is_not_the_devices_is_foreign() {
    let it = iotda();
    for topic in [
        "$oc/devices/meter-2/sys/events/up",
        "$oc/devices/meter-1",
        "$oc/devices/meter-10/sys/events/up",
        "$oc/bridges//devices/meter-1/sys/events/up",
        "$oc/bridges/b1/x/devices/meter-1/sys/events/up",
        "/$oc/devices/meter-1/sys/events/up",
        "$SYS/broker/version",
        "ota/device/inform",
        "meter-1",
    ] {
        assert_eq!(uplink(&it, topic), Err(TopicError::Foreign), "{topic}");
    }
    let long = format!("$oc/devices/meter-1/user/{}", "x".repeat(MAX_TOPIC_LEN));
    assert_eq!(uplink(&it, &long), Err(TopicError::Foreign));
    for topic in [
        "ota/device/inform/token-2",
        "ota/x",
        "$oc/devices/number-2/sys/events/up",
        "home/tv",
    ] {
        assert_eq!(
            uplink(&thingspanel(), topic),
            Err(TopicError::Foreign),
            "{topic}"
        );
    }
}

/// MQTT 5 §4.7.1, §4.7.3.
#[test]
fn a_name_with_a_wildcard_or_a_nul_is_none() {
    for topic in ["", "#", "$oc/devices/+/sys/events/up", "a\0b", "a/#"] {
        assert_eq!(
            uplink(&iotda(), topic),
            Err(TopicError::Malformed),
            "{topic:?}"
        );
    }
}

#[test]
fn both_releases_of_thingspanel_are_told_apart_by_their_topics() {
    let it = thingspanel();
    let cases = [
        ("ota/device/inform", Uplink::Inform(Release::V05)),
        ("ota/device/progress", Uplink::Progress(Release::V05)),
        ("ota/devices/progress", Uplink::Progress(Release::V1)),
        ("devices/telemetry", Uplink::Other),
        ("devices/attributes/1234567", Uplink::Other),
        ("device/attributes", Uplink::Other),
        ("gateway/telemetry", Uplink::Other),
    ];
    for (topic, expected) in cases {
        assert_eq!(uplink(&it, topic), Ok(expected), "{topic}");
    }
}

#[test]
fn a_device_subscribes_to_its_own_topics() {
    let bits = |spellings: &[Spelling]| Ok(spellings.iter().fold(0, |set, it| set | it.bit()));
    let down = bits(&[Spelling::EventsDown]);
    let none = bits(&[]);
    let cases = [
        ("$oc/devices/meter-1/sys/events/down", down),
        ("$oc/devices/meter-1/sys/#", down),
        ("$oc/devices/meter-1/#", down),
        ("$oc/devices/meter-1/sys/+/down", down),
        ("$oc/devices/meter-1/sys/commands/#", none),
        ("$oc/devices/meter-1/sys/events/down/more", none),
    ];
    for (filter, expected) in cases {
        assert_eq!(subscription(&iotda(), filter), expected, "{filter}");
    }
    let both = bits(&[Spelling::Infrom, Spelling::Inform]);
    let cases = [
        ("ota/device/inform/token-2", bits(&[Spelling::InformToken])),
        ("ota/devices/infrom/number-2", bits(&[Spelling::Infrom])),
        ("ota/devices/inform/number-2", bits(&[Spelling::Inform])),
        ("devices/command/number-2/+", none),
        ("device/attributes/token-2", none),
    ];
    for (filter, expected) in cases {
        assert_eq!(subscription(&thingspanel(), filter), expected, "{filter}");
    }
    let mut without_token = thingspanel();
    without_token.credential = Credential::Certificate;
    assert_eq!(
        subscription(&without_token, "ota/device/inform/token-2"),
        Err(TopicError::Foreign)
    );
    assert_ne!(both, none);
}

#[test]
fn foreign_shared_and_malformed_filters_are_refused() {
    for filter in [
        "#",
        "+/#",
        "$oc/#",
        "$oc/devices/+/sys/events/down",
        "$oc/devices/meter-2/#",
        "$oc/bridges/+/devices/meter-1/#",
        "$oc/bridges/#",
        "$SYS/#",
    ] {
        assert_eq!(
            subscription(&iotda(), filter),
            Err(TopicError::Foreign),
            "{filter}"
        );
    }
    for filter in [
        "ota/devices/+/number-2",
        "ota/devices/infrom/+",
        "ota/device/inform/other",
        "devices/#",
        "+/+/number-2",
        "home/number-2",
    ] {
        assert_eq!(
            subscription(&thingspanel(), filter),
            Err(TopicError::Foreign),
            "{filter}"
        );
    }
    assert_eq!(
        subscription(&iotda(), "$share/g/$oc/devices/meter-1/#"),
        Err(TopicError::Shared)
    );
    for filter in ["", "a/#/b", "a#", "a/b+", "+a/b", "a\0", "a/##"] {
        assert_eq!(
            subscription(&iotda(), filter),
            Err(TopicError::Malformed),
            "{filter:?}"
        );
    }
}

/// MQTT 5 §4.7.1 to §4.7.3: the examples there.
#[test]
fn filters_cover_as_the_standard_says() {
    let cases = [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        (
            "sport/tennis/player1/#",
            "sport/tennis/player1/ranking",
            true,
        ),
        ("sport/#", "sport", true),
        ("#", "sport", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "$SYS/monitor", false),
        ("+/monitor", "$SYS/monitor", false),
        ("$SYS/#", "$SYS/monitor", true),
    ];
    for (filter, topic, expected) in cases {
        assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
    }
}
