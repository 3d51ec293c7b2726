//! Packages that the device fetches, block by block (RFC 7959 §2.4).

use super::{Ended, Phase, uri::Uri};
use crate::{
    coap::{Block, Code, Message, MessageType, Token, Writer, option},
    device::{Destination, Device, port::Port, registration::random_token, timers::Timer},
    fault::{Fault, ObjectFault},
    object::Character,
};

/// `MAX_RETRANSMIT` (RFC 7252 §4.8): downloads are not given up as early as messages of the registration.
const REPEATS: u8 = 4;
/// Results of object 5.
const CONNECTION_LOST: u8 = 4;
const INVALID_URI: u8 = 7;

/// A download under way.
#[derive(Debug, Clone)]
pub(super) struct Pull {
    instance: usize,
    port: Port,
    to: Destination,
    path: Vec<Box<str>>,
    /// The size of blocks; none until the server has chosen one.
    size: Option<u16>,
    etag: Option<Box<[u8]>>,
    /// Of all its requests, where the device uses one.
    token: Token,
    asked: Option<Asked>,
    connections_left: u8,
    /// A block that came before the one that precedes it, and whether more follow.
    ahead: Option<(Vec<u8>, bool)>,
}

/// A request for a block.
#[derive(Debug, Clone, Copy)]
struct Asked {
    id: u16,
    token: Token,
    offset: u64,
    repeats_left: u8,
    timeout_ms: u64,
    /// The block was there already.
    again: bool,
}

impl Pull {
    /// The socket of its own, and where it leads.
    pub(super) const fn socket(&self) -> Option<(u16, &Destination)> {
        match self.port {
            Port::Main => None,
            Port::Download(number) => Some((number, &self.to)),
        }
    }

    fn request(&self, asked: &Asked, character: Character) -> Option<Vec<u8>> {
        let mut writer = Writer::new(MessageType::Confirmable, Code::GET, asked.id, asked.token);
        // Californium names the host unless it is an address (RFC 7252 §5.10.1).
        if character == Character::Leshan && self.to.host.parse::<std::net::IpAddr>().is_err() {
            writer = writer.option(option::URI_HOST, self.to.host.as_bytes());
        }
        for segment in &self.path {
            writer = writer.option(option::URI_PATH, segment.as_bytes());
        }
        if let Some(size) = self.size {
            let block = Block::at(asked.offset, size, false)?;
            writer = writer.uint(option::BLOCK2, block.value());
        }
        if character == Character::Zephyr && asked.offset == 0 {
            writer = writer.uint(option::SIZE2, 0);
        }
        Some(writer.finish())
    }
}

impl Device {
    pub(super) fn begin_pull(&mut self, now_ms: u64, index: usize, uri: Uri) {
        let character = self.spec.object.character;
        let token = random_token(&mut self.rng);
        let port = self.next_port();
        let Some(objects) = self.object.as_deref_mut() else {
            return;
        };
        objects.pull = Some(Pull {
            instance: index,
            port,
            to: uri.to,
            path: uri.path,
            size: character.asks_size(),
            etag: None,
            token,
            asked: None,
            connections_left: character.connections(),
            ahead: None,
        });
        let after_ms = self.spec.timing.first_request_delay_ms;
        self.timers.set(Timer::Download, now_ms, after_ms);
    }

    /// The socket of the next download.
    fn next_port(&mut self) -> Port {
        match self.object.as_deref_mut() {
            Some(objects) if self.spec.object.character.has_own_socket() => {
                objects.connections = objects.connections.wrapping_add(1);
                Port::Download(objects.connections)
            }
            _ => Port::Main,
        }
    }

    /// It has saved how far it was.
    pub(super) fn resume_pull(&mut self, now_ms: u64) {
        let port = self.next_port();
        let Some(pull) = self.object.as_deref_mut().and_then(|it| it.pull.as_mut()) else {
            return;
        };
        pull.port = port;
        pull.asked = None;
        pull.ahead = None;
        let after_ms = self.spec.timing.first_request_delay_ms;
        self.timers.set(Timer::Download, now_ms, after_ms);
    }

    pub(super) fn forget_pull(&mut self, index: usize) {
        let Some(objects) = self.object.as_deref_mut() else {
            return;
        };
        if objects
            .pull
            .as_ref()
            .is_some_and(|pull| pull.instance == index)
        {
            objects.pull = None;
            self.timers.stop(Timer::Download);
        }
        if !objects.is_installing() {
            objects.due = None;
        }
    }

