//! `/v1/tasks`.

mod budget;
pub(super) mod changes;
pub(super) mod copy;
mod packages;
mod rules;
mod served;
pub(super) mod standing;
mod summary;
mod targets;

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use budget::BudgetBody;
use packages::{ConditionsBody, SaidOfPackages, TaskPackage};
pub(super) use rules::parse_time;
use rules::{ConfirmationName, PhaseBody, PhaseStandBody, RateBody, ThresholdBody};
use summary::TaskSummary;
use targets::{ExcludeBody, MembershipName, NarrowedBody, TargetsBody};

use super::{
    ApiState,
    extract::{self, Fields, ListBody, Paging, Path, Query},
    problem::Problem,
    scoped,
    traffic::TrafficBody,
    webhooks::TaskWebhook,
};
use crate::{
    access::{Caller, Scope},
    clock::UtcMillis,
    filter::Filter,
    ledger::{PackageId, Reasons, RetryPolicy, TaskId, TaskState},
    store::{
        Approval, Exclude, GroupId, NewTask, Origin, Overlaps, Selection, TaskRecord, UpgradeState,
    },
    task::{
        HoldReason, PackageRules, Share, Stand, TaskRules, Windows, WindowsForm, check_reasons,
    },
    tenant, wording,
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
    /// The package; of several the first.
    package_id: i64,
    /// Its packages, and for whom each is.
    packages: Vec<TaskPackage>,
    /// A device that has one of them goes on with the one that fits what it runs then.
    steps: bool,
    /// A device may be given a version that is below the one that it runs.
    allow_downgrade: bool,
    /// What a device has to be like to be upgraded; `null`: nothing is asked.
    #[schema(required)]
    conditions: Option<ConditionsBody>,
    /// Whose it is; not there where it is the tenant `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// The package's product.
    product: String,
    /// The package's version; of several that of the first.
    version: String,
    /// What follows a failure; `null` when nothing does.
    #[schema(required)]
    retry: Option<RetryBody>,
    /// What it does, and what it waits for.
    stand: StandBody,
    /// The phase that runs, from 1.
    phase: u32,
    /// Its phases, and what came of them; a task that was created without has one.
    phases: Vec<PhaseStandBody>,
    /// Whether models, versions, coverage and cells are represented in its phases as they are in the whole.
    stratified: bool,
    /// Thresholds of failures at which it pauses or stops by itself.
    abort: Vec<ThresholdBody>,
    /// How fast upgrades begin; `null`: as fast as admission lets them.
    #[schema(required)]
    rate: Option<RateBody>,
    /// When upgrades may begin; `null`: at any time.
    #[schema(required, value_type = Option<rules::WindowsBody>)]
    windows: Option<Windows>,
    /// What has not begun by then is not done any more (`expired`).
    #[schema(required, format = DateTime)]
    not_after: Option<String>,
    /// Where it stands before other tasks in a cell: 0 to 9, higher first.
    priority: u8,
    /// What it has of the slots of a cell beside tasks of its priority.
    weight: u32,
    /// Who approved it, or refused to; `null`: nobody was asked, or nobody has answered.
    #[schema(required)]
    approval: Option<ApprovalBody>,
    /// Who has to confirm each upgrade; `null`: nobody.
    #[schema(required)]
    confirmation: Option<ConfirmationName>,
    /// What a device may spend in a month; `null`: as much as it takes.
    #[schema(required)]
    budget: Option<BudgetBody>,
    /// Upgrades that wait for a month in which their device may spend again, counted up to 1,000.
    over_budget: u32,
    /// What its upgrades have cost on the air.
    traffic: TrafficBody,
    /// Counts the changes of how it is run, from 1; the `ETag` of this answer.
    revision: u32,
    /// When it starts or started.
    #[schema(format = DateTime)]
    start_at: String,
    /// When it was created.
    #[schema(format = DateTime)]
    created_at: String,
    /// Who created it: `admin-token`, or `token:7:nightly-import`.
    created_by: String,
    /// Who has changed it since, in more than `priority` and `weight`, each once: none of them approves it. `anybody` is the last of more than
    /// a hundred: nobody does.
    changed_by: Vec<String>,
    /// When it was stopped.
    #[schema(required, format = DateTime)]
    stopped_at: Option<String>,
    /// When its last upgrade ended.
    #[schema(required, format = DateTime)]
    ended_at: Option<String>,
    /// Its upgrades, one per device.
    total: u64,
    /// Devices that were selected, and left out because they were excluded (`/v1/exclusions`) when it was created.
    excluded: u64,
    /// Whom it is for; `null`: a list of devices, or a version created it that did not keep that.
    #[schema(required)]
    targets: Option<TargetsBody>,
    /// Whether devices join it that come to fit after it was created.
    membership: MembershipName,
    /// Whom it leaves out itself; `null`: nobody.
    #[schema(required)]
    exclude: Option<NarrowedBody>,
    /// Devices that were selected, and left out because of `exclude`, when it was created.
    left_out: u64,
    /// Devices that were skipped, by reason: `no_package` where no package of the task is for the device, `downgrade` where the
    /// one that is for it is below what it runs, `skipped` where an operator passed over it. They are among `cancelled`; for phases and thresholds they do not count.
    #[schema(example = json!({"no_package": 2}))]
    skipped: BTreeMap<String, u64>,
    /// Devices that have failed, by reason: those that `counts` has as `failed`.
    #[schema(example = json!({"device_not_heard": 2}))]
    failures: BTreeMap<String, u64>,
    /// How many of them are in each state.
    #[schema(example = json!({"pending": 3, "downloading": 10, "succeeded": 187}))]
    counts: BTreeMap<&'static str, u64>,
    /// The same in six words.
    summary: TaskSummary,
}

