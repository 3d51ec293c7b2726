//! Cells, sites and gateways.

use super::*;

#[tokio::test]
async fn the_rules_of_a_cell_are_asked_back_and_changed() {
    let pages = pages().await;
    let anna = pages.log_in("anna").await;
    let form = anna.get("/cells/7/edit").await;
    let etag = form.value_of("etag").replace("&#34;", "\"");
    assert_eq!(etag, "\"0\"");
    let busy = [
        ("busy_days", "mon tue"),
        ("busy_from", "17:00"),
        ("busy_to", "20:00"),
        ("busy_zone", "Europe/Paris"),
        ("busy_limit", "1"),
    ];
    let none = [
        ("busy_days", ""),
        ("busy_from", ""),
        ("busy_to", ""),
        ("busy_zone", "UTC"),
        ("busy_limit", ""),
    ];
    let mut fields = vec![
        ("etag", &*etag),
        ("limit", "3"),
        ("adaptive", "no"),
        ("note", "mast \"7\""),
    ];
    fields.extend(none);
    fields.extend(busy);
    let shown = anna.post("/cells/7/edit", &fields).await;
    assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
    assert!(
        shown.says("At most 3 devices") && shown.says("0 devices upgrade in it now"),
        "{}",
        shown.text
    );
    assert_eq!(shown.text.matches("name=\"busy_from\"").count(), 2);
    assert_eq!(shown.value_of("note"), "mast &#34;7&#34;");
    fields.push(("sure", "1"));
    done(&anna, "/cells/7/edit", &fields, "/cells/7").await;
    let cell = pages.api(Method::GET, "/v1/cells/7", None).await;
    assert_eq!(
        (&cell["limit"], &cell["adaptive"]),
        (&json!(3), &json!(false))
    );
    assert_eq!(cell["busy_hours"][0]["days"], json!(["mon", "tue"]));
    // once more, of what is old
    let shown = anna.post("/cells/7/edit", &fields).await;
    assert_eq!(shown.status, StatusCode::PRECONDITION_FAILED, "{shown:?}");
    assert!(
        shown.says("value=\"mon tue\"") && shown.says("value=\"17:00\""),
        "{}",
        shown.text
    );
    refused(
        &anna,
        "/cells/7/edit",
        &[("limit", "many"), ("note", "kept")],
        "value=\"kept\"",
    )
    .await;
    refused(
        &anna,
        "/cells/7/edit",
        &[("busy_from", "17:00"), ("busy_limit", "x")],
        "value=\"17:00\"",
    )
    .await;
    refused(
        &anna,
        "/cells/7/edit",
        &[("limit", "5000"), ("sure", "1")],
        "value=\"5000\"",
    )
    .await;

    refused(
        &anna,
        "/cells/7/close",
        &[("reason", ""), ("until", "")],
        "name=\"reason\"",
    )
    .await;
    refused(
        &anna,
        "/cells/7/close",
        &[("reason", "mast"), ("until", "soon")],
        "value=\"mast\"",
    )
    .await;
    done(
        &anna,
        "/cells/7/close",
        &[("reason", "mast works"), ("until", "2099-03-01T02:00")],
        "/cells/7",
    )
    .await;
    let cell = pages.api(Method::GET, "/v1/cells/7", None).await;
    assert_eq!(cell["closed"]["until"], "2099-03-01T02:00:00.000Z");
    let shown = anna.get("/cells/7").await;
    let map = anna.get("/cells").await;
    assert!(map.says("Closed: mast works"), "{}", map.text);
    assert!(anna.get("/cells?by=limit").await.says("class=\"heat-3\""));
    assert!(anna.get("/cells?by=closed").await.says("cells/7\""));
    assert!(
        shown.says("mast works") && shown.says("closed by the operator"),
        "{}",
        shown.text
    );
    done(&anna, "/cells/7/open", &[], "/cells/7").await;
    assert_eq!(
        pages.api(Method::GET, "/v1/cells/7", None).await["closed"],
        Value::Null
    );
}

