use std::{fmt, net::SocketAddr};

/// Where messages come from and go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// The address.
    pub address: SocketAddr,
    /// Over DTLS. Elsewhere nothing is encrypted, and anybody may claim to be anybody.
    pub secured: bool,
}

impl Peer {
    /// An address that is spoken to over DTLS.
    pub const fn secured(address: SocketAddr) -> Self {
        Self {
            address,
            secured: true,
        }
    }
}

/// Nothing is encrypted.
impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            secured: false,
        }
    }
}

/// As a URI's scheme and authority (RFC 7252 §6).
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secured { "coaps" } else { "coap" };
        write!(f, "{scheme}://{}", self.address)
    }
}
