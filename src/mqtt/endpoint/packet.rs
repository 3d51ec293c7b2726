//! Packets of both versions as one type, and what the codec does not check.

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use rmqtt_codec::{error::DecodeError, types::QoS, v3, v5};
use tokio_util::codec::Decoder as _;

use super::{
    event::Version,
    frame::{Frame, variable},
};

/// Why a connection has to end: the reason code of MQTT 5 (§4.13).
pub(super) type Fault = v5::DisconnectReasonCode;

/// What a connected client says.
#[derive(Debug)]
pub(super) enum Incoming {
    Publish(Publication),
    /// PUBACK, and whether the client has taken it.
    Acked(NonZeroU16, bool),
    /// PUBREL.
    Released(NonZeroU16),
    Subscribe {
        packet_id: NonZeroU16,
        filters: Vec<(ByteString, QoS)>,
        /// With a subscription identifier, which is not offered.
        identified: bool,
    },
    Unsubscribe {
        packet_id: NonZeroU16,
        filters: Vec<ByteString>,
    },
    Ping,
    Goodbye,
}

#[derive(Debug)]
pub(super) struct Publication {
    pub(super) topic: ByteString,
    pub(super) packet_id: Option<NonZeroU16>,
    pub(super) exactly_once: bool,
    pub(super) payload: Bytes,
}

/// What a client says first.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) version: Version,
    pub(super) client_id: ByteString,
    pub(super) user: Option<ByteString>,
    pub(super) password: Option<Bytes>,
    pub(super) keep_alive_s: u16,
    /// Messages that the client takes at once.
    pub(super) receive_maximum: u16,
    /// Bytes of a packet that the client takes.
    pub(super) packet_bytes: u32,
    /// The client wants its session kept, which is not offered.
    pub(super) keeps_session: bool,
}

/// What is wrong with the first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ungreeted {
    /// Nothing to answer.
    Malformed,
    /// Another version than those that are spoken; answered in this one.
    Unspoken(Version),
    /// An empty client ID for a session that is to be kept, in 3.1.1: MQTT 5 has one assigned (§3.1.3.1).
    ClientId,
    /// A will that is to be retained, which CONNACK would say is not offered (MQTT 5 §3.2.2.3.5).
    Retained,
    /// Enhanced authentication (MQTT 5 §4.12).
    Method,
}

/// Bytes of filters or properties in a packet. A device has a dozen filters; a packet full of them keeps the server busy for as long as
/// hundreds of publications do.
pub(super) const MAX_LISTED: usize = 16 << 10;
/// The first byte of CONNECT.
pub(super) const CONNECT: u8 = 0x10;
/// The protocol's name, its level, the flags and the keep-alive (MQTT 5 §3.1.2).
const CONNECT_HEAD: usize = 10;
/// Where the flags are in it (MQTT 5 §3.1.2.3).
const FLAGS: usize = 7;
const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;

/// Reads a whole packet that is to be CONNECT.
pub(super) fn greeting(bytes: &[u8], frame: Frame) -> Result<Greeting, Ungreeted> {
    let body = bytes.get(frame.header..).unwrap_or_default();
    let version = match (body.get(..6), body.get(6)) {
        (Some(b"\0\x04MQTT"), Some(4)) => Version::V311,
        (Some(b"\0\x04MQTT"), Some(5)) => Version::V5,
        (Some(b"\0\x04MQTT"), Some(6..)) => return Err(Ungreeted::Unspoken(Version::V5)),
        // 3.1 has a name that goes on
        (Some(b"\0\x04MQTT"), Some(_)) | (Some(b"\0\x06MQIs"), _) => {
            return Err(Ungreeted::Unspoken(Version::V311));
        }
        _ => return Err(Ungreeted::Malformed),
    };
    let whole = connect_len(body, version) == Some(body.len());
    if !whole || (version == Version::V5 && !frame.minimal) {
        return Err(Ungreeted::Malformed);
    }
    let greeting = match version {
        Version::V311 => greeting_v3(bytes)?,
        Version::V5 => greeting_v5(bytes, frame)?,
    };
    let nul = greeting.client_id.contains('\0')
        || (greeting.user.as_ref()).is_some_and(|user| user.contains('\0'));
    // 3.1.1 §3.1.2.9: the password's flag is set only where the user name's is
    let alone = version == Version::V311 && greeting.user.is_none() && greeting.password.is_some();
    if nul || alone {
        return Err(Ungreeted::Malformed);
    }
    Ok(greeting)
}

