//! What an operator does with a task that is there: `PATCH /v1/tasks/{id}` and what is posted below it.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    TaskBody,
    budget::{self, BudgetBody},
    rules::{self, PhaseBody, RateBody, ThresholdBody},
    shown,
    targets::MembershipName,
};
use crate::{
    access::{Caller, Scope},
    api::{
        ApiState, etag,
        extract::{self, Path, Query, nullable, nullable_whole},
        problem::Problem,
        scoped,
    },
    clock::UtcMillis,
    ledger::{Reasons, TaskId},
    store::{Again, Approval, TaskChange, TaskRecord},
    task::{TaskRules, WindowsForm, check_reasons},
    tenant,
};

/// Longest note, characters.
const MAX_NOTE: usize = 500;

/// What to change about how a task is run. What is not given stays as it is; `null` takes it away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "not given, null, or a value")]
pub(in crate::api) struct UpdateTask {
    /// As many phases as it has, of the same sizes: what has to come of them may change. They cannot be taken away.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Vec<PhaseBody>>, max_items = 100)]
    phases: Option<Option<Vec<PhaseBody>>>,
    /// Thresholds of failures, instead of those that there are.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Vec<ThresholdBody>>, max_items = 20)]
    abort: Option<Option<Vec<ThresholdBody>>>,
    /// How fast upgrades begin.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<RateBody>)]
    rate: Option<Option<RateBody>>,
    /// When upgrades may begin.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<rules::WindowsBody>)]
    windows: Option<Option<WindowsForm>>,
    /// What has not begun by then is not done any more, RFC 3339. Has to be ahead, and after the start.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, format = DateTime)]
    not_after: Option<Option<String>>,
    /// Whether devices join it from now on: not where it is for a list of devices. With `snapshot` it ends when all that it has has
    /// ended.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<MembershipName>)]
    membership: Option<Option<MembershipName>>,
    /// What a device may spend in a month. What waits for the next month is looked at again. A download that runs goes on.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<BudgetBody>)]
    budget: Option<Option<BudgetBody>>,
    /// Where it stands before other tasks, also for its devices that wait already; `null`: 5.
    #[serde(default, deserialize_with = "nullable_whole")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 9)]
    priority: Option<Option<i64>>,
    /// What it has of the slots of a cell beside tasks of its priority, also for its devices that wait already; `null`: 1.
    #[serde(default, deserialize_with = "nullable_whole")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 1000)]
    weight: Option<Option<i64>>,
}

/// Why.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api) struct NoteBody {
    /// For whoever looks at the task, up to 500 characters.
    #[schema(
        max_length = 500,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{0,500}$",
        example = "night shift has a look"
    )]
    note: Option<String>,
}

/// Who approves a task, or refuses to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ApprovalRequest {
    /// Who, 1 to 200 characters.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,200}$"
    )]
    by: String,
    /// Why, up to 500 characters. Has to be given where it is refused.
    #[schema(max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]{0,500}$")]
    note: Option<String>,
}

/// Which upgrades are tried again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api) struct RetryRequest {
    /// Those that failed for these reasons; all that failed when not given.
    #[schema(example = json!(["device_not_heard"]))]
    reasons: Option<Vec<String>>,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct RetriedBody {
    /// Upgrades that wait again.
    retried: u64,
    /// The task.
    task: TaskBody,
}

fn check_note(note: Option<&String>) -> Result<(), Problem> {
    let ok = note
        .is_none_or(|note| note.chars().count() <= MAX_NOTE && !note.chars().any(char::is_control));
    if ok {
        return Ok(());
    }
    let detail = format!("a note has at most {MAX_NOTE} characters and no control characters");
    Err(Problem::field("note", detail))
}

async fn change(state: &ApiState, id: i64, change: TaskChange) -> Result<Response, Problem> {
    let task = state
        .store
        .change_task(TaskId(id), &change, state.now())
        .await?;
    state.signals.written();
    Ok(shown(state, task))
}

/// Change how a task is run.
///
/// With `If-Match` it is changed only if nobody has changed it since: the `ETag` of its answers. What changes in more than `priority` and
/// `weight` takes an approval back: the task is `awaiting_approval` again.
#[utoipa::path(patch, path = "/v1/tasks/{id}", operation_id = "update_task", tag = "tasks", request_body = UpdateTask,
    params(("id" = i64, Path, description = "Its number"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 200, description = "The task", body = TaskBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such task", body = Problem),
        (status = 409, description = "It has ended", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
    ))]
pub(in crate::api) async fn update(
    State(state): State<ApiState>,
    caller: Caller,
    scope: Scope,
    Path(id): Path<i64>,
    headers: HeaderMap,
    extract::Json(body): extract::Json<UpdateTask>,
) -> Result<Response, Problem> {
    let seen = etag::if_match(&headers)?;
    let task = scoped::task(&state, &scope, id).await?;
    let rules = Box::new(changed(body, &task, state.now())?);
    if rules.budget != task.rules.budget {
        budget::check(&state, &rules, (task.package, &task.packages)).await?;
    }
    // between reading and writing somebody else may have changed it
    let revision = Some(seen.unwrap_or(task.revision));
    let by = Some(caller.who());
    let rules = TaskChange::Rules {
        rules,
        revision,
        by,
    };
    change(&state, id, rules).await
}

