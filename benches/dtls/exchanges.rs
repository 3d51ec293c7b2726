//! What a segment costs the whole server, secured and plain: `cellwise serve` in a process of its own, simulated
//! devices in this one, real sockets between them.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use sim::{
    fleet::{Fleet, FleetConfig, Timing},
    psk::{Key, Psk},
};

const DEVICES: u32 = 200;
/// Devices of a cell that are upgraded at once.
const PER_CELL: u32 = 50;
const SEGMENTS: u32 = 400;
const SEGMENT: usize = 512;
/// Ticks of the kernel's account of CPU time (`sysconf(_SC_CLK_TCK)`, 100 on Linux).
const TICKS_PER_SECOND: f64 = 100.0;
const CREDENTIAL_KEY: &str = "0b1c2d3e4f5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// Segments per CPU second, plain and secured. They take turns, so that a busy machine is busy for both.
pub(crate) fn per_second() -> [f64; 2] {
    let mut spent = [0.0; 2];
    for _ in 0..2 {
        for (spent, secured) in spent.iter_mut().zip([false, true]) {
            *spent += upgrade(secured);
        }
    }
    spent.map(|spent| f64::from(2 * DEVICES * SEGMENTS) / spent)
}

/// Upgrades all devices; the server's CPU seconds.
fn upgrade(secured: bool) -> f64 {
    let server = Server::start(secured);
    let mut config = FleetConfig::new(DEVICES as usize, pcp::Version::new("V1").unwrap());
    config.cells = DEVICES / PER_CELL;
    config.timing = Timing {
        first_request_delay_ms: 0,
        segment_delay_ms: 0,
        execute_delay_ms: 0,
        install_ms: 0,
        ..Timing::default()
    };
    config.start_spread_ms = 1_000;
    let mut specs = Fleet::specs(&config).unwrap();
    if secured {
        for spec in &mut specs {
            let key = Key::new([0x4b; 16]).unwrap();
            spec.psk = Some(Psk::new(&spec.endpoint, key).unwrap());
        }
    }
    let devices: Vec<Value> = (specs.iter())
        .map(|spec| {
            let mut device = json!({ "endpoint": spec.endpoint, "product": "bench" });
            if let Some(psk) = &spec.psk {
                device["psk"] = json!({ "key": hex::encode(psk.key.bytes()) });
            }
            device
        })
        .collect();
    server.post(
        "/v1/devices",
        json!({ "devices": devices }).to_string().as_bytes(),
    );
    let content = vec![0x5a; SEGMENTS as usize * SEGMENT];
    let package = server.post("/v1/packages?product=bench&version=V2", &content);
    let task = json!({ "name": "bench", "package_id": package["id"], "all": true });
    let task = server.post("/v1/tasks", task.to_string().as_bytes());

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let before = server.cpu_seconds();
    let fleet = runtime
        .block_on(Fleet::start(specs, server.devices))
        .unwrap();
    runtime.block_on(fleet.until_settled());
    let spent = server.cpu_seconds() - before;
    runtime.block_on(fleet.stop());
    let path = format!("/v1/tasks/{}", task["id"]);
    let succeeded = &server.get(&path)["counts"]["succeeded"];
    assert_eq!(*succeeded, DEVICES, "{}", server.get(&path));
    spent
}

struct Server {
    child: Child,
    devices: SocketAddr,
    admin: SocketAddr,
    authorization: String,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start(secured: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let child = Command::new(env!("CARGO_BIN_EXE_cellwise"))
            .arg("serve")
            .current_dir(&directory)
            .env("CELLWISE_DATA_DIR", &data)
            .env("CELLWISE_LOG__FILTER", "warn")
            .env("CELLWISE_COAP__LISTEN", "127.0.0.1:0")
            .env("CELLWISE_COAP__ENABLED", (!secured).to_string())
            .env("CELLWISE_DTLS__LISTEN", "127.0.0.1:0")
            .env("CELLWISE_DTLS__ENABLED", secured.to_string())
            .env("CELLWISE_DTLS__CREDENTIAL_KEY", CREDENTIAL_KEY)
            .env("CELLWISE_ADMIN__LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let listening = listening(&data.join("listening.json"));
        let address = |name: &str| listening[name].as_str().unwrap().parse().unwrap();
        let token = fs::read_to_string(data.join("admin.token")).unwrap();
        Self {
            child,
            devices: address(if secured { "coaps" } else { "coap" }),
            admin: address("admin"),
            authorization: format!("Bearer {}", token.trim()),
            _directory: directory,
        }
    }

    fn post(&self, path: &str, body: &[u8]) -> Value {
        let kind = if body.starts_with(b"{") {
            "json"
        } else {
            "octet-stream"
        };
        let request = ureq::post(format!("http://{}{path}", self.admin))
            .header("authorization", &self.authorization)
            .header("content-type", format!("application/{kind}"));
        request.send(body).unwrap().body_mut().read_json().unwrap()
    }

    fn get(&self, path: &str) -> Value {
        let request = ureq::get(format!("http://{}{path}", self.admin))
            .header("authorization", &self.authorization);
        request.call().unwrap().body_mut().read_json().unwrap()
    }

    fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // behind the name in brackets, the 12th and 13th: utime, stime (proc(5))
        let (_, rest) = stat.rsplit_once(')').unwrap();
        let ticks = rest.split_whitespace().skip(11).take(2);
        ticks
            .map(|ticks| ticks.parse::<f64>().unwrap())
            .sum::<f64>()
            / TICKS_PER_SECOND
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // fails when it has ended by itself
        let _ = self.child.wait();
    }
}

fn listening(path: &Path) -> Value {
    for _ in 0..1_000 {
        let written = fs::read(path).ok();
        if let Some(listening) = written.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return listening;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("the server does not start");
}
