use std::{fmt, str::FromStr};

use thiserror::Error;

/// The path of an object (`/4`), one of its instances (`/4/0`) or a resource in it (`/4/0/2`).
///
/// LwM2M 1.0 §6.1: every level is a number of 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourcePath {
    object: u16,
    instance: Option<u16>,
    resource: Option<u16>,
}

/// Why a text is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a path of one to three numbers, such as /4/0/2")]
pub struct PathError;

impl ResourcePath {
    /// Lifetime of the registration, seconds, of the first LwM2M server that the device has.
    pub const LIFETIME: Self = Self::of_resource(1, 0, 1);
    /// The version of the firmware that runs.
    pub const FIRMWARE_VERSION: Self = Self::of_resource(3, 0, 3);
    /// Connectivity Monitoring, whole: one exchange for all that follows.
    pub const CONNECTIVITY: Self = Self::of_instance(4, 0);
    /// Connectivity Monitoring, in whichever instance comes.
    pub const CONNECTIVITY_OBJECT: Self = Self::of_object(4);
    /// Radio Signal Strength: RSRP in dBm for NB-IoT and LTE.
    pub const RSRP: Self = Self::of_resource(4, 0, 2);
    /// Cell ID.
    pub const CELL_ID: Self = Self::of_resource(4, 0, 8);
    /// `SignalSNR`: SINR in dB, since version 1.1 of the object.
    pub const SINR: Self = Self::of_resource(4, 0, 11);
    /// Where Huawei IoTDA's devices notify their data and PCP frames (`BinaryAppDataContainer`).
    pub const UPLINK: Self = Self::of_resource(19, 0, 0);
    /// Where Huawei IoTDA's devices take data and PCP frames.
    pub const DOWNLINK: Self = Self::of_resource(19, 1, 0);

    /// `/object`.
    pub const fn of_object(object: u16) -> Self {
        Self {
            object,
            instance: None,
            resource: None,
        }
    }

    /// `/object/instance`.
    pub const fn of_instance(object: u16, instance: u16) -> Self {
        Self {
            object,
            instance: Some(instance),
            resource: None,
        }
    }

    /// `/object/instance/resource`.
    pub const fn of_resource(object: u16, instance: u16, resource: u16) -> Self {
        Self {
            object,
            instance: Some(instance),
            resource: Some(resource),
        }
    }

    /// The object's number.
    pub const fn object(&self) -> u16 {
        self.object
    }

    /// The instance's number, `None` for a whole object.
    pub const fn instance(&self) -> Option<u16> {
        self.instance
    }

    /// The resource's number, `None` for a whole object or instance.
    pub const fn resource(&self) -> Option<u16> {
        self.resource
    }

    /// The values of the Uri-Path options, in order.
    pub fn segments(&self) -> impl Iterator<Item = String> {
        self.ids().map(|id| id.to_string())
    }

    fn ids(&self) -> impl Iterator<Item = u16> {
        [Some(self.object), self.instance, self.resource]
            .into_iter()
            .flatten()
    }
}

impl fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ids().try_for_each(|id| write!(f, "/{id}"))
    }
}

impl FromStr for ResourcePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let rest = text.strip_prefix('/').ok_or(PathError)?;
        let mut ids = rest.split('/').map(number);
        let path = Self {
            object: ids.next().ok_or(PathError)??,
            instance: ids.next().transpose()?,
            resource: ids.next().transpose()?,
        };
        if ids.next().is_some() {
            return Err(PathError);
        }
        Ok(path)
    }
}

/// `u16::from_str` alone would take a plus sign.
fn number(text: &str) -> Result<u16, PathError> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_err(|_| PathError)
    } else {
        Err(PathError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_shows() {
        for text in ["/4", "/4/0", "/4/0/2", "/19/1/0", "/65535/65535/65535"] {
            assert_eq!(text.parse::<ResourcePath>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_path() {
        for text in [
            "", "/", "4/0", "/4/", "/4//2", "/4/0/2/", "/4/0/2/0", "/65536", "/+4", "/-1", "/rd",
            "/4/ 0",
        ] {
            assert_eq!(text.parse::<ResourcePath>(), Err(PathError), "{text:?}");
        }
    }

    #[test]
    fn gives_the_uri_path_options() {
        assert!(ResourcePath::SINR.segments().eq(["4", "0", "11"]));
        assert!(ResourcePath::CONNECTIVITY.segments().eq(["4", "0"]));
    }
}
