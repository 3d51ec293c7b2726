//! What shards say to each other.

use std::sync::Arc;

use crate::{
    engine::{Command, Fetched, MovingDevice, Seek, Seq, ShardId, Sought},
    grants::Served,
    ledger::PullToken,
};

/// Whoever gave commands is told when all that followed from them is committed: each clone of it is to say so. One that is
/// dropped without a word tells that this will not happen.
pub trait Done: Clone {
    /// What followed from one lot of commands is committed.
    fn committed(self);
}

/// What is said to a shard. Messages to one shard arrive in their order.
#[derive(Debug)]
pub enum Message<D> {
    /// To be obeyed, by one shard or another.
    Commands {
        /// Each is about a device, or about all.
        commands: Vec<Command>,
        /// Told when everything that followed is committed.
        done: D,
    },
    /// For which nobody waits.
    Obey(Command),
    /// Changes of this shard up to that number are committed.
    Committed(Seq),
    /// So much of a package was served over HTTP to a device that should be here.
    Served(Box<Served>),
    /// Another shard has heard a device that should be here.
    Seek(Errand),
    /// What came of a device that was sought.
    Sought(Errand, Sought),
    /// It is here now.
    Arrived(MovingDevice, Errand),
    /// A device that should be here was served so much of its package elsewhere.
    Fetched(Box<Fetched>),
    /// Nothing is served under that token any more.
    Recall(PullToken),
}

/// Takes messages to shards on their way.
pub trait Post<D> {
    /// Sends a message to a shard, behind all that were sent to it before.
    fn post(&mut self, to: ShardId, message: Message<D>);
}

/// A datagram whose device is sought, from the shard that has heard it, until it is handled or dropped.
#[derive(Debug)]
pub struct Errand {
    pub(super) seek: Box<Seek>,
    /// Who has heard it.
    pub(super) for_shard: ShardId,
    /// Its clones are counted.
    pub(super) _counted: Arc<()>,
}

impl Errand {
    /// The datagram that seems to come from the device.
    pub fn seek(&self) -> &Seek {
        &self.seek
    }
}
