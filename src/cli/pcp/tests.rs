use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const QUERY: &str = "FFFE01134C9A0000";
const RESULT: &str = "FFFE0118C7D200110056312E30000000000000000000000000";

fn decoded(from: Option<Side>, hex: &[&str]) -> Result<Value, String> {
    let hex = hex.iter().map(|s| (*s).to_owned()).collect();
    let Decoded { json, problems } = decode(&DecodeArgs { from, hex })?;
    match json {
        Some(json) if problems.is_empty() => Ok(serde_json::from_str(&json).unwrap()),
        _ => Err(problems.join("; ")),
    }
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
        ("", "no hexadecimal digits there; a frame begins with FFFE"),
        (
            "0x",
            "no hexadecimal digits there; a frame begins with FFFE",
        ),
        (
            "hello",
            "no frame there: none of the hexadecimal in it begins with FFFE",
        ),
        (
            "+NNMI:4,01020304",
            "no frame there: none of the hexadecimal in it begins with FFFE",
        ),
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

/// What is printed, and what is told beside it.
fn told(text: &str) -> (Value, Vec<String>) {
    let hex = vec![text.to_owned()];
    let Decoded { json, problems } = decode(&DecodeArgs { from: None, hex }).unwrap();
    let json = json.map_or(Value::Null, |json| serde_json::from_str(&json).unwrap());
    (json, problems)
}

#[test]
fn takes_whole_lines_as_modems_and_logs_write_them() {
    let (query, _) = told(QUERY);
    let (result, _) = told(RESULT);
    for line in [
        "+NNMI:8,FFFE01134C9A0000",
        "+NNMI: 8,FFFE01134C9A0000\r\n",
        "\r\n+NNMI:8,fffe01134c9a0000\r\n\r\nOK\r\n",
        "+NMGR:8,FFFE01134C9A0000",
        "8,FFFE01134C9A0000",
        "AT+NMGS=8,FFFE01134C9A0000",
        "at+nmgs=8,\"FFFE01134C9A0000\",7",
        "AT+QLWULDATA=8,FFFE01134C9A0000,1",
        "AT+QLWULDATAEX=8,FFFE01134C9A0000,0x0100",
        "AT+QLWULDATAEX=8,0xFFFE01134C9A0000,0x0100",
        "AT+QLWDATASEND=19,0,0,8,FFFE01134C9A0000,0x0100",
        "+QLWDATARECV: 19,1,0,8,FFFE01134C9A0000",
        "+QLWDLDATA: \"/19/1/0\",8,\"FFFE01134C9A0000\"",
        "AT+CIPSEND=8,\"FF FE 01 13 4C 9A 00 00\"",
        "AT+CIPSEND=0,8,FFFE01134C9A0000",
        "+CIPSEND: FF:FE:01:13:4C:9A:00:00",
        "AT+CTM2MSEND=FFFE01134C9A0000,1",
        "[12:30:45.123] rx: +NNMI:8,FFFE01134C9A0000 (-107 dBm)",
        "12:30:45 FF FE 01 13 4C 9A 00 00",
        "2024-01-15T12:30:45+08:00 recv 8 bytes: FF-FE-01-13-4C-9A-00-00",
        "uint8_t frame[] = {0xFF, 0xFE, 0x01, 0x13, 0x4C, 0x9A, 0x00, 0x00};",
        "{\"data\":\"FFFE01134C9A0000\",\"rssi\":-107}",
        "+NNMI:8,FFFE 0113 4C9A 0000 12",
        "+NNMI:8,FFFE01134C9A0000<CR><LF>",
        "+NNMI:8,FFFE01134C9A0000\\r\\n",
        "\"FFFE0113\n4C9A0000\" OK",
        "FFFE01134C9A0000\nOK",
        "FFFE01134C9A0000 ACK",
    ] {
        assert_eq!(told(line), (query.clone(), vec![]), "{line}");
    }
    let line = format!("AT+NMGS=25,{RESULT}\r\nOK");
    assert_eq!(told(&line), (result, vec![]));
}

#[test]
fn several_frames_make_an_array() {
    let (query, _) = told(QUERY);
    let (result, _) = told(RESULT);
    let both = json!([query, result]);
    for text in [
        format!("{QUERY}{RESULT}"),
        format!("{QUERY} {RESULT}"),
        format!("{QUERY}\n{RESULT}\n"),
        format!("+NNMI:33,{QUERY}{RESULT}"),
        format!("+NNMI:33,\"{QUERY} {RESULT}\""),
        format!("12:00:01 +NNMI:8,{QUERY}\n12:00:02 AT+NMGS=25,{RESULT}\n12:00:02 OK\n"),
        format!("+CSQ:17,99\n+NNMI:8,{QUERY}\n+CEREG:5,1,FFFF\n{RESULT}"),
        format!("{QUERY}\nAT+NMGS=25,{RESULT}"),
    ] {
        assert_eq!(told(&text), (both.clone(), vec![]), "{text}");
    }
    let given = decoded(Some(Side::Platform), &[QUERY, QUERY]).unwrap();
    assert_eq!(given[1]["message"], "version query");
    // data that looks like a frame's beginning belongs to the frame that it is in
    let segment = frame(21, &[0, 0, 0, 0xFF, 0xFE, 1]);
    let (one, _) = told(&segment);
    assert_eq!(told(&format!("{segment}{QUERY}")).0, json!([one, query]));
}

#[test]
fn what_is_no_frame_among_several_is_told_beside_the_others() {
    let (query, _) = told(QUERY);
    let rest = "no valid frame: declares 0 bytes of data, has 1";
    let array = json!([query, {"error": rest, "bytes": "fffe01134c9a000000"}]);
    let problem = format!("frame 2 of 2: {rest}");
    assert_eq!(told(&format!("{QUERY}{QUERY}00")), (array, vec![problem]));
    let odd = "17 hexadecimal digits make no whole bytes";
    let array = json!([{"error": odd}, query]);
    let problem = format!("frame 1 of 2: {odd}");
    let text = format!("+NNMI:8,{QUERY}0\n+NNMI:8,{QUERY}");
    assert_eq!(told(&text), (array, vec![problem]));
}

#[test]
fn a_length_that_a_command_declares_is_held_to_its_data() {
    let (query, _) = told(QUERY);
    for (line, expected) in [
        ("+NNMI:9,FFFE01134C9A0000", "NNMI declares 9 bytes, has 8"),
        (
            "AT+NMGS=16,\"FFFE01134C9A0000\"",
            "NMGS declares 16 bytes, has 8",
        ),
        (
            "+QLWDATARECV: 19,1,0,7,FFFE01134C9A0000",
            "QLWDATARECV declares 7 bytes, has 8",
        ),
        (
            "AT+CIPSEND=1,4,FFFE01134C9A0000",
            "CIPSEND declares 4 bytes, has 8",
        ),
        ("7,FFFE01134C9A0000", "the line declares 7 bytes, has 8"),
    ] {
        assert_eq!(told(line), (query.clone(), vec![expected.to_owned()]));
    }
    // what other commands write before their data is not known
    assert_eq!(told("AT+OTHER=9,FFFE01134C9A0000"), (query, vec![]));
    // a line that was cut says so twice
    let cut = "+NNMI:511,FFFE01156A5D01F700";
    let [declared, frame] = &told(cut).1[..] else {
        panic!("{:?}", told(cut));
    };
    assert_eq!(declared, "NNMI declares 511 bytes, has 9");
    assert_eq!(
        frame.split("; ").next().unwrap(),
        "no valid frame: declares 503 bytes of data, has 1"
    );
}

#[test]
fn a_long_dump_is_read_once() {
    // each frame declares 0xFFFE bytes
    let text = format!("log: FFFE 0115 {}", "FFFE ".repeat(200_000));
    assert_eq!(told(&text).1.len(), 7);
}

proptest! {
    #[test]
    fn a_frame_is_found_in_any_line(
        before in "([0-9:. ]{0,20}[ >\\[])?", command in "(\\+NNMI:|AT\\+NMGS=)",
        data in prop::collection::vec(any::<u8>(), 0..40), after in "(\r\n|\"|,[0-9]{1,4}| OK)?",
    ) {
        let frame = frame(22, &data);
        let line = format!("{before}{command}{},{frame}{after}", frame.len() / 2);
        let Ok(bytes) = hex::decode(&frame) else { unreachable!() };
        let dumps = line::dumps(&line).unwrap();
        prop_assert_eq!(&dumps[0].bytes, &Ok(bytes));
        prop_assert_eq!(&dumps[0].contradiction, &None);
    }

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
