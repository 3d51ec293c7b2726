//! From the slot to the outcome: the download and the upgrade itself.

use std::time::Duration;

use pcp::ResultCode;

use super::{
    Action, Asked, Command, Event, MAX_PAUSE_FACTOR, MAX_SLOTS_RETURNED, Place, Rules, Sota, Step,
    ended, failed, stay,
};
use crate::{
    clock::Instant,
    ledger::{Deadline, FailedIn, Failure, Outcome, ReportedFailure, Success},
    package::Version,
    upgrade::Credence,
};

impl Sota {
    pub(super) fn on_downloading(mut self, now: Instant, event: Event, rules: &Rules<'_>) -> Step {
        let first_pause = Deadline::Nudge.duration(rules.upgrade);
        let Self::Downloading {
            place,
            accepted,
            segment,
            nudge_at,
            pause,
            nudges,
            doubted,
            ..
        } = &mut self
        else {
            return stay(self);
        };
        match event {
            Event::SegmentRequested(number) => {
                *accepted = true;
                // One that asks for the same segment again and again comes no further.
                if segment.replace(number) != Some(number) {
                    *pause = first_pause;
                }
                *nudges = 0;
                *nudge_at = now + *pause;
                stay(self)
            }
            Event::NotificationAnswered(ResultCode::SUCCESS, _) => {
                *accepted = true;
                *nudge_at = now + *pause;
                stay(self)
            }
            // A device that downloads may call itself in use when it is nudged.
            Event::NotificationAnswered(ResultCode::DEVICE_IN_USE, _) if *accepted => stay(self),
            // Nor does one run the version that has just asked for segments of it.
            Event::NotificationAnswered(ResultCode::ALREADY_LATEST, Credence::Premature)
                if *accepted =>
            {
                stay(self)
            }
            // It ran another version when it was asked: it is asked again before this is believed, however often it
            // says so.
            Event::NotificationAnswered(ResultCode::ALREADY_LATEST, _) => {
                *doubted = true;
                (self, vec![Action::AskVersion])
            }
            // It took the version before, has the command, and says twice that it runs it.
            Event::VersionAnswered(_, Some(version), Credence::Unproven)
                if *doubted && version == rules.target =>
            {
                ended(Outcome::Succeeded(Success::AlreadyCurrent))
            }
            Event::VersionAnswered(_, Some(_), _) if *doubted => {
                failed(Failure::NotificationRefused(ResultCode::ALREADY_LATEST))
            }
            Event::NotificationAnswered(code, _) => failed(Failure::NotificationRefused(code)),
            // It fell asleep before the notification: a slot is not held for it. A device that was
            // downloading when the server forgot what it had told it counts as accepted.
            Event::NotificationUndelivered
                if !*accepted && place.slots_returned < MAX_SLOTS_RETURNED =>
            {
                give_back(*place)
            }
            Event::DownloadReported(ResultCode::SUCCESS) => execute(now, *place, rules),
            Event::DownloadReported(code) => failed(Failure::DownloadFailed(code)),
            // It goes on by itself within seconds, or waits to be notified again.
            Event::Registered { .. } => {
                *nudge_at = now + Duration::from_secs(rules.upgrade.nudge_after_registration_s);
                stay(self)
            }
            // Nothing moves: others wait for the slot. It is notified again when it is heard and has one again.
            Event::Reached(Deadline::Nudge) if *nudges >= rules.upgrade.max_nudges => {
                if place.slots_returned < MAX_SLOTS_RETURNED {
                    give_back(*place)
                } else {
                    failed(Failure::DownloadStalled)
                }
            }
            Event::Reached(Deadline::Nudge) => {
                *nudges += 1; // at most `max_nudges`
                *pause = (*pause * 2).min(first_pause * MAX_PAUSE_FACTOR);
                *nudge_at = now + *pause;
                (self, vec![Action::Notify])
            }
            Event::Reached(Deadline::Download) => failed(Failure::DownloadTimedOut(*segment)),
            // 23 with 0x06 beside a repeated request is a device's own time-out, no failure.
            _ => stay(self),
        }
    }

