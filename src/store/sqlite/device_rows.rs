//! What is read of devices, a few or a million.

use std::net::SocketAddr;

use serde::Deserialize;
use sqlx::{QueryBuilder, Sqlite};

use super::{
    attributes::{AttributesRow, attributes},
    credentials, evidence, gateways,
    packed::{self, Flag, packed},
    rhythm, rows,
};
use crate::{
    clock::UtcMillis,
    coap::Peer,
    ledger::{
        Announced, Binding, Coverage, CoverageReading, CoverageSource, DeviceRecord, Lwm2mVersion,
        QueueMode, Registration, UpgradeId,
    },
    package::Version,
    store::{DeviceDetail, DeviceFilter, StoreError},
};

/// A [`DeviceRow`], from `devices d`.
macro_rules! device {
    () => {
        "json_array(d.endpoint, d.product, d.secure, d.last_heard_at, d.coverage_at, d.coverage_cell, d.coverage_rsrp_dbm, \
         d.coverage_sinr_db, d.version, d.reg_location, d.reg_peer, d.reg_secured, \
         d.reg_lifetime_s, d.reg_expires_at, d.reg_registered_at, d.reg_queue_mode, d.reg_lwm2m_version, d.reg_binding, \
          d.reg_objects, d.reg_root_path, d.evidence, d.reg_message_id, d.wake_ups, d.appointment, d.protocol, d.via, \
          d.mqtt_credential IS 'gateway')"
    };
}

/// Devices with what the operator sees beside them, each a [`DetailRow`]. More conditions follow.
macro_rules! details {
    () => {
        concat!(
            "SELECT json_array(",
            device!(),
            ", d.psk_identity, d.created_at, \
                 (SELECT MIN(u.id) FROM upgrades u WHERE u.endpoint = d.endpoint AND u.phase = 1), \
                 d.coverage_source, ",
            attributes!(),
            ", (SELECT e.reason FROM exclusions e WHERE e.endpoint = d.endpoint), d.revision, d.mqtt_credential, \
             (SELECT g.most FROM gateway_limits g WHERE g.endpoint = d.endpoint)) AS line \
             FROM devices d WHERE d.removed = 0"
        )
    };
}

pub(super) const ONE: &str = packed!(details!(), " AND d.endpoint = ?");

/// Devices by their numbers, and beside them how many they are and the number of the last one.
pub(super) const RESTORE: &str = concat!(
    "SELECT group_concat(line, char(10)), COUNT(*), MAX(id) FROM (SELECT d.id, ",
    device!(),
    " AS line FROM devices d WHERE d.id > ? ORDER BY d.id LIMIT ?) AS found"
);

/// A device on which two upgrades run, which should not be, appears once.
pub(super) const RESTORE_BUSY: &str = packed!(
    "SELECT ",
    device!(),
    " AS line FROM upgrades u INDEXED BY upgrades_running_on CROSS JOIN devices d ON d.endpoint = u.endpoint \
     WHERE u.phase = 1 AND u.endpoint > ? \
         AND u.id = (SELECT MIN(r.id) FROM upgrades r WHERE r.endpoint = u.endpoint AND r.phase = 1) \
     ORDER BY u.endpoint LIMIT ?",
);

/// Those of a list of endpoint names, in no certain order.
pub(super) const NAMED: &str = packed!(
    details!(),
    " AND d.endpoint IN (SELECT j.value FROM json_each(?) j)"
);

/// The statement that lists devices by what has an index, each a [`DetailRow`].
pub(super) fn list(filter: &DeviceFilter, after: Option<&str>, limit: u32) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(packed::BEGIN);
    query.push(details!());
    if let Some(product) = &filter.product {
        query.push(" AND d.product = ").push_bind(product.clone());
    }
    if let Some(registered) = filter.registered {
        query.push(" AND d.registered = ").push_bind(registered);
    }
    // One lower end alone: of two, the database looks for the first and passes over what lies before the other.
    let after = after.unwrap_or_default();
    let prefix = filter.prefix.as_deref().unwrap_or_default();
    let from = if prefix > after { " >= " } else { " > " };
    query.push(" AND d.endpoint").push(from);
    query.push_bind(prefix.max(after).to_owned());
    if !prefix.is_empty() {
        // no character is above U+10FFFF
        let end = format!("{prefix}\u{10FFFF}");
        query.push(" AND d.endpoint < ").push_bind(end);
    }
    query
        .push(" ORDER BY d.endpoint LIMIT ")
        .push_bind(rows::one_more(limit))
        .push(packed::END);
    query
}

#[derive(Deserialize)]
pub(super) struct DetailRow<'r> {
    #[serde(borrow)]
    device: DeviceRow<'r>,
    psk_identity: Option<String>,
    created_at: UtcMillis,
    upgrade: Option<UpgradeId>,
    coverage_source: Option<&'r str>,
    attributes: AttributesRow,
    excluded: Option<String>,
    revision: i64,
    mqtt_credential: Option<&'r str>,
    gateway_limit: Option<u32>,
}

