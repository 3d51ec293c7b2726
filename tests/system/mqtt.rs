//! Devices that speak MQTT, and the whole program: those on paho-mqtt, which share no code with the server, and simulated ones by the
//! hundred, while the server is killed. Hostile clients: Mosquitto's, and sockets.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use openssl::ssl::{SslConnector, SslMethod, SslStream};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sim::mqtt::{
    Fleet, Style, Timing,
    fleet::{Authorities, FleetConfig, Target},
};

use crate::{
    operations::certificate,
    support::{Device, Finished, Server, noise, run, tool, wait_for},
    webhooks::read_events,
};

pub(crate) const MINUTE: Duration = Duration::from_mins(1);

/// Writes a new certificate and its key, `server.pem` and `server.key`, and keeps the certificate under another name too.
fn renew(files: &Path, name: &str) -> PathBuf {
    let (chain, key) = (files.join("server.pem"), files.join("server.key"));
    let (certificate, secret) = certificate();
    fs::write(&chain, &certificate).unwrap();
    fs::write(&key, secret).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let kept = files.join(name);
    fs::write(&kept, certificate).unwrap();
    kept
}

/// A server with MQTT, also over TLS, and downloads over HTTPS; `files` gets its certificate, `server.pem`.
pub(crate) fn secured(files: &Path) -> Server {
    secured_with(files, &[])
}

pub(crate) fn secured_with(files: &Path, more: &[(&str, &str)]) -> Server {
    renew(files, "first.pem");
    let (chain, key) = (files.join("server.pem"), files.join("server.key"));
    let (chain, key) = (chain.to_str().unwrap(), key.to_str().unwrap());
    let settings = [
        ("CELLWISE_MQTT__TCP", "true"),
        ("CELLWISE_MQTT__TCP_LISTEN", "127.0.0.1:0"),
        ("CELLWISE_MQTT__TLS", "true"),
        ("CELLWISE_MQTT__TLS_LISTEN", "127.0.0.1:0"),
        ("CELLWISE_MQTT__TLS_CERTIFICATE", chain),
        ("CELLWISE_MQTT__TLS_KEY", key),
        ("CELLWISE_DOWNLOAD__HTTPS", "true"),
        ("CELLWISE_DOWNLOAD__HTTPS_LISTEN", "127.0.0.1:0"),
        ("CELLWISE_DOWNLOAD__TLS_CERTIFICATE", chain),
        ("CELLWISE_DOWNLOAD__TLS_KEY", key),
        ("CELLWISE_PRODUCTS__SECOND__OTA_EVENTS", "v2"),
    ];
    Server::secured(&[&settings[..], more].concat())
}

pub(crate) fn mqtt(server: &Server) -> SocketAddr {
    server.listening("mqtt").expect("MQTT")
}

pub(crate) fn mqtts(server: &Server) -> SocketAddr {
    server.listening("mqtts").expect("MQTT over TLS")
}

pub(crate) fn add(server: &Server, endpoint: &str, product: &str, mqtt: &Value) {
    let body = json!({"endpoint": endpoint, "product": product, "mqtt": mqtt});
    let (status, told) = server.api.post("/v1/devices", &body);
    assert!((200..300).contains(&status), "{endpoint}: {status} {told}");
    assert!(!told.to_string().contains("-secret"), "{told}");
}

pub(crate) fn iotda(endpoint: &str) -> Value {
    json!({"style": "iotda", "secret": format!("{endpoint}-secret")})
}

fn thingspanel(endpoint: &str) -> Value {
    json!({"style": "thingspanel", "token": format!("{endpoint}-secret")})
}

/// Uploads a package, has it installed on these devices, and returns what they went through.
pub(crate) fn upgraded(
    server: &Server,
    product: &str,
    kinds: &[(&str, &str, &[&str])],
    content: &[u8],
) -> BTreeMap<String, Vec<Value>> {
    let package = server.api.upload(product, "V2.0", content);
    let endpoints: Vec<_> = kinds.iter().map(|(endpoint, ..)| *endpoint).collect();
    let task = server.api.create_task(product, &package, &endpoints);
    let devices: Vec<_> = kinds
        .iter()
        .map(|(endpoint, script, options)| {
            let device = Device::over_mqtt(script, endpoint, options);
            ((*endpoint).to_owned(), device)
        })
        .collect();
    let events = devices.into_iter();
    let events = events.map(|(endpoint, device)| (endpoint, device.upgraded()));
    let events = events.collect();
    for upgrade in server.api.finished(&task, MINUTE) {
        assert_eq!(upgrade["state"], "succeeded", "{upgrade}");
        assert_eq!(upgrade["attempts"], 1, "{upgrade}");
    }
    events
}

