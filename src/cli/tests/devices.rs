use std::time::Duration;

use super::Shell;
use crate::{
    clock::UtcMillis,
    coap::Peer,
    ledger::{
        Announced, Binding, Change, Coverage, CoverageReading, CoverageSource, Lwm2mVersion,
        QueueMode, Registration,
    },
    strangers::Refusal,
};

#[tokio::test]
async fn who_was_refused_is_listed_with_what_lets_it_in() {
    let shell = Shell::new().await;
    let from = "192.0.2.7:5683".parse().unwrap();
    for (name, refusal) in [
        ("urn:imei:1", Refusal::UnknownEndpoint),
        ("\u{1b}[2J", Refusal::UnknownEndpoint),
        ("id-1", Refusal::UnknownIdentity),
        ("unknown", Refusal::UnknownEndpoint),
    ] {
        (shell.state.strangers).refused(name.as_bytes(), refusal, from);
    }
    let list = shell.text("device unknown").await;
    let rows: Vec<&str> = list.lines().collect();
    let columns: Vec<&str> = rows[2].split_whitespace().collect();
    assert_eq!(
        columns[..5],
        ["id-1", "unknown", "identity", "192.0.2.7:5683", "1"]
    );
    assert!(
        list.contains("\\x1b[2J") && !list.contains('\u{1b}'),
        "{list}"
    );
    assert_eq!(
        rows[5..],
        [
            "",
            "To let them in (KEY is a key in hexadecimal, SECRET a device secret):",
            "  cellwise device add unknown",
            "  echo id-1,id-1,KEY | cellwise device add --file -",
            "  cellwise device add urn:imei:1",
        ]
    );
    // as it says
    shell.text("device add urn:imei:1").await;
    shell.text("device add unknown").await;
    let json = shell
        .run("device unknown --format json")
        .await
        .unwrap()
        .json();
    let left = json["items"].as_array().unwrap();
    let left: Vec<_> = left.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(left, ["id-1", "\\x1b[2J"]);
    // a device of that name is one like others
    let removed = shell.text("device remove unknown").await;
    assert_eq!(removed, "device unknown removed\n");
}

/// What a device that tells much is known by.
fn told(endpoint: &str, at: UtcMillis) -> [Change; 3] {
    let registration = Registration {
        location: "5a".to_owned(),
        peer: Peer::secured("192.0.2.7:5684".parse().unwrap()),
        lifetime_s: 86_400,
        expires_at: at + Duration::from_hours(24),
        registered_at: at,
        message_id: None,
        queue_mode: QueueMode::On,
        lwm2m_version: Some(Lwm2mVersion::V1_1),
        binding: Binding::parse(b"US"),
        announced: Some(Box::new(Announced {
            objects: "</3/0>,</4>;ver=1.3,</4/0>".to_owned(),
            root_path: Some("/lwm2m".to_owned()),
        })),
    };
    let endpoint = || endpoint.to_owned();
    [
        Change::Registered {
            endpoint: endpoint(),
            registration,
            wake_ups: None,
            at,
        },
        Change::VersionReported {
            endpoint: endpoint(),
            version: crate::package::Version::new("V1.9").unwrap(),
            at,
        },
        Change::CoverageReported {
            endpoint: endpoint(),
            reading: CoverageReading {
                coverage: Coverage {
                    cell: Some(51_234),
                    rsrp_dbm: Some(-101),
                    sinr_db: None,
                },
                at,
            },
            source: CoverageSource::Object,
        },
    ]
}

