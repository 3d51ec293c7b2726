use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Finished, cellwise, run};

fn decode(arguments: &[&str], input: &str) -> Finished {
    let mut command = cellwise();
    command.args(["pcp", "decode"]).args(arguments);
    run(&mut command, input.as_bytes(), Duration::from_secs(20))
}

fn decoded(arguments: &[&str], input: &str) -> Value {
    let finished = decode(arguments, input);
    assert!(finished.status.success(), "{finished:?}");
    assert_eq!(finished.stderr, "");
    serde_json::from_str(&finished.stdout).unwrap()
}

/// The frames that Huawei IoTDA's "PCP Introduction" and "Adaptation Development on the Device Side" print,
/// of message 20 with the versionCheckCode that its check code belongs to.
const PUBLISHED: [(&str, &str, u8); 5] = [
    ("FFFE01134C9A0000", "platform", 19),
    (
        "FFFE011402F7001656312E3000000000000000000000000001F400011234",
        "platform",
        20,
    ),
    (
        "FFFE01155618001256312E300000000000000000000000000000",
        "device",
        21,
    ),
    ("FFFE0117CF900000", "platform", 23),
    (
        "FFFE0118C7D200110056312E30000000000000000000000000",
        "device",
        24,
    ),
];

#[test]
fn published_frames_are_read() {
    for (frame, from, code) in PUBLISHED {
        let one = decoded(&["--from", from, frame], "");
        assert_eq!(one["code"], code, "{one}");
        assert_eq!(one["from"], from, "{one}");
        let all = decoded(&[frame], "");
        let readings = all["readings"].as_array().unwrap();
        assert!(readings.contains(&one), "{all}");
    }
    let offer = decoded(&["--from", "platform", PUBLISHED[1].0], "");
    assert_eq!(offer["version"], "V1.0");
    assert_eq!(offer["segment_size"], 500);
    assert_eq!(offer["segment_count"], 1);
    assert_eq!(offer["version_check_code"], "0x1234");
    let result = decoded(&["--from", "device", PUBLISHED[4].0], "");
    assert_eq!(result["result"], json!({"code": 0, "meaning": "success"}));
    assert_eq!(result["version"], "V1.0");
    assert_eq!(result["check_code"], "0xC7D2");
}

#[test]
fn a_frame_is_read_however_a_log_writes_it() {
    let expected = decoded(&[PUBLISHED[0].0], "");
    assert_eq!(decoded(&["ff:fe:01:13:4c:9a:00:00"], ""), expected);
    assert_eq!(
        decoded(&["FF", "FE", "01", "13", "4C", "9A", "00", "00"], ""),
        expected
    );
    assert_eq!(decoded(&["0xFFFE01134C9A0000"], ""), expected);
    assert_eq!(decoded(&["-"], "FF FE 01 13\n4C 9A 00 00\n"), expected);
}

#[test]
fn lines_of_a_modems_log_are_read() {
    let query = decoded(&[PUBLISHED[0].0], "");
    let offer = decoded(&[PUBLISHED[1].0], "");
    assert_eq!(decoded(&["+NNMI:8,FFFE01134C9A0000"], ""), query);
    assert_eq!(
        decoded(&["AT+QLWULDATAEX=8,\"fffe01134c9a0000\",0x0100"], ""),
        query
    );
    let log = format!(
        "[08:15:02] +NNMI:8,{}\r\n[08:15:02] AT+NMGS=3,AB0102\r\n[08:15:03] OK\r\n\
         [08:15:09] +NNMI:30,{}\r\n",
        PUBLISHED[0].0, PUBLISHED[1].0
    );
    assert_eq!(decoded(&["-"], &log), json!([query, offer]));
}

#[test]
fn what_can_be_read_is_printed_beside_what_is_wrong() {
    let query = decoded(&[PUBLISHED[0].0], "");
    let finished = decode(&["+NNMI:30,FFFE01134C9A0000"], "");
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert_eq!(finished.stderr, "NNMI declares 30 bytes, has 8\n");
    let printed: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(printed, query);
    let finished = decode(&["+NNMI:17,FFFE01134C9A0000FFFE0117CF90000000"], "");
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    let printed: Value = serde_json::from_str(&finished.stdout).unwrap();
    let error = "no valid frame: declares 0 bytes of data, has 1";
    let rest = json!({"error": error, "bytes": "fffe0117cf90000000"});
    assert_eq!(printed, json!([query, rest]));
    assert_eq!(finished.stderr, format!("frame 2 of 2: {error}\n"));
}

#[test]
fn a_wrong_frame_is_explained_in_one_line() {
    for (arguments, input, expected) in [
        (&["FFFE011312340000"][..], "", "0x4C9A"),
        (&["--from", "device", "FFFE01134C9A0000"], "", "19"),
        (&["FFFE0113"], "", "4 bytes"),
        (&["hello"], "", "hexadecimal"),
        (&["FFF"], "", "3 hexadecimal digits"),
        (&["00112233445566778899"], "", "0x0011"),
        (&["-"], "", "no hexadecimal digits"),
        (
            &["-"],
            "+NNMI:2,A101\r\n",
            "none of the hexadecimal in it begins with FFFE",
        ),
        (&["AT+NMGS=8,FFFE01134C9A000"], "", "15 hexadecimal digits"),
        (&["-"], "\u{1F4A5}", "hexadecimal"),
    ] {
        let finished = decode(arguments, input);
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        assert_eq!(finished.stdout, "");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
        assert!(finished.stderr.contains(expected), "{finished:?}");
    }
}

#[test]
fn wrong_usage_is_told_apart_from_a_wrong_frame() {
    for arguments in [
        &[][..],
        &["--from", "nobody", "00"],
        &["--form", "device", "00"],
    ] {
        assert_eq!(
            decode(arguments, "").status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
}
