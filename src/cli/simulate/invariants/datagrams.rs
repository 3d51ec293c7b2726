use pcp::{DeviceMessage, MessageCode, ResultCode};
use sim::coap::{Code, Message, MessageType, option};

use super::{Invariants, Rule, location};
use crate::{engine::Seq, upgrade::Stage};

/// PCP frames begin with this, their code follows the version.
const CODE_AT: usize = 3;

/// The PCP frame that a message writes to a device.
fn written<'a>(message: &Message<'a>) -> Option<(MessageCode, &'a [u8])> {
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
        device: usize,
        datagram: &[u8],
        after: Seq,
    ) {
        let Some(subject) = self.subjects.get(device).filter(|s| after < s.newest) else {
            return;
        };
        // What tells of no state depends on none: a Reset, an error.
        let depends = Message::parse(datagram).is_ok_and(|message| {
            message.message_type != MessageType::Reset && message.code.class() < 4
        });
        if depends {
            let (upgrade, newest) = (subject.upgrade.0, subject.newest);
            self.violated(now_ms, Rule::CommittedFirst, || {
                format!("{upgrade}: sent after change {after}, {newest} is its newest")
            });
        }
    }

    /// A datagram leaves for a device.
    pub(in super::super) fn leaves(&mut self, now_ms: u64, device: usize, datagram: &[u8]) {
        // Only a registration's answer and a write are looked into.
        let code = datagram.get(1).copied().map(Code);
        if !matches!(code, Some(Code::CREATED | Code::PUT)) {
            return;
        }
        let Ok(message) = Message::parse(datagram) else {
            return;
        };
        if message.code == Code::CREATED {
            let path = message.values(option::LOCATION_PATH).last();
            let new = path
                .and_then(location)
                .is_some_and(|location| self.new_locations.contains_key(&location));
            if new {
                self.violated(now_ms, Rule::CommittedFirst, || {
                    format!("device {device} is told of a registration that is not committed")
                });
            }
            return;
        }
        let Some((code, frame)) = written(&message) else {
            return;
        };
        let needs = match code {
            MessageCode::NEW_VERSION => Stage::Downloading,
            MessageCode::EXECUTE => Stage::Executing,
            MessageCode::SEGMENT_REQUEST if is_segment(frame) => Stage::Downloading,
            _ => return,
        };
        let Some(subject) = self.subjects.get(device) else {
            return;
        };
        let committed = subject.committed;
        if committed.reached < Some(needs) || committed.attempt < subject.emitted.attempt {
            let upgrade = subject.upgrade.0;
            self.violated(now_ms, Rule::CommittedFirst, || {
                format!(
                    "{upgrade}: is sent a frame {} while {:?} of attempt {} is committed",
                    code.0, committed.stage, committed.attempt
                )
            });
        }
    }

    /// A datagram reaches a device.
    pub(in super::super) fn reaches(&mut self, now_ms: u64, device: usize, datagram: &[u8]) {
        if datagram.get(1) != Some(&Code::PUT.0) {
            return;
        }
        let Ok(message) = Message::parse(datagram) else {
            return;
        };
        let Some((MessageCode::SEGMENT_REQUEST, frame)) = written(&message) else {
            return;
        };
        if !is_segment(frame) {
            return;
        }
        let Some(subject) = self.subjects.get(device) else {
            return;
        };
        let number = frame.get(9..11).map_or(u16::MAX, |bytes| {
            bytes
                .iter()
                .fold(0, |number, byte| (number << 8) | u16::from(*byte))
        });
        self.segments += 1;
        let own = self.packages[subject.package].frames.get(number);
        if own != Some(frame) {
            let upgrade = subject.upgrade.0;
            self.violated(now_ms, Rule::OwnPackage, || {
                format!("{upgrade}: receives a segment {number} that is not its package's")
            });
        }
    }

    /// A device that runs the target version is heard: has it said so?
    pub(in super::super) fn heard(&mut self, device: usize, target: pcp::Version, datagram: &[u8]) {
        let Some(subject) = self.subjects.get_mut(device) else {
            return;
        };
        if !subject.current || subject.told || subject.emitted.stage.is_none() {
            return;
        }
        let Ok(message) = Message::parse(datagram) else {
            return;
        };
        subject.told = matches!(
            DeviceMessage::decode(message.payload),
            Ok(DeviceMessage::VersionResponse {
                result: ResultCode::SUCCESS,
                version: Some(version),
            } | DeviceMessage::UpgradeReport {
                result: ResultCode::SUCCESS,
                version,
            }) if version == target
        );
    }

    /// A device runs the target version from now on.
    pub(in super::super) fn switched(&mut self, device: usize) {
        if let Some(subject) = self.subjects.get_mut(device) {
            subject.current = true;
        }
    }
}

/// Whether an answer to a request for a segment carries one: its result is the first byte of its data.
fn is_segment(frame: &[u8]) -> bool {
    frame.get(pcp::HEADER_LEN) == Some(&ResultCode::SUCCESS.0)
}
