//! What may stand in a frame, and what must be refused.

#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

use pcp::{
    DecodeError, DeviceMessage, Direction, EncodeError, Message, MessageCode, PlatformMessage,
    ResultCode, Version, checksum, decode, readings,
};

fn frame_of_version(version: u8, code: u8, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xFF, 0xFE, version, code, 0, 0];
    frame.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    frame.extend(data);
    let check = checksum(&frame).to_be_bytes();
    frame[4..6].copy_from_slice(&check);
    frame
}

fn frame(code: u8, data: &[u8]) -> Vec<u8> {
    frame_of_version(1, code, data)
}

/// Every length of data up to 64 bytes, with a first byte that says success or failure.
fn accepted_lengths(direction: Direction, code: u8, first: u8) -> Vec<usize> {
    (0..=64)
        .filter(|len| {
            let mut data = vec![0x31; *len];
            if let Some(byte) = data.first_mut() {
                *byte = first;
            }
            match decode(direction, &frame(code, &data)) {
                Ok(_) => true,
                Err(DecodeError::WrongDataLength { len: found, .. }) => {
                    assert_eq!(found, *len);
                    false
                }
                Err(DecodeError::MissingVersion) => {
                    assert_eq!((code, *len, first), (19, 1, 0));
                    false
                }
                Err(other) => panic!("{other}"),
            }
        })
        .collect()
}

#[test]
fn every_other_length_of_data_is_refused() {
    use Direction::{FromDevice, FromPlatform};
    const OK: u8 = 0;
    const NO: u8 = 0x7F;
    let cases: [(Direction, u8, u8, &[usize]); 18] = [
        (FromDevice, 19, OK, &[17]),
        (FromDevice, 19, NO, &[1, 17]),
        (FromDevice, 20, OK, &[1]),
        (FromDevice, 20, NO, &[1]),
        (FromDevice, 21, OK, &[18]),
        (FromDevice, 22, OK, &[1]),
        (FromDevice, 22, NO, &[1]),
        (FromDevice, 23, OK, &[1]),
        (FromDevice, 23, NO, &[1]),
        (FromDevice, 24, OK, &[17]),
        (FromDevice, 24, NO, &[17]),
        (FromPlatform, 19, OK, &[0]),
        (FromPlatform, 20, OK, &[22]),
        (FromPlatform, 21, NO, &[1, 3]),
        (FromPlatform, 22, OK, &[1]),
        (FromPlatform, 22, NO, &[1]),
        (FromPlatform, 23, OK, &[0]),
        (FromPlatform, 24, OK, &[1]),
    ];
    for (direction, code, first, lengths) in cases {
        assert_eq!(
            accepted_lengths(direction, code, first),
            lengths,
            "{direction:?} {code} {first}"
        );
    }
    let segments: Vec<usize> = (4..=64).collect();
    assert_eq!(accepted_lengths(FromPlatform, 21, OK), segments);
}

#[test]
fn each_fault_of_the_header_has_its_own_error() {
    let good = frame(23, &[]);
    for len in 2..8 {
        assert_eq!(
            DeviceMessage::decode(&good[..len]),
            Err(DecodeError::TooShort { len })
        );
    }
    assert_eq!(
        DeviceMessage::decode(b"{}"),
        Err(DecodeError::NotPcp { start: 0x7B7D })
    );
    assert_eq!(
        PlatformMessage::decode(&[&good[..], &[0]].concat()),
        Err(DecodeError::LengthMismatch {
            declared: 0,
            actual: 1
        })
    );
    let mut damaged = good.clone();
    damaged[4] ^= 0x80;
    assert_eq!(
        PlatformMessage::decode(&damaged),
        Err(DecodeError::ChecksumMismatch {
            found: 0x4F90,
            computed: 0xCF90
        })
    );
    assert_eq!(
        PlatformMessage::decode(&frame_of_version(2, 23, &[])),
        Err(DecodeError::UnsupportedVersion { version: 2 })
    );
}

