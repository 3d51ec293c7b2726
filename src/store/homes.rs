//! Homes of end users: who is in them, and which devices.

use async_trait::async_trait;
use thiserror::Error;

use super::{DeviceDetail, DeviceUpgrade, Page, StoreError, UpgradeState};
use crate::{
    clock::UtcMillis,
    home::{
        BATTERY_TAG, DeviceNow, HomeKey, MAX_HOME_DEVICES, MAX_MEMBERS, OfferId, QuietHours, Role,
        Seen, Stand, Told, UserId, UserKey,
    },
    ledger::{Progress, QueueMode, UpgradeId},
    tenant::TenantId,
};

/// Homes of a tenant at most.
pub const MAX_HOMES: u32 = 2_000_000;
/// Homes of one request at most.
pub const MAX_HOMES_AT_ONCE: usize = 10_000;
/// Homes in which one user is a member at most: more are not told.
pub const MAX_HOMES_OF_USER: u32 = 100;

/// A home as it is to be. Putting the same again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutHome {
    /// Which it is.
    pub key: HomeKey,
    /// What people call it, 1 to [`crate::home::MAX_NAME`] characters.
    pub name: String,
    /// Its time zone, an IANA name.
    pub zone: String,
    /// When nothing begins by itself there.
    pub quiet: Option<QuietHours>,
    /// Everybody who is in it; `None`: they stay as they are.
    pub members: Option<Vec<(UserId, Role)>>,
    /// All devices that are in it; `None`: they stay as they are. One that is there already keeps its switch.
    pub devices: Option<Vec<PutHomeDevice>>,
}

/// A device as it is to be in a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutHomeDevice {
    /// Its endpoint name. It is one of the home's tenant, and in no other home.
    pub endpoint: String,
    /// What people call it there.
    pub name: Option<String>,
    /// What shows it there.
    pub icon: Option<String>,
}

/// What came of putting a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HomePut {
    /// It is new.
    Added,
    /// It was there and is other now.
    Changed,
    /// It was there as it is.
    Unchanged,
}

/// A home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeRecord {
    /// Its number: the order in which homes were added.
    pub number: i64,
    /// Which it is.
    pub key: HomeKey,
    /// What people call it.
    pub name: String,
    /// Its time zone, an IANA name.
    pub zone: String,
    /// When nothing begins by itself there.
    pub quiet: Option<QuietHours>,
    /// How many members it has.
    pub members: u32,
    /// How many devices it has.
    pub devices: u32,
    /// When it was added.
    pub created_at: UtcMillis,
    /// Another number after each change of it, its members and its devices.
    pub revision: i64,
}

/// Somebody in a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRecord {
    /// Who.
    pub user: UserId,
    /// What the user is there.
    pub role: Role,
    /// Since when.
    pub added_at: UtcMillis,
}

/// A device in a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeDeviceRecord {
    /// Its endpoint name.
    pub endpoint: String,
    /// What people call it there.
    pub name: Option<String>,
    /// What shows it there.
    pub icon: Option<String>,
    /// Whether it upgrades by itself.
    pub automatic: bool,
    /// Since when it is there.
    pub added_at: UtcMillis,
}

/// A device in a home, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeDevice {
    /// What the home says of it.
    pub here: HomeDeviceRecord,
    /// The device: product, version, when it was heard, coverage, whether it sleeps, whether it is excluded.
    pub device: DeviceDetail,
    /// Upgrades that have not ended, of whatever task, oldest first, up to [`crate::home::MAX_STARTED`].
    pub open: Vec<HomeUpgrade>,
    /// The one that ended last since the device is in this home.
    pub last: Option<HomeUpgrade>,
    /// A start that waits for the user's word, until it is too late.
    pub waits: Option<WaitingStart>,
}

/// An upgrade of a device in a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeUpgrade {
    /// The upgrade.
    pub upgrade: DeviceUpgrade,
    /// The offer of which it is; `None`: it is of an operator's own task.
    pub offer: Option<OfferId>,
}

impl HomeDevice {
    /// What of it matters to what is offered.
    pub fn now(&self) -> DeviceNow<'_> {
        let battery = self.device.attributes.tags.get(BATTERY_TAG);
        DeviceNow {
            version: self.device.device.version.as_ref(),
            battery_percent: battery.and_then(|text| text.trim().parse().ok()),
            rsrp_dbm: (self.device.device.coverage).and_then(|it| it.coverage.rsrp_dbm),
        }
    }

    /// Whether it is a device of low power, which listens after its own messages only.
    pub fn sleeps(&self) -> bool {
        let registration = self.device.device.registration.as_ref();
        registration.is_some_and(|it| it.queue_mode == QueueMode::On)
    }
}

impl HomeUpgrade {
    /// How it stands, as applications know it. `asleep`: its device sleeps at this moment.
    pub fn told(&self, asleep: bool) -> Told {
        let upgrade = &self.upgrade.upgrade;
        let reason = (upgrade.outcome.as_ref()).map_or("", |outcome| outcome.reason.as_str());
        let stand = match upgrade.state {
            UpgradeState::Pending => Stand::Waiting,
            UpgradeState::Active(stage) => Stand::Active(stage),
            UpgradeState::Succeeded => Stand::Succeeded(reason),
            UpgradeState::Failed => Stand::Failed(reason),
            UpgradeState::Cancelled => Stand::Cancelled(reason),
        };
        Told::of(&Seen {
            stand,
            percent: upgrade.progress.map(Progress::percent),
            confirmed: upgrade.stage.as_ref().is_some_and(|it| it.confirmed),
            asleep,
        })
    }
}

