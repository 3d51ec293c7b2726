//! The commands against a server in the same process, over a real socket.

mod audit;
mod connection;
mod devices;
mod groups;
mod homes;
mod lists;
mod products;
mod signed;
mod tasks;
mod tokens;

use std::{path::Path, process::ExitCode};

use clap::Parser;
use serde_json::Value;
use tempfile::TempDir;

use super::{AdminCommand, CommandError};
use crate::{
    api::{
        self, ApiState,
        tests::{TOKEN, state},
    },
    ledger::{Change, Outcome, Success, TaskId, UpgradeId},
};

#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Line {
    #[command(subcommand)]
    command: AdminCommand,
}

/// A server, and a shell beside it.
struct Shell {
    url: String,
    state: ApiState,
    dir: TempDir,
}

struct Done {
    code: ExitCode,
    text: String,
}

impl Done {
    fn json(&self) -> Value {
        serde_json::from_str(self.text.lines().last().unwrap()).unwrap()
    }
}

impl Shell {
    async fn new() -> Self {
        Self::with(|_, _| ()).await
    }

    /// With something else in the server's state than usual, given its directory.
    async fn with(change: impl FnOnce(&mut ApiState, &Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut state = state(dir.path(), |_| ()).await;
        change(&mut state, dir.path());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = api::router(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, state, dir }
    }

    async fn run(&self, line: &str) -> Result<Done, CommandError> {
        self.run_with(line, &["--token", TOKEN]).await
    }

    async fn run_with(&self, line: &str, more: &[&str]) -> Result<Done, CommandError> {
        let mut words = vec!["cellwise"];
        words.extend(line.split(' '));
        words.extend(["--api", &self.url]);
        words.extend(more);
        let line = Line::try_parse_from(words).unwrap();
        tokio::task::spawn_blocking(move || {
            let mut out = Vec::new();
            let code = line.command.run(&mut out)?;
            let text = String::from_utf8(out).unwrap();
            Ok(Done { code, text })
        })
        .await
        .unwrap()
    }

    async fn text(&self, line: &str) -> String {
        self.run(line).await.unwrap().text
    }

    async fn error(&self, line: &str) -> String {
        let Err(error) = self.run(line).await else {
            panic!("{line} succeeded");
        };
        let text = error.to_string();
        assert!(!text.contains('\n'), "one line: {text}");
        text
    }

    /// Makes a package file, and gives its path.
    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn succeed(&self, upgrade: i64) {
        let outcome = Change::Ended {
            upgrade: UpgradeId(upgrade),
            task: TaskId(1),
            attempt: 1,
            outcome: Outcome::Succeeded(Success::Upgraded),
            facts: Box::default(),
            retry_at: None,
            at: self.state.clock.now().utc,
        };
        self.state
            .store
            .commit(crate::store::conformance::next_batch(), &[outcome])
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_package_for_a_component_is_told_from_others() {
    let shell = Shell::new().await;
    let file = shell.file("fw.bin", &[7; 1_000]);
    let upload = format!("package upload {file} --version V2 --product meter");
    shell.text(&upload).await;
    let uploaded = shell.text(&format!("{upload} --component modem")).await;
    assert!(
        uploaded.starts_with("package 2 uploaded: meter V2 for modem, 1000 bytes not over PCP\n"),
        "{uploaded}"
    );
    let listed = shell.text("package list").await;
    let line: Vec<&str> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        line[..6],
        ["2", "meter", "V2", "modem", "1000", "-"],
        "{listed}"
    );
    let shown = shell.text("package show 2").await;
    assert!(shown.contains("\ncomponent     modem\n"), "{shown}");
    shell.text("device add d0 --product meter").await;
    let unclear = shell.error("task create --version V2 --all").await;
    assert!(
        unclear.contains("--package 2 (meter, modem)") && unclear.contains("--package 1 (meter)"),
        "{unclear}"
    );
}

#[tokio::test]
async fn a_package_is_uploaded_and_listed() {
    let shell = Shell::new().await;
    let file = shell.file("fw.bin", &vec![7; 61_440]);
    let upload = format!("package upload {file} --version V2 --product meter");
    assert_eq!(
        shell.text(&upload).await,
        "package 1 uploaded: meter V2, 61440 bytes in 123 segments of 500\n"
    );
    assert!(
        shell
            .text(&upload)
            .await
            .starts_with("package 1 was there already")
    );
    let json = shell.run(&format!("{upload} --format json")).await.unwrap();
    assert_eq!(json.json()["size_bytes"], 61_440);
    let list = shell.text("package list").await;
    assert!(
        list.lines().nth(1).unwrap().starts_with("1   meter"),
        "{list}"
    );
    let other_cut = shell.error(&format!("{upload} --segment-size 100")).await;
    assert!(
        other_cut.starts_with("Devices cannot tell the package from an earlier one: version V2")
            && other_cut.contains("another segment size (500 bytes)")
            && other_cut.ends_with("upload it under another version (HTTP 409)"),
        "{other_cut}"
    );
    let empty = shell.file("empty.bin", b"");
    let empty = shell
        .error(&format!("package upload {empty} --version V3"))
        .await;
    assert!(
        empty.starts_with("The file cannot be a package: the file is empty"),
        "{empty}"
    );
    let refused = format!("package upload {file} --version 12345678901234567");
    let refused = shell.error(&refused).await;
    assert!(
        refused.contains("at most 16 characters") && refused.ends_with("(HTTP 422)"),
        "{refused}"
    );
    let missing = shell
        .error("package upload /nowhere/fw.bin --version V2")
        .await;
    assert!(
        missing.starts_with("cannot read /nowhere/fw.bin"),
        "{missing}"
    );
}

#[tokio::test]
async fn a_large_refused_upload_shows_the_reason() {
    let shell = Shell::new().await;
    let file = shell.file("fw.bin", &vec![7; 40_000_000]);
    let refused = shell
        .error(&format!("package upload {file} --version V2"))
        .await;
    assert!(
        refused.ends_with("(admin.max_package_bytes) (HTTP 413)"),
        "{refused}"
    );
}

#[tokio::test]
async fn devices_are_added_by_name_and_by_list() {
    let shell = Shell::new().await;
    assert_eq!(
        shell.text("device add urn:imei:1 urn:imei:2").await,
        "2 added, 0 there already, 0 refused\n"
    );
    let list = shell.file("list.txt", b"# meters\nurn:imei:2\n\n  urn:imei:3 \n");
    let done = shell
        .run(&format!("device add --file {list} --product meter"))
        .await
        .unwrap();
    assert_eq!(done.text, "1 added, 0 there already, 1 refused\n");
    assert_eq!(done.code, ExitCode::from(1));
    let json = shell
        .run("device list --format json --prefix urn:imei:3")
        .await
        .unwrap();
    assert_eq!(json.json()["items"][0]["product"], "meter");
    assert_eq!(json.json()["more"], false);
    let list = shell.text("device list --limit 2 --registered false").await;
    assert_eq!(list.lines().count(), 3, "{list}");
    let bad = shell.error("device add a/b").await;
    assert!(
        bad.contains("devices[0].endpoint: '/' is not possible"),
        "{bad}"
    );
}

#[tokio::test]
async fn a_list_of_devices_may_hold_their_keys() {
    let shell = Shell::new().await;
    let list = shell.file(
        "keys.csv",
        b"urn:imei:4, of, four ,000102030405060708090a0b0c0d0e0f\nurn:imei:5\n",
    );
    assert_eq!(
        shell.text(&format!("device add --file {list}")).await,
        "2 added, 0 there already, 0 refused\n"
    );
    let devices = shell
        .text("device list --format json --prefix urn:imei:")
        .await;
    assert!(
        devices.contains("of, four") && !devices.contains("0001020304"),
        "{devices}"
    );
    let list = shell.file(
        "keys.csv",
        b"urn:imei:6\nurn:imei:7,0f0e0d0c0b0a09080706050403020100\n",
    );
    let error = shell.error(&format!("device add --file {list}")).await;
    assert!(
        error.contains("line 2") && !error.contains("0f0e"),
        "{error}"
    );
}

#[tokio::test]
async fn a_task_is_created_watched_and_stopped() {
    let shell = Shell::new().await;
    let file = shell.file("fw.bin", &[7; 1_000]);
    shell
        .text(&format!("package upload {file} --version V2"))
        .await;
    shell.text("device add a b").await;
    let created = shell.text("task create --version V2 --all").await;
    assert_eq!(created, "task 1 created, running: 2 devices to V2\n");
    let shown = shell.text("task show 1").await;
    assert!(
        shown.contains("task 1 (default V2), running: 2 devices"),
        "{shown}"
    );
    assert!(shown.contains("\n2 pending\n"), "{shown}");
    assert!(shown.contains("UPGRADE  ENDPOINT  STATE"), "{shown}");
    let list = shell.text("task list").await;
    assert!(list.contains("default V2  running  2"), "{list}");
    shell.succeed(1).await;
    let watch = async {
        let done = shell.run("task show 1 --watch").await.unwrap();
        assert_eq!(done.code, ExitCode::SUCCESS);
        assert!(
            done.text.contains("running: 1 pending, 1 succeeded\n"),
            "{}",
            done.text
        );
        assert!(
            done.text.contains("finished: 2 succeeded\n"),
            "{}",
            done.text
        );
    };
    let end = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        shell.succeed(2).await;
    };
    tokio::join!(watch, end);
    let explained = shell.text("upgrade show 1").await;
    assert!(
        explained.starts_with("upgrade 1 of a (task 1), succeeded: "),
        "{explained}"
    );
    assert!(explained.contains("STAGE"), "{explained}");
    let failed = shell.text("task show 1 --state failed").await;
    assert!(!failed.contains("\n1 "), "{failed}");
    let second =
        "task create --package 1 --devices a,b --name again --retry-attempts 2 --format json";
    let second = shell.run(second).await.unwrap().json();
    assert_eq!(second["retry"]["interval_seconds"], 300);
    assert_eq!(
        shell.text("task stop 2").await,
        "task 2 is stopped: 2 cancelled\n"
    );
    let watched = shell
        .run("task show 2 --watch --format json")
        .await
        .unwrap();
    assert_eq!(watched.code, ExitCode::from(1));
    assert_eq!(watched.json()["state"], "stopped");
    let finished = shell.error("task stop 1").await;
    assert!(
        finished.starts_with("The task has finished: task 1"),
        "{finished}"
    );
}

#[tokio::test]
async fn of_a_large_task_some_of_each_state_are_explained() {
    let shell = Shell::new().await;
    let file = shell.file("fw.bin", &[7; 1_000]);
    shell
        .text(&format!("package upload {file} --version V2"))
        .await;
    let names: Vec<String> = (0..30).map(|i| format!("d{i:02}")).collect();
    shell.text(&format!("device add {}", names.join(" "))).await;
    shell.text("task create --version V2 --all").await;
    let shown = shell.text("task show 1").await;
    assert!(shown.contains("\n30 pending\n"), "{shown}");
    assert_eq!(shown.matches("it is about to begin").count(), 3, "{shown}");
    let more = "and 27 more pending: cellwise task show 1 --state pending --limit 30\n";
    assert!(shown.ends_with(more), "{shown}");
    let all = shell.text("task show 1 --state pending --limit 30").await;
    assert_eq!(all.matches("it is about to begin").count(), 30, "{all}");
    assert!(!all.contains("more"), "{all}");
    shell.succeed(1).await;
    shell.text("task stop 1").await;
    let list = shell.text("task list").await;
    assert!(list.contains("CANCELLED"), "{list}");
    let counts: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert!(
        counts.windows(4).any(|w| w == ["1", "0", "29", "0"]),
        "{list}"
    );
}

#[tokio::test]
async fn one_upgrade_is_cancelled() {
    let shell = Shell::new().await;
    let file = shell.file("fw.bin", &[7; 1_000]);
    shell
        .text(&format!("package upload {file} --version V2"))
        .await;
    shell.text("device add d0 d1").await;
    shell.text("task create --package 1 --all").await;
    for _ in 0..2 {
        assert_eq!(
            shell.text("upgrade cancel 1").await,
            "upgrade 1 of d0 cancelled\n"
        );
    }
    let shown = shell.text("upgrade show 1").await;
    assert!(
        shown.starts_with(
            "upgrade 1 of d0 (task 1), cancelled: the upgrade was cancelled by the operator\n"
        ),
        "{shown}"
    );
    shell.succeed(2).await;
    assert_eq!(
        shell.text("upgrade retry 1").await,
        "upgrade 1 of d0 waits to be tried again\n"
    );
    assert_eq!(
        shell.text("upgrade skip 1").await,
        "upgrade 1 of d0 is passed over\n"
    );
    let ended = shell.error("upgrade cancel 2").await;
    assert!(
        ended.contains("upgrade 2 has succeeded; there is nothing to cancel"),
        "{ended}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_confirms_at_once_or_for_a_time_or_refuses() {
    let shell = Shell::new().await;
    let file = shell.file("fw.bin", &[7; 1_000]);
    shell
        .text(&format!("package upload {file} --version V2"))
        .await;
    shell.text("device add d0 d1 d2").await;
    let rules = shell.file("rules.toml", b"confirmation = \"device_owner\"\n");
    let create = format!("task create --package 1 --all --rules {rules}");
    shell.text(&create).await;
    let at = "2999-03-01T02:00:00Z";
    let far = shell.error(&format!("upgrade confirm 1 --at {at}")).await;
    assert!(far.contains("is too late: it is possible from"), "{far}");
    for (what, answer) in [
        ("1 --by anna", "1 of d0 is confirmed"),
        ("2 --refuse", "2 of d1 is refused, and cancelled"),
        ("3 --take-back", "3 of d2 waits for its owner to confirm it"),
    ] {
        let told = shell.text(&format!("upgrade confirm {what}")).await;
        assert_eq!(told, format!("upgrade {answer}\n"));
    }
}

#[tokio::test]
async fn devices_and_packages_are_removed() {
    let shell = Shell::new().await;
    let file = shell.file("fw.bin", &[7; 1_000]);
    shell
        .text(&format!("package upload {file} --version V2"))
        .await;
    shell.text("device add urn:imei:1 a*b").await;
    assert_eq!(
        shell.text("device remove urn:imei:1 a*b").await,
        "device urn:imei:1 removed\ndevice a*b removed\n"
    );
    let gone = shell.error("device remove a*b").await;
    assert!(gone.contains("a*b"), "{gone}");
    assert_eq!(shell.text("package delete 1").await, "package 1 deleted\n");
    let gone = shell.error("package delete 1").await;
    assert!(gone.ends_with("(HTTP 404)"), "{gone}");
}

#[tokio::test]
async fn a_version_has_to_name_one_package() {
    let shell = Shell::new().await;
    let none = shell.error("task create --version V2 --all").await;
    assert!(none.contains("there is no package of version V2"), "{none}");
    let file = shell.file("fw.bin", &[7; 1_000]);
    for product in ["p", "q"] {
        shell
            .text(&format!(
                "package upload {file} --version V2 --product {product}"
            ))
            .await;
        shell
            .text(&format!("device add {product}1 --product {product}"))
            .await;
    }
    let two = shell.error("task create --version V2 --all").await;
    assert!(two.contains("--package 2 (q) or --package 1 (p)"), "{two}");
    let one = shell.text("task create --version V2 --product q").await;
    assert!(one.contains("1 device to V2"), "{one}");
}

#[tokio::test]
async fn a_missing_server_or_token_is_told_clearly() {
    let shell = Shell::new().await;
    let file = shell.file("token", format!("{TOKEN}\n").as_bytes());
    let by_file = shell.run_with("task list", &["--token-file", &file]).await;
    assert!(by_file.is_ok());
    let error = async |more: &[&str]| match shell.run_with("task list", more).await {
        Ok(_) => panic!("it succeeded"),
        Err(error) => error.to_string(),
    };
    let wrong = error(&["--token", "wrong"]).await;
    assert!(
        wrong.starts_with("The token is missing or wrong"),
        "{wrong}"
    );
    let nowhere = Path::new("/nowhere/admin.token").to_str().unwrap();
    let missing = error(&["--token-file", nowhere]).await;
    assert!(
        missing.contains("/nowhere/admin.token") && missing.contains("--token-file"),
        "{missing}"
    );
    let line = [
        "cellwise",
        "task",
        "list",
        "--api",
        "http://127.0.0.1:1",
        "--token",
        TOKEN,
    ];
    let line = Line::try_parse_from(line).unwrap();
    let refused = tokio::task::spawn_blocking(move || line.command.run(&mut Vec::new()))
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        refused.to_string().contains("does the server run"),
        "{refused}"
    );
}

#[test]
fn the_commands_fit_together() {
    <Line as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn arguments_that_exclude_each_other_are_refused() {
    for line in [
        "task create --version V2",
        "task create --version V2 --package 1 --all",
        "task create --version V2 --all --product p",
        "task create --version V2 --devices d1 --joining",
        "task show",
        "task show x",
        "device add",
        "package upload fw.bin",
        "package list --limit 0",
    ] {
        let words = std::iter::once("cellwise").chain(line.split(' '));
        assert!(Line::try_parse_from(words).is_err(), "{line}");
    }
}

#[tokio::test]
async fn a_webhook_is_added_listed_replayed_and_removed() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let shell = Shell::new().await;
    let url = "https://93.184.216.34/hook";
    let added = shell.text(&format!("webhook add {url}")).await;
    let (first, secret) = added.split_once('\n').unwrap();
    assert_eq!(first, "webhook 1 added for all tasks");
    assert!(secret.contains(": whsec_"), "{secret}");
    let refused = shell.error("webhook add http://127.0.0.1/").await;
    assert!(refused.contains("is not a public address"), "{refused}");

    let file = shell.file("fw.bin", &[7; 1_200]);
    shell
        .text(&format!("package upload {file} --version V2"))
        .await;
    shell.text("device add d0").await;
    let create = format!("task create --package 1 --all --webhook {url} --webhook-secret {SECRET}");
    shell.text(&create).await;
    shell.text("task stop 1").await;
    let list = shell.text("webhook list").await;
    let rows: Vec<Vec<&str>> = list
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(rows[1], ["1", "all", "tasks", "2", "0", url]);
    assert_eq!(rows[2], ["2", "task", "1", "2", "0", url]);
    let deliveries = shell.text("webhook deliveries 2 --state pending").await;
    assert!(deliveries.contains("upgrade.cancelled"), "{deliveries}");
    assert!(deliveries.contains("task.stopped"), "{deliveries}");
    let failed = shell
        .run("webhook deliveries 2 --state failed --format json")
        .await
        .unwrap();
    assert_eq!(failed.json()["items"], serde_json::json!([]));
    assert_eq!(
        shell.text("webhook replay 2").await,
        "0 deliveries are tried again\n"
    );
    let one = shell.text("webhook replay 2 --delivery 4").await;
    assert_eq!(one, "1 delivery is tried again\n");
    assert_eq!(shell.text("webhook remove 2").await, "webhook 2 removed\n");
    let gone = shell.error("webhook remove 2").await;
    assert!(gone.contains("there is no webhook 2"), "{gone}");
}
