use super::{ContentError, Found, ResourceId, Value};

/// What an entry is: bits 7 and 6 of its first byte (LwM2M 1.0 §6.4.3, table 20).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Holds resources.
    ObjectInstance,
    /// One value of a multiple resource.
    ResourceInstance,
    /// Holds resource instances.
    MultipleResource,
    /// Holds a value.
    Resource,
}

#[derive(Debug)]
struct Entry<'a> {
    kind: Kind,
    id: u16,
    value: &'a [u8],
}

/// An instance wrapped or bare, or a single resource: clients answer in each of these ways.
pub(super) fn read(found: &mut Found, payload: &[u8]) -> Result<(), ContentError> {
    for entry in entries(payload) {
        let Entry { kind, id, value } = entry?;
        match kind {
            Kind::ObjectInstance if found.takes_instance(id) => {
                for inner in entries(value) {
                    let inner = inner?;
                    if inner.kind != Kind::ObjectInstance {
                        resource(found, &inner)?;
                    }
                }
            }
            Kind::ObjectInstance => {}
            // the instances alone of the multiple resource that was asked for
            Kind::ResourceInstance if found.asked.resource().is_some() => {
                found.single(Value::Untyped(value.to_vec()))?;
            }
            _ => resource(found, &Entry { kind, id, value })?,
        }
    }
    Ok(())
}

/// Whether the payload is, in its whole length, entries for this resource alone. A text that happens
/// to be that is very unlikely: its first byte would have to be no ASCII.
pub(super) fn is_resource(payload: &[u8], resource: ResourceId) -> bool {
    !payload.is_empty()
        && entries(payload).all(|entry| {
            entry.is_ok_and(|entry| {
                entry.id == resource
                    && matches!(entry.kind, Kind::Resource | Kind::MultipleResource)
            })
        })
}

fn resource(found: &mut Found, entry: &Entry) -> Result<(), ContentError> {
    let value = match entry.kind {
        Kind::MultipleResource => match entries(entry.value).next() {
            Some(first) => first?.value,
            None => return Ok(()),
        },
        Kind::Resource => entry.value,
        Kind::ObjectInstance | Kind::ResourceInstance => return Ok(()),
    };
    found.resource(entry.id, Value::Untyped(value.to_vec()))
}

/// The entries of one level; ends after the first that is wrong.
fn entries(mut rest: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, ContentError>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let entry = take_entry(&mut rest).ok_or(ContentError::Malformed {
            format: "TLV",
            problem: "an entry is longer than what holds it",
        });
        if entry.is_err() {
            rest = &[];
        }
        Some(entry)
    })
}

fn take_entry<'a>(rest: &mut &'a [u8]) -> Option<Entry<'a>> {
    let kind_byte = *rest.split_off_first()?;
    let kind = match kind_byte >> 6 {
        0 => Kind::ObjectInstance,
        1 => Kind::ResourceInstance,
        2 => Kind::MultipleResource,
        _ => Kind::Resource,
    };
    let id_len = if kind_byte & 0x20 == 0 { 1 } else { 2 };
    let id = u16::try_from(take_number(rest, id_len)?).ok()?;
    let len = match usize::from(kind_byte >> 3 & 0b11) {
        0 => usize::from(kind_byte & 0b111),
        len_len => usize::try_from(take_number(rest, len_len)?).ok()?,
    };
    let value = rest.split_off(..len)?;
    Some(Entry { kind, id, value })
}

fn take_number(rest: &mut &[u8], len: usize) -> Option<u32> {
    let bytes = rest.split_off(..len)?;
    Some(bytes.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
}