impl DetailRow<'_> {
    pub(super) fn detail(self) -> Result<DeviceDetail, StoreError> {
        Ok(DeviceDetail {
            device: self.device.record()?,
            psk_identity: self.psk_identity,
            mqtt_credential: (self.mqtt_credential)
                .map(credentials::mqtt_credential)
                .transpose()?,
            created_at: self.created_at,
            upgrade: self.upgrade,
            coverage_source: self.coverage_source.map(coverage_source).transpose()?,
            attributes: self.attributes.into(),
            excluded: self.excluded,
            gateway_limit: self.gateway_limit,
            revision: self.revision,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct DeviceRow<'r> {
    endpoint: String,
    product: String,
    secure: Flag,
    last_heard_at: Option<UtcMillis>,
    coverage_at: Option<UtcMillis>,
    cell: Option<u32>,
    rsrp_dbm: Option<i32>,
    sinr_db: Option<i32>,
    version: Option<Version>,
    location: Option<String>,
    peer: Option<&'r str>,
    secured: Flag,
    lifetime_s: Option<u32>,
    expires_at: Option<UtcMillis>,
    registered_at: Option<UtcMillis>,
    queue_mode: Option<Flag>,
    lwm2m_version: Option<&'r str>,
    binding: Option<&'r str>,
    objects: Option<String>,
    root_path: Option<String>,
    evidence: Option<String>,
    message_id: Option<u16>,
    wake_ups: Option<String>,
    appointment: Option<String>,
    protocol: &'r str,
    via: Option<String>,
    by_gateway: Flag,
}

impl DeviceRow<'_> {
    pub(super) fn record(mut self) -> Result<DeviceRecord, StoreError> {
        let coverage = Coverage {
            cell: self.cell,
            rsrp_dbm: self.rsrp_dbm,
            sinr_db: self.sinr_db,
        };
        Ok(DeviceRecord {
            coverage: self.coverage_at.map(|at| CoverageReading { coverage, at }),
            registration: self.registration()?,
            endpoint: self.endpoint,
            product: self.product,
            protocol: credentials::protocol(self.protocol)?,
            via: gateways::via(self.by_gateway.0, self.via),
            secure: self.secure.0,
            last_heard_at: self.last_heard_at,
            version: self.version,
            evidence: evidence::read(self.evidence.as_deref())?,
            wake_ups: rhythm::read("devices.wake_ups", self.wake_ups.as_deref())?,
            appointment: rhythm::read("devices.appointment", self.appointment.as_deref())?,
        })
    }

    fn registration(&mut self) -> Result<Option<Registration>, StoreError> {
        let Some(location) = self.location.take() else {
            return Ok(None);
        };
        let incomplete = || rows::unreadable("devices.reg_location", format!("{location} alone"));
        let peer = self.peer.ok_or_else(incomplete)?;
        let address = peer.parse::<SocketAddr>();
        Ok(Some(Registration {
            peer: Peer {
                address: address.map_err(|_| rows::unreadable("devices.reg_peer", peer))?,
                secured: self.secured.0,
            },
            lifetime_s: self.lifetime_s.ok_or_else(incomplete)?,
            expires_at: self.expires_at.ok_or_else(incomplete)?,
            registered_at: self.registered_at.ok_or_else(incomplete)?,
            message_id: self.message_id,
            queue_mode: match self.queue_mode.as_ref().ok_or_else(incomplete)? {
                Flag(true) => QueueMode::On,
                Flag(false) => QueueMode::Off,
            },
            lwm2m_version: self.lwm2m_version.map(lwm2m_version).transpose()?,
            binding: (self.binding)
                .map_or_else(Binding::default, |text| Binding::parse(text.as_bytes())),
            announced: self.objects.take().map(|objects| {
                let root_path = self.root_path.take();
                Box::new(Announced { objects, root_path })
            }),
            location,
        }))
    }
}

fn coverage_source(name: &str) -> Result<CoverageSource, StoreError> {
    let source = CoverageSource::from_name(name);
    source.ok_or_else(|| rows::unreadable("devices.coverage_source", name))
}

fn lwm2m_version(text: &str) -> Result<Lwm2mVersion, StoreError> {
    let version = text.parse();
    version.map_err(|()| rows::unreadable("devices.reg_lwm2m_version", text))
}

/// Leaves out a row that somebody has damaged: the others are not to suffer from it.
pub(super) fn readable(
    row: Result<DeviceRow<'_>, StoreError>,
) -> Result<Option<DeviceRecord>, StoreError> {
    match row.and_then(DeviceRow::record) {
        Ok(record) => Ok(Some(record)),
        Err(error @ StoreError::Unreadable { .. }) => {
            tracing::error!(%error, "a device is left out; remove it and add it again");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
