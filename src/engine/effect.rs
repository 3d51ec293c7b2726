use std::net::SocketAddr;

use super::{Change, Fetched, Seek};
use crate::{
    coap::{Datagram, Peer},
    grants::{Grant, Token},
    ledger::{DeviceId, Outcome, PullToken, UpgradeId},
    session::GateAsk,
};

/// Numbers the changes in the order in which they were emitted; 0 comes before the first.
pub type Seq = u64;

/// The upgrade that a device has under way which is sent a request. Where a change of that is refused, the request does not leave; and
/// where it does not, it does not count for it ([`Engine::unsent`](super::Engine::unsent)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// The upgrade.
    pub upgrade: UpgradeId,
    /// The request went before.
    pub again: bool,
}

/// What the engine wants done. Effects come out in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Remember this.
    Persist {
        /// The change's number.
        seq: Seq,
        /// What to remember.
        change: Change,
    },
    /// Send this.
    Transmit {
        /// To whom.
        peer: Peer,
        /// A CoAP message.
        datagram: Datagram,
        /// Not before this change is committed. A restart then never forgets what a device was told.
        after: Seq,
        /// For which upgrade it is sent, where it is a request.
        about: Option<About>,
    },
    /// Let a device download its package over HTTP.
    Grant {
        /// What it may.
        grant: Box<Grant>,
        /// Not before this change is committed.
        after: Seq,
    },
    /// Take that back.
    Revoke {
        /// What the device shows.
        token: Token,
        /// Not before this change is committed.
        after: Seq,
    },
    /// Something an operator wants to see in the log.
    Report(Report),
    /// Tell the gate.
    Ask(GateAsk),
    /// Find the device, and have it come here.
    Seek(Box<Seek>),
    /// Tell whoever has the device what it was served here.
    Fetched(Box<Fetched>),
    /// Have all others know that nothing is served under that token any more.
    Recall(PullToken),
    /// The device is no more.
    Left(DeviceId),
}

/// Something an operator wants to see in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A device registered.
    Registered {
        /// The device.
        endpoint: String,
        /// Its address.
        peer: Peer,
    },
    /// An endpoint that nobody added tried to register.
    UnknownEndpoint {
        /// The name it gave.
        endpoint: String,
        /// Its address.
        peer: Peer,
        /// Anybody may register, and there are as many devices as may: this many (`lwm2m.max_open_devices`).
        reached: Option<usize>,
    },
    /// Anybody may register, and this one comes when too many others have, of its network or of all
    /// (`lwm2m.newcomers_per_hour`).
    TooManyCome {
        /// The name it gave.
        endpoint: String,
        /// Its address.
        peer: Peer,
    },
    /// Somebody acted as a device that it has not shown to be, or that is not to be heard unencrypted.
    Impostor {
        /// The device.
        endpoint: String,
        /// Where it was heard.
        peer: Peer,
        /// Endpoints that it has shown to be.
        identities: Vec<String>,
    },
    /// A gateway spoke for a device that is not reached through it.
    ChildRefused {
        /// The gateway.
        gateway: String,
        /// The name of the device.
        child: String,
        /// Where the gateway is.
        address: SocketAddr,
    },
    /// An attempt ended.
    UpgradeEnded {
        /// The device.
        endpoint: String,
        /// The upgrade.
        upgrade: UpgradeId,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// How it ended.
        outcome: Outcome,
        /// Whether another attempt follows.
        retried: bool,
    },
}

macro_rules! counters {
    ($($name:ident: $help:literal,)*) => {
        /// What the engine has counted since it started. Each field becomes a metric of its name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Counters {
            $(#[doc = $help] pub $name: u64,)*
        }

        impl Counters {
            /// Every counter: its name without prefix and suffix, its help text, its value.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), $help, self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    datagrams_received: "Datagrams received from devices.",
    datagrams_malformed: "Datagrams that were no CoAP message.",
    datagrams_repeated: "Messages recognised as repeats.",
    messages_stale: "Notifications that the network kept until the device had registered anew.",
    messages_unexpected: "Responses and acknowledgements that answer nothing.",
    requests_refused: "Device requests answered with an error.",
    requests_ignored: "Registrations and reports left alone because the device sends too many.",
    requests_deferred: "Requests left alone because the devices from before a restart were still being read.",
    requests_repeated: "Requests sent to a device again for want of an acknowledgement.",
    requests_timed_out: "Requests to devices given up.",
    requests_dropped: "Requests dropped because a device's queue was full.",
    impostors: "Messages refused because their sender had not shown to be the device.",
    requests_withheld: "Requests not sent, or not sent again, to an address from which nothing has answered yet.",
    registrations: "Registrations accepted.",
    registrations_refused: "Registrations refused.",
    newcomers_put_off: "Registrations of endpoints that nobody added, put off because too many others have come lately.",
    writes_put_off: "Requests answered 5.03 because too many changes wait to be stored.",
    devices_moved: "Devices that came from another shard because they were heard on this one.",
    registrations_expired: "Registrations whose lifetime ran out.",
    service_data: "Notifications that were not PCP.",
    pcp_malformed: "PCP frames that could not be decoded.",
    pcp_unexpected: "PCP messages that mean nothing at their time.",
    segments_served: "Segments sent for the first time or asked for again.",
    segments_refused: "Segment requests answered with an error.",
    segments_deferred: "Segment requests left alone because the device has no slot yet.",
    blocks_served: "Blocks of packages that devices fetched over CoAP.",
    blocks_refused: "Requests for blocks of packages answered with an error.",
    admissions: "Slots granted.",
    mqtt_messages: "Publications received from devices over MQTT.",
    mqtt_others: "Events of devices over MQTT that are about something else than upgrades, or about another device.",
    mqtt_unreadable: "Publications of devices over MQTT that should tell of an upgrade and cannot be read.",
    mqtt_unexpected: "Reports of devices over MQTT that mean nothing at their time.",
    mqtt_publications: "Version queries and offers published to devices over MQTT.",
    upgrades_succeeded: "Attempts that succeeded.",
    upgrades_failed: "Attempts that failed.",
    upgrades_cancelled: "Attempts that were stopped.",
}
