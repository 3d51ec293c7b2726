use std::{sync::Arc, time::Duration};

use pcp::ResultCode;

use super::{
    correspondence::Correspondence,
    gate::{GateRequest, Presence, Standing, Work},
    meter::Meter,
    offers::Offers,
    timeline,
};
use crate::{
    clock::{Instant, Now, UtcMillis},
    config::{AdmissionConfig, Config},
    ledger::{
        ActiveUpgrade, Asked, Cancellation, Change, Conditions, Coverage, Deadline, Evidence,
        Facts, Failure, Further, Happened, Inbound, Lane, Last, Limit, Line, Outcome, PackageId,
        Progress, Protocol, Queue, Served, Stage, StageChange, Standby, UpdateObject, UpgradeOrder,
        Ways,
    },
    package::{Package, Version},
    upgrade::{Action, Credence, Input, Negotiation, Place, Rules, Stored, transfer::Transfer},
};

/// How often, and how soon at the earliest, the gate is asked of a lane that is closed when the time to wait is over.
const CLOSED_ASKED_EVERY: Duration = Duration::from_mins(10);
const CLOSED_ASKED_AFTER: Duration = Duration::from_secs(1);

/// What whoever speaks with a device keeps beside its session, and what that tells of how they speak.
pub trait Exchange {
    /// What the device speaks.
    fn protocol(&self) -> Protocol;

    /// By which of its objects it is upgraded, where it speaks LwM2M.
    fn object(&self) -> UpdateObject {
        UpdateObject::Pcp
    }

    /// Whether the package can be served to it.
    fn serves(&self, package: &Package) -> bool {
        Ways::from(package).serve(self.protocol(), self.takes_large())
    }

    /// Whether what it tells as its version decides, whatever else it tells.
    fn version_decides(&self) -> bool {
        false
    }

    /// Whether it can be counted how much of a package it is served, where it fetches that over HTTP.
    fn counts(&self) -> bool {
        true
    }

    /// Whether it may be offered packages whose size has more than nine digits, where it is one of IoTDA.
    fn takes_large(&self) -> bool {
        false
    }
}

/// Whether an attempt that had begun before a restart of the server was seen to fetch its package. What the device did with the
/// version outlives attempts, so that what it has fetched in an earlier one, or through another gateway, says nothing of this.
pub fn has_begun(upgrade: &ActiveUpgrade, evidence: Option<&Evidence>, config: &Config) -> bool {
    let stage = &upgrade.stage;
    let limit = Deadline::Transfer.duration(&config.upgrade);
    // the stage after it has the same limit, from the beginning of the download
    let since = stage.entered_at.min(stage.deadline_at.before(limit));
    let lately = evidence.is_some_and(|it| it.taken && it.at >= since);
    (stage.stage.is_transfer() && lately) || upgrade.progress.is_some_and(|it| it.done_bytes > 0)
}

/// One attempt to upgrade a device. `X` is what whoever speaks with the device keeps beside it.
#[derive(Debug)]
pub struct Session<X> {
    /// What is to be done.
    pub order: UpgradeOrder,
    /// With what: what is assumed, until the device has said what it runs.
    pub package: Arc<Package>,
    /// What there is.
    offers: Arc<Offers>,
    /// What the device is served, in which step; `order` has what the store was told of it.
    served: Served,
    /// What it runs, as it has said.
    runs: Option<Version>,
    /// The version of the package that it is not given.
    withheld: Option<Version>,
    negotiation: Negotiation,
    /// What the store was told of `negotiation`, and the limit it was computed from.
    stored: StageChange,
    stored_until: Instant,
    stored_since: Option<Instant>,
    progress_stored_at: Option<Instant>,
    /// Bytes of the package that it was served from the beginning without a gap, where it is upgraded by one of the standard's
    /// objects.
    served_bytes: u64,
    /// What it can say for itself.
    pub correspondence: Correspondence,
    /// When to find out whether the device can be reached.
    pub look_at: Option<Instant>,
    /// How often that was done since it did not answer.
    pub looks: u8,
    /// Its coverage could not be measured anew: it is not considered before then; and how often that was so in a row.
    pub put_off: Option<(Instant, u8)>,
    /// How it was kept awake.
    pub kept: KeptAwake,
    /// The silence after which it was sent what it is to answer: whether it listened so long is about to show.
    pub silence: Option<Duration>,
    /// What the gate was told of the device, while it waits for a slot.
    pub told: Option<Presence>,
    /// How it stands in its queue.
    pub standing: StandingAsked,
    /// Of the lane in whose queue it stands: the time for which it was closed, as far as that was made up for.
    closed: (Option<Lane>, Duration),
    /// That the device takes the version is known and stored.
    pub takes: bool,
    /// The number of the change after which the command to install left, as far as it did here.
    pub commanded_after: u64,
    /// The step before ended with what the device reported: until it has connected anew it may tell the version of before.
    awaits_restart: bool,
    /// What it exchanges with its device.
    pub meter: Meter,
    /// What the device's protocol needs.
    pub exchange: X,
}

