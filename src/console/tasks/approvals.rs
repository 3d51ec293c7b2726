//! The tasks that wait for an approval.

use askama::Template;
use axum::extract::RawQuery;

use super::{
    super::{
        fields::Fields,
        listed::{Listed, Pager, query},
        page::{Paged, page},
        viewer::Viewer,
    },
    operations::first_phase,
    rules::Told,
    view::Task,
};

/// Pages of the API that are looked through. Older tasks are on the next page.
const LOOKED_THROUGH: u32 = 4;

#[derive(Template)]
#[template(path = "tasks/approvals.html")]
struct ApprovalsPage<'a> {
    at: &'a Viewer,
    tasks: Vec<Task>,
    pager: Pager,
}

impl ApprovalsPage<'_> {
    fn begins_with(&self, task: &Task) -> String {
        first_phase(self.at, task)
    }

    fn told(&self, task: &Task) -> Vec<Told> {
        task.rules.told(self.at)
    }
}

/// The page.
pub(super) async fn show(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let mut given = Fields::parse(given.unwrap_or_default().as_bytes());
    let first = given.clone();
    let mut tasks = Vec::new();
    let mut next = None;
    for _ in 0..LOOKED_THROUGH {
        let path = format!("/v1/tasks?{}", query(&given, &[]));
        let page: Listed<Task> = viewer.get(&path).await?;
        let waiting = page.items.into_iter().filter(Task::waits_for_approval);
        tasks.extend(waiting);
        next = page.next_cursor;
        let Some(cursor) = &next else { break };
        given.0.retain(|(name, _)| name != "cursor");
        given.0.push(("cursor".to_owned(), cursor.clone()));
    }
    let pager = Pager::of(&viewer, "/approvals", &first, next.as_deref());
    Ok(page(&ApprovalsPage {
        at: &viewer,
        tasks,
        pager,
    }))
}
