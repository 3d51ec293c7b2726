//! What is offered to end users, and what they start of it.

use async_trait::async_trait;
use thiserror::Error;

use super::{CreateTaskError, NewTask, Page, StoreError};
use crate::{
    clock::UtcMillis,
    home::{DeviceNow, Entry, HomeKey, OfferId, OfferTerms, Refusal, UserId, entry},
    ledger::{PackageId, TaskId, UpgradeId},
    package::Version,
    tenant::TenantId,
};

/// Offers of a tenant that stand at most.
pub const MAX_OFFERS: u32 = 1_000;
/// Starts of a device that are kept.
pub const STARTS_KEPT: u32 = 50;

/// Something to be offered.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOffer {
    /// Whose offer it is.
    pub tenant: TenantId,
    /// On which terms.
    pub terms: OfferTerms,
    /// Its standing task: name, package, windows, budgets, limits. It is for no device until somebody at home starts it, so that its selection is not looked at,
    /// and it takes devices up as long as it runs, whatever its rules say of that.
    pub task: NewTask,
}

/// Something that is offered.
#[derive(Debug, Clone, PartialEq)]
pub struct OfferRecord {
    /// Its number.
    pub id: OfferId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The product whose devices it is for, as [`TenantId::product_key`].
    pub product: String,
    /// The package.
    pub package: PackageId,
    /// The version to which it leads.
    pub version: Version,
    /// Bytes of the package.
    pub size_bytes: u64,
    /// SHA-256 of the package, hexadecimal.
    pub sha256: String,
    /// MD5 of the package, hexadecimal, where that is known.
    pub md5: Option<String>,
    /// Its standing task.
    pub task: TaskId,
    /// A device may be given a version below the one that it runs.
    pub allow_downgrade: bool,
    /// On which terms.
    pub terms: OfferTerms,
    /// When it was published.
    pub published_at: UtcMillis,
    /// When it was withdrawn.
    pub withdrawn_at: Option<UtcMillis>,
    /// Counts its changes, from 1.
    pub revision: i64,
}

impl OfferRecord {
    /// What it is to a device; `until` is told where the signal is weak.
    pub fn entry(&self, device: &DeviceNow<'_>, until: UtcMillis) -> Entry {
        entry(
            &self.terms,
            &self.version,
            self.allow_downgrade,
            device,
            until,
        )
    }
}

/// Why nothing is offered, or an offer stays as it is.
#[derive(Debug, Error)]
pub enum OfferStoreError {
    /// There is none.
    #[error("there is no offer {}", .0.0)]
    NotFound(OfferId),
    /// It was withdrawn.
    #[error("offer {} was withdrawn; publish another one", .0.0)]
    Withdrawn(OfferId),
    /// As many as there may be.
    #[error("{MAX_OFFERS} offers stand already; withdraw one first")]
    TooMany,
    /// Somebody has changed it since it was seen.
    #[error("offer {} was changed meanwhile: it has revision {revision}; look at it again", .id.0)]
    Changed {
        /// The offer.
        id: OfferId,
        /// What it has now.
        revision: i64,
    },
    /// Its task cannot be.
    #[error(transparent)]
    Task(#[from] CreateTaskError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// On whose word something is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Starter {
    /// This user's.
    User(UserId),
    /// The device's own switch.
    Automatic,
}

/// What somebody has seen of an offer, and wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The offer.
    pub offer: OfferId,
    /// To which version it led. Another one is [`Refusal::Stale`]; `None`: whatever it leads to.
    pub target: Option<Version>,
    /// Which version the device was said to run. Another one is [`Refusal::Stale`]; `None`: whatever it runs. Of several it is looked
    /// at in the first.
    pub current: Option<Version>,
}

/// Upgrades of one device to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewStart {
    /// The home.
    pub home: HomeKey,
    /// The device in it.
    pub endpoint: String,
    /// What, in this order: each leads on from the one before. 1 to [`crate::home::MAX_STARTED`].
    pub wanted: Vec<Wanted>,
    /// On whose word.
    pub by: Starter,
    /// Now.
    pub now: UtcMillis,
}

/// An upgrade that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The offer.
    pub offer: OfferId,
    /// The upgrade in its standing task.
    pub upgrade: UpgradeId,
    /// It was open already: it was started before.
    pub again: bool,
}

