//! Answers to requests from devices, and what is kept of them for the requests' repeats.

use bytes::Bytes;
use rand_chacha::rand_core::Rng;

use super::{Engine, Incoming, Location};
use crate::coap::{Code, Datagram, Kind, Message, MessageBuilder, Peer, Reply, short_response};

impl Engine {
    pub(super) fn response(&mut self, incoming: &Incoming<'_>, code: Code) -> MessageBuilder {
        let message_id = self.response_id(incoming.peer());
        MessageBuilder::response(incoming.message, code, message_id)
    }

    /// The message ID of a response that is no acknowledgement.
    pub(super) fn response_id(&mut self, peer: Peer) -> u16 {
        match self.devices.by_peer(peer) {
            Some(key) => self.take_message_id(key),
            None if let Some(id) = self.devices.message_id_at(peer) => id,
            None => (self.random.next_u32() >> 16) as u16, // 16 bits are left
        }
    }

    /// Answers a request with an error. What is wrong is told to devices, and where datagrams are encrypted; a stranger on the
    /// plain port could be anybody.
    pub(super) fn refuse(&mut self, incoming: &Incoming<'_>, refusal: (Code, &str)) {
        self.counters.requests_refused += 1;
        // Whoever has a false address sends its own, and what comes back is to be no longer than what was sent.
        let stranger = !incoming.peer().secured && self.devices.by_peer(incoming.peer()).is_none();
        let (code, text) = match refusal {
            (code, _) if stranger => (code, ""),
            refusal => refusal,
        };
        let id = self.response_id(incoming.peer());
        let response = short_response(
            incoming.message,
            code,
            id,
            Bytes::copy_from_slice(text.as_bytes()),
        );
        self.respond(incoming, response);
    }

    /// Sends a response, and remembers it for the repeats of the request if the peer is a device.
    pub(super) fn respond(&mut self, incoming: &Incoming<'_>, response: impl Into<Datagram>) {
        let datagram = response.into();
        let reply = Reply::Response(Box::new(datagram.clone()));
        self.remember(incoming, reply);
        self.send_response(incoming, datagram);
    }

    /// As [`respond`](Self::respond), for a response that can be made again: as an acknowledgement at least.
    pub(super) fn respond_as(
        &mut self,
        incoming: &Incoming<'_>,
        response: impl Into<Datagram>,
        reply: Reply,
    ) {
        if incoming.message.kind() != Kind::Confirmable {
            return self.respond(incoming, response);
        }
        self.remember(incoming, reply);
        self.send_response(incoming, response.into());
    }

    /// Answers 2.04 to a request whose body is whole; `block1` is that of its last block.
    pub(super) fn respond_changed(&mut self, incoming: &Incoming<'_>, block1: Option<u32>) {
        match block1 {
            None => {
                let id = self.response_id(incoming.peer());
                let response = short_response(incoming.message, Code::CHANGED, id, Bytes::new());
                self.respond_as(incoming, response, Reply::Code(Code::CHANGED));
            }
            Some(block) => {
                let response = self.response(incoming, Code::CHANGED).block1(block);
                self.respond(incoming, response.build());
            }
        }
    }

    fn remember(&mut self, incoming: &Incoming<'_>, reply: Reply) {
        let now = self.now.instant;
        if let Some(key) = self.here(incoming) {
            let recent = &mut self.device_mut(key).recent;
            recent.remember(now, incoming.message.message_id(), incoming.bytes, reply);
        }
    }

    fn send_response(&mut self, incoming: &Incoming<'_>, datagram: Datagram) {
        let device = self.here(incoming);
        if let Some(key) = device
            && let Some(registration) = &mut self.device_mut(key).registration
        {
            registration.validation.allows(datagram.len()); // an answer is sent in any case
        }
        let after = device.map_or(0, |key| self.device(key).pending);
        self.transmit(incoming.peer(), datagram, after);
    }
}

/// The answer to a registration.
pub(super) fn created(message: &Message, message_id: u16, location: Location) -> MessageBuilder {
    MessageBuilder::response(message, Code::CREATED, message_id)
        .location("rd")
        .location(&location.to_string())
}
