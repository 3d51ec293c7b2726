//! The transfer by one of the standard's own objects: Firmware Update (5), Advanced Firmware Update (33629), Software
//! Management (9).
//!
//! ```text
//! looks (state, result) ──not idle──▶ resets ──▶ looks again ──idle──▶ offers (package URI, or blocks) ──▶ downloading
//!    ▲                                   └─ in no way idle: failed                                            │
//!    │                                                             idle again, result 0: offered again ◀──────┤
//!    │                                                             result 2 … 10, 50 …: failed ◀──────────────┤
//!    └── registers anew, or is quiet                                                        downloaded ───────┘
//!                                                                                               │
//!   outcome ◀──── result 1, or the version read back ◀──── updating, restart ◀──── told to install (and, by 9, to activate)
//! ```
//!
//! What counts is what it was served, and what it tells after it was told to install. A result from before the offer counts
//! for nothing; some devices keep it. "Updating" may never be seen. A device that is idle with the result 0 in mid-download has lost
//! what it had: it is offered the package again, a few times. One that is so after the installation, with its old version, has failed,
//! and so has one that tells a success and runs what it ran before: the next attempt follows.
//!
//! Sources: OMA LwM2M Core 1.2 §E.6.1 (state machine of object 5), OMA LWM2M-SwMgmt 1.0 §A.1 (object 9), the registered
//! definition of object 33629.

use std::time::Duration;

use super::Next;
use crate::{
    clock::Instant,
    ledger::{Deadline, Failure, Outcome, Stage, Success, UpdateObject, UpdateStep},
    package::Version,
    upgrade::{Action, Credence, Input, Rules},
};

/// What happens to a transfer by one of the standard's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectInput {
    /// It tells its state: read, observed, or sent by itself.
    StateTold(u8),
    /// It tells its result.
    ResultTold(u8),
    /// It was asked for its state and its result, and both answers are there or will not come.
    Looked,
    /// It has carried out what it was told.
    CarriedOut(UpdateStep),
    /// It has refused what it was told, with this code of `CoAP`.
    Refused(UpdateStep, u8),
    /// It has acknowledged what it was told, and never answered.
    Unanswered(UpdateStep),
    /// Something was repeated as often as allowed, and nothing came back.
    Undelivered,
    /// Some of the package was served to it.
    Fetched {
        /// More of it, from its beginning without a gap, than ever before in this attempt.
        further: bool,
    },
    /// All of the package was served to it.
    FetchedAll,
    /// It may defer the installation for so long, as it says.
    Deferrable(Duration),
    /// What was being written to it was cut off, and is not gone on with.
    CutOff,
}

/// How a device is made to forget what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// By an empty package URI (objects 5 and 33629).
    EmptyUri,
    /// By a package of one NUL (objects 5 and 33629).
    NulPackage,
    /// By its resource Cancel (objects 5 and 33629).
    Cancel,
    /// By its resource Uninstall, for an update of what is installed (object 9).
    UninstallForUpdate,
    /// By its resource Uninstall (object 9).
    Uninstall,
}

impl Reset {
    /// The next way, where this one did not help.
    const fn next(self) -> Option<Self> {
        match self {
            Self::EmptyUri => Some(Self::NulPackage),
            Self::NulPackage => Some(Self::Cancel),
            Self::UninstallForUpdate => Some(Self::Uninstall),
            Self::Cancel | Self::Uninstall => None,
        }
    }
}

/// Where a device stands, whichever object it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Downloading,
    /// It has the whole package, and may be told to install it.
    Downloaded,
    Updating,
    /// Object 9: a software is installed.
    Installed,
    /// Of no meaning that is known.
    Other,
}

impl State {
    const fn of(object: UpdateObject, number: u8) -> Self {
        match (object, number) {
            (_, 0) => Self::Idle,
            (UpdateObject::Software, 1 | 2) | (_, 1) => Self::Downloading,
            (UpdateObject::Software, 3) => Self::Downloaded,
            (UpdateObject::Software, 4) => Self::Installed,
            (_, 2) => Self::Downloaded,
            (_, 3) => Self::Updating,
            _ => Self::Other,
        }
    }
}

