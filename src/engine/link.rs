//! Requests to a device: what is queued, what leaves, and what comes of it.

use std::time::Duration;

use bytes::Bytes;
use rand_chacha::rand_core::Rng;

use super::{About, Effect, Engine, Incoming, asked::Tag, device::Device, key::DeviceKey};
use crate::{
    coap::{Code, Datagram, Kind, LinkEvent, Message, MessageBuilder, Peer, QueuedRequest, Token},
    ledger::{Fate, Happened, Inbound, Postponed, Repeated, UpdateStep},
    lwm2m::ResourcePath,
    upgrade::{Input, transfer::pcp::PcpInput},
};

/// When a request leaves that was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    Now,
    /// Behind another request to the device.
    Behind,
    /// When the device can be reached again; why it cannot be now.
    Later(Postponed),
}

/// How often a request was sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Try {
    First,
    Again,
}

/// Between two Resets of the request for an observation that both have it made anew.
const REFUSED_OBSERVATION: Duration = Duration::from_mins(10);
/// Between two Resets of ours that both have it made anew.
pub(super) const STRANGE_NOTIFICATION: Duration = Duration::from_secs(5);

impl Engine {
    /// Queues a PCP frame for the device, in place of one of the same kind that has not arrived.
    pub(super) fn send_frame(&mut self, key: DeviceKey, tag: Tag, frame: Bytes) {
        let request = self.frame_request(key, tag, frame);
        self.enqueue(key, request);
    }

    /// The same ahead of all that waits.
    pub(super) fn send_frame_first(&mut self, key: DeviceKey, tag: Tag, frame: Bytes) {
        if self.device(key).link.waits(|other| same_kind(*other, tag)) {
            return; // something newer takes its place
        }
        let request = self.frame_request(key, tag, frame);
        self.device_mut(key).link.send_first(request);
    }

    fn frame_request(&mut self, key: DeviceKey, tag: Tag, frame: Bytes) -> QueuedRequest<Tag> {
        let token = self.fresh_token();
        (self.device_mut(key).link).cancel(|pending| same_kind(*pending, tag));
        let message_id = self.take_message_id(key);
        let datagram = self.write(key, message_id, token, frame);
        QueuedRequest::new(tag, message_id, token, datagram)
    }

    /// Queues a PCP message for the device.
    pub(super) fn send_message(
        &mut self,
        key: DeviceKey,
        tag: Tag,
        message: &pcp::PlatformMessage<'_>,
    ) {
        // Room for every message that is not a segment.
        let mut buffer = [0; 64];
        if let Ok(frame) = message.encode(&mut buffer) {
            self.send_frame(key, tag, Bytes::copy_from_slice(frame));
        }
    }

    /// Queues a GET.
    pub(super) fn send_read(&mut self, key: DeviceKey, path: ResourcePath, block2: Option<u32>) {
        let token = self.fresh_token();
        let accept = self.accept_of_read(key, &path);
        (self.device_mut(key).link).cancel(|pending| *pending == Tag::Read);
        let message_id = self.take_message_id(key);
        let device = self.device(key);
        let get = MessageBuilder::new(Kind::Confirmable, Code::GET, message_id, token);
        let mut builder = below(device, get, path);
        if let Some(format) = accept {
            builder = builder.accept(format);
        }
        if let Some(block) = block2 {
            builder = builder.block2(block);
        }
        let datagram = builder.build();
        self.enqueue(
            key,
            QueuedRequest::new(Tag::Read, message_id, token, datagram),
        );
    }

    /// Queues the observation of the uplink (RFC 7641 §3.1), unless one is on its way, and before it the attributes that
    /// it is to have.
    pub(super) fn send_observe(&mut self, key: DeviceKey) {
        if (self.device(key).link).is_pending(|tag| *tag == Tag::Observe) {
            return;
        }
        if self.profile(key).pmin_zero {
            self.send_attributes(key);
        }
        let request = self.observation(key);
        self.enqueue(key, request);
    }

