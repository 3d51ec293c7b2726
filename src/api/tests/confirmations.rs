//! Upgrades that the owners of devices confirm.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Api;

#[tokio::test]
async fn the_owner_of_a_device_confirms_its_upgrade_or_refuses_it() {
    let api = Api::new().await;
    api.task(2).await;
    let body = json!({"name": "ask", "package_id": 1, "all": true, "confirmation": "device_owner"});
    let task = api.post("/v1/tasks", &body).await;
    assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
    assert_eq!(task.body["confirmation"], "device_owner");
    let waits = api.get("/v1/upgrades/3").await.body;
    assert_eq!(waits["awaits_confirmation"], true);
    let why = "the owner of its device has not confirmed it";
    assert_eq!(waits["waiting_for"], why);
    let confirm =
        async |id: i64, body: &Value| api.post(&format!("/v1/upgrades/{id}/confirm"), body).await;
    let confirmed = confirm(3, &json!({"by": "flat 12"})).await;
    assert_eq!(confirmed.status, StatusCode::OK, "{confirmed:?}");
    assert_eq!(confirmed.body["awaits_confirmation"], false);
    let told = api.get("/v1/upgrades/3").await.body;
    assert_eq!(
        told["events"][0]["text"],
        "its owner has confirmed it (flat 12)"
    );
    let refused = confirm(4, &json!({"confirmed": false})).await;
    assert_eq!(refused.body["outcome"]["reason"], "refused_by_owner");
    for (id, body, problem) in [
        (4, json!({}), "not-awaited"),
        (1, json!({}), "not-awaited"),
        (99, json!({}), "not-found"),
        (3, json!({"by": "x".repeat(201)}), "invalid-field"),
    ] {
        assert_eq!(confirm(id, &body).await.problem(), problem, "{id}");
    }
}
