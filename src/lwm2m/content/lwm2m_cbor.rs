use minicbor::{
    Decoder,
    data::Type,
    decode::{self, Error},
};

use super::{ContentError, Found, Time, cbor};

/// Object, instance, resource, resource instance.
const MAX_DEPTH: usize = 4;

/// Maps in maps, each level keyed by one number or by a list of several: `{4: {0: {2: -95}}}` and
/// `{[4, 0, 2]: -95}` say the same (LwM2M 1.2 §7.4.6).
pub(super) fn read(found: &mut Found, payload: &[u8]) -> Result<(), ContentError> {
    let malformed = |_| ContentError::Malformed {
        format: "LwM2M CBOR",
        problem: "not maps of numbers to values",
    };
    let mut path = Vec::with_capacity(MAX_DEPTH);
    let mut values = Vec::new();
    level(&mut Decoder::new(payload), &mut path, &mut values).map_err(malformed)?;
    for (path, value) in values {
        found.at(&path, Time::NOW, value)?;
    }
    Ok(())
}

type Values = Vec<(Vec<u16>, super::Value)>;

fn level(input: &mut Decoder, path: &mut Vec<u16>, values: &mut Values) -> Result<(), Error> {
    let above = path.len();
    let count = input.map()?;
    for _ in cbor::items(count) {
        if cbor::at_break(input, count)? {
            break;
        }
        key(input, path)?;
        if path.len() == above || path.len() > MAX_DEPTH {
            return Err(decode::Error::message("a path of the wrong length"));
        }
        if matches!(input.datatype()?, Type::Map | Type::MapIndef) {
            level(input, path, values)?;
        } else if let Some(value) = cbor::value(input)? {
            values.push((path.clone(), value));
        }
        path.truncate(above);
    }
    Ok(())
}

fn key(input: &mut Decoder, path: &mut Vec<u16>) -> Result<(), Error> {
    if !matches!(input.datatype()?, Type::Array | Type::ArrayIndef) {
        path.push(input.u16()?);
        return Ok(());
    }
    let count = input.array()?;
    for _ in cbor::items(count) {
        if cbor::at_break(input, count)? || path.len() > MAX_DEPTH {
            break;
        }
        path.push(input.u16()?);
    }
    Ok(())
}
