//! One device's upgrade is cancelled while its download hangs, and the next gets its slot: what is cancelled ends, whatever its device
//! does (hawkbit #1318).

use std::time::Duration;

use serde_json::{Value, json};
use sim::{CoverageClass, DeviceSpec, fleet::Fleet};

use crate::support::{Server, noise, wait_for};

const MINUTE: Duration = Duration::from_mins(1);

/// A device of poor coverage: one at a time in its cell.
fn device(endpoint: &str, fault: Option<&str>) -> DeviceSpec {
    let mut spec = DeviceSpec::new(endpoint, pcp::Version::new("V1.0").unwrap());
    spec.coverage = CoverageClass::Poor.coverage(Some(1));
    spec.timing = spec.timing.faster(100);
    spec.fault = fault.map(|fault| fault.parse().unwrap());
    spec
}

fn upgrade(server: &Server, endpoint: &str, task: &Value) -> Value {
    let (_, page) = server.api.get(&format!("/v1/tasks/{task}/upgrades"));
    let upgrades = page["items"].as_array().unwrap();
    let found = upgrades.iter().find(|it| it["endpoint"] == endpoint);
    found.unwrap().clone()
}

#[test]
fn a_hanging_download_is_cancelled_and_the_slot_goes_to_the_next() {
    for restart in [false, true] {
        let mut server = Server::start();
        let package = server.api.upload("meter", "V2.0", &noise(5, 20_000));
        for endpoint in ["hangs", "next"] {
            server.api.add_device(endpoint, "meter");
        }
        let task = server.api.create_task("two", &package, &["hangs", "next"]);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let hangs = vec![device("hangs", Some("stops-mid-download@3"))];
        let hangs = runtime.block_on(Fleet::start(hangs, server.coap)).unwrap();
        wait_for(MINUTE, "the download", || {
            let upgrade = upgrade(&server, "hangs", &task);
            (upgrade["state"] == "downloading").then_some(())
        });
        let next = vec![device("next", None)];
        let next = runtime.block_on(Fleet::start(next, server.coap)).unwrap();
        wait_for(MINUTE, "the other to wait", || {
            let upgrade = upgrade(&server, "next", &task);
            (upgrade["state"] == "waiting_for_slot").then_some(())
        });
        let id = upgrade(&server, "hangs", &task)["id"].clone();
        let path = format!("/v1/upgrades/{id}/cancel");
        let (status, body) = server.api.post(&path, &json!({}));
        assert_eq!(status, 200, "{body}");
        if restart {
            server.kill_and_restart();
        }
        let upgrades = server.api.finished(&task, MINUTE);
        let ends: Vec<_> = upgrades
            .iter()
            .map(|it| (&it["endpoint"], &it["state"], &it["outcome"]["reason"]))
            .collect();
        assert_eq!(
            ends,
            [
                (&json!("hangs"), &json!("cancelled"), &json!("cancelled")),
                (&json!("next"), &json!("succeeded"), &json!("upgraded")),
            ]
        );
        assert_eq!(upgrades[0]["attempts"], 1);
        runtime.block_on(async {
            hangs.stop().await;
            next.stop().await;
        });
    }
}
