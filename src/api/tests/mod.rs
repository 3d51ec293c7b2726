//! The API in one process: requests in, answers out, over a real store. Every answer has to be one that
//! the API's description lists.

mod access;
mod attributes;
mod audit;
mod budgets;
mod cells;
mod confirmations;
mod copies;
mod devices;
mod etags;
mod events;
mod everywhere;
mod evidence;
mod exclusions;
mod forecasts;
mod groups;
mod homes;
mod links;
mod lists;
mod oidc;
mod once;
mod packages;
mod ping;
mod product_settings;
mod products;
mod scoped;
mod second_factor;
mod shares;
mod sites;
mod targets;
mod task_packages;
mod task_rules;
mod tasks;
mod tenants;
mod users;

use std::{collections::HashMap, path::Path, sync::Arc};

use async_trait::async_trait;

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt;

use super::{ApiState, Cursors, Evidence, TokenHash, router};
use crate::{
    audit::Key,
    clock::{SystemClock, UtcMillis},
    config::{Config, Settings},
    health::Health,
    ledger::{Change, Failure, Lane, Outcome, TaskId, UpgradeId},
    mqtt::{endpoint::Version, engine::Connected},
    notify::Instance,
    runtime::{self, AuditTrail, Forecasts, Heard, LaneNow, Lanes},
    signal::Signals,
    store::{PackageFiles, SqliteStore},
    strangers::Strangers,
    vault::Vault,
};

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A device side that has heard these devices.
#[derive(Default)]
struct Live(HashMap<&'static str, UtcMillis>);

#[async_trait]
impl Heard for Live {
    async fn live(&self, endpoints: &[&str]) -> Vec<runtime::Live> {
        let heard = endpoints
            .iter()
            .map(|name| (name, self.0.get(name).copied()));
        let live = heard.map(|(name, heard_at)| runtime::Live {
            heard_at,
            connected: (heard_at.filter(|_| name.starts_with("mqtt-"))).map(|since| Connected {
                since,
                peer: ([192, 0, 2, 7], 50_000).into(),
                version: Version::V311,
                client_id: "meter-7_0_0_2026113009".into(),
            }),
        });
        live.collect()
    }

    async fn caught_up(&self) {}
}

/// A gate that does not answer.
struct Nobody;

#[async_trait]
impl Lanes for Nobody {
    async fn lane(&self, _: Lane) -> Option<LaneNow> {
        None
    }
}

/// What an API over an empty store in `dir` works with.
pub(crate) async fn state(dir: &Path, change: impl FnOnce(&mut Config)) -> ApiState {
    let clock = SystemClock::start();
    let mut config = Config {
        data_dir: dir.to_owned(),
        ..Config::default()
    };
    config.admin.requests_per_second = 1_000_000;
    change(&mut config);
    let store = Arc::new(SqliteStore::open(dir).await.unwrap());
    let config = Settings::new(Arc::new(config));
    let stop = watch::channel(false).1;
    ApiState {
        forecasts: Forecasts::new(store.clone(), config.clone(), clock, stop.clone()),
        store,
        files: PackageFiles::open(dir).await.unwrap(),
        config,
        clock,
        trail: Arc::new(AuditTrail::new(Key::of_seed(&[5; 32]).unwrap())),
        token: TokenHash::of(TOKEN),
        passwords: Arc::default(),
        links: Arc::default(),
        oidc: None,
        vault: Some(Vault::new([9; 32])),
        cursors: Cursors::new([8; 32]),
        products: Arc::default(),
        signals: Arc::new(Signals::default()),
        instance: Arc::new(Instance::new(&[7; 8])),
        evidence: Arc::new(Evidence::new(None, dir)),
        audit_exports: Arc::default(),
        streams: Arc::default(),
        stop,
        health: Arc::new(Health::starting()),
        heard: Arc::new(Live::default()),
        lanes: Arc::new(Nobody),
        strangers: Arc::new(Strangers::new(clock)),
        traces: None,
        metrics: PrometheusBuilder::new().build_recorder().handle(),
    }
}

/// An API over an empty store.
struct Api {
    state: ApiState,
    router: axum::Router,
    description: Value,
    dir: TempDir,
}

/// What was answered.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).unwrap().to_str().unwrap()
    }

    /// The word at the end of the problem's type.
    fn problem(&self) -> &str {
        assert_eq!(
            self.header(header::CONTENT_TYPE),
            "application/problem+json",
            "{self:?}"
        );
        assert_eq!(self.body["status"], self.status.as_u16());
        assert!(!self.body["title"].as_str().unwrap().is_empty());
        assert!(self.body["instance"].as_str().unwrap().starts_with('/'));
        let kind = self.body["type"].as_str().unwrap();
        kind.strip_prefix("urn:cellwise:problem:").unwrap()
    }

    /// The fields that the problem names.
    fn fields(&self) -> Vec<&str> {
        assert_eq!(self.problem(), "invalid-field");
        let errors = self.body["errors"].as_array().unwrap();
        errors
            .iter()
            .map(|e| e["field"].as_str().unwrap())
            .collect()
    }

    fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap()
    }

    fn id(&self) -> i64 {
        self.body["id"].as_i64().unwrap()
    }
}

