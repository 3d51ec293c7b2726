//! Where devices reach this server when they fetch packages.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use crate::{config::Lwm2mConfig, engine::Reached, grants::Links};

/// As the settings have it; what they leave open is what is listened on.
pub(super) fn reached(
    config: &Lwm2mConfig,
    (coap, coaps): (Option<SocketAddr>, Option<SocketAddr>),
    links: Option<Links>,
) -> Reached {
    let authority = |address: SocketAddr, port: u16| {
        let host = match config.public_host.as_str() {
            "" => own_address(address.ip()).to_string(),
            host => host.to_owned(),
        };
        let port = if port == 0 { address.port() } else { port };
        Reached::authority(&host, port)
    };
    Reached {
        coap: coap.map(|address| authority(address, config.public_port)),
        coaps: coaps.map(|address| authority(address, config.public_secure_port)),
        links,
    }
}

/// The address that is listened on; where that is any, the one from which this machine sends to others.
fn own_address(bound: IpAddr) -> IpAddr {
    if !bound.is_unspecified() {
        return bound;
    }
    sends_from().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

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

    fn bound(address: &str) -> Option<SocketAddr> {
        Some(address.parse().unwrap())
    }

    #[test]
    fn what_the_settings_leave_open_is_what_is_listened_on() {
        let config = Lwm2mConfig::default();
        let ports = (bound("192.0.2.7:5683"), bound("[2001:db8::7]:5684"));
        let own = reached(&config, ports, None);
        assert_eq!(own.coap.as_deref(), Some("192.0.2.7:5683"));
        assert_eq!(own.coaps.as_deref(), Some("[2001:db8::7]:5684"));
        let config = Lwm2mConfig {
            public_host: "updates.example.com".into(),
            public_secure_port: 15_684,
            ..config
        };
        let public = reached(&config, ports, None);
        assert_eq!(public.coap.as_deref(), Some("updates.example.com:5683"));
        assert_eq!(public.coaps.as_deref(), Some("updates.example.com:15684"));
        assert_eq!(reached(&config, (None, None), None), Reached::default());
    }

    #[test]
    fn no_device_is_told_to_fetch_from_any_address() {
        let any = reached(&Lwm2mConfig::default(), (bound("0.0.0.0:5683"), None), None);
        let told = any.coap.unwrap();
        assert!(!told.starts_with("0.0.0.0"), "{told}");
    }
}
