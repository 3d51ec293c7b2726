//! What a device answers when it is read: resources, in one of four content formats.
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

/// What a resource holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer.
    Integer(i64),
    /// A string.
    Text(&'a str),
    /// A boolean.
    Flag(bool),
    /// A multiple resource of integers, with IDs from 0.
    Integers(&'a [i64]),
    /// A multiple resource of links to object instances, with IDs from 0.
    Links(&'a [(u16, u16)]),
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Integer(value)
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
    pub fn encode<'a, V>(
        self,
        object: u16,
        instance: u16,
        resources: &[(u16, V)],
    ) -> Option<Vec<u8>>
    where
        V: Into<Value<'a>> + Copy,
    {
        let resources: Vec<(u16, Value<'a>)> = (resources.iter())
            .map(|(id, value)| (*id, (*value).into()))
            .collect();
        match self {
            Self::Text => match &*resources {
                [(_, Value::Integer(value))] => Some(value.to_string().into_bytes()),
                [(_, Value::Text(text))] => Some(text.as_bytes().to_vec()),
                // OMA LwM2M Core 1.0 Appendix C: "0" or "1"
                [(_, Value::Flag(flag))] => Some(vec![b'0' + u8::from(*flag)]),
                _ => None,
            },
            Self::Tlv => Some(tlv(&resources)),
            Self::SenmlJson => Some(senml_json(object, instance, &resources).into_bytes()),
            Self::SenmlCbor => Some(senml_cbor(object, instance, &resources)),
        }
    }
}

/// Kinds of identifiers in TLV (OMA LwM2M Core 1.0 §6.4.3).
const RESOURCE: u8 = 0xC0;
const MULTIPLE_RESOURCE: u8 = 0x80;
const RESOURCE_INSTANCE: u8 = 0x40;

fn tlv(resources: &[(u16, Value<'_>)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(resources.len() * 7);
    for (id, value) in resources {
        match value {
            Value::Integer(value) => push_tlv(&mut bytes, RESOURCE, *id, &tlv_integer(*value)),
            Value::Text(text) => push_tlv(&mut bytes, RESOURCE, *id, text.as_bytes()),
            Value::Flag(flag) => push_tlv(&mut bytes, RESOURCE, *id, &[u8::from(*flag)]),
            Value::Integers(values) => {
                let instances = values.iter().map(|value| tlv_integer(*value));
                push_tlv(
                    &mut bytes,
                    MULTIPLE_RESOURCE,
                    *id,
                    &tlv_instances(instances),
                );
            }
            Value::Links(links) => {
                let instances = (links.iter()).map(|(object, instance)| {
                    [object.to_be_bytes(), instance.to_be_bytes()].concat()
                });
                push_tlv(
                    &mut bytes,
                    MULTIPLE_RESOURCE,
                    *id,
                    &tlv_instances(instances),
                );
            }
        }
    }
    bytes
}

fn tlv_instances(values: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, value) in (0..).zip(values) {
        push_tlv(&mut bytes, RESOURCE_INSTANCE, id, &value);
    }
    bytes
}

/// Two's complement of 1, 2, 4 or 8 bytes.
fn tlv_integer(value: i64) -> Vec<u8> {
    let all = value.to_be_bytes();
    let value = if i8::try_from(value).is_ok() {
        &all[7..]
    } else if i16::try_from(value).is_ok() {
        &all[6..]
    } else if i32::try_from(value).is_ok() {
        &all[4..]
    } else {
        &all[..]
    };
    value.to_vec()
}

/// The length of up to 7 bytes is in the type byte; here none exceeds 65,535.
fn push_tlv(bytes: &mut Vec<u8>, kind: u8, id: u16, value: &[u8]) {
    let [id_high, id_low] = id.to_be_bytes();
    let wide_id = id_high != 0;
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    let value = &value[..usize::from(len)];
    let [len_high, len_low] = len.to_be_bytes();
    let len_bits = match len {
        0..8 => len_low,
        8..256 => 1 << 3,
        _ => 2 << 3,
    };
    bytes.push(kind | (u8::from(wide_id) << 5) | len_bits);
    if wide_id {
        bytes.push(id_high);
    }
    bytes.push(id_low);
    match len {
        0..8 => {}
        8..256 => bytes.push(len_low),
        _ => bytes.extend([len_high, len_low]),
    }
    bytes.extend(value);
}

/// What of a resource is one record of SenML.
enum Single<'a> {
    Integer(i64),
    Text(&'a str),
    Flag(bool),
    Link(u16, u16),
}

/// A record for each value, with the name that follows the instance's.
fn records<'a>(resources: &[(u16, Value<'a>)]) -> Vec<(String, Single<'a>)> {
    let mut records = Vec::with_capacity(resources.len());
    for (id, value) in resources {
        match value {
            Value::Integer(value) => records.push((id.to_string(), Single::Integer(*value))),
            Value::Text(text) => records.push((id.to_string(), Single::Text(text))),
            Value::Flag(flag) => records.push((id.to_string(), Single::Flag(*flag))),
            Value::Integers(values) => records.extend(
                (values.iter().enumerate())
                    .map(|(index, value)| (format!("{id}/{index}"), Single::Integer(*value))),
            ),
            Value::Links(links) => records.extend((links.iter().enumerate()).map(
                |(index, (object, instance))| {
                    (format!("{id}/{index}"), Single::Link(*object, *instance))
                },
            )),
        }
    }
    records
}

