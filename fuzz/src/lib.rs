//! What the fuzz targets do with their input: each panics where a property does not hold.
//!
//! The ordinary tests include this file and replay the corpora through it, see `tests/corpora`.
#![allow(clippy::missing_panics_doc)] // it is what they are for

pub mod coap_datagram;
pub mod download_head;
pub mod engine;
pub mod lwm2m_content;
pub mod mqtt_endpoint;
pub mod pcp_frame;
pub mod quecthing_frame;
