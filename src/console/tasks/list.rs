//! The list of tasks, the newest first.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::RawQuery;
use serde::Deserialize;

use super::{
    super::{
        chart::{self, Svg},
        fields::Fields,
        listed::{Listed, Pager, query},
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
    counts: BTreeMap<String, u64>,
    created_at: String,
}

impl Task {
    fn count(&self, state: &str) -> u64 {
        self.counts.get(state).copied().unwrap_or_default()
    }

    /// The class of its state's colour.
    fn tone(&self) -> &'static str {
        tone(&self.state)
    }

    /// How far it is.
    fn bar(&self) -> Svg {
        let left = ["succeeded", "failed", "active"].map(|state| self.count(state));
        let [succeeded, failed, active] = left;
        let rest = self.total.saturating_sub(left.iter().sum());
        chart::bar(&[
            ("good", succeeded),
            ("bad", failed),
            ("busy", active),
            ("rest", rest),
        ])
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
