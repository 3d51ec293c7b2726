//! Changes the rules of the cells of a file.

use askama::Template;
use axum::{
    http::{Method, StatusCode},
    response::Response,
};
use serde::Deserialize;

use crate::{
    api::Problem,
    console::{
        calls::part,
        fields::Fields,
        page::{Paged, page_with, status},
        sheet::{Block, Link, Sheet},
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

/// What became of the rows.
#[derive(Debug, Deserialize)]
struct Changed {
    changed: u64,
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
        Ok(answer) => {
            let changed: Changed = part(answer.body)?;
            let count = viewer.n(changed.changed);
            let told = viewer.t2("cells-imported", "count", changed.changed, "told", count);
            Ok(Sheet::new(&viewer, viewer.t("cells-import"))
                .block(Block::Sentence("notice", told))
                .block(Block::Links(vec![Link::to(
                    &viewer,
                    "/cells",
                    "menu-cells",
                )]))
                .page())
        }
        Err(problem) => Ok(form(&viewer, Some(problem))),
    }
}