pub(crate) fn downloaded(events: &[Value]) -> &Value {
    let downloaded = events.iter().find(|event| event["event"] == "downloaded");
    downloaded.expect("a download")
}

#[test]
fn paho_devices_of_iotda_are_upgraded_over_tls() {
    let files = tempfile::tempdir().unwrap();
    let server = secured(files.path());
    let address = mqtts(&server).to_string();
    let authority = files.path().join("server.pem");
    let common = ["--server", &*address, "--ca", authority.to_str().unwrap()];
    let content = noise(11, 70_000);
    for product in ["first", "second"] {
        let names = ["python", "java", "c"].map(|kit| format!("{product}-{kit}"));
        let secrets = names.each_ref().map(|name| format!("{name}-secret"));
        let options: Vec<Vec<&str>> = (names.iter().zip(&secrets))
            .map(|(name, secret)| {
                let kit = name.split('-').next_back().unwrap();
                let mut own = [&common[..], &["--secret", secret, "--kit", kit]].concat();
                if kit == "java" {
                    own.push("--mqtt5");
                }
                if kit == "python" {
                    // as the kit's own example does
                    own.push("--keep-version");
                }
                own
            })
            .collect();
        for name in &names {
            add(&server, name, product, &iotda(name));
        }
        let kinds: Vec<(&str, &str, &[&str])> = (names.iter().zip(&options))
            .map(|(name, options)| (&**name, "iotda_device.py", &**options))
            .collect();
        for (endpoint, events) in upgraded(&server, product, &kinds, &content) {
            let hash = hex::encode(Sha256::digest(&content));
            assert_eq!(downloaded(&events)["sha256"], hash, "{endpoint}");
            let offer = events
                .iter()
                .map(|event| &event["message"]["services"][0])
                .find(|service| service["paras"]["url"].is_string())
                .expect("an offer");
            let second = offer["event_type"].as_str().unwrap().ends_with("_v2");
            assert_eq!(second, product == "second", "{endpoint}: {offer}");
            assert_eq!(
                offer["paras"]["access_token"].is_string(),
                !second,
                "{offer}"
            );
        }
    }
}

/// What became of an upgrade, in a word, and what is known of that.
pub(crate) fn became(upgrades: &[Value], endpoint: &str) -> (String, Value) {
    let upgrade = upgrades.iter().find(|it| it["endpoint"] == endpoint);
    let outcome = &upgrade.expect("its upgrade")["outcome"];
    let reason = outcome["reason"].as_str().expect("a reason");
    (reason.to_owned(), outcome["arguments"].clone())
}

