use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Api, Running, cellwise, run, wait_for};

#[test]
fn the_demo_ends_as_it_should_and_keeps_every_limit() {
    a_demo_ends_as_it_should(&[]);
}

#[test]
fn so_does_the_demo_over_dtls() {
    a_demo_ends_as_it_should(&["--dtls"]);
}

#[test]
fn so_does_the_demo_over_mqtt() {
    let report = a_demo_ends_as_it_should(&["--mqtt"]);
    // some of them are made to fail, and some download more than once
    let bytes = report["downloaded_bytes"].as_u64().unwrap();
    assert!(bytes > 30 * 20 * 1024, "{report}");
    assert_eq!(report["segments_served"], 0);
}

#[test]
fn so_does_the_demo_of_gateways_where_owners_confirm_and_refuse() {
    let report = a_demo_ends_as_it_should(&["--gateway"]);
    let lanes = report["lanes"].as_array().expect("a list of gateways");
    assert_eq!(lanes.len(), 4);
    let number = |value: &Value| value.as_u64().expect("a number");
    for lane in lanes {
        assert_eq!(number(&lane["devices"]), 10, "{lane}");
        let peak = number(&lane["concurrent_peak"]);
        assert!((1..=number(&lane["limit_max"])).contains(&peak), "{lane}");
    }
    assert!(number(&report["expected_failures"]) > 2, "{report}");
}

#[test]
fn so_does_the_demo_of_homes_whose_people_upgrade_their_devices() {
    let mut demo = cellwise();
    demo.args("demo --homes --package-kib 20 --format json".split(' '));
    let done = run(&mut demo, b"", Duration::from_mins(5));
    assert!(done.status.success(), "{done:?}");
    assert!(done.stderr.contains("the people of 10 homes"), "{done:?}");
    let last = done.stdout.lines().last().expect("a line of output");
    let report: Value = serde_json::from_str(last).unwrap();
    assert_eq!(report["devices"], 30);
    assert_eq!(report["failed"], report["expected_failures"]);
    // two refuse, and some devices are made to fail
    assert!(report["failed"].as_u64().unwrap() > 2, "{report}");
}

#[test]
fn so_does_one_task_for_devices_of_all_protocols() {
    let report = a_demo_ends_as_it_should(&["--mixed"]);
    assert!(report["downloaded_bytes"].as_u64().unwrap() > 0, "{report}");
    assert!(report["segments_served"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn devices_that_sleep_leave_no_slot_idle() {
    let mut demo = cellwise();
    demo.args("demo --sleeping --devices 30 --package-kib 20 --format json".split(' '));
    let done = run(&mut demo, b"", Duration::from_mins(4));
    assert!(done.status.success(), "{done:?}");
    let last = done.stdout.lines().last().expect("a line of output");
    let report: Value = serde_json::from_str(last).unwrap();
    assert_eq!(report["succeeded"], 30);
    let idle = report["idle_slot_share"].as_f64().unwrap();
    assert!((0.0..0.02).contains(&idle), "{report}");
}

#[test]
fn a_task_in_phases_pauses_by_itself_and_goes_on_after_a_retry() {
    let report = a_demo_ends_as_it_should(&["--phases"]);
    let pause = &report["pause"];
    assert_eq!(pause["code"], "phase_failed");
    assert!(pause["failed"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(pause["failed"], pause["retried"]);
    let few = run(
        cellwise().args(["demo", "--phases", "--devices", "3"]),
        b"",
        Duration::from_mins(1),
    );
    assert!(!few.status.success());
    assert!(few.stderr.contains("at least 10 devices"), "{few:?}");
}

fn a_demo_ends_as_it_should(options: &[&str]) -> Value {
    let mut demo = cellwise();
    demo.args("demo --devices 40 --package-kib 20 --format json".split(' '))
        .args(options);
    let done = run(&mut demo, b"", Duration::from_mins(2));
    assert!(done.status.success(), "{done:?}");
    let last = done.stdout.lines().last().expect("a line of output");
    let report: Value = serde_json::from_str(last).unwrap();
    assert_eq!(report["devices"], 40);
    assert_eq!(report["failed"], report["expected_failures"]);
    let number = |value: &Value| value.as_u64().expect("a number");
    assert_eq!(number(&report["succeeded"]) + number(&report["failed"]), 40);
    for cell in report["cells"].as_array().expect("a list of cells") {
        assert!(
            number(&cell["concurrent_peak"]) <= number(&cell["limit_max"]),
            "{cell}"
        );
    }
    report
}

#[test]
fn a_demo_of_one_device_is_a_demo() {
    let mut demo = cellwise();
    demo.args(["demo", "--devices", "1", "--package-kib", "1"]);
    let done = run(&mut demo, b"", Duration::from_mins(1));
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn a_demo_that_is_kept_stays_with_its_devices_until_it_is_told_to_end() {
    let minute = Duration::from_mins(1);
    let mut command = cellwise();
    command.args("demo --mqtt --devices 5 --package-kib 1 --keep --format json".split(' '));
    let mut demo = Running::start(&mut command);
    let of_page = |line: &str| {
        let (host, link) = line.split_once("/console/login?link=").unwrap();
        let host = host.strip_prefix("http://").unwrap();
        (host.parse().unwrap(), link.to_owned())
    };
    let (server, first) = of_page(&demo.says("Console: ", minute));
    let report: Value = serde_json::from_str(&demo.prints(2 * minute)).unwrap();
    assert_eq!(report["succeeded"], 5, "{report}");
    let (same, second) = of_page(&demo.says("Console: ", minute));
    assert_eq!(server, same);
    let token_file = demo.says("--token-file ", minute);
    let token = std::fs::read_to_string(&token_file).unwrap();
    let api = Api::new(server, token.trim());
    // one that nobody has used stays good
    assert_eq!(first, second);
    for (link, status) in [(&first, 201), (&first, 401)] {
        let (answered, body) = api.post("/v1/session", &json!({ "link": link }));
        assert_eq!(answered, status, "{body}");
    }
    // they are there, after the restart that an upgrade ends with
    wait_for(minute, "devices that are connected", || {
        let (_, devices) = api.get("/v1/devices");
        let devices = devices["items"].as_array().unwrap().clone();
        let connected = devices.iter().all(|device| !device["connected"].is_null());
        (connected && devices.len() == 5).then_some(())
    });
    demo.assert_running();
    assert!(demo.interrupt(minute).success());
}