/// How a device that sleeps was kept awake while its turn was near.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeptAwake {
    /// For how long, all together.
    pub time: Duration,
    /// With so many pings.
    pub pings: u32,
    /// When the last one was sent, until it is answered.
    pinged_at: Option<Instant>,
    /// What is written down: more than that is not spent.
    written: Standby,
}

impl KeptAwake {
    /// So much is written down ahead: a restart takes no more of what a device may be kept awake for.
    const AHEAD: Duration = Duration::from_mins(5);
    const PINGS_AHEAD: u32 = 20;

    /// As it was written down: at the most.
    pub fn restored(written: Standby) -> Self {
        Self {
            time: Duration::from_secs(written.time_s.into()),
            pings: written.pings,
            pinged_at: None,
            written,
        }
    }

    /// What is to be written down before the next ping leaves, where that may take more than is.
    pub fn to_write(&mut self) -> Option<Standby> {
        // the answer may come a minute later
        let needed = self.time + Duration::from_mins(1);
        let enough = needed <= Duration::from_secs(self.written.time_s.into());
        if enough && self.pings <= self.written.pings {
            return None;
        }
        let time_s = (self.time + Self::AHEAD).as_secs();
        self.written = Standby {
            time_s: u32::try_from(time_s).unwrap_or(u32::MAX),
            pings: self.pings.saturating_add(Self::PINGS_AHEAD),
        };
        Some(self.written)
    }

    /// It is pinged, after it was heard last: it listens for so much longer than it would have.
    pub fn ping(&mut self, now: Instant, heard_at: Instant) {
        self.time += now.since(heard_at);
        self.pings += 1;
        self.pinged_at = Some(now);
    }

    /// It answers: what it did so late it was awake so late.
    pub fn answered(&mut self, now: Instant) {
        if let Some(at) = self.pinged_at.take() {
            self.time += now.since(at);
        }
    }

    /// For how long it may be kept awake yet.
    pub fn spare(&self, config: &AdmissionConfig) -> Duration {
        if self.pings >= config.keep_awake_pings {
            return Duration::ZERO;
        }
        Duration::from_secs(config.keep_awake_s).saturating_sub(self.time)
    }
}

/// How the device stands in its queue, which the gate is asked when the time to wait there is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StandingAsked {
    /// It was not asked.
    #[default]
    Never,
    /// The answer is waited for until then.
    Until(Instant),
    /// The lane is closed, and the time to wait there does not run: the gate is asked again then.
    Closed(Instant),
    /// The answer.
    Told(Standing),
}

/// What an event did to a session.
#[derive(Debug)]
pub struct Step {
    /// Where it stood.
    pub before: Negotiation,
    /// What to do, in order.
    pub actions: Vec<Action>,
    /// What has happened, where it is worth a line.
    pub line: Option<Line>,
    /// The store is to know where it stands now.
    pub news: bool,
    /// A step of several is done, and the next one has begun.
    pub done: Option<StepDone>,
}

/// A step of several, which is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepDone {
    /// The version that the device runs by it.
    pub version: Version,
    /// When its last stage was entered.
    pub entered_at: UtcMillis,
}

/// What is known of a device besides its session, for the facts of a failure.
#[derive(Debug, Clone)]
pub struct Contact {
    /// When it was heard last.
    pub heard_at: Option<UtcMillis>,
    /// That time is what was stored before the server was started.
    pub as_stored: bool,
    /// The objects that it announces.
    pub objects: Vec<u16>,
}

