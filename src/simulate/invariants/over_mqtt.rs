//! Devices that speak MQTT: what they say, what has arrived of their packages, and what follows from that.
//!
//! * a success needs the whole package, arrived in the attempt that succeeds, or the target version, told over a connection that
//!   began after the download; and the device runs the target, but for one that says so and was served everything: nobody could know.
//! * A failure is one, unless the device has told the target, over such a connection or with everything served, while it ran;
//! * what a device is told, granted or acknowledged leaves after the changes on which that depends;
//! * bytes of its package leave once it is stored that it fetches that, in this attempt;
//! * a device of IoTDA is not asked or offered anything for two minutes after it was served something, unless that was all;
//! * a device that serves nothing while it downloads is not taken to be gone;
//! * a token opens nothing once its attempt is over.

mod words;

use std::{collections::BTreeMap, ops::Range};

use super::{Invariants, Number, Rule, SLACK_MS};
use crate::{
    clock::UtcMillis,
    engine::Seq,
    grants::{Grant, Served, Token},
    ledger::{Evidence, Failure, Outcome, Protocol, Stage, Success},
    mqtt::{endpoint::Event, engine::Out},
    simulate::faults::LONGEST_STORE_OUTAGE,
};
use words::{Says, Told, says};

/// A device is left alone for so long after the shard knows that it was served something, ms.
const QUIET_MS: u64 = 120_000;

/// What is stored while the store fails may not be known to the server for so long: the result of a batch may be lost, ms.
const KNOWN_MS: u64 = LONGEST_STORE_OUTAGE.as_secs() * 1_000 + SLACK_MS.unsigned_abs();

/// What is known of a device that speaks MQTT.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct OverMqtt {
    pub(super) protocol: Protocol,
    /// The token that it was granted last, and how much of the package has arrived for it.
    token: Option<String>,
    arrived_bytes: u64,
    whole: bool,
    /// When the attempt began, and whether it is stored that the device has fetched the package since.
    began_at: UtcMillis,
    pub(super) is_stored_to_fetch: bool,
    /// When the shard heard last that something was served for the token, ms.
    served_ms: Option<u64>,
    /// The shard knows that something, or everything, was served for the token.
    is_known_to_fetch: bool,
    is_known_whole: bool,
    /// It has connected, as the shard knows, after that knew that it fetches.
    is_back: bool,
    /// It has said that it is through.
    says_so: bool,
    /// It has told the target, and that was to be believed.
    is_shown: bool,
    /// It was believed, and does not run the target.
    pub(super) is_believed: bool,
    /// It has another gateway since that change of its shard: what leaves after this one, or one before, is void.
    void_after: Option<Seq>,
}

impl OverMqtt {
    const fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            token: None,
            arrived_bytes: 0,
            whole: false,
            began_at: UtcMillis(0),
            is_stored_to_fetch: false,
            served_ms: None,
            is_known_to_fetch: false,
            is_known_whole: false,
            is_back: false,
            says_so: false,
            is_shown: false,
            is_believed: false,
            void_after: None,
        }
    }

    /// The server is gone, and with it what only it knew.
    pub(super) const fn crashed(&mut self) {
        self.is_known_to_fetch = false;
        self.is_known_whole = false;
        self.is_back = false;
        self.is_shown = false;
        self.served_ms = None;
        self.void_after = None;
    }

    /// It has another gateway, after that change: its attempt begins anew.
    pub(super) fn has_moved(&mut self, now: UtcMillis, newest: Seq) {
        self.begins(now);
        self.void_after = Some(newest);
    }

    /// An attempt begins.
    fn begins(&mut self, now: UtcMillis) {
        *self = Self {
            began_at: now,
            is_believed: self.is_believed,
            ..Self::new(self.protocol)
        };
    }
}

/// Changes on which what is held depends, by what it is.
pub(super) type Outs = BTreeMap<String, Vec<Number>>;

/// What tells one thing that leaves from others; nothing where it may leave again and again.
fn name(out: &Out) -> Option<String> {
    match out {
        Out::Publish { .. } | Out::Acknowledge(_) => Some(format!("{out:?}")),
        Out::Grant(grant) => Some(format!(
            "{} {:?} {} {}",
            grant.upgrade.0,
            grant.expires_at,
            grant.begun,
            grant.token.as_str()
        )),
        Out::Revoke(_) | Out::Hold { .. } => None,
    }
}

