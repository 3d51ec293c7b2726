//! Requests from devices: the LwM2M registration interface, and errors for the rest.

use bytes::Bytes;
use rand_chacha::rand_core::Rng;

use super::{
    Announced, Change, Engine, Location, QueueMode, Registration, Report, Sought, Speaker,
    account::{Repeated, Said},
    device::Registered,
    evidence::Excuse,
    key::DeviceKey,
    moves::By,
    respond::created,
    told::ObjectSet,
};
use crate::{
    coap::{
        Block, Code, ContentFormat, Kind, Message, Peer, Reassembled, Reply, short_response, slice,
    },
    config::RegistrationPolicy,
    lwm2m::{RegisterError, RegisterRequest, UpdateRequest},
    upgrade::Event,
};

/// What `/.well-known/core` lists (RFC 6690): the registration interface.
const CORE_LINKS: &[u8] = b"</rd>;rt=\"core.rd\";ct=40";

/// The product of devices that open registration lets in.
const OPEN_PRODUCT: &str = "default";

/// An error response: its code, and a text for whoever reads the device's log (RFC 7252 §5.5.2).
type Refusal = (Code, &'static str);

impl Engine {
    pub(super) fn receive_request(
        &mut self,
        speaker: &Speaker<'_>,
        bytes: &[u8],
        message: &Message,
        sought: &Sought,
    ) {
        let peer = speaker.peer();
        if !matches!(message.kind(), Kind::Confirmable | Kind::NonConfirmable) {
            return self.counters.messages_unexpected += 1; // RFC 7252 §4.2, §4.3
        }
        if let Some(key) = self.devices.by_peer(peer)
            && self.answer_repeat(key, peer, bytes, message)
        {
            return;
        }
        if let Some(option) = message.unknown_critical_option() {
            // RFC 7252 §5.4.1: a Non-confirmable request is rejected instead, here in silence
            if message.kind() == Kind::Confirmable {
                let text = format!("unknown critical option {option}");
                self.refuse(peer, bytes, message, (Code::BAD_OPTION, &text));
            }
            return;
        }
        if message.wants_proxy() {
            return self.refuse(peer, bytes, message, (Code::PROXYING_NOT_SUPPORTED, ""));
        }
        let path = message.path();
        match (message.code(), path.as_slice()) {
            (Code::GET, [b".well-known", b"core"]) => self.discover(peer, bytes, message),
            (Code::POST, [b"rd"]) => self.register(speaker, bytes, message, sought),
            (Code::POST, [b"rd", location]) => {
                if let Some(key) = self.registered(speaker, bytes, message, location, sought) {
                    self.update(key, speaker, bytes, message);
                }
            }
            (Code::DELETE, [b"rd", location]) => {
                if let Some(key) = self.registered(speaker, bytes, message, location, sought) {
                    self.deregister_request(key, peer, bytes, message);
                }
            }
            (_, [b".well-known", b"core"] | [b"rd"] | [b"rd", _]) => {
                self.refuse(peer, bytes, message, (Code::METHOD_NOT_ALLOWED, ""));
            }
            _ => self.refuse(peer, bytes, message, (Code::NOT_FOUND, "")),
        }
        // Whoever registered has its address bound by now.
        if let Some(key) = self.devices.by_peer(peer) {
            self.settle(key);
        }
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

    fn register(
        &mut self,
        speaker: &Speaker<'_>,
        bytes: &[u8],
        message: &Message,
        sought: &Sought,
    ) {
        if self.puts_off(message) || self.seeks_registrant(speaker, bytes, message, sought) {
            return;
        }
        let peer = speaker.peer();
        let Some((payload, block)) = self.body(peer, bytes, message) else {
            return;
        };
        let request = match RegisterRequest::parse(message.queries(), &payload) {
            Ok(request) => request,
            Err(error) => {
                self.counters.registrations_refused += 1;
                let text = error.to_string();
                return self.refuse(peer, bytes, message, (refusal(error), &text));
            }
        };
        if !self.store_available {
            return self.refuse(peer, bytes, message, UNAVAILABLE);
        }
        if self.restoring.is_some() && self.find(&request.endpoint).is_none() {
            return self.counters.requests_deferred += 1;
        }
        if matches!(sought, Sought::NotTheirs(_)) {
            self.turn_away(speaker, request.endpoint);
            self.counters.registrations_refused += 1;
            return self.refuse(peer, bytes, message, NOT_YOURS);
        }
        if !self.may_register(speaker, &request.endpoint) {
            self.counters.registrations_refused += 1;
            return self.refuse(peer, bytes, message, NOT_YOURS);
        }
        let key = match self.admit_endpoint(&request.endpoint, sought) {
            Ok(key) => key,
            Err(refusal) => {
                self.counters.registrations_refused += 1;
                let endpoint = request.endpoint;
                self.report(Report::UnknownEndpoint { endpoint, peer });
                return self.refuse(peer, bytes, message, refusal);
            }
        };
        let now = self.now.instant;
        if !self.device_mut(key).may_write(now) {
            return self.counters.requests_ignored += 1;
        }
        self.counters.registrations += 1;
        let [nonce @ .., _] = self.random.next_u32().to_be_bytes();
        let registration = Registered {
            nonce,
            peer,
            displaced: false,
            lifetime_s: request.lifetime_s,
            since: self.now.utc,
            expires: self.lifetime_end(request.lifetime_s),
            stored_until: None,
            supposed: false,
            queue_mode: queue_mode(request.queue_mode),
            lwm2m_version: request.lwm2m_version,
            binding: request.binding,
            objects: ObjectSet::of(&request.objects),
        };
        let excuse = self.excuse(key);
        let displaced = self.devices.register(key, Some(registration));
        self.has_left_its_address(displaced);
        let device = self.device_mut(key);
        device.excuse = None;
        // It may have started anew: what it was asked before is forgotten, and so is what it said.
        device.link.cancel(|_| true);
        device.recent.clear();
        device.observing = false;
        device.set_root(request.objects.root());
        self.look_at_association(key, speaker);
        self.heard(key);
        self.persist_registration(key, Announced::of(&request.objects));
        let endpoint = request.endpoint;
        self.report(Report::Registered { endpoint, peer });
        let id = self.response_id(peer);
        let location = Location {
            device: self.device(key).id,
            registration: nonce,
        };
        let response = created(message, id, location);
        match block {
            None => self.respond_as(peer, bytes, message, response.build(), Reply::Registered),
            Some(block) => self.respond(peer, bytes, message, response.block1(block).build()),
        }
        // Observations end with the registration they were made under.
        self.send_observe(key);
        self.said(key, Said::Registration);
        self.registered_anew(key, excuse);
    }

    /// Whether the device that registers has to be sought first. Of a registration in parts the last one brings it.
    fn seeks_registrant(
        &mut self,
        speaker: &Speaker<'_>,
        bytes: &[u8],
        message: &Message,
        sought: &Sought,
    ) -> bool {
        let parts_follow = (message.block1())
            .is_some_and(|option| Block::decode(option).is_ok_and(|block| block.more));
        if *sought != Sought::NotYet || parts_follow || !self.store_available {
            return false;
        }
        let Ok(request) = RegisterRequest::parse(message.queries(), b"") else {
            return false;
        };
        let id = self.ids.of(&request.endpoint);
        if self.has(id) {
            return false;
        }
        let lwm2m = &self.config.lwm2m;
        let welcome = lwm2m.registration == RegistrationPolicy::Open && self.restoring.is_none();
        let newcomer = welcome.then_some(lwm2m.max_open_devices);
        self.seek(id, By::Name, newcomer, speaker, bytes);
        true
    }

    /// The device whose registration is at that location, if `speaker` may be it. Otherwise it is answered, or sought.
    fn registered(
        &mut self,
        speaker: &Speaker<'_>,
        bytes: &[u8],
        message: &Message,
        location: &[u8],
        sought: &Sought,
    ) -> Option<DeviceKey> {
        if self.puts_off(message) {
            return None;
        }
        let peer = speaker.peer();
        let location = Location::parse(location);
        let found = location.map(|location| (location, self.devices.by_id(location.device)));
        match (found, sought) {
            (Some((location, Some(key))), _) if self.device(key).location() == Some(location) => {
                if self.may_speak_for(speaker, key) {
                    return Some(key);
                }
                self.refuse(peer, bytes, message, NOT_YOURS);
            }
            (Some((location, None)), Sought::NotYet) => {
                let by = By::Location(location);
                self.seek(location.device, by, None, speaker, bytes);
            }
            (Some((_, None)), Sought::NotTheirs(endpoint)) => {
                self.turn_away(speaker, endpoint.to_string());
                self.refuse(peer, bytes, message, NOT_YOURS);
            }
            _ if self.restoring.is_some() => self.counters.requests_deferred += 1,
            (found, _) => {
                if let Some((_, Some(key))) = found {
                    self.device_mut(key).excuse = Some(Excuse::Refused);
                }
                self.refuse(peer, bytes, message, (Code::NOT_FOUND, ""));
            }
        }
        None
    }

    fn update(&mut self, key: DeviceKey, speaker: &Speaker<'_>, bytes: &[u8], message: &Message) {
        let peer = speaker.peer();
        let Some((payload, block)) = self.body(peer, bytes, message) else {
            return;
        };
        let request = match UpdateRequest::parse(message.queries(), &payload) {
            Ok(request) => request,
            Err(error) => {
                let text = error.to_string();
                return self.refuse(peer, bytes, message, (refusal(error), &text));
            }
        };
        if !self.store_available {
            self.device_mut(key).excuse = Some(Excuse::Refused);
            return self.refuse(peer, bytes, message, UNAVAILABLE);
        }
        let now = self.now.instant;
        let Some(registration) = self.device(key).registration.as_ref() else {
            return;
        };
        let moved = registration.displaced || registration.peer != peer;
        let lifetime_s = request.lifetime_s.unwrap_or(registration.lifetime_s);
        let queue_mode = (request.queue_mode).map_or(registration.queue_mode, queue_mode);
        let binding = request.binding.unwrap_or(registration.binding);
        let expires = self.lifetime_end(lifetime_s);
        let news = moved
            || lifetime_s != registration.lifetime_s
            || queue_mode != registration.queue_mode
            || binding != registration.binding
            || request.objects.is_some()
            || registration.is_due_to_be_written(expires);
        if news && !self.device_mut(key).may_write(now) {
            self.device_mut(key).excuse = Some(Excuse::Refused);
            return self.counters.requests_ignored += 1;
        }
        let device = self.device_mut(key);
        if let Some(objects) = &request.objects {
            device.set_root(objects.root());
        }
        if let Some(registration) = device.registration.as_mut() {
            registration.lifetime_s = lifetime_s;
            registration.queue_mode = queue_mode;
            registration.binding = binding;
            if let Some(objects) = &request.objects {
                registration.objects = ObjectSet::of(objects);
            }
            registration.expires = expires;
            registration.supposed = false;
        }
        self.move_to(key, peer);
        self.look_at_association(key, speaker);
        self.heard(key);
        if news {
            let announced = request.objects.as_ref().and_then(Announced::of);
            self.persist_registration(key, announced);
        }
        match block {
            None => {
                let id = self.response_id(peer);
                let response = short_response(message, Code::CHANGED, id, Bytes::new());
                let reply = Reply::Code(Code::CHANGED);
                self.respond_as(peer, bytes, message, response, reply);
            }
            Some(block) => {
                let response = self.response(peer, message, Code::CHANGED).block1(block);
                self.respond(peer, bytes, message, response.build());
            }
        }
        self.said(key, Said::Update);
        self.fire(key, Event::Heard);
    }

    /// Whether a part of a body is left to be sent again: while devices are still being read, the last part might
    /// have no answer.
    fn puts_off(&mut self, message: &Message) -> bool {
        let later = self.restoring.is_some() && message.block1().is_some();
        self.counters.requests_deferred += u64::from(later);
        later
    }

    fn deregister_request(&mut self, key: DeviceKey, peer: Peer, bytes: &[u8], message: &Message) {
        if !self.store_available {
            return self.refuse(peer, bytes, message, UNAVAILABLE);
        }
        self.note(key, "has ended its registration".to_owned());
        self.deregister(key);
        let after = self.device(key).pending;
        let response = self.response(peer, message, Code::DELETED).build();
        self.transmit(peer, response, after);
    }

    /// Ends a registration. An upgrade goes on: the device may register again.
    pub(super) fn deregister(&mut self, key: DeviceKey) {
        self.devices.register(key, None);
        let at = self.now.utc;
        let device = self.device_mut(key);
        device.observing = false;
        device.link.cancel(|_| true);
        let endpoint = device.endpoint.to_string();
        self.persist(key, Change::Deregistered { endpoint, at });
        self.tell_presence(key);
    }

    /// The endpoint's device, if it may register.
    fn admit_endpoint(&mut self, endpoint: &str, sought: &Sought) -> Result<DeviceKey, Refusal> {
        if let Some(key) = self.find(endpoint) {
            return Ok(key);
        }
        match self.config.lwm2m.registration {
            RegistrationPolicy::Known => Err((Code::FORBIDDEN, "unknown endpoint")),
            RegistrationPolicy::Open if *sought == Sought::Newcomer => {
                Ok(self.insert_device(endpoint, OPEN_PRODUCT))
            }
            RegistrationPolicy::Open => Err((Code::FORBIDDEN, "no more endpoints")),
        }
    }

    /// The request's body, and the Block1 option for its response. `None` when more blocks are to come,
    /// or the transfer failed: then it is answered already.
    fn body(
        &mut self,
        peer: Peer,
        bytes: &[u8],
        message: &Message,
    ) -> Option<(Vec<u8>, Option<u32>)> {
        let Some(option) = message.block1() else {
            return Some((message.payload().to_vec(), None));
        };
        let Ok(block) = Block::decode(option) else {
            self.refuse(
                peer,
                bytes,
                message,
                (Code::BAD_OPTION, "reserved block size"),
            );
            return None;
        };
        let taken = self
            .reassembly
            .accept(self.now.instant, peer, block, message.payload());
        match taken {
            Reassembled::Complete(body) => Some((body, Some(option))),
            Reassembled::Continue => {
                let response = self.response(peer, message, Code::CONTINUE).block1(option);
                self.respond(peer, bytes, message, response.build());
                None
            }
            Reassembled::Incomplete => {
                let refusal = (Code::REQUEST_ENTITY_INCOMPLETE, "blocks are missing");
                self.refuse(peer, bytes, message, refusal);
                None
            }
            Reassembled::Busy => {
                self.refuse(peer, bytes, message, UNAVAILABLE);
                None
            }
            Reassembled::TooLarge => {
                let refusal = (Code::REQUEST_ENTITY_TOO_LARGE, "too many links");
                self.refuse(peer, bytes, message, refusal);
                None
            }
        }
    }

    fn lifetime_end(&self, lifetime_s: u32) -> crate::clock::Instant {
        self.now.instant + std::time::Duration::from_secs(lifetime_s.into())
    }

    /// The device is heard from another address: a NAT has forgotten the old one.
    pub(super) fn move_to(&mut self, key: DeviceKey, peer: Peer) {
        let before = self.device(key).peer();
        let displaced = self.devices.move_to(key, peer);
        self.has_left_its_address(displaced);
        if before.is_some_and(|before| before != peer) {
            let address = peer.address;
            self.note_once(key, Repeated::Address, || {
                format!("heard from another address: {address}")
            });
        }
    }

    /// Somebody else is where that device was. It is sent nothing more, which would reach the wrong device, and
    /// asked again when it is heard from where it is.
    pub(super) fn has_left_its_address(&mut self, displaced: Option<DeviceKey>) {
        if let Some(other) = displaced {
            self.device_mut(other).link.send_again();
            self.tell_presence(other);
        }
    }

    /// Has the store know the device's registration, with what it announces if that is news.
    pub(super) fn persist_registration(
        &mut self,
        key: DeviceKey,
        announced: Option<Box<Announced>>,
    ) {
        let now = self.now;
        let device = self.device_mut(key);
        if let Some(registration) = &mut device.registration {
            registration.stored_until = Some(registration.known_end());
            let change = Change::Registered {
                endpoint: device.endpoint.to_string(),
                registration: Registration {
                    announced,
                    ..registration.record(now, device.id)
                },
                at: now.utc,
            };
            self.persist(key, change);
        }
    }
}

const NOT_YOURS: Refusal = (Code::FORBIDDEN, "not your endpoint");
const UNAVAILABLE: Refusal = (Code::SERVICE_UNAVAILABLE, "try later");

/// LwM2M 1.1 §6.2.1.3: a version that is not spoken here has a code of its own.
const fn refusal(error: RegisterError) -> Code {
    match error {
        RegisterError::Version => Code::PRECONDITION_FAILED,
        _ => Code::BAD_REQUEST,
    }
}

const fn queue_mode(on: bool) -> QueueMode {
    if on { QueueMode::On } else { QueueMode::Off }
}
