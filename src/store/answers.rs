use async_trait::async_trait;

use super::StoreError;
use crate::clock::UtcMillis;

/// About so many answers are kept at most; the oldest goes first.
pub const MAX_ANSWERS: u32 = 50_000;

/// So long an answer is kept, milliseconds: 24 h.
pub const ANSWERS_KEPT_MS: u64 = 24 * 3_600_000;

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Names and values of headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Nobody has used it: the request is to be carried out.
    New,
    /// The same request was carried out, and answered so.
    Answered(Answer),
    /// The same request is being carried out, or was when the server ended.
    Unanswered,
    /// Another request has used it.
    OtherRequest,
}

/// What requests were answered that carry a key, so that one that is sent twice is carried out once.
#[async_trait]
pub trait Answers: Send + Sync + 'static {
    /// Takes `key` for the request whose digest is `request`. Forgets keys that were taken [`ANSWERS_KEPT_MS`] ago, and beyond
    /// [`MAX_ANSWERS`] the oldest of those `holder`s that have most: nobody's go for somebody who has more.
    ///
    /// A key is the word for its caller, a space, and what the caller has sent; or that alone, without a space. That alone was what was
    /// kept before: there it is found as well, if the request is the same.
    async fn claim_key(
        &self,
        holder_and_key: (&str, &str),
        request: [u8; 32],
        now: UtcMillis,
    ) -> Result<Claim, StoreError>;

    /// Keeps what the request was answered that has taken `key`.
    async fn keep_answer(&self, key: &str, answer: &Answer) -> Result<(), StoreError>;

    /// Gives `key` back, if the request that has taken it is not answered: nothing was done.
    async fn give_key_back(&self, key: &str) -> Result<(), StoreError>;
}
