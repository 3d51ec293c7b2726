//! Log-ins by an identity provider that stands here: it signs what a test wants.

mod provider;
mod tls;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{ConnectInfo, State},
    http::{Request, StatusCode, header},
    routing::{get, post},
};
use reqwest::Url;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use self::provider::{Provider, Shared, base64, broken, configuration, new_key, token, userinfo};
use super::{Answer, Api, users::PASSWORD};
use crate::{
    api::{Oidc, OidcFiles, router},
    config::OidcGrant,
};

/// An API, and a provider of which it knows.
struct World {
    api: Api,
    provider: Shared,
}

/// A browser that was sent to the provider.
struct UnderWay {
    cookie: String,
    to: Url,
}

impl UnderWay {
    fn parameter(&self, name: &str) -> String {
        let mut pairs = self.to.query_pairs();
        let found = pairs.find(|(key, _)| key == name);
        found
            .unwrap_or_else(|| panic!("{name}: {}", self.to))
            .1
            .into_owned()
    }
}

impl World {
    async fn new() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        Self::at(listener, issuer, None).await
    }

    /// With a provider that listens here, and the authorities by which it is believed.
    async fn at<L>(listener: L, issuer: String, authorities: Option<Vec<u8>>) -> Self
    where
        L: axum::serve::Listener,
        L::Addr: std::fmt::Debug,
    {
        let provider = Arc::new(Mutex::new(Provider {
            issuer: issuer.clone(),
            key: new_key(),
            kid: "first".to_owned(),
            claims: json!({}),
            userinfo: None,
            algorithm: "RS256",
            codes: HashMap::new(),
            fetched: 0,
            broken: None,
            hangs: None,
            hanging: 0,
        }));
        let keys = async |State(provider): State<Shared>| Json(provider.lock().unwrap().keys());
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .route("/userinfo", get(userinfo))
            .layer(axum::middleware::from_fn_with_state(
                provider.clone(),
                broken,
            ))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let api = Self::api(&issuer, authorities).await;
        Self { api, provider }
    }

    async fn api(issuer: &str, authorities: Option<Vec<u8>>) -> Api {
        let mut api = Api::with(|config| {
            config.admin.public_url = "https://cellwise.example.com/".to_owned();
            config.oidc.issuer = issuer.to_owned();
            config.oidc.client_id = "cellwise".to_owned();
            let grant = |group: &str, role: &str, filter: Option<&str>| OidcGrant {
                group: group.to_owned(),
                role: role.to_owned(),
                filter: filter.map(str::to_owned),
                tenant: None,
            };
            config.oidc.grants = vec![
                grant("readers", "viewer", None),
                grant("north", "operator", Some("site==north*")),
                grant("readers too", "viewer", None),
            ];
        })
        .await;
        let config = api.state.config.get();
        assert!(config.validate().is_ok(), "{:?}", config.validate());
        let files = OidcFiles {
            client_secret: Some(b"the secret of the client\n".to_vec()),
            authorities,
        };
        let oidc = Oidc::of(&config, files, [7; 32]).unwrap().unwrap();
        api.state.oidc = Some(Arc::new(oidc));
        api.router = router(api.state.clone());
        api
    }

    fn provider(&self, change: impl FnOnce(&mut Provider)) {
        change(&mut self.provider.lock().unwrap());
    }

    async fn get(&self, path: &str, cookie: Option<&str>) -> Answer {
        let mut request = Request::get(path);
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let answer = self.api.call(request.body(Body::empty()).unwrap()).await;
        self.api
            .check_described(&axum::http::Method::GET, path, &answer);
        answer
    }

    async fn begin(&self, query: &str) -> UnderWay {
        let answer = self.get(&format!("/v1/session/oidc{query}"), None).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
        let (cookie, attributes) = (answer.header(header::SET_COOKIE).split_once("; ")).unwrap();
        assert_eq!(
            attributes,
            "Path=/; Max-Age=600; Secure; HttpOnly; SameSite=Lax"
        );
        UnderWay {
            cookie: cookie.to_owned(),
            to: answer.header(header::LOCATION).parse().unwrap(),
        }
    }

    /// What the provider sends the browser back with.
    fn code(&self, under_way: &UnderWay) -> String {
        let parts = ["code_challenge", "nonce"].map(|name| under_way.parameter(name));
        let [challenge, nonce] = parts;
        let mut provider = self.provider.lock().unwrap();
        let code = format!("code-{}", provider.codes.len());
        provider.codes.insert(code.clone(), (challenge, nonce));
        code
    }

    async fn answer(&self, under_way: &UnderWay, more: &str) -> Answer {
        let state = under_way.parameter("state");
        let path = format!("/v1/session/oidc/callback?state={state}{more}");
        self.get(&path, Some(&under_way.cookie)).await
    }

    /// The whole way.
    async fn log_in(&self) -> Answer {
        let under_way = self.begin("").await;
        let code = self.code(&under_way);
        self.answer(&under_way, &format!("&code={code}")).await
    }

    /// Why a log-in is refused.
    async fn refusal(&self) -> String {
        let answer = self.log_in().await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
        assert_eq!(answer.problem(), "log-in-refused");
        answer.detail().to_owned()
    }
}

