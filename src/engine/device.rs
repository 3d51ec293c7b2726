use std::time::Duration;

use pcp::ResultCode;

use super::{
    Lwm2mVersion, QueueMode,
    appointed::Appointed,
    asked::Tag,
    companies::Behind,
    device_formats::Formats,
    effect::Seq,
    id::Location,
    objects::{Route, UpdateInstance},
    observation::{Observation, Purpose},
    profile::ProductId,
    pulls::Pull,
    registered::{Excuse, Registered, Validation},
    timers::AlarmId,
    told::ObjectSet,
};
use crate::{
    clock::{Instant, Now},
    coap::{Code, EXCHANGE_LIFETIME, Link, MAX_TRANSMIT_SPAN, Message, Peer, Recent, Reply, Token},
    config::UpgradeConfig,
    grants,
    ledger::{Coverage, Deadline, DeviceId, UpdateObject, UpgradeId, WakeUps},
    lwm2m::Objects,
    package::Version,
    session::{self, KeptAwake},
    upgrade::EvidenceList,
};

/// How long a repeat of a report is recognised: five repeats, 30 s apart, and some margin.
pub(super) const REPORT_REPEATS: Duration = Duration::from_mins(10);

/// Where a device is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeardOver {
    Any,
    /// The same; nobody added the device, which came by itself in this run of the server.
    Open,
    /// Only where datagrams are encrypted.
    Secured,
}

impl HeardOver {
    pub(super) const fn of(secure: bool) -> Self {
        if secure { Self::Secured } else { Self::Any }
    }
}

/// In which run of the server a device was heard last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeardIn {
    ThisRun,
    /// After a silence, and what is outstanding was not sent again since.
    ThisRunAfterSilence,
    /// So that the time is what the store knows.
    EarlierRun,
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) endpoint: Box<str>,
    pub(super) id: DeviceId,
    /// Where it is heard.
    pub(super) heard_over: HeardOver,
    /// Its product.
    pub(super) product: ProductId,
    pub(super) registration: Option<Registered>,
    /// When anything was received from it last.
    pub(super) heard_at: Option<Instant>,
    /// A request was given up since: nothing reaches it before it is heard.
    pub(super) silent: bool,
    /// When that was.
    pub(super) heard_in: HeardIn,
    /// What explains its next registration, besides a restart.
    pub(super) excuse: Option<Excuse>,
    /// The uplink is observed, as far as known.
    pub(super) observing: bool,
    /// What it writes and takes.
    pub(super) formats: Formats,
    /// When its budget of writes is full again, in whole seconds of the engine's time.
    budget_full_at_s: u32,
    /// The address that it has shown to be its own last, as 32 bits tell it from others; 0 for none.
    pub(super) proven: u32,
    /// The newest change that what is sent to the device depends on.
    pub(super) pending: Seq,
    pub(super) next_message_id: u16,
    pub(super) recent: Recent,
    pub(super) link: Link<Tag>,
    pub(super) known: Option<Box<Known>>,
    pub(super) last_download: Option<Box<LastDownload>>,
    pub(super) last_report: Option<Box<LastReport>>,
    pub(super) session: Option<Box<Session>>,
    /// The alarm that is set for it: not after anything that is due.
    pub(super) alarm: Option<AlarmId>,
}

