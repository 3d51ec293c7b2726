//! Devices that speak MQTT: the server that they connect to, or the broker whose client this server is, what its topics and payloads mean, and the devices' sessions. Pure: no
//! clock, no socket.

pub mod broker;
pub mod endpoint;
pub mod engine;
pub mod iotda;
pub mod quecthing;
pub mod thingspanel;