fn greeting_v3(bytes: &[u8]) -> Result<Greeting, Ungreeted> {
    match v3::Codec::new(0).decode(&mut BytesMut::from(bytes)) {
        Ok(Some((v3::Packet::Connect(connect), _))) => Ok(Greeting {
            version: Version::V311,
            client_id: connect.client_id,
            user: connect.username,
            password: connect.password,
            keep_alive_s: connect.keep_alive,
            receive_maximum: u16::MAX,
            packet_bytes: u32::MAX,
            keeps_session: !connect.clean_session,
        }),
        Err(DecodeError::InvalidClientId) => Err(Ungreeted::ClientId),
        _ => Err(Ungreeted::Malformed),
    }
}

fn greeting_v5(bytes: &[u8], frame: Frame) -> Result<Greeting, Ungreeted> {
    const CLEAN_START: u8 = 0x02;
    let mut bytes = BytesMut::from(bytes);
    let flags = (bytes.get_mut(frame.header + FLAGS)).ok_or(Ungreeted::Malformed)?;
    // §3.1.2.6, §3.1.2.7
    if *flags & WILL == 0 && *flags & (WILL_QOS | WILL_RETAIN) != 0 {
        return Err(Ungreeted::Malformed);
    }
    // no session was kept, so that each start is a clean one; the codec wants a client ID for one that is not
    *flags |= CLEAN_START;
    match v5::Codec::new(0, 0).decode(&mut bytes) {
        Ok(Some((v5::Packet::Connect(connect), _))) => {
            if connect.last_will.as_ref().is_some_and(|will| will.retain) {
                return Err(Ungreeted::Retained);
            }
            match (&connect.auth_method, &connect.auth_data) {
                (None, None) => {}
                (Some(_), _) => return Err(Ungreeted::Method),
                // §3.1.2.11.10
                (None, Some(_)) => return Err(Ungreeted::Malformed),
            }
            Ok(Greeting {
                version: Version::V5,
                client_id: connect.client_id,
                user: connect.username,
                password: connect.password,
                keep_alive_s: connect.keep_alive,
                receive_maximum: connect.receive_max.map_or(u16::MAX, NonZeroU16::get),
                packet_bytes: connect.max_packet_size.map_or(u32::MAX, u32::from),
                keeps_session: connect.session_expiry_interval_secs > 0,
            })
        }
        _ => Err(Ungreeted::Malformed),
    }
}

/// How long a CONNECT is that says of itself what it has; `None` where it ends before. The codec leaves what follows alone.
fn connect_len(body: &[u8], version: Version) -> Option<usize> {
    const USER: u8 = 0x80;
    const PASSWORD: u8 = 0x40;
    let flags = *body.get(FLAGS)?;
    let properties = |at: usize| {
        let (len, used) = variable(body.get(at..)?).ok()??;
        Some(at + used + len)
    };
    let string = |at: usize| {
        let len = body.get(at..at + 2)?;
        Some(at + 2 + usize::from(u16::from_be_bytes([len[0], len[1]])))
    };
    let has_properties = version == Version::V5;
    let mut at = CONNECT_HEAD;
    if has_properties {
        at = properties(at)?;
    }
    at = string(at)?;
    if flags & WILL != 0 {
        if has_properties {
            at = properties(at)?;
        }
        at = string(string(at)?)?;
    }
    for flag in [USER, PASSWORD] {
        if flags & flag != 0 {
            at = string(at)?;
        }
    }
    Some(at)
}

/// Reads a whole packet of a client that is connected.
pub(super) fn incoming(version: Version, bytes: &[u8], frame: Frame) -> Result<Incoming, Fault> {
    let first = bytes.first().copied().unwrap_or_default();
    let empty = bytes.len() == frame.header;
    // the codec does not look at what these have, and they have nothing
    let bare = match (first, version) {
        (0xc0, _) | (0xe0, Version::V311) => true,
        (_, Version::V311 | Version::V5) => false,
    };
    if (bare && !empty) || (version == Version::V5 && !frame.minimal) {
        return Err(Fault::MalformedPacket);
    }
    if listed(version, bytes, frame) > MAX_LISTED {
        return Err(Fault::QuotaExceeded);
    }
    match version {
        Version::V311 => incoming_v3(bytes, frame),
        Version::V5 => incoming_v5(bytes),
    }
}

/// Bytes of a packet that are a list of small things, each of which is read by itself: filters, or the properties of MQTT 5. All but
/// the payload and the topic of a publication may be.
fn listed(version: Version, bytes: &[u8], frame: Frame) -> usize {
    const PUBLISH: u8 = 3;
    let first = bytes.first().copied().unwrap_or_default();
    if first >> 4 != PUBLISH {
        return bytes.len();
    }
    if version == Version::V311 {
        return 0;
    }
    let body = bytes.get(frame.header..).unwrap_or_default();
    let properties = || {
        let [high, low] = *body.first_chunk()?;
        let topic = usize::from(u16::from_be_bytes([high, low]));
        let packet_id = if first & 0x06 == 0 { 0 } else { 2 };
        Some(variable(body.get(2 + topic + packet_id..)?).ok()??.0)
    };
    // what ends before is malformed, as will be found
    properties().unwrap_or_default()
}

