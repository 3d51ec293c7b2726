//! From the slot to the outcome: the download and the upgrade itself.

use pcp::ResultCode;

use super::{
    Action, Command, Event, MAX_PAUSE_FACTOR, MAX_SLOTS_RETURNED, Place, Rules, Sota, Step, failed,
    stay,
};
use crate::{
    clock::Instant,
    upgrade::{Deadline, Failure},
};

impl Sota {
    pub(super) fn on_downloading(mut self, now: Instant, event: Event, rules: &Rules<'_>) -> Step {
        let first_pause = Deadline::Nudge.duration(rules.upgrade);
        let Self::Downloading {
            place,
            accepted,
            segment,
            active_at,
            pause,
            doubted,
            ..
        } = &mut self
        else {
            return stay(self);
        };
        match event {
            Event::SegmentRequested(number) => {
                *accepted = true;
                *segment = Some(number);
                *active_at = now;
                *pause = first_pause;
                stay(self)
            }
            Event::NotificationAnswered(ResultCode::SUCCESS) => {
                *accepted = true;
                *active_at = now;
                *pause = first_pause;
                stay(self)
            }
            // A device that downloads may call itself in use when it is nudged.
            Event::NotificationAnswered(ResultCode::DEVICE_IN_USE) if *accepted => stay(self),
            // It ran another version when it was asked: it is asked again before this is believed.
            Event::NotificationAnswered(ResultCode::ALREADY_LATEST) if !*doubted => {
                *doubted = true;
                (self, vec![Action::AskVersion])
            }
            Event::VersionAnswered(_, Some(_)) if *doubted => {
                failed(Failure::NotificationRefused(ResultCode::ALREADY_LATEST))
            }
            Event::NotificationAnswered(code) => failed(Failure::NotificationRefused(code)),
            // It fell asleep before the notification: a slot is not held for it. A device that was
            // downloading when the server forgot what it had told it counts as accepted.
            Event::NotificationUndelivered
                if !*accepted && place.slots_returned < MAX_SLOTS_RETURNED =>
            {
                let place = Place {
                    slots_returned: place.slots_returned + 1,
                    ..*place
                };
                stay(Self::WaitingForSlot { place })
            }
            Event::DownloadReported(ResultCode::SUCCESS) => execute(now, *place, rules),
            Event::DownloadReported(code) => failed(Failure::DownloadFailed(code)),
            // It is awake: what a growing pause put off is due now.
            Event::Registered | Event::Heard => {
                *pause = first_pause;
                stay(self)
            }
            Event::Reached(Deadline::Nudge) => {
                *active_at = now;
                *pause = (*pause * 2).min(first_pause * MAX_PAUSE_FACTOR);
                (self, vec![Action::Notify])
            }
            Event::Reached(Deadline::Download) => failed(Failure::DownloadTimedOut(*segment)),
            // 23 with 0x06 beside a repeated request is a device's own time-out, no failure.
            _ => stay(self),
        }
    }

    pub(super) fn on_executing(mut self, now: Instant, event: Event, rules: &Rules<'_>) -> Step {
        let grace = Deadline::ResultGrace.duration(rules.upgrade);
        let pause = Deadline::RepeatQuestion.duration(rules.upgrade);
        let Self::Executing {
            until,
            command,
            ask_at,
            asked,
            restarted,
            still_old,
            ..
        } = &mut self
        else {
            return stay(self);
        };
        match event {
            Event::ExecuteDelivered => {
                command.delivered = true;
                stay(self)
            }
            Event::ExecuteAnswered(ResultCode::SUCCESS) => {
                command.delivered = true;
                command.accepted = true;
                stay(self)
            }
            // A device that takes the command twice is in use the second time.
            Event::ExecuteAnswered(code)
                if !command.accepted && code != ResultCode::DOWNLOAD_TIMED_OUT =>
            {
                failed(Failure::ExecuteRefused(code))
            }
            Event::UpgradeReported(ResultCode::SUCCESS, version) => {
                failed(Failure::WrongVersion(version))
            }
            Event::UpgradeReported(code, version) if version != rules.target => {
                failed(Failure::UpgradeFailed(code))
            }
            // Failed, yet the target version? The device is asked which it runs.
            Event::UpgradeReported(..) | Event::Reached(Deadline::ResultGrace) => {
                *asked = true;
                *ask_at = now + pause;
                (self, vec![Action::AskVersion])
            }
            // Back from its restart, without a result yet.
            Event::Registered => {
                *restarted = true;
                *ask_at = (*ask_at).min(now + grace);
                stay(self)
            }
            Event::Heard => {
                *ask_at = (*ask_at).min(now + grace);
                stay(self)
            }
            Event::VersionAnswered(_, Some(_)) if *asked && command.may_repeat(now, rules) => {
                // It never received the command, so there is nothing to have failed.
                *command = command.again(now);
                *asked = false;
                *ask_at = last_question(*until, rules).max(now + grace);
                (self, vec![Action::Execute])
            }
            // A device that has not restarted may be at work, and say so truthfully. Once.
            Event::VersionAnswered(_, Some(_)) if *asked && !*restarted && !*still_old => {
                *asked = false;
                *still_old = true;
                *ask_at = (now + pause * 5).min(last_question(*until, rules).max(now + pause));
                stay(self)
            }
            Event::VersionAnswered(_, Some(version)) if *asked => {
                failed(Failure::WrongVersion(version))
            }
            // It has lost what it had downloaded, and the command with it.
            Event::SegmentRequested(_) => {
                command.delivered = false;
                command.accepted = false;
                command.sent_at = None;
                stay(self)
            }
            // It reports the download again: it has not received the command.
            Event::DownloadReported(ResultCode::SUCCESS) if command.may_repeat(now, rules) => {
                *command = command.again(now);
                (self, vec![Action::Execute])
            }
            Event::DownloadReported(ResultCode::SUCCESS) => stay(self),
            Event::DownloadReported(code) => failed(Failure::DownloadFailed(code)),
            Event::Reached(Deadline::Execution) => failed(Failure::ExecutionTimedOut),
            _ => stay(self),
        }
    }
}

pub(super) fn execute(now: Instant, place: Place, rules: &Rules<'_>) -> Step {
    let until = now + Deadline::Execution.duration(rules.upgrade);
    let state = Sota::Executing {
        until,
        place,
        command: Command::first(now),
        ask_at: last_question(until, rules),
        asked: false,
        restarted: false,
        still_old: false,
    };
    (state, vec![Action::Execute])
}

/// When a device that comes back in silence is asked for its version: before the limit runs out.
pub(super) fn last_question(until: Instant, rules: &Rules<'_>) -> Instant {
    let execution = Deadline::Execution.duration(rules.upgrade);
    let ahead = Deadline::Version.duration(rules.upgrade).min(execution / 2);
    until.before(ahead)
}
