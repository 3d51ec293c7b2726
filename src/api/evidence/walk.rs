//! Along the devices of several products, in parts.

use super::DeviceEvidence;
use crate::{
    api::problem::Problem,
    store::{MendedProduct, Store, StoreError},
};

/// Devices of one part: others get their turn at the database between two.
pub(super) const ROWS: u32 = 2_000;

/// Where somebody is among the devices.
pub(super) struct Walk {
    products: Vec<MendedProduct>,
    /// Which of the products.
    at: usize,
    /// The device that was passed last.
    behind: Option<String>,
    /// The part that was read last has the last devices of its product.
    last: bool,
    /// The last device of that part.
    end: Option<String>,
}

impl Walk {
    /// Before the first device.
    pub(super) fn new(products: Vec<MendedProduct>) -> Self {
        Self {
            products,
            at: 0,
            behind: None,
            last: false,
            end: None,
        }
    }

    /// All products.
    pub(super) fn products(&self) -> &[MendedProduct] {
        &self.products
    }

    /// To behind a [`place`](Self::place).
    pub(super) fn go_behind(&mut self, place: &str) -> Result<(), Problem> {
        let wrong = || Problem::field("cursor", "this is no cursor of this list");
        // no product has a space in its name
        let (product, endpoint) = place.split_once(' ').ok_or_else(wrong)?;
        // it may have no package any more that mends
        self.at = (self.products).partition_point(|it| it.product.as_str() < product);
        let same = self
            .products
            .get(self.at)
            .is_some_and(|it| it.product == product);
        self.behind = same.then(|| endpoint.to_owned());
        Ok(())
    }

    /// Up to `rows` devices; fewer, or none, at the end of a product. `None` when there are no more.
    pub(super) async fn next(
        &mut self,
        store: &dyn Store,
        rows: u32,
    ) -> Result<Option<Vec<DeviceEvidence>>, StoreError> {
        if self.last && self.behind == self.end {
            (self.at, self.behind) = (self.at + 1, None);
        }
        let Some(product) = self.products.get(self.at) else {
            return Ok(None);
        };
        let page = (store.reach(product, self.behind.as_deref(), rows)).await?;
        self.last = !page.more;
        self.end = match page.items.last() {
            Some(last) => Some(last.endpoint.clone()),
            None => self.behind.clone(),
        };
        let devices = page.items.into_iter();
        let devices = devices.map(|reach| DeviceEvidence::new(product, reach));
        Ok(Some(devices.collect()))
    }

    /// The device of the last part that was dealt with.
    pub(super) fn passed(&mut self, device: &DeviceEvidence) {
        self.behind = Some(device.endpoint.clone());
    }

    /// Behind which device to go on; `None` when there are no more.
    pub(super) fn place(&self) -> Option<String> {
        let done = self.last && self.behind == self.end;
        if done && self.at + 1 >= self.products.len() || self.at >= self.products.len() {
            return None;
        }
        let product = &self.products[self.at].product;
        Some(format!("{product} {}", self.behind.as_deref()?))
    }
}
