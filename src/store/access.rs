use async_trait::async_trait;
use thiserror::Error;

use super::{Page, StoreError};
use crate::{access::Grant, clock::UtcMillis, tenant::TenantId};

/// Tokens at most.
pub const MAX_TOKENS: u32 = 1_000;

/// Number of a token of the API. It is never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId(pub i64);

/// A token of the API to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its name, which no other has.
    pub name: String,
    /// The SHA-256 of the token.
    pub hash: [u8; 32],
    /// What it is granted.
    pub grants: Vec<Grant>,
    /// Who adds it.
    pub created_by: String,
    /// Now.
    pub created_at: UtcMillis,
    /// When it ends; `None`: when it is revoked.
    pub expires_at: Option<UtcMillis>,
    /// So many tokens may have a grant on the same tenant; on `default` any number.
    pub share: u32,
}

/// A token of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its number.
    pub id: TokenId,
    /// Its name.
    pub name: String,
    /// What it is granted.
    pub grants: Vec<Grant>,
    /// Who added it.
    pub created_by: String,
    /// When it was added.
    pub created_at: UtcMillis,
    /// When it ends; `None`: when it is revoked.
    pub expires_at: Option<UtcMillis>,
    /// When it was used last, to about a minute.
    pub last_used_at: Option<UtcMillis>,
}

/// Why a token was not added.
#[derive(Debug, Error)]
pub enum AddTokenError {
    /// Names tell tokens apart.
    #[error("token {} has the name {name:?} already; each needs one of its own", .token.0)]
    NameTaken {
        /// The name.
        name: String,
        /// Which token has it.
        token: TokenId,
    },
    /// As many as there may be.
    #[error("there are {MAX_TOKENS} tokens already; revoke one first")]
    TooMany,
    /// As many as a tenant may have.
    #[error(
        "tenant {tenant} has {share} tokens already, which is its share (tenants.max_tokens); revoke one first"
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

/// Who is let in.
#[async_trait]
pub trait Access: Send + Sync + 'static {
    /// Adds a token.
    async fn add_token(&self, new: &NewToken) -> Result<TokenRecord, AddTokenError>;

    /// A token, also one that has ended.
    async fn token(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError>;

    /// The token with this hash, unless it has ended.
    async fn find_token(
        &self,
        hash: &[u8; 32],
        now: UtcMillis,
    ) -> Result<Option<TokenRecord>, StoreError>;

    /// Tokens, also those that have ended, by their numbers, after `after`.
    async fn tokens(
        &self,
        after: Option<TokenId>,
        limit: u32,
    ) -> Result<Page<TokenRecord>, StoreError>;

    /// Notes that a token was used.
    async fn token_used(&self, id: TokenId, at: UtcMillis) -> Result<(), StoreError>;

    /// Revokes a token: nothing finds it any more. Returns whether there was one.
    async fn revoke_token(&self, id: TokenId) -> Result<bool, StoreError>;

    /// Whether a user who is not disabled, or a token that has not ended, may answer for any task of `tenant` that waits for approval.
    async fn others_approve(&self, tenant: &str, now: UtcMillis) -> Result<bool, StoreError>;
}
