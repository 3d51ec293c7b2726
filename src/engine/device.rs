use std::{sync::Arc, time::Duration};

use pcp::{ResultCode, Version};

use super::{
    Binding, DeviceId, Lwm2mVersion, Presence, QueueMode, Registration, StageChange, Standing,
    UpgradeOrder,
    account::Account,
    asked::{Read, Tag},
    effect::Seq,
    evidence::Excuse,
    formats::Formats,
    id::Location,
    profile::ProfileId,
    timers::AlarmId,
    told::ObjectSet,
};
use crate::{
    clock::{Instant, Now, UtcMillis},
    coap::{Link, Peer, Recent},
    package::Package,
    upgrade::{Coverage, Deadline, EvidenceList, Place, Sota},
};

/// How long a repeat of a report is recognised: five repeats, 30 s apart, and some margin.
pub(super) const REPORT_REPEATS: Duration = Duration::from_mins(10);

/// Where a device is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    Any,
    /// Only where datagrams are encrypted.
    Secured,
}

impl Port {
    pub(super) const fn of(secure: bool) -> Self {
        if secure { Self::Secured } else { Self::Any }
    }
}

/// In which run of the server a device was heard last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeardIn {
    ThisRun,
    /// So that the time is what the store knows.
    EarlierRun,
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) endpoint: Box<str>,
    pub(super) id: DeviceId,
    /// Where it is heard.
    pub(super) port: Port,
    /// What is set for its product.
    pub(super) profile: ProfileId,
    pub(super) registration: Option<Registered>,
    /// When anything was received from it last.
    pub(super) heard_at: Option<Instant>,
    /// It was heard after a silence, and what is outstanding was not sent again since.
    pub(super) returned: bool,
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
    /// When its budget of writes is full again.
    pub(super) budget_full_at: Instant,
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
    /// What it did with versions that it was offered.
    pub(super) evidence: EvidenceList,
    /// When its observation was made anew after a Reset last.
    pub(super) observed_anew_at: Option<Instant>,
}

/// A registration, in the engine's time.
#[derive(Debug)]
pub(super) struct Registered {
    /// What tells it from the device's other ones, in its location.
    pub(super) nonce: [u8; 3],
    pub(super) peer: Peer,
    /// The message that brought it, where that is known.
    pub(super) message_id: Option<u16>,
    /// Another device is heard from that address: this one has moved without a word, or is gone.
    pub(super) displaced: bool,
    /// Whether what is sent to that address arrives.
    pub(super) validation: Validation,
    pub(super) lifetime_s: u32,
    pub(super) since: UtcMillis,
    pub(super) expires: Instant,
    /// When it ends as far as the store knows.
    pub(super) stored_until: Option<Instant>,
    /// It comes from before a restart, and `expires` is the latest end that it may have.
    pub(super) supposed: bool,
    pub(super) queue_mode: QueueMode,
    pub(super) lwm2m_version: Option<Lwm2mVersion>,
    pub(super) binding: Binding,
    pub(super) objects: ObjectSet,
}

/// Whether somebody has shown to receive what is sent to an address: a sender's own may be false, and then another suffers from
/// what is sent there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validation {
    /// By an answer, by a token or a location that nobody else knows, or by a handshake.
    Valid,
    /// Not yet. No more is sent than three times what came from there (the rule of RFC 9000 §8.1): so many bytes are left.
    Pending { allowance: u16 },
}

impl Validation {
    /// How long a device is kept that came by itself, when nothing shows that it is where it says.
    pub(super) const LIFETIME: Duration = Duration::from_hours(1);

    /// Of an address from which one datagram came and to which one was sent.
    pub(super) fn pending(received: usize, sent: usize) -> Self {
        let left = (3 * received).saturating_sub(sent);
        Self::Pending {
            allowance: u16::try_from(left).unwrap_or(u16::MAX),
        }
    }

