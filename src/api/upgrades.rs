//! `/v1/tasks/{id}/upgrades`, `/v1/devices/{endpoint}/upgrades`, `/v1/upgrades`, `/v1/upgrades/{id}` and what is
//! posted below it.

use std::time::Duration;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{
    IntoParams, ToSchema,
    openapi::{Object, ObjectBuilder, schema::Type},
};

use super::{
    ApiState,
    extract::{self, ListBody, Paging, Path, Query},
    heard::LastHeard,
    problem::Problem,
    scoped::{self, SeenUpgrades},
    sifted::Sifted,
    tasks::parse_time,
    traffic::{OverBudgetBody, TrafficBody},
    waiting::{self, CellNow, PlaceNow},
};
use crate::{
    access::Scope,
    clock::UtcMillis,
    ledger::{DeviceRecord, Lane, Outcome, Stage, StageChange, TaskId, Told, UpgradeId},
    store::{
        DeviceDetail, DeviceUpgrade, OutcomeRecord, SiteKey, SoakRecord, SoakState, TimelineEntry,
        UpgradeDetail, UpgradeRecord, UpgradeState,
    },
    task::{self, NotYet, ShareNow},
    tenant, wording,
};

/// Longest name of whoever confirms an upgrade, characters.
const MAX_BY: usize = 200;

fn one_of(what: &str, names: impl IntoIterator<Item = &'static str>) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(what))
        .enum_values(Some(names))
        .build()
}

fn upgrade_state() -> Object {
    let what = "`pending`, the name of the stage it is in, or how it ended.";
    one_of(what, UpgradeState::all().map(UpgradeState::name))
}

fn stage_name() -> Object {
    one_of("Its name.", Stage::ALL.map(Stage::name))
}

fn outcome_state() -> Object {
    one_of("How.", ["succeeded", "failed", "cancelled"])
}

fn soak_state() -> Object {
    one_of("Where it stands.", SoakState::ALL.map(SoakState::name))
}

fn reason() -> Object {
    one_of("A stable word for programs.", Outcome::REASONS)
}

/// One device's upgrade.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UpgradeBody {
    /// Its number.
    id: i64,
    /// Its task.
    task_id: i64,
    /// Its device.
    endpoint: String,
    /// `pending`, the name of the stage it is in, `succeeded`, `failed` or `cancelled`.
    #[schema(schema_with = upgrade_state)]
    state: &'static str,
    /// Attempts that have begun.
    attempts: u32,
    /// The stage it is in; `null` while it waits and when it has ended.
    #[schema(required)]
    stage: Option<StageBody>,
    /// How far the download of this attempt is.
    #[schema(minimum = 0, maximum = 100)]
    progress_percent: u8,
    /// The segment that was asked for last in this attempt.
    #[schema(required)]
    segment: Option<u16>,
    /// The cell in which it waits for a slot, has one, or had one when it ended.
    #[schema(required)]
    cell_id: Option<u32>,
    /// How the last attempt ended. Final when the state is `succeeded`, `failed` or `cancelled`.
    #[schema(required)]
    outcome: Option<OutcomeBody>,
    /// It begins at this time or later, while it is `pending`.
    #[schema(required, format = DateTime)]
    not_before: Option<String>,
    /// When the task was created.
    #[schema(format = DateTime)]
    created_at: String,
    /// When the first attempt began.
    #[schema(required, format = DateTime)]
    started_at: Option<String>,
    /// When it ended for good.
    #[schema(required, format = DateTime)]
    ended_at: Option<String>,
    /// When the operator cancelled it while it ran: it ends within moments, or has.
    #[schema(required, format = DateTime)]
    cancel_requested_at: Option<String>,
    /// The owner of its device has to confirm it before it begins, and has not yet.
    awaits_confirmation: bool,
    /// The owner of its device has confirmed it for this time, which has not come as long as it waits for that; `null`: for none.
    #[schema(required, format = DateTime)]
    confirmed_for: Option<String>,
}

/// One upgrade of a device, with what it is for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeviceUpgradeBody {
    #[serde(flatten)]
    upgrade: UpgradeBody,
    /// The name of its task.
    task_name: String,
    /// The version that it leads to.
    version: String,
}

impl From<DeviceUpgrade> for DeviceUpgradeBody {
    fn from(of_device: DeviceUpgrade) -> Self {
        Self {
            upgrade: of_device.upgrade.into(),
            task_name: of_device.task_name,
            version: of_device.version.to_string(),
        }
    }
}