#[test]
fn a_paho_gateway_of_iotda_upgrades_the_devices_behind_it() {
    let files = tempfile::tempdir().unwrap();
    let server = secured(files.path());
    let address = mqtts(&server).to_string();
    let authority = files.path().join("server.pem");
    let common = ["--server", &*address, "--ca", authority.to_str().unwrap()];
    for gateway in ["gw-1", "gw-2"] {
        add(&server, gateway, "gateways", &iotda(gateway));
    }
    let behind = [
        ("c-good", Some("gw-1")),
        ("c-weak", Some("gw-1")),
        ("c-claims", Some("gw-1")),
        ("c-true", Some("gw-1")),
        ("c-restarts", Some("gw-1")),
        ("c-lost", Some("gw-1")),
        ("c-free", None),
        ("c-moves", Some("gw-2")),
    ];
    for (child, via) in behind {
        let body = json!({"endpoint": child, "product": "sensors", "via": via,
            "mqtt": {"style": "iotda", "gateway": true}});
        let (status, told) = server.api.post("/v1/devices", &body);
        assert_eq!(status, 201, "{told}");
    }
    let package = server.api.upload("sensors", "V2.0", &noise(12, 70_000));
    let names: Vec<&str> = behind.iter().map(|(child, _)| *child).collect();
    let task = server.api.create_task("sensors", &package, &names);
    let upgrade_of = |child: &str| {
        let (_, body) = server.api.get(&format!("/v1/tasks/{task}/upgrades"));
        let upgrades = body["items"].as_array().expect("upgrades").clone();
        upgrades
            .into_iter()
            .find(|it| it["endpoint"] == child)
            .expect("its upgrade")
    };
    // its gateway is not there, and its timeline says so
    wait_for(MINUTE, "what a device waits for", || {
        let id = upgrade_of("c-moves")["id"].clone();
        let (_, upgrade) = server.api.get(&format!("/v1/upgrades/{id}"));
        upgrade
            .to_string()
            .contains("gateway gw-2 is offline")
            .then_some(())
    });
    let second = Device::over_mqtt(
        "iotda_gateway.py",
        "gw-2",
        &[
            &common[..],
            &["--secret", "gw-2-secret", "--child", "c-moves=ignores"],
        ]
        .concat(),
    );
    wait_for(MINUTE, "the offer through the first gateway", || {
        (upgrade_of("c-moves")["state"] == "downloading").then_some(())
    });
    let mut first = vec![
        "--secret",
        "gw-1-secret",
        "--add",
        "c-free",
        "--add",
        "c-good",
        "--add",
        "gw-2",
    ];
    let habits = [
        "c-good=good",
        "c-weak=refuses@4",
        "c-claims=claims",
        "c-true=claims-truly",
        "c-restarts=restarts",
        "c-lost=lost",
        "c-free=good",
        "c-moves=good",
    ];
    first.extend(habits.iter().flat_map(|habit| ["--child", habit]));
    let first = Device::over_mqtt("iotda_gateway.py", "gw-1", &[&common[..], &first].concat());
    let (status, moved) = server
        .api
        .patch("/v1/devices/c-moves", &json!({"via": "gw-1"}));
    assert_eq!((status, &moved["via"]), (200, &json!("gw-1")));
    second.upgraded();
    let events = first.upgraded();
    let told = |event: &str, child: &str| {
        events
            .iter()
            .any(|it| it["event"] == event && it["child"] == child)
    };
    assert!(
        told("added", "c-free") && told("not_added", "gw-2"),
        "{events:?}"
    );
    let upgrades = server.api.finished(&task, MINUTE);
    for child in ["c-good", "c-restarts", "c-lost", "c-free", "c-moves"] {
        let (reason, arguments) = became(&upgrades, child);
        assert_eq!(reason, "upgraded", "{child}: {arguments}");
        assert!(told("downloaded", child), "{child}");
    }
    let (reason, arguments) = became(&upgrades, "c-weak");
    assert_eq!(
        (&*reason, &arguments["code"]),
        ("refused_battery", &json!(4))
    );
    assert_eq!(became(&upgrades, "c-claims").0, "not_downloaded");
    let (reason, arguments) = became(&upgrades, "c-true");
    assert_eq!(
        (&*reason, &arguments["unverified"]),
        ("upgraded", &json!(true))
    );
    let (_, free) = server.api.get("/v1/devices/c-free");
    assert_eq!(free["via"], "gw-1");
    let (_, gateway) = server.api.get("/v1/devices/gw-1");
    assert_eq!(gateway["children"]["total"], 8);
    let (_, unknown) = server.api.get("/v1/devices/unknown");
    let listed = unknown["items"].as_array().expect("a list");
    assert!(
        listed
            .iter()
            .any(|it| it["name"] == "gw-2" && it["reason"] == "others_child"),
        "{unknown}"
    );
}

#[test]
fn paho_devices_of_thingspanel_are_upgraded_over_tls() {
    let files = tempfile::tempdir().unwrap();
    let server = secured(files.path());
    let address = mqtts(&server).to_string();
    let authority = files.path().join("server.pem");
    let common = ["--server", &*address, "--ca", authority.to_str().unwrap()];
    let own: [(&str, &[&str]); 4] = [
        (
            "old",
            &["--release", "0.5", "--parts", "3", "--crc", "CCITT"],
        ),
        (
            "hesitant",
            &["--release", "0.5", "--old-version-first", "2", "--numbers"],
        ),
        ("new", &["--release", "1.x", "--parts", "3"]),
        (
            "spelt",
            &[
                "--release",
                "1.x",
                "--spelling",
                "inform",
                "--parts",
                "2",
                "--crc",
                "CCITT",
                "--mqtt5",
            ],
        ),
    ];
    let tokens = own.map(|(name, _)| format!("{name}-secret"));
    let options: Vec<Vec<&str>> = (own.iter().zip(&tokens))
        .map(|((_, own), token)| [&common[..], &["--token", token], own].concat())
        .collect();
    for (name, _) in own {
        add(&server, name, "panel", &thingspanel(name));
    }
    let kinds: Vec<(&str, &str, &[&str])> = (own.iter().zip(&options))
        .map(|((name, _), options)| (*name, "thingspanel_device.py", &**options))
        .collect();
    let content = noise(12, 50_001);
    for (endpoint, events) in upgraded(&server, "panel", &kinds, &content) {
        let hash = hex::encode(Sha256::digest(&content));
        assert_eq!(downloaded(&events)["sha256"], hash, "{endpoint}");
    }
}