/// What a result says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Nothing,
    Success,
    Deferred,
    Failure,
}

const fn verdict(object: UpdateObject, result: u8) -> Verdict {
    match (object, result) {
        (UpdateObject::Software, 2) => Verdict::Success,
        (UpdateObject::Software, 50..) => Verdict::Failure,
        (UpdateObject::Software, _) | (_, 0) => Verdict::Nothing,
        (_, 1) => Verdict::Success,
        (_, 11) => Verdict::Deferred,
        _ => Verdict::Failure,
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is asked for its state.
    Looking,
    /// It was told to forget what it has.
    Resetting(Reset),
    /// It was told where the package is, or is sent it.
    Downloading,
    /// It was told to install it.
    Installing,
    /// It was told to activate what it has installed.
    Activating,
}

/// Offers in an attempt.
const MAX_OFFERS: u8 = 3;
/// Commands to install in an attempt.
const MAX_COMMANDS: u8 = 3;
/// Questions for the version after a success that the device tells.
const MAX_QUESTIONS: u8 = 3;
/// A look that brings nothing new doubles the pause to the next, up to this many times the first one.
const MAX_PAUSE_FACTOR: u32 = 8;

/// The pauses between questions for the version grow up to so many times the first one.
const MAX_PAUSES: u8 = 5;
/// Between two looks at a device that has deferred its installation, at first: it notifies its end by itself.
const DEFERRED_PAUSE: Duration = Duration::from_mins(15);

/// A transfer by one of the standard's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct ByObject {
    object: UpdateObject,
    phase: Phase,
    /// Limit.
    until: Instant,
    /// When it is asked again, unless something happens before.
    look_at: Instant,
    pause: Duration,
    /// Looks that brought nothing new.
    looks: u8,
    state: Option<State>,
    /// The same as the number that it told last.
    told_state: Option<u8>,
    result: Option<u8>,
    /// The result that it had before it was offered the package: it does not count while nothing else has happened.
    stale: Option<u8>,
    offers: u8,
    commands: u8,
    questions: u8,
    /// It has shown that it goes along with the offer.
    confirmed: bool,
    /// It was seen on its way since it was offered the package last.
    moved: bool,
    /// All of the package was served to it.
    whole: bool,
    /// The server has restarted meanwhile: what it was served last before that may not be known.
    resumed: bool,
    /// The server has restarted in the download: which result the device had before the offer is not known.
    unaware: bool,
    /// What it has refused, until it is seen whether it has carried it out before.
    refused: Option<(UpdateStep, u8)>,
    /// It was told once more to forget what it has, from the first way on.
    reset_anew: bool,
    /// How often it was told to activate.
    activations: u8,
    /// It has what it was told last.
    delivered: bool,
    /// It has carried out a reset, was asked for its state since, and is not idle yet.
    settled: bool,
    /// It has restarted since it was told to install.
    restarted: bool,
    /// It tells a success.
    claimed: bool,
    /// It says that it has the whole package, and was not served all of it, as far as is known: so long that is waited for.
    settles_at: Option<Instant>,
    /// It has deferred the installation.
    deferred: bool,
    /// For how long it may.
    deferrable: Duration,
}

/// What is stored of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumedByObject {
    /// When it goes on.
    pub at: Instant,
    /// Its limit.
    pub until: Instant,
    /// It is told to install, or was.
    pub installing: bool,
    /// The device goes along; where it installs: it has the command.
    pub confirmed: bool,
    /// It was served the whole package.
    pub whole: bool,
    /// The device has restarted since it was told to install, as far as is known.
    pub restarted: bool,
}

