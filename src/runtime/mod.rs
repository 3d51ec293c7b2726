//! Everything that touches a socket, a thread or the clock on the device side.
//!
//! A shard owns an engine and its sockets, on a thread of its own; there is one for each core. Changes go from the shards
//! to the committer, which writes them in batches and tells each shard how far it is; only then do the
//! transmissions leave that depend on them. The gate grants the slots of all cells. The rollout reads the operator's
//! intent from the store and turns it into commands. They all reach each other by the exchange, which knows what
//! device is where.

mod audit;
mod broker;
mod commit;
mod datagram_socket;
mod exchange;
mod forecasts;
mod gate;
mod heard;
mod keys;
mod lanes;
mod limits;
mod message;
mod mqtt;
mod outlet;
mod restore;
mod rollout;
mod secured;
mod series;
mod shard;
mod shards;
mod steering;
mod supervisor;

pub use audit::{AuditTrail, PruneError, keep_audit, prune_audit};
pub use broker::{BrokerClient, BrokerSetup};
pub use datagram_socket::{BATCH, DatagramSocket, RECEIVE_BUFFER, bind};
pub use exchange::{Ends, Exchange};
pub use forecasts::{ForecastError, ForecastId, ForecastJob, ForecastState, Forecasts};
pub use gate::{restore_rules, restore_shares};
pub use heard::Heard;
pub use keys::Keys;
pub use lanes::{LaneNow, Lanes};
pub use message::{Live, ShardGone};
pub use mqtt::{
    MqttIdentities, MqttNews, MqttServer, MqttSetup, MqttSink, SealedMqtt, Ticket, TlsBegin, listen,
};
pub use outlet::{MqttPort, Outlet};
pub use restore::restore_busy;
pub use rollout::{PackageCache, Rollout, RolloutError, RolloutSetup};
pub use secured::{Secured, SecuredSetup};
pub use series::keep_series;
pub use shards::{Shards, ShardsSetup};
pub use supervisor::Supervisor;

use std::time::Duration;

/// What a shard drives, for whoever starts shards.
pub use crate::{mqtt::engine::Connected, shard::Machine};

use crate::clock::Instant;

/// How long until `due`; `None` waits for long.
fn until(due: Option<Instant>, now: Instant) -> Duration {
    const IDLE: Duration = Duration::from_mins(1);
    due.map_or(IDLE, |at| at.since(now))
}
