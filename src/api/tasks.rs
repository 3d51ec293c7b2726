//! `/v1/tasks`.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApiState,
    extract::{self, Fields, ListBody, Paging, Path, Query},
    problem::Problem,
    webhooks::TaskWebhook,
};
use crate::{
    clock::UtcMillis,
    filter::Filter,
    ledger::{PackageId, RetryPolicy, TaskId, TaskState},
    store::{CreateTaskError, GroupId, NewTask, Overlaps, Selection, TaskRecord, UpgradeState},
};

const MAX_NAME: usize = 200;
const MAX_RETRY_ATTEMPTS: u32 = 100;
/// Other tasks that a new task's answer names.
const MAX_OVERLAPS: u32 = 100;
const MAX_RETRY_INTERVAL_S: u32 = 7 * 24 * 3600;
/// So far apart clocks may be, and so long a command may take. What is longer ago is refused, instead of begun at once.
const MAX_START_AGO: Duration = Duration::from_mins(5);
/// A start further ahead than this is taken for a typing error.
const MAX_START_AHEAD: Duration = Duration::from_hours(366 * 24);

/// A batch upgrade.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskBody {
    /// Its number.
    id: i64,
    /// The name it was given.
    name: String,
    state: TaskStateName,
    /// The package.
    package_id: i64,
    /// The package's product.
    product: String,
    /// The package's version.
    version: String,
    /// What follows a failure; `null` when nothing does.
    #[schema(required)]
    retry: Option<RetryBody>,
    /// When it starts or started.
    #[schema(format = DateTime)]
    start_at: String,
    /// When it was created.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was stopped.
    #[schema(required, format = DateTime)]
    stopped_at: Option<String>,
    /// When its last upgrade ended.
    #[schema(required, format = DateTime)]
    ended_at: Option<String>,
    /// Its upgrades, one per device.
    total: u64,
    /// How many of them are in each state.
    #[schema(example = json!({"pending": 3, "downloading": 10, "succeeded": 187}))]
    counts: BTreeMap<&'static str, u64>,
}

/// A task that was created.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CreatedTask {
    #[serde(flatten)]
    task: TaskBody,
    /// What other tasks do with the same package to the same devices; `null` when the database could not tell.
    #[schema(required)]
    overlaps: Option<OverlapsBody>,
}

/// Other tasks that have not ended, and lead devices of this one to the same package.
#[derive(Debug, Serialize, ToSchema)]
struct OverlapsBody {
    /// Devices of this task that another one is to upgrade too. Whichever comes second finds them up to date.
    devices: u64,
    /// These tasks, newest first, 100 at most.
    tasks: Vec<OverlapBody>,
}

/// Another task with the same package and devices.
#[derive(Debug, Serialize, ToSchema)]
struct OverlapBody {
    /// Its number.
    id: i64,
    /// Its name.
    name: String,
    /// Devices that both have.
    devices: u64,
}

impl From<Overlaps> for OverlapsBody {
    fn from(overlaps: Overlaps) -> Self {
        let tasks = overlaps.tasks.into_iter().map(|task| OverlapBody {
            id: task.id.0,
            name: task.name,
            devices: task.devices,
        });
        Self {
            devices: overlaps.devices,
            tasks: tasks.collect(),
        }
    }
}

/// A task's state.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum TaskStateName {
    Scheduled,
    Running,
    Stopping,
    Stopped,
    Finished,
}

/// What follows a failure.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RetryBody {
    /// Further attempts after the first, 0 to 100.
    #[schema(minimum = 0, maximum = 100, example = 2)]
    #[serde(deserialize_with = "extract::whole")]
    attempts: u32,
    /// Pause between a failure and the next attempt, 0 to 604800.
    #[schema(maximum = 604_800, example = 300)]
    #[serde(deserialize_with = "extract::whole")]
    interval_seconds: u32,
}

impl From<TaskRecord> for TaskBody {
    fn from(task: TaskRecord) -> Self {
        let counts = UpgradeState::all()
            .map(|state| (state.name(), task.counts.get(&state).copied().unwrap_or(0)))
            .collect();
        Self {
            total: task.total(),
            counts,
            id: task.id.0,
            state: match task.state {
                TaskState::Scheduled => TaskStateName::Scheduled,
                TaskState::Running => TaskStateName::Running,
                TaskState::Stopping => TaskStateName::Stopping,
                TaskState::Stopped => TaskStateName::Stopped,
                TaskState::Finished => TaskStateName::Finished,
            },
            package_id: task.package.0,
            product: task.product,
            version: task.version.to_string(),
            retry: (task.retry.attempts > 0).then_some(RetryBody {
                attempts: task.retry.attempts,
                interval_seconds: task.retry.interval_s,
            }),
            start_at: task.start_at.to_string(),
            created_at: task.created_at.to_string(),
            stopped_at: task.stopped_at.map(|at| at.to_string()),
            ended_at: task.ended_at.map(|at| at.to_string()),
            name: task.name,
        }
    }
}