impl ByObject {
    fn new(now: Instant, until: Instant, rules: &Rules<'_>) -> Self {
        let pause = Deadline::Nudge.duration(rules.upgrade);
        Self {
            object: rules.object,
            phase: Phase::Looking,
            until,
            look_at: now + pause,
            pause,
            looks: 0,
            state: None,
            told_state: None,
            result: None,
            stale: None,
            offers: 0,
            commands: 0,
            questions: 0,
            confirmed: false,
            moved: false,
            whole: false,
            resumed: false,
            unaware: false,
            refused: None,
            reset_anew: false,
            activations: 0,
            delivered: false,
            settled: false,
            restarted: false,
            claimed: false,
            settles_at: None,
            deferred: false,
            deferrable: Duration::ZERO,
        }
    }

    /// The device has a slot: it is asked for its state.
    pub(super) fn begin(now: Instant, rules: &Rules<'_>) -> (Self, Vec<Action>) {
        let until = now + Deadline::Download.duration(rules.upgrade);
        (Self::new(now, until, rules), vec![Action::Look])
    }

    /// It goes on after a restart of the server: what the device says of its state decides.
    pub fn resume(stored: &ResumedByObject, rules: &Rules<'_>) -> (Self, Vec<Action>) {
        let begun = Self::new(stored.at, stored.until, rules);
        let phase = match (stored.installing, stored.confirmed) {
            (true, _) => Phase::Installing,
            (false, true) => Phase::Downloading,
            (false, false) => Phase::Looking,
        };
        let resumed = Self {
            phase,
            confirmed: stored.confirmed,
            moved: stored.confirmed,
            whole: stored.whole,
            resumed: true,
            unaware: phase == Phase::Downloading,
            offers: u8::from(phase != Phase::Looking),
            commands: u8::from(stored.installing),
            delivered: stored.installing && stored.confirmed,
            restarted: stored.restarted,
            // whether it has deferred the installation before is not known: it does so once
            deferred: stored.installing && stored.confirmed,
            look_at: stored.at + Deadline::ResultGrace.duration(rules.upgrade),
            ..begun
        };
        (resumed, vec![Action::Look])
    }

    // ---- what is asked of it

    pub(super) const fn stage(&self) -> Stage {
        match self.phase {
            Phase::Looking | Phase::Resetting(_) | Phase::Downloading => Stage::Downloading,
            Phase::Installing | Phase::Activating => Stage::Executing,
        }
    }

    pub(super) const fn until(&self) -> (Deadline, Instant) {
        let limit = match self.stage() {
            Stage::Executing => Deadline::Execution,
            _ => Deadline::Download,
        };
        (limit, self.until)
    }

    pub(super) fn also_due(&self) -> (Deadline, Instant) {
        match self.stage() {
            Stage::Executing => (Deadline::ResultGrace, self.look_at),
            _ => {
                let at = self.settles_at.unwrap_or(self.look_at).min(self.look_at);
                (Deadline::Nudge, at)
            }
        }
    }

    pub(super) const fn is_confirmed(&self) -> bool {
        match self.stage() {
            Stage::Executing => self.delivered,
            _ => self.confirmed,
        }
    }

    pub(super) const fn is_claimed(&self) -> bool {
        self.claimed
    }

    /// Whether the version that it tells says what has become of the upgrade.
    pub(super) const fn takes_answers(&self) -> bool {
        matches!(self.stage(), Stage::Executing)
    }

    /// Whether it was given the package, and is not known to have begun to install it: the "updating" of a device is awaited.
    pub(super) const fn is_left_open(&self) -> bool {
        if matches!(self.object, UpdateObject::Software) {
            // what is installed is not to be uninstalled
            return self.offers > 0
                && matches!(self.phase, Phase::Downloading)
                && matches!(self.state, Some(State::Downloading | State::Downloaded));
        }
        self.offers > 0
            && !matches!(self.state, Some(State::Updating))
            && (matches!(self.phase, Phase::Downloading) || !self.delivered)
    }

