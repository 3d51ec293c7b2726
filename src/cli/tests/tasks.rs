use std::process::ExitCode;

use super::Shell;
use crate::ledger::{Change, Stage, StageChange, UpgradeId};

async fn with_package(shell: &Shell) {
    let file = shell.file("fw.bin", &[7; 1_000]);
    let upload = format!("package upload {file} --version V2 --product meter");
    shell.text(&upload).await;
}

/// Upgrade 1 downloads in a cell, and 2 waits there.
async fn fill_cell(shell: &Shell, cell: u32) {
    let at = shell.state.clock.now().utc;
    let entered = |upgrade, stage| Change::Stage {
        upgrade: UpgradeId(upgrade),
        attempt: 1,
        change: StageChange {
            stage,
            entered_at: at,
            deadline_at: at,
            queued_at: Some(at),
            slot_deadline_at: Some(at),
            cell: Some(cell),
            cell_limit: Some(1),
            confirmed: false,
            download_errors: 0,
        },
        line: Some(crate::ledger::Line::sentence("so")),
        at,
    };
    let changes = [
        entered(1, Stage::Downloading),
        entered(2, Stage::WaitingForSlot),
    ];
    shell
        .state
        .store
        .commit(crate::store::conformance::next_batch(), &changes)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_document_of_a_task_has_the_devices_that_were_asked_for() {
    let shell = Shell::new().await;
    with_package(&shell).await;
    shell.text("device add --product meter a b c").await;
    shell.text("task create --version V2 --all").await;
    shell.succeed(1).await;
    let shown = async |more: &str| {
        let line = format!("task show 1 --format json{more}");
        shell.run(&line).await.unwrap().json()
    };
    let plain = shown("").await;
    assert_eq!(
        (plain["total"].as_u64(), plain.get("upgrades")),
        (Some(3), None)
    );
    let waiting = shown(" --state pending --limit 1").await;
    assert_eq!(waiting["total"], 3);
    let upgrades = &waiting["upgrades"];
    assert_eq!(upgrades["items"].as_array().unwrap().len(), 1);
    assert_eq!(upgrades["items"][0]["endpoint"], "b");
    assert_eq!(upgrades["items"][0]["waiting_for"], "it is about to begin");
    assert_eq!(upgrades["more"], true);
    let ended = shown(" --state succeeded").await;
    assert_eq!(ended["upgrades"]["items"][0]["endpoint"], "a");
    assert_eq!(ended["upgrades"]["more"], false);
}

#[tokio::test]
async fn a_task_that_repeats_another_says_so() {
    let shell = Shell::new().await;
    with_package(&shell).await;
    shell.text("device add --product meter a b c").await;
    let first = shell.text("task create --version V2 --devices a,b").await;
    assert_eq!(first, "task 1 created, running: 2 devices to V2\n");
    let second = shell
        .text("task create --version V2 --all --name again")
        .await;
    assert_eq!(
        second,
        "task 2 created, running: 3 devices to V2\n\
         2 devices are to get this package by another task too: task 1 (meter V2) has 2\n"
    );
    let third = "task create --version V2 --devices c --format json";
    let third = shell.run(third).await.unwrap().json();
    assert_eq!(third["overlaps"]["tasks"][0]["name"], "again");
}

#[tokio::test]
async fn the_devices_of_a_task_may_stand_in_a_file() {
    let shell = Shell::new().await;
    with_package(&shell).await;
    shell.text("device add --product meter a b c").await;
    let file = shell.file("some.csv", "\u{feff}note,endpoint\nx,a\n,c\n".as_bytes());
    let created = shell
        .text(&format!("task create --version V2 --devices-file {file}"))
        .await;
    assert_eq!(created, "task 1 created, running: 2 devices to V2\n");
    let shown = shell.text("task show 1").await;
    assert!(shown.contains(" a ") && !shown.contains(" b "), "{shown}");
    let bad = shell.file("bad.csv", b"a\nb c\n");
    let bad = shell
        .error(&format!("task create --version V2 --devices-file {bad}"))
        .await;
    assert!(bad.starts_with("line 2 of the list: "), "{bad}");
    let empty = shell.file("empty.csv", b"endpoint\n");
    let empty = shell
        .error(&format!("task create --version V2 --devices-file {empty}"))
        .await;
    assert_eq!(empty, "the list is empty");
}

#[tokio::test]
async fn a_task_is_deleted_once_it_is_over() {
    let shell = Shell::new().await;
    with_package(&shell).await;
    shell.text("device add --product meter a").await;
    shell.text("task create --version V2 --all").await;
    let running = shell.error("task delete 1").await;
    assert!(running.starts_with("The task is running: "), "{running}");
    shell.text("task stop 1").await;
    assert_eq!(shell.text("task delete 1").await, "task 1 deleted\n");
    let gone = shell.error("task show 1").await;
    assert!(gone.ends_with("(HTTP 404)"), "{gone}");
}

#[tokio::test]
async fn what_happens_in_a_cell_is_listed_and_shown() {
    let shell = Shell::new().await;
    with_package(&shell).await;
    shell.text("device add --product meter a b c").await;
    shell.text("task create --version V2 --all").await;
    fill_cell(&shell, 1023).await;
    let list = shell.text("cell list").await;
    let row: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..3], ["1023", "1", "1"], "{list}");
    let shown = shell.text("cell show 1023").await;
    assert!(
        shown.starts_with("cell 1023: 1 device upgrading, 1 waiting\n"),
        "{shown}"
    );
    assert!(
        shown.contains("waiting for slot") && !shown.contains(" c "),
        "{shown}"
    );
    let json = shell
        .run("cell show 1023 --format json")
        .await
        .unwrap()
        .json();
    assert_eq!(json["cell"]["waiting"], 1);
    assert_eq!(json["upgrades"]["items"][0]["endpoint"], "b");
    let cells = shell.run("cell list --format json").await.unwrap().json();
    assert_eq!(cells["items"][0]["cell_id"], 1023);
    let nowhere = shell.error("cell show 7").await;
    assert!(nowhere.contains("in cell 7"), "{nowhere}");

    let of_cell = shell.text("upgrade list --cell 1023").await;
    let ids: Vec<&str> = (of_cell.lines().skip(1))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(ids, ["2", "1"]);
    let of_device = shell.text("upgrade list --device c").await;
    assert!(
        of_device.lines().nth(1).unwrap().starts_with("3        c "),
        "{of_device}"
    );
    let all = shell
        .run("upgrade list --format json --limit 2")
        .await
        .unwrap();
    assert_eq!(all.json()["items"][0]["id"], 3);
    assert_eq!(all.json()["more"], true);
    let waits = shell.text("upgrade show 2").await;
    assert!(
        waits.contains("1 device upgrades in cell 1023; this one's coverage allows 1"),
        "{waits}"
    );
}

