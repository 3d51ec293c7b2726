//! What a filter asks of a device, as the database has it.

use std::borrow::Cow;

use super::DeviceDetail;
use crate::{
    clock::UtcMillis,
    filter::{Facts, FlagField, NumberField, TextField, TimeField},
    ledger::QueueMode,
    tenant,
};

impl Facts for DeviceDetail {
    fn text(&self, field: &TextField) -> Option<Cow<'_, str>> {
        let registration = self.device.registration.as_ref();
        let text = match field {
            TextField::Endpoint => Some(self.device.endpoint.as_str()),
            TextField::Tenant => Some(tenant::owner(&self.device.product)),
            TextField::Product => Some(tenant::product_name(&self.device.product)),
            TextField::Model => self.attributes.model.as_deref(),
            TextField::Hardware => self.attributes.hardware.as_deref(),
            TextField::Site => self.attributes.site.as_deref(),
            TextField::TimeZone => self.attributes.time_zone.as_deref(),
            TextField::Version => return self.device.version.map(|it| it.to_string().into()),
            TextField::Lwm2mVersion => {
                return registration?.lwm2m_version.map(|it| it.to_string().into());
            }
            TextField::Binding => {
                let it = registration?;
                let queue = if it.queue_mode == QueueMode::Off {
                    ""
                } else {
                    "Q"
                };
                return Some(format!("{}{queue}", it.binding).into());
            }
            TextField::Protocol => Some(self.device.protocol.name()),
            TextField::Via => self.device.via.gateway(),
            TextField::Tag(key) => self.attributes.tags.get(key).map(String::as_str),
        };
        text.map(Cow::Borrowed)
    }

    fn number(&self, field: NumberField) -> Option<i64> {
        let coverage = self.device.coverage.as_ref().map(|it| &it.coverage);
        match field {
            NumberField::Cell => coverage?.cell.map(i64::from),
            NumberField::Rsrp => coverage?.rsrp_dbm.map(i64::from),
            NumberField::Sinr => coverage?.sinr_db.map(i64::from),
            NumberField::WakeEvery => {
                let period_s = self.device.wake_ups.as_ref()?.period_s;
                (period_s > 0).then_some(period_s.into())
            }
        }
    }

    fn flag(&self, field: FlagField) -> Option<bool> {
        let registration = self.device.registration.as_ref();
        match field {
            FlagField::QueueMode => registration.map(|it| it.queue_mode != QueueMode::Off),
            FlagField::Registered => Some(registration.is_some()),
            FlagField::Secure => Some(self.device.secure),
        }
    }

    fn time(&self, field: TimeField) -> Option<UtcMillis> {
        match field {
            TimeField::LastHeard => self.device.last_heard_at,
            TimeField::Created => Some(self.created_at),
        }
    }
}