/// A start that met a weak signal, and waits for the user's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingStart {
    /// What is to be started, in this order.
    pub offers: Vec<OfferId>,
    /// Since when.
    pub since: UtcMillis,
    /// Until when: from then on there is nothing that waits.
    pub until: UtcMillis,
}

/// Why a home stays as it is.
#[derive(Debug, Error)]
pub enum HomeError {
    /// There is none.
    #[error("there is no home {0:?}")]
    NotFound(String),
    /// Nobody of that name is in it.
    #[error("home {home:?} has no such member")]
    NoMember {
        /// The home.
        home: String,
    },
    /// It is not in it.
    #[error("device {endpoint:?} is not in home {home:?}")]
    NoDevice {
        /// The home.
        home: String,
        /// The device.
        endpoint: String,
    },
    /// The tenant has no such device.
    #[error("there is no device {0:?}; add it first (POST /v1/devices)")]
    UnknownDevice(String),
    /// It is in another one.
    #[error("device {endpoint:?} is in home {home:?} already; take it out of that first")]
    Elsewhere {
        /// The device.
        endpoint: String,
        /// Where it is.
        home: String,
    },
    /// As many as there may be.
    #[error("there are {MAX_HOMES} homes already; delete some first")]
    TooMany,
    /// As many as there may be.
    #[error("a home has {MAX_MEMBERS} members at most")]
    TooManyMembers,
    /// As many as there may be.
    #[error("a home has {MAX_HOME_DEVICES} devices at most")]
    TooManyDevices,
    /// Somebody has changed it since it was seen.
    #[error("home {home:?} was changed meanwhile: it has revision {revision}; look at it again")]
    Changed {
        /// The home.
        home: String,
        /// What it has now; 0 where there is none.
        revision: i64,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Homes, who is in them, and which devices.
#[async_trait]
pub trait Homes: Send + Sync + 'static {
    /// Adds a home or makes it so. With `seen` only if that is its revision, 0 of one that is not there.
    async fn put_home(
        &self,
        home: &PutHome,
        seen: Option<i64>,
        now: UtcMillis,
    ) -> Result<(HomeRecord, HomePut), HomeError>;

    /// The same of up to [`MAX_HOMES_AT_ONCE`]: each is put, or refused, by itself. Answers in their order.
    async fn put_homes(
        &self,
        homes: &[PutHome],
        now: UtcMillis,
    ) -> Result<Vec<Result<HomePut, HomeError>>, StoreError>;

    /// Deletes a home: its members are in it no more, and its devices in none. Upgrades go on. With `seen` only if that is its revision.
    async fn delete_home(&self, home: &HomeKey, seen: Option<i64>) -> Result<(), HomeError>;

    /// A home.
    async fn home(&self, home: &HomeKey) -> Result<Option<HomeRecord>, StoreError>;

    /// Homes of these tenants or of all, with numbers below `before`, newest first.
    async fn homes(
        &self,
        tenants: Option<&[TenantId]>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Page<HomeRecord>, StoreError>;

    /// The homes that a user is in, and as what, oldest first, up to [`MAX_HOMES_OF_USER`].
    async fn homes_of(&self, user: &UserKey) -> Result<Vec<(HomeRecord, Role)>, StoreError>;

    /// What a user is in a home; `None`: nobody, or there is no such home.
    async fn role_in(&self, home: &HomeKey, user: &UserId) -> Result<Option<Role>, StoreError>;

    /// Everybody who is in a home, by their names; nobody where there is none.
    async fn members(&self, home: &HomeKey) -> Result<Vec<MemberRecord>, StoreError>;

    /// Has a user be in a home, as that.
    async fn put_member(
        &self,
        home: &HomeKey,
        user: &UserId,
        role: Role,
        now: UtcMillis,
    ) -> Result<MemberRecord, HomeError>;

    /// Has a user be in a home no more.
    async fn remove_member(&self, home: &HomeKey, user: &UserId) -> Result<(), HomeError>;

    /// The devices in a home, by their endpoint names; none where there is no such home.
    async fn devices_in(&self, home: &HomeKey) -> Result<Vec<HomeDeviceRecord>, StoreError>;

    /// Has a device be in a home.
    async fn put_in_home(
        &self,
        home: &HomeKey,
        device: &PutHomeDevice,
        now: UtcMillis,
    ) -> Result<HomeDeviceRecord, HomeError>;

    /// Takes a device out of a home. Its upgrades go on.
    async fn take_from_home(&self, home: &HomeKey, endpoint: &str) -> Result<(), HomeError>;

    /// Has a device upgrade by itself, or not.
    async fn set_automatic(
        &self,
        home: &HomeKey,
        endpoint: &str,
        on: bool,
    ) -> Result<HomeDeviceRecord, HomeError>;

    /// In which home a device of a tenant is.
    async fn home_of(
        &self,
        tenant: &TenantId,
        endpoint: &str,
    ) -> Result<Option<HomeKey>, StoreError>;

    /// The devices in a home, by their endpoint names, and how each stands at `now`. `endpoint`: that one alone, if it is there.
    async fn home_devices(
        &self,
        home: &HomeKey,
        endpoint: Option<&str>,
        now: UtcMillis,
    ) -> Result<Vec<HomeDevice>, StoreError>;

    /// Upgrades of a device that were created since it is in this home, with numbers below `before`, newest first.
    async fn home_history(
        &self,
        home: &HomeKey,
        endpoint: &str,
        before: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Page<HomeUpgrade>, StoreError>;

    /// Has applications told of up to `limit` upgrades, of devices in homes, that have come to wait for the word of a home
    /// (`upgrade.awaiting`). Returns how many were looked at: less than `limit` where nothing is left.
    async fn ask_homes(&self, limit: u32, now: UtcMillis) -> Result<u64, StoreError>;
}
