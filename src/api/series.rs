//! How tasks, cells and devices' coverage went on: for whoever draws it.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiState, extract::Path, problem::Problem, scoped};
use crate::{
    access::Scope,
    ledger::{CoverageReading, TaskId},
    store::{CellPoint, LimitChange, TaskPoint},
    wording,
};

/// Points, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SeriesBody<P: ToSchema> {
    /// The points.
    points: Vec<P>,
}

impl<P: ToSchema> SeriesBody<P> {
    fn of<R>(points: Vec<R>) -> Json<Self>
    where
        P: From<R>,
    {
        Json(Self {
            points: points.into_iter().map(P::from).collect(),
        })
    }
}

/// How a task stood.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskPointBody {
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// Upgrades that waited for their time, or for the next attempt.
    waiting: u64,
    /// Upgrades that had begun and not ended.
    running: u64,
    /// Upgrades that had succeeded.
    succeeded: u64,
    /// Upgrades that had failed.
    failed: u64,
    /// Upgrades that had been cancelled.
    cancelled: u64,
    /// Upgrades that would have ended by then, by the newest forecast of the task; `null`: there was none.
    #[schema(required)]
    expected: Option<u64>,
}

impl From<TaskPoint> for TaskPointBody {
    fn from(point: TaskPoint) -> Self {
        Self {
            at: point.at.to_string(),
            waiting: point.waiting,
            running: point.running,
            succeeded: point.succeeded,
            failed: point.failed,
            cancelled: point.cancelled,
            expected: point.expected,
        }
    }
}

/// How a cell stood.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CellPointBody {
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// Devices that had a slot.
    active: u32,
    /// Devices that waited for one.
    waiting: u32,
    /// Devices that had been admitted, since the cell is known.
    admitted: u64,
    /// Upgrades that had succeeded there, since the cell is known.
    succeeded: u64,
    /// Upgrades that had failed there, since the cell is known.
    failed: u64,
}

impl From<CellPoint> for CellPointBody {
    fn from(point: CellPoint) -> Self {
        Self {
            at: point.at.to_string(),
            active: point.active,
            waiting: point.waiting,
            admitted: point.admitted,
            succeeded: point.succeeded,
            failed: point.failed,
        }
    }
}

/// A change of a cell's limit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitChangeBody {
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// How many may upgrade in the cell at once from then on; `null`: coverage alone counts.
    #[schema(required)]
    limit: Option<u32>,
    /// How many that were before.
    #[schema(required)]
    before: Option<u32>,
    /// What a KiB took then, in percent of what it takes while few upgrade there.
    percent: u64,
    /// Why, in a sentence.
    detail: String,
}

impl From<LimitChange> for LimitChangeBody {
    fn from(change: LimitChange) -> Self {
        Self {
            at: change.at.to_string(),
            limit: change.most,
            before: change.before,
            percent: change.percent,
            detail: wording::limit_changed(change.before, change.most, change.percent),
        }
    }
}

/// A measurement of a device's coverage.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CoveragePointBody {
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// The cell; `null`: it was not told.
    #[schema(required)]
    cell: Option<u32>,
    /// Signal strength, dBm; `null`: it was not told.
    #[schema(required)]
    rsrp_dbm: Option<i32>,
    /// Signal to noise, dB; `null`: it was not told.
    #[schema(required)]
    sinr_db: Option<i32>,
}

impl From<CoverageReading> for CoveragePointBody {
    fn from(reading: CoverageReading) -> Self {
        Self {
            at: reading.at.to_string(),
            cell: reading.coverage.cell,
            rsrp_dbm: reading.coverage.rsrp_dbm,
            sinr_db: reading.coverage.sinr_db,
        }
    }
}

/// How a task went on: a point every five minutes while it has not ended, 1,000 at the most.
///
/// Where there are more, every second one goes: what is long ago is told less often.
#[utoipa::path(get, path = "/v1/tasks/{id}/series", operation_id = "get_task_series", tag = "tasks",
    params(("id" = i64, Path, description = "The task's number")),
    responses(
        (status = 200, description = "Its points", body = SeriesBody<TaskPointBody>),
        (status = 404, description = "There is no such task", body = Problem),
    ))]
pub(super) async fn of_task(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Json<SeriesBody<TaskPointBody>>, Problem> {
    scoped::task(&state, &scope, id).await?;
    Ok(SeriesBody::of(state.store.task_series(TaskId(id)).await?))
}

/// How a cell went on: a point for each hour of seven days in which devices upgraded there or waited.
#[utoipa::path(get, path = "/v1/cells/{id}/series", operation_id = "get_cell_series", tag = "cells",
    params(("id" = i64, Path, minimum = 0, maximum = 4_294_967_295_i64, description = "Its number")),
    responses(
        (status = 200, description = "Its points; none of a cell in which nobody was", body = SeriesBody<CellPointBody>),
    ))]
pub(super) async fn of_cell(
    State(state): State<ApiState>,
    Path(id): Path<u32>,
) -> Result<Json<SeriesBody<CellPointBody>>, Problem> {
    Ok(SeriesBody::of(state.store.cell_series(id).await?))
}

/// How the limit of a cell has changed because of how crowded the cell was: the last 50 changes, oldest first, and why.
#[utoipa::path(get, path = "/v1/cells/{id}/limits", operation_id = "get_cell_limits", tag = "cells",
    params(("id" = i64, Path, minimum = 0, maximum = 4_294_967_295_i64, description = "Its number")),
    responses(
        (status = 200, description = "Its changes; none of a cell that was never crowded, or is not followed", body = SeriesBody<LimitChangeBody>),
    ))]
pub(super) async fn of_limit(
    State(state): State<ApiState>,
    Path(id): Path<u32>,
) -> Result<Json<SeriesBody<LimitChangeBody>>, Problem> {
    Ok(SeriesBody::of(state.store.limit_changes(id).await?))
}

/// The last 50 measurements of a device's coverage.
#[utoipa::path(get, path = "/v1/devices/{endpoint}/series", operation_id = "get_device_series", tag = "devices",
    params(("endpoint" = String, Path, description = "Its endpoint name")),
    responses(
        (status = 200, description = "Its measurements", body = SeriesBody<CoveragePointBody>),
        (status = 404, description = "There is no such device", body = Problem),
    ))]
pub(super) async fn of_device(
    State(state): State<ApiState>,
    scope: Scope,
    Path(endpoint): Path<String>,
) -> Result<Json<SeriesBody<CoveragePointBody>>, Problem> {
    if !scoped::sees(&state, &scope, &endpoint).await?
        || state.store.device(&endpoint).await?.is_none()
    {
        return Err(Problem::not_found(format!(
            "there is no device {endpoint:?}"
        )));
    }
    Ok(SeriesBody::of(state.store.device_series(&endpoint).await?))
}
