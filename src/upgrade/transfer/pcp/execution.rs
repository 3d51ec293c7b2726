use ::pcp::ResultCode;

use super::{Next, Pcp, PcpInput};
use crate::{
    clock::Instant,
    ledger::{Deadline, Evidence, FailedIn, Failure, Outcome, ReportedFailure, Success},
    package::Version,
    upgrade::{Action, Credence, Input, Rules},
};

/// Commands sent to a device that shows no sign of having received one.
pub(in crate::upgrade) const MAX_COMMANDS: u8 = 3;

/// The device was told to upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
pub struct Execution {
    /// Limit.
    pub(super) until: Instant,
    /// What is known of the command.
    command: Command,
    /// When the device is asked for its version.
    pub(super) ask_at: Instant,
    /// Whether it was asked in this stage: older answers do not count.
    asked: Asked,
    /// It has restarted since the command.
    restarted: bool,
    /// It was asked since the command, and what it answered may be from before its restart: the old version, or the
    /// target where that is unproven. It is asked once more.
    doubted: bool,
    /// It said that it runs the target, which is unproven.
    pub(super) claimed: bool,
    /// It reported success in the name of another version, as some do before they restart.
    reported_early: bool,
    /// It reported this failure in the name of the target, and has not restarted since.
    failure: Option<ReportedFailure>,
}

/// Whether a device was asked for its version since it was told to upgrade, and restarted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// It was not, or it has restarted since.
    No,
    /// Before the server was restarted, it may be; the device had restarted then. That it runs the target counts, that it
    /// runs another version may be of before its restart.
    Perhaps,
    /// It was.
    Yes,
}

/// What is known of a command to upgrade (PCP 23).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Command {
    /// How often it was sent.
    sent: u8,
    /// When it was sent last; `None` when the device showed that it has no effect any more.
    sent_at: Option<Instant>,
    /// The device has it.
    delivered: bool,
    /// The device has said that it upgrades.
    accepted: bool,
}

impl Command {
    const fn first(now: Instant) -> Self {
        Self {
            sent: 1,
            sent_at: Some(now),
            delivered: false,
            accepted: false,
        }
    }

    /// Whether it may be sent again: the device shows no sign of having it, and had time to.
    fn may_repeat(&self, now: Instant, rules: &Rules<'_>) -> bool {
        let pause = Deadline::RepeatQuestion.duration(rules.upgrade);
        !self.delivered
            && self.sent < MAX_COMMANDS
            && self.sent_at.is_none_or(|at| now.since(at) >= pause)
    }

    /// The device shows that it has it.
    const fn confirm(&mut self) {
        self.delivered = true;
        self.accepted = true;
    }

    /// The device shows that it has it no longer.
    const fn lose(&mut self) {
        self.delivered = false;
        self.accepted = false;
        self.sent_at = None;
    }

    const fn again(&self, now: Instant) -> Self {
        Self {
            sent: self.sent + 1, // at most MAX_COMMANDS
            ..Self::first(now)
        }
    }
}

impl Execution {
    /// The device is told to upgrade now.
    pub(super) fn begin(now: Instant, rules: &Rules<'_>) -> Self {
        let until = now + Deadline::Execution.duration(rules.upgrade);
        Self {
            until,
            command: Command::first(now),
            ask_at: last_question(until, rules),
            asked: Asked::No,
            restarted: false,
            doubted: false,
            claimed: false,
            reported_early: false,
            failure: None,
        }
    }

    /// The installation goes on after a restart of the server.
    pub(super) fn resumed(
        now: Instant,
        until: Instant,
        delivered: bool,
        evidence: Option<&Evidence>,
        rules: &Rules<'_>,
    ) -> Self {
        Self {
            until,
            command: Command {
                sent: 1,
                sent_at: None,
                delivered,
                accepted: false,
            },
            // The command may not have left, or the result may have been missed.
            ask_at: now + Deadline::ResultGrace.duration(rules.upgrade),
            asked: match evidence {
                None => Asked::Perhaps,
                Some(_) => Asked::No,
            },
            // Evidence of the download ends with the device's restart.
            restarted: evidence.is_none(),
            doubted: false,
            claimed: evidence.is_some_and(|evidence| evidence.claimed),
            reported_early: false,
            failure: evidence
                .and_then(|evidence| evidence.failure.filter(|_| !evidence.commanded))
                .filter(|failure| failure.failed_in == FailedIn::Installation),
        }
    }

