use proptest::prelude::*;

use super::*;

const AT: UtcMillis = UtcMillis(1_796_016_019_123);

#[expect(clippy::unnecessary_wraps, reason = "as it is told")]
fn told(text: &str) -> Option<Version> {
    Some(Version::new(text).unwrap())
}

fn only(payload: &str) -> Said {
    let read = read("dev-1", payload.as_bytes()).unwrap();
    assert_eq!((read.others, read.unreadable), (0, 0));
    let [said] = &read.said[..] else {
        panic!("{read:?}");
    };
    said.clone()
}

fn ota(event_type: &str, paras: &str) -> String {
    format!(
        r#"{{"object_device_id":"dev-1","services":[{{"service_id":"$ota","event_type":"{event_type}","event_time":"20261130T052019Z","event_id":"","paras":{paras}}}]}}"#
    )
}

/// Frozen: do not change. These are the bytes that deployed devices parse.
#[test]
fn what_devices_are_told_has_these_bytes() {
    let to = Addressed {
        device: "dev-1",
        at: AT,
        id: "7-1-1",
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!(
        text(to.version_query("7")),
        r#"{"object_device_id":"dev-1","services":[{"service_id":"$ota","event_type":"version_query","event_time":"20261130T052019Z","event_id":"7-1-1","paras":{"task_id":"7","task_ext_info":""}}]}"#
    );
    let offer = Offer {
        version: "V2.0",
        url: "https://updates.example.com:443/packages/3/m.bin",
        token: Some("abc"),
        size_bytes: 5_000,
        file_name: "m.bin",
        expires_s: 86_400,
        sha256: "00ff",
        task: "7",
        custom_info: "",
    };
    assert_eq!(
        text(to.upgrade(Kind::Firmware, &offer)),
        r#"{"object_device_id":"dev-1","services":[{"service_id":"$ota","event_type":"firmware_upgrade","event_time":"20261130T052019Z","event_id":"7-1-1","paras":{"version":"V2.0","url":"https://updates.example.com:443/packages/3/m.bin","file_size":5000,"file_name":"m.bin","access_token":"abc","expires":86400,"sign":"00ff","custom_info":"","task_id":"7","task_ext_info":"","sub_device_count":0}}]}"#
    );
    let second = Offer {
        token: None,
        custom_info: r#"{"battery_percent":30}"#,
        ..offer
    };
    let second = text(to.upgrade(Kind::Software, &second));
    assert!(second.contains(r#""event_type":"software_upgrade_v2""#));
    assert!(!second.contains("access_token"));
    assert!(second.contains(r#""custom_info":"{\"battery_percent\":30}""#));
}

#[test]
fn versions_are_read_as_devices_tell_them() {
    let both = only(&ota(
        "version_report",
        r#"{"fw_version":"V1","sw_version":"S1"}"#,
    ));
    let Said::Versions(both) = both else {
        panic!("{both:?}");
    };
    assert_eq!(both.of(Kind::Firmware), told("V1"));
    assert_eq!(both.of(Kind::Software), told("S1"));
    // a gateway's child tells its firmware alone, and a null is nothing
    let one = only(&ota(
        "version_report",
        r#"{"fw_version":"V1","sw_version":null}"#,
    ));
    let Said::Versions(one) = one else {
        panic!("{one:?}");
    };
    assert_eq!(one.of(Kind::Software), told("V1"));
}

#[test]
fn progress_is_read_as_devices_report_it() {
    let Said::Progress(all) = only(&ota(
        "upgrade_progress_report",
        r#"{"result_code":0,"progress":100,"version":"V2","description":"done"}"#,
    )) else {
        panic!("no progress");
    };
    assert_eq!((all.code, all.percent), (0, Some(100)));
    assert_eq!(all.version, told("V2"));
    assert_eq!(all.description.as_deref(), Some("done"));
    let Said::Progress(little) = only(&ota(
        "upgrade_progress_report",
        r#"{"result_code":"77","progress":"400","version":""}"#,
    )) else {
        panic!("no progress");
    };
    let nothing = Progress {
        code: 77,
        percent: None,
        version: None,
        description: None,
        through: false,
    };
    assert_eq!(little, nothing);
    assert!(all.through);
    for (progress, through) in [
        (r#","progress":100"#, true),
        ("", true),
        (r#","progress":null"#, true),
        (r#","progress":99"#, false),
        (r#","progress":101"#, false),
        (r#","progress":-1"#, false),
    ] {
        let report = format!(r#"{{"result_code":0,"version":"V2"{progress}}}"#);
        let Said::Progress(told) = only(&ota("upgrade_progress_report", &report)) else {
            panic!("no progress");
        };
        assert_eq!(told.through, through, "{progress}");
    }
    let long = ota(
        "upgrade_progress_report",
        &format!(
            r#"{{"result_code":7,"version":"V2","description":"{}"}}"#,
            "é".repeat(500)
        ),
    );
    let Said::Progress(long) = only(&long) else {
        panic!("no progress");
    };
    assert_eq!(long.description.unwrap().chars().count(), MAX_DESCRIPTION);
}

#[test]
fn times_and_numbers_of_events_do_not_matter() {
    for event in [
        r#""event_time":"""#,
        r#""event_time":null"#,
        r#""event_time":"2026-11-30T05:20:19""#,
        r#""event_time":1796016019,"event_id":7"#,
        r#""event_id":null"#,
    ] {
        let payload = format!(
            r#"{{"services":[{{"service_id":"$ota","event_type":"version_report",{event},"paras":{{"fw_version":"V1"}}}}]}}"#
        );
        assert!(matches!(only(&payload), Said::Versions(_)), "{event}");
    }
}

#[test]
fn what_a_gateway_says_is_of_a_child_or_of_its_children() {
    let child = ota("version_report", r#"{"fw_version":"V1"}"#).replace("dev-1", "child-1");
    let of_child = read("dev-1", child.as_bytes()).unwrap();
    assert_eq!(of_child.child.as_deref(), Some("child-1"));
    assert_eq!(of_child.said.len(), 1);
    let sync = r#"{"object_device_id":"dev-1","services":[{"service_id":"$sub_device_manager","event_type":"sub_device_sync_request","paras":{"version":0}}]}"#;
    let own = read("dev-1", sync.as_bytes()).unwrap();
    assert_eq!((own.child, own.topology), (None, vec![Topology::Asks]));
}

#[test]
fn what_is_about_something_else_is_counted_alone() {
    let count = |payload: &str| {
        let read = read("dev-1", payload.as_bytes()).unwrap();
        assert_eq!(read.said, []);
        (read.others, read.unreadable)
    };
    let log = r#"{"services":[{"service_id":"$log","event_type":"log_report","paras":{"type":"DEVICE_STATUS","content":"connect complete"}}]}"#;
    assert_eq!(count(log), (1, 0));
    let sub = r#"{"services":[{"service_id":"$sub_device_manager","event_type":"scan","paras":{"version":0}}]}"#;
    assert_eq!(count(sub), (1, 0));
    let sub = r#"{"services":[{"service_id":"$sub_device_manager","event_type":"add_sub_device_request","paras":{}}]}"#;
    assert_eq!(count(sub), (0, 1));
    // in a child's name nobody manages children
    let child = r#"{"object_device_id":"child-1","services":[{"service_id":"$sub_device_manager","event_type":"sub_device_sync_request","paras":{"version":0}}]}"#;
    assert_eq!(count(child), (1, 0));
    assert_eq!(count("{}"), (0, 0));
    // it says nothing
    assert_eq!(count(&ota("version_report", "{}")), (0, 1));
    assert_eq!(count(&ota("version_report", "null")), (0, 1));
    assert_eq!(
        count(&ota("upgrade_progress_report", r#"{"progress":3}"#)),
        (0, 1)
    );
    assert_eq!(
        count(&ota(
            "upgrade_progress_report",
            r#"{"result_code":99999999999}"#
        )),
        (0, 1)
    );
    let many = format!(
        r#"{{"services":[{}{{}}]}}"#,
        r#"{"service_id":"$ota","event_type":"version_report","paras":{"fw_version":"V1"}},"#
            .repeat(100)
    );
    assert_eq!(
        read("dev-1", many.as_bytes()).unwrap().said.len(),
        MAX_EVENTS
    );
}

#[test]
fn what_is_no_envelope_is_an_error() {
    for payload in ["", "7", "{\"services\":7}", "{\"services\":[7]}", "{"] {
        assert!(read("dev-1", payload.as_bytes()).is_err(), "{payload}");
    }
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_ENVELOPE));
    assert!(matches!(
        read("dev-1", long.as_bytes()),
        Err(Unreadable::TooLong)
    ));
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(payload in prop::collection::vec(any::<u8>(), 0..200), paras in "\\PC{0,40}") {
        let _ = read("dev-1", &payload);
        let _ = read("dev-1", ota("upgrade_progress_report", &paras).as_bytes());
    }
}
