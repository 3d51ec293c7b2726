use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{
    mpsc::{self, UnboundedReceiver, UnboundedSender},
    oneshot,
};

use super::{
    LaneNow, MqttNews,
    gate::GateMessage,
    message::{Done, Message, ShardGone, all},
};
use crate::{
    config::Config,
    dtls::{DtlsSetup, Identity},
    engine::{Command, ShardId},
    grants::{Served, Witness},
    ledger::{DeviceId, DeviceIds, DeviceRecord, Lane, TaskId},
    session::{GateAsk, GateOrder},
    shard::{self, Directory, Post},
    store::LaneChanges,
    task::Share,
};

/// Reaches all shards and the gate, and has the directory that they share.
///
/// Whatever is about a device is sent while the directory is locked, and messages to a shard arrive in their order.
pub struct Exchange {
    ids: DeviceIds,
    directory: Mutex<Directory>,
    shards: Vec<UnboundedSender<Message>>,
    /// The one among them of devices over MQTT.
    mqtt: Option<ShardId>,
    gate: UnboundedSender<GateMessage>,
}

/// The other ends: those of the shards in their order, and that of the gate.
pub struct Ends {
    pub(super) shards: Vec<UnboundedReceiver<Message>>,
    pub(super) gate: UnboundedReceiver<GateMessage>,
}

/// The way to the shards. What is sent to one that has stopped is dropped.
struct Way<'a>(&'a [UnboundedSender<Message>]);

impl Post<Done> for Way<'_> {
    fn post(&mut self, to: ShardId, message: shard::Message<Done>) {
        let _ = self.0[to.index()].send(Message::Core(message)); // it has stopped
    }
}

/// What devices are served over HTTP is told to their shards.
impl Witness for Exchange {
    fn served(&self, served: Served) {
        self.route(|directory, post| directory.served(served, post));
    }
}

impl Exchange {
    /// Between so many shards.
    pub fn new(ids: DeviceIds, shards: u8) -> (Arc<Self>, Ends) {
        Self::between(Directory::new(ids, shards))
    }

    /// Between so many shards, and one more for devices over MQTT.
    pub fn with_mqtt(ids: DeviceIds, shards: u8) -> (Arc<Self>, Ends) {
        Self::between(Directory::new(ids, shards).with_mqtt())
    }

    fn between(directory: Directory) -> (Arc<Self>, Ends) {
        let (ids, mqtt) = (directory.ids().clone(), directory.mqtt());
        let count = usize::from(directory.shards()) + usize::from(mqtt.is_some());
        let (shards, inboxes) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let (gate, asks) = mpsc::unbounded_channel();
        let exchange = Self {
            ids,
            directory: Mutex::new(directory),
            shards,
            mqtt,
            gate,
        };
        let ends = Ends {
            shards: inboxes,
            gate: asks,
        };
        (Arc::new(exchange), ends)
    }

    /// Has the engines obey `commands`, and returns when all that follows is committed. Nobody else gives commands about
    /// the same devices meanwhile.
    ///
    /// # Errors
    /// A shard has stopped.
    pub async fn obey(&self, commands: Vec<Command>) -> Result<(), ShardGone> {
        let (done, failures) = Done::new();
        self.route(|directory, post| directory.obey(commands, &done, post));
        all(done, failures).await
    }

    /// Gives the shards devices from before a restart, each to the one that will hear it.
    ///
    /// # Errors
    /// A shard has stopped.
    pub(super) async fn restore(&self, devices: Vec<DeviceRecord>) -> Result<(), ShardGone> {
        let (done, failures) = Done::new();
        self.route(|directory, post| directory.restore(devices, &done, post));
        all(done, failures).await
    }

    /// Every device from before the restart is there.
    ///
    /// # Errors
    /// A shard has stopped.
    pub(super) async fn restored(&self) -> Result<(), ShardGone> {
        let (done, failures) = Done::new();
        self.route(|directory, post| directory.restored(&done, post));
        all(done, failures).await
    }

    /// Ends everything that was encrypted for these identities.
    ///
    /// # Errors
    /// A shard has stopped.
    pub(super) fn end_identities(&self, identities: &Arc<[Identity]>) -> Result<(), ShardGone> {
        let mut told = Ok(());
        for shard in &self.shards {
            let message = Message::EndIdentities(identities.clone());
            told = told.and(shard.send(message).map_err(|_| ShardGone));
        }
        told
    }

    /// Other limits and paces apply from now on.
    pub fn configure(&self, config: &Arc<Config>) {
        let _ = self.gate.send(GateMessage::Configure(config.clone())); // it has stopped
        for shard in &self.shards {
            let _ = shard.send(Message::Configure(config.clone())); // it has stopped
        }
    }

