//! The fields of a QuecThing frame: a tag, and what its type says.
//!
//! The tag is a 16-bit number: the field's ID above, its type in the lowest three bits. Numbers are big-endian. Types 0 and 1 are
//! false and true; 2 is a number (a byte of sign, decimals and length, then the magnitude); 3 and 5 are bytes with a 16-bit length; 4
//! is a struct: a 16-bit count of fields, which follow.
//! Layout: the public description of the Acceleronix Developer Center, and `jordankurtz/ha-pecron-local` on GitHub.

/// Fields of a payload, those in structs included, that are read.
pub const MAX_FIELDS: usize = 256;
/// Structs in structs that are read; the first field of a payload has depth 0.
pub const MAX_DEPTH: usize = 4;
/// The largest ID: 13 bits.
pub const MAX_ID: u16 = 0x1FFF;
/// Digits behind a number's point that its head has room for.
const MAX_DECIMALS: u8 = 15;

/// A field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// What it is: up to [`MAX_ID`]; what is above is cut when it is written.
    pub id: u16,
    /// What it says.
    pub value: Value,
}

/// What a field says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Yes or no.
    Bool(bool),
    /// A number: its magnitude, divided by ten as often as it has decimals, with its sign.
    Number {
        /// It is below zero.
        negative: bool,
        /// Digits behind the point, 0 to 15.
        decimals: u8,
        /// Its digits.
        magnitude: u64,
    },
    /// Bytes: a text, mostly. What is longer than 65,535 bytes is cut when it is written.
    Bytes(Vec<u8>),
    /// Fields.
    Struct(Vec<Field>),
}

/// Why bytes are no fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// They end within a field.
    #[error("it ends within a field")]
    Cut,
    /// There is no such type.
    #[error("field {id} has type {kind}, which there is not")]
    Type {
        /// The field.
        id: u16,
        /// Its type, 0 to 7.
        kind: u8,
    },
    /// There are too many.
    #[error("it has more than {MAX_FIELDS} fields")]
    TooMany,
    /// Too many structs are in one another.
    #[error("structs are more than {MAX_DEPTH} deep in one another")]
    TooDeep,
}

impl Value {
    /// A whole number.
    pub const fn number(magnitude: u64) -> Self {
        Self::Number {
            negative: false,
            decimals: 0,
            magnitude,
        }
    }

    /// A text.
    pub fn text(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }

    /// The whole number of zero or more that it is. Some devices tell numbers as texts.
    pub fn as_number(&self) -> Option<u64> {
        match self {
            Self::Bool(it) => Some(u64::from(*it)),
            Self::Number {
                negative: false,
                decimals: 0,
                magnitude,
            } => Some(*magnitude),
            Self::Number { .. } | Self::Struct(_) => None,
            Self::Bytes(bytes) => str::from_utf8(bytes).ok()?.trim().parse().ok(),
        }
    }
}

/// Reads fields until the bytes end.
///
/// # Errors
/// They are none, or more than are read.
pub fn read(bytes: &[u8]) -> Result<Vec<Field>, FieldError> {
    let mut reader = Reader {
        rest: bytes,
        fields: 0,
    };
    let mut fields = Vec::new();
    while !reader.rest.is_empty() {
        fields.push(reader.field(0)?);
    }
    Ok(fields)
}

struct Reader<'b> {
    rest: &'b [u8],
    /// So many were read.
    fields: usize,
}

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], FieldError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(FieldError::Cut)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A big-endian number of `count` bytes, 8 at most.
    fn number(&mut self, count: usize) -> Result<u64, FieldError> {
        let bytes = self.take(count)?.iter();
        Ok(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn short(&mut self) -> Result<u16, FieldError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]])) // two were taken
    }

    fn field(&mut self, depth: usize) -> Result<Field, FieldError> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(FieldError::TooMany);
        }
        let tag = self.short()?;
        let id = tag >> 3;
        let value = match tag & 7 {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            2 => {
                let head = self.take(1)?[0]; // one was taken
                Value::Number {
                    negative: head & 0x80 != 0,
                    decimals: head >> 3 & MAX_DECIMALS,
                    magnitude: self.number(usize::from(head & 7) + 1)?,
                }
            }
            3 | 5 => {
                let count = usize::from(self.short()?);
                Value::Bytes(self.take(count)?.to_vec())
            }
            4 if depth == MAX_DEPTH => return Err(FieldError::TooDeep),
            4 => {
                let count = self.short()?;
                let within = (0..count).map(|_| self.field(depth + 1));
                Value::Struct(within.collect::<Result<_, _>>()?)
            }
            kind => {
                let kind = u8::try_from(kind).unwrap_or(u8::MAX); // three bits
                return Err(FieldError::Type { id, kind });
            }
        };
        Ok(Field { id, value })
    }
}

/// Writes fields one after the other.
pub fn write(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        write_field(field, &mut bytes);
    }
    bytes
}

fn write_field(Field { id, value }: &Field, bytes: &mut Vec<u8>) {
    let tag = |kind: u16| ((id & MAX_ID) << 3 | kind).to_be_bytes();
    match value {
        Value::Bool(it) => bytes.extend(tag(u16::from(*it))),
        Value::Number {
            negative,
            decimals,
            magnitude,
        } => {
            let digits = magnitude.to_be_bytes();
            let zeros = digits.iter().take(7).take_while(|byte| **byte == 0);
            let digits = &digits[zeros.count()..]; // at most seven of eight are left out
            let length = u8::try_from(digits.len() - 1).unwrap_or(7); // 0 to 7
            let sign = u8::from(*negative) << 7;
            bytes.extend(tag(2));
            bytes.push(sign | (decimals & MAX_DECIMALS) << 3 | length);
            bytes.extend(digits);
        }
        Value::Bytes(content) => {
            let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
            bytes.extend(tag(3));
            bytes.extend(length.to_be_bytes());
            bytes.extend(&content[..usize::from(length)]);
        }
        Value::Struct(fields) => {
            let count = u16::try_from(fields.len()).unwrap_or(u16::MAX);
            bytes.extend(tag(4));
            bytes.extend(count.to_be_bytes());
            for field in &fields[..usize::from(count)] {
                write_field(field, bytes);
            }
        }
    }
}
