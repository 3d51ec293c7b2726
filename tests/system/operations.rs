//! What operations need: backups that are restored, TLS, what systemd is told, a doctor, and a log that nobody can fill.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{SocketAddr, UdpSocket},
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use cellwise::clock::SystemClock;
use openssl::{
    asn1::Asn1Time,
    bn::{BigNum, MsbOption},
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::PKey,
    x509::{X509, X509NameBuilder, extension::SubjectAlternativeName},
};
use serde_json::{Value, json};
use sim::fleet::{Fleet, FleetConfig, Timing};

use crate::support::{Api, Finished, Server, cellwise, clean, noise, run, tool, wait_for};

const LIMIT: Duration = Duration::from_mins(1);
const DEVICES: usize = 150;

fn told(words: &[&str], env: &[(&str, String)]) -> Finished {
    let mut command = cellwise();
    command.args(words).envs(env.iter().cloned());
    run(&mut command, b"", LIMIT)
}

/// The only backup in a directory.
fn back_up(server: &Server, to: &Path) -> PathBuf {
    let data = server.data_dir();
    let words = [
        "backup",
        "--data-dir",
        data.to_str().unwrap(),
        "--to",
        to.to_str().unwrap(),
        "--format",
        "json",
    ];
    let made = told(&words, &[]);
    assert!(made.status.success(), "{made:?}");
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!(
        (&made["packages"], &made["left_out"]),
        (&json!(1), &json!([])),
        "{made}"
    );
    PathBuf::from(made["path"].as_str().unwrap())
}

/// What has ended of a task, by device.
fn ended(server: &Server, task: &Value) -> Vec<Value> {
    let (status, page) = server
        .api
        .get(&format!("/v1/tasks/{}/upgrades?limit=1000", task["id"]));
    assert_eq!(status, 200, "{page}");
    let upgrades = page["items"].as_array().unwrap();
    upgrades
        .iter()
        .filter(|it| it["ended_at"].is_string())
        .cloned()
        .collect()
}

