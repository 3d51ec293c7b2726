use pcp::{MessageCode, ResultCode};
use sim::coap::{Code, Message, MessageType, option};

use super::{Invariants, Number, Rule, objects};
use crate::{
    clock::UtcMillis,
    engine::{Seq, ShardId},
    ledger::Stage,
};

/// PCP frames begin with this, their code follows the version.
const CODE_AT: usize = 3;

/// The PCP frame that a message writes to a device.
pub(super) fn written<'a>(message: &Message<'a>) -> Option<(MessageCode, &'a [u8])> {
    if message.code != Code::PUT || !pcp::is_pcp(message.payload) {
        return None;
    }
    let code = MessageCode(*message.payload.get(CODE_AT)?);
    Some((code, message.payload))
}

impl Invariants {
    /// The engine wants a datagram sent to a device, after a change.
    pub(in super::super) fn sends(
        &mut self,
        now_ms: u64,
        now: UtcMillis,
        device: usize,
        datagram: &[u8],
        after: Number,
    ) {
        self.goes_on(now_ms, now, device, datagram);
        self.refuses(device, datagram);
        let Some(subject) = self.subjects.get(device) else {
            return;
        };
        // What another shard has emitted is to be committed before the device came here.
        let waited_for = subject.newest.is_none_or(|newest| {
            let committed = self.shards[newest.shard.index()].last_committed;
            newest.seq <= committed || (newest.shard == after.shard && newest.seq <= after.seq)
        });
        if waited_for {
            return;
        }
        // What tells of no state depends on none: a Reset, an error, a block of a package that the device was told of before.
        let depends = Message::parse(datagram).is_ok_and(|message| {
            let is_block = message.code == Code::CONTENT && message.uint(option::BLOCK2).is_some();
            message.message_type != MessageType::Reset && message.code.class() < 4 && !is_block
        });
        if depends {
            let (upgrade, newest) = (subject.upgrade.0, subject.newest);
            self.violated(now_ms, Rule::CommittedFirst, || {
                format!("{upgrade}: sent after change {after:?}, {newest:?} is its newest")
            });
        }
    }

    /// A datagram left at once that needs this change; the server knows that all up to `committed` are.
    pub(in super::super) fn left_at_once(&mut self, now_ms: u64, needs: Seq, committed: Seq) {
        if needs > committed {
            self.violated(now_ms, Rule::CommittedFirst, || {
                format!("a datagram left that needs change {needs}, and {committed} is committed")
            });
        }
    }

    /// A datagram waits for the change that it needs.
    pub(in super::super) fn waits(&mut self, needs: Number) {
        let held = &mut self.shards[needs.shard.index()].held;
        *held.entry(needs.seq).or_default() += 1;
    }

    /// One that waits for the change never leaves.
    pub(in super::super) fn dropped(&mut self, shard: ShardId, after: Seq) {
        if let Some(waiting) = self.shards[shard.index()].held.get_mut(&after) {
            *waiting = waiting.saturating_sub(1);
        }
    }

    /// Those that waited for a change up to this one have left, so many.
    pub(in super::super) fn released(
        &mut self,
        now_ms: u64,
        shard: ShardId,
        committed: Seq,
        count: usize,
    ) {
        let held = &mut self.shards[shard.index()].held;
        let later = held.split_off(&(committed + 1));
        let due: usize = std::mem::replace(held, later).into_values().sum();
        if count != due {
            self.violated(now_ms, Rule::CommittedFirst, || {
                format!("{count} datagrams left when change {committed} was committed, {due} waited for it")
            });
        }
    }

