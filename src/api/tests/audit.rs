//! Who has changed what: each change leaves one row, and what is refused few.

use std::{collections::BTreeSet, fmt::Write as _};

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::{Answer, Api, TOKEN, users::PASSWORD};
use crate::{
    audit::Verifier,
    runtime::prune_audit,
    store::{AuditLog as _, SqliteStore},
};

impl Api {
    /// All rows, oldest first, and that the chain is whole.
    async fn rows(&self) -> Vec<Value> {
        let export = self.get("/v1/audit/export").await;
        assert_eq!(export.status, StatusCode::OK, "{export:?}");
        // a single row is read as JSON, several are not
        let text = match &export.body {
            Value::String(text) => text.clone(),
            row => row.to_string(),
        };
        let head = self.get("/v1/audit/head").await.body["head"]["number"].take();
        let mut verifier = Verifier::from_the_beginning();
        for line in text.lines() {
            verifier.line(line).unwrap();
        }
        assert_eq!(verifier.last().map(|(number, _)| number), head.as_u64());
        let rows = text.lines().map(serde_json::from_str);
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// What was refused is written now.
    async fn write_refused(&self) {
        let now = self.state.now();
        let trail = &self.state.trail;
        trail.write(&*self.state.store, now, true).await.unwrap();
    }

    async fn with_headers(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            // in UTF-8, which the library takes for text only as bytes
            request = request.header(*name, value.as_bytes());
        }
        let answer = self
            .call(request.body(Body::from(body.to_owned())).unwrap())
            .await;
        self.check_described(&method, path, &answer);
        answer
    }
}

/// One step of a story: a request, what it carries out, and what its row says it is about.
type Step = (
    &'static str,
    &'static str,
    Value,
    &'static str,
    &'static str,
);

/// A key that vouches for packages.
fn public_key() -> String {
    let key = openssl::pkey::PKey::generate_ed25519().unwrap();
    String::from_utf8(key.public_key_to_pem().unwrap()).unwrap()
}

/// What people do in a session of their own, or to begin one, has a test of its own.
const OF_PEOPLE: [&str; 7] = [
    "confirm_totp",
    "enrol_totp",
    "log_in",
    "log_out",
    "remove_totp",
    "remove_user_totp",
    "update_me",
];