#[test]
fn a_backup_under_load_is_restored_after_a_kill_and_the_devices_go_on() {
    let mut server = Server::with(&[
        ("CELLWISE_COAP__ACK_TIMEOUT_MS", "500"),
        ("CELLWISE_UPGRADE__REPEAT_QUESTION_S", "2"),
        ("CELLWISE_UPGRADE__NUDGE_AFTER_S", "1"),
        ("CELLWISE_UPGRADE__RESULT_GRACE_S", "2"),
        ("CELLWISE_ADMISSION__OVERTAKE_S", "3"),
        ("CELLWISE_ADMIN__REQUESTS_PER_SECOND", "100000"),
        ("CELLWISE_LOG__FILTER", "warn"),
    ]);
    let package = server.api.upload("default", "V2.0", &noise(7, 30 * 1024));
    let version = |text| pcp::Version::new(text).unwrap();
    let mut config = FleetConfig::new(DEVICES, version("V1.0"));
    config.target = Some(version("V2.0"));
    config.timing = Timing::default().faster(100);
    config.start_spread_ms = 6_000;
    // those that register after the backup are unknown to it, and come back with their next update
    config.behaviour.lifetime_s = 40;
    let specs = Fleet::specs(&config).unwrap();
    let devices: Vec<Value> = specs
        .iter()
        .map(|spec| json!({"endpoint": spec.endpoint}))
        .collect();
    let (status, body) = server.api.post("/v1/devices", &json!({"devices": devices}));
    assert_eq!(status, 200, "{body}");
    let task = json!({"name": "restored", "package_id": package, "all": true});
    let (status, task) = server.api.post("/v1/tasks", &task);
    assert_eq!(status, 201, "{task}");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let fleet = runtime.block_on(Fleet::start(specs, server.coap)).unwrap();

    wait_for(LIMIT, "the first devices", || {
        (ended(&server, &task).len() >= DEVICES / 10).then_some(())
    });
    let before = ended(&server, &task);
    assert!(before.len() < DEVICES, "nothing was under way any more");
    let to = tempfile::tempdir().unwrap();
    let backup = back_up(&server, to.path());
    let last: Value =
        serde_json::from_slice(&fs::read(server.data_dir().join("last-backup.json")).unwrap())
            .unwrap();
    assert_eq!(last["path"], json!(backup));
    let meanwhile = ended(&server, &task).len();
    wait_for(LIMIT, "devices after the backup", || {
        (ended(&server, &task).len() >= meanwhile.min(DEVICES - 1)).then_some(())
    });
    // added after the backup: it is not there any more
    server.api.add_device("later", "default");
    server.kill_and_restore(|data| {
        let words = [
            "restore",
            "--from",
            backup.to_str().unwrap(),
            "--data-dir",
            data.to_str().unwrap(),
        ];
        let restored = told(&words, &[]);
        assert!(restored.status.success(), "{restored:?}");
        assert!(restored.stdout.contains("start the server"), "{restored:?}");
    });
    assert_eq!(server.api.get("/v1/devices/later").0, 404);
    assert!(!server.data_dir().join("restored").exists());
    assert!(server.said().contains("the data directory was restored"));
    wait_for(Duration::from_mins(3), "the end of the task", || {
        let (_, task) = server.api.get(&format!("/v1/tasks/{}", task["id"]));
        (task["state"] == "finished").then_some(())
    });
    runtime.block_on(fleet.stop());
    let after = ended(&server, &task);
    assert_eq!(after.len(), DEVICES);
    for upgrade in &after {
        // also one that was in mid-download at the backup, and was upgraded after it: it is asked again, and believed
        assert_eq!(upgrade["state"], "succeeded", "{upgrade}");
        assert_eq!(upgrade["attempts"], 1, "{upgrade}");
        let endpoint = upgrade["endpoint"].as_str().unwrap();
        let (_, device) = server.api.get(&format!("/v1/devices/{endpoint}"));
        assert_eq!(device["version"], "V2.0", "{device}");
    }
    // no number is given that may have been given to something else after the backup
    let last = after.iter().map(|it| it["id"].as_i64().unwrap()).max();
    let (status, next) = server.api.post(
        "/v1/tasks",
        &json!({"name": "next", "package_id": package, "all": true}),
    );
    assert_eq!(status, 201, "{next}");
    assert!(next["id"].as_i64().unwrap() > 10_000_000, "{next}");
    assert!(last < Some(10_000_000));
    // what the backup had is as it was
    for upgrade in &before {
        let same = after.iter().find(|it| it["id"] == upgrade["id"]).unwrap();
        assert_eq!(same["ended_at"], upgrade["ended_at"]);
    }
    let there = fs::read_dir(to.path()).unwrap().count();
    assert_eq!(there, 1, "something was left beside the backup");
}

/// A certificate for 127.0.0.1 and its key, in PEM.
pub(crate) fn certificate() -> (Vec<u8>, Vec<u8>) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "cellwise").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(64, MsbOption::MAYBE_ZERO, false).unwrap();
    builder
        .set_serial_number(&serial.to_asn1_integer().unwrap())
        .unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder
        .set_not_before(&Asn1Time::from_unix(0).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::days_from_now(90).unwrap())
        .unwrap();
    let names = SubjectAlternativeName::new()
        .ip("127.0.0.1")
        .build(&builder.x509v3_context(None, None));
    builder.append_extension(names.unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    (
        builder.build().to_pem().unwrap(),
        key.private_key_to_pem_pkcs8().unwrap(),
    )
}

