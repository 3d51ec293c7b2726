use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;
use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
use thiserror::Error;

use super::Datagram;

/// The longest datagram that is looked at, bytes. PCP frames and block-wise transfers stay well
/// below (RFC 7252 §4.6 suggests 1152).
pub const MAX_DATAGRAM_LEN: usize = 1500;

/// CoAP content formats that appear between LwM2M clients and servers (IANA "CoAP Content-Formats").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentFormat(pub u16);

impl ContentFormat {
    /// text/plain
    pub const TEXT: Self = Self(0);
    /// application/link-format
    pub const LINK_FORMAT: Self = Self(40);
    /// application/octet-stream
    pub const OCTET_STREAM: Self = Self(42);
}

/// Message type, RFC 7252 §3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Wants an acknowledgement.
    Confirmable,
    /// Does not.
    NonConfirmable,
    /// Acknowledges.
    Acknowledgement,
    /// Rejects.
    Reset,
}

/// Method or response code: 3 bits of class, 5 bits of detail (RFC 7252 §3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u8);

#[allow(missing_docs)] // the names are the registry's: RFC 7252 §12.1, RFC 7959 §6
impl Code {
    pub const EMPTY: Self = Self(0);
    pub const GET: Self = Self(1);
    pub const POST: Self = Self(2);
    pub const PUT: Self = Self(3);
    pub const DELETE: Self = Self(4);
    pub const CREATED: Self = Self::of(2, 1);
    pub const DELETED: Self = Self::of(2, 2);
    pub const CHANGED: Self = Self::of(2, 4);
    pub const CONTENT: Self = Self::of(2, 5);
    pub const CONTINUE: Self = Self::of(2, 31);
    pub const BAD_REQUEST: Self = Self::of(4, 0);
    pub const BAD_OPTION: Self = Self::of(4, 2);
    pub const FORBIDDEN: Self = Self::of(4, 3);
    pub const NOT_FOUND: Self = Self::of(4, 4);
    pub const METHOD_NOT_ALLOWED: Self = Self::of(4, 5);
    pub const NOT_ACCEPTABLE: Self = Self::of(4, 6);
    pub const REQUEST_ENTITY_INCOMPLETE: Self = Self::of(4, 8);
    pub const PRECONDITION_FAILED: Self = Self::of(4, 12);
    pub const REQUEST_ENTITY_TOO_LARGE: Self = Self::of(4, 13);
    pub const UNSUPPORTED_CONTENT_FORMAT: Self = Self::of(4, 15);
    pub const INTERNAL_SERVER_ERROR: Self = Self::of(5, 0);
    pub const NOT_IMPLEMENTED: Self = Self::of(5, 1);
    pub const SERVICE_UNAVAILABLE: Self = Self::of(5, 3);
    pub const PROXYING_NOT_SUPPORTED: Self = Self::of(5, 5);
}

impl Code {
    const fn of(class: u8, detail: u8) -> Self {
        Self(class << 5 | detail)
    }

    /// 0 request, 2 success, 4 client error, 5 server error; others are reserved.
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// Whether this is a method.
    pub const fn is_request(self) -> bool {
        self.class() == 0 && self.0 != 0
    }

    /// Whether this is a response code.
    pub const fn is_response(self) -> bool {
        matches!(self.class(), 2 | 4 | 5)
    }

    /// Whether this is a response code of success.
    pub const fn is_success(self) -> bool {
        self.class() == 2
    }
}

/// As RFC 7252 writes it: `4.04`.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.0 & 0x1F)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Matches a response to its request: 0 to 8 bytes (RFC 7252 §5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Token {
    len: u8,
    bytes: [u8; 8],
}

impl Token {
    /// Bytes that a token may have.
    pub(super) const MAX_LEN: usize = 8;

    /// A token of up to 8 bytes; longer input is cut, and the parser lets none through.
    pub fn new(bytes: &[u8]) -> Self {
        let mut token = Self::default();
        for (to, from) in token.bytes.iter_mut().zip(bytes) {
            *to = *from;
            token.len += 1;
        }
        token
    }

