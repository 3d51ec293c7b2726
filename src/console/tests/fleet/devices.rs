//! Devices, groups and exclusions.

use std::fmt::Write as _;

use super::*;

#[tokio::test]
async fn a_device_is_added_changed_excluded_and_removed() {
    let pages = pages().await;
    let anna = pages.log_in("anna").await;
    let wrong = [
        ("endpoint", "a b"),
        ("model", "M\"7"),
        ("key", "secret-key"),
        ("tags", ""),
    ];
    refused(&anna, "/devices/new", &wrong, "value=\"M&#34;7\"").await;
    let shown = anna.post("/devices/new", &wrong).await;
    assert!(!shown.says("secret-key"), "{shown:?}");
    let wrong = [("endpoint", "a"), ("tags", "no sign")];
    refused(&anna, "/devices/new", &wrong, "no sign").await;
    let right = [
        ("endpoint", "m1"),
        ("product", "meter"),
        ("tags", "owner=acme\nb = c=d"),
    ];
    done(&anna, "/devices/new", &right, "/devices/m1").await;
    let device = pages.api(Method::GET, "/v1/devices/m1", None).await;
    assert_eq!(device["tags"], json!({"owner": "acme", "b": "c=d"}));
    let mqtt = [
        ("endpoint", "m2"),
        ("protocol", "iotda"),
        ("credential", "secret"),
        ("key", "a-long-secret"),
    ];
    done(&anna, "/devices/new", &mqtt, "/devices/m2").await;
    let device = pages.api(Method::GET, "/v1/devices/m2", None).await;
    assert_eq!(device["mqtt"]["credential"], "secret");

    let form = anna.get("/devices/m1/edit").await;
    let etag = form.value_of("etag").replace("&#34;", "\"");
    let change = [
        ("etag", &*etag),
        ("product", "meter"),
        ("model", "M7"),
        ("tags", "owner=zenith"),
        ("secure", "1"),
        ("key", "00112233445566778899"),
    ];
    let late = [
        ("etag", "\"99\""),
        ("product", "meter"),
        ("model", "other"),
        ("tags", ""),
    ];
    let shown = anna.post("/devices/m1/edit", &late).await;
    assert_eq!(shown.status, StatusCode::PRECONDITION_FAILED, "{shown:?}");
    assert!(
        shown.says("value=\"other\"") && shown.says("value=\"&#34;99&#34;\""),
        "{}",
        shown.text
    );
    done(&anna, "/devices/m1/edit", &change, "/devices/m1").await;
    let device = pages.api(Method::GET, "/v1/devices/m1", None).await;
    assert_eq!(
        (&device["model"], &device["tags"]),
        (&json!("M7"), &json!({"owner": "zenith"}))
    );
    assert_eq!(
        (&device["psk_identity"], &device["secure"]),
        (&json!("m1"), &json!(true))
    );
    // another identity has another key
    for (field, value) in [("identity", "m2"), ("no_key", "1")] {
        let key = if field == "no_key" { "0011" } else { "" };
        let wrong = [
            ("product", "meter"),
            ("model", "kept"),
            ("key", key),
            (field, value),
        ];
        refused(&anna, "/devices/m1/edit", &wrong, "value=\"kept\"").await;
    }
    // what is emptied goes
    let etag = anna
        .get("/devices/m1/edit")
        .await
        .value_of("etag")
        .replace("&#34;", "\"");
    let change = [("etag", &*etag), ("product", "meter"), ("no_key", "1")];
    done(&anna, "/devices/m1/edit", &change, "/devices/m1").await;
    let device = pages.api(Method::GET, "/v1/devices/m1", None).await;
    assert_eq!(
        (&device["model"], &device["tags"], &device["psk_identity"]),
        (&Value::Null, &json!({}), &Value::Null)
    );
    let wrong = [("product", "meter"), ("gateway_limit", "many")];
    refused(&anna, "/devices/m1/edit", &wrong, "gateway_limit").await;

    refused(
        &anna,
        "/devices/m1/exclude",
        &[("reason", "")],
        "name=\"reason\"",
    )
    .await;
    done(
        &anna,
        "/devices/m1/exclude",
        &[("reason", "on loan")],
        "/devices/m1",
    )
    .await;
    let shown = anna.get("/devices/m1").await;
    assert!(
        shown.says("It is excluded from upgrades: on loan"),
        "{}",
        shown.text
    );
    done(&anna, "/devices/m1/end-exclusion", &[], "/devices/m1").await;
    assert!(
        anna.get("/devices/m1")
            .await
            .says("No task has it, and it was never heard.")
    );
    done(&anna, "/devices/m1/remove", &[], "/devices").await;
    assert_eq!(anna.get("/devices/m1").await.status, StatusCode::NOT_FOUND);
    let vera = pages.log_in("vera").await;
    for (path, fields) in [
        ("/devices/new", &right[..]),
        ("/devices/m2/remove", &[][..]),
        ("/devices/m2/edit", &[][..]),
    ] {
        let shown = vera.post(path, fields).await;
        assert_eq!(shown.status, StatusCode::FORBIDDEN, "{path}: {shown:?}");
    }
}

