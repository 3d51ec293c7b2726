use proptest::prelude::*;

use super::*;

const SUM: QuecChecksum = QuecChecksum::Sum;

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text.replace([' ', '\n'], "")).unwrap()
}

fn one(payload: &[u8]) -> Message {
    let mut messages = read(payload, SUM).unwrap();
    assert_eq!(messages.len(), 1);
    messages.remove(0)
}

fn status(number: u64) -> Vec<u8> {
    let status = Field {
        id: 13,
        value: Value::number(number),
    };
    framed(0x0114, 5, [Some(status)], SUM)
}

/// Frozen: do not change. These are the bytes that deployed devices parse; they were written by hand from the description.
#[test]
fn what_a_device_is_told_has_these_bytes() {
    let plan = Plan {
        part: Part::Mcu,
        component: Some("MCU_1"),
        from: Some("V1"),
        to: "V2",
        conditions: Conditions::default(),
    };
    let rest = "0008 0111 0023 0005 4d43555f31 002b 0002 5631 0033 0002 5632 003a 00 01";
    let bytes = |check: &str| hex(&format!("aaaa 001e {check} {rest}"));
    assert_eq!(plan.to_bytes(7, SUM), bytes("63"));
    assert_eq!(plan.to_bytes(7, QuecChecksum::Crc8), bytes("18"));
    let conditions = Conditions {
        battery_percent: Some(30),
        space_kib: Some(2_048),
        signal_dbm: Some(-110),
    };
    let under = format!("aaaa 002b 56 {rest} 0042 00 1e 004a 01 0800 0052 80 6e");
    let plan = Plan { conditions, ..plan };
    assert_eq!(plan.to_bytes(7, SUM), hex(&under));
    let none = no_plan(8, SUM);
    assert_eq!(none, hex("aaaa 0009 85 0009 0111 006a 00 00"));
    let package = Package {
        component: None,
        version: "V2",
        url: "https://h/t/abc/V2.bin",
        size_bytes: 5_000,
        sha256: "00ff",
    };
    let bytes = hex(
        "aaaa 0032 a6 000a 0113 0033 0002 5632 000b 0016 68747470733a2f2f682f742f6162632f56322e62696e \
         0012 01 1388 0083 0004 30306666",
    );
    assert_eq!(package.to_bytes(9, SUM), bytes);
}

/// Frozen: do not change. These are the bytes that deployed devices send, as they are described.
#[test]
fn what_a_device_says_is_read_from_these_bytes() {
    let asks = one(&hex(
        "aaaa 0015 50 0001 0115 00cb 0002 5631 00d3 0002 4d31 0042 00 50",
    ));
    assert_eq!(asks.what, What::AsksForPlan);
    let told = |part| asks.version_of(part).unwrap().to_string();
    assert_eq!(
        (told(Part::Module), told(Part::Mcu)),
        ("V1".into(), "M1".into())
    );
    let refuses = one(&hex(
        "aaaa 0019 c6 0002 0114 006a 00 03 0073 000c 626174746572792031322025",
    ));
    assert_eq!(refuses.what, What::Status(Status::Refused));
    assert_eq!(refuses.words.as_deref(), Some("battery 12 %"));
}

/// Frozen: do not change.
#[test]
fn a_mark_within_a_frame_is_escaped() {
    let frame = Frame {
        packet_id: 0xAA55,
        command: 0x01AA,
        payload: hex("aaaa aa55"),
    };
    let bytes = hex("aaaa 0009 fd aa5555 01aa55 aa55aa55 aa5555");
    assert_eq!(frame.to_bytes(SUM), bytes);
    assert_eq!(frame::read(&bytes, SUM).unwrap(), [frame]);
}

#[test]
fn every_state_of_an_upgrade_has_its_number() {
    for (number, expected) in [
        (0, Status::None),
        (1, Status::PlanReceived),
        (2, Status::Confirmed),
        (3, Status::Refused),
        (4, Status::DownloadBegins),
        (5, Status::Downloading),
        (6, Status::DownloadError),
        (7, Status::Unknown(7)),
        (8, Status::Downloaded),
        (9, Status::Updating),
        (11, Status::Succeeded),
        (12, Status::Failed),
    ] {
        assert_eq!(one(&status(number)).what, What::Status(expected));
    }
}

#[test]
fn several_frames_in_a_payload_are_read_in_their_order() {
    let both = [status(4), status(5)].concat();
    let read = |bytes: &[u8]| -> Vec<What> {
        let messages = read(bytes, SUM).unwrap().into_iter();
        messages.map(|it| it.what).collect()
    };
    let states = [Status::DownloadBegins, Status::Downloading];
    assert_eq!(read(&both), states.map(What::Status));
    // one that ends with a mark
    let marked = Frame {
        packet_id: 1,
        command: 0x0203,
        payload: vec![0xAA],
    };
    let both = [marked.to_bytes(SUM), status(4)].concat();
    assert_eq!(
        read(&both),
        [What::Other(0x0203), What::Status(Status::DownloadBegins)]
    );
    let many = status(5).repeat(frame::MAX_FRAMES + 1);
    assert!(super::read(&many, SUM).is_err());
}

