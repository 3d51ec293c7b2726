//! Who gets to a page: whoever has logged in. Everybody else is asked to, and gets to it afterwards; what was entered is kept.

use axum::{
    body::to_bytes,
    extract::{Request, State},
    http::{Method, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};

use super::{
    Console, MAX_FORM,
    calls::Behalf,
    fields::{Fields, encode},
    login, page,
    viewer::{Guest, Viewer, cookies},
};
use crate::api::{Problem, Source};

/// The browser that sends a request.
pub(super) fn guest(console: &Console, request: &Request) -> Guest {
    let behalf = Behalf {
        source: Source(Source::of(request)),
        cookies: cookies(request.headers()),
    };
    Guest::of(console, request.headers(), request.uri(), behalf)
}

/// Lets in who has a session.
pub(super) async fn admit(
    State(console): State<Console>,
    mut request: Request,
    next: Next,
) -> Response {
    let guest = guest(&console, &request);
    let viewer = match Viewer::find(guest.clone()).await {
        Ok(Some(viewer)) => viewer,
        Ok(None) => return ask(&guest, request).await,
        Err(problem) => return page::broken(&guest, &problem),
    };
    if viewer.has_to_enrol && !is_of_account(request.uri().path()) {
        return Redirect::to(&viewer.url("/account")).into_response();
    }
    request.extensions_mut().insert(viewer.clone());
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<page::Failure>() {
        // the session has ended between two calls
        Some(failure) if failure.0.status == 401 => {
            Redirect::to(&login_for(&guest)).into_response()
        }
        Some(failure) => page::failed(&viewer, &failure.0),
        None => response,
    }
}

/// What is possible before a second factor is set up.
fn is_of_account(path: &str) -> bool {
    path == "/account" || path.starts_with("/account/") || path == "/logout"
}

fn login_for(guest: &Guest) -> String {
    guest.url(format_args!("/login?next={}", encode(&guest.here)))
}

/// Asks for a log-in.
async fn ask(guest: &Guest, request: Request) -> Response {
    if request.uri().path() == "/live" {
        // the script reads the page anew, and that leads to the log-in
        return axum::http::StatusCode::UNAUTHORIZED.into_response();
    }
    if *request.method() != Method::POST {
        return Redirect::to(&login_for(guest)).into_response();
    }
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_form = kind.is_some_and(|kind| {
        kind.as_bytes()
            .starts_with(b"application/x-www-form-urlencoded")
    });
    let mut kept = Fields::default();
    if is_form {
        match to_bytes(request.into_body(), MAX_FORM).await {
            Ok(body) => kept = Fields::parse(&body).entered(),
            Err(error) => {
                let problem = Problem::broken(format!("the form cannot be read: {error}"));
                return page::broken(guest, &problem);
            }
        }
    }
    login::again(guest, &kept)
}