    fn observation(&mut self, key: DeviceKey) -> QueuedRequest<Tag> {
        let accept = self.accept_of_observation(key);
        let message_id = self.take_message_id(key);
        let device = self.device(key);
        let token = device.observation().token();
        let get = MessageBuilder::new(Kind::Confirmable, Code::GET, message_id, token).observe(0);
        let mut builder = below(device, get, ResourcePath::UPLINK);
        if let Some(format) = accept {
            builder = builder.accept(format);
        }
        QueuedRequest::new(Tag::Observe, message_id, token, builder.build())
    }

    /// A Reset has ended the observation, or what the device took for one: it is made anew at once, but not twice within
    /// `pause`, so that two sides that reset each other come to rest.
    pub(super) fn observe_anew(&mut self, key: DeviceKey, pause: Duration) {
        let now = self.now.instant;
        let device = self.device_mut(key);
        let last = &mut device.known.get_or_insert_default().observed_anew_at;
        if last.is_none_or(|at| now.since(at) >= pause) {
            *last = Some(now);
            self.send_observe(key);
        }
    }

    /// Queues pmin = 0 for the uplink (Write-Attributes, LwM2M 1.0 §5.4.4, 1.1 §6.3.5): every notification leaves at once.
    fn send_attributes(&mut self, key: DeviceKey) {
        let token = self.fresh_token();
        (self.device_mut(key).link).cancel(|tag| *tag == Tag::Attributes);
        let message_id = self.take_message_id(key);
        let device = self.device(key);
        let put = MessageBuilder::new(Kind::Confirmable, Code::PUT, message_id, token);
        let write = below(device, put, ResourcePath::UPLINK).query("pmin=0");
        let datagram = write.build();
        self.enqueue(
            key,
            QueuedRequest::new(Tag::Attributes, message_id, token, datagram),
        );
    }

    /// Queues a ping: an empty Confirmable message, which the device rejects (RFC 7252 §4.3).
    pub(super) fn send_ping(&mut self, key: DeviceKey) {
        if (self.device(key).link).is_pending(|tag| *tag == Tag::Ping) {
            return;
        }
        let message_id = self.take_message_id(key);
        let token = Token::default();
        let datagram =
            MessageBuilder::new(Kind::Confirmable, Code::EMPTY, message_id, token).build();
        self.enqueue(
            key,
            QueuedRequest::new(Tag::Ping, message_id, token, datagram),
        );
    }

    pub(super) fn enqueue(&mut self, key: DeviceKey, request: QueuedRequest<Tag>) {
        let device = &mut self.devices[key];
        let rules = &self.profiles[device.product].transmission;
        if device.link.send(rules, request).is_err() {
            self.counters.requests_dropped += 1;
        }
    }

    pub(super) fn fresh_token(&mut self) -> Token {
        Token::new(&self.random.next_u32().to_be_bytes())
    }

    /// Why nothing may be sent to the device now, if so.
    fn unreachable(&self, key: DeviceKey) -> Option<Postponed> {
        let device = self.device(key);
        if device.registration.is_none() {
            return Some(Postponed::NotRegistered);
        }
        if device.peer().is_none() {
            return Some(Postponed::AddressUnknown);
        }
        if (self.restoring).is_some_and(|since| device.heard_at.is_none_or(|at| at < since)) {
            // another device may be there, which is not read yet
            return Some(Postponed::ServerStarting);
        }
        // What is sent in vain is sent again when it is heard; what is held back in vain is held back for hours.
        let window = self.habits(key).listening.at_most();
        (device.sleeps() && !device.is_awake(self.now.instant, window)).then_some(Postponed::Asleep)
    }

    /// When the request that was queued last under that name leaves.
    pub(super) fn leaves(&self, key: DeviceKey, tag: Tag) -> Leaves {
        if let Some(why) = self.unreachable(key) {
            return Leaves::Later(why);
        }
        match self.device(key).link.next_waiting() {
            Some(next) if next == tag && !self.waits_for_its_turn(key) => Leaves::Now,
            _ => Leaves::Behind,
        }
    }

    /// Lets the next request leave, when the device listens.
    pub(super) fn flush(&mut self, key: DeviceKey) {
        if self.may_be_sent_to(key) {
            self.flush_in_turn(key);
        }
    }

