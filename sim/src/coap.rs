//! CoAP messages, read and written (RFC 7252 §3).
//!
//! The simulator has a codec of its own, and shares none with the server under test: a
//! misunderstanding of the standard must not be able to cancel itself out.

use std::fmt;

use thiserror::Error;

pub use block::Block;

mod block;

/// Option numbers (RFC 7252 §5.10, RFC 7641 §2, RFC 7959 §2.1 and §4).
pub mod option {
    /// Host of the request, when it differs from the address.
    pub const URI_HOST: u16 = 3;
    /// Names a representation, the same for all its blocks.
    pub const ETAG: u16 = 4;
    /// Asks for notifications, or numbers one.
    pub const OBSERVE: u16 = 6;
    /// Port of the request, when it differs from the address.
    pub const URI_PORT: u16 = 7;
    /// One segment of the path of a created resource.
    pub const LOCATION_PATH: u16 = 8;
    /// One segment of the request's path.
    pub const URI_PATH: u16 = 11;
    /// What the payload is written in.
    pub const CONTENT_FORMAT: u16 = 12;
    /// One argument of the request.
    pub const URI_QUERY: u16 = 15;
    /// What the response should be written in.
    pub const ACCEPT: u16 = 17;
    /// Which block of the response is meant.
    pub const BLOCK2: u16 = 23;
    /// Which block of the request this is.
    pub const BLOCK1: u16 = 27;
    /// How long the response's body is; 0 in a request asks for that.
    pub const SIZE2: u16 = 28;
    /// How long the request's body is.
    pub const SIZE1: u16 = 60;
}

/// The four kinds of messages (RFC 7252 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// To be acknowledged.
    Confirmable,
    /// Not to be acknowledged.
    NonConfirmable,
    /// Acknowledges a confirmable message, often with the response.
    Acknowledgement,
    /// The message could not be processed.
    Reset,
}

/// A method or a response code: class in the upper three bits, detail below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u8);

impl Code {
    /// Neither request nor response.
    pub const EMPTY: Self = Self::new(0, 0);
    /// Reads, or observes.
    pub const GET: Self = Self::new(0, 1);
    /// Registers, updates, executes.
    pub const POST: Self = Self::new(0, 2);
    /// Writes.
    pub const PUT: Self = Self::new(0, 3);
    /// Deletes.
    pub const DELETE: Self = Self::new(0, 4);
    /// Registered.
    pub const CREATED: Self = Self::new(2, 1);
    /// Written, or updated.
    pub const CHANGED: Self = Self::new(2, 4);
    /// Read, or a notification.
    pub const CONTENT: Self = Self::new(2, 5);
    /// The block was taken, and the next is awaited (RFC 7959 §2.9.1).
    pub const CONTINUE: Self = Self::new(2, 31);
    /// What was sent makes no sense.
    pub const BAD_REQUEST: Self = Self::new(4, 0);
    /// A critical option is not understood.
    pub const BAD_OPTION: Self = Self::new(4, 2);
    /// No such resource.
    pub const NOT_FOUND: Self = Self::new(4, 4);
    /// The resource exists, but not for this method.
    pub const METHOD_NOT_ALLOWED: Self = Self::new(4, 5);
    /// No representation that the client accepts.
    pub const NOT_ACCEPTABLE: Self = Self::new(4, 6);
    /// A block is missing (RFC 7959 §2.9.2).
    pub const REQUEST_ENTITY_INCOMPLETE: Self = Self::new(4, 8);
    /// What was sent has a form that is not read.
    pub const UNSUPPORTED_CONTENT_FORMAT: Self = Self::new(4, 15);
    /// The other side cannot do it.
    pub const INTERNAL_SERVER_ERROR: Self = Self::new(5, 0);

    /// The code `class.detail`, as in 4.04.
    pub const fn new(class: u8, detail: u8) -> Self {
        Self((class << 5) | (detail & 0x1F))
    }

    /// 0 for requests, 2, 4 and 5 for responses.
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// Whether this is a method.
    pub const fn is_request(self) -> bool {
        self.class() == 0 && self.0 != 0
    }
}

/// As in `2.05`.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.0 & 0x1F)
    }
}

