//! Devices with `QuecThing`: one on paho-mqtt, which shares no code with the server, and simulated ones.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sim::{
    Expected,
    mqtt::{
        Fleet, Style, Timing,
        fleet::{Authorities, FleetConfig, Target},
    },
};

use crate::{
    mqtt::{MINUTE, add, became, downloaded, mqtt, mqtts, secured, secured_with, upgraded},
    support::{Device, noise},
};

fn quecthing(endpoint: &str) -> Value {
    json!({"style": "quecthing", "secret": format!("{endpoint}-secret")})
}

#[test]
fn paho_devices_with_quecthing_are_upgraded_over_tls() {
    let files = tempfile::tempdir().unwrap();
    let server = secured(files.path());
    let address = mqtts(&server).to_string();
    let authority = files.path().join("server.pem");
    let common = ["--server", &*address, "--ca", authority.to_str().unwrap()];
    let own: [(&str, &[&str]); 4] = [
        ("qdp1plain", &["--qos", "1"]),
        ("qdp1twice", &["--mqtt5", "--user", "other"]),
        ("qdp1restarts", &["--restarts"]),
        ("qdp1errs", &["--errors", "5", "--qos", "0"]),
    ];
    let secrets = own.map(|(name, _)| format!("{name}-secret"));
    let mut options: Vec<Vec<&str>> = (own.iter().zip(&secrets))
        .map(|((_, own), secret)| [&common[..], &["--secret", secret], own].concat())
        .collect();
    for (name, _) in own {
        add(&server, name, "module", &quecthing(name));
    }
    let token = json!({"style": "quecthing", "token": "a-token-of-it"});
    add(&server, "qdp1token", "module", &token);
    options.push([&common[..], &["--token", "a-token-of-it"]].concat());
    let names = own.map(|(name, _)| name).into_iter().chain(["qdp1token"]);
    let kinds: Vec<(&str, &str, &[&str])> = (names.zip(&options))
        .map(|(name, options)| (name, "quecthing_device.py", &**options))
        .collect();
    let content = noise(18, 60_001);
    for (endpoint, events) in upgraded(&server, "module", &kinds, &content) {
        let hash = hex::encode(Sha256::digest(&content));
        assert_eq!(downloaded(&events)["sha256"], hash, "{endpoint}");
        let (_, device) = server.api.get(&format!("/v1/devices/{endpoint}"));
        assert_eq!(device["version"], "V2.0", "{device}");
    }
}

#[test]
fn paho_devices_with_quecthing_that_go_wrong_are_told_apart() {
    let files = tempfile::tempdir().unwrap();
    let settings = [
        ("CELLWISE_UPGRADE__EXECUTE_S", "3"),
        ("CELLWISE_MQTT__QUECTHING_CHECKSUM", "crc8"),
    ];
    let server = secured_with(files.path(), &settings);
    let address = mqtts(&server).to_string();
    let authority = files.path().join("server.pem");
    let common = [
        "--server",
        &*address,
        "--ca",
        authority.to_str().unwrap(),
        "--check",
        "crc8",
    ];
    let own: [(&str, &[&str]); 3] = [
        ("qdp2weak", &["--refuse", "battery 12 %"]),
        ("qdp2errs", &["--errors", "6"]),
        ("qdp2claims", &["--claims"]),
    ];
    for (name, _) in own {
        add(&server, name, "module", &quecthing(name));
    }
    add(&server, "qdp2idle", "module", &quecthing("qdp2idle"));
    let package = server.api.upload("module", "V2.0", &noise(19, 4_096));
    let names = own.map(|(name, _)| name);
    let task = server.api.create_task("module", &package, &names);
    let devices = own.map(|(name, own)| {
        let secret = format!("{name}-secret");
        let options = [&common[..], &["--secret", &secret], own].concat();
        Device::over_mqtt("quecthing_device.py", name, &options)
    });
    // one that is in no task
    let idle = ["--secret", "qdp2idle-secret", "--waits-for-none"];
    let idle = [&common[..], &idle].concat();
    Device::over_mqtt("quecthing_device.py", "qdp2idle", &idle).upgraded();
    for device in devices {
        device.upgraded();
    }
    let upgrades = server.api.finished(&task, MINUTE);
    for (name, code) in [("qdp2weak", -103), ("qdp2errs", -106)] {
        let (reason, arguments) = became(&upgrades, name);
        assert_eq!(
            (&*reason, &arguments["code"]),
            ("reported_failure", &json!(code))
        );
    }
    let weak = upgrades.iter().find(|it| it["endpoint"] == "qdp2weak");
    let weak = weak.expect("its upgrade").to_string();
    assert!(weak.contains("battery 12 %"), "{weak}");
    assert_eq!(became(&upgrades, "qdp2claims").0, "not_downloaded");
}

#[test]
fn simulated_devices_with_quecthing_end_as_they_should() {
    let files = tempfile::tempdir().unwrap();
    let settings = [
        ("CELLWISE_UPGRADE__REPEAT_QUESTION_S", "2"),
        ("CELLWISE_UPGRADE__EXECUTE_S", "5"),
        ("CELLWISE_DOWNLOAD__HTTP", "true"),
        ("CELLWISE_DOWNLOAD__HTTP_LISTEN", "127.0.0.1:0"),
        ("CELLWISE_DOWNLOAD__HTTPS", "false"),
    ];
    let server = secured_with(files.path(), &settings);
    let mut config = FleetConfig::new(24, vec![Style::QuecThing], "V1.0");
    config.target = Some("V2.0".to_owned());
    config.prefix = "qdp3".into();
    config.timing = Timing::default().faster(20);
    config.seed = 5;
    config.faults = [
        "refuses@3=2",
        "corrupt-download=2",
        "broken-download=2",
        "cut-download=2",
        "drops-in-download=2",
        "old-version-after-success=2",
        "claims-without-download=2",
        "loses-report=2",
        "progress-burst=2",
        "reconnect-storm=1",
        "already-current=2",
    ]
    .map(|text| text.parse().unwrap())
    .to_vec();
    let specs = config.specs().unwrap();
    for spec in &specs {
        add(&server, &spec.device, "module", &quecthing(&spec.device));
    }
    let package = server.api.upload("module", "V2.0", &noise(20, 40_000));
    let names: Vec<_> = specs.iter().map(|spec| &*spec.device).collect();
    let task = server.api.create_task("module", &package, &names);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let port = mqtt(&server).port();
    let target = Target::plain("127.0.0.1", port, Authorities::none().unwrap());
    let fleet = {
        let specs = specs.clone();
        runtime.block_on(async { Fleet::start(specs, target).unwrap() })
    };
    let upgrades = server.api.finished(&task, MINUTE);
    let reports = fleet.reports();
    runtime.block_on(fleet.stop());
    for spec in &specs {
        let upgrade = upgrades.iter().find(|it| it["endpoint"] == *spec.device);
        let upgrade = upgrade.expect("its upgrade");
        let expected = match spec.expected() {
            Expected::Succeeded => "succeeded",
            Expected::Failed => "failed",
        };
        assert_eq!(upgrade["state"], expected, "{:?}: {upgrade}", spec.fault);
    }
    for (name, report) in reports {
        assert_eq!(report.counters.malformed, 0, "{name}: {report:?}");
    }
}
