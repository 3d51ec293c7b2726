//! Simulated NB-IoT devices that speak LwM2M over CoAP and are upgraded by PCP or by an object of OMA's ([`object`]), and devices that speak MQTT ([`mqtt`]).
//!
//! [`device::Device`] is one device: a state machine without sockets, clock or randomness of its own.
//! Datagrams and the time go in, datagrams and deadlines come out, and the same seed gives the same
//! device, so a hundred thousand of them can live under a virtual clock. [`fleet::Fleet`] lets
//! thousands of them loose on a server over UDP, with [`dtls::DtlsLink`] between device and socket if
//! they have keys. [`radio::Radio`] is what lies between in a simulation.
//! [`fault::Fault`] lists the ways in which real devices
//! surprise a server, each with the result that the server should record.
//!
//! The crate shares no CoAP, LwM2M, MQTT or TLS code with the server that it tests.

pub mod coap;
pub mod content;
pub mod device;
pub mod dtls;
pub mod fault;
pub mod fleet;
pub mod mqtt;
pub mod object;
pub mod psk;
pub mod radio;
mod rng;
pub mod spec;

pub use device::{Device, Port};
pub use fault::{Expected, Fault, ObjectFault};
pub use object::{Character, Image, ObjectSpec, UpdatesBy};
pub use psk::{Key, Psk};
pub use spec::{Behaviour, Coverage, CoverageClass, DeviceSpec, Timing};
