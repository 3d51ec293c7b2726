//! What holds for every message and for any bytes.

#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

use pcp::{
    DecodeError, DeviceMessage, HEADER_LEN, MessageCode, PlatformMessage, ResultCode, Version,
};
use proptest::{collection::vec, option, prelude::*};

fn version() -> impl Strategy<Value = Version> {
    any::<[u8; 16]>().prop_map(Version::from_bytes)
}

fn result() -> impl Strategy<Value = ResultCode> {
    prop_oneof![Just(0), any::<u8>()].prop_map(ResultCode)
}

fn failure() -> impl Strategy<Value = ResultCode> {
    (1..=u8::MAX).prop_map(ResultCode)
}

fn reserved() -> impl Strategy<Value = MessageCode> {
    prop_oneof![0..=18_u8, 25..=u8::MAX].prop_map(MessageCode)
}

/// Leaked, which a test can afford and a borrowed message needs.
fn data(min: usize) -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), min..600).prop_map(|bytes| &*bytes.leak())
}

fn device_message() -> impl Strategy<Value = DeviceMessage<'static>> {
    use DeviceMessage as M;
    prop_oneof![
        (failure(), option::of(version()))
            .prop_map(|(result, version)| M::VersionResponse { result, version }),
        version().prop_map(|version| M::VersionResponse {
            result: ResultCode::SUCCESS,
            version: Some(version)
        }),
        result().prop_map(|result| M::NotificationResponse { result }),
        (version(), any::<u16>())
            .prop_map(|(version, segment)| M::SegmentRequest { version, segment }),
        result().prop_map(|status| M::DownloadReport { status }),
        result().prop_map(|result| M::ExecuteResponse { result }),
        (result(), version()).prop_map(|(result, version)| M::UpgradeReport { result, version }),
        (reserved(), data(0)).prop_map(|(code, data)| M::Unknown { code, data }),
    ]
}

fn platform_message() -> impl Strategy<Value = PlatformMessage<'static>> {
    use PlatformMessage as M;
    prop_oneof![
        Just(M::VersionQuery),
        (version(), any::<[u16; 3]>()).prop_map(
            |(version, [segment_size, segment_count, check_code])| M::NewVersion {
                version,
                segment_size,
                segment_count,
                check_code
            }
        ),
        (any::<u16>(), data(1)).prop_map(|(segment, data)| M::SegmentResponse {
            result: ResultCode::SUCCESS,
            segment: Some(segment),
            data
        }),
        (failure(), option::of(any::<u16>())).prop_map(|(result, segment)| M::SegmentResponse {
            result,
            segment,
            data: &[]
        }),
        result().prop_map(|result| M::DownloadReportResponse { result }),
        Just(M::Execute),
        result().prop_map(|result| M::UpgradeReportResponse { result }),
        (reserved(), data(0)).prop_map(|(code, data)| M::Unknown { code, data }),
    ]
}

/// One flipped bit, wherever it is, is noticed before anything is read from the data.
fn assert_damage_is_noticed(frame: &[u8], bit: usize) {
    let mut damaged = frame.to_vec();
    let bit = bit % (damaged.len() * 8);
    damaged[bit / 8] ^= 1 << (bit % 8);
    let errors = [
        DeviceMessage::decode(&damaged).unwrap_err(),
        PlatformMessage::decode(&damaged).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(
            error,
            DecodeError::NotPcp { .. }
                | DecodeError::LengthMismatch { .. }
                | DecodeError::ChecksumMismatch { .. }
        ));
    }
}

proptest! {
    #[test]
    fn device_messages_come_back_as_they_were(message in device_message(), bit: usize) {
        let mut buf = [0; 1024];
        let frame = message.encode(&mut buf).unwrap();
        prop_assert_eq!(frame.len(), message.encoded_len());
        prop_assert_eq!(DeviceMessage::decode(frame), Ok(message));
        assert_damage_is_noticed(frame, bit);
    }

    #[test]
    fn platform_messages_come_back_as_they_were(message in platform_message(), bit: usize) {
        let mut buf = [0; 1024];
        let frame = message.encode(&mut buf).unwrap();
        prop_assert_eq!(frame.len(), message.encoded_len());
        prop_assert_eq!(PlatformMessage::decode(frame), Ok(message));
        assert_damage_is_noticed(frame, bit);
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in vec(any::<u8>(), 0..600), whole: bool) {
        if whole && bytes.len() >= HEADER_LEN {
            make_header_right(&mut bytes);
        }
        let _ = DeviceMessage::decode(&bytes);
        let _ = PlatformMessage::decode(&bytes);
        for reading in pcp::readings(&bytes) {
            let text = format!("{reading:?}");
            prop_assert!(!text.is_empty());
        }
    }

    #[test]
    fn nothing_is_left_out_between_frames(payload in vec(any::<u8>(), 0..600)) {
        let parts: Vec<&[u8]> = pcp::frames(&payload).collect();
        prop_assert_eq!(parts.concat(), payload);
    }

    #[test]
    fn frames_in_a_row_come_back_one_by_one(messages in vec(device_message(), 0..5)) {
        let mut frames = Vec::new();
        for message in &messages {
            frames.push(message.encode(&mut [0; 1024]).unwrap().to_vec());
        }
        let payload = frames.concat();
        prop_assert!(pcp::frames(&payload).eq(frames.iter().map(Vec::as_slice)));
    }

    #[test]
    fn any_text_is_a_version_or_refused(text in ".{0,20}") {
        if let Ok(version) = Version::new(&text) {
            prop_assert_eq!(version.significant(), text.as_bytes());
        }
    }
}

/// Lets arbitrary bytes get past the header, to the messages.
fn make_header_right(bytes: &mut [u8]) {
    let len = u16::try_from(bytes.len() - HEADER_LEN).unwrap();
    bytes[..3].copy_from_slice(&[0xFF, 0xFE, 1]);
    bytes[3] = 17 + bytes[3] % 10;
    bytes[4..6].fill(0);
    bytes[6..8].copy_from_slice(&len.to_be_bytes());
    let check = pcp::checksum(bytes).to_be_bytes();
    bytes[4..6].copy_from_slice(&check);
}