fn changed(body: UpdateTask, task: &TaskRecord, at: UtcMillis) -> Result<TaskRules, Problem> {
    let before = &*task.rules;
    let mut now = before.clone();
    if let Some(phases) = body.phases {
        now.phases = rules::parse_phases(phases)?;
        let same = now.phases.len() == before.phases.len()
            && (now.phases.iter().zip(&before.phases))
                .all(|(now, before)| now.has_the_devices_of(before) && now.soaks_like(before));
        if !same {
            let detail = "the devices are dealt out: give as many phases as there are, with the same filter, percent, count and soak_seconds";
            return Err(Problem::field("phases", detail));
        }
    }
    if let Some(abort) = body.abort {
        now.abort = abort.into_iter().flatten().map(Into::into).collect();
    }
    if let Some(rate) = body.rate {
        now.rate = rate.map(Into::into);
    }
    if let Some(windows) = body.windows {
        now.windows = windows.map(rules::parse_windows).transpose()?;
        if now.knows_zones() && !before.knows_zones() {
            let detail = "it began without the zones of its devices; give a zone by its name";
            return Err(Problem::field("windows.zone", detail));
        }
    }
    if let Some(membership) = body.membership {
        now.membership = membership.unwrap_or_default().into();
    }
    if let Some(not_after) = body.not_after {
        let not_after = not_after.as_deref().map(rules::parse_time).transpose();
        now.not_after = not_after.map_err(|detail| Problem::field("not_after", detail))?;
        if now.not_after.is_some_and(|last| last <= at) {
            let detail = format!("it is past (it is {at}); stop the task to begin nothing more");
            return Err(Problem::field("not_after", detail));
        }
    }
    if let Some(budget) = body.budget {
        now.budget = budget.map(Into::into);
    }
    if let Some(priority) = body.priority {
        now.priority = priority.map(rules::priority);
    }
    if let Some(weight) = body.weight {
        now.weight = weight.map(rules::weight);
    }
    rules::checked(now, task.start_at)
}

/// Pause a task.
///
/// No further upgrade begins. What runs goes on.
#[utoipa::path(post, path = "/v1/tasks/{id}/pause", operation_id = "pause_task", tag = "tasks", request_body = NoteBody,
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The task", body = TaskBody),
        (status = 404, description = "There is no such task", body = Problem),
        (status = 409, description = "It has ended, or is paused already", body = Problem),
    ))]
pub(in crate::api) async fn pause(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
    extract::Json(body): extract::Json<NoteBody>,
) -> Result<Response, Problem> {
    scoped::see_task(&state, &scope, id).await?;
    check_note(body.note.as_ref())?;
    change(&state, id, TaskChange::Pause { note: body.note }).await
}

/// Resume a task.
///
/// One that waits after a phase goes on with the next one. From now on thresholds of failures look at what comes.
#[utoipa::path(post, path = "/v1/tasks/{id}/resume", operation_id = "resume_task", tag = "tasks",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The task", body = TaskBody),
        (status = 404, description = "There is no such task", body = Problem),
        (status = 409, description = "It has ended, is not paused, or is not approved", body = Problem),
    ))]
pub(in crate::api) async fn resume(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    scoped::see_task(&state, &scope, id).await?;
    change(&state, id, TaskChange::Resume).await
}

/// From which phase.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct NextPhaseParams {
    /// The phase that the caller has seen run, from 1: when another one runs, nothing is done (409). So a request that is sent
    /// twice counts once.
    #[param(minimum = 1)]
    from: Option<u32>,
}

/// Begin the next phase now.
///
/// Whatever became of the one that runs.
#[utoipa::path(post, path = "/v1/tasks/{id}/next-phase", operation_id = "next_phase", tag = "tasks",
    params(("id" = i64, Path, description = "Its number"), NextPhaseParams),
    responses(
        (status = 200, description = "The task", body = TaskBody),
        (status = 404, description = "There is no such task", body = Problem),
        (status = 409, description = "It has ended, is in its last phase, or is not approved", body = Problem),
    ))]
pub(in crate::api) async fn next_phase(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
    Query(params): Query<NextPhaseParams>,
) -> Result<Response, Problem> {
    scoped::see_task(&state, &scope, id).await?;
    let from = params.from.map(|phase| phase.saturating_sub(1));
    change(&state, id, TaskChange::NextPhase { from }).await
}

