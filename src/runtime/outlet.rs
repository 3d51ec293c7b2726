use std::sync::Arc;

use bytes::Bytes;

use super::{BrokerClient, MqttServer};
use crate::{
    grants::Grants,
    ledger::DeviceId,
    mqtt::{
        endpoint::{Ack, Downlink, Ending, Qos},
        engine::Out,
    },
};

/// Where devices over MQTT are connected. Clones are one.
#[derive(Clone)]
pub enum MqttPort {
    /// To this server.
    Server(MqttServer),
    /// To somebody else's broker.
    Broker(BrokerClient),
}

impl MqttPort {
    /// Ends what a device has begun, whose credentials, or who, were changed or removed.
    pub fn kick(&self, device: DeviceId) {
        match self {
            Self::Server(server) => server.kick(device, Ending::Credentials),
            Self::Broker(broker) => broker.forget(device),
        }
    }

    /// Ends all connections. Returns when that is done.
    pub async fn stop(&self) {
        match self {
            Self::Server(server) => server.stop().await,
            Self::Broker(broker) => broker.stop().await,
        }
    }

    fn let_out(&self, out: Out) {
        match out {
            Out::Publish {
                device,
                downlink,
                payload,
                qos,
                upgrade: _,
            } => self.publish(device, downlink, payload, qos),
            Out::Acknowledge(ack) => self.acknowledge(ack),
            Out::Hold { device, on } => self.hold(device, on),
            // devices are granted theirs by [`Outlet`]
            Out::Grant(_) | Out::Revoke(_) => {}
        }
    }

    fn publish(&self, device: DeviceId, downlink: Downlink, payload: Bytes, qos: Qos) {
        match self {
            Self::Server(server) => server.publish(device, downlink, payload, qos),
            Self::Broker(broker) => broker.publish(device, downlink, payload, qos),
        }
    }

    fn acknowledge(&self, ack: Ack) {
        match self {
            Self::Server(server) => server.acknowledge(ack),
            Self::Broker(broker) => broker.acknowledge(ack),
        }
    }

    fn hold(&self, device: DeviceId, on: bool) {
        match self {
            Self::Server(server) => server.hold(device, on),
            // whose keep-alives are enforced by others
            Self::Broker(_) => {}
        }
    }
}

/// What devices over MQTT are told by, and what all devices are granted by.
pub struct Outlet {
    /// Where devices over MQTT are connected, for the shard that has them.
    pub mqtt: Option<MqttPort>,
    /// What devices may download.
    pub grants: Arc<Grants>,
}

impl Outlet {
    /// The same for a shard that has devices over MQTT, or for another one.
    pub(super) fn of_shard(&self, mqtt: bool) -> Self {
        Self {
            mqtt: self.mqtt.clone().filter(|_| mqtt),
            grants: self.grants.clone(),
        }
    }

    /// Lets that out. None of it waits.
    pub(super) fn let_out(&self, out: Out) {
        match out {
            Out::Grant(grant) => self.grants.grant(*grant),
            Out::Revoke(token) => self.grants.revoke(&token),
            out => {
                if let Some(port) = &self.mqtt {
                    port.let_out(out);
                }
            }
        }
    }
}
