//! Where devices reach this server when they fetch packages.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use crate::{config::Lwm2mConfig, engine::Reached, grants::Links};

/// As the settings have it; what they leave open is what is listened on. An operator is warned where that is a guess.
pub(super) fn reached(
    config: &Lwm2mConfig,
    (coap, coaps): (Option<SocketAddr>, Option<SocketAddr>),
    links: Vec<Links>,
) -> Reached {
    if let Some(told) = guessed(config, coap.into_iter().chain(coaps)) {
        tracing::warn!("{told}; {SET_PUBLIC_HOST}");
    }
    let authority = |address: SocketAddr, port: u16| {
        let host = match config.public_host.as_str() {
            "" => own_address(address.ip())?.to_string(),
            host => host.to_owned(),
        };
        let port = if port == 0 { address.port() } else { port };
        Some(Reached::authority(&host, port))
    };
    Reached {
        coap: coap.and_then(|address| authority(address, config.public_port)),
        coaps: coaps.and_then(|address| authority(address, config.public_secure_port)),
        links,
    }
}

/// The address that is listened on; where that is any, the one from which this machine sends to others, if it does.
fn own_address(bound: IpAddr) -> Option<IpAddr> {
    if !bound.is_unspecified() {
        return Some(bound);
    }
    sends_from()
}

/// What an operator should know of where devices are told to fetch packages: the address is a guess.
pub(super) fn guessed(
    config: &Lwm2mConfig,
    listens: impl IntoIterator<Item = SocketAddr>,
) -> Option<String> {
    let any = listens
        .into_iter()
        .any(|address| address.ip().is_unspecified());
    (any && config.public_host.is_empty()).then(|| match sends_from() {
        Some(address) => format!(
            "lwm2m.public_host is not set: devices that fetch packages over CoAP are told {address}, the address that this machine sends from"
        ),
        None => "lwm2m.public_host is not set, and this machine has no address to tell: no device can fetch a package over CoAP".to_owned(),
    })
}

/// What to do about it.
pub(super) const SET_PUBLIC_HOST: &str = "set lwm2m.public_host to a name or an address that devices reach, if there are any that are upgraded by objects 5, 9 or 33629";

/// Nothing is sent: the system only looks for the way (RFC 5737 has the address for examples).
fn sends_from() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn what_the_settings_leave_open_is_what_is_listened_on() {
        let config = Lwm2mConfig::default();
        let ports = (
            Some(bound("192.0.2.7:5683")),
            Some(bound("[2001:db8::7]:5684")),
        );
        let own = reached(&config, ports, Vec::new());
        assert_eq!(own.coap.as_deref(), Some("192.0.2.7:5683"));
        assert_eq!(own.coaps.as_deref(), Some("[2001:db8::7]:5684"));
        let config = Lwm2mConfig {
            public_host: "updates.example.com".into(),
            public_secure_port: 15_684,
            ..config
        };
        let public = reached(&config, ports, Vec::new());
        assert_eq!(public.coap.as_deref(), Some("updates.example.com:5683"));
        assert_eq!(public.coaps.as_deref(), Some("updates.example.com:15684"));
        assert_eq!(
            reached(&config, (None, None), Vec::new()),
            Reached::default()
        );
    }

    #[test]
    fn no_device_is_told_to_fetch_from_any_address() {
        let ports = (Some(bound("0.0.0.0:5683")), Some(bound("127.0.0.1:5684")));
        let any = reached(&Lwm2mConfig::default(), ports, Vec::new());
        // a machine without a network tells none
        let told = any.coap.unwrap_or_default();
        assert!(
            !told.starts_with("0.0.0.0") && !told.starts_with("127."),
            "{told}"
        );
        assert_eq!(any.coaps.as_deref(), Some("127.0.0.1:5684"));
    }

    #[test]
    fn an_operator_is_told_that_the_address_is_a_guess() {
        let config = Lwm2mConfig::default();
        let any = guessed(&config, Some(bound("[::]:5683")));
        assert!(any.is_some_and(|told| told.contains("lwm2m.public_host")));
        assert_eq!(guessed(&config, Some(bound("192.0.2.7:5683"))), None);
        let set = Lwm2mConfig {
            public_host: "updates.example.com".into(),
            ..config
        };
        assert_eq!(guessed(&set, Some(bound("0.0.0.0:5683"))), None);
    }
}
