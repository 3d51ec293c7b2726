//! A device's answer to a read, or what it notifies. The first byte of the input names the format, the second one what was
//! asked for, so that a file can be read: `j0[{"bn":"/4/0/",…}]`. The rest is the payload.
//!
//! | first byte | format | | second byte | asked for |
//! |---|---|---|---|---|
//! | `n` | none given | | `0` | `/4/0` |
//! | `t` | text | | `1` | `/4/0/2` |
//! | `o` | opaque | | `2` | `/4` |
//! | `j` | SenML JSON | | `3` | `/19/0/0` |
//! | `c` | SenML CBOR | | | |
//! | `v` | TLV | | | |
//! | `w` | TLV under its old number | | | |
//! | `l` | LwM2M CBOR | | | |
//! | `x` | CBOR | | | |
//! | `e` | JSON of LwM2M 1.0 | | | |
//! | `f` | the same under its old number | | | |
//!
//! Any other byte counts as one of these.

use cellwise::lwm2m::{
    ConnectivityReading, Container, MAX_PAYLOAD, MAX_VALUES, ResourceId, ResourcePath, Value,
    Wrapping, decode, format, opaque_of,
};
use minicbor::Encoder;
use serde_json::json;

const FORMATS: [(u8, Option<u16>); 11] = [
    (b'n', None),
    (b't', Some(format::TEXT)),
    (b'o', Some(format::OPAQUE)),
    (b'j', Some(format::SENML_JSON)),
    (b'c', Some(format::SENML_CBOR)),
    (b'v', Some(format::TLV)),
    (b'w', Some(format::TLV_OLD)),
    (b'l', Some(format::LWM2M_CBOR)),
    (b'x', Some(format::CBOR)),
    (b'e', Some(format::JSON)),
    (b'f', Some(format::JSON_OLD)),
];

