//! What completes a filter while it is typed: with values that the fleet has.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::RawQuery,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{
    Device,
    complete::{Place, Suggestion, Wanted, beginning, place},
};
use crate::console::{
    fields::encode,
    listed::Listed,
    login::raw,
    page::{Failure, Paged},
    tenants::several,
    viewer::Viewer,
};

/// Devices that are looked at for values.
const LOOKED_AT: u32 = 200;

#[derive(Debug, Deserialize)]
struct Product {
    product: String,
}

#[derive(Debug, Deserialize)]
struct Site {
    site: String,
}

/// What may stand where the cursor is.
pub(super) async fn complete(viewer: Viewer, RawQuery(query): RawQuery) -> Paged {
    let given = super::super::given(query);
    let text = raw(&given, "text");
    let at = given.get("at").parse().unwrap_or(usize::MAX);
    let Some(place) = place(text, at) else {
        return Ok(Json(Vec::<Suggestion>::new()).into_response());
    };
    let known = known(&viewer, &place).await?;
    Ok(answered(&place, text, &known))
}

fn answered(place: &Place, text: &str, known: &[String]) -> Response {
    Json(place.suggestions(text, known)).into_response()
}

async fn known(viewer: &Viewer, place: &Place) -> Result<Vec<String>, Failure> {
    let mut found = BTreeSet::new();
    match &place.wanted {
        Wanted::Field(typed) if typed.starts_with('t') => {
            let devices = devices(viewer, None).await?;
            found.extend(devices.into_iter().flat_map(|it| it.tags.into_keys()));
        }
        Wanted::Value(field, typed) => {
            if let Some(filter) = beginning(field, typed) {
                let devices = devices(viewer, Some(&filter)).await?;
                found.extend(devices.iter().filter_map(|it| value(it, field)));
            }
            found.extend(listed(viewer, field).await?);
        }
        _ => {}
    }
    Ok(found.into_iter().collect())
}

/// Values of lists of their own.
async fn listed(viewer: &Viewer, field: &str) -> Result<Vec<String>, Failure> {
    let named: Vec<String> = match field {
        "product" => {
            let found: Option<Listed<Product>> = viewer.look("/v1/products?limit=1000").await?;
            let items = found.into_iter().flat_map(|found| found.items);
            items.map(|it| it.product).collect()
        }
        "site" if viewer.may("list_sites") => {
            let found: Option<Listed<Site>> = viewer.look("/v1/sites?limit=1000").await?;
            let items = found.into_iter().flat_map(|found| found.items);
            items.map(|it| it.site).collect()
        }
        "tenant" => {
            let tenants = several(viewer).await?;
            tenants.into_iter().map(|(id, _)| id).collect()
        }
        _ => Vec::new(),
    };
    Ok(named)
}

/// Some devices. While somebody types, what is refused suggests nothing.
async fn devices(viewer: &Viewer, filter: Option<&str>) -> Result<Vec<Device>, Failure> {
    let filter = filter.map(|filter| format!("&filter={}", encode(filter)));
    let path = format!(
        "/v1/devices?limit={LOOKED_AT}{}",
        filter.unwrap_or_default()
    );
    match viewer.get::<Listed<Device>>(&path).await {
        Ok(found) => Ok(found.items),
        Err(Failure(problem)) if problem.status == 422 => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

/// What a device has in a field.
fn value(device: &Device, field: &str) -> Option<String> {
    if let Some(key) = field.strip_prefix("tag.") {
        return device.tags.get(key).cloned();
    }
    let registration = device.registration.as_ref();
    match field {
        "endpoint" => Some(device.endpoint.clone()),
        "product" => Some(device.product.clone()),
        "model" => device.model.clone(),
        "hardware" => device.hardware.clone(),
        "site" => device.site.clone(),
        "time_zone" => device.time_zone.clone(),
        "version" => device.version.clone(),
        "via" => device.via.clone(),
        "tenant" => device.tenant.clone(),
        "lwm2m_version" => registration?.lwm2m_version.clone(),
        "binding" => Some(registration?.binding.clone()),
        "cell" => Some(device.coverage.as_ref()?.cell_id?.to_string()),
        _ => None,
    }
}
