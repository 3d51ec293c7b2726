//! CoAP (RFC 7252), as far as it is pure: messages, reliability towards one device,
//! de-duplication, block-wise transfer.
//!
//! A datagram is parsed into a [`Message`]. Each device has a [`Link`]: requests to it leave one at a
//! time (NSTART = 1) and are repeated until they are acknowledged; what it sends twice is recognised
//! by its [`Recent`] messages.

mod block;
mod content;
mod datagram;
mod head;
mod link;
mod message;
mod peer;
mod push;
mod recent;
mod transmission;

pub use block::{Block, BlockError, Reassembled, Reassembly, slice};
pub use content::{ContentRequest, Part, content_response};
pub use datagram::Datagram;
pub use link::{Link, LinkEvent, QueueFull, QueuedRequest};
pub use message::{
    Code, ContentFormat, Kind, MAX_DATAGRAM_LEN, Malformed, Message, MessageBuilder, Resource,
    Token, empty_ack, put_downlink, reset, short_response,
};
pub use peer::Peer;
pub use push::{Push, Pushed};
pub use recent::{EXCHANGE_LIFETIME, MAX_TRANSMIT_SPAN, Recent, Reply};
pub use transmission::Transmission;