    /// The token's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Tells a request's resource from others of the same peer: its method, its URI (RFC 7252 §6.5) as far as that tells resources of this
/// server apart, and the tag that its client may have given it (RFC 9175 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Resource(pub(super) u64);

/// Why a datagram is no CoAP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MalformedReason {
    /// Shorter than the header.
    #[error("shorter than the header of 4 bytes")]
    TooShort,
    /// Longer than [`MAX_DATAGRAM_LEN`].
    #[error("longer than {MAX_DATAGRAM_LEN} bytes")]
    TooLong,
    /// Not version 1: must be ignored silently (RFC 7252 §3).
    #[error("unknown CoAP version {0}")]
    Version(u8),
    /// The token length is reserved, an option is cut short, the payload marker has no payload, or an
    /// empty message has more than a token.
    #[error("message format error")]
    Format,
    /// A code whose class is reserved.
    #[error("reserved code {0}")]
    ReservedCode(Code),
}

/// A datagram that is no CoAP message, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong with it.
    pub reason: MalformedReason,
    /// The answer: a Reset for a Confirmable message, silence for anything else (RFC 7252 §4.2, §4.3).
    pub reply: Option<[u8; 4]>,
}

/// A CoAP message that was received, borrowed from its datagram: reading one costs no memory, and almost everything
/// that a server does is reading them.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    kind: Kind,
    code: Code,
    id: u16,
    token: Token,
    /// All options, known to be well-formed.
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Parses a datagram.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let silent = |reason| Malformed {
            reason,
            reply: None,
        };
        let Some((&[first, code, id0, id1], rest)) = bytes.split_first_chunk() else {
            return Err(silent(MalformedReason::TooShort));
        };
        if first >> 6 != 1 {
            return Err(silent(MalformedReason::Version(first >> 6)));
        }
        let kind = match first >> 4 & 3 {
            0 => Kind::Confirmable,
            1 => Kind::NonConfirmable,
            2 => Kind::Acknowledgement,
            _ => Kind::Reset,
        };
        let message_id = u16::from_be_bytes([id0, id1]);
        let reject = |reason| Malformed {
            reason,
            reply: (kind == Kind::Confirmable).then(|| reset(message_id)),
        };
        if bytes.len() > MAX_DATAGRAM_LEN {
            return Err(reject(MalformedReason::TooLong));
        }
        let code = Code(code);
        if matches!(code.class(), 1 | 3 | 6 | 7) {
            return Err(reject(MalformedReason::ReservedCode(code)));
        }
        let format_error = || reject(MalformedReason::Format);
        let token_len = usize::from(first & 0x0F);
        let (token, rest) = (rest.split_at_checked(token_len))
            .filter(|_| token_len <= Token::MAX_LEN)
            .ok_or_else(format_error)?;
        // RFC 7252 §4.1. A token in an empty message is against the rules too, and does no harm: some stacks acknowledge so.
        if code == Code::EMPTY && !rest.is_empty() {
            return Err(format_error());
        }
        let (options, payload) = split_options(rest).ok_or_else(format_error)?;
        Ok(Self {
            kind,
            code,
            id: message_id,
            token: Token::new(token),
            options,
            payload,
        })
    }

    /// Message type.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Method or response code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Message ID.
    pub const fn message_id(&self) -> u16 {
        self.id
    }

    /// Token.
    pub const fn token(&self) -> Token {
        self.token
    }

    /// Payload, empty when there is none.
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The segments of Uri-Path.
    pub fn path(&self) -> Vec<&'a [u8]> {
        self.values(CoapOption::UriPath).collect()
    }

    /// The segments of Location-Path.
    pub fn location(&self) -> Vec<&'a [u8]> {
        self.values(CoapOption::LocationPath).collect()
    }

    /// The parameters of Uri-Query.
    pub fn queries(&self) -> impl Iterator<Item = &'a [u8]> {
        self.values(CoapOption::UriQuery)
    }

    /// What the request is for.
    pub fn resource(&self) -> Resource {
        const REQUEST_TAG: u16 = 292;
        let mut hasher = DefaultHasher::new();
        self.code().0.hash(&mut hasher);
        let tells = [
            u16::from(CoapOption::UriPath),
            u16::from(CoapOption::UriQuery),
            REQUEST_TAG,
        ];
        for option in self.options().filter(|(number, _)| tells.contains(number)) {
            option.hash(&mut hasher);
        }
        Resource(hasher.finish())
    }

    /// Observe (RFC 7641), as a notification or a registration carries it.
    pub fn observe(&self) -> Option<u32> {
        self.uint(CoapOption::Observe)
    }

    /// Content-Format.
    pub fn content_format(&self) -> Option<ContentFormat> {
        let value = self.uint(CoapOption::ContentFormat)?;
        u16::try_from(value).ok().map(ContentFormat)
    }

    /// Accept.
    pub fn accept(&self) -> Option<ContentFormat> {
        let value = self.uint(CoapOption::Accept)?;
        u16::try_from(value).ok().map(ContentFormat)
    }

    /// Block1 in its encoded form: describes a part of the request's body (RFC 7959 §2.2).
    pub fn block1(&self) -> Option<u32> {
        self.uint(CoapOption::Block1)
    }

    /// Block2 in its encoded form: describes a part of the response's body (RFC 7959 §2.2).
    pub fn block2(&self) -> Option<u32> {
        self.uint(CoapOption::Block2)
    }

    /// Size1: how long a request's body is, or may be, bytes (RFC 7959 §4).
    pub fn size1(&self) -> Option<u32> {
        self.uint(CoapOption::Size1)
    }

    /// Whether the request asks for a forward proxy.
    pub fn wants_proxy(&self) -> bool {
        [CoapOption::ProxyUri, CoapOption::ProxyScheme]
            .into_iter()
            .any(|option| self.values(option).next().is_some())
    }

    /// The first critical option that a server without proxy does not know, or that is too long: such a request must be
    /// answered 4.02 or, when Non-confirmable, rejected (RFC 7252 §5.4.1). Odd numbers are critical. One that may not be
    /// repeated is unknown the second time (§5.4.5).
    pub fn unknown_critical_option(&self) -> Option<u16> {
        const REPEATABLE: [u16; 2] = [
            11, // Uri-Path
            15, // Uri-Query
        ];
        // with the most bytes that each may have: a longer one is unknown (§5.4.3)
        const SINGLE: [(u16, usize); 5] = [
            (3, 255), // Uri-Host
            (7, 2),   // Uri-Port
            (17, 2),  // Accept
            (23, 3),  // Block2
            (27, 3),  // Block1
        ];
        let mut before = None;
        let unknown = self.options().find(|(number, value)| {
            let again = before.replace(*number) == Some(*number);
            let single = (SINGLE.iter())
                .any(|(known, most)| known == number && value.len() <= *most && !again);
            number % 2 == 1 && !REPEATABLE.contains(number) && !single
        });
        unknown.map(|(number, _)| number)
    }

    /// All options with their numbers, in ascending order.
    fn options(&self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let (mut number, mut rest) = (0, self.options);
        std::iter::from_fn(move || {
            let value;
            (number, value, rest) = next_option(number, rest)?;
            Some((number, value))
        })
    }

    pub(super) fn values(&self, option: CoapOption) -> impl Iterator<Item = &'a [u8]> {
        let wanted = u16::from(option);
        self.options()
            .filter(move |(number, _)| *number == wanted)
            .map(|(_, value)| value)
    }

    /// An option of format uint, at most 4 bytes (RFC 7252 §3.2).
    pub(super) fn uint(&self, option: CoapOption) -> Option<u32> {
        let bytes = self.values(option).next()?;
        (bytes.len() <= 4).then(|| {
            bytes
                .iter()
                .fold(0, |value, byte| value << 8 | u32::from(*byte))
        })
    }
}

