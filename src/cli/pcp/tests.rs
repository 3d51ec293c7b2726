use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const QUERY: &str = "FFFE01134C9A0000";
const RESULT: &str = "FFFE0118C7D200110056312E30000000000000000000000000";

fn decoded(from: Option<Side>, hex: &[&str]) -> Result<Value, String> {
    let hex = hex.iter().map(|s| (*s).to_owned()).collect();
    decode(&DecodeArgs { from, hex }).map(|text| serde_json::from_str(&text).unwrap())
}

fn readings(hex: &str) -> Vec<Value> {
    match decoded(None, &[hex]).unwrap() {
        Value::Object(mut object) => match object.remove("readings") {
            Some(Value::Array(readings)) => readings,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn frame(code: u8, data: &[u8]) -> String {
    let mut frame = vec![0xFF, 0xFE, 1, code, 0, 0];
    frame.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    frame.extend(data);
    let check = ::pcp::checksum(&frame).to_be_bytes();
    frame[4..6].copy_from_slice(&check);
    hex::encode(frame)
}

#[test]
fn a_side_that_is_given_makes_one_object() {
    assert_eq!(
        decoded(Some(Side::Platform), &[QUERY]).unwrap(),
        json!({
            "from": "platform",
            "code": 19,
            "message": "version query",
            "kind": "request",
            "check_code": "0x4C9A",
            "data_length": 0,
            "data": "",
        })
    );
    assert_eq!(
        decoded(Some(Side::Device), &[RESULT]).unwrap(),
        json!({
            "from": "device",
            "code": 24,
            "message": "upgrade report",
            "kind": "request",
            "result": {"code": 0, "meaning": "success"},
            "version": "V1.0",
            "check_code": "0xC7D2",
            "data_length": 17,
            "data": "0056312e30000000000000000000000000",
        })
    );
}

#[test]
fn without_a_side_every_reading_that_fits_is_shown() {
    assert_eq!(readings(QUERY)[0]["from"], "platform");
    assert_eq!(readings(QUERY).len(), 1);
    let report = readings(&frame(22, &[0]));
    assert_eq!(report[0]["from"], "device");
    assert_eq!(report[0]["kind"], "request");
    assert_eq!(report[1]["from"], "platform");
    assert_eq!(report[1]["kind"], "response");
    assert_eq!(report.len(), 2);
}

#[test]
fn a_segment_of_15_bytes_is_a_request_as_well() {
    let both = readings(&frame(21, &[0; 18]));
    assert_eq!(both[0]["segment"], 0);
    assert_eq!(both[0]["version"], "");
    assert_eq!(both[1]["segment"], 0);
    assert_eq!(both[1]["segment_length"], 15);
    assert_eq!(both[1]["result"]["meaning"], "success");
}

#[test]
fn codes_that_are_not_defined_are_shown_as_such() {
    let reserved = readings(&frame(99, &[1, 2, 3]));
    assert_eq!(reserved.len(), 2);
    assert_eq!(reserved[0]["message"], "reserved");
    assert_eq!(reserved[0]["data"], "010203");
    let refused = decoded(Some(Side::Device), &[&frame(20, &[0x42])]).unwrap();
    assert_eq!(
        refused["result"],
        json!({"code": 0x42, "meaning": "unknown"})
    );
}

#[test]
fn takes_hexadecimal_as_logs_write_it() {
    let expected = decoded(Some(Side::Platform), &[QUERY]).unwrap();
    for hex in [
        &["fffe01134c9a0000"][..],
        &["FF:FE:01:13:4C:9A:00:00"],
        &[
            "0xFF", "0xFE", "0x01", "0x13", "0x4c", "0x9a", "0x00", "0x00",
        ],
        &["0XFFFE", "0113,4c9a 0000"],
        &["FFFE0113\n4C9A0000\r\n"],
        &[" \tff-fe-01-13-4c-9a-00-00 "],
    ] {
        assert_eq!(
            decoded(Some(Side::Platform), hex).unwrap(),
            expected,
            "{hex:?}"
        );
    }
}

#[test]
fn says_what_is_wrong_in_one_line() {
    for (hex, expected) in [
        ("", "no hexadecimal digits"),
        ("0x", "no hexadecimal digits"),
        ("FFF", "3 hexadecimal digits make no whole bytes"),
        ("FFFE01134C9A00g0", "not hexadecimal: 'g'"),
        (
            "FFFE",
            "no valid frame: 2 bytes are fewer than the 8 of a header",
        ),
        (
            "01020304",
            "no valid frame: begins with 0x0102 instead of 0xFFFE",
        ),
        (
            "FFFE011312340000",
            "no valid frame: has the check code 0x1234 instead of 0x4C9A",
        ),
        (
            "FFFE01134C9A000000",
            "no valid frame: declares 0 bytes of data, has 1",
        ),
    ] {
        assert_eq!(decoded(None, &[hex]).unwrap_err(), expected);
    }
}

#[test]
fn when_no_reading_fits_both_sides_are_explained() {
    let error = decoded(None, &[&frame(20, &[0, 0])]).unwrap_err();
    assert!(
        error.starts_with("from a device, no valid frame: message 20"),
        "{error}"
    );
    assert!(
        error.contains("; from a platform, no valid frame: message 20"),
        "{error}"
    );
    assert!(!error.contains('\n'), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,100}", dump in "[0-9a-fA-Fx: \n]{0,100}") {
        for hex in [text, dump] {
            let error = decoded(None, &[&hex]).err();
            prop_assert!(error.is_none_or(|e| !e.contains('\n')));
        }
    }

    #[test]
    fn every_frame_that_decodes_is_shown(code in 15u8..30, data in prop::collection::vec(any::<u8>(), 0..40)) {
        let frame = frame(code, &data);
        let fitting = ::pcp::readings(&hex::decode(&frame).unwrap()).count();
        prop_assert_eq!(decoded(None, &[&frame]).map_or(0, |v| v["readings"].as_array().unwrap().len()), fitting);
    }
}