    /// Takes what is to be sent out of the allowance. `false` when it exceeds it.
    pub(super) fn allows(&mut self, len: usize) -> bool {
        let Self::Pending { allowance } = self else {
            return true;
        };
        let left = u16::try_from(len)
            .ok()
            .and_then(|len| allowance.checked_sub(len));
        *allowance = left.unwrap_or(*allowance);
        left.is_some()
    }
}

/// `MAX_LATENCY` of RFC 7252 §4.8.2: no message is longer under way.
const MAX_LATENCY_MS: i64 = 100_000;

/// A renewal that changes nothing but the end of a registration is written when it moves the end that the store knows
/// by so much, or by half a lifetime. After a restart a registration may last that much longer than the device has
/// asked for, and none ends early.
const RENEWALS_UNWRITTEN: Duration = Duration::from_hours(1);

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

/// One attempt to upgrade a device.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) order: UpgradeOrder,
    pub(super) package: Arc<Package>,
    pub(super) sota: Sota,
    /// What the store was told of `sota`, and the limit it was computed from.
    pub(super) stored: StageChange,
    pub(super) stored_until: Instant,
    pub(super) stored_since: Option<Instant>,
    pub(super) progress_stored_at: Option<Instant>,
    pub(super) read: Option<Read>,
    pub(super) account: Account,
    /// When to find out whether the device can be reached, to begin with it.
    pub(super) look_at: Option<Instant>,
    /// When to send the device something, so that it stays awake while its cell drains.
    pub(super) keep_awake_at: Option<Instant>,
    /// What the gate was told of the device, while it waits for a slot.
    pub(super) told: Option<Presence>,
    pub(super) standing: StandingAsked,
    /// That it takes the version is known and stored.
    pub(super) takes: bool,
}

/// How the device stands in its queue, which the gate is asked when the time to wait there is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum StandingAsked {
    #[default]
    Never,
    /// The answer is waited for until then.
    Until(Instant),
    Told(Standing),
}