#[test]
fn a_device_that_reads_nothing_of_its_package_and_reports_success_has_failed() {
    let files = tempfile::tempdir().unwrap();
    let server = secured_with(files.path(), &[("CELLWISE_UPGRADE__EXECUTE_S", "3")]);
    let address = mqtts(&server).to_string();
    let authority = files.path().join("server.pem");
    let common = ["--server", &*address, "--ca", authority.to_str().unwrap()];
    add(&server, "liar", "first", &iotda("liar"));
    let package = server.api.upload("first", "V2.0", &noise(16, 4_096));
    let task = server.api.create_task("first", &package, &["liar"]);
    let options = [&common[..], &["--secret", "liar-secret", "--read-nothing"]].concat();
    Device::over_mqtt("iotda_device.py", "liar", &options).upgraded();
    let upgrades = server.api.finished(&task, MINUTE);
    assert_eq!(upgrades[0]["state"], "failed", "{upgrades:?}");
    assert_eq!(
        upgrades[0]["outcome"]["reason"], "not_downloaded",
        "{upgrades:?}"
    );
    // although all of it had left the server's program
    wait_for(MINUTE, "the end of its download", || {
        let figures = server.api.text("/metrics");
        (figures.contains("\ncellwise_downloads_ended_total 1\n")).then_some(())
    });
}

/// One of Mosquitto's clients, from another address than the devices'.
fn mosquitto(server: &Server, program: &str, arguments: &[&str]) -> Finished {
    let port = mqtt(server).port().to_string();
    let mut command = Command::new(tool(program));
    command
        .args(["-h", "127.0.0.1", "-p", &port, "-A", "127.0.0.2", "-q", "1"])
        .args(arguments);
    run(&mut command, b"", MINUTE)
}