    /// Handshakes go on with these certificates.
    pub fn renew_certificates(&self, setup: &Arc<DtlsSetup>) {
        for shard in &self.shards {
            let _ = shard.send(Message::Certificates(setup.clone())); // it has stopped
        }
    }

    /// Lets slots be granted: every slot from before the restart is known.
    pub fn open_gate(&self) {
        let _ = self.gate.send(GateMessage::Open(true)); // it has stopped
    }

    /// Stops admitting, and ends the shards' threads once everything emitted is committed and sent.
    pub fn stop(&self) {
        let _ = self.gate.send(GateMessage::Open(false)); // it has stopped
        for shard in &self.shards {
            let _ = shard.send(Message::Stop); // it is gone already
        }
    }

    /// Gives every shard the same message.
    pub(super) fn tell_all(&self, message: impl Fn() -> shard::Message<Done>) {
        for shard in &self.shards {
            let _ = shard.send(Message::Core(message())); // it has stopped
        }
    }

    pub(super) fn store_available(&self, available: bool) {
        let _ = self.gate.send(GateMessage::StoreAvailable(available)); // it has stopped
        self.tell_all(|| shard::Message::Obey(Command::StoreAvailable(available)));
    }

    /// Asks the gate how it stands in a lane.
    pub(super) fn look(&self, lane: Lane) -> oneshot::Receiver<LaneNow> {
        let (answer, answered) = oneshot::channel();
        let _ = self.gate.send(GateMessage::Look(lane, answer)); // it has stopped
        answered
    }

    /// Has the gate know what the operator rules for these lanes.
    ///
    /// # Errors
    /// It has stopped.
    pub(super) fn rule(&self, changes: LaneChanges) -> Result<(), ShardGone> {
        let message = GateMessage::Rule(changes);
        self.gate.send(message).map_err(|_| ShardGone)
    }

    /// Has the gate know what these tasks have of slots.
    ///
    /// # Errors
    /// It has stopped.
    pub(super) fn share(&self, shares: Vec<(TaskId, Share)>) -> Result<(), ShardGone> {
        let message = GateMessage::Share(shares);
        self.gate.send(message).map_err(|_| ShardGone)
    }

    pub(super) fn ask(&self, ask: GateAsk) {
        let _ = self.gate.send(GateMessage::Ask(ask)); // it has stopped
    }

    /// Tells a device's shard what the gate says.
    pub(super) fn tell(&self, device: DeviceId, order: GateOrder) {
        self.route(|directory, post| directory.tell(device, order, post));
    }

    /// Something has happened at the MQTT server.
    pub fn hear_of(&self, news: MqttNews) {
        if let Some(shard) = self.mqtt {
            self.send(shard, Message::Mqtt(news));
        }
    }

    pub(super) fn send(&self, to: ShardId, message: Message) {
        let _ = self.shards[to.index()].send(message); // it has stopped
    }

    /// All shards.
    pub(super) fn shards(&self) -> impl Iterator<Item = ShardId> + Clone + use<> {
        let count = u8::try_from(self.shards.len()).unwrap_or(u8::MAX); // `new` took a `u8`
        (0..count).map(ShardId)
    }

    pub(super) const fn ids(&self) -> &DeviceIds {
        &self.ids
    }

    /// Has the directory and the way to the shards for `what`; nobody else has them meanwhile.
    pub(super) fn route<R>(
        &self,
        what: impl FnOnce(&mut Directory, &mut dyn Post<Done>) -> R,
    ) -> R {
        what(&mut self.directory(), &mut Way(&self.shards))
    }

    pub(super) fn directory(&self) -> MutexGuard<'_, Directory> {
        // No change to it can stop half-way.
        self.directory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        grants::Token,
        ledger::{TaskId, UpgradeId},
    };

    #[test]
    fn what_a_device_was_served_goes_to_the_shard_that_has_it() {
        let (exchange, mut ends) = Exchange::with_mqtt(DeviceIds::new([7; 32]), 2);
        for (name, shard) in [("coap", 1), ("mqtt", 2)] {
            let device = exchange.ids().of(name);
            exchange.directory().place(device, ShardId(shard));
            exchange.served(Served {
                device,
                upgrade: UpgradeId(1),
                task: TaskId(1),
                token: Token::new(&"t".repeat(22)).unwrap(),
                contiguous_bytes: 1,
                whole: false,
                in_flight: false,
                more_bytes: 1,
                over: false,
            });
            let told = ends.shards[usize::from(shard)].try_recv();
            let Ok(Message::Core(shard::Message::Served(served))) = told else {
                panic!("shard {shard} is not told");
            };
            assert_eq!(served.device, device);
        }
        for inbox in &mut ends.shards {
            assert!(inbox.try_recv().is_err());
        }
    }
}