#[tokio::test]
async fn an_upload_says_what_it_supersedes_and_an_unknown_product_what_is_like_it() {
    let shell = Shell::new().await;
    with_package(&shell).await;
    let file = shell.file("fw.bin", &[8; 1_000]);
    let upload = format!("package upload {file} --version V3 --product meter");
    let second = shell.text(&upload).await;
    let lines: Vec<&str> = second.lines().collect();
    assert!(
        lines[1].starts_with("the newest before it is version V2 (package 1, uploaded 20"),
        "{second}"
    );
    let file = shell.file("fw2.bin", &[9; 1_000]);
    let other = format!("package upload {file} --version V3 --product meter");
    let other = shell.text(&other).await;
    assert!(
        other.contains("it supersedes package 2 of the same version, uploaded 20"),
        "{other}"
    );
    let first = upload.replace("meter", "metre").replace("V3", "V4");
    let first = shell.text(&first).await;
    assert!(
        first.ends_with("it is the first of product metre; did you mean meter?\n"),
        "{first}"
    );
    shell.text("package delete 4").await;
    let typed = shell
        .error("task create --version V3 --product metre")
        .await;
    assert_eq!(
        typed,
        "no package is for product metre; did you mean meter?"
    );
    let strange = shell.error("task create --version V3 --product lamp").await;
    assert_eq!(strange, "no package is for product lamp");
}

