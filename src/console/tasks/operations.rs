//! What is done with a task that is there. Each is asked back first, with what it will do to how many devices.

use axum::{
    body::Bytes,
    extract::{Path, RawQuery},
    http::Method,
    response::Response,
};
use serde_json::{Map, Value, json};

use super::{
    super::{
        calls::Answer,
        confirm::{Input, Question},
        fields::{Fields, encode},
        page::{Failure, Paged, done},
        viewer::Viewer,
    },
    view::Task,
};
use crate::api::Problem;

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pause,
    Resume,
    NextPhase,
    Stop,
    Retry,
    Copy,
    Approve,
    Refuse,
    Delete,
}

/// An operation on a task.
struct Deed {
    kind: Kind,
    /// As the address has it.
    name: &'static str,
    /// As the API calls it.
    operation: &'static str,
    danger: bool,
    /// The texts: the question, the button, and `done-…` afterwards.
    ask: &'static str,
    button: &'static str,
    done: &'static str,
}

const fn operation(
    kind: Kind,
    (name, operation): (&'static str, &'static str),
    danger: bool,
    (ask, button, done): (&'static str, &'static str, &'static str),
) -> Deed {
    Deed {
        kind,
        name,
        operation,
        danger,
        ask,
        button,
        done,
    }
}

const OPERATIONS: [Deed; 9] = [
    operation(
        Kind::Pause,
        ("pause", "pause_task"),
        false,
        ("task-ask-pause", "task-do-pause", "task-pause"),
    ),
    operation(
        Kind::Resume,
        ("resume", "resume_task"),
        false,
        ("task-ask-resume", "task-do-resume", "task-resume"),
    ),
    operation(
        Kind::NextPhase,
        ("next-phase", "next_phase"),
        false,
        (
            "task-ask-next-phase",
            "task-do-next-phase",
            "task-next-phase",
        ),
    ),
    operation(
        Kind::Stop,
        ("stop", "stop_task"),
        true,
        ("task-ask-stop", "task-do-stop", "task-stop"),
    ),
    operation(
        Kind::Retry,
        ("retry", "retry_task"),
        false,
        ("task-ask-retry", "task-do-retry", "task-retry"),
    ),
    operation(
        Kind::Copy,
        ("copy", "copy_task"),
        false,
        ("task-ask-copy", "task-do-copy", "task-copy"),
    ),
    operation(
        Kind::Approve,
        ("approve", "approve_task"),
        false,
        ("task-ask-approve", "task-do-approve", "task-approve"),
    ),
    operation(
        Kind::Refuse,
        ("refuse", "refuse_task"),
        true,
        ("task-ask-refuse", "task-do-refuse", "task-refuse"),
    ),
    operation(
        Kind::Delete,
        ("delete", "delete_task"),
        true,
        ("task-ask-delete", "task-do-delete", "task-delete"),
    ),
];

fn named(viewer: &Viewer, name: &str) -> Result<&'static Deed, Failure> {
    let found = OPERATIONS.iter().find(|operation| operation.name == name);
    let missing = || Problem::not_found(format!("nothing is called {name:?} here"));
    let found = found.ok_or_else(|| Failure(missing()))?;
    if viewer.may(found.operation) {
        return Ok(found);
    }
    let path = format!("/tasks/…/{name}");
    let status = axum::http::StatusCode::FORBIDDEN;
    Err(Failure(Problem::of_status(
        status,
        &Method::POST,
        &path,
        "the menu",
    )))
}

/// Asks.
pub(super) async fn ask(
    viewer: Viewer,
    Path((id, name)): Path<(i64, String)>,
    RawQuery(given): RawQuery,
) -> Paged {
    let operation = named(&viewer, &name)?;
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    question(&viewer, id, operation, &given, None).await
}

