//! Simulated devices that speak MQTT and download over HTTP: Huawei IoTDA's, `ThingsPanel`'s, and those with
//! QuecThing.
//!
//! [`Device`] is one device without sockets, clock or randomness: connections, messages, what became of a download, and
//! the time go in; what to connect, publish and download comes out. [`Link`] is its MQTT: bytes in, bytes out.
//! [`Fleet`] lets thousands of them loose on a server, over TCP and TLS. [`Fault`] lists how they go wrong, each with
//! the result that the server should record.
//!
//! MQTT is `rumqttc`'s, TLS is `rustls`, HTTP is [`http`]: none of them is the server's.

mod device;
mod fault;
pub mod fleet;
pub mod http;
mod iotda;
mod link;
pub mod quecthing;
mod spec;
mod style;
mod thingspanel;

pub use device::{
    Connect, Counters, Device, DownloadFailure, Ending, Fetched, Output, Report, Request,
};
pub use fault::{Fault, FaultError};
pub use fleet::Fleet;
pub use link::{Event, Link};
pub use spec::{Secret, Spec, Timing};
pub use style::{Client, Style, UnknownName};

/// A number, or a text that is one.
fn number(value: &serde_json::Value) -> Option<u64> {
    value
        .as_u64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}