#[test]
fn hostile_clients_change_nothing_for_devices_that_are_upgraded_meanwhile() {
    let files = tempfile::tempdir().unwrap();
    let mut server = secured(files.path());
    let address = mqtts(&server).to_string();
    let authority = files.path().join("server.pem");
    let common = [
        "--server",
        &*address,
        "--ca",
        authority.to_str().unwrap(),
        "--install",
        "4",
    ];
    for (endpoint, credential) in [
        ("victim-1", iotda("victim-1")),
        ("victim-2", thingspanel("victim-2")),
        ("intruder", thingspanel("intruder")),
    ] {
        add(&server, endpoint, "attacked", &credential);
    }
    let package = server.api.upload("attacked", "V2.0", &noise(15, 40_000));
    let task = server
        .api
        .create_task("attacked", &package, &["victim-1", "victim-2"]);
    let kits = [
        &common[..],
        &["--secret", "victim-1-secret", "--kit", "java"],
    ]
    .concat();
    let tokens = [&common[..], &["--token", "victim-2-secret"]].concat();
    let devices = [
        Device::over_mqtt("iotda_device.py", "victim-1", &kits),
        Device::over_mqtt("thingspanel_device.py", "victim-2", &tokens),
    ];
    let path = format!("/v1/tasks/{task}/upgrades");
    wait_for(MINUTE, "both devices' being at it", || {
        let (_, upgrades) = server.api.get(&path);
        let upgrades = upgrades["items"].as_array()?.clone();
        let at_it = |it: &Value| {
            ["downloading", "executing"]
                .contains(&it["state"].as_str()?)
                .then_some(())
        };
        upgrades.iter().map(at_it).collect::<Option<Vec<()>>>()
    });

    let huge = files.path().join("huge");
    fs::write(&huge, vec![b'x'; 300 << 10]).unwrap();
    let own = ["-u", "intruder-secret", "-i", "intruder"];
    let failure = json!({"services": [{"service_id": "$ota", "event_type": "upgrade_progress_report",
        "paras": {"result_code": 255, "progress": 0, "version": "V1.0", "description": "no"}}]});
    let failure = failure.to_string();
    let victims = "$oc/devices/victim-1/sys/events/up";
    for version in ["mqttv311", "mqttv5"] {
        let publish = |arguments: &[&str]| {
            mosquitto(
                &server,
                "mosquitto_pub",
                &[&["-V", version], arguments].concat(),
            )
        };
        // in a device's name, without its secret
        let taken = [
            "-i",
            "victim-1_0_1_2026010100",
            "-u",
            "victim-1",
            "-P",
            "guess",
        ];
        for guess in [&taken[..], &["-i", "mqtt_victim-2", "-u", "victim-2"], &[]] {
            let done = publish(&[guess, &["-t", victims, "-m", &failure]].concat());
            assert!(!done.status.success(), "{version}: {done:?}");
        }
        // with an identity of its own, about another device; by a will; kept
        let foreign = ["-t", victims, "-m", &failure];
        for more in [
            &[][..],
            &["-r"],
            &["--will-topic", victims, "--will-payload", &failure],
        ] {
            publish(&[&own[..], &foreign, more].concat());
        }
        // more than a packet may have
        publish(
            &[
                &own[..],
                &["-t", "ota/devices/progress", "-f", huge.to_str().unwrap()],
            ]
            .concat(),
        );
        for filter in ["#", "$oc/#", "ota/devices/infrom/victim-2", "$share/g/#"] {
            let asked = ["-V", version, "-t", filter, "-W", "2"];
            let heard = mosquitto(&server, "mosquitto_sub", &[&own[..], &asked].concat());
            assert_eq!(heard.stdout, "", "{version}, {filter}");
        }
    }
    // what is not MQTT, and what never comes to its end
    let mut held = Vec::new();
    for number in 0..40 {
        for address in [mqtt(&server), mqtts(&server)] {
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(&noise(number, 700)); // it may be closed by then
            let mut begun = TcpStream::connect(address).unwrap();
            begun.write_all(&[0x10, 0xff, 0xff, 0xff, 0x7f, 0]).unwrap();
            held.push(begun);
        }
    }

    for device in devices {
        let events = device.upgraded();
        let connected = events.iter().filter(|event| event["event"] == "connected");
        assert_eq!(connected.count(), 1, "{events:?}");
    }
    for upgrade in server.api.finished(&task, MINUTE) {
        assert_eq!(upgrade["state"], "succeeded", "{upgrade}");
        assert_eq!(upgrade["attempts"], 1, "{upgrade}");
    }
    server.assert_running();
    let (_, unknown) = server.api.get("/v1/devices/unknown");
    assert!(unknown.to_string().contains("victim-1"), "{unknown}");
    assert!(!server.said().contains("-secret"));
}

/// CONNECT with a token, which is answered.
fn greets(stream: &mut (impl std::io::Read + std::io::Write), token: &str) {
    let mut body = b"\0\x04MQTT\x04\x82\0\x3c\0\x01c".to_vec();
    body.extend(u16::try_from(token.len()).unwrap().to_be_bytes());
    body.extend(token.as_bytes());
    let mut packet = vec![0x10, u8::try_from(body.len()).unwrap()];
    packet.extend(body);
    stream.write_all(&packet).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0]);
}

fn trusting(authority: &Path, address: SocketAddr) -> Result<SslStream<TcpStream>, String> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_ca_file(authority).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(MINUTE)).unwrap();
    let connected = builder.build().connect("127.0.0.1", stream);
    connected.map_err(|error| error.to_string())
}

