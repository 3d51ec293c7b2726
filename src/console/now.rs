//! What runs, and what needs a person.

use askama::Template;
use serde::Deserialize;

use super::{
    listed::Listed,
    page::{Paged, page},
    viewer::Viewer,
};

#[derive(Template)]
#[template(path = "now.html")]
struct NowPage<'a> {
    at: &'a Viewer,
    tasks: Vec<Running>,
}

#[derive(Debug, Deserialize)]
struct Running {
    id: i64,
    name: String,
    state: String,
}

/// The page.
pub(super) async fn show(viewer: Viewer) -> Paged {
    let tasks: Listed<Running> = viewer.get("/v1/tasks?limit=50").await?;
    Ok(page(&NowPage {
        at: &viewer,
        tasks: tasks.items,
    }))
}
