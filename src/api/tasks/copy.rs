//! `POST /v1/tasks/{id}/copy`.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{CreatedTask, check_name, created, parse_start, rules};
use crate::{
    access::{Caller, Part, Scope},
    api::{
        ApiState,
        extract::{self, Fields, Path},
        problem::Problem,
        scoped::{self, Seen},
    },
    store::{NewTask, Origin, Selection, StoreError, TaskRecord},
    task::Membership,
};

/// Devices that are read at once.
const PART: u32 = 1_000;

/// What a copy has of its own.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api) struct CopyTask {
    /// A name to recognise it by, 1 to 200 characters; that of the task when not given.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,200}$",
        example = "Meters, second half"
    )]
    name: Option<String>,
    /// It starts at this time, RFC 3339, at most a year ahead; at once when not given.
    #[schema(format = DateTime, example = "2027-03-01T02:00:00Z")]
    start_at: Option<String>,
    /// What has not begun by then is not done any more, RFC 3339; the copy has no last time when not given.
    #[schema(format = DateTime, example = "2027-03-08T02:00:00Z")]
    not_after: Option<String>,
}

/// Copy a task.
///
/// The copy has its packages and rules, and is for the same product, filter or group as they are now, or for the devices that the task
/// has, as far as they are there still. It is a task of its own: it is approved, drawn and counted anew. The start and the last time are
/// not taken over, nor the task's webhook.
#[utoipa::path(post, path = "/v1/tasks/{id}/copy", operation_id = "copy_task", tag = "tasks", request_body = CopyTask,
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 201, description = "The copy; it runs, or waits for its time", body = CreatedTask,
            headers(("Location" = String, description = "Path of the copy"), ("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such task, or its package or its group is gone", body = Problem),
        (status = 409, description = "There are no devices for it, or none that is not left out; there is a newer package of that version", body = Problem),
    ))]
pub(in crate::api) async fn copy(
    State(state): State<ApiState>,
    caller: Caller,
    scope: Scope,
    Path(id): Path<i64>,
    extract::Json(body): extract::Json<CopyTask>,
) -> Result<Response, Problem> {
    let task = scoped::task(&state, &scope, id).await?;
    let mut fields = Fields::default();
    if let Some(name) = &body.name {
        check_name(&mut fields, name);
    }
    fields.finish()?;
    let now = state.now();
    let start_at = match &body.start_at {
        Some(text) => {
            Some(parse_start(text, now).map_err(|detail| Problem::field("start_at", detail))?)
        }
        None => None,
    };
    let mut rules = (*task.rules).clone();
    let not_after = body.not_after.as_deref().map(rules::parse_time).transpose();
    rules.not_after = not_after.map_err(|detail| Problem::field("not_after", detail))?;
    if task.targets.is_none() {
        // nobody joins a list, as the copy of an offer's standing task has one
        rules.membership = Membership::Snapshot;
    }
    let rules = rules::checked(rules, start_at.unwrap_or(now).max(now))?;
    let mut exclude = state.store.task_exclude(task.id).await?;
    let there = state.store.devices_named(&exclude.devices).await?;
    exclude.devices = there.into_iter().map(|it| it.device.endpoint).collect();
    let new = NewTask {
        name: body.name.unwrap_or_else(|| task.name.clone()),
        package: task.package,
        packages: (*task.packages).clone(),
        selection: selection(&state, &task).await?,
        exclude,
        start_at,
        retry: task.retry,
        rules,
        webhook: None,
        created_at: now,
        origin: Origin {
            by: caller.who(),
            scope: task.origin.scope.clone(),
        },
    };
    created(&state, &scope, &new).await
}

/// For whom the task is.
async fn selection(state: &ApiState, task: &TaskRecord) -> Result<Selection, StoreError> {
    if let Some(targets) = &task.targets {
        let by_filter = targets.filter.clone().map(Selection::Filter);
        let by_group = targets.group.map(Selection::Group);
        return Ok(by_filter.or(by_group).unwrap_or(Selection::All));
    }
    let mut devices = Vec::new();
    let mut after = None;
    loop {
        let page = state.store.upgrades(task.id, None, after, PART).await?;
        let Some(last) = page.items.last() else { break };
        after = Some(last.id);
        let names: Vec<String> = page.items.into_iter().map(|it| it.endpoint).collect();
        let there = state.store.devices_named(&names).await?;
        let there = there.into_iter().map(|it| it.device);
        let of_product = there.filter(|device| device.product == task.product);
        devices.extend(of_product.map(|device| device.endpoint));
    }
    // they may belong to others by now
    if let Some(within) = &task.origin.scope {
        let within = Scope::Within(vec![Part {
            tenant: None,
            filter: Some(within.clone()),
        }]);
        let seen = Seen::of(state, &within, devices.iter().map(String::as_str)).await?;
        devices.retain(|endpoint| seen.has(endpoint));
    }
    Ok(Selection::Devices(devices))
}
