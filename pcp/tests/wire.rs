//! Frozen bytes: do not change. These are frames as devices in the field send and expect them.
//!
//! They are published in Huawei IoTDA, "PCP Introduction". The page prints check code 0000 in the
//! last one beside a checksum that belongs to 0x1234.

#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

use pcp::{DeviceMessage, PlatformMessage, ResultCode, Version, checksum};

const VERSION_QUERY: &str = "FFFE01134C9A0000";
const SEGMENT_REQUEST: &str = "FFFE01155618001256312E300000000000000000000000000000";
const EXECUTE: &str = "FFFE0117CF900000";
const UPGRADE_REPORT: &str = "FFFE0118C7D200110056312E30000000000000000000000000";
const NEW_VERSION: &str = "FFFE011402F7001656312E3000000000000000000000000001F400011234";

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn v1_0() -> Version {
    Version::new("V1.0").unwrap()
}

#[test]
fn platform_frames_have_not_changed() {
    let new_version = PlatformMessage::NewVersion {
        version: v1_0(),
        segment_size: 500,
        segment_count: 1,
        check_code: 0x1234,
    };
    let frames = [
        (VERSION_QUERY, PlatformMessage::VersionQuery),
        (EXECUTE, PlatformMessage::Execute),
        (NEW_VERSION, new_version),
    ];
    for (hex, message) in frames {
        let frame = bytes(hex);
        assert_eq!(PlatformMessage::decode(&frame), Ok(message));
        assert_eq!(message.encode(&mut [0; 64]), Ok(&frame[..]));
    }
}

#[test]
fn device_frames_have_not_changed() {
    let request = DeviceMessage::SegmentRequest {
        version: v1_0(),
        segment: 0,
    };
    let report = DeviceMessage::UpgradeReport {
        result: ResultCode::SUCCESS,
        version: v1_0(),
    };
    for (hex, message) in [(SEGMENT_REQUEST, request), (UPGRADE_REPORT, report)] {
        let frame = bytes(hex);
        assert_eq!(DeviceMessage::decode(&frame), Ok(message));
        assert_eq!(message.encode(&mut [0; 64]), Ok(&frame[..]));
    }
}

#[test]
fn the_check_code_is_the_one_that_devices_compute() {
    assert_eq!(checksum(&bytes("FFFE011300000000")), 0x4C9A);
    assert_eq!(checksum(b""), 0);
    assert_eq!(checksum(b"123456789"), CHECK);
}

/// What a catalogue of CRCs would print as this one's check value. The catalogued relatives have
/// 0x29B1 (CCITT-FALSE), 0x31C3 (XMODEM), 0x2189 (KERMIT), 0x906E (X.25).
const CHECK: u16 = 0xB955;

#[test]
fn frames_that_stand_one_after_the_other_are_parted() {
    let parted = |hex: &str| {
        let payload = bytes(hex);
        let parts: Vec<Vec<u8>> = pcp::frames(&payload).map(<[u8]>::to_vec).collect();
        parts
    };
    for whole in [
        &[SEGMENT_REQUEST][..],
        &[SEGMENT_REQUEST, UPGRADE_REPORT],
        &[VERSION_QUERY, SEGMENT_REQUEST, EXECUTE],
        // the second one is cut off
        &[UPGRADE_REPORT, "FFFE0115"],
        &[UPGRADE_REPORT, "FFFE"],
    ] {
        let expected: Vec<Vec<u8>> = whole.iter().map(|hex| bytes(hex)).collect();
        assert_eq!(parted(&whole.concat()), expected);
    }
    // a byte too many or too few is told of the whole
    for wrong in [
        [UPGRADE_REPORT, "00"].concat(),
        UPGRADE_REPORT[..40].to_owned(),
    ] {
        assert_eq!(parted(&wrong), [bytes(&wrong)]);
        assert!(matches!(
            DeviceMessage::decode(&bytes(&wrong)),
            Err(pcp::DecodeError::LengthMismatch { declared: 17, .. })
        ));
    }
    assert!(parted("").is_empty());
}
