use std::{net::SocketAddr, num::NonZeroU16, sync::Arc};

use bytes::Bytes;

use super::{
    identity::{Claim, Identity, Refusal, Style},
    topic::{Downlink, Uplink},
};
use crate::{ledger::DeviceId, mqtt::thingspanel::Release};

/// One connection, from its acceptance to its end. A number of an earlier connection never means a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// The place in the table of connections. It is small, and used again.
    pub slot: u32,
    /// How often the place was given out before.
    pub generation: u32,
}

/// How a publication is delivered (MQTT 5 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// 0.
    AtMostOnce,
    /// 1.
    AtLeastOnce,
}

/// The version that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5, protocol level 5.
    V5,
}

/// What is owed for a message: nothing is acknowledged to the device before [`Endpoint::acknowledge`] is called with it.
///
/// [`Endpoint::acknowledge`]: super::Endpoint::acknowledge
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ack {
    pub(super) conn: ConnId,
    pub(in crate::mqtt) packet_id: NonZeroU16,
    /// PUBREC instead of PUBACK.
    pub(super) exactly_once: bool,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Output {
    /// These bytes go out. What the system does not take at once is the driver's to keep; it says so by
    /// [`Endpoint::backlog`](super::Endpoint::backlog).
    Send {
        /// On which connection.
        conn: ConnId,
        /// Whole packets.
        bytes: Bytes,
    },
    /// The connection is over. What was to be sent before is sent as far as the system takes it at once. [`Endpoint::closed`](super::Endpoint::closed) is not
    /// called for it, and the place may be given out again at once.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// There is room for more of what the connection has to say, after [`Reading::Paused`].
    Resume {
        /// Which.
        conn: ConnId,
    },
    /// Who is it? The driver answers with [`Endpoint::authenticated`](super::Endpoint::authenticated).
    Authenticate {
        /// On which connection.
        conn: ConnId,
        /// From which address.
        peer: SocketAddr,
        /// What the client has said of itself.
        claim: Box<Claim>,
    },
    /// Something happened that the engine has to know.
    Event(Event),
}

/// Whether more is read from a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Reading {
    /// Yes.
    On,
    /// Not before [`Output::Resume`]: too many messages wait for their acknowledgement.
    Paused,
    /// Not any more: the connection is over.
    Over,
}

/// The answer to [`Output::Authenticate`].
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It is this device.
    Device(Arc<Identity>),
    /// It is not let in.
    Refused(Refusal),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A device has connected and shown who it is. It is to be taken as one that knows nothing: no session outlives its
    /// connection.
    Connected {
        /// Who.
        device: DeviceId,
        /// On which connection. Of two the newer counts.
        conn: ConnId,
        /// Which kind of device.
        style: Style,
        /// Which version it speaks.
        version: Version,
        /// From which address.
        peer: SocketAddr,
        /// Its client ID, of any content, cut to 128 characters; empty where it has left that to the server. Never one that holds its
        /// token.
        client_id: Box<str>,
        /// Whether a connection of the same device was ended for it. No [`Event::Disconnected`] is told for that one.
        took_over: bool,
    },
    /// A device that is connected to somebody else's broker is heard, and was not before, or says that it has connected anew. It is
    /// there until [`Event::Disconnected`] is told.
    Heard {
        /// Who.
        device: DeviceId,
        /// What stands for its being there. Of two the newer counts.
        conn: ConnId,
        /// It says that it has connected. Otherwise nobody knows since when it has been connected.
        anew: bool,
        /// Which edition of `ThingsPanel` it is, where its topic tells.
        release: Option<Release>,
    },
    /// A device has subscribed to where it is written to. Devices of [`Style::Iotda`] do not need to.
    Subscribed {
        /// Who.
        device: DeviceId,
        /// What reaches it from now on.
        downlink: Downlink,
        /// Which edition's topic it is, where the topic tells.
        release: Option<Release>,
    },
    /// A device has unsubscribed from the last topic on which that reached it: nothing of it is sent before it has subscribed again.
    Unsubscribed {
        /// Who.
        device: DeviceId,
        /// What does not reach it any more.
        downlink: Downlink,
    },
    /// A device has published something.
    Message {
        /// Who.
        device: DeviceId,
        /// On which topic.
        uplink: Uplink,
        /// As it was sent, of any content.
        payload: Bytes,
        /// What is owed for it, where it is more than QoS 0.
        ack: Option<Ack>,
    },
    /// A device has acknowledged what was published to it with QoS 1.
    Delivered {
        /// Who.
        device: DeviceId,
        /// Which: the number that [`Endpoint::publish`](super::Endpoint::publish) has returned.
        packet_id: NonZeroU16,
    },
    /// A device's connection is over, and it has no other.
    Disconnected {
        /// Who.
        device: DeviceId,
        /// Which connection.
        conn: ConnId,
        /// Why.
        why: Ending,
    },
    /// Somebody was not let in.
    Refused {
        /// From which address.
        peer: SocketAddr,
        /// Who it claims to be: the user name where the client ID is made of it as IoTDA has it; else the client ID, because a
        /// user name may be a token, and not even that where it holds the user name. Of any content, bounded by the packet.
        name: Box<str>,
        /// Why.
        refusal: Refusal,
    },
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// The device has said good-bye (DISCONNECT).
    Goodbye,
    /// The device or the network has closed it.
    Lost,
    /// Nothing came for 1.5 keep-alives.
    KeepAlive,
    /// The device has sent what MQTT does not allow.
    Protocol,
    /// A packet that the device began did not come in time, or took the most room of all when there was none left.
    Slow,
    /// The device does not take what is sent to it.
    Backlog,
    /// The same device has connected anew.
    TakenOver,
    /// The device's credentials were changed or removed, or the device.
    Credentials,
    /// The server stops.
    Stopping,
}

impl Ending {
    /// Every ending.
    pub const ALL: [Self; 9] = [
        Self::Goodbye,
        Self::Lost,
        Self::KeepAlive,
        Self::Protocol,
        Self::Slow,
        Self::Backlog,
        Self::TakenOver,
        Self::Credentials,
        Self::Stopping,
    ];

    /// A stable word for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Goodbye => "goodbye",
            Self::Lost => "lost",
            Self::KeepAlive => "keep_alive",
            Self::Protocol => "protocol",
            Self::Slow => "slow",
            Self::Backlog => "backlog",
            Self::TakenOver => "taken_over",
            Self::Credentials => "credentials",
            Self::Stopping => "stopping",
        }
    }
}

/// Why nothing was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The device has no connection.
    #[error("the device is not connected")]
    NotConnected,
    /// The device does not take such messages.
    #[error("the device is of another kind")]
    OtherStyle,
    /// The device has unsubscribed from where it would be sent.
    #[error("the device has unsubscribed from the topic")]
    Unsubscribed,
    /// As much as is allowed is on the way and waits behind it.
    #[error("the device has not acknowledged what was sent before")]
    QueueFull,
    /// The device has said that it takes no packet of that size, or there is no packet of that size.
    #[error("the message is larger than the device takes")]
    TooLarge,
}
