//! Whether a device upgrades by itself.

use axum::{Json, extract::State};

use super::{
    bodies::{AppAutomatic, AppQuietHours, SetAutomatic},
    person::Inside,
    problem::Problem,
    start::said,
    state::AppState,
    upgrades::DevicePath,
    view::no_such_device,
};
use crate::{
    api::{self, Path},
    store::{HomeError, HomeRecord},
};

/// Whether a device upgrades by itself.
#[utoipa::path(get, path = "/app/v1/homes/{home}/devices/{device}/automatic", operation_id = "get_device_automatic", tag = "acts",
    params(DevicePath),
    responses((status = 200, description = "Whether it does, and when nothing begins by itself", body = AppAutomatic)))]
pub(super) async fn get_device_automatic(
    State(state): State<AppState>,
    inside: Inside,
    Path(path): Path<DevicePath>,
) -> Result<Json<AppAutomatic>, Problem> {
    let devices = state.store.devices_in(&inside.home).await?;
    let device = devices.into_iter().find(|it| it.endpoint == path.device);
    let automatic = device.ok_or_else(no_such_device)?.automatic;
    told(&state, &inside, path.device, automatic).await
}

/// Have a device upgrade by itself, or not.
///
/// What is offered begins then outside of the quiet hours of the home. What has begun goes on.
#[utoipa::path(put, path = "/app/v1/homes/{home}/devices/{device}/automatic", operation_id = "set_device_automatic", tag = "acts",
    params(DevicePath), request_body = SetAutomatic,
    responses((status = 200, description = "Whether it does, and when nothing begins by itself", body = AppAutomatic)))]
pub(super) async fn set_device_automatic(
    State(state): State<AppState>,
    inside: Inside,
    Path(path): Path<DevicePath>,
    api::Json(body): api::Json<SetAutomatic>,
) -> Result<Json<AppAutomatic>, Problem> {
    let set = (state.store).set_automatic(&inside.home, &path.device, body.automatic);
    let device = set.await.map_err(|error| match error {
        HomeError::Store(error) => error.into(),
        // whatever else: it is not in the home any more
        _ => no_such_device(),
    })?;
    said(&state, &inside);
    told(&state, &inside, path.device, device.automatic).await
}

async fn told(
    state: &AppState,
    inside: &Inside,
    device: String,
    automatic: bool,
) -> Result<Json<AppAutomatic>, Problem> {
    let home = state.store.home(&inside.home).await?;
    Ok(Json(AppAutomatic {
        device,
        automatic,
        quiet_hours: home.and_then(quiet_hours),
    }))
}

fn quiet_hours(home: HomeRecord) -> Option<AppQuietHours> {
    let (from, to) = home.quiet?.times();
    Some(AppQuietHours {
        from,
        to,
        time_zone: home.zone,
    })
}