    /// A datagram leaves for a device.
    pub(in super::super) fn leaves(&mut self, now_ms: u64, device: usize, datagram: &[u8]) {
        // Only a registration's answer and a write are looked into.
        let code = datagram.get(1).copied().map(Code);
        if !matches!(code, Some(Code::CREATED | Code::PUT | Code::POST)) {
            return;
        }
        let Ok(message) = Message::parse(datagram) else {
            return;
        };
        if message.code == Code::CREATED {
            let path = message.values(option::LOCATION_PATH).last();
            let new = path.is_some_and(|location| self.new_locations.contains_key(location));
            if new {
                self.violated(now_ms, Rule::CommittedFirst, || {
                    format!("device {device} is told of a registration that is not committed")
                });
            }
            return;
        }
        let Some((code, frame)) = written(&message) else {
            if let Some(needs) = objects::needs(&message) {
                return self.needs_stage(now_ms, device, needs, "what it is told by its object");
            }
            return self.lifetime_leaves(now_ms, device, &message);
        };
        let needs = match code {
            MessageCode::NEW_VERSION => Stage::Downloading,
            MessageCode::EXECUTE => Stage::Executing,
            MessageCode::SEGMENT_REQUEST if is_segment(frame) => Stage::Downloading,
            _ => return,
        };
        self.needs_stage(now_ms, device, needs, &format!("a frame {}", code.0));
    }

    /// Something leaves for a device that it is sent in a stage alone.
    fn needs_stage(&mut self, now_ms: u64, device: usize, needs: Stage, what: &str) {
        let Some(subject) = self.subjects.get(device) else {
            return;
        };
        let committed = subject.committed;
        if committed.reached < Some(needs) || committed.attempt < subject.emitted.attempt {
            let upgrade = subject.upgrade.0;
            self.violated(now_ms, Rule::CommittedFirst, || {
                format!(
                    "{upgrade}: is sent {what} while {:?} of attempt {} is committed",
                    committed.stage, committed.attempt
                )
            });
        }
    }

    /// A datagram reaches a device.
    pub(in super::super) fn reaches(&mut self, now_ms: u64, device: usize, datagram: &[u8]) {
        let code = datagram.get(1).copied().map(Code);
        if !matches!(code, Some(Code::PUT | Code::CONTENT)) {
            return;
        }
        let Ok(message) = Message::parse(datagram) else {
            return;
        };
        let Some((code, frame)) = written(&message) else {
            return self.block_reaches(now_ms, device, &message);
        };
        let Some(subject) = self.subjects.get(device) else {
            return;
        };
        if let Some(flaw) = flaw(code, frame) {
            let upgrade = subject.upgrade.0;
            self.violated(now_ms, Rule::WellFormed, || {
                format!("{upgrade}: receives a frame {} {flaw}", code.0)
            });
            return;
        }
        if code != MessageCode::SEGMENT_REQUEST || !is_segment(frame) {
            return;
        }
        let number = frame.get(9..11).map_or(u16::MAX, |bytes| {
            bytes
                .iter()
                .fold(0, |number, byte| (number << 8) | u16::from(*byte))
        });
        let own = self.is_own_segment(subject, number, frame);
        let upgrade = subject.upgrade.0;
        self.segments += 1;
        if !own {
            self.violated(now_ms, Rule::OwnPackage, || {
                format!("{upgrade}: receives a segment {number} that is not its package's")
            });
        }
    }
}

/// What devices in the field would stumble over.
fn flaw(code: MessageCode, frame: &[u8]) -> Option<&'static str> {
    /// Some devices hold no more than that.
    const SMALLEST_BUFFER: usize = 512;
    let (high, low) = (*frame.get(6)?, *frame.get(7)?);
    let len = usize::from(u16::from_be_bytes([high, low]));
    if frame.len() != pcp::HEADER_LEN + len {
        Some("whose length is not what it says")
    } else if frame.len() > SMALLEST_BUFFER {
        Some("that does not fit into their buffers")
    } else if code == MessageCode::SEGMENT_REQUEST && high > 0 && low == 0 {
        // A widely copied library compares the length before it swaps its bytes.
        Some("whose length they misread")
    } else {
        None
    }
}

/// Whether an answer to a request for a segment carries one: its result is the first byte of its data.
fn is_segment(frame: &[u8]) -> bool {
    frame.get(pcp::HEADER_LEN) == Some(&ResultCode::SUCCESS.0)
}