#[test]
fn the_admin_api_speaks_tls_and_takes_a_new_certificate_without_a_restart() {
    let files = tempfile::tempdir().unwrap();
    let (chain, key) = (
        files.path().join("admin.pem"),
        files.path().join("admin.key"),
    );
    let renew = |name: &str| {
        let (certificate, secret) = certificate();
        fs::write(&chain, &certificate).unwrap();
        fs::write(&key, secret).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let kept = files.path().join(name);
        fs::write(&kept, certificate).unwrap();
        kept
    };
    let first = renew("first.pem");
    let server = Server::with(&[
        ("CELLWISE_ADMIN__TLS_CERTIFICATE", chain.to_str().unwrap()),
        ("CELLWISE_ADMIN__TLS_KEY", key.to_str().unwrap()),
    ]);
    let ask = |authority: &Path| {
        let api = format!("https://{}", server.admin());
        let words = [
            "device",
            "list",
            "--api",
            &*api,
            "--ca-file",
            authority.to_str().unwrap(),
        ];
        told(&words, &[("CELLWISE_TOKEN", server.api.token().to_owned())])
    };
    let listed = ask(&first);
    assert!(listed.status.success(), "{listed:?}");
    let second = renew("second.pem");
    server.reload();
    wait_for(LIMIT, "the new certificate", || {
        ask(&second).status.success().then_some(())
    });
    assert!(ask(&first).stderr.contains("cannot be trusted"));
    assert!(server.said().contains("the admin listener's certificate"));
    // what cannot be used is told, and changes nothing
    fs::write(&chain, "no certificate").unwrap();
    server.reload();
    let told = "the admin listener's certificate stays as it was";
    wait_for(LIMIT, "the refusal", || {
        server.said().contains(told).then_some(())
    });
    assert!(ask(&second).status.success());
}

/// What is told next, but for the watchdog.
fn next(manager: &UnixDatagram) -> String {
    wait_for(LIMIT, "what systemd is told", || {
        let told = receive(manager)?;
        (told != "WATCHDOG=1").then_some(told)
    })
}

fn receive(manager: &UnixDatagram) -> Option<String> {
    let mut buffer = [0; 1_024];
    let length = manager.recv(&mut buffer).ok()?;
    Some(
        String::from_utf8_lossy(&buffer[..length])
            .trim_end()
            .to_owned(),
    )
}

#[test]
fn systemd_is_told_how_the_server_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_nonblocking(true).unwrap();
    let mut server = Server::with(&[
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "600000"),
    ]);
    assert_eq!(next(&manager), "READY=1\nSTATUS=serving");
    for _ in 0..3 {
        wait_for(LIMIT, "the watchdog", || {
            (receive(&manager)? == "WATCHDOG=1").then_some(())
        });
    }
    server.reload();
    let reloading = next(&manager);
    assert!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    assert_eq!(next(&manager), "READY=1");
    assert!(server.terminate(Duration::from_secs(10)).success());
    assert_eq!(next(&manager), "STOPPING=1\nSTATUS=stopping");
}

#[test]
fn the_units_are_what_systemd_takes_and_shut_in() {
    let directory = tempfile::tempdir().unwrap();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mut units = Vec::new();
    for name in [
        "cellwise.service",
        "cellwise-backup.service",
        "cellwise-backup.timer",
    ] {
        let text = fs::read_to_string(deploy.join(name)).unwrap();
        let unit = directory.path().join(name);
        fs::write(
            &unit,
            text.replace("/usr/local/bin/cellwise", env!("CARGO_BIN_EXE_cellwise")),
        )
        .unwrap();
        units.push(unit);
    }
    let analyze = || Command::new(tool("systemd-analyze"));
    let verified = run(analyze().arg("verify").args(&units), b"", LIMIT);
    assert!(verified.status.success(), "{verified:?}");
    assert!(!verified.stderr.contains("cellwise"), "{verified:?}");
    // of 100; below 20 is "OK"
    let judged = run(
        analyze()
            .args(["security", "--offline=true", "--threshold=20"])
            .arg(&units[0]),
        b"",
        LIMIT,
    );
    assert!(judged.status.success(), "{judged:?}");
}

