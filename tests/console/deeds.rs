//! What is done with forms, by hand: each is filled in, sent, answered for where it is asked back, and then done.

use std::{fs, time::Duration};

use cellwise::clock::SystemClock;
use serde_json::{Value, json};

use crate::{
    browser::{Browser, DESKTOP, PASSWORD, SOON, TELEPHONE},
    fleet::{Site, add_user},
};

/// A form: its page, the end of the address that it goes to (empty: the page's own), and what is entered.
type Deed<'d> = (&'d str, &'d str, &'d [(&'d str, &'d str)]);

/// Fills a form in and sends it, answers the question if there is one, and waits until it is done.
async fn carry_out(browser: &Browser, (path, to, fields): Deed<'_>) {
    browser.go(path).await;
    let form = match to {
        "" => "main form[method=post]".to_owned(),
        to => format!("main form[method=post][action$='{to}']"),
    };
    for (name, value) in fields {
        let field = browser.wait_for(&format!("{form} [name='{name}']")).await;
        match (field.tag_name().await.unwrap().as_str(), *value) {
            ("select", value) => field.select_by_value(value).await.unwrap(),
            (_, "on") => field.click().await.unwrap(),
            ("input", _) if field.attr("type").await.unwrap().as_deref() == Some("file") => {
                field.send_keys(value).await.unwrap();
            }
            (_, value) => {
                field.clear().await.unwrap();
                field.send_keys(value).await.unwrap();
            }
        }
    }
    browser.click(&format!("{form} .actions button")).await;
    settle(browser, path).await;
}

