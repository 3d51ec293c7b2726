//! The frame around every message: header, check code, data.

use crate::{Checksum, DecodeError, Direction, EncodeError, MessageCode, Version};

/// The first two bytes of every frame.
pub const START: u16 = 0xFFFE;

/// Bytes before the data.
pub const HEADER_LEN: usize = 8;

/// Bytes of a segment that the frame format has room for: the data length has 16 bits, the result and
/// the segment number take three bytes. What devices have room for is far less: 500 by the protocol.
pub const MAX_SEGMENT_DATA: usize = u16::MAX as usize - 3;

const PROTOCOL_VERSION: u8 = 1;

/// Whether a payload claims to be a PCP frame; every other payload is the device's own data.
pub fn is_pcp(payload: &[u8]) -> bool {
    payload.starts_with(&START.to_be_bytes())
}

/// The frames of a payload that holds one after the other, as some devices send them.
///
/// A frame is as long as it declares, if another one begins there. Otherwise it is all that is left, so that a frame
/// that declares another length than it has is handed out whole, and refused for that by whoever decodes it. Nothing
/// is left out: the parts together are the payload.
pub fn frames(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = payload;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (frame, behind) = declared_len(rest)
            .and_then(|len| rest.split_at_checked(len))
            .filter(|(_, behind)| is_pcp(behind))
            .unwrap_or((rest, &[]));
        rest = behind;
        Some(frame)
    })
}

/// How long the frame in front is by its own account.
fn declared_len(bytes: &[u8]) -> Option<usize> {
    let [.., high, low] = bytes.first_chunk::<HEADER_LEN>()?;
    Some(HEADER_LEN + usize::from(u16::from_be_bytes([*high, *low])))
}

/// A frame whose header is in order.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) code: MessageCode,
    pub(crate) direction: Direction,
    pub(crate) data: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Checks the header. What tells PCP from other payloads comes first, then what tells a whole
    /// frame from a damaged one, then what only a whole frame can say.
    pub(crate) fn parse(direction: Direction, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if let [first, second, ..] = *bytes {
            let start = u16::from_be_bytes([first, second]);
            if start != START {
                return Err(DecodeError::NotPcp { start });
            }
        }
        let Some((header, data)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(DecodeError::TooShort { len: bytes.len() });
        };
        let [
            _,
            _,
            version,
            code,
            check_high,
            check_low,
            len_high,
            len_low,
        ] = *header;
        let declared = u16::from_be_bytes([len_high, len_low]);
        if usize::from(declared) != data.len() {
            return Err(DecodeError::LengthMismatch {
                declared,
                actual: data.len(),
            });
        }
        let found = u16::from_be_bytes([check_high, check_low]);
        let computed = check_code(*header, data);
        if found != computed {
            return Err(DecodeError::ChecksumMismatch { found, computed });
        }
        // The high nibble is reserved.
        let version = version & 0x0F;
        if version != PROTOCOL_VERSION {
            return Err(DecodeError::UnsupportedVersion { version });
        }
        Ok(Self {
            code: MessageCode(code),
            direction,
            data,
        })
    }

    pub(crate) const fn wrong_length(&self, expected: &'static str) -> DecodeError {
        DecodeError::WrongDataLength {
            code: self.code,
            direction: self.direction,
            len: self.data.len(),
            expected,
        }
    }

    /// The data, if there are exactly `N` bytes of them.
    pub(crate) fn exactly<const N: usize>(
        &self,
        expected: &'static str,
    ) -> Result<&'a [u8; N], DecodeError> {
        self.data
            .try_into()
            .map_err(|_| self.wrong_length(expected))
    }
}

/// Frames the data that `parts` make up, one after the other.
pub(crate) fn write<'b>(
    code: MessageCode,
    parts: &[&[u8]],
    buf: &'b mut [u8],
) -> Result<&'b [u8], EncodeError> {
    let len = parts.iter().map(|part| part.len()).sum();
    let declared = u16::try_from(len).map_err(|_| EncodeError::DataTooLong { len })?;
    let needed = HEADER_LEN + len;
    let available = buf.len();
    let too_small = EncodeError::BufferTooSmall { needed, available };
    let frame = buf.get_mut(..needed).ok_or(too_small)?;
    let (header, data) = frame
        .split_first_chunk_mut::<HEADER_LEN>()
        .ok_or(too_small)?;

    let [start_high, start_low] = START.to_be_bytes();
    let [len_high, len_low] = declared.to_be_bytes();
    *header = [
        start_high,
        start_low,
        PROTOCOL_VERSION,
        code.0,
        0,
        0,
        len_high,
        len_low,
    ];
    let mut rest = &mut *data;
    for part in parts {
        let (field, after) = rest.split_at_mut(part.len());
        field.copy_from_slice(part);
        rest = after;
    }
    let [check_high, check_low] = check_code(*header, data).to_be_bytes();
    header[4] = check_high;
    header[5] = check_low;
    Ok(frame)
}

/// The check code covers the whole frame, with its own field as 0.
fn check_code(mut header: [u8; HEADER_LEN], data: &[u8]) -> u16 {
    header[4] = 0;
    header[5] = 0;
    let mut checksum = Checksum::new();
    checksum.update(&header);
    checksum.update(data);
    checksum.finish()
}

/// Splits a version off the front of fixed-size data.
pub(crate) fn split_version(data: &[u8]) -> Option<(Version, &[u8])> {
    let (version, rest) = data.split_first_chunk()?;
    Some((Version::from_bytes(*version), rest))
}
