//! Changes the rules of the cells of a file.

use askama::Template;
use axum::{extract::Multipart, http::StatusCode, response::Response};

use crate::{
    api::Problem,
    console::{
        fleet::upload,
        page::{Paged, done, page_with, status},
        viewer::Viewer,
    },
};

#[derive(Template)]
#[template(path = "fleet/cells_import.html")]
struct ImportPage<'a> {
    at: &'a Viewer,
    problem: Option<Problem>,
}

/// The form.
pub(super) async fn ask(viewer: Viewer) -> Response {
    form(&viewer, None)
}

fn form(at: &Viewer, problem: Option<Problem>) -> Response {
    let code = problem.as_ref().map_or(StatusCode::OK, status);
    page_with(code, &ImportPage { at, problem })
}

/// Changes them.
pub(super) async fn take(viewer: Viewer, body: Multipart) -> Paged {
    let sent = upload::pass_on(&viewer, body, |_| "/v1/cells".to_owned()).await;
    match sent.answer {
        Ok(_) => Ok(done(&viewer, "/cells", "cells-imported")),
        Err(problem) => Ok(form(&viewer, Some(problem))),
    }
}
