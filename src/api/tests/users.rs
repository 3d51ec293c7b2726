//! People, who log in with a password.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};

use super::{Answer, Api};

pub(super) const PASSWORD: &str = "correct horse battery";

/// Somebody who is logged in.
pub(super) struct Session {
    cookie: String,
    csrf: String,
}

impl Session {
    /// That of an answer to a log-in.
    pub(super) fn of(answer: &Answer) -> Self {
        let set = answer.header(header::SET_COOKIE);
        let (cookie, attributes) = set.split_once("; ").unwrap();
        assert_eq!(
            attributes,
            "Path=/; Max-Age=43200; Secure; HttpOnly; SameSite=Strict"
        );
        assert!(cookie.starts_with("__Host-cellwise="), "{cookie}");
        Self {
            cookie: cookie.to_owned(),
            csrf: answer.body["csrf_token"].as_str().unwrap().to_owned(),
        }
    }
}

impl Api {
    pub(super) async fn user(&self, name: &str, grants: Value) {
        let body = json!({"name": name, "password": PASSWORD, "grants": grants});
        let added = self.post("/v1/users", &body).await;
        assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
        assert_eq!(added.header(header::LOCATION), format!("/v1/users/{name}"));
        assert!(!added.body.to_string().contains("assword"), "{added:?}");
    }

    /// Without anything that lets in.
    pub(super) async fn try_log_in(&self, name: &str, password: &str) -> Answer {
        self.try_log_in_with(name, password, None).await
    }

    pub(super) async fn try_log_in_with(
        &self,
        name: &str,
        password: &str,
        code: Option<&str>,
    ) -> Answer {
        let body = json!({"name": name, "password": password, "code": code});
        let request = Request::post("/v1/session")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        let answer = self.call(request).await;
        self.check_described(&Method::POST, "/v1/session", &answer);
        answer
    }

    pub(super) async fn log_in(&self, name: &str) -> Session {
        let answer = self.try_log_in(name, PASSWORD).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        Session::of(&answer)
    }

    pub(super) async fn by(
        &self,
        session: &Session,
        method: Method,
        path: &str,
        body: &str,
    ) -> Answer {
        self.with_cookie(&session.cookie, Some(&session.csrf), method, path, body)
            .await
    }

    async fn with_cookie(
        &self,
        cookie: &str,
        csrf: Option<&str>,
        method: Method,
        path: &str,
        body: &str,
    ) -> Answer {
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header(header::COOKIE, format!("theme=dark; {cookie}"))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(csrf) = csrf {
            request = request.header("X-CSRF-Token", csrf);
        }
        let answer = self
            .call(request.body(Body::from(body.to_owned())).unwrap())
            .await;
        self.check_described(&method, path, &answer);
        answer
    }
}

#[tokio::test]
async fn a_user_logs_in_and_out() {
    let api = Api::new().await;
    api.user("anna", json!([{"role": "operator"}])).await;
    assert_eq!(
        api.get("/v1/users/anna").await.body["last_login_at"],
        Value::Null
    );
    let first = api.log_in("anna").await;
    let second = api.log_in("anna").await;
    assert!(first.cookie != second.cookie && first.csrf != second.csrf);
    let me = api.by(&first, Method::GET, "/v1/me", "").await.body;
    assert_eq!(me["who"], "user:1:anna");
    assert_eq!(me["kind"], "user");
    assert_eq!(me["csrf_token"], first.csrf);
    assert_eq!(me["grants"], json!([{"role": "operator", "filter": null}]));
    assert!(api.get("/v1/users/anna").await.body["last_login_at"].is_string());
    // what the grants permit, and nothing else
    let device = r#"{"endpoint": "a"}"#;
    let added = api.by(&first, Method::POST, "/v1/devices", device).await;
    assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
    let users = api.by(&first, Method::GET, "/v1/users", "").await;
    assert_eq!(users.problem(), "forbidden");
    let out = api.by(&first, Method::DELETE, "/v1/session", "").await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert!(out.header(header::SET_COOKIE).contains("Max-Age=0"));
    let gone = api.by(&first, Method::GET, "/v1/me", "").await;
    assert_eq!(gone.problem(), "unauthorized");
    let other = api.by(&second, Method::GET, "/v1/me", "").await;
    assert_eq!(other.status, StatusCode::OK);
    // a token is no session
    assert_eq!(api.delete("/v1/session").await.problem(), "no-session");
    let me = json!({"old_password": PASSWORD, "password": "another password"});
    let me = api.json(Method::PATCH, "/v1/me", &me.to_string()).await;
    assert_eq!(me.problem(), "no-session");
    // nothing of it is stored as it is
    let database = std::fs::read(api.dir.path().join("cellwise.db-wal")).unwrap();
    let stored = |text: &[u8]| database.windows(text.len()).any(|part| part == text);
    let (_, session) = second.cookie.split_once('=').unwrap();
    assert!(stored(b"$argon2id$") && !stored(PASSWORD.as_bytes()));
    assert!(!stored(session.as_bytes()) && !stored(second.csrf.as_bytes()));
}

