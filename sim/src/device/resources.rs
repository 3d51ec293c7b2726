//! What the server may ask of the device: observe /19/0/0, write /19/1/0, read object 4. Objects for upgrades are in
//! `object`.

use super::{Device, link::Purpose};
use crate::{
    coap::{Block, Code, Message, MessageType, Token, Writer, option},
    fault::Fault,
    spec::{LifetimeWrites, NotificationType},
};

/// application/octet-stream.
const OCTET_STREAM: u32 = 42;
/// text/plain.
pub(super) const TEXT_PLAIN: u32 = 0;
/// application/vnd.oma.lwm2m+tlv.
pub(super) const TLV: u32 = 11_542;

/// Bearer 7 is NB-IoT (OMA object 4, resource 0).
const NB_IOT: i64 = 7;

/// Object, instance and resource of a request's path, as far as it names them.
pub(super) type Path = [Option<u16>; 3];

/// A response, apart from what ties it to its request.
pub(super) struct Reply {
    pub(super) code: Code,
    pub(super) observe: Option<u32>,
    pub(super) content_format: Option<u32>,
    pub(super) block1: Option<Block>,
    pub(super) payload: Vec<u8>,
}

impl Reply {
    pub(super) const fn code(code: Code) -> Self {
        Self {
            code,
            observe: None,
            content_format: None,
            block1: None,
            payload: Vec::new(),
        }
    }
}

/// What a request sets off once it has been answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sequel {
    Nothing,
    Observed,
    Written,
    /// The registration has another lifetime.
    LifetimeWritten,
}

impl Device {
    pub(super) fn on_request(&mut self, now_ms: u64, request: &Message<'_>) {
        let deduplicates = self.spec.behaviour.deduplicates && !self.has(Fault::RepeatsEverything);
        if deduplicates && let Some(reply) = self.link.reply_to_repeat(request.id) {
            let reply = reply.to_vec();
            self.counters.duplicates += 1;
            if !reply.is_empty() {
                self.transmit(now_ms, reply);
            }
            return;
        }
        let Some((reply, sequel)) = self.answer(now_ms, request) else {
            return;
        };
        self.respond(now_ms, request, &reply);
        match sequel {
            Sequel::Nothing => {}
            Sequel::Observed => self.resume(now_ms),
            // OMA LwM2M 1.0 §5.3.2: a parameter that has changed is told at once
            Sequel::LifetimeWritten => {
                self.lifetime_untold = true;
                self.schedule_update(now_ms);
                self.registration_due(now_ms);
            }
            Sequel::Written => {
                self.on_frame(now_ms, request.payload);
                if self.has(Fault::RepeatsEverything) {
                    self.on_frame(now_ms, request.payload);
                }
            }
        }
    }

    /// Nothing where the device does not answer at all.
    fn answer(&mut self, now_ms: u64, request: &Message<'_>) -> Option<(Reply, Sequel)> {
        let nothing = |reply| (reply, Sequel::Nothing);
        let takes_blocks = self.object.is_some();
        if request
            .options()
            .any(|(number, _)| is_not_understood(number, takes_blocks))
        {
            return Some(nothing(Reply::code(Code::BAD_OPTION)));
        }
        let Some(path) = path(request) else {
            return Some(nothing(Reply::code(Code::NOT_FOUND)));
        };
        if self.object.is_some() && matches!(path, [Some(3 | 5 | 9 | 19 | 33_629), ..]) {
            return (self.answer_object(now_ms, request, path)).map(nothing);
        }
        Some(match (request.code, path) {
            (Code::GET, [Some(19), Some(0), Some(0)]) => self.answer_observe(request),
            (Code::PUT, [Some(19), Some(1), Some(0)]) => {
                (Reply::code(Code::CHANGED), Sequel::Written)
            }
            (Code::PUT, [Some(1), Some(0), Some(1)]) => self.take_lifetime(request),
            (_, [Some(19), Some(0 | 1), Some(0)]) => nothing(Reply::code(Code::METHOD_NOT_ALLOWED)),
            (Code::GET, [Some(4), Some(0), resource]) => nothing(self.answer_coverage(resource)),
            _ => nothing(Reply::code(Code::NOT_FOUND)),
        })
    }

    /// RFC 7641 §2: 0 begins an observation, 1 ends it.
    fn answer_observe(&mut self, request: &Message<'_>) -> (Reply, Sequel) {
        let mut reply = Reply::code(Code::CONTENT);
        reply.content_format = Some(OCTET_STREAM);
        match request.uint(option::OBSERVE) {
            Some(0) => {
                self.observation = Some(request.token);
                self.first_token.get_or_insert(request.token);
                reply.observe = Some(self.next_observe_number());
                (reply, Sequel::Observed)
            }
            Some(_) => {
                self.observation = None;
                (reply, Sequel::Nothing)
            }
            None => (reply, Sequel::Nothing),
        }
    }

    fn take_lifetime(&mut self, request: &Message<'_>) -> (Reply, Sequel) {
        let refused = |code| (Reply::code(code), Sequel::Nothing);
        let takes = self.spec.behaviour.lifetime;
        let lifetime_s = match request.uint(option::CONTENT_FORMAT) {
            _ if takes == LifetimeWrites::Refused => return refused(Code::METHOD_NOT_ALLOWED),
            Some(TEXT_PLAIN) if takes == LifetimeWrites::AsTlv => {
                return refused(Code::UNSUPPORTED_CONTENT_FORMAT);
            }
            Some(TEXT_PLAIN) => {
                (std::str::from_utf8(request.payload).ok()).and_then(|text| text.parse().ok())
            }
            // a resource of number 1 with a value of four bytes (LwM2M 1.0 §6.4.3)
            Some(TLV) => match request.payload {
                [0xC4, 1, value @ ..] => value.try_into().ok().map(u32::from_be_bytes),
                _ => None,
            },
            _ => return refused(Code::UNSUPPORTED_CONTENT_FORMAT),
        };
        let Some(lifetime_s) = lifetime_s.filter(|lifetime_s| *lifetime_s > 0) else {
            return refused(Code::BAD_REQUEST);
        };
        self.lifetime_s = lifetime_s;
        (Reply::code(Code::CHANGED), Sequel::LifetimeWritten)
    }

