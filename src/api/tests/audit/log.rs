//! The log of what was done and refused: how it is read, and how its beginning goes.

use std::collections::BTreeSet;

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::super::{Api, TOKEN};
use crate::{audit::Verifier, runtime::prune_audit};

#[tokio::test]
async fn what_was_refused_is_told_and_folded() {
    let api = Api::with(|config| config.admin.failed_attempts_per_minute = 1_000_000).await;
    let (id, viewer) = api.token("viewer", json!([{"role": "viewer"}])).await;
    for _ in 0..57 {
        let forbidden = api.post_as(&viewer, "/v1/tasks/7/stop", &json!({})).await;
        assert_eq!(forbidden.problem(), "forbidden");
    }
    api.delete("/v1/tasks/7").await; // 404
    api.post("/v1/devices", &json!({"endpoint": ""})).await; // 422
    api.get_as("cw_wrong", "/v1/tasks").await; // 401
    api.get_as(&viewer, "/v1/audit").await; // 403
    // these are no changes
    api.get("/v1/tasks/7").await;
    api.get("/v1/devices?limit=0").await;
    api.write_refused().await;
    let rows = api.rows().await;
    let told: BTreeSet<String> = rows[1..]
        .iter()
        .map(|row| {
            format!(
                "{} {} {} {} {} {}",
                row["who"].as_str().unwrap(),
                row["operation"].as_str().unwrap(),
                row["status"],
                row["problem"].as_str().unwrap(),
                row["target"].as_str().unwrap(),
                row["times"]
            )
        })
        .collect();
    let expected = [
        "admin-token add_device 422 invalid-field devices null".to_owned(),
        "admin-token delete_task 404 not-found tasks/7 null".to_owned(),
        "nobody list_tasks 401 unauthorized tasks null".to_owned(),
        format!("token:{id}:viewer list_audit 403 forbidden audit null"),
        format!("token:{id}:viewer stop_task 403 forbidden tasks/7 57"),
    ];
    assert_eq!(told, expected.into_iter().collect());
}

