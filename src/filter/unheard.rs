use std::borrow::Cow;

use super::{Facts, FlagField, NumberField, TextField, TimeField};
use crate::{clock::UtcMillis, tenant};

/// A device that was added without attributes, and was not heard yet.
#[derive(Debug, Clone, Copy)]
pub struct Unheard<'d> {
    /// Its endpoint name.
    pub endpoint: &'d str,
    /// The key of its product.
    pub product: &'d str,
    /// When it was added.
    pub created_at: UtcMillis,
}

impl Facts for Unheard<'_> {
    fn text(&self, field: &TextField) -> Option<Cow<'_, str>> {
        match field {
            TextField::Endpoint => Some(self.endpoint.into()),
            TextField::Tenant => Some(tenant::owner(self.product).into()),
            TextField::Product => Some(tenant::product_name(self.product).into()),
            // who comes by itself comes over CoAP
            TextField::Protocol => Some("lwm2m".into()),
            _ => None,
        }
    }

    fn number(&self, _: NumberField) -> Option<i64> {
        None
    }

    fn flag(&self, field: FlagField) -> Option<bool> {
        match field {
            FlagField::Registered | FlagField::Secure => Some(false),
            FlagField::QueueMode => None,
        }
    }

    fn time(&self, field: TimeField) -> Option<UtcMillis> {
        (field == TimeField::Created).then_some(self.created_at)
    }
}
