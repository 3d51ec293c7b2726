use std::{collections::VecDeque, time::Duration};

use super::{super::endpoint::Release, behind::Behind};
use crate::{
    clock::{Instant, Now, UtcMillis},
    engine::Seq,
    grants::Token,
    ledger::{DeviceId, DeviceRecord, Evidence, Outbound, Protocol, UpgradeId},
    package::Version,
    session::{self, Exchange},
    upgrade::{Claim, Credence, EvidenceList},
};

/// A device that speaks MQTT.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Device {
    /// Its name: the device ID of IoTDA, the device number of `ThingsPanel`.
    pub(super) endpoint: Box<str>,
    pub(super) product: Box<str>,
    pub(super) protocol: Protocol,
    /// When it was heard last since the engine began.
    pub(super) heard_at: Option<Instant>,
    /// When it was heard before that, as far as stored.
    pub(super) stored_heard_at: Option<UtcMillis>,
    /// The version that it told last, or is taken to run.
    pub(super) version: Option<Version>,
    /// What it did with versions that it was offered.
    pub(super) evidence: EvidenceList,
    /// It is to be asked for its version, and has not told it since.
    pub(super) asked_what_it_runs: bool,
    /// It cannot be asked, and has until then to tell what it runs by itself (`ThingsPanel`).
    pub(super) tells_by: Option<Instant>,
    /// It has told its version by itself, in this run (`ThingsPanel`).
    pub(super) tells_versions: bool,
    /// Nobody has told its version: it is what an upgrade is taken to have led to.
    pub(super) concluded: bool,
    /// When it told its version last, in this run.
    pub(super) told_at: Option<Instant>,
    /// The newest version query leaves after this change.
    pub(super) query_after: Seq,
    /// It was asked for its version over this connection, and that was neither answered nor acknowledged.
    pub(super) query_out: bool,
    /// It is to be asked for its version again: that could not be sent.
    pub(super) owes_query: bool,
    /// What was sent over its connection, to it or to a device behind it, and was not acknowledged, the oldest first. `None`: what an
    /// upgrade does not need.
    pub(super) unacknowledged: VecDeque<(DeviceId, Option<Outbound>)>,
    /// How it is reached, where it is behind a gateway.
    pub(super) behind: Option<Box<Behind>>,
    /// When its connection needs no holding any more, after it was served the whole package.
    pub(super) let_go_at: Option<Instant>,
    pub(super) session: Option<Box<Session>>,
    /// What leaves for it waits for this change.
    pub(super) pending: Seq,
    pub(super) alarm: Option<Instant>,
    /// When it was told last that there is no plan, or the plan that it has (`QuecThing`).
    pub(super) plan_told_at: Option<Instant>,
    /// What it is told although it has not subscribed is told then.
    pub(super) tell_at: Option<Instant>,
    /// When the budget of what it may have written is whole again, seconds.
    budget_full_at_s: u64,
}

/// One attempt to upgrade a device that speaks MQTT.
pub(super) type Session = session::Session<Talk>;

/// What goes with it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each says another thing")]
pub(super) struct Talk {
    pub(super) protocol: Protocol,
    /// Whether it can be counted how much of a package it was served.
    pub(super) counted: bool,
    /// Whether it may be offered packages whose size has more than nine digits.
    pub(super) takes_large: bool,
    /// With what it fetches the package that it was offered.
    pub(super) token: Option<Token>,
    /// It was offered the package, and that has not left: it leaves when the device is there.
    pub(super) owes_offer: bool,
    /// Bytes of the package that it was served without a gap, as was told last.
    pub(super) served_bytes: u64,
    /// It is written down that it fetches the package, so that bytes of it may leave.
    pub(super) begun: bool,
    /// The first offer leaves after this change, the newest one after that.
    pub(super) first_offer_after: Option<Seq>,
    pub(super) offer_after: Seq,
    /// It was offered the package over this connection, and nothing shows that it got that.
    pub(super) offer_out: bool,
    /// It was pushed to although it had not subscribed, as a device of that release.
    pub(super) offered_blindly: Option<Release>,
}

