use serde::Deserialize;
use serde_json::Number;

use super::{
    ContentError, Found, Value,
    senml::{Pack, Record},
};

/// The fields that matter (RFC 8428 §4.1 and §4.2); others are left alone.
#[derive(Debug, Deserialize)]
struct JsonRecord {
    bn: Option<String>,
    bv: Option<Number>,
    n: Option<String>,
    v: Option<Number>,
    vs: Option<String>,
    vb: Option<bool>,
    vd: Option<String>,
}

pub(super) fn read(found: &mut Found, payload: &[u8]) -> Result<(), ContentError> {
    let records: Vec<JsonRecord> =
        serde_json::from_slice(payload).map_err(|_| malformed("not a list of records"))?;
    let mut pack = Pack::default();
    for record in records {
        pack.record(found, record.resolve()?)?;
    }
    Ok(())
}

impl JsonRecord {
    fn resolve(self) -> Result<Record, ContentError> {
        let data = self.vd.map(|text| {
            base64url(&text).ok_or_else(|| malformed("the data of a record are not base64url"))
        });
        let value = self.v.as_ref().and_then(number);
        Ok(Record {
            base_name: self.bn,
            base_value: self.bv.as_ref().and_then(number),
            name: self.n,
            value: value
                .or(self.vs.map(Value::Text))
                .or(self.vb.map(Value::Bool))
                .or(data.transpose()?.map(Value::Opaque)),
        })
    }
}

fn number(number: &Number) -> Option<Value> {
    let integer = number.as_i64().map(Value::Integer);
    integer.or_else(|| number.as_f64().map(Value::Float))
}

/// RFC 4648 §5; RFC 8428 §4.2 leaves the padding out, some senders do not.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.as_bytes().chunks(4) {
        let mut bits = 0;
        for character in group {
            bits = bits << 6 | u32::from(sextet(*character)?);
        }
        bits <<= 6 * (4 - group.len());
        let [_, triple @ ..] = bits.to_be_bytes();
        bytes.extend_from_slice(&triple[..group.len().checked_sub(1).filter(|n| *n > 0)?]);
    }
    Some(bytes)
}

fn sextet(character: u8) -> Option<u8> {
    Some(match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'-' | b'+' => 62,
        b'_' | b'/' => 63,
        _ => return None,
    })
}

fn malformed(problem: &'static str) -> ContentError {
    ContentError::Malformed {
        format: "SenML JSON",
        problem,
    }
}
