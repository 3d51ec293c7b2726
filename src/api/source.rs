//! Who asks: the address that a connection came from, or what a trusted proxy says.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::{
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::Response,
};
use ipnet::IpNet;

use crate::config::{Config, Settings};

/// An IPv6 host has a whole /64 to send from.
pub(crate) fn bucket(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

/// Who asks: the address that a request came from, or what a trusted proxy says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source(pub(crate) IpAddr);

impl Source {
    pub(crate) fn of(request: &Request) -> IpAddr {
        let source = request.extensions().get::<Self>();
        source.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |source| source.0)
    }
}

/// Whose word on who asks is believed.
#[derive(Clone)]
pub(crate) struct Proxies {
    pub(crate) settings: Settings,
    pub(crate) of: fn(&Config) -> &[IpNet],
}

/// Finds out who asks. The last address of `X-Forwarded-For` that is no trusted proxy's is the one that our proxies have
/// seen; what stands before it anybody may have written.
pub(crate) async fn find_source(
    State(proxies): State<Proxies>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = (request.extensions().get::<ConnectInfo<SocketAddr>>())
        .map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |ConnectInfo(peer)| {
            peer.ip().to_canonical()
        });
    let forwarded = request.headers().get_all("x-forwarded-for");
    let forwarded = forwarded.iter().filter_map(|value| value.to_str().ok());
    let config = proxies.settings.get();
    let source = source(peer, forwarded, (proxies.of)(&config));
    request.extensions_mut().insert(Source(source));
    next.run(request).await
}

fn source<'v>(
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'v str>,
    proxies: &[IpNet],
) -> IpAddr {
    let trusted = |address: &IpAddr| proxies.iter().any(|network| network.contains(address));
    let mut source = peer;
    for address in forwarded.rev().flat_map(|value| value.rsplit(',')) {
        if !trusted(&source) {
            break;
        }
        match address.trim().parse::<IpAddr>() {
            Ok(address) => source = address.to_canonical(),
            Err(_) => break,
        }
    }
    source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_say_who_asks() {
        let proxies = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let source = |peer: &str, forwarded: &[&str]| {
            let peer: IpAddr = peer.parse().unwrap();
            source(peer, forwarded.iter().copied(), &proxies).to_string()
        };
        assert_eq!(source("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(source("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        // what the client itself claims comes first
        assert_eq!(
            source("10.0.0.1", &["1.1.1.1, 198.51.100.7"]),
            "198.51.100.7"
        );
        assert_eq!(
            source("10.0.0.1", &["1.1.1.1", "198.51.100.7, 10.9.9.9"]),
            "198.51.100.7"
        );
        assert_eq!(source("::1", &["2001:db8::7"]), "2001:db8::7");
        for nothing in [&[][..], &[""], &["unknown"], &["10.0.0.1:80"]] {
            assert_eq!(source("10.0.0.1", nothing), "10.0.0.1");
        }
    }
}
