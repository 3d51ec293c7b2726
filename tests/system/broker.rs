//! Devices that are connected to somebody else's broker: Debian's Mosquitto, and the whole program as its client.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;
use sim::mqtt::{
    Ending, Fleet, Style, Timing,
    fleet::{Authorities, FleetConfig, Secrets, Target},
};

use crate::{
    operations::certificate,
    support::{Server, noise, run, tool, wait_for},
    webhooks::read_events,
};

const MINUTE: Duration = Duration::from_mins(1);

/// What devices on a broker of somebody else's may speak.
const STYLES: [Style; 4] = [
    Style::Iotda,
    Style::IotdaV2,
    Style::ThingsPanel05,
    Style::ThingsPanel1,
];

/// Who may say what, as docs/external-broker.md has it.
const ACCESS: &str = "\
user cellwise
topic read $oc/devices/+/sys/events/up
topic read $oc/bridges/+/devices/+/sys/events/up
topic write $oc/devices/+/sys/events/down
topic read +/ota/device/inform
topic read +/ota/device/progress
topic read +/ota/devices/progress
topic write +/ota/device/inform/+
topic write +/ota/devices/infrom/+
topic write +/ota/devices/inform/+

pattern write $oc/devices/%u/sys/events/up
pattern read $oc/devices/%u/sys/events/down
pattern write %u/ota/device/inform
pattern write %u/ota/device/progress
pattern write %u/ota/devices/progress
pattern read %u/ota/device/inform/+
pattern read %u/ota/devices/infrom/+
pattern read %u/ota/devices/inform/+
";

/// A broker on a port of its own, until it is dropped.
struct Mosquitto {
    child: Option<Child>,
    port: u16,
    settings: PathBuf,
}

impl Mosquitto {
    /// Not started yet. Whose `settings` these are may also need a port.
    fn new(directory: &Path, settings: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let access = directory.join("access");
        fs::write(&access, ACCESS).unwrap();
        // it may well become another user, who has to read that
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        let mut text = format!("listener {port} 127.0.0.1\npersistence false\n");
        writeln!(text, "acl_file {}\n{settings}", access.display()).unwrap();
        let file = directory.join("mosquitto.conf");
        fs::write(&file, text).unwrap();
        Self {
            child: None,
            port,
            settings: file,
        }
    }

