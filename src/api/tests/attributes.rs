use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Api;

#[tokio::test]
async fn a_device_is_added_with_attributes_and_shows_them() {
    let api = Api::new().await;
    let plain = api.post("/v1/devices", &json!({"endpoint": "plain"})).await;
    for field in ["model", "hardware", "site", "time_zone", "exclusion_reason"] {
        assert_eq!(plain.body[field], Value::Null, "{field}");
    }
    assert_eq!(plain.body["tags"], json!({}));
    let body = json!({
        "endpoint": "d0", "model": "M7", "hardware": "r2", "site": "Lyon, north", "time_zone": "europe/paris",
        "tags": {"customer": "acme", "empty": ""},
    });
    let added = api.post("/v1/devices", &body).await;
    assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
    assert_eq!(added.body["site"], "Lyon, north");
    assert_eq!(added.body["time_zone"], "Europe/Paris");
    assert_eq!(added.body["tags"], body["tags"]);
    // what is given again is set, and nothing else
    let body = json!({"endpoint": "d0", "site": "Metz", "tags": {"batch": "7"}});
    let again = api.post("/v1/devices", &body).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.body["model"], "M7");
    let listed = &api.get("/v1/devices").await.body["items"][0];
    let mut shown = again.body;
    // what it has spent is asked of one device alone
    assert!(shown["month"].is_object(), "{shown}");
    shown["month"] = Value::Null;
    assert_eq!(listed, &shown);
    assert_eq!(
        listed["tags"],
        json!({"customer": "acme", "empty": "", "batch": "7"})
    );
}

#[tokio::test]
async fn many_devices_with_attributes_are_counted() {
    let api = Api::new().await;
    let first = json!({"devices": [{"endpoint": "a", "model": "m"}, {"endpoint": "b"}]});
    assert_eq!(api.post("/v1/devices", &first).await.body["added"], 2);
    let tags: serde_json::Map<String, Value> =
        (0..32).map(|i| (format!("k{i}"), json!(""))).collect();
    let second = json!({"devices": [
        {"endpoint": "a", "model": "m"},
        {"endpoint": "b", "model": "m", "tags": tags},
        {"endpoint": "b", "tags": {"one more": "x"}},
    ]});
    let refused = api.post("/v1/devices", &second).await;
    assert_eq!(refused.fields(), ["devices[2].tags"]);
    let second = json!({"devices": [
        {"endpoint": "a", "model": "m"},
        {"endpoint": "b", "model": "m", "tags": tags},
        {"endpoint": "b", "tags": {"more": "x"}},
    ]});
    let answer = api.post("/v1/devices", &second).await.body;
    assert_eq!(
        (&answer["unchanged"], &answer["updated"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(answer["refused"][0]["field"], "devices[2].tags");
    let all = json!({"devices": [{"endpoint": "a"}], "model": "m"});
    assert_eq!(api.post("/v1/devices", &all).await.fields(), ["product"]);
}

#[tokio::test]
async fn attributes_are_checked_with_their_fields() {
    let api = Api::new().await;
    for (attributes, field) in [
        (json!({"model": ""}), "model"),
        (json!({"hardware": "a\nb"}), "hardware"),
        (json!({"site": "x".repeat(129)}), "site"),
        (json!({"time_zone": "Mars/Olympus"}), "time_zone"),
        (json!({"tags": {"a b": "x"}}), "tags"),
        (json!({"tags": {"a": "x".repeat(257)}}), "tags"),
        (json!({"tags": ["a"]}), "tags"),
    ] {
        let mut one = attributes.clone();
        one["endpoint"] = json!("d0");
        assert_eq!(
            api.post("/v1/devices", &one).await.fields(),
            [field],
            "{one}"
        );
        let body = attributes.to_string();
        let patched = api.json(Method::PATCH, "/v1/devices/d0", &body).await;
        assert_eq!(patched.fields(), [field], "{body}");
    }
}

#[tokio::test]
async fn attributes_are_changed_and_taken_away() {
    let api = Api::new().await;
    let body = json!({"endpoint": "d0", "model": "m", "site": "s", "tags": {"a": "1", "b": "2"}});
    api.post("/v1/devices", &body).await;
    let patch = json!({"model": null, "hardware": "r3", "tags": {"a": null, "c": "3"}});
    let patch = patch.to_string();
    let changed = api.json(Method::PATCH, "/v1/devices/d0", &patch).await.body;
    assert_eq!(changed["model"], Value::Null);
    assert_eq!(
        (&changed["hardware"], &changed["site"]),
        (&json!("r3"), &json!("s"))
    );
    assert_eq!(changed["tags"], json!({"b": "2", "c": "3"}));
    let nobody = api.json(Method::PATCH, "/v1/devices/nobody", &patch).await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
}
