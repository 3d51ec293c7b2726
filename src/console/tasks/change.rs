//! How a task that is there is run from now on (`PATCH /v1/tasks/{id}`).

use askama::Template;
use axum::{body::Bytes, extract::Path, http::Method, response::Response};
use serde_json::{Map, Value};

use super::{
    super::{
        calls::part,
        fields::Fields,
        page::{Failure, Paged, done, page, page_with, status},
        viewer::Viewer,
    },
    new::Form,
    review::Review,
    rules::Rules,
    view::Task,
};
use crate::api::Problem;

#[derive(Template)]
#[template(path = "tasks/change.html")]
struct ChangePage<'a> {
    at: &'a Viewer,
    task: Task,
    f: Form,
    etag: String,
    problem: Option<Problem>,
}

/// The form.
pub(super) async fn show(viewer: Viewer, Path(id): Path<i64>) -> Paged {
    let (task, etag) = read(&viewer, id).await?;
    let mut form = Form::of(&viewer, &task);
    if task.rules.windows.is_none() {
        form.set("zone", viewer.zone.name());
    }
    Ok(filled_in(&viewer, (task, form, etag), None))
}

async fn read(viewer: &Viewer, id: i64) -> Result<(Task, String), Failure> {
    let answer = viewer.read(&format!("/v1/tasks/{id}")).await?;
    let etag = answer.etag();
    Ok((part(answer.body)?, etag))
}

fn filled_in(
    viewer: &Viewer,
    (task, f, etag): (Task, Form, String),
    problem: Option<Problem>,
) -> Response {
    let shown = ChangePage {
        at: viewer,
        task,
        f,
        etag,
        problem,
    };
    match &shown.problem {
        None => page(&shown),
        Some(problem) => page_with(status(problem), &shown),
    }
}

/// The form was sent: for another row, the question, or to be saved.
pub(super) async fn send(viewer: Viewer, Path(id): Path<i64>, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let what = fields.get("do").to_owned();
    let mut form = Form::entered(fields.entered());
    form.0.0.retain(|(name, _)| name != "do");
    form.close_up();
    let (task, _) = read(&viewer, id).await?;
    // what was seen, and is to be changed
    let etag = fields.get("etag").to_owned();
    let before = Form::of(&viewer, &task);
    let changed = match &*what {
        "review" | "save" => changed(&viewer, &before, &form),
        _ => {
            form.add_row(what.trim_start_matches("more-"));
            return Ok(filled_in(&viewer, (task, form, etag), None));
        }
    };
    let changed = match changed {
        Ok(changed) => changed,
        Err(problem) => return Ok(filled_in(&viewer, (task, form, etag), Some(problem))),
    };
    if what == "review" {
        return review(&viewer, &task, &form, etag, changed);
    }
    let path = format!("/v1/tasks/{id}");
    let body = Value::from(changed);
    match viewer
        .change(Method::PATCH, &path, Some(&body), &fields)
        .await
    {
        Ok(_) => Ok(done(&viewer, &format!("/tasks/{id}"), "task-changed")),
        Err(problem) => Ok(filled_in(&viewer, (task, form, etag), Some(problem))),
    }
}

/// What the form has otherwise than the task.
fn changed(viewer: &Viewer, before: &Form, now: &Form) -> Result<Map<String, Value>, Problem> {
    let before = before.rules(viewer)?;
    let mut now = now.rules(viewer)?;
    now.retain(|name, value| before.get(name) != Some(value));
    Ok(now)
}

fn review(
    viewer: &Viewer,
    task: &Task,
    form: &Form,
    etag: String,
    changed: Map<String, Value>,
) -> Result<Response, Failure> {
    let mut means = vec![
        viewer.t1("means-change", "count", viewer.n(task.waiting())),
        viewer.t1("means-goes-on", "count", viewer.n(task.running())),
    ];
    if changed.is_empty() {
        means = vec![viewer.t("means-change-nothing")];
    }
    let only_shares = (changed.keys()).all(|name| matches!(&**name, "priority" | "weight"));
    if task.approval.as_ref().is_some_and(|it| it.approved) && !only_shares {
        means.push(viewer.t("means-approval-again"));
    }
    for (name, value) in &changed {
        if value.is_null() || value.as_array().is_some_and(Vec::is_empty) {
            means.push(viewer.word("means-without", name));
        }
    }
    let told = changed.into_iter().filter(|(_, value)| !value.is_null());
    let rules: Rules = part(told.collect::<Map<_, _>>().into())?;
    let review = Review {
        at: viewer,
        title: viewer.t1("task-ask-change", "name", &*task.name),
        means,
        phases: Vec::new(),
        told: rules.told(viewer),
        kept: form.0.clone(),
        etag,
        button: viewer.t("task-do-change"),
        save: "save",
        action: viewer.url(format_args!("/tasks/{}/change", task.id)),
    };
    Ok(page(&review))
}