/// The stage of an upgrade.
#[derive(Debug, Serialize, ToSchema)]
struct StageBody {
    /// Its name.
    #[schema(schema_with = stage_name)]
    name: &'static str,
    /// When it was entered.
    #[schema(format = DateTime)]
    entered_at: String,
    /// When its limit runs out.
    #[schema(format = DateTime)]
    deadline_at: String,
    /// How many may upgrade at once in the cell for this device to be one of them.
    #[schema(required)]
    cell_limit: Option<u32>,
    /// The device has accepted the version (downloading), or acknowledged the command (executing).
    confirmed: bool,
}

/// How an attempt ended.
#[derive(Debug, Serialize, ToSchema)]
struct OutcomeBody {
    /// `succeeded`, `failed` or `cancelled`.
    #[schema(schema_with = outcome_state)]
    state: String,
    /// A stable word for programs.
    #[schema(schema_with = reason)]
    reason: String,
    /// For people. Of a failure: what happened, the limit that ran out by its name in the settings, what was sent last
    /// (how often, when, whether it was acknowledged), what the device said last, and when it was heard last.
    #[schema(
        example = "the download did not end within the limit; segment 12 was asked for last. Limit: \
        upgrade.download_s = 3600. Sent last: the new version (PCP 20), 3 times, at 2027-01-15T08:58:10.000Z, not \
        acknowledged. Said last: the request for segment 12 (PCP 21) at 2027-01-15T08:10:00.000Z. Heard last at \
        2027-01-15T08:10:02.000Z"
    )]
    detail: String,
    /// The same for programs, in the terms of the reason. `null` for outcomes from before there were arguments.
    #[schema(
        required,
        example = json!({"segment": 12, "limit": {"setting": "upgrade.download_s", "seconds": 3600}})
    )]
    arguments: Option<Map<String, Value>>,
    /// When.
    #[schema(format = DateTime)]
    at: String,
}

/// A line of the timeline.
#[derive(Debug, Serialize, ToSchema)]
struct EventBody {
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// Number of the attempt, from 1; 0 before the first.
    attempt: u32,
    /// The stage that was entered, `note`, or the state in which the attempt ended.
    stage: String,
    /// What happened, for people.
    text: String,
    /// What happened, for programs: a stable word. `legacy` for lines from before there were codes.
    #[schema(example = "slot_granted")]
    code: String,
    /// The arguments of the code.
    #[schema(example = json!({"cell": 51234}))]
    arguments: Map<String, Value>,
}

/// An upgrade and what explains it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UpgradeDetailBody {
    #[serde(flatten)]
    upgrade: UpgradeBody,
    /// The package that the device is served; of a task that has several the first, until the device has said what it runs.
    package_id: i64,
    /// What it waits for at this moment; `null` once it has ended.
    #[schema(
        required,
        example = "10 devices upgrade in cell 51234; this one's coverage allows 10; 3 wait before it; 6 d left"
    )]
    waiting_for: Option<String>,
    /// How its device bears it; `null` before it has succeeded, and where its phase has no soak.
    #[schema(required)]
    soak: Option<SoakBody>,
    /// How its task stands beside others that have devices waiting for a slot in the same cell; `null` where there are none, or it
    /// does not wait for one, or the caller sees some devices only.
    #[schema(required)]
    share: Option<ShareBody>,
    /// What of the budget of its device has run out, while it waits for that; `null` else.
    #[schema(required)]
    over_budget: Option<OverBudgetBody>,
    /// What it has cost on the air, in all attempts.
    traffic: TrafficBody,
    /// The newest 1,000 lines of its timeline, oldest of them first.
    events: Vec<EventBody>,
}

/// How the device of an upgrade that has succeeded bears it.
#[derive(Debug, Serialize, ToSchema)]
struct SoakBody {
    /// `soaking`: it is not known yet; `healthy`: the device has told the version after the soak; `unhealthy`: it has told another one,
    /// or none. The timeline says why.
    #[schema(schema_with = soak_state)]
    state: &'static str,
    /// When the soak is over: the device is asked for its version then, or when it is heard again.
    #[schema(format = DateTime)]
    due_at: String,
    /// When it was known.
    #[schema(required, format = DateTime)]
    ended_at: Option<String>,
}

