//! The face in one process: requests in, answers out, over a real store. Every answer has to be one that its description lists.

mod acts;
mod door;
mod figures;
mod matrix;
mod reads;
mod streams;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
    response::Response,
};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::{AppState, Listeners, router};
use crate::{
    api::{self, tests::TOKEN},
    clock::UtcMillis,
    coap::Peer,
    config::{Config, Settings},
    home::{
        Channel, Conditions, HomeKey, OfferMode, OfferTerms, OfferTexts, QuietHours, Role, Texts,
        UpgradeKind,
    },
    ledger::{
        Binding, Change, Coverage, CoverageReading, CoverageSource, PackageId, QueueMode,
        Registration, RetryPolicy,
    },
    package::Version,
    store::{
        Exclude, NewAppToken, NewOffer, NewTask, OfferRecord, Origin, PutHome, PutHomeDevice,
        Selection,
    },
    task::{PackageRules, TaskRules},
    telemetry::Metrics,
    tenant::TenantId,
};

/// The face over an empty store, and the admin API beside it.
pub(super) struct App {
    pub(super) state: AppState,
    pub(super) admin: api::ApiState,
    pub(super) router: Router,
    description: Value,
    stop: tokio::sync::watch::Sender<bool>,
    dir: TempDir,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn code(&self) -> u64 {
        assert_eq!(
            self.headers[header::CONTENT_TYPE],
            "application/problem+json",
            "{self:?}"
        );
        assert_eq!(self.body["status"], self.status.as_u16());
        self.body["code"].as_u64().unwrap()
    }

    pub(super) fn problem(&self) -> &str {
        self.code();
        let kind = self.body["type"].as_str().unwrap();
        kind.strip_prefix("urn:cellwise:problem:").unwrap()
    }
}

pub(super) fn key(home: &str) -> HomeKey {
    HomeKey {
        tenant: TenantId::default(),
        id: home.parse().unwrap(),
    }
}

pub(super) fn terms() -> OfferTerms {
    let text = |text| Texts::new([("en", text)]).unwrap();
    OfferTerms {
        channel: Channel::NB_IOT,
        kind: UpgradeKind::Reminder,
        mode: OfferMode::PerChannel,
        controllable: true,
        percent: 100,
        stages: Vec::new(),
        conditions: Conditions::default(),
        texts: OfferTexts {
            description: Texts::new([("en", "Better."), ("de", "Besser.")]).unwrap(),
            channel: text("Radio"),
            waiting: text("Press the button."),
            ..OfferTexts::default()
        },
    }
}

