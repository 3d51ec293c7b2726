use super::{ContentError, Found, ResourceId, Time, Value};

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

impl Kind {
    const fn of(bits: u8) -> Self {
        match bits {
            0 => Self::ObjectInstance,
            1 => Self::ResourceInstance,
            2 => Self::MultipleResource,
            _ => Self::Resource,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::ObjectInstance => 0,
            Self::ResourceInstance => 1,
            Self::MultipleResource => 2,
            Self::Resource => 3,
        }
    }
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
                let resource = found.asked_resource()?;
                found.has_instances(resource);
                take(found, resource, value)?;
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
    match entry.kind {
        Kind::MultipleResource => {
            found.has_instances(entry.id);
            for instance in entries(entry.value) {
                take(found, entry.id, instance?.value)?;
            }
            Ok(())
        }
        Kind::Resource => take(found, entry.id, entry.value),
        Kind::ObjectInstance | Kind::ResourceInstance => Ok(()),
    }
}

fn take(found: &mut Found, resource: ResourceId, value: &[u8]) -> Result<(), ContentError> {
    found.resource(resource, Time::NOW, Value::Untyped(value.to_vec()))
}

/// A resource that holds the value, or that holds one instance, which holds it.
pub(super) fn write(resource: ResourceId, multiple: bool, value: &[u8]) -> Vec<u8> {
    if multiple {
        let instance = written(Kind::ResourceInstance, 0, value);
        written(Kind::MultipleResource, resource, &instance)
    } else {
        written(Kind::Resource, resource, value)
    }
}

fn written(kind: Kind, id: u16, value: &[u8]) -> Vec<u8> {
    let mut head = kind.bits() << 6;
    let mut out = Vec::with_capacity(6 + value.len());
    out.push(0);
    if let Ok(id) = u8::try_from(id) {
        out.push(id);
    } else {
        head |= 0x20;
        out.extend(id.to_be_bytes());
    }
    // values are far below 2^24 bytes: they fit into a datagram
    match value.len().to_be_bytes() {
        [.., 0, 0, short] if short < 8 => head |= short,
        [.., 0, 0, one] => {
            head |= 0x08;
            out.push(one);
        }
        [.., 0, high, low] => {
            head |= 0x10;
            out.extend([high, low]);
        }
        [.., high, middle, low] => {
            head |= 0x18;
            out.extend([high, middle, low]);
        }
    }
    out[0] = head;
    out.extend(value);
    out
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
    let kind = Kind::of(kind_byte >> 6);
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