impl<X: Exchange> Session<X> {
    /// An attempt that begins, and the change that says so. `runs` is the version that the device is known to run.
    ///
    /// # Errors
    /// No package can be had, or none can be served to what the device speaks, and it is known to run another version.
    pub fn begin(
        now: Now,
        mut order: UpgradeOrder,
        offers: Arc<Offers>,
        runs: Option<Version>,
        config: &Config,
        exchange: X,
    ) -> Result<(Self, Change), Failure> {
        order.further = order.further.known_at(now.instant);
        let (id, package) =
            (offers.assumed(runs, order.hardware.as_deref())).ok_or(Failure::PackageUnavailable)?;
        // one whose version is not known is asked: it may run one of them already
        let runs_another = runs.is_some_and(|runs| !offers.leads_to(runs));
        if runs_another && !offers.any(|package| exchange.serves(package)) {
            return Err(Failure::NotServed);
        }
        let negotiation = Negotiation::begin(
            now.instant,
            &rules(config, &package, &exchange, order.further),
        );
        let stage = StageChange {
            stage: Stage::WaitingForDevice,
            entered_at: now.utc,
            deadline_at: now.utc,
            queued_at: None,
            slot_deadline_at: None,
            cell: None,
            cell_limit: None,
            confirmed: false,
            download_errors: 0,
        };
        let correspondence = Correspondence::begun();
        let mut session = Self::new(
            order,
            offers,
            package,
            negotiation,
            stage,
            correspondence,
            exchange,
        );
        session.served = Served::first(id);
        session.refresh_stored(now);
        let begun = Happened::AttemptBegun {
            attempt: session.order.attempt,
        };
        let change = session.stage_change(Some(begun.into()), now.utc);
        Ok((session, change))
    }

    /// An attempt that had begun before a restart of the server, with one of `offers`, and what to do. `coverage` is what the
    /// device told last, `evidence` what it did with the target since it restarted last.
    pub fn resume(
        now: Now,
        upgrade: ActiveUpgrade,
        (offers, package): (Arc<Offers>, Arc<Package>),
        coverage: Option<(Coverage, Instant)>,
        evidence: Option<Evidence>,
        config: &Config,
        exchange: X,
    ) -> (Self, Vec<Action>) {
        let stage = &upgrade.stage;
        let cut = package.pcp_offer().map(|offer| offer.segmentation);
        let stored = Stored {
            stage: stage.stage,
            deadline_at: stage.deadline_at,
            queued_at: stage.queued_at,
            slot_deadline_at: stage.slot_deadline_at,
            cell: stage.cell,
            cell_limit: (stage.cell_limit).unwrap_or(if stage.cell.is_some() {
                1
            } else {
                u32::MAX
            }),
            confirmed: stage.confirmed,
            download_errors: stage.download_errors,
            segment: (upgrade.progress.zip(cut)).map(|(it, cut)| cut.segment_after(it.done_bytes)),
            whole: (upgrade.progress).is_some_and(|it| it.done_bytes >= it.total_bytes),
            begun: has_begun(&upgrade, evidence.as_ref(), config),
            // what was told before the stage began is the answer to another question
            coverage: coverage
                .filter(|(_, at)| *at >= now.instant_at(stage.entered_at))
                .map_or_else(Coverage::default, |(coverage, _)| coverage),
            evidence,
        };
        let rules = rules(config, &package, &exchange, upgrade.order.further);
        let (negotiation, actions) = Negotiation::resume(now, &stored, &rules);
        let correspondence = Correspondence::resumed(now.utc);
        let (mut order, stage) = (upgrade.order, upgrade.stage);
        order.further = order.further.known_at(now.instant);
        let mut session = Self::new(
            order,
            offers,
            package,
            negotiation,
            stage,
            correspondence,
            exchange,
        );
        session.served_bytes = upgrade.progress.map_or(0, |it| it.done_bytes);
        session.stored_until = (session.negotiation.until()).map_or(now.instant, |(_, at)| at);
        session.stored_since = session.negotiation.place().map(|place| place.since);
        (session, actions)
    }

    fn new(
        order: UpgradeOrder,
        offers: Arc<Offers>,
        package: Arc<Package>,
        negotiation: Negotiation,
        stored: StageChange,
        correspondence: Correspondence,
        exchange: X,
    ) -> Self {
        let kept = KeptAwake::restored(order.kept_awake);
        Self {
            served: order.served,
            order,
            package,
            offers,
            runs: None,
            withheld: None,
            negotiation,
            stored,
            stored_until: Instant::ZERO,
            stored_since: None,
            progress_stored_at: None,
            served_bytes: 0,
            correspondence,
            look_at: None,
            looks: 0,
            put_off: None,
            kept,
            silence: None,
            told: None,
            standing: StandingAsked::Never,
            closed: (None, Duration::ZERO),
            takes: false,
            commanded_after: 0,
            awaits_restart: false,
            meter: Meter::default(),
            exchange,
        }
    }

    /// What its device was known to run before a restart of the server.
    pub const fn resumes_on(&mut self, runs: Option<Version>) {
        self.runs = runs;
    }