    /// Whether a request waits that may leave, unless one is outstanding.
    pub(super) fn may_be_sent_to(&self, key: DeviceKey) -> bool {
        self.device(key).link.has_waiting() && self.unreachable(key).is_none()
    }

    /// The next request, and to where it leaves now.
    pub(super) fn poll_request(&mut self, key: DeviceKey) -> Option<(Peer, Datagram)> {
        let now = self.now.instant;
        let device = &mut self.devices[key];
        let peer = device.peer()?;
        let random = self.random.next_u32();
        let rules = &self.profiles[device.product].transmission;
        let datagram = device.link.poll_transmit(now, rules, random)?;
        Some((peer, datagram))
    }

    /// Sends the outstanding request.
    pub(super) fn leave(&mut self, key: DeviceKey, peer: Peer, datagram: Datagram, sent: Try) {
        if self.withholds(key, datagram.len(), sent) {
            return self.counters.requests_withheld += 1; // as if it were lost
        }
        if sent == Try::Again {
            self.counters.requests_repeated += 1;
        } else {
            self.asks_after_silence(key);
        }
        self.has_left(key);
        self.count_sent(key, peer, datagram.len(), sent);
        let device = self.device(key);
        let after = device.pending;
        let about = device.session.as_ref().map(|it| About {
            upgrade: it.order.upgrade,
            again: sent == Try::Again,
        });
        self.effects.push_back(Effect::Transmit {
            peer,
            datagram,
            after,
            about,
        });
    }

    /// A request leaves for a device that sleeps: the answer shows whether it has listened until now.
    fn asks_after_silence(&mut self, key: DeviceKey) {
        let now = self.now.instant;
        let device = self.device_mut(key);
        let silence = (device.heard_at).filter(|_| device.sleeps());
        if let Some(session) = device.session.as_mut() {
            session.silence = silence.map(|at| now.since(at));
        }
    }

    /// The silence after which the device was asked what is outstanding, unless it has spoken by itself since.
    pub(super) fn silence(&mut self, key: DeviceKey) -> Option<Duration> {
        self.device_mut(key).session.as_mut()?.silence.take()
    }

    /// Whether what was sent to the device is not sent again.
    pub(super) fn is_asked_once(&self, key: DeviceKey) -> bool {
        let device = self.device(key);
        device.is_unproven() && device.session.is_none()
    }

    /// Whether a request is not sent, because the device's address may be false. Nobody is sent the same again from whom
    /// nothing but a registration came, unless an upgrade waits for it; and nobody more than three times what came.
    fn withholds(&mut self, key: DeviceKey, len: usize, sent: Try) -> bool {
        if sent == Try::Again && self.is_asked_once(key) {
            return true;
        }
        let registration = self.device_mut(key).registration.as_mut();
        registration.is_some_and(|registration| !registration.validation.allows(len))
    }

    /// An acknowledgement or a Reset.
    pub(super) fn answered(&mut self, key: DeviceKey, incoming: &Incoming<'_>) {
        let message = incoming.message;
        if self.device(key).link.awaits(message) {
            self.count_came(key, incoming, Try::First);
        }
        if !self.take_answer(key, message) {
            // late answers to what was taken back are common, and mean nothing
            self.counters.messages_unexpected += 1;
        }
    }

    /// Takes a message that belongs to a request. Returns whether it does.
    pub(super) fn take_answer(&mut self, key: DeviceKey, message: &Message) -> bool {
        let now = self.now.instant;
        let device = &mut self.devices[key];
        let refused = (device.link.request_of(message))
            .filter(|_| !message.code().is_success())
            .cloned();
        let rules = &self.profiles[device.product].transmission;
        let event = device.link.handle_message(now, rules, message);
        let Some(event) = event else {
            return false;
        };
        self.validate(key);
        if let Some(silence) = self.silence(key) {
            self.learn(key, |habits| habits.listening.answered_after(silence));
        }
        if let (LinkEvent::Responded(tag), Some(request)) = (&event, refused)
            && tag.is_frame()
            && self.writes_in_own_format(key, *tag, message.code(), &request)
        {
            return true;
        }
        self.link_event(key, event, Some(message));
        true
    }

