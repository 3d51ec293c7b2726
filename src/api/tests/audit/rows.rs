//! What a row says, and that there is one, whatever becomes of the request.

use std::fmt::Write as _;

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::super::{Api, TOKEN, users::PASSWORD};
use crate::store::{AuditLog as _, SqliteStore};

#[tokio::test]
async fn a_row_says_who_why_and_what_was_before() {
    let api = Api::new().await;
    let (id, token) = api.token("import", json!([{"role": "operator"}])).await;
    let device = json!({"endpoint": "urn:a", "product": "p", "psk": {"identity": "me", "key": "00112233445566778899aabbccddeeff"}});
    let added = api.post_as(&token, "/v1/devices", &device).await;
    assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
    let headers = [
        ("audit-reason", "moved to the new köy"),
        ("x-request-id", "r-7"),
    ];
    let change = json!({"site": "north", "psk": {"identity": "me", "key": "ff112233445566778899aabbccddeeff"}});
    let path = "/v1/devices/urn:a";
    let changed = api
        .with_headers(Method::PATCH, path, &headers, &change.to_string())
        .await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    let rows = api.rows().await;
    let (add, change) = (&rows[1], &rows[2]);
    assert_eq!(add["who"], format!("token:{id}:import"));
    assert_eq!(add["after"]["product"], "p");
    assert_eq!(add["after"]["psk_sealed"], "(not shown)");
    assert_eq!(add.get("before"), None);
    assert_eq!(change["why"], "moved to the new köy");
    assert_eq!(change["request"], "r-7");
    assert_eq!(
        change["before"],
        json!({"psk_sealed": "(not shown)", "site": null})
    );
    assert_eq!(
        change["after"],
        json!({"psk_sealed": "(changed)", "site": "north"})
    );
    api.delete("/v1/devices/urn:a").await;
    let gone = api.rows().await.pop().unwrap();
    assert_eq!(gone["before"]["site"], "north");
    assert_eq!(gone.get("after"), None);
    // no secret is anywhere
    let text = json!(api.rows().await).to_string();
    for secret in [&token[3..], "00112233", "ff112233"] {
        assert!(!text.contains(secret), "{secret}");
    }
    for reason in ["", "a\tb", &"x".repeat(501)] {
        let answer = api
            .with_headers(Method::DELETE, path, &[("audit-reason", reason)], "")
            .await;
        assert_eq!(answer.fields(), ["Audit-Reason"]);
    }
}

#[tokio::test]
async fn what_people_do_in_their_sessions_leaves_rows() {
    let api = Api::new().await;
    api.user("anna", json!([{"role": "operator"}])).await;
    let first = api.log_in("anna").await;
    let added = api
        .by(&first, Method::POST, "/v1/devices", r#"{"endpoint": "a"}"#)
        .await;
    assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
    let out = api.by(&first, Method::DELETE, "/v1/session", "").await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    let second = api.log_in("anna").await;
    let me = json!({"old_password": PASSWORD, "password": "another password"}).to_string();
    let changed = api.by(&second, Method::PATCH, "/v1/me", &me).await;
    assert_eq!(changed.status, StatusCode::NO_CONTENT, "{changed:?}");
    let rows = api.rows().await;
    let told: Vec<(&str, &str)> = (rows.iter())
        .map(|row| {
            (
                row["who"].as_str().unwrap(),
                row["operation"].as_str().unwrap(),
            )
        })
        .collect();
    let anna = "user:1:anna";
    assert_eq!(
        told,
        [
            ("admin-token", "add_user"),
            (anna, "log_in"),
            (anna, "add_device"),
            (anna, "log_out"),
            (anna, "log_in"),
            (anna, "update_me"),
        ]
    );
    assert_eq!(rows[5]["target"], "users/anna");
    assert_eq!(rows[5]["after"], json!({"password": "(changed)"}));
    let text = json!(rows).to_string();
    assert!(
        !text.contains(PASSWORD) && !text.contains("argon2"),
        "{text}"
    );
}

#[tokio::test]
async fn a_large_list_is_one_row() {
    let api = Api::new().await;
    let mut list = "endpoint,product\n".to_owned();
    for n in 0..12_000 {
        writeln!(list, "d{n:06},p").unwrap();
    }
    let answer = api
        .send(
            Method::POST,
            "/v1/devices",
            Some("text/csv"),
            Body::from(list),
        )
        .await;
    assert_eq!(answer.body["added"], 12_000, "{answer:?}");
    let rows = api.rows().await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["counts"], json!({"added": 12_000}));
    assert_eq!(rows[0]["target"], "devices");
    // a task of them is written in parts, and so is its end
    api.package().await;
    let body = json!({"name": "night", "package_id": 1, "all": true});
    let task = api.post("/v1/tasks", &body).await;
    assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
    api.post("/v1/tasks/1/stop", &json!({})).await;
    api.delete("/v1/tasks/1").await;
    let rows = api.rows().await;
    let told = |at: usize| {
        let row = &rows[at];
        (row["operation"].as_str(), row["target"].as_str())
    };
    assert_eq!(rows.len(), 5, "{rows:?}");
    assert_eq!(told(2), (Some("create_task"), Some("tasks/1")));
    assert_eq!(rows[2]["counts"], json!({"devices": 12_000}));
    assert_eq!(rows[2]["after"]["name"], "night");
    assert_eq!(told(3), (Some("stop_task"), Some("tasks/1")));
    assert_eq!(rows[3]["before"]["state"], "running");
    assert_eq!(told(4), (Some("delete_task"), Some("tasks/1")));
    assert_eq!(rows[4]["before"]["name"], "night");
}

