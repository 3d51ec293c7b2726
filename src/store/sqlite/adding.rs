//! Devices that the operator adds: what is there already, what becomes of each, and what is written.

use std::collections::{BTreeSet, HashMap};

use sqlx::SqliteConnection;

use super::{
    Doing, attributes,
    bulk::json_list,
    credentials::{self, holders, set_key, token_holders},
    device_writes::{New, adopt, insert_chunk, products},
    gateways, rows, tenancy,
};
use crate::{
    clock::UtcMillis,
    ledger::{Attributes, AttributesChanged, Protocol, Relative, Via, ViaError, check_via},
    store::{AddedDevice, MqttCredential, NewDevice, StoreError, StoredMqtt},
    tenant,
};

const DOING: &str = "adding devices";

/// A device that is there, with its attributes.
struct There {
    attributes: Attributes,
    changed: AttributesChanged,
}

/// What is there, and what is to be written.
struct Adding<'d> {
    /// The products of devices that are there.
    products: HashMap<String, String>,
    /// What those of them speak that are given a credential.
    protocols: HashMap<String, Protocol>,
    /// Who has the tokens that are given.
    token_holders: HashMap<Vec<u8>, String>,
    /// Devices that are given a gateway or what they show over MQTT, and the gateways, as they are with what is written here.
    relatives: HashMap<String, Relative>,
    /// Any device is given one of these.
    kin: bool,
    /// Those that are there and have another gateway from now on.
    moved: Vec<(&'d str, &'d str)>,
    /// Those of them that attributes are given for.
    there: HashMap<String, There>,
    /// Who has the identities that are given.
    holders: HashMap<String, String>,
    new: Vec<New<'d>>,
    /// Where in `new` a device is.
    places: HashMap<&'d str, usize>,
    keyed: Vec<&'d NewDevice>,
}

/// Adds devices in the transaction. Gives one answer per device, in their order.
pub(super) async fn add(
    conn: &mut SqliteConnection,
    devices: &[NewDevice],
    now: UtcMillis,
) -> Result<Vec<AddedDevice>, StoreError> {
    let mut adding = Adding::read(conn, devices).await?;
    let answers = devices.iter().map(|device| adding.judge(device)).collect();
    let owners = (adding.new.iter()).map(|new| tenant::owner(&new.device.product));
    for owner in owners.collect::<BTreeSet<_>>() {
        tenancy::check_named(conn, owner).await?;
    }
    let mut revision = rows::revision(conn).await?;
    adopt(conn, devices, &mut revision).await.doing(DOING)?;
    adding.write(conn, &mut revision, now).await.doing(DOING)?;
    rows::set_revision(conn, revision).await.doing(DOING)?;
    Ok(answers)
}

/// Devices that are given a gateway or what they show over MQTT, and the gateways.
fn kin(devices: &[NewDevice]) -> Vec<String> {
    let mut kin = Vec::new();
    for device in devices {
        if device.via.is_some() || device.mqtt.is_some() {
            kin.push(device.endpoint.clone());
            kin.extend(device.via.clone());
        }
    }
    kin
}

/// Who has the token that a device is given, where that is another.
fn taken(holders: &mut HashMap<Vec<u8>, String>, device: &NewDevice) -> Option<String> {
    let hash = device.mqtt.as_ref()?.token_hash.as_ref()?;
    let holder = (holders.entry(hash.clone())).or_insert_with(|| device.endpoint.clone());
    (*holder != device.endpoint).then(|| holder.clone())
}

/// What devices speak that are there and were not removed.
async fn protocols(
    conn: &mut SqliteConnection,
    endpoints: String,
) -> Result<HashMap<String, Protocol>, StoreError> {
    let found: Vec<(String, String)> = sqlx::query_as(
        "SELECT endpoint, protocol FROM devices WHERE removed = 0 AND endpoint IN (SELECT j.value FROM json_each(?) j)",
    )
    .bind(endpoints)
    .fetch_all(conn)
    .await
    .doing(DOING)?;
    let found = found.into_iter();
    found
        .map(|(endpoint, name)| Ok((endpoint, credentials::protocol(&name)?)))
        .collect()
}

