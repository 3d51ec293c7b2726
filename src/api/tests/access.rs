//! Who may do what: every role on every route, tokens, and who answers for tasks.

use std::{net::SocketAddr, time::Duration};

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

use super::{Answer, Api, TOKEN};
use crate::access::{Caller, Grant, OPERATIONS, Operation, Role, Tenants};

impl Api {
    /// Adds a token with these grants. Gives its number and the token.
    pub(super) async fn token(&self, name: &str, grants: Value) -> (i64, String) {
        let body = json!({"name": name, "grants": grants});
        let added = self.post("/v1/tokens", &body).await;
        assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
        assert_eq!(
            added.header(header::LOCATION),
            format!("/v1/tokens/{}", added.id())
        );
        let token = added.body["token"].as_str().unwrap().to_owned();
        (added.id(), token)
    }

    /// Asks with a token. A body is JSON.
    pub(super) async fn ask(&self, token: &str, method: Method, path: &str, body: &str) -> Answer {
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap();
        let answer = self.call(request).await;
        self.check_described(&method, path, &answer);
        answer
    }

    pub(super) async fn get_as(&self, token: &str, path: &str) -> Answer {
        self.ask(token, Method::GET, path, "").await
    }

    pub(super) async fn post_as(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.ask(token, Method::POST, path, &body.to_string()).await
    }
}

/// The routes under `/v1`: method, path and operation.
fn routes(api: &Api) -> Vec<(Method, String, String)> {
    let mut routes = Vec::new();
    for (path, item) in api.description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if path.starts_with("/v1/") {
                let method = method.to_uppercase().parse().unwrap();
                let name = operation["operationId"].as_str().unwrap().to_owned();
                routes.push((method, path.clone(), name));
            }
        }
    }
    routes
}

#[tokio::test]
async fn every_route_has_an_entry_in_the_table_and_every_entry_a_route() {
    let api = Api::new().await;
    let mut described: Vec<String> = routes(&api).into_iter().map(|(.., name)| name).collect();
    described.sort();
    let listed: Vec<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
    assert_eq!(described, listed);
}

/// Serves an API on a port that the system chooses.
async fn served(api: &Api) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, told) = watch::channel(false);
    let settings = api.state.config.clone();
    tokio::spawn(crate::api::serve(
        listener,
        None,
        api.router.clone(),
        settings,
        crate::api::Bounds::OPERATORS,
        told,
    ));
    (address, stop)
}

/// Role × route, over HTTP. Of what is permitted any answer will do but that it is not.
#[tokio::test]
async fn each_role_may_do_what_the_table_says_and_nothing_else() {
    let api = Api::new().await;
    let (address, _stop) = served(&api).await;
    let client = reqwest::Client::new();
    let mut callers = vec![(Caller::admin_token(), TOKEN.to_owned())];
    for role in Role::ALL {
        let (id, token) = api.token(role.name(), json!([{"role": role.name()}])).await;
        let caller = Caller::api_token(id, role.name().to_owned(), vec![Grant::of(role)]);
        callers.push((caller, token));
    }
    api.post("/v1/tenants", &json!({"id": "acme"})).await;
    let acme = || Tenants::One("acme".parse().unwrap());
    for role in Role::ALL {
        let name = format!("{}-of-acme", role.name());
        let grants = json!([{"role": role.name(), "tenant": "acme"}]);
        let (id, token) = api.token(&name, grants).await;
        let grant = Grant {
            tenant: acme(),
            ..Grant::of(role)
        };
        callers.push((Caller::api_token(id, name, vec![grant]), token));
    }
    for tenant in ["acme", "default"] {
        let some = json!([{"role": "operator", "filter": "site==north", "tenant": tenant}]);
        let name = format!("some-of-{tenant}");
        let (id, token) = api.token(&name, some).await;
        let grant = Grant {
            filter: Some("site==north".parse().unwrap()),
            tenant: Tenants::One(tenant.parse().unwrap()),
            ..Grant::of(Role::Operator)
        };
        callers.push((Caller::api_token(id, name, vec![grant]), token));
    }
    let (mut permitted, mut refused) = (0, 0);
    for (caller, token) in &callers {
        for (method, path, name) in routes(&api) {
            let path = path
                .replace("{id}", "987654")
                .replace("{delivery}", "1")
                .replace("{endpoint}", "a")
                .replace("{name}", "nobody")
                .replace("{tenant}", "nobody");
            let request = client
                .request(
                    method.as_str().parse().unwrap(),
                    format!("http://{address}{path}"),
                )
                .header("authorization", format!("Bearer {token}"))
                .timeout(Duration::from_secs(20));
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            let who = caller.who();
            if caller.admit(Operation::named(&name)).is_ok() {
                permitted += 1;
                assert!(
                    ![401, 403].contains(&status),
                    "{who}: {method} {path}: {status}"
                );
            } else {
                refused += 1;
                assert_eq!(status, 403, "{who}: {method} {path}");
                let problem: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
                assert_eq!(problem["type"], "urn:cellwise:problem:forbidden");
            }
        }
    }
    assert!(permitted > 500 && refused > 300, "{permitted} {refused}");
}

