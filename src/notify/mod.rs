//! Applications are told: what happened is posted to their webhooks, signed as [Standard Webhooks] says.
//!
//! The store holds what is to be told, and to whom ([`crate::store::Events`]). The dispatcher tries, writes
//! down what came of it, and tries again later: at least once, so that a receiver has to know a repeat by its
//! `webhook-id`.
//!
//! [Standard Webhooks]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

mod address;
mod dispatcher;
mod payload;
mod ping;
mod post;
mod receivers;
mod schedule;
mod signature;

#[cfg(test)]
mod tests;

pub use address::{ForbiddenAddress, Target, TargetError};
pub use dispatcher::{Dispatcher, DispatcherSetup};
pub use payload::{
    Instance, OFFER_KINDS, OfferEvent, Payload, START_KINDS, StartEvent, TASK_KINDS, TaskEvent,
    UPGRADE_KINDS, UpgradeEvent,
};
pub use ping::{Ping, ping};
pub use signature::{Secret, SecretError};
