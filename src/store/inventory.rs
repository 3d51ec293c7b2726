use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use async_trait::async_trait;

use super::{
    AddedDevice, DeviceChange, DeviceDetail, DeviceFilter, DevicePage, DeviceUpdate,
    EndExclusionError, ExcludeError, Excluded, Exclusion, NewDevice, Page, StoreError, StoredMqtt,
    StoredPsk, UpdateDeviceError, Within,
};
use crate::{clock::UtcMillis, filter::Filter};

/// The devices as the operator knows them.
#[async_trait]
pub trait Inventory: Send + Sync + 'static {
    /// Adds devices, or adds removed ones again, and sets the attributes of those that are there. Gives one answer per
    /// device, in their order.
    async fn add_devices(
        &self,
        devices: &[NewDevice],
        now: UtcMillis,
    ) -> Result<Vec<AddedDevice>, StoreError>;

    /// A device, unless it was removed.
    async fn device(&self, endpoint: &str) -> Result<Option<DeviceDetail>, StoreError>;

    /// Devices that `filter` lets through, ordered by endpoint, after `after`.
    async fn devices(
        &self,
        filter: &DeviceFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<DevicePage, StoreError>;

    /// Those of these endpoints that are there, in no certain order. Name some thousand at most.
    async fn devices_named(&self, endpoints: &[String]) -> Result<Vec<DeviceDetail>, StoreError>;

    /// Which device has the token of each of these marks ([`StoredMqtt::token_hash`](super::StoredMqtt)), as far as any has. Name some
    /// thousand at most.
    async fn token_holders(
        &self,
        marks: &[Vec<u8>],
    ) -> Result<HashMap<Vec<u8>, String>, StoreError>;

    /// Those of these endpoints whose device is there and which `filter` lets through; relative times are before `now`. Name some
    /// thousand at most.
    async fn let_through(
        &self,
        endpoints: &[String],
        filter: &Filter,
        now: UtcMillis,
    ) -> Result<HashSet<String>, StoreError>;

    /// How many devices `filter` lets through. Devices that come and go meanwhile may be counted or not.
    async fn count_devices(&self, filter: &DeviceFilter) -> Result<u64, StoreError>;

    /// Changes what an operator may change about a device.
    async fn update_device(
        &self,
        endpoint: &str,
        update: &DeviceUpdate,
    ) -> Result<(), UpdateDeviceError>;

    /// How many devices are reached through the gateway, and the first `limit` of their endpoint names, in order.
    async fn children(&self, gateway: &str, limit: u32) -> Result<(u64, Vec<String>), StoreError>;

    /// Up to `limit` pre-shared keys of devices whose endpoint follows `after`, ordered by endpoint.
    async fn restore_keys(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, StoredPsk)>, StoreError>;

    /// How devices that speak MQTT show who they are, by their names: the first `limit` of those after `after`.
    async fn restore_mqtt(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, StoredMqtt)>, StoreError>;

    /// Removes a device: upgrades that wait end as failed (`device_removed`), those that run appear in
    /// [`super::Agenda::upgrades_to_stop`]. Returns whether there was such a device, `within` that where it is given.
    async fn remove_device(
        &self,
        endpoint: &str,
        seen: Option<i64>,
        within: Option<&Within>,
        now: UtcMillis,
    ) -> Result<bool, UpdateDeviceError>;

    /// Devices that the operator added, changed or removed after `revision`, oldest change first. A device
    /// that changed several times appears once, as it is now. A removed one appears again when an upgrade of it
    /// has ended, for [`Self::forget_removed`].
    async fn device_changes_since(
        &self,
        revision: i64,
        limit: u32,
    ) -> Result<Vec<DeviceChange>, StoreError>;

    /// Deletes a device that was removed, once none of its upgrades runs. Returns whether it is gone; it is
    /// not while an upgrade runs or when the operator has added it again.
    async fn forget_removed(&self, endpoint: &str) -> Result<bool, StoreError>;

    /// Removes up to `limit` devices that came by themselves, without the operator, whose registration ended within that time,
    /// which were not heard since, and which have no upgrade. Returns how many: they show among the changes.
    async fn remove_newcomers(
        &self,
        ended: Range<UtcMillis>,
        limit: u32,
    ) -> Result<u64, StoreError>;

    /// Excludes devices from upgrades, whether they are there or not: what waits on them does not begin, what runs goes on.
    /// An exclusion outlives the device. One that is excluded already gets the new reason. With `within` none is excluded unless all are
    /// there within that.
    async fn exclude(
        &self,
        endpoints: &[String],
        reason: &str,
        within: Option<&Within>,
        now: UtcMillis,
    ) -> Result<Excluded, ExcludeError>;

    /// An exclusion.
    async fn exclusion(&self, endpoint: &str) -> Result<Option<Exclusion>, StoreError>;

    /// Ends an exclusion. Returns whether there was one. With `seen` only if that is its revision, with `within` only if the device is
    /// there within that.
    async fn end_exclusion(
        &self,
        endpoint: &str,
        seen: Option<i64>,
        within: Option<&Within>,
    ) -> Result<bool, EndExclusionError>;

    /// Exclusions, ordered by endpoint, after `after`.
    async fn exclusions(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Exclusion>, StoreError>;
}
