//! What devices answer to a read and put into notifications, in the formats that they use for it.
//!
//! A device is asked for one instance (`/4/0`) or one resource (`/4/0/2`); what it sends is reduced
//! to the resources of that one instance. TLV and text do not say what type a value has: the object's
//! definition does. Such a value is kept as it came, and read as what is wanted of it.
//!
//! Numbers are read by [`decode`]: of several values of one resource the newest. Bytes, which may come as several
//! values that all count, are read by [`opaque_of`].

mod accept;
mod base64;
mod cbor;
mod json;
mod lwm2m_cbor;
mod opaque;
mod senml;
mod senml_cbor;
mod senml_json;
mod text;
mod time;
mod tlv;
mod value;

#[cfg(test)]
mod tests;

pub use accept::accept_for;
pub use opaque::{Container, Opaque, Wrapping, opaque_of};
pub use value::Value;

use thiserror::Error;

use super::ResourcePath;
use time::Time;

/// The number of a resource within its object's instance.
pub type ResourceId = u16;

/// Longest payload that is looked at, bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// Values that are taken from one payload at most; a payload with more is refused.
pub const MAX_VALUES: usize = 256;

/// Content format numbers (IANA "CoAP Content-Formats").
pub mod format {
    /// `text/plain;charset=utf-8`: one resource.
    pub const TEXT: u16 = 0;
    /// `application/octet-stream`.
    pub const OPAQUE: u16 = 42;
    /// `application/cbor`: one resource, since LwM2M 1.1.
    pub const CBOR: u16 = 60;
    /// `application/senml+json` (RFC 8428).
    pub const SENML_JSON: u16 = 110;
    /// `application/senml+cbor` (RFC 8428).
    pub const SENML_CBOR: u16 = 112;
    /// The number of TLV before it was registered, in LwM2M's drafts.
    pub const TLV_OLD: u16 = 1542;
    /// The number of JSON before it was registered, in LwM2M's drafts.
    pub const JSON_OLD: u16 = 1543;
    /// `application/vnd.oma.lwm2m+tlv`.
    pub const TLV: u16 = 11542;
    /// `application/vnd.oma.lwm2m+json`, of LwM2M 1.0.
    pub const JSON: u16 = 11543;
    /// `application/vnd.oma.lwm2m+cbor`, since LwM2M 1.2.
    pub const LWM2M_CBOR: u16 = 11544;
}

/// Why an answer cannot be read. Always the device's doing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ContentError {
    /// A format that is not known here.
    #[error("content format {0} is not understood")]
    Format(u16),
    /// Something else was sent where bytes were expected.
    #[error("{0}, which is no bytes")]
    NotBytes(String),
    /// A value without number was sent for a whole instance.
    #[error("a single value in answer to the read of {0}")]
    SingleValue(ResourcePath),
    /// The format's rules are broken.
    #[error("malformed {format}: {problem}")]
    Malformed {
        /// The format's name.
        format: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// More than [`MAX_PAYLOAD`].
    #[error("{0} bytes are more than {MAX_PAYLOAD}")]
    TooLong(usize),
    /// More than [`MAX_VALUES`].
    #[error("more than {MAX_VALUES} values")]
    TooManyValues,
}

/// Reads the payload that was sent for `asked`, in the given content format.
///
/// Many devices leave the option out, or write 0 whatever they send: then the payload's form decides.
/// Every resource comes once: of a resource that is told several times, the newest value, and of equally new ones
/// the first. A read of a whole object (`/4`) yields the instance that comes first.
pub fn decode(
    content_format: Option<u16>,
    asked: &ResourcePath,
    payload: &[u8],
) -> Result<Vec<(ResourceId, Value)>, ContentError> {
    let mut found = Found::newest(*asked);
    read(&mut found, content_format, payload)?;
    let values = found.told.into_iter();
    Ok(values.map(|told| (told.resource, told.value)).collect())
}

/// Every value of one resource, in whichever format it comes: of one with instances, those of all of them.
///
/// # Errors
/// It cannot be read.
pub fn values_of(
    content_format: Option<u16>,
    asked: &ResourcePath,
    payload: &[u8],
) -> Result<Vec<Value>, ContentError> {
    let mut found = Found::every(*asked);
    read(&mut found, content_format, payload)?;
    let told = found.told.into_iter();
    Ok(told
        .filter(|told| Some(told.resource) == asked.resource())
        .map(|told| told.value)
        .collect())
}