    fn answer_coverage(&self, resource: Option<u16>) -> Reply {
        if self.has(Fault::NoObject4) {
            return Reply::code(Code::NOT_FOUND);
        }
        let coverage = self.spec.coverage;
        let resources: Vec<(u16, i64)> = [
            (0, Some(NB_IOT)),
            (2, coverage.rsrp_dbm.map(i64::from)),
            (8, coverage.cell_id.map(i64::from)),
            (11, coverage.sinr_db.map(i64::from)),
        ]
        .into_iter()
        .filter(|(id, _)| resource.is_none_or(|wanted| wanted == *id))
        .filter_map(|(id, value)| Some((id, value?)))
        .collect();
        if resources.is_empty() {
            return Reply::code(Code::NOT_FOUND);
        }
        // An Accept option is not looked at: firmware that can write one format writes that one.
        match coverage.format.encode(4, 0, &resources) {
            Some(payload) => Reply {
                code: Code::CONTENT,
                observe: None,
                content_format: Some(coverage.format.number()),
                block1: None,
                payload,
            },
            None => Reply::code(Code::NOT_ACCEPTABLE),
        }
    }

    fn respond(&mut self, now_ms: u64, request: &Message<'_>, reply: &Reply) {
        let token = request.token;
        if request.message_type == MessageType::NonConfirmable {
            let id = self.link.take_id();
            let datagram = write(MessageType::NonConfirmable, id, token, reply);
            self.link.remember(request.id, Vec::new());
            self.transmit(now_ms, datagram);
        } else if self.spec.behaviour.separate_responses {
            // RFC 7252 §5.2.2.
            let acknowledgement = Writer::empty(MessageType::Acknowledgement, request.id);
            self.link.remember(request.id, acknowledgement.clone());
            self.transmit(now_ms, acknowledgement);
            let id = self.link.take_id();
            let datagram = write(MessageType::Confirmable, id, token, reply);
            self.send_confirmable(now_ms, Purpose::Response, id, token, datagram);
        } else {
            let datagram = write(MessageType::Acknowledgement, request.id, token, reply);
            self.link.remember(request.id, datagram.clone());
            self.transmit(now_ms, datagram);
        }
    }

    /// The token that notifications carry now, if there is one.
    pub(super) fn notification_token(&self) -> Option<Token> {
        if self.has(Fault::OldToken) {
            self.first_token
        } else {
            self.observation
        }
    }

    /// Sends a frame as a notification of /19/0/0. Returns whether anybody observes it.
    pub(super) fn notify(&mut self, now_ms: u64, frame: &[u8]) -> bool {
        let Some(token) = self.notification_token() else {
            return false;
        };
        let id = self.link.take_id();
        let message_type = match self.spec.behaviour.notifications {
            NotificationType::Confirmable => MessageType::Confirmable,
            NotificationType::NonConfirmable => MessageType::NonConfirmable,
        };
        let datagram = Writer::new(message_type, Code::CONTENT, id, token)
            .uint(option::OBSERVE, self.next_observe_number())
            .uint(option::CONTENT_FORMAT, OCTET_STREAM)
            .payload(frame);
        self.last_notification_id = Some(id);
        if message_type == MessageType::Confirmable {
            self.send_confirmable(now_ms, Purpose::Notification, id, token, datagram);
        } else {
            self.transmit(now_ms, datagram);
        }
        true
    }

    pub(super) const fn next_observe_number(&mut self) -> u32 {
        self.observe_number = (self.observe_number + 1) & 0x00FF_FFFF;
        self.observe_number
    }
}

pub(super) fn write(message_type: MessageType, id: u16, token: Token, reply: &Reply) -> Vec<u8> {
    let mut writer = Writer::new(message_type, reply.code, id, token);
    if let Some(number) = reply.observe {
        writer = writer.uint(option::OBSERVE, number);
    }
    if let Some(format) = reply.content_format {
        writer = writer.uint(option::CONTENT_FORMAT, format);
    }
    if let Some(block) = reply.block1 {
        writer = writer.uint(option::BLOCK1, block.value());
    }
    writer.payload(&reply.payload)
}

/// Odd numbers are critical: a request with one that is not understood is refused (RFC 7252 §5.4.1).
/// An offer of block sizes is understood in that every answer fits into the smallest.
const fn is_not_understood(number: u16, takes_blocks: bool) -> bool {
    number % 2 == 1
        && !(takes_blocks && number == option::BLOCK1)
        && !matches!(
            number,
            option::URI_HOST
                | option::URI_PORT
                | option::URI_PATH
                | option::URI_QUERY
                | option::ACCEPT
                | option::BLOCK2
        )
}

fn path(request: &Message<'_>) -> Option<Path> {
    let mut path = [None; 3];
    for (index, segment) in request.values(option::URI_PATH).enumerate() {
        let number = std::str::from_utf8(segment).ok()?.parse().ok()?;
        *path.get_mut(index)? = Some(number);
    }
    Some(path)
}