/// Requests that carry out every operation that changes something, in an order in which each can be.
fn steps() -> Vec<Step> {
    let task = |name: &str, more: Value| {
        let mut body = json!({"name": name, "package_id": 1, "all": true});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let none = Value::Null;
    vec![
        (
            "POST",
            "/v1/packages?product=p&version=V2",
            json!("content"),
            "upload_package",
            "packages/1",
        ),
        (
            "POST",
            "/v1/packages?product=p&version=V3",
            json!("contents"),
            "upload_package",
            "packages/2",
        ),
        (
            "DELETE",
            "/v1/packages/2",
            none.clone(),
            "delete_package",
            "packages/2",
        ),
        (
            "PATCH",
            "/v1/packages/1",
            json!({"release_notes": "faster"}),
            "update_package",
            "packages/1",
        ),
        (
            "PUT",
            "/v1/packages/1/sbom",
            json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"name": "mbedtls"}]}),
            "set_sbom",
            "packages/1",
        ),
        (
            "DELETE",
            "/v1/packages/1/sbom",
            none.clone(),
            "remove_sbom",
            "packages/1",
        ),
        (
            "POST",
            "/v1/products/p/keys",
            json!({"pem": public_key(), "name": "build"}),
            "add_product_key",
            "product-keys/p/{key}",
        ),
        (
            "DELETE",
            "/v1/products/p/keys/{key}",
            none.clone(),
            "remove_product_key",
            "product-keys/p/{key}",
        ),
        (
            "POST",
            "/v1/tenants",
            json!({"id": "acme"}),
            "add_tenant",
            "tenants/acme",
        ),
        (
            "PATCH",
            "/v1/tenants/acme",
            json!({"name": "Acme"}),
            "update_tenant",
            "tenants/acme",
        ),
        (
            "DELETE",
            "/v1/tenants/acme",
            none.clone(),
            "delete_tenant",
            "tenants/acme",
        ),
        (
            "POST",
            "/v1/users",
            json!({"name": "anna", "password": "correct horse battery", "grants": [{"role": "viewer"}]}),
            "add_user",
            "users/anna",
        ),
        (
            "PATCH",
            "/v1/users/anna",
            json!({"password": "correct horse batteries", "grants": [{"role": "operator"}]}),
            "update_user",
            "users/anna",
        ),
        (
            "DELETE",
            "/v1/users/anna",
            none.clone(),
            "remove_user",
            "users/anna",
        ),
        (
            "POST",
            "/v1/devices",
            json!({"endpoint": "urn:a", "product": "p"}),
            "add_device",
            "devices/urn:a",
        ),
        (
            "POST",
            "/v1/devices",
            json!({"devices": [{"endpoint": "d1", "product": "p"}, {"endpoint": "d2", "product": "p"}, {"endpoint": "d3", "product": "p"}]}),
            "add_device",
            "devices",
        ),
        (
            "PATCH",
            "/v1/devices/urn:a",
            json!({"site": "north", "tags": {"k": "v"}}),
            "update_device",
            "devices/urn:a",
        ),
        (
            "POST",
            "/v1/exclusions",
            json!({"endpoints": ["urn:a"], "reason": "in the museum"}),
            "add_exclusions",
            "exclusions/urn:a",
        ),
        (
            "DELETE",
            "/v1/exclusions/urn:a",
            none.clone(),
            "end_exclusion",
            "exclusions/urn:a",
        ),
        (
            "POST",
            "/v1/groups",
            json!({"name": "g", "devices": ["d1"]}),
            "add_group",
            "groups/1",
        ),
        (
            "PATCH",
            "/v1/groups/1",
            json!({"add": ["d2"]}),
            "update_group",
            "groups/1",
        ),
        (
            "DELETE",
            "/v1/groups/1",
            none.clone(),
            "remove_group",
            "groups/1",
        ),
        (
            "PUT",
            "/v1/sites/depot-4",
            json!({"limit": 5, "note": "one line"}),
            "set_site",
            "sites/default/depot-4",
        ),
        (
            "DELETE",
            "/v1/sites/depot-4",
            none.clone(),
            "clear_site",
            "sites/default/depot-4",
        ),
        (
            "POST",
            "/v1/webhooks",
            json!({"url": "http://127.0.0.1:9/hook"}),
            "add_webhook",
            "webhooks/1",
        ),
        (
            "POST",
            "/v1/webhooks/1/ping",
            json!({}),
            "ping_webhook",
            "webhooks/1",
        ),
        (
            "POST",
            "/v1/tasks",
            task("night", json!({"phases": [{"count": 1}]})),
            "create_task",
            "tasks/1",
        ),
        (
            "POST",
            "/v1/tasks/1/pause",
            json!({"note": "wait"}),
            "pause_task",
            "tasks/1",
        ),
        (
            "POST",
            "/v1/tasks/1/resume",
            json!({}),
            "resume_task",
            "tasks/1",
        ),
        (
            "POST",
            "/v1/tasks/1/next-phase",
            json!({}),
            "next_phase",
            "tasks/1",
        ),
        (
            "PATCH",
            "/v1/tasks/1",
            json!({"priority": 7}),
            "update_task",
            "tasks/1",
        ),
        (
            "POST",
            "/v1/tasks/1/copy",
            json!({}),
            "copy_task",
            "tasks/2",
        ),
        (
            "POST",
            "/v1/tasks/2/stop",
            json!({}),
            "stop_task",
            "tasks/2",
        ),
        (
            "DELETE",
            "/v1/tasks/2",
            none.clone(),
            "delete_task",
            "tasks/2",
        ),
        (
            "POST",
            "/v1/upgrades/1/cancel",
            json!({}),
            "cancel_upgrade",
            "upgrades/1",
        ),
        (
            "POST",
            "/v1/upgrades/1/retry",
            json!({}),
            "retry_upgrade",
            "upgrades/1",
        ),
        (
            "POST",
            "/v1/upgrades/1/skip",
            json!({}),
            "skip_upgrade",
            "upgrades/1",
        ),
        // upgrade 2 fails here
        (
            "POST",
            "/v1/tasks/1/retry",
            json!({}),
            "retry_task",
            "tasks/1",
        ),
        (
            "POST",
            "/v1/webhooks/1/deliveries/1/replay",
            json!({}),
            "replay_delivery",
            "deliveries/1",
        ),
        (
            "POST",
            "/v1/webhooks/1/replay",
            json!({}),
            "replay_failed",
            "webhooks/1",
        ),
        (
            "DELETE",
            "/v1/webhooks/1",
            none.clone(),
            "remove_webhook",
            "webhooks/1",
        ),
        (
            "POST",
            "/v1/tasks",
            task("approved", json!({"approval": true})),
            "create_task",
            "tasks/3",
        ),
        (
            "POST",
            "/v1/tasks/3/approve",
            json!({"by": "anna"}),
            "approve_task",
            "tasks/3",
        ),
        (
            "POST",
            "/v1/tasks",
            task("refused", json!({"approval": true})),
            "create_task",
            "tasks/4",
        ),
        (
            "POST",
            "/v1/tasks/4/refuse",
            json!({"by": "anna", "note": "too soon"}),
            "refuse_task",
            "tasks/4",
        ),
        (
            "POST",
            "/v1/tasks",
            task("asked", json!({"confirmation": "device_owner"})),
            "create_task",
            "tasks/5",
        ),
        (
            "POST",
            "/v1/upgrades/17/confirm",
            json!({"by": "flat 12"}),
            "confirm_upgrade",
            "upgrades/17",
        ),
        (
            "POST",
            "/v1/forecasts",
            json!({"name": "f", "package_id": 1, "all": true}),
            "forecast_task",
            "forecasts/1",
        ),
        (
            "DELETE",
            "/v1/forecasts/1",
            none.clone(),
            "cancel_forecast",
            "forecasts/1",
        ),
        (
            "POST",
            "/v1/cells",
            json!("cell,limit\n51,5\n52,6\n"),
            "import_cells",
            "cells",
        ),
        (
            "PATCH",
            "/v1/cells/51",
            json!({"limit": 4}),
            "update_cell",
            "cells/51",
        ),
        (
            "POST",
            "/v1/outages",
            json!({"cells": [51, 52], "closed_until": "2999-01-01T00:00:00Z", "reason": "mast down"}),
            "report_outage",
            "outages",
        ),
        (
            "POST",
            "/v1/tokens",
            json!({"name": "t", "grants": [{"role": "viewer"}]}),
            "add_token",
            "tokens/1",
        ),
        (
            "DELETE",
            "/v1/tokens/1",
            none.clone(),
            "revoke_token",
            "tokens/1",
        ),
        (
            "PATCH",
            "/v1/products/p",
            json!({"signatures": "required"}),
            "update_product",
            "products/p",
        ),
        (
            "POST",
            "/v1/products",
            json!({"product": "new", "settings": {"awake_window_s": 10}}),
            "create_product",
            "products/new",
        ),
        (
            "DELETE",
            "/v1/products/new",
            none.clone(),
            "remove_product",
            "products/new",
        ),
        (
            "DELETE",
            "/v1/devices/urn:a",
            none,
            "remove_device",
            "devices/urn:a",
        ),
    ]
}