    /// A block is due to be asked for, or has not come.
    pub(in crate::device) fn download_due(&mut self, now_ms: u64) {
        let Some(pull) = self.object.as_deref_mut().and_then(|it| it.pull.as_mut()) else {
            return;
        };
        let Some(asked) = &mut pull.asked else {
            return self.ask_block(now_ms, false);
        };
        if let Some(left) = asked.repeats_left.checked_sub(1) {
            asked.repeats_left = left;
            asked.timeout_ms = asked.timeout_ms.saturating_mul(2);
            if self.spec.object.character == Character::Nrf {
                asked.token = random_token(&mut self.rng);
            }
            self.counters.retransmissions += 1;
            return self.send_request(now_ms);
        }
        let Some(left) = pull.connections_left.checked_sub(1) else {
            return self.download_failed(CONNECTION_LOST);
        };
        pull.connections_left = left;
        pull.asked = None;
        let port = self.next_port();
        if let Some(pull) = self.object.as_deref_mut().and_then(|it| it.pull.as_mut()) {
            pull.port = port;
        }
        self.ask_block(now_ms, false);
    }

    /// Asks for the next block, unless the ordered fault strikes there.
    fn ask_block(&mut self, now_ms: u64, again: bool) {
        let Some((len, total, size)) = self.progress() else {
            return;
        };
        if !again && self.strike_pull(now_ms, len, total, size.unwrap_or(1024)) {
            return;
        }
        let out_of_order = self.object_fault() == Some(ObjectFault::AsksOutOfOrder);
        let ack_timeout_ms = self.spec.timing.ack_timeout_ms;
        let jitter_ms = self.rng.below(ack_timeout_ms / 2 + 1);
        let token = random_token(&mut self.rng);
        let id = self.link.take_id();
        let Some(pull) = self.object.as_deref_mut().and_then(|it| it.pull.as_mut()) else {
            return;
        };
        // the one after the next, where it is sure that there is one
        let step = u64::from(size.unwrap_or(0));
        let skips = out_of_order
            && pull.ahead.is_none()
            && len > 0
            && total.is_some_and(|total| len + step < total);
        let token = if self.spec.object.character == Character::Zephyr {
            pull.token
        } else {
            token
        };
        pull.asked = Some(Asked {
            id,
            token,
            offset: if skips { len + step } else { len },
            repeats_left: REPEATS,
            timeout_ms: ack_timeout_ms.saturating_add(jitter_ms),
            again,
        });
        self.send_request(now_ms);
    }

    /// How much is there, of how much, in blocks of which size.
    fn progress(&self) -> Option<(u64, Option<u64>, Option<u16>)> {
        let objects = self.object.as_deref()?;
        let pull = objects.pull.as_ref()?;
        let received = objects.instances.get(pull.instance)?.received.as_ref()?;
        Some((received.len(), received.total, pull.size))
    }

    fn send_request(&mut self, now_ms: u64) {
        let character = self.spec.object.character;
        let Some(pull) = self.object.as_deref().and_then(|it| it.pull.as_ref()) else {
            return;
        };
        let Some(asked) = &pull.asked else {
            return;
        };
        let (port, timeout_ms) = (pull.port, asked.timeout_ms);
        let Some(datagram) = pull.request(asked, character) else {
            return self.download_failed(CONNECTION_LOST); // there is no such block
        };
        self.timers.set(Timer::Download, now_ms, timeout_ms);
        self.counters.segments_requested += 1;
        self.transmit_from(now_ms, port, datagram);
    }

    /// Returns whether the fault strikes that strikes in mid-download.
    fn strike_pull(&mut self, now_ms: u64, len: u64, total: Option<u64>, size: u16) -> bool {
        let at = self.strikes_after(total, size);
        if at.is_none_or(|at| len / u64::from(size) < at) {
            return false;
        }
        let struck = self.object.as_deref().is_some_and(|objects| objects.struck);
        match self.spec.fault {
            Some(Fault::Object(ObjectFault::ReportsResult(result))) => {
                self.download_failed(result);
            }
            Some(Fault::StopsMidDownload(_)) => {
                self.goes_deaf();
                if let Some(objects) = self.object.as_deref_mut() {
                    objects.pull = None;
                }
            }
            Some(Fault::RebootsInDownload(_) | Fault::LosesProgress(_)) if !struck => {
                self.strike_once();
                self.restart(now_ms, self.spec.timing.restart_ms);
            }
            _ => return false,
        }
        true
    }

    fn download_failed(&mut self, result: u8) {
        let Some(objects) = self.object.as_deref() else {
            return;
        };
        let Some(index) = objects.pull.as_ref().map(|pull| pull.instance) else {
            return;
        };
        self.forget_pull(index);
        self.object_ends(index, Phase::Idle, Ended::With(result));
    }