/// The list breaks off behind what is stored already.
#[tokio::test]
async fn a_list_that_breaks_off_says_what_was_stored() {
    let api = Api::new().await;
    let mut list = "endpoint,product\n".to_owned();
    for n in 0..6_000 {
        writeln!(list, "d{n:06},p").unwrap();
    }
    let broken = stream::iter([
        Ok(bytes::Bytes::from(list)),
        Err(std::io::Error::other("cut")),
    ]);
    let body = Body::from_stream(broken);
    let answer = api
        .send(Method::POST, "/v1/devices", Some("text/csv"), body)
        .await;
    assert_eq!(answer.problem(), "unreadable-body");
    api.write_refused().await;
    let rows = api.rows().await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["result"], "refused");
    assert_eq!(rows[0]["status"], 400);
    assert_eq!(rows[0]["counts"], json!({"added": 5_000}));
}

#[tokio::test]
async fn a_request_that_comes_twice_is_one_row() {
    let api = Api::new().await;
    for replayed in [false, true] {
        let body = r#"{"endpoint":"a"}"#;
        let answer = api
            .with_headers(
                Method::POST,
                "/v1/devices",
                &[("idempotency-key", "one")],
                body,
            )
            .await;
        assert_eq!(answer.status, StatusCode::CREATED);
        assert_eq!(
            answer.headers.contains_key("idempotency-replayed"),
            replayed
        );
    }
    let rows = api.rows().await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["request"], "one");
}

/// What a killed server leaves: an open entry.
#[tokio::test]
async fn what_was_interrupted_is_a_row_after_the_next_start() {
    let api = Api::new().await;
    let request = Request::post("/v1/devices")
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
        .header(header::CONTENT_TYPE, "text/csv")
        .body(endless_list())
        .unwrap();
    let router = api.router.clone();
    let under_way = tokio::spawn(tower::ServiceExt::oneshot(router, request));
    let stored = async || {
        let found = api.get("/v1/devices/count").await.body["count"].take();
        found.as_u64() == Some(5_000)
    };
    for _ in 0..500 {
        if stored().await {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(stored().await);
    assert_eq!(api.state.store.audit_head().await.unwrap().number, 0);
    // another process opens what is there, as after a crash
    let again = SqliteStore::open(api.dir.path()).await.unwrap();
    assert_eq!(again.end_interrupted_acts().await.unwrap(), 1);
    assert_eq!(again.end_interrupted_acts().await.unwrap(), 0);
    let rows = api.rows().await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["result"], "interrupted");
    assert_eq!(rows[0]["counts"], json!({"added": 5_000}));
    under_way.abort();
}

/// A list of 6,000 devices in a body that does not end.
fn endless_list() -> Body {
    let mut list = "endpoint,product\n".to_owned();
    for n in 0..6_000 {
        writeln!(list, "d{n:06},p").unwrap();
    }
    let begin = stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from(list))]);
    Body::from_stream(begin.chain(stream::pending()))
}

/// A caller that goes away in the middle.
#[tokio::test]
async fn what_its_caller_does_not_wait_for_is_a_row_too() {
    let api = Api::new().await;
    let request = Request::post("/v1/devices")
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
        .header(header::CONTENT_TYPE, "text/csv")
        .body(endless_list())
        .unwrap();
    let under_way = tower::ServiceExt::oneshot(api.router.clone(), request);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), under_way).await;
    for _ in 0..500 {
        if api.state.store.audit_head().await.unwrap().number > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let rows = api.rows().await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["result"], "interrupted");
    let added = rows[0]["counts"]["added"].as_u64().unwrap();
    assert_eq!(added, 5_000);
}
