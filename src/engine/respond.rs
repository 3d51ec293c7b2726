//! Answers to requests from devices, and what is kept of them for the requests' repeats.

use bytes::Bytes;
use rand_chacha::rand_core::Rng;

use super::{Engine, Location};
use crate::coap::{Code, Datagram, Kind, Message, MessageBuilder, Peer, Reply, short_response};

impl Engine {
    pub(super) fn response(&mut self, peer: Peer, message: &Message, code: Code) -> MessageBuilder {
        let message_id = self.response_id(peer);
        MessageBuilder::response(message, code, message_id)
    }

    /// The message ID of a response that is no acknowledgement.
    pub(super) fn response_id(&mut self, peer: Peer) -> u16 {
        match self.devices.by_peer(peer) {
            Some(key) => self.device_mut(key).take_message_id(),
            None => (self.random.next_u32() >> 16) as u16, // 16 bits are left
        }
    }

    /// Answers a request with an error. What is wrong is told to devices, and where datagrams are encrypted; a stranger on the
    /// plain port could be anybody.
    pub(super) fn refuse(
        &mut self,
        peer: Peer,
        bytes: &[u8],
        message: &Message,
        refusal: (Code, &str),
    ) {
        self.counters.requests_refused += 1;
        // Whoever has a false address sends its own, and what comes back is to be no longer than what was sent.
        let stranger = !peer.secured && self.devices.by_peer(peer).is_none();
        let (code, text) = match refusal {
            (code, _) if stranger => (code, ""),
            refusal => refusal,
        };
        let id = self.response_id(peer);
        let response = short_response(message, code, id, Bytes::copy_from_slice(text.as_bytes()));
        self.respond(peer, bytes, message, response);
    }

    /// Sends a response, and remembers it for the repeats of the request if the peer is a device.
    pub(super) fn respond(
        &mut self,
        peer: Peer,
        bytes: &[u8],
        message: &Message,
        response: impl Into<Datagram>,
    ) {
        let datagram = response.into();
        let reply = Reply::Response(Box::new(datagram.clone()));
        self.remember(peer, bytes, message, reply);
        self.send_response(peer, datagram);
    }

    /// As [`respond`](Self::respond), for a response that can be made again: as an acknowledgement at least.
    pub(super) fn respond_as(
        &mut self,
        peer: Peer,
        bytes: &[u8],
        message: &Message,
        response: impl Into<Datagram>,
        reply: Reply,
    ) {
        if message.kind() != Kind::Confirmable {
            return self.respond(peer, bytes, message, response);
        }
        self.remember(peer, bytes, message, reply);
        self.send_response(peer, response.into());
    }

    fn remember(&mut self, peer: Peer, bytes: &[u8], message: &Message, reply: Reply) {
        let now = self.now.instant;
        if let Some(key) = self.devices.by_peer(peer) {
            let recent = &mut self.device_mut(key).recent;
            recent.remember(now, message.message_id(), bytes, reply);
        }
    }

    fn send_response(&mut self, peer: Peer, datagram: Datagram) {
        let device = self.devices.by_peer(peer);
        if let Some(key) = device
            && let Some(registration) = &mut self.device_mut(key).registration
        {
            registration.validation.allows(datagram.len()); // an answer is sent in any case
        }
        let after = device.map_or(0, |key| self.device(key).pending);
        self.transmit(peer, datagram, after);
    }
}

/// The answer to a registration.
pub(super) fn created(message: &Message, message_id: u16, location: Location) -> MessageBuilder {
    MessageBuilder::response(message, Code::CREATED, message_id)
        .location("rd")
        .location(&location.to_string())
}
