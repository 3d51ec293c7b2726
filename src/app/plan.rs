//! A plan of the operator's that waits for the word of somebody at home (manual upgrade).

use axum::{Json, extract::State, http::HeaderMap};

use super::{
    bodies::AppStatus,
    door::Inside,
    problem::Problem,
    start::said,
    state::AppState,
    upgrades::{self, DevicePath},
    view::{View, awaits_confirmation},
};
use crate::{api::Path, ledger::UpgradeId, store::ChangeUpgradeError};

/// Who has confirmed, in the upgrade: no name of a user is kept there.
const BY: &str = "somebody at home";

/// Confirm what a plan would do.
///
/// The upgrade begins when its plan lets it.
#[utoipa::path(post, path = "/app/v1/homes/{home}/devices/{device}/plan/confirm", operation_id = "confirm_device_plan", tag = "acts",
    params(DevicePath),
    responses(
        (status = 200, description = "Where the device stands", body = AppStatus),
        (status = 409, description = "Nothing waits for that word", body = Problem),
    ))]
pub(super) async fn confirm_device_plan(
    State(state): State<AppState>,
    inside: Inside,
    Path(path): Path<DevicePath>,
    headers: HeaderMap,
) -> Result<Json<AppStatus>, Problem> {
    say(&state, &inside, &path.device, true, &headers).await
}

/// Refuse what a plan would do.
///
/// The upgrade never begins, and ends as cancelled.
#[utoipa::path(post, path = "/app/v1/homes/{home}/devices/{device}/plan/refuse", operation_id = "refuse_device_plan", tag = "acts",
    params(DevicePath),
    responses(
        (status = 200, description = "Where the device stands", body = AppStatus),
        (status = 409, description = "Nothing waits for that word", body = Problem),
    ))]
pub(super) async fn refuse_device_plan(
    State(state): State<AppState>,
    inside: Inside,
    Path(path): Path<DevicePath>,
    headers: HeaderMap,
) -> Result<Json<AppStatus>, Problem> {
    say(&state, &inside, &path.device, false, &headers).await
}

async fn say(
    state: &AppState,
    inside: &Inside,
    device: &str,
    confirmed: bool,
    headers: &HeaderMap,
) -> Result<Json<AppStatus>, Problem> {
    let view = View::of_device(state, &inside.home, device, headers).await?;
    let open = view.records().flat_map(|it| &it.open);
    let mut waits = open.filter(|it| awaits_confirmation(it));
    let upgrade: UpgradeId = match waits.next() {
        Some(upgrade) => upgrade.upgrade.upgrade.id,
        None => return Err(nothing_waits()),
    };
    let now = state.now();
    let said_so = state
        .store
        .confirm_upgrade(upgrade, None, confirmed, BY, now);
    match said_so.await {
        Ok(_) => {}
        Err(ChangeUpgradeError::Store(error)) => return Err(error.into()),
        // somebody else was faster
        Err(_) => return Err(nothing_waits()),
    }
    said(state, inside);
    let device = upgrades::device(state, inside, device, headers).await?;
    Ok(Json(device.status))
}

fn nothing_waits() -> Problem {
    Problem::conflict(
        "not-waiting",
        "Nothing waits for that",
        "no plan waits for a word about this device",
    )
}
