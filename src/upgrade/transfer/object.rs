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

mod installing;
mod offering;
mod state;

pub use state::Reset;

use std::time::Duration;

use super::Next;
use crate::{
    clock::Instant,
    ledger::{Deadline, Failure, Stage, UpdateObject, UpdateStep},
    upgrade::{Action, Input, Rules},
};
use state::State;

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
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
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
        if self.stage() == Stage::Executing {
            return (Deadline::ResultGrace, self.look_at);
        }
        let at = self.settles_at.unwrap_or(self.look_at).min(self.look_at);
        (Deadline::Nudge, at)
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
