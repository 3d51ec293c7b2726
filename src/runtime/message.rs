//! What is said to a shard's thread, and how it is heard that it was done.

use std::sync::Arc;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::MqttNews;
use crate::{
    clock::UtcMillis,
    config::Config,
    dtls::{DtlsSetup, Identity},
    ledger::DeviceId,
    mqtt::engine::Connected,
    shard,
};

/// What is said to a shard's thread.
pub(super) enum Message {
    Core(shard::Message<Done>),
    EndIdentities(Arc<[Identity]>),
    Configure(Arc<Config>),
    /// Something has happened at the MQTT server.
    Mqtt(MqttNews),
    /// Handshakes go on with these certificates.
    Certificates(Arc<DtlsSetup>),
    /// What is known of these devices at the moment is asked for. Those that are not here, or not heard, are left out of the answer.
    Heard {
        devices: Vec<DeviceId>,
        answer: UnboundedSender<HeardAnswer>,
    },
    Stop,
}

/// What a shard knows of some devices.
pub(super) type HeardAnswer = Vec<(DeviceId, Live)>;

/// What the device side knows of a device at the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// When it was heard last, by any message; `None` where it was not since the start.
    pub heard_at: Option<UtcMillis>,
    /// How it is connected over MQTT; `None` where it is not.
    pub connected: Option<Connected>,
}

/// Whoever gave a command waits until each of its clones is told that everything is committed that followed.
pub(super) struct Done {
    failed: UnboundedSender<ShardGone>,
    committed: bool,
}

impl Done {
    pub(super) fn new() -> (Self, UnboundedReceiver<ShardGone>) {
        let (failed, failures) = mpsc::unbounded_channel();
        let committed = false;
        (Self { failed, committed }, failures)
    }
}

impl shard::Done for Done {
    fn committed(mut self) {
        self.committed = true;
    }
}

impl Clone for Done {
    fn clone(&self) -> Self {
        Self {
            failed: self.failed.clone(),
            committed: false,
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if !self.committed {
            let _ = self.failed.send(ShardGone); // nobody waits any more
        }
    }
}

/// Returns when all that has `done` is committed.
pub(super) async fn all(
    done: Done,
    mut failures: UnboundedReceiver<ShardGone>,
) -> Result<(), ShardGone> {
    shard::Done::committed(done);
    match failures.recv().await {
        None => Ok(()),
        Some(gone) => Err(gone),
    }
}

/// A shard has stopped.
#[derive(Debug, thiserror::Error)]
#[error("the device side has stopped")]
pub struct ShardGone;
