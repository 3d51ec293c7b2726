//! What is there of a package.

use pcp::{Checksum, Version};
use sha2::{Digest, Sha256};

use crate::{device::ImageReport, object::Image};

/// The beginning of a package, or all of it. Thousands of devices keep no bytes, just what is needed to verify them.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    len: u64,
    blocks: u64,
    /// How long it is, if the server has said so.
    pub(super) total: Option<u64>,
    complete: bool,
    sha256: Sha256,
    checksum: Checksum,
    bytes: Vec<u8>,
}

impl Received {
    pub(super) fn new(total: Option<u64>) -> Self {
        Self {
            len: 0,
            blocks: 0,
            total,
            complete: false,
            sha256: Sha256::new(),
            checksum: Checksum::new(),
            bytes: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, data: &[u8], keep: bool) {
        self.len += data.len() as u64;
        self.blocks += 1;
        self.sha256.update(data);
        self.checksum.update(data);
        if keep {
            self.bytes.extend(data);
        }
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All of it is there: which of these packages it is.
    pub(super) fn check(&mut self, images: &[Image]) -> Option<Version> {
        self.complete = true;
        let sha256: [u8; 32] = self.sha256.clone().finalize().into();
        let is_it = |image: &&Image| (image.content).is_none_or(|it| it == (self.len, sha256));
        images.iter().find(is_it).map(|image| image.version)
    }

    /// Blocks stand for segments.
    pub(crate) fn report(&self) -> ImageReport {
        let count = match self.total {
            _ if self.complete => self.blocks,
            Some(total) if self.len > 0 => (total * self.blocks).div_ceil(self.len),
            _ => 0,
        };
        let narrow = |count| u16::try_from(count).unwrap_or(u16::MAX);
        ImageReport {
            segments: narrow(self.blocks),
            segment_count: narrow(count),
            len_bytes: self.len,
            check_code: self.checksum.finish(),
        }
    }
}