/// The question, with what was entered.
async fn question(
    viewer: &Viewer,
    id: i64,
    operation: &Deed,
    given: &Fields,
    problem: Option<Problem>,
) -> Result<Response, Failure> {
    let path = format!("/v1/tasks/{id}");
    let answer = viewer.read(&path).await?;
    let etag = answer.etag();
    let task: Task = super::super::calls::part(answer.body)?;
    let mut hidden = Vec::new();
    match operation.kind {
        // what is approved is what was looked at
        Kind::Approve => hidden.push(("etag", etag)),
        // a request that is sent twice counts once
        Kind::NextPhase => hidden.push(("from", task.phase.to_string())),
        Kind::Retry => hidden.extend(given.some("reason").map(|it| ("reason", it.to_owned()))),
        _ => {}
    }
    let from_list = given.some("from_list");
    hidden.extend(from_list.map(|it| ("from_list", it.to_owned())));
    let back = if from_list.is_some() {
        viewer.url("/approvals")
    } else {
        viewer.url(format_args!("/tasks/{id}"))
    };
    let question = Question {
        at: viewer,
        title: viewer.t1(operation.ask, "name", &*task.name),
        means: means(viewer, operation.kind, &task, given),
        inputs: inputs(viewer, operation.kind, &task, given),
        hidden,
        button: viewer.t(operation.button),
        danger: operation.danger,
        action: viewer.url(format_args!("/tasks/{id}/{}", operation.name)),
        back,
        problem,
    };
    Ok(question.page())
}

/// What it will do to how many devices.
fn means(at: &Viewer, kind: Kind, task: &Task, given: &Fields) -> Vec<String> {
    let count = |name: &str, count: u64| at.t1(name, "count", at.n(count));
    let (waiting, running) = (task.waiting(), task.running());
    match kind {
        Kind::Pause => vec![
            count("means-pause-waiting", waiting),
            count("means-goes-on", running),
        ],
        Kind::Resume => {
            let next = task.phases.get(task.phase);
            let next = next.filter(|_| matches!(&*task.stand.code, "phase_done" | "phase_failed"));
            vec![
                task.stand.text.clone(),
                match next {
                    Some(next) => next_phase(at, next.phase, next.total),
                    None => count("means-may-begin", waiting),
                },
            ]
        }
        Kind::NextPhase => {
            let next = task.phases.get(task.phase);
            let next = next.map(|next| next_phase(at, next.phase, next.total));
            let mut means = vec![count("means-whatever", running)];
            means.extend(next);
            means
        }
        Kind::Stop => vec![
            count("means-stop-waiting", waiting),
            count("means-stop-running", running),
            at.t("means-stop-final"),
        ],
        Kind::Retry => match given.some("reason") {
            None => vec![count("means-retry", task.count("failed"))],
            Some(reason) => {
                let failed = task.failures.get(reason).copied().unwrap_or_default();
                let reason = at.word("reason", reason);
                vec![at.t2(
                    "means-retry-reason",
                    "reason",
                    reason,
                    "count",
                    at.n(failed),
                )]
            }
        },
        Kind::Copy => vec![count("means-copy", task.total)],
        Kind::Approve => vec![
            task.stand.text.clone(),
            count("means-approve", task.total),
            first_phase(at, task),
        ],
        Kind::Refuse => vec![count("means-refuse", waiting)],
        Kind::Delete => vec![count("means-delete", task.total)],
    }
}

fn next_phase(at: &Viewer, phase: usize, devices: u64) -> String {
    at.t2("means-next-phase", "phase", phase, "count", at.n(devices))
}

/// With how many devices it begins.
pub(super) fn first_phase(at: &Viewer, task: &Task) -> String {
    let running = task.phases.get(task.phase.saturating_sub(1));
    let devices = running.map_or(task.total, |phase| phase.total);
    at.t2(
        "means-begins-with",
        "phase",
        task.phase,
        "count",
        at.n(devices),
    )
}