    /// What its device has to be like, for a transfer whose protocol can tell it that.
    pub fn conditions(&self) -> Conditions {
        self.offers.conditions()
    }

    /// What its device is served, in which step.
    pub const fn serves(&self) -> Served {
        self.served
    }

    /// Where the upgrade stands.
    pub const fn negotiation(&self) -> &Negotiation {
        &self.negotiation
    }

    /// When it is to be taken back, while it may be.
    pub fn back_at(&self) -> Option<UtcMillis> {
        let back = self.order.back.filter(|_| !self.negotiation.is_commanded());
        back.map(|back| back.at)
    }

    /// Whether it is to be taken back now.
    pub fn is_over_time(&self, now: UtcMillis) -> bool {
        self.back_at().is_some_and(|at| at <= now)
    }

    /// When it came into its stage.
    pub const fn entered_at(&self) -> UtcMillis {
        self.stored.entered_at
    }

    /// Lets something happen to the upgrade. `known` is the version that the device is known to run.
    #[expect(
        clippy::too_many_lines,
        reason = "the steps of an event, one after the other"
    )]
    pub fn on(&mut self, now: Now, event: Input, known: Option<Version>, config: &Config) -> Step {
        let before = self.negotiation.clone();
        let event = self.awaited(event);
        let stale = self.is_stale(event);
        let chosen = if stale {
            Ok(())
        } else {
            self.choose(event, known)
        };
        let rules = Rules {
            ran: self.runs,
            ..rules(config, &self.package, &self.exchange, self.order.further)
        };
        let (after, actions) = match chosen {
            // what it runs until it restarts
            Ok(()) if stale => (before.clone(), Vec::new()),
            // the report of the step before, once more
            Ok(()) if self.awaits_next() && matches!(event, Input::Pcp(_)) => {
                (before.clone(), Vec::new())
            }
            Ok(()) => before.clone().on(now.instant, event, &rules),
            Err(outcome) => (Negotiation::Ended(outcome), Vec::new()),
        };
        let (after, actions) = self.within_bounds(now, &before, (after, actions), &rules);
        if let Negotiation::Ended(Outcome::Succeeded(_)) = after
            && self.goes_on()
        {
            self.awaits_restart =
                rules.protocol == Protocol::Iotda && matches!(event, Input::Mqtt(_));
            return self.next_step(now, before, &rules);
        }
        if after.stage() != before.stage() {
            self.correspondence.tries = Some(0);
        }
        if let Some(tries) = &mut self.correspondence.tries {
            *tries += actions.len();
        }
        self.negotiation = after;
        if self.negotiation.has_ended() {
            return Step {
                before,
                actions,
                line: None,
                news: false,
                done: None,
            };
        }
        let news = self.refresh_stored(now);
        let line = if news || !actions.is_empty() {
            timeline::of(event, &before, self, &rules, &actions)
        } else {
            None
        };
        if !matches!(
            self.negotiation.stage(),
            Some(Stage::WaitingForDevice | Stage::WaitingForSlot)
        ) {
            (self.look_at, self.looks) = (None, 0);
        }
        if self.negotiation.queued_in().is_none() {
            self.standing = StandingAsked::Never;
        }
        Step {
            before,
            actions,
            line,
            news,
            done: None,
        }
    }

    /// What becomes of a step by what surrounds the negotiation: the end of a window, and the steps of a chain.
    fn within_bounds(
        &self,
        now: Now,
        before: &Negotiation,
        (after, actions): (Negotiation, Vec<Action>),
        rules: &Rules<'_>,
    ) -> (Negotiation, Vec<Action>) {
        match after {
            after if !after.has_ended() && self.is_over_time(now.utc) => {
                // whatever it said: it came too late
                before.clone().on(now.instant, Input::WindowEnded, rules)
            }
            Negotiation::Ended(Outcome::Succeeded(_)) if self.fell_back() => {
                let failure = Failure::WrongVersion(self.package.version);
                (Negotiation::Ended(Outcome::Failed(failure)), actions)
            }
            after => (after, actions),
        }
    }

    /// Where the device says what it runs, chooses the package that is for it.
    ///
    /// # Errors
    /// How the attempt ends, where there is none, or it cannot be had.
    fn choose(&mut self, event: Input, known: Option<Version>) -> Result<(), Outcome> {
        if self.negotiation.stage() != Some(Stage::QueryingVersion) {
            return Ok(());
        }
        let Input::VersionAnswered(code, Some(version), credence) = event else {
            return self.choose_unseen(event);
        };
        if !code.is_success() {
            return Ok(());
        }
        // What is not believed says nothing of what it runs: what was read of it before does.
        let runs = match credence {
            Credence::Sound => version,
            _ => known.unwrap_or(version),
        };
        self.runs = Some(runs);
        if self.awaits_next() && runs != self.package.version && !self.offers.leads_to(runs) {
            return Err(Outcome::Failed(Failure::WrongVersion(runs)));
        }
        let hardware = self.order.hardware.as_deref();
        let offer = (self.offers.choose(runs, hardware)).map_err(|(why, withheld)| {
            self.withheld = withheld;
            Outcome::Cancelled(why)
        })?;
        let (id, package) = (offer.id, offer.package.clone());
        self.serve(id, package)
    }

    /// Where the device goes on without having said what it runs, chooses a package that is for any version.
    fn choose_unseen(&mut self, event: Input) -> Result<(), Outcome> {
        let unknown = match event {
            Input::VersionAnswered(code, None, _) => code.is_success(),
            Input::Reached(Deadline::RepeatQuestion) => true,
            _ => false,
        };
        // a device over LwM2M need not have the resource that tells it
        let by_object = self.exchange.object() != UpdateObject::Pcp;
        let tells_nothing = by_object && matches!(event, Input::VersionAnswered(..));
        if !unknown || !(tells_nothing || self.exchange.protocol().tells_by_itself()) {
            return Ok(());
        }
        if self.awaits_next() {
            return Ok(()); // what the step before has led to is taken for what it runs
        }
        let hardware = self.order.hardware.as_deref();
        let offer = (self.offers.for_any_version(hardware))
            .ok_or(Outcome::Cancelled(Cancellation::NoPackage))?;
        let (id, package) = (offer.id, offer.package.clone());
        self.serve(id, package)
    }

    /// The device is served this package from now on, if it can be had, and served to what the device speaks.
    fn serve(&mut self, id: PackageId, package: Option<Arc<Package>>) -> Result<(), Outcome> {
        let package = package.ok_or(Outcome::Failed(Failure::PackageUnavailable))?;
        let served = self.exchange.serves(&package);
        // what it runs already it need not be served
        if !served && self.runs != Some(package.version) {
            return Err(Outcome::Failed(Failure::NotServed));
        }
        self.package = package;
        self.served = Served {
            package: id,
            step: self.served.step,
        };
        Ok(())
    }

    /// While it is not known whether the device has restarted since the step before, what that has led to is taken for what it runs
    /// when the time to say it is over.
    fn awaited(&mut self, event: Input) -> Input {
        match event {
            Input::Connected => self.awaits_restart = false,
            Input::Reached(Deadline::Version) if self.awaits_restart && self.awaits_next() => {
                let version = Some(self.package.version);
                return Input::VersionAnswered(ResultCode::SUCCESS, version, Credence::Sound);
            }
            _ => {}
        }
        event
    }

    /// Whether the device tells the version that it has left, because it has not restarted yet.
    fn is_stale(&self, event: Input) -> bool {
        let Input::VersionAnswered(_, Some(version), _) = event else {
            return false;
        };
        self.awaits_restart && self.awaits_next() && version != self.package.version
    }

    /// Whether a step is done, and what the next one is to be is not known yet.
    fn awaits_next(&self) -> bool {
        self.served.step > 1 && self.negotiation.stage() == Some(Stage::QueryingVersion)
    }

    /// Whether another step follows the one that has succeeded.
    fn goes_on(&self) -> bool {
        let hardware = self.order.hardware.as_deref();
        (self.offers).goes_on(self.served.step, self.package.version, hardware)
    }

    /// Whether all steps are done, and another one would have to follow: the device has gone back by a step meanwhile.
    fn fell_back(&self) -> bool {
        let hardware = self.order.hardware.as_deref();
        (self.offers).fell_back(self.served.step, self.package.version, hardware)
    }

    /// Begins the next step: the device is asked what it runs, and is served what is for that.
    fn next_step(&mut self, now: Now, before: Negotiation, rules: &Rules<'_>) -> Step {
        let done = StepDone {
            version: self.package.version,
            entered_at: self.stored.entered_at,
        };
        let line = Happened::StepDone {
            step: self.served.step,
            version: done.version,
        };
        let (negotiation, actions) = Negotiation::ask_version(now.instant, rules);
        self.negotiation = negotiation;
        self.served.step += 1; // fewer than there are packages
        self.correspondence.tries = Some(actions.len());
        (self.look_at, self.looks) = (None, 0);
        (self.put_off, self.told, self.silence) = (None, None, None);
        (self.takes, self.progress_stored_at, self.served_bytes) = (false, None, 0);
        self.standing = StandingAsked::Never;
        self.closed = (None, Duration::ZERO);
        let news = self.refresh_stored(now);
        Step {
            before,
            actions,
            line: Some(Line::asking(line, Asked::Version, None)),
            news,
            done: Some(done),
        }
    }

    /// The gate says how it stands. Returns for how long its lane was closed, if that is to be made up for.
    pub fn stands(&mut self, now: Instant, standing: Standing) -> Option<Duration> {
        let closed = standing.closed;
        if closed.now {
            let again = now + CLOSED_ASKED_EVERY;
            let opens_at = closed
                .opens_at
                .unwrap_or(again)
                .max(now + CLOSED_ASKED_AFTER);
            self.standing = StandingAsked::Closed(opens_at.min(again));
            return None;
        }
        let lane = self.negotiation.queued_in();
        let (known_in, known) = self.closed;
        let known = if known_in == lane {
            known
        } else {
            Duration::ZERO
        };
        let more = closed.time.saturating_sub(known);
        if more.is_zero() {
            self.standing = StandingAsked::Told(standing);
            return None;
        }
        self.closed = (lane, closed.time);
        self.standing = StandingAsked::Never;
        Some(more)
    }

    /// What runs out next, and when that is to be acted upon.
    pub fn next_deadline(&self) -> Option<(Deadline, Instant)> {
        let (deadline, at) = self.negotiation.next_deadline()?;
        match self.standing {
            StandingAsked::Until(at) | StandingAsked::Closed(at) if deadline == Deadline::Slot => {
                Some((deadline, at))
            }
            _ => Some((deadline, at)),
        }
    }

    /// Brings what the store knows up to the state. Returns whether that is news.
    fn refresh_stored(&mut self, now: Now) -> bool {
        let negotiation = &self.negotiation;
        let (Some(stage), Some((_, until))) = (negotiation.stage(), negotiation.until()) else {
            return false;
        };
        let mut next = self.stored.clone();
        // The wait for a slot goes on when it may take longer.
        let goes_on = next.stage == stage && stage == Stage::WaitingForSlot;
        if next.stage != stage || self.stored_until != until {
            next.stage = stage;
            next.entered_at = if goes_on { next.entered_at } else { now.utc };
            next.deadline_at = now.utc_at(until);
            self.stored_until = until;
            if goes_on {
                next.slot_deadline_at = Some(next.deadline_at);
            }
        }
        let place = negotiation.place();
        next.cell = place.and_then(Place::cell);
        next.cell_limit = next.cell.and(place).map(|place| place.limit);
        let since = place.map(|place| place.since);
        if since != self.stored_since {
            next.queued_at = since.map(|_| now.utc);
            next.slot_deadline_at = place.map(|place| now.utc_at(place.until));
            self.stored_since = since;
        }
        next.confirmed = negotiation.is_confirmed();
        next.download_errors = negotiation.download_errors();
        let news = next != self.stored;
        self.stored = next;
        news
    }

    /// The change that tells what has happened: with `news`, where the upgrade stands now. `None` when there is nothing to
    /// tell. What was told of the stage that ends with it comes before.
    pub fn record(&mut self, news: bool, line: Option<Line>, at: UtcMillis) -> Vec<Change> {
        let mut changes: Vec<Change> = self.take_served().into_iter().collect();
        if news {
            let stage = self.stored.stage;
            if self.correspondence.told_in.replace(stage) != Some(stage) {
                changes.extend(self.take_repeated(at));
            }
            changes.push(self.stage_change(line, at));
        } else if let Some(line) = line {
            changes.push(self.note(line, at));
        }
        changes
    }

    /// The change that tells what the device is served, unless that is known.
    pub fn take_served(&mut self) -> Option<Change> {
        if self.order.served == self.served {
            return None;
        }
        self.order.served = self.served;
        Some(Change::Serves {
            upgrade: self.order.upgrade,
            attempt: self.order.attempt,
            served: self.served,
        })
    }

    /// The change that tells what was exchanged with the device, which is in that coverage; `None` when nothing was since the last one.
    pub fn take_traffic(&mut self, coverage: Option<&Coverage>, at: UtcMillis) -> Option<Change> {
        let traffic = self.meter.take(coverage)?;
        let place = self.negotiation.place().and_then(Place::cell);
        Some(Change::Traffic {
            upgrade: self.order.upgrade,
            task: self.order.task,
            endpoint: self.order.endpoint.clone(),
            cell: place.or(coverage.and_then(|coverage| coverage.cell)),
            traffic,
            at,
        })
    }

    fn stage_change(&self, line: Option<Line>, at: UtcMillis) -> Change {
        Change::Stage {
            upgrade: self.order.upgrade,
            attempt: self.order.attempt,
            change: self.stored.clone(),
            line: line.map(Box::new),
            at,
        }
    }

    /// A line of the timeline.
    pub fn note(&self, line: Line, at: UtcMillis) -> Change {
        Change::Note {
            upgrade: self.order.upgrade,
            attempt: self.order.attempt,
            line: Box::new(line),
            at,
        }
    }

    /// Lines that tell how often what was told once has happened again in the stage that ends.
    pub fn take_repeated(&mut self, at: UtcMillis) -> Vec<Change> {
        let repeated = std::mem::take(&mut self.correspondence.repeated);
        (repeated.into_iter())
            .filter(|(_, count)| *count > 1)
            .map(|(what, count)| {
                let times = count - 1;
                self.note(Happened::Repeated { what, times }.into(), at)
            })
            .collect()
    }

    /// How the device waits for a slot, if it does. `adaptive` is what its product says of crowded lanes.
    pub fn waits(
        &self,
        presence: Presence,
        install: Duration,
        adaptive: Option<bool>,
    ) -> Option<(Lane, GateRequest)> {
        let lane = self.negotiation.queued_in()?;
        let Place { limit, since, .. } = *self.negotiation.place()?;
        let wait = GateRequest::Wait {
            task: self.order.task,
            limit,
            further: self.order.further,
            since,
            work: self.work(install),
            adaptive,
            presence,
        };
        Some((lane, wait))
    }

    /// The slot that it holds, from before a restart, where an installation takes so long.
    pub fn holds(&self, install: Duration, adaptive: Option<bool>) -> Option<(Lane, GateRequest)> {
        let Place { lane, limit, .. } = *self.negotiation.slot()?;
        let work = self.work(install);
        let hold = GateRequest::Hold {
            limit,
            further: self.order.further,
            work,
            adaptive,
        };
        Some((lane, hold))
    }

    /// What is left to do.
    pub fn work(&self, install: Duration) -> Work {
        let total = self.package.size_bytes;
        let done = match self.negotiation.stage() {
            Some(Stage::Executing) => total,
            _ => self.position(&self.negotiation).unwrap_or(0),
        };
        Work {
            bytes: total.saturating_sub(done),
            install,
        }
    }

    /// The change that says how far the download is, unless one has said so within `interval`.
    pub fn progress(&mut self, now: Now, done_bytes: u64, interval: Duration) -> Option<Change> {
        self.served_bytes = done_bytes;
        let lately = (self.progress_stored_at).is_some_and(|at| now.instant.since(at) < interval);
        if lately {
            return None;
        }
        self.progress_stored_at = Some(now.instant);
        Some(Change::Progress {
            upgrade: self.order.upgrade,
            progress: Progress {
                done_bytes,
                total_bytes: self.package.size_bytes,
            },
            at: now.utc,
        })
    }

    /// How far the download of a state is: where the segment begins that was asked for last.
    pub fn position(&self, negotiation: &Negotiation) -> Option<u64> {
        if let Some(Transfer::ByObject(_)) = negotiation.transfer() {
            return Some(self.served_bytes);
        }
        let segment = negotiation.segment()?;
        Some((self.package.pcp_offer()?.segmentation).bytes_before(segment))
    }

    /// What is known of how the attempt ended: of a failure all that is known of its last moments.
    pub fn facts(
        &self,
        before: &Negotiation,
        outcome: &Outcome,
        contact: Contact,
        config: &Config,
    ) -> Facts {
        let facts = outcome.facts();
        let failure = match outcome {
            Outcome::Failed(failure) => failure,
            Outcome::Cancelled(Cancellation::NoPackage | Cancellation::Downgrade) => {
                return self.why_skipped(facts);
            }
            Outcome::Cancelled(_) | Outcome::Succeeded(_) => return facts,
        };
        let protocol = self.exchange.protocol();
        let limit = failure.limit().map(|it| it.over(protocol));
        let limit = limit.map(|deadline| Limit {
            setting: deadline.setting().into(),
            seconds: deadline.duration(&config.upgrade).as_secs(),
        });
        let queue = match (failure, before.place(), self.standing) {
            (Failure::SlotTimedOut, Some(place), StandingAsked::Told(standing)) => {
                place.cell().map(|cell| Queue {
                    cell,
                    taken: standing.taken,
                    limit: place.limit,
                    ahead: standing.ahead,
                })
            }
            _ => None,
        };
        let correspondence = &self.correspondence;
        let not_understood = correspondence.not_understood.clone();
        let description = match (failure, correspondence.said.as_ref().map(|it| &it.message)) {
            (
                Failure::Reported(_) | Failure::Refused(..),
                Some(Inbound::ProgressReport { description, .. }),
            ) => description.clone(),
            _ => None,
        };
        Facts {
            description,
            objects: Some(contact.objects).filter(|_| *failure == Failure::NotSupported),
            not_understood: not_understood.filter(|_| *failure == Failure::CellUnknown),
            limit,
            queue,
            last: Some(Last {
                sent: correspondence.sent.clone(),
                known_since: correspondence.resumed_at,
                said: correspondence.said.clone(),
                heard_at: contact.heard_at,
                heard_as_stored: contact.as_stored && contact.heard_at.is_some(),
            }),
            ..facts
        }
    }
}