#[tokio::test]
async fn a_webhook_is_pinged_and_what_it_says_is_told() {
    let shell = Shell::new().await;
    let url = "https://93.184.216.34/hook";
    shell.text(&format!("webhook add {url}")).await;
    let gone = shell.error("webhook ping 2").await;
    assert!(gone.contains("there is no webhook 2"), "{gone}");
    // where nobody may post to any more
    shell.text("webhook remove 1").await;
    let new = crate::store::NewWebhook {
        tenant: None,
        task: None,
        url: "http://127.0.0.1:1/".to_owned(),
        secret: vec![7; 32],
        vault: None,
        created_at: shell.state.clock.now().utc,
    };
    let id = shell.state.store.add_webhook(&new).await.unwrap().id.0;
    let pinged = shell.run(&format!("webhook ping {id}")).await.unwrap();
    assert_eq!(pinged.code, ExitCode::from(1));
    assert!(
        pinged
            .text
            .starts_with(&format!("webhook {id} has not accepted the ping: ")),
        "{}",
        pinged.text
    );
}

#[tokio::test]
async fn a_cell_is_limited_closed_and_opened() {
    let shell = Shell::new().await;
    let limited = shell.text("cell set 51 --limit 5 --note depot").await;
    let expected = "cell 51: at most 5 at once (own limit)\nnote: depot\n";
    assert_eq!(limited, expected);
    let close = "cell set 51 --closed-until further_notice --reason works";
    let closed = shell.text(close).await;
    assert!(
        closed.starts_with("cell 51: closed until further notice: works\n"),
        "{closed}"
    );
    let shown = shell.text("cell show 51").await;
    assert!(
        shown.contains("\nclosed until further notice: works\n"),
        "{shown}"
    );
    let open = shell.text("cell set 51 --open --no-limit --no-note").await;
    assert_eq!(open, "cell 51: as coverage allows\n");
    let refused = shell
        .error("cell set 51 --closed-until further_notice")
        .await;
    assert!(refused.contains("give a reason"), "{refused}");
    let rows = shell.file("cells.csv", b"cell,limit\n51,3\n52,4\n");
    let imported = shell.text(&format!("cell import {rows}")).await;
    assert_eq!(imported, "2 cells changed\n");
    let bad = shell.file("bad.csv", b"cell,limit\n51,3\n52,0\n");
    let bad = shell.error(&format!("cell import {bad}")).await;
    assert!(bad.contains("line 3, limit: 0 is out of range"), "{bad}");
}

