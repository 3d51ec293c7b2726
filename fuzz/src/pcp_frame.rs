//! A PCP frame: the input as it is, and once more with a header that is in order, because a check
//! code is hard to hit by chance.

use pcp::{
    DecodeError, DeviceMessage, Direction, EncodeError, HEADER_LEN, Message, MessageCode,
    PlatformMessage, Version,
};

/// Reads `input` in both directions and writes again what could be read; parts the frames in it.
pub fn run(input: &[u8]) {
    check(input);
    parted(input);
    if let Some(mended) = mend(input) {
        check(&mended);
    }
}

/// Nothing is left out between frames, and each but the last one is as long as it declares.
fn parted(input: &[u8]) {
    let parts: Vec<&[u8]> = pcp::frames(input).collect();
    assert_eq!(parts.concat(), input);
    for pair in parts.windows(2) {
        assert!(pcp::is_pcp(pair[1]));
        let [.., high, low] = *pair[0].first_chunk::<HEADER_LEN>().expect("a header");
        let declared = HEADER_LEN + usize::from(u16::from_be_bytes([high, low]));
        assert_eq!(pair[0].len(), declared);
    }
}

fn check(bytes: &[u8]) {
    let mut read = 0;
    for direction in [Direction::FromDevice, Direction::FromPlatform] {
        match pcp::decode(direction, bytes) {
            Ok(message) => {
                read += 1;
                assert!(pcp::is_pcp(bytes), "what can be read claims to be PCP");
                comes_back(bytes, direction, message);
                damage_is_noticed(bytes);
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                let not_pcp = matches!(error, DecodeError::NotPcp { .. });
                assert!(bytes.len() < 2 || not_pcp != pcp::is_pcp(bytes), "{error}");
            }
        }
    }
    assert_eq!(pcp::readings(bytes).count(), read);
}

/// Encoding what was read yields the frame, but for the reserved nibble of its version, and for what stands behind the
/// end of a software version.
fn comes_back(bytes: &[u8], direction: Direction, message: Message<'_>) {
    let (needed, code) = match message {
        Message::Device(message) => (message.encoded_len(), message.code()),
        Message::Platform(message) => (message.encoded_len(), message.code()),
    };
    assert_eq!(needed, bytes.len());
    assert_eq!(code.0, bytes[3]);
    let mut buffer = vec![0; needed];
    let encoded = encode(message, &mut buffer).expect("what was read can be written");
    let as_it_is_written = |version: Version| {
        // a result stands before the version that a device runs
        let answers = matches!(
            code,
            MessageCode::VERSION_QUERY | MessageCode::UPGRADE_REPORT
        );
        bytes[HEADER_LEN + usize::from(answers)..].starts_with(version.as_bytes())
    };
    if bytes[2] >> 4 == 0 && version(message).is_none_or(as_it_is_written) {
        assert_eq!(encoded, bytes);
    }
    assert_eq!(pcp::decode(direction, encoded), Ok(message));
    let available = needed - 1; // there is a header at least
    assert_eq!(
        encode(message, &mut vec![0; available]),
        Err(EncodeError::BufferTooSmall { needed, available })
    );
    if let Some(version) = version(message) {
        shown(version);
    }
}

fn encode<'b>(message: Message<'_>, buffer: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
    match message {
        Message::Device(message) => message.encode(buffer),
        Message::Platform(message) => message.encode(buffer),
    }
}

fn version(message: Message<'_>) -> Option<Version> {
    match message {
        Message::Device(DeviceMessage::VersionResponse { version, .. }) => version,
        Message::Device(
            DeviceMessage::SegmentRequest { version, .. }
            | DeviceMessage::UpgradeReport { version, .. },
        )
        | Message::Platform(PlatformMessage::NewVersion { version, .. }) => Some(version),
        _ => None,
    }
}

/// A version that an operator could have typed is shown as it was typed.
fn shown(version: Version) {
    let text = version.to_string();
    assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    let typed = std::str::from_utf8(version.significant()).map(Version::new);
    if let Ok(Ok(typed)) = typed {
        assert_eq!(typed, version);
        assert!(text.contains('\\') || text.as_bytes() == version.significant());
    }
}

/// One flipped bit, wherever it is.
fn damage_is_noticed(bytes: &[u8]) {
    let bit = usize::from(pcp::checksum(bytes)) % (bytes.len() * 8);
    let mut damaged = bytes.to_vec();
    damaged[bit / 8] ^= 1 << (bit % 8);
    assert_eq!(pcp::readings(&damaged).count(), 0, "bit {bit}");
}

/// The input with start, version, data length and check code put right.
fn mend(input: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(input.len().checked_sub(HEADER_LEN)?).ok()?;
    let mut frame = input.to_vec();
    frame[..2].copy_from_slice(&pcp::START.to_be_bytes());
    frame[2] = frame[2] & 0xF0 | 1;
    frame[4..6].fill(0);
    frame[6..8].copy_from_slice(&len.to_be_bytes());
    let check_code = pcp::checksum(&frame);
    frame[4..6].copy_from_slice(&check_code.to_be_bytes());
    Some(frame)
}
