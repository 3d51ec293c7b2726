//! Cells: how crowded they are, one of them, and the rules that an operator gives them.

mod edit;
mod import;
mod list;
mod one;
mod operations;
mod outage;

use axum::{Router, extract::DefaultBodyLimit, routing::get};
use serde::Deserialize;

use crate::console::{Console, calls::part, page::Failure, viewer::Viewer};

/// The pages below `/cells`.
pub(super) fn routes() -> Router<Console> {
    let import = get(import::ask).post(import::take);
    Router::new()
        .route("/cells", get(list::show))
        .route("/cells/import", import.layer(DefaultBodyLimit::disable()))
        .route("/cells/outage", get(outage::ask).post(outage::report))
        .route("/cells/{id}", get(one::show))
        .route("/cells/{id}/edit", get(edit::ask).post(edit::change))
        .route(
            "/cells/{id}/{operation}",
            get(operations::ask).post(operations::carry_out),
        )
}

/// A cell, as the list has it.
#[derive(Debug, Deserialize)]
struct Cell {
    #[serde(rename = "cell_id")]
    id: u32,
    active: u64,
    waiting: u64,
    limit_max: u64,
    concurrent_peak: u64,
    admitted_total: u64,
    last_admitted_at: Option<String>,
    succeeded: u64,
    failed: u64,
    /// Its own.
    limit: Option<u32>,
    closed: Option<Closed>,
}

/// A cell, its rules, and who upgrades in it.
#[derive(Debug, Deserialize)]
struct Detail {
    #[serde(flatten)]
    cell: Cell,
    limit_now: Option<u32>,
    limited_by: String,
    limit_changes_at: Option<String>,
    busy_hours: Vec<BusyHours>,
    adaptive: Option<bool>,
    note: Option<String>,
    traffic: Traffic,
    admitted: Vec<Holder>,
    seconds_per_kib: Option<f64>,
    queue_through_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Closed {
    from: String,
    until: Option<String>,
    reason: String,
}

#[derive(Debug, Deserialize)]
struct BusyHours {
    #[serde(default)]
    days: Option<Vec<String>>,
    from: String,
    to: String,
    zone: String,
    limit: u32,
}

#[derive(Debug, Deserialize)]
struct Traffic {
    bytes_down: u64,
    bytes_up: u64,
    airtime_estimated_seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Holder {
    upgrade_id: i64,
    endpoint: String,
    state: String,
}

impl Detail {
    /// The text that says whether its limit follows how crowded it is.
    fn adaptive_text(&self) -> &'static str {
        match self.adaptive {
            Some(true) => "fleet-yes",
            Some(false) => "fleet-no",
            None => "fleet-as-settings",
        }
    }
}

impl Traffic {
    fn airtime(&self, at: &Viewer) -> String {
        at.span(super::whole_seconds(self.airtime_estimated_seconds))
    }
}

impl Holder {
    fn page(&self) -> String {
        super::names::page_of(&self.endpoint)
    }
}

/// A cell, with its `ETag`. `None`: nobody has been there, and it has no rules.
async fn tagged(viewer: &Viewer, id: u32) -> Result<Option<(Detail, String)>, Failure> {
    match viewer.read(&format!("/v1/cells/{id}")).await {
        Ok(answer) => {
            let etag = answer.etag();
            Ok(Some((part(answer.body)?, etag)))
        }
        Err(Failure(problem)) if problem.status == 404 => Ok(None),
        Err(failure) => Err(failure),
    }
}
