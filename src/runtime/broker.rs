//! The connection to somebody else's MQTT broker: one task, which connects, connects again, and carries what is said. What it means is
//! `mqtt::broker`'s.

mod client;
mod drive;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{MqttIdentities, MqttSink, mqtt::EndsTheServer};
use crate::{
    clock::SystemClock,
    config::MqttConfig,
    ledger::DeviceId,
    mqtt::endpoint::{Ack, Downlink, Qos},
    strangers::Strangers,
    telemetry::Metrics,
};

/// What a broker's client is started with.
pub struct BrokerSetup {
    /// Which broker, and how it is spoken to.
    pub config: MqttConfig,
    /// How its connection is encrypted; `None` where it is not.
    pub tls: Option<native_tls::TlsConnector>,
    /// The password, where there is one.
    pub password: Option<String>,
    /// Not known to strangers.
    pub seed: u64,
    /// Which devices there are.
    pub identities: Arc<MqttIdentities>,
    /// Is told what happens.
    pub sink: MqttSink,
    /// The clock.
    pub clock: SystemClock,
    /// Told of devices that nobody has added.
    pub strangers: Arc<Strangers>,
    /// Where figures are published.
    pub metrics: Arc<Metrics>,
}

/// What the task is told.
enum Message {
    Publish {
        device: DeviceId,
        downlink: Downlink,
        payload: Bytes,
        qos: Qos,
    },
    Acknowledge(Ack),
    Forget(DeviceId),
    Stop(oneshot::Sender<()>),
}

/// Reaches the task. Clones are one.
#[derive(Clone)]
pub struct BrokerClient(mpsc::UnboundedSender<Message>);

impl BrokerClient {
    /// Starts the task on the runtime of whoever calls.
    pub fn start(setup: BrokerSetup) -> Self {
        let (messages, told) = mpsc::unbounded_channel();
        let task = tokio::spawn(drive::run(setup, told));
        tokio::spawn(async move {
            // it is cancelled where the runtime ends, which is in order
            if task.await.is_err_and(|error| error.is_panic()) {
                drop(EndsTheServer);
            }
        });
        Self(messages)
    }

    /// Sends a message to a device. Where that is not possible the sink is told.
    pub fn publish(&self, device: DeviceId, downlink: Downlink, payload: Bytes, qos: Qos) {
        self.tell(Message::Publish {
            device,
            downlink,
            payload,
            qos,
        });
    }

    /// What follows from a message is settled: the broker may forget it.
    pub fn acknowledge(&self, ack: Ack) {
        self.tell(Message::Acknowledge(ack));
    }

    /// The device's credentials, or the device, were changed or removed.
    pub fn forget(&self, device: DeviceId) {
        self.tell(Message::Forget(device));
    }

    /// Says good-bye to the broker. Returns when that is done.
    pub async fn stop(&self) {
        let (ended, has_ended) = oneshot::channel();
        self.tell(Message::Stop(ended));
        let _ = has_ended.await; // it has ended
    }

    fn tell(&self, message: Message) {
        let _ = self.0.send(message); // a task that has ended is told nothing more
    }
}
