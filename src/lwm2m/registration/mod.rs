//! What a device says when it registers and when it updates its registration.
//!
//! Registration: `POST /rd?ep=…&lt=…&lwm2m=…&b=…` with the device's objects as a list of links;
//! update: `POST /rd/{id}`, often with neither parameter nor payload (LwM2M 1.0 §5.3, 1.1 §6.2).
//! Devices in the field leave out what they can, so only a name that cannot be used, a number that is
//! none, or a version that is not spoken here refuses a registration.

mod binding;
mod objects;
mod query;
mod version;

#[cfg(test)]
mod tests;

pub use binding::Binding;
pub use objects::{MAX_LINKS, MAX_LINKS_LEN, Objects};
pub use version::Lwm2mVersion;

use thiserror::Error;

use super::endpoint::{EndpointError, check_endpoint};
use query::Parameters;

/// The lifetime of a registration that names none (LwM2M 1.0 §5.3.1).
pub const DEFAULT_LIFETIME_S: u32 = 86_400;

/// Longest lifetime that is granted: a year. A device that vanishes should not stay registered for
/// longer; one that is still there is told so by 4.04 at its next update, and registers anew.
pub const MAX_LIFETIME_S: u32 = 365 * 86_400;

/// A registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterRequest {
    /// The endpoint name, one that [`check_endpoint`] takes.
    pub endpoint: String,
    /// Seconds without an update after which the registration ends, 1 to [`MAX_LIFETIME_S`].
    pub lifetime_s: u32,
    /// The device has said so; otherwise it is the standard's default.
    pub tells_lifetime: bool,
    /// The device listens only for a while after its last message (`b=UQ`, or `Q` since LwM2M 1.1).
    pub queue_mode: bool,
    /// The transports over which it can be reached.
    pub binding: Binding,
    /// The version that the device says it speaks, when it says so.
    pub lwm2m_version: Option<Lwm2mVersion>,
    /// The objects that it announces.
    pub objects: Objects,
}

/// An update of a registration: what is `None` stays as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateRequest {
    /// As in [`RegisterRequest::lifetime_s`].
    pub lifetime_s: Option<u32>,
    /// `Some(false)` when a binding without `Q` is given.
    pub queue_mode: Option<bool>,
    /// The transports over which it can be reached now.
    pub binding: Option<Binding>,
    /// The objects that it announces now.
    pub objects: Option<Objects>,
}

/// Why a registration or an update is refused. The text is meant for the device's log: it goes into
/// the payload of the response (RFC 7252 §5.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RegisterError {
    /// No `ep`.
    #[error("ep is missing")]
    EndpointMissing,
    /// A name that cannot be used.
    #[error("ep: {0}")]
    Endpoint(#[from] EndpointError),
    /// Not a number.
    #[error("lt must be a whole number of seconds")]
    Lifetime,
    /// One that this server does not speak.
    #[error("lwm2m must be 1.0, 1.1 or 1.2")]
    Version,
    /// Two values for one parameter.
    #[error("{0} is given twice")]
    Repeated(&'static str),
    /// More Uri-Query options than any device has use for.
    #[error("too many parameters")]
    TooManyParameters,
}

impl RegisterRequest {
    /// Reads the values of a registration's Uri-Query options, and its payload.
    ///
    /// A payload that is not understood announces nothing; it refuses nothing either.
    pub fn parse<'a>(
        queries: impl IntoIterator<Item = &'a [u8]>,
        payload: &[u8],
    ) -> Result<Self, RegisterError> {
        let parameters = Parameters::read(queries)?;
        Ok(Self {
            endpoint: endpoint(parameters.endpoint)?,
            lifetime_s: parameters
                .lifetime_s
                .map_or(Ok(DEFAULT_LIFETIME_S), lifetime)?,
            tells_lifetime: parameters.lifetime_s.is_some(),
            queue_mode: parameters.queue_mode().unwrap_or(false),
            binding: parameters.binding.map(Binding::parse).unwrap_or_default(),
            lwm2m_version: parameters.version.map_or(Ok(None), lwm2m_version)?,
            objects: Objects::parse(payload),
        })
    }
}

impl UpdateRequest {
    /// Reads the values of an update's Uri-Query options, and its payload.
    pub fn parse<'a>(
        queries: impl IntoIterator<Item = &'a [u8]>,
        payload: &[u8],
    ) -> Result<Self, RegisterError> {
        let parameters = Parameters::read(queries)?;
        Ok(Self {
            lifetime_s: parameters.lifetime_s.map(lifetime).transpose()?,
            queue_mode: parameters.queue_mode(),
            binding: parameters.binding.map(Binding::parse),
            objects: Some(Objects::parse(payload)).filter(|objects| !objects.is_empty()),
        })
    }
}

fn endpoint(value: Option<&[u8]>) -> Result<String, RegisterError> {
    let value = value.ok_or(RegisterError::EndpointMissing)?;
    Ok(check_endpoint(value)?.to_owned())
}

/// 0 asks for a registration without end (LwM2M 1.1, object 1, resource 1), which is
/// [`MAX_LIFETIME_S`] here.
fn lifetime(value: &[u8]) -> Result<u32, RegisterError> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value)
        .ok()
        .filter(|_| digits)
        .ok_or(RegisterError::Lifetime)?;
    // only digits: what does not fit is too long
    let seconds = text.parse().unwrap_or(u32::MAX);
    Ok(match seconds {
        0 => MAX_LIFETIME_S,
        _ => seconds.min(MAX_LIFETIME_S),
    })
}

/// What has not the form of a version tells nothing.
fn lwm2m_version(value: &[u8]) -> Result<Option<Lwm2mVersion>, RegisterError> {
    let text = std::str::from_utf8(value)
        .unwrap_or_default()
        .trim_matches('"');
    match text.parse() {
        Ok(version) => Ok(Some(version)),
        Err(()) if version::is_version(text) => Err(RegisterError::Version),
        Err(()) => Ok(None),
    }
}