/// Approve a task.
///
/// Whoever has created it, or changed it in more than `priority` and `weight`, does not, but for the token in the server's data directory as long as no user, and no token that has not
/// ended, has the role `approver` for all devices. With `If-Match` it is approved only if nobody has changed it since.
#[utoipa::path(post, path = "/v1/tasks/{id}/approve", operation_id = "approve_task", tag = "tasks",
    request_body = ApprovalRequest, params(("id" = i64, Path, description = "Its number"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen, and approves")),
    responses(
        (status = 200, description = "The task", body = TaskBody),
        (status = 404, description = "There is no such task", body = Problem),
        (status = 409, description = "It has ended, or waits for no approval", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
    ))]
pub(in crate::api) async fn approve(
    State(state): State<ApiState>,
    caller: Caller,
    scope: Scope,
    Path(id): Path<i64>,
    headers: HeaderMap,
    extract::Json(body): extract::Json<ApprovalRequest>,
) -> Result<Response, Problem> {
    let seen = etag::if_match(&headers)?;
    let looked_at = check_maker(&state, &caller, &scope, id).await?;
    // a change after that look may be the caller's own
    let revision = Some(seen.unwrap_or(looked_at));
    let approval = approval(body, true, &caller, &state)?;
    change(&state, id, TaskChange::Approve { approval, revision }).await
}

/// Refuse to approve a task: it is stopped.
///
/// As with an approval, whoever has created or changed it does not.
#[utoipa::path(post, path = "/v1/tasks/{id}/refuse", operation_id = "refuse_task", tag = "tasks",
    request_body = ApprovalRequest, params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The task", body = TaskBody),
        (status = 404, description = "There is no such task", body = Problem),
        (status = 409, description = "It has ended, or waits for no approval", body = Problem),
    ))]
pub(in crate::api) async fn refuse(
    State(state): State<ApiState>,
    caller: Caller,
    scope: Scope,
    Path(id): Path<i64>,
    extract::Json(body): extract::Json<ApprovalRequest>,
) -> Result<Response, Problem> {
    check_maker(&state, &caller, &scope, id).await?;
    if body.note.as_ref().is_none_or(|note| note.trim().is_empty()) {
        return Err(Problem::field("note", "say why it is refused"));
    }
    let approval = approval(body, false, &caller, &state)?;
    change(&state, id, TaskChange::Refuse(approval)).await
}

/// Four eyes: nobody answers for a task of its own, or for a change of its own. Tells the revision that was looked at.
async fn check_maker(
    state: &ApiState,
    caller: &Caller,
    scope: &Scope,
    id: i64,
) -> Result<u32, Problem> {
    let task = scoped::task(state, scope, id).await?;
    let owner = tenant::owner(&task.product);
    let others = state.store.others_approve(owner, state.now()).await?;
    if caller.may_answer_for(&task.origin.by, &task.changed_by, others) {
        return Ok(task.revision);
    }
    let who = caller.who();
    let what = if task.origin.by == who {
        "created"
    } else {
        "changed"
    };
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "own-task",
        "Somebody else has to answer for this task",
        format!(
            "{who} has {what} task {id}; another caller with the role approver has to approve or refuse it"
        ),
    ))
}

fn approval(
    body: ApprovalRequest,
    approved: bool,
    caller: &Caller,
    state: &ApiState,
) -> Result<Approval, Problem> {
    check_note(body.note.as_ref())?;
    let length = body.by.chars().count();
    if !(1..=200).contains(&length) || body.by.chars().any(char::is_control) {
        let detail = "a name has 1 to 200 characters and no control characters";
        return Err(Problem::field("by", detail));
    }
    Ok(Approval {
        approved,
        by: body.by,
        caller: Some(caller.who()),
        note: body.note,
        at: state.now(),
    })
}

/// Try upgrades of a task again that have failed.
///
/// Each has as many attempts as at first. A task that has finished runs again.
#[utoipa::path(post, path = "/v1/tasks/{id}/retry", operation_id = "retry_task", tag = "tasks",
    request_body = RetryRequest, params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "How many, and the task", body = RetriedBody),
        (status = 404, description = "There is no such task", body = Problem),
        (status = 409, description = "It was stopped, or its package was deleted", body = Problem),
    ))]
pub(in crate::api) async fn retry(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
    extract::Json(body): extract::Json<RetryRequest>,
) -> Result<Json<RetriedBody>, Problem> {
    scoped::see_task(&state, &scope, id).await?;
    let reasons = body.reasons.unwrap_or_default();
    check_reasons(&reasons).map_err(|detail| Problem::field("reasons", detail))?;
    let again = Again {
        reasons: Reasons::of(reasons.iter().map(String::as_str)),
        upgrade: None,
    };
    let (task, retried) = state
        .store
        .take_up_again(TaskId(id), &again, state.now())
        .await?;
    state.signals.written();
    Ok(Json(RetriedBody {
        retried,
        task: TaskBody::new(task, state.now()),
    }))
}

impl IntoResponse for TaskBody {
    fn into_response(self) -> Response {
        etag::tagged(self.revision().into(), self)
    }
}
