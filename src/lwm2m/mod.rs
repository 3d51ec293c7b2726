//! LwM2M as far as upgrades need it: registrations, resource paths, and the content formats in which
//! devices answer a read. Pure.
//!
//! Everything in here is written by devices, so everything is bounded: sizes, counts, depth.
//! Sources: OMA LwM2M Technical Specification 1.0, 1.1 and 1.2 (Core and Transport).

mod connectivity;
mod content;
mod path;
mod registration;

pub use connectivity::ConnectivityReading;
pub use content::{ContentError, MAX_PAYLOAD, MAX_VALUES, ResourceId, Value, decode, format};
pub use path::{PathError, ResourcePath};
pub use registration::{
    Binding, DEFAULT_LIFETIME_S, Lwm2mVersion, MAX_ENDPOINT_LEN, MAX_LIFETIME_S, MAX_LINKS,
    MAX_LINKS_LEN, Objects, RegisterError, RegisterRequest, UpdateRequest,
};
