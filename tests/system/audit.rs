//! The audit log of a server that is killed.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{Server, cellwise};

const KILLS: usize = 6;
const CALLERS: usize = 3;

/// Adds devices until it is told to stop, whatever becomes of the server. Returns which were acknowledged.
fn add_devices(url: &str, token: &str, prefix: &str, stop: &AtomicBool) -> Vec<String> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(5)))
        .build();
    let agent: ureq::Agent = config.into();
    let mut acknowledged = Vec::new();
    for n in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        let name = format!("{prefix}-{n}");
        let request = agent
            .post(url)
            .header("authorization", format!("Bearer {token}"));
        match request.send_json(json!({"endpoint": name})) {
            Ok(answer) if answer.status().as_u16() == 201 => acknowledged.push(name),
            Ok(answer) => panic!("{}", answer.status()),
            Err(_) => break, // it was killed
        }
    }
    acknowledged
}

/// Every change has its row, and every row its change, whenever the server dies.
#[test]
fn a_server_that_is_killed_keeps_its_audit_log_whole() {
    let mut server = Server::with(&[
        ("CELLWISE_ADMIN__REQUESTS_PER_SECOND", "100000"),
        ("CELLWISE_LOG__FILTER", "warn"),
    ]);
    let mut acknowledged = BTreeSet::new();
    for kill in 0..KILLS {
        let (url, token) = (server.api.url("/v1/devices"), server.api.token().to_owned());
        let stop = AtomicBool::new(false);
        let added = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for caller in 0..CALLERS {
                let (url, token, stop, added) = (&url, &token, &stop, &added);
                scope.spawn(move || {
                    let names = add_devices(url, token, &format!("k{kill}-c{caller}"), stop);
                    added.lock().unwrap().extend(names);
                });
            }
            thread::sleep(Duration::from_millis(300 + 70 * kill as u64));
            server.kill_and_restart();
            stop.store(true, Relaxed);
        });
        acknowledged.extend(added.into_inner().unwrap());
    }
    assert!(acknowledged.len() > KILLS, "{}", acknowledged.len());
    let text = server.api.text("/v1/audit/export");
    let mut with_row = BTreeSet::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["operation"], "add_device", "{row}");
        let target = row["target"].as_str().unwrap();
        let name = target.strip_prefix("devices/").unwrap().to_owned();
        assert!(with_row.insert(name), "{row}: a second row");
    }
    let mut there = BTreeSet::new();
    let mut path = "/v1/devices?limit=1000".to_owned();
    loop {
        let (status, page) = server.api.get(&path);
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().unwrap();
        there.extend(
            items
                .iter()
                .map(|it| it["endpoint"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/devices?limit=1000&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(with_row, there);
    assert!(acknowledged.is_subset(&there));
    let verified = cellwise()
        .args(["audit", "verify", "--api", &server.api.url("")])
        .args(["--token", server.api.token()])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
    let said = String::from_utf8(verified.stdout).unwrap();
    let rows = with_row.len();
    assert!(
        said.starts_with(&format!("{rows} rows verified, 1 to {rows}")),
        "{said}"
    );
}