#[test]
fn the_mqtt_port_takes_a_new_certificate_without_a_restart() {
    let files = tempfile::tempdir().unwrap();
    let server = secured(files.path());
    let address = mqtts(&server);
    add(&server, "meter-1", "meter", &thingspanel("meter-1"));
    let first = files.path().join("first.pem");
    let mut before = trusting(&first, address).unwrap();
    greets(&mut before, "meter-1-secret");
    let ends = "\ncellwise_mqtt_certificate_expiration_timestamp_seconds ";
    assert!(server.api.text("/metrics").contains(ends));

    let second = renew(files.path(), "second.pem");
    server.reload();
    wait_for(MINUTE, "the new certificate", || {
        trusting(&second, address).ok()
    });
    trusting(&first, address).unwrap_err();
    assert!(server.said().contains("the MQTT port's certificate"));
    // who was connected stays so
    before.write_all(&[0xc0, 0]).unwrap();
    let mut answer = [0; 2];
    before.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0xd0, 0]);

    // what cannot be used is told, and changes nothing
    fs::write(files.path().join("server.pem"), "no certificate").unwrap();
    server.reload();
    wait_for(MINUTE, "the refusal", || {
        let told = "the MQTT port's certificate stays as it was";
        server.said().contains(told).then_some(())
    });
    trusting(&second, address).unwrap();
}

/// Release 1.x of ThingsPanel is not among them: it says once that it is through, and never what it runs. Where that is lost with
/// the server, nobody can know.
const STYLES: [Style; 3] = [Style::Iotda, Style::IotdaV2, Style::ThingsPanel05];

#[test]
fn a_hundred_upgrades_over_mqtt_survive_ten_kills() {
    let mut server = Server::secured(&[
        ("CELLWISE_MQTT__TCP", "true"),
        ("CELLWISE_MQTT__TCP_LISTEN", "127.0.0.1:0"),
        ("CELLWISE_DOWNLOAD__HTTP", "true"),
        ("CELLWISE_DOWNLOAD__HTTP_LISTEN", "127.0.0.1:0"),
        // a download lasts a second
        ("CELLWISE_DOWNLOAD__BYTES_PER_SECOND_PER_DEVICE", "40000"),
    ]);
    let mut config = FleetConfig::new(100, STYLES.to_vec(), "V1.0");
    config.timing = Timing::default().faster(10);
    config.start_spread_ms = 12_000;
    config.restarts = true;
    config.seed = 3;
    let specs = config.specs().unwrap();
    for spec in &specs {
        let mqtt = if spec.style.is_iotda() {
            iotda(&spec.device)
        } else {
            thingspanel(&spec.device)
        };
        add(&server, &spec.device, "meter", &mqtt);
    }
    let package = server.api.upload("meter", "V2.0", &noise(13, 40_000));
    let names: Vec<_> = specs.iter().map(|spec| &*spec.device).collect();
    // a device whose download breaks with the server may say that as soon as the server is back
    let task = json!({
        "name": "killed", "package_id": package, "devices": names,
        "retry": {"attempts": 10, "interval_seconds": 1},
    });
    let (status, task) = server.api.post("/v1/tasks", &task);
    assert_eq!(status, 201, "{task}");
    let task = &task["id"];
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
    let path = format!("/v1/tasks/{task}");
    for kill in 1..=10 {
        wait_for(MINUTE, &format!("some upgrades before kill {kill}"), || {
            let (status, body) = server.api.get(&path);
            assert_eq!(status, 200, "{body}");
            let succeeded = body["counts"]["succeeded"].as_u64().unwrap();
            (succeeded >= kill * 8).then_some(())
        });
        server.kill_and_restart();
    }
    let upgrades = server.api.finished(task, MINUTE);
    let ends: BTreeSet<String> = upgrades.iter().map(|it| it["state"].to_string()).collect();
    assert_eq!((upgrades.len(), ends.len()), (100, 1), "{upgrades:?}");
    assert_eq!(upgrades[0]["state"], "succeeded");
    // each is told once
    let url = server.api.url("/v1/events?after=0");
    let token = server.api.token().to_owned();
    let events = runtime.block_on(read_events(&url, &token, None, "task.finished"));
    let told = events
        .iter()
        .filter(|(_, event)| event["type"] == "upgrade.succeeded");
    let told: Vec<String> = told
        .map(|(_, event)| event["data"]["endpoint"].to_string())
        .collect();
    let each: BTreeSet<&String> = told.iter().collect();
    assert_eq!((told.len(), each.len()), (100, 100), "{told:?}");
    let reports = fleet.reports();
    runtime.block_on(fleet.stop());
    for (name, report) in reports {
        let ending = Some(sim::mqtt::Ending::Upgraded);
        assert_eq!(report.ending, ending, "{name}: {report:?}");
        // it has installed it once, and not downloaded anew what it had
        assert_eq!(report.counters.restarts, 1, "{name}: {report:?}");
        assert_eq!(report.counters.whole, 1, "{name}: {report:?}");
    }
}
