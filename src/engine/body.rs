//! The bodies of devices' requests, which may come in blocks (RFC 7959).

use super::{Engine, Incoming};
use crate::coap::{Block, Code, ContentFormat, Reassembled, Reassembly};

impl Engine {
    /// As [`body`](Self::body), of a request whose body is a list of links. Where it says that it is something else, it is
    /// answered so.
    pub(super) fn links(&mut self, incoming: &Incoming<'_>) -> Option<(Vec<u8>, Option<u32>)> {
        let format = incoming.message.content_format();
        let other = format.is_some_and(|format| format != ContentFormat::LINK_FORMAT);
        if other && !incoming.message.payload().is_empty() {
            let refusal = (
                Code::UNSUPPORTED_CONTENT_FORMAT,
                "content format must be 40",
            );
            self.refuse(incoming, refusal);
            return None;
        }
        self.body(incoming)
    }

    /// The request's body, and the Block1 option for its response. `None` when more blocks are to come,
    /// or the transfer failed: then it is answered already.
    pub(super) fn body(&mut self, incoming: &Incoming<'_>) -> Option<(Vec<u8>, Option<u32>)> {
        let Some(option) = incoming.message.block1() else {
            return Some((incoming.message.payload().to_vec(), None));
        };
        let Ok(block) = Block::decode(option) else {
            self.refuse(
                incoming,
                (Code::BAD_REQUEST, "reserved block size"), // RFC 7959 §2.2
            );
            return None;
        };
        let taken = self.reassembly.accept(
            self.now.instant,
            (incoming.peer(), incoming.message.resource()),
            block,
            incoming.message.payload(),
        );
        match taken {
            Reassembled::Complete(body) => Some((body, Some(option))),
            Reassembled::Continue => {
                let response = self.response(incoming, Code::CONTINUE).block1(option);
                self.respond(incoming, response.build());
                None
            }
            Reassembled::Incomplete => {
                let refusal = (Code::REQUEST_ENTITY_INCOMPLETE, "blocks are missing");
                self.refuse(incoming, refusal);
                None
            }
            Reassembled::TooLarge => {
                // RFC 7252 §5.9.2.9, RFC 7959 §2.9.3: how much would be taken
                self.counters.requests_refused += 1;
                let limit = u32::try_from(Reassembly::MAX_BODY_LEN).unwrap_or(u32::MAX);
                let response = self
                    .response(incoming, Code::REQUEST_ENTITY_TOO_LARGE)
                    .block1(option)
                    .size1(limit)
                    .payload(b"too long".to_vec());
                self.respond(incoming, response.build());
                None
            }
        }
    }
}