/// A task that was created.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CreatedTask {
    #[serde(flatten)]
    task: TaskBody,
    /// What other tasks do with the same package to the same devices; `null` when the database could not
    /// tell, or the caller sees some devices only.
    #[schema(required)]
    overlaps: Option<OverlapsBody>,
    /// Devices to which none of its packages can be served: of what they speak (no listener for downloads, more than PCP can carry), or of
    /// the size (IoTDA, 999,999,999 bytes). Each fails for `not_served`, and is not tried again, when its upgrade is to begin or it has told its
    /// version, unless that is one of theirs. `null` when the database could not tell.
    #[schema(required)]
    not_served: Option<u64>,
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

/// What a task does, and what it waits for.
#[derive(Debug, Serialize, ToSchema)]
struct StandBody {
    /// A stable word: `scheduled`, `running`, `phase`, `joining`, `window_closed`, `over_budget`, `paused`, `failures`, `phase_done`, `phase_failed`,
    /// `approval`, `stopping`, `stopped` or `finished`.
    code: &'static str,
    /// The same in a sentence.
    text: String,
}

/// Who approved a task, or refused to.
#[derive(Debug, Serialize, ToSchema)]
struct ApprovalBody {
    /// Whether it was approved.
    approved: bool,
    /// Who, as the caller has said.
    by: String,
    /// The caller: `admin-token`, or `token:7:anna`; `null`: that was not kept then.
    #[schema(required)]
    caller: Option<String>,
    /// What was said of it.
    #[schema(required)]
    note: Option<String>,
    /// When.
    #[schema(format = DateTime)]
    at: String,
}

impl From<Approval> for ApprovalBody {
    fn from(approval: Approval) -> Self {
        Self {
            approved: approval.approved,
            by: approval.by,
            caller: approval.caller,
            note: approval.note,
            at: approval.at.to_string(),
        }
    }
}

/// A task's state.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum TaskStateName {
    AwaitingApproval,
    Scheduled,
    Running,
    Paused,
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
    /// Only failures for these reasons are tried again; those for any when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["device_not_heard", "download_timed_out"]))]
    reasons: Option<Vec<String>>,
}

