//! A page as an answer, and what is shown where there is none.

use askama::Template;
use axum::{
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{Html, IntoResponse, Redirect, Response},
};

pub(super) use super::failure::{Failure, status};
use super::viewer::{Guest, Viewer};
use crate::api::Problem;

/// Scripts, styles and pictures of this host alone; no frames, no forms to elsewhere (CSP Level 3).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What a handler returns.
pub(super) type Paged = Result<Response, Failure>;

/// A page that is there.
pub(super) fn page(template: &impl Template) -> Response {
    page_with(StatusCode::OK, template)
}

/// A page with a status.
pub(super) fn page_with(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(page) => (status, Html(page)).into_response(),
        Err(error) => {
            // no template fails by itself: what it writes to takes everything
            tracing::error!(%error, "a page of the console cannot be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// After a change: the page that shows it, with a sentence that it was done (the text `done-…`).
pub(super) fn done(viewer: &Viewer, path: &str, what: &str) -> Response {
    let joint = if path.contains('?') { '&' } else { '?' };
    Redirect::to(&viewer.url(format_args!("{path}{joint}done={what}"))).into_response()
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    at: &'a Viewer,
    problem: &'a Problem,
}

#[derive(Template)]
#[template(path = "broken.html")]
struct BrokenPage<'a> {
    at: &'a Guest,
    problem: &'a Problem,
}

/// What is shown instead of a page.
pub(super) fn failed(viewer: &Viewer, problem: &Problem) -> Response {
    let at = viewer;
    page_with(status(problem), &ProblemPage { at, problem })
}

/// The same for somebody who is not known.
pub(super) fn broken(guest: &Guest, problem: &Problem) -> Response {
    page_with(status(problem), &BrokenPage { at: guest, problem })
}

/// There is no such page.
pub(super) async fn missing(viewer: Viewer) -> Failure {
    let path = &viewer.here;
    let problem = Problem::of_status(StatusCode::NOT_FOUND, &Method::GET, path, "the menu");
    Failure(problem)
}

/// What goes with every answer.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // pages are of one session; files say themselves how long they are kept
    let kept = headers.entry(header::CACHE_CONTROL);
    kept.or_insert(HeaderValue::from_static("no-store"));
    response
}