/// What may be said besides.
fn inputs(at: &Viewer, kind: Kind, task: &Task, given: &Fields) -> Vec<Input> {
    let input = |name: &'static str, label: &str, kind: &'static str, required: bool| Input {
        name,
        label: at.t(label),
        value: given.get(name).to_owned(),
        kind,
        required,
    };
    match kind {
        Kind::Pause | Kind::Approve => vec![input("note", "u-note", "text", false)],
        Kind::Refuse => vec![input("note", "note-why", "text", true)],
        Kind::Stop => vec![input("soft", "stop-soft", "checkbox", false)],
        Kind::Copy => {
            let mut name = input("name", "task-name", "text", true);
            if name.value.is_empty() {
                name.value.clone_from(&task.name);
            }
            vec![
                name,
                input("start_at", "start-at", "datetime-local", false),
                input("not_after", "not-after", "datetime-local", false),
            ]
        }
        Kind::Resume | Kind::NextPhase | Kind::Retry | Kind::Delete => Vec::new(),
    }
}

/// Does it.
pub(super) async fn carry_out(
    viewer: Viewer,
    Path((id, name)): Path<(i64, String)>,
    body: Bytes,
) -> Paged {
    let operation = named(&viewer, &name)?;
    let fields = Fields::parse(&body);
    match send(&viewer, id, operation.kind, &fields).await {
        Ok(answer) => {
            let path = match operation.kind {
                Kind::Delete => "/tasks".to_owned(),
                Kind::Copy => super::new::path_of_created(&answer.body),
                // many are approved one after the other
                Kind::Approve | Kind::Refuse if fields.ticked("from_list") => {
                    "/approvals".to_owned()
                }
                _ => format!("/tasks/{id}"),
            };
            Ok(done(&viewer, &path, operation.done))
        }
        Err(problem) => question(&viewer, id, operation, &fields, Some(problem)).await,
    }
}

async fn send(viewer: &Viewer, id: i64, kind: Kind, fields: &Fields) -> Result<Answer, Problem> {
    let path = |rest: &str| format!("/v1/tasks/{id}{rest}");
    let (path, body) = match kind {
        Kind::Pause => (path("/pause"), Some(note(fields))),
        Kind::Resume => (path("/resume"), None),
        Kind::NextPhase => {
            let from = encode(fields.get("from"));
            (path(&format!("/next-phase?from={from}")), None)
        }
        Kind::Stop => {
            let soft = fields.ticked("soft");
            (path(&format!("/stop?soft={soft}")), None)
        }
        Kind::Retry => {
            let reasons: Vec<_> = fields.some("reason").into_iter().collect();
            let body = if reasons.is_empty() {
                json!({})
            } else {
                json!({"reasons": reasons})
            };
            (path("/retry"), Some(body))
        }
        Kind::Copy => (path("/copy"), Some(copy(viewer, fields)?)),
        Kind::Approve | Kind::Refuse => {
            let mut body = note(fields);
            body["by"] = viewer.name().into();
            let rest = if kind == Kind::Approve {
                "/approve"
            } else {
                "/refuse"
            };
            (path(rest), Some(body))
        }
        Kind::Delete => {
            let path = path("");
            return viewer.change(Method::DELETE, &path, None, fields).await;
        }
    };
    viewer
        .change(Method::POST, &path, body.as_ref(), fields)
        .await
}

fn note(fields: &Fields) -> Value {
    match fields.some("note") {
        Some(note) => json!({"note": note}),
        None => json!({}),
    }
}

fn copy(viewer: &Viewer, fields: &Fields) -> Result<Value, Problem> {
    let mut body = Map::new();
    if let Some(name) = fields.some("name") {
        body.insert("name".to_owned(), name.into());
    }
    for name in ["start_at", "not_after"] {
        if let Some(at) = super::new::time(viewer, fields, name)? {
            body.insert(name.to_owned(), at.into());
        }
    }
    Ok(body.into())
}