    pub(super) const fn offers(&self) -> u8 {
        self.offers
    }

    pub(super) const fn told_state(&self) -> Option<u8> {
        self.told_state
    }

    pub(super) const fn is_repeating(&self) -> bool {
        self.looks > 0
    }

    // ---- what happens

    pub(super) fn on(
        mut self,
        now: Instant,
        event: Input,
        rules: &Rules<'_>,
        may_return: bool,
    ) -> Next<Self> {
        match event {
            Input::Object(said) => self.on_said(now, said, rules, may_return),
            Input::VersionAnswered(_, version, worth) => {
                self.on_version(now, version, worth, rules)
            }
            Input::Registered { restarted } => {
                self.has_restarted(restarted);
                self.look(now, rules)
            }
            Input::Restarted => {
                self.has_restarted(true);
                self.look(now, rules)
            }
            Input::Reached(Deadline::Nudge) if self.is_settled(now) => {
                Next::fails(Failure::NotDownloaded)
            }
            Input::Reached(Deadline::Nudge) => self.on_quiet(now, rules, may_return),
            Input::Reached(Deadline::ResultGrace) => self.on_no_result(now, rules),
            Input::Reached(Deadline::Download) => Next::fails(Failure::DownloadTimedOut(None)),
            Input::Reached(Deadline::Execution) => Self::runs_out(),
            _ => Next::stays(self),
        }
    }

    const fn has_restarted(&mut self, restarted: bool) {
        if restarted && matches!(self.phase, Phase::Installing | Phase::Activating) {
            self.restarted = true;
        }
    }

    fn is_settled(&self, now: Instant) -> bool {
        self.settles_at.is_some_and(|at| at <= now)
    }

    fn on_said(
        mut self,
        now: Instant,
        said: ObjectInput,
        rules: &Rules<'_>,
        may_return: bool,
    ) -> Next<Self> {
        match said {
            ObjectInput::StateTold(number) => {
                let state = State::of(self.object, number);
                self.state = Some(state);
                // the same again, when it is asked, is nothing new
                if self.told_state.replace(number) != Some(number) {
                    self.advances(now, rules);
                }
                self.on_state(now, state, rules)
            }
            ObjectInput::ResultTold(result) => {
                self.result = Some(result);
                // what it tells first after a restart of the server may be from before the offer
                if std::mem::take(&mut self.unaware) && result != 0 {
                    self.stale = Some(result);
                }
                if self.stale.is_some_and(|stale| stale != result) {
                    self.stale = None;
                }
                self.on_result(now, result, rules)
            }
            ObjectInput::Looked => self.on_looked(now, rules),
            ObjectInput::CarriedOut(step) => self.on_carried_out(now, step, rules),
            ObjectInput::Refused(step, code) => self.on_refused(now, step, code, rules),
            // It fell asleep before it had anything: a slot is not held for it.
            ObjectInput::Undelivered if self.offers == 0 && may_return => Next::GivesBack,
            ObjectInput::Fetched { further } => {
                self.confirmed = true;
                self.moved = true;
                if further {
                    self.advances(now, rules);
                } else {
                    self.look_at = now + self.pause;
                }
                Next::stays(self)
            }
            ObjectInput::FetchedAll => {
                self.confirmed = true;
                self.moved = true;
                self.whole = true;
                self.settles_at = None;
                self.advances(now, rules);
                match (self.phase, self.state) {
                    (Phase::Downloading, Some(State::Downloaded)) => self.install(now, rules),
                    _ => Next::stays(self),
                }
            }
            ObjectInput::Deferrable(most) => {
                self.deferrable = most;
                Next::stays(self)
            }
            ObjectInput::CutOff if self.phase == Phase::Downloading => {
                let way = match self.object {
                    UpdateObject::Software => Reset::Uninstall,
                    _ => Reset::EmptyUri,
                };
                self.reset(now, way, rules)
            }
            // It has it: what it has done with it, its state tells.
            ObjectInput::Unanswered(UpdateStep::Activate) => self.succeeds(now, rules),
            ObjectInput::Unanswered(_) => self.look(now, rules),
            ObjectInput::Undelivered | ObjectInput::CutOff => Next::stays(self),
        }
    }

