//! Packages that are pushed, with Block1 (RFC 7959 §2.5) or at once.

use super::{Ended, Phase};
use crate::{
    coap::{Block, Code, Message, option},
    device::{Device, resources::Reply},
    fault::{Fault, ObjectFault},
    object::Character,
};

/// What becomes of a block.
enum Strike {
    None,
    /// The download has failed.
    Failed,
    /// The device says nothing.
    Silent,
}

impl Device {
    /// A write of a package, or of a part. No reply comes from a device that has restarted or fallen silent over it.
    pub(super) fn take_package(
        &mut self,
        now_ms: u64,
        request: &Message<'_>,
        index: usize,
    ) -> Option<Reply> {
        let block = match request.uint(option::BLOCK1).map(Block::from_value) {
            Some(None) => return Some(Reply::code(Code::BAD_OPTION)),
            Some(Some(block)) => Some(block),
            None => None,
        };
        let more = block.is_some_and(|block| block.more);
        let code = |code| {
            Some(Reply {
                block1: block,
                ..Reply::code(code)
            })
        };
        let is_first = block.is_none_or(|block| block.number == 0);
        if self.spec.object.character == Character::Stub {
            self.falls_silent();
            return code(if more { Code::CONTINUE } else { Code::CHANGED });
        }
        if is_first && !more && matches!(request.payload, [] | [0]) {
            return code(self.reset(index));
        }
        if let Some(block) = block
            && block.more
            && request.payload.len() != usize::from(block.size())
        {
            return code(Code::BAD_REQUEST);
        }
        if is_first {
            let total = request.uint(option::SIZE1).map(u64::from);
            if !self.begins_push(index, total) {
                return code(Code::BAD_REQUEST);
            }
            if self.claims_success_with_nothing(index) {
                return code(Code::CHANGED);
            }
        } else if !self.continues_push(index, block) {
            return code(Code::REQUEST_ENTITY_INCOMPLETE);
        }
        match self.strike_push(now_ms, index, block) {
            Strike::None => {}
            Strike::Failed => return code(Code::INTERNAL_SERVER_ERROR),
            Strike::Silent => return None,
        }
        let keep = self.spec.behaviour.keep_image;
        let received = self.object.as_deref_mut()?.instances[index]
            .received
            .as_mut()?;
        received.take(request.payload, keep);
        self.counters.segments_received += 1;
        if !more {
            self.check_download(index);
            return code(Code::CHANGED);
        }
        // it takes the first block whole, and wants those after it smaller (RFC 7959 §2.3)
        let takes = self.spec.object.character.takes_size();
        Some(Reply {
            block1: block.map(|block| block.with_size(block.size().min(takes))),
            ..Reply::code(Code::CONTINUE)
        })
    }

    /// A push may begin anew in the midst of one.
    fn begins_push(&mut self, index: usize, total: Option<u64>) -> bool {
        let pushed = |device: &Self| {
            let objects = device.object.as_deref();
            objects.is_some_and(|objects| objects.instances[index].pushed)
        };
        let anew = pushed(self) || self.spec.object.character.restarts_with_uri();
        if !self.begins(index, anew, total) {
            return false;
        }
        if let Some(objects) = self.object.as_deref_mut() {
            objects.instances[index].pushed = true;
        }
        true
    }

    /// Whether this is the block that comes next.
    fn continues_push(&self, index: usize, block: Option<Block>) -> bool {
        let Some(objects) = self.object.as_deref() else {
            return false;
        };
        let instance = &objects.instances[index];
        let next = instance.received.as_ref().map(super::Received::len);
        instance.pushed && instance.phase == Phase::Downloading && block.map(Block::offset) == next
    }

    fn strike_push(&mut self, now_ms: u64, index: usize, block: Option<Block>) -> Strike {
        let size = block.map_or(1024, Block::size);
        let Some(objects) = self.object.as_deref() else {
            return Strike::None;
        };
        let struck = objects.struck;
        let received = objects.instances[index].received.as_ref();
        let (len, total) = received.map_or((0, None), |it| (it.len(), it.total));
        let at = self.strikes_after(total, size);
        if at.is_none_or(|at| len / u64::from(size) < at) {
            return Strike::None;
        }
        match self.spec.fault {
            Some(Fault::Object(ObjectFault::ReportsResult(result))) => {
                self.object_ends(index, Phase::Idle, Ended::With(result));
                Strike::Failed
            }
            Some(Fault::StopsMidDownload(_)) => {
                self.goes_deaf();
                Strike::Silent
            }
            Some(Fault::RebootsInDownload(_) | Fault::LosesProgress(_)) if !struck => {
                self.strike_once();
                self.restart(now_ms, self.spec.timing.restart_ms);
                Strike::Silent
            }
            _ => Strike::None,
        }
    }

    pub(super) fn strike_once(&mut self) {
        if let Some(objects) = self.object.as_deref_mut() {
            objects.struck = true;
        }
    }

    pub(super) fn goes_deaf(&mut self) {
        if let Some(objects) = self.object.as_deref_mut() {
            objects.silent = true;
        }
        self.falls_silent();
    }
}
