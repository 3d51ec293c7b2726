//! The head of a request, as devices write it (RFC 9112).
//!
//! Pure, and tolerant: line ends without CR, empty lines before a request (RFC 9112 §2.2), `Authorization:Bearer` without a space, a
//! `Host` without a port or none at all, HTTP/1.0. `httparse` reads all of that; what follows decides what it means.

use crate::ledger::PackageId;

use super::range::{self, Wanted};

/// Bytes that a head may have.
pub const MAX_HEAD_BYTES: usize = 8 * 1024;
const MAX_HEADERS: usize = 64;
/// Longer values of `If-Range` match nothing of ours.
const MAX_VALIDATOR_BYTES: usize = 100;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// How it is asked.
    pub method: Method,
    /// Which package, and by what right.
    pub target: Target,
    /// Which part of it.
    pub wanted: Wanted,
    /// What `If-Range` says; then the part is meant only of content that has this validator.
    pub if_range: Option<Box<str>>,
    /// The check code that the device wants.
    pub crc: Option<CrcKind>,
    /// Whether another request may follow.
    pub keep_alive: bool,
    /// Spoken by an HTTP/1.0 client, which has to be told that another request may follow.
    pub http_1_0: bool,
}

/// Methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The head and the content.
    Get,
    /// The head alone.
    Head,
    /// Anything else; it is refused.
    Other,
}

/// A package as a URL names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `/packages/{id}/{name}`, and the token of `Authorization: Bearer`, if there is one.
    Package(PackageId, Option<Box<str>>),
    /// `/t/{token}/{name}`
    Token(Box<str>),
    /// Something else.
    Nothing,
}

/// The check codes that a device may ask for (`Crc16-Method`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CrcKind {
    /// CRC-16/KERMIT, which is what CRC-16/CCITT stands for.
    Ccitt,
    /// CRC-16/MODBUS.
    Modbus,
}

/// Why a head is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// It is none of HTTP/1.
    Malformed,
    /// It has too many lines or bytes.
    TooLarge,
    /// Content follows it.
    Body,
}

/// The request at the beginning of `bytes`, and how many of them it has; `None` while its end is missing. `base_path` is what the
/// public URLs have before the paths of this server: a proxy may leave it there.
///
/// # Errors
/// It is no request, and the connection is of no use any more.
pub fn parse(bytes: &[u8], base_path: &str) -> Result<Option<(Request, usize)>, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let len = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len <= MAX_HEAD_BYTES => len,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD_BYTES => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(_) => return Err(HeadError::Malformed),
    };
    let (Some(method), Some(path), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(HeadError::Malformed);
    };
    let mut said = Said::default();
    for header in parsed.headers.iter() {
        said.read(header.name, header.value)?;
    }
    let target = target(path, base_path, said.token);
    let request = Request {
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            _ => Method::Other,
        },
        target,
        wanted: said.wanted.unwrap_or(Wanted::Whole),
        if_range: said.if_range,
        crc: said.crc,
        // RFC 9112 §9.3
        keep_alive: !said.close && (minor == 1 || said.keep_alive),
        http_1_0: minor == 0,
    };
    Ok(Some((request, len)))
}

/// What the headers say.
#[derive(Default)]
struct Said {
    token: Option<Box<str>>,
    wanted: Option<Wanted>,
    if_range: Option<Box<str>>,
    crc: Option<CrcKind>,
    close: bool,
    keep_alive: bool,
}

impl Said {
    fn read(&mut self, name: &str, value: &[u8]) -> Result<(), HeadError> {
        // what is no text says nothing that is understood
        let value = str::from_utf8(value).unwrap_or_default().trim();
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("authorization") {
            self.token = bearer(value);
        } else if is("range") {
            // several of them are as good as none
            let wanted = range::parse(value);
            self.wanted = Some(self.wanted.map_or(wanted, |_| Wanted::Whole));
        } else if is("if-range") {
            let fits = value.len() <= MAX_VALIDATOR_BYTES;
            self.if_range = Some(if fits { value.into() } else { "".into() });
        } else if is("crc16-method") {
            self.crc = match value {
                "CCITT" => Some(CrcKind::Ccitt),
                "MODBUS" => Some(CrcKind::Modbus),
                _ => None,
            };
        } else if is("connection") {
            for option in value.split(',') {
                let option = option.trim();
                self.close |= option.eq_ignore_ascii_case("close");
                self.keep_alive |= option.eq_ignore_ascii_case("keep-alive");
            }
        } else if is("transfer-encoding") || is("content-length") && value != "0" {
            return Err(HeadError::Body);
        }
        Ok(())
    }
}

/// The token of `Bearer` (RFC 6750 §2.1); the scheme's letters count in either case (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<Box<str>> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.into())
}

fn target(path: &str, base_path: &str, token: Option<Box<str>>) -> Target {
    // the absolute form (RFC 9112 §3.2.2)
    let path = match path.split_once("://") {
        // whatever its letters (RFC 9110 §4.2.3)
        Some((scheme, rest))
            if ["http", "https"]
                .iter()
                .any(|it| scheme.eq_ignore_ascii_case(it)) =>
        {
            rest.find('/').map_or("", |at| &rest[at..])
        }
        _ => path,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = match path.strip_prefix(base_path) {
        Some(rest) if !base_path.is_empty() && rest.starts_with('/') => rest,
        _ => path,
    };
    let mut parts = path.split('/');
    let (root, kind, key) = (parts.next(), parts.next(), parts.next());
    let (name, end) = (parts.next(), parts.next());
    if root != Some("") || end.is_some() || name == Some("") {
        return Target::Nothing;
    }
    match (kind, key) {
        (Some("packages"), Some(id)) => match id.parse() {
            Ok(id) if !id_is_odd(key) => Target::Package(PackageId(id), token),
            _ => Target::Nothing,
        },
        (Some("t"), Some(token)) if !token.is_empty() => Target::Token(token.into()),
        _ => Target::Nothing,
    }
}

/// Numbers are written in one way.
fn id_is_odd(id: Option<&str>) -> bool {
    id.is_none_or(|id| !id.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests;