fn read(
    found: &mut Found,
    content_format: Option<u16>,
    payload: &[u8],
) -> Result<(), ContentError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(ContentError::TooLong(payload.len()));
    }
    match content_format {
        None | Some(format::TEXT) => unlabelled(found, payload),
        Some(format::OPAQUE) => found.single(Value::Opaque(payload.to_vec())),
        Some(format::CBOR) => cbor::read(found, payload),
        Some(format::JSON | format::JSON_OLD) => json::read(found, payload),
        Some(format::SENML_JSON) => senml_json::read(found, payload),
        Some(format::SENML_CBOR) => senml_cbor::read(found, payload),
        Some(format::TLV | format::TLV_OLD) => tlv::read(found, payload),
        Some(format::LWM2M_CBOR) => lwm2m_cbor::read(found, payload),
        Some(other) => Err(ContentError::Format(other)),
    }
}

fn unlabelled(found: &mut Found, payload: &[u8]) -> Result<(), ContentError> {
    match unlabelled_form(&found.asked, payload) {
        Some(Container::SenmlJson) => senml_json::read(found, payload),
        Some(Container::Json) => json::read(found, payload),
        Some(_) => tlv::read(found, payload),
        None => text::read(found, payload),
    }
}

/// What a payload looks like that names no format, or text whatever it is; `None` when it is text.
fn unlabelled_form(asked: &ResourcePath, payload: &[u8]) -> Option<Container> {
    match (asked.resource(), payload.first()) {
        (Some(resource), _) if tlv::is_resource(payload, resource) => Some(Container::Tlv),
        (_, Some(b'[')) => Some(Container::SenmlJson),
        (_, Some(b'{')) => Some(Container::Json),
        // a single value can be none of an instance's resources
        (None, _) => Some(Container::Tlv),
        (Some(_), _) => None,
    }
}

/// The values that were asked for, out of all that come.
#[derive(Debug)]
struct Found {
    asked: ResourcePath,
    /// The instance that is read: the one asked for, else the first that comes.
    instance: Option<u16>,
    /// Whether every value counts, or the newest of each resource.
    every: bool,
    /// The resource that was asked for has instances of its own.
    multiple: bool,
    told: Vec<Told>,
}

/// One value of a resource.
#[derive(Debug)]
struct Told {
    resource: ResourceId,
    time: Time,
    value: Value,
}

impl Found {
    /// Takes the newest value of each resource.
    fn newest(asked: ResourcePath) -> Self {
        Self {
            asked,
            instance: asked.instance(),
            every: false,
            multiple: false,
            told: Vec::new(),
        }
    }

    /// Takes every value of each resource.
    fn every(asked: ResourcePath) -> Self {
        Self {
            every: true,
            ..Self::newest(asked)
        }
    }

    /// A value whose place is the path that was asked for.
    fn single(&mut self, value: Value) -> Result<(), ContentError> {
        self.resource(self.asked_resource()?, Time::NOW, value)
    }

    fn asked_resource(&self) -> Result<ResourceId, ContentError> {
        (self.asked.resource()).ok_or(ContentError::SingleValue(self.asked))
    }

    /// A resource of the instance that is read.
    fn resource(
        &mut self,
        resource: ResourceId,
        time: Time,
        value: Value,
    ) -> Result<(), ContentError> {
        if (self.asked.resource()).is_some_and(|id| id != resource) {
            return Ok(());
        }
        let told = Told {
            resource,
            time,
            value,
        };
        let known = (self.told.iter_mut())
            .filter(|_| !self.every)
            .find(|known| known.resource == resource);
        if let Some(known) = known {
            if time > known.time {
                *known = told;
            }
            return Ok(());
        }
        if self.told.len() == MAX_VALUES {
            return Err(ContentError::TooManyValues);
        }
        self.told.push(told);
        Ok(())
    }

    /// A value with its full path: object, instance, resource and perhaps the resource's instance.
    fn at(&mut self, path: &[u16], time: Time, value: Value) -> Result<(), ContentError> {
        match *path {
            [object, instance, resource, ref of_resource @ ..]
                if object == self.asked.object() && self.takes_instance(instance) =>
            {
                if !of_resource.is_empty() {
                    self.has_instances(resource);
                }
                self.resource(resource, time, value)
            }
            _ => Ok(()),
        }
    }

    /// The resource is told by its instances.
    fn has_instances(&mut self, resource: ResourceId) {
        self.multiple |= self.asked.resource() == Some(resource);
    }

    fn takes_instance(&mut self, instance: u16) -> bool {
        *self.instance.get_or_insert(instance) == instance
    }
}
