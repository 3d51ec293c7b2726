//! What devices answer to a read, in the formats that they use for it.
//!
//! A device is asked for one instance (`/4/0`) or one resource (`/4/0/2`); what it sends is reduced
//! to the resources of that one instance. TLV and text do not say what type a value has: the object's
//! definition does. Such a value is kept as it came, and read as what is wanted of it.

mod cbor;
mod lwm2m_cbor;
mod senml;
mod senml_cbor;
mod senml_json;
mod text;
mod tlv;
mod value;

#[cfg(test)]
mod tests;

pub use value::Value;

use thiserror::Error;

use super::ResourcePath;

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
    /// `application/senml+json` (RFC 8428).
    pub const SENML_JSON: u16 = 110;
    /// `application/senml+cbor` (RFC 8428).
    pub const SENML_CBOR: u16 = 112;
    /// The number of TLV before it was registered, in LwM2M's drafts.
    pub const TLV_OLD: u16 = 1542;
    /// `application/vnd.oma.lwm2m+tlv`.
    pub const TLV: u16 = 11542;
    /// `application/vnd.oma.lwm2m+cbor`, since LwM2M 1.2.
    pub const LWM2M_CBOR: u16 = 11544;
}

/// Why an answer cannot be read. Always the device's doing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ContentError {
    /// A format that is not known here.
    #[error("content format {0} is not understood")]
    Format(u16),
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
/// Every resource comes once; of one with several instances the first counts. A read of a whole
/// object (`/4`) yields the instance that comes first.
pub fn decode(
    content_format: Option<u16>,
    asked: &ResourcePath,
    payload: &[u8],
) -> Result<Vec<(ResourceId, Value)>, ContentError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(ContentError::TooLong(payload.len()));
    }
    let mut found = Found::new(*asked);
    match content_format {
        None | Some(format::TEXT) => unlabelled(&mut found, payload)?,
        Some(format::OPAQUE) => found.single(Value::Opaque(payload.to_vec()))?,
        Some(format::SENML_JSON) => senml_json::read(&mut found, payload)?,
        Some(format::SENML_CBOR) => senml_cbor::read(&mut found, payload)?,
        Some(format::TLV | format::TLV_OLD) => tlv::read(&mut found, payload)?,
        Some(format::LWM2M_CBOR) => lwm2m_cbor::read(&mut found, payload)?,
        Some(other) => return Err(ContentError::Format(other)),
    }
    Ok(found.values)
}

fn unlabelled(found: &mut Found, payload: &[u8]) -> Result<(), ContentError> {
    let Some(resource) = found.asked.resource() else {
        // a single value can be none of an instance's resources
        return match payload.first() {
            Some(b'[') => senml_json::read(found, payload),
            _ => tlv::read(found, payload),
        };
    };
    if tlv::is_resource(payload, resource) {
        return tlv::read(found, payload);
    }
    if payload.first() == Some(&b'[') {
        return senml_json::read(found, payload);
    }
    text::read(found, payload)
}

/// The values that were asked for, out of all that come.
#[derive(Debug)]
struct Found {
    asked: ResourcePath,
    /// The instance that is read: the one asked for, else the first that comes.
    instance: Option<u16>,
    values: Vec<(ResourceId, Value)>,
}

impl Found {
    fn new(asked: ResourcePath) -> Self {
        Self {
            asked,
            instance: asked.instance(),
            values: Vec::new(),
        }
    }

    /// A value whose place is the path that was asked for.
    fn single(&mut self, value: Value) -> Result<(), ContentError> {
        let resource = self
            .asked
            .resource()
            .ok_or(ContentError::SingleValue(self.asked))?;
        self.resource(resource, value)
    }

    /// A resource of the instance that is read.
    fn resource(&mut self, resource: ResourceId, value: Value) -> Result<(), ContentError> {
        let other = self.asked.resource().is_some_and(|id| id != resource);
        if other || self.values.iter().any(|(id, _)| *id == resource) {
            return Ok(());
        }
        if self.values.len() == MAX_VALUES {
            return Err(ContentError::TooManyValues);
        }
        self.values.push((resource, value));
        Ok(())
    }

    /// A value with its full path: object, instance, resource and perhaps the resource's instance.
    fn at(&mut self, path: &[u16], value: Value) -> Result<(), ContentError> {
        match *path {
            [object, instance, resource] | [object, instance, resource, _]
                if object == self.asked.object() && self.takes_instance(instance) =>
            {
                self.resource(resource, value)
            }
            _ => Ok(()),
        }
    }

    fn takes_instance(&mut self, instance: u16) -> bool {
        *self.instance.get_or_insert(instance) == instance
    }
}
