//! What survives a restart: the trait [`Store`], a database in SQLite, one in memory, and the package files.
//!
//! A store has twenty-one concerns, each a trait. The shards have their changes committed and get their state back after a restart
//! ([`Ledger`]). An operator's intent is packages ([`Catalog`]), products with their settings and keys ([`Products`]), devices ([`Inventory`]),
//! groups of them ([`Groups`]), rules of cells ([`Cells`]), limits of sites ([`Sites`]) and tasks ([`Agenda`], which also tells the reconciler what may begin and
//! what has to be stopped). What became of it is read as upgrades with their timelines ([`Journal`]), drawn as series ([`Series`]),
//! told as events ([`Events`]), and looked at for a vulnerability ([`Reaches`]). What requests were answered is kept for those that
//! come twice ([`Answers`]), who is let in ([`Access`], [`Users`], [`SecondFactors`]), to whom things belong ([`Tenancy`]), and who has changed what ([`AuditLog`]).
//! End users have homes ([`Homes`]), are offered upgrades ([`Offers`]), and are known by their names alone ([`AppUsers`]). What a change means
//! stands in [`apply`], for every database.
//!
//! Lists are read in pages by key, never by offset: a page starts after the last key of the page
//! before it, so that a list of a million rows costs as much per page as a short one.

mod access;
mod agenda;
mod answers;
mod app_users;
pub mod apply;
mod audit;
mod catalog;
mod cells;
#[cfg(test)]
pub(crate) mod conformance;
mod error;
mod events;
mod facts;
mod files;
mod groups;
mod homes;
mod inventory;
mod journal;
mod kept;
mod ledger;
mod memory;
mod offers;
mod papers;
mod products;
mod reach;
mod records;
mod second_factors;
mod series;
mod sites;
mod sqlite;
mod targets;
mod tenancy;
mod users;

