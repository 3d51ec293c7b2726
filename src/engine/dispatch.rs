//! Requests from devices: what they want, and who it is that has sent them.

use super::{Engine, Incoming, Location, key::DeviceKey, send::Requester};
use crate::{
    coap::{Block, Code, ContentFormat, Kind, Message, slice},
    upgrade::Input,
};

/// What `/.well-known/core` lists (RFC 6690): the registration interface.
const CORE_LINKS: &[u8] = b"</rd>;rt=\"core.rd\";ct=40";

/// Who has sent a request, and what that means for the device's upgrade.
type Spoke = Option<(DeviceKey, Option<Input>)>;

impl Engine {
    /// Takes a request; `bound` is the device at its sender's address.
    pub(super) fn receive_request(&mut self, bound: Option<DeviceKey>, incoming: &Incoming<'_>) {
        if !matches!(
            incoming.message.kind(),
            Kind::Confirmable | Kind::NonConfirmable
        ) {
            return self.counters.messages_unexpected += 1; // RFC 7252 §4.2, §4.3
        }
        let spoke = match bound {
            Some(key) if self.answer_repeat(key, incoming) => Some((key, None)),
            _ => self.answer_request(bound, incoming),
        };
        if let Some((key, event)) = spoke {
            self.look_at_association(key, &incoming.speaker);
            if let Some(event) = event {
                self.fire(key, event);
            }
            self.heard(key);
            self.silence(key); // it may have woken up just now
            self.settle(key);
        }
        // What was answered is remembered for whoever is there.
        let here = self.here(incoming);
        if let Some(key) = here.filter(|key| spoke.is_none_or(|(spoke, _)| spoke != *key)) {
            self.settle(key);
        }
    }

    /// Answers a request, and tells who has sent it, if that is a device that is registered.
    fn answer_request(&mut self, bound: Option<DeviceKey>, incoming: &Incoming<'_>) -> Spoke {
        let peer = incoming.peer();
        let spoke = |key| (key, Some(Input::Heard));
        if incoming.message.wants_proxy() {
            // RFC 7252 §5.10.2, before §5.4.1: these options are critical, and have a code of their own
            self.refuse(incoming, (Code::PROXYING_NOT_SUPPORTED, ""));
            return bound.map(spoke);
        }
        if let Some(option) = incoming.message.unknown_critical_option() {
            // RFC 7252 §5.4.1: a Non-confirmable request is rejected instead, here in silence
            if incoming.message.kind() == Kind::Confirmable {
                let text = format!("unknown or repeated critical option {option}");
                self.refuse(incoming, (Code::BAD_OPTION, &text));
            }
            return bound.map(spoke);
        }
        let path = incoming.message.path();
        match (incoming.message.code(), path.as_slice()) {
            (Code::POST, [b"rd"]) => {
                if let Some(event) = self.register(incoming) {
                    return self.here(incoming).map(|key| (key, Some(event)));
                }
                let own =
                    |key: &DeviceKey| !names_another(incoming.message, &self.device(*key).endpoint);
                bound.filter(own).map(spoke)
            }
            // Clients of the standard's drafts update with PUT.
            (Code::POST | Code::PUT, [b"rd", location]) => {
                let Some(key) = self.registered(incoming, location) else {
                    return bound.filter(|key| self.may_have(*key, location)).map(spoke);
                };
                self.update(key, incoming);
                (self.device(key).peer() == Some(peer)).then_some(spoke(key))
            }
            (Code::DELETE, [b"rd", location]) => {
                if let Some(key) = self.answer_farewell(incoming, location) {
                    return Some((key, None));
                }
                let Some(key) = self.registered(incoming, location) else {
                    return bound.filter(|key| self.may_have(*key, location)).map(spoke);
                };
                self.deregister_request(key, incoming);
                Some((key, None))
            }
            other => {
                let key = self.answer_other(bound, incoming, other)?;
                Some(spoke(key))
            }
        }
    }

    /// Answers a request that is none of the registration interface, and tells whom it comes from.
    fn answer_other(
        &mut self,
        bound: Option<DeviceKey>,
        incoming: &Incoming<'_>,
        wanted: (Code, &[&[u8]]),
    ) -> Option<DeviceKey> {
        let key = match self.requester(bound, incoming) {
            Requester::Is(key) => Some(key),
            Requester::Nobody => None,
            Requester::Unknown => return None,
        };
        match (wanted, key) {
            ((Code::GET, [b".well-known", b"core"]), _) => {
                self.discover(incoming);
            }
            ((Code::POST, [b"dp"]), Some(key)) => {
                self.look_at_association(key, &incoming.speaker);
                self.send(key, incoming);
            }
            ((Code::POST, [b"dp"]), None) if self.restoring.is_some() => {
                self.counters.requests_deferred += 1;
            }
            ((Code::POST, [b"dp"]), None) => {
                self.refuse(incoming, (Code::NOT_FOUND, "not registered"));
            }
            ((_, [b".well-known", b"core"] | [b"rd" | b"dp"] | [b"rd", _]), _) => {
                self.refuse(incoming, (Code::METHOD_NOT_ALLOWED, ""));
            }
            _ => self.refuse(incoming, (Code::NOT_FOUND, "")),
        }
        key
    }

    /// Whether a location is none of another device.
    fn may_have(&self, key: DeviceKey, location: &[u8]) -> bool {
        Location::parse(location).is_none_or(|location| location.device == self.device(key).id)
    }

    fn discover(&mut self, incoming: &Incoming<'_>) {
        if (incoming.message.accept()).is_some_and(|format| format != ContentFormat::LINK_FORMAT) {
            return self.refuse(incoming, (Code::NOT_ACCEPTABLE, ""));
        }
        let response = self
            .response(incoming, Code::CONTENT)
            .content_format(ContentFormat::LINK_FORMAT);
        let response = match incoming.message.block2().map(Block::decode) {
            None => response.payload(CORE_LINKS.to_vec()),
            Some(Ok(asked)) if let Some((part, block)) = slice(CORE_LINKS, asked) => {
                response.block2(block.encode()).payload(part.to_vec())
            }
            Some(_) => {
                return self.refuse(incoming, (Code::BAD_OPTION, "no such block"));
            }
        };
        self.respond(incoming, response.build());
    }
}

/// Whether a registration is as somebody else than the device of that name.
fn names_another(message: &Message, endpoint: &str) -> bool {
    let mut names = message
        .queries()
        .filter_map(|query| query.strip_prefix(b"ep="));
    names.any(|name| name != endpoint.as_bytes())
}