impl Invariants {
    /// The device of that number speaks this.
    pub(in super::super) fn speaks(&mut self, device: usize, protocol: Protocol) {
        if let Some(subject) = self.subjects.get_mut(device).filter(|_| protocol.is_mqtt()) {
            subject.over_mqtt = Some(Box::new(OverMqtt::new(protocol)));
        }
    }

    pub(super) fn over_mqtt(&mut self, device: usize) -> Option<&mut OverMqtt> {
        self.subjects.get_mut(device)?.over_mqtt.as_deref_mut()
    }

    /// An attempt begins.
    pub(super) fn attempt_begins_over_mqtt(&mut self, now: UtcMillis, device: usize) {
        if let Some(over) = self.over_mqtt(device) {
            over.begins(now);
        }
    }

    /// The store has this of what the device did with versions.
    pub(super) fn evidence_stored_over_mqtt(&mut self, device: usize, evidence: &[Evidence]) {
        let Some(subject) = self.subjects.get_mut(device) else {
            return;
        };
        let target = self.offered[subject.product].last().version;
        if let Some(over) = subject.over_mqtt.as_deref_mut() {
            let began_at = over.began_at;
            let fetches = |it: &Evidence| it.version == target && it.taken && it.at >= began_at;
            over.is_stored_to_fetch |= evidence.iter().any(fetches);
        }
    }

    // ---- what the shard hears

    /// The shard hears of something that has happened at the endpoint.
    pub(in super::super) fn hears_of(&mut self, now_ms: u64, device: usize, event: &Event) {
        let Some(subject) = self.subjects.get_mut(device) else {
            return;
        };
        let target = self.offered[subject.product].last().version;
        let transfers = subject.emitted.stage.is_some_and(Stage::is_transfer);
        let Some(over) = subject.over_mqtt.as_deref_mut() else {
            return;
        };
        match event {
            Event::Connected { .. } => over.is_back = over.is_known_to_fetch,
            Event::Message {
                uplink, payload, ..
            } => {
                for said in says(*uplink, payload) {
                    match said {
                        Says::Runs(version) if version == target.as_str() => {
                            over.says_so = true;
                            subject.claims.true_ms = Some(now_ms);
                            over.is_shown |= transfers && (over.is_back || over.is_known_whole);
                        }
                        Says::Through(version)
                            if version.as_deref().is_none_or(|it| it == target.as_str()) =>
                        {
                            over.says_so = true;
                            // what it tells over another connection counts
                            over.is_back &= over.is_known_whole;
                        }
                        Says::Runs(_) | Says::Through(_) => {}
                    }
                }
            }
            _ => {}
        }
    }

    /// The shard hears that something was served.
    pub(in super::super) fn hears_served(&mut self, now_ms: u64, device: usize, served: &Served) {
        if let Some(over) = self.over_mqtt(device)
            && over.token.as_deref() == Some(served.token.as_str())
            && !served.over
        {
            over.is_known_to_fetch = true;
            over.is_known_whole = served.whole;
            over.served_ms = Some(now_ms);
        }
    }

    // ---- downloads

    /// The listener opens what was granted.
    pub(in super::super) fn begins_download(
        &mut self,
        now_ms: u64,
        device: usize,
        grant: &Grant,
        from: u64,
    ) {
        self.token_is_live(now_ms, device, grant);
        if from == 0
            && let Some(over) = self.over_mqtt(device)
        {
            over.arrived_bytes = 0;
        }
    }

    /// Bytes of a package are with a device.
    pub(in super::super) fn piece_arrives(
        &mut self,
        now_ms: u64,
        device: usize,
        grant: &Grant,
        bytes: &Range<u64>,
    ) {
        self.token_is_live(now_ms, device, grant);
        let product = self.subjects.get(device).map(|subject| subject.product);
        let own = (product.and_then(|product| self.offered.get(product))).map(|it| it.last());
        let is_own = own.is_some_and(|own| {
            own.size_bytes == grant.size_bytes
                && (own.http.as_ref()).is_some_and(|http| http.sha256 == grant.sha256)
        });
        if !is_own {
            self.violated(now_ms, Rule::OwnPackage, || {
                format!("device {device} is served a package other than its own")
            });
        }
        let Some(over) = self.over_mqtt(device) else {
            return;
        };
        if over.token.as_deref() == Some(grant.token.as_str()) {
            if bytes.start <= over.arrived_bytes {
                over.arrived_bytes = over.arrived_bytes.max(bytes.end);
            }
            over.whole |= over.arrived_bytes >= grant.size_bytes;
        }
    }

