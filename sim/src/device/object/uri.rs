//! The URI of a package (RFC 7252 §6): where it is fetched, and by which path.

use crate::device::Destination;

/// What a device makes of a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uri {
    pub(super) to: Destination,
    /// The segments of the path. A query is dropped.
    pub(super) path: Vec<Box<str>>,
}

/// Why a device cannot use a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UriError {
    Invalid,
    /// It does not speak that protocol.
    Protocol,
}

impl Uri {
    pub(super) fn parse(text: &str) -> Result<Self, UriError> {
        let (scheme, rest) = text.split_once("://").ok_or(UriError::Invalid)?;
        let (secure, usual_port) = match scheme {
            "coap" => (false, 5683),
            "coaps" => (true, 5684),
            _ => return Err(UriError::Protocol),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']').ok_or(UriError::Invalid)?;
                let port = match rest {
                    "" => None,
                    rest => Some(rest.strip_prefix(':').ok_or(UriError::Invalid)?),
                };
                (host, port)
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| UriError::Invalid)?,
            None => usual_port,
        };
        if host.is_empty() || port == 0 {
            return Err(UriError::Invalid);
        }
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let host = host.to_owned();
        Ok(Self {
            to: Destination { secure, host, port },
            path: (path.split('/').filter(|segment| !segment.is_empty()))
                .map(Box::from)
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_says_where_and_which_path() {
        let uri = Uri::parse("coap://10.0.0.1:5700/p/abc?x=1").unwrap();
        assert_eq!(
            (uri.to.secure, uri.to.to_string()),
            (false, "10.0.0.1:5700".into())
        );
        assert_eq!(uri.path, [Box::from("p"), Box::from("abc")]);
        let to = |text| Uri::parse(text).unwrap().to.to_string();
        assert_eq!(to("coaps://[2001:db8::1]/p"), "[2001:db8::1]:5684");
        assert_eq!(to("coap://[::1]:1/p"), "[::1]:1");
        assert_eq!(to("coap://iot.example.com"), "iot.example.com:5683");
        assert_eq!(Uri::parse("https://a/b"), Err(UriError::Protocol));
        for text in [
            "",
            "p/abc",
            "coap:///p",
            "coap://a:x/p",
            "coap://[::1/p",
            "coap://a:0/p",
        ] {
            assert_eq!(Uri::parse(text), Err(UriError::Invalid), "{text}");
        }
    }
}
