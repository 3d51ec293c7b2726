//! PCP, the upgrade protocol between NB-IoT devices and the platforms that upgrade them.
//!
//! A question-and-answer protocol: every request has one response with the same message code. It
//! has no port of its own; a frame is the whole payload of a message of another protocol, for
//! instance of a CoAP notification. A payload that does not begin with `FF FE` is the device's own
//! data, which [`is_pcp`] tells apart. Some devices put two frames into one message: [`frames`] parts them.
//!
//! ```text
//!  0        2         3       4            6             8
//!  +--------+---------+-------+------------+-------------+--------
//!  | FF FE  | version | code  | check code | data length | data …
//!  +--------+---------+-------+------------+-------------+--------
//! ```
//!
//! Which message a frame holds depends on who sent it, so there are two types: [`DeviceMessage`] for
//! what devices send and [`PlatformMessage`] for what platforms send. Decoding borrows from the
//! payload and allocates nothing; encoding writes into a buffer of the caller's.
//!
//! Sources: Huawei IoTDA, "PCP Introduction" and "Adaptation Development on the Device Side";
//! China Telecom CTWing, "software upgrade protocol".

#![no_std]

#[cfg(test)]
extern crate std;

mod checksum;
mod code;
mod device;
mod error;
mod frame;
mod platform;
mod version;

pub use checksum::{Checksum, checksum};
pub use code::{MessageCode, ResultCode};
pub use device::DeviceMessage;
pub use error::{DecodeError, EncodeError};
pub use frame::{HEADER_LEN, MAX_SEGMENT_DATA, START, frames, is_pcp};
pub use platform::PlatformMessage;
pub use version::{Version, VersionError};

/// Who sent a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Uplink: the device answers a command or asks for something.
    FromDevice,
    /// Downlink: the platform commands or answers.
    FromPlatform,
}

/// A frame of either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Sent by a device.
    Device(DeviceMessage<'a>),
    /// Sent by a platform.
    Platform(PlatformMessage<'a>),
}

/// Reads one frame that travelled in the given direction.
pub fn decode(direction: Direction, bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    match direction {
        Direction::FromDevice => DeviceMessage::decode(bytes).map(Message::Device),
        Direction::FromPlatform => PlatformMessage::decode(bytes).map(Message::Platform),
    }
}

/// Every way to read a frame whose direction is not known, as in a hex dump: none, one, or both.
///
/// One byte of data under code 22, say, is a device's report and a platform's answer alike.
pub fn readings(bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    [Direction::FromDevice, Direction::FromPlatform]
        .into_iter()
        .filter_map(|direction| decode(direction, bytes).ok())
}
