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

/// The way to devices over MQTT: where they are connected, and what they may download.
pub struct MqttOut {
    /// Where they are connected.
    pub port: MqttPort,
    /// What they may download.
    pub grants: Arc<Grants>,
}

impl MqttOut {
    /// Lets that out. None of it waits.
    pub(super) fn let_out(&self, out: Out) {
        match out {
            Out::Publish {
                device,
                downlink,
                payload,
                qos,
                upgrade: _,
            } => self.port.publish(device, downlink, payload, qos),
            Out::Acknowledge(ack) => self.port.acknowledge(ack),
            Out::Grant(grant) => self.grants.grant(*grant),
            Out::Revoke(token) => self.grants.revoke(&token),
            Out::Hold { device, on } => self.port.hold(device, on),
        }
    }
}
