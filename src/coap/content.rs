//! Content that is read in blocks (RFC 7959): what a GET asks for, and the answer, which shares the content's bytes.

use bytes::Bytes;
use coap_lite::CoapOption;

use super::{Block, Code, ContentFormat, Datagram, Kind, Message, head::Head, message::short_head};

/// Bytes of an `ETag` that leave room for everything else in the head of a datagram.
const ETAG_LEN: usize = 6;

/// A GET of `/room/name`, as far as it matters to content that is read in blocks. Uri-Query, Observe, `ETag` and Size2 are
/// elective or of no meaning here, and are passed over (RFC 7252 §5.4.1; RFC 7641 §2; RFC 7959 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRequest<'a> {
    /// The second segment of its path.
    pub name: &'a [u8],
    /// The block that it asks for, where it names one; or why it cannot be answered.
    pub asked: Result<Option<Block>, Code>,
}

impl<'a> ContentRequest<'a> {
    /// What the message asks for, where it is a GET below that room.
    pub fn below(room: &[u8], message: &Message<'a>) -> Option<Self> {
        let asks = matches!(message.kind(), Kind::Confirmable | Kind::NonConfirmable);
        if message.code() != Code::GET || !asks {
            return None;
        }
        let mut path = message.values(CoapOption::UriPath);
        if path.next() != Some(room) {
            return None;
        }
        let name = path.next()?;
        if path.next().is_some() {
            return None;
        }
        Some(Self {
            name,
            asked: asked(message),
        })
    }
}

/// The block that is asked for.
fn asked(message: &Message<'_>) -> Result<Option<Block>, Code> {
    if message.unknown_critical_option().is_some() {
        // those that ask for a proxy are critical, and have a code of their own (RFC 7252 §5.10.2)
        let proxy = message.wants_proxy();
        return Err(if proxy {
            Code::PROXYING_NOT_SUPPORTED
        } else {
            Code::BAD_OPTION
        });
    }
    if message
        .accept()
        .is_some_and(|format| format != ContentFormat::OCTET_STREAM)
    {
        return Err(Code::NOT_ACCEPTABLE); // RFC 7252 §5.10.4
    }
    // a size of 7 is reserved, and "MUST lead to a 4.00 Bad Request" (RFC 7959 §2.2)
    let block = message.block2().map(Block::decode).transpose();
    block.map_err(|_| Code::BAD_REQUEST)
}

/// The block of content that answers a request: which bytes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its number, whether more follow, its size.
    pub block: Block,
    /// Where it begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// The content is answered as a whole: nobody has asked for blocks, and it fits.
    whole: bool,
}

impl Part {
    /// The part of content of `len` bytes that is asked for. Who names no block gets the first one of `size` bytes, from which it
    /// learns the size to go on with (early negotiation, RFC 7959 §2.4), or all of it where that is no more.
    ///
    /// # Errors
    /// There is no such block. RFC 7959 names no code for that; 4.02 tells that the option cannot be complied with, as at
    /// `/.well-known/core`.
    pub fn of(len: usize, asked: Option<Block>, size: u16) -> Result<Self, Code> {
        let named = asked.is_some();
        let asked = asked.unwrap_or_else(|| Block {
            number: 0,
            more: false,
            szx: size_exponent(len, size),
        });
        let size = asked.size();
        let whole = !named && len <= size;
        // 2^20 blocks of 1,024 bytes
        let start = asked.number as usize * size;
        if start >= len && start > 0 {
            return Err(Code::BAD_OPTION);
        }
        let end = len.min(start + size);
        Ok(Self {
            block: Block {
                more: end < len,
                ..asked
            },
            start,
            end,
            whole,
        })
    }
}

/// How the largest block of 16 to 1,024 bytes is written that is not above `size`; a larger one where 2^20 blocks of it would not do.
fn size_exponent(len: usize, size: u16) -> u8 {
    let mut szx = 0;
    while szx < 6 && (16 << (szx + 1) <= size || len > 16 << szx << 20) {
        szx += 1;
    }
    szx
}

/// 2.05 with a part of the content, `ETag`, Content-Format, Block2 and Size2 (RFC 7959 §2.3, §4): piggybacked on the acknowledgement of a
/// Confirmable request, else Non-confirmable under `message_id`. The body is shared. Its head takes all the room of a datagram's: four
/// bytes, the token's eight, and 19 of options with the marker.
pub fn content_response(
    request: &Message<'_>,
    message_id: u16,
    (content, etag): (&Bytes, [u8; ETAG_LEN]),
    part: Part,
) -> Datagram {
    let mut head = Head::begun(|bytes| short_head(request, Code::CONTENT, message_id, bytes));
    head.option(CoapOption::ETag, &etag);
    head.uint(
        CoapOption::ContentFormat,
        ContentFormat::OCTET_STREAM.0.into(),
    );
    if !part.whole {
        head.uint(CoapOption::Block2, part.block.encode());
    }
    // 2^30 at most
    head.uint(
        CoapOption::Size2,
        u32::try_from(content.len()).unwrap_or(u32::MAX),
    );
    head.around(content.slice(part.start..part.end))
}

#[cfg(test)]
mod tests;
