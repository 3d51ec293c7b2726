//! What a client writes.

use hmac::{Hmac, KeyInit as _, Mac as _};

use super::*;

pub(super) fn iotda(number: u8) -> Identity {
    Identity {
        device: DeviceId::from_bytes([number; 8]),
        name: format!("d{number}").into(),
        style: Style::Iotda,
        credential: Credential::Secret(b"secret".as_slice().into()),
    }
}

pub(super) fn thingspanel(number: u8) -> Identity {
    Identity {
        device: DeviceId::from_bytes([number; 8]),
        name: format!("n{number}").into(),
        style: Style::ThingsPanel,
        credential: Credential::Token {
            token: format!("t{number}").into(),
            password: None,
        },
    }
}

pub(super) fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text);
    bytes
}

/// A packet with its length.
pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut left = body.len();
    loop {
        let low = u8::try_from(left % 128).unwrap();
        left /= 128;
        bytes.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) level: u8,
    pub(super) flags: u8,
    pub(super) keep_alive: u16,
    /// MQTT 5's, without their length.
    pub(super) properties: Vec<u8>,
    pub(super) id: String,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    /// Whatever follows.
    pub(super) trailing: Vec<u8>,
}

impl Client {
    pub(super) fn iotda(number: u8) -> Self {
        let stamp = "2026113005";
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(stamp.as_bytes()).unwrap();
        mac.update(b"secret");
        Self {
            level: 4,
            flags: 2,
            keep_alive: 120,
            properties: Vec::new(),
            id: format!("d{number}_0_0_{stamp}"),
            user: Some(format!("d{number}")),
            password: Some(hex::encode(mac.finalize().into_bytes())),
            trailing: Vec::new(),
        }
    }

    pub(super) fn thingspanel(number: u8) -> Self {
        Self {
            level: 4,
            flags: 2,
            keep_alive: 60,
            properties: Vec::new(),
            id: "anything".to_owned(),
            user: Some(format!("t{number}")),
            password: None,
            trailing: Vec::new(),
        }
    }

    pub(super) fn v5(mut self) -> Self {
        self.level = 5;
        self
    }

    pub(super) fn connect(&self) -> Vec<u8> {
        let mut body = string("MQTT");
        let user = if self.user.is_some() { 0x80 } else { 0 };
        let password = if self.password.is_some() { 0x40 } else { 0 };
        body.extend([self.level, self.flags | user | password]);
        body.extend(self.keep_alive.to_be_bytes());
        if self.level == 5 {
            body.push(u8::try_from(self.properties.len()).unwrap());
            body.extend(&self.properties);
        }
        body.extend(string(&self.id));
        for text in [&self.user, &self.password].into_iter().flatten() {
            body.extend(string(text));
        }
        body.extend(&self.trailing);
        packet(0x10, &body)
    }
}

/// PUBLISH, with `level` 5 without properties.
pub(super) fn publish(level: u8, topic: &str, qos: u8, packet_id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = string(topic);
    if qos > 0 {
        body.extend(packet_id.to_be_bytes());
    }
    if level == 5 {
        body.push(0);
    }
    body.extend(payload);
    packet(0x30 | qos << 1, &body)
}

pub(super) fn subscribe(level: u8, packet_id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if level == 5 {
        body.push(0);
    }
    for (filter, options) in filters {
        body.extend(string(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}
