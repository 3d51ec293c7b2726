//! Upgrades that the owners of devices confirm.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Api;

#[tokio::test]
async fn an_owner_confirms_for_a_time_that_is_possible() {
    let api = Api::new().await;
    api.task(2).await;
    let body = json!({"name": "ask", "package_id": 1, "all": true, "confirmation": "device_owner"});
    api.post("/v1/tasks", &body).await;
    let confirm = async |body: &Value| api.post("/v1/upgrades/3/confirm", body).await;
    let at = (api.state.now() + Duration::from_hours(2)).to_string();
    let confirmed = confirm(&json!({"at": at, "by": "flat 12"})).await;
    assert_eq!(confirmed.status, StatusCode::OK, "{confirmed:?}");
    assert_eq!(confirmed.body["confirmed_for"], at);
    assert_eq!(confirmed.body["awaits_confirmation"], false);
    let waits = api.get("/v1/upgrades/3").await.body;
    let why = format!("its owner has confirmed it for {at}");
    assert_eq!(waits["waiting_for"], why);
    assert_eq!(waits["events"][0]["text"], format!("{why} (flat 12)"));
    for (body, field) in [
        (json!({"at": "tomorrow"}), "at"),
        (json!({"at": "2001-01-01T00:00:00Z"}), "at"),
        (json!({"at": at, "confirmed": false}), "at"),
        (json!({"at": at, "take_back": true}), "take_back"),
    ] {
        let refused = confirm(&body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(refused.body["errors"][0]["field"], field, "{body}");
    }
    let back = confirm(&json!({"take_back": true})).await.body;
    assert_eq!(back["awaits_confirmation"], true);
    assert_eq!(back["confirmed_for"], json!(null));
}

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
