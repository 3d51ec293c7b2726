//! Gateways, and the devices that are reached through them.

use std::collections::BTreeMap;

use askama::Template;
use axum::{
    Router,
    extract::{Path, RawQuery},
    routing::get,
};

use super::{
    devices::{Device, quoted},
    names::call_of,
};
use crate::console::{
    Console,
    fields::encode,
    listed::{Listed, Pager, query},
    page::{Paged, page},
    viewer::Viewer,
};

/// Devices behind gateways that are looked at for a page.
const LOOKED_AT: u32 = 1_000;

/// The pages below `/gateways`.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/gateways", get(list))
        .route("/gateways/{endpoint}", get(show))
}

/// A gateway that devices name.
struct Named {
    endpoint: String,
    /// Of the devices of this page so many are reached through it, and upgrade.
    children: u64,
    upgrading: u64,
}

impl Named {
    fn page(&self) -> String {
        format!("/gateways/{}", encode(&self.endpoint))
    }
}

#[derive(Template)]
#[template(path = "fleet/gateways.html")]
struct ListPage<'a> {
    at: &'a Viewer,
    gateways: Vec<Named>,
    looked_at: usize,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "fleet/gateway.html")]
struct GatewayPage<'a> {
    at: &'a Viewer,
    gateway: Device,
    children: Vec<Device>,
    pager: Pager,
}

/// The API lists no gateways: they are found by the devices that name them.
async fn list(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = super::given(given);
    let cursor = given
        .some("cursor")
        .map(|it| format!("&cursor={}", encode(it)));
    let filter = encode("via==*");
    let cursor = cursor.unwrap_or_default();
    let path = format!("/v1/devices?limit={LOOKED_AT}&filter={filter}{cursor}");
    let found: Listed<Device> = viewer.get(&path).await?;
    let mut gateways = BTreeMap::<String, (u64, u64)>::new();
    for device in &found.items {
        if let Some(via) = &device.via {
            let (children, upgrading) = gateways.entry(via.clone()).or_default();
            *children += 1;
            *upgrading += u64::from(device.upgrade_id.is_some());
        }
    }
    let gateways = gateways.into_iter().map(|(endpoint, counts)| Named {
        endpoint,
        children: counts.0,
        upgrading: counts.1,
    });
    let pager = Pager::of(&viewer, "/gateways", &given, found.next_cursor.as_deref());
    Ok(page(&ListPage {
        at: &viewer,
        gateways: gateways.collect(),
        looked_at: found.items.len(),
        pager,
    }))
}

async fn show(viewer: Viewer, Path(endpoint): Path<String>, RawQuery(given): RawQuery) -> Paged {
    let given = super::given(given);
    let gateway: Device = viewer.get(&call_of(&endpoint)).await?;
    let filter = encode(&format!("via=={}", quoted(&endpoint)));
    let path = format!("/v1/devices?filter={filter}&{}", query(&given, &[]));
    let children: Listed<Device> = viewer.get(&path).await?;
    let own = format!("/gateways/{}", encode(&endpoint));
    let pager = Pager::of(&viewer, &own, &given, children.next_cursor.as_deref());
    Ok(page(&GatewayPage {
        at: &viewer,
        gateway,
        children: children.items,
        pager,
    }))
}
