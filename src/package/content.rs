//! The bytes of a package as they are, for whoever is served them in CoAP blocks (RFC 7959).

use bytes::Bytes;

/// What is served in blocks: mapped from the package's file, and shared by all upgrades that serve it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    bytes: Bytes,
    etag: [u8; Self::ETAG_LEN],
}

impl Content {
    /// Bytes of an `ETag` (RFC 7252 §5.10.6): as many as fit beside the longest token into the head of a datagram.
    pub const ETAG_LEN: usize = 6;
    /// The most bytes that can be served: 2^20 blocks of 1,024 (RFC 7959 §2.2).
    pub const MAX_BYTES: u64 = 1 << 30;

    /// The content with that SHA-256, 64 hexadecimal digits, whose first digits become its `ETag`. `None` where it is longer
    /// than [`MAX_BYTES`](Self::MAX_BYTES), or empty, or the digest is none.
    pub fn new(bytes: Bytes, sha256: &str) -> Option<Self> {
        let fits = !bytes.is_empty() && bytes.len() as u64 <= Self::MAX_BYTES;
        let mut etag = [0; Self::ETAG_LEN];
        hex::decode_to_slice(sha256.get(..2 * Self::ETAG_LEN)?, &mut etag).ok()?;
        fits.then_some(Self { bytes, etag })
    }

    /// All of it.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same for the same content, and another for another.
    pub const fn etag(&self) -> [u8; Self::ETAG_LEN] {
        self.etag
    }
}
