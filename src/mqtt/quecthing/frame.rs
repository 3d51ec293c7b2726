//! The frames of QuecThing: `AA AA`, length, check byte, packet ID, command, fields.
//!
//! Numbers are 16 bits, big-endian. The length counts what follows it, as it is before it is escaped. After the leading `AA AA` an
//! `AA` that `AA` or `55` follows is written with a `55` behind it, so that `AA AA` begins a frame and nothing else does.
//! Layout: the public description of the Acceleronix Developer Center, and `jordankurtz/ha-pecron-local` on GitHub, which has the sum
//! of the bytes where the description says CRC-8.

use crate::config::QuecChecksum;

/// Bytes that are read of a payload.
pub const MAX_BYTES: usize = 16 * 1024;
/// Frames that are read of a payload.
pub const MAX_FRAMES: usize = 8;

const MARK: u8 = 0xAA;
const ESCAPE: u8 = 0x55;
/// The check byte, the packet ID and the command.
const HEAD: usize = 5;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Tells it from others: neither 0 nor 0xFFFF.
    pub packet_id: u16,
    /// What it is about.
    pub command: u16,
    /// Its fields, as [`super::ttlv`] reads them. What makes it longer than 65,535 bytes is cut when it is written.
    pub payload: Vec<u8>,
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// There are too many.
    #[error("it has more than {MAX_BYTES} bytes, or {MAX_FRAMES} frames")]
    TooLong,
    /// It does not begin as a frame does.
    #[error("it does not begin with AA AA")]
    NoMark,
    /// It ends before its length says.
    #[error("it is shorter than its length says")]
    Cut,
    /// The length leaves no room for a command.
    #[error("its length is {0}; a frame has at least {HEAD}")]
    Short(u16),
    /// The check byte is another.
    #[error("its check byte is {told:#04x}, and {right:#04x} would be right")]
    Check {
        /// As it came.
        told: u8,
        /// As it is computed.
        right: u8,
    },
    /// It is none that a packet may have.
    #[error("its packet ID is {0:#06x}, which none has")]
    PacketId(u16),
}

/// Reads the frames of a payload, one after the other.
///
/// # Errors
/// What is wrong with the first that cannot be read.
pub fn read(payload: &[u8], checksum: QuecChecksum) -> Result<Vec<Frame>, FrameError> {
    if payload.len() > MAX_BYTES {
        return Err(FrameError::TooLong);
    }
    let mut rest = payload;
    let mut frames = Vec::new();
    loop {
        let (frame, after) = read_one(rest, checksum)?;
        frames.push(frame);
        rest = after;
        if rest.is_empty() {
            return Ok(frames);
        }
        if frames.len() == MAX_FRAMES {
            return Err(FrameError::TooLong);
        }
    }
}

fn read_one(bytes: &[u8], checksum: QuecChecksum) -> Result<(Frame, &[u8]), FrameError> {
    let rest = bytes
        .strip_prefix(&[MARK, MARK])
        .ok_or(FrameError::NoMark)?;
    let mut escaped = Escaped { rest };
    let length = u16::from_be_bytes([escaped.byte()?, escaped.byte()?]);
    if usize::from(length) < HEAD {
        return Err(FrameError::Short(length));
    }
    // no more than is there
    if usize::from(length) > escaped.rest.len() {
        return Err(FrameError::Cut);
    }
    let told = escaped.byte()?;
    let checked = (1..length)
        .map(|_| escaped.byte())
        .collect::<Result<Vec<u8>, _>>()?;
    let right = check(&checked, checksum);
    if told != right {
        return Err(FrameError::Check { told, right });
    }
    let (head, payload) = checked.split_at(HEAD - 1); // so many there are at least
    let packet_id = u16::from_be_bytes([head[0], head[1]]);
    if matches!(packet_id, 0 | u16::MAX) {
        return Err(FrameError::PacketId(packet_id));
    }
    let frame = Frame {
        packet_id,
        command: u16::from_be_bytes([head[2], head[3]]),
        payload: payload.to_vec(),
    };
    Ok((frame, escaped.rest))
}

/// Bytes behind a mark.
struct Escaped<'b> {
    rest: &'b [u8],
}

impl Escaped<'_> {
    /// The next byte that is meant.
    fn byte(&mut self) -> Result<u8, FrameError> {
        let (byte, rest) = self.rest.split_first().ok_or(FrameError::Cut)?;
        self.rest = match rest {
            [ESCAPE, rest @ ..] if *byte == MARK => rest,
            rest => rest,
        };
        Ok(*byte)
    }
}

/// The check byte of what follows it.
fn check(bytes: &[u8], checksum: QuecChecksum) -> u8 {
    match checksum {
        QuecChecksum::Sum => bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte)),
        QuecChecksum::Crc8 => bytes.iter().fold(0, |crc, byte| {
            (0..8).fold(crc ^ byte, |crc, _| {
                let carry = if crc & 0x80 == 0 { 0 } else { 0x07 };
                crc << 1 ^ carry
            })
        }),
    }
}

impl Frame {
    /// As it is sent.
    pub fn to_bytes(&self, checksum: QuecChecksum) -> Vec<u8> {
        let most = usize::from(u16::MAX) - HEAD;
        let payload = &self.payload[..self.payload.len().min(most)];
        let mut checked = Vec::with_capacity(HEAD - 1 + payload.len());
        checked.extend(self.packet_id.to_be_bytes());
        checked.extend(self.command.to_be_bytes());
        checked.extend(payload);
        let length = u16::try_from(checked.len() + 1).unwrap_or(u16::MAX); // within it, as was cut above
        let mut plain = Vec::with_capacity(checked.len() + 3);
        plain.extend(length.to_be_bytes());
        plain.push(check(&checked, checksum));
        plain.extend(checked);
        let mut bytes = vec![MARK, MARK];
        for (index, byte) in plain.iter().enumerate() {
            bytes.push(*byte);
            let next = plain.get(index + 1);
            if *byte == MARK && matches!(next, Some(&(MARK | ESCAPE))) {
                bytes.push(ESCAPE);
            }
        }
        bytes
    }
}
