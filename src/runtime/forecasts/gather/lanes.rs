//! At which sites devices are, behind which gateways, and how many may upgrade at once there.

use std::collections::HashMap;

use super::{Gather, PART};
use crate::{
    forecast::{Lanes, LanesId},
    ledger::Lane,
    store::{DeviceDetail, StoreError},
    tenant,
};

impl Gather {
    /// What the operator says of single sites and gateways.
    pub(super) async fn lanes(&self) -> Result<Lanes, StoreError> {
        let mut own = HashMap::new();
        let mut revision = 0;
        loop {
            let changes = self.store.lane_limits_since(revision, PART).await?;
            let Some(last) = changes.last() else {
                return Ok(Lanes::new(own));
            };
            revision = last.revision;
            let said = changes.iter().filter_map(|it| Some((it.lane, it.limit?)));
            own.extend(said);
        }
    }

    /// Adds what products say of the gateways of these devices.
    pub(super) async fn add_products(&self, lanes: &mut Lanes) -> Result<(), StoreError> {
        let gateways: Vec<(Lane, String)> = (lanes.gateways())
            .map(|(lane, name)| (lane, name.to_owned()))
            .collect();
        let lane_of: HashMap<&str, Lane> = (gateways.iter())
            .map(|(lane, name)| (name.as_str(), *lane))
            .collect();
        let mut limits = HashMap::new();
        for part in gateways.chunks(PART as usize) {
            let names: Vec<String> = part.iter().map(|(_, name)| name.clone()).collect();
            for detail in self.store.devices_named(&names).await? {
                let device = &detail.device;
                let product = self.config.products.get(&device.product);
                let limit = product.and_then(|it| it.per_gateway);
                limits.extend(lane_of.get(device.endpoint.as_str()).copied().zip(limit));
            }
        }
        lanes.products_say(limits);
        Ok(())
    }
}

/// For which a device competes besides its cell.
pub(super) fn lanes_of(lanes: &mut Lanes, detail: &DeviceDetail) -> LanesId {
    let device = &detail.device;
    let site = detail.attributes.site.as_deref();
    let site = site.map(|site| (tenant::owner(&device.product), site));
    lanes.of(site, device.via.gateway())
}
