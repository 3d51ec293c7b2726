//! What a device has done, kept with it and in the store, and what its claims are worth by that.
//!
//! A restart makes what a device says count again. It shows itself by a registration, or by a DTLS association that
//! began with a whole handshake, unless something else explains them: that we told it to register anew, that its
//! registration had run out, that the server was restarted, or that it is the registration from before once more. What
//! was done before the server's restart outlives a registration within minutes of it: a refusal before it is forgotten.

use super::{Change, Engine, Speaker, device::Device, key::DeviceKey, registered::Excuse};
use crate::{
    coap::EXCHANGE_LIFETIME,
    ledger::{Evidence, Explanation, Happened, Repeated, Stage},
    package::Version,
    upgrade::{Claim, Credence, Input, Sign},
};

impl Engine {
    /// What the device's claim to run `version` is worth.
    pub(super) fn credence(&self, key: DeviceKey, version: Version, claim: Claim) -> Credence {
        let known = self.device(key).known.as_ref();
        known.map_or(Credence::Sound, |known| {
            known.evidence.credence(version, claim)
        })
    }

    /// What it has done with the version since it restarted last.
    pub(super) fn evidence_of(&self, key: DeviceKey, version: Version) -> Option<Evidence> {
        let known = self.device(key).known.as_ref()?;
        known.evidence.of(version).copied()
    }

    /// The version of the device's upgrade, else that which it was offered last.
    pub(super) fn version_at_stake(&self, key: DeviceKey) -> Option<Version> {
        let device = self.device(key);
        if let Some(session) = &device.session {
            return Some(session.package.version);
        }
        let newest = device.known.as_ref()?.evidence.newest()?;
        Some(newest.version)
    }

    /// Takes note of what the device did with a version, durably where that is news.
    pub(super) fn note_sign(&mut self, key: DeviceKey, version: Version, sign: Sign) {
        let now = self.now;
        let heard_at = now.utc.before(now.instant.since(self.heard_at));
        let device = self.device_mut(key);
        if device.known.is_none() && sign == Sign::Runs {
            return;
        }
        let known = device.known.get_or_insert_default();
        // What it did was heard then, though it may have waited for the device to come.
        let at = match sign {
            Sign::Offered | Sign::Commanded => now.utc,
            Sign::Takes | Sign::Holds | Sign::Claims | Sign::Fails(_) | Sign::Runs => heard_at,
        };
        if !known.evidence.note(version, sign, at) {
            return;
        }
        if device.may_write(now.instant) {
            self.persist_evidence(key);
        } else {
            self.counters.requests_ignored += 1;
        }
    }

    /// It asks for a segment of the version: the short way, when that is known.
    pub(super) fn takes(&mut self, key: DeviceKey, version: Version) {
        let session = self.device_mut(key).session.as_mut();
        if let Some(session) = session.filter(|it| it.package.version == version) {
            if session.takes {
                return;
            }
            session.takes = true;
        }
        self.note_sign(key, version, Sign::Takes);
    }

    /// The command to install the version has left.
    pub(super) fn commanded(&mut self, key: DeviceKey) {
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.takes = false;
            let version = session.package.version;
            self.note_sign(key, version, Sign::Commanded);
            let device = self.device_mut(key);
            if let Some(session) = &mut device.session {
                session.commanded_after = device.pending;
            }
        }
    }

    /// The device has restarted: what it did before says nothing of what it runs now.
    pub(super) fn has_restarted(&mut self, key: DeviceKey) {
        let device = self.device_mut(key);
        if let Some(session) = &mut device.session {
            session.takes = false;
        }
        let known = device.known.as_mut();
        if known.is_some_and(|known| known.evidence.restarted()) {
            self.persist_evidence(key);
        }
    }

    /// The device has registered; `excuse` explains it, if anything besides a restart does. Returns what that means for its
    /// upgrade.
    pub(super) fn explain_registration(&mut self, key: DeviceKey, excuse: Option<Excuse>) -> Input {
        let restarted = excuse.is_none();
        if restarted {
            self.has_restarted(key);
        }
        let why = match excuse {
            None => Explanation::Restarted,
            Some(Excuse::Expired) => Explanation::Expired,
            Some(Excuse::Refused) => Explanation::Refused,
            Some(Excuse::ServerRestarted) => Explanation::ServerRestarted,
            Some(Excuse::ServerYoung) => Explanation::ServerYoung,
            Some(Excuse::Repeated) => Explanation::EarlierMessage,
        };
        // In the stages before, it is asked again, which is told with the registration.
        if let Some(Stage::WaitingForSlot | Stage::Downloading | Stage::Executing) = self.stage(key)
        {
            self.note_once(key, Repeated::Registration, || Happened::RegisteredAnew {
                why,
            });
        }
        Input::Registered { restarted }
    }

    fn persist_evidence(&mut self, key: DeviceKey) {
        let at = self.now.utc;
        let device = self.device(key);
        let Some(known) = &device.known else { return };
        let change = Change::Evidence {
            endpoint: device.endpoint.to_string(),
            evidence: known.evidence.as_slice().to_vec(),
            at,
        };
        self.persist(key, change);
    }

    /// What explains a registration of the device, besides a restart.
    pub(super) fn excuse(&self, key: DeviceKey, bytes: &[u8], message_id: u16) -> Option<Excuse> {
        let device = self.device(key);
        let restarted = device
            .unheard_since_start()
            .then_some(Excuse::ServerRestarted);
        let now = self.now.instant;
        let known = (device.recent).find(now, EXCHANGE_LIFETIME, message_id, bytes);
        let newest = (device.known.as_ref()).and_then(|known| known.evidence.newest());
        let repeated = known.is_some()
            || self.is_stale(key, message_id)
            || newest.is_some_and(|newest| self.has_waited_since(device, newest));
        let repeated = repeated.then_some(Excuse::Repeated);
        // What it was told before the start is forgotten.
        let started = self.started_at;
        let earlier = newest.is_some_and(|newest| newest.at < started.utc);
        let young = earlier && now < started.instant + EXCHANGE_LIFETIME;
        (restarted.or(device.excuse).or(repeated)).or(young.then_some(Excuse::ServerYoung))
    }

    /// Whether the datagram that is handled was heard before what is known of the device happened: it waited for the device to
    /// come from another shard, or the device was told to install a version, and the command waits for a commit.
    fn has_waited_since(&self, device: &Device, newest: &Evidence) -> bool {
        let session = device.session.as_ref();
        let command_waits = session.is_some_and(|session| session.commanded_after > self.committed);
        command_waits || self.now.instant_at(newest.at) > self.heard_at
    }

    /// What the device says comes over an association that began after what is known of it: it has restarted.
    pub(super) fn look_at_association(&mut self, key: DeviceKey, speaker: &Speaker<'_>) {
        let Some(began_at) = speaker.handshake_at() else {
            return;
        };
        if self.goes_through(key, speaker) {
            return; // it is the gateway's
        }
        let now = self.now;
        let device = self.device_mut(key);
        let unheard = device.unheard_since_start();
        let Some(known) = &mut device.known else {
            return;
        };
        if unheard {
            // the restart of the server explains it
            return known.evidence.not_before(now.utc);
        }
        let Some(newest) = known.evidence.newest() else {
            return;
        };
        if began_at > now.instant_at(newest.at) {
            self.has_restarted(key);
            self.note(key, Happened::AssociationBegun.into());
            self.fire(key, Input::Restarted);
        }
    }
}