/// What few devices have: what they have told of themselves, and Resets.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The path below which it has its objects.
    pub(super) root: Option<Box<str>>,
    pub(super) coverage: Option<(Coverage, Instant)>,
    pub(super) version: Option<Version>,
    /// It was asked for its version after an upgrade: what it tells is written down, whatever is known.
    pub(super) asked_what_it_runs: bool,
    /// What it did with versions that it was offered.
    pub(super) evidence: EvidenceList,
    /// How it was kept awake in earlier attempts at an upgrade.
    pub(super) kept: Option<(UpgradeId, KeptAwake)>,
    /// The product of which it was when that was told last, as [`Profiles::tag`](super::profile::Profiles::tag) tells it from
    /// others.
    pub(super) product: Option<u32>,
    /// When it wakes up by itself, as far as that is learnt.
    pub(super) wake_ups: Option<WakeUps>,
    /// When it is to come.
    pub(super) appointed: Option<Box<Appointed>>,
    /// Through which gateway it may be heard, where there is one.
    pub(super) behind: Option<Box<Behind>>,
    /// It may fetch its package in blocks.
    pub(super) pull: Option<Box<Pull>>,
    /// It does not have its lifetime written.
    pub(super) refuses_lifetime: bool,
    /// It may have a package still of an upgrade that has ended, and was not there to be told so.
    pub(super) forgets: Option<UpdateInstance>,
    /// What it may download over HTTP.
    pub(super) granted: Option<Box<Granted>>,
    /// The instances that it announces of objects 9 and 33629.
    pub(super) instances: Box<[(u16, u16)]>,
    /// When its observation was made anew after a Reset last.
    pub(super) observed_anew_at: Option<Instant>,
}

/// What a device may download over HTTP.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) token: grants::Token,
    pub(super) upgrade: UpgradeId,
    /// Bytes of the package from its beginning that it was served.
    pub(super) contiguous_bytes: u64,
}

/// The download report that was answered last: its repeats get the same answer.
#[derive(Debug)]
pub(super) struct LastDownload {
    pub(super) status: ResultCode,
    pub(super) answer: ResultCode,
    pub(super) at: Instant,
}

/// The upgrade report that was answered last: its repeats get the same answer.
#[derive(Debug)]
pub(super) struct LastReport {
    pub(super) result: ResultCode,
    pub(super) version: Version,
    pub(super) answer: ResultCode,
    pub(super) at: Instant,
}

/// One attempt to upgrade a device, with what is under way for it.
pub(super) type Session = session::Session<Route>;

impl Device {
    pub(super) fn new(id: DeviceId, endpoint: Box<str>, message_id: u16) -> Self {
        Self {
            endpoint,
            id,
            heard_over: HeardOver::Any,
            product: ProductId::default(),
            registration: None,
            heard_at: None,
            silent: false,
            heard_in: HeardIn::ThisRun,
            excuse: None,
            observing: false,
            formats: Formats::default(),
            budget_full_at_s: 0,
            proven: 0,
            pending: 0,
            next_message_id: message_id,
            recent: Recent::default(),
            link: Link::default(),
            known: None,
            last_download: None,
            last_report: None,
            session: None,
            alarm: None,
        }
    }

    pub(super) fn peer(&self) -> Option<Peer> {
        let registration = self.registration.as_ref()?;
        (!registration.displaced).then_some(registration.peer)
    }

    /// Whether it was heard before the server was started only, as far as it was heard.
    pub(super) fn unheard_since_start(&self) -> bool {
        self.heard_in == HeardIn::EarlierRun
    }

    /// Whether nobody added it, as far as is known since the server was started.
    pub(super) fn is_newcomer(&self) -> bool {
        self.heard_over == HeardOver::Open
    }

    /// Whether nothing has shown yet that it receives what is sent to its address.
    pub(super) fn is_unproven(&self) -> bool {
        (self.registration.as_ref()).is_some_and(|it| it.validation != Validation::Valid)
    }

    /// Something came from its address.
    pub(super) fn has_sent(&mut self, len: usize) {
        if let Some(registration) = &mut self.registration {
            registration.validation.earns(len);
        }
    }

    /// The observation of its uplink.
    pub(super) const fn observation(&self) -> Observation {
        Observation::of_uplink(self.id)
    }

    /// Whether it is, or was, observed under that token.
    pub(super) fn is_observed_by(&self, token: Token) -> bool {
        self.observed_for(token).is_some()
    }

    /// For what it is, or was, observed under that token.
    pub(super) fn observed_for(&self, token: Token) -> Option<Purpose> {
        Observation::under(self.id, token).map(Observation::purpose)
    }

    /// Where it updates its registration.
    pub(super) fn location(&self) -> Option<Location> {
        self.registration.as_ref().map(|registration| Location {
            device: self.id,
            registration: registration.nonce,
        })
    }

