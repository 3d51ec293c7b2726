//! What a device says of its version, which need not be what it runs, nor written as it should be.

use pcp::{HEADER_LEN, MessageCode, Version};

use super::Device;
use crate::fault::Fault;

/// Bytes of a version in a frame.
const VERSION_LEN: usize = 16;
/// Where a frame's check code stands.
const CHECK_CODE: std::ops::Range<usize> = 4..6;

impl Device {
    /// The version that the device says it runs.
    pub(super) fn told_version(&self) -> Version {
        self.upgrade.claim.unwrap_or(self.upgrade.version)
    }

    /// The device was notified of a version.
    pub(super) fn claim(&mut self, offered: Version) {
        if self.spec.fault.is_some_and(Fault::claims_target) {
            self.upgrade.claim = Some(offered);
        }
    }
}

/// Writes into a frame's version what does not belong to it, in one of four ways.
pub(super) fn soil(frame: &mut [u8], way: u64) {
    let Some(code) = frame.get(3).copied().map(MessageCode) else {
        return;
    };
    let at = match code {
        MessageCode::VERSION_QUERY | MessageCode::UPGRADE_REPORT => HEADER_LEN + 1,
        MessageCode::SEGMENT_REQUEST => HEADER_LEN,
        _ => return,
    };
    let Some(version) = frame.get_mut(at..at + VERSION_LEN) else {
        return; // one that is refused
    };
    let end = version.iter().position(|byte| *byte == 0);
    let Some(rest) = end.and_then(|end| version.get_mut(end..)) else {
        return; // all of it is the version's
    };
    match way % 4 {
        // of a longer version that stood there before
        0 => rest
            .iter_mut()
            .skip(1)
            .zip(b"2.0-rc1".iter().cycle())
            .for_each(|(to, from)| *to = *from),
        1 => rest.fill(b' '),
        2 => rest.fill(0xFF),
        _ => rest
            .iter_mut()
            .zip(b"\r\n")
            .for_each(|(to, from)| *to = *from),
    }
    frame[CHECK_CODE].fill(0);
    let check_code = pcp::checksum(frame).to_be_bytes();
    frame[CHECK_CODE].copy_from_slice(&check_code);
}

#[cfg(test)]
mod tests {
    use pcp::{DeviceMessage, ResultCode};

    use super::*;

    fn soiled(text: &str, way: u64) -> [u8; 16] {
        let mut buffer = [0; 32];
        let report = DeviceMessage::UpgradeReport {
            result: ResultCode::SUCCESS,
            version: Version::new(text).unwrap(),
        };
        let mut frame = report.encode(&mut buffer).unwrap().to_vec();
        soil(&mut frame, way);
        assert!(
            DeviceMessage::decode(&frame).is_ok(),
            "its check code is right"
        );
        frame[HEADER_LEN + 1..].try_into().unwrap()
    }

    #[test]
    fn versions_are_soiled_in_four_ways() {
        assert_eq!(&soiled("V2.0", 0), b"V2.0\x002.0-rc12.0-");
        assert_eq!(&soiled("V2.0", 5), b"V2.0            ");
        assert_eq!(
            &soiled("V2.0", 2),
            b"V2.0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"
        );
        assert_eq!(&soiled("V2.0", 3), b"V2.0\r\n\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&soiled("sixteen-bytes-00", 1), b"sixteen-bytes-00");
    }
}