    pub(super) fn link_event(
        &mut self,
        key: DeviceKey,
        event: LinkEvent<Tag>,
        message: Option<&Message>,
    ) {
        if matches!(event, LinkEvent::TimedOut(_) | LinkEvent::Unanswered(_))
            && let Some(silence) = self.silence(key)
        {
            self.learn(key, |habits| habits.listening.silent_after(silence));
        }
        let fate = match (&event, message) {
            (LinkEvent::Responded(tag), Some(message)) if !message.code().is_success() => {
                let answer = message.code().to_string();
                Some((*tag, Fate::Refused { answer }))
            }
            (LinkEvent::Responded(tag) | LinkEvent::Acknowledged(tag), _) => {
                Some((*tag, Fate::Acknowledged))
            }
            // a ping is answered so
            (LinkEvent::Rejected(Tag::Ping), _) => Some((Tag::Ping, Fate::Acknowledged)),
            (LinkEvent::Rejected(tag), _) => Some((*tag, Fate::Rejected)),
            (LinkEvent::TimedOut(_) | LinkEvent::Unanswered(_), _) => None,
        };
        if let Some((tag, fate)) = fate {
            self.fared(key, tag, fate);
        }
        match (event, message) {
            (LinkEvent::Responded(tag), Some(message)) => self.responded(key, tag, message),
            (LinkEvent::Acknowledged(Tag::Execute), _) => {
                self.fire(key, Input::Pcp(PcpInput::ExecuteDelivered));
            }
            // Some stacks acknowledge an empty message instead of rejecting it.
            (LinkEvent::Acknowledged(Tag::Ping) | LinkEvent::Rejected(Tag::Ping), _) => {
                let now = self.now.instant;
                let device = self.device_mut(key);
                device.link.cancel(|tag| *tag == Tag::Ping);
                if let Some(session) = device.session.as_mut() {
                    session.kept.answered(now);
                }
                self.said(key, Inbound::Pong);
                self.fire(key, Input::Heard);
            }
            (LinkEvent::Rejected(Tag::Read), _) => self.read_refused(key),
            (LinkEvent::Rejected(tag), _) if tag.is_of_object() => self.object_rejected(key, tag),
            (LinkEvent::Unanswered(tag), _) if tag.is_of_object() => {
                self.object_left_open(key, tag);
            }
            // it may restart before it answers
            (LinkEvent::Acknowledged(Tag::Step(UpdateStep::Install)), _) => {
                self.carried_out(key, UpdateStep::Install);
            }
            (LinkEvent::Rejected(Tag::Lifetime), _) => self.lifetime_answered(key, None),
            (LinkEvent::Rejected(Tag::Attributes), _) => self.attributes_refused(key, None),
            (LinkEvent::Rejected(Tag::Observe), _) => self.observation_refused(key, None),
            (LinkEvent::Unanswered(Tag::Observe), _) => {
                self.device_mut(key).observing = false;
                self.observation_unanswered(key);
            }
            (LinkEvent::TimedOut(tag), _) => self.request_timed_out(key, tag),
            // A write needs no response once it was acknowledged; a read has its stage's limit.
            (
                LinkEvent::Acknowledged(_)
                | LinkEvent::Rejected(_)
                | LinkEvent::Responded(_)
                | LinkEvent::Unanswered(_),
                _,
            ) => {}
        }
    }

