//! Devices that speak MQTT: the server that they connect to, and what its topics mean. Pure: no clock, no socket.

pub mod endpoint;