#[tokio::test]
async fn the_list_shows_whom_a_filter_lets_through_and_what_is_wrong_with_it() {
    let pages = pages().await;
    filled(&pages).await;
    let vera = pages.log_in("vera").await;
    let shown = vera.get("/devices?filter=product%3D%3Dmeter").await;
    assert!(
        shown.says("4 devices") && shown.says(">meter-0<") && !shown.says(">gate<"),
        "{}",
        shown.text
    );
    // a device that is called as a page is
    assert!(shown.says("/console/devices/%6eew\""), "{}", shown.text);
    assert!(vera.get("/devices/%6eew").await.says("<h1>new</h1>"));
    let shown = vera.get("/devices?filter=product%3Dmeter%22").await;
    assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        shown.says("at character 8") && shown.says("product=meter&#34;"),
        "{}",
        shown.text
    );
    assert_eq!(
        vera.get("/devices?group=99").await.status,
        StatusCode::NOT_FOUND
    );
    let shown = vera.get("/devices?group=2&columns=site").await;
    assert!(
        shown.says("One device") && shown.says(">meter-1<"),
        "{}",
        shown.text
    );
    assert!(!shown.says(">Last heard</th>"), "{}", shown.text);
    // the filters that are kept
    assert!(shown.says("?filter=product%3D%3Dmeter\""), "{}", shown.text);
}