#[tokio::test]
async fn a_task_is_run_as_its_file_of_rules_says_and_steered() {
    let shell = Shell::new().await;
    with_package(&shell).await;
    shell.text("device add --product meter a b c d").await;
    let rules = shell.file(
        "rules.toml",
        b"approval = true\n[[phases]]\ncount = 1\n[[abort]]\npercent = 50\n",
    );
    let created = shell
        .text(&format!("task create --version V2 --all --rules {rules}"))
        .await;
    assert!(
        created.contains("task 1 created, awaiting_approval: 4 devices"),
        "{created}"
    );
    let refused = shell.error("task resume 1").await;
    assert!(refused.contains("not approved"), "{refused}");
    let approved = shell.text("task approve 1 --by me --note good").await;
    let stand = "task 1 is running: phase 1 of 2 runs: 0 devices of 1 have a result\n";
    assert_eq!(approved, stand);
    let paused = shell.text("task pause 1 --note lunch").await;
    assert!(paused.contains("task 1 is paused: paused at"), "{paused}");
    assert!(paused.contains("(lunch)"), "{paused}");
    assert_eq!(shell.text("task resume 1").await, stand);
    let next = shell.text("task next-phase 1").await;
    assert_eq!(next, "task 1 is running: 0 upgrades run, 4 wait\n");
    let slower = shell.file(
        "slower.json",
        br#"{"rate": {"per_minute": 5}, "abort": null}"#,
    );
    shell.text(&format!("task set 1 --rules {slower}")).await;
    let task = shell.run("task show 1 --format json").await.unwrap().json();
    assert_eq!(task["rate"]["per_minute"], 5);
    assert_eq!(
        (&task["abort"], &task["revision"]),
        (&serde_json::json!([]), &2.into())
    );
    shell.text("task set 1 --priority 8 --weight 3").await;
    let task = shell.run("task show 1 --format json").await.unwrap().json();
    assert_eq!((&task["priority"], &task["weight"]), (&8.into(), &3.into()));
    assert_eq!(task["rate"]["per_minute"], 5, "it stays");
    shell
        .text("task set 1 --budget-bytes 5000000 --budget-airtime-s 900")
        .await;
    let task = shell.run("task show 1 --format json").await.unwrap().json();
    let budget = serde_json::json!({"bytes_per_month": 5_000_000, "airtime_estimated_seconds_per_month": 900});
    assert_eq!(task["budget"], budget);
    let shown = shell.text("task show 1").await;
    assert!(shown.contains("PHASE  STATE"), "{shown}");
    let retried = shell.text("task retry 1 --reason device_not_heard").await;
    assert!(retried.starts_with("0 upgrades tried again\n"), "{retried}");
    let stopped = shell.text("task stop 1 --soft").await;
    assert!(stopped.starts_with("task 1 is stopped"), "{stopped}");
    let several = shell.file(
        "several.toml",
        b"allow_downgrade = true\n[[packages]]\npackage_id = 1\n[packages.from]\nhardware = [\"B\"]\n",
    );
    let line = format!("task create --all --rules {several}");
    let created = shell.text(&line).await;
    assert!(created.starts_with("task 2 created"), "{created}");
    let task = shell.run("task show 2 --format json").await.unwrap().json();
    assert_eq!(
        task["packages"][0]["from"]["hardware"],
        serde_json::json!(["B"])
    );
    assert_eq!(
        (&task["name"], &task["allow_downgrade"]),
        (&"meter V2".into(), &true.into())
    );
    let both = shell.error(&format!("{line} --version V2")).await;
    assert!(both.contains("leave out --package and --version"), "{both}");
    let none = shell.error("task create --all").await;
    assert!(none.contains("give --package or --version"), "{none}");
    let line = "task create --version V2 --all --allow-downgrade --name back";
    shell.text(line).await;
    let task = shell.run("task show 3 --format json").await.unwrap().json();
    assert_eq!(task["allow_downgrade"], true);
    let wrong = shell.file("wrong.toml", b"fases = 1\n");
    let line = format!("task create --version V2 --all --rules {wrong}");
    let error = shell.error(&line).await;
    assert!(error.contains("has no \"fases\""), "{error}");
}

#[tokio::test]
async fn a_task_is_forecast_before_it_is_created_and_while_it_runs() {
    let shell = Shell::new().await;
    with_package(&shell).await;
    shell.text("device add --product meter a b c").await;
    let before = shell.run("forecast --version V2 --all").await.unwrap();
    let text = before.text;
    assert!(text.starts_with("3 devices: through at 2"), "{text}");
    assert!(text.contains("3 devices succeed"), "{text}");
    assert!(
        text.contains("  3 devices not heard yet, taken to come as the others do"),
        "{text}"
    );
    assert!(
        text.contains("CELL     DEVICES  SLEEPING  THROUGH P50"),
        "{text}"
    );
    let refused = shell.error("forecast --version V2 --devices nobody").await;
    assert!(
        refused.contains("1 of the devices are unknown"),
        "{refused}"
    );
    let watched = shell.error("forecast --version V2 --all --watch").await;
    assert!(watched.contains("leave --watch out"), "{watched}");
    shell.text("task create --version V2 --all").await;
    let running = shell
        .run("task forecast 1 --format json")
        .await
        .unwrap()
        .json();
    assert_eq!(
        (&running["task_id"], &running["state"]),
        (&1.into(), &"done".into())
    );
    assert_eq!(running["result"]["devices"], 3);
}
