//! The list of tasks, the newest first.

use askama::Template;
use axum::extract::RawQuery;
use serde::Deserialize;

use super::{
    super::{
        fields::Fields,
        listed::{Listed, Pager, query},
        now::Summary,
        page::{Paged, page},
        viewer::Viewer,
    },
    tone,
};

#[derive(Template)]
#[template(path = "tasks/list.html")]
struct ListPage<'a> {
    at: &'a Viewer,
    tasks: Vec<Task>,
    pager: Pager,
}

/// What the list takes of a task.
#[derive(Debug, Deserialize)]
pub(super) struct Task {
    id: i64,
    name: String,
    product: String,
    version: String,
    state: String,
    total: u64,
    summary: Summary,
    created_at: String,
}

impl Task {
    /// The class of its state's colour.
    fn tone(&self) -> &'static str {
        tone(&self.state)
    }
}

/// The page.
pub(super) async fn show(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let path = format!("/v1/tasks?{}", query(&given, &[]));
    let tasks: Listed<Task> = viewer.get(&path).await?;
    let pager = Pager::of(&viewer, "/tasks", &given, tasks.next_cursor.as_deref());
    Ok(page(&ListPage {
        at: &viewer,
        tasks: tasks.items,
        pager,
    }))
}
