//! Plain CBOR, which is one value, and what the other formats on CBOR (RFC 8949) have in common with it.

use minicbor::{Decoder, data::Type, decode::Error};

use super::{ContentError, Found, Value};

/// The value of one resource (LwM2M 1.1 §7.4.3).
pub(super) fn read(found: &mut Found, payload: &[u8]) -> Result<(), ContentError> {
    let malformed = |problem| ContentError::Malformed {
        format: "CBOR",
        problem,
    };
    let mut input = Decoder::new(payload);
    let value = value(&mut input).map_err(|_| malformed("cut off, or no CBOR"))?;
    if input.position() != payload.len() {
        return Err(malformed("more than one value"));
    }
    found.single(value.ok_or_else(|| malformed("neither number nor text nor bytes"))?)
}

/// One turn per item of a list or map of `count` items, without end when the count is not given:
/// [`at_break`] tells then where it ends. Every turn takes input, so the input's end is the bound.
pub(super) fn items(count: Option<u64>) -> impl Iterator<Item = u64> {
    0..count.unwrap_or(u64::MAX)
}

/// Steps over the mark that ends a list or map whose count was not given, if it is next.
pub(super) fn at_break(input: &mut Decoder, count: Option<u64>) -> Result<bool, Error> {
    let ends = count.is_none() && input.datatype()? == Type::Break;
    if ends {
        input.set_position(input.position() + 1);
    }
    Ok(ends)
}

/// A single value; `None` for a form that no resource of interest has.
pub(super) fn value(input: &mut Decoder) -> Result<Option<Value>, Error> {
    let value = match input.datatype()? {
        Type::Bool => Value::Bool(input.bool()?),
        Type::F16 => Value::Float(input.f16()?.into()),
        Type::F32 => Value::Float(input.f32()?.into()),
        Type::F64 => Value::Float(input.f64()?),
        Type::String => Value::Text(input.str()?.to_owned()),
        Type::Bytes => Value::Opaque(input.bytes()?.to_vec()),
        Type::U8 | Type::U16 | Type::U32 | Type::I8 | Type::I16 | Type::I32 => {
            Value::Integer(input.i64()?)
        }
        Type::U64 | Type::I64 | Type::Int => integer(i128::from(input.int()?)),
        // a time: the value follows
        Type::Tag if input.probe().tag()?.as_u64() == 1 => {
            input.tag()?;
            return scalar(input);
        }
        _ => {
            input.skip()?;
            return Ok(None);
        }
    };
    Ok(Some(value))
}

/// What a tag may stand before: tags in tags are left alone, so that no depth is reached.
fn scalar(input: &mut Decoder) -> Result<Option<Value>, Error> {
    if input.datatype()? == Type::Tag {
        input.skip()?;
        return Ok(None);
    }
    value(input)
}

fn integer(value: i128) -> Value {
    #[allow(clippy::cast_precision_loss)] // beyond 2^63 nothing is counted one by one
    i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer)
}
