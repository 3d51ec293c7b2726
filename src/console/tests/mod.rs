//! The pages in one process: what a browser sends in, what it is shown out, over a real store.

mod admin;
mod admin_forms;
mod door;
mod fleet;
mod new_task;
mod now;
mod people_forms;
mod tasks;
mod texts;
mod upload;

use std::fmt::Write as _;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::{
    api::{self, ApiState, tests::TOKEN},
    config::Config,
};

pub(super) const PASSWORD: &str = "correct horse battery";

/// A server, and nobody who has logged in.
pub(super) struct Pages {
    pub(super) state: ApiState,
    router: Router,
    _dir: TempDir,
}

/// Somebody's browser.
pub(super) struct Browser<'p> {
    pages: &'p Pages,
    pub(super) cookies: String,
    /// Which site's page has sent its forms (`Sec-Fetch-Site`).
    pub(super) site: &'static str,
}

/// What a browser is shown.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Shown {
    /// Where it is led.
    pub(super) fn location(&self) -> &str {
        let location = self.headers.get(header::LOCATION);
        location.map_or("", |location| location.to_str().unwrap())
    }

    /// Whether it shows this text, as a page has it.
    pub(super) fn says(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    /// The value of the first input of this name.
    pub(super) fn value_of(&self, name: &str) -> String {
        let input = format!("name=\"{name}\" value=\"");
        let (_, rest) = self.text.split_once(&input).unwrap_or_else(|| {
            panic!("there is no input {name} in {}", self.text);
        });
        rest.split_once('"').unwrap().0.to_owned()
    }
}

impl Pages {
    pub(super) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = api::tests::state(dir.path(), change).await;
        let parts = super::Parts {
            settings: state.config.clone(),
            clock: state.clock,
            signals: state.signals.clone(),
            stop: state.stop.clone(),
        };
        let router = api::router_with(state.clone(), |operations| super::router(parts, operations));
        Self {
            state,
            router,
            _dir: dir,
        }
    }

    /// Calls the API with the token of the file: whoever sets up a test.
    pub(super) async fn api(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        let shown = self.send(request.unwrap()).await;
        assert!(shown.status.is_success(), "{path}: {shown:?}");
        serde_json::from_str(&shown.text).unwrap_or(Value::Null)
    }

    /// Uploads a package.
    pub(super) async fn upload(&self, product: &str, version: &str) -> i64 {
        let path = format!("/v1/packages?product={product}&version={version}");
        let request = Request::post(&path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(Body::from(format!("{product} {version} ").repeat(100)))
            .unwrap();
        let shown = self.send(request).await;
        assert!(shown.status.is_success(), "{shown:?}");
        let answer: Value = serde_json::from_str(&shown.text).unwrap();
        answer["id"].as_i64().unwrap()
    }

    /// Adds a user with these roles, and logs in as it.
    pub(super) async fn user(&self, name: &str, roles: &[&str]) -> Browser<'_> {
        let grants: Vec<_> = roles.iter().map(|role| json!({"role": role})).collect();
        let user = json!({"name": name, "password": PASSWORD, "grants": grants});
        self.api(Method::POST, "/v1/users", Some(&user)).await;
        self.log_in(name).await
    }

    /// Logs in.
    pub(super) async fn log_in(&self, name: &str) -> Browser<'_> {
        let mut browser = self.browser();
        let fields = [("name", name), ("password", PASSWORD)];
        let shown = browser.send("/console/login", Some(&fields)).await;
        assert_eq!(shown.status, StatusCode::SEE_OTHER, "{shown:?}");
        let cookie = shown.headers[header::SET_COOKIE].to_str().unwrap();
        browser.cookies = cookie.split(';').next().unwrap().to_owned();
        browser
    }

    /// A browser without a session.
    pub(super) fn browser(&self) -> Browser<'_> {
        Browser {
            pages: self,
            cookies: String::new(),
            site: "same-origin",
        }
    }

    /// Pages whose proxy leaves the prefix, or takes it away.
    pub(super) async fn user_behind(&self, prefix: &str) {
        self.user("anna", &["viewer"]).await;
        let anna = self.log_in("anna").await;
        for path in ["/console/now".to_owned(), format!("{prefix}/console/now")] {
            let shown = anna.send(&path, None).await;
            assert_eq!(shown.status, StatusCode::OK, "{path}: {shown:?}");
            let links = shown.text.matches("href=\"/").count();
            let own = shown
                .text
                .matches(&format!("href=\"{prefix}/console/"))
                .count();
            assert!(links > 3 && links == own, "{shown:?}");
        }
        let home = anna.send(&format!("{prefix}/"), None).await;
        assert_eq!(home.location(), format!("{prefix}/console/now"));
    }

    async fn send(&self, request: Request<Body>) -> Shown {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Shown {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }
}

impl Browser<'_> {
    /// The same browser with a cookie more: `cellwise-language=zh-Hans`.
    pub(super) fn with(&self, cookie: &str) -> Self {
        Self {
            pages: self.pages,
            cookies: format!("{}; {cookie}", self.cookies),
            site: self.site,
        }
    }

    /// Reads a page: `/tasks`.
    pub(super) async fn get(&self, path: &str) -> Shown {
        self.send(&format!("/console{path}"), None).await
    }

    /// Sends a form to a page, with what every page of the session has in it.
    pub(super) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Shown {
        let csrf = self.csrf().await;
        let mut fields = fields.to_vec();
        fields.push(("csrf", &csrf));
        self.send(&format!("/console{path}"), Some(&fields)).await
    }

    /// The same without that.
    pub(super) async fn post_bare(&self, path: &str, fields: &[(&str, &str)]) -> Shown {
        self.send(&format!("/console{path}"), Some(fields)).await
    }

    /// Sends a form with a file in it (RFC 7578), which stands behind the fields.
    pub(super) async fn post_file(&self, path: &str, fields: &[(&str, &str)], file: &str) -> Shown {
        const BOUNDARY: &str = "----the-end-of-a-part";
        let mut body = String::new();
        for (name, value) in fields {
            let _ = write!(
                body,
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
        }
        let _ = write!(
            body,
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n\
             Content-Type: text/csv\r\n\r\n{file}\r\n--{BOUNDARY}--\r\n"
        );
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        let request = Request::post(format!("/console{path}"))
            .header(header::COOKIE, &self.cookies)
            .header(header::CONTENT_TYPE, kind)
            .body(Body::from(body));
        self.pages.send(request.unwrap()).await
    }

    /// What the pages of the session send back.
    pub(super) async fn csrf(&self) -> String {
        let me = self.send("/v1/me", None).await;
        let me: Value = serde_json::from_str(&me.text).unwrap();
        me["csrf_token"].as_str().unwrap().to_owned()
    }

    async fn send(&self, path: &str, fields: Option<&[(&str, &str)]>) -> Shown {
        let request = Request::builder().uri(path);
        let request = match self.cookies.as_str() {
            "" => request,
            cookies => request.header(header::COOKIE, cookies),
        };
        let request = match fields {
            None => request.body(Body::empty()),
            Some(fields) => {
                let mut body = form_urlencoded::Serializer::new(String::new());
                body.extend_pairs(fields);
                request
                    .method(Method::POST)
                    .header("sec-fetch-site", self.site)
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(Body::from(body.finish()))
            }
        };
        self.pages.send(request.unwrap()).await
    }
}
