//! Links by which people log in once.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};

use super::{
    Answer, Api,
    users::{PASSWORD, Session},
};
use crate::{
    access::{Grant, Role},
    api::links::{LASTS, MOST},
    store::{Identity, IdentityUser, UserId, UserRecord},
};

const OF_ANNA: &str = "/v1/users/anna/login-link";

impl Api {
    async fn make_link(&self, name: &str) -> Answer {
        let path = format!("/v1/users/{name}/login-link");
        self.post(&path, &json!({})).await
    }

    /// What is in a link that is made.
    async fn link(&self, name: &str) -> String {
        let made = self.make_link(name).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        made.body["token"].as_str().unwrap().to_owned()
    }

    /// Without anything that lets in.
    async fn log_in_with(&self, body: &Value) -> Answer {
        let request = Request::post("/v1/session")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        let answer = self.call(request).await;
        self.check_described(&Method::POST, "/v1/session", &answer);
        answer
    }

    /// `in`, or the problem.
    async fn try_link(&self, link: &str) -> String {
        self.try_link_with(link, None).await
    }

    async fn try_link_with(&self, link: &str, code: Option<&str>) -> String {
        let answer = self.log_in_with(&json!({"link": link, "code": code})).await;
        match answer.status {
            StatusCode::CREATED => "in".to_owned(),
            _ => answer.problem().to_owned(),
        }
    }

    async fn change_anna(&self, change: Value) {
        let changed = self
            .json(Method::PATCH, "/v1/users/anna", &change.to_string())
            .await;
        assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    }

    async fn with_anna() -> Self {
        let api = Self::new().await;
        api.user("anna", json!([{"role": "viewer"}])).await;
        api
    }
}