    /// Bytes of a package leave for a device.
    pub(in super::super) fn bytes_leave(&mut self, now_ms: u64, device: usize, token: &Token) {
        let Some(subject) = self.subjects.get(device) else {
            return;
        };
        let early = (subject.over_mqtt.as_deref()).is_some_and(|over| {
            over.token.as_deref() == Some(token.as_str()) && !over.is_stored_to_fetch
        });
        if early {
            let upgrade = subject.upgrade.0;
            self.violated(now_ms, Rule::CommittedFirst, || {
                format!(
                    "{upgrade}: bytes of its package leave before it is stored that it fetches that"
                )
            });
        }
    }

    /// The store fails until then.
    pub(in super::super) const fn store_fails(&mut self, until_ms: u64) {
        self.store_failed_until_ms = until_ms;
    }

    /// A token is used: its attempt runs, as far as the store knows, or has ended this moment.
    fn token_is_live(&mut self, now_ms: u64, device: usize, grant: &Grant) {
        let Some(subject) = self.subjects.get(device) else {
            return;
        };
        let ended_ms = subject.ended_ms.unwrap_or(now_ms);
        let since_ms = now_ms.saturating_sub(ended_ms);
        let known_in_ms = if self.store_failed_until_ms >= ended_ms {
            KNOWN_MS
        } else {
            SLACK_MS.unsigned_abs()
        };
        let runs = subject.committed.stage.is_some_and(Stage::is_transfer)
            && subject.upgrade == grant.upgrade;
        if !runs && since_ms > known_in_ms {
            let upgrade = grant.upgrade.0;
            self.violated(now_ms, Rule::Grants, || {
                format!("{upgrade}: its token opens the package {since_ms} ms after its attempt")
            });
        }
    }

    /// Everything is over: so many downloads are granted all the same.
    pub(in super::super) fn granted_at_end(&mut self, now_ms: u64, grants: usize) {
        if grants > self.open {
            let open = self.open;
            self.violated(now_ms, Rule::Grants, || {
                format!("{grants} downloads are granted, and {open} upgrades are open")
            });
        }
    }

    // ---- the connection

    /// A device was taken to be gone that serves nothing because it downloads.
    pub(in super::super) fn cut_off(&mut self, now_ms: u64, device: usize) {
        let Some(subject) = self.subjects.get(device) else {
            return;
        };
        // what it does otherwise is not the server's
        if !subject.emitted.stage.is_some_and(Stage::is_transfer) {
            return;
        }
        let upgrade = subject.upgrade.0;
        self.violated(now_ms, Rule::CutOff, || {
            format!("{upgrade}: its connection is ended while it downloads and serves nothing else")
        });
    }

    // ---- what leaves

    /// The engine wants something let out, after a change.
    pub(in super::super) fn holds_out(
        &mut self,
        now_ms: u64,
        device: Option<usize>,
        out: &Out,
        after: Number,
    ) {
        if let Some(name) = name(out) {
            self.outs.entry(name).or_default().push(after);
        }
        if let (
            Some(device),
            Out::Publish {
                downlink, payload, ..
            },
        ) = (device, out)
        {
            let told = Told::of(*downlink, payload);
            self.leaves_alone(now_ms, device, told);
            if told == Told::Offered
                && let Some(over) = self.over_mqtt(device)
            {
                over.is_back = false;
            }
        }
        let Some(subject) = device.and_then(|device| self.subjects.get(device)) else {
            return;
        };
        let waited_for = subject.newest.is_none_or(|newest| {
            let committed = self.shards[newest.shard.index()].last_committed;
            newest.seq <= committed || (newest.shard == after.shard && newest.seq <= after.seq)
        });
        if !waited_for {
            let (upgrade, newest) = (subject.upgrade.0, subject.newest);
            self.violated(now_ms, Rule::CommittedFirst, || {
                format!(
                    "{upgrade}: {out:?} is to leave after change {after:?}, {newest:?} is its newest"
                )
            });
        }
    }