/// Takes the cookie of a log-in that is under way away.
const GONE: &str = "__Host-cellwise-oidc=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax";

/// The cookie of the session.
fn session(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let cookies = answer.headers.get_all(header::SET_COOKIE);
    let cookies: Vec<&str> = cookies.iter().map(|it| it.to_str().unwrap()).collect();
    assert_eq!(cookies.len(), 2);
    assert_eq!(cookies[1], GONE);
    let (session, attributes) = cookies[0].split_once("; ").unwrap();
    assert_eq!(
        attributes,
        "Path=/; Max-Age=43200; Secure; HttpOnly; SameSite=Strict"
    );
    session.to_owned()
}

#[tokio::test]
async fn somebody_logs_in_and_is_granted_what_the_groups_are() {
    let world = World::new().await;
    let under_way = world.begin("?return_to=/tasks?a=b").await;
    for (name, expected) in [
        ("response_type", "code"),
        ("client_id", "cellwise"),
        ("code_challenge_method", "S256"),
        ("scope", "openid profile email"),
        (
            "redirect_uri",
            "https://cellwise.example.com/v1/session/oidc/callback",
        ),
    ] {
        assert_eq!(under_way.parameter(name), expected);
    }
    let code = world.code(&under_way);
    let more = format!("&code={code}&session_state=x");
    let answer = world.answer(&under_way, &more).await;
    let page = answer.body.as_str().unwrap();
    assert!(page.contains("content=\"0;url=/tasks?a=b\""), "{page}");
    assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
    let cookie = session(&answer);
    let me = world.get("/v1/me", Some(&cookie)).await.body;
    assert_eq!(me["who"], "user:1:anna");
    assert_eq!(me["grants"], json!([{"role": "viewer", "filter": null}]));
    assert_eq!(me["second_factor"], Value::Null);
    assert!(me["csrf_token"].is_string());
    // the groups of now, with each log-in
    world.provider(|it| it.claims = json!({"groups": ["north"], "preferred_username": "other"}));
    session(&world.log_in().await);
    let me = world.get("/v1/me", Some(&cookie)).await.body;
    let north = json!([{"role": "operator", "filter": "site==north*"}]);
    assert_eq!((&me["who"], &me["grants"]), (&json!("user:1:anna"), &north));
    let user = world.api.get("/v1/users/anna").await.body;
    assert_eq!(user["identity"]["subject"], "248289761001");
    assert_eq!(user["created_by"], "identity-provider");
    assert!(user["last_login_at"].is_string());
    let rows = world.api.get("/v1/audit").await.body;
    let told: Vec<(&str, &str)> = (rows["items"].as_array().unwrap().iter().rev())
        .map(|row| {
            (
                row["who"].as_str().unwrap(),
                row["target"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("identity-provider", "users/anna"),
            ("user:1:anna", "session/oidc"),
            ("identity-provider", "users/anna"),
            ("user:1:anna", "session/oidc"),
        ]
    );
    assert_eq!(rows["items"][1]["after"]["grants"][0]["role"], "operator");
    assert_eq!(world.provider.lock().unwrap().fetched, 1);
}

#[tokio::test]
async fn a_user_of_an_identity_has_nothing_else_to_log_in_with() {
    let world = World::new().await;
    world.api.user("anna", json!([{"role": "auditor"}])).await;
    let cookie = session(&world.log_in().await);
    let me = world.get("/v1/me", Some(&cookie)).await.body;
    let name = me["who"].as_str().unwrap().strip_prefix("user:2:").unwrap();
    assert!(name.starts_with("anna-") && name.len() == 13, "{name}");
    for password in ["", PASSWORD] {
        let answer = world.api.try_log_in(name, password).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let path = format!("/v1/users/{name}");
    for (field, value) in [
        ("password", json!(PASSWORD)),
        ("grants", json!([{"role": "administrator"}])),
        ("second_factor_required", json!(true)),
    ] {
        let body = json!({field: value}).to_string();
        let answer = world
            .api
            .json(axum::http::Method::PATCH, &path, &body)
            .await;
        assert_eq!(answer.fields(), [field]);
    }
    // it is kept out as others are
    let body = json!({"disabled": true}).to_string();
    let answer = world
        .api
        .json(axum::http::Method::PATCH, &path, &body)
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let gone = world.get("/v1/me", Some(&cookie)).await;
    assert_eq!(gone.status, StatusCode::UNAUTHORIZED);
    let refused = world.log_in().await;
    assert_eq!(refused.problem(), "user-disabled");
    // a removed one comes anew
    world.api.delete(&path).await;
    let cookie = session(&world.log_in().await);
    let me = world.get("/v1/me", Some(&cookie)).await.body;
    assert!(me["who"].as_str().unwrap().starts_with("user:3:"));
}

#[tokio::test]
async fn who_is_in_no_group_of_the_settings_is_told_so() {
    let world = World::new().await;
    world.provider(|it| it.claims = json!({"groups": ["others", "Readers"]}));
    let refused = world.log_in().await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(refused.problem(), "no-grants");
    assert!(refused.detail().ends_with("others, Readers"), "{refused:?}");
    for claims in [
        json!({"groups": null}),
        json!({"groups": 7}),
        json!({"groups": []}),
    ] {
        world.provider(|it| it.claims = claims);
        let refused = world.log_in().await;
        assert!(refused.detail().contains("tells no group"), "{refused:?}");
    }
    assert_eq!(world.api.get("/v1/users").await.body["items"], json!([]));
    // a single one as a text, and those that userinfo tells
    world.provider(|it| it.claims = json!({"groups": "readers"}));
    session(&world.log_in().await);
    let world = World::new().await;
    world.provider(|it| {
        it.claims = json!({"groups": null});
        it.userinfo = Some(json!({"sub": "248289761001", "groups": ["north"]}));
    });
    session(&world.log_in().await);
    world.provider(|it| it.userinfo = Some(json!({"sub": "another", "groups": ["north"]})));
    world.refusal().await;
}

#[tokio::test]
async fn who_is_in_no_group_any_more_loses_what_was_granted() {
    let world = World::new().await;
    let cookie = session(&world.log_in().await);
    world.provider(|it| it.claims = json!({"groups": ["others"]}));
    assert_eq!(world.log_in().await.problem(), "no-grants");
    let gone = world.get("/v1/me", Some(&cookie)).await;
    assert_eq!(gone.status, StatusCode::UNAUTHORIZED);
    let user = world.api.get("/v1/users/anna").await.body;
    assert_eq!(user["grants"], json!([]));
    let rows = world.api.get("/v1/audit").await.body;
    assert_eq!(rows["items"][0]["who"], "identity-provider");
    assert_eq!(rows["items"][0]["after"]["grants"], json!([]), "{rows}");
    // another refusal changes nothing, and a group grants anew
    assert_eq!(world.log_in().await.problem(), "no-grants");
    world.provider(|it| it.claims = json!({}));
    session(&world.log_in().await);
}

/// Somebody makes codes up, and the provider takes its time over them.
#[tokio::test]
async fn one_address_does_not_take_the_places_of_all() {
    let world = World::new().await;
    let mut under_way = Vec::new();
    for _ in 0..16 {
        under_way.push(world.begin("").await);
    }
    let mut hanging = 0;
    world.provider(|it| it.hangs = Some("made-up"));
    let mut calls = Vec::new();
    for it in &under_way {
        let state = it.parameter("state");
        let path = format!("/v1/session/oidc/callback?state={state}&code=made-up");
        let request = Request::get(path)
            .header(header::COOKIE, &it.cookie)
            .extension(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 7))))
            .body(Body::empty());
        let router = world.api.router.clone();
        calls.push(tokio::spawn(router.oneshot(request.unwrap())));
    }
    while hanging < 2 {
        tokio::task::yield_now().await;
        hanging = world.provider.lock().unwrap().hanging;
    }
    session(&world.log_in().await);
    assert_eq!(world.provider.lock().unwrap().hanging, 2);
    for call in calls {
        call.abort();
    }
}

