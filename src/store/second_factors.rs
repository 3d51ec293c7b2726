use async_trait::async_trait;

use super::{StoreError, UserId, UserRecord};

/// What somebody has shown as the second factor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A code that changes with the time (RFC 6238).
    Code {
        /// The secret with which it was checked, as it is stored.
        sealed: Vec<u8>,
        /// The step whose code it is: the number of half minutes since 1970.
        step: u64,
    },
    /// A recovery code, by its hash.
    Recovery([u8; 32]),
}

/// The second factor of people. [`Users::begin_session`](super::Users::begin_session) asks for it.
#[async_trait]
pub trait SecondFactors: Send + Sync + 'static {
    /// Keeps a secret which its user has still to confirm, in place of one from before. Returns whether it is kept: not when the user was
    /// removed, or has a second factor already.
    async fn enrol(&self, user: UserId, sealed: &[u8]) -> Result<bool, StoreError>;

    /// From now on the user needs the secret that was `pending`, of which the code of `step` was shown. `recovery` are the hashes of the
    /// recovery codes. Returns whether it is so: not when another secret is pending by now, or none.
    async fn confirm_second_factor(
        &self,
        user: UserId,
        pending: &[u8],
        step: u64,
        recovery: &[[u8; 32]],
    ) -> Result<bool, StoreError>;

    /// Takes the second factor and its recovery codes away, and a secret that was pending. With `proof` only if that is good still: it is
    /// used then. With `seen` only if it is that user still, with the same grants. Returns whether there was one.
    async fn remove_second_factor(
        &self,
        name: &str,
        seen: Option<&UserRecord>,
        proof: Option<&Proof>,
    ) -> Result<bool, StoreError>;

    /// How many recovery codes a user has left.
    async fn recovery_codes(&self, user: UserId) -> Result<u32, StoreError>;
}
