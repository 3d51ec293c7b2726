//! What a server does, without what it does it with: shards that hear devices, the directory that tells which of them has
//! which device, and the committer. Pure: datagrams, messages, results and the time come in, and what is to be done comes out.
//!
//! One more shard may have the devices that speak MQTT, with an engine of its own ([`Machine`]).
//!
//! The reconciler turns what the operator wants into commands for them.
//!
//! `runtime` gives them sockets, threads and a database; the simulation gives them a virtual world, and the fuzz target
//! arbitrary inputs. None of them has rules of its own about devices.
//!
//! ```text
//! datagram ─▶ Core ─▶ engine ─▶ persist ─▶ Committer ─▶ (the store) ─▶ Told::Committed ─▶ Core ─▶ held datagrams leave
//!              ▲ │
//!    Message ──┘ └─▶ Directory ─▶ Message to another shard
//! ```

mod committer;
mod core;
mod directory;
mod held;
mod home;
mod machine;
mod message;
mod newcomers;
mod outbox;
mod reconciler;

pub use self::{
    committer::{Batch, COMMIT_BATCH, Committer, Emitted, NotWritten, Told},
    core::{Core, Figures, Surroundings},
    directory::Directory,
    home::{SHIFT, SPREAD, home, home_of},
    machine::Machine,
    message::{Done, Errand, Message, Post},
    outbox::{Outbox, Outgoing},
    reconciler::{PAGE, Query, Reconciler, Reply, Want, follow, take_backs},
};