impl TaskBody {
    #[expect(clippy::too_many_lines, reason = "one field after the other")]
    pub(super) fn new(task: TaskRecord, now: UtcMillis) -> Self {
        let count = |state| task.counts.get(&state).copied().unwrap_or(0);
        let counts = UpgradeState::all()
            .map(|state| (state.name(), count(state)))
            .collect();
        let summary = TaskSummary::of(count);
        let rules = &task.rules;
        let share = Share::of(rules);
        let results = (task.phase, &*task.results);
        let hold = task.hold.as_ref();
        let mut failures = BTreeMap::new();
        for (reason, count) in task.results.iter().flat_map(|results| &results.failed) {
            *failures.entry(reason.clone()).or_default() += count;
        }
        let stand = Stand::of(task.state, task.start_at, rules, hold, results, now)
            .with_put_off(task.put_off);
        Self {
            total: task.total(),
            excluded: task.excluded,
            targets: task.targets.map(Into::into),
            membership: rules.membership.into(),
            exclude: task.narrowed.map(Into::into),
            left_out: task.left_out,
            counts,
            summary,
            id: task.id.0,
            state: match (task.state, &stand) {
                (_, Stand::Held(hold)) if hold.why == HoldReason::Approval => {
                    TaskStateName::AwaitingApproval
                }
                (_, Stand::Held(_)) => TaskStateName::Paused,
                (TaskState::Scheduled, _) => TaskStateName::Scheduled,
                (TaskState::Running, _) => TaskStateName::Running,
                (TaskState::Stopping, _) => TaskStateName::Stopping,
                (TaskState::Stopped, _) => TaskStateName::Stopped,
                (TaskState::Finished, _) => TaskStateName::Finished,
            },
            stand: StandBody {
                code: stand.code(),
                text: match (task.state, hold.and_then(wording::stopped_for)) {
                    (TaskState::Stopping | TaskState::Stopped, Some(why)) => {
                        format!("{}: {why}", wording::stand(&stand))
                    }
                    _ => format!(
                        "{}{}",
                        wording::stand(&stand),
                        wording::put_off(&stand, task.put_off)
                    ),
                },
            },
            phase: task.phase + 1,
            phases: rules::phases(rules, task.phase, &task.results),
            stratified: rules.stratified,
            abort: rules.abort.iter().map(Into::into).collect(),
            rate: rules.rate.map(Into::into),
            windows: rules.windows.clone(),
            not_after: rules.not_after.map(|at| at.to_string()),
            priority: share.priority,
            weight: share.weight,
            approval: task.approval.map(Into::into),
            confirmation: rules.confirmation.map(Into::into),
            budget: rules.budget.map(Into::into),
            over_budget: task.put_off.0,
            traffic: task.traffic.into(),
            revision: task.revision,
            package_id: task.package.0,
            packages: packages::shown(task.package, &task.packages),
            steps: task.packages.steps,
            allow_downgrade: task.packages.allow_downgrade,
            conditions: ConditionsBody::shown(task.packages.conditions),
            skipped: task.skipped,
            failures,
            tenant: tenant::told(&task.product),
            product: tenant::product_name(&task.product).to_owned(),
            version: task.version.to_string(),
            retry: (task.retry.attempts > 0).then(|| RetryBody {
                attempts: task.retry.attempts,
                interval_seconds: task.retry.interval_s,
                reasons: (task.retry.reasons != Reasons::default())
                    .then(|| task.retry.reasons.words().map(str::to_owned).collect()),
            }),
            start_at: task.start_at.to_string(),
            created_at: task.created_at.to_string(),
            created_by: task.origin.by,
            changed_by: task.changed_by,
            stopped_at: task.stopped_at.map(|at| at.to_string()),
            ended_at: task.ended_at.map(|at| at.to_string()),
            name: task.name,
        }
    }

    fn revision(&self) -> u32 {
        self.revision
    }
}

