//! LwM2M as far as upgrades need it: registrations, resource paths, and the content formats in which
//! devices answer a read. Pure.
//!
//! Everything in here is written by devices, so everything is bounded: sizes, counts, depth.
//! Sources: OMA LwM2M Technical Specification 1.0, 1.1 and 1.2 (Core and Transport).

mod connectivity;
mod content;
mod endpoint;
mod path;
mod registration;
mod send;

pub use connectivity::ConnectivityReading;
pub use content::{
    Container, ContentError, MAX_PAYLOAD, MAX_VALUES, Opaque, ResourceId, Value, Wrapping,
    accept_for, decode, format, opaque_of, values_of,
};
pub use endpoint::{EndpointError, MAX_ENDPOINT_LEN, check_endpoint};
pub use path::{PathError, ResourcePath};
pub use registration::{
    Binding, DEFAULT_LIFETIME_S, Lwm2mVersion, MAX_LIFETIME_S, MAX_LINKS, MAX_LINKS_LEN, Objects,
    RegisterError, RegisterRequest, UpdateRequest,
};
pub use send::{SendError, SendRequest};