    /// Something is new: it is left alone for a while.
    fn advances(&mut self, now: Instant, rules: &Rules<'_>) {
        self.looks = 0;
        self.pause = match self.stage() {
            Stage::Executing => Deadline::ResultGrace.duration(rules.upgrade),
            _ => Deadline::Nudge.duration(rules.upgrade),
        };
        self.look_at = now + self.pause;
    }

    /// It is asked for its state and its result.
    fn look(mut self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        (self.state, self.result) = (None, None);
        self.settled = false;
        self.look_at = now
            + self
                .pause
                .max(Deadline::RepeatQuestion.duration(rules.upgrade));
        Next::Goes(self, vec![Action::Look])
    }

    // ---- up to the package

    fn on_state(mut self, now: Instant, state: State, rules: &Rules<'_>) -> Next<Self> {
        match (self.phase, state) {
            // its result may be another one as well
            (Phase::Resetting(_), State::Idle) if self.settled => self.look(now, rules),
            (Phase::Downloading, State::Downloading) => {
                self.confirmed = true;
                self.moved = true;
                Next::stays(self)
            }
            (Phase::Downloading, State::Downloaded) if self.may_be_whole() || !rules.counted => {
                self.install(now, rules)
            }
            // what it was served may be told a moment later
            (Phase::Downloading, State::Downloaded) => {
                let wait = Duration::from_secs(rules.upgrade.claim_settle_s);
                self.settles_at = self.settles_at.or(Some(now + wait));
                Next::stays(self)
            }
            // by itself, as one may whose software is to be installed at once (LwM2M 1.2.2, resource 14)
            (Phase::Downloading, State::Updating | State::Installed) if self.whole => {
                self.installs(now, rules);
                self.delivered = true;
                if state == State::Installed {
                    return self.installed(now, rules);
                }
                Next::stays(self)
            }
            (Phase::Installing, State::Updating) => {
                self.delivered = true;
                Next::stays(self)
            }
            (Phase::Installing, State::Installed) => self.installed(now, rules),
            _ => Next::stays(self),
        }
    }

    /// Its state and its result are known, or will not be.
    fn on_looked(mut self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        let Some(state) = self.state else {
            return Next::stays(self); // it is asked again
        };
        match (self.phase, state) {
            (Phase::Looking, State::Idle) if self.result.is_none_or(|it| it == 0) => {
                self.offer(now, rules)
            }
            (Phase::Resetting(_), State::Idle) => {
                self.stale = self.result.filter(|result| *result != 0);
                self.offer(now, rules)
            }
            // it is at work, with what it was given by somebody before: that is awaited
            (Phase::Looking | Phase::Resetting(_), State::Updating) => Next::stays(self),
            (Phase::Looking, state) => {
                let way = match (self.object, state) {
                    (UpdateObject::Software, State::Installed) => Reset::UninstallForUpdate,
                    (UpdateObject::Software, _) => Reset::Uninstall,
                    _ => Reset::EmptyUri,
                };
                self.reset(now, way, rules)
            }
            // it may take its time
            (Phase::Resetting(_), _) if self.looks == 0 => {
                self.settled = true;
                Next::stays(self)
            }
            // one that was being written to takes the NUL for the last block; idle it becomes by an empty URI from there
            (Phase::Resetting(Reset::NulPackage), State::Downloaded) if !self.reset_anew => {
                self.reset_anew = true;
                self.reset(now, Reset::EmptyUri, rules)
            }
            (Phase::Resetting(way), _) => match way.next() {
                Some(way) => self.reset(now, way, rules),
                None => Next::fails(Failure::NotIdle),
            },
            (Phase::Downloading, State::Idle)
                if let Some((step, code)) = self.refused.filter(|_| self.is_uneventful()) =>
            {
                Next::fails(Failure::UpdateRefused(step, code))
            }
            // it had it when it refused it
            (Phase::Downloading, State::Downloading) if self.refused.take().is_some() => {
                Next::stays(self)
            }
            // it has lost what it had, or never began
            (Phase::Downloading, State::Idle) if self.is_uneventful() => {
                if self.moved || self.looks > 0 {
                    self.offer_again(now, rules)
                } else {
                    Next::stays(self)
                }
            }
            // object 9: the software of before is back, as nothing came of the update
            (Phase::Downloading, State::Installed) if !self.whole => {
                if self.offers >= MAX_OFFERS {
                    return Next::fails(Failure::DownloadStalled);
                }
                self.reset(now, Reset::UninstallForUpdate, rules)
            }
            (Phase::Installing, State::Downloaded)
                if let Some((step, code)) = self.refused.filter(|_| !self.deferred) =>
            {
                Next::fails(Failure::UpdateRefused(step, code))
            }
            (Phase::Installing, State::Downloaded) if !self.delivered || self.restarted => {
                self.install(now, rules)
            }
            (Phase::Installing, _) if self.refused.take().is_some() => {
                self.delivered = true;
                Next::stays(self)
            }
            (Phase::Installing, State::Idle) if self.is_uneventful() => {
                self.ask_version(now, rules)
            }
            _ => Next::stays(self),
        }
    }