/// RFC 8428 §5; `vlo` is OMA LwM2M Core 1.1 §7.4.4's.
fn senml_json(object: u16, instance: u16, resources: &[(u16, Value<'_>)]) -> String {
    let mut text = String::from("[");
    for (index, (name, value)) in records(resources).into_iter().enumerate() {
        let begin = if index == 0 {
            format!(r#"{{"bn":"/{object}/{instance}/","#)
        } else {
            ",{".to_owned()
        };
        let written = match value {
            Single::Integer(value) => write!(text, r#"{begin}"n":"{name}","v":{value}}}"#),
            Single::Flag(flag) => write!(text, r#"{begin}"n":"{name}","vb":{flag}}}"#),
            Single::Text(value) => {
                let value = serde_json::Value::from(value);
                write!(text, r#"{begin}"n":"{name}","vs":{value}}}"#)
            }
            Single::Link(object, instance) => {
                write!(text, r#"{begin}"n":"{name}","vlo":"{object}:{instance}"}}"#)
            }
        };
        debug_assert!(written.is_ok(), "writing to a String does not fail");
    }
    text.push(']');
    text
}

/// RFC 8428 §6: labels are integers, -2 the base name, 0 the name, 2 the value, 3 the string, 4 the boolean.
fn senml_cbor(object: u16, instance: u16, resources: &[(u16, Value<'_>)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(resources.len() * 12 + 16);
    let records = records(resources);
    cbor_head(&mut bytes, CborMajor::Array, records.len() as u64);
    for (index, (name, value)) in records.into_iter().enumerate() {
        let first = index == 0;
        cbor_head(&mut bytes, CborMajor::Map, if first { 3 } else { 2 });
        if first {
            cbor_integer(&mut bytes, -2);
            cbor_text(&mut bytes, &format!("/{object}/{instance}/"));
        }
        cbor_integer(&mut bytes, 0);
        cbor_text(&mut bytes, &name);
        match value {
            Single::Integer(value) => {
                cbor_integer(&mut bytes, 2);
                cbor_integer(&mut bytes, value);
            }
            Single::Text(value) => {
                cbor_integer(&mut bytes, 3);
                cbor_text(&mut bytes, value);
            }
            Single::Flag(flag) => {
                cbor_integer(&mut bytes, 4);
                // RFC 8949 §3.3: false is 20, true 21
                bytes.push(0xF4 + u8::from(flag));
            }
            Single::Link(object, instance) => {
                cbor_text(&mut bytes, "vlo");
                cbor_text(&mut bytes, &format!("{object}:{instance}"));
            }
        }
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
    fn strings_flags_and_multiple_resources_are_written_in_all_formats() {
        let resources = [
            (7, Value::Text("a-version-1")),
            (8, Value::Integers(&[0, 1])),
            (12, Value::Flag(true)),
            (16, Value::Links(&[(33_629, 1)])),
        ];
        let tlv = ContentFormat::Tlv.encode(9, 0, &resources).unwrap();
        let expected = [
            &[0xC8, 7, 11][..],
            b"a-version-1",
            &[0x86, 8, 0x41, 0, 0, 0x41, 1, 1],
            &[0xC1, 12, 1],
            &[0x86, 16, 0x44, 0, 0x83, 0x5D, 0, 1],
        ]
        .concat();
        assert_eq!(tlv, expected);
        let json = ContentFormat::SenmlJson.encode(9, 0, &resources).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(
            json,
            serde_json::json!([
                {"bn": "/9/0/", "n": "7", "vs": "a-version-1"},
                {"n": "8/0", "v": 0},
                {"n": "8/1", "v": 1},
                {"n": "12", "vb": true},
                {"n": "16/0", "vlo": "33629:1"},
            ])
        );
        let cbor = ContentFormat::SenmlCbor
            .encode(9, 0, &resources[2..3])
            .unwrap();
        let expected = [
            &[0x81, 0xA3, 0x21, 0x65][..],
            b"/9/0/",
            &[0, 0x62],
            b"12",
            &[4, 0xF5],
        ];
        assert_eq!(cbor, expected.concat());
        let text = |value: Value<'_>| ContentFormat::Text.encode(9, 0, &[(0, value)]);
        assert_eq!(text(Value::Flag(false)).unwrap(), b"0");
        assert_eq!(text(Value::Text("a")).unwrap(), b"a");
        assert_eq!(text(Value::Integers(&[1])), None);
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
