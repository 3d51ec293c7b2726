use super::Shell;

#[tokio::test]
async fn the_log_is_listed_exported_and_verified() {
    let shell = Shell::new().await;
    for name in ["a", "b", "c"] {
        shell
            .text(&format!("device add {name} --product meter"))
            .await;
    }
    let listed = shell.text("audit list --operation add_device").await;
    let rows: Vec<Vec<&str>> = (listed.lines().skip(1))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 3);
    let told: Vec<&str> = rows[0]
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != 1)
        .map(|(_, it)| *it)
        .collect();
    assert_eq!(
        told,
        ["3", "admin-token", "add_device", "devices/c", "done", "-"]
    );
    let none = shell.text("audit list --target devices/x").await;
    assert_eq!(none.lines().count(), 1);

    let said = shell.text("audit verify").await;
    assert!(
        said.starts_with("3 rows verified, 1 to 3; the last has the hash "),
        "{said}"
    );
    let head = shell.text("audit head").await;
    let key = serde_json::from_str::<serde_json::Value>(&head).unwrap()["head"]["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let head = shell.file("head.json", head.as_bytes());
    shell.text("device add d --product meter").await;
    let export = shell.text("audit export").await;
    assert_eq!(export.lines().count(), 4);
    let good = shell.file("audit.jsonl", export.as_bytes());
    let verify = format!("audit verify --checkpoint {head} --key {key} --file");
    let said = shell.text(&format!("{verify} {good}")).await;
    assert!(said.starts_with("4 rows verified, 1 to 4"), "{said}");
    shell
        .text(&format!("audit verify --checkpoint {head} --key {key}"))
        .await;

    let lines: Vec<&str> = export.lines().collect();
    let altered = export.replacen("devices/b", "devices/x", 1);
    let short = lines[..2].join("\n");
    let gap = [lines[0], lines[2], lines[3]].join("\n");
    let swapped = [lines[1], lines[0], lines[2], lines[3]].join("\n");
    for (name, text, problem) in [
        ("altered", altered, "row 2 was altered"),
        ("short", short, "row 3 is missing"),
        ("gap", gap, "row 2 is missing"),
        ("swapped", swapped, "row 3 is missing"),
        ("none", "hello".to_owned(), "line 1 is no row"),
    ] {
        let file = shell.file(name, text.as_bytes());
        let error = shell.error(&format!("{verify} {file}")).await;
        assert!(error.contains(problem), "{name}: {error}");
    }
    let other = "00".repeat(32);
    let error = shell
        .error(&format!(
            "audit verify --checkpoint {head} --key {other} --file {good}"
        ))
        .await;
    assert!(error.contains("another key"), "{error}");
    let error = shell.error(&format!("audit verify --key {other}")).await;
    assert!(error.contains("another key"), "{error}");
    let part = shell.text("audit export --after 2").await;
    let part = shell.file("part.jsonl", part.as_bytes());
    let said = shell.text(&format!("audit verify --file {part}")).await;
    assert!(said.starts_with("2 rows verified, 3 to 4"), "{said}");
    // a head that could not be compared is none that agrees
    let rest = shell.text("audit export --after 3").await;
    let rest = shell.file("rest.jsonl", rest.as_bytes());
    shell.text(&format!("{verify} {part}")).await;
    let error = shell.error(&format!("{verify} {rest}")).await;
    assert!(error.contains("row 3, of which a checkpoint"), "{error}");
}

/// Somebody who can write the database alters a row.
#[tokio::test]
async fn an_altered_database_is_noticed() {
    use sqlx::{ConnectOptions as _, Executor as _};
    let shell = Shell::new().await;
    for name in ["a", "b", "c"] {
        shell
            .text(&format!("device add {name} --product meter"))
            .await;
    }
    let file = shell.dir.path().join("cellwise.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let mut conn = options.connect().await.unwrap();
    for (statement, undo, problem) in [
        (
            "UPDATE audit SET row = replace(row, 'devices/b', 'devices/x') WHERE number = 2",
            "UPDATE audit SET row = replace(row, 'devices/x', 'devices/b') WHERE number = 2",
            "row 2 was altered",
        ),
        (
            "UPDATE audit SET number = 9 WHERE number = 2",
            "UPDATE audit SET number = 2 WHERE number = 9",
            "row 2 is missing",
        ),
        (
            "UPDATE audit_head SET number = 4",
            "UPDATE audit_head SET number = 3",
            "row 4 is missing",
        ),
    ] {
        conn.execute(statement).await.unwrap();
        let error = shell.error("audit verify").await;
        assert!(error.contains(problem), "{statement}: {error}");
        conn.execute(undo).await.unwrap();
        shell.text("audit verify").await;
    }
    conn.execute("DELETE FROM audit WHERE number = 3")
        .await
        .unwrap();
    let error = shell.error("audit verify").await;
    assert!(error.contains("row 3 is missing"), "{error}");
}