/// What ties a response to its request: up to 8 bytes of the requester's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Token {
    len: u8,
    bytes: [u8; 8],
}

impl Token {
    /// A token of at most 8 bytes, `None` for more.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut token = Self {
            len: u8::try_from(bytes.len()).ok()?,
            bytes: [0; 8],
        };
        token.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(token)
    }

    /// The token's bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Why a datagram is not a CoAP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ParseError {
    /// Ends inside the header or the token.
    #[error("{len} bytes do not hold the header and its token")]
    TooShort {
        /// Bytes in the datagram.
        len: usize,
    },
    /// Not version 1.
    #[error("version {0} instead of 1")]
    Version(u8),
    /// Token lengths 9 to 15 are reserved.
    #[error("token length {0} is reserved")]
    TokenLength(u8),
    /// Classes 1, 6 and 7 are reserved.
    #[error("code {0} is reserved")]
    ReservedCode(Code),
    /// An empty message is its header alone.
    #[error("an empty message has {len} bytes instead of 4")]
    EmptyWithContent {
        /// Bytes in the datagram.
        len: usize,
    },
    /// An option is cut off, or uses a reserved length.
    #[error("the option after number {after} is malformed")]
    Option {
        /// Number of the option before it, 0 for none.
        after: u16,
    },
    /// The payload marker is there, the payload is not.
    #[error("a payload is announced and missing")]
    MissingPayload,
}

/// A message, borrowed from its datagram.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Confirmable or not, acknowledgement or reset.
    pub message_type: MessageType,
    /// Method or response code.
    pub code: Code,
    /// What acknowledgements and repeats are matched by.
    pub id: u16,
    /// What responses are matched by.
    pub token: Token,
    /// Everything after the options.
    pub payload: &'a [u8],
    options: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a datagram. All options are checked here, so that [`Self::options`] cannot fail.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let too_short = ParseError::TooShort { len: bytes.len() };
        let (&[first, code, id_high, id_low], rest) = bytes.split_first_chunk().ok_or(too_short)?;
        if first >> 6 != 1 {
            return Err(ParseError::Version(first >> 6));
        }
        let code = Code(code);
        if matches!(code.class(), 1 | 6 | 7) {
            return Err(ParseError::ReservedCode(code));
        }
        if code == Code::EMPTY && bytes.len() != 4 {
            return Err(ParseError::EmptyWithContent { len: bytes.len() });
        }
        let token_len = first & 0x0F;
        if token_len > 8 {
            return Err(ParseError::TokenLength(token_len));
        }
        let (token, rest) = rest
            .split_at_checked(usize::from(token_len))
            .ok_or(too_short)?;

        let mut options = Options {
            rest,
            number: 0,
            failed: false,
        };
        options.by_ref().for_each(drop);
        if options.failed {
            return Err(ParseError::Option {
                after: options.number,
            });
        }
        let payload = match options.rest {
            [] => &[],
            [_marker] => return Err(ParseError::MissingPayload),
            [_marker, payload @ ..] => payload,
        };
        Ok(Self {
            message_type: match (first >> 4) & 0x03 {
                0 => MessageType::Confirmable,
                1 => MessageType::NonConfirmable,
                2 => MessageType::Acknowledgement,
                _ => MessageType::Reset,
            },
            code,
            id: u16::from_be_bytes([id_high, id_low]),
            token: Token::new(token).ok_or(too_short)?,
            payload,
            options: &rest[..rest.len() - options.rest.len()],
        })
    }

    /// All options with their numbers, in the order of the message.
    pub const fn options(&self) -> Options<'a> {
        Options {
            rest: self.options,
            number: 0,
            failed: false,
        }
    }

    /// The values of all options with this number.
    pub fn values(&self, number: u16) -> impl Iterator<Item = &'a [u8]> {
        self.options()
            .filter(move |(found, _)| *found == number)
            .map(|(_, value)| value)
    }

    /// The first option with this number as an integer, `None` when absent or above 32 bits.
    pub fn uint(&self, number: u16) -> Option<u32> {
        let value = self.values(number).next()?;
        if value.len() > 4 {
            return None;
        }
        Some(
            value
                .iter()
                .fold(0, |value, byte| (value << 8) | u32::from(*byte)),
        )
    }
}