    pub(super) fn coverage(&self) -> Option<(Coverage, Instant)> {
        self.known.as_ref()?.coverage
    }

    /// The version of LwM2M that it says it speaks.
    pub(super) fn lwm2m_version(&self) -> Option<Lwm2mVersion> {
        self.registration.as_ref()?.lwm2m_version
    }

    pub(super) fn version(&self) -> Option<Version> {
        self.known.as_ref()?.version
    }

    /// Forgets what matters no longer: there are many devices, and few of them say anything at a time.
    pub(super) fn rest(&mut self, now: Instant) {
        if self.session.is_none() {
            self.link.rest();
        }
        if self.recent.expires().is_some_and(|at| at <= now) {
            self.recent.clear();
        }
        self.last_download
            .take_if(|last| last.at + REPORT_REPEATS <= now);
        self.last_report
            .take_if(|last| last.at + REPORT_REPEATS <= now);
    }

    pub(super) fn take_message_id(&mut self) -> u16 {
        let id = self.next_message_id;
        self.next_message_id = id.wrapping_add(1);
        id
    }

    /// Takes one write out of the device's budget: one a second, and twenty at once. `false` when it is
    /// spent: no device needs more, and one that floods must not keep the store busy.
    pub(super) fn may_write(&mut self, now: Instant) -> bool {
        self.take_write(now, Self::WRITES_AT_ONCE)
    }

    /// The same for somebody who has `shown` to be the device, or only says so, which anybody may who knows its name, where
    /// nothing is encrypted: half of the budget is the device's own.
    pub(super) fn may_write_as(&mut self, now: Instant, shown: bool) -> bool {
        let part = if shown { 1 } else { 2 };
        self.take_write(now, Self::WRITES_AT_ONCE / part)
    }

    const WRITES_AT_ONCE: u32 = 20;

    fn take_write(&mut self, now: Instant, at_once: u32) -> bool {
        let now_s = u32::try_from(now.as_millis() / 1_000).unwrap_or(u32::MAX); // in 136 years
        let full_at_s = self.budget_full_at_s.max(now_s);
        let may = full_at_s - now_s < at_once;
        if may {
            self.budget_full_at_s = full_at_s.saturating_add(1);
        }
        may
    }

    pub(super) fn sleeps(&self) -> bool {
        (self.registration.as_ref()).is_some_and(|r| r.queue_mode == QueueMode::On)
    }

    /// Whether it was heard so lately that it listens.
    pub(super) fn is_awake(&self, now: Instant, awake_window: Duration) -> bool {
        self.heard_at.is_some_and(|at| now.since(at) < awake_window)
    }

    /// What runs out next of its upgrade. The limit of the wait for a slot runs only
    /// while the device could have one: of one that sleeps, how long it may be unheard.
    pub(super) fn next_deadline(
        &self,
        asleep_from: Option<Instant>,
        started_at: Instant,
        config: &UpgradeConfig,
    ) -> Option<(Deadline, Instant)> {
        let next = self.session.as_ref()?.next_deadline()?;
        match (next, asleep_from) {
            ((Deadline::Slot, until), Some(asleep_from)) if until > asleep_from => {
                let unheard = Deadline::DeviceHeard;
                // Of what was heard before a restart not all is stored.
                let from = asleep_from.max(started_at);
                Some((unheard, from + unheard.duration(config)))
            }
            _ => Some(next),
        }
    }

    /// When a device that sleeps has fallen asleep, or will, if it is not heard: one that was not heard in this run of the
    /// server sleeps from its start. `None` for one that listens.
    pub(super) fn asleep_from(&self, listens: Duration, started_at: Instant) -> Option<Instant> {
        let from = self.heard_at.map_or(started_at, |at| at + listens);
        self.sleeps().then_some(from)
    }