    fn start(&mut self) {
        let log = self.settings.with_file_name("mosquitto.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(log);
        let child = Command::new(broker())
            .arg("-c")
            .arg(&self.settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait_for(MINUTE, "Mosquitto", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()
        });
    }

    /// SIGKILL: what it had is lost, sessions and all.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Debian has it where only root looks.
fn broker() -> PathBuf {
    let own = Path::new("/usr/sbin/mosquitto");
    if own.exists() {
        return own.to_owned();
    }
    tool("mosquitto")
}

/// A server whose devices are on that broker.
fn client_of(mosquitto: &Mosquitto, settings: &[(&str, &str)]) -> Server {
    let addresses = format!("[\"127.0.0.1:{}\"]", mosquitto.port);
    let own = [
        ("CELLWISE_MQTT__MODE", "broker"),
        ("CELLWISE_MQTT__BROKER__ADDRESSES", &*addresses),
        ("CELLWISE_MQTT__BROKER__USER", "cellwise"),
        // kits that say nothing when they connect are found by asking
        ("CELLWISE_MQTT__BROKER__ASK_EVERY_S", "10"),
        ("CELLWISE_DOWNLOAD__HTTP", "true"),
        ("CELLWISE_DOWNLOAD__HTTP_LISTEN", "127.0.0.1:0"),
        ("CELLWISE_PRODUCTS__SECOND__OTA_EVENTS", "v2"),
    ];
    Server::secured(&[&own, settings].concat())
}

fn add(server: &Server, endpoint: &str, style: Style) {
    let product = if style == Style::IotdaV2 {
        "second"
    } else {
        "meter"
    };
    let mqtt = if style.is_iotda() {
        json!({"style": "iotda", "certificate": true})
    } else {
        json!({"style": "thingspanel", "token": endpoint})
    };
    let body = json!({"endpoint": endpoint, "product": product, "mqtt": mqtt});
    let (status, told) = server.api.post("/v1/devices", &body);
    assert!((200..300).contains(&status), "{endpoint}: {status} {told}");
}

fn is_connected(server: &Server) -> bool {
    let metrics = server.api.text("/metrics");
    metrics.contains("\ncellwise_mqtt_broker_connected 1\n")
}

fn fleet(devices: usize, styles: &[Style]) -> FleetConfig {
    let mut config = FleetConfig::new(devices, styles.to_vec(), "V1.0");
    config.timing = Timing::default().faster(10);
    config.secrets = Secrets::same("{endpoint}");
    config.on_broker = true;
    config.seed = 5;
    config
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn devices_on_mosquitto_are_upgraded_in_either_version_of_mqtt() {
    for version in ["3.1.1", "5"] {
        let files = tempfile::tempdir().unwrap();
        let mut mosquitto = Mosquitto::new(files.path(), "allow_anonymous true");
        let quoted = format!("\"{version}\"");
        let server = client_of(
            &mosquitto,
            &[
                ("CELLWISE_MQTT__BROKER__TLS", "false"),
                ("CELLWISE_MQTT__BROKER__VERSION", &quoted),
                // those of release 1.x never say what they run
                ("CELLWISE_UPGRADE__REPEAT_QUESTION_S", "5"),
            ],
        );
        // it goes on without a broker, and says so
        wait_for(MINUTE, "the log", || {
            server
                .said()
                .contains("the MQTT broker is not reached")
                .then_some(())
        });
        assert!(!is_connected(&server));
        mosquitto.start();
        wait_for(MINUTE, "the broker", || is_connected(&server).then_some(()));

        // all kits of IoTDA, both of its events, both releases of ThingsPanel
        let config = fleet(12, &STYLES);
        let specs = config.specs().unwrap();
        for spec in &specs {
            add(&server, &spec.device, spec.style);
        }
        let content = noise(21, 30_000);
        let mut tasks = Vec::new();
        for product in ["meter", "second"] {
            let package = server.api.upload(product, "V2.0", &content);
            let mine = specs
                .iter()
                .filter(|spec| (spec.style == Style::IotdaV2) == (product == "second"));
            let mine: Vec<&str> = mine.map(|spec| &*spec.device).collect();
            tasks.push(server.api.create_task(product, &package, &mine));
        }
        let runtime = runtime();
        let target = Target::plain("127.0.0.1", mosquitto.port, Authorities::none().unwrap());
        let fleet = runtime.block_on(async { Fleet::start(specs, target).unwrap() });
        for task in &tasks {
            for upgrade in server.api.finished(task, MINUTE * 2) {
                assert_eq!(upgrade["state"], "succeeded", "{version}: {upgrade}");
                assert_eq!(upgrade["attempts"], 1, "{version}: {upgrade}");
            }
        }
        for (name, report) in fleet.reports() {
            assert_eq!(report.ending, Some(Ending::Upgraded), "{name}: {report:?}");
        }
        runtime.block_on(fleet.stop());
        // the topic of a device that nobody has added
        let stranger = [
            "-u",
            "stranger",
            "-t",
            "$oc/devices/stranger/sys/events/up",
            "-m",
            "{}",
        ];
        let port = mosquitto.port.to_string();
        let mut publish = Command::new(tool("mosquitto_pub"));
        publish
            .args(["-h", "127.0.0.1", "-p", &port])
            .args(stranger);
        let done = run(&mut publish, b"", MINUTE);
        assert!(done.status.success(), "{done:?}");
        wait_for(MINUTE, "the stranger", || {
            let (_, unknown) = server.api.get("/v1/devices/unknown");
            unknown.to_string().contains("stranger").then_some(())
        });
    }
}

#[test]
fn the_broker_asks_for_passwords_and_has_a_certificate() {
    let files = tempfile::tempdir().unwrap();
    let directory = files.path();
    let (certificate, key) = certificate();
    let (chain, key_file) = (directory.join("server.pem"), directory.join("server.key"));
    fs::write(&chain, certificate).unwrap();
    fs::write(&key_file, key).unwrap();
    let passwords = directory.join("passwords");
    let config = fleet(4, &[Style::ThingsPanel05, Style::ThingsPanel1]);
    let mut specs = config.specs().unwrap();
    fs::write(&passwords, "").unwrap();
    let names = specs.iter().map(|spec| &*spec.device).chain(["cellwise"]);
    for name in names {
        let mut command = Command::new(tool("mosquitto_passwd"));
        command.arg("-b").arg(&passwords).args([name, "word"]);
        let done = run(&mut command, b"", MINUTE);
        assert!(done.status.success(), "{done:?}");
    }
    for file in [&passwords, &key_file] {
        // for whomever Mosquitto becomes
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let settings = format!(
        "allow_anonymous false\npassword_file {}\ncertfile {}\nkeyfile {}",
        passwords.display(),
        chain.display(),
        key_file.display()
    );
    let mut mosquitto = Mosquitto::new(directory, &settings);
    mosquitto.start();
    let secret = directory.join("word");
    fs::write(&secret, "word\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let chain = chain.to_str().unwrap();
    let server = client_of(
        &mosquitto,
        &[
            ("CELLWISE_MQTT__BROKER__CA_FILE", chain),
            (
                "CELLWISE_MQTT__BROKER__PASSWORD_FILE",
                secret.to_str().unwrap(),
            ),
            ("CELLWISE_UPGRADE__REPEAT_QUESTION_S", "5"),
        ],
    );
    wait_for(MINUTE, "the broker", || is_connected(&server).then_some(()));
    for spec in &mut specs {
        spec.password = Some(sim::mqtt::Secret("word".to_owned()));
        add(&server, &spec.device, spec.style);
    }
    let package = server.api.upload("meter", "V2.0", &noise(23, 20_000));
    let names: Vec<&str> = specs.iter().map(|spec| &*spec.device).collect();
    let task = server.api.create_task("meter", &package, &names);
    let authorities = Target::authorities(Path::new(chain)).unwrap();
    let target = Target::secured("127.0.0.1", mosquitto.port, authorities);
    let runtime = runtime();
    let fleet = runtime.block_on(async { Fleet::start(specs.clone(), target).unwrap() });
    for upgrade in server.api.finished(&task, MINUTE * 2) {
        assert_eq!(upgrade["state"], "succeeded", "{upgrade}");
    }
    runtime.block_on(fleet.stop());
    assert!(!server.said().contains("word\""));

    // with another authority, and with another password, nothing is said to it
    for (setting, value) in [
        ("CELLWISE_MQTT__BROKER__CA_FILE", ""),
        ("CELLWISE_MQTT__BROKER__USER", "somebody"),
    ] {
        let mut settings = vec![
            ("CELLWISE_MQTT__BROKER__CA_FILE", chain),
            (
                "CELLWISE_MQTT__BROKER__PASSWORD_FILE",
                secret.to_str().unwrap(),
            ),
        ];
        settings.push((setting, value));
        let server = client_of(&mosquitto, &settings);
        wait_for(MINUTE, "the refusal", || {
            server
                .said()
                .contains("the MQTT broker is not reached")
                .then_some(())
        });
        assert!(!is_connected(&server));
    }
}

/// Release 1.x of `ThingsPanel` is not among them: what it says once and is lost is known to nobody. Release 0.5 says it with QoS 0 too,
/// and tells its version whenever it connects.
const SURE_STYLES: [Style; 3] = [Style::Iotda, Style::IotdaV2, Style::ThingsPanel05];

#[test]
fn a_hundred_upgrades_survive_ten_kills_of_the_server_and_ten_of_the_broker() {
    let files = tempfile::tempdir().unwrap();
    let mut mosquitto = Mosquitto::new(files.path(), "allow_anonymous true");
    mosquitto.start();
    let mut server = client_of(
        &mosquitto,
        &[
            ("CELLWISE_MQTT__BROKER__TLS", "false"),
            ("CELLWISE_MQTT__BROKER__ASK_EVERY_S", "3"),
            ("CELLWISE_MQTT__BROKER__ONLINE_S", "10"),
            ("CELLWISE_UPGRADE__REPEAT_QUESTION_S", "5"),
            ("CELLWISE_UPGRADE__CLAIM_SETTLE_S", "2"),
            ("CELLWISE_UPGRADE__EXECUTE_S", "60"),
            // a download lasts a second
            ("CELLWISE_DOWNLOAD__BYTES_PER_SECOND_PER_DEVICE", "40000"),
        ],
    );
    let mut config = fleet(100, &SURE_STYLES);
    config.start_spread_ms = 20_000;
    // as the kits do it: the server is back before them, and hears what they say of themselves when they are connected
    config.timing.retry_ms = 3_000;
    config.restarts = true;
    let specs = config.specs().unwrap();
    let mut tasks = Vec::new();
    for spec in &specs {
        add(&server, &spec.device, spec.style);
    }
    for product in ["meter", "second"] {
        let package = server.api.upload(product, "V2.0", &noise(27, 40_000));
        let mine = specs
            .iter()
            .filter(|spec| (spec.style == Style::IotdaV2) == (product == "second"));
        let mine: Vec<&str> = mine.map(|spec| &*spec.device).collect();
        // a device whose download breaks with the server may say that as soon as the server is back
        let task = json!({
            "name": product, "package_id": package, "devices": mine,
            "retry": {"attempts": 10, "interval_seconds": 1},
        });
        let (status, task) = server.api.post("/v1/tasks", &task);
        assert_eq!(status, 201, "{task}");
        tasks.push(task["id"].clone());
    }
    let runtime = runtime();
    let target = Target::plain("127.0.0.1", mosquitto.port, Authorities::none().unwrap());
    let fleet = {
        let specs = specs.clone();
        runtime.block_on(async { Fleet::start(specs, target).unwrap() })
    };
    let succeeded = |server: &Server| {
        let counts = tasks.iter().map(|task| {
            let (status, body) = server.api.get(&format!("/v1/tasks/{task}"));
            assert_eq!(status, 200, "{body}");
            body["counts"]["succeeded"].as_u64().unwrap()
        });
        counts.sum::<u64>()
    };
    for kill in 1..=20 {
        wait_for(MINUTE, &format!("some upgrades before kill {kill}"), || {
            (succeeded(&server) >= kill * 4).then_some(())
        });
        if kill % 2 == 0 {
            mosquitto.kill();
            mosquitto.start();
        } else {
            server.kill_and_restart();
        }
    }
    let upgrades: Vec<_> = (tasks.iter())
        .flat_map(|task| server.api.finished(task, MINUTE * 3))
        .collect();
    assert_eq!(upgrades.len(), 100);
    for upgrade in &upgrades {
        assert_eq!(upgrade["state"], "succeeded", "{upgrade}");
    }
    let unverified = (upgrades.iter())
        .filter(|it| it["outcome"]["unverified"] == true)
        .count();
    println!("{unverified} of 100 are unverified");
    // each is told once, and has installed it once
    let mut told = Vec::new();
    for task in &tasks {
        let url = server
            .api
            .url(&format!("/v1/events?after=0&task_id={task}"));
        let token = server.api.token().to_owned();
        let events = runtime.block_on(read_events(&url, &token, None, "task.finished"));
        let ended = (events.iter()).filter(|(_, event)| event["type"] == "upgrade.succeeded");
        told.extend(ended.map(|(_, event)| event["data"]["endpoint"].to_string()));
    }
    told.sort_unstable();
    let count = told.len();
    told.dedup();
    assert_eq!((count, told.len()), (100, 100), "{told:?}");
    let reports = fleet.reports();
    runtime.block_on(fleet.stop());
    for (name, report) in reports {
        assert_eq!(report.ending, Some(Ending::Upgraded), "{name}: {report:?}");
        assert_eq!(report.counters.restarts, 1, "{name}: {report:?}");
        assert_eq!(report.counters.whole, 1, "{name}: {report:?}");
    }
}