#[tokio::test]
async fn a_device_is_shown_with_what_it_tells_and_its_upgrades() {
    let shell = Shell::new().await;
    shell.text("device add silent").await;
    let silent = shell.text("device show silent").await;
    let lines: Vec<&str> = silent.lines().collect();
    assert_eq!(
        lines[..2],
        ["endpoint      silent", "product       default"]
    );
    let this_month = lines[7];
    let (spent, _) = this_month.split_once(", from ").unwrap();
    assert_eq!(
        spent,
        "this month    0 bytes of upgrades, 0 s on the air (estimated)"
    );
    assert_eq!(
        lines[3..],
        [
            "registered    no",
            "heard last    never",
            "version       -",
            "coverage      not known",
            this_month,
            "",
            "It was never to be upgraded.",
        ]
    );
    let file = shell.file("fw.bin", &[7; 1_000]);
    shell
        .text(&format!("package upload {file} --version V2 --product p"))
        .await;
    shell.text("device add d0 --product p").await;
    for name in ["first", "second"] {
        shell
            .text(&format!("task create --package 1 --all --name {name}"))
            .await;
    }
    shell.succeed(1).await;
    let told = told("d0", UtcMillis(1_800_000_000_000));
    shell
        .state
        .store
        .commit(crate::store::conformance::next_batch(), &told)
        .await
        .unwrap();
    let shown = shell.text("device show d0").await;
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines[3..15],
        [
            "registered    since 2027-01-15T08:00:00.000Z",
            "address       192.0.2.7:5684, DTLS",
            "LwM2M         1.1, binding USQ, sleeps between its messages",
            "lifetime      86400 s, ends 2027-01-16T08:00:00.000Z",
            "objects       </3/0> </4>;ver=1.3 </4/0>",
            "below         /lwm2m",
            "heard last    2027-01-15T08:00:00.000Z (stored)",
            "version       V1.9",
            "coverage      cell 51234, RSRP -101 dBm, SINR not told, at 2027-01-15T08:00:00.000Z, by a read of /4/0",
            this_month,
            "",
            "UPGRADE  TASK        TO  STATE      ATTEMPTS  ENDED                     OUTCOME",
        ]
    );
    assert!(
        lines[15].starts_with("2        2 (second)  V2  pending    0         -"),
        "{shown}"
    );
    assert!(
        lines[16].starts_with("1        1 (first)   V2  succeeded  "),
        "{shown}"
    );
    assert!(lines[16].ends_with("Z  upgraded"), "{shown}");
    let one = shell.text("device show d0 --limit 1").await;
    assert_eq!(one.lines().count(), lines.len() - 1);
    let json = shell
        .run("device show d0 --format json")
        .await
        .unwrap()
        .json();
    assert_eq!(json["device"]["endpoint"], "d0");
    assert_eq!(json["upgrades"]["items"][1]["state"], "succeeded");
    assert_eq!(json["upgrades"]["more"], false);
    let nobody = shell.error("device show nobody").await;
    assert!(nobody.contains("there is no device \"nobody\""), "{nobody}");
}

