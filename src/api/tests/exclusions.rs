use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Api;

#[tokio::test]
async fn devices_are_excluded_listed_and_let_in_again() {
    let api = Api::new().await;
    api.post("/v1/devices", &json!({"endpoint": "a"})).await;
    let body = json!({"endpoints": ["a", "b", "c"], "reason": "on loan"});
    let answer = api.post("/v1/exclusions", &body).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body, json!({"added": 3, "unchanged": 0}));
    let first = api.get("/v1/exclusions?limit=2").await.body;
    let item = &first["items"][0];
    assert_eq!(
        (&item["endpoint"], &item["reason"]),
        (&json!("a"), &json!("on loan"))
    );
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = api
        .get(&format!("/v1/exclusions?cursor={cursor}"))
        .await
        .body;
    assert_eq!(rest["items"][0]["endpoint"], "c");
    assert_eq!(
        api.get("/v1/devices/a").await.body["exclusion_reason"],
        "on loan"
    );
    assert_eq!(
        api.delete("/v1/exclusions/a").await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        api.delete("/v1/exclusions/a").await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        api.get("/v1/devices/a").await.body["exclusion_reason"],
        Value::Null
    );
}

#[tokio::test]
async fn what_cannot_be_excluded_is_told() {
    let api = Api::new().await;
    let many: Vec<String> = (0..10_001).map(|i| format!("d{i}")).collect();
    for (body, fields) in [
        (json!({"endpoints": [], "reason": "x"}), vec!["endpoints"]),
        (json!({"endpoints": many, "reason": "x"}), vec!["endpoints"]),
        (
            json!({"endpoints": ["a", "a b"], "reason": ""}),
            vec!["endpoints[1]", "reason"],
        ),
        (
            json!({"endpoints": ["a"], "reason": "x".repeat(201)}),
            vec!["reason"],
        ),
        (
            json!({"endpoints": ["a"], "reason": "a\nb"}),
            vec!["reason"],
        ),
        (json!({"endpoints": ["a"]}), vec!["body"]),
    ] {
        assert_eq!(api.post("/v1/exclusions", &body).await.fields(), fields);
    }
    let most = json!({"endpoints": many[1..], "reason": "x"});
    assert_eq!(
        api.post("/v1/exclusions", &most).await.body["added"],
        10_000
    );
}

#[tokio::test]
async fn an_excluded_device_is_left_out_and_its_upgrade_says_why_it_waits() {
    let api = Api::new().await;
    let task = api.task(2).await;
    assert_eq!(task.body["excluded"], 0);
    let body = json!({"endpoints": ["d0"], "reason": "on loan"});
    api.post("/v1/exclusions", &body).await;
    let upgrade = api.get("/v1/upgrades/1").await.body;
    assert_eq!(
        upgrade["waiting_for"],
        "the device is excluded from upgrades (on loan)"
    );
    let package = &task.body["package_id"];
    let new = |devices: Value| json!({"name": "n", "package_id": package, "devices": devices});
    let second = api.post("/v1/tasks", &new(json!(["d0", "d1"]))).await.body;
    assert_eq!(
        (&second["total"], &second["excluded"]),
        (&json!(1), &json!(1))
    );
    let nobody = api.post("/v1/tasks", &new(json!(["d0"]))).await;
    assert_eq!(nobody.problem(), "no-devices");
    assert!(
        nobody
            .detail()
            .contains("all 1 that are selected are excluded"),
        "{nobody:?}"
    );
    api.delete("/v1/exclusions/d0").await;
    let upgrade = api.get("/v1/upgrades/1").await.body;
    assert_eq!(upgrade["waiting_for"], "it is about to begin");
}