fn incoming_v3(bytes: &[u8], frame: Frame) -> Result<Incoming, Fault> {
    use v3::Packet;
    let Ok(Some((packet, _))) = v3::Codec::new(0).decode(&mut BytesMut::from(bytes)) else {
        return Err(Fault::MalformedPacket);
    };
    Ok(match packet {
        Packet::Publish(publish) => Incoming::Publish(publication(*publish)?),
        Packet::PublishAck { packet_id } => Incoming::Acked(packet_id, true),
        Packet::PublishRelease { packet_id } => Incoming::Released(packet_id),
        Packet::Subscribe {
            packet_id,
            topic_filters,
        } => {
            // 3.1.1 §3.8.3: the upper six bits are reserved
            let mut at = frame.header + 2;
            for (filter, _) in &topic_filters {
                at += 2 + filter.len();
                if bytes.get(at).is_none_or(|options| *options > 2) {
                    return Err(Fault::MalformedPacket);
                }
                at += 1;
            }
            Incoming::Subscribe {
                packet_id,
                filters: topic_filters,
                identified: false,
            }
        }
        Packet::Unsubscribe {
            packet_id,
            topic_filters: filters,
        } => Incoming::Unsubscribe { packet_id, filters },
        Packet::PingRequest => Incoming::Ping,
        Packet::Disconnect => Incoming::Goodbye,
        // a second CONNECT, what only a server says, and answers to QoS 2, with which nothing is sent
        Packet::Connect(_)
        | Packet::ConnectAck(_)
        | Packet::PublishReceived { .. }
        | Packet::PublishComplete { .. }
        | Packet::SubscribeAck { .. }
        | Packet::UnsubscribeAck { .. }
        | Packet::PingResponse => return Err(Fault::ProtocolError),
    })
}

fn incoming_v5(bytes: &[u8]) -> Result<Incoming, Fault> {
    use v5::Packet;
    let Ok(Some((packet, _))) = v5::Codec::new(0, 0).decode(&mut BytesMut::from(bytes)) else {
        return Err(Fault::MalformedPacket);
    };
    Ok(match packet {
        Packet::Publish(publish) => Incoming::Publish(publication(*publish)?),
        Packet::PublishAck(ack) => Incoming::Acked(ack.packet_id, u8::from(ack.reason_code) < 0x80),
        Packet::PublishRelease(ack) => Incoming::Released(ack.packet_id),
        Packet::Subscribe(it) => Incoming::Subscribe {
            packet_id: it.packet_id,
            identified: it.id.is_some(),
            filters: (it.topic_filters.into_iter())
                .map(|(filter, options)| (filter, options.qos))
                .collect(),
        },
        Packet::Unsubscribe(it) => Incoming::Unsubscribe {
            packet_id: it.packet_id,
            filters: it.topic_filters,
        },
        Packet::PingRequest => Incoming::Ping,
        Packet::Disconnect(_) => Incoming::Goodbye,
        Packet::Connect(_)
        | Packet::ConnectAck(_)
        | Packet::PublishReceived(_)
        | Packet::PublishComplete(_)
        | Packet::SubscribeAck(_)
        | Packet::UnsubscribeAck(_)
        | Packet::PingResponse
        | Packet::Auth(_) => return Err(Fault::ProtocolError),
    })
}

fn publication(publish: rmqtt_codec::types::Publish) -> Result<Publication, Fault> {
    // 3.1.1 §3.3.1.1, MQTT 5 §3.3.1.1
    if publish.dup && publish.qos == QoS::AtMostOnce {
        return Err(Fault::MalformedPacket);
    }
    if let Some(properties) = &publish.properties {
        // CONNACK has said that there are no retained messages (MQTT 5 §3.2.2.3.5)
        if publish.retain {
            return Err(Fault::RetainNotSupported);
        }
        // and no aliases (§3.3.2.3.4)
        if properties.topic_alias.is_some() {
            return Err(Fault::TopicAliasInvalid);
        }
        // §3.3.2.1
        if publish.topic.is_empty() {
            return Err(Fault::ProtocolError);
        }
        // only a server sends them (§3.3.4)
        if !properties.subscription_ids.is_empty() {
            return Err(Fault::ProtocolError);
        }
        // §3.3.2.3.5
        let wild = |topic: &ByteString| topic.contains(['+', '#', '\0']);
        if properties.response_topic.as_ref().is_some_and(wild) {
            return Err(Fault::TopicNameInvalid);
        }
    }
    Ok(Publication {
        topic: publish.topic,
        packet_id: publish.packet_id,
        exactly_once: publish.qos == QoS::ExactlyOnce,
        payload: publish.payload,
    })
}