impl From<SoakRecord> for SoakBody {
    fn from(soak: SoakRecord) -> Self {
        Self {
            state: soak.state.name(),
            due_at: soak.due_at.to_string(),
            ended_at: soak.ended_at.map(|at| at.to_string()),
        }
    }
}

/// How a task stands beside others in a cell.
#[derive(Debug, Serialize, ToSchema)]
struct ShareBody {
    /// `turns`: it has its turn with those of the same priority; `behind`: devices of a task of a higher priority wait there.
    code: &'static str,
    /// The place of this upgrade among those of its task that wait there, by how long they have.
    place: u32,
    /// Upgrades of its task that wait there, as far as they are among the 10,000 that have waited longest.
    waiting: u32,
    /// The priority of its task there, with what it has gained by waiting.
    priority: u8,
    /// The weight of its task,
    weight: u32,
    /// of so much of all tasks of that priority together.
    of_weights: u64,
}

impl ShareBody {
    fn new(place: u32, share: &ShareNow) -> Self {
        Self {
            code: if share.before.is_empty() {
                "turns"
            } else {
                "behind"
            },
            place,
            waiting: share.waiting,
            priority: share.priority,
            weight: share.weight,
            of_weights: share.weights,
        }
    }
}

impl From<UpgradeRecord> for UpgradeBody {
    fn from(upgrade: UpgradeRecord) -> Self {
        let pending = upgrade.state == UpgradeState::Pending;
        let progress_percent = upgrade.progress_percent();
        Self {
            id: upgrade.id.0,
            task_id: upgrade.task.0,
            endpoint: upgrade.endpoint,
            state: upgrade.state.name(),
            attempts: upgrade.attempts,
            stage: upgrade.stage.as_ref().map(StageBody::from),
            progress_percent,
            segment: upgrade.segment,
            cell_id: upgrade.cell,
            outcome: upgrade.outcome.map(OutcomeBody::from),
            not_before: pending.then(|| upgrade.not_before.to_string()),
            created_at: upgrade.created_at.to_string(),
            started_at: upgrade.started_at.map(|at| at.to_string()),
            ended_at: upgrade.ended_at.map(|at| at.to_string()),
            cancel_requested_at: upgrade.cancel_requested_at.map(|at| at.to_string()),
            awaits_confirmation: pending && upgrade.unconfirmed,
            confirmed_for: upgrade.confirmed_for.map(|at| at.to_string()),
        }
    }
}

impl From<&StageChange> for StageBody {
    fn from(change: &StageChange) -> Self {
        Self {
            name: change.stage.name(),
            entered_at: change.entered_at.to_string(),
            deadline_at: change.deadline_at.to_string(),
            cell_limit: change.cell_limit,
            confirmed: change.confirmed,
        }
    }
}

impl From<OutcomeRecord> for OutcomeBody {
    fn from(outcome: OutcomeRecord) -> Self {
        Self {
            state: outcome.state,
            reason: outcome.reason.clone(),
            detail: wording::told(&outcome.reason, &outcome.told),
            arguments: arguments(&outcome.told),
            at: outcome.at.to_string(),
        }
    }
}

/// The arguments of an outcome.
fn arguments(told: &Told) -> Option<Map<String, Value>> {
    let Told::Facts(facts) = told else {
        return None;
    };
    match serde_json::to_value(facts) {
        Ok(Value::Object(arguments)) => Some(arguments),
        _ => None,
    }
}

impl From<TimelineEntry> for EventBody {
    fn from(event: TimelineEntry) -> Self {
        let (code, arguments) = event.line.parts();
        Self {
            at: event.at.to_string(),
            attempt: event.attempt,
            stage: event.kind,
            text: wording::line(&event.line),
            code,
            arguments,
        }
    }
}

impl UpgradeDetailBody {
    fn new(
        detail: UpgradeDetail,
        device: Option<(&DeviceRecord, LastHeard)>,
        cell: CellNow<'_>,
        ageing: Duration,
        now: UtcMillis,
    ) -> Self {
        let queue = detail.queue.as_ref();
        let share =
            queue.and_then(|queue| ShareNow::of(detail.upgrade.task, &queue.tasks, now, ageing));
        let place = queue.map_or(0, |queue| queue.ahead_in_task) + 1;
        let cell = CellNow {
            share: share.as_ref(),
            ..cell
        };
        let waiting_for = waiting::explain(&detail, device, &cell, now);
        let over_budget =
            (detail.candidate.as_ref()).and_then(|candidate| match task::explain(candidate, now) {
                Err(NotYet::OverBudget(over)) => Some((&over).into()),
                _ => None,
            });
        Self {
            share: share.map(|share| ShareBody::new(place, &share)),
            upgrade: detail.upgrade.into(),
            package_id: detail.package.0,
            waiting_for,
            soak: detail.soak.map(SoakBody::from),
            over_budget,
            traffic: detail.traffic.into(),
            events: detail.events.into_iter().map(EventBody::from).collect(),
        }
    }
}