    /// Something leaves.
    pub(in super::super) fn goes_out(&mut self, now_ms: u64, device: Option<usize>, out: &Out) {
        let shards = &self.shards;
        let is_committed = |needs: &Number| needs.seq <= shards[needs.shard.index()].last_committed;
        let name = name(out);
        let needs = name.as_ref().and_then(|name| self.outs.get_mut(name));
        let (mut early, mut after) = (false, None);
        if let Some(needs) = needs {
            early = !needs.iter().any(is_committed);
            after = (needs.iter().filter(|needs| is_committed(needs)))
                .map(|needs| needs.seq)
                .max();
            needs.retain(|needs| !is_committed(needs));
        }
        if let Some(name) = name
            && self.outs.get(&name).is_some_and(Vec::is_empty)
        {
            self.outs.remove(&name);
        }
        if early {
            self.violated(now_ms, Rule::CommittedFirst, || {
                format!("{out:?} leaves for {device:?} before the change that it depends on")
            });
        }
        let void_after = device.and_then(|device| self.over_mqtt(device)?.void_after);
        let is_void = after
            .zip(void_after)
            .is_some_and(|(after, void)| after <= void);
        let Some(device) = device.filter(|_| !is_void) else {
            return;
        };
        match out {
            Out::Grant(grant) => {
                self.has_entered(now_ms, device, "is granted its download");
                let Some(over) = self.over_mqtt(device) else {
                    return;
                };
                if over.token.as_deref() != Some(grant.token.as_str()) {
                    over.token = Some(grant.token.as_str().to_owned());
                    over.arrived_bytes = 0;
                    over.whole = false;
                }
            }
            Out::Publish {
                downlink, payload, ..
            } => {
                if Told::of(*downlink, payload) == Told::Offered {
                    self.has_entered(now_ms, device, "is offered its package");
                }
            }
            Out::Acknowledge(_) | Out::Revoke(_) | Out::Hold { .. } => {}
        }
    }

    /// What leaves needs the stage in which devices download, in the store.
    fn has_entered(&mut self, now_ms: u64, device: usize, what: &str) {
        let Some(subject) = self.subjects.get(device) else {
            return;
        };
        let committed = subject.committed;
        let (upgrade, attempt) = (subject.upgrade.0, subject.emitted.attempt);
        if committed.reached < Some(Stage::Downloading) || committed.attempt < attempt {
            self.violated(now_ms, Rule::CommittedFirst, || {
                format!(
                    "{upgrade}: {what} while {:?} of attempt {} is committed",
                    committed.stage, committed.attempt
                )
            });
        }
    }

    /// A device is asked or offered something: not one that is taken to be downloading. Those of `ThingsPanel` are pushed to all the
    /// same when they tell their old version.
    fn leaves_alone(&mut self, now_ms: u64, device: usize, told: Told) {
        let Some(subject) = self.subjects.get(device) else {
            return;
        };
        let Some(over) = subject.over_mqtt.as_deref() else {
            return;
        };
        let lately =
            (over.served_ms).is_some_and(|at| now_ms + SLACK_MS.unsigned_abs() < at + QUIET_MS);
        let downloads = over.protocol == Protocol::Iotda && lately && !over.is_known_whole;
        if downloads && subject.emitted.stage == Some(Stage::Downloading) {
            let upgrade = subject.upgrade.0;
            let what = match told {
                Told::Asked => "asked",
                Told::Offered => "offered its package",
                Told::Nothing => return,
            };
            self.violated(now_ms, Rule::GoesOn, || {
                format!("{upgrade}: is {what} in mid-download")
            });
        }
    }

    // ---- how it ends

    /// An attempt on a device over MQTT ends.
    pub(super) fn ends_over_mqtt(&mut self, now_ms: u64, device: usize, outcome: &Outcome) {
        let behind = self.is_behind(device);
        let Some(subject) = self.subjects.get_mut(device) else {
            return;
        };
        let (upgrade, current) = (subject.upgrade.0, subject.current);
        let Some(over) = subject.over_mqtt.as_deref_mut() else {
            return;
        };
        let flaw = match outcome {
            Outcome::Succeeded(Success::Upgraded) if behind && !over.whole => {
                Some("verified, and its gateway has not got all of the package")
            }
            Outcome::Succeeded(Success::AlreadyCurrent) => {
                (!current).then_some("it runs another version")
            }
            Outcome::Succeeded(_) if !over.says_so && !current => Some("it never said so"),
            Outcome::Succeeded(_) if !over.whole && !current => {
                Some("it runs another version and has not got all of the package")
            }
            Outcome::Succeeded(Success::Upgraded)
                if !over.whole && !over.is_shown && !over.is_known_whole =>
            {
                Some("it has not got all of the package, and has not shown the version either")
            }
            Outcome::Failed(Failure::DeviceRemoved) => None,
            Outcome::Failed(_) if over.is_shown && current => {
                Some("it runs the target, and has shown it")
            }
            _ => None,
        };
        over.is_believed = outcome.is_success() && !current;
        if let Some(flaw) = flaw {
            let known = format!("{over:?}");
            self.violated(now_ms, Rule::TrueOutcome, || {
                format!("{upgrade} of device {device}: {outcome:?}, and {flaw}: {known}")
            });
        }
    }
}