#[tokio::test]
async fn outages_and_lists_of_rules_are_taken() {
    let pages = pages().await;
    let anna = pages.log_in("anna").await;
    refused(
        &anna,
        "/cells/outage",
        &[("cells", "1 x"), ("reason", "r")],
        "1 x",
    )
    .await;
    let fields = [
        ("cells", "1, 2\n3 2 03"),
        ("reason", "storm"),
        ("until", ""),
    ];
    let shown = anna.post("/cells/outage", &fields).await;
    assert!(
        shown.says("Tell that 3 cells are out of order?"),
        "{}",
        shown.text
    );
    let mut sure = fields.to_vec();
    sure.push(("sure", "1"));
    done(&anna, "/cells/outage", &sure, "/cells").await;
    let cell = pages.api(Method::GET, "/v1/cells/2", None).await;
    assert_eq!(
        (&cell["limited_by"], &cell["closed"]["reason"]),
        (&json!("outage"), &json!("storm"))
    );
    let over = [("cells", "1 2 3"), ("over", "1"), ("sure", "1")];
    done(&anna, "/cells/outage", &over, "/cells").await;
    assert_eq!(
        pages.api(Method::GET, "/v1/cells/2", None).await["closed"],
        Value::Null
    );

    let csrf = anna.csrf().await;
    let shown = anna
        .post_file("/cells/import", &[("csrf", &csrf)], "cell,limit\n9,4\n")
        .await;
    assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
    assert!(shown.says("The row is taken."), "{shown:?}");
    assert_eq!(
        pages.api(Method::GET, "/v1/cells/9", None).await["limit"],
        4
    );
    let shown = anna
        .post_file("/cells/import", &[("csrf", &csrf)], "cell,limit\n9,x\n")
        .await;
    assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(shown.says("line 2"), "{}", shown.text);
    let vera = pages.log_in("vera").await;
    assert_eq!(
        vera.post("/cells/outage", &sure).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        vera.post("/cells/9/open", &[]).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn the_limit_of_a_site_is_set_changed_and_cleared() {
    let pages = pages().await;
    let anna = pages.log_in("anna").await;
    refused(
        &anna,
        "/sites/limit",
        &[("site", ""), ("limit", "3")],
        "value=\"3\"",
    )
    .await;
    refused(
        &anna,
        "/sites/limit",
        &[("site", "a/\"b"), ("limit", "x")],
        "value=\"a/&#34;b\"",
    )
    .await;
    let shown = anna
        .post("/sites/limit", &[("site", "a/\"b"), ("limit", "3")])
        .await;
    assert!(
        shown.says("3 of its devices may upgrade at once"),
        "{}",
        shown.text
    );
    let sure = [
        ("site", "a/\"b"),
        ("limit", "3"),
        ("note", "n"),
        ("sure", "1"),
    ];
    done(&anna, "/sites/limit", &sure, "/sites/one?site=a%2F%22b").await;
    // one that is there is not replaced by a new one
    let another = [("site", "a/\"b"), ("limit", "9"), ("sure", "1")];
    let shown = anna.post("/sites/limit", &another).await;
    assert_eq!(shown.status, StatusCode::PRECONDITION_FAILED, "{shown:?}");
    assert!(shown.says("value=\"9\""), "{shown:?}");
    let form = anna.get("/sites/limit?site=a%2F%22b").await;
    assert_eq!(
        (form.value_of("site"), form.value_of("note")),
        ("a/&#34;b".into(), "n".into())
    );
    let late = [
        ("site", "a/\"b"),
        ("limit", "4"),
        ("etag", "\"99\""),
        ("sure", "1"),
    ];
    let shown = anna.post("/sites/limit", &late).await;
    assert_eq!(shown.status, StatusCode::PRECONDITION_FAILED, "{shown:?}");
    done(&anna, "/sites/clear", &[("site", "a/\"b")], "/sites").await;
    assert!(anna.get("/sites").await.says("No site has a limit."));
}

#[tokio::test]
async fn gateways_are_known_by_their_devices() {
    let pages = pages().await;
    filled(&pages).await;
    let vera = pages.log_in("vera").await;
    let shown = vera.get("/gateways").await;
    assert!(
        shown.says("/console/gateways/gate\"") && shown.says("one device behind gateways"),
        "{}",
        shown.text
    );
    let shown = vera.get("/gateways/gate").await;
    assert!(
        shown.says(">behind</a>") && shown.says("As its product says"),
        "{}",
        shown.text
    );
    assert!(
        vera.get("/devices/behind")
            .await
            .says("/console/gateways/gate\"")
    );
}