/// The answer that shows a task.
fn shown(state: &ApiState, task: TaskRecord) -> Response {
    TaskBody::new(task, state.now()).into_response()
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
    /// The package, for all devices. Give either this or `packages`.
    #[serde(default, deserialize_with = "extract::optional_whole")]
    package_id: Option<i64>,
    /// Several packages of one product, 1 to 20, and for whom each is: no device may fit two. A device is given the one that
    /// fits what it answers when it is asked for its version; one that none fits is skipped (`no_package`).
    #[schema(min_items = 1, max_items = 20)]
    packages: Option<Vec<TaskPackage>>,
    /// Whether a device that has one of `packages` goes on with the one that fits what it runs then, as long as there is one: a
    /// chain, where a version leads to another one only by way of a third. They must not lead in a circle.
    steps: Option<bool>,
    /// Whether a device may be given a version that is below the one that it runs. Otherwise it is skipped (`downgrade`).
    allow_downgrade: Option<bool>,
    /// What a device has to be like to be upgraded. Devices, or their gateways, that are told of it refuse where it does not hold.
    conditions: Option<ConditionsBody>,
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
    /// Devices of these that it leaves out.
    exclude: Option<ExcludeBody>,
    /// `joining`: devices join it that come to fit while it runs, and it does not end before it is stopped or `not_after` has come.
    /// Not with `devices`. `snapshot` when not given.
    membership: Option<MembershipName>,
    /// When it starts, RFC 3339, at most a year ahead; at once when not given. What is past by more than five minutes is
    /// refused.
    #[schema(format = "date-time", example = "2027-03-01T02:00:00Z", format = DateTime)]
    start_at: Option<String>,
    /// What follows a failure; nothing when not given.
    retry: Option<RetryBody>,
    /// Its phases, 100 at most; without any, all devices begin when it starts.
    #[schema(max_items = 100)]
    phases: Option<Vec<PhaseBody>>,
    /// `true`: models, versions, coverage and cells are represented in each phase that is drawn as they are in the whole. For a task
    /// of 1 to 20 phases.
    stratified: Option<bool>,
    /// Thresholds of failures at which it pauses or stops by itself, 20 at most.
    #[schema(max_items = 20)]
    abort: Option<Vec<ThresholdBody>>,
    /// How fast upgrades begin.
    rate: Option<RateBody>,
    /// When upgrades may begin; at any time when not given.
    #[schema(value_type = Option<rules::WindowsBody>)]
    windows: Option<WindowsForm>,
    /// What has not begun by then is not done any more, RFC 3339. Has to be after the start.
    #[schema(format = DateTime, example = "2027-03-08T02:00:00Z")]
    not_after: Option<String>,
    /// Whether somebody has to approve it before it starts.
    approval: Option<bool>,
    /// Who has to confirm each upgrade before it begins (`POST /v1/upgrades/{id}/confirm`); nobody when not given.
    confirmation: Option<ConfirmationName>,
    /// What a device may spend in a month; one that has not enough left waits. As much as it takes when not given.
    budget: Option<BudgetBody>,
    /// Where it stands before other tasks: higher ones begin first, and have the slots of a cell first; 5 when not given
    /// (docs/admission.md).
    #[serde(default, deserialize_with = "extract::optional_whole")]
    #[schema(minimum = 0, maximum = 9, example = 7)]
    priority: Option<i64>,
    /// What it has of the slots of a cell beside tasks of its priority: twice as many with twice the weight; 1 when not given.
    #[serde(default, deserialize_with = "extract::optional_whole")]
    #[schema(minimum = 1, maximum = 1000, example = 3)]
    weight: Option<i64>,
    /// Told of every outcome of this task, besides the webhooks for all tasks.
    webhook: Option<TaskWebhook>,
}

/// Create a task.
///
/// It may have devices and package of another task that has not ended: `overlaps` says so. Excluded devices are left out, and
/// counted in `excluded`; those that its `exclude` means are counted in `left_out`.
#[utoipa::path(post, path = "/v1/tasks", operation_id = "create_task", tag = "tasks", request_body = CreateTask,
    responses(
        (status = 201, description = "Created; it runs, or waits for its time", body = CreatedTask,
            headers(("Location" = String, description = "Path of the task"), ("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such package, or no such group, of `exclude` either", body = Problem),
        (status = 409, description = "Devices are unknown, those of `exclude` too, or of another product, or there are none, or none that is not left out, and none may join; there is a newer package of \
            that version; there are too many webhooks", body = Problem),
    ))]
