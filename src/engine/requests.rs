//! The LwM2M registration interface: devices register, update their registration, and end it.

use bytes::Bytes;
use rand_chacha::rand_core::Rng;

use super::{
    Announced, Change, Engine, Incoming, Location, QueueMode, Registration, Report, Sought,
    Speaker,
    device::HeardOver,
    key::DeviceKey,
    moves::{By, Welcome},
    registered::{Excuse, Registered, Validation},
    respond::created,
    told::ObjectSet,
};
use crate::{
    clock::Instant,
    coap::{Block, Code, Kind, Message, Reply, short_response},
    config::RegistrationPolicy,
    ledger::{Happened, Inbound},
    lwm2m::{RegisterError, RegisterRequest, UpdateRequest},
    upgrade::Input,
};

/// The product of devices that open registration lets in.
const OPEN_PRODUCT: &str = "default";

/// An error response: its code, and a text for whoever reads the device's log (RFC 7252 §5.5.2).
type Refusal = (Code, &'static str);

impl Engine {
    /// Returns what that means for the sender's upgrade, if it is registered now.
    pub(super) fn register(&mut self, incoming: &Incoming<'_>) -> Option<Input> {
        if self.puts_off(incoming.message)
            || self.seeks_registrant(incoming)
            || self.refuses_first_block(incoming)
        {
            return None;
        }
        let peer = incoming.peer();
        let (payload, block) = self.links(incoming)?;
        let request = self.read_registration(incoming, &payload)?;
        if self.keeps_out(incoming, &request.endpoint) {
            return None;
        }
        let Some(key) = self.admit_endpoint(&request.endpoint, incoming.sought) else {
            self.refuse_newcomer(incoming, request.endpoint);
            return None;
        };
        if self.refuses_path(incoming, key, request.objects.root()) {
            return None;
        }
        let now = self.now.instant;
        let (valid, pressed) = (self.is_valid_at(key, peer), self.is_pressed());
        let device = self.device_mut(key);
        if !valid && device.is_newcomer() && pressed {
            self.counters.writes_put_off += 1;
            self.refuse(incoming, UNAVAILABLE);
            return None;
        }
        if !device.may_write_as(now, valid) {
            self.counters.requests_ignored += 1;
            return None;
        }
        self.counters.registrations += 1;
        let registration = self.registration(key, valid, incoming, &request);
        let nonce = registration.nonce;
        let excuse = self.excuse(key, incoming.bytes, incoming.message.message_id());
        self.is_registered(key, registration, &incoming.speaker);
        self.device_mut(key).begins_anew(&request.objects);
        self.lifetime_told(key, request.tells_lifetime.then_some(request.lifetime_s));
        self.persist_registration(key, Announced::of(&request.objects));
        let endpoint = request.endpoint;
        self.report(Report::Registered { endpoint, peer });
        let id = self.response_id(peer);
        let location = Location {
            device: self.device(key).id,
            registration: nonce,
        };
        let response = created(incoming.message, id, location);
        match block {
            None => self.respond_as(incoming, response.build(), Reply::Registered),
            Some(block) => self.respond(incoming, response.block1(block).build()),
        }
        // Observations end with the registration they were made under.
        if self.observes_uplink(key) {
            self.send_observe(key);
        }
        self.begins_anew_by_object(key);
        self.ask_again_what_it_runs(key);
        self.said(key, Inbound::Registration);
        Some(self.explain_registration(key, excuse))
    }

    /// The device is where it has registered from, itself or through its gateway.
    fn is_registered(&mut self, key: DeviceKey, registration: Registered, speaker: &Speaker<'_>) {
        let shared = self.shares_with(key);
        let through = self.goes_through(key, speaker);
        self.devices.set_through(key, through);
        let displaced = self.devices.register(key, Some(registration));
        self.has_left_its_address(displaced);
        self.gathers(key, speaker.peer());
        self.has_left_company(key, shared);
    }

    /// The registration of a device, which may have shown to be at its address (`valid`).
    fn registration(
        &mut self,
        key: DeviceKey,
        valid: bool,
        incoming: &Incoming<'_>,
        request: &RegisterRequest,
    ) -> Registered {
        let [nonce @ .., _] = self.random.next_u32().to_be_bytes();
        Registered {
            nonce,
            peer: incoming.peer(),
            message_id: Some(incoming.message.message_id()),
            displaced: false,
            validation: if valid {
                Validation::Valid
            } else {
                Validation::pending(incoming.bytes.len())
            },
            lifetime_s: request.lifetime_s,
            since: self.now.utc,
            expires: self.first_end(key, valid, request.lifetime_s),
            stored_until: None,
            supposed: false,
            queue_mode: queue_mode(request.queue_mode),
            lwm2m_version: request.lwm2m_version,
            binding: request.binding,
            objects: ObjectSet::of(&request.objects),
        }
    }

    /// What a registration says, with this body. One that cannot be read is answered.
    fn read_registration(
        &mut self,
        incoming: &Incoming<'_>,
        payload: &[u8],
    ) -> Option<RegisterRequest> {
        match RegisterRequest::parse(incoming.message.queries(), payload) {
            Ok(request) => Some(request),
            Err(error) => {
                self.counters.registrations_refused += 1;
                let text = error.to_string();
                self.refuse(incoming, (refusal(error), &text));
                None
            }
        }
    }

    /// Whether the device that registers has to be sought first. Of a registration in blocks the last one brings it; whether
    /// it is known is asked with the first.
    fn seeks_registrant(&mut self, incoming: &Incoming<'_>) -> bool {
        let part = part(incoming.message);
        if *incoming.sought != Sought::NotYet || part == Part::Middle || !self.store_available {
            return false;
        }
        let Ok(request) = RegisterRequest::parse(incoming.message.queries(), b"") else {
            return false;
        };
        let id = self.ids.of(&request.endpoint);
        if self.has(id) {
            return false;
        }
        // with the first of several blocks it does not come yet
        let comes = self.restoring.is_none() && part == Part::Last && !self.is_pressed();
        let newcomer = Welcome::of(&self.config.lwm2m).filter(|_| comes);
        let by = match part {
            Part::First => By::NameInPart,
            Part::Middle | Part::Last => By::Name,
        };
        self.seek(id, by, newcomer, incoming);
        true
    }

    /// Whether the first of several blocks is not taken, because the registration would be refused: nobody is kept memory for
    /// whom nobody knows. It is answered.
    fn refuses_first_block(&mut self, incoming: &Incoming<'_>) -> bool {
        if part(incoming.message) != Part::First {
            return false;
        }
        let request = self.read_registration(incoming, b"");
        request.is_none_or(|it| self.keeps_out(incoming, &it.endpoint))
    }

    /// Whether nobody may register as `endpoint` from there, or not now. It is answered, unless it will be said again.
    fn keeps_out(&mut self, incoming: &Incoming<'_>, endpoint: &str) -> bool {
        let elsewhere = *incoming.sought == Sought::Elsewhere;
        let known = elsewhere || self.find(endpoint).is_some();
        if !self.store_available {
            self.refuse(incoming, UNAVAILABLE);
        } else if self.is_overloaded() {
            self.counters.writes_put_off += 1;
            self.refuse(incoming, UNAVAILABLE);
        } else if self.restoring.is_some() && !known {
            self.counters.requests_deferred += 1;
        } else if matches!(incoming.sought, Sought::NotTheirs(_)) {
            self.turn_away(&incoming.speaker, endpoint.to_owned());
            self.counters.registrations_refused += 1;
            self.refuse(incoming, NOT_YOURS);
        } else if !elsewhere && !self.may_register(&incoming.speaker, endpoint) {
            self.counters.registrations_refused += 1;
            self.refuse(incoming, NOT_YOURS);
        } else if !known && self.config.lwm2m.registration == RegistrationPolicy::Known {
            self.refuse_unknown(incoming, endpoint.to_owned());
        } else {
            return false;
        }
        true
    }

    /// Answers a registration of an endpoint that nobody added, and tells the operator.
    fn refuse_unknown(&mut self, incoming: &Incoming<'_>, endpoint: String) {
        self.counters.registrations_refused += 1;
        let lwm2m = &self.config.lwm2m;
        let (reached, text) = match lwm2m.registration {
            RegistrationPolicy::Known => (None, "unknown endpoint"),
            RegistrationPolicy::Open => (Some(lwm2m.max_open_devices), "no more endpoints"),
        };
        self.report(Report::UnknownEndpoint {
            endpoint,
            peer: incoming.peer(),
            reached,
        });
        self.refuse(incoming, (Code::FORBIDDEN, text));
    }

    /// The device whose registration is at that location, if `speaker` may be it. Otherwise it is answered, or sought.
    pub(super) fn registered(
        &mut self,
        incoming: &Incoming<'_>,
        location: &[u8],
    ) -> Option<DeviceKey> {
        if self.puts_off(incoming.message) {
            return None;
        }
        let location = Location::parse(location);
        let found = location.map(|location| (location, self.devices.by_id(location.device)));
        match (found, incoming.sought) {
            (Some((location, Some(key))), _) if self.device(key).location() == Some(location) => {
                if self.may_speak_for(&incoming.speaker, key) {
                    return Some(key);
                }
                self.refuse(incoming, NOT_YOURS);
            }
            (Some((location, None)), Sought::NotYet) => {
                let by = By::Location(location);
                self.seek(location.device, by, None, incoming);
            }
            (Some((_, None)), Sought::NotTheirs(endpoint)) => {
                self.turn_away(&incoming.speaker, endpoint.to_string());
                self.refuse(incoming, NOT_YOURS);
            }
            _ if self.restoring.is_some() => self.counters.requests_deferred += 1,
            (found, _) => {
                if let Some((_, Some(key))) = found {
                    self.device_mut(key).excuse = Some(Excuse::Refused);
                }
                self.refuse(incoming, (Code::NOT_FOUND, ""));
            }
        }
        None
    }

    pub(super) fn update(&mut self, key: DeviceKey, incoming: &Incoming<'_>) {
        let Some((payload, block)) = self.links(incoming) else {
            return;
        };
        let Some(request) = self.read_update(key, incoming, &payload) else {
            return;
        };
        if !self.store_available {
            self.device_mut(key).excuse = Some(Excuse::Refused);
            return self.refuse(incoming, UNAVAILABLE);
        }
        self.validate(key); // nobody else knows the location
        let now = self.now.instant;
        let Some(registration) = self.device(key).registration.as_ref() else {
            return;
        };
        let moved = registration.displaced || registration.peer != incoming.peer();
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
        if news && self.is_overloaded() {
            self.counters.writes_put_off += 1;
            self.device_mut(key).excuse = Some(Excuse::Refused);
            return self.refuse(incoming, UNAVAILABLE);
        }
        if news && !self.device_mut(key).may_write(now) {
            self.device_mut(key).excuse = Some(Excuse::Refused);
            return self.counters.requests_ignored += 1;
        }
        let device = self.device_mut(key);
        if let Some(objects) = &request.objects {
            device.set_root(objects.root());
            device.set_instances(objects);
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
        self.move_to(key, &incoming.speaker);
        self.lifetime_told(key, request.lifetime_s);
        if news {
            self.persist_registration(key, request.objects.as_ref().and_then(Announced::of));
        }
        self.respond_changed(incoming, block);
        self.said(key, Inbound::Update);
    }

    /// What an update says, with this body. One that cannot be read, or says what cannot be, is answered.
    fn read_update(
        &mut self,
        key: DeviceKey,
        incoming: &Incoming<'_>,
        payload: &[u8],
    ) -> Option<UpdateRequest> {
        match UpdateRequest::parse(incoming.message.queries(), payload) {
            Ok(request) => {
                // without links its objects are where it has said before, which may have been over an association of its own
                let known = self.device(key).root_path().map(str::to_owned);
                let root = match &request.objects {
                    Some(objects) => objects.root(),
                    None => known.as_deref(),
                };
                let refused = self.refuses_path(incoming, key, root);
                (!refused).then_some(request)
            }
            Err(error) => {
                let text = error.to_string();
                self.refuse(incoming, (refusal(error), &text));
                None
            }
        }
    }

    /// Whether a part of a body is left to be sent again: while devices are still being read, the last part might
    /// have no answer.
    fn puts_off(&mut self, message: &Message) -> bool {
        let later = self.restoring.is_some() && message.block1().is_some();
        self.counters.requests_deferred += u64::from(later);
        later
    }

    pub(super) fn deregister_request(&mut self, key: DeviceKey, incoming: &Incoming<'_>) {
        if !self.store_available || self.is_overloaded() {
            return self.refuse(incoming, UNAVAILABLE);
        }
        self.note(key, Happened::Deregistered.into());
        let id = self.response_id(incoming.peer());
        self.deregister(key);
        let response = short_response(incoming.message, Code::DELETED, id, Bytes::new());
        let reply = match incoming.message.kind() {
            Kind::Confirmable => Reply::Code(Code::DELETED),
            _ => Reply::Response(Box::new(response.clone())),
        };
        let now = self.now.instant;
        let device = self.device_mut(key);
        (device.recent).remember(now, incoming.message.message_id(), incoming.bytes, reply);
        let after = device.pending;
        self.transmit(incoming.peer(), response, after);
    }

    /// Answers the repeat of a deregistration as the deregistration was. Returns whose it was.
    pub(super) fn answer_farewell(
        &mut self,
        incoming: &Incoming<'_>,
        location: &[u8],
    ) -> Option<DeviceKey> {
        let location = Location::parse(location)?;
        let key = self.devices.by_id(location.device)?;
        let device = self.device(key);
        let theirs = incoming.speaker.may_be(device);
        let ended = device.location() != Some(location);
        let answered = theirs && ended && self.answer_repeat(key, incoming);
        answered.then_some(key)
    }

    /// Ends a registration. An upgrade goes on: the device may register again.
    pub(super) fn deregister(&mut self, key: DeviceKey) {
        let shared = self.shares_with(key);
        self.devices.register(key, None);
        let at = self.now.utc;
        let device = self.device_mut(key);
        device.observing = false;
        device.link.cancel(|_| true);
        let endpoint = device.endpoint.to_string();
        self.persist(key, Change::Deregistered { endpoint, at });
        self.tell_presence(key);
        if let Some(gateway) = shared {
            self.pass_turn(gateway);
        }
    }

    /// The endpoint's device, which is made of a newcomer. `None` when there are as many as may be.
    fn admit_endpoint(&mut self, endpoint: &str, sought: &Sought) -> Option<DeviceKey> {
        let known = self.find(endpoint);
        known.or_else(|| {
            (*sought == Sought::Newcomer).then(|| {
                let key = self.insert_device(endpoint, OPEN_PRODUCT);
                self.device_mut(key).heard_over = HeardOver::Open;
                key
            })
        })
    }

    /// Answers a newcomer for whom there is no room, or not now.
    fn refuse_newcomer(&mut self, incoming: &Incoming<'_>, endpoint: String) {
        if *incoming.sought == Sought::TooManyCome {
            self.counters.newcomers_put_off += 1;
            self.report(Report::TooManyCome {
                endpoint,
                peer: incoming.peer(),
            });
        } else if self.is_pressed() {
            self.counters.writes_put_off += 1;
        } else {
            return self.refuse_unknown(incoming, endpoint);
        }
        self.refuse(incoming, UNAVAILABLE);
    }

    /// When a registration ends that is made now. A newcomer that answers nothing is not kept for as long as it says.
    fn first_end(&self, key: DeviceKey, valid: bool, lifetime_s: u32) -> Instant {
        let end = self.lifetime_end(lifetime_s);
        let doubtful = self.device(key).is_newcomer() && !valid;
        if doubtful {
            end.min(self.now.instant + Validation::LIFETIME)
        } else {
            end
        }
    }

    fn lifetime_end(&self, lifetime_s: u32) -> Instant {
        self.now.instant + std::time::Duration::from_secs(lifetime_s.into())
    }

    /// Has the store know the device's registration, with what it announces if that is news.
    pub(super) fn persist_registration(
        &mut self,
        key: DeviceKey,
        announced: Option<Box<Announced>>,
    ) {
        self.learn_rhythm(key, self.now.instant);
        let now = self.now;
        let device = self.device_mut(key);
        let wake_ups = (device.known.as_ref()).and_then(|known| known.wake_ups);
        if let Some(registration) = &mut device.registration {
            registration.stored_until = Some(registration.known_end());
            let change = Change::Registered {
                endpoint: device.endpoint.to_string(),
                registration: Registration {
                    announced,
                    ..registration.record(now, device.id)
                },
                wake_ups,
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

/// Which part of its body a request brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The first of several.
    First,
    Middle,
    /// The end of several, or the whole.
    Last,
}

fn part(message: &Message) -> Part {
    match message.block1().map(Block::decode) {
        Some(Ok(block)) if block.more && block.number == 0 => Part::First,
        Some(Ok(block)) if block.more => Part::Middle,
        _ => Part::Last,
    }
}

const fn queue_mode(on: bool) -> QueueMode {
    if on { QueueMode::On } else { QueueMode::Off }
}