/// Waits for the sentence that something was done. A question is answered once.
async fn settle(browser: &Browser, path: &str) {
    let clock = SystemClock::start();
    let began = clock.now().instant;
    let mut answered = false;
    loop {
        if browser.has("main .notice").await {
            break;
        }
        if !answered && browser.has("main form [name='sure']").await {
            answered = true;
            browser.click("main form .actions button").await;
        }
        let shown = browser.shown().await;
        let refused = browser.has("#problem").await;
        let waited = clock.now().instant.since(began);
        assert!(!refused && waited < SOON, "{path}: {shown}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sends what a page asks back.
async fn confirm(browser: &Browser, path: &str) {
    carry_out(browser, (path, "", &[])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn groups_exclusions_sites_cells_and_devices_are_kept() {
    let site = Site::new(2, &[]).await;
    let anna = Browser::logged_in(&site.server, DESKTOP, "anna").await;
    let get = |path: &str| site.server.api.get(path);
    carry_out(
        &anna,
        (
            "/groups/new",
            "",
            &[("name", "North"), ("filter", "site==north")],
        ),
    )
    .await;
    carry_out(&anna, ("/groups/1/edit", "", &[("name", "The north")])).await;
    assert_eq!(get("/v1/groups/1").1["name"], "The north");
    confirm(&anna, "/groups/1/remove").await;
    assert_eq!(get("/v1/groups/1").0, 404);
    let lent = [("endpoints", "meter-000001"), ("reason", "on loan")];
    carry_out(&anna, ("/exclusions/new", "", &lent)).await;
    assert_eq!(get("/v1/exclusions/meter-000001").1["reason"], "on loan");
    confirm(&anna, "/exclusions/end?endpoint=meter-000001").await;
    assert_eq!(get("/v1/exclusions/meter-000001").0, 404);
    let limit = [("site", "depot"), ("limit", "4")];
    carry_out(&anna, ("/sites/limit", "", &limit)).await;
    assert_eq!(get("/v1/sites/depot").1["limit"], 4);
    confirm(&anna, "/sites/clear?site=depot").await;
    let rules = [("limit", "3"), ("note", "mast on the hill")];
    carry_out(&anna, ("/cells/77/edit", "", &rules)).await;
    assert_eq!(get("/v1/cells/77").1["limit"], 3);
    carry_out(&anna, ("/cells/77/close", "", &[("reason", "mast works")])).await;
    assert_eq!(get("/v1/cells/77").1["closed"]["reason"], "mast works");
    anna.go("/now").await;
    anna.wait_for_text("Cell 77 is closed", SOON).await;
    confirm(&anna, "/cells/77/open").await;
    assert_eq!(get("/v1/cells/77").1["closed"], Value::Null);
    let outage = [("cells", "78 79"), ("reason", "power cut")];
    carry_out(&anna, ("/cells/outage", "", &outage)).await;
    assert_eq!(get("/v1/cells/79").1["limited_by"], "outage");
    let device = [("endpoint", "urn:imei:7"), ("product", "meter")];
    carry_out(&anna, ("/devices/new", "", &device)).await;
    carry_out(
        &anna,
        ("/devices/urn:imei:7/edit", "", &[("site", "depot")]),
    )
    .await;
    assert_eq!(get("/v1/devices/urn:imei:7").1["site"], "depot");
    let lent = [("reason", "in the lab")];
    carry_out(&anna, ("/devices/urn:imei:7/exclude", "", &lent)).await;
    confirm(&anna, "/devices/urn:imei:7/end-exclusion").await;
    confirm(&anna, "/devices/urn:imei:7/remove").await;
    assert_eq!(get("/v1/devices/urn:imei:7").0, 404);
    assert_eq!(anna.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn packages_products_homes_and_offers_are_kept() {
    let site = Site::new(1, &[]).await;
    let anna = Browser::logged_in(&site.server, DESKTOP, "anna").await;
    let get = |path: &str| site.server.api.get(path);
    carry_out(&anna, ("/products/+new", "", &[("product", "lock")])).await;
    carry_out(
        &anna,
        ("/products/lock/change", "", &[("signatures", "required")]),
    )
    .await;
    confirm(&anna, "/products/lock/remove").await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("meter.bin");
    fs::write(&file, vec![7; 300_000]).unwrap();
    let file = file.to_str().unwrap();
    let package = [("product", "meter"), ("version", "V3.0"), ("file", file)];
    carry_out(&anna, ("/packages/new", "", &package)).await;
    assert_eq!(anna.path().await.split('?').next(), Some("/packages/2"));
    assert_eq!(get("/v1/packages/2").1["size_bytes"], 300_000);
    let notes = [("release_notes", "Saves power.")];
    carry_out(&anna, ("/packages/2/papers", "", &notes)).await;
    assert_eq!(get("/v1/packages/2").1["release_notes"], "Saves power.");
    confirm(&anna, "/packages/2/delete").await;
    assert_eq!(get("/v1/packages/2").0, 404);
    let home = [("home", "elm-7"), ("name", "Elm Street 7")];
    carry_out(&anna, ("/homes/+new", "", &home)).await;
    let member = [("user", "mia"), ("role", "owner")];
    carry_out(&anna, ("/homes/elm-7", "/members", &member)).await;
    let device = [("endpoint", "meter-000000"), ("name", "Cellar")];
    carry_out(&anna, ("/homes/elm-7", "/devices", &device)).await;
    carry_out(
        &anna,
        ("/homes/elm-7/change", "", &[("name", "Elm Street")]),
    )
    .await;
    let home = get("/v1/homes/elm-7").1;
    assert_eq!((&home["members"], &home["devices"]), (&json!(1), &json!(1)));
    let package = site.package.to_string();
    let offer = [
        ("package_id", &*package),
        ("name", "Spring"),
        ("description.en", "Saves power."),
    ];
    carry_out(&anna, ("/offers/new", "", &offer)).await;
    carry_out(&anna, ("/offers/1/change", "", &[("percent", "50")])).await;
    confirm(&anna, "/offers/1/withdraw").await;
    confirm(&anna, "/homes/elm-7/members/mia/remove").await;
    confirm(&anna, "/homes/elm-7/devices/meter-000000/remove").await;
    confirm(&anna, "/homes/elm-7/delete").await;
    assert_eq!(get("/v1/homes/elm-7").0, 404);
    assert_eq!(anna.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn users_tokens_tenants_webhooks_and_the_own_account_are_kept() {
    let site = Site::new(0, &[]).await;
    let anna = Browser::logged_in(&site.server, DESKTOP, "anna").await;
    let get = |path: &str| site.server.api.get(path);
    let user = [("name", "bert"), ("password", PASSWORD), ("role", "viewer")];
    carry_out(&anna, ("/people/new", "", &user)).await;
    confirm(&anna, "/people/users/bert/disable").await;
    assert_eq!(get("/v1/users/bert").1["disabled"], true);
    confirm(&anna, "/people/users/bert/enable").await;
    // the link lets bert in, once
    anna.go("/people/users/bert/login-link").await;
    anna.click("main form .actions button").await;
    let link = anna.wait_for("main pre").await.text().await.unwrap();
    let bert = Browser::open(&site.server, TELEPHONE).await;
    let (_, link) = link.split_once("/console").unwrap();
    for first in [true, false] {
        bert.go(link).await;
        bert.click("form.stack button").await;
        let expected = if first { "header.top" } else { "#problem" };
        bert.wait_for(expected).await;
    }
    confirm(&anna, "/people/users/bert/remove").await;
    assert_eq!(get("/v1/users/bert").0, 404);
    anna.go("/people/tokens/new").await;
    anna.fill("input[name=name]", "import").await;
    anna.choose("select[name=role]", "viewer").await;
    anna.click("main form .actions button").await;
    let token = anna.wait_for("#token").await.text().await.unwrap();
    assert!(token.len() > 20);
    confirm(&anna, "/people/tokens/1/revoke").await;
    carry_out(&anna, ("/people/tenants/+new", "", &[("id", "acme")])).await;
    carry_out(&anna, ("/people/tenants/acme", "", &[("name", "Acme")])).await;
    confirm(&anna, "/people/tenants/acme/delete").await;
    anna.go("/webhooks/new").await;
    anna.fill("input[name=url]", "https://hooks.invalid/cellwise")
        .await;
    anna.click("main form .actions button").await;
    anna.wait_for("main pre").await;
    confirm(&anna, "/webhooks/1/remove").await;
    assert_eq!(get("/v1/webhooks/1").0, 404);
    carry_out(&anna, ("/account", "/shown", &[("language", "zh-Hans")])).await;
    anna.wait_for_text("当前", SOON).await;
    let word = "another horse battery";
    let passwords = [("old_password", PASSWORD), ("password", word)];
    anna.go("/account").await;
    for (name, value) in passwords {
        anna.fill(
            &format!("form[action$='/account/password'] [name={name}]"),
            value,
        )
        .await;
    }
    anna.click("form[action$='/account/password'] .actions button")
        .await;
    anna.wait_for("input[name=name]").await; // all sessions have ended
    assert_eq!(anna.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn tasks_and_upgrades_are_steered() {
    let site = Site::new(0, &[]).await;
    let api = &site.server.api;
    let devices: Vec<_> = (1..=6)
        .map(|number| json!({"endpoint": format!("urn:imei:{number}"), "product": "meter"}))
        .collect();
    assert!(api.post("/v1/devices", &json!({"devices": devices})).0 < 300);
    let task = json!({"package_id": site.package, "all": true, "name": "Spring",
        "phases": [{"count": 2, "then": "wait"}, {"percent": 100}]});
    assert_eq!(api.post("/v1/tasks", &task).0, 201);
    add_user(&site.server, "paul", &["viewer", "approver"]);
    let anna = Browser::logged_in(&site.server, DESKTOP, "anna").await;
    let get = |path: &str| site.server.api.get(path).1;
    anna.go("/tasks/1/change").await;
    anna.fill("input[name=priority]", "7").await;
    anna.click("main form .actions button.primary").await;
    anna.wait_for_text("7", SOON).await;
    anna.click("main form .actions button.primary").await;
    anna.wait_for("main .notice").await;
    assert_eq!(get("/v1/tasks/1")["priority"], 7);
    let upgrades = get("/v1/tasks/1/upgrades")["items"].clone();
    let ids: Vec<i64> = upgrades
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].as_i64().unwrap())
        .collect();
    confirm(&anna, &format!("/upgrades/{}/cancel", ids[0])).await;
    confirm(&anna, &format!("/upgrades/{}/skip", ids[1])).await;
    confirm(&anna, "/tasks/1/next-phase").await;
    assert_eq!(get("/v1/tasks/1")["phase"], 2);
    carry_out(&anna, ("/tasks/1/copy", "", &[("name", "Spring again")])).await;
    assert_eq!(get("/v1/tasks/2")["name"], "Spring again");
    for task in [1, 2] {
        confirm(&anna, &format!("/tasks/{task}/stop")).await;
    }
    let ended = |task: i64| {
        ["stopped", "finished"]
            .contains(&get(&format!("/v1/tasks/{task}"))["state"].as_str().unwrap())
    };
    crate::support::wait_for(SOON, "the end of both tasks", || {
        (ended(1) && ended(2)).then_some(())
    });
    confirm(&anna, "/tasks/2/delete").await;
    assert_eq!(site.server.api.get("/v1/tasks/2").0, 404);
    // what waits for approval is refused by somebody else
    let task = json!({"package_id": site.package, "all": true, "name": "Autumn", "approval": true});
    assert_eq!(api.post("/v1/tasks", &task).0, 201);
    let paul = Browser::logged_in(&site.server, TELEPHONE, "paul").await;
    let why = [("note", "not before the holidays")];
    carry_out(&paul, ("/tasks/3/refuse", "", &why)).await;
    assert_eq!(get("/v1/tasks/3")["state"], "stopped");
    // all of them as a file
    let script = "const done = arguments[arguments.length - 1];
        fetch(arguments[0]).then(answer => answer.text()).then(done, error => done(String(error)))";
    let address = format!("{}/tasks/1/upgrades.csv", anna.base());
    let file = anna
        .client
        .execute_async(script, vec![address.into()])
        .await
        .unwrap();
    assert_eq!(file.as_str().unwrap().lines().count(), 7, "{file}");
    assert_eq!(anna.complaints().await, Vec::<String>::new());
}
