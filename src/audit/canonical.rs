use std::fmt::Write;

use serde_json::Value;

/// The one form of a JSON value that is hashed: no white space, the fields of objects in the order of their names (by Unicode code
/// points), text in UTF-8 in which only `"`, `\` and control characters are escaped, whole numbers as they are. Numbers that are not
/// whole become text: languages differ in how they write them.
///
/// Python's `json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)` writes the same.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            let _ = write!(out, "{number}"); // writing to a String does not fail
        }
        Value::Number(number) => text(&number.to_string(), out),
        Value::String(value) => text(value, out),
        Value::Array(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(value, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| name.as_str());
            out.push('{');
            for (at, (name, value)) in fields.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                text(name, out);
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
    }
}

/// RFC 8259 §7, with the short escapes where there are some.
fn text(value: &str, out: &mut String) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c)); // writing to a String does not fail
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