    pub(super) fn next_due(
        &self,
        now: Now,
        deadline: Option<(Deadline, Instant)>,
    ) -> Option<Instant> {
        let session = self.session.as_deref();
        let back_at = session.and_then(Session::back_at);
        [
            self.link.next_timeout(),
            self.recent.expires(),
            (self.last_download.as_ref()).map(|last| last.at + REPORT_REPEATS),
            (self.last_report.as_ref()).map(|last| last.at + REPORT_REPEATS),
            self.registration.as_ref().map(|r| r.expires),
            deadline.map(|(_, at)| at),
            session.and_then(|s| s.look_at),
            back_at.map(|at| now.instant_at(at)),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

impl Device {
    /// Whether its registration announces the object, one of 0 to 61 or 33629; `None` when it announces no objects.
    pub(super) fn announces(&self, object: u16) -> Option<bool> {
        self.registration.as_ref()?.objects.has(object)
    }

    /// The objects that its registration announces, as far as they are kept.
    pub(super) fn announced_objects(&self) -> Vec<u16> {
        let objects = self.registration.as_ref().map(|known| known.objects);
        objects.into_iter().flat_map(ObjectSet::numbers).collect()
    }

    /// The segments of the path below which it has its objects; most have them at the root.
    pub(super) fn root(&self) -> impl Iterator<Item = &str> {
        let root = self.known.as_ref().and_then(|known| known.root.as_deref());
        root.unwrap_or_default()
            .split('/')
            .filter(|segment| !segment.is_empty())
    }

    /// The same path, whole; `None` where it has its objects at the root.
    pub(super) fn root_path(&self) -> Option<&str> {
        self.known.as_ref().and_then(|known| known.root.as_deref())
    }

    /// It has registered and may have started anew: what it was asked before is forgotten, and so is what it said.
    pub(super) fn begins_anew(&mut self, objects: &Objects) {
        self.excuse = None;
        self.link.cancel(|_| true);
        self.recent.clear();
        self.observing = false;
        self.set_root(objects.root());
        self.set_instances(objects);
    }

    /// Keeps the instances that it announces of objects 9 and 33629.
    pub(super) fn set_instances(&mut self, objects: &Objects) {
        let of_interest = [UpdateObject::Software, UpdateObject::Components];
        let instances: Box<[(u16, u16)]> = (objects.paths())
            .filter(|path| of_interest.iter().any(|it| it.number() == path.object()))
            .filter_map(|path| Some((path.object(), path.instance()?)))
            .collect();
        if !instances.is_empty() || self.known.is_some() {
            self.known.get_or_insert_default().instances = instances;
        }
    }

    /// Keeps the path below which it has its objects.
    pub(super) fn set_root(&mut self, root: Option<&str>) {
        if root.is_some() || self.known.is_some() {
            self.known.get_or_insert_default().root = root.map(Into::into);
        }
    }
}

impl Device {
    /// What the device's message was answered with, if it is a repeat.
    ///
    /// What can be done twice without harm is a repeat only as long as a repeat may come: there are devices whose message
    /// IDs never change, and whose messages are the same each time.
    pub(super) fn answered_before(
        &self,
        now: Instant,
        bytes: &[u8],
        message: &Message,
    ) -> Option<&Reply> {
        let (recent, id) = (&self.recent, message.message_id());
        let within = if message.code().is_response() {
            if self.is_observed_by(message.token()) {
                MAX_TRANSMIT_SPAN
            } else {
                EXCHANGE_LIFETIME
            }
        } else {
            match (message.code(), message.path().as_slice()) {
                // A device that starts anew may send its first registration with the same ID and bytes as the
                // time before. Only what it has said just now can be a repeat then.
                (Code::POST, [b"rd"]) => {
                    return recent.find_last(now, MAX_TRANSMIT_SPAN, id, bytes);
                }
                // An update is for the next lifetime, however short that is.
                (Code::POST | Code::PUT, [b"rd", _]) => {
                    let lifetime_s = self.registration.as_ref().map_or(0, |r| r.lifetime_s);
                    MAX_TRANSMIT_SPAN.min(Duration::from_secs(lifetime_s.into()) / 2)
                }
                (Code::POST, [b"dp"]) => MAX_TRANSMIT_SPAN,
                _ => EXCHANGE_LIFETIME,
            }
        };
        recent.find(now, within, id, bytes)
    }
}
