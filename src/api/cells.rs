//! `/v1/cells`.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState,
    extract::{ListBody, Paging, Path, Query},
    problem::Problem,
};
use crate::store::CellRecord;

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
}

impl From<CellRecord> for CellBody {
    fn from(cell: CellRecord) -> Self {
        Self {
            cell_id: cell.cell,
            active: cell.active,
            waiting: cell.waiting,
            limit_max: cell.limit_max,
            concurrent_peak: cell.concurrent_peak,
            admitted_total: cell.admitted_total,
            last_admitted_at: cell.last_admitted_at.map(|at| at.to_string()),
        }
    }
}

/// List the cells in which devices upgraded or waited, ordered by number.
#[utoipa::path(get, path = "/v1/cells", operation_id = "list_cells", tag = "cells", params(Paging),
    responses(
        (status = 200, description = "A page", body = ListBody<CellBody>),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    Query(paging): Query<Paging>,
) -> Result<Json<ListBody<CellBody>>, Problem> {
    let after: Option<u32> = paging.after("cells")?;
    let page = state.store.cells(after, paging.limit()?).await?;
    Ok(Json(ListBody::new(
        page,
        "cells",
        |cell| cell.cell,
        CellBody::from,
    )))
}

/// A cell in which devices upgraded or waited.
#[utoipa::path(get, path = "/v1/cells/{id}", operation_id = "get_cell", tag = "cells",
    params(("id" = i64, Path, minimum = 0, maximum = 4_294_967_295_i64, description = "Its number")),
    responses(
        (status = 200, description = "The cell", body = CellBody),
        (status = 404, description = "No device has upgraded or waited there", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    Path(id): Path<u32>,
) -> Result<Json<CellBody>, Problem> {
    // the list has it after the number before it, if at all
    let found = state.store.cells(id.checked_sub(1), 1).await?.items.pop();
    found
        .filter(|cell| cell.cell == id)
        .map(|cell| Json(cell.into()))
        .ok_or_else(|| Problem::not_found(format!("no device has upgraded or waited in cell {id}")))
}
