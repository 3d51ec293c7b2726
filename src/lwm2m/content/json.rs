use serde::Deserialize;
use serde_json::Number;

use super::{
    ContentError, Found, Value,
    senml::{Pack, Record},
    senml_json::number,
};

/// JSON of LwM2M 1.0 (§6.4.4): a base name, a base time, and the values. Later versions put `SenML` in its place.
#[derive(Debug, Deserialize)]
struct Document {
    bn: Option<String>,
    bt: Option<Number>,
    #[serde(default)]
    e: Vec<Entry>,
}

/// A value; bytes are text in base64. Links to objects (`ov`) are left alone.
#[derive(Debug, Deserialize)]
struct Entry {
    n: Option<String>,
    t: Option<Number>,
    v: Option<Number>,
    sv: Option<String>,
    bv: Option<bool>,
}

pub(super) fn read(found: &mut Found, payload: &[u8]) -> Result<(), ContentError> {
    let Document { bn, bt, e } =
        serde_json::from_slice(payload).map_err(|_| ContentError::Malformed {
            format: "JSON",
            problem: "not an object with a list of values",
        })?;
    let mut pack = Pack::default();
    let base = Record {
        base_name: bn,
        base_time: bt.as_ref().and_then(Number::as_f64),
        ..Record::default()
    };
    pack.record(found, base)?;
    for entry in e {
        let value = entry.v.as_ref().and_then(number);
        let record = Record {
            name: entry.n,
            time: entry.t.as_ref().and_then(Number::as_f64),
            value: value
                .or(entry.sv.map(Value::Text))
                .or(entry.bv.map(Value::Bool)),
            ..Record::default()
        };
        pack.record(found, record)?;
    }
    Ok(())
}
