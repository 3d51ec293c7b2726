use bytes::Bytes;

use super::Segmentation;

/// The PCP frames (message 21, from the platform) of all segments of one package, one after the
/// other in one place.
#[derive(Debug)]
pub struct SegmentFrames {
    segmentation: Segmentation,
    bytes: Bytes,
}

/// Result and segment number, before the data.
const PREFIX_LEN: usize = 3;

impl SegmentFrames {
    /// Builds every frame of `content`, cut as `segmentation` says.
    ///
    /// Returns `None` when `content` has another length than the one `segmentation` was made for:
    /// the file is not the package it is taken for.
    pub fn build(content: &[u8], segmentation: Segmentation) -> Option<Self> {
        if u64::try_from(content.len()).ok()? != segmentation.size_bytes() {
            return None;
        }
        let size = usize::from(segmentation.segment_size());
        let mut bytes =
            Vec::with_capacity(usize::from(segmentation.segment_count()) * Self::stride(size));
        let mut padded = Vec::new();
        for (number, chunk) in content.chunks(size).enumerate() {
            let data = if segmentation.pad_last() && chunk.len() < size {
                padded.extend_from_slice(chunk);
                padded.resize(size, 0xFF);
                &padded
            } else {
                chunk
            };
            let message = pcp::PlatformMessage::SegmentResponse {
                result: pcp::ResultCode::SUCCESS,
                segment: Some(u16::try_from(number).ok()?),
                data,
            };
            let mut frame = [0; pcp::HEADER_LEN + PREFIX_LEN + 500];
            bytes.extend_from_slice(message.encode(&mut frame).ok()?);
        }
        Some(Self {
            segmentation,
            bytes: Bytes::from_owner(bytes),
        })
    }

    /// The frame that carries `segment`, `None` when the package has no such segment. It is not copied.
    pub fn get(&self, segment: u16) -> Option<Bytes> {
        if segment >= self.segmentation.segment_count() {
            return None;
        }
        let stride = Self::stride(usize::from(self.segmentation.segment_size()));
        let start = usize::from(segment) * stride;
        // only the last frame is shorter than the stride
        let end = self.bytes.len().min(start + stride);
        (start < end).then(|| self.bytes.slice(start..end))
    }

    /// All frames, one after the other.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same frames in another place, of which `copy` is a copy.
    #[must_use]
    pub fn kept_in(self, copy: Bytes) -> Self {
        Self {
            bytes: copy,
            ..self
        }
    }

    /// How the package was cut.
    pub const fn segmentation(&self) -> Segmentation {
        self.segmentation
    }

    const fn stride(segment_size: usize) -> usize {
        pcp::HEADER_LEN + PREFIX_LEN + segment_size
    }
}

#[cfg(test)]
mod tests {
    use pcp::{PlatformMessage, ResultCode};

    use super::*;

    fn data_of(frames: &SegmentFrames, segment: u16) -> Vec<u8> {
        match PlatformMessage::decode(&frames.get(segment).unwrap()).unwrap() {
            PlatformMessage::SegmentResponse {
                result: ResultCode::SUCCESS,
                segment: Some(number),
                data,
            } if number == segment => data.to_vec(),
            other => panic!("not segment {segment}: {other:?}"),
        }
    }

    #[test]
    fn segments_put_together_are_the_package() {
        let content: Vec<u8> = (0..1_234u32).map(|i| (i % 251) as u8).collect();
        let cut = Segmentation::choose(1_234, Some(100), false).unwrap();
        let frames = SegmentFrames::build(&content, cut).unwrap();
        let joined: Vec<u8> = (0..13).flat_map(|i| data_of(&frames, i)).collect();
        assert_eq!(joined, content);
        assert_eq!(frames.get(13), None);
    }

    #[test]
    fn pads_the_last_segment_with_ff_when_asked_to() {
        let cut = Segmentation::choose(150, Some(100), true).unwrap();
        let frames = SegmentFrames::build(&[7; 150], cut).unwrap();
        let last = data_of(&frames, 1);
        assert_eq!(last[..50], [7; 50]);
        assert_eq!(last[50..], [0xFF; 50]);
    }

    #[test]
    fn refuses_content_of_another_length() {
        let cut = Segmentation::choose(150, None, false).unwrap();
        assert!(SegmentFrames::build(&[7; 149], cut).is_none());
    }
}
