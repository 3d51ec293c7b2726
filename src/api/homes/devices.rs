//! `/v1/homes/{home}/devices/{endpoint}`.

use std::collections::BTreeSet;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::names::{check_text, key};
use crate::{
    access::Scope,
    api::{
        ApiState,
        extract::{self, Fields, Path},
        problem::Problem,
    },
    home::{MAX_HOME_DEVICES, MAX_ICON, MAX_NAME},
    lwm2m::check_endpoint,
    store::{HomeDeviceRecord, PutHomeDevice},
};

/// A device in a home.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct HomeDeviceBody {
    /// Its endpoint name.
    endpoint: String,
    /// What people call it there.
    #[schema(required)]
    name: Option<String>,
    /// What shows it there.
    #[schema(required)]
    icon: Option<String>,
    /// Whether it upgrades by itself.
    automatic: bool,
    /// Since when it is there.
    #[schema(format = DateTime)]
    added_at: String,
}

impl From<HomeDeviceRecord> for HomeDeviceBody {
    fn from(device: HomeDeviceRecord) -> Self {
        Self {
            endpoint: device.endpoint,
            name: device.name,
            icon: device.icon,
            automatic: device.automatic,
            added_at: device.added_at.to_string(),
        }
    }
}

/// All devices that are to be in a home.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(max_items = 256)]
pub(in crate::api) struct PutDevices(Vec<PutHomeDeviceBody>);

/// A device that is to be in a home.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PutHomeDeviceBody {
    /// Its endpoint name.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = r"^(?!\.{1,2}$)[A-Za-z0-9._~:@!$'()*+,;=-]{1,128}$"
    )]
    endpoint: String,
    /// What people call it there, 1 to 100 characters.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u001f\u007f-\u009f\s][^\u0000-\u001f\u007f-\u009f]*$"
    )]
    name: Option<String>,
    /// What shows it there: a word or an address that the application understands, 1 to 200 characters.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u001f\u007f-\u009f\s][^\u0000-\u001f\u007f-\u009f]*$"
    )]
    icon: Option<String>,
}

impl PutDevices {
    /// The devices, or what is wrong with them.
    pub(super) fn read(self, field: &str, fields: &mut Fields) -> Vec<PutHomeDevice> {
        let detail = format!("{MAX_HOME_DEVICES} at most");
        fields.check(field, self.0.len() <= MAX_HOME_DEVICES, detail);
        let mut known = BTreeSet::new();
        let mut devices = Vec::new();
        for (at, device) in self.0.into_iter().take(MAX_HOME_DEVICES).enumerate() {
            let place = format!("{field}[{at}].");
            let endpoint = format!("{place}endpoint");
            fields.take(&endpoint, check_endpoint(device.endpoint.as_bytes()));
            let first = known.insert(device.endpoint.clone());
            fields.check(&endpoint, first, "the device is there twice");
            check_looks(
                fields,
                &place,
                device.name.as_deref(),
                device.icon.as_deref(),
            );
            devices.push(PutHomeDevice {
                endpoint: device.endpoint,
                name: device.name,
                icon: device.icon,
            });
        }
        devices
    }
}

fn check_looks(fields: &mut Fields, place: &str, name: Option<&str>, icon: Option<&str>) {
    if let Some(name) = name {
        check_text(fields, &format!("{place}name"), name, MAX_NAME);
    }
    if let Some(icon) = icon {
        check_text(fields, &format!("{place}icon"), icon, MAX_ICON);
    }
}

/// What a device is to be in a home.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct SetHomeDevice {
    /// What people call it there, 1 to 100 characters.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u001f\u007f-\u009f\s][^\u0000-\u001f\u007f-\u009f]*$"
    )]
    name: Option<String>,
    /// What shows it there: a word or an address that the application understands, 1 to 200 characters.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u001f\u007f-\u009f\s][^\u0000-\u001f\u007f-\u009f]*$"
    )]
    icon: Option<String>,
}

/// Have a device be in a home.
///
/// It is one of the tenant's, and in no other home.
#[utoipa::path(put, path = "/v1/homes/{home}/devices/{endpoint}", operation_id = "set_home_device", tag = "homes", request_body = SetHomeDevice,
    params(("home" = String, Path, min_length = 1, max_length = 64, description = "What the integrator calls the home"),
        ("endpoint" = String, Path, min_length = 1, max_length = 128, description = "The endpoint name")),
    responses(
        (status = 200, description = "The device", body = HomeDeviceBody),
        (status = 404, description = "There is no such home", body = Problem),
        (status = 409, description = "The device is unknown or in another home, or this one has 256 devices", body = Problem),
    ))]
pub(in crate::api) async fn set(
    State(state): State<ApiState>,
    scope: Scope,
    Path((home, endpoint)): Path<(String, String)>,
    extract::Json(body): extract::Json<SetHomeDevice>,
) -> Result<Json<HomeDeviceBody>, Problem> {
    let key = key(&scope, &home)?;
    let mut fields = Fields::default();
    fields.take("endpoint", check_endpoint(endpoint.as_bytes()));
    check_looks(&mut fields, "", body.name.as_deref(), body.icon.as_deref());
    fields.finish()?;
    let device = PutHomeDevice {
        endpoint,
        name: body.name,
        icon: body.icon,
    };
    let device = (state.store)
        .put_in_home(&key, &device, state.now())
        .await?;
    Ok(Json(device.into()))
}

/// Take a device out of a home. Its upgrades go on.
#[utoipa::path(delete, path = "/v1/homes/{home}/devices/{endpoint}", operation_id = "remove_home_device", tag = "homes",
    params(("home" = String, Path, min_length = 1, max_length = 64, description = "What the integrator calls the home"),
        ("endpoint" = String, Path, min_length = 1, max_length = 128, description = "The endpoint name")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "There is no such home, or the device is not in it", body = Problem),
    ))]
pub(in crate::api) async fn remove(
    State(state): State<ApiState>,
    scope: Scope,
    Path((home, endpoint)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let key = key(&scope, &home)?;
    state.store.take_from_home(&key, &endpoint).await?;
    Ok(StatusCode::NO_CONTENT)
}
