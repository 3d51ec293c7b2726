//! Users of end users' applications: what is kept of them, which tokens they have, and who is let in no more.

use async_trait::async_trait;
use thiserror::Error;

use super::{HomeRecord, StoreError};
use crate::{
    clock::UtcMillis,
    home::{HomeKey, OfferId, Role, UserKey},
    ledger::UpgradeId,
};

/// Tokens of one user that have not ended at most.
pub const MAX_APP_TOKENS: u32 = 20;
/// So long after it a revocation is kept: no token lives longer.
pub const REVOKED_FOR_MS: u64 = 400 * 24 * 3_600_000;
/// Starts of one user that are told in an export at most, newest first.
pub const MAX_STARTS_TOLD: u32 = 10_000;

/// A token of a user to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAppToken {
    /// Whose it is.
    pub user: UserKey,
    /// The SHA-256 of the token.
    pub hash: [u8; 32],
    /// Who issues it.
    pub created_by: String,
    /// Now.
    pub created_at: UtcMillis,
    /// When it ends.
    pub expires_at: UtcMillis,
}

/// A token of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppTokenRecord {
    /// Its number.
    pub id: i64,
    /// Whose it is.
    pub user: UserKey,
    /// When it was issued.
    pub created_at: UtcMillis,
    /// When it ends.
    pub expires_at: UtcMillis,
}

/// Why a token was not added.
#[derive(Debug, Error)]
pub enum AddAppTokenError {
    /// As many as there may be.
    #[error(
        "the user has {MAX_APP_TOKENS} tokens already; wait until one ends, or revoke them all"
    )]
    TooMany,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a user has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRecord {
    /// Where; `None`: the home is no more.
    pub home: Option<HomeKey>,
    /// The device.
    pub endpoint: String,
    /// The offers.
    pub offers: Vec<OfferId>,
    /// What came of it: `waiting`, `started`, `cancelled` or `lapsed`.
    pub state: StartState,
    /// The upgrades.
    pub upgrades: Vec<UpgradeId>,
    /// When.
    pub at: UtcMillis,
}

/// What came of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartState {
    /// It waits for the user's word.
    Waiting,
    /// It was started.
    Started,
    /// It was cancelled.
    Cancelled,
    /// The user said nothing for ten minutes.
    Lapsed,
}

impl StartState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Started, Self::Cancelled, Self::Lapsed];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Started => "started",
            Self::Cancelled => "cancelled",
            Self::Lapsed => "lapsed",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// All that is kept of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserExport {
    /// What stands for the user in the audit log.
    pub pseudonym: String,
    /// The homes that the user is in, and as what.
    pub homes: Vec<(HomeRecord, Role)>,
    /// What the user has started, newest first.
    pub starts: Vec<StartRecord>,
    /// Tokens that have not ended.
    pub tokens: Vec<AppTokenRecord>,
    /// Tokens that were issued before are not let in.
    pub revoked_before: Option<UtcMillis>,
}

/// Users of end users' applications.
#[async_trait]
pub trait AppUsers: Send + Sync + 'static {
    /// What stands for a user where the name is not to be: 32 hexadecimal digits, a keyed hash whose key is in the database alone. It is
    /// the same at any time.
    async fn pseudonym(&self, user: &UserKey) -> Result<String, StoreError>;

    /// All that is kept of a user.
    async fn export_user(&self, user: &UserKey, now: UtcMillis) -> Result<UserExport, StoreError>;

    /// Deletes what is kept of a user: the name is in no home and at no start any more, and tokens of before `now` are not let in. Returns
    /// whether there was anything.
    async fn delete_user(&self, user: &UserKey, now: UtcMillis) -> Result<bool, StoreError>;

    /// Lets no token of a user in that was issued before that, of whoever has issued it. An earlier time than the one that stands
    /// changes nothing. Returns the time that stands.
    async fn revoke_user(
        &self,
        user: &UserKey,
        before: UtcMillis,
        now: UtcMillis,
    ) -> Result<UtcMillis, StoreError>;

    /// Forgets up to `limit` starts of before `starts_before`, if it is given, and as many tokens that have ended at `now`. Returns how many
    /// of both there were: less than `limit` where nothing is left.
    async fn forget_old(
        &self,
        starts_before: Option<UtcMillis>,
        now: UtcMillis,
        limit: u32,
    ) -> Result<u64, StoreError>;

    /// Tokens of a user that were issued before that are not let in.
    async fn revoked_before(&self, user: &UserKey) -> Result<Option<UtcMillis>, StoreError>;

    /// Adds a token for a user.
    async fn add_app_token(&self, new: &NewAppToken) -> Result<AppTokenRecord, AddAppTokenError>;

    /// The token with this hash, unless it has ended or was revoked.
    async fn find_app_token(
        &self,
        hash: &[u8; 32],
        now: UtcMillis,
    ) -> Result<Option<AppTokenRecord>, StoreError>;
}
