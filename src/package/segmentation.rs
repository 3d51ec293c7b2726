use thiserror::Error;

/// Bytes of a segment when nobody asks for another size: PCP's maximum, the fewest exchanges.
pub const DEFAULT_SEGMENT_SIZE: u16 = 500;

/// Segment numbers and counts are 16 bits wide.
pub const MAX_SEGMENT_COUNT: u64 = 65_535;

/// A segment of this size makes a data length of 0x0100, whose low byte is 0. A widely copied device
/// library looks at that byte before it swaps the two, and fails.
pub const UNSAFE_SEGMENT_SIZE: u16 = 253;

const MIN_SEGMENT_SIZE: u16 = 32;
const MAX_SEGMENT_SIZE: u16 = 500;

/// Why a package cannot be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SegmentationError {
    /// There is nothing to send.
    #[error("the package is empty")]
    Empty,
    /// Outside what PCP allows.
    #[error(
        "segment size {0} is out of range: {MIN_SEGMENT_SIZE} to {MAX_SEGMENT_SIZE} bytes are allowed"
    )]
    SizeOutOfRange(u32),
    /// Misread by deployed devices.
    #[error(
        "segment size {UNSAFE_SEGMENT_SIZE} is refused: many devices misread a segment of exactly that size; choose another"
    )]
    SizeUnsafe,
    /// A segment number has 16 bits.
    #[error(
        "{size_bytes} bytes in segments of {segment_size} make {count} segments, more than {MAX_SEGMENT_COUNT}"
    )]
    TooManySegments {
        /// Bytes in the package.
        size_bytes: u64,
        /// Bytes in a segment.
        segment_size: u16,
        /// Segments that would be needed.
        count: u64,
    },
}

/// How a package is cut: all segments have `segment_size` bytes, but the last one, which holds the
/// rest unless it is padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmentation {
    segment_size: u16,
    segment_count: u16,
    size_bytes: u64,
    /// The last segment is shorter than the others, and filled up.
    pad_last: bool,
}

impl Segmentation {
    /// Cuts `size_bytes` into segments of at most `wanted` bytes (32 to 500, 500 when `None`).
    ///
    /// Where the last segment would have exactly 253 bytes the size is lowered until it has not;
    /// with `pad_last` the last segment is filled up with 0xFF and every size but 253 is fine.
    pub fn choose(
        size_bytes: u64,
        wanted: Option<u32>,
        pad_last: bool,
    ) -> Result<Self, SegmentationError> {
        let wanted = wanted.unwrap_or(u32::from(DEFAULT_SEGMENT_SIZE));
        let segment_size = u16::try_from(wanted)
            .ok()
            .filter(|size| (MIN_SEGMENT_SIZE..=MAX_SEGMENT_SIZE).contains(size))
            .ok_or(SegmentationError::SizeOutOfRange(wanted))?;
        if segment_size == UNSAFE_SEGMENT_SIZE {
            return Err(SegmentationError::SizeUnsafe);
        }
        if size_bytes == 0 {
            return Err(SegmentationError::Empty);
        }
        let unsafe_tail =
            |size: u16| !pad_last && size_bytes % u64::from(size) == u64::from(UNSAFE_SEGMENT_SIZE);
        // A size of at most 253 leaves a tail below 253, so the search ends.
        let segment_size = (MIN_SEGMENT_SIZE..=segment_size)
            .rev()
            .find(|size| *size != UNSAFE_SEGMENT_SIZE && !unsafe_tail(*size))
            .unwrap_or(MIN_SEGMENT_SIZE);
        Self::exact(size_bytes, segment_size, pad_last)
    }

    /// The cut that was chosen before, from its stored size. Padding counts only where the last segment is shorter than
    /// the others: cuts are equal when devices get the same segments.
    pub fn exact(
        size_bytes: u64,
        segment_size: u16,
        pad_last: bool,
    ) -> Result<Self, SegmentationError> {
        if !(MIN_SEGMENT_SIZE..=MAX_SEGMENT_SIZE).contains(&segment_size) {
            return Err(SegmentationError::SizeOutOfRange(segment_size.into()));
        }
        if size_bytes == 0 {
            return Err(SegmentationError::Empty);
        }
        let count = size_bytes.div_ceil(u64::from(segment_size));
        let segment_count =
            u16::try_from(count).map_err(|_| SegmentationError::TooManySegments {
                size_bytes,
                segment_size,
                count,
            })?;
        Ok(Self {
            segment_size,
            segment_count,
            size_bytes,
            pad_last: pad_last && !size_bytes.is_multiple_of(segment_size.into()),
        })
    }