    pub(super) fn on_executing(mut self, now: Instant, event: Event, rules: &Rules<'_>) -> Step {
        if let (
            Self::Executing {
                asked: Asked::Yes, ..
            },
            Event::VersionAnswered(_, Some(version), worth),
        ) = (&self, event)
        {
            return self.on_version_after_command(now, version, worth, rules);
        }
        let grace = Deadline::ResultGrace.duration(rules.upgrade);
        let pause = Deadline::RepeatQuestion.duration(rules.upgrade);
        let Self::Executing {
            until,
            command,
            ask_at,
            asked,
            restarted,
            doubted,
            claimed,
            reported_early,
            failed: failure,
            ..
        } = &mut self
        else {
            return stay(self);
        };
        // In time for an answer, or at once.
        let soon = if now + grace < *until {
            now + grace
        } else {
            now
        };
        match event {
            Event::ExecuteDelivered => {
                command.delivered = true;
                stay(self)
            }
            Event::ExecuteAnswered(ResultCode::SUCCESS) => {
                command.confirm();
                stay(self)
            }
            // A device that takes the command twice is in use the second time.
            Event::ExecuteAnswered(code)
                if !command.accepted && code != ResultCode::DOWNLOAD_TIMED_OUT =>
            {
                failed(Failure::ExecuteRefused(code))
            }
            // Success in the name of another version: it has yet to restart into the target.
            Event::UpgradeReported(ResultCode::SUCCESS, version, _) if version != rules.target => {
                if *restarted {
                    return failed(Failure::WrongVersion(version));
                }
                command.confirm();
                *reported_early = true;
                stay(self)
            }
            Event::UpgradeReported(code, version, _) if version != rules.target => {
                failed(Failure::UpgradeFailed(code))
            }
            // Failed, yet the target version? The device is asked which it runs.
            Event::UpgradeReported(..) | Event::Reached(Deadline::ResultGrace) => {
                if let Event::UpgradeReported(code, ..) = event
                    && !code.is_success()
                {
                    let failed_in = FailedIn::Installation;
                    *failure = Some(ReportedFailure { failed_in, code });
                }
                *asked = Asked::Yes;
                *ask_at = now + pause;
                (self, vec![Action::AskVersion])
            }
            // Back from its restart, without a result yet.
            Event::Registered { restarted: true } | Event::Restarted => {
                *restarted = true;
                // What it answers to a question from before may have been on its way.
                *asked = Asked::No;
                *claimed = false;
                *failure = None;
                *ask_at = (*ask_at).min(soon);
                stay(self)
            }
            // It may have said so before its restart: it is asked at once.
            Event::VersionAnswered(_, Some(version), Credence::Sound)
                if *restarted && version == rules.target =>
            {
                *ask_at = now;
                stay(self)
            }
            // One that may be at work has its time: until it restarts, or is asked once more.
            Event::Registered { .. } | Event::Heard => {
                if !*reported_early && !*doubted {
                    *ask_at = (*ask_at).min(soon);
                }
                stay(self)
            }
            // It has lost what it had downloaded, and the command with it.
            Event::SegmentRequested(_) => {
                command.lose();
                stay(self)
            }
            // It reports the download again: it has not received the command.
            Event::DownloadReported(ResultCode::SUCCESS) if command.may_repeat(now, rules) => {
                *command = command.again(now);
                (self, vec![Action::Execute])
            }
            Event::DownloadReported(ResultCode::SUCCESS) => stay(self),
            Event::DownloadReported(code) => failed(Failure::DownloadFailed(code)),
            Event::Reached(Deadline::Execution) => execution_over(*failure, *claimed),
            _ => stay(self),
        }
    }

    /// The device was asked which version it runs, after it was told to upgrade.
    fn on_version_after_command(
        mut self,
        now: Instant,
        version: Version,
        credence: Credence,
        rules: &Rules<'_>,
    ) -> Step {
        let grace = Deadline::ResultGrace.duration(rules.upgrade);
        let pause = Deadline::RepeatQuestion.duration(rules.upgrade);
        let Self::Executing {
            until,
            command,
            ask_at,
            asked,
            restarted,
            doubted,
            claimed,
            reported_early,
            failed: failure,
            ..
        } = &mut self
        else {
            return stay(self);
        };
        // Once more, when a device has had time to restart: one that has reported a failure less than one at work.
        let pauses = if failure.is_some() { 2 } else { 5 };
        let once_more = (now + pause * pauses).min(last_question(*until, rules).max(now + pause));
        let target = version == rules.target;
        if let Some(failure) = *failure
            && !target
        {
            return failed(failure.into());
        }
        if command.may_repeat(now, rules) && failure.is_none() {
            // It never received the command, so there is nothing to have failed.
            *command = command.again(now);
            *asked = Asked::No;
            *ask_at = last_question(*until, rules).max(now + grace);
            return (self, vec![Action::Execute]);
        }
        // A device that has not restarted may be at work, and tell what it runs, or what it is to become.
        let early = *reported_early && now < last_question(*until, rules);
        let premature = target && credence == Credence::Premature;
        if premature || (!*restarted && (!*doubted || early)) {
            *asked = Asked::No;
            *doubted = true;
            // What it says at once it says of a version that it cannot have installed yet.
            let time_enough = (command.sent_at).is_none_or(|at| now.since(at) >= pause);
            *claimed = target && credence == Credence::Unproven && time_enough;
            *ask_at = once_more;
            return stay(self);
        }
        match credence {
            _ if !target => failed(Failure::WrongVersion(version)),
            Credence::Refuted(failure) => failed(failure.into()),
            _ => ended(Outcome::Succeeded(Success::Upgraded)),
        }
    }
}

impl From<ReportedFailure> for Failure {
    fn from(failure: ReportedFailure) -> Self {
        match failure.failed_in {
            FailedIn::Download => Self::DownloadFailed(failure.code),
            FailedIn::Installation => Self::UpgradeFailed(failure.code),
        }
    }
}

/// The limit of the execution has run out.
fn execution_over(failure: Option<ReportedFailure>, claimed: bool) -> Step {
    match failure {
        Some(failure) => failed(failure.into()),
        // It could not be asked once more: it sleeps, or the answer was lost.
        None if claimed => ended(Outcome::Succeeded(Success::Upgraded)),
        None => failed(Failure::ExecutionTimedOut),
    }
}

/// The slot goes to the next, and the device keeps its place in the queue.
fn give_back(place: Place) -> Step {
    let place = Place {
        slots_returned: place.slots_returned + 1, // at most MAX_SLOTS_RETURNED
        ..place
    };
    stay(Sota::WaitingForSlot { place })
}

pub(super) fn execute(now: Instant, place: Place, rules: &Rules<'_>) -> Step {
    let until = now + Deadline::Execution.duration(rules.upgrade);
    let state = Sota::Executing {
        until,
        place,
        command: Command::first(now),
        ask_at: last_question(until, rules),
        asked: Asked::No,
        restarted: false,
        doubted: false,
        claimed: false,
        reported_early: false,
        failed: None,
    };
    (state, vec![Action::Execute])
}

/// When a device that comes back in silence is asked for its version: before the limit runs out.
pub(super) fn last_question(until: Instant, rules: &Rules<'_>) -> Instant {
    let execution = Deadline::Execution.duration(rules.upgrade);
    let ahead = Deadline::Version.duration(rules.upgrade).min(execution / 2);
    until.before(ahead)
}