/// A task to be created. Exactly one of `devices`, `product`, `all`, `filter` and `group` says for whom.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateTask {
    /// A name to recognise it by, 1 to 200 characters.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,200}$",
        example = "Meters, spring release"
    )]
    name: String,
    /// The package.
    #[serde(deserialize_with = "extract::whole")]
    package_id: i64,
    /// The endpoint names of the devices. Each has to be of the package's product.
    devices: Option<Vec<String>>,
    /// All devices of this product, which has to be the package's.
    product: Option<String>,
    /// `true`: all devices of the package's product.
    all: Option<bool>,
    /// The devices of the package's product that this lets through now: RSQL, up to 4,096 characters
    /// (docs/fleet-and-filters.md).
    #[schema(
        max_length = 4096,
        format = "rsql",
        example = "site==north*;version<V2"
    )]
    filter: Option<String>,
    /// The devices of the package's product that belong to the group of this number now.
    #[serde(default, deserialize_with = "extract::optional_whole")]
    group: Option<i64>,
    /// When it starts, RFC 3339, at most a year ahead; at once when not given. What is past by more than five minutes is
    /// refused.
    #[schema(format = "date-time", example = "2027-03-01T02:00:00Z", format = DateTime)]
    start_at: Option<String>,
    /// What follows a failure; nothing when not given.
    retry: Option<RetryBody>,
    /// Told of every outcome of this task, besides the webhooks for all tasks.
    webhook: Option<TaskWebhook>,
}

/// Create a task.
///
/// It may have devices and package of another task that has not ended: `overlaps` says so.
#[utoipa::path(post, path = "/v1/tasks", operation_id = "create_task", tag = "tasks", request_body = CreateTask,
    responses(
        (status = 201, description = "Created; it runs, or waits for its time", body = CreatedTask,
            headers(("Location" = String, description = "Path of the task"))),
        (status = 404, description = "There is no such package, or no such group", body = Problem),
        (status = 409, description = "Devices are unknown, of another product, or there are none; there is a newer package of \
            that version; there are too many webhooks", body = Problem),
    ))]
pub(super) async fn create(
    State(state): State<ApiState>,
    extract::Json(mut body): extract::Json<CreateTask>,
) -> Result<Response, Problem> {
    let webhook = body.webhook.take();
    let start_at = body.start_at.take();
    let mut new = to_task(body, state.now())?;
    if state.store.package(new.package).await?.is_none() {
        return Err(CreateTaskError::PackageNotFound(new.package).into());
    }
    if let Some(text) = start_at {
        let at = parse_start(&text, new.created_at);
        new.start_at = Some(at.map_err(|detail| Problem::field("start_at", detail))?);
    }
    if let Some(webhook) = webhook {
        new.webhook = Some(webhook.check(&state).await?);
    }
    let task = state.store.create_task(&new).await?;
    state.signals.written();
    let location = format!("/v1/tasks/{}", task.id.0);
    // The task is there, whatever comes of this: an error would have it created once more.
    let overlaps = state.store.overlaps(task.id, MAX_OVERLAPS).await;
    let body = Json(CreatedTask {
        task: TaskBody::from(task),
        overlaps: overlaps
            .inspect_err(|error| tracing::warn!(%error, "overlaps of a task are not known"))
            .map(OverlapsBody::from)
            .ok(),
    });
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], body).into_response())
}

fn to_task(mut body: CreateTask, now: UtcMillis) -> Result<NewTask, Problem> {
    let mut fields = Fields::default();
    let name_len = body.name.chars().count();
    fields.check(
        "name",
        (1..=MAX_NAME).contains(&name_len) && !body.name.chars().any(char::is_control),
        format!("a name has 1 to {MAX_NAME} characters and no control characters"),
    );
    let selection = selection(&mut body, &mut fields);
    if let Some(Selection::Devices(devices)) = &selection {
        fields.check("devices", !devices.is_empty(), "name at least one device");
    }
    let start_at = match body.start_at {
        Some(text) => fields.take("start_at", parse_start(&text, now)),
        None => None,
    };
    if let Some(retry) = &body.retry {
        fields.check(
            "retry.attempts",
            retry.attempts <= MAX_RETRY_ATTEMPTS,
            format!("0 to {MAX_RETRY_ATTEMPTS} are possible"),
        );
        fields.check(
            "retry.interval_seconds",
            retry.interval_seconds <= MAX_RETRY_INTERVAL_S,
            format!("0 to {MAX_RETRY_INTERVAL_S} are possible"),
        );
    }
    fields.finish()?;
    Ok(NewTask {
        name: body.name,
        package: PackageId(body.package_id),
        selection: selection.ok_or_else(|| Problem::field("devices", "it is missing"))?,
        start_at,
        retry: body
            .retry
            .map_or(RetryPolicy::default(), |retry| RetryPolicy {
                attempts: retry.attempts,
                interval_s: retry.interval_seconds,
            }),
        webhook: None,
        created_at: now,
    })
}