    /// Bytes in every segment but, perhaps, the last.
    pub const fn segment_size(&self) -> u16 {
        self.segment_size
    }

    /// Number of segments, at least 1.
    pub const fn segment_count(&self) -> u16 {
        self.segment_count
    }

    /// Bytes in the package.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Whether the last segment is filled up with 0xFF.
    pub const fn pad_last(&self) -> bool {
        self.pad_last
    }

    /// Bytes of the package before `segment`.
    pub fn bytes_before(&self, segment: u16) -> u64 {
        (u64::from(segment) * u64::from(self.segment_size)).min(self.size_bytes)
    }

    /// The segment in which the byte stands that follows `bytes`, or the last one.
    pub fn segment_after(&self, bytes: u64) -> u16 {
        let segment = bytes / u64::from(self.segment_size);
        // a package has at least one
        u16::try_from(segment).map_or(self.segment_count - 1, |at| at.min(self.segment_count - 1))
    }

    /// Whole percent of the package that a device holds when it has the segments before `segment`.
    pub fn percent_before(&self, segment: u16) -> u8 {
        let done = u32::from(segment.min(self.segment_count)) * 100;
        u8::try_from(done / u32::from(self.segment_count)).unwrap_or(100)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cuts_at_500_bytes_unless_told_otherwise() {
        let cut = Segmentation::choose(1_200, None, false).unwrap();
        assert_eq!((cut.segment_size(), cut.segment_count()), (500, 3));
    }

    #[test]
    fn lowers_the_size_when_the_tail_would_have_253_bytes() {
        let cut = Segmentation::choose(753, None, false).unwrap();
        assert_eq!((cut.segment_size(), cut.segment_count()), (499, 2));
        let single = Segmentation::choose(253, None, false).unwrap();
        assert_eq!((single.segment_size(), single.segment_count()), (252, 2));
        let padded = Segmentation::choose(753, None, true).unwrap();
        assert_eq!(padded.segment_size(), 500);
    }

    #[test]
    fn padding_tells_cuts_apart_where_it_changes_a_segment() {
        let cut = |size, pad| Segmentation::exact(size, 500, pad).unwrap();
        assert_eq!(cut(1_000, true), cut(1_000, false));
        assert_ne!(cut(1_001, true), cut(1_001, false));
    }

    #[test]
    fn refuses_what_pcp_cannot_carry() {
        let choose = Segmentation::choose;
        assert_eq!(choose(0, None, false), Err(SegmentationError::Empty));
        for size in [0, 31, 501, 70_000] {
            assert_eq!(
                choose(10, Some(size), false),
                Err(SegmentationError::SizeOutOfRange(size))
            );
        }
        assert_eq!(
            choose(10, Some(253), true),
            Err(SegmentationError::SizeUnsafe)
        );
        assert!(choose(65_535 * 500, None, false).is_ok());
        assert!(matches!(
            choose(65_535 * 500 + 1, None, false),
            Err(SegmentationError::TooManySegments { count: 65_536, .. })
        ));
    }

    #[test]
    fn percent_counts_the_segments_before_the_one_asked_for() {
        let cut = Segmentation::choose(2_000, None, false).unwrap();
        assert_eq!(cut.percent_before(0), 0);
        assert_eq!(cut.percent_before(3), 75);
        assert_eq!(cut.percent_before(9), 100);
    }

    #[test]
    fn a_place_in_the_package_and_a_segment_tell_each_other() {
        let cut = Segmentation::choose(1_200, None, false).unwrap();
        for (segment, bytes) in [(0, 0), (1, 500), (2, 1_000)] {
            assert_eq!(cut.bytes_before(segment), bytes);
            assert_eq!(cut.segment_after(bytes), segment);
        }
        assert_eq!(cut.bytes_before(3), 1_200);
        assert_eq!(
            (cut.segment_after(1_200), cut.segment_after(u64::MAX)),
            (2, 2)
        );
    }

    proptest! {
        #[test]
        fn no_segment_ever_has_253_bytes(size in 1u64..40_000, wanted in 32u32..=500, pad: bool) {
            prop_assume!(wanted != 253);
            let cut = Segmentation::choose(size, Some(wanted), pad).unwrap();
            prop_assert!(u32::from(cut.segment_size()) <= wanted);
            let tail = size - u64::from(cut.segment_count() - 1) * u64::from(cut.segment_size());
            prop_assert!(tail >= 1 && tail <= u64::from(cut.segment_size()));
            prop_assert_ne!(cut.segment_size(), 253);
            prop_assert!(pad || tail != 253);
        }
    }
}