    /// Takes a message that belongs to the download.
    pub(in crate::device) fn download_takes(
        &mut self,
        now_ms: u64,
        port: Port,
        message: &Message<'_>,
    ) -> bool {
        let only_in_acknowledgements = self.spec.object.character == Character::Nrf;
        let patience_ms = self.spec.timing.ack_timeout_ms.saturating_mul(16);
        let Some(pull) = self.object.as_deref_mut().and_then(|it| it.pull.as_mut()) else {
            return false;
        };
        let (Some(asked), true) = (&pull.asked, pull.port == port) else {
            return false;
        };
        let answers = message.token == asked.token && !message.code.is_request();
        match message.message_type {
            MessageType::Reset | MessageType::Acknowledgement if message.id != asked.id => {
                return false;
            }
            MessageType::Reset => self.download_failed(CONNECTION_LOST),
            MessageType::Acknowledgement if message.code == Code::EMPTY => {
                if !only_in_acknowledgements {
                    self.timers.set(Timer::Download, now_ms, patience_ms);
                }
            }
            MessageType::Acknowledgement if answers => self.on_block(now_ms, message),
            // of an earlier repeat, whose token was another
            MessageType::Acknowledgement => self.counters.segments_ignored += 1,
            MessageType::Confirmable | MessageType::NonConfirmable => {
                if !answers || message.code == Code::EMPTY {
                    return false;
                }
                if only_in_acknowledgements {
                    self.counters.segments_ignored += 1;
                    return true;
                }
                if message.message_type == MessageType::Confirmable {
                    let empty = Writer::empty(MessageType::Acknowledgement, message.id);
                    self.transmit_from(now_ms, port, empty);
                }
                self.on_block(now_ms, message);
            }
        }
        true
    }

    fn on_block(&mut self, now_ms: u64, message: &Message<'_>) {
        let character = self.spec.object.character;
        if message.code != Code::CONTENT {
            let knows_invalid = matches!(character, Character::Anjay | Character::Leshan);
            let invalid = knows_invalid && message.code == Code::NOT_FOUND;
            return self.download_failed(if invalid {
                INVALID_URI
            } else {
                CONNECTION_LOST
            });
        }
        let Some(objects) = self.object.as_deref_mut() else {
            return;
        };
        let Some(pull) = objects.pull.as_mut() else {
            return;
        };
        let Some(asked) = pull.asked else {
            return;
        };
        // without the option it is all of the body
        let block = match message.uint(option::BLOCK2) {
            Some(value) => Block::from_value(value),
            None => Block::at(0, 1024, false),
        };
        let Some(block) = block.filter(|it| fits(*it, &asked, pull.size, message)) else {
            self.counters.segments_ignored += 1; // it is asked for again
            return;
        };
        let etag = message.values(option::ETAG).next();
        if character.compares_etags() {
            let before = pull.etag.as_deref();
            if before.is_some() && before != etag {
                return self.download_failed(CONNECTION_LOST);
            }
            pull.etag = etag.map(Box::from);
        }
        if message.uint(option::BLOCK2).is_some() {
            pull.size = Some(block.size());
        }
        if !asked.again && self.object_fault() == Some(ObjectFault::RepeatsBlocks) {
            return self.ask_block(now_ms, true);
        }
        self.take_block(now_ms, message, asked.offset, block.more);
    }

    fn take_block(&mut self, now_ms: u64, message: &Message<'_>, offset: u64, more: bool) {
        let keep = self.spec.behaviour.keep_image;
        let Some(objects) = self.object.as_deref_mut() else {
            return;
        };
        let Some(pull) = objects.pull.as_mut() else {
            return;
        };
        let index = pull.instance;
        let Some(received) = objects.instances[index].received.as_mut() else {
            return;
        };
        pull.asked = None;
        pull.connections_left = self.spec.object.character.connections();
        if let Some(total) = message.uint(option::SIZE2) {
            received.total = Some(total.into());
        }
        self.counters.segments_received += 1;
        let mut last = !more;
        if offset == received.len() {
            received.take(message.payload, keep);
            if let Some((ahead, more)) = pull.ahead.take() {
                received.take(&ahead, keep);
                last = !more;
            }
        } else {
            pull.ahead = Some((message.payload.to_vec(), more));
            last = false;
        }
        self.timers.stop(Timer::Download);
        if last {
            self.forget_pull(index);
            self.check_download(index);
        } else {
            let after_ms = self.spec.timing.segment_delay_ms;
            self.timers.set(Timer::Download, now_ms, after_ms);
        }
    }
}

/// Whether this is the block that was asked for, in a size that can be meant.
fn fits(block: Block, asked: &Asked, size: Option<u16>, message: &Message<'_>) -> bool {
    let whole = message.uint(option::BLOCK2).is_none();
    let len = message.payload.len();
    let in_size = if whole {
        asked.offset == 0
    } else if block.more {
        len == usize::from(block.size())
    } else {
        len <= usize::from(block.size())
    };
    let smaller = size.is_none_or(|size| block.size() <= size) || whole;
    block.offset() == asked.offset && in_size && smaller
}
