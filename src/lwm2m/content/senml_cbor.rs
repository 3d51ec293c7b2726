use minicbor::{Decoder, data::Type};

use super::{
    ContentError, Found, cbor,
    senml::{Pack, Record},
};

/// Labels that matter (RFC 8428 §6, table 4).
const BASE_NAME: i64 = -2;
const BASE_TIME: i64 = -3;
const BASE_VALUE: i64 = -5;
const NAME: i64 = 0;
const VALUE: i64 = 2;
const STRING_VALUE: i64 = 3;
const BOOLEAN_VALUE: i64 = 4;
const TIME: i64 = 6;
const DATA_VALUE: i64 = 8;

pub(super) fn read(found: &mut Found, payload: &[u8]) -> Result<(), ContentError> {
    let mut input = Decoder::new(payload);
    let mut pack = Pack::default();
    let count = input.array().map_err(|_| malformed("not a list"))?;
    for _ in cbor::items(count) {
        if cbor::at_break(&mut input, count).map_err(|_| malformed("the list has no end"))? {
            break;
        }
        let record = record(&mut input).map_err(|_| malformed("a record cannot be read"))?;
        pack.record(found, record)?;
    }
    Ok(())
}

fn record(input: &mut Decoder) -> Result<Record, minicbor::decode::Error> {
    let mut record = Record::default();
    let count = input.map()?;
    for _ in cbor::items(count) {
        if cbor::at_break(input, count)? {
            break;
        }
        let label = match input.datatype()? {
            // a label that is not registered
            Type::String | Type::StringIndef => {
                input.skip()?;
                input.skip()?;
                continue;
            }
            _ => input.i64()?,
        };
        match label {
            BASE_NAME => record.base_name = Some(input.str()?.to_owned()),
            NAME => record.name = Some(input.str()?.to_owned()),
            BASE_TIME => record.base_time = seconds(input)?,
            TIME => record.time = seconds(input)?,
            BASE_VALUE => record.base_value = cbor::value(input)?,
            VALUE | STRING_VALUE | BOOLEAN_VALUE | DATA_VALUE => {
                record.value = cbor::value(input)?;
            }
            _ => input.skip()?,
        }
    }
    Ok(record)
}

/// A time; `None` when it is no number.
fn seconds(input: &mut Decoder) -> Result<Option<f64>, minicbor::decode::Error> {
    Ok(cbor::value(input)?.and_then(|value| value.as_float()))
}

fn malformed(problem: &'static str) -> ContentError {
    ContentError::Malformed {
        format: "SenML CBOR",
        problem,
    }
}