/// Which upgrades to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only upgrades in this state.
    #[param(schema_with = upgrade_state)]
    state: Option<String>,
    /// Items in the answer, 1 to 1000; 100 when not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before; the first page when not given.
    cursor: Option<String>,
}

/// List a task's upgrades, ordered by number.
#[utoipa::path(get, path = "/v1/tasks/{id}/upgrades", operation_id = "list_upgrades", tag = "upgrades",
    params(("id" = i64, Path, description = "The task's number"), ListParams),
    responses(
        (status = 200, description = "A page", body = ListBody<UpgradeBody>),
        (status = 404, description = "There is no such task", body = Problem),
        (status = 422, description = "A parameter is not valid", body = Problem),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
    Query(params): Query<ListParams>,
) -> Result<Json<ListBody<UpgradeBody>>, Problem> {
    let wanted = params.state.as_deref().map(parse_state).transpose()?;
    let paging = Paging::new(params.limit, params.cursor);
    let after = paging.after::<i64>("upgrades")?.map(UpgradeId);
    scoped::see_task(&state, &scope, id).await?;
    let page = state
        .store
        .upgrades(TaskId(id), wanted, after, paging.limit()?)
        .await?;
    if page.items.is_empty() && state.store.task(TaskId(id)).await?.is_none() {
        return Err(Problem::not_found(format!("there is no task {id}")));
    }
    let named = page.items.iter().map(|it| (it.task, &*it.endpoint));
    let seen = SeenUpgrades::of(&state, &scope, named).await?;
    let keep = |upgrade: &UpgradeRecord| seen.has(upgrade.task, &upgrade.endpoint);
    let body = ListBody::of_seen(page, "upgrades", |u| u.id.0, keep, UpgradeBody::from);
    Ok(Json(body))
}

fn parse_state(name: &str) -> Result<UpgradeState, Problem> {
    UpgradeState::from_name(name).ok_or_else(|| {
        let names: Vec<_> = UpgradeState::all().map(UpgradeState::name).collect();
        Problem::field(
            "state",
            format!("{name:?} is no state; there are {}", names.join(", ")),
        )
    })
}

/// List a device's upgrades, newest first.
///
/// They stay for as long as their tasks, also when the device is removed.
#[utoipa::path(get, path = "/v1/devices/{endpoint}/upgrades", operation_id = "list_device_upgrades", tag = "upgrades",
    params(("endpoint" = String, Path, description = "The device's endpoint name, percent-encoded"), Paging),
    responses(
        (status = 200, description = "A page", body = ListBody<DeviceUpgradeBody>),
        (status = 400, description = "A parameter is unknown or not a number, or the path is not UTF-8", body = Problem),
        (status = 404, description = "There is no such device, and no upgrade of one", body = Problem),
    ))]