#[tokio::test]
async fn rows_are_filtered_and_paged() {
    let api = Api::new().await;
    let (id, token) = api.token("op", json!([{"role": "operator"}])).await;
    for name in ["a", "b", "c"] {
        api.post("/v1/devices", &json!({"endpoint": name})).await;
        api.post_as(
            &token,
            "/v1/devices",
            &json!({"endpoint": format!("{name}2")}),
        )
        .await;
    }
    api.delete("/v1/devices/zz").await;
    api.write_refused().await;
    let numbers = async |query: &str| -> Vec<u64> {
        let mut path = format!("/v1/audit?{query}");
        let mut numbers = Vec::new();
        loop {
            let page = api.get(&path).await;
            assert_eq!(page.status, StatusCode::OK, "{page:?}");
            let items = page.body["items"].as_array().unwrap();
            numbers.extend(items.iter().map(|row| row["number"].as_u64().unwrap()));
            match page.body["next_cursor"].as_str() {
                Some(cursor) => path = format!("/v1/audit?{query}&cursor={cursor}"),
                None => return numbers,
            }
        }
    };
    assert_eq!(numbers("limit=3").await, [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(
        numbers(&format!("who=token:{id}:op&limit=2")).await,
        [7, 5, 3]
    );
    assert_eq!(numbers("operation=add_token").await, [1]);
    assert_eq!(numbers("target=devices/b").await, [4]);
    assert_eq!(
        numbers("target=devices&limit=4").await,
        [8, 7, 6, 5, 4, 3, 2]
    );
    assert_eq!(numbers("target=device").await, [0_u64; 0]);
    assert_eq!(numbers("result=refused").await, [8]);
    assert_eq!(
        numbers("result=done&who=admin-token&target=devices").await,
        [6, 4, 2]
    );
    assert_eq!(numbers("until=2020-01-01T00:00:00Z").await, [0_u64; 0]);
    assert_eq!(numbers("since=2999-01-01T00:00:00Z").await, [0_u64; 0]);
    assert_eq!(
        numbers("since=2020-01-01T00:00:00Z&until=2999-01-01T00:00:00Z")
            .await
            .len(),
        8
    );
    for (query, field) in [
        ("since=x", "since"),
        ("until=1", "until"),
        ("result=x", "result"),
        ("cursor=66", "cursor"),
    ] {
        assert_eq!(
            api.get(&format!("/v1/audit?{query}")).await.fields(),
            [field]
        );
    }
    for (query, status) in [
        ("limit=0", 422),
        ("limit=1000001", 422),
        ("after=-1", 400),
        ("who=a", 400),
    ] {
        let answer = api.get(&format!("/v1/audit/export?{query}")).await;
        assert_eq!(answer.status, status, "{query}");
    }
    let part = api.get("/v1/audit/export?after=3&limit=2").await;
    let lines: Vec<&str> = part.body.as_str().unwrap().lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("\"number\":4"), "{}", lines[0]);
}

#[tokio::test]
async fn old_rows_are_removed_behind_a_signed_checkpoint() {
    let api = Api::new().await;
    for name in ["a", "b", "c"] {
        api.post("/v1/devices", &json!({"endpoint": name})).await;
    }
    let (store, key) = (&*api.state.store, api.state.trail.key());
    let day = std::time::Duration::from_hours(24);
    let later = api.state.now() + day * 8;
    assert_eq!(prune_audit(store, key, 0, later).await.unwrap(), 0);
    assert_eq!(prune_audit(store, key, 9, later).await.unwrap(), 0);
    assert_eq!(
        api.get("/v1/audit/head").await.body["begins_behind"],
        Value::Null
    );
    // a clock that is far ahead is not believed
    let ahead = api.state.now() + day * 401;
    assert_eq!(prune_audit(store, key, 7, ahead).await.unwrap(), 0);
    assert_eq!(prune_audit(store, key, 7, later).await.unwrap(), 3);
    let told = api.get("/v1/audit/head").await.body;
    let begin: crate::audit::Checkpoint =
        serde_json::from_value(told["begins_behind"].clone()).unwrap();
    let (number, hash) = begin.check(Some(key.public())).unwrap();
    assert_eq!(number, 3);
    let export = api.get("/v1/audit/export").await.body.to_string();
    let mut verifier = Verifier::after(number, hash);
    verifier.line(&export).unwrap();
    let row: Value = serde_json::from_str(&export).unwrap();
    assert_eq!(row["operation"], "prune_audit");
    assert_eq!(row["counts"], json!({"rows": 3}));
    // and it goes on
    assert_eq!(prune_audit(store, key, 7, later).await.unwrap(), 0);
    api.post("/v1/devices", &json!({"endpoint": "d"})).await;
    let export = api.get("/v1/audit/export?after=4").await.body.to_string();
    verifier.line(&export).unwrap();
}

/// Rows that are removed for their age while somebody exports them.
#[tokio::test]
async fn an_export_with_a_hole_breaks_off() {
    let api = Api::new().await;
    let store = &*api.state.store;
    let entries = vec![
        crate::audit::Entry {
            at: api.state.now(),
            ..Default::default()
        };
        2_200
    ];
    store.add_to_audit(&entries).await.unwrap();
    let request = Request::get("/v1/audit/export")
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
        .body(Body::empty())
        .unwrap();
    let router = api.router.clone();
    let answer = tower::ServiceExt::oneshot(router, request).await.unwrap();
    let mut parts = answer.into_body().into_data_stream();
    let first = parts.next().await.unwrap().unwrap();
    assert_eq!(first.split_inclusive(|byte| *byte == b'\n').count(), 500);
    let row = store.audit_row(1_900).await.unwrap().unwrap();
    let key = api.state.trail.key();
    let checkpoint = key.sign((row.number, row.hash), &api.state.now()).unwrap();
    store.begin_audit_behind(&checkpoint).await.unwrap();
    assert_eq!(store.prune_audit(2_000, None).await.unwrap(), 1_900);
    let mut broken = false;
    while let Some(part) = parts.next().await {
        broken |= part.is_err();
    }
    assert!(broken);
}
