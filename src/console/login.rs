//! Logging in and out.

use askama::Template;
use axum::{
    Extension,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use serde_json::{Value, json};

use super::{
    Console,
    calls::{Behalf, Calls},
    fields::{AGAIN, Fields, encode},
    page::{page, page_with},
    texts::Language,
    viewer::{Guest, LANGUAGE, Viewer},
};
use crate::api::{Problem, Source};

#[derive(Template)]
#[template(path = "login.html")]
struct LogInPage<'a> {
    at: &'a Guest,
    next: &'a str,
    name: &'a str,
    /// What a link holds that stands in for the password; empty for none.
    link: &'a str,
    /// Whether a second factor is asked for.
    code: bool,
    problem: Option<&'a Problem>,
    /// What was entered before the session ended, and where it goes.
    kept: &'a Fields,
    to: &'a str,
    oidc: bool,
}

/// Asks for name and password.
pub(super) async fn show(State(console): State<Console>, request: Request) -> Response {
    let guest = Guest::of_request(&console, &request);
    let query = Fields::parse(request.uri().query().unwrap_or_default().as_bytes());
    page(&LogInPage {
        next: next(&query),
        link: query.get("link"),
        ..empty(&guest)
    })
}

fn empty(at: &Guest) -> LogInPage<'_> {
    static NONE: Fields = Fields(Vec::new());
    LogInPage {
        at,
        next: "/now",
        name: "",
        link: "",
        code: false,
        problem: None,
        kept: &NONE,
        to: "",
        oidc: !at.console.parts.settings.get().oidc.issuer.is_empty(),
    }
}

/// A page of the console, where somebody is led after the log-in.
fn next(fields: &Fields) -> &str {
    fields
        .some("next")
        .filter(|path| is_page(path))
        .unwrap_or("/now")
}

/// Whether a path is one of the console: it is put behind the console's own.
fn is_page(path: &str) -> bool {
    path.starts_with('/') && path.len() <= 4_096 && path.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The same, in the middle of something: what was entered is kept, and sent again after the log-in.
pub(super) fn again(guest: &Guest, kept: &Fields) -> Response {
    let page = LogInPage {
        to: &guest.here,
        kept,
        ..empty(guest)
    };
    page_with(StatusCode::UNAUTHORIZED, &page)
}

#[derive(Template)]
#[template(path = "goes_on.html")]
struct GoesOn<'a> {
    at: &'a Viewer,
    kept: &'a Fields,
    to: &'a str,
}

impl GoesOn<'_> {
    /// What is sent as it is.
    fn sent(&self) -> impl Iterator<Item = &(String, String)> {
        self.kept.0.iter().filter(|(name, _)| name != AGAIN)
    }

    /// What of it somebody has entered.
    fn told(&self) -> impl Iterator<Item = &(String, String)> {
        let told = |(name, value): &&(String, String)| name != "etag" && !value.is_empty();
        self.sent().filter(told)
    }

    /// What has to be entered again.
    fn secrets(&self) -> impl Iterator<Item = &str> {
        self.kept.all(AGAIN)
    }
}

/// What the API is told of who logs in.
fn who(fields: &Fields) -> Value {
    let mut who = match fields.some("link") {
        None => json!({"name": fields.get("name"), "password": raw(fields, "password")}),
        Some(link) => json!({"link": link}),
    };
    if let Some(code) = fields.some("code") {
        who["code"] = code.into();
    }
    who
}

/// Begins a session.
pub(super) async fn log_in(
    State(console): State<Console>,
    Extension(source): Extension<Source>,
    headers: HeaderMap,
    uri: axum::http::Uri,
    body: Bytes,
) -> Response {
    let behalf = Behalf {
        source,
        cookies: None,
        unattended: false,
    };
    let mut guest = Guest::of(&console, &headers, &uri, behalf);
    if !is_own(&headers) && !is_no_browser(&headers) {
        return Redirect::to(&guest.url("/login")).into_response();
    }
    let fields = Fields::parse(&body);
    let kept = Fields::parse(fields.get("kept").as_bytes());
    let link = fields.get("link");
    let who = who(&fields);
    let begun = async {
        let request = Calls::request(Method::POST, "/v1/session", Some(&who))?;
        guest.console.calls.send(&guest.behalf, request).await
    };
    let response = match begun.await {
        Ok(response) => response,
        Err(problem) => {
            let needs_code = &*problem.kind == "urn:cellwise:problem:code-needed";
            let shown = LogInPage {
                next: next(&fields),
                name: fields.get("name"),
                link,
                code: needs_code || fields.some("code").is_some(),
                problem: Some(&problem).filter(|_| !needs_code),
                kept: &kept,
                to: fields.get("to"),
                ..empty(&guest)
            };
            let status = StatusCode::from_u16(problem.status);
            return page_with(status.unwrap_or(StatusCode::UNAUTHORIZED), &shown);
        }
    };
    let Some(cookie) = response.headers().get(header::SET_COOKIE).cloned() else {
        return Redirect::to(&guest.url("/login")).into_response();
    };
    let cookie = [(header::SET_COOKIE, cookie)];
    let to = fields.get("to");
    if !is_page(to) || to.is_empty() {
        let next = guest.url(next(&fields));
        return (cookie, Redirect::to(&next)).into_response();
    }
    // what was entered goes on with the new session
    let session = cookie[0].1.to_str().unwrap_or_default();
    let session = session.split(';').next().unwrap_or_default();
    guest.behalf.cookies = session.parse().ok();
    (cookie, go_on(guest, &kept, to).await).into_response()
}

