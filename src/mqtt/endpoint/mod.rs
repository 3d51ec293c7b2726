//! The MQTT server that devices connect to: 3.1.1 and 5, QoS 0 and 1 in both directions, QoS 2 inbound. No retained messages, no
//! wills, nothing from device to device. No socket and no clock: bytes go in, [`Output`]s come out.
//!
//! A driver calls
//! * [`Endpoint::accept`] for a new connection, which gives it its [`ConnId`]; then [`Endpoint::receive`] with what it says, and
//!   [`Endpoint::closed`] when it is over;
//! * [`Endpoint::handle_timeout`] when [`Endpoint::poll_timeout`] is reached;
//! * [`Endpoint::poll_output`] after each of these, until there is nothing more. [`Output::Authenticate`] is answered with
//!   [`Endpoint::authenticated`], at once or later: the connection is not read meanwhile.
//!
//! Whoever serves the devices gets [`Event`]s, and calls
//! * [`Endpoint::publish`] with a payload for a device: [`Downlink::Events`] for IoTDA, [`Downlink::Push`] for `ThingsPanel`. The
//!   endpoint knows the topic's spelling. What depends on something that is to be committed is published after that;
//! * [`Endpoint::acknowledge`] with the [`Ack`] of a message, once what follows from it is committed: only then PUBACK or PUBREC
//!   leaves. Acknowledge each device's in the order in which they came (MQTT 5 §4.6);
//! * [`Endpoint::hold`] while a device downloads: many devices do that on the thread that speaks MQTT, and send no PINGREQ until
//!   it ends. Their keep-alive is not enforced then, for a bounded time;
//! * [`Endpoint::kick`] when a device's credentials, or the device, are changed or removed.
//!
//! Sessions end with their connections, whatever a client asks for ("clean session"): nothing is kept for a device that is not
//! connected, and nothing is sent a second time. Who serves a device asks it again after [`Event::Connected`].

mod event;
mod identity;
mod topic;

pub use event::{Ack, ConnId, Ending, Event, Output, PublishError, Qos, Reading, Verdict, Version};
pub use identity::{Claim, Credential, Identity, Refusal, Style};
pub use topic::{Downlink, MAX_TOPIC_LEN, Release, TopicError, Uplink, uplink};
