//! A plan of the operator's that waits for the word of somebody at home (manual upgrade).

use axum::{Json, extract::State, http::HeaderMap};

use super::{
    bodies::{AppStatus, PlanWord},
    person::Inside,
    problem::Problem,
    start::said,
    state::AppState,
    upgrades::{self, DevicePath},
    view::View,
};
use crate::{
    api::{self, Path},
    ledger::UpgradeId,
    store::ChangeUpgradeError,
};

/// Who has confirmed, in the upgrade: no name of a user is kept there.
const BY: &str = "somebody at home";

/// Confirm what a plan would do.
///
/// The upgrade begins when its plan lets it. What is confirmed already stays so.
#[utoipa::path(post, path = "/app/v1/homes/{home}/devices/{device}/plan/confirm", operation_id = "confirm_device_plan", tag = "acts",
    params(DevicePath), request_body = PlanWord,
    responses(
        (status = 200, description = "Where the device stands", body = AppStatus),
        (status = 409, description = "Nothing waits for that word, or something else does (`offer-changed`, with that in `now`)", body = Problem),
    ))]
pub(super) async fn confirm_device_plan(
    State(state): State<AppState>,
    inside: Inside,
    Path(path): Path<DevicePath>,
    headers: HeaderMap,
    api::Json(body): api::Json<PlanWord>,
) -> Result<Json<AppStatus>, Problem> {
    say(&state, &inside, &path.device, (&body, true), &headers).await
}

/// Refuse what a plan would do.
///
/// The upgrade never begins, and ends as cancelled.
#[utoipa::path(post, path = "/app/v1/homes/{home}/devices/{device}/plan/refuse", operation_id = "refuse_device_plan", tag = "acts",
    params(DevicePath), request_body = PlanWord,
    responses(
        (status = 200, description = "Where the device stands", body = AppStatus),
        (status = 409, description = "Nothing waits for that word, or something else does (`offer-changed`, with that in `now`)", body = Problem),
    ))]
pub(super) async fn refuse_device_plan(
    State(state): State<AppState>,
    inside: Inside,
    Path(path): Path<DevicePath>,
    headers: HeaderMap,
    api::Json(body): api::Json<PlanWord>,
) -> Result<Json<AppStatus>, Problem> {
    say(&state, &inside, &path.device, (&body, false), &headers).await
}

async fn say(
    state: &AppState,
    inside: &Inside,
    device: &str,
    (named, confirmed): (&PlanWord, bool),
    headers: &HeaderMap,
) -> Result<Json<AppStatus>, Problem> {
    let view = View::of_device(state, &inside.home, device, headers).await?;
    let named = UpgradeId(named.upgrade);
    let mut open = view.records().flat_map(|it| &it.open);
    if open.any(|it| it.upgrade.upgrade.id == named) {
        let now = state.now();
        let said_so = state.store.confirm_upgrade(named, None, confirmed, BY, now);
        match said_so.await {
            Ok(_) => {
                said(state, inside);
                let device = upgrades::device(state, inside, device, headers).await?;
                return Ok(Json(device.status));
            }
            Err(ChangeUpgradeError::Store(error)) => return Err(error.into()),
            // it does not wait, or somebody else was faster
            Err(_) => {}
        }
    }
    let now = upgrades::device(state, inside, device, headers).await?;
    if now.status.awaiting.is_none() {
        return Err(nothing_waits());
    }
    let another = Problem::conflict(
        "offer-changed",
        "There is something else now",
        "another upgrade waits for a word about this device; look at it again",
    );
    Err(another.with_now(serde_json::to_value(now).unwrap_or_default()))
}

fn nothing_waits() -> Problem {
    Problem::conflict(
        "not-waiting",
        "Nothing waits for that",
        "no plan waits for a word about this device",
    )
}