impl<'d> Adding<'d> {
    async fn read(conn: &mut SqliteConnection, devices: &[NewDevice]) -> Result<Self, StoreError> {
        let products = products(conn, devices).await?;
        let identities = devices.iter().filter_map(|device| device.psk.as_ref());
        let identities = identities.map(|psk| psk.identity.as_str());
        let holders = holders(conn, identities).await?;
        let tokens =
            (devices.iter()).filter_map(|device| device.mqtt.as_ref()?.token_hash.as_deref());
        let token_holders = token_holders(conn, tokens).await?;
        let given = devices.iter().filter(|device| device.mqtt.is_some());
        let given: Vec<&str> = given.map(|device| device.endpoint.as_str()).collect();
        let protocols = if given.is_empty() {
            HashMap::new()
        } else {
            protocols(conn, json_list(given)).await?
        };
        let kin = kin(devices);
        let has_kin = !kin.is_empty();
        let relatives = gateways::relatives(conn, kin).await?;
        let described: Vec<&str> = (devices.iter())
            .filter(|device| !device.attributes.is_empty())
            .map(|device| device.endpoint.as_str())
            .filter(|endpoint| products.contains_key(*endpoint))
            .collect();
        let mut there = HashMap::new();
        if !described.is_empty() {
            let changed = AttributesChanged::default();
            let found = attributes::of_devices(conn, json_list(described)).await?;
            there.extend(found.into_iter().map(|(endpoint, attributes)| {
                let there = There {
                    attributes,
                    changed,
                };
                (endpoint, there)
            }));
        }
        Ok(Self {
            products,
            protocols,
            token_holders,
            kin: has_kin,
            relatives,
            moved: Vec::new(),
            there,
            holders,
            new: Vec::new(),
            places: HashMap::new(),
            keyed: Vec::new(),
        })
    }

    /// What becomes of a device.
    #[expect(clippy::too_many_lines, reason = "one case after the other")]
    fn judge(&mut self, device: &'d NewDevice) -> AddedDevice {
        let place = self.places.get(device.endpoint.as_str()).copied();
        let other_protocol = self.other_protocol(device, place);
        let new = place.and_then(|place| self.new.get(place));
        let product = match &new {
            Some(new) => Some(&new.device.product),
            None => self.products.get(&device.endpoint),
        };
        if let Some(other) = product.filter(|product| **product != device.product) {
            return AddedDevice::OtherProduct(other.clone());
        }
        if let Some(other) = other_protocol {
            return AddedDevice::OtherProtocol(other);
        }
        let is_there = product.is_some();
        let there = self.there.get(&device.endpoint);
        let mut attributes = match (&new, &there) {
            _ if device.attributes.is_empty() => Attributes::default(),
            (Some(new), _) => new.attributes.clone(),
            (None, Some(there)) => there.attributes.clone(),
            (None, None) => Attributes::default(),
        };
        let moves = match self.moves(device) {
            Ok(moves) => moves,
            Err(error) => return AddedDevice::Via(error),
        };
        let changed = match attributes.apply(&device.attributes) {
            Ok(changed) => changed,
            Err(error) => return AddedDevice::Attributes(error),
        };
        if let Some(psk) = &device.psk {
            let holder = (self.holders.entry(psk.identity.clone()))
                .or_insert_with(|| device.endpoint.clone());
            if *holder != device.endpoint {
                return AddedDevice::IdentityTaken {
                    identity: psk.identity.clone(),
                    endpoint: holder.clone(),
                };
            }
        }
        if let Some(holder) = taken(&mut self.token_holders, device) {
            return AddedDevice::TokenTaken(holder);
        }
        if self.kin {
            self.relate(device, moves);
        }
        if !is_there {
            self.places.insert(&device.endpoint, self.new.len());
            self.new.push(New { device, attributes });
            return AddedDevice::Added;
        }
        let new = place.and_then(|place| self.new.get_mut(place));
        let there = self.there.get_mut(&device.endpoint);
        if changed.any() {
            match (new, there) {
                (Some(new), _) => new.attributes = attributes,
                (None, Some(there)) => {
                    there.attributes = attributes;
                    there.changed.attributes |= changed.attributes;
                    there.changed.tags |= changed.tags;
                }
                (None, None) => {}
            }
        }
        if let Some(via) = moves {
            self.moved.push((&device.endpoint, via));
        }
        if device.psk.is_some() || device.mqtt.is_some() {
            self.keyed.push(device);
            AddedDevice::KeySet
        } else if changed.any() || moves.is_some() {
            AddedDevice::Updated
        } else {
            AddedDevice::Unchanged
        }
    }

