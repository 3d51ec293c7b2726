//! What a device answers when it is read: integers, in one of four content formats.
//!
//! Firmware in the field writes anything from plain text to SenML CBOR, so a server has to read them
//! all (OMA LwM2M Core 1.2 §7.4; RFC 8428 for SenML).

use std::{fmt::Write, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The format of a device's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentFormat {
    /// Plain text, content format 0. Cannot express more than one resource.
    Text,
    /// OMA TLV, content format 11542.
    #[default]
    Tlv,
    /// SenML JSON, content format 110.
    SenmlJson,
    /// SenML CBOR, content format 112.
    SenmlCbor,
}

/// The text names no content format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown content format '{0}': text, tlv, senml-json and senml-cbor are known")]
pub struct UnknownContentFormat(String);

impl FromStr for ContentFormat {
    type Err = UnknownContentFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "text" => Self::Text,
            "tlv" => Self::Tlv,
            "senml-json" => Self::SenmlJson,
            "senml-cbor" => Self::SenmlCbor,
            other => return Err(UnknownContentFormat(other.to_owned())),
        })
    }
}

impl ContentFormat {
    /// The number in CoAP's Content-Format option.
    pub const fn number(self) -> u32 {
        match self {
            Self::Text => 0,
            Self::Tlv => 11_542,
            Self::SenmlJson => 110,
            Self::SenmlCbor => 112,
        }
    }

    /// Resources of one object instance, as (resource ID, value).
    ///
    /// `None` where the format has no way to say it: plain text says one value.
    pub fn encode(self, object: u16, instance: u16, resources: &[(u16, i64)]) -> Option<Vec<u8>> {
        match self {
            Self::Text => match resources {
                [(_, value)] => Some(value.to_string().into_bytes()),
                _ => None,
            },
            Self::Tlv => Some(tlv(resources)),
            Self::SenmlJson => Some(senml_json(object, instance, resources).into_bytes()),
            Self::SenmlCbor => Some(senml_cbor(object, instance, resources)),
        }
    }
}

