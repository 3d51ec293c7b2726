//! What runs, and what needs a person.

use askama::Template;
use serde::Deserialize;
use serde_json::Value;

use super::{
    chart::{self, Svg},
    listed::Listed,
    page::{Failure, Paged, page},
    texts::Language,
    viewer::Viewer,
};

/// Tasks of which it is told when they will be through.
const FORECASTS: usize = 4;
/// Things of one kind that are named; of the others there is the number.
const NAMED: usize = 5;
/// Tasks and cells that are looked at.
const MOST: usize = 100;

#[derive(Template)]
#[template(path = "now.html")]
struct NowPage<'a> {
    at: &'a Viewer,
    needs: Vec<Need>,
    running: Vec<Running>,
    scheduled: Vec<Task>,
    /// There is no task at all.
    begins: bool,
}

/// Something that waits for a person.
struct Need {
    /// The class of its colour, and the name of the word for it.
    class: &'static str,
    word: &'static str,
    text: String,
    link: String,
}

/// A task that runs, and when it will be through.
struct Running {
    task: Task,
    stand: String,
    /// Half of all cases, and nine of ten.
    finish: Option<(String, String)>,
    forecast: bool,
}

/// What the page takes of a task.
#[derive(Debug, Deserialize)]
struct Task {
    id: i64,
    name: String,
    product: String,
    version: String,
    state: String,
    total: u64,
    start_at: String,
    stand: Stand,
    summary: Summary,
}

#[derive(Debug, Deserialize)]
struct Stand {
    code: String,
    text: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    pub(super) pending: u64,
    pub(super) pushed: u64,
    pub(super) upgrading: u64,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
}

impl Summary {
    /// How far a task is.
    pub(super) fn bar(&self) -> Svg {
        chart::bar(&[
            ("good", self.succeeded),
            ("bad", self.failed),
            ("busy", self.pushed + self.upgrading),
            ("rest", self.pending + self.cancelled),
        ])
    }
}

#[derive(Debug, Deserialize)]
struct Cell {
    cell_id: u32,
    closed: Option<Closed>,
}

#[derive(Debug, Deserialize)]
struct Closed {
    until: Option<String>,
    reason: String,
}

#[derive(Debug, Deserialize)]
struct Strangers {
    items: Vec<Value>,
}

#[derive(Debug, Deserialize)]
struct Webhook {
    id: i64,
    url: String,
    failed: u64,
}