#[tokio::test]
async fn attributes_are_given_changed_and_shown() {
    let shell = Shell::new().await;
    let list = shell.file(
        "list.csv",
        b"endpoint,site,tag.Owner\nd0,\"Lyon, north\",acme\nd1,,\n",
    );
    let options = "--model M7 --time-zone europe/paris --tag batch=7";
    let added = shell
        .text(&format!("device add d2 --file {list} {options}"))
        .await;
    assert_eq!(added, "3 added, 0 there already, 0 refused\n");
    let shown = shell.text("device show d0").await;
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines[3..8],
        [
            "model         M7",
            "site          Lyon, north",
            "time zone     Europe/Paris",
            "tag           Owner=acme",
            "tag           batch=7",
        ]
    );
    let again = shell.text("device add d1 d2 --site Metz --model M7").await;
    assert_eq!(
        again,
        "0 added, 2 there already and changed, 0 there already, 0 refused\n"
    );
    let changed = shell
        .text("device set d0 d1 --hardware r2 --model= --tag Owner=x=y --remove-tag batch")
        .await;
    assert_eq!(changed, "2 devices changed\n");
    let json = shell
        .run("device show d1 --format json")
        .await
        .unwrap()
        .json();
    let device = &json["device"];
    assert_eq!(device["hardware"], "r2");
    assert!(device["model"].is_null() && device["site"] == "Metz");
    assert_eq!(device["tags"], serde_json::json!({"Owner": "x=y"}));
    shell.text("device set d0 --gateway-limit 2").await;
    let shown = shell.text("device show d0").await;
    assert!(
        shown.contains("gateway for   2 upgrades at once\n"),
        "{shown}"
    );
    shell.text("device set d0 --gateway-limit=").await;
    let shown = shell.text("device show d0").await;
    assert!(!shown.contains("gateway for"), "{shown}");
    for (line, expected) in [
        ("device set d0", "nothing is to be changed"),
        (
            "device set d0 --tag a=1 --remove-tag a",
            "tag a is to be set and",
        ),
        ("device set d0 --time-zone Bonn", "A field is not valid"),
        ("device set nobody --site x", "Not found"),
    ] {
        let error = shell.error(line).await;
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn a_list_is_sent_in_parts_that_the_server_takes() {
    let shell = Shell::new().await;
    let wide = "x".repeat(200);
    let mut text = "endpoint,site,tag.a,tag.b\n".to_owned();
    for i in 0..12_000 {
        use std::fmt::Write as _;
        writeln!(text, "d{i:05},s,{wide},{wide}").unwrap();
    }
    let list = shell.file("list.csv", text.as_bytes());
    let added = shell.text(&format!("device add --file {list}")).await;
    assert_eq!(added, "12000 added, 0 there already, 0 refused\n");
}

#[tokio::test]
async fn devices_are_excluded_and_let_in_again() {
    let shell = Shell::new().await;
    let package = shell.file("fw.bin", &[7; 1_000]);
    shell
        .text(&format!("package upload {package} --version V2"))
        .await;
    shell.text("device add d0 d1").await;
    let list = shell.file("list.csv", b"d1\nlater\n");
    let excluded = shell
        .text(&format!("exclusion add d1 --file {list} --reason loan"))
        .await;
    assert_eq!(excluded, "2 excluded, 0 excluded already\n");
    let listed = shell.text("exclusion list").await;
    let lines: Vec<&str> = listed.lines().collect();
    assert!(
        lines[1].starts_with("d1 ") && lines[1].ends_with("  loan"),
        "{listed}"
    );
    let created = shell.text("task create --package 1 --all").await;
    assert_eq!(
        created,
        "task 1 created, running: 1 device to V2\n\
         1 device is left out: excluded from upgrades (cellwise exclusion list)\n"
    );
    let shown = shell.text("device show d1").await;
    assert!(
        shown.contains("excluded      from upgrades: loan"),
        "{shown}"
    );
    let removed = shell.text("exclusion remove d1").await;
    assert_eq!(removed, "device d1 is excluded no more\n");
    let error = shell.error("exclusion remove d1").await;
    assert!(error.contains("device \"d1\" is not excluded"), "{error}");
}

#[tokio::test]
async fn devices_are_listed_and_counted_by_a_filter() {
    let shell = Shell::new().await;
    shell.text("device add a1 a2 --product meter").await;
    shell.text("device add b count --product valve").await;
    let listed = shell
        .text("device list --filter endpoint==a*;product==meter")
        .await;
    let names: Vec<&str> = (listed.lines().skip(1))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(names, ["a1", "a2"]);
    assert_eq!(shell.text("device count").await, "4 devices\n");
    let count = shell
        .text("device count --filter product!=meter --prefix b")
        .await;
    assert_eq!(count, "1 device\n");
    let json = shell
        .run("device count --filter cell==1 --format json")
        .await
        .unwrap();
    assert_eq!(json.json()["count"], 0);
    let faulty = shell.error("device count --filter colour==red").await;
    assert!(
        faulty.contains("at character 1: a field is expected"),
        "{faulty}"
    );
    assert!(shell.text("device show count").await.contains("valve"));
    assert_eq!(
        shell.text("device remove count").await,
        "device count removed\n"
    );
}
