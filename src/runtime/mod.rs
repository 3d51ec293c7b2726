//! Everything that touches a socket, a thread or the clock on the device side.
//!
//! The shard owns the engine and the socket, on a thread of its own. Changes go from it to the
//! committer, which writes them in batches and tells the shard how far it is; only then do the
//! transmissions leave that depend on them. The rollout reads the operator's intent from the store and
//! turns it into commands for the shard.

mod commit;
mod keys;
mod outbox;
mod port;
mod pulse;
mod restore;
mod rollout;
mod secured;
mod shard;

pub use commit::{COMMIT_BATCH, FIRST_PAUSE, LONGEST_PAUSE, commit_changes};
pub use keys::Keys;
pub use outbox::{Outbox, Outgoing};
pub use port::{BATCH, Port, bind};
pub use pulse::Pulse;
pub use restore::restore_busy;
pub use rollout::{
    PackageCache, ROLLOUT_IDLE, ROLLOUT_PAGE, ROLLOUT_SOON, Rollout, RolloutError, RolloutSetup,
};
pub use secured::{KeyChange, Secured, SecuredSetup};
pub use shard::{Shard, ShardGone, ShardHandle, ShardSetup};
