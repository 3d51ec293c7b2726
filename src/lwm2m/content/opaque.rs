//! Bytes of a resource: bare, or wrapped in a content format that can hold anything.

use std::borrow::Cow;

use minicbor::Encoder;
use serde_json::json;

use super::{ContentError, Found, Value, base64, format, read, tlv, unlabelled_form};
use crate::lwm2m::ResourcePath;

/// A content format that wraps bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// Plain text: base64.
    Text,
    /// CBOR: a byte string.
    Cbor,
    /// `SenML` JSON.
    SenmlJson,
    /// `SenML` CBOR.
    SenmlCbor,
    /// TLV.
    Tlv,
    /// TLV under its old number.
    TlvOld,
    /// JSON of LwM2M 1.0.
    Json,
    /// JSON of LwM2M 1.0 under its old number.
    JsonOld,
    /// LwM2M CBOR.
    Lwm2mCbor,
}

/// How a device wraps the bytes of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrapping {
    /// In which format.
    pub container: Container,
    /// The resource has instances of its own (`/19/0/0/0`), each of which holds bytes.
    pub multiple: bool,
}

/// The bytes of a resource as a device sent them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opaque<'a> {
    /// One for each instance of the resource, and for each time for which it is told; the oldest first.
    pub values: Vec<Cow<'a, [u8]>>,
    /// What they were wrapped in, `None` for bare bytes.
    pub wrapping: Option<Wrapping>,
}

/// Takes the bytes of the resource at `path` out of a payload in the given content format. In none, or in
/// application/octet-stream, it is bare bytes; of a payload that names none the form decides first.
pub fn opaque_of<'a>(
    content_format: Option<u16>,
    path: &ResourcePath,
    payload: &'a [u8],
) -> Result<Opaque<'a>, ContentError> {
    let container = match content_format {
        Some(format::OPAQUE) => None,
        None => unlabelled_form(path, payload),
        Some(format::TEXT) => unlabelled_form(path, payload).or(Some(Container::Text)),
        Some(other) => Some(Container::of(other).ok_or(ContentError::Format(other))?),
    };
    let Some(container) = container else {
        return Ok(Opaque {
            values: vec![payload.into()],
            wrapping: None,
        });
    };
    let mut found = Found::every(*path);
    read(&mut found, Some(container.format()), payload)?;
    found.told.sort_by(|a, b| a.time.total_cmp(&b.time));
    let values = found.told.into_iter().map(|told| bytes(told.value));
    Ok(Opaque {
        values: values.collect::<Result<_, _>>()?,
        wrapping: Some(Wrapping {
            container,
            multiple: found.multiple,
        }),
    })
}

/// Text is base64 (LwM2M 1.0 Appendix C).
fn bytes<'a>(value: Value) -> Result<Cow<'a, [u8]>, ContentError> {
    match value {
        Value::Opaque(bytes) | Value::Untyped(bytes) => Ok(bytes.into()),
        Value::Text(ref text) => base64::decode(text.trim_ascii())
            .map(Cow::Owned)
            .ok_or_else(|| ContentError::NotBytes(value.shown())),
        other => Err(ContentError::NotBytes(other.shown())),
    }
}

impl Container {
    /// `None` for a format that wraps no bytes, or is not known.
    pub const fn of(content_format: u16) -> Option<Self> {
        Some(match content_format {
            format::TEXT => Self::Text,
            format::CBOR => Self::Cbor,
            format::SENML_JSON => Self::SenmlJson,
            format::SENML_CBOR => Self::SenmlCbor,
            format::TLV => Self::Tlv,
            format::TLV_OLD => Self::TlvOld,
            format::JSON => Self::Json,
            format::JSON_OLD => Self::JsonOld,
            format::LWM2M_CBOR => Self::Lwm2mCbor,
            _ => return None,
        })
    }

    /// Its number (IANA "CoAP Content-Formats").
    pub const fn format(self) -> u16 {
        match self {
            Self::Text => format::TEXT,
            Self::Cbor => format::CBOR,
            Self::SenmlJson => format::SENML_JSON,
            Self::SenmlCbor => format::SENML_CBOR,
            Self::Tlv => format::TLV,
            Self::TlvOld => format::TLV_OLD,
            Self::Json => format::JSON,
            Self::JsonOld => format::JSON_OLD,
            Self::Lwm2mCbor => format::LWM2M_CBOR,
        }
    }
}

impl Wrapping {
    /// The same for a resource that has instances, if this is not; plain text and CBOR have no place to name one.
    pub fn of_instance(self) -> Option<Self> {
        let place = !matches!(self.container, Container::Text | Container::Cbor);
        (place && !self.multiple).then_some(Self {
            multiple: true,
            ..self
        })
    }

    /// The content of a write of `bytes` to the resource at `path`, which has to name one. Where the resource has
    /// instances, the bytes become its instance 0, if the format has a place to name it.
    pub fn wrap(self, path: &ResourcePath, bytes: &[u8]) -> Vec<u8> {
        let resource = path.resource().unwrap_or_default();
        // a name that ends with a slash is completed by the instance's number
        let (base, name) = if self.multiple {
            (format!("{path}/"), Some("0"))
        } else {
            (path.to_string(), None)
        };
        match self.container {
            Container::Text => base64::standard(bytes).into_bytes(),
            Container::Cbor => cbor(|out| out.bytes(bytes).map(drop)),
            Container::Tlv | Container::TlvOld => tlv::write(resource, self.multiple, bytes),
            Container::SenmlJson => {
                let data = base64::url_safe(bytes);
                let record = match name {
                    Some(name) => json!({ "bn": base, "n": name, "vd": data }),
                    None => json!({ "bn": base, "vd": data }),
                };
                json!([record]).to_string().into_bytes()
            }
            Container::Json | Container::JsonOld => {
                let data = base64::standard(bytes);
                let entry = json!({ "n": name.unwrap_or_default(), "sv": data });
                json!({ "bn": base, "e": [entry] }).to_string().into_bytes()
            }
            Container::SenmlCbor => cbor(|out| {
                out.array(1)?.map(2 + u64::from(name.is_some()))?;
                out.i8(-2)?.str(&base)?;
                if let Some(name) = name {
                    out.u8(0)?.str(name)?;
                }
                out.u8(8)?.bytes(bytes).map(drop)
            }),
            Container::Lwm2mCbor => cbor(|out| {
                let instance = path.instance().unwrap_or_default();
                out.map(1)?.u16(path.object())?.map(1)?.u16(instance)?;
                out.map(1)?.u16(resource)?;
                if self.multiple {
                    out.map(1)?.u8(0)?;
                }
                out.bytes(bytes).map(drop)
            }),
        }
    }
}

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn cbor(write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Written) -> Vec<u8> {
    let mut out = Vec::new();
    // a vector takes everything
    let _ = write(&mut Encoder::new(&mut out));
    out
}

#[cfg(test)]
mod tests;
