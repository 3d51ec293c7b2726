//! A body that is written in blocks (Block1, RFC 7959 §2.3): which block is next, and what each answer means for it.

use bytes::Bytes;
use coap_lite::CoapOption;

use super::{Block, Code, ContentFormat, Datagram, Token, head::Head};

/// How often a body is begun again because the other side has lost its beginning (4.08).
const MAX_RESTARTS: u8 = 3;
/// The largest size exponent: 1,024 bytes.
const MAX_SZX: u8 = 6;

/// A body on its way, block after block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    content: Bytes,
    szx: u8,
    /// Where the block begins that is on its way, or is next.
    offset: usize,
    restarts: u8,
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The next block is to be sent.
    Next,
    /// The other side has everything.
    Done,
    /// It takes it not now (5.03): it is asked again later.
    Later,
    /// It takes it not at all.
    Refused(Code),
}

impl Push {
    /// A body that is written in blocks of so many bytes, 16 to 1,024, or of fewer where the other side wants that.
    pub fn new(content: Bytes, block_bytes: u16) -> Self {
        let szx = (block_bytes.max(16).ilog2() - 4).min(u32::from(MAX_SZX));
        Self {
            content,
            szx: u8::try_from(szx).unwrap_or(MAX_SZX),
            offset: 0,
            restarts: 0,
        }
    }

    const fn size(&self) -> usize {
        16 << self.szx
    }

    /// The block that is on its way, or next.
    pub fn block(&self) -> Block {
        let number = u32::try_from(self.offset / self.size()).unwrap_or(u32::MAX);
        Block {
            number,
            more: self.offset + self.size() < self.content.len(),
            szx: self.szx,
        }
    }

    /// Bytes that the other side has.
    pub const fn done(&self) -> usize {
        self.offset
    }

    /// The message with the block: a Confirmable PUT to that path in application/octet-stream. The payload is shared with the body; where
    /// the path is short, nothing is allocated.
    pub fn datagram<'p>(
        &self,
        message_id: u16,
        token: Token,
        path: impl Iterator<Item = &'p [u8]>,
    ) -> Datagram {
        let block = self.block();
        let end = self.content.len().min(self.offset + self.size());
        let mut head = Head::request(Code::PUT, message_id, token);
        for segment in path {
            head.option(CoapOption::UriPath, segment);
        }
        head.uint(
            CoapOption::ContentFormat,
            ContentFormat::OCTET_STREAM.0.into(),
        );
        head.uint(CoapOption::Block1, block.encode());
        if block.number == 0 {
            // RFC 7959 §4: whoever takes it may say at once that it is too much
            let len = u32::try_from(self.content.len()).unwrap_or(u32::MAX);
            head.uint(CoapOption::Size1, len);
        }
        head.around(self.content.slice(self.offset..end))
    }

    /// The other side has answered the block that is on its way, with that Block1, where it has one.
    pub fn answered(&mut self, code: Code, block1: Option<u32>) -> Pushed {
        let told = block1.and_then(|value| Block::decode(value).ok());
        let last = !self.block().more;
        match code {
            // where it has lost the beginning, or was never told it (RFC 7959 §2.9.2)
            Code::REQUEST_ENTITY_INCOMPLETE if self.restarts < MAX_RESTARTS => {
                self.restarts += 1;
                self.offset = 0;
                Pushed::Next
            }
            // it takes it in smaller blocks (§2.9.3)
            Code::REQUEST_ENTITY_TOO_LARGE
                if told.is_some_and(|told| told.szx < self.szx) && self.offset == 0 =>
            {
                self.szx = told.map_or(self.szx, |told| told.szx);
                Pushed::Next
            }
            Code::SERVICE_UNAVAILABLE => Pushed::Later,
            code if !code.is_success() => Pushed::Refused(code),
            _ if last => {
                self.offset = self.content.len();
                Pushed::Done
            }
            _ => {
                self.offset += self.size();
                // it has the whole block, and wants smaller ones from now on (§2.3)
                if let Some(told) = told.filter(|told| told.szx < self.szx) {
                    self.szx = told.szx;
                }
                Pushed::Next
            }
        }
    }
}

#[cfg(test)]
mod tests;
