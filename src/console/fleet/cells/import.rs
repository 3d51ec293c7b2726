//! Changes the rules of the cells of a file.

use askama::Template;
use axum::{
    http::{Method, StatusCode},
    response::Response,
};

use crate::{
    api::Problem,
    console::{
        fields::Fields,
        page::{Paged, done, page_with, status},
        upload::{Target, Upload, pass_on},
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
pub(super) async fn take(viewer: Viewer, body: Upload) -> Paged {
    let target = |_: &Fields| Target {
        method: Method::POST,
        path: "/v1/cells".to_owned(),
        kind: "text/csv",
    };
    match pass_on(&viewer, body, target).await.1 {
        Ok(_) => Ok(done(&viewer, "/cells", "cells-imported")),
        Err(problem) => Ok(form(&viewer, Some(problem))),
    }
}