pub(super) async fn list_of_device(
    State(state): State<ApiState>,
    scope: Scope,
    Path(endpoint): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<ListBody<DeviceUpgradeBody>>, Problem> {
    let limit = paging.limit()?;
    let mut before = upgrade_before(&state, &paging, "device-upgrades")?;
    let missing = || {
        let detail = format!("there is no device {endpoint:?}, and no upgrade of one");
        Problem::not_found(detail)
    };
    let mut sifted = Sifted::new(limit);
    loop {
        let page = (state.store)
            .device_upgrades(&endpoint, before, sifted.at_once(&scope))
            .await?;
        before = page.items.last().map(|last| last.upgrade.id);
        let tasks = page.items.iter().map(|it| it.upgrade.task);
        let seen = SeenUpgrades::of(&state, &scope, tasks.map(|task| (task, &*endpoint))).await?;
        let keep = |it: &DeviceUpgrade| seen.has(it.upgrade.task, &endpoint);
        if !sifted.take(page, key_of, keep) {
            break;
        }
    }
    let (found, next) = sifted.page(key_of);
    let device = state.store.device(&endpoint).await?;
    let there = device.is_some() && scoped::sees(&state, &scope, &endpoint).await?;
    if !there && found.is_empty() {
        return Err(missing());
    }
    let next = next.map(|next| state.cursors.seal("device-upgrades", &next));
    let items = found.into_iter().map(DeviceUpgradeBody::from);
    Ok(Json(ListBody::with_cursor(items, next.transpose()?)))
}

/// The number behind which a page of a list begins whose cursors are sealed.
fn upgrade_before(
    state: &ApiState,
    paging: &Paging,
    list: &str,
) -> Result<Option<UpgradeId>, Problem> {
    let Some(number) = state.cursors.after(paging, list)? else {
        return Ok(None);
    };
    let number = number.parse().map_err(|_| Paging::no_cursor())?;
    Ok(Some(UpgradeId(number)))
}

/// The number of an upgrade, as cursors have it.
fn key_of(upgrade: &DeviceUpgrade) -> String {
    upgrade.upgrade.id.0.to_string()
}

/// Where.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct NewestParams {
    /// Only upgrades that wait for a slot in this cell, have one, or had it as their cell when they ended.
    #[param(value_type = Option<i64>, minimum = 0, maximum = 4_294_967_295_i64)]
    cell_id: Option<u32>,
    /// Items in the answer, 1 to 1000; 100 when not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before; the first page when not given.
    cursor: Option<String>,
}

/// List the upgrades of all tasks, or those in a cell, newest first.
#[utoipa::path(get, path = "/v1/upgrades", operation_id = "list_newest_upgrades", tag = "upgrades", params(NewestParams),
    responses(
        (status = 200, description = "A page", body = ListBody<DeviceUpgradeBody>),
    ))]
pub(super) async fn list_newest(
    State(state): State<ApiState>,
    scope: Scope,
    Query(params): Query<NewestParams>,
) -> Result<Json<ListBody<DeviceUpgradeBody>>, Problem> {
    let paging = Paging::new(params.limit, params.cursor);
    let mut before = upgrade_before(&state, &paging, "newest-upgrades")?;
    let mut sifted = Sifted::new(paging.limit()?);
    loop {
        let page = (state.store)
            .newest_upgrades(params.cell_id, before, sifted.at_once(&scope))
            .await?;
        before = page.items.last().map(|last| last.upgrade.id);
        let named = (page.items.iter()).map(|it| (it.upgrade.task, &*it.upgrade.endpoint));
        let seen = SeenUpgrades::of(&state, &scope, named).await?;
        let keep = |it: &DeviceUpgrade| seen.has(it.upgrade.task, &it.upgrade.endpoint);
        if !sifted.take(page, key_of, keep) {
            break;
        }
    }
    let (found, next) = sifted.page(key_of);
    let next = next.map(|next| state.cursors.seal("newest-upgrades", &next));
    let items = found.into_iter().map(DeviceUpgradeBody::from);
    Ok(Json(ListBody::with_cursor(items, next.transpose()?)))
}