impl Api {
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = state(dir.path(), change).await;
        let mut api = Self {
            router: router(state.clone()),
            state,
            description: Value::Null,
            dir,
        };
        api.description = api.get("/openapi.json").await.body;
        api
    }

    /// Goes on with other settings.
    fn change_settings(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = Config::clone(&self.state.config.get());
        change(&mut config);
        self.state.config = Settings::new(Arc::new(config));
        self.router = router(self.state.clone());
    }

    /// The device side has heard these devices.
    fn hear(&mut self, devices: impl IntoIterator<Item = (&'static str, UtcMillis)>) {
        self.state.heard = Arc::new(Live(devices.into_iter().collect()));
        self.router = router(self.state.clone());
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None, Body::empty()).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None, Body::empty()).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.json(Method::POST, path, &body.to_string()).await
    }

    async fn json(&self, method: Method, path: &str, body: &str) -> Answer {
        let body = Body::from(body.to_owned());
        self.send(method, path, Some("application/json"), body)
            .await
    }

    async fn upload(&self, query: &str, content: &[u8]) -> Answer {
        let path = format!("/v1/packages?{query}");
        let body = Body::from(content.to_owned());
        self.send(Method::POST, &path, Some("application/octet-stream"), body)
            .await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Body,
    ) -> Answer {
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let answer = self.call(request.body(body).unwrap()).await;
        self.check_described(&method, path, &answer);
        answer
    }

    async fn call(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    /// The status has to be listed, and a JSON answer must have the fields that are required, and no others.
    fn check_described(&self, method: &Method, path: &str, answer: &Answer) {
        let path = path.split('?').next().unwrap();
        let Some(paths) = self.description["paths"].as_object() else {
            return;
        };
        let matches = |template: &str| {
            let (a, b): (Vec<_>, Vec<_>) =
                (template.split('/').collect(), path.split('/').collect());
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a == b || a.starts_with('{'))
        };
        let Some((_, item)) = paths.iter().find(|(template, _)| matches(template)) else {
            return;
        };
        let operation = &item[method.as_str().to_lowercase()];
        if operation.is_null() {
            return;
        }
        let response = &operation["responses"][answer.status.as_str()];
        assert!(!response.is_null(), "{method} {path}: {answer:?}");
        let schema = &response["content"]["application/json"]["schema"];
        if !schema.is_null() {
            self.check_schema(schema, &answer.body, path);
        }
    }

    fn check_schema(&self, schema: &Value, value: &Value, place: &str) {
        if let Some(reference) = schema["$ref"].as_str() {
            let schema = self.description.pointer(&reference[1..]);
            return self.check_schema(schema.unwrap(), value, place);
        }
        for all in schema["allOf"].as_array().into_iter().flatten() {
            self.check_required(all, value, place);
        }
        self.check_required(schema, value, place);
        if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
            for value in values {
                self.check_schema(items, value, place);
            }
        }
    }

    fn check_required(&self, schema: &Value, value: &Value, place: &str) {
        if let Some(reference) = schema["$ref"].as_str() {
            let schema = self.description.pointer(&reference[1..]);
            return self.check_required(schema.unwrap(), value, place);
        }
        for field in schema["required"].as_array().into_iter().flatten() {
            let field = field.as_str().unwrap();
            assert!(value.get(field).is_some(), "{place}: no {field} in {value}");
            self.check_schema(&schema["properties"][field], &value[field], place);
        }
    }

    /// Package V2 of product `p`.
    async fn package(&self) -> i64 {
        let answer = self.upload("product=p&version=V2", &[7; 1_200]).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answer.id()
    }

    /// Package V2 of product `p`, devices `d0`… of it, and a task for all of them.
    async fn task(&self, devices: usize) -> Answer {
        let package = self.package().await;
        let devices: Vec<Value> = (0..devices)
            .map(|i| json!({"endpoint": format!("d{i}"), "product": "p"}))
            .collect();
        let added = self.post("/v1/devices", &json!({"devices": devices})).await;
        assert_eq!(added.status, StatusCode::OK, "{added:?}");
        let body = json!({"name": "night", "package_id": package, "all": true});
        let task = self.post("/v1/tasks", &body).await;
        assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
        task
    }

    async fn commit(&self, changes: &[Change]) {
        self.state
            .store
            .commit(crate::store::conformance::next_batch(), changes)
            .await
            .unwrap();
    }

    /// Ends an upgrade as failed.
    async fn fail(&self, upgrade: i64, task: i64) {
        self.commit(&[Change::Ended {
            upgrade: UpgradeId(upgrade),
            task: TaskId(task),
            attempt: 1,
            outcome: Outcome::Failed(Failure::DeviceNotHeard),
            facts: Box::default(),
            retry_at: None,
            at: self.state.now(),
        }])
        .await;
    }
}
