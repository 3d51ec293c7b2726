//! What SenML's two forms have in common (RFC 8428; LwM2M 1.1 §7.4.4 and §7.4.5), and JSON of LwM2M 1.0 with them.

use super::{ContentError, Found, Time, Value};

/// One record of a pack.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Goes before the names of this record and of those that follow.
    pub(super) base_name: Option<String>,
    /// Is added to the times of this record and of those that follow, seconds.
    pub(super) base_time: Option<f64>,
    /// Is added to the numbers of this record and of those that follow.
    pub(super) base_value: Option<Value>,
    pub(super) name: Option<String>,
    /// Seconds; see [`Time`].
    pub(super) time: Option<f64>,
    pub(super) value: Option<Value>,
}

/// Resolves the records of a pack, one after the other (RFC 8428 §4.6): what they have as a base from now on.
#[derive(Debug, Default)]
pub(super) struct Pack {
    name: String,
    time: Option<f64>,
    value: Option<Value>,
}

impl Pack {
    pub(super) fn record(&mut self, found: &mut Found, record: Record) -> Result<(), ContentError> {
        if let Some(base_name) = record.base_name {
            self.name = base_name;
        }
        self.time = record.base_time.or(self.time);
        if record.base_value.is_some() {
            self.value = record.base_value;
        }
        let Some(value) = record.value else {
            return Ok(());
        };
        let (value, time) = (self.with_base(value), Time::of(self.time, record.time));
        let mut name = self.name.clone();
        name.push_str(record.name.as_deref().unwrap_or_default());
        let mut ids = [0; 4];
        let resource = match path(&name, &mut ids) {
            Some([]) => found.asked_resource()?,
            // a name that goes on from the path that was asked for
            Some([resource]) if !name.starts_with('/') && found.asked.instance().is_some() => {
                *resource
            }
            Some(path) => return found.at(path, time, value),
            None => return Ok(()),
        };
        found.resource(resource, time, value)
    }

    fn with_base(&self, value: Value) -> Value {
        match (&self.value, value) {
            (Some(Value::Integer(base)), Value::Integer(value)) => base
                .checked_add(value)
                .map_or_else(|| Value::Float(float(*base) + float(value)), Value::Integer),
            (Some(Value::Integer(base)), Value::Float(value)) => Value::Float(float(*base) + value),
            (Some(Value::Float(base)), Value::Integer(value)) => Value::Float(base + float(value)),
            (Some(Value::Float(base)), Value::Float(value)) => Value::Float(base + value),
            (_, value) => value,
        }
    }
}

#[allow(clippy::cast_precision_loss)] // numbers that large are no radio values
fn float(value: i64) -> f64 {
    value as f64
}

/// The numbers in a name such as `/4/0/2`, at most four; `None` for any other name.
fn path<'a>(name: &str, ids: &'a mut [u16; 4]) -> Option<&'a [u16]> {
    let mut len = 0;
    for segment in name.split('/').filter(|segment| !segment.is_empty()) {
        *ids.get_mut(len)? = segment.parse().ok()?;
        len += 1;
    }
    Some(&ids[..len])
}
