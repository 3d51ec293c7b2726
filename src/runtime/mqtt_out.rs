use std::sync::Arc;

use super::MqttServer;
use crate::{grants::Grants, mqtt::engine::Out};

/// The way to devices over MQTT: the server that they are connected to, and what they may download.
pub struct MqttOut {
    /// Where they are connected.
    pub server: MqttServer,
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
            } => self.server.publish(device, downlink, payload, qos),
            Out::Acknowledge(ack) => self.server.acknowledge(ack),
            Out::Grant(grant) => self.grants.grant(*grant),
            Out::Revoke(token) => self.grants.revoke(&token),
            Out::Hold { device, on } => self.server.hold(device, on),
        }
    }
}
