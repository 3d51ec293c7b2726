//! The fleet: devices, groups, exclusions, cells, sites and gateways.

mod cells;
mod devices;
mod exclusions;
mod gateways;
mod groups;
mod names;
mod sites;
mod upload;

use std::time::Duration;

use axum::Router;
use serde::Deserialize;

use super::{
    Console,
    fields::{Fields, encode},
    listed::Listed,
    page::Failure,
    viewer::Viewer,
};

/// The pages of the fleet.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .merge(devices::routes())
        .merge(groups::routes())
        .merge(exclusions::routes())
        .merge(cells::routes())
        .merge(sites::routes())
        .merge(gateways::routes())
}

/// A tenant, as a form has it.
#[derive(Debug, Deserialize)]
struct Tenant {
    id: String,
    name: String,
}

impl Tenant {
    fn is(&self, id: &str) -> bool {
        self.id == id
    }
}

/// The tenants that a form lets choose from: none where there is no choice.
async fn tenants(viewer: &Viewer) -> Result<Vec<Tenant>, Failure> {
    if !viewer.may("list_tenants") {
        return Ok(Vec::new());
    }
    let found: Option<Listed<Tenant>> = viewer.look("/v1/tenants?limit=1000").await?;
    let found = found.map_or_else(Vec::new, |listed| listed.items);
    Ok(if found.len() > 1 { found } else { Vec::new() })
}

/// A path of the API, for the tenant that a form or an address names.
fn for_tenant(path: &str, fields: &Fields) -> String {
    match fields.some("tenant") {
        Some(tenant) => format!("{path}?tenant={}", encode(tenant)),
        None => path.to_owned(),
    }
}

/// Of a span of the API the whole seconds.
fn whole_seconds(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds).map_or(0, |span| span.as_secs())
}

/// Names that were entered one a line, or between blanks or commas.
fn several(text: &str) -> Vec<String> {
    let names = text.split(|c: char| c.is_whitespace() || c == ',');
    let names = names.filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// The query of an address.
fn given(query: Option<String>) -> Fields {
    Fields::parse(query.unwrap_or_default().as_bytes())
}
