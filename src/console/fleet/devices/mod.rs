//! Devices: all of them, one, and what an operator does with it.

mod add;
mod columns;
mod complete;
mod edit;
mod export;
mod import;
mod list;
mod one;
mod operations;
mod unknown;
mod values;
mod why;

use std::collections::BTreeMap;

use axum::{Router, extract::DefaultBodyLimit, routing::get};
use serde::Deserialize;

use crate::console::{Console, viewer::Viewer};
pub(super) use complete::quoted;
pub(super) use edit::number;

/// The pages below `/devices`.
pub(super) fn routes() -> Router<Console> {
    let import = get(import::ask).post(import::take);
    Router::new()
        .route("/devices", get(list::show))
        .route("/devices/complete", get(values::complete))
        .route("/devices/export", get(export::stream))
        .route("/devices/new", get(add::ask).post(add::add))
        .route("/devices/import", import.layer(DefaultBodyLimit::disable()))
        .route("/devices/unknown", get(unknown::show))
        .route("/devices/{endpoint}", get(one::show))
        .route("/devices/{endpoint}/upgrades", get(one::upgrades))
        .route(
            "/devices/{endpoint}/edit",
            get(edit::ask).post(edit::change),
        )
        .route(
            "/devices/{endpoint}/{operation}",
            get(operations::ask).post(operations::carry_out),
        )
}

/// A device, as far as the pages show it.
#[derive(Debug, Deserialize)]
pub(super) struct Device {
    pub(super) endpoint: String,
    #[serde(default)]
    pub(super) tenant: Option<String>,
    pub(super) product: String,
    pub(super) protocol: String,
    pub(super) mqtt: Option<Mqtt>,
    pub(super) via: Option<String>,
    pub(super) children: Option<Children>,
    pub(super) gateway_limit: Option<u32>,
    pub(super) connected: Option<Connected>,
    pub(super) secure: bool,
    pub(super) psk_identity: Option<String>,
    pub(super) registered: bool,
    pub(super) registration: Option<Registration>,
    pub(super) last_heard_at: Option<String>,
    pub(super) last_heard_is_stored: bool,
    pub(super) wake_ups: Option<WakeUps>,
    pub(super) version: Option<String>,
    pub(super) coverage: Option<Coverage>,
    pub(super) upgrade_id: Option<i64>,
    pub(super) model: Option<String>,
    pub(super) hardware: Option<String>,
    pub(super) site: Option<String>,
    pub(super) time_zone: Option<String>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) month: Option<Month>,
    pub(super) exclusion_reason: Option<String>,
    pub(super) created_at: String,
}

impl Device {
    /// Its page, below the console.
    pub(super) fn page(&self) -> String {
        super::names::page_of(&self.endpoint)
    }

    /// Whether it is registered, as the texts call it.
    pub(super) fn registered_word(&self) -> &'static str {
        if self.registered { "true" } else { "false" }
    }

    /// The tags, one a line.
    fn tag_lines(&self) -> String {
        let lines = self.tags.iter();
        let lines: Vec<String> = lines.map(|(key, value)| format!("{key}={value}")).collect();
        lines.join("\n")
    }
}

impl Registration {
    fn lifetime(&self, at: &Viewer) -> String {
        at.span(self.lifetime_seconds)
    }
}

impl WakeUps {
    fn period(&self, at: &Viewer) -> String {
        at.span(self.period_seconds)
    }
}

impl Month {
    fn airtime(&self, at: &Viewer) -> String {
        at.span(super::whole_seconds(self.airtime_estimated_seconds))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Mqtt {
    pub(super) credential: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Children {
    pub(super) total: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Connected {
    pub(super) since: String,
    pub(super) peer: String,
    pub(super) version: String,
    pub(super) client_id: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Registration {
    pub(super) peer: String,
    pub(super) secured: bool,
    pub(super) lifetime_seconds: u64,
    pub(super) registered_at: String,
    pub(super) expires_at: String,
    pub(super) queue_mode: bool,
    pub(super) lwm2m_version: Option<String>,
    pub(super) binding: String,
    pub(super) objects: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WakeUps {
    pub(super) last_at: String,
    pub(super) period_seconds: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Coverage {
    pub(super) cell_id: Option<u32>,
    pub(super) rsrp_dbm: Option<i32>,
    pub(super) sinr_db: Option<i32>,
    pub(super) measured_at: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Month {
    pub(super) begins_at: String,
    pub(super) bytes: u64,
    pub(super) airtime_estimated_seconds: f64,
}