#[tokio::test]
async fn a_request_that_another_site_causes_changes_nothing() {
    let api = Api::new().await;
    api.user("anna", json!([{"role": "operator"}])).await;
    let session = api.log_in("anna").await;
    let device = r#"{"endpoint": "a"}"#;
    let another = "0".repeat(64);
    for csrf in [None, Some(""), Some("x"), Some(&*another)] {
        let answer = api
            .with_cookie(&session.cookie, csrf, Method::POST, "/v1/devices", device)
            .await;
        assert_eq!(answer.problem(), "csrf-token-missing", "{csrf:?}");
    }
    let read = api.with_cookie(&session.cookie, None, Method::GET, "/v1/devices", "");
    let read = read.await;
    assert_eq!(read.status, StatusCode::OK);
    assert_eq!(read.body["items"], json!([]));
    // nor does a cookie of another name
    let cookie = session.cookie.replace("__Host-", "");
    let answer = api
        .with_cookie(&cookie, Some(&session.csrf), Method::GET, "/v1/me", "")
        .await;
    assert_eq!(answer.problem(), "unauthorized");
}

#[tokio::test]
async fn wrong_passwords_are_refused_and_rationed() {
    let api = Api::new().await;
    api.user("anna", json!([{"role": "viewer"}])).await;
    // nobody learns which names there are
    let mut answers = Vec::new();
    for (name, password) in [
        ("anna", "wrong horse battery"),
        ("nobody", PASSWORD),
        ("anna", ""),
        ("", PASSWORD),
    ] {
        let answer = api.try_log_in(name, password).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name}");
        answers.push(answer.body);
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    let mut rationed = 0;
    for _ in 0..12 {
        let answer = api.try_log_in("anna", "wrong horse battery").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(answer.problem(), "too-many-requests");
            rationed += 1;
        }
    }
    assert!(rationed >= 2, "{rationed}");
}

#[tokio::test]
async fn a_new_password_ends_all_sessions() {
    let api = Api::new().await;
    api.user("anna", json!([{"role": "viewer"}])).await;
    let (first, second) = (api.log_in("anna").await, api.log_in("anna").await);
    let change = async |session: &Session, old: &str, new: &str| {
        let body = json!({"old_password": old, "password": new}).to_string();
        api.by(session, Method::PATCH, "/v1/me", &body).await
    };
    let wrong = change(&first, "wrong horse battery", "another password").await;
    assert_eq!(wrong.fields(), ["old_password"]);
    assert_eq!(
        change(&first, PASSWORD, "short").await.fields(),
        ["password"]
    );
    let changed = change(&first, PASSWORD, "another password").await;
    assert_eq!(changed.status, StatusCode::NO_CONTENT, "{changed:?}");
    for session in [&first, &second] {
        let gone = api.by(session, Method::GET, "/v1/me", "").await;
        assert_eq!(gone.problem(), "unauthorized");
    }
    assert_eq!(
        api.try_log_in("anna", PASSWORD).await.problem(),
        "unauthorized"
    );
    // an administrator sets another one
    let body = json!({"password": PASSWORD}).to_string();
    let set = api.json(Method::PATCH, "/v1/users/anna", &body).await;
    assert_eq!(set.status, StatusCode::OK, "{set:?}");
    let session = api.log_in("anna").await;
    // grants take effect at once
    let body = json!({"grants": [{"role": "administrator"}]}).to_string();
    api.json(Method::PATCH, "/v1/users/anna", &body).await;
    let users = api.by(&session, Method::GET, "/v1/users", "").await;
    assert_eq!(users.body["items"][0]["name"], "anna");
    assert_eq!(
        api.delete("/v1/users/anna").await.status,
        StatusCode::NO_CONTENT
    );
    let gone = api.by(&session, Method::GET, "/v1/me", "").await;
    assert_eq!(gone.problem(), "unauthorized");
    for path in ["/v1/users/anna", "/v1/users/%C3%A4"] {
        assert_eq!(api.get(path).await.problem(), "not-found");
        assert_eq!(api.delete(path).await.problem(), "not-found");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_user_is_told() {
    let api = Api::new().await;
    let viewer = json!([{"role": "viewer"}]);
    for (body, fields) in [
        (
            json!({"name": "a b", "password": PASSWORD, "grants": viewer}),
            ["name"],
        ),
        (
            json!({"name": "anna", "password": "short", "grants": viewer}),
            ["password"],
        ),
        (
            json!({"name": "horse", "password": PASSWORD, "grants": viewer}),
            ["password"],
        ),
        (
            json!({"name": "anna", "password": PASSWORD, "grants": []}),
            ["grants"],
        ),
    ] {
        let answer = api.post("/v1/users", &body).await;
        assert_eq!(answer.fields(), fields, "{body}");
    }
    api.user("anna", viewer.clone()).await;
    let again = json!({"name": "anna", "password": PASSWORD, "grants": viewer});
    assert_eq!(api.post("/v1/users", &again).await.problem(), "name-taken");
    let nothing = api.json(Method::PATCH, "/v1/users/anna", "{}").await;
    assert_eq!(nothing.fields(), ["grants"]);
    let nobody = api
        .json(
            Method::PATCH,
            "/v1/users/berta",
            &json!({"grants": viewer}).to_string(),
        )
        .await;
    assert_eq!(nobody.problem(), "not-found");
}

#[tokio::test]
async fn a_user_is_the_other_pair_of_eyes() {
    let api = Api::new().await;
    api.task(1).await;
    api.user("anna", json!([{"role": "approver"}])).await;
    let task = json!({"name": "n", "package_id": 1, "all": true, "approval": true});
    let task = api.post("/v1/tasks", &task).await.id();
    let path = format!("/v1/tasks/{task}/approve");
    let body = json!({"by": "anna"});
    assert_eq!(api.post(&path, &body).await.problem(), "own-task");
    let session = api.log_in("anna").await;
    let approved = api
        .by(&session, Method::POST, &path, &body.to_string())
        .await;
    assert_eq!(approved.status, StatusCode::OK, "{approved:?}");
    assert_eq!(approved.body["approval"]["caller"], "user:1:anna");
}