/// Reads the payload; what was found is bounded, and comes back through every format that can carry it.
pub fn run(input: &[u8]) {
    let [first, second, payload @ ..] = input else {
        return;
    };
    let named = FORMATS.iter().find(|(name, _)| name == first);
    let (_, format) = named.unwrap_or(&FORMATS[usize::from(*first) % FORMATS.len()]);
    let asked = match second % 4 {
        0 => ResourcePath::CONNECTIVITY,
        1 => ResourcePath::RSRP,
        2 => ResourcePath::of_object(4),
        _ => ResourcePath::UPLINK,
    };
    match decode(*format, &asked, payload) {
        Ok(values) => {
            bounded(&asked, payload, &values);
            numbers(&values);
            if payload.len() <= MAX_PAYLOAD / 8 {
                comes_back(&values); // written anew it may be longer
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if asked.resource().is_some() {
        bytes(*format, &asked, payload);
    }
}

/// What holds bytes: no more come out than went in, and each of them comes back through every format.
fn bytes(content_format: Option<u16>, path: &ResourcePath, payload: &[u8]) {
    let opaque = match opaque_of(content_format, path, payload) {
        Ok(opaque) => opaque,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(opaque.values.len() <= MAX_VALUES);
    let len: usize = opaque.values.iter().map(|value| value.len()).sum();
    assert!(len <= payload.len(), "more came out than went in");
    if let Some(wrapping) = opaque.wrapping
        && let Some(content_format) = content_format.filter(|format| *format != format::TEXT)
    {
        assert_eq!(wrapping.container.format(), content_format);
    }
    for value in opaque
        .values
        .iter()
        .filter(|value| value.len() < MAX_PAYLOAD / 2)
    {
        let frames: Vec<&[u8]> = pcp::frames(value).collect();
        assert_eq!(frames.concat(), **value);
        for (_, number) in FORMATS {
            let Some((number, container)) = number.and_then(|n| Some((n, Container::of(n)?)))
            else {
                continue;
            };
            assert_eq!(container.format(), number);
            let single = Wrapping {
                container,
                multiple: false,
            };
            for wrapping in [Some(single), single.of_instance()].into_iter().flatten() {
                let wrapped = wrapping.wrap(path, value);
                let read = opaque_of(Some(number), path, &wrapped).expect("was written here");
                assert_eq!(read.values, [value.as_ref()]);
                assert_eq!(read.wrapping, Some(wrapping));
            }
        }
    }
}

fn bounded(asked: &ResourcePath, payload: &[u8], values: &[(ResourceId, Value)]) {
    assert!(values.len() <= MAX_VALUES);
    for (index, (id, _)) in values.iter().enumerate() {
        assert!(asked.resource().is_none_or(|wanted| wanted == *id));
        assert!(values[..index].iter().all(|(other, _)| other != id));
    }
    let bytes: usize = values.iter().map(|(_, value)| len(value)).sum();
    assert!(bytes <= payload.len(), "more came out than went in");
}

fn len(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Opaque(bytes) | Value::Untyped(bytes) => bytes.len(),
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) => 0,
    }
}

fn numbers(values: &[(ResourceId, Value)]) {
    for (_, value) in values {
        // an unsigned number is the signed one, unless its highest bit stands for a sign
        if let Some(signed) = value.as_integer().and_then(|n| u64::try_from(n).ok()) {
            assert_eq!(value.as_unsigned(), Some(signed), "{value:?}");
        }
        let shown = matches!(value, Value::Bool(_) | Value::Opaque(_));
        assert!(!shown || value.as_integer().is_none());
    }
    for (_, value) in values {
        let id = value.as_cell_id();
        // what is text can be hexadecimal, and is no number then
        if let Some(number) = value.as_unsigned().and_then(|n| u32::try_from(n).ok()) {
            assert_eq!(id, Some(number), "{value:?}");
        }
        assert!(value.shown().chars().count() < 400);
    }
    let unreadable = ConnectivityReading::unreadable_cell(values);
    let reading = ConnectivityReading::from_values(values);
    assert!(unreadable.is_none() || reading.cell_id.is_none());
    assert_eq!(reading.or(ConnectivityReading::default()), reading);
    assert_eq!(ConnectivityReading::default().or(reading), reading);
    assert_ne!(
        reading.cell_id,
        Some(u32::MAX),
        "all bits set means unknown"
    );
}

/// The values of one instance, written anew by hand, read as they were.
fn comes_back(values: &[(ResourceId, Value)]) {
    let instance = ResourcePath::CONNECTIVITY;
    let untyped: Vec<_> = values
        .iter()
        .filter(|(_, v)| matches!(v, Value::Untyped(_)))
        .cloned()
        .collect();
    let written = tlv(&untyped);
    assert_eq!(
        decode(Some(format::TLV), &instance, &written).as_ref(),
        Ok(&untyped)
    );
    assert_eq!(decode(None, &instance, &written).as_ref(), Ok(&untyped));
    let typed: Vec<_> = values
        .iter()
        .filter(|(_, v)| !matches!(v, Value::Untyped(_)))
        .filter(|(_, v)| !matches!(v, Value::Float(number) if number.is_nan())) // equals nothing
        .cloned()
        .collect();
    let written = senml_cbor(&typed);
    assert_eq!(
        decode(Some(format::SENML_CBOR), &instance, &written).as_ref(),
        Ok(&typed)
    );
    let exact: Vec<_> = typed
        .into_iter()
        .filter(|(_, v)| !matches!(v, Value::Float(_) | Value::Opaque(_)))
        .collect();
    let written = senml_json(&exact);
    assert_eq!(
        decode(Some(format::SENML_JSON), &instance, &written).as_ref(),
        Ok(&exact)
    );
}

/// LwM2M 1.0 §6.4.3: every resource with a number of 16 bits and a length of 24.
fn tlv(values: &[(ResourceId, Value)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (id, value) in values {
        let Value::Untyped(bytes) = value else {
            continue;
        };
        out.push(0b1111_1000);
        out.extend(id.to_be_bytes());
        let len = u32::try_from(bytes.len()).expect("a payload is shorter");
        out.extend(&len.to_be_bytes()[1..]);
        out.extend(bytes);
    }
    out
}

/// RFC 8428 §6: name and value of each, below one base name.
fn senml_cbor(values: &[(ResourceId, Value)]) -> Vec<u8> {
    let mut out = Encoder::new(Vec::new());
    let written: Result<_, minicbor::encode::Error<_>> = (|| {
        out.begin_array()?.map(1)?.i8(-2)?.str("/4/0/")?;
        for (id, value) in values {
            out.map(2)?.i8(0)?.str(&id.to_string())?;
            match value {
                Value::Integer(number) => out.i8(2)?.i64(*number)?,
                Value::Float(number) => out.i8(2)?.f64(*number)?,
                Value::Text(text) => out.i8(3)?.str(text)?,
                Value::Bool(yes) => out.i8(4)?.bool(*yes)?,
                Value::Opaque(bytes) | Value::Untyped(bytes) => out.i8(8)?.bytes(bytes)?,
            };
        }
        out.end()?;
        Ok(())
    })();
    written.expect("a vector takes everything");
    out.into_writer()
}

/// RFC 8428 §5, full names.
fn senml_json(values: &[(ResourceId, Value)]) -> Vec<u8> {
    let records: Vec<serde_json::Value> = values
        .iter()
        .map(|(id, value)| {
            let name = format!("/4/0/{id}");
            match value {
                Value::Integer(number) => json!({ "n": name, "v": number }),
                Value::Text(text) => json!({ "n": name, "vs": text }),
                Value::Bool(yes) => json!({ "n": name, "vb": yes }),
                Value::Float(_) | Value::Opaque(_) | Value::Untyped(_) => json!({ "n": name }),
            }
        })
        .collect();
    serde_json::to_vec(&records).expect("plain values")
}
