//! Devices say which version they run. Some lie, and of others it cannot be known whether they do.

use pcp::{DeviceMessage, ResultCode};
use sim::coap::{Code, Message};

use super::Invariants;
use crate::{clock::UtcMillis, ledger::Evidence};

/// RFC 7252 §4.8.2. So long after its start the server may be unaware that it refused a device something before.
const EXCHANGE_LIFETIME_MS: i64 = 247_000;

/// What a device has said of its version, and what speaks for or against it.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and most of their combinations occur"
)]
pub(super) struct Claims {
    /// Digests of the datagrams in which it tells that it runs the target since it does.
    honest: Vec<u64>,
    /// When it told the server so in the attempt that runs, ms, and there was no reason to doubt it.
    pub(super) told_ms: Option<u64>,
    /// When it told so last, ms, and it was true.
    pub(super) true_ms: Option<u64>,
    /// What it did with the target speaks against it, as emitted and as committed.
    contested: bool,
    contested_committed: bool,
    /// Since it runs the target it has registered, for no other reason than a restart.
    proven: bool,
    /// The server knows its registration.
    registered: bool,
    /// It was refused something, or got no answer: it may register anew because of that.
    refused: bool,
    /// Digest of the datagram that was heard last.
    heard: u64,
    /// Digest of the datagram by which it registered last.
    registered_by: u64,
    /// The store was put back then, and what spoke against it is of before: it may have been upgraded since.
    put_back_at: Option<UtcMillis>,
    /// It has registered with the server that runs: another registration is not explained by the server's restart.
    registered_in_run: bool,
}

impl Claims {
    /// The server is gone, and with it what was not committed.
    pub(super) fn crashed(&mut self) {
        self.contested = self.contested_committed;
        self.told_ms = None;
        self.registered_in_run = false;
    }

    /// What it did with the target speaks against it, as far as the store knows.
    pub(super) const fn is_contested(&self) -> bool {
        self.contested_committed
    }

    /// The store was put back to when that was so. What was seen of its restart since is not known to the server any more.
    pub(super) const fn put_back(&mut self, now: UtcMillis, contested: bool) {
        self.contested_committed = contested;
        self.proven = false;
        self.put_back_at = if contested { Some(now) } else { None };
    }

    /// It runs the target, has told so in words, and what it did before the store was put back does not outrank that.
    pub(super) const fn is_believed_anew(&self) -> bool {
        self.put_back_at.is_some() && self.true_ms.is_some()
    }
}

impl Invariants {
    /// A device that runs the target version says something: is it that it does? Others claim it too, and what they claim
    /// may be on its way when it becomes true.
    pub(in super::super) fn says(&mut self, device: usize, target: pcp::Version, datagram: &[u8]) {
        let Some(subject) = self.subjects.get_mut(device) else {
            return;
        };
        let claim = digest(datagram);
        if tells(target, datagram) && !subject.claims.honest.contains(&claim) {
            subject.claims.honest.push(claim);
        }
    }

    /// The server is about to hear a device: does that tell that it runs the target, and is it?
    pub(in super::super) fn hears(&mut self, now_ms: u64, device: usize, datagram: &[u8]) {
        self.could_be_served(now_ms, device);
        self.answers(device, datagram);
        let Some(subject) = self.subjects.get_mut(device) else {
            return;
        };
        let claims = &mut subject.claims;
        claims.heard = digest(datagram);
        if claims.honest.contains(&claims.heard) {
            claims.true_ms = Some(now_ms);
        }
        if claims.told_ms.is_none()
            && !claims.honest.is_empty()
            && subject.emitted.stage.is_some()
            && (claims.proven || !claims.contested)
        {
            claims.told_ms = claims.honest.contains(&claims.heard).then_some(now_ms);
        }
    }

    /// The server has ignored what a device has said.
    pub(in super::super) fn ignored(&mut self, device: usize) {
        if let Some(subject) = self.subjects.get_mut(device) {
            subject.claims.refused = true;
        }
    }

    /// Something is sent to a device: is it a refusal?
    pub(super) fn refuses(&mut self, device: usize, datagram: &[u8]) {
        let refused = (datagram.get(1)).is_some_and(|code| Code(*code).class() >= 4);
        if refused && let Some(subject) = self.subjects.get_mut(device) {
            subject.claims.refused = true;
        }
    }

    /// The device registers. Unless something else explains it, it has restarted.
    pub(super) fn registers_anew(&mut self, now: UtcMillis, device: usize) {
        let young = now.0 < self.started_at.0.saturating_add(EXCHANGE_LIFETIME_MS);
        let Some(subject) = self.subjects.get_mut(device) else {
            return;
        };
        let claims = &mut subject.claims;
        // the network may deliver it twice
        let repeated = std::mem::replace(&mut claims.registered_by, claims.heard) == claims.heard;
        let explained = young || repeated || claims.refused;
        let restarted = claims.registered_in_run && claims.registered && !explained;
        claims.proven |= subject.current && restarted;
        claims.registered_in_run = true;
        claims.registered = true;
        claims.refused = false;
        // what it said before says nothing of what it runs now
        claims.told_ms = None;
    }

    /// Its registration has ended.
    pub(super) fn leaves_the_register(&mut self, device: usize) {
        if let Some(subject) = self.subjects.get_mut(device) {
            subject.claims.registered = false;
        }
    }

    /// What the server keeps of what the device did with versions.
    pub(super) fn evidence(&mut self, device: usize, evidence: &[Evidence], committed: bool) {
        let Some(subject) = self.subjects.get_mut(device) else {
            return;
        };
        let target = subject.own.target();
        let contested = evidence.iter().any(|of| Some(of.version) == target);
        // it is seen to take it since
        let afresh = |at| {
            (evidence.iter()).any(|of| Some(of.version) == target && of.at > at && !of.commanded)
        };
        if subject.claims.put_back_at.is_some_and(afresh) {
            subject.claims.put_back_at = None;
        }
        if committed {
            subject.claims.contested_committed = contested;
        } else {
            subject.claims.contested = contested;
        }
    }
}

/// Whether somebody tells in a datagram that it runs a version.
fn tells(target: pcp::Version, datagram: &[u8]) -> bool {
    let Ok(message) = Message::parse(datagram) else {
        return false;
    };
    if !pcp::is_pcp(message.payload) {
        return message.code == Code::CONTENT && names(target, message.payload);
    }
    matches!(
        DeviceMessage::decode(message.payload),
        Ok(DeviceMessage::VersionResponse {
            result: ResultCode::SUCCESS,
            version: Some(version),
        } | DeviceMessage::UpgradeReport {
            result: ResultCode::SUCCESS,
            version,
        }) if version == target
    )
}

/// Whether what a device without PCP was asked for names a version. Who runs another one is not asked about here.
fn names(target: pcp::Version, payload: &[u8]) -> bool {
    let target = target.significant();
    !target.is_empty() && payload.windows(target.len()).any(|part| part == target)
}

/// The same in every run: FNV-1a.
fn digest(datagram: &[u8]) -> u64 {
    datagram.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}
