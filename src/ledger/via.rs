//! Gateways: devices through which others are reached.

use thiserror::Error;

use super::Protocol;

/// Devices that are reached through one gateway at most.
pub const MAX_CHILDREN: u64 = 1_000;

/// How a device is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Via {
    /// Over a connection, or at an address, of its own.
    #[default]
    Itself,
    /// Through the gateway of that endpoint name; `None` where it is not known which one.
    Gateway(Option<String>),
}

impl Via {
    /// The endpoint name of the gateway, where there is one.
    pub fn gateway(&self) -> Option<&str> {
        match self {
            Self::Itself => None,
            Self::Gateway(gateway) => gateway.as_deref(),
        }
    }
}

/// A device, as far as it matters to who may be reached through whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relative {
    /// Whose it is.
    pub tenant: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// How it is reached.
    pub via: Via,
    /// Devices that are reached through it.
    pub children: u64,
}

/// Why a device is not reached through another one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ViaError {
    /// There is no such gateway for its tenant.
    #[error("there is no device {0:?} through which it could be reached; add the gateway first")]
    NoGateway(String),
    /// It would be its own gateway.
    #[error("a device is not reached through itself")]
    Itself,
    /// The gateway is reached through another one.
    #[error("device {0:?} is itself reached through a gateway; name that gateway")]
    Chain(String),
    /// Others are reached through the device.
    #[error("others are reached through it, and a gateway is not reached through another one")]
    IsGateway(u64),
    /// They speak different things.
    #[error("device {gateway:?} speaks {speaks}, and it {expected}; both speak the same", speaks = .speaks.name(), expected = .expected.name())]
    OtherProtocol {
        /// The gateway.
        gateway: String,
        /// What that speaks.
        speaks: Protocol,
        /// What the device speaks.
        expected: Protocol,
    },
    /// Devices of its kind have no gateways.
    #[error("devices that speak {} are not reached through gateways", .0.name())]
    NoneForProtocol(Protocol),
    /// It has a connection of its own.
    #[error(
        "it shows who it is over a connection of its own; give it mqtt with style iotda and gateway: true instead"
    )]
    OwnConnection,
    /// The gateway has as many as there may be.
    #[error("{MAX_CHILDREN} devices are reached through {0:?}, and no more can be")]
    Full(String),
    /// Devices that are reached through it are another tenant's, or speak something else.
    #[error(
        "others are reached through it, and go with its tenant and what it speaks; give them another gateway, or null, first"
    )]
    ChildrenStay(u64),
}

/// Whether the device `name` may be reached through `gateway`, which is not its gateway yet.
///
/// # Errors
/// Why not.
pub fn check_via(
    (name, device): (&str, &Relative),
    (gateway_name, gateway): (&str, Option<&Relative>),
) -> Result<(), ViaError> {
    if name == gateway_name {
        return Err(ViaError::Itself);
    }
    let gateway = gateway.filter(|it| it.tenant == device.tenant);
    let gateway = gateway.ok_or_else(|| ViaError::NoGateway(gateway_name.to_owned()))?;
    if gateway.via != Via::Itself {
        return Err(ViaError::Chain(gateway_name.to_owned()));
    }
    if device.children > 0 {
        return Err(ViaError::IsGateway(device.children));
    }
    if gateway.protocol != device.protocol {
        return Err(ViaError::OtherProtocol {
            gateway: gateway_name.to_owned(),
            speaks: gateway.protocol,
            expected: device.protocol,
        });
    }
    match device.protocol {
        Protocol::ThingsPanel | Protocol::QuecThing => {
            return Err(ViaError::NoneForProtocol(device.protocol));
        }
        Protocol::Iotda if device.via == Via::Itself => return Err(ViaError::OwnConnection),
        Protocol::Iotda | Protocol::Lwm2m => {}
    }
    if gateway.children >= MAX_CHILDREN {
        return Err(ViaError::Full(gateway_name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relative(protocol: Protocol, via: Via, children: u64) -> Relative {
        Relative {
            tenant: "default".to_owned(),
            protocol,
            via,
            children,
        }
    }

    fn checked(device: &Relative, gateway: Option<&Relative>) -> Result<(), ViaError> {
        check_via(("c", device), ("g", gateway))
    }

    #[test]
    fn a_device_is_reached_through_one_of_its_kind_and_tenant() {
        let behind = Via::Gateway(None);
        for protocol in [Protocol::Iotda, Protocol::Lwm2m] {
            let gateway = relative(protocol, Via::Itself, MAX_CHILDREN - 1);
            let child = relative(protocol, behind.clone(), 0);
            assert_eq!(checked(&child, Some(&gateway)), Ok(()));
            let others = Relative {
                tenant: "acme".to_owned(),
                ..gateway.clone()
            };
            let none = Err(ViaError::NoGateway("g".to_owned()));
            assert_eq!(checked(&child, Some(&others)), none);
            assert_eq!(checked(&child, None), none);
            let itself = check_via(("g", &child), ("g", Some(&gateway)));
            assert_eq!(itself, Err(ViaError::Itself));
            let full = relative(protocol, Via::Itself, MAX_CHILDREN);
            let refused = Err(ViaError::Full("g".to_owned()));
            assert_eq!(checked(&child, Some(&full)), refused);
        }
    }

    #[test]
    fn there_are_no_chains_no_mixtures_and_no_second_way() {
        let behind = Via::Gateway(None);
        let gateway = relative(Protocol::Iotda, Via::Itself, 0);
        let child = relative(Protocol::Iotda, behind.clone(), 0);
        let chain = Err(ViaError::Chain("g".to_owned()));
        assert_eq!(checked(&child, Some(&child)), chain);
        let parent = relative(Protocol::Iotda, behind, 2);
        assert_eq!(
            checked(&parent, Some(&gateway)),
            Err(ViaError::IsGateway(2))
        );
        assert_eq!(
            checked(&gateway, Some(&gateway)),
            Err(ViaError::OwnConnection)
        );
        let lwm2m = relative(Protocol::Lwm2m, Via::Itself, 0);
        assert!(matches!(
            checked(&child, Some(&lwm2m)),
            Err(ViaError::OtherProtocol {
                speaks: Protocol::Lwm2m,
                ..
            })
        ));
        let panel = relative(Protocol::ThingsPanel, Via::Itself, 0);
        let refused = Err(ViaError::NoneForProtocol(Protocol::ThingsPanel));
        assert_eq!(checked(&panel, Some(&panel)), refused);
    }
}