pub(super) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    scope: Scope,
    extract::Json(body): extract::Json<CreateTask>,
) -> Result<Response, Problem> {
    let mut new = to_new_task(&state, &scope, body).await?;
    new.origin.by = caller.who();
    created(&state, &scope, &new).await
}

/// Creates a task, and shows it.
async fn created(state: &ApiState, scope: &Scope, new: &NewTask) -> Result<Response, Problem> {
    let task = state.store.create_task(new).await?;
    state.signals.written();
    let headers = [
        (header::LOCATION, format!("/v1/tasks/{}", task.id.0)),
        (header::ETAG, format!("\"{}\"", task.revision)),
    ];
    // The task is there, whatever comes of this: an error would have it created once more.
    let overlaps = match scope {
        // other tasks may be others' tasks
        scope if !sees_all_of(scope, &task) => None,
        _ => (state.store.overlaps(task.id, MAX_OVERLAPS).await)
            .inspect_err(|error| tracing::warn!(%error, "overlaps of a task are not known"))
            .map(OverlapsBody::from)
            .ok(),
    };
    let not_served = (served::count_not_served(state, &task).await)
        .inspect_err(|error| tracing::warn!(%error, "it is not known whom a task serves"))
        .ok();
    let body = Json(CreatedTask {
        task: TaskBody::new(task, state.now()),
        overlaps,
        not_served,
    });
    Ok((StatusCode::CREATED, headers, body).into_response())
}

/// Whether a caller sees everything of the tenant of a task.
fn sees_all_of(scope: &Scope, task: &TaskRecord) -> bool {
    scope.has_all_of(tenant::owner(&task.product))
}

/// The task that is to be created, or forecast, as far as that can be told without its devices, and cut to what is there for its maker.
pub(super) async fn to_new_task(
    state: &ApiState,
    scope: &Scope,
    mut body: CreateTask,
) -> Result<NewTask, Problem> {
    let webhook = body.webhook.take();
    let start_at = body.start_at.take();
    let said = rules::Said {
        phases: body.phases.take(),
        stratified: body.stratified.unwrap_or_default(),
        abort: body.abort.take(),
        rate: body.rate.take(),
        windows: body.windows.take(),
        not_after: body.not_after.take(),
        approval: body.approval.unwrap_or_default(),
        confirmation: body.confirmation.map(Into::into),
        budget: body.budget.take().map(Into::into),
        membership: body.membership.unwrap_or_default().into(),
        priority: body.priority,
        weight: body.weight,
    };
    let said_of_packages = SaidOfPackages {
        package_id: body.package_id.take(),
        packages: body.packages.take(),
        steps: body.steps.unwrap_or_default(),
        allow_downgrade: body.allow_downgrade.unwrap_or_default(),
        conditions: body.conditions.map(Into::into).unwrap_or_default(),
    };
    let (package, packages) = said_of_packages.rules()?;
    let mut new = to_task(body, package, state.now())?;
    new.packages = packages;
    scoped::see_packages(state, scope, (new.package, &new.packages)).await?;
    if let Some(text) = start_at {
        let at = parse_start(&text, new.created_at);
        new.start_at = Some(at.map_err(|detail| Problem::field("start_at", detail))?);
    }
    // one that starts a little in the past starts now
    let starts = new.start_at.unwrap_or(new.created_at);
    new.rules = said.rules(starts.max(new.created_at))?;
    budget::check(state, &new.rules, (new.package, &new.packages)).await?;
    if let Some(webhook) = webhook {
        new.webhook = Some(webhook.check(state).await?);
    }
    scoped::cut(state, scope, &mut new).await?;
    Ok(new)
}

