use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use super::{Page, Proof, StoreError};
use crate::{access::Grant, clock::UtcMillis, tenant::TenantId};

/// Users at most.
pub const MAX_USERS: u32 = 1_000;
/// Sessions of one user at most; with another one the oldest ends.
pub const MAX_SESSIONS: u32 = 20;

/// Number of a user. It is never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserId(pub i64);

/// Who somebody is for an identity provider (`OpenID` Connect Core §2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The provider.
    pub issuer: String,
    /// What never changes there, and is nobody else's.
    pub subject: String,
}

/// Somebody who has logged in at an identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityUser {
    /// Who it is there.
    pub identity: Identity,
    /// The name of a user that is added; where another one has it, some digits are put behind.
    pub name: String,
    /// What the user is granted from now on.
    pub grants: Vec<Grant>,
    /// Now.
    pub at: UtcMillis,
    /// So many users may have a grant on the same tenant; on `default` any number.
    pub share: u32,
}

/// A user to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// The name, which no other has.
    pub name: String,
    /// The password's hash, a PHC string.
    pub password: String,
    /// What the user is granted.
    pub grants: Vec<Grant>,
    /// Who adds it.
    pub created_by: String,
    /// Now.
    pub created_at: UtcMillis,
    /// So many users may have a grant on the same tenant; on `default` any number.
    pub share: u32,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// The number.
    pub id: UserId,
    /// The name.
    pub name: String,
    /// The password's hash, a PHC string; empty where the user logs in by an identity provider.
    pub password: String,
    /// Who the user is for an identity provider; `None`: the user logs in with a password.
    pub identity: Option<Identity>,
    /// What the user is granted.
    pub grants: Vec<Grant>,
    /// Who added it.
    pub created_by: String,
    /// When it was added.
    pub created_at: UtcMillis,
    /// When the user logged in last.
    pub last_login_at: Option<UtcMillis>,
    /// The secret of the second factor, sealed.
    pub totp: Option<Vec<u8>>,
    /// One that the user has still to confirm.
    pub totp_pending: Option<Vec<u8>>,
    /// Whether the user may do nothing but set up a second factor before there is one.
    pub second_factor_required: bool,
    /// Whether the user is kept out.
    pub disabled: bool,
}

/// What becomes of a user. `None`: what was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserChange {
    /// What the user is granted from now on.
    pub grants: Option<Vec<Grant>>,
    /// The password's hash from now on. The user's sessions end, and with them a second factor that is still to be confirmed.
    pub password: Option<String>,
    /// Whether a second factor is needed.
    pub second_factor_required: Option<bool>,
    /// Whether the user is kept out. If so, the user's sessions end.
    pub disabled: Option<bool>,
}

/// Somebody logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// The SHA-256 of what the cookie holds.
    pub hash: [u8; 32],
    /// Who.
    pub user: UserId,
    /// The password's hash that was looked at: nothing begins when it is another one by now.
    pub password: String,
    /// What was shown as the second factor; `None`: the user has none.
    pub second_factor: Option<Proof>,
    /// Now.
    pub created_at: UtcMillis,
    /// When it ends, however much it is used.
    pub expires_at: UtcMillis,
}

/// Why a user was not added.
#[derive(Debug, Error)]
pub enum AddUserError {
    /// Names tell users apart.
    #[error("there is a user {0:?} already; each needs a name of its own")]
    NameTaken(String),
    /// As many as there may be.
    #[error("there are {MAX_USERS} users already; remove one first")]
    TooMany,
    /// As many as a tenant may have.
    #[error(
        "tenant {tenant} has {share} users already, which is its share (tenants.max_users); remove one first"
    )]
    ShareTaken {
        /// The tenant.
        tenant: TenantId,
        /// How many that is.
        share: u32,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// People, and who of them is logged in.
#[async_trait]
pub trait Users: Send + Sync + 'static {
    /// Adds a user.
    async fn add_user(&self, new: &NewUser) -> Result<UserRecord, AddUserError>;

    /// The user that somebody is who has logged in at an identity provider, with what is granted now. One is added where there is none.
    async fn user_of_identity(&self, new: &IdentityUser) -> Result<UserRecord, AddUserError>;

    /// Takes all grants from the user that somebody is at an identity provider, and ends the user's sessions. Returns the user's name;
    /// `None`: there was nothing to take away.
    async fn ungrant(&self, identity: &Identity) -> Result<Option<String>, StoreError>;

    /// Those who have grants or sessions by another identity provider than this.
    async fn granted_by_others(&self, issuer: &str) -> Result<Vec<Identity>, StoreError>;

    /// The user of this name.
    async fn user(&self, name: &str) -> Result<Option<UserRecord>, StoreError>;

    /// Users by their numbers, after `after`.
    async fn users(
        &self,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Page<UserRecord>, StoreError>;

    /// Changes a user: all that is given, or nothing. With `seen` only if it is that user still, with the same grants. Returns whether
    /// there is one.
    async fn update_user(
        &self,
        name: &str,
        seen: Option<&UserRecord>,
        change: &UserChange,
    ) -> Result<bool, StoreError>;

    /// Sets the hash of a user's password, and ends the user's sessions. With `from` only if it was that. Returns whether it is set.
    async fn set_password(
        &self,
        name: &str,
        from: Option<&str>,
        to: &str,
    ) -> Result<bool, StoreError>;

    /// Removes a user, and ends the user's sessions. With `seen` only if it is that user still, with the same grants. Returns whether
    /// there was one.
    async fn remove_user(&self, name: &str, seen: Option<&UserRecord>) -> Result<bool, StoreError>;

    /// Begins a session, and forgets some that have ended. What was shown as the second factor is used up. Returns whether it has begun:
    /// not when the user was removed meanwhile, is kept out, has another password, or what was shown is not, or no longer, good.
    async fn begin_session(&self, new: &NewSession) -> Result<bool, StoreError>;

    /// Who has the session with this hash, and when it was seen last, unless it has ended: at its end, or after `idle` without being
    /// seen.
    async fn find_session(
        &self,
        hash: &[u8; 32],
        now: UtcMillis,
        idle: Duration,
    ) -> Result<Option<(UserRecord, UtcMillis)>, StoreError>;

    /// Notes that a session was seen.
    async fn session_seen(&self, hash: &[u8; 32], at: UtcMillis) -> Result<(), StoreError>;

    /// Ends a session.
    async fn end_session(&self, hash: &[u8; 32]) -> Result<(), StoreError>;
}