    fn responded(&mut self, key: DeviceKey, tag: Tag, message: &Message) {
        let code = message.code();
        match tag {
            Tag::Observe if code.is_success() => {
                // without the option it is an answer to a read, and nothing is observed (RFC 7641 §4.1)
                let observed = message.observe().is_some();
                if !observed {
                    self.note_once(key, Repeated::Observation, || {
                        Happened::ObservationUnconfirmed
                    });
                }
                // The answer is the first notification, or a notification came before the answer.
                if message.payload().is_empty() {
                    self.label_seen(key, message.content_format().map(|format| format.0));
                } else {
                    self.notified(key, message);
                }
                self.device_mut(key).observing = observed;
            }
            Tag::Observe => self.observation_refused(key, Some(code)),
            Tag::Attributes if !code.is_success() => {
                self.attributes_refused(key, Some(code));
            }
            Tag::Read => self.read_answered(key, message),
            Tag::Lifetime => self.lifetime_answered(key, Some(code)),
            Tag::Execute if code.is_success() => {
                self.fire(key, Input::Pcp(PcpInput::ExecuteDelivered));
            }
            Tag::Version | Tag::Notify | Tag::Execute if !code.is_success() => {
                self.note_once(key, Repeated::Write, || Happened::WriteRefused {
                    answer: code.to_string(),
                });
            }
            tag if tag.is_of_object() => self.object_answered(key, tag, message),
            Tag::Get(_)
            | Tag::AttributesOf(_)
            | Tag::Watch(_)
            | Tag::Step(_)
            | Tag::Block(_)
            | Tag::Forget(..)
            | Tag::Attributes
            | Tag::Version
            | Tag::Notify
            | Tag::Execute
            | Tag::Segment(_)
            | Tag::Answer(_)
            | Tag::Ping => {}
        }
    }

    /// With that code, or with a Reset.
    fn observation_refused(&mut self, key: DeviceKey, code: Option<Code>) {
        self.device_mut(key).observing = false;
        if self.observes_without_format(key, code) {
            // ahead of questions whose answers it carries
            let request = self.observation(key);
            self.device_mut(key).link.send_first(request);
        } else if let Some(code) = code {
            self.note_once(key, Repeated::Observation, || {
                Happened::ObservationRefused {
                    answer: code.to_string(),
                }
            });
            let object = ResourcePath::UPLINK.object();
            if code == Code::NOT_FOUND && self.device(key).announces(object) == Some(false) {
                self.fire(key, Input::NotSupported);
            }
        } else {
            // One that does not take it the second time either is asked when there is a reason.
            self.observe_anew(key, REFUSED_OBSERVATION);
        }
    }

    /// The device takes no pmin, which an attempt tells once: it is observed all the same.
    fn attributes_refused(&mut self, key: DeviceKey, code: Option<Code>) {
        self.note_once(key, Repeated::Attributes, || Happened::AttributesRefused {
            answer: code.map(|code| code.to_string()),
        });
    }

    fn request_timed_out(&mut self, key: DeviceKey, tag: Tag) {
        self.counters.requests_timed_out += 1;
        // One whose address has shown nothing was not asked again, unless an upgrade waits for it.
        let once = self.is_asked_once(key);
        let device = self.device_mut(key);
        device.silent |= !once;
        if tag == Tag::Observe {
            device.observing = false;
            self.observation_unanswered(key);
        }
        if tag.is_of_object() {
            self.object_unanswered(key, tag);
        }
        let device = self.device_mut(key);
        // Nor does the notification arrive that waits behind what was given up.
        let waits = device.link.waits(|tag| *tag == Tag::Notify);
        if tag == Tag::Notify || waits {
            device.link.cancel(|tag| *tag == Tag::Notify);
            self.fire(key, Input::Pcp(PcpInput::NotificationUndelivered));
        }
        self.look_again(key);
    }

    /// Repeats or gives up what is due.
    pub(super) fn link_timeout(&mut self, key: DeviceKey) {
        let now = self.now.instant;
        if !self.store_available {
            // What was to be sent may wait for a commit: its silence is ours.
            self.device_mut(key).link.postpone(now);
        }
        loop {
            let device = &mut self.devices[key];
            let rules = &self.profiles[device.product].transmission;
            let (again, event) = device.link.handle_timeout(now, rules);
            if let Some(datagram) = again {
                if let Some(peer) = self.device(key).peer() {
                    self.leave(key, peer, datagram, Try::Again);
                }
            } else if let Some(event) = event {
                self.link_event(key, event, None);
            } else {
                break;
            }
        }
    }
}

/// Adds a path of the device, which is below its root.
pub(super) fn below(
    device: &Device,
    message: MessageBuilder,
    path: ResourcePath,
) -> MessageBuilder {
    let message = device.root().fold(message, MessageBuilder::path);
    (path.segments()).fold(message, |message, segment| message.path(&segment))
}

fn same_kind(a: Tag, b: Tag) -> bool {
    matches!((a, b), (Tag::Segment(_), Tag::Segment(_))) || a == b
}
