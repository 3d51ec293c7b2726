use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{Device, Server, noise};

const MINUTE: Duration = Duration::from_mins(1);

fn event<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let found = events.iter().find(|event| event["event"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {events:?}"))
}

#[test]
fn aiocoap_devices_are_upgraded_in_every_format_they_speak() {
    let server = Server::start();
    let content = noise(1, 5_300);
    let package = server.api.upload("meter", "V2.0", &content);
    let kinds: [(&str, &[&str]); 10] = [
        ("tlv", &["--format", "tlv"]),
        ("text", &["--format", "text"]),
        ("bare", &["--format", "bare"]),
        ("json", &["--format", "senml-json", "--notify", "non"]),
        ("cbor", &["--format", "senml-cbor", "--silent-20"]),
        ("json-1.0", &["--format", "json"]),
        ("plain-cbor", &["--format", "cbor"]),
        ("lwm2m-cbor", &["--format", "lwm2m-cbor"]),
        ("reboots", &["--drop-after", "4", "--restart"]),
        ("sleeps", &["--binding", "UQ"]),
    ];
    let endpoints = kinds.map(|(endpoint, _)| endpoint);
    for endpoint in endpoints {
        server.api.add_device(endpoint, "meter");
    }
    let task = server.api.create_task("all formats", &package, &endpoints);
    let devices = kinds.map(|(endpoint, options)| Device::start(&server, endpoint, options));
    for device in devices {
        let events = device.upgraded();
        let downloaded = event(&events, "downloaded");
        assert_eq!(downloaded["bytes"], 5_300);
        assert_eq!(downloaded["sha256"], hex::encode(Sha256::digest(&content)));
        assert_eq!(event(&events, "upgraded")["version"], "V2.0");
    }
    let upgrades = server.api.finished(&task, MINUTE);
    assert_eq!(upgrades.len(), endpoints.len());
    for upgrade in upgrades {
        assert_eq!(upgrade["state"], "succeeded", "{upgrade}");
    }
}

/// What a device is that has nothing to do with Huawei: how it tells object 19, what it does when it is asked for
/// octets, and what when it is written to in them.
struct Stock {
    data: &'static str,
    content_format: Option<u16>,
    accept: &'static str,
    refuses: Option<&'static str>,
}

const fn stock(
    data: &'static str,
    content_format: Option<u16>,
    accept: &'static str,
    refuses: Option<&'static str>,
) -> Stock {
    Stock {
        data,
        content_format,
        accept,
        refuses,
    }
}

const STOCK: [Stock; 15] = [
    stock("octets", Some(42), "follow", None),
    stock("none", None, "ignore", None),
    stock("tlv", Some(11_542), "follow", None),
    stock("tlv", Some(11_542), "ignore", None),
    stock("tlv", Some(11_542), "4.06", Some("4.15")),
    stock("tlv-instances", Some(11_542), "4.15", Some("4.00")),
    stock("text", Some(0), "4.02", Some("4.15")),
    stock("cbor", Some(60), "4.06", Some("4.15")),
    stock("json", Some(11_543), "4.06", Some("4.15")),
    stock("senml-json", Some(110), "ignore", Some("4.15")),
    stock("senml-json-instances", Some(110), "5.00", Some("4.05")),
    stock("senml-cbor", Some(112), "4.06", Some("4.15")),
    stock("senml-cbor", Some(112), "4.02", None),
    stock("lwm2m-cbor", Some(11_544), "4.06", Some("4.15")),
    stock("lwm2m-cbor-instances", Some(11_544), "4.00", Some("4.15")),
];

#[test]
fn stock_stacks_are_upgraded_in_every_format_of_object_19() {
    let server = Server::start();
    let content = noise(4, 5_300);
    let package = server.api.upload("meter", "V2.0", &content);
    let names = STOCK.map(|s| format!("{}-{}-{}", s.data, s.accept, s.refuses.unwrap_or("takes")));
    let endpoints = names.each_ref().map(String::as_str);
    for endpoint in endpoints {
        server.api.add_device(endpoint, "meter");
    }
    let task = server.api.create_task("stock", &package, &endpoints);
    let devices: Vec<Device> = (STOCK.iter().zip(endpoints))
        .map(|(stock, endpoint)| {
            // registers anew in the end, so that what it refuses has to be remembered
            let mut options = vec!["--data", stock.data, "--accept", stock.accept, "--restart"];
            options.extend(
                stock
                    .refuses
                    .iter()
                    .flat_map(|code| ["--refuse-octets", *code]),
            );
            Device::start(&server, endpoint, &options)
        })
        .collect();
    for ((stock, endpoint), device) in STOCK.iter().zip(endpoints).zip(devices) {
        let events = device.upgraded();
        let downloaded = event(&events, "downloaded");
        assert_eq!(
            downloaded["sha256"],
            hex::encode(Sha256::digest(&content)),
            "{endpoint}"
        );
        // Accept: refused once at most, and not asked for again
        let refusals = events
            .iter()
            .filter(|event| event["event"] == "unacceptable");
        let refuses_accept = !matches!(stock.accept, "ignore" | "follow");
        assert_eq!(refusals.count(), usize::from(refuses_accept), "{endpoint}");
        let asked = if refuses_accept {
            Value::Null
        } else {
            42.into()
        };
        for event in events.iter().filter(|event| event["event"] == "observed") {
            assert_eq!(event["asked"], asked, "{endpoint}");
        }
        // writes: likewise
        let written = event(&events, "upgraded")["written"].as_array().unwrap();
        let (first, others) = written.split_first().unwrap();
        assert_eq!(*first, 42, "{endpoint}");
        let format = match stock.refuses {
            Some(_) => Value::from(stock.content_format),
            None => 42.into(),
        };
        // the version, the notification, 11 segments, and three answers at least
        assert!(others.len() >= 14, "{endpoint}: {written:?}");
        assert!(
            others.iter().all(|one| *one == format),
            "{endpoint}: {written:?}"
        );
    }
    for upgrade in server.api.finished(&task, 2 * MINUTE) {
        assert_eq!(upgrade["state"], "succeeded", "{upgrade}");
    }
}

#[test]
fn object_4_is_asked_for_in_the_format_of_the_registered_version() {
    let server = Server::start();
    let content = noise(5, 1_200);
    let package = server.api.upload("meter", "V2.0", &content);
    // version, format of object 4, what it does when asked for another; the formats that it is asked for, in order
    let kinds: [(&str, &str, &str, &[Option<u16>]); 6] = [
        ("", "senml-json", "4.02", &[None]),
        ("1.0", "tlv", "4.06", &[Some(11_542)]),
        ("1.0", "json", "4.06", &[Some(11_542), None]),
        ("1.1", "senml-cbor", "4.06", &[Some(112)]),
        ("1.1", "senml-json", "4.02", &[Some(112), None]),
        // the object, RSRP and SINR, and the cell
        (
            "1.2",
            "text",
            "ignore",
            &[Some(112), Some(0), Some(0), Some(0)],
        ),
    ];
    let names = kinds.map(|(version, format, accept, _)| format!("m-{version}-{format}-{accept}"));
    let endpoints = names.each_ref().map(String::as_str);
    for endpoint in endpoints {
        server.api.add_device(endpoint, "meter");
    }
    let task = server.api.create_task("versions", &package, &endpoints);
    let devices: Vec<Device> = (kinds.iter().zip(endpoints))
        .map(|((version, format, accept, _), endpoint)| {
            let options = ["--lwm2m", version, "--format", format, "--accept", accept];
            Device::start(&server, endpoint, &options)
        })
        .collect();
    for ((kind, endpoint), device) in kinds.iter().zip(endpoints).zip(devices) {
        let events = device.upgraded();
        let of_object_4 = |event: &&Value| {
            let path = event["path"].as_str().unwrap_or_default();
            let asked = ["read", "unacceptable"]
                .map(Value::from)
                .contains(&event["event"]);
            asked && path.starts_with("/4/0")
        };
        let asked: Vec<Value> = (events.iter().filter(of_object_4))
            .map(|event| event["asked"].clone())
            .collect();
        let expected: Vec<Value> = kind.3.iter().map(|&format| format.into()).collect();
        assert_eq!(asked, expected, "{endpoint}: {events:#?}");
        if kind.0.is_empty() {
            assert_eq!(event(&events, "observed")["asked"], Value::Null);
        }
    }
    for upgrade in server.api.finished(&task, MINUTE) {
        assert_eq!(upgrade["state"], "succeeded", "{upgrade}");
    }
}

#[test]
fn a_device_that_is_not_understood_fails_as_that() {
    let server = Server::start();
    let package = server.api.upload("meter", "V2.0", &noise(6, 700));
    server.api.add_device("foreign", "meter");
    let task = server.api.create_task("foreign", &package, &["foreign"]);
    // it waits in vain to be told of a new version
    let options = ["--format", "foreign", "--wait", "5"];
    let _device = Device::start(&server, "foreign", &options);
    let upgrades = server.api.finished(&task, MINUTE);
    let outcome = &upgrades[0]["outcome"];
    assert_eq!(outcome["reason"], "cell_unknown", "{upgrades:?}");
    let detail = outcome["detail"].as_str().unwrap();
    assert!(
        detail.contains(
            "the read of /4/0/8 was answered in content format 50, which is not understood"
        ),
        "{detail}"
    );
    assert!(!detail.contains("does not tell"), "{detail}");
}

#[test]
fn a_device_that_tells_its_cell_alone_is_upgraded() {
    let server = Server::start();
    let package = server.api.upload("meter", "V2.0", &noise(2, 700));
    server.api.add_device("plain", "meter");
    let task = server.api.create_task("cell alone", &package, &["plain"]);
    // RSRP and SINR as firmware without them answers: a constant
    let device = Device::start(&server, "plain", &["--rsrp", "80", "--sinr", "80"]);
    device.upgraded();
    let upgrades = server.api.finished(&task, MINUTE);
    assert_eq!(upgrades[0]["state"], "succeeded", "{upgrades:?}");
}

#[test]
fn a_device_that_runs_the_version_is_left_alone() {
    let server = Server::start();
    let package = server.api.upload("meter", "V2.0", &noise(3, 700));
    server.api.add_device("current", "meter");
    let task = server
        .api
        .create_task("nothing to do", &package, &["current"]);
    // it waits in vain to be told of a new version
    let _device = Device::start(&server, "current", &["--version", "V2.0", "--wait", "5"]);
    let upgrades = server.api.finished(&task, MINUTE);
    assert_eq!(upgrades[0]["state"], "succeeded", "{upgrades:?}");
}