fn to_task(mut body: CreateTask, package: PackageId, now: UtcMillis) -> Result<NewTask, Problem> {
    let mut fields = Fields::default();
    check_name(&mut fields, &body.name);
    let selection = selection(&mut body, &mut fields);
    if let Some(Selection::Devices(devices)) = &selection {
        fields.check("devices", !devices.is_empty(), "name at least one device");
        fields.check(
            "membership",
            body.membership != Some(MembershipName::Joining),
            "no device can join a list; give product, all, a filter or a group in place of devices",
        );
    }
    let exclude = body.exclude.take();
    let exclude = exclude.map_or_else(Exclude::default, |body| body.read(&mut fields));
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
        let reasons = retry.reasons.as_deref().unwrap_or_default();
        fields.take("retry.reasons", check_reasons(reasons));
    }
    fields.finish()?;
    Ok(NewTask {
        name: body.name,
        package,
        packages: PackageRules::default(),
        selection: selection.ok_or_else(|| Problem::field("devices", "it is missing"))?,
        exclude,
        start_at,
        retry: body
            .retry
            .map_or(RetryPolicy::default(), |retry| RetryPolicy {
                attempts: retry.attempts,
                interval_s: retry.interval_seconds,
                reasons: Reasons::of(retry.reasons.iter().flatten().map(String::as_str)),
            }),
        rules: TaskRules::default(),
        webhook: None,
        created_at: now,
        origin: Origin::default(),
    })
}

fn check_name(fields: &mut Fields, name: &str) {
    fields.check(
        "name",
        (1..=MAX_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control),
        format!("a name has 1 to {MAX_NAME} characters and no control characters"),
    );
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

/// Which tasks are listed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct TasksParams {
    /// Items in the answer, 1 to 1000; 100 when not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before; the first page when not given.
    cursor: Option<String>,
    /// `true`: only those that have not ended.
    unfinished: Option<bool>,
}

/// List tasks, newest first.
#[utoipa::path(get, path = "/v1/tasks", operation_id = "list_tasks", tag = "tasks", params(TasksParams),
    responses(
        (status = 200, description = "A page", body = ListBody<TaskBody>),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    scope: Scope,
    Query(params): Query<TasksParams>,
) -> Result<Json<ListBody<TaskBody>>, Problem> {
    let paging = Paging::new(params.limit, params.cursor);
    let unfinished = params.unfinished.unwrap_or_default();
    let before = paging.after::<i64>("tasks")?.map(TaskId);
    let limit = paging.limit()?;
    let page = match scoped::of_tasks(&scope) {
        None => state.store.tasks(unfinished, before, limit).await?,
        Some(within) => {
            state
                .store
                .tasks_within(&within, unfinished, before, limit)
                .await?
        }
    };
    let now = state.now();
    let body = |task| TaskBody::new(task, now);
    let body = ListBody::new(page, "tasks", |task: &TaskRecord| task.id.0, body);
    Ok(Json(body))
}

/// A task.
#[utoipa::path(get, path = "/v1/tasks/{id}", operation_id = "get_task", tag = "tasks",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The task", body = TaskBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such task", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let task = scoped::task(&state, &scope, id).await?;
    Ok(shown(&state, task))
}

/// Stop a task.
///
/// Upgrades that wait are cancelled at once, those that run are ended; the task is `stopping` until the
/// last of them has ended. With `soft`, upgrades that hold a slot of their cell (they download, or install) go on to their end,
/// and none of them is tried again. Stopping it again changes nothing, but that one that was stopped so can be stopped without.
#[utoipa::path(post, path = "/v1/tasks/{id}/stop", operation_id = "stop_task", tag = "tasks",
    params(("id" = i64, Path, description = "Its number"), StopParams),
    responses(
        (status = 200, description = "The task, stopping or stopped", body = TaskBody),
        (status = 404, description = "There is no such task", body = Problem),
        (status = 409, description = "It has finished", body = Problem),
    ))]
pub(super) async fn stop(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
    Query(params): Query<StopParams>,
) -> Result<Response, Problem> {
    scoped::see_task(&state, &scope, id).await?;
    let (now, soft) = (state.now(), params.soft.unwrap_or_default());
    let task = state.store.stop_task(TaskId(id), now, soft).await?;
    state.signals.written();
    Ok(shown(&state, task))
}

/// How a task is stopped.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StopParams {
    /// What holds a slot of its cell goes on to its end.
    soft: Option<bool>,
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
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    scoped::see_task(&state, &scope, id).await?;
    state.store.delete_task(TaskId(id)).await?;
    state.signals.written();
    Ok(StatusCode::NO_CONTENT)
}
