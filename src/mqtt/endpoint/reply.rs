//! What the server says, in both versions.

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use rmqtt_codec::{error::EncodeError, types::Publish, types::QoS, v3, v5};
use tokio_util::codec::Encoder as _;

use super::{event::Version, limits::Limits};

/// What a filter was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Granted {
    Qos0,
    Qos1,
    Refused(v5::SubscribeAckReason),
}

/// What follows from CONNECT.
#[derive(Debug, Clone)]
pub(super) enum Welcome {
    Accepted {
        /// The keep-alive, where it is not what the client has said.
        keep_alive_s: Option<u16>,
        /// The client wanted its session kept.
        keeps_session: bool,
        /// The client ID, where the client has left it to the server.
        client_id: Option<ByteString>,
    },
    Refused(v3::ConnectAckReason, v5::ConnectAckReason),
}

fn put_v3(out: &mut BytesMut, packet: v3::Packet) -> Result<(), EncodeError> {
    v3::Codec::new(0).encode(packet, out)
}

fn put_v5(out: &mut BytesMut, packet: v5::Packet) -> Result<(), EncodeError> {
    v5::Codec::new(0, 0).encode(packet, out)
}

/// CONNACK. There was no session: none outlives its connection.
pub(super) fn connack(
    out: &mut BytesMut,
    version: Version,
    limits: &Limits,
    welcome: Welcome,
) -> Result<(), EncodeError> {
    match version {
        Version::V311 => {
            let return_code = match welcome {
                Welcome::Accepted { .. } => v3::ConnectAckReason::ConnectionAccepted,
                Welcome::Refused(code, _) => code,
            };
            let ack = v3::ConnectAck {
                return_code,
                session_present: false,
            };
            put_v3(out, v3::Packet::ConnectAck(ack))
        }
        Version::V5 => {
            let ack = match welcome {
                Welcome::Accepted {
                    keep_alive_s,
                    keeps_session,
                    client_id,
                } => v5::ConnectAck {
                    session_expiry_interval_secs: keeps_session.then_some(0),
                    receive_max: NonZeroU16::new(limits.receive_maximum).unwrap_or(NonZeroU16::MIN),
                    max_packet_size: u32::try_from(limits.packet_bytes).ok(),
                    assigned_client_id: client_id,
                    retain_available: false,
                    subscription_identifiers_available: false,
                    shared_subscription_available: false,
                    server_keepalive_sec: keep_alive_s,
                    ..v5::ConnectAck::default()
                },
                Welcome::Refused(_, reason_code) => v5::ConnectAck {
                    reason_code,
                    ..v5::ConnectAck::default()
                },
            };
            put_v5(out, v5::Packet::ConnectAck(Box::new(ack)))
        }
    }
}

/// PUBACK, or PUBREC where the message is to come exactly once. 3.1.1 has no reasons.
pub(super) fn puback(
    out: &mut BytesMut,
    version: Version,
    packet_id: NonZeroU16,
    exactly_once: bool,
    reason_code: v5::PublishAckReason,
) -> Result<(), EncodeError> {
    match (version, exactly_once) {
        (Version::V311, false) => put_v3(out, v3::Packet::PublishAck { packet_id }),
        (Version::V311, true) => put_v3(out, v3::Packet::PublishReceived { packet_id }),
        (Version::V5, exactly_once) => {
            let ack = v5::PublishAck {
                packet_id,
                reason_code,
                properties: Vec::new(),
                reason_string: None,
            };
            put_v5(
                out,
                if exactly_once {
                    v5::Packet::PublishReceived(ack)
                } else {
                    v5::Packet::PublishAck(ack)
                },
            )
        }
    }
}

/// PUBCOMP.
pub(super) fn pubcomp(
    out: &mut BytesMut,
    version: Version,
    packet_id: NonZeroU16,
    known: bool,
) -> Result<(), EncodeError> {
    match version {
        Version::V311 => put_v3(out, v3::Packet::PublishComplete { packet_id }),
        Version::V5 => {
            let reason_code = if known {
                v5::PublishAck2Reason::Success
            } else {
                v5::PublishAck2Reason::PacketIdNotFound
            };
            let ack = v5::PublishAck2 {
                packet_id,
                reason_code,
                properties: Vec::new(),
                reason_string: None,
            };
            put_v5(out, v5::Packet::PublishComplete(ack))
        }
    }
}

/// SUBACK.
pub(super) fn suback(
    out: &mut BytesMut,
    version: Version,
    packet_id: NonZeroU16,
    granted: Vec<Granted>,
) -> Result<(), EncodeError> {
    match version {
        Version::V311 => {
            let status = granted.into_iter().map(|it| match it {
                Granted::Qos0 => v3::SubscribeReturnCode::Success(QoS::AtMostOnce),
                Granted::Qos1 => v3::SubscribeReturnCode::Success(QoS::AtLeastOnce),
                Granted::Refused(_) => v3::SubscribeReturnCode::Failure,
            });
            let status = status.collect();
            put_v3(out, v3::Packet::SubscribeAck { packet_id, status })
        }
        Version::V5 => {
            let status = granted.into_iter().map(|it| match it {
                Granted::Qos0 => v5::SubscribeAckReason::GrantedQos0,
                Granted::Qos1 => v5::SubscribeAckReason::GrantedQos1,
                Granted::Refused(reason) => reason,
            });
            let ack = v5::SubscribeAck {
                packet_id,
                properties: Vec::new(),
                reason_string: None,
                status: status.collect(),
            };
            put_v5(out, v5::Packet::SubscribeAck(ack))
        }
    }
}

/// UNSUBACK, with a reason for each filter in MQTT 5.
pub(super) fn unsuback(
    out: &mut BytesMut,
    version: Version,
    packet_id: NonZeroU16,
    status: Vec<v5::UnsubscribeAckReason>,
) -> Result<(), EncodeError> {
    match version {
        Version::V311 => put_v3(out, v3::Packet::UnsubscribeAck { packet_id }),
        Version::V5 => {
            let ack = v5::UnsubscribeAck {
                packet_id,
                properties: Vec::new(),
                reason_string: None,
                status,
            };
            put_v5(out, v5::Packet::UnsubscribeAck(ack))
        }
    }
}

/// PINGRESP.
pub(super) fn pingresp(out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
    match version {
        Version::V311 => put_v3(out, v3::Packet::PingResponse),
        Version::V5 => put_v5(out, v5::Packet::PingResponse),
    }
}

/// DISCONNECT. In 3.1.1 a server has none.
pub(super) fn disconnect(
    out: &mut BytesMut,
    version: Version,
    reason: v5::DisconnectReasonCode,
) -> Result<(), EncodeError> {
    match version {
        Version::V311 => Ok(()),
        Version::V5 => put_v5(out, v5::Packet::Disconnect(v5::Disconnect::new(reason))),
    }
}

/// PUBLISH: with QoS 1 where there is a packet ID.
pub(super) fn publish(
    out: &mut BytesMut,
    version: Version,
    topic: ByteString,
    packet_id: Option<NonZeroU16>,
    payload: Bytes,
) -> Result<(), EncodeError> {
    let publish = Box::new(Publish {
        dup: false,
        retain: false,
        qos: packet_id.map_or(QoS::AtMostOnce, |_| QoS::AtLeastOnce),
        topic,
        packet_id,
        payload,
        properties: None,
    });
    match version {
        Version::V311 => put_v3(out, v3::Packet::Publish(publish)),
        Version::V5 => put_v5(out, v5::Packet::Publish(publish)),
    }
}