/// An upgrade with its timeline.
#[utoipa::path(get, path = "/v1/upgrades/{id}", operation_id = "get_upgrade", tag = "upgrades",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The upgrade", body = UpgradeDetailBody),
        (status = 404, description = "There is no such upgrade", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Json<UpgradeDetailBody>, Problem> {
    scoped::see_upgrade(&state, &scope, id).await?;
    let detail = state.store.upgrade(UpgradeId(id)).await?;
    let mut detail =
        detail.ok_or_else(|| Problem::not_found(format!("there is no upgrade {id}")))?;
    if let Some(candidate) = detail.candidate.as_mut()
        && candidate.rules.budget.is_some()
    {
        let (task, endpoint) = (detail.upgrade.task, &*detail.upgrade.endpoint);
        candidate.spent = state.store.spent(task, endpoint, state.now()).await?;
    }
    if scope != Scope::Whole {
        detail.queue = None; // it is of devices that are not there for the caller
    }
    let device = state.store.device(&detail.upgrade.endpoint).await?;
    let further = match &device {
        Some(shown) => places_of(&state, &scope, &detail, shown).await?,
        None => Vec::new(),
    };
    let device = match &device {
        Some(shown) => Some((&shown.device, LastHeard::of(&state, shown).await)),
        None => None,
    };
    let (cell, live) = match (&detail.queue, detail.upgrade.cell) {
        (Some(_), Some(cell)) => {
            let live = state.lanes.lane(Lane::Cell(cell)).await;
            (state.store.cell(cell).await?, live)
        }
        _ => (None, None),
    };
    let cell = CellNow {
        rules: cell.as_ref().map(|cell| &cell.rules),
        crowded: live.and_then(|live| live.adapted?.0.most),
        share: None,
        further: &further,
    };
    let ageing = Duration::from_secs(state.config.get().admission.ageing_s);
    let body = UpgradeDetailBody::new(detail, device, cell, ageing, state.now());
    Ok(Json(body))
}

/// How many devices of the gateway of that name upgrade at once: as is said of it, else of its product, else as many as of any.
async fn limit_of_gateway(state: &ApiState, name: &str) -> Result<u32, Problem> {
    let config = state.config.get();
    let own = state.store.device(name).await?.and_then(|gateway| {
        let product = || config.products.get(&gateway.device.product)?.per_gateway;
        gateway.gateway_limit.or_else(product)
    });
    Ok(own.unwrap_or(config.admission.per_gateway))
}

/// The gateway and the site of a device that waits for a slot, and how many of their devices upgrade: where there is a limit, and all
/// of its tenant's devices are there for the caller.
async fn places_of(
    state: &ApiState,
    scope: &Scope,
    detail: &UpgradeDetail,
    shown: &DeviceDetail,
) -> Result<Vec<PlaceNow>, Problem> {
    let waits = detail.upgrade.state == UpgradeState::Active(Stage::WaitingForSlot);
    let owner = tenant::owner(&shown.device.product);
    let mut places = Vec::new();
    let Some(tenant) = (owner.parse().ok()).filter(|_| waits && scope.has_all_of(owner)) else {
        return Ok(places);
    };
    if let Some(name) = shown.device.via.gateway()
        && let Some(live) = state.lanes.lane(Lane::gateway(name)).await
    {
        places.push(PlaceNow {
            what: "gateway",
            name: name.to_owned(),
            active: live.taken,
            limit: limit_of_gateway(state, name).await?,
        });
    }
    if let Some(name) = shown.attributes.site.clone() {
        let key = SiteKey { tenant, name };
        if let Some(site) = state.store.site(&key).await?
            && let Some(live) = state.lanes.lane(key.lane()).await
        {
            places.push(PlaceNow {
                what: "site",
                name: key.name,
                active: live.taken,
                limit: site.limit,
            });
        }
    }
    Ok(places)
}

/// Cancel one upgrade.
///
/// One that waits ends at once, one that runs within moments (`cancel_requested_at` is set until then, and after): its
/// device is asked nothing more, its slot goes to the next, and no attempt follows. The others of its task go on.
/// Cancelling it again changes nothing.
#[utoipa::path(post, path = "/v1/upgrades/{id}/cancel", operation_id = "cancel_upgrade", tag = "upgrades",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The upgrade, cancelled or about to be", body = UpgradeBody),
        (status = 404, description = "There is no such upgrade", body = Problem),
        (status = 409, description = "It has succeeded or failed", body = Problem),
    ))]
pub(super) async fn cancel(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Json<UpgradeBody>, Problem> {
    let within = scoped::see_upgrade(&state, &scope, id).await?;
    let upgrade = (state.store)
        .cancel_upgrade(UpgradeId(id), within.as_ref(), state.now())
        .await?;
    state.signals.written();
    Ok(Json(upgrade.into()))
}

/// Try one upgrade again.
///
/// One that has failed, was cancelled or passed over has as many attempts as at first; a task that has finished runs again. One that
/// waits for its next attempt waits no longer. Of a device that has several in one task it is the last one. It begins when its task lets it.
#[utoipa::path(post, path = "/v1/upgrades/{id}/retry", operation_id = "retry_upgrade", tag = "upgrades",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The upgrade", body = UpgradeBody),
        (status = 404, description = "There is no such upgrade", body = Problem),
        (status = 409, description = "It runs or has succeeded, its device was removed or has a later one in the task, or its task was stopped", body = Problem),
    ))]