impl Talk {
    /// Nothing is offered yet; of a package, so much was served.
    pub(super) const fn new(protocol: Protocol, counted: bool, served_bytes: u64) -> Self {
        Self {
            protocol,
            counted,
            takes_large: false,
            token: None,
            owes_offer: false,
            served_bytes,
            begun: served_bytes > 0,
            first_offer_after: None,
            offer_after: 0,
            offer_out: false,
            offered_blindly: None,
        }
    }

    /// Another package is offered from now on.
    pub(super) fn next_step(&mut self) -> Option<Token> {
        let token = self.token.take();
        *self = Self {
            takes_large: self.takes_large,
            ..Self::new(self.protocol, self.counted, 0)
        };
        token
    }

    /// Something of an offer has reached the device.
    pub(super) const fn has_offer(&mut self) {
        self.offer_out = false;
        self.offered_blindly = None;
    }
}

impl Exchange for Talk {
    fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn counts(&self) -> bool {
        self.counted
    }

    fn takes_large(&self) -> bool {
        self.takes_large
    }
}

impl Device {
    pub(super) fn new(endpoint: &str, product: &str, protocol: Protocol) -> Self {
        Self {
            endpoint: endpoint.into(),
            product: product.into(),
            protocol,
            heard_at: None,
            stored_heard_at: None,
            version: None,
            evidence: EvidenceList::default(),
            asked_what_it_runs: false,
            tells_by: None,
            tells_versions: false,
            concluded: false,
            told_at: None,
            query_after: 0,
            query_out: false,
            owes_query: false,
            unacknowledged: VecDeque::new(),
            behind: None,
            let_go_at: None,
            session: None,
            pending: 0,
            alarm: None,
            plan_told_at: None,
            tell_at: None,
            budget_full_at_s: 0,
        }
    }

    pub(super) fn restored(record: &DeviceRecord) -> Self {
        Self {
            stored_heard_at: record.last_heard_at,
            version: record.version,
            evidence: EvidenceList::restored(record.evidence.clone()),
            ..Self::new(&record.endpoint, &record.product, record.protocol)
        }
    }

    /// Whether the device may have something written: once a second on average, and twenty times at once.
    pub(super) fn may_write(&mut self, now: Instant) -> bool {
        const AT_ONCE: u64 = 20;
        let now_s = now.as_millis() / 1_000;
        let full_at_s = self.budget_full_at_s.max(now_s);
        let may = full_at_s - now_s < AT_ONCE;
        if may {
            self.budget_full_at_s = full_at_s.saturating_add(1);
        }
        may
    }

    /// It has connected: what was on its way over the connection before is not any more.
    pub(super) fn connects(&mut self) {
        self.query_out = false;
        self.owes_query = false;
        self.unacknowledged.clear();
        if let Some(session) = &mut self.session {
            session.exchange.offer_out = false;
        }
    }

    /// What its claim to run `version` is worth, over a connection that was made then: one that was made after what speaks against
    /// it shows the version, as a restart does.
    pub(super) fn credence(&self, version: Version, connected_at: Option<UtcMillis>) -> Credence {
        let newer = |evidence: &Evidence| connected_at.is_some_and(|at| at > evidence.at);
        if self.evidence.of(version).is_some_and(newer) {
            return Credence::Sound;
        }
        self.evidence.credence(version, Claim::Answer)
    }

    pub(super) fn has_upgrade(&self, upgrade: UpgradeId) -> bool {
        (self.session.as_ref()).is_some_and(|session| session.order.upgrade == upgrade)
    }

    /// When it has something to do.
    pub(super) fn next_due(&self, now: Now) -> Option<Instant> {
        let session = self.session.as_ref();
        let deadline = session.and_then(|session| session.next_deadline());
        let back = session.and_then(|session| session.back_at());
        let look = session.and_then(|session| session.look_at);
        let due = [
            deadline.map(|(_, at)| at),
            // an instant after it, where the clocks are rounded
            back.map(|at| now.instant_at(at) + Duration::from_millis(1)),
            look,
            self.tell_at,
            self.tells_by,
            self.let_go_at,
        ];
        due.into_iter().flatten().min()
    }
}

/// What a message to a device is called: of its upgrade, and of this message.
pub(super) fn message_id(upgrade: Option<UpgradeId>, device: DeviceId, number: u64) -> String {
    match upgrade {
        Some(upgrade) => format!("{}-{number}", upgrade.0),
        None => format!("{device}-{number}"),
    }
}
