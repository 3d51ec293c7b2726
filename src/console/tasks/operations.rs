//! What is done with a task that is there. Each is asked back first, with what it will do to how many devices.

use axum::{body::Bytes, extract::Path, http::Method, response::Response};
use serde::Deserialize;

use super::super::{
    confirm::Question,
    fields::Fields,
    page::{Failure, Paged, done},
    viewer::Viewer,
};
use crate::api::Problem;

/// An operation on a task.
struct Operation {
    /// As the address has it, and the texts: `task-ask-pause`, `task-means-pause`, `task-do-pause`, `done-task-pause`.
    name: &'static str,
    /// As the API calls it.
    operation: &'static str,
    danger: bool,
}

const OPERATIONS: [Operation; 2] = [
    Operation {
        name: "pause",
        operation: "pause_task",
        danger: false,
    },
    Operation {
        name: "resume",
        operation: "resume_task",
        danger: false,
    },
];

/// What is told of the task.
#[derive(Debug, Deserialize)]
struct Task {
    id: i64,
    name: String,
    total: u64,
}

fn named(name: &str) -> Result<&'static Operation, Failure> {
    let found = OPERATIONS.iter().find(|operation| operation.name == name);
    found.ok_or_else(|| {
        Failure(Problem::not_found(format!(
            "nothing is called {name:?} here"
        )))
    })
}

/// Asks.
pub(super) async fn ask(viewer: Viewer, Path((id, name)): Path<(i64, String)>) -> Paged {
    let operation = named(&name)?;
    question(&viewer, id, operation, None).await
}

async fn question(
    viewer: &Viewer,
    id: i64,
    operation: &Operation,
    problem: Option<Problem>,
) -> Result<Response, Failure> {
    let task: Task = viewer.get(&format!("/v1/tasks/{id}")).await?;
    let name = operation.name;
    let question = Question {
        at: viewer,
        title: viewer.t1(&format!("task-ask-{name}"), "name", &*task.name),
        means: vec![viewer.t1(&format!("task-means-{name}"), "count", task.total)],
        inputs: Vec::new(),
        hidden: Vec::new(),
        button: viewer.t(&format!("task-do-{name}")),
        danger: operation.danger,
        action: viewer.url(format_args!("/tasks/{id}/{name}")),
        back: viewer.url(format_args!("/tasks/{}", task.id)),
        problem,
    };
    Ok(question.page())
}

/// Does it.
pub(super) async fn carry_out(
    viewer: Viewer,
    Path((id, name)): Path<(i64, String)>,
    body: Bytes,
) -> Paged {
    let operation = named(&name)?;
    let fields = Fields::parse(&body);
    let path = format!("/v1/tasks/{id}/{name}");
    debug_assert!(crate::access::Operation::named(operation.operation).is_some());
    match viewer.change(Method::POST, &path, None, &fields).await {
        Ok(_) => Ok(done(
            &viewer,
            &format!("/tasks/{id}"),
            &format!("task-{name}"),
        )),
        Err(problem) => question(&viewer, id, operation, Some(problem)).await,
    }
}