impl<X: Exchange> Session<X> {
    /// What the device runs and is, and what the task has for whom.
    fn why_skipped(&self, facts: Facts) -> Facts {
        let wanted = match self.withheld {
            None => self.offers.wanted(),
            Some(_) => Vec::new(),
        };
        Facts {
            version: self.runs,
            hardware: self.order.hardware.as_deref().map(str::to_owned),
            target: self.withheld,
            wanted,
            ..facts
        }
    }
}

/// What the gate is to be told of a step, besides where the device waits now: that it has left its slot, or its queue.
pub fn leaves(before: &Negotiation, after: &Negotiation) -> Option<(Lane, GateRequest)> {
    if let Some(place) = before.slot()
        && after.slot().is_none()
    {
        return Some((place.lane, GateRequest::Release));
    }
    // a granted slot took the device out of the queue already
    let lane = (before.queued_in())
        .filter(|lane| after.queued_in() != Some(*lane) && after.slot().is_none())?;
    Some((lane, GateRequest::Withdraw))
}

/// The change that says how an attempt ended: another follows a failure as long as the order says, and one that was taken back
/// in the next window.
pub fn ended(order: &UpgradeOrder, outcome: Outcome, facts: Facts, at: UtcMillis) -> Change {
    let retry_at = if outcome.is_taken_back() {
        Some(order.back.and_then(|back| back.opens_at).unwrap_or(at))
    } else {
        crate::task::next_attempt_at(order.retry, order.attempt, &outcome, at)
    };
    Change::Ended {
        upgrade: order.upgrade,
        task: order.task,
        attempt: order.attempt,
        outcome,
        facts: Box::new(facts),
        retry_at,
        at,
    }
}