impl App {
    pub(super) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let admin = api::tests::state(dir.path(), |config| {
            config.app.enabled = true;
            config.app.requests_per_address_per_second = 1_000_000;
            config.app.requests_per_user_per_second = 1_000_000;
            config.app.requests_per_home_per_second = 1_000_000;
            config.app.failed_attempts_per_minute = 1_000_000;
            change(config);
        })
        .await;
        let (stop, told) = tokio::sync::watch::channel(false);
        let metrics = Arc::new(Metrics::new().unwrap());
        let issuer = super::Issuer::of(&admin.config.get().app).unwrap();
        let state = AppState {
            store: admin.store.clone(),
            config: admin.config.clone(),
            clock: admin.clock,
            signals: admin.signals.clone(),
            heard: admin.heard.clone(),
            issuer: issuer.map(Arc::new),
            listeners: Arc::new(Listeners::new(admin.config.clone(), metrics.clone())),
            metrics,
            looks: AppState::looks(),
            stop: told,
        };
        let mut app = Self {
            router: router(state.clone()),
            state,
            admin,
            description: Value::Null,
            stop,
            dir,
        };
        let described = app
            .call(Method::GET, "/app/v1/openapi.json", None, None)
            .await;
        assert_eq!(described.status, StatusCode::OK);
        app.description = described.body;
        app
    }

    pub(super) fn description(&self) -> &Value {
        &self.description
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.state.config
    }

    /// The database, over another connection.
    pub(super) async fn side_door(&self) -> SqliteConnection {
        let file = SqliteConnectOptions::new().filename(self.dir.path().join("cellwise.db"));
        SqliteConnection::connect_with(&file).await.unwrap()
    }

    pub(super) fn stop(&self) {
        self.stop.send(true).unwrap();
    }

    pub(super) fn now(&self) -> UtcMillis {
        self.state.now()
    }

    /// A token of a user of the tenant `default`.
    pub(super) async fn token(&self, user: &str) -> String {
        self.token_of("default", user).await
    }

    pub(super) async fn token_of(&self, tenant: &str, user: &str) -> String {
        let token = format!("cwu_{tenant}_{user}");
        let now = self.now();
        let new = NewAppToken {
            user: crate::home::UserKey {
                tenant: tenant.parse().unwrap(),
                id: user.parse().unwrap(),
            },
            hash: <sha2::Sha256 as sha2::Digest>::digest(token.as_bytes()).into(),
            created_by: "test".to_owned(),
            created_at: now,
            expires_at: now + std::time::Duration::from_hours(1),
        };
        self.state.store.add_app_token(&new).await.unwrap();
        token
    }

    /// A home with an owner, an administrator and a member of these names, and these devices.
    pub(super) async fn home(&self, home: &str, devices: &[&str]) {
        let members = Role::ALL.map(|role| (role.name().parse().unwrap(), role));
        let devices = devices.iter().map(|endpoint| PutHomeDevice {
            endpoint: (*endpoint).to_owned(),
            name: Some("Kitchen".to_owned()),
            icon: Some("lamp".to_owned()),
        });
        let put = PutHome {
            key: key(home),
            name: "Our home".to_owned(),
            zone: "Europe/Berlin".to_owned(),
            quiet: QuietHours::parse("22:00", "06:30"),
            members: Some(members.into()),
            devices: Some(devices.collect()),
        };
        self.state
            .store
            .put_home(&put, None, self.now())
            .await
            .unwrap();
    }

    /// Devices of product `p` that run V1 and are registered; those whose names begin with `sleepy` sleep.
    pub(super) async fn devices(&self, endpoints: &[&str]) {
        let devices: Vec<Value> = (endpoints.iter())
            .map(|endpoint| json!({"endpoint": endpoint, "product": "p"}))
            .collect();
        let added = self
            .admin_post("/v1/devices", &json!({ "devices": devices }))
            .await;
        assert_eq!(added.status, StatusCode::OK, "{added:?}");
        let now = self.now();
        // heard long before, so that whoever sleeps does
        let long_ago = now.before(std::time::Duration::from_mins(30));
        for (at, endpoint) in endpoints.iter().enumerate() {
            let sleeps = endpoint.starts_with("sleepy");
            let registration = Registration {
                location: format!("{at:04}"),
                peer: Peer::from(std::net::SocketAddr::from(([192, 0, 2, 1], 5_683))),
                lifetime_s: 86_400,
                expires_at: now + std::time::Duration::from_hours(24),
                registered_at: long_ago,
                message_id: None,
                queue_mode: if sleeps {
                    QueueMode::On
                } else {
                    QueueMode::Off
                },
                lwm2m_version: None,
                binding: Binding::default(),
                announced: None,
            };
            let endpoint = (*endpoint).to_owned();
            self.commit(&[
                Change::Registered {
                    endpoint: endpoint.clone(),
                    registration,
                    wake_ups: None,
                    at: long_ago,
                },
                Change::VersionReported {
                    endpoint: endpoint.clone(),
                    version: Version::new("V1").unwrap(),
                    at: long_ago,
                },
                Change::CoverageReported {
                    endpoint,
                    reading: CoverageReading {
                        coverage: Coverage {
                            cell: Some(1),
                            rsrp_dbm: Some(-120),
                            sinr_db: Some(1),
                        },
                        at: long_ago,
                    },
                    source: CoverageSource::Object,
                },
            ])
            .await;
        }
    }

    pub(super) async fn commit(&self, changes: &[Change]) {
        let batch = crate::store::conformance::next_batch();
        self.state.store.commit(batch, changes).await.unwrap();
    }

    /// Offers a package of that version of product `p`.
    pub(super) async fn offer(
        &self,
        version: &str,
        change: impl FnOnce(&mut OfferTerms),
    ) -> OfferRecord {
        let path = format!("/v1/packages?product=p&version={version}");
        let content = Body::from(version.repeat(600));
        let octets = "application/octet-stream";
        let uploaded = self.admin_call(&path, octets, content).await;
        assert_eq!(uploaded.status, StatusCode::CREATED, "{uploaded:?}");
        let package = PackageId(uploaded.body["id"].as_i64().unwrap());
        let mut terms = terms();
        change(&mut terms);
        let task = NewTask {
            name: format!("offer of {version}"),
            package,
            packages: PackageRules::default(),
            selection: Selection::All,
            exclude: Exclude::default(),
            start_at: None,
            retry: RetryPolicy::default(),
            rules: TaskRules::default(),
            webhook: None,
            created_at: self.now(),
            origin: Origin::default(),
        };
        let new = NewOffer {
            tenant: TenantId::default(),
            terms,
            task,
        };
        self.state.store.publish_offer(&new).await.unwrap()
    }

    pub(super) async fn admin_get(&self, path: &str) -> Answer {
        let request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
        let router = api::router(self.admin.clone());
        let response = router
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        read(response).await
    }

    pub(super) async fn admin_post(&self, path: &str, body: &Value) -> Answer {
        let body = Body::from(body.to_string());
        self.admin_call(path, "application/json", body).await
    }

    async fn admin_call(&self, path: &str, content_type: &str, body: Body) -> Answer {
        let request = Request::post(path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::CONTENT_TYPE, content_type);
        let router = api::router(self.admin.clone());
        let response = router.oneshot(request.body(body).unwrap()).await.unwrap();
        read(response).await
    }

    pub(super) async fn get(&self, token: &str, path: &str) -> Answer {
        self.call(Method::GET, path, Some(token), None).await
    }

    pub(super) async fn post(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, Some(token), Some(body)).await
    }

    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Answer {
        let mut request = Request::builder().method(&method).uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        let answer = read(self.send(request.unwrap()).await).await;
        self.check_described(&method, path, &answer);
        answer
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// The status has to be listed.
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
        if !operation.is_null() {
            let response = &operation["responses"][answer.status.as_str()];
            assert!(!response.is_null(), "{method} {path}: {answer:?}");
        }
    }
}

async fn read(response: Response) -> Answer {
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
