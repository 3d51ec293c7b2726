//! `/v1/outages`: the carrier's network management tells which cells are out of order.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    GATE_KNOWS_WITHIN,
    rules::{check_text, parse_until},
};
use crate::{
    api::{
        ApiState,
        extract::{self, Fields},
        problem::Problem,
    },
    clock::UtcMillis,
    store::CellUpdate,
    task::{ClosingUpdate, MAX_REASON, RulesUpdate},
};

/// Cells of one request.
const MAX_CELLS: usize = 5_000;

/// Cells that are out of order, or work again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Outage {
    /// Their numbers, 5,000 at most.
    #[schema(min_items = 1, max_items = 5000)]
    cells: Vec<u32>,
    /// They are out of order until then: a time that is not past (RFC 3339), or `further_notice`.
    #[schema(example = "2027-03-01T02:00:00Z")]
    closed_until: Option<String>,
    /// Why: 1 to 200 characters. Those who wait are told.
    #[schema(min_length = 1, max_length = 200)]
    reason: Option<String>,
    /// They work again. Cells that an operator has closed stay closed.
    #[serde(default)]
    over: bool,
}

/// What became of an outage.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct OutageTaken {
    /// Cells that it concerns.
    cells: usize,
}

/// Tell that cells are out of order, or work again.
///
/// Nobody is admitted to a cell that is out of order; downloads that run go on. Give either `closed_until` and `reason`, or
/// `over`. What is told of a cell replaces what was told before. An operator may open the cell all the same
/// (`PATCH /v1/cells/{id}`).
#[utoipa::path(post, path = "/v1/outages", operation_id = "report_outage", tag = "cells", request_body = Outage,
    responses(
        (status = 200, description = "It was taken", body = OutageTaken),
    ))]
pub(in crate::api) async fn report(
    State(state): State<ApiState>,
    extract::Json(body): extract::Json<Outage>,
) -> Result<Json<OutageTaken>, Problem> {
    let now = state.now();
    let updates = to_updates(body, now)?;
    state.store.update_cells(&updates, now).await?;
    state.signals.devices_written(GATE_KNOWS_WITHIN).await;
    Ok(Json(OutageTaken {
        cells: updates.len(),
    }))
}

fn to_updates(body: Outage, now: UtcMillis) -> Result<Vec<CellUpdate>, Problem> {
    let mut fields = Fields::default();
    let count = body.cells.len();
    let fits = (1..=MAX_CELLS).contains(&count);
    let detail = format!("{count} cells; 1 to {MAX_CELLS} are possible");
    fields.check("cells", fits, detail);
    let closing = if body.over {
        let detail = "it has no meaning when the outage is over; leave it out";
        fields.check("closed_until", body.closed_until.is_none(), detail);
        fields.check("reason", body.reason.is_none(), detail);
        ClosingUpdate::OutageOver
    } else {
        let detail = "it is missing; give closed_until and reason, or over";
        fields.check("closed_until", body.closed_until.is_some(), detail);
        fields.check("reason", body.reason.is_some(), detail);
        let until = (body.closed_until.as_deref())
            .and_then(|text| fields.take("closed_until", parse_until(text, now)));
        if let Some(reason) = &body.reason {
            fields.take("reason", check_text(reason, MAX_REASON));
        }
        let reason = body.reason.unwrap_or_default();
        ClosingUpdate::Outage {
            until: until.flatten(),
            reason,
        }
    };
    fields.finish()?;
    let mut cells = body.cells;
    cells.sort_unstable();
    cells.dedup();
    let updates = cells.into_iter().map(|cell| CellUpdate {
        cell,
        rules: RulesUpdate {
            closing: closing.clone(),
            ..RulesUpdate::default()
        },
        note: None,
        seen: None,
    });
    Ok(updates.collect())
}