pub(super) const PAYLOAD_MARKER: u8 = 0xFF;

/// Tells the options from the payload; `None` when either is malformed.
fn split_options(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut number, mut rest) = (0, bytes);
    loop {
        match rest {
            [] => return Some((bytes, &[])),
            [PAYLOAD_MARKER] => return None, // no payload behind it: RFC 7252 §3
            [PAYLOAD_MARKER, payload @ ..] => {
                return Some((&bytes[..bytes.len() - rest.len()], payload));
            }
            _ => (number, _, rest) = next_option(number, rest)?,
        }
    }
}

/// The option at the front, after one of the given number: its number, its value, what follows (RFC 7252 §3.1).
fn next_option(number: u16, bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (delta, rest) = extended(first >> 4, rest)?;
    let (len, rest) = extended(first & 0x0F, rest)?;
    let (value, rest) = rest.split_at_checked(usize::from(len))?;
    Some((number.checked_add(delta)?, value, rest))
}

/// A delta or a length: 4 bits, extended by one byte or two.
fn extended(nibble: u8, bytes: &[u8]) -> Option<(u16, &[u8])> {
    match nibble {
        13 => {
            let (byte, rest) = bytes.split_first()?;
            Some((u16::from(*byte) + 13, rest))
        }
        14 => {
            let (word, rest) = bytes.split_first_chunk()?;
            Some((u16::from_be_bytes(*word).checked_add(269)?, rest))
        }
        15 => None,
        nibble => Some((nibble.into(), bytes)),
    }
}

