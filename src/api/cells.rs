//! `/v1/cells`.

pub(super) mod import;
pub(super) mod outages;
pub(super) mod rules;

use std::time::Duration;

use axum::{Json, extract::State, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    ApiState, etag,
    extract::{ListBody, Paging, Path, Query},
    problem::Problem,
    traffic::TrafficBody,
};
use crate::{
    clock::UtcMillis,
    ledger::Lane,
    runtime::LaneNow,
    store::{CellDetail, CellRecord, SlotHolder},
    task::{BusyHours, CellRules},
};

/// Within this time the gate usually knows other rules.
const GATE_KNOWS_WITHIN: Duration = Duration::from_secs(2);

/// Who upgrades and who waits in a cell.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CellBody {
    /// The cell.
    cell_id: u32,
    /// Devices that upgrade now: they download or execute.
    active: u64,
    /// Devices that wait for a slot.
    waiting: u64,
    /// The highest limit among the devices that were admitted; 0 before the first.
    limit_max: u32,
    /// Most devices that upgraded at once.
    concurrent_peak: u32,
    /// Devices that were admitted.
    admitted_total: u64,
    /// When the last one was.
    #[schema(required, format = DateTime)]
    last_admitted_at: Option<String>,
    /// Upgrades that have succeeded there, also those that were deleted since.
    succeeded: u64,
    /// Upgrades that have failed there for good, while they waited for a slot or had one.
    failed: u64,
    /// The cell's own limit.
    #[schema(required, minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// How it is closed.
    #[schema(required)]
    closed: Option<ClosedBody>,
}

impl CellBody {
    fn of(cell: CellRecord, rules: &CellRules, now: UtcMillis) -> Self {
        Self {
            limit: rules.limit,
            closed: ClosedBody::of(rules, now),
            cell_id: cell.cell,
            active: cell.active,
            waiting: cell.waiting,
            limit_max: cell.limit_max,
            concurrent_peak: cell.concurrent_peak,
            admitted_total: cell.admitted_total,
            last_admitted_at: cell.last_admitted_at.map(|at| at.to_string()),
            succeeded: cell.succeeded,
            failed: cell.failed,
        }
    }
}

/// A cell, its rules, and who upgrades in it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CellDetailBody {
    #[serde(flatten)]
    cell: CellBody,
    /// How many may upgrade at once now, whatever their coverage allows; 0 while it is closed, `null` where coverage alone
    /// counts.
    #[schema(required)]
    limit_now: Option<u32>,
    /// What says so: `coverage`, `own_limit`, `busy_hours`, `closed` (by the operator), `outage` (by the network), or `crowded`.
    #[schema(value_type = LimitedByName)]
    limited_by: &'static str,
    /// How it is crowded, where its limit was lowered for that (`admission.adaptive`).
    #[schema(required)]
    crowded: Option<CrowdedBody>,
    /// When that may change by itself, as far as is known.
    #[schema(required, format = DateTime)]
    limit_changes_at: Option<String>,
    /// Hours of the week in which fewer may upgrade.
    #[schema(value_type = Vec<BusyHoursBody>)]
    busy_hours: Vec<BusyHours>,
    /// Whether its limit follows how crowded it is; `null`: as the settings of each product say, or `admission.adaptive`.
    #[schema(required)]
    adaptive: Option<bool>,
    /// The operator's note.
    #[schema(required)]
    note: Option<String>,
    /// Another number after each change of its rules or its note, 0 before the first: the `ETag` of this answer.
    revision: i64,
    /// What upgrades in it have cost on the air.
    traffic: TrafficBody,
    /// Who upgrades now: up to 100.
    admitted: Vec<HolderBody>,
    /// How long a KiB takes there, on average; `null` where that was not measured.
    #[schema(required)]
    seconds_per_kib: Option<f64>,
    /// When all who wait now will be through, at the earliest; `null` where that cannot be told.
    #[schema(required, format = DateTime)]
    queue_through_at: Option<String>,
}

/// What says how many may upgrade in a cell.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "stands in the description only")]
enum LimitedByName {
    Coverage,
    OwnLimit,
    BusyHours,
    Closed,
    Outage,
    Crowded,
}

/// How a cell is crowded.
#[derive(Debug, Serialize, ToSchema)]
struct CrowdedBody {
    /// So many may upgrade in it at once; another rule may allow fewer.
    limit: u32,
    /// When that was changed last.
    #[schema(format = DateTime)]
    since: String,
    /// What a KiB took then, in percent of what it takes while few upgrade there. The limit falls from 400 on, and rises up to 300.
    percent: u64,
}

impl CrowdedBody {
    fn of(live: &LaneNow) -> Option<Self> {
        let (adapted, since) = live.adapted?;
        Some(Self {
            limit: adapted.most?,
            since: since.to_string(),
            percent: adapted.percent,
        })
    }
}

