//! Requests from devices: what they want, and who it is that has sent them.

use super::{Engine, Location, Sought, Speaker, key::DeviceKey, send::Requester};
use crate::{
    coap::{Block, Code, ContentFormat, Kind, Message, Peer, slice},
    upgrade::Event,
};

/// What `/.well-known/core` lists (RFC 6690): the registration interface.
const CORE_LINKS: &[u8] = b"</rd>;rt=\"core.rd\";ct=40";

/// Who has sent a request, and what that means for the device's upgrade.
type Spoke = Option<(DeviceKey, Option<Event>)>;

impl Engine {
    /// Takes a request; `bound` is the device at its sender's address.
    pub(super) fn receive_request(
        &mut self,
        bound: Option<DeviceKey>,
        speaker: &Speaker<'_>,
        bytes: &[u8],
        message: &Message,
        sought: &Sought,
    ) {
        let peer = speaker.peer();
        if !matches!(message.kind(), Kind::Confirmable | Kind::NonConfirmable) {
            return self.counters.messages_unexpected += 1; // RFC 7252 §4.2, §4.3
        }
        let spoke = match bound {
            Some(key) if self.answer_repeat(key, peer, bytes, message) => Some((key, None)),
            _ => self.answer_request(bound, speaker, bytes, message, sought),
        };
        if let Some((key, event)) = spoke {
            self.look_at_association(key, speaker);
            if let Some(event) = event {
                self.fire(key, event);
            }
            self.heard(key);
            self.settle(key);
        }
        // What was answered is remembered for whoever is there.
        let here = self.devices.by_peer(peer);
        if let Some(key) = here.filter(|key| spoke.is_none_or(|(spoke, _)| spoke != *key)) {
            self.settle(key);
        }
    }

    /// Answers a request, and tells who has sent it, if that is a device that is registered.
    fn answer_request(
        &mut self,
        bound: Option<DeviceKey>,
        speaker: &Speaker<'_>,
        bytes: &[u8],
        message: &Message,
        sought: &Sought,
    ) -> Spoke {
        let peer = speaker.peer();
        let spoke = |key| (key, Some(Event::Heard));
        if message.wants_proxy() {
            // RFC 7252 §5.10.2, before §5.4.1: these options are critical, and have a code of their own
            self.refuse(peer, bytes, message, (Code::PROXYING_NOT_SUPPORTED, ""));
            return bound.map(spoke);
        }
        if let Some(option) = message.unknown_critical_option() {
            // RFC 7252 §5.4.1: a Non-confirmable request is rejected instead, here in silence
            if message.kind() == Kind::Confirmable {
                let text = format!("unknown or repeated critical option {option}");
                self.refuse(peer, bytes, message, (Code::BAD_OPTION, &text));
            }
            return bound.map(spoke);
        }
        let path = message.path();
        match (message.code(), path.as_slice()) {
            (Code::POST, [b"rd"]) => {
                if let Some(event) = self.register(speaker, bytes, message, sought) {
                    return (self.devices.by_peer(peer)).map(|key| (key, Some(event)));
                }
                let own = |key: &DeviceKey| !names_another(message, &self.device(*key).endpoint);
                bound.filter(own).map(spoke)
            }
            // Clients of the standard's drafts update with PUT.
            (Code::POST | Code::PUT, [b"rd", location]) => {
                let Some(key) = self.registered(speaker, bytes, message, location, sought) else {
                    return bound.filter(|key| self.may_have(*key, location)).map(spoke);
                };
                self.update(key, peer, bytes, message);
                (self.device(key).peer() == Some(peer)).then_some(spoke(key))
            }
            (Code::DELETE, [b"rd", location]) => {
                if let Some(key) = self.answer_farewell(speaker, bytes, message, location) {
                    return Some((key, None));
                }
                let Some(key) = self.registered(speaker, bytes, message, location, sought) else {
                    return bound.filter(|key| self.may_have(*key, location)).map(spoke);
                };
                self.deregister_request(key, peer, bytes, message);
                Some((key, None))
            }
            other => {
                let key = match self.requester(bound, speaker, bytes, sought) {
                    Requester::Is(key) => Some(key),
                    Requester::Nobody => None,
                    Requester::Unknown => return None,
                };
                match (other, key) {
                    ((Code::GET, [b".well-known", b"core"]), _) => {
                        self.discover(peer, bytes, message);
                    }
                    ((Code::POST, [b"dp"]), Some(key)) => {
                        self.look_at_association(key, speaker);
                        self.send(key, peer, bytes, message);
                    }
                    ((Code::POST, [b"dp"]), None) if self.restoring.is_some() => {
                        self.counters.requests_deferred += 1;
                    }
                    ((Code::POST, [b"dp"]), None) => {
                        self.refuse(peer, bytes, message, (Code::NOT_FOUND, "not registered"));
                    }
                    ((_, [b".well-known", b"core"] | [b"rd" | b"dp"] | [b"rd", _]), _) => {
                        self.refuse(peer, bytes, message, (Code::METHOD_NOT_ALLOWED, ""));
                    }
                    _ => self.refuse(peer, bytes, message, (Code::NOT_FOUND, "")),
                }
                key.map(spoke)
            }
        }
    }

    /// Whether a location is none of another device.
    fn may_have(&self, key: DeviceKey, location: &[u8]) -> bool {
        Location::parse(location).is_none_or(|location| location.device == self.device(key).id)
    }

    fn discover(&mut self, peer: Peer, bytes: &[u8], message: &Message) {
        if (message.accept()).is_some_and(|format| format != ContentFormat::LINK_FORMAT) {
            return self.refuse(peer, bytes, message, (Code::NOT_ACCEPTABLE, ""));
        }
        let response = self
            .response(peer, message, Code::CONTENT)
            .content_format(ContentFormat::LINK_FORMAT);
        let response = match message.block2().map(Block::decode) {
            None => response.payload(CORE_LINKS.to_vec()),
            Some(Ok(asked)) if let Some((part, block)) = slice(CORE_LINKS, asked) => {
                response.block2(block.encode()).payload(part.to_vec())
            }
            Some(_) => {
                return self.refuse(peer, bytes, message, (Code::BAD_OPTION, "no such block"));
            }
        };
        self.respond(peer, bytes, message, response.build());
    }
}

/// Whether a registration is as somebody else than the device of that name.
fn names_another(message: &Message, endpoint: &str) -> bool {
    let mut names = message
        .queries()
        .filter_map(|query| query.strip_prefix(b"ep="));
    names.any(|name| name != endpoint.as_bytes())
}