fn rules<'c, X: Exchange>(
    config: &'c Config,
    package: &Package,
    exchange: &X,
    further: Further,
) -> Rules<'c> {
    Rules {
        protocol: exchange.protocol(),
        object: exchange.object(),
        version_decides: exchange.version_decides(),
        ran: None,
        counted: exchange.counts(),
        connections_told: !config.mqtt.is_by_broker(),
        target: package.version,
        upgrade: &config.upgrade,
        admission: &config.admission,
        home: further.home(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_never_spent_of_what_a_device_may_be_kept_awake_for_than_is_written_down() {
        let config = AdmissionConfig::default();
        let mut now = Instant::from_millis(1_000_000);
        let mut kept = KeptAwake::default();
        let (mut written, mut times) = (Standby::default(), 0);
        while !kept.spare(&config).is_zero() {
            let heard_at = now;
            now = now + Duration::from_secs(40);
            kept.ping(now, heard_at);
            if let Some(standby) = kept.to_write() {
                (written, times) = (standby, times + 1);
            }
            now = now + Duration::from_secs(5);
            kept.answered(now);
            assert!(kept.time <= Duration::from_secs(written.time_s.into()));
            assert!(kept.pings <= written.pings);
        }
        assert!(times <= 10, "written too often: {times}");
        // a restart takes a few minutes of it, and gives none back
        let restored = KeptAwake::restored(written);
        assert_eq!(restored.spare(&config), Duration::ZERO);
        let begun = KeptAwake::restored(Standby {
            time_s: 300,
            pings: 20,
        });
        assert_eq!(begun.spare(&config), Duration::from_mins(25));
    }
}