/// The page.
pub(super) async fn show(viewer: Viewer) -> Paged {
    let at = &viewer;
    let (tasks, mut needs) = tokio::join!(
        at.get::<Listed<Task>>("/v1/tasks?unfinished=true&limit=100"),
        others(at)
    );
    let tasks = tasks?;
    let more = tasks.next_cursor.is_some();
    let tasks = tasks.items;
    let begins = tasks.is_empty() && {
        let all: Listed<Value> = at.get("/v1/tasks?limit=1").await?;
        all.items.is_empty()
    };
    let (mut running, mut scheduled, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    for task in tasks {
        match task.state.as_str() {
            "paused" | "awaiting_approval" => waiting.push(task),
            "scheduled" => scheduled.push(task),
            _ => running.push(task),
        }
    }
    let mut first: Vec<Need> = waiting.iter().map(|task| of_task(at, task)).collect();
    first.append(&mut needs);
    if more {
        first.push(Need {
            class: "warn",
            word: "need-look",
            text: at.t1("now-more-tasks", "count", MOST),
            link: at.url("/tasks"),
        });
    }
    let mut shown = Vec::new();
    for (i, task) in running.into_iter().enumerate() {
        let left = task.summary.pending + task.summary.pushed + task.summary.upgrading;
        let asks =
            i < FORECASTS && left > 0 && task.state == "running" && at.may("get_task_forecast");
        let finish = if asks {
            finish(at, task.id).await
        } else {
            None
        };
        shown.push(Running {
            stand: stand(at, &task.stand),
            task,
            finish,
            forecast: asks,
        });
    }
    Ok(page(&NowPage {
        at,
        needs: first,
        running: shown,
        scheduled,
        begins,
    }))
}

/// A task that somebody has to decide on.
fn of_task(at: &Viewer, task: &Task) -> Need {
    let (class, word) = match (task.state.as_str(), task.stand.code.as_str()) {
        ("awaiting_approval", _) => ("busy", "need-approval"),
        (_, "failures" | "phase_failed") => ("bad", "need-held"),
        _ => ("warn", "need-paused"),
    };
    Need {
        class,
        word,
        text: format!("{}: {}", task.name, stand(at, &task.stand)),
        link: at.url(format_args!("/tasks/{}", task.id)),
    }
}

/// What a task does: the API's sentence, or in another language what its code means.
fn stand(at: &Viewer, stand: &Stand) -> String {
    match at.language {
        Language::English => stand.text.clone(),
        Language::Chinese => at.word("stand", &stand.code),
    }
}

/// What is no task, and waits for a person all the same. What the viewer may not see is not told; what cannot be read now is.
async fn others(at: &Viewer) -> Vec<Need> {
    let mut needs = Vec::new();
    if at.may("list_cells") {
        match at.get("/v1/cells?closed=true&limit=100").await {
            Ok(cells) => of_cells(at, &cells, &mut needs),
            Err(failure) => needs.push(unread(at, &failure)),
        }
    }
    if at.may("list_webhooks") {
        match at.get("/v1/webhooks?limit=1000").await {
            Ok(webhooks) => of_webhooks(at, &webhooks, &mut needs),
            Err(failure) => needs.push(unread(at, &failure)),
        }
    }
    if at.may("list_unknown_devices") {
        match at.get::<Strangers>("/v1/devices/unknown").await {
            Ok(strangers) if strangers.items.is_empty() => {}
            Ok(strangers) => needs.push(Need {
                class: "warn",
                word: "need-unknown",
                text: at.t1("now-unknown", "count", strangers.items.len()),
                link: at.url("/devices/unknown"),
            }),
            Err(failure) => needs.push(unread(at, &failure)),
        }
    }
    needs
}

/// Something that is not known now.
fn unread(at: &Viewer, failure: &Failure) -> Need {
    Need {
        class: "warn",
        word: "need-look",
        text: failure.0.detail.to_string(),
        link: at.url("/now"),
    }
}

fn of_webhooks(at: &Viewer, webhooks: &Listed<Webhook>, needs: &mut Vec<Need>) {
    let failing = || webhooks.items.iter().filter(|webhook| webhook.failed > 0);
    needs.extend(failing().take(NAMED).map(|webhook| Need {
        class: "bad",
        word: "need-webhook",
        text: at.t2("now-webhook", "url", &*webhook.url, "count", webhook.failed),
        link: at.url(format_args!("/webhooks/{}", webhook.id)),
    }));
    let more = failing().count().saturating_sub(NAMED);
    if more > 0 {
        needs.push(Need {
            class: "bad",
            word: "need-webhook",
            text: at.t1("now-webhooks-more", "count", more),
            link: at.url("/webhooks"),
        });
    }
}

fn of_cells(at: &Viewer, cells: &Listed<Cell>, needs: &mut Vec<Need>) {
    for cell in cells.items.iter().take(NAMED) {
        let Some(closed) = &cell.closed else { continue };
        let (id, reason) = (cell.cell_id.to_string(), &*closed.reason);
        let text = match &closed.until {
            Some(until) => {
                let until = ("until", at.time(until).into());
                let rest = [("cell", id.into()), ("reason", reason.into()), until];
                at.say("now-closed-until", &rest)
            }
            None => at.t2("now-closed", "cell", id, "reason", reason),
        };
        needs.push(Need {
            class: "warn",
            word: "need-closed",
            text,
            link: at.url(format_args!("/cells/{}", cell.cell_id)),
        });
    }
    let more = cells.items.len().saturating_sub(NAMED);
    let name = match cells.next_cursor {
        Some(_) => "now-closed-many",
        None => "now-closed-more",
    };
    if more > 0 {
        needs.push(Need {
            class: "warn",
            word: "need-closed",
            text: at.t1(name, "count", more),
            link: at.url("/cells?by=closed"),
        });
    }
}

/// When a task will be through, where that is known by now.
async fn finish(at: &Viewer, task: i64) -> Option<(String, String)> {
    // it may have ended meanwhile, or others wait for forecasts: then it is not told
    let forecast: Value = at.get(&format!("/v1/tasks/{task}/forecast")).await.ok()?;
    let finish = &forecast["result"]["finish"];
    let of = |finish: &Value, name: &str| finish[name].as_str().map(|it| at.time(it));
    Some((of(finish, "p50")?, of(finish, "p90")?))
}