/// What was cancelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelledStart {
    /// Upgrades that have ended, or end within moments.
    pub upgrades: Vec<UpgradeId>,
    /// A start that waited for the user's word waits no more.
    pub waited: bool,
}

/// Why nothing was started, cancelled or continued.
#[derive(Debug, Error)]
pub enum StartError {
    /// The home is not there, or the device is not in it.
    #[error("device {endpoint:?} is not in home {home:?}")]
    NotFound {
        /// The home.
        home: String,
        /// The device.
        endpoint: String,
    },
    /// It is not to be.
    #[error("{refusal}")]
    Refused {
        /// The offer, where it is about one.
        offer: Option<OfferId>,
        /// Why.
        refusal: Refusal,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is offered to end users.
#[async_trait]
pub trait Offers: Send + Sync + 'static {
    /// Publishes an offer, and creates its standing task.
    async fn publish_offer(&self, new: &NewOffer) -> Result<OfferRecord, OfferStoreError>;

    /// Has an offer stand on other terms. What was started goes on. With `seen` only if that is its revision.
    async fn change_offer(
        &self,
        tenant: &TenantId,
        id: OfferId,
        terms: &OfferTerms,
        seen: Option<i64>,
    ) -> Result<OfferRecord, OfferStoreError>;

    /// Withdraws an offer: nothing of it starts any more, what has not begun of its task is cancelled, what holds a slot goes on to its
    /// end. Withdrawing it again changes nothing.
    async fn withdraw_offer(
        &self,
        tenant: &TenantId,
        id: OfferId,
        now: UtcMillis,
    ) -> Result<OfferRecord, OfferStoreError>;

    /// An offer of a tenant, also one that was withdrawn.
    async fn offer(
        &self,
        tenant: &TenantId,
        id: OfferId,
    ) -> Result<Option<OfferRecord>, StoreError>;

    /// Offers of these tenants or of all, with numbers below `before`, newest first. `standing`: without those that were withdrawn.
    async fn offers(
        &self,
        tenants: Option<&[TenantId]>,
        standing: bool,
        before: Option<OfferId>,
        limit: u32,
    ) -> Result<Page<OfferRecord>, StoreError>;

    /// Offers of a tenant that stand for devices of these products ([`TenantId::product_key`]), by channel, then newest first. Which
    /// of them a home sees and a device fits say [`OfferTerms::is_visible_to`] and [`OfferRecord::entry`].
    async fn offers_for(
        &self,
        tenant: &TenantId,
        products: &[String],
    ) -> Result<Vec<OfferRecord>, StoreError>;

    /// Starts upgrades of a device: all that are wanted, or none. Each is an upgrade in the standing task of its offer, for which all
    /// rules of the task hold. What is open already is left as it is. [`Refusal::SignalWeak`] leaves a start that waits ten minutes
    /// for [`Self::continue_start`], unless it is [`Starter::Automatic`].
    async fn start(&self, new: &NewStart) -> Result<Vec<Started>, StartError>;

    /// Starts what waits for the user's word over a weak signal.
    async fn continue_start(
        &self,
        home: &HomeKey,
        endpoint: &str,
        by: &UserId,
        now: UtcMillis,
    ) -> Result<Vec<Started>, StartError>;

    /// Cancels what of the offers is open on a device and has not begun its transfer, and what waits for the user's word. Where one has
    /// begun ([`Refusal::TransferBegan`]) or nothing is open ([`Refusal::NothingWaits`]), nothing is cancelled. Upgrades of operators' own tasks stay.
    async fn cancel_start(
        &self,
        home: &HomeKey,
        endpoint: &str,
        by: &UserId,
        now: UtcMillis,
    ) -> Result<CancelledStart, StartError>;

    /// Looks at up to `limit` devices whose switch is on, by their names, after `after`, and starts what is offered to them where no hours
    /// are quiet. Returns how many upgrades were started, and where it goes on; `None`: it is through.
    async fn start_automatic(
        &self,
        after: Option<&str>,
        limit: u32,
        now: UtcMillis,
    ) -> Result<(u64, Option<String>), StoreError>;

    /// Has applications told of homes to which an offer has become visible (`offer.visible`), of each home once: looks at up to `limit` homes
    /// for the offer whose turn it is; offers that are due take turns. Told is of those with a device that the offer fits. Returns of how many
    /// homes is told; `None`: there was no offer to look at.
    async fn tell_of_offers(&self, limit: u32, now: UtcMillis)
    -> Result<Option<usize>, StoreError>;
}
