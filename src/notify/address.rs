//! Where a webhook may lead. Whoever creates a task must not reach the operator's own network through the server
//! (SSRF): addresses that are not public are refused, unless the settings name their network.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use reqwest::Url;
use thiserror::Error;

/// Longest URL of a webhook, bytes.
const MAX_URL: usize = 2_048;

/// IPv4 networks that are not public, from the IANA special-purpose registry (RFC 6890 and what follows it).
const PRIVATE_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// IPv6 networks within `2000::/3`, all that is global unicast, that are not public.
const PRIVATE_V6: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// An address that the server does not post to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} is not a public address; webhooks.allow_networks has to name its network")]
pub struct ForbiddenAddress(pub IpAddr);

/// Why a URL cannot be a webhook's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TargetError {
    /// No URL.
    #[error("it is no URL: {0}")]
    NoUrl(String),
    /// Too long.
    #[error("it is longer than {MAX_URL} bytes")]
    TooLong,
    /// Neither `http` nor `https`.
    #[error("its scheme is {0}; http and https are possible")]
    Scheme(String),
    /// A user name or a password in it.
    #[error("it holds a user name or a password, which would be shown; take a secret path instead")]
    Credentials,
    /// An address that is not public.
    #[error(transparent)]
    Refused(#[from] ForbiddenAddress),
}

/// A URL that a webhook may have, as far as can be told without asking a name server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Url);

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// It is none, of another scheme, or leads to an address that is not public.
    pub fn parse(text: &str, allowed: &[IpNet]) -> Result<Self, TargetError> {
        if text.len() > MAX_URL {
            return Err(TargetError::TooLong);
        }
        let mut url = Url::parse(text).map_err(|error| TargetError::NoUrl(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetError::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::Credentials);
        }
        if let Some(address) = literal(&url) {
            permit(address, allowed)?;
        } else if let Some(name) = url.host_str()
            && !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        {
            return Err(TargetError::NoUrl(format!("{name:?} is no name of a host")));
        }
        url.set_fragment(None);
        // what is not ASCII has grown
        if url.as_str().len() > MAX_URL {
            return Err(TargetError::TooLong);
        }
        Ok(Self(url))
    }

    /// The URL.
    pub const fn url(&self) -> &Url {
        &self.0
    }

    /// The name that has to be asked for, unless the URL holds an address.
    pub fn name(&self) -> Option<&str> {
        self.0.host_str().filter(|_| literal(&self.0).is_none())
    }

    /// Whether any of the addresses of a name may be posted to.
    ///
    /// # Errors
    /// None may; the first is named.
    pub fn permits_any(addresses: &[IpAddr], allowed: &[IpNet]) -> Result<(), ForbiddenAddress> {
        let mut refused = None;
        for address in addresses {
            match permit(*address, allowed) {
                Ok(()) => return Ok(()),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The address in a URL. All its odd forms, such as `http://2130706433/`, have become the usual one by then.
fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    host.parse().ok()
}

/// Whether the server may post to the address.
///
/// # Errors
/// It may not.
pub(super) fn permit(address: IpAddr, allowed: &[IpNet]) -> Result<(), ForbiddenAddress> {
    let canonical = address.to_canonical();
    if is_public(canonical) || allowed.iter().any(|network| network.contains(&canonical)) {
        Ok(())
    } else {
        Err(ForbiddenAddress(address))
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let [a, b, ..] = address.segments();
            let embedded = if bits >> 32 == 0x0064_ff9b_0000_0000_0000_0000 {
                Some(bits) // NAT64, RFC 6052 §2.1
            } else if a == 0x2002 {
                Some(bits >> 80) // 6to4, RFC 3056 §2
            } else {
                None
            };
            if let Some(bits) = embedded {
                // the lowest 32 bits
                #[allow(clippy::cast_possible_truncation)]
                return is_public_v4(Ipv4Addr::from_bits(bits as u32));
            }
            a >> 13 == 1
                && !(a == 0x2001 && b == 0) // Teredo
                && !within(IpAddr::V6(address), &PRIVATE_V6)
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !within(IpAddr::V4(address), &PRIVATE_V4)
}

fn within<A: Copy + Into<IpAddr>>(address: IpAddr, networks: &[(A, u8)]) -> bool {
    networks.iter().any(|(network, prefix)| {
        IpNet::new((*network).into(), *prefix).is_ok_and(|network| network.contains(&address))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, TargetError> {
        Target::parse(url, &[])
    }

    #[test]
    fn public_addresses_and_names_are_taken() {
        for url in [
            "https://hooks.example.com/cellwise?token=x",
            "http://93.184.216.34:8080/",
            "https://[2606:2800:220:1::1]/",
            "http://[64:ff9b::5db8:d822]/",
            "http://[::ffff:93.184.216.34]/",
        ] {
            assert!(parse(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn the_operators_own_network_is_refused_in_every_spelling() {
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://0.0.0.0/",
            "http://10.1.2.3/",
            "http://100.64.0.1/",
            "http://169.254.169.254/latest/meta-data",
            "http://172.31.255.255/",
            "http://192.168.0.1/",
            "http://198.18.0.1/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://[::]/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://[::10.0.0.1]/",
            "http://[fc00::1]/",
            "http://[fe80::1]/",
            "http://[ff02::1]/",
            "http://[64:ff9b::a00:1]/",
            "http://[64:ff9b:1::a00:1]/",
            "http://[2002:a00:1::]/",
            "http://[2001:0:1::]/",
            "http://[2001:db8::1]/",
        ] {
            let refused = parse(url);
            assert!(
                matches!(refused, Err(TargetError::Refused(_))),
                "{url}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_network_that_the_settings_name_is_allowed() {
        let allowed = ["10.1.0.0/16".parse().unwrap(), "::1/128".parse().unwrap()];
        assert!(Target::parse("http://10.1.2.3/", &allowed).is_ok());
        assert!(Target::parse("http://[::ffff:10.1.2.3]/", &allowed).is_ok());
        assert!(Target::parse("http://[::1]:90/", &allowed).is_ok());
        assert!(Target::parse("http://10.2.0.1/", &allowed).is_err());
    }

    #[test]
    fn what_is_no_proper_url_is_told() {
        assert!(matches!(
            parse("hooks.example.com"),
            Err(TargetError::NoUrl(_))
        ));
        assert!(matches!(parse("http://"), Err(TargetError::NoUrl(_))));
        assert!(matches!(
            parse("file:///etc/passwd"),
            Err(TargetError::Scheme(_))
        ));
        assert!(matches!(
            parse("ftp://example.com/"),
            Err(TargetError::Scheme(_))
        ));
        assert_eq!(
            parse("https://a:b@example.com/"),
            Err(TargetError::Credentials)
        );
    }

    #[test]
    fn what_is_taken_once_is_taken_again() {
        let url = |letter: &str, length| format!("https://a.example/{}", letter.repeat(length));
        let empty = url("", 0).len();
        let longest = parse(&url("a", MAX_URL - empty)).unwrap();
        assert_eq!(parse(&longest.to_string()), Ok(longest));
        for long in [url("a", MAX_URL - empty + 1), url("ä", MAX_URL / 3)] {
            assert_eq!(parse(&long), Err(TargetError::TooLong));
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = |url| parse(url).unwrap().origin();
        assert_eq!(origin("https://A.example/x#y"), "https://a.example");
        assert_eq!(origin("https://a.example:443/z"), "https://a.example");
        assert_ne!(origin("http://a.example/"), "https://a.example");
        assert_eq!(
            parse("https://a.example/x#y").unwrap().to_string(),
            "https://a.example/x"
        );
    }
}