pub(super) async fn retry(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Json<UpgradeBody>, Problem> {
    let within = scoped::see_upgrade(&state, &scope, id).await?;
    let upgrade = (state.store)
        .retry_upgrade(UpgradeId(id), within.as_ref(), state.now())
        .await?;
    state.signals.written();
    Ok(Json(upgrade.into()))
}

/// What the owner of a device wants.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConfirmRequest {
    /// `false`: it never begins. `true` when not given.
    confirmed: Option<bool>,
    /// It begins at this time, RFC 3339, or when its task lets it after that; at once when not given. Neither past nor before the start of the
    /// task, at most a year ahead, and an hour at least before `not_after` of the task and the end of a window of its.
    #[schema(format = DateTime, example = "2027-03-01T02:00:00Z")]
    at: Option<String>,
    /// `true`: what was confirmed for a time that has not come is not any more, and it waits for a confirmation again. Alone, or with `by`.
    take_back: Option<bool>,
    /// Who says so, for the timeline, up to 200 characters.
    #[schema(
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{0,200}$",
        example = "flat 12"
    )]
    by: Option<String>,
}

/// Confirm one upgrade, or refuse it.
///
/// For tasks with `confirmation`: an upgrade begins when the owner of its device has confirmed it, and its task lets it. One that is
/// refused ends as cancelled, with the reason `refused_by_owner`. Confirming it again changes nothing. With `at` it begins at that time: until
/// then it can be confirmed for another one or at once, be taken back, or be refused.
#[utoipa::path(post, path = "/v1/upgrades/{id}/confirm", operation_id = "confirm_upgrade", tag = "upgrades",
    request_body = ConfirmRequest, params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The upgrade", body = UpgradeBody),
        (status = 404, description = "There is no such upgrade", body = Problem),
        (status = 409, description = "It does not wait for a confirmation", body = Problem),
        (status = 422, description = "It cannot be confirmed for that time; what is possible", body = Problem),
    ))]
pub(super) async fn confirm(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
    extract::Json(body): extract::Json<ConfirmRequest>,
) -> Result<Json<UpgradeBody>, Problem> {
    let within = scoped::see_upgrade(&state, &scope, id).await?;
    let by = body.by.unwrap_or_default();
    if by.chars().count() > MAX_BY || by.chars().any(char::is_control) {
        let detail =
            format!("at most {MAX_BY} characters, and no control characters, are possible");
        return Err(Problem::field("by", detail));
    }
    let at = body.at.as_deref().map(parse_time).transpose();
    let at = at.map_err(|detail| Problem::field("at", detail))?;
    let (id, within, now) = (UpgradeId(id), within.as_ref(), state.now());
    let upgrade = match (body.take_back.unwrap_or_default(), body.confirmed, at) {
        (true, None, None) => (state.store).confirm_upgrade_for(id, within, None, &by, now),
        (true, ..) => {
            let detail = "give it without confirmed and at";
            return Err(Problem::field("take_back", detail));
        }
        (false, Some(false), Some(_)) => {
            let detail = "what is refused begins at no time; leave it out";
            return Err(Problem::field("at", detail));
        }
        (false, _, Some(at)) => (state.store).confirm_upgrade_for(id, within, Some(at), &by, now),
        (false, confirmed, None) => {
            let confirmed = confirmed.unwrap_or(true);
            (state.store).confirm_upgrade(id, within, confirmed, &by, now)
        }
    };
    let upgrade = upgrade.await?;
    state.signals.written();
    Ok(Json(upgrade.into()))
}

/// Pass over one upgrade.
///
/// For a device that is broken, or gone: an upgrade that waits or has failed ends as cancelled, with the reason `skipped`. It has no
/// result: neither its phase nor the thresholds of its task count it. One that has succeeded and soaks stays a success, and its phase does not
/// count it. Passing over it again changes nothing.
#[utoipa::path(post, path = "/v1/upgrades/{id}/skip", operation_id = "skip_upgrade", tag = "upgrades",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The upgrade", body = UpgradeBody),
        (status = 404, description = "There is no such upgrade", body = Problem),
        (status = 409, description = "It runs, or has succeeded and does not soak", body = Problem),
    ))]
pub(super) async fn skip(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Json<UpgradeBody>, Problem> {
    let within = scoped::see_upgrade(&state, &scope, id).await?;
    let upgrade = (state.store)
        .skip_upgrade(UpgradeId(id), within.as_ref(), state.now())
        .await?;
    state.signals.written();
    Ok(Json(upgrade.into()))
}