pub use access::{Access, AddTokenError, MAX_TOKENS, NewToken, TokenId, TokenRecord};
pub use agenda::Agenda;
pub use answers::{ANSWERS_KEPT_MS, Answer, Answers, Claim, MAX_ANSWERS};
pub use app_users::{
    AddAppTokenError, AppTokenRecord, AppUsers, MAX_APP_TOKENS, MAX_STARTS_TOLD, NewAppToken,
    REVOKED_FOR_MS, StartRecord, StartState, UserExport,
};
pub use audit::{Acting, AuditFilter, AuditHead, AuditLog};
pub use catalog::Catalog;
pub use cells::Cells;
pub use error::{
    CancelUpgradeError, ChangeTaskError, ChangeUpgradeError, CreateTaskError, DeletePackageError,
    DeleteTaskError, EarlierPackage, EndExclusionError, ExcludeError, InsertPackageError,
    OpenError, StopTaskError, StoreError, UpdateCellsError, UpdateDeviceError,
};
pub use events::{
    AddWebhookError, AttemptResult, Attempted, BusyWebhook, DeliveryId, DeliveryRecord,
    DeliveryState, DueDelivery, Event, Events, MAX_WEBHOOKS, MAX_WEBHOOKS_ALIKE, NewWebhook,
    OfferSeen, Subject, WeakStart, WebhookId, WebhookRecord,
};
pub use files::{
    Content, FileError, PACKAGES_DIRECTORY, PackageFiles, ReadError, SealedUpload, SweepError,
    Upload, UploadError, disk_bytes, free_bytes,
};
pub use groups::{
    GroupError, GroupId, GroupRecord, GroupUpdate, Groups, MAX_GROUPS, Members, NewGroup,
    NewMembers,
};
pub use homes::{
    HomeDevice, HomeDeviceRecord, HomeError, HomePut, HomeRecord, HomeUpgrade, Homes, MAX_HOMES,
    MAX_HOMES_AT_ONCE, MAX_HOMES_OF_USER, MemberRecord, PutHome, PutHomeDevice, WaitingStart,
};
pub use inventory::Inventory;
pub use journal::Journal;
pub use kept::{UnreadableSecret, webhook_secret};
pub use ledger::Ledger;
pub use memory::{CreatedTask, MemoryStore};
pub use offers::{
    CancelledStart, MAX_OFFERS, NewOffer, NewStart, OfferRecord, OfferStoreError, Offers,
    STARTS_KEPT, StartError, Started, Starter, Wanted,
};
pub use papers::{
    PackageSignature, Papers, PapersChange, SbomRecord, UpdatePackageError, UpdatedPackage,
};
pub use products::{
    AddKeyError, ImportProductsError, MAX_PRODUCT_KEYS, ProductKey, ProductRecord, ProductUpdate,
    ProductUses, Products, RemovedKey, Signatures, UpdateProductError,
};
pub use reach::{LatestUpgrade, MendedProduct, Reach, ReachPage, Reached, Reaches, Standing, Why};
pub use records::{
    AddedDevice, Again, Approval, BatchId, CellChange, CellDetail, CellRecord, CellUpdate,
    CommitReport, DeletedPackage, DeviceChange, DeviceDetail, DeviceFilter, DevicePage,
    DeviceUpdate, DeviceUpgrade, Excluded, Exclusion, InsertedPackage, ListedCell, MqttCredential,
    NewDevice, NewPackage, NewTask, OpenUpgrade, OpenUpgrades, Origin, OutcomeRecord, Overlap,
    Overlaps, PackageRecord, Page, QueueRecord, RestoredDevices, RunningUpgrade, Selection,
    SlotHolder, SoakRecord, SoakState, SoaksDue, StoredMqtt, StoredPsk, TaskChange, TaskPackages,
    TaskRecord, TimelineEntry, UpgradeDetail, UpgradeRecord, UpgradeState, UpgradeToStop, Within,
};
pub use second_factors::{Proof, SecondFactors};
pub use series::{CellPoint, LimitChange, Series, TaskPoint};
pub use sites::{
    LaneChanges, LaneLimit, MAX_SITE_LIMIT, MAX_SITES, SiteError, SiteKey, SiteRecord, Sites,
};
pub use sqlite::{DatabaseFile, Depth, FILE_NAME, KeptContent, SqliteStore, newest_known_step};
pub use targets::{Exclude, Joined, Narrowed, Targets};
pub use tenancy::{MAX_TENANTS, NewTenant, Tenancy, TenantCount, TenantError, TenantRecord};
pub use users::{
    AddUserError, Identity, IdentityUser, MAX_SESSIONS, MAX_USERS, NewSession, NewUser, UserChange,
    UserId, UserRecord, Users,
};

/// Cells of which what was learnt is kept: those of a carrier in which anything was upgraded lately.
pub const MOST_LEARNT: u32 = 100_000;

/// Everything durable. One conformance suite says what each operation does, whatever the database.
///
/// Every operation is atomic: it happened completely, or not at all. One that has returned `Ok` after
/// writing survives a power failure. Only the cancelling of a stopped task's upgrades may be seen half done; a crash in
/// between is made up for by [`Agenda::end_interrupted`].
pub trait Store:
    Ledger
    + Catalog
    + Products
    + Inventory
    + Groups
    + Cells
    + Sites
    + Agenda
    + Journal
    + Series
    + Reaches
    + Events
    + Answers
    + Access
    + AuditLog
    + Users
    + SecondFactors
    + Tenancy
    + Homes
    + Offers
    + AppUsers
{
}

impl<T> Store for T where
    T: Ledger
        + Catalog
        + Products
        + Inventory
        + Groups
        + Cells
        + Sites
        + Agenda
        + Journal
        + Series
        + Reaches
        + Events
        + Answers
        + Access
        + AuditLog
        + Users
        + SecondFactors
        + Tenancy
        + Homes
        + Offers
        + AppUsers
{
}
