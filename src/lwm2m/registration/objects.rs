use std::{collections::BTreeMap, fmt::Write};

use crate::lwm2m::{MAX_PAYLOAD, ResourcePath};

/// Links that are read from one payload; those behind them are left out.
pub const MAX_LINKS: usize = 256;

/// Bytes of the text that is made of a list of links; links that find no room are left out.
pub const MAX_LINKS_LEN: usize = 2_048;

/// Bytes of a root path.
const MAX_ROOT_LEN: usize = 64;
/// Bytes of an object's version, such as `1.0`.
const MAX_VERSION_LEN: usize = 8;

/// The objects and instances that a device announces, in CoRE link format (RFC 6690), for instance
/// `</>;rt="oma.lwm2m",</3/0>,</4>;ver=1.3,</19/0>,</19/1>`.
///
/// A device whose objects are elsewhere than at its root says where: `</lwm2m>;rt="oma.lwm2m",</lwm2m/3/0>` (alternate
/// path, LwM2M 1.0 §5.3.1.1 and §6.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Objects {
    /// With the version of the object, where one is told.
    paths: BTreeMap<ResourcePath, Box<str>>,
    root: Option<Box<str>>,
}

impl Objects {
    /// Reads the payload of a registration or update: as many links as are understood.
    pub fn parse(payload: &[u8]) -> Self {
        let text = match std::str::from_utf8(payload) {
            Ok(text) if text.len() <= MAX_PAYLOAD => text,
            _ => return Self::default(),
        };
        let links = || links(text).take(MAX_LINKS);
        let root = links().find_map(Link::root);
        let paths = links().filter_map(|link| {
            let below = root.and_then(|root| link.target.strip_prefix(root));
            let path = below.unwrap_or(link.target).parse().ok()?;
            Some((path, link.object_version().unwrap_or_default().into()))
        });
        Self {
            paths: paths.collect(),
            root: root.map(Into::into),
        }
    }

    /// Whether nothing is known: the device announced nothing, or nothing that was understood.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.root.is_none()
    }

    /// Whether the device has the object, `None` when it announced none.
    pub fn has_object(&self, object: u16) -> Option<bool> {
        (!self.paths.is_empty()).then(|| self.paths().any(|path| path.object() == object))
    }

    /// What is announced, in order, without the root path.
    pub fn paths(&self) -> impl Iterator<Item = ResourcePath> {
        self.paths.keys().copied()
    }

    /// The path below which the device has its objects, such as `/lwm2m`: at most four segments of unreserved characters
    /// (RFC 3986 §2.3), 64 bytes in all. `None` where there is none.
    pub fn root(&self) -> Option<&str> {
        self.root.as_deref()
    }

    /// The links in order, without the root path: `</3/0>,</4>;ver=1.3,</4/0>`. At most [`MAX_LINKS_LEN`] bytes, and
    /// [`parse`](Self::parse) reads it.
    pub fn links(&self) -> String {
        let mut text = String::new();
        for (path, version) in &self.paths {
            let before = text.len();
            let comma = if before == 0 { "" } else { "," };
            let ver = if version.is_empty() { "" } else { ";ver=" };
            let _ = write!(text, "{comma}<{path}>{ver}{version}"); // a string takes everything
            if text.len() > MAX_LINKS_LEN {
                text.truncate(before);
                break;
            }
        }
        text
    }
}

/// One link: what stands between `<` and `>`, and what stands behind it.
#[derive(Debug, Clone, Copy)]
struct Link<'a> {
    target: &'a str,
    attributes: &'a str,
}

/// All links of a text.
fn links(mut rest: &str) -> impl Iterator<Item = Link<'_>> {
    std::iter::from_fn(move || {
        let (target, behind) = rest.split_once('<')?.1.split_once('>')?;
        let attributes;
        (attributes, rest) = split_unquoted(behind, ',');
        Some(Link { target, attributes })
    })
}

impl<'a> Link<'a> {
    /// The path of objects, if that is what the link leads to, unless it is the root of all.
    fn root(self) -> Option<&'a str> {
        let types = self.attribute("rt")?;
        let root = self.target.strip_suffix('/').unwrap_or(self.target);
        let is_root = types.split(' ').any(|rt| rt == "oma.lwm2m");
        (is_root && is_path(root)).then_some(root)
    }

    /// What is told of the object's version.
    fn object_version(self) -> Option<&'a str> {
        let version = self.attribute("ver")?;
        let fine = |byte: u8| byte.is_ascii_digit() || byte == b'.';
        (version.len() <= MAX_VERSION_LEN && version.bytes().all(fine)).then_some(version)
    }

    /// The value of an attribute, without its quotation marks.
    fn attribute(self, name: &str) -> Option<&'a str> {
        let mut rest = self.attributes;
        while !rest.is_empty() {
            let attribute;
            (attribute, rest) = split_unquoted(rest, ';');
            if let Some((found, value)) = attribute.split_once('=')
                && found.trim() == name
            {
                return Some(value.trim().trim_matches('"'));
            }
        }
        None
    }
}

/// What stands before the next `separator` that is in no quotation marks, and what stands behind it.
fn split_unquoted(text: &str, separator: char) -> (&str, &str) {
    let mut quoted = false;
    let at = text.find(|c| {
        quoted ^= c == '"';
        c == separator && !quoted
    });
    match at {
        Some(at) => (&text[..at], &text[at + separator.len_utf8()..]),
        None => (text, ""),
    }
}

/// Whether this is a path of one to four segments that stand for themselves.
fn is_path(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let segment = |text: &str| !text.is_empty() && text.bytes().all(plain);
    text.strip_prefix('/').is_some_and(|rest| {
        text.len() <= MAX_ROOT_LEN && rest.split('/').count() <= 4 && rest.split('/').all(segment)
    })
}