/// Walks through the options of a message.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    rest: &'a [u8],
    number: u16,
    failed: bool,
}

impl<'a> Options<'a> {
    /// RFC 7252 §3.1: a delta and a length of 4 bits each, extended by up to two bytes each.
    fn step(&mut self) -> Option<(u16, &'a [u8])> {
        let (first, rest) = self.rest.split_first()?;
        let (delta, rest) = extended(first >> 4, rest)?;
        let (len, rest) = extended(first & 0x0F, rest)?;
        let number = u16::try_from(u32::from(self.number) + delta).ok()?;
        let (value, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.number = number;
        self.rest = rest;
        Some((number, value))
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || matches!(self.rest, [] | [PAYLOAD_MARKER, ..]) {
            return None;
        }
        let option = self.step();
        self.failed = option.is_none();
        option
    }
}

const PAYLOAD_MARKER: u8 = 0xFF;

fn extended(nibble: u8, rest: &[u8]) -> Option<(u32, &[u8])> {
    match nibble {
        13 => {
            let (byte, rest) = rest.split_first()?;
            Some((u32::from(*byte) + 13, rest))
        }
        14 => {
            let (bytes, rest) = rest.split_first_chunk()?;
            Some((u32::from(u16::from_be_bytes(*bytes)) + 269, rest))
        }
        15 => None,
        nibble => Some((u32::from(nibble), rest)),
    }
}

/// Writes one message.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    number: u16,
}

impl Writer {
    /// Begins a message with header and token.
    pub fn new(message_type: MessageType, code: Code, id: u16, token: Token) -> Self {
        let bits = match message_type {
            MessageType::Confirmable => 0,
            MessageType::NonConfirmable => 1,
            MessageType::Acknowledgement => 2,
            MessageType::Reset => 3,
        };
        let [id_high, id_low] = id.to_be_bytes();
        let mut bytes = Vec::with_capacity(64);
        bytes.extend([0x40 | (bits << 4) | token.len, code.0, id_high, id_low]);
        bytes.extend(token.as_slice());
        Self { bytes, number: 0 }
    }

    /// An acknowledgement or reset without content.
    pub fn empty(message_type: MessageType, id: u16) -> Vec<u8> {
        Self::new(message_type, Code::EMPTY, id, Token::default()).finish()
    }

    /// Adds an option of at most 65,804 bytes. Options go in ascending order of their numbers, as on
    /// the wire (RFC 7252 §3.1).
    #[must_use]
    pub fn option(mut self, number: u16, value: &[u8]) -> Self {
        debug_assert!(number >= self.number, "options out of order");
        let delta = usize::from(number.saturating_sub(self.number));
        self.bytes.push((nibble(delta) << 4) | nibble(value.len()));
        push_extension(&mut self.bytes, delta);
        push_extension(&mut self.bytes, value.len());
        self.bytes.extend(value);
        self.number = number;
        self
    }

    /// Adds an option that is an integer, in as few bytes as it needs (RFC 7252 §3.2).
    #[must_use]
    pub fn uint(self, number: u16, value: u32) -> Self {
        let bytes = value.to_be_bytes();
        let zeros = usize::try_from(value.leading_zeros() / 8).unwrap_or(0);
        self.option(number, &bytes[zeros..])
    }

    /// Ends the message with a payload, none when it is empty.
    pub fn payload(mut self, payload: &[u8]) -> Vec<u8> {
        if !payload.is_empty() {
            self.bytes.push(PAYLOAD_MARKER);
            self.bytes.extend(payload);
        }
        self.bytes
    }

    /// Ends the message without a payload.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

const fn nibble(value: usize) -> u8 {
    match value {
        0..13 => value.to_le_bytes()[0],
        13..269 => 13,
        _ => 14,
    }
}

fn push_extension(bytes: &mut Vec<u8>, value: usize) {
    match value {
        0..13 => {}
        13..269 => bytes.push((value - 13).to_le_bytes()[0]),
        _ => {
            let [low, high, ..] = (value - 269).to_le_bytes();
            bytes.extend([high, low]);
        }
    }
}

#[cfg(test)]
mod tests;
