//! What a segment costs the whole server, secured and plain: `cellwise serve` in a process of its own, simulated
//! devices in this one, real sockets between them.

use serde_json::{Value, json};
use sim::{
    fleet::{Fleet, FleetConfig, Timing},
    psk::{Key, Psk},
};

use crate::support::server::{Server, Setup};

const DEVICES: u32 = 200;
/// Devices of a cell that are upgraded at once.
const PER_CELL: u32 = 50;
const SEGMENTS: u32 = 400;
const SEGMENT: usize = 512;
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
    let setup = Setup::new(None)
        .with("CELLWISE_COAP__ENABLED", &(!secured).to_string())
        .with("CELLWISE_DTLS__ENABLED", &secured.to_string())
        .with("CELLWISE_DTLS__CREDENTIAL_KEY", CREDENTIAL_KEY);
    let server = Server::start(setup);
    let address = if secured {
        server.coaps()
    } else {
        server.coap().into()
    };
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
    let before = server.cpu();
    let fleet = runtime.block_on(Fleet::start(specs, address)).unwrap();
    runtime.block_on(fleet.until_settled());
    let spent = server.cpu() - before;
    runtime.block_on(fleet.stop());
    let path = format!("/v1/tasks/{}", task["id"]);
    let succeeded = &server.get(&path)["counts"]["succeeded"];
    assert_eq!(*succeeded, DEVICES, "{}", server.get(&path));
    spent
}
