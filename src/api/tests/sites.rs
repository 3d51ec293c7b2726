//! Limits of sites.

use axum::http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{Answer, Api, TOKEN};

impl Api {
    async fn set_site(&self, path: &str, body: Value) -> Answer {
        self.ask(TOKEN, Method::PUT, path, &body.to_string()).await
    }
}

#[tokio::test]
async fn a_site_has_a_limit_until_it_is_taken_away() {
    let api = Api::new().await;
    let path = "/v1/sites/old%20town%2F7";
    assert_eq!(api.get(path).await.problem(), "not-found");
    let set = api
        .set_site(path, json!({"limit": 5, "note": "one line"}))
        .await;
    assert_eq!(set.status, StatusCode::OK, "{set:?}");
    assert_eq!(
        set.body,
        json!({"site": "old town/7", "limit": 5, "note": "one line", "revision": 1,
            // this gate does not answer
            "active": null, "waiting": null})
    );
    assert_eq!(set.header(header::ETAG), "\"1\"");
    api.set_site("/v1/sites/depot-4", json!({"limit": 2})).await;
    let again = api.set_site(path, json!({"limit": 6})).await.body;
    assert_eq!(
        (&again["note"], &again["revision"]),
        (&Value::Null, &json!(3))
    );
    let first = api.get("/v1/sites?limit=1").await.body;
    assert_eq!(first["items"][0]["site"], "depot-4");
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = api.get(&format!("/v1/sites?cursor={cursor}")).await.body;
    assert_eq!(rest["items"][0]["limit"], 6);
    assert_eq!(rest["next_cursor"], Value::Null);
    assert_eq!(api.delete(path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.delete(path).await.problem(), "not-found");
}

#[tokio::test]
async fn what_is_wrong_with_a_limit_is_told() {
    let api = Api::new().await;
    for (path, body, field) in [
        ("/v1/sites/a", json!({"limit": 0}), "limit"),
        ("/v1/sites/a", json!({"limit": 100_001}), "limit"),
        ("/v1/sites/a", json!({"limit": 1, "note": " "}), "note"),
        ("/v1/sites/a%00b", json!({"limit": 1}), "site"),
    ] {
        assert_eq!(api.set_site(path, body).await.fields(), [field], "{path}");
    }
}
