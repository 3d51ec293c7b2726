//! Who has changed what: each change leaves one row, and what is refused few.

mod log;
mod rows;

use std::collections::BTreeSet;

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};

use super::{Answer, Api, TOKEN};
use crate::{audit::Verifier, home::UserKey, tenant::TenantId};

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
            "POST",
            "/v1/users/anna/login-link",
            json!({}),
            "add_login_link",
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
            "PUT",
            "/v1/homes/h1",
            json!({"name": "first"}),
            "set_home",
            "homes/default/h1",
        ),
        (
            "POST",
            "/v1/homes",
            json!({"homes": [{"home": "h2", "name": "second"}]}),
            "set_homes",
            "homes",
        ),
        (
            "PUT",
            "/v1/homes/h1/members/anna",
            json!({"role": "owner"}),
            "set_home_member",
            "home-members/default/h1/{mark}",
        ),
        (
            "DELETE",
            "/v1/homes/h1/members/anna",
            none.clone(),
            "remove_home_member",
            "home-members/default/h1/{mark}",
        ),
        (
            "PUT",
            "/v1/homes/h1/devices/urn:a",
            json!({"name": "door"}),
            "set_home_device",
            "home-devices/default/h1/urn:a",
        ),
        (
            "POST",
            "/v1/offers",
            json!({"terms": {"channel": 6, "kind": 0, "texts": {"description": {"en": "new"}}},
                "task": {"name": "offered", "package_id": 1}}),
            "publish_offer",
            "offers/1",
        ),
        (
            "PUT",
            "/v1/offers/1",
            json!({"channel": 6, "kind": 3, "texts": {"description": {"en": "newer"}}}),
            "update_offer",
            "offers/1",
        ),
        (
            "DELETE",
            "/v1/offers/1",
            none.clone(),
            "withdraw_offer",
            "offers/1",
        ),
        (
            "POST",
            "/v1/app-tokens",
            json!({"user": "anna"}),
            "issue_app_token",
            "app-tokens/1",
        ),
        (
            "POST",
            "/v1/app-users/anna/revoke",
            json!({}),
            "revoke_app_user",
            "app-users/{mark}",
        ),
        (
            "DELETE",
            "/v1/app-users/anna",
            none.clone(),
            "delete_app_user",
            "app-users/{mark}",
        ),
        (
            "DELETE",
            "/v1/homes/h1/devices/urn:a",
            none.clone(),
            "remove_home_device",
            "home-devices/default/h1/urn:a",
        ),
        (
            "DELETE",
            "/v1/homes/h1",
            none.clone(),
            "delete_home",
            "homes/default/h1",
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
    let anna = UserKey {
        tenant: TenantId::default(),
        id: "anna".parse().unwrap(),
    };
    let mark = api.state.store.pseudonym(&anna).await.unwrap();
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
        let target = target.replace("{key}", &key).replace("{mark}", &mark);
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