/// Complete by construction: an operation that is described and not among the steps fails this.
#[tokio::test]
async fn each_change_leaves_exactly_one_row() {
    let local = "127.0.0.0/8".parse().unwrap();
    let api = Api::with(|config| config.webhooks.allow_networks = vec![local]).await;
    let mut carried_out = BTreeSet::from(OF_PEOPLE);
    let mut key = String::new();
    for (method, path, body, operation, target) in steps() {
        if operation == "retry_task" {
            api.fail(2, 1).await;
        }
        let before = api.rows_if_any().await.len();
        let path = &*path.replace("{key}", &key);
        let kind = match operation {
            "upload_package" => Some("application/octet-stream"),
            "import_cells" => Some("text/csv"),
            _ => Some("application/json"),
        };
        let content = match &body {
            Value::Null => Body::empty(),
            Value::String(text) => Body::from(text.clone()),
            body => Body::from(body.to_string()),
        };
        let kind = kind.filter(|_| !body.is_null());
        let answer = api.send(method.parse().unwrap(), path, kind, content).await;
        assert!(answer.status.is_success(), "{method} {path}: {answer:?}");
        if let Some(id) = answer.body["id"].as_str() {
            id.clone_into(&mut key);
        }
        let rows = api.rows().await;
        assert_eq!(
            rows.len(),
            before + 1,
            "{method} {path}: {:?}",
            &rows[before..]
        );
        let row = &rows[before];
        assert_eq!(row["operation"], operation, "{row}");
        assert_eq!(row["who"], "admin-token");
        assert_eq!(row["result"], "done");
        let target = target.replace("{key}", &key);
        assert_eq!(row["target"], target, "{method} {path}: {row}");
        let why = match operation {
            "add_exclusions" => json!("in the museum"),
            "pause_task" => json!("wait"),
            "refuse_task" => json!("too soon"),
            _ => Value::Null,
        };
        assert_eq!(row["why"], why, "{row}");
        carried_out.insert(operation);
    }
    let mut changing = BTreeSet::new();
    for item in api.description["paths"].as_object().unwrap().values() {
        for (method, operation) in item.as_object().unwrap() {
            if method != "get" {
                changing.insert(operation["operationId"].as_str().unwrap());
            }
        }
    }
    let missing: Vec<_> = changing.difference(&carried_out).collect();
    assert!(missing.is_empty(), "these have no step: {missing:?}");
}

impl Api {
    async fn rows_if_any(&self) -> Vec<Value> {
        if self.state.store.audit_head().await.unwrap().number == 0 {
            return Vec::new();
        }
        self.rows().await
    }
}

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
