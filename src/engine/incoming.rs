//! A message that has come in, and what goes with it.

use super::{Sought, Speaker};
use crate::coap::{Message, Peer};

/// A message, whole and parsed, with who has sent it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Incoming<'a> {
    pub(super) speaker: Speaker<'a>,
    /// The datagram.
    pub(super) bytes: &'a [u8],
    pub(super) message: &'a Message<'a>,
    /// What came of seeking the device that it seems to come from.
    pub(super) sought: &'a Sought,
}

impl Incoming<'_> {
    /// From where.
    pub(super) const fn peer(&self) -> Peer {
        self.speaker.peer()
    }
}