/// How a cell is closed.
#[derive(Debug, Serialize, ToSchema)]
struct ClosedBody {
    /// Since when.
    #[schema(format = DateTime)]
    from: String,
    /// Until when; `null` until further notice.
    #[schema(required, format = DateTime)]
    until: Option<String>,
    /// Why.
    reason: String,
}

/// Hours of the week in which fewer may upgrade.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands in the description only")]
struct BusyHoursBody {
    /// The days on which they begin: `mon` to `sun`; every day when not given.
    days: Option<Vec<String>>,
    /// The local time at which they begin.
    #[schema(example = "17:00", pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    from: String,
    /// The local time at which they end: on the next day if that is not later than `from`.
    #[schema(example = "20:00", pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    to: String,
    /// An IANA name.
    #[schema(example = "Europe/Berlin")]
    zone: String,
    /// How many may upgrade at once then.
    #[schema(minimum = 1, maximum = 1000)]
    limit: u32,
}

/// An upgrade that has a slot.
#[derive(Debug, Serialize, ToSchema)]
struct HolderBody {
    /// The upgrade.
    upgrade_id: i64,
    /// Its device.
    endpoint: String,
    /// `downloading` or `executing`.
    state: &'static str,
}

impl From<SlotHolder> for HolderBody {
    fn from(holder: SlotHolder) -> Self {
        Self {
            upgrade_id: holder.upgrade.0,
            endpoint: holder.endpoint,
            state: holder.state.name(),
        }
    }
}

impl ClosedBody {
    fn of(rules: &CellRules, now: UtcMillis) -> Option<Self> {
        let (closing, _) = rules.closed(now)?;
        Some(Self {
            from: closing.from.to_string(),
            until: closing.until.map(|at| at.to_string()),
            reason: closing.reason.clone(),
        })
    }
}

impl CellDetailBody {
    /// A cell, with its `ETag`.
    async fn tagged(state: &ApiState, detail: CellDetail) -> Response {
        let revision = detail.revision;
        etag::tagged(revision, Self::of(state, detail).await)
    }

    /// Asks the gate what it knows.
    async fn of(state: &ApiState, detail: CellDetail) -> Self {
        let now = state.now();
        let lane = Lane::Cell(detail.record.cell);
        let live = state.lanes.lane(lane).await.unwrap_or_default();
        let limit = detail.rules.limit_at(now);
        let crowded = CrowdedBody::of(&live);
        let lower = (crowded.as_ref().map(|it| it.limit))
            .filter(|crowded| limit.most.is_none_or(|most| *crowded < most));
        Self {
            limit_now: lower.or(limit.most),
            limited_by: lower.map_or(limit.by.name(), |_| "crowded"),
            crowded,
            limit_changes_at: limit.changes_at.map(|at| at.to_string()),
            cell: CellBody::of(detail.record, &detail.rules, now),
            busy_hours: detail.rules.busy_hours,
            adaptive: detail.rules.adaptive,
            note: detail.note,
            revision: detail.revision,
            traffic: detail.traffic.into(),
            admitted: detail.holders.into_iter().map(HolderBody::from).collect(),
            seconds_per_kib: live.per_kib.map(|span| span.as_secs_f64()),
            queue_through_at: live.through_at.map(|at| at.to_string()),
        }
    }
}

/// Which cells are listed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct CellsParams {
    /// Items in the answer, 1 to 1000; 100 when not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before; the first page when not given.
    cursor: Option<String>,
    /// `true`: only those that are closed now.
    closed: Option<bool>,
}

/// List the cells in which devices upgraded or waited, or for which there are rules, ordered by number.
#[utoipa::path(get, path = "/v1/cells", operation_id = "list_cells", tag = "cells", params(CellsParams),
    responses(
        (status = 200, description = "A page", body = ListBody<CellBody>),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    Query(params): Query<CellsParams>,
) -> Result<Json<ListBody<CellBody>>, Problem> {
    let paging = Paging::new(params.limit, params.cursor);
    let after: Option<u32> = paging.after("cells")?;
    let now = state.now();
    let closed_at = params.closed.filter(|closed| *closed).map(|_| now);
    let page = state.store.cells(after, closed_at, paging.limit()?).await?;
    Ok(Json(ListBody::new(
        page,
        "cells",
        |cell| cell.record.cell,
        |cell| CellBody::of(cell.record, &cell.rules, now),
    )))
}

/// A cell in which devices upgraded or waited, or for which there are rules.
#[utoipa::path(get, path = "/v1/cells/{id}", operation_id = "get_cell", tag = "cells",
    params(("id" = i64, Path, minimum = 0, maximum = 4_294_967_295_i64, description = "Its number")),
    responses(
        (status = 200, description = "The cell", body = CellDetailBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "No device has upgraded or waited there, and it has no rules", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    Path(id): Path<u32>,
) -> Result<Response, Problem> {
    match state.store.cell(id).await? {
        Some(detail) => Ok(CellDetailBody::tagged(&state, detail).await),
        None => Err(Problem::not_found(format!(
            "no device has upgraded or waited in cell {id}, and it has no rules"
        ))),
    }
}
