//! Devices that are upgraded by object 5, 9 or 33629: what they are told, and which blocks reach them.

use sim::{
    DeviceSpec, Fault, ObjectFault, UpdatesBy,
    coap::{Block, Code, Message, option},
};

use super::{Invariants, Rule};
use crate::ledger::{Outcome, Stage, Success};

/// What a device does that no server can know better.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Habits {
    /// It is upgraded by an object.
    pub(super) by_object: bool,
    lies: Lies,
}

/// Whether it tells a success, and runs the old version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Lies {
    #[default]
    Never,
    /// It has downloaded everything.
    AfterAll,
    /// It has downloaded nothing.
    WithNothing,
}

impl Habits {
    /// Whether a success may be recorded although the device runs another version. One that has downloaded nothing is believed by a
    /// server alone that has lost count of what it served, and does not call the success verified.
    pub(super) const fn excuses(self, outcome: &Outcome) -> bool {
        match self.lies {
            Lies::Never => false,
            Lies::AfterAll => matches!(outcome, Outcome::Succeeded(_)),
            Lies::WithNothing => matches!(outcome, Outcome::Succeeded(Success::Unverified)),
        }
    }
}

/// The stage that has to be committed for what a device is told by its object; none where it is told nothing that matters.
pub(super) fn needs(message: &Message<'_>) -> Option<Stage> {
    let mut path = message.values(option::URI_PATH);
    let (object, _, resource) = (path.next()?, path.next()?, path.next()?);
    let firmware = matches!(object, b"5" | b"33629");
    if !firmware && object != b"9" {
        return None;
    }
    match (message.code, resource) {
        // one NUL, or nothing, tells it to forget what it has
        (Code::PUT, b"0" | b"1") if firmware => tells_of_package(message),
        (Code::PUT, b"2" | b"3") if !firmware => tells_of_package(message),
        (Code::POST, b"2") if firmware => Some(Stage::Executing),
        (Code::POST, b"4" | b"10") if !firmware => Some(Stage::Executing),
        _ => None,
    }
}

fn tells_of_package(message: &Message<'_>) -> Option<Stage> {
    (!matches!(message.payload, [] | [0])).then_some(Stage::Downloading)
}

impl Invariants {
    /// What a device is like.
    pub(in super::super) fn is_like(&mut self, device: usize, spec: &DeviceSpec) {
        let Some(subject) = self.subjects.get_mut(device) else {
            return;
        };
        let fault = match spec.fault {
            Some(Fault::Object(fault)) => Some(fault),
            _ => None,
        };
        subject.habits = Habits {
            by_object: spec.updates_by != UpdatesBy::Pcp,
            lies: match fault {
                Some(ObjectFault::ClaimsSuccessWithOldVersion) => Lies::AfterAll,
                Some(ObjectFault::ClaimsSuccessWithNothing) => Lies::WithNothing,
                _ => Lies::Never,
            },
        };
    }

    /// A block reaches a device, if it is one: of a package of its own.
    pub(super) fn block_reaches(&mut self, now_ms: u64, device: usize, message: &Message<'_>) {
        let number = match message.code {
            Code::CONTENT => option::BLOCK2,
            _ => option::BLOCK1,
        };
        let Some(block) = message.uint(number).and_then(Block::from_value) else {
            return;
        };
        let Some(subject) = self.subjects.get(device) else {
            return;
        };
        let packages = self.offered[subject.product].packages();
        let own = packages.iter().any(|package| {
            let Some(content) = &package.content else {
                return false;
            };
            let bytes = content.bytes();
            let begin = usize::try_from(block.offset()).unwrap_or(usize::MAX);
            let rest = bytes.get(begin..).unwrap_or_default();
            let len = rest.len().min(block.size().into());
            message.payload == &rest[..len] && block.more == (len < rest.len())
        });
        let upgrade = subject.upgrade.0;
        self.segments += 1;
        if !own {
            self.violated(now_ms, Rule::OwnPackage, || {
                format!("{upgrade}: receives a block {block:?} that is not its package's")
            });
        }
    }
}