#[tokio::test]
async fn a_token_is_shown_once_and_let_in_until_it_is_revoked() {
    let api = Api::new().await;
    let (id, token) = api.token("import", json!([{"role": "viewer"}])).await;
    let random = token.strip_prefix("cw_").unwrap();
    assert!(random.len() == 64 && random.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let me = api.get_as(&token, "/v1/me").await.body;
    assert_eq!(me["who"], format!("token:{id}:import"));
    assert_eq!(me["kind"], "api_token");
    assert_eq!(me["grants"], json!([{"role": "viewer", "filter": null}]));
    assert_eq!(api.get("/v1/me").await.body["who"], "admin-token");
    let shown = api.get(&format!("/v1/tokens/{id}")).await.body;
    let list = api.get("/v1/tokens").await.body;
    assert_eq!(list["items"][0]["name"], "import");
    assert_eq!(shown["created_by"], "admin-token");
    assert!(!shown.to_string().contains(random) && !list.to_string().contains(random));
    // nor is it stored
    let database = std::fs::read(api.dir.path().join("cellwise.db-wal")).unwrap();
    let stored = |text: &[u8]| database.windows(text.len()).any(|part| part == text);
    assert!(stored(b"import") && !stored(random.as_bytes()));
    let none = api.get_as(&format!("{token}0"), "/v1/me").await;
    assert_eq!(none.problem(), "unauthorized");
    let path = format!("/v1/tokens/{id}");
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.delete(&path).await.problem(), "not-found");
    let revoked = api.get_as(&token, "/v1/me").await;
    assert_eq!(revoked.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_use_of_a_token_is_noted() {
    let api = Api::new().await;
    let (id, token) = api.token("import", json!([{"role": "viewer"}])).await;
    let path = format!("/v1/tokens/{id}");
    assert_eq!(api.get(&path).await.body["last_used_at"], Value::Null);
    api.get_as(&token, "/v1/tasks").await;
    let mut noted = Value::Null;
    for _ in 0..200 {
        noted = api.get(&path).await.body["last_used_at"].take();
        if !noted.is_null() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(noted.is_string());
    api.get_as(&token, "/v1/tasks").await;
    assert_eq!(api.get(&path).await.body["last_used_at"], noted);
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_told() {
    let api = Api::new().await;
    let viewer = json!([{"role": "viewer"}]);
    for (body, fields) in [
        (json!({"name": "", "grants": viewer}), vec!["name"]),
        (json!({"name": "a b", "grants": viewer}), vec!["name"]),
        (json!({"name": "a", "grants": []}), vec!["grants"]),
        (
            json!({"name": "a", "grants": [{"role": "god"}]}),
            vec!["grants[0].role"],
        ),
        (
            json!({"name": "a", "grants": [{"role": "viewer"}, {"role": "viewer", "filter": "site="}]}),
            vec!["grants[1].filter"],
        ),
        (
            json!({"name": "a", "grants": [{"role": "administrator", "filter": "site==a"}]}),
            vec!["grants[0].filter"],
        ),
        (
            json!({"name": "a", "grants": viewer, "expires_at": "2020-01-01T00:00:00Z"}),
            vec!["expires_at"],
        ),
        (
            json!({"name": "a", "grants": viewer, "expires_at": "tomorrow"}),
            vec!["expires_at"],
        ),
    ] {
        let answer = api.post("/v1/tokens", &body).await;
        assert_eq!(answer.fields(), fields, "{body}");
    }
    let many = vec![json!({"role": "viewer"}); 11];
    let answer = api
        .post("/v1/tokens", &json!({"name": "a", "grants": many}))
        .await;
    assert_eq!(answer.fields(), ["grants"]);
    api.token("taken", viewer.clone()).await;
    let taken = api
        .post("/v1/tokens", &json!({"name": "taken", "grants": viewer}))
        .await;
    assert_eq!(taken.problem(), "name-taken");
}

#[tokio::test]
async fn wrong_tokens_are_rationed_and_right_ones_are_not() {
    let api = Api::with(|config| config.admin.failed_attempts_per_minute = 5).await;
    let (_, token) = api.token("import", json!([{"role": "viewer"}])).await;
    for attempt in 0..8 {
        let wrong = api.get_as("cw_0000", "/v1/tasks").await;
        if attempt < 5 {
            assert_eq!(wrong.status, StatusCode::UNAUTHORIZED, "{attempt}");
        } else {
            assert_eq!(wrong.problem(), "too-many-requests", "{attempt}");
            let wait: u64 = wrong.header(header::RETRY_AFTER).parse().unwrap();
            assert!((1..=60).contains(&wait));
        }
    }
    assert_eq!(api.get_as(&token, "/v1/tasks").await.status, StatusCode::OK);
    assert_eq!(api.get("/v1/tasks").await.status, StatusCode::OK);
}

async fn task_by(api: &Api, token: &str, name: &str) -> i64 {
    let body = json!({"name": name, "package_id": 1, "all": true, "approval": true});
    let task = api.post_as(token, "/v1/tasks", &body).await;
    assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
    task.id()
}

#[tokio::test]
async fn nobody_answers_for_a_task_of_its_own() {
    let api = Api::new().await;
    api.task(1).await;
    let approval = json!({"by": "anna", "note": "seen"});
    // with the token in the file alone an installation can use approvals
    let alone = task_by(&api, TOKEN, "alone").await;
    let approved = api
        .post(&format!("/v1/tasks/{alone}/approve"), &approval)
        .await;
    assert_eq!(approved.status, StatusCode::OK, "{approved:?}");
    assert_eq!(approved.body["created_by"], "admin-token");
    let both = json!([{"role": "operator"}, {"role": "approver"}]);
    let (anna_id, anna) = api.token("anna", both.clone()).await;
    let (berta_id, berta) = api.token("berta", both).await;
    let task = task_by(&api, &anna, "anna's").await;
    for (answer, status) in [("approve", "own-task"), ("refuse", "own-task")] {
        let path = format!("/v1/tasks/{task}/{answer}");
        let own = api.post_as(&anna, &path, &approval).await;
        assert_eq!(own.status, StatusCode::FORBIDDEN);
        assert_eq!(own.problem(), status);
    }
    let path = format!("/v1/tasks/{task}/approve");
    let approved = api.post_as(&berta, &path, &approval).await;
    assert_eq!(approved.status, StatusCode::OK, "{approved:?}");
    assert_eq!(
        approved.body["approval"]["caller"],
        format!("token:{berta_id}:berta")
    );
    assert_eq!(approved.body["created_by"], format!("token:{anna_id}:anna"));
    // a copy belongs to whoever makes it
    let copy = format!("/v1/tasks/{task}/copy");
    let copy = api.post_as(&berta, &copy, &json!({})).await;
    assert_eq!(copy.status, StatusCode::CREATED, "{copy:?}");
    let path = format!("/v1/tasks/{}/approve", copy.id());
    assert_eq!(
        api.post_as(&berta, &path, &approval).await.problem(),
        "own-task"
    );
    assert_eq!(
        api.post_as(&anna, &path, &approval).await.status,
        StatusCode::OK
    );
    // now that there are others, neither does the token in the file
    let task = task_by(&api, TOKEN, "admin's").await;
    let path = format!("/v1/tasks/{task}/approve");
    assert_eq!(api.post(&path, &approval).await.problem(), "own-task");
    assert_eq!(
        api.post_as(&anna, &path, &approval).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn nobody_answers_for_a_change_of_its_own() {
    let api = Api::new().await;
    api.task(1).await;
    let both = json!([{"role": "operator"}, {"role": "approver"}]);
    let (_, anna) = api.token("anna", both.clone()).await;
    let (berta_id, berta) = api.token("berta", both.clone()).await;
    let (_, carla) = api.token("carla", both).await;
    let task = task_by(&api, &anna, "anna's").await;
    let path = format!("/v1/tasks/{task}");
    let change = async |who: &str, body: Value| {
        let changed = api.ask(who, Method::PATCH, &path, &body.to_string()).await;
        assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
        changed.body["changed_by"].clone()
    };
    let approval = json!({"by": "night shift", "note": "seen"});
    let answer = async |who: &str, what: &str| {
        let path = format!("{path}/{what}");
        api.post_as(who, &path, &approval).await
    };
    // where it stands among others is no matter of approval
    assert_eq!(change(&berta, json!({"priority": 9})).await, json!([]));
    assert_eq!(
        change(&berta, json!({"rate": {"per_minute": 5}})).await,
        json!([format!("token:{berta_id}:berta")])
    );
    for what in ["approve", "refuse"] {
        let own = answer(&berta, what).await;
        assert_eq!(own.problem(), "own-task");
        assert!(own.body["detail"].to_string().contains("has changed task"));
        assert_eq!(answer(&anna, what).await.problem(), "own-task");
    }
    assert_eq!(answer(&carla, "approve").await.status, StatusCode::OK);
    // a change takes the approval back, and its maker does not give it again
    change(&carla, json!({"rate": {"per_minute": 6}})).await;
    for who in [&anna, &berta, &carla] {
        assert_eq!(answer(who, "approve").await.problem(), "own-task");
    }
    let (_, dora) = api.token("dora", json!([{"role": "approver"}])).await;
    assert_eq!(answer(&dora, "approve").await.status, StatusCode::OK);
}

#[tokio::test]
async fn nobody_has_the_answer_to_somebody_elses_request() {
    let api = Api::new().await;
    let (_, anna) = api.token("anna", json!([{"role": "operator"}])).await;
    let (_, berta) = api.token("berta", json!([{"role": "operator"}])).await;
    let post = async |token: &str| {
        let request = Request::post("/v1/devices")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", "one")
            .body(Body::from(r#"{"endpoint":"a"}"#))
            .unwrap();
        api.call(request).await
    };
    assert_eq!(post(&anna).await.status, StatusCode::CREATED);
    let again = post(&anna).await;
    assert!(again.headers.contains_key("idempotency-replayed"));
    // a key is its caller's: what others send with it is carried out for them
    for other in [&*berta, TOKEN] {
        let answer = post(other).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(!answer.headers.contains_key("idempotency-replayed"));
    }
    // an answer that tells a secret is not given again
    let add = async |name: &str| {
        let body = json!({"name": name, "grants": [{"role": "viewer"}]});
        let request = Request::post("/v1/tokens")
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", "two")
            .body(Body::from(body.to_string()))
            .unwrap();
        api.call(request).await
    };
    assert_eq!(add("once").await.status, StatusCode::CREATED);
    assert_eq!(add("once").await.problem(), "request-unanswered");
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_revoked() {
    let api = Api::new().await;
    let (id, token) = api.token("stream", json!([{"role": "viewer"}])).await;
    let (address, _stop) = served(&api).await;
    let mut stream = reqwest::Client::new()
        .get(format!("http://{address}/v1/events"))
        .header("authorization", format!("Bearer {token}"))
        .send()
        .await
        .unwrap();
    assert!(stream.chunk().await.unwrap().is_some());
    api.delete(&format!("/v1/tokens/{id}")).await;
    let ended = async { while let Ok(Some(_)) = stream.chunk().await {} };
    tokio::time::timeout(Duration::from_secs(9), ended)
        .await
        .expect("the stream goes on");
}
