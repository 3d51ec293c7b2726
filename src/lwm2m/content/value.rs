/// A resource's value, with as much of its type as the format tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number, or a time in seconds since 1970.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text; in the format text/plain also any other type, written out.
    Text(String),
    /// Yes or no.
    Bool(bool),
    /// Bytes that mean something to the device.
    Opaque(Vec<u8>),
    /// Bytes of TLV: the object's definition says what they are.
    Untyped(Vec<u8>),
}

impl Value {
    /// The value as a whole number, rounded; `None` when it is no number or does not fit.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            Self::Float(value) => rounded(*value),
            Self::Text(text) => number(text),
            Self::Untyped(bytes) => signed(bytes),
            Self::Bool(_) | Self::Opaque(_) => None,
        }
    }

    /// The instance that an object link leads to (LwM2M 1.1 Core §C: an object's number and an instance's).
    pub fn as_link(&self) -> Option<(u16, u16)> {
        match self {
            Self::Untyped(bytes) | Self::Opaque(bytes) => {
                let [a, b, c, d] = bytes[..].try_into().ok()?;
                Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
            }
            Self::Text(text) => {
                let (object, instance) = text.split_once(':')?;
                Some((object.parse().ok()?, instance.parse().ok()?))
            }
            _ => None,
        }
    }

    /// The value as text, without what some firmware pads it with; `None` when it is no text.
    pub fn as_text(&self) -> Option<String> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Opaque(bytes) | Self::Untyped(bytes) => String::from_utf8(bytes.clone()).ok()?,
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Bool(_) => return None,
        };
        Some(text.trim_matches(['\0', ' ', '\r', '\n', '\t']).to_owned())
    }

    /// The value of a resource that is never negative, as a whole number.
    ///
    /// TLV has no unsigned numbers, yet devices write the bytes of one: of a number that cannot be
    /// negative, bytes with the highest bit set are taken as they stand.
    pub fn as_unsigned(&self) -> Option<u64> {
        let unsigned = |value| u64::try_from(value).ok();
        match self {
            Self::Untyped(bytes) => match bytes[..] {
                [a] => Some(a.into()),
                [a, b] => Some(u16::from_be_bytes([a, b]).into()),
                [a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d]).into()),
                _ => signed(bytes).and_then(unsigned),
            },
            _ => self.as_integer().and_then(unsigned),
        }
    }
}

impl Value {
    /// A number with its fraction; `None` for what is no number.
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            #[allow(clippy::cast_precision_loss)]
            // for times, where a second more or less means nothing
            Self::Integer(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of a resource that is the number of a cell, below 2^32.
    ///
    /// In text a cell may be told in hexadecimal, as modems show it (3GPP TS 27.007, +CEREG): with `0x` in front, or
    /// with a letter in it. Digits alone are decimal.
    pub fn as_cell_id(&self) -> Option<u32> {
        let text = match self {
            Self::Text(text) => text,
            Self::Untyped(bytes) => match self.as_unsigned().map(u32::try_from) {
                Some(Ok(id)) => return Some(id),
                // the bytes of a number that is too large may be digits of one that is not
                _ => std::str::from_utf8(bytes).ok()?,
            },
            _ => return self.as_unsigned().and_then(|id| u32::try_from(id).ok()),
        };
        let text = text.trim();
        if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            return hexadecimal(digits);
        }
        match number(text) {
            Some(id) => u32::try_from(id).ok(),
            None => hexadecimal(text),
        }
    }

    /// What it is, for people: quoted text, a number, or bytes in hexadecimal; the beginning of what is long.
    pub fn shown(&self) -> String {
        const MOST: usize = 32;
        match self {
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Text(text) => format!("{:?}", text.chars().take(MOST).collect::<String>()),
            Self::Opaque(bytes) | Self::Untyped(bytes) => {
                format!("0x{}", hex::encode(&bytes[..bytes.len().min(MOST)]))
            }
        }
    }
}

fn hexadecimal(digits: &str) -> Option<u32> {
    // `from_str_radix` alone would take a sign
    let fine = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| fine)
}

/// Integers of 1, 2, 4 or 8 bytes, two's complement (LwM2M 1.0 Appendix C). No integer has another
/// length, so such bytes can only be digits.
fn signed(bytes: &[u8]) -> Option<i64> {
    match bytes.len() {
        1 | 2 | 4 | 8 => {
            let negative = bytes[0] & 0x80 != 0;
            let mut extended = if negative { [0xFF; 8] } else { [0; 8] };
            extended[8 - bytes.len()..].copy_from_slice(bytes);
            Some(i64::from_be_bytes(extended))
        }
        _ => number(std::str::from_utf8(bytes).ok()?),
    }
}

/// Decimal digits, perhaps with a sign and a fraction. Not with an exponent, which no firmware means: what looks like
/// one is hexadecimal.
fn number(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let decimal = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !decimal(whole) || !decimal(fraction) {
        return None;
    }
    text.parse()
        .ok()
        .or_else(|| text.parse().ok().and_then(rounded))
}