    /// Whether it tells no result, or none that counts.
    fn is_uneventful(&self) -> bool {
        (self.result)
            .is_none_or(|it| verdict(self.object, it) == Verdict::Nothing || self.stale == Some(it))
    }

    fn reset(mut self, now: Instant, way: Reset, rules: &Rules<'_>) -> Next<Self> {
        self.phase = Phase::Resetting(way);
        self.settled = false;
        (self.state, self.result) = (None, None);
        self.advances(now, rules);
        Next::Goes(self, vec![Action::Reset(way)])
    }

    fn offer(mut self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        self.phase = Phase::Downloading;
        self.offers += 1; // at most MAX_OFFERS
        self.moved = false;
        self.whole = false;
        self.resumed = false;
        self.unaware = false;
        self.refused = None;
        self.settles_at = None;
        self.state = None;
        self.advances(now, rules);
        Next::Goes(self, vec![Action::Offer])
    }

    /// Once more, within bounds.
    fn offer_again(self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        if self.offers >= MAX_OFFERS {
            return Next::fails(Failure::DownloadStalled);
        }
        let result = self.result;
        let next = self.offer(now, rules);
        next.map(|it| Self {
            stale: result.filter(|result| *result != 0),
            ..it
        })
    }

    fn on_carried_out(mut self, now: Instant, step: UpdateStep, rules: &Rules<'_>) -> Next<Self> {
        match (self.phase, step) {
            (Phase::Resetting(_), UpdateStep::Reset) => self.look(now, rules),
            (Phase::Downloading, UpdateStep::Package) => {
                self.confirmed = true;
                self.advances(now, rules);
                Next::stays(self)
            }
            (Phase::Installing, UpdateStep::Install) => {
                self.delivered = true;
                self.advances(now, rules);
                Next::stays(self)
            }
            (Phase::Activating, UpdateStep::Activate) => self.succeeds(now, rules),
            _ => Next::stays(self),
        }
    }

