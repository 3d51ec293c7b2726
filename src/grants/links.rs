//! The addresses from which devices fetch packages.

use std::fmt::Write as _;

use thiserror::Error;

use super::{Grant, Way};

/// Where packages are fetched: scheme, host, port and path, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    base: String,
    /// Where the path begins in it.
    path_at: usize,
    /// Whether whatever stands at that address passes each request on to this server, so that what is served can be counted.
    pub counted: bool,
}

/// A text that is no base of links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LinksError {
    /// Another scheme.
    #[error("it begins with neither http:// nor https://")]
    Scheme,
    /// No host, or one of characters that are none of a host's.
    #[error(
        "its host is missing, or has other characters than letters, digits, dots, hyphens, or an IPv6 address in brackets"
    )]
    Host,
    /// A port that is none.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// Something else.
    #[error(
        "its path has other characters than A-Z a-z 0-9 . _ ~ - and slashes, or it is longer than 200 characters"
    )]
    Path,
}

impl Links {
    /// Links that begin with `base`, as `https://updates.example.com` or `http://10.1.2.3:8090/ota`. Where it names no port, that of
    /// its scheme is named: some devices need one.
    pub fn new(base: &str, counted: bool) -> Result<Self, LinksError> {
        let (scheme, rest, usual_port) = match base.split_once("://") {
            Some(("http", rest)) => ("http", rest, 80),
            Some(("https", rest)) => ("https", rest, 443),
            _ => return Err(LinksError::Scheme),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = split(authority)?;
        let port: u16 = match port {
            None => usual_port,
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().map_err(|_| LinksError::Port)?
            }
            Some(_) => return Err(LinksError::Port),
        };
        if port == 0 {
            return Err(LinksError::Port);
        }
        let path = path.trim_end_matches('/');
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-/".contains(&byte);
        if base.len() > 200 || !path.bytes().all(allowed) {
            return Err(LinksError::Path);
        }
        let mut base = format!("{scheme}://{host}:{port}");
        let path_at = base.len();
        if !path.is_empty() {
            base.push('/');
            base.push_str(path);
        }
        Ok(Self {
            base,
            path_at,
            counted,
        })
    }

    /// Whether they are over HTTPS.
    pub fn is_secured(&self) -> bool {
        self.base.starts_with("https://")
    }

    /// What stands in each link between the port and the path of this server: nothing, or a path that begins with a slash.
    pub fn path(&self) -> &str {
        self.base.get(self.path_at..).unwrap_or_default()
    }

    /// Where a device fetches what it was granted. It has 400 characters at most.
    pub fn url(&self, grant: &Grant) -> String {
        let mut url = self.base.clone();
        // writing into a text does not fail
        let _ = match grant.way {
            Way::Bearer => write!(url, "/packages/{}/", grant.package.0),
            Way::Path => write!(url, "/t/{}/", grant.token.as_str()),
        };
        url.push_str(&safe_file_name(&grant.file_name));
        url
    }
}

/// Host and port.
fn split(authority: &str) -> Result<(&str, Option<&str>), LinksError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let end = rest.find(']').ok_or(LinksError::Host)?;
        rest[..end]
            .parse::<std::net::Ipv6Addr>()
            .map_err(|_| LinksError::Host)?;
        // with both brackets
        let (host, rest) = authority.split_at(end + 2);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(LinksError::Port),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    if host.is_empty() || !host.bytes().all(allowed) {
        return Err(LinksError::Host);
    }
    Ok((host, port))
}

/// The longest file name. IoTDA's kit in C has no room for more (`PKGNAME_MAX` of 20 in its `iota_datatrans.h`, the NUL included),
/// and does not look whether there is.
const MOST_OF_NAME: usize = 19;

/// A file name of characters that mean nothing to anybody: out of `A-Z a-z 0-9 . _ -`, 1 to 19 of them, with no dot at the
/// beginning. Others become `_`. Of a longer name the middle is left out.
pub fn safe_file_name(name: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '_'
        }
    };
    let mut name: String = name.chars().map(safe).collect();
    // all of it is ASCII now
    let kept_of_end = MOST_OF_NAME / 2;
    if let Some(too_many @ 1..) = name.len().checked_sub(MOST_OF_NAME) {
        let from = MOST_OF_NAME - kept_of_end;
        name.replace_range(from..from + too_many, "");
    }
    if name.is_empty() {
        name.push_str("package");
    }
    if name.starts_with('.') {
        name.replace_range(..1, "_");
    }
    name
}