/// For whom it is; nothing when that is wrong.
fn selection(body: &mut CreateTask, fields: &mut Fields) -> Option<Selection> {
    let given = [
        body.devices.is_some(),
        body.product.is_some(),
        body.all.is_some(),
        body.filter.is_some(),
        body.group.is_some(),
    ];
    fields.check(
        "devices",
        given.into_iter().filter(|given| *given).count() == 1 && body.all != Some(false),
        "give exactly one of devices, product, all (which can only be true), filter and group",
    );
    let filter = match &body.filter {
        Some(text) => fields.take("filter", Filter::parse(text)),
        None => None,
    };
    let group = body.group.map(|group| Selection::Group(GroupId(group)));
    (body.devices.take().map(Selection::Devices))
        .or(body.product.take().map(Selection::Product))
        .or(body.all.map(|_| Selection::All))
        .or(filter.map(Selection::Filter))
        .or(group)
}

fn parse_start(text: &str, now: UtcMillis) -> Result<UtcMillis, String> {
    let at = text
        .parse::<jiff::Timestamp>()
        .map_err(|error| {
            if text.parse::<jiff::civil::DateTime>().is_ok() {
                format!("{text} has no zone; add a zone: Z or +08:00, as in 2027-03-01T02:00:00Z")
            } else {
                format!("not a time of the form 2027-03-01T02:00:00Z (RFC 3339): {error}")
            }
        })
        .map(|at| UtcMillis(at.as_millisecond()))?;
    if now.since(at) > MAX_START_AGO {
        return Err(format!(
            "{at} is past (it is {now}); leave start_at out to start at once"
        ));
    }
    if at.since(now) > MAX_START_AHEAD {
        return Err(format!("{at} is more than a year ahead"));
    }
    Ok(at)
}

/// List tasks, newest first.
#[utoipa::path(get, path = "/v1/tasks", operation_id = "list_tasks", tag = "tasks", params(Paging),
    responses(
        (status = 200, description = "A page", body = ListBody<TaskBody>),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    Query(paging): Query<Paging>,
) -> Result<Json<ListBody<TaskBody>>, Problem> {
    let before = paging.after::<i64>("tasks")?.map(TaskId);
    let page = state.store.tasks(before, paging.limit()?).await?;
    let body = ListBody::new(page, "tasks", |task| task.id.0, TaskBody::from);
    Ok(Json(body))
}

/// A task.
#[utoipa::path(get, path = "/v1/tasks/{id}", operation_id = "get_task", tag = "tasks",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The task", body = TaskBody),
        (status = 404, description = "There is no such task", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    Path(id): Path<i64>,
) -> Result<Json<TaskBody>, Problem> {
    let task = state.store.task(TaskId(id)).await?;
    task.map(|task| Json(task.into()))
        .ok_or_else(|| Problem::not_found(format!("there is no task {id}")))
}

/// Stop a task.
///
/// Upgrades that wait are cancelled at once, those that run are ended; the task is `stopping` until the
/// last of them has ended. Stopping it again changes nothing.
#[utoipa::path(post, path = "/v1/tasks/{id}/stop", operation_id = "stop_task", tag = "tasks",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The task, stopping or stopped", body = TaskBody),
        (status = 404, description = "There is no such task", body = Problem),
        (status = 409, description = "It has finished", body = Problem),
    ))]
pub(super) async fn stop(
    State(state): State<ApiState>,
    Path(id): Path<i64>,
) -> Result<Json<TaskBody>, Problem> {
    let task = state.store.stop_task(TaskId(id), state.now()).await?;
    state.signals.written();
    Ok(Json(task.into()))
}

/// Delete a task with its upgrades and their timelines.
///
/// Refused while it runs or is being stopped.
#[utoipa::path(delete, path = "/v1/tasks/{id}", operation_id = "delete_task", tag = "tasks",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "There is no such task", body = Problem),
        (status = 409, description = "It is running; stop it first", body = Problem),
    ))]
pub(super) async fn delete(
    State(state): State<ApiState>,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    state.store.delete_task(TaskId(id)).await?;
    state.signals.written();
    Ok(StatusCode::NO_CONTENT)
}
