//! The fleet: devices, groups, exclusions, cells, sites and gateways.

mod cells;
mod devices;
mod exclusions;
mod gateways;
mod groups;
mod names;
mod sites;

use std::{collections::BTreeSet, time::Duration};

use axum::Router;

pub(super) use self::names::page_of;
use super::{
    Console,
    fields::{Fields, encode},
    page::Failure,
    tenants::several as several_tenants,
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

/// A tenant that a form lets choose.
struct Tenant {
    id: String,
    name: String,
    chosen: bool,
}

/// The tenants that a form lets choose from: none where there is no choice.
async fn tenants(viewer: &Viewer, fields: &Fields) -> Result<Vec<Tenant>, Failure> {
    let chosen = fields.some("tenant").unwrap_or("default");
    let tenants = several_tenants(viewer).await?.into_iter();
    let tenants = tenants.map(|(id, name)| Tenant {
        chosen: id == chosen,
        id,
        name,
    });
    Ok(tenants.collect())
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

/// Names that were entered one a line, or between blanks or commas, each once.
fn several(text: &str) -> Vec<String> {
    let names = text.split(|c: char| c.is_whitespace() || c == ',');
    let mut seen = BTreeSet::new();
    let names = names.filter(|name| !name.is_empty() && seen.insert(*name));
    names.map(str::to_owned).collect()
}

/// The query of an address.
fn given(query: Option<String>) -> Fields {
    Fields::parse(query.unwrap_or_default().as_bytes())
}