#[test]
fn the_reserved_nibble_is_ignored() {
    assert_eq!(
        PlatformMessage::decode(&frame_of_version(0xF1, 23, &[])),
        Ok(PlatformMessage::Execute)
    );
}

#[test]
fn reserved_codes_keep_their_data() {
    for code in (0..=18).chain(25..=255) {
        let bytes = frame(code, b"abc");
        let code = MessageCode(code);
        let data = b"abc";
        assert_eq!(
            DeviceMessage::decode(&bytes),
            Ok(DeviceMessage::Unknown { code, data })
        );
        assert_eq!(
            PlatformMessage::decode(&bytes),
            Ok(PlatformMessage::Unknown { code, data })
        );
    }
}

#[test]
fn a_missing_task_is_one_byte_and_a_missing_segment_three() {
    let mut buf = [0; 16];
    let no_task = PlatformMessage::SegmentResponse {
        result: ResultCode::NO_SUCH_TASK,
        segment: None,
        data: &[],
    };
    assert_eq!(no_task.encode(&mut buf), Ok(&frame(21, &[0x80])[..]));
    let no_segment = PlatformMessage::SegmentResponse {
        result: ResultCode::NO_SUCH_SEGMENT,
        segment: Some(0x0102),
        data: &[],
    };
    assert_eq!(
        no_segment.encode(&mut buf),
        Ok(&frame(21, &[0x81, 0x01, 0x02])[..])
    );
}

#[test]
fn a_frame_of_unknown_direction_has_all_its_readings() {
    let report = frame(22, &[0]);
    let both: Vec<_> = readings(&report).collect();
    assert_eq!(
        both,
        [
            Message::Device(DeviceMessage::DownloadReport {
                status: ResultCode::SUCCESS
            }),
            Message::Platform(PlatformMessage::DownloadReportResponse {
                result: ResultCode::SUCCESS
            }),
        ]
    );
    assert_eq!(readings(&frame(23, &[])).count(), 1);
    assert_eq!(readings(&frame(20, &[1, 2, 3])).count(), 0);
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let version = Version::new("V1").unwrap();
    let mut buf = [0; 32];
    let request = DeviceMessage::SegmentRequest {
        version,
        segment: 0,
    };
    assert_eq!(
        request.encode(&mut buf[..25]),
        Err(EncodeError::BufferTooSmall {
            needed: 26,
            available: 25
        })
    );
    let no_version = DeviceMessage::VersionResponse {
        result: ResultCode::SUCCESS,
        version: None,
    };
    assert_eq!(
        no_version.encode(&mut buf),
        Err(EncodeError::MissingVersion)
    );
    let code = MessageCode::EXECUTE;
    assert_eq!(
        PlatformMessage::Unknown { code, data: &[] }.encode(&mut buf),
        Err(EncodeError::KnownCode { code })
    );
    let segment = |result, segment, data| PlatformMessage::SegmentResponse {
        result,
        segment,
        data,
    };
    for message in [
        segment(ResultCode::SUCCESS, Some(0), &[][..]),
        segment(ResultCode::SUCCESS, None, b"x"),
        segment(ResultCode::NO_SUCH_TASK, None, b"x"),
        segment(ResultCode::NO_SUCH_SEGMENT, Some(0), b"x"),
    ] {
        assert_eq!(
            message.encode(&mut buf),
            Err(EncodeError::InconsistentSegment)
        );
    }
    let data = &vec![0; pcp::MAX_SEGMENT_DATA + 1];
    assert_eq!(
        segment(ResultCode::SUCCESS, Some(0), data).encode(&mut buf),
        Err(EncodeError::DataTooLong { len: 65_536 })
    );
}

#[test]
fn errors_tell_an_operator_what_is_wrong() {
    let text = |bytes: &[u8]| DeviceMessage::decode(bytes).unwrap_err().to_string();
    assert_eq!(
        text(&frame(20, &[])),
        "message 20 (new version notification) of a device has 0 bytes of data instead of 1"
    );
    assert_eq!(
        text(b"hello, world"),
        "begins with 0x6865 instead of 0xFFFE"
    );
}
