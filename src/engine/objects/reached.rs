//! Where devices reach this server when they fetch packages.

use crate::{config::UriScheme, engine::PULLS, grants::Links, ledger::PullToken};

/// Where packages are fetched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reached {
    /// Host and port of the plain port, as in a URI; `None` where there is none.
    pub coap: Option<String>,
    /// The same of the port for DTLS.
    pub coaps: Option<String>,
    /// The beginnings of URLs, where packages are served over HTTP: one for each scheme.
    pub links: Vec<Links>,
}

impl Reached {
    /// `host:port` in a URI: an IPv6 address stands in brackets (RFC 3986 §3.2.2).
    pub fn authority(host: &str, port: u16) -> String {
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }

    /// How the URLs begin by that scheme, where packages are served by it.
    pub(in crate::engine) fn links_by(&self, scheme: UriScheme) -> Option<&Links> {
        let secured = match scheme {
            UriScheme::Http => false,
            UriScheme::Https => true,
            UriScheme::Coap | UriScheme::Coaps => return None,
        };
        self.links
            .iter()
            .find(|links| links.is_secured() == secured)
    }

    /// Where the package with that token is fetched over `CoAP`: a text below 128 bytes, without a query.
    pub(super) fn uri(&self, scheme: UriScheme, token: PullToken) -> Option<String> {
        let (scheme, authority) = match scheme {
            UriScheme::Coap => ("coap", self.coap.as_ref()?),
            UriScheme::Coaps => ("coaps", self.coaps.as_ref()?),
            UriScheme::Http | UriScheme::Https => return None,
        };
        let token = token.text();
        Some(format!("{scheme}://{authority}/{PULLS}/{token}"))
    }
}