/// OMA LwM2M Core 1.2 §7.4.5: a resource with value has type bits 11; the length of up to 7 bytes is in
/// the type byte; integers are two's complement of 1, 2, 4 or 8 bytes.
fn tlv(resources: &[(u16, i64)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(resources.len() * 7);
    for (id, value) in resources {
        let all = value.to_be_bytes();
        let value = if i8::try_from(*value).is_ok() {
            &all[7..]
        } else if i16::try_from(*value).is_ok() {
            &all[6..]
        } else if i32::try_from(*value).is_ok() {
            &all[4..]
        } else {
            &all[..]
        };
        let [id_high, id_low] = id.to_be_bytes();
        let wide_id = id_high != 0;
        let long = value.len() > 7;
        let len = if long { 0 } else { value.len() };
        bytes.push(0xC0 | (u8::from(wide_id) << 5) | (u8::from(long) << 3) | len.to_le_bytes()[0]);
        if wide_id {
            bytes.push(id_high);
        }
        bytes.push(id_low);
        if long {
            bytes.push(value.len().to_le_bytes()[0]);
        }
        bytes.extend(value);
    }
    bytes
}

fn senml_json(object: u16, instance: u16, resources: &[(u16, i64)]) -> String {
    let mut text = String::from("[");
    for (index, (id, value)) in resources.iter().enumerate() {
        let written = if index == 0 {
            write!(
                text,
                r#"{{"bn":"/{object}/{instance}/","n":"{id}","v":{value}}}"#
            )
        } else {
            write!(text, r#",{{"n":"{id}","v":{value}}}"#)
        };
        debug_assert!(written.is_ok(), "writing to a String does not fail");
    }
    text.push(']');
    text
}

/// RFC 8428 §6: labels are integers, -2 the base name, 0 the name, 2 the value.
fn senml_cbor(object: u16, instance: u16, resources: &[(u16, i64)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(resources.len() * 12 + 16);
    cbor_head(&mut bytes, CborMajor::Array, resources.len() as u64);
    for (index, (id, value)) in resources.iter().enumerate() {
        let first = index == 0;
        cbor_head(&mut bytes, CborMajor::Map, if first { 3 } else { 2 });
        if first {
            cbor_integer(&mut bytes, -2);
            cbor_text(&mut bytes, &format!("/{object}/{instance}/"));
        }
        cbor_integer(&mut bytes, 0);
        cbor_text(&mut bytes, &id.to_string());
        cbor_integer(&mut bytes, 2);
        cbor_integer(&mut bytes, *value);
    }
    bytes
}

/// Major types of RFC 8949 §3.1 that SenML needs here.
#[derive(Clone, Copy)]
enum CborMajor {
    Unsigned = 0,
    Negative = 1,
    Text = 3,
    Array = 4,
    Map = 5,
}

fn cbor_head(bytes: &mut Vec<u8>, major: CborMajor, argument: u64) {
    let major = (major as u8) << 5;
    let all = argument.to_be_bytes();
    match argument {
        0..24 => bytes.push(major | all[7]),
        24..0x100 => bytes.extend([major | 0x18, all[7]]),
        0x100..0x1_0000 => {
            bytes.push(major | 0x19);
            bytes.extend(&all[6..]);
        }
        0x1_0000..0x1_0000_0000 => {
            bytes.push(major | 0x1A);
            bytes.extend(&all[4..]);
        }
        _ => {
            bytes.push(major | 0x1B);
            bytes.extend(all);
        }
    }
}

fn cbor_integer(bytes: &mut Vec<u8>, value: i64) {
    // -1 - n has the same bits as !n.
    match u64::try_from(value) {
        Ok(value) => cbor_head(bytes, CborMajor::Unsigned, value),
        Err(_) => cbor_head(bytes, CborMajor::Negative, (!value).unsigned_abs()),
    }
}

fn cbor_text(bytes: &mut Vec<u8>, text: &str) {
    cbor_head(bytes, CborMajor::Text, text.len() as u64);
    bytes.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const READING: [(u16, i64); 3] = [(0, 7), (2, -112), (8, 123_456)];

    #[test]
    fn tlv_uses_the_shortest_integer() {
        assert_eq!(
            ContentFormat::Tlv.encode(4, 0, &READING).unwrap(),
            [0xC1, 0, 7, 0xC1, 2, 0x90, 0xC4, 8, 0, 1, 0xE2, 0x40]
        );
        assert_eq!(
            ContentFormat::Tlv.encode(4, 0, &[(0x0102, 300)]).unwrap(),
            [0xE2, 1, 2, 1, 0x2C]
        );
        assert_eq!(
            ContentFormat::Tlv.encode(4, 0, &[(1, i64::MIN)]).unwrap(),
            [0xC8, 1, 8, 0x80, 0, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn text_holds_one_value() {
        let format = ContentFormat::Text;
        assert_eq!(format.encode(4, 0, &[(2, -90)]).unwrap(), b"-90");
        assert_eq!(format.encode(4, 0, &READING), None);
    }

    #[test]
    fn senml_json_names_the_instance_once() {
        let json = ContentFormat::SenmlJson.encode(4, 0, &READING).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(
            json,
            serde_json::json!([
                {"bn": "/4/0/", "n": "0", "v": 7},
                {"n": "2", "v": -112},
                {"n": "8", "v": 123_456},
            ])
        );
    }

    #[test]
    fn senml_cbor_uses_the_integer_labels() {
        let cbor = ContentFormat::SenmlCbor.encode(4, 0, &READING).unwrap();
        let expected = [
            &[0x83, 0xA3, 0x21, 0x65][..],
            b"/4/0/",
            &[0x00, 0x61, b'0', 0x02, 0x07],
            &[0xA2, 0x00, 0x61, b'2', 0x02, 0x38, 0x6F],
            &[0xA2, 0x00, 0x61, b'8', 0x02, 0x1A, 0, 1, 0xE2, 0x40],
        ]
        .concat();
        assert_eq!(cbor, expected);
    }
}
