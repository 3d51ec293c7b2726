//! The sockets of a device.

use std::fmt;

/// A socket of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// The one that it registers through, with its DTLS association if it has a key.
    Main,
    /// One that it has opened to download, with an association of its own if it has a key. Each has another number; the
    /// device uses the latest alone.
    Download(u16),
}

/// Where a device downloads from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Whether it is reached over DTLS (`coaps`).
    pub secure: bool,
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