#[test]
fn the_doctor_looks_at_a_server_that_runs_and_at_one_that_does_not() {
    let mut server = Server::start();
    let env = [
        ("CELLWISE_DATA_DIR", server.data_dir().display().to_string()),
        ("CELLWISE_COAP__LISTEN", server.coap.to_string()),
        ("CELLWISE_ADMIN__LISTEN", server.admin().to_string()),
    ];
    let look = |env: &[(&str, String)]| {
        let found = told(&["doctor", "--format", "json"], env);
        let document: Value =
            serde_json::from_str(&found.stdout).unwrap_or_else(|_| panic!("{found:?}"));
        (found.status.code(), document)
    };
    let ports = |document: &Value| -> Vec<String> {
        let findings = document["findings"].as_array().unwrap();
        let ports = findings.iter().filter(|it| it["check"] == "ports");
        ports
            .map(|it| it["told"].as_str().unwrap().to_owned())
            .collect()
    };
    let (code, running) = look(&env);
    assert_eq!(
        (code, &running["errors"]),
        (Some(0), &json!(0)),
        "{running}"
    );
    let by = format!("is used by the server (process {})", server.pid());
    assert!(
        ports(&running).len() == 2 && ports(&running).iter().all(|it| it.ends_with(&by)),
        "{running}"
    );

    let squatter = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut taken = env.clone();
    taken[1].1 = squatter.local_addr().unwrap().to_string();
    let (code, document) = look(&taken);
    assert_eq!(code, Some(1), "{document}");
    let own = format!("(process {})", std::process::id());
    assert!(ports(&document)[0].ends_with(&own), "{document}");

    assert!(server.terminate(Duration::from_secs(10)).success());
    let (code, stopped) = look(&env);
    assert_eq!(code, Some(0), "{stopped}");
    assert!(
        ports(&stopped).iter().all(|it| it.ends_with("is free")),
        "{stopped}"
    );
    let text = told(&["doctor", "--whole"], &env);
    assert!(
        text.stdout.contains("checked as a whole") && text.stdout.contains("0 errors"),
        "{text:?}"
    );
    let wrong = told(&["doctor"], &[("CELLWISE_COAP__QEUE_LEN", "3".to_owned())]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        wrong
            .stdout
            .contains("ERROR    settings: CELLWISE_COAP__QEUE_LEN"),
        "{wrong:?}"
    );
}

/// A server that writes to the journal, in a mount namespace where the journal's socket is the test's.
struct Journaled {
    process: Child,
    journal: UnixDatagram,
    _directory: tempfile::TempDir,
}

impl Journaled {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("journal");
        fs::create_dir(&socket).unwrap();
        let journal = UnixDatagram::bind(socket.join("socket")).unwrap();
        journal.set_read_timeout(Some(LIMIT)).unwrap();
        let mut command = clean(Command::new(tool("unshare")));
        if nix::unistd::geteuid().is_root() {
            command.args(["-m", "--propagation", "unchanged"]);
        } else {
            command.arg("-Urm");
        }
        let mounts = "mount --make-rprivate / 2>/dev/null; mount -t tmpfs run /run && mkdir -p /run/systemd/journal && \
                      mount --bind \"$1\" /run/systemd/journal && exec \"$2\" serve";
        command
            .args(["sh", "-c", mounts, "sh"])
            .arg(&socket)
            .arg(cellwise().get_program())
            .current_dir(directory.path())
            .env("CELLWISE_DATA_DIR", directory.path().join("data"))
            .env("CELLWISE_COAP__LISTEN", "127.0.0.1:0")
            .env("CELLWISE_ADMIN__LISTEN", "127.0.0.1:0")
            .env("CELLWISE_LOG__FORMAT", "journald")
            .stdin(Stdio::null());
        Self {
            process: command.spawn().unwrap(),
            journal,
            _directory: directory,
        }
    }

    /// The next entry with this beginning of its message.
    fn entry(&self, message: &str) -> BTreeMap<String, String> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = self.journal.recv(&mut buffer).expect(message);
            // the first one is empty: it tries whether there is a journal
            let entry = fields(&buffer[..length]);
            let told = entry.get("MESSAGE");
            if told.is_some_and(|told| told.starts_with(message)) {
                return entry;
            }
        }
    }
}