impl Device {
    pub(super) fn new(id: DeviceId, endpoint: Box<str>, message_id: u16) -> Self {
        Self {
            endpoint,
            id,
            port: Port::Any,
            profile: ProfileId::default(),
            registration: None,
            heard_at: None,
            returned: false,
            silent: false,
            heard_in: HeardIn::ThisRun,
            excuse: None,
            observing: false,
            formats: Formats::default(),
            budget_full_at: Instant::ZERO,
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
        const INTERVAL: Duration = Duration::from_secs(1);
        const BURST: Duration = Duration::from_secs(20);
        let full_at = self.budget_full_at.max(now);
        if full_at.since(now) >= BURST {
            return false;
        }
        self.budget_full_at = full_at + INTERVAL;
        true
    }

    pub(super) fn sleeps(&self) -> bool {
        (self.registration.as_ref()).is_some_and(|r| r.queue_mode == QueueMode::On)
    }

    /// Whether it was heard so lately that it listens.
    pub(super) fn is_awake(&self, now: Instant, awake_window: Duration) -> bool {
        self.heard_at.is_some_and(|at| now.since(at) < awake_window)
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let session = self.session.as_deref();
        [
            self.link.next_timeout(),
            self.recent.expires(),
            (self.last_download.as_ref()).map(|last| last.at + REPORT_REPEATS),
            (self.last_report.as_ref()).map(|last| last.at + REPORT_REPEATS),
            self.registration.as_ref().map(|r| r.expires),
            session.and_then(Session::next_deadline).map(|(_, at)| at),
            session.and_then(|s| s.look_at),
            session.and_then(|s| s.keep_awake_at),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

impl Registered {
    /// Whether a message of this ID, received now, was sent before the registration: devices count their messages, and
    /// the network may have kept one. Not so where the counting begins anew with each start, or is none.
    pub(super) fn is_newer_than(&self, message_id: u16, now: UtcMillis) -> bool {
        /// Messages that a device sends at most while the network keeps one.
        const AT_MOST: u16 = 64;
        let Some(own) = self.message_id else {
            return false;
        };
        let lasts = now.0 - self.since.0 < MAX_LATENCY_MS;
        lasts && (1..=AT_MOST).contains(&own.wrapping_sub(message_id))
    }

    /// How much of a registration's renewal may not be known to the store.
    pub(super) fn unwritten_at_most(&self) -> Duration {
        let half = Duration::from_secs(self.lifetime_s.into()) / 2;
        half.min(RENEWALS_UNWRITTEN)
    }

    /// Whether the store has to be told that the registration goes on until `expires`.
    pub(super) fn is_due_to_be_written(&self, expires: Instant) -> bool {
        (self.stored_until).is_none_or(|known| expires.since(known) >= self.unwritten_at_most())
    }

    /// Whether what is sent to that address is known to arrive.
    pub(super) fn is_valid_at(&self, peer: Peer) -> bool {
        self.validation == Validation::Valid && !self.displaced && self.peer == peer
    }

    /// Somebody receives what is sent to its address.
    pub(super) fn validate(&mut self) {
        if self.validation != Validation::Valid {
            self.validation = Validation::Valid;
            self.expires = self
                .stored_until
                .map_or(self.expires, |until| self.expires.max(until));
        }
    }

    /// When it ends, for the store.
    pub(super) fn known_end(&self) -> Instant {
        match self.stored_until {
            Some(known) if self.supposed => known,
            _ => self.expires,
        }
    }

    /// As the store is told of it, when nothing is announced anew.
    pub(super) fn record(&self, now: Now, device: DeviceId) -> Registration {
        let location = Location {
            device,
            registration: self.nonce,
        };
        Registration {
            location: location.to_string(),
            peer: self.peer,
            lifetime_s: self.lifetime_s,
            expires_at: now.utc_at(self.known_end()),
            registered_at: self.since,
            message_id: self.message_id,
            queue_mode: self.queue_mode,
            lwm2m_version: self.lwm2m_version,
            binding: self.binding,
            announced: None,
        }
    }
}

impl Session {
    /// What runs out next in its upgrade, and when that is to be acted upon.
    pub(super) fn next_deadline(&self) -> Option<(Deadline, Instant)> {
        let (deadline, at) = self.sota.next_deadline()?;
        match self.standing {
            StandingAsked::Until(answered) if deadline == Deadline::Slot => {
                Some((deadline, answered))
            }
            _ => Some((deadline, at)),
        }
    }

    /// Brings what the store knows up to the state. Returns whether that is news.
    pub(super) fn refresh_stored(&mut self, now: Now) -> bool {
        let (Some(stage), Some((_, until))) = (self.sota.stage(), self.sota.until()) else {
            return false;
        };
        let mut next = self.stored.clone();
        if next.stage != stage || self.stored_until != until {
            next.stage = stage;
            next.entered_at = now.utc;
            next.deadline_at = now.utc_at(until);
            self.stored_until = until;
        }
        let place = self.sota.place();
        next.cell = place.map(|place| place.cell);
        next.cell_limit = place.map(|place| place.limit);
        let since = place.map(|place| place.since);
        if since != self.stored_since {
            next.queued_at = since.map(|_| now.utc);
            next.slot_deadline_at = place.map(|place| now.utc_at(place.until));
            self.stored_since = since;
        }
        next.confirmed = self.sota.is_confirmed();
        let news = next != self.stored;
        self.stored = next;
        news
    }
}

/// The cell in whose queue an upgrade stands, also while its coverage is measured anew.
pub(super) fn queued_in(sota: &Sota) -> Option<u32> {
    match sota.stage() {
        Some(stage) if !stage.holds_slot() => sota.place().map(|place| place.cell),
        _ => None,
    }
}

/// The cell of which an upgrade holds a slot.
pub(super) fn slot_in(sota: &Sota) -> Option<&Place> {
    match sota.stage() {
        Some(stage) if stage.holds_slot() => sota.place(),
        _ => None,
    }
}