#[tokio::test]
async fn a_link_lets_its_user_in_once() {
    let api = Api::with_anna().await;
    let before = api.state.now();
    let made = api.make_link("anna").await;
    let after = api.state.now();
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let link = made.body["token"].as_str().unwrap();
    assert!(link.len() == 64 && link.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(made.body["path"], format!("/console/login?link={link}"));
    let ends = made.body["expires_at"].as_str().unwrap().to_owned();
    assert!((before + LASTS).to_string() <= ends && ends <= (after + LASTS).to_string());

    let wrong = "0".repeat(64);
    for wrong in ["", &wrong, &link.to_uppercase(), &format!("{link}0")] {
        assert_eq!(api.try_link(wrong).await, "unauthorized", "{wrong}");
    }
    let answer = api.log_in_with(&json!({ "link": link })).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    assert_eq!(answer.body["who"], "user:1:anna");
    let session = Session::of(&answer);
    let me = api.by(&session, Method::GET, "/v1/me", "").await;
    assert_eq!(me.body["who"], "user:1:anna");
    assert_eq!(api.try_link(link).await, "unauthorized");

    // the log says who has made it, and that it was used; it has nothing of it, nor has the database
    let rows = api.get("/v1/audit?limit=1000").await.body["items"].take();
    let done = |row: &&Value| row["result"] == "done";
    let rows: Vec<(&Value, &Value, &Value)> = (rows.as_array().unwrap().iter())
        .filter(done)
        .map(|row| (&row["operation"], &row["who"], &row["target"]))
        .collect();
    let row = (
        &json!("add_login_link"),
        &json!("admin-token"),
        &json!("users/anna"),
    );
    assert!(rows.contains(&row), "{rows:?}");
    let row = (&json!("log_in"), &json!("user:1:anna"), &json!("session"));
    assert!(rows.contains(&row), "{rows:?}");
    let database = std::fs::read(api.dir.path().join("cellwise.db-wal")).unwrap();
    let stored = |text: &str| (database.windows(text.len())).any(|part| part == text.as_bytes());
    assert!(stored("add_login_link") && !stored(link));
}

#[tokio::test]
async fn a_link_ends_after_ten_minutes_or_with_a_newer_one() {
    let api = Api::with_anna().await;
    let user = api.state.store.user("anna").await.unwrap().unwrap();
    let made_before = |span: Duration| {
        let at = api.state.now().before(span);
        let made = api.state.links.make(&user, "admin-token".to_owned(), at);
        made.unwrap().token
    };
    let ended = made_before(LASTS);
    assert_eq!(api.try_link(&ended).await, "unauthorized");
    let good = made_before(LASTS.saturating_sub(Duration::from_mins(1)));
    assert_eq!(api.try_link(&good).await, "in");
    let (older, newer) = (api.link("anna").await, api.link("anna").await);
    assert_eq!(api.try_link(&older).await, "unauthorized");
    assert_eq!(api.try_link(&newer).await, "in");
}

#[tokio::test]
async fn a_link_is_for_the_user_as_it_was_when_it_was_made() {
    let api = Api::with_anna().await;
    let link = api.link("anna").await;
    api.change_anna(json!({"password": "another password"}))
        .await;
    assert_eq!(api.try_link(&link).await, "unauthorized");
    let link = api.link("anna").await;
    api.change_anna(json!({"grants": [{"role": "auditor"}]}))
        .await;
    assert_eq!(api.try_link(&link).await, "unauthorized");
    let link = api.link("anna").await;
    api.delete("/v1/users/anna").await;
    assert_eq!(api.try_link(&link).await, "unauthorized");
    api.user("anna", json!([{"role": "auditor"}])).await;
    assert_eq!(
        api.try_link(&link).await,
        "unauthorized",
        "it is another one"
    );
    let link = api.link("anna").await;
    assert_eq!(api.try_link(&link).await, "in");
}

#[tokio::test]
async fn who_is_kept_out_is_not_let_in_by_a_link() {
    let api = Api::with_anna().await;
    let link = api.link("anna").await;
    api.change_anna(json!({"disabled": true})).await;
    let refused = api.log_in_with(&json!({ "link": link })).await;
    assert_eq!(
        (refused.status, refused.problem()),
        (StatusCode::FORBIDDEN, "user-disabled")
    );
    assert_eq!(api.make_link("anna").await.problem(), "user-disabled");
    // it was not used
    api.change_anna(json!({"disabled": false})).await;
    assert_eq!(api.try_link(&link).await, "in");
}

#[tokio::test]
async fn a_link_stands_for_the_password_and_not_for_the_second_factor() {
    let api = Api::with_anna().await;
    let session = api.log_in("anna").await;
    let device = api.set_up(&session).await;
    let link = api.link("anna").await;
    let needed = api.log_in_with(&json!({ "link": link })).await;
    assert_eq!(
        (needed.status, needed.problem()),
        (StatusCode::UNAUTHORIZED, "code-needed")
    );
    let used = device.code(&api, 0);
    assert_eq!(api.try_link_with(&link, Some(&used)).await, "code-wrong");
    let next = device.code(&api, 1);
    assert_eq!(api.try_link_with(&link, Some(&next)).await, "in");
    assert_eq!(
        api.try_link_with(&link, Some(&next)).await,
        "unauthorized",
        "the link is used"
    );
    // a code that was used meanwhile does not use up the link
    let link = api.link("anna").await;
    assert_eq!(api.try_link_with(&link, Some(&next)).await, "code-wrong");
    let recovery = &device.recovery[0];
    assert_eq!(api.try_link_with(&link, Some(recovery)).await, "in");
}

#[tokio::test]
async fn wrong_codes_and_wrong_links_are_rationed() {
    let api = Api::with_anna().await;
    let session = api.log_in("anna").await;
    api.set_up(&session).await;
    let link = api.link("anna").await;
    for _ in 0..10 {
        let wrong = api.try_link_with(&link, Some("000000")).await;
        assert_eq!(wrong, "code-wrong");
    }
    let refused = api.try_link_with(&link, Some("000000")).await;
    assert_eq!(refused, "too-many-requests");
    // by address, as passwords are
    let mut rationed = 0;
    for _ in 0..30 {
        rationed += u32::from(api.try_link("wrong").await == "too-many-requests");
    }
    assert!(rationed >= 5, "{rationed}");
}

#[tokio::test]
async fn an_administrator_of_a_tenant_makes_links_for_its_users_alone() {
    let api = Api::with_anna().await;
    api.post("/v1/tenants", &json!({"id": "acme"})).await;
    let of_acme = json!([{"role": "administrator", "tenant": "acme"}]);
    let (_, acme) = api.token("acme", of_acme).await;
    let viewer = json!([{"role": "viewer", "tenant": "acme"}]);
    api.user("berta", viewer).await;
    let others = api.post_as(&acme, OF_ANNA, &json!({})).await;
    assert_eq!(others.problem(), "not-found");
    let path = "/v1/users/berta/login-link";
    let make = async || {
        let made = api.post_as(&acme, path, &json!({})).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        made.body["token"].as_str().unwrap().to_owned()
    };
    assert_eq!(api.try_link(&make().await).await, "in");
    // whoever is granted more by somebody else is not in the hands of this one any more
    let link = make().await;
    let more = json!({"grants": [{"role": "administrator"}]}).to_string();
    api.json(Method::PATCH, "/v1/users/berta", &more).await;
    assert_eq!(api.try_link(&link).await, "unauthorized");
    let (_, viewer) = api.token("viewer", json!([{"role": "viewer"}])).await;
    let refused = api.post_as(&viewer, OF_ANNA, &json!({})).await;
    assert_eq!(refused.problem(), "forbidden");
}

#[tokio::test]
async fn there_are_so_many_links_at_most() {
    let api = Api::with_anna().await;
    let anna = api.state.store.user("anna").await.unwrap().unwrap();
    let others = (0..).map(|at| UserRecord {
        id: UserId(1_000 + at),
        ..anna.clone()
    });
    for other in others.take(MOST) {
        let now = api.state.now();
        let made = api.state.links.make(&other, "admin-token".to_owned(), now);
        assert!(made.is_ok());
    }
    let refused = api.make_link("anna").await;
    assert_eq!(
        (refused.status, refused.problem()),
        (StatusCode::CONFLICT, "too-many-links")
    );
}

#[tokio::test]
async fn who_has_no_password_has_no_link() {
    let api = Api::new().await;
    let of_provider = IdentityUser {
        identity: Identity {
            issuer: "https://login.example.com".to_owned(),
            subject: "1".to_owned(),
        },
        name: "clara".to_owned(),
        grants: vec![Grant::of(Role::Viewer)],
        at: api.state.now(),
        share: 10,
    };
    let added = api.state.store.user_of_identity(&of_provider).await;
    assert_eq!(added.unwrap().name, "clara");
    assert_eq!(api.make_link("clara").await.problem(), "no-password");
    assert_eq!(api.make_link("nobody").await.problem(), "not-found");
}

#[tokio::test]
async fn a_log_in_is_by_a_password_or_by_a_link() {
    let api = Api::with_anna().await;
    let link = api.link("anna").await;
    for (body, field) in [
        (json!({}), "name"),
        (json!({"password": PASSWORD}), "name"),
        (json!({"name": "anna"}), "password"),
        (json!({"name": "anna", "link": link}), "link"),
        (
            json!({"name": "anna", "password": PASSWORD, "link": link}),
            "link",
        ),
    ] {
        assert_eq!(api.log_in_with(&body).await.fields(), [field], "{body}");
    }
    assert_eq!(api.try_link(&link).await, "in");
}
