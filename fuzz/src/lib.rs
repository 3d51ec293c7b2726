//! What the fuzz targets do with their input: each panics where a property does not hold.
//!
//! The ordinary tests include this file and replay the corpora through it, see `tests/corpora`.
#![allow(clippy::missing_panics_doc)] // it is what they are for

pub mod coap_datagram;
pub mod engine;
pub mod lwm2m_content;
pub mod pcp_frame;

/// A target's name, which is that of its corpus too, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 4] = [
    ("pcp_frame", pcp_frame::run),
    ("coap_datagram", coap_datagram::run),
    ("lwm2m_content", lwm2m_content::run),
    ("engine", engine::run),
];
