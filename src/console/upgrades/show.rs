//! One upgrade: what it waits for, what happened, and how it ended.

use askama::Template;
use axum::extract::Path;
use serde::Deserialize;

use super::{
    super::{
        fleet::page_of,
        page::{Paged, page},
        tasks::Traffic,
        viewer::Viewer,
    },
    Upgrade,
};

#[derive(Template)]
#[template(path = "upgrades/show.html")]
struct UpgradePage<'a> {
    at: &'a Viewer,
    shown: Detail,
    upgrade: Upgrade,
    /// The newest first.
    events: Vec<Event>,
    task: String,
    /// The task was stopped: nothing of it is tried again.
    is_stopped: bool,
    package: String,
}

/// What explains it.
#[derive(Debug, Deserialize)]
struct Detail {
    package_id: i64,
    waiting_for: Option<String>,
    soak: Option<Soak>,
    share: Option<Share>,
    over_budget: Option<OverBudget>,
    traffic: Traffic,
}

#[derive(Debug, Deserialize)]
struct Whole {
    #[serde(flatten)]
    upgrade: Upgrade,
    #[serde(flatten)]
    detail: Detail,
    events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
struct Soak {
    state: String,
    due_at: String,
    ended_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Share {
    code: String,
    place: u64,
    waiting: u64,
    priority: u64,
    weight: u64,
    of_weights: u64,
}

#[derive(Debug, Deserialize)]
struct OverBudget {
    until: String,
}

#[derive(Debug, Deserialize)]
struct Event {
    at: String,
    attempt: u32,
    stage: String,
    text: String,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    stopped_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Package {
    product: String,
    version: String,
}

impl UpgradePage<'_> {
    /// The page of its device.
    fn device(&self) -> String {
        self.at.url(page_of(&self.upgrade.endpoint))
    }

    fn below(&self, path: &str) -> String {
        self.at
            .url(format_args!("/upgrades/{}/{path}", self.upgrade.id))
    }

    fn can_be_tried_again(&self) -> bool {
        let waits_again = self.upgrade.state == "pending" && self.upgrade.attempts > 0;
        let has_ended = matches!(&*self.upgrade.state, "failed" | "cancelled");
        !self.is_stopped && (waits_again || has_ended)
    }

    fn can_be_passed_over(&self) -> bool {
        let soaks = self.shown.soak.as_ref();
        matches!(&*self.upgrade.state, "failed" | "pending")
            || soaks.is_some_and(|soak| soak.state == "soaking")
    }

    fn can_be_confirmed(&self) -> bool {
        self.upgrade.awaits_confirmation
            || (self.upgrade.confirmed_for.is_some() && self.upgrade.state == "pending")
    }
}

/// The page.
pub(super) async fn show(viewer: Viewer, Path(id): Path<i64>) -> Paged {
    let whole: Whole = viewer.get(&format!("/v1/upgrades/{id}")).await?;
    let Whole {
        upgrade,
        detail,
        mut events,
    } = whole;
    events.reverse();
    let path = format!("/v1/tasks/{}", upgrade.task_id);
    let task: Option<Named> = viewer.look(&path).await?;
    let is_stopped = (task.as_ref()).is_some_and(|task| task.stopped_at.is_some());
    let unnamed = || viewer.t1("task-number", "id", upgrade.task_id);
    let task = task.map_or_else(unnamed, |task| task.name);
    let package = detail.package_id;
    let path = format!("/v1/packages/{package}");
    let found: Option<Package> = viewer.look(&path).await?;
    // a package may have been deleted
    let unnamed = || viewer.t1("package-number", "id", package);
    let package = found.map_or_else(unnamed, |it| format!("{} {}", it.product, it.version));
    Ok(page(&UpgradePage {
        at: &viewer,
        shown: detail,
        upgrade,
        events,
        task,
        is_stopped,
        package,
    }))
}