    pub(super) const fn is_delivered(&self) -> bool {
        self.command.delivered
    }

    pub(super) const fn was_asked(&self) -> bool {
        !matches!(self.asked, Asked::No)
    }

    pub(super) const fn is_asked_again(&self) -> bool {
        matches!(self.asked, Asked::Yes)
    }

    pub(super) fn on(mut self, now: Instant, event: Input, rules: &Rules<'_>) -> Next<Pcp> {
        match event {
            Input::Pcp(said) => self.on_pcp(now, said, rules),
            Input::VersionAnswered(_, Some(version), worth) if self.asked == Asked::Yes => {
                self.on_answer(now, version, worth, rules)
            }
            // It may have said so before its restart: it is asked at once.
            Input::VersionAnswered(_, Some(version), Credence::Sound)
                if self.restarted && version == rules.target =>
            {
                self.ask_at = now;
                self.stays()
            }
            // Back from its restart, without a result yet.
            Input::Registered { restarted: true } | Input::Restarted => {
                self.restarted = true;
                // What it answers to a question from before may have been on its way.
                self.asked = Asked::No;
                self.claimed = false;
                self.failure = None;
                self.ask_soon(now, rules);
                self.stays()
            }
            // One that may be at work has its time: until it restarts, or is asked once more.
            Input::Registered { .. } | Input::Heard => {
                if !self.reported_early && !self.doubted {
                    self.ask_soon(now, rules);
                }
                self.stays()
            }
            Input::Reached(Deadline::ResultGrace) => self.ask(now, rules),
            Input::Reached(Deadline::Execution) => self.runs_out(),
            _ => self.stays(),
        }
    }

    fn on_pcp(mut self, now: Instant, said: PcpInput, rules: &Rules<'_>) -> Next<Pcp> {
        match said {
            PcpInput::ExecuteDelivered => {
                self.command.delivered = true;
                self.stays()
            }
            PcpInput::ExecuteAnswered(ResultCode::SUCCESS) => {
                self.command.confirm();
                self.stays()
            }
            // A device that takes the command twice is in use the second time.
            PcpInput::ExecuteAnswered(code)
                if !self.command.accepted && code != ResultCode::DOWNLOAD_TIMED_OUT =>
            {
                Next::fails(Failure::ExecuteRefused(code))
            }
            PcpInput::UpgradeReported(code, version, _) => {
                self.on_report(now, code, version, rules)
            }
            // It has lost what it had downloaded, and the command with it.
            PcpInput::SegmentRequested(_) => {
                self.command.lose();
                self.stays()
            }
            // It reports the download again: it has not received the command.
            PcpInput::DownloadReported(ResultCode::SUCCESS)
                if self.command.may_repeat(now, rules) =>
            {
                self.command = self.command.again(now);
                Next::Goes(Pcp::Executing(self), vec![Action::Command])
            }
            PcpInput::DownloadReported(code) if !code.is_success() => {
                Next::fails(Failure::DownloadFailed(code))
            }
            PcpInput::DownloadReported(_)
            | PcpInput::ExecuteAnswered(_)
            | PcpInput::NotificationAnswered(..)
            | PcpInput::NotificationUndelivered => self.stays(),
        }
    }

    /// 24: the result, unless it shows by itself that the target runs.
    fn on_report(
        mut self,
        now: Instant,
        code: ResultCode,
        version: Version,
        rules: &Rules<'_>,
    ) -> Next<Pcp> {
        if version != rules.target {
            if !code.is_success() {
                return Next::fails(Failure::UpgradeFailed(code));
            }
            // Success in the name of another version: it has yet to restart into the target.
            if self.restarted {
                return Next::fails(Failure::WrongVersion(version));
            }
            self.command.confirm();
            self.reported_early = true;
            return self.stays();
        }
        // Failed, yet the target version? The device is asked which it runs.
        if !code.is_success() {
            let failed_in = FailedIn::Installation;
            self.failure = Some(ReportedFailure { failed_in, code });
        }
        self.ask(now, rules)
    }