    /// The gateway through which the device is reached from now on, where that is another one than before.
    fn moves(&self, device: &'d NewDevice) -> Result<Option<&'d str>, ViaError> {
        if device.via.is_none() && device.mqtt.is_none() {
            return Ok(None);
        }
        let known = self.relatives.get(&device.endpoint);
        let mut its = known.cloned().unwrap_or_else(|| Relative {
            tenant: tenant::owner(&device.product).to_owned(),
            protocol: Protocol::Lwm2m,
            via: Via::Itself,
            children: 0,
        });
        if let Some(mqtt) = &device.mqtt {
            its.protocol = mqtt.protocol;
            let by_gateway = mqtt.credential == MqttCredential::Gateway;
            if by_gateway && its.children > 0 {
                return Err(ViaError::IsGateway(its.children));
            }
            let gateway = its.via.gateway().map(str::to_owned);
            if !by_gateway && (gateway.is_some() || device.via.is_some()) {
                return Err(ViaError::OwnConnection);
            }
            its.via = gateways::via(by_gateway, gateway);
        }
        let Some(via) = device.via.as_deref() else {
            return Ok(None);
        };
        if its.via.gateway() == Some(via) {
            return Ok(None);
        }
        check_via((&device.endpoint, &its), (via, self.relatives.get(via)))?;
        Ok(Some(via))
    }

    /// Takes note of how the device is reached, for those that come behind it.
    fn relate(&mut self, device: &NewDevice, moves: Option<&str>) {
        let by_gateway = |mqtt: &StoredMqtt| mqtt.credential == MqttCredential::Gateway;
        let its = (self.relatives)
            .entry(device.endpoint.clone())
            .or_insert_with(|| Relative {
                tenant: tenant::owner(&device.product).to_owned(),
                protocol: Protocol::Lwm2m,
                via: Via::Itself,
                children: 0,
            });
        let mut before = its.via.gateway().map(str::to_owned);
        if let Some(mqtt) = &device.mqtt {
            its.protocol = mqtt.protocol;
            its.via = gateways::via(by_gateway(mqtt), before.clone());
        }
        let Some(gateway) = moves else {
            return;
        };
        its.via = Via::Gateway(Some(gateway.to_owned()));
        if let Some(before) = before.take().and_then(|it| self.relatives.get_mut(&it)) {
            before.children = before.children.saturating_sub(1);
        }
        if let Some(its) = self.relatives.get_mut(gateway) {
            its.children += 1;
        }
    }

    /// What a device speaks that is there, where it is to be added as one that speaks another.
    fn other_protocol(&self, device: &NewDevice, place: Option<usize>) -> Option<Protocol> {
        let given = device.mqtt.as_ref()?.protocol;
        let before = match place.and_then(|place| self.new.get(place)) {
            Some(New { device, .. }) => {
                (device.mqtt.as_ref()).map_or(Protocol::Lwm2m, |it| it.protocol)
            }
            None => *self.protocols.get(&device.endpoint)?,
        };
        (before != given).then_some(before)
    }

    async fn write(
        self,
        conn: &mut SqliteConnection,
        revision: &mut i64,
        now: UtcMillis,
    ) -> Result<(), sqlx::Error> {
        for chunk in self.new.chunks(rows::CHUNK) {
            insert_chunk(conn, chunk, revision, now).await?;
        }
        if !self.new.is_empty() {
            end_others_exclusions(conn, &self.new).await?;
        }
        for (device, gateway) in &self.moved {
            *revision += 1;
            sqlx::query("UPDATE devices SET via = ?, revision = ? WHERE endpoint = ?")
                .bind(*gateway)
                .bind(*revision)
                .bind(*device)
                .execute(&mut *conn)
                .await?;
        }
        for device in &self.keyed {
            set_key(conn, device, revision).await?;
        }
        let tags = self.tags();
        let mut changed: Vec<(String, Attributes)> = (self.there.into_iter())
            .filter(|(_, there)| there.changed.attributes)
            .map(|(endpoint, there)| (endpoint, there.attributes))
            .collect();
        changed.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        attributes::write(conn, &changed).await?;
        attributes::write_tags(conn, tags).await
    }

    /// The tags of devices that are new, or have other ones now.
    fn tags(&self) -> Option<String> {
        let new = (self.new.iter()).map(|new| (new.device.endpoint.as_str(), &new.attributes));
        let there = (self.there.iter())
            .filter(|(_, there)| there.changed.tags)
            .map(|(endpoint, there)| (endpoint.as_str(), &there.attributes));
        attributes::tag_list(new.chain(there).flat_map(|(endpoint, attributes)| {
            let tags = attributes.tags.iter();
            tags.map(move |(key, value)| (endpoint, key.as_str(), value.as_str()))
        }))
    }
}

/// What another tenant has said of a device of the same name is no matter of this one.
async fn end_others_exclusions(
    conn: &mut SqliteConnection,
    new: &[New<'_>],
) -> Result<(), sqlx::Error> {
    let owned = |new: &New<'_>| {
        let owner = tenant::owner(&new.device.product).to_owned();
        (new.device.endpoint.clone(), owner)
    };
    sqlx::query(
        "DELETE FROM exclusions WHERE endpoint IN (SELECT e.endpoint FROM json_each(?) j \
             CROSS JOIN exclusions e ON e.endpoint = j.value ->> 0 WHERE e.tenant <> j.value ->> 1)",
    )
    .bind(json_list(new.iter().map(owned)))
    .execute(conn)
    .await
    .map(drop)
}
