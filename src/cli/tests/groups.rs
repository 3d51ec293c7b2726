use super::Shell;

#[tokio::test]
async fn groups_are_added_shown_used_and_removed() {
    let shell = Shell::new().await;
    let all: Vec<String> = (0..10_001).map(|i| format!("d{i:05}")).collect();
    let list = shell.file("list.csv", all.join("\n").as_bytes());
    shell
        .text(&format!("device add --product meter --file {list}"))
        .await;
    let added = shell
        .text(&format!("group add all --devices-file {list}"))
        .await;
    assert_eq!(added, "group 1 added: 10001 devices\n");
    let added = shell.text("group add few --filter endpoint==d0000*").await;
    assert_eq!(added, "group 2 added: 10 devices\n");
    let added = shell.text("group add two --devices d00001,d00002").await;
    assert_eq!(added, "group 3 added: 2 devices\n");
    let listed = shell.text("group list").await;
    let rows: Vec<Vec<&str>> = (listed.lines().skip(1))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows,
        [
            vec!["3", "two", "2", "-"],
            vec!["2", "few", "-", "endpoint==d0000*"],
            vec!["1", "all", "10001", "-"]
        ]
    );
    let shown = shell.text("group show 2").await;
    assert!(
        shown.starts_with("group 2 (few): 10 devices\nendpoint==d0000*, added "),
        "{shown}"
    );
    let listed = shell.text("device list --group 3").await;
    assert_eq!(listed.lines().count(), 3);
    assert_eq!(
        shell.text("device count --group 1").await,
        "10001 devices\n"
    );
    let package = shell.file("v2.bin", &[7; 1_200]);
    shell
        .text(&format!(
            "package upload {package} --product meter --version V2"
        ))
        .await;
    for (who, devices) in [("--group 3", 2), ("--filter endpoint==d0000*", 10)] {
        let created = shell.text(&format!("task create --version V2 {who}")).await;
        assert!(
            created.contains(&format!(": {devices} devices to V2")),
            "{created}"
        );
    }
    let created = shell
        .text("task create --version V2 --all --exclude-devices d09999 --exclude-filter endpoint==d0000* --exclude-group 3")
        .await;
    assert!(created.contains(": 9990 devices to V2"), "{created}");
    assert!(
        created.contains("11 devices are left out, as this task wants\n"),
        "{created}"
    );
    let created = shell
        .text("task create --version V2 --filter site==nowhere --joining")
        .await;
    assert!(created.contains(", running: 0 devices to V2"), "{created}");
    let used = shell.error("group remove 3").await;
    assert!(used.contains("is used by task 1"), "{used}");
    let removed = shell.text("group remove 1 2").await;
    assert_eq!(removed, "group 1 removed\ngroup 2 removed\n");
    let neither = shell.error("device list --group 1").await;
    assert!(neither.contains("there is no group 1"), "{neither}");
}
