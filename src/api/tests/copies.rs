//! Tasks that are copied.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Api;

async fn copied(api: &Api, task: i64, body: &Value) -> Value {
    let path = format!("/v1/tasks/{task}/copy");
    let copy = api.post(&path, body).await;
    assert_eq!(copy.status, StatusCode::CREATED, "{copy:?}");
    assert!(copy.headers.contains_key("etag") && copy.headers.contains_key("location"));
    copy.body
}

#[tokio::test]
async fn a_copy_has_the_rules_and_the_targets_of_its_task() {
    let api = Api::new().await;
    api.task(6).await;
    let body = json!({"name": "first", "package_id": 1, "filter": "endpoint==d*", "membership": "joining",
        "exclude": {"devices": ["d1"], "filter": "endpoint==d2"}, "approval": true, "priority": 7,
        "phases": [{"count": 2, "success_percent": 90}, {}], "retry": {"attempts": 2, "interval_seconds": 60},
        "not_after": "2090-01-01T00:00:00Z"});
    let first = api.post("/v1/tasks", &body).await;
    assert_eq!(first.status, StatusCode::CREATED, "{first:?}");
    let copy = copied(&api, first.id(), &json!({})).await;
    let (first, copy) = (first.body.as_object().unwrap(), copy.as_object().unwrap());
    assert_ne!(first["id"], copy["id"]);
    let own = [
        "id",
        "created_at",
        "start_at",
        "not_after",
        "overlaps",
        "stand",
    ];
    for (field, value) in first
        .iter()
        .filter(|(field, _)| !own.contains(&field.as_str()))
    {
        assert_eq!(copy[field], *value, "{field}");
    }
    assert_eq!((&copy["total"], &copy["left_out"]), (&json!(4), &json!(2)));
    assert_eq!(copy["not_after"], Value::Null);
}

#[tokio::test]
async fn a_copy_of_a_list_has_the_devices_that_are_there_still() {
    let api = Api::new().await;
    api.task(4).await;
    let body = json!({"name": "list", "package_id": 1, "devices": ["d0", "d1", "d2"]});
    let list = api.post("/v1/tasks", &body).await.id();
    let removed = api.delete("/v1/devices/d1").await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    let own = json!({"name": "again", "start_at": "2026-01-01T00:00:00Z"});
    let past = api.post(&format!("/v1/tasks/{list}/copy"), &own).await;
    assert_eq!(past.fields(), ["start_at"]);
    let copy = copied(&api, list, &json!({"name": "again"})).await;
    assert_eq!(
        (&copy["name"], &copy["total"]),
        (&json!("again"), &json!(2))
    );
    for (body, field) in [
        (json!({"name": ""}), "name"),
        (json!({"not_after": "soon"}), "not_after"),
    ] {
        let refused = api.post(&format!("/v1/tasks/{list}/copy"), &body).await;
        assert_eq!(refused.fields(), [field]);
    }
    let nothing = api.post("/v1/tasks/99/copy", &json!({})).await;
    assert_eq!(nothing.status, StatusCode::NOT_FOUND);
}
