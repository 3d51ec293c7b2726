use thiserror::Error;

use crate::{Direction, MessageCode};

/// Why bytes are not a frame. Always the sender's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Fewer bytes than a header has.
    #[error("{len} bytes are fewer than the 8 of a header")]
    TooShort {
        /// Bytes in the payload.
        len: usize,
    },
    /// Not PCP but the device's own data.
    #[error("begins with 0x{start:04X} instead of 0xFFFE")]
    NotPcp {
        /// The first two bytes.
        start: u16,
    },
    /// Cut off, or followed by something.
    #[error("declares {declared} bytes of data, has {actual}")]
    LengthMismatch {
        /// The header's data length.
        declared: u16,
        /// Bytes after the header.
        actual: usize,
    },
    /// Damaged, or made by something that computes another CRC.
    #[error("has the check code 0x{found:04X} instead of 0x{computed:04X}")]
    ChecksumMismatch {
        /// The header's check code.
        found: u16,
        /// The check code of what arrived.
        computed: u16,
    },
    /// A protocol version other than 1.
    #[error("has protocol version {version} instead of 1")]
    UnsupportedVersion {
        /// The low nibble of the version byte.
        version: u8,
    },
    /// The data do not fit the message.
    #[error("message {code} {} has {len} bytes of data instead of {expected}", side(*.direction))]
    WrongDataLength {
        /// The message.
        code: MessageCode,
        /// Who sent it.
        direction: Direction,
        /// Bytes of data.
        len: usize,
        /// What would fit, in words.
        expected: &'static str,
    },
    /// A version query was answered with success, without the version.
    #[error("the version query's answer says success and carries no version")]
    MissingVersion,
}

/// Why a message cannot be written. Always the caller's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The frame is longer than the buffer.
    #[error("the frame needs {needed} bytes, the buffer has {available}")]
    BufferTooSmall {
        /// Bytes of the frame.
        needed: usize,
        /// Bytes of the buffer.
        available: usize,
    },
    /// More data than the header can declare.
    #[error("{len} bytes of data are more than the 65,535 of a frame")]
    DataTooLong {
        /// Bytes of data.
        len: usize,
    },
    /// A version query answered with success needs the version.
    #[error("a successful answer to a version query needs the version")]
    MissingVersion,
    /// A segment is sent with success, its number and its bytes, or not at all.
    #[error(
        "a segment goes with success, its number and at least one byte; a refusal has no bytes"
    )]
    InconsistentSegment,
    /// A message of this code has its own variant.
    #[error("message {code} is known and cannot be sent as an unknown one")]
    KnownCode {
        /// The code.
        code: MessageCode,
    },
}

const fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::FromDevice => "of a device",
        Direction::FromPlatform => "of a platform",
    }
}
