use serde::Deserialize;
use serde_json::Number;

use super::{
    ContentError, Found, Value, base64,
    senml::{Pack, Record},
};

/// The fields that matter (RFC 8428 §4.1 and §4.2); others are left alone.
#[derive(Debug, Deserialize)]
struct JsonRecord {
    bn: Option<String>,
    bt: Option<Number>,
    bv: Option<Number>,
    n: Option<String>,
    t: Option<Number>,
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
            base64::decode(&text).ok_or_else(|| malformed("the data of a record are not base64url"))
        });
        let value = self.v.as_ref().and_then(number);
        Ok(Record {
            base_name: self.bn,
            base_time: self.bt.as_ref().and_then(Number::as_f64),
            base_value: self.bv.as_ref().and_then(number),
            name: self.n,
            time: self.t.as_ref().and_then(Number::as_f64),
            value: value
                .or(self.vs.map(Value::Text))
                .or(self.vb.map(Value::Bool))
                .or(data.transpose()?.map(Value::Opaque)),
        })
    }
}

pub(super) fn number(number: &Number) -> Option<Value> {
    let integer = number.as_i64().map(Value::Integer);
    integer.or_else(|| number.as_f64().map(Value::Float))
}

fn malformed(problem: &'static str) -> ContentError {
    ContentError::Malformed {
        format: "SenML JSON",
        problem,
    }
}