    fn on_refused(
        mut self,
        now: Instant,
        step: UpdateStep,
        code: u8,
        rules: &Rules<'_>,
    ) -> Next<Self> {
        match (self.phase, step) {
            // it may be idle all the same
            (Phase::Resetting(_), UpdateStep::Reset) => {
                self.looks = 1; // it is not waited for
                self.look(now, rules)
            }
            (Phase::Downloading, UpdateStep::Package)
            | (Phase::Installing, UpdateStep::Install)
                if self.result.is_some_and(|it| self.fails_by(it)) =>
            {
                Next::stays(self) // its result says more, and ends it
            }
            // It may have begun when it was told before: a repeat, or an acknowledgement that was lost.
            (Phase::Downloading, UpdateStep::Package) if self.moved => Next::stays(self),
            (Phase::Installing, UpdateStep::Install)
                if self.restarted || self.state == Some(State::Updating) =>
            {
                self.delivered = true;
                Next::stays(self)
            }
            (Phase::Downloading, UpdateStep::Package)
            | (Phase::Installing, UpdateStep::Install) => {
                self.refused = Some((step, code));
                self.look(now, rules)
            }
            // 4.05: it is active already
            (Phase::Activating, UpdateStep::Activate)
                if code == METHOD_NOT_ALLOWED || self.activations > 1 =>
            {
                self.succeeds(now, rules)
            }
            (Phase::Activating, UpdateStep::Activate) => {
                Next::fails(Failure::UpdateRefused(step, code))
            }
            _ => Next::stays(self),
        }
    }

    /// Whether it was served the whole package, as far as that can be known.
    const fn may_be_whole(&self) -> bool {
        self.whole || self.resumed
    }

    fn fails_by(&self, result: u8) -> bool {
        verdict(self.object, result) == Verdict::Failure && self.stale != Some(result)
    }

    // ---- its result

    fn on_result(mut self, now: Instant, result: u8, rules: &Rules<'_>) -> Next<Self> {
        if self.stale == Some(result) {
            return Next::stays(self);
        }
        let offered = matches!(
            self.phase,
            Phase::Downloading | Phase::Installing | Phase::Activating
        );
        match verdict(self.object, result) {
            Verdict::Failure if offered => Next::fails(Failure::UpdateResult(self.object, result)),
            Verdict::Deferred if self.stage() == Stage::Executing && !self.deferred => {
                self.delivered = true;
                self.deferred = true; // once: it may tell so again and again
                let limit = Deadline::Execution.duration(rules.upgrade);
                self.until = self.until.max(now + self.deferrable + limit);
                Next::stays(self)
            }
            Verdict::Success if self.phase == Phase::Downloading && self.whole => {
                self.installs(now, rules);
                self.installed(now, rules)
            }
            Verdict::Success if self.phase == Phase::Installing && self.commands > 0 => {
                self.installed(now, rules)
            }
            _ => Next::stays(self),
        }
    }

    // ---- the installation

    /// It goes on to the installation, within the limit of that.
    fn installs(&mut self, now: Instant, rules: &Rules<'_>) {
        if self.phase != Phase::Installing {
            self.phase = Phase::Installing;
            self.until = now + Deadline::Execution.duration(rules.upgrade);
            self.restarted = false;
        }
        self.settles_at = None;
        self.advances(now, rules);
    }

    /// It is told to install what it has.
    fn install(mut self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        if self.commands >= MAX_COMMANDS {
            return Next::stays(self);
        }
        self.installs(now, rules);
        self.commands += 1;
        self.delivered = false;
        self.restarted = false;
        let told = self.result.filter(|result| *result != 0 && *result != 3);
        self.stale = told.or(self.stale);
        self.refused = None;
        Next::Goes(self, vec![Action::Command])
    }

    /// It says that it is through: by object 9 it is told to activate what it has installed.
    fn installed(mut self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        if self.object != UpdateObject::Software {
            return self.succeeds(now, rules);
        }
        self.phase = Phase::Activating;
        self.activations = self.activations.saturating_add(1);
        self.delivered = true;
        self.advances(now, rules);
        Next::Goes(self, vec![Action::Activate])
    }

    /// It tells a success: what it runs is asked for, which says more.
    fn succeeds(mut self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        if self.claimed {
            return Next::stays(self);
        }
        self.claimed = true;
        self.ask_version(now, rules)
    }