#[tokio::test]
async fn what_the_provider_says_is_told_in_one_short_line() {
    let world = World::new().await;
    let more = format!("a\u{1b}[2J\n{}", "x".repeat(100_000));
    let error = json!({"error": "invalid_grant", "error_description": more});
    let under_way = world.begin("").await;
    let code = world.code(&under_way);
    world.provider(|it| it.broken = Some((StatusCode::BAD_REQUEST, error.to_string())));
    let refused = world.answer(&under_way, &format!("&code={code}")).await;
    assert_eq!(refused.problem(), "log-in-refused", "{refused:?}");
    let told = refused.detail();
    assert!(told.contains("invalid_grant") && told.len() < 600, "{told}");
    assert!(!told.contains(char::is_control), "{told}");
}

#[test]
fn secrets_are_not_shown() {
    let mut config = crate::config::Config::default();
    config.oidc.issuer = "https://login.example.com".to_owned();
    config.oidc.client_id = "cellwise".to_owned();
    config.admin.public_url = "https://cellwise.example.com".to_owned();
    let files = OidcFiles {
        client_secret: Some(b"the secret of the client".to_vec()),
        authorities: None,
    };
    let oidc = Oidc::of(&config, files, [0; 32]).unwrap().unwrap();
    let shown = format!("{oidc:?}");
    assert!(
        shown.contains("login.example.com") && !shown.contains("the secret"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_token_that_is_not_for_this_log_in_is_refused() {
    let world = World::new().await;
    let now = jiff::Timestamp::now().as_second();
    for (claims, why) in [
        (json!({"nonce": "another"}), "nonce"),
        (json!({"nonce": null}), "nonce"),
        (json!({"aud": "another"}), "audience"),
        (json!({"aud": ["cellwise", "another"]}), "audience"),
        (json!({"iss": "https://evil.example"}), "issuer"),
        (json!({"exp": now - 90}), "xpired"),
        (json!({"iat": now + 90}), "yet to come"),
        (json!({"at_hash": base64([1; 16])}), "access token"),
        (json!({"sub": "x".repeat(256)}), "1 to 255"),
    ] {
        world.provider(|it| it.claims = claims.clone());
        let refusal = world.refusal().await;
        assert!(refusal.contains(why), "{claims}: {refusal}");
    }
    // clocks may differ a little
    for claims in [json!({"exp": now - 20}), json!({"iat": now + 30})] {
        world.provider(|it| it.claims = claims);
        session(&world.log_in().await);
    }
}

#[tokio::test]
async fn a_token_that_the_provider_has_not_signed_is_refused() {
    let world = World::new().await;
    for algorithm in ["none", "HS256"] {
        world.provider(|it| it.algorithm = algorithm);
        world.refusal().await;
    }
    world.provider(|it| it.algorithm = "RS256");
    session(&world.log_in().await);
    // another key under the same name
    world.provider(|it| it.key = new_key());
    world.refusal().await;
    let fetched = world.provider.lock().unwrap().fetched;
    assert_eq!(fetched, 1, "the key is known");
    // one of another name: what was published is fetched anew, but not over and over
    world.provider(|it| it.kid = "second".to_owned());
    for _ in 0..3 {
        world.refusal().await;
    }
    assert_eq!(world.provider.lock().unwrap().fetched, 1);
    // after a minute it is
    let later = world.api.state.now() + Duration::from_secs(61);
    world.provider(|it| it.claims = json!({"exp": later.0 / 1_000 + 60}));
    let oidc = world.api.state.oidc.clone().unwrap();
    let names = ("state".to_owned(), "nonce".to_owned());
    let from = "192.0.2.1".parse().unwrap();
    let asked = oidc.provider.ask(names, from, later).await;
    let (to, asked) = asked.unwrap();
    let under_way = UnderWay {
        cookie: String::new(),
        to: to.parse().unwrap(),
    };
    let code = world.code(&under_way);
    let person = oidc.provider.person(code, &asked, from, later).await;
    let person = person.unwrap();
    assert_eq!(person.groups, ["readers", "others"]);
    assert_eq!(world.provider.lock().unwrap().fetched, 2);
}

#[tokio::test]
async fn a_log_in_is_answered_once_by_the_browser_that_has_begun_it() {
    let world = World::new().await;
    let (first, second) = (world.begin("").await, world.begin("").await);
    let code = world.code(&first);
    let refused = async |under_way: &UnderWay, more: &str| {
        let answer = world.answer(under_way, more).await;
        assert_eq!(answer.problem(), "log-in-refused");
        answer.detail().to_owned()
    };
    let path = format!(
        "/v1/session/oidc/callback?state={}&code={code}",
        first.parameter("state")
    );
    let cookies = [
        None,
        Some(second.cookie.clone()),
        Some("__Host-cellwise-oidc=".to_owned()),
        Some(format!("{}x", first.cookie)),
    ];
    for cookie in cookies {
        let answer = world.get(&path, cookie.as_deref()).await;
        assert_eq!(answer.problem(), "log-in-refused", "{cookie:?}");
        assert!(answer.detail().contains("has not begun"));
        // nor does another site end one
        assert_eq!(answer.headers.get(header::SET_COOKIE), None);
    }
    session(&world.answer(&first, &format!("&code={code}")).await);
    let again = refused(&first, &format!("&code={code}")).await;
    assert!(again.contains("answered before"), "{again}");
    // a code of before, in a log-in of its own
    let replayed = refused(&second, &format!("&code={code}")).await;
    assert!(replayed.contains("does not take the code"), "{replayed}");
    let third = world.begin("").await;
    let more = "&error=access_denied&error_description=not+today";
    let answer = world.answer(&third, more).await;
    assert_eq!(
        answer.header(header::SET_COOKIE),
        GONE,
        "it cannot be answered again"
    );
    let denied = answer.detail();
    assert!(denied.ends_with("access_denied not today"), "{denied}");
    let fourth = world.begin("").await;
    let other = refused(&fourth, "&code=x&iss=https://evil.example").await;
    assert!(other.contains("another identity provider"), "{other}");
    let missing = world.get("/v1/session/oidc/callback", None).await;
    assert_eq!(missing.problem(), "log-in-refused");
    let rows = world.api.state.trail.clone();
    rows.write(&*world.api.state.store, world.api.state.now(), true)
        .await
        .unwrap();
    let rows = world.api.get("/v1/audit?result=refused").await.body;
    assert_eq!(rows["items"][0]["operation"], "end_oidc", "{rows}");
}

#[tokio::test]
async fn a_browser_is_led_to_this_host_alone() {
    let world = World::new().await;
    for path in ["//evil.example", "https://evil.example", "/%5Cevil.example"] {
        let path = format!("/v1/session/oidc?return_to={path}");
        let answer = world.get(&path, None).await;
        assert_eq!(answer.fields(), ["return_to"], "{path}");
    }
    let unknown = world.get("/v1/session/oidc?to=/x", None).await;
    assert_eq!(unknown.problem(), "bad-parameter");
}

#[tokio::test]
async fn a_provider_that_is_down_is_told_and_passwords_work() {
    // nobody listens there
    let api = World::api("http://127.0.0.1:1", None).await;
    let provider = World::new().await.provider;
    let world = World { api, provider };
    let down = world.get("/v1/session/oidc", None).await;
    assert_eq!(down.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(down.problem(), "identity-provider-unavailable");
    world.api.user("berta", json!([{"role": "viewer"}])).await;
    world.api.log_in("berta").await;
    // what it answers makes no sense, or is too long
    for (status, body) in [
        (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
        (StatusCode::OK, "<html>".to_owned()),
        (StatusCode::FOUND, String::new()),
        (StatusCode::OK, " ".repeat(600_000)),
    ] {
        let world = World::new().await;
        world.provider(|it| it.broken = Some((status, body)));
        let down = world.get("/v1/session/oidc", None).await;
        assert_eq!(down.problem(), "identity-provider-unavailable", "{down:?}");
    }
    // in mid-way
    let world = World::new().await;
    let under_way = world.begin("").await;
    let code = world.code(&under_way);
    world.provider(|it| it.broken = Some((StatusCode::BAD_GATEWAY, String::new())));
    let down = world.answer(&under_way, &format!("&code={code}")).await;
    assert_eq!(down.problem(), "identity-provider-unavailable", "{down:?}");
}

#[tokio::test]
async fn attempts_are_rationed_by_address() {
    let world = World::new().await;
    let mut refused = 0;
    for _ in 0..35 {
        let answer = world.get("/v1/session/oidc", None).await;
        refused += u32::from(answer.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!((4..=6).contains(&refused), "{refused}");
    let none = Api::new().await;
    let none = none.get("/v1/session/oidc").await;
    assert_eq!(none.problem(), "no-identity-provider");
}

#[test]
fn settings_that_are_not_possible_are_named() {
    let with = |change: &dyn Fn(&mut OidcGrant)| {
        let mut config = crate::config::Config::default();
        config.oidc.issuer = "https://login.example.com".to_owned();
        config.admin.public_url = "https://cellwise.example.com".to_owned();
        let mut grant = OidcGrant {
            group: "g".to_owned(),
            role: "viewer".to_owned(),
            filter: None,
            tenant: None,
        };
        change(&mut grant);
        config.oidc.grants = vec![grant];
        let oidc = Oidc::of(&config, OidcFiles::default(), [0; 32]);
        oidc.err().map(|error| error.to_string())
    };
    assert_eq!(with(&|_| ()), None);
    for (change, setting) in [
        (
            &(|it: &mut OidcGrant| it.role = "boss".to_owned()) as &dyn Fn(&mut OidcGrant),
            "role",
        ),
        (&|it| it.filter = Some("site=".to_owned()), "filter"),
        (&|it| it.tenant = Some("nobody's".to_owned()), "tenant"),
        (
            &|it| {
                it.role = "administrator".to_owned();
                it.filter = Some("site==a".to_owned());
            },
            "filter",
        ),
    ] {
        let told = with(change).unwrap();
        assert!(
            told.starts_with(&format!("oidc.grants[0].{setting}: ")),
            "{told}"
        );
    }
}
