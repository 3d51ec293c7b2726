use super::{ContentError, Found, Value};

/// One value, written out (LwM2M 1.0 §6.4.1).
pub(super) fn read(found: &mut Found, payload: &[u8]) -> Result<(), ContentError> {
    let text = std::str::from_utf8(payload).map_err(|_| ContentError::Malformed {
        format: "text",
        problem: "not UTF-8",
    })?;
    found.single(Value::Text(text.to_owned()))
}