#[tokio::test]
async fn a_list_is_read_by_pages_and_exported_whole() {
    let pages = pages().await;
    let devices: Vec<Value> = (0..620)
        .map(|i| json!({"endpoint": format!("m{i:04}"), "product": "meter", "site": if i == 0 { "=1+1" } else { "a,b" }}))
        .collect();
    pages
        .api(
            Method::POST,
            "/v1/devices",
            Some(&json!({"devices": devices})),
        )
        .await;
    let vera = pages.log_in("vera").await;
    let first = vera.get("/devices?columns=site&count=1").await;
    assert!(first.says("620 devices") && first.says(">m0049<") && !first.says(">m0050<"));
    let (_, next) = first.text.split_once("rel=\"next\"").unwrap();
    assert!(next.contains("id=\"next-page\""));
    let (before, _) = first.text.split_once("\" rel=\"next\"").unwrap();
    let next = before
        .rsplit_once("href=\"/console")
        .unwrap()
        .1
        .replace("&#38;", "&");
    let second = vera.get(&next).await;
    assert!(
        second.says(">m0050<") && second.says("id=\"first-page\"") && !second.says(">Cell</th>")
    );
    let file = vera
        .get("/devices/export?columns=site&columns=product")
        .await;
    assert_eq!(file.headers["content-type"], "text/csv; charset=utf-8");
    let lines: Vec<&str> = file.text.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 621);
    assert_eq!(
        lines[..3],
        [
            "endpoint,product,site",
            "m0000,meter,'=1+1",
            "m0001,meter,\"a,b\""
        ]
    );
    assert_eq!(lines[620], "m0619,meter,\"a,b\"");
    let file = vera.get("/devices/export?filter=endpoint%3D%3Dm061*").await;
    assert_eq!(file.text.split_terminator("\r\n").count(), 11);
    let shown = vera.get("/devices/export?filter=x").await;
    assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_filter_is_completed_with_what_the_fleet_has() {
    let pages = pages().await;
    filled(&pages).await;
    let vera = pages.log_in("vera").await;
    let texts = async |text: &str| -> Vec<String> {
        let at = text.encode_utf16().count();
        let text = crate::console::fields::encode(text);
        let shown = vera
            .get(&format!("/devices/complete?text={text}&at={at}"))
            .await;
        assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
        let found: Vec<Value> = serde_json::from_str(&shown.text).unwrap();
        found
            .iter()
            .map(|it| it["text"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(texts("product==").await, ["box", "meter"]);
    assert_eq!(texts("product==m").await, ["meter"]);
    assert_eq!(texts("tag.").await, ["tag.owner"]);
    assert_eq!(
        texts("site==").await,
        ["'<script>alert(\\'\"&𝄞\\')</script>'"]
    );
    assert_eq!(texts("endpoint==meter-").await.len(), 3);
    assert_eq!(texts("via==").await, ["gate"]);
    assert_eq!(texts("product==meter ").await, ["and ", "or "]);
    assert_eq!(texts("product=meter ").await.len(), 0);
    for query in [
        "",
        "?text=a",
        "?text=%FF&at=-1",
        "?at=18446744073709551615&text=site%3D%3D%27%2A",
    ] {
        let shown = vera.get(&format!("/devices/complete{query}")).await;
        assert_eq!(shown.status, StatusCode::OK, "{query}: {shown:?}");
    }
}

#[tokio::test]
async fn a_list_of_devices_is_passed_on() {
    let pages = pages().await;
    let anna = pages.log_in("anna").await;
    let mut file = "endpoint,product,site\n".to_owned();
    for i in 0..30_000 {
        writeln!(file, "m{i},meter,north").unwrap();
    }
    file.push_str("a b,meter,<b>\n");
    let csrf = anna.csrf().await;
    let shown = anna
        .post_file("/devices/import", &[("csrf", &csrf)], &file)
        .await;
    assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
    assert!(
        shown.says("<dd>30,001</dd>") && shown.says("<dd>30,000</dd>"),
        "{}",
        shown.text
    );
    assert!(shown.says("30002") && !shown.says("<b>"), "{}", shown.text);
    let count = pages.api(Method::GET, "/v1/devices/count", None).await;
    assert_eq!(count["count"], 30_000);
    let shown = anna.post_file("/devices/import", &[], &file).await;
    assert_eq!(shown.status, StatusCode::FORBIDDEN, "{shown:?}");
    let shown = anna
        .post_file("/devices/import", &[("csrf", &csrf)], "nothing\n")
        .await;
    assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY, "{shown:?}");
    let long = "x".repeat(2 << 20);
    let shown = anna
        .post_file("/devices/import", &[("csrf", &long)], &file)
        .await;
    assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY, "{shown:?}");
}

#[tokio::test]
async fn groups_and_exclusions_come_and_go() {
    let pages = pages().await;
    filled(&pages).await;
    let anna = pages.log_in("anna").await;
    refused(
        &anna,
        "/groups/new",
        &[("name", "a"), ("filter", "x\"")],
        "value=\"x&#34;\"",
    )
    .await;
    done(
        &anna,
        "/groups/new",
        &[("name", "a"), ("devices", "meter-0\r\nmeter-1")],
        "/groups/3",
    )
    .await;
    let etag = anna
        .get("/groups/3/edit")
        .await
        .value_of("etag")
        .replace("&#34;", "\"");
    let change = [
        ("etag", &*etag),
        ("name", "b"),
        ("add", "meter-2"),
        ("remove", "meter-0 meter-1"),
    ];
    done(&anna, "/groups/3/edit", &change, "/groups/3").await;
    let shown = anna.post("/groups/3/edit", &change).await;
    assert_eq!(shown.status, StatusCode::PRECONDITION_FAILED);
    assert!(shown.says(">meter-2</textarea>"), "{}", shown.text);
    let group = pages.api(Method::GET, "/v1/groups/3", None).await;
    assert_eq!(
        (&group["name"], &group["members"]),
        (&json!("b"), &json!(1))
    );
    done(
        &anna,
        "/groups/1/edit",
        &[("name", "c"), ("filter", "product==box")],
        "/groups/1",
    )
    .await;
    done(&anna, "/groups/3/remove", &[], "/groups").await;

    // many are asked back
    let fields = [("endpoints", "meter-0, meter-1\nother"), ("reason", "<b>")];
    let shown = anna.post("/exclusions/new", &fields).await;
    assert_eq!(shown.status, StatusCode::OK);
    assert!(
        shown.says("Exclude 3 devices from upgrades?") && shown.says("&#60;b&#62;"),
        "{}",
        shown.text
    );
    assert_eq!(shown.value_of("endpoints"), "meter-0 meter-1 other");
    let sure = [
        ("endpoints", "meter-0 meter-1 other"),
        ("reason", "lab"),
        ("sure", "1"),
    ];
    done(&anna, "/exclusions/new", &sure, "/exclusions").await;
    let shown = anna.get("/exclusions").await;
    assert!(shown.says("lab") && shown.says("other"), "{}", shown.text);
    refused(
        &anna,
        "/exclusions/new",
        &[("endpoints", "a/b"), ("reason", "x"), ("sure", "1")],
        "a/b",
    )
    .await;
    done(
        &anna,
        "/exclusions/end",
        &[("endpoint", "other")],
        "/exclusions",
    )
    .await;
    assert!(!anna.get("/exclusions").await.says("other"));
}

#[tokio::test]
async fn a_device_is_found_by_its_bare_name() {
    let pages = pages().await;
    filled(&pages).await;
    let anna = pages.log_in("anna").await;
    let shown = anna.get("/devices?filter=%20meter-1%20").await;
    assert_eq!(shown.status, StatusCode::OK);
    assert!(
        shown.says(">meter-1</a>") && !shown.says(">meter-0</a>"),
        "{shown:?}"
    );
    assert!(shown.says("value=\"endpoint==meter-1*\""));
}