impl Drop for Journaled {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The fields of an entry in the journal's own form (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>): `NAME=value`, or the name, the value's length
/// in eight bytes, and the value.
fn fields(mut entry: &[u8]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut fields = BTreeMap::new();
    while !entry.is_empty() {
        let end = entry.iter().position(|byte| *byte == b'\n').unwrap();
        let (line, rest) = (&entry[..end], &entry[end + 1..]);
        if let Some(at) = line.iter().position(|byte| *byte == b'=') {
            fields.insert(text(&line[..at]), text(&line[at + 1..]));
            entry = rest;
        } else {
            let (length, rest) = rest.split_first_chunk().unwrap();
            let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
            fields.insert(text(line), text(&rest[..length]));
            entry = &rest[length + 1..];
        }
    }
    fields
}

#[test]
fn entries_of_the_journal_have_fields_of_their_own() {
    let server = Journaled::start();
    let listening = server.entry("listening");
    // 5 is "notice" (syslog(3)), by which tracing's INFO goes
    for (field, expected) in [("PRIORITY", "5"), ("SYSLOG_IDENTIFIER", "cellwise")] {
        assert_eq!(listening[field], expected, "{listening:?}");
    }
    let coap: SocketAddr = listening["CELLWISE_COAP"]
        .trim_matches('"')
        .parse()
        .unwrap();
    assert!(listening["CELLWISE_ADMIN"].starts_with("127.0.0.1:"));
    // what is not let in is told with its name, and nothing that it sends makes an entry of its own
    let device = UdpSocket::bind("127.0.0.1:0").unwrap();
    device.send_to(&register(7), coap).unwrap();
    let refused = server.entry("an unknown endpoint was refused");
    assert_eq!(refused["PRIORITY"], "4");
    assert_eq!(refused["CELLWISE_ENDPOINT"], "x0007");
    let peer = format!("coap://{}", device.local_addr().unwrap());
    assert_eq!(refused["CELLWISE_PEER"], peer, "{refused:?}");
    // one that stops says so
    let pid = nix::unistd::Pid::from_raw(i32::try_from(server.process.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    server.entry("SIGTERM: stopping");
    server.entry("stopped");
}

/// A registration (RFC 7252 §3) of an endpoint that nobody knows.
fn register(number: u16) -> Vec<u8> {
    let mut datagram = vec![0x40, 0x02];
    datagram.extend(number.to_be_bytes());
    datagram.extend(b"\xb2rd\x48");
    datagram.extend(format!("ep=x{number:04x}").bytes());
    datagram
}

#[test]
fn strangers_do_not_fill_the_log() {
    const SECONDS: u64 = 6;
    // for each of two shards 5 lines about strangers and 20 for the audit, and 5 about tokens; as many at once at first
    const LINES_PER_SECOND: u64 = 2 * (5 + 20) + 5;
    let server = Server::with(&[
        ("CELLWISE_SHARDS", "2"),
        ("CELLWISE_ADMIN__REQUESTS_PER_SECOND", "100000"),
    ]);
    let lines = || server.said().lines().count() as u64;
    let before = lines();
    let sockets: Vec<UdpSocket> = (0..20)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    let guesser = Api::new(server.admin(), "0123456789abcdef0123456789abcdef");
    let clock = SystemClock::start();
    let began = clock.now().instant;
    let (mut datagrams, mut requests) = (0_u64, 0_u64);
    while clock.now().instant.since(began) < Duration::from_secs(SECONDS) {
        for socket in &sockets {
            let number = u16::try_from(datagrams % 60_000).unwrap();
            let _ = socket.send_to(&register(number), server.coap); // the system may have no room
            let _ = socket.send_to(&noise(datagrams, 40), server.coap);
            datagrams += 2;
        }
        let (status, _) = guesser.get(&format!("/v1/tasks/{requests}%0Aforged"));
        assert!(matches!(status, 401 | 429), "{status}"); // guesses are rationed too
        requests += 1;
    }
    let written = lines() - before;
    println!("{datagrams} datagrams and {requests} requests in {SECONDS} s: {written} lines");
    assert!(
        datagrams > 1_000 && requests > 100,
        "{datagrams} {requests}"
    );
    assert!(written > 0, "nothing was told of an attack");
    assert!(
        written <= LINES_PER_SECOND * (SECONDS + 1),
        "{written} lines"
    );
}

/// Names of metrics in a text: what begins with `cellwise_`.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices("cellwise_") {
        let before = text[..at].chars().next_back().unwrap_or(' ');
        if before.is_ascii_alphanumeric() || before == '_' {
            continue;
        }
        let name = text[at..]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_');
        names.insert(name.collect());
    }
    names
}

#[test]
fn metrics_are_as_prometheus_wants_them_and_alerts_and_panels_name_real_ones() {
    let server = Server::secured(&[]);
    let known = wait_for(LIMIT, "the figures of both ports and of the disk", || {
        let text = server.api.text("/metrics");
        let told = [
            "cellwise_dtls_",
            "cellwise_devices ",
            "cellwise_backup_",
            "cellwise_tenant_",
        ];
        told.iter().all(|name| text.contains(name)).then_some(text)
    });
    let checked = run(
        Command::new(tool("promtool")).args(["check", "metrics"]),
        known.as_bytes(),
        LIMIT,
    );
    assert!(
        checked.status.success() && checked.stderr.is_empty(),
        "{checked:?}"
    );
    let mut known = metrics_in(&known);
    // those of certificates are there where there are certificates
    for listener in ["admin", "app", "download", "dtls", "mqtt"] {
        let name = format!("{listener}_certificate_expiration_timestamp_seconds");
        assert!(include_str!("../../src/server/certificates.rs").contains(&format!("\"{name}\"")));
        known.insert(format!("cellwise_{name}"));
    }
    // and that of a broker where the server is a broker's client
    assert!(
        include_str!("../../src/runtime/broker/drive.rs").contains("\"mqtt_broker_connected\"")
    );
    known.insert("cellwise_mqtt_broker_connected".to_owned());
    // and those of applications where these are served
    for name in ["app_listeners", "app_refused", "app_requests"] {
        assert!(include_str!("../../src/app/figures.rs").contains(&format!("\"{name}\"")));
        let total = if name == "app_listeners" {
            ""
        } else {
            "_total"
        };
        known.insert(format!("cellwise_{name}{total}"));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let prometheus = root.join("deploy/prometheus");
    let rules = fs::read_to_string(prometheus.join("rules.yml")).unwrap();
    let tests = fs::read_to_string(prometheus.join("tests.yml")).unwrap();
    let panels = fs::read_to_string(root.join("deploy/grafana/cellwise.json")).unwrap();
    let _: Value = serde_json::from_str(&panels).unwrap();
    // a pattern of names is checked by its tests
    let rules_named = rules.replace(
        "cellwise_(admin|download|dtls|mqtt)_certificate",
        "cellwise_admin_certificate",
    );
    for name in metrics_in(&rules_named)
        .iter()
        .chain(&metrics_in(&tests))
        .chain(&metrics_in(&panels))
    {
        assert!(known.contains(name), "there is no metric {name}");
    }
    let tested = run(
        Command::new(tool("promtool"))
            .args(["test", "rules", "tests.yml"])
            .current_dir(&prometheus),
        b"",
        LIMIT,
    );
    assert!(tested.status.success(), "{tested:?}");
    let mut alerts = BTreeSet::new();
    for name in rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
    {
        assert!(
            rules.contains(&format!("runbook: docs/runbooks/{name}.md")),
            "{name}"
        );
        // once where it is not told, once where it is
        assert!(
            tests.matches(&format!("alertname: {name}")).count() >= 2,
            "{name}"
        );
        alerts.insert(format!("{name}.md"));
    }
    let pages = fs::read_dir(root.join("docs/runbooks")).unwrap();
    let pages: BTreeSet<String> = pages
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(alerts, pages);
}