    /// The device was asked which version it runs, after it was told to upgrade.
    fn on_answer(
        mut self,
        now: Instant,
        version: Version,
        credence: Credence,
        rules: &Rules<'_>,
    ) -> Next<Pcp> {
        let pause = Deadline::RepeatQuestion.duration(rules.upgrade);
        let target = version == rules.target;
        if let Some(failure) = self.failure
            && !target
        {
            return Next::fails(failure.into());
        }
        if self.command.may_repeat(now, rules) && self.failure.is_none() {
            // It never received the command, so there is nothing to have failed.
            self.command = self.command.again(now);
            self.asked = Asked::No;
            let grace = Deadline::ResultGrace.duration(rules.upgrade);
            self.ask_at = last_question(self.until, rules).max(now + grace);
            return Next::Goes(Pcp::Executing(self), vec![Action::Command]);
        }
        // A device that has not restarted may be at work, and tell what it runs, or what it is to become.
        let early = self.reported_early && now < last_question(self.until, rules);
        let premature = target && credence == Credence::Premature;
        if premature || (!self.restarted && (!self.doubted || early)) {
            self.asked = Asked::No;
            self.doubted = true;
            // What it says at once it says of a version that it cannot have installed yet.
            let time_enough = (self.command.sent_at).is_none_or(|at| now.since(at) >= pause);
            self.claimed = target && credence == Credence::Unproven && time_enough;
            // Once more, when a device has had time to restart: one that has reported a failure less than one at work.
            let pauses = if self.failure.is_some() { 2 } else { 5 };
            let latest = last_question(self.until, rules).max(now + pause);
            self.ask_at = (now + pause * pauses).min(latest);
            return self.stays();
        }
        match credence {
            _ if !target => Next::fails(Failure::WrongVersion(version)),
            Credence::Refuted(failure) => Next::fails(failure.into()),
            _ => Next::Ends(Outcome::Succeeded(Success::Upgraded)),
        }
    }

    /// The device is asked which version it runs.
    fn ask(mut self, now: Instant, rules: &Rules<'_>) -> Next<Pcp> {
        self.asked = Asked::Yes;
        self.ask_at = now + Deadline::RepeatQuestion.duration(rules.upgrade);
        Next::Goes(Pcp::Executing(self), vec![Action::AskVersion])
    }

    /// The device is to be asked when its own report has had time to come: in time for an answer, or at once.
    fn ask_soon(&mut self, now: Instant, rules: &Rules<'_>) {
        let grace = Deadline::ResultGrace.duration(rules.upgrade);
        let soon = if now + grace < self.until {
            now + grace
        } else {
            now
        };
        self.ask_at = self.ask_at.min(soon);
    }

    /// The limit of the execution has run out.
    const fn runs_out(self) -> Next<Pcp> {
        match self.failure {
            Some(failure) => Next::fails(failure_of(failure)),
            // It could not be asked once more: it sleeps, or the answer was lost.
            None if self.claimed => Next::Ends(Outcome::Succeeded(Success::Upgraded)),
            None => Next::fails(Failure::ExecutionTimedOut),
        }
    }

    const fn stays(self) -> Next<Pcp> {
        Next::stays(Pcp::Executing(self))
    }
}

const fn failure_of(failure: ReportedFailure) -> Failure {
    match failure.failed_in {
        FailedIn::Download => Failure::DownloadFailed(failure.code),
        FailedIn::Installation => Failure::UpgradeFailed(failure.code),
    }
}

impl From<ReportedFailure> for Failure {
    fn from(failure: ReportedFailure) -> Self {
        failure_of(failure)
    }
}

/// When a device that comes back in silence is asked for its version: before the limit runs out.
fn last_question(until: Instant, rules: &Rules<'_>) -> Instant {
    let execution = Deadline::Execution.duration(rules.upgrade);
    let ahead = Deadline::Version.duration(rules.upgrade).min(execution / 2);
    until.before(ahead)
}
