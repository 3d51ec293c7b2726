//! The package is written to a device, block after block (Block1): each leaves when the one before was answered.

use std::time::Duration;

use crate::{
    coap::{Code, Message, Push, Pushed, QueuedRequest},
    engine::{Engine, asked::Tag, key::DeviceKey},
    ledger::{Happened, Repeated, UpdateStep},
    upgrade::{Input, transfer::object::ObjectInput},
};

/// How often its upgrade is told that the device goes on.
const TOLD_EVERY: Duration = Duration::from_secs(30);

impl Engine {
    /// Begins to write the package to the device.
    pub(super) fn begin_push(&mut self, key: DeviceKey) {
        let block_bytes = self.block_bytes(key);
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let Some(content) = session.package.content.as_ref() else {
            return;
        };
        let push = Push::new(content.bytes().clone(), block_bytes);
        session.exchange.push = Some(Box::new(push));
        session.exchange.push_told_at = None;
        self.send_block(key);
    }

    /// Bytes of a block for a device that does not say: the fewer, the worse its coverage is.
    pub(super) fn block_bytes(&self, key: DeviceKey) -> u16 {
        let coverage = self.device(key).coverage();
        match coverage.map_or(0, |(coverage, _)| coverage.band()) {
            1 => 512,
            0 | 2 | 4 | 5 => 256,
            9 => 64,
            _ => 128,
        }
    }

    /// The block that is next, or on its way, leaves.
    fn send_block(&mut self, key: DeviceKey) {
        let token = self.fresh_token();
        let message_id = self.take_message_id(key);
        let device = self.device_mut(key);
        device.link.cancel(|tag| matches!(tag, Tag::Block(_)));
        let Some(session) = device.session.as_ref() else {
            return;
        };
        let Some(push) = session.exchange.push.as_ref() else {
            return;
        };
        let tag = Tag::Block(push.block().number);
        let path = session.exchange.at().package();
        let numbers = Numbers::of(&path);
        let root = device.root().map(str::as_bytes);
        let path = root.chain(numbers.segments());
        let datagram = push.datagram(message_id, token, path);
        self.enqueue(key, QueuedRequest::new(tag, message_id, token, datagram));
    }

    /// A device that was silent goes on: the block that got no answer leaves again, unless it is on its way.
    pub(super) fn push_on(&mut self, key: DeviceKey) {
        let device = self.device(key);
        let pushes = device.session.as_ref().is_some_and(|session| {
            let push = session.exchange.push.as_ref();
            push.is_some_and(|push| (push.done() as u64) < session.package.size_bytes)
        });
        let is_block = |tag: &Tag| matches!(tag, Tag::Block(_));
        let pending = device.link.is_pending(is_block) || device.link.is_acknowledged(is_block);
        if pushes && !pending {
            self.send_block(key);
        }
    }

    /// A block was answered; `None`: with a Reset.
    pub(in crate::engine) fn block_answered(&mut self, key: DeviceKey, message: Option<&Message>) {
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let Some(push) = session.exchange.push.as_mut() else {
            return;
        };
        let before = push.done();
        let (code, block1) = match message {
            Some(message) => (message.code(), message.block1()),
            None => (Code::NOT_FOUND, None),
        };
        let pushed = push.answered(code, block1);
        let done = push.done() as u64;
        match pushed {
            Pushed::Next => {
                if done < before as u64 {
                    self.note_once(key, Repeated::Jump, || Happened::ProgressLost);
                }
                self.pushed(key, done, done > before as u64);
                // it may have been the end of the upgrade
                self.send_block(key);
            }
            Pushed::Done => {
                if let Some(session) = self.device_mut(key).session.as_mut() {
                    session.exchange.push = None;
                }
                self.store_progress(key, done, false);
                self.takes_package(key);
                self.fire(key, Input::Object(ObjectInput::FetchedAll));
                self.carried_out(key, UpdateStep::Package);
            }
            // it is written to again when it is looked at
            Pushed::Later => {}
            Pushed::Refused(code) => {
                if let Some(session) = self.device_mut(key).session.as_mut() {
                    session.exchange.push = None;
                }
                self.step_answered(key, UpdateStep::Package, Some(code));
            }
        }
    }

    /// It has so much: its upgrade is told now and then.
    fn pushed(&mut self, key: DeviceKey, done: u64, further: bool) {
        let now = self.now.instant;
        self.store_progress(key, done, true);
        self.takes_package(key);
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let told_at = &mut session.exchange.push_told_at;
        if told_at.is_some_and(|at| now.since(at) < TOLD_EVERY) {
            return;
        }
        *told_at = Some(now);
        self.fire(key, Input::Object(ObjectInput::Fetched { further }));
    }

    fn takes_package(&mut self, key: DeviceKey) {
        let session = self.device(key).session.as_ref();
        if let Some(version) = session.map(|session| session.package.version) {
            self.takes(key, version);
        }
    }
}

/// The numbers of a path as text, without memory of their own.
struct Numbers {
    digits: [[u8; 5]; 3],
    lens: [usize; 3],
}

impl Numbers {
    fn of(path: &crate::lwm2m::ResourcePath) -> Self {
        let ids = [Some(path.object()), path.instance(), path.resource()];
        let mut numbers = Self {
            digits: [[0; 5]; 3],
            lens: [0; 3],
        };
        for (at, id) in ids.into_iter().flatten().enumerate() {
            let (mut rest, mut reversed, mut len) = (id, [0; 5], 0);
            loop {
                reversed[len] = b'0' + (rest % 10).to_le_bytes()[0];
                (rest, len) = (rest / 10, len + 1); // 65,535 has five
                if rest == 0 {
                    break;
                }
            }
            for (to, digit) in reversed[..len].iter().rev().enumerate() {
                numbers.digits[at][to] = *digit;
            }
            numbers.lens[at] = len;
        }
        numbers
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        let segments = self.digits.iter().zip(self.lens);
        segments
            .filter(|(_, len)| *len > 0)
            .map(|(digits, len)| &digits[..len])
    }
}