    fn ask_version(mut self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        self.questions = self.questions.saturating_add(1);
        let pause = Deadline::RepeatQuestion.duration(rules.upgrade);
        self.look_at = now + pause * u32::from(self.questions.min(MAX_PAUSES));
        Next::Goes(self, vec![Action::AskVersion])
    }

    /// It tells what it runs; the target, where nothing speaks against it, has ended the upgrade already.
    fn on_version(
        mut self,
        now: Instant,
        version: Option<Version>,
        worth: Credence,
        rules: &Rules<'_>,
    ) -> Next<Self> {
        if self.stage() != Stage::Executing {
            return Next::stays(self);
        }
        let target = version == Some(rules.target);
        if self.claimed {
            if target {
                return self.ends(Success::Upgraded);
            }
            let Some(version) = version else {
                return self.ends(Success::Upgraded); // its result is all there is
            };
            // It may have told the result before it restarts into what it has installed.
            if !self.restarted && self.questions < MAX_QUESTIONS {
                let pause = Deadline::RepeatQuestion.duration(rules.upgrade);
                self.look_at = (now + pause * 2).min(self.until);
                return Next::stays(self);
            }
            // what it ran before it runs still, whatever it says
            return if rules.version_decides || rules.ran == Some(version) {
                Next::fails(Failure::WrongVersion(version))
            } else {
                self.ends(Success::Unverified)
            };
        }
        match version {
            // it has left what it was commanded in
            Some(_)
                if target
                    && worth == Credence::Unproven
                    && (self.restarted || self.state == Some(State::Idle)) =>
            {
                self.ends(Success::Upgraded)
            }
            // idle, without a result, with another version: nothing came of it
            Some(version) if !target && self.restarted && self.state == Some(State::Idle) => {
                Next::fails(Failure::WrongVersion(version))
            }
            _ => Next::stays(self),
        }
    }

    const fn ends(self, success: Success) -> Next<Self> {
        let success = match success {
            Success::Upgraded if !self.whole => Success::Unverified,
            success => success,
        };
        Next::Ends(Outcome::Succeeded(success))
    }

    // ---- time

    /// Nothing has happened for a while.
    fn on_quiet(mut self, now: Instant, rules: &Rules<'_>, may_return: bool) -> Next<Self> {
        let works = self.state == Some(State::Updating)
            || (self.state == Some(State::Downloading) && !rules.counted);
        if self.looks >= rules.upgrade.max_nudges && !works {
            return if self.offers == 0 && may_return {
                Next::GivesBack
            } else if self.offers == 0 {
                Next::fails(Failure::NotIdle)
            } else {
                Next::fails(Failure::DownloadStalled)
            };
        }
        self.looks = self.looks.saturating_add(1);
        let longest = Deadline::Nudge.duration(rules.upgrade) * MAX_PAUSE_FACTOR;
        self.pause = (self.pause * 2).min(longest);
        self.look(now, rules)
    }

    /// There is no result yet.
    fn on_no_result(mut self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        if self.claimed {
            return self.ask_version(now, rules);
        }
        self.looks = self.looks.saturating_add(1);
        self.pause = if self.deferred {
            (self.pause * 2).clamp(DEFERRED_PAUSE, DEFERRED_PAUSE * MAX_PAUSE_FACTOR)
        } else {
            Deadline::RepeatQuestion.duration(rules.upgrade)
        };
        if self.phase == Phase::Activating {
            self.look_at = now + self.pause;
            self.activations = self.activations.saturating_add(1);
            return Next::Goes(self, vec![Action::Activate]);
        }
        self.look(now, rules)
    }

    /// Also where it tells a success, and was never there to be asked what it runs: the next attempt asks that first.
    const fn runs_out() -> Next<Self> {
        Next::fails(Failure::ExecutionTimedOut)
    }
}

const METHOD_NOT_ALLOWED: u8 = 0x85;

#[cfg(test)]
mod tests;