#[test]
fn what_is_no_frame_is_told_apart() {
    let right = status(5);
    let wrong = |at: usize, byte: u8| {
        let mut bytes = right.clone();
        bytes[at] = byte;
        frame::read(&bytes, SUM).unwrap_err()
    };
    assert_eq!(wrong(0, 0xAB), FrameError::NoMark);
    assert_eq!(wrong(3, 4), FrameError::Short(4));
    assert_eq!(wrong(3, 200), FrameError::Cut);
    assert!(matches!(wrong(4, 0), FrameError::Check { told: 0, .. }));
    assert_eq!(frame::read(&[], SUM), Err(FrameError::NoMark));
    assert_eq!(
        frame::read(&vec![0xAA; frame::MAX_BYTES + 1], SUM),
        Err(FrameError::TooLong)
    );
    for packet_id in [0, 0xFFFF] {
        let frame = Frame {
            packet_id,
            command: 1,
            payload: Vec::new(),
        };
        let read = frame::read(&frame.to_bytes(SUM), SUM);
        assert_eq!(read, Err(FrameError::PacketId(packet_id)));
    }
    // the other check byte
    assert!(frame::read(&right, QuecChecksum::Crc8).is_err());
    let without_status = framed(0x0114, 5, [], SUM);
    assert_eq!(read(&without_status, SUM), Err(Unreadable::NoStatus));
}

#[test]
fn nesting_and_counts_are_bounded() {
    let deep = |depth: usize| {
        let structs = [0x00, 0x0C, 0x00, 0x01].repeat(depth);
        [structs, vec![0x00, 0x08]].concat()
    };
    assert!(ttlv::read(&deep(ttlv::MAX_DEPTH)).is_ok());
    assert_eq!(
        ttlv::read(&deep(ttlv::MAX_DEPTH + 1)),
        Err(FieldError::TooDeep)
    );
    assert!(ttlv::read(&[0, 8].repeat(ttlv::MAX_FIELDS)).is_ok());
    assert_eq!(
        ttlv::read(&[0, 8].repeat(ttlv::MAX_FIELDS + 1)),
        Err(FieldError::TooMany)
    );
    // a count that is only announced
    assert_eq!(ttlv::read(&[0, 12, 0xFF, 0xFF]), Err(FieldError::Cut));
    assert_eq!(
        ttlv::read(&[0, 14]),
        Err(FieldError::Type { id: 1, kind: 6 })
    );
}

fn values() -> impl Strategy<Value = Value> {
    let leaves = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        (any::<bool>(), 0..16_u8, any::<u64>()).prop_map(|(negative, decimals, magnitude)| {
            Value::Number {
                negative,
                decimals,
                magnitude,
            }
        }),
        any::<Vec<u8>>().prop_map(Value::Bytes),
    ];
    leaves.prop_recursive(3, 20, 5, |within| {
        proptest::collection::vec(fields_of(within), 0..5).prop_map(Value::Struct)
    })
}

fn fields_of(values: impl Strategy<Value = Value>) -> impl Strategy<Value = Field> {
    (0..=ttlv::MAX_ID, values).prop_map(|(id, value)| Field { id, value })
}

proptest! {
    #[test]
    fn fields_come_back_as_they_were(fields in proptest::collection::vec(fields_of(values()), 0..8)) {
        prop_assert_eq!(ttlv::read(&ttlv::write(&fields)), Ok(fields));
    }

    #[test]
    fn frames_come_back_as_they_were(
        packet_id in 1..0xFFFF_u16,
        command: u16,
        payload in proptest::collection::vec(prop_oneof![Just(0xAA), Just(0x55), any::<u8>()], 0..200),
        crc: bool,
    ) {
        let checksum = if crc { QuecChecksum::Crc8 } else { SUM };
        let frame = Frame { packet_id, command, payload };
        let bytes = frame.to_bytes(checksum);
        // nothing within it looks like the beginning of another
        prop_assert!(!bytes[2..].windows(2).any(|pair| pair == [0xAA, 0xAA]));
        prop_assert_eq!(frame::read(&bytes, checksum), Ok(vec![frame]));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = (read(&bytes, SUM), ttlv::read(&bytes));
        let framed = Frame { packet_id: 1, command: 0x0114, payload: bytes };
        let _ = read(&framed.to_bytes(SUM), SUM);
    }
}
