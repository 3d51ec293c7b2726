use super::Shell;

#[tokio::test]
async fn homes_are_set_filled_and_deleted() {
    let shell = Shell::new().await;
    shell.text("device add d0 d1").await;
    let set = shell
        .text("home set h1 --name Castle --zone Europe/London --quiet 22:00-06:30")
        .await;
    assert_eq!(
        set,
        "home h1: Castle (Europe/London)\nquiet from 22:00 to 06:30\n"
    );
    let member = shell
        .text("home add-member h1 auth0|anna --role owner")
        .await;
    assert_eq!(member, "auth0|anna is owner of home h1\n");
    let device = shell.text("home add-device h1 d0 --name door").await;
    assert_eq!(device, "device d0 is in home h1\n");
    let shown = shell.text("home show h1").await;
    assert!(
        shown.ends_with("owner auth0|anna\ndevice d0 (door)\n"),
        "{shown}"
    );
    let file = shell.file("homes.json", br#"{"homes": [{"home": "h2", "name": "b", "things": [{"endpoint": "d0"}]}, {"home": "h3", "name": "c"}]}"#);
    let imported = shell.text(&format!("home import {file}")).await;
    assert!(
        imported.starts_with("homes: 1 added, 0 changed, 0 unchanged, 1 refused\nh2: "),
        "{imported}"
    );
    let list = shell.text("home list").await;
    let rows: Vec<&str> = list
        .lines()
        .skip(1)
        .map(|row| row.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(rows, ["h3", "h1"]);
    shell.text("home remove-device h1 d0").await;
    shell.text("home remove-member h1 auth0|anna").await;
    assert_eq!(shell.text("home delete h1").await, "home h1 deleted\n");
    assert!(shell.error("home show h1").await.contains("Not found"));
}

#[tokio::test]
async fn offers_are_published_and_withdrawn() {
    let shell = Shell::new().await;
    let package = shell.file("fw.bin", &[7; 1_200]);
    shell
        .text(&format!(
            "package upload {package} --version V2 --product meter"
        ))
        .await;
    let file = shell.file("offer.json", br#"{"terms": {"channel": 6, "kind": 0, "percent": 20, "texts": {"description": {"en": "new"}}},
        "task": {"name": "locks", "package_id": 1}}"#);
    let published = shell.text(&format!("offer publish {file}")).await;
    assert_eq!(
        published,
        "offer 1: meter V2 on channel 6, to 20 % of homes; task 1\n"
    );
    let staged = shell.file(
        "staged.json",
        br#"{"channel": 6, "kind": 0, "percent": 5, "stages": [{"from": "2027-03-08T00:00:00Z", "percent": 50}], "texts": {"description": {"en": "new"}}}"#,
    );
    let changed = shell.text(&format!("offer change 1 {staged}")).await;
    let told = "to 5 % of homes; task 1\nfrom 2027-03-08T00:00:00.000Z to 50 % of homes\n";
    assert!(changed.ends_with(told), "{changed}");
    let terms = shell.file(
        "terms.json",
        br#"{"channel": 6, "kind": 0, "texts": {"description": {"en": "new"}}}"#,
    );
    let changed = shell.text(&format!("offer change 1 {terms}")).await;
    assert!(changed.contains("to 100 % of homes"), "{changed}");
    assert_eq!(shell.text("offer withdraw 1").await, "offer 1 withdrawn\n");
    assert!(shell.text("offer show 1").await.contains("withdrawn at"));
    let row = shell.text("offer list").await;
    assert!(row.lines().nth(1).unwrap().starts_with('1'), "{row}");
}

#[tokio::test]
async fn what_is_kept_of_an_end_user_is_told_and_deleted() {
    let shell = Shell::new().await;
    let token = shell.text("app-user token anna --lifetime 60").await;
    assert!(token.contains("it is not shown again: cwu_"), "{token}");
    let export = shell.run("app-user export anna").await.unwrap().json();
    assert_eq!(export["tokens"].as_array().unwrap().len(), 1);
    let revoked = shell.text("app-user revoke anna").await;
    assert!(
        revoked.starts_with("no token of anna of before "),
        "{revoked}"
    );
    assert_eq!(
        shell.text("app-user delete anna").await,
        "nothing is kept of anna any more\n"
    );
}