/// Builds a message to send.
#[derive(Debug)]
pub struct MessageBuilder {
    packet: Packet,
}

impl MessageBuilder {
    /// A message of that type, code, message ID and token.
    pub fn new(kind: Kind, code: Code, message_id: u16, token: Token) -> Self {
        let mut packet = Packet::new();
        packet.header.set_type(match kind {
            Kind::Confirmable => MessageType::Confirmable,
            Kind::NonConfirmable => MessageType::NonConfirmable,
            Kind::Acknowledgement => MessageType::Acknowledgement,
            Kind::Reset => MessageType::Reset,
        });
        packet.header.code = MessageClass::from(code.0);
        packet.header.message_id = message_id;
        packet.set_token(token.as_bytes().to_vec());
        Self { packet }
    }

    /// The response to `request`: piggybacked on the acknowledgement of a Confirmable one, else
    /// Non-confirmable under `message_id` (RFC 7252 §5.2).
    pub fn response(request: &Message<'_>, code: Code, message_id: u16) -> Self {
        match request.kind() {
            Kind::Confirmable => Self::new(
                Kind::Acknowledgement,
                code,
                request.message_id(),
                request.token(),
            ),
            _ => Self::new(Kind::NonConfirmable, code, message_id, request.token()),
        }
    }

    /// Appends a segment of Uri-Path.
    #[must_use]
    pub fn path(self, segment: &str) -> Self {
        self.option(CoapOption::UriPath, segment.as_bytes().to_vec())
    }

    /// Appends a parameter of Uri-Query.
    #[must_use]
    pub fn query(self, parameter: &str) -> Self {
        self.option(CoapOption::UriQuery, parameter.as_bytes().to_vec())
    }

    /// Appends a segment of Location-Path.
    #[must_use]
    pub fn location(self, segment: &str) -> Self {
        self.option(CoapOption::LocationPath, segment.as_bytes().to_vec())
    }

    /// Sets Observe.
    #[must_use]
    pub fn observe(self, value: u32) -> Self {
        self.option(CoapOption::Observe, uint_bytes(value))
    }

    /// Sets Content-Format.
    #[must_use]
    pub fn content_format(self, format: ContentFormat) -> Self {
        self.option(CoapOption::ContentFormat, uint_bytes(format.0.into()))
    }

    /// Sets Accept.
    #[must_use]
    pub fn accept(self, format: ContentFormat) -> Self {
        self.option(CoapOption::Accept, uint_bytes(format.0.into()))
    }

    /// Sets Block1 from its encoded form.
    #[must_use]
    pub fn block1(self, value: u32) -> Self {
        self.option(CoapOption::Block1, uint_bytes(value))
    }

    /// Sets Block2 from its encoded form.
    #[must_use]
    pub fn block2(self, value: u32) -> Self {
        self.option(CoapOption::Block2, uint_bytes(value))
    }

    /// Sets Size1: how long a request's body may be, bytes (RFC 7959 §4).
    #[must_use]
    pub fn size1(self, value: u32) -> Self {
        self.option(CoapOption::Size1, uint_bytes(value))
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: Vec<u8>) -> Self {
        self.packet.payload = payload;
        self
    }

