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
    fields::{Fields, encode},
    login, page,
    viewer::{Guest, Viewer},
};
use crate::api::Problem;

/// Lets in who has a session.
pub(super) async fn admit(
    State(console): State<Console>,
    mut request: Request,
    next: Next,
) -> Response {
    let guest = Guest::of_request(&console, &request);
    let viewer = match Viewer::find(guest.clone()).await {
        Ok(Some(viewer)) => viewer,
        Ok(None) => return ask(&guest, request).await,
        Err(problem) => return page::broken(&guest, &problem),
    };
    let is_read = request.method().is_safe();
    if viewer.has_to_enrol && !is_of_account(request.uri().path()) {
        return Redirect::to(&viewer.url("/account")).into_response();
    }
    request.extensions_mut().insert(viewer.clone());
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<page::Failure>() {
        // the session has ended between two calls
        Some(failure) if failure.0.status == 401 && is_read => {
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
    // the session's cookie does not come with what another site has sent: that is nobody's entry
    let own = login::is_own(request.headers());
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_form = kind.is_some_and(|kind| {
        kind.as_bytes()
            .starts_with(b"application/x-www-form-urlencoded")
    });
    if !own || !is_form {
        // a file is not kept
        return Redirect::to(&login_for(guest)).into_response();
    }
    match to_bytes(request.into_body(), MAX_FORM).await {
        Ok(body) => login::again(guest, &Fields::parse(&body).kept()),
        Err(error) => {
            let problem = Problem::field("form", format!("the form cannot be read: {error}"));
            page::broken(guest, &problem)
        }
    }
}
