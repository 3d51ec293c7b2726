use std::collections::BTreeSet;

use crate::lwm2m::{MAX_PAYLOAD, ResourcePath};

/// Links that are read from one payload; those behind them are left out.
pub const MAX_LINKS: usize = 256;

/// The objects and instances that a device announces, in CoRE link format (RFC 6690), for instance
/// `</>;rt="oma.lwm2m",</3/0>,</4>;ver=1.3,</19/0>,</19/1>`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Objects {
    paths: BTreeSet<ResourcePath>,
}

impl Objects {
    /// Reads the payload of a registration or update: as many links as are understood.
    pub(super) fn parse(payload: &[u8]) -> Self {
        let text = match std::str::from_utf8(payload) {
            Ok(text) if text.len() <= MAX_PAYLOAD => text,
            _ => return Self::default(),
        };
        Self {
            paths: links(text)
                .take(MAX_LINKS)
                .filter_map(|target| target.parse().ok())
                .collect(),
        }
    }

    /// Whether nothing is known: the device announced nothing, or nothing that was understood.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Whether the device has the object, `None` when it announced nothing.
    pub fn has_object(&self, object: u16) -> Option<bool> {
        (!self.is_empty()).then(|| self.paths.iter().any(|path| path.object() == object))
    }

    /// What is announced, in order.
    pub fn paths(&self) -> impl Iterator<Item = ResourcePath> {
        self.paths.iter().copied()
    }
}

/// The targets of all links: what stands between `<` and `>`. Attributes are stepped over, with
/// respect to quotation marks, in which `<` and `,` mean nothing.
fn links(mut rest: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (target, behind) = rest.split_once('<')?.1.split_once('>')?;
        rest = behind;
        let mut quoted = false;
        let next = rest.find(|c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        });
        rest = next.map_or("", |at| &rest[at..]);
        Some(target)
    })
}
