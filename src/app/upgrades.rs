//! What can be upgraded in a home, how that stands, and what became of it.

use axum::{Json, extract::State, http::HeaderMap};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    bodies::{AppCheck, AppChecks, AppDevice, AppDevices, AppHistory, AppPast, AppStatus},
    person::Inside,
    problem::Problem,
    state::AppState,
    view::{self, View},
};
use crate::{
    api::{Path, Query},
    home::ErrorCode,
    ledger::UpgradeId,
    store::{HomeUpgrade, StoreError},
};

/// Upgrades on a page of the history.
const DEFAULT_LIMIT: u32 = 20;
const MAX_LIMIT: u32 = 100;

/// The path of a device.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct DevicePath {
    /// The home.
    #[serde(rename = "home")]
    #[param(min_length = 1, max_length = 64, example = "home-17")]
    pub(super) _home: String,
    /// The device.
    #[param(min_length = 1, max_length = 128, example = "urn:imei:490154203237518")]
    pub(super) device: String,
}

/// A list that cannot be told is an error of its own to applications.
fn not_available(error: StoreError) -> Problem {
    Problem::from(error).with_code(ErrorCode::ListUnavailable.number())
}

/// Devices of a home that can be upgraded.
///
/// Those for which there is something, that are being upgraded, or whose last upgrade has just ended; each with what it can be upgraded to.
/// Texts are in the language that `Accept-Language` asks for, as far as there is one.
#[utoipa::path(get, path = "/app/v1/homes/{home}/upgrades", operation_id = "list_home_upgrades", tag = "upgrades",
    params(("home" = String, Path, description = "The home"),
        ("Accept-Language" = Option<String>, Header, description = "The language of texts")),
    responses((status = 200, description = "The devices", body = AppDevices)))]
pub(super) async fn list_home_upgrades(
    State(state): State<AppState>,
    inside: Inside,
    headers: HeaderMap,
) -> Result<Json<AppDevices>, Problem> {
    let view = View::of(&state, &inside.home, None, &headers).await;
    let mut items = view.map_err(not_available)?.devices();
    items.retain(|it| !it.entries.is_empty() || it.status.status != 0);
    Ok(Json(AppDevices { items }))
}

/// What a device can be upgraded to.
#[utoipa::path(get, path = "/app/v1/homes/{home}/devices/{device}/upgrades", operation_id = "list_device_upgrades", tag = "upgrades",
    params(DevicePath, ("Accept-Language" = Option<String>, Header, description = "The language of texts")),
    responses((status = 200, description = "The device, and its entries", body = AppDevice)))]
pub(super) async fn list_device_upgrades(
    State(state): State<AppState>,
    inside: Inside,
    Path(path): Path<DevicePath>,
    headers: HeaderMap,
) -> Result<Json<AppDevice>, Problem> {
    device(&state, &inside, &path.device, &headers)
        .await
        .map(Json)
}

/// One device of a home, as it is told.
pub(super) async fn device(
    state: &AppState,
    inside: &Inside,
    device: &str,
    headers: &HeaderMap,
) -> Result<AppDevice, Problem> {
    let view = View::of_device(state, &inside.home, device, headers).await?;
    view.devices().pop().ok_or_else(view::no_such_device)
}

/// Where a device stands.
#[utoipa::path(get, path = "/app/v1/homes/{home}/devices/{device}/status", operation_id = "get_device_status", tag = "upgrades",
    params(DevicePath, ("Accept-Language" = Option<String>, Header, description = "The language of texts")),
    responses((status = 200, description = "Where it stands", body = AppStatus)))]
pub(super) async fn get_device_status(
    State(state): State<AppState>,
    inside: Inside,
    Path(path): Path<DevicePath>,
    headers: HeaderMap,
) -> Result<Json<AppStatus>, Problem> {
    let device = device(&state, &inside, &path.device, &headers).await?;
    Ok(Json(device.status))
}

/// What members are told: what there is for a device, without what is needed to start it.
#[utoipa::path(get, path = "/app/v1/homes/{home}/devices/{device}/check", operation_id = "check_device", tag = "upgrades",
    params(DevicePath, ("Accept-Language" = Option<String>, Header, description = "The language of texts")),
    responses((status = 200, description = "What there is", body = AppChecks)))]
pub(super) async fn check_device(
    State(state): State<AppState>,
    inside: Inside,
    Path(path): Path<DevicePath>,
    headers: HeaderMap,
) -> Result<Json<AppChecks>, Problem> {
    let device = device(&state, &inside, &path.device, &headers).await?;
    let items = device.entries.into_iter().map(|entry| AppCheck {
        channel: entry.channel,
        status: entry.status,
        version: entry.target_version,
        text: entry.description,
    });
    Ok(Json(AppChecks {
        items: items.collect(),
    }))
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// Upgrades in the answer, 1 to 100; 20 when not given.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// `next_before` of the page before; the first page when not given.
    #[param(minimum = 1)]
    before: Option<i64>,
}

/// What became of a device's upgrades since it is in this home.
#[utoipa::path(get, path = "/app/v1/homes/{home}/devices/{device}/history", operation_id = "list_device_history", tag = "upgrades",
    params(DevicePath, Paging),
    responses((status = 200, description = "Newest first", body = AppHistory)))]
pub(super) async fn list_device_history(
    State(state): State<AppState>,
    inside: Inside,
    Path(path): Path<DevicePath>,
    Query(paging): Query<Paging>,
) -> Result<Json<AppHistory>, Problem> {
    let limit = paging.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let what = format!("{limit} is out of range: 1 to {MAX_LIMIT} are possible");
        return Err(Problem::field("limit", what));
    }
    if paging.before.is_some_and(|before| before < 1) {
        return Err(Problem::field("before", "it is a number from 1"));
    }
    let headers = HeaderMap::new();
    View::of_device(&state, &inside.home, &path.device, &headers).await?;
    let before = paging.before.map(UpgradeId);
    let page = (state.store)
        .home_history(&inside.home, &path.device, before, limit)
        .await?;
    let next_before = page.items.last().filter(|_| page.more);
    Ok(Json(AppHistory {
        next_before: next_before.map(|last| last.upgrade.upgrade.id.0),
        items: page.items.iter().map(past).collect(),
    }))
}

fn past(upgrade: &HomeUpgrade) -> AppPast {
    let told = upgrade.told(false);
    let record = &upgrade.upgrade.upgrade;
    let outcome = record.outcome.as_ref();
    AppPast {
        upgrade: record.id.0,
        target_version: upgrade.upgrade.version.to_string(),
        status: told.status.number(),
        status_name: told.status.name(),
        error: told.error.map(ErrorCode::number),
        reason: told.error.and(outcome).map(|it| it.reason.clone()),
        created_at: record.created_at.to_string(),
        ended_at: record.ended_at.map(|at| at.to_string()),
    }
}