/// Shows what was entered before the session had ended.
async fn go_on(guest: Guest, kept: &Fields, to: &str) -> Response {
    let otherwise = guest.url("/now");
    match Viewer::find(guest).await {
        Ok(Some(viewer)) => page(&GoesOn {
            at: &viewer,
            kept,
            to,
        }),
        Ok(None) | Err(_) => Redirect::to(&otherwise).into_response(),
    }
}

/// As it was entered, with the blanks.
pub(super) fn raw<'f>(fields: &'f Fields, name: &str) -> &'f str {
    let found = fields.0.iter().find(|(field, _)| field == name);
    found.map_or("", |(_, value)| value)
}

/// Whether a page of this host has sent it: browsers say so (Fetch Metadata, `Sec-Fetch-Site`), and old ones say at least which page has
/// (RFC 6454 §7).
pub(super) fn is_own(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
    match (origin, text(header::HOST)) {
        (Some((_, origin)), Some(host)) => origin == host,
        _ => false,
    }
}

/// Browsers send one of the two with every form.
fn is_no_browser(headers: &HeaderMap) -> bool {
    !headers.contains_key("sec-fetch-site") && !headers.contains_key(header::ORIGIN)
}

/// Leads to the identity provider, and from there to a page of the console.
pub(super) async fn by_provider(State(console): State<Console>, request: Request) -> Response {
    let guest = Guest::of_request(&console, &request);
    let query = Fields::parse(request.uri().query().unwrap_or_default().as_bytes());
    let begin = async |to: &str| {
        let path = format!("/v1/session/oidc?return_to={}", encode(&guest.url(to)));
        let request = Calls::request(Method::GET, &path, None)?;
        guest.console.calls.send(&guest.behalf, request).await
    };
    let mut answer = begin(next(&query)).await;
    if answer.as_ref().is_err_and(|problem| problem.status == 422) {
        answer = begin("/now").await; // a page with more in its address than a way back takes
    }
    match answer {
        Ok(response) => response,
        Err(problem) => super::page::broken(&guest, &problem),
    }
}

/// Chooses a language, and leads to a page.
pub(super) async fn set_language(State(console): State<Console>, request: Request) -> Response {
    let guest = Guest::of_request(&console, &request);
    let query = Fields::parse(request.uri().query().unwrap_or_default().as_bytes());
    let chosen = Language::tagged(query.get("set")).unwrap_or_default();
    let cookie = [(header::SET_COOKIE, chosen_cookie(LANGUAGE, chosen.tag()))];
    (cookie, Redirect::to(&guest.url(next(&query)))).into_response()
}

/// The value of `Set-Cookie` that keeps what was chosen for a year. The script reads whether there is one.
pub(super) fn chosen_cookie(name: &str, value: &str) -> String {
    format!("{name}={value}; Path=/; Max-Age=31536000; SameSite=Lax")
}

/// Ends the session.
pub(super) async fn log_out(viewer: Viewer, body: Bytes) -> Response {
    let fields = Fields::parse(&body);
    let ended = viewer
        .change(Method::DELETE, "/v1/session", None, &fields)
        .await;
    match ended {
        Ok(answer) => {
            let mut response = Redirect::to(&viewer.url("/login")).into_response();
            if let Some(gone) = answer.headers.get(header::SET_COOKIE) {
                response
                    .headers_mut()
                    .insert(header::SET_COOKIE, gone.clone());
            }
            response
        }
        Err(problem) => super::page::failed(&viewer, &problem),
    }
}
