use pcp::{Checksum, Version};

use super::ImageReport;

/// A package in flash memory, whole or in part, which survives restarts.
///
/// Thousands of devices do not keep the bytes, just what is needed to verify them.
#[derive(Debug, Clone)]
pub(super) struct Held {
    version: Version,
    check_code: u16,
    segment_size: u16,
    segment_count: u16,
    /// The first segment that is missing.
    next: u16,
    len_bytes: u64,
    checksum: Checksum,
    /// Empty unless the device keeps its image.
    image: Vec<u8>,
}

impl Held {
    /// An offered package, of which nothing is there yet.
    pub(super) const fn new(
        version: Version,
        segment_size: u16,
        segment_count: u16,
        check_code: u16,
    ) -> Self {
        Self {
            version,
            check_code,
            segment_size,
            segment_count,
            next: 0,
            len_bytes: 0,
            checksum: Checksum::new(),
            image: Vec::new(),
        }
    }

    /// Takes the next segment: a full one, or what remains. Returns whether its length is right.
    pub(super) fn take(&mut self, data: &[u8], keep: bool) -> bool {
        let size = usize::from(self.segment_size);
        let is_last = self.next.checked_add(1) == Some(self.segment_count);
        if data.len() > size || (data.len() < size && !is_last) {
            return false;
        }
        self.checksum.update(data);
        self.len_bytes += data.len() as u64;
        if keep {
            self.image.extend(data);
        }
        self.next += 1;
        true
    }

    pub(super) const fn version(&self) -> Version {
        self.version
    }

    pub(super) const fn segment_count(&self) -> u16 {
        self.segment_count
    }

    pub(super) const fn next(&self) -> u16 {
        self.next
    }

    pub(super) fn image(&self) -> &[u8] {
        &self.image
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.segment_count == 0 || self.segment_size == 0
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.next == self.segment_count
    }

    /// Whether the bytes are those that were offered. A check code of 0 stands for none.
    pub(super) const fn is_intact(&self) -> bool {
        self.check_code == 0 || self.check_code == self.checksum.finish()
    }

    /// Whether the last segment was not a full one.
    pub(super) fn has_short_tail(&self) -> bool {
        self.len_bytes < u64::from(self.segment_size) * u64::from(self.next)
    }

    /// Whether segments of one belong to the other.
    pub(super) fn is_of_same_package(&self, other: &Self) -> bool {
        self.version == other.version
            && self.check_code == other.check_code
            && self.segment_size == other.segment_size
            && self.segment_count == other.segment_count
    }

    pub(super) const fn report(&self) -> ImageReport {
        ImageReport {
            segments: self.next,
            segment_count: self.segment_count,
            len_bytes: self.len_bytes,
            check_code: self.checksum.finish(),
        }
    }
}