fn rounded(value: f64) -> Option<i64> {
    const TOO_LARGE: f64 = 9_223_372_036_854_775_808.0; // 2^63
    let value = value.round();
    #[allow(clippy::cast_possible_truncation)] // the guard leaves what fits
    (-TOO_LARGE..TOO_LARGE)
        .contains(&value)
        .then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn untyped(bytes: &[u8]) -> Value {
        Value::Untyped(bytes.to_vec())
    }

    #[test]
    fn reads_whole_numbers_from_whatever_came() {
        for (value, expected) in [
            (Value::Integer(-95), Some(-95)),
            (Value::Float(-95.4), Some(-95)),
            (Value::Float(-95.5), Some(-96)),
            (Value::Float(f64::NAN), None),
            (Value::Float(f64::INFINITY), None),
            (Value::Float(1e19), None),
            (Value::Text("-95".into()), Some(-95)),
            (Value::Text(" -95.0\r\n".into()), Some(-95)),
            (Value::Text("+7".into()), Some(7)),
            (Value::Text("-95.".into()), Some(-95)),
            (Value::Text("1e2".into()), None),
            (Value::Text("1E5".into()), None),
            (Value::Text("0x5F".into()), None),
            (Value::Text("-".into()), None),
            (Value::Text("+.".into()), None),
            (Value::Text("1.-2".into()), None),
            (Value::Text("1.2.3".into()), None),
            (Value::Text("--1".into()), None),
            (untyped(b"1E5"), None),
            (Value::Text("inf".into()), None),
            (Value::Text("NaN".into()), None),
            (Value::Text(String::new()), None),
            (Value::Text("-95 dBm".into()), None),
            (Value::Bool(true), None),
            (Value::Opaque(vec![1]), None),
            (untyped(&[0xA1]), Some(-95)),
            (untyped(&[0xFF, 0xA1]), Some(-95)),
            (untyped(&[0xFF, 0xFF, 0xFF, 0xA1]), Some(-95)),
            (untyped(&(-95i64).to_be_bytes()), Some(-95)),
            (untyped(b"-95"), Some(-95)),
            (untyped(b"-95.0"), Some(-95)),
            (untyped(&[]), None),
            (untyped(&[0, 0, 1]), None),
            (untyped(&[0; 9]), None),
        ] {
            assert_eq!(value.as_integer(), expected, "{value:?}");
        }
    }

    #[test]
    fn a_number_that_is_never_negative_uses_its_highest_bit() {
        for (value, expected) in [
            (untyped(&[0xA1]), Some(0xA1)),
            (untyped(&[0xC3, 0x50]), Some(50_000)),
            (untyped(&[0xF0, 0, 0, 1]), Some(0xF000_0001)),
            (untyped(&(-1i64).to_be_bytes()), None),
            (untyped(b"12345"), Some(12_345)),
            (Value::Integer(-1), None),
            (Value::Text("-1".into()), None),
            (Value::Float(17.0), Some(17)),
        ] {
            assert_eq!(value.as_unsigned(), expected, "{value:?}");
        }
    }

    #[test]
    fn a_cell_may_be_told_in_hexadecimal_text() {
        let text = |text: &str| Value::Text(text.into());
        for (value, expected) in [
            (text("12345"), Some(12_345)),
            (text(" 12345.0\r\n"), Some(12_345)),
            (text("0012"), Some(12)),
            (text("0x0012"), Some(0x12)),
            (text("0X1E5"), Some(0x1E5)),
            (text("1E5"), Some(0x1E5)),
            (text("0abcDEF1"), Some(0x0ABC_DEF1)),
            (text("FFFFFFFF"), Some(u32::MAX)),
            (text("1FFFFFFFF"), None),
            (text("4294967296"), None),
            (text("-12"), None),
            (text("-AB"), None),
            (text("+AB"), None),
            (text("1E-5"), None),
            (text("0x"), None),
            (text("0x+1"), None),
            (text(""), None),
            (text("cell"), None),
            (Value::Integer(17), Some(17)),
            (Value::Integer(1 << 32), None),
            (Value::Float(17.0), Some(17)),
            (Value::Bool(true), None),
            (Value::Opaque(vec![1]), None),
            (untyped(&[0xC3, 0x50]), Some(50_000)),
            (untyped(b"12345"), Some(12_345)),
            (untyped(b"1E5"), Some(0x1E5)),
            // as long as an integer of 64 bits, which it cannot be
            (untyped(b"0ABCDEF1"), Some(0x0ABC_DEF1)),
            (untyped(&[0xFF; 8]), None),
        ] {
            assert_eq!(value.as_cell_id(), expected, "{value:?}");
        }
    }

    #[test]
    fn is_shown_in_few_characters() {
        for (value, expected) in [
            (Value::Integer(-95), "-95"),
            (Value::Float(1.5), "1.5"),
            (Value::Bool(true), "true"),
            (Value::Text("a\"b\n".into()), r#""a\"b\n""#),
            (Value::Opaque(vec![0xAB]), "0xab"),
        ] {
            assert_eq!(value.shown(), expected);
        }
        assert_eq!(
            Value::Text("\u{fffd}".repeat(999)).shown().chars().count(),
            34
        );
        assert_eq!(untyped(&[0; 999]).shown().len(), 66);
    }
}