    /// The datagram.
    pub fn build(&self) -> Vec<u8> {
        // Fails only where a token or an option is longer than its length field can say: tokens have
        // at most 8 bytes, and the options set here are our own short names and numbers.
        self.packet.to_bytes_unlimited().unwrap_or_default()
    }

    /// The datagram, with a payload that it shares.
    pub fn build_around(&self, payload: Bytes) -> Datagram {
        let mut head = self.build();
        if !payload.is_empty() {
            head.push(PAYLOAD_MARKER);
        }
        Datagram::with_body(&head, payload)
    }

    fn option(mut self, option: CoapOption, value: Vec<u8>) -> Self {
        self.packet.add_option(option, value);
        self
    }
}

/// The shortest big-endian form, as an option of format uint wants it (RFC 7252 §3.2).
fn uint_bytes(value: u32) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let zeros = (value.leading_zeros() / 8) as usize; // at most 4
    bytes[zeros..].to_vec()
}

/// An empty acknowledgement (RFC 7252 §4.2).
pub const fn empty_ack(message_id: u16) -> [u8; 4] {
    let [id0, id1] = message_id.to_be_bytes();
    [0x60, 0, id0, id1]
}

/// A Reset (RFC 7252 §4.2).
pub const fn reset(message_id: u16) -> [u8; 4] {
    let [id0, id1] = message_id.to_be_bytes();
    [0x70, 0, id0, id1]
}

/// The options of a PUT to /19/1/0 (Uri-Path, option 11) in application/octet-stream
/// (Content-Format, option 12, value 42), and the payload marker.
const DOWNLINK_OPTIONS: [u8; 10] = [0xB2, b'1', b'9', 0x01, b'1', 0x01, b'0', 0x11, 42, 0xFF];

/// The response to `request` that has a payload and no options: piggybacked on the acknowledgement of a Confirmable
/// one, else Non-confirmable under `message_id` (RFC 7252 §5.2). The payload is shared.
pub fn short_response(
    request: &Message<'_>,
    code: Code,
    message_id: u16,
    payload: Bytes,
) -> Datagram {
    let mut head = [0; 4 + Token::MAX_LEN + 1];
    let mut len = short_head(request, code, message_id, &mut head);
    if !payload.is_empty() {
        head[len] = PAYLOAD_MARKER;
        len += 1;
    }
    Datagram::with_body(&head[..len], payload)
}

/// Writes the header and the token of the response to `request`, which come before everything else, and tells how many bytes they are.
pub(super) fn short_head(
    request: &Message<'_>,
    code: Code,
    message_id: u16,
    head: &mut [u8],
) -> usize {
    let (kind, message_id) = match request.kind() {
        Kind::Confirmable => (0x60, request.message_id()),
        _ => (0x50, message_id),
    };
    let [id0, id1] = message_id.to_be_bytes();
    let token = request.token();
    head[..4].copy_from_slice(&[kind | token.len, code.0, id0, id1]);
    let len = 4 + token.as_bytes().len();
    head[4..len].copy_from_slice(token.as_bytes());
    len
}

/// CON PUT of opaque `payload` to /19/1/0, the resource through which devices take PCP frames.
///
/// Written by hand because it is the segment path: no option lists, and the payload is shared.
pub fn put_downlink(message_id: u16, token: Token, payload: Bytes) -> Datagram {
    const ROOM: usize = 4 + Token::MAX_LEN + DOWNLINK_OPTIONS.len();
    let mut head = [0; ROOM];
    let [id0, id1] = message_id.to_be_bytes();
    head[..4].copy_from_slice(&[0x40 | token.len, Code::PUT.0, id0, id1]);
    let options_at = 4 + token.as_bytes().len();
    let len = options_at + DOWNLINK_OPTIONS.len();
    head[4..options_at].copy_from_slice(token.as_bytes());
    head[options_at..len].copy_from_slice(&DOWNLINK_OPTIONS);
    Datagram::with_body(&head[..len], payload)
}

#[cfg(test)]
mod tests;
