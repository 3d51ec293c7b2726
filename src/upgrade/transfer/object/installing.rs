//! From the whole package to the outcome: a device tells its result, installs, activates, and tells what it runs.

use super::{
    super::Next,
    ByObject, MAX_COMMANDS, MAX_PAUSES, MAX_QUESTIONS, Phase,
    state::{State, Verdict, verdict},
};
use crate::{
    clock::Instant,
    ledger::{Deadline, Failure, Outcome, Stage, Success, UpdateObject},
    package::Version,
    upgrade::{Action, Credence, Rules},
};

impl ByObject {
    pub(super) fn on_result(mut self, now: Instant, result: u8, rules: &Rules<'_>) -> Next<Self> {
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

    /// It goes on to the installation, within the limit of that.
    pub(super) fn installs(&mut self, now: Instant, rules: &Rules<'_>) {
        if self.phase != Phase::Installing {
            self.phase = Phase::Installing;
            self.until = now + Deadline::Execution.duration(rules.upgrade);
            self.restarted = false;
        }
        self.settles_at = None;
        self.advances(now, rules);
    }

    /// It is told to install what it has.
    pub(super) fn install(mut self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
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
    pub(super) fn installed(mut self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
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
    pub(super) fn succeeds(mut self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        if self.claimed {
            return Next::stays(self);
        }
        self.claimed = true;
        self.ask_version(now, rules)
    }

    pub(super) fn ask_version(mut self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        self.questions = self.questions.saturating_add(1);
        let pause = Deadline::RepeatQuestion.duration(rules.upgrade);
        self.look_at = now + pause * u32::from(self.questions.min(MAX_PAUSES));
        Next::Goes(self, vec![Action::AskVersion])
    }

    /// It tells what it runs; the target, where nothing speaks against it, has ended the upgrade already.
    pub(super) fn on_version(
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

    pub(super) const fn ends(self, success: Success) -> Next<Self> {
        let success = match success {
            Success::Upgraded if !self.whole => Success::Unverified,
            success => success,
        };
        Next::Ends(Outcome::Succeeded(success))
    }
}
