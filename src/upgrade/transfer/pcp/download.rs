use std::time::Duration;

use ::pcp::ResultCode;

use super::{Execution, Next, Pcp, PcpInput};
use crate::{
    clock::Instant,
    ledger::{Deadline, Failure, Outcome, Success},
    upgrade::{Action, Credence, Input, Rules},
};

/// A nudge that stays without effect doubles the pause, up to this many times the first one.
const MAX_PAUSE_FACTOR: u32 = 8;

/// The device was notified, and fetches segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// Limit.
    pub(super) until: Instant,
    /// The device has accepted the version, in words or by asking for a segment.
    pub(super) accepted: bool,
    /// The segment asked for last.
    pub(super) segment: Option<u16>,
    /// When it is nudged, unless it asks for something before.
    pub(super) nudge_at: Instant,
    /// How long it may be quiet: longer after each nudge that brought no progress.
    pause: Duration,
    /// Nudges since it asked for a segment.
    pub(super) nudges: u8,
    /// It calls the version its own, and was asked for its version once more.
    doubted: bool,
}

impl Download {
    /// One that begins.
    pub(super) fn new(now: Instant, until: Instant, rules: &Rules<'_>) -> Self {
        Self::resumed(now, until, false, None, rules)
    }

    /// One that goes on after a restart.
    pub(super) fn resumed(
        now: Instant,
        until: Instant,
        accepted: bool,
        segment: Option<u16>,
        rules: &Rules<'_>,
    ) -> Self {
        let pause = Deadline::Nudge.duration(rules.upgrade);
        Self {
            until,
            accepted,
            segment,
            nudge_at: now + pause,
            pause,
            nudges: 0,
            doubted: false,
        }
    }

    pub(super) fn on(
        mut self,
        now: Instant,
        event: Input,
        rules: &Rules<'_>,
        may_return: bool,
    ) -> Next<Pcp> {
        match event {
            Input::Pcp(said) => self.on_pcp(now, said, rules, may_return),
            // It took the version before, has the command, and says twice that it runs it.
            Input::VersionAnswered(_, Some(version), Credence::Unproven)
                if self.doubted && version == rules.target =>
            {
                Next::Ends(Outcome::Succeeded(Success::AlreadyCurrent))
            }
            Input::VersionAnswered(_, Some(_), _) if self.doubted => {
                Next::fails(Failure::NotificationRefused(ResultCode::ALREADY_LATEST))
            }
            // It goes on by itself within seconds, or waits to be notified again.
            Input::Registered { .. } => {
                self.nudge_at = now + Duration::from_secs(rules.upgrade.nudge_after_registration_s);
                self.stays()
            }
            // Nothing moves: others wait for the slot. It is notified again when it is heard and has one again.
            Input::Reached(Deadline::Nudge) if self.nudges >= rules.upgrade.max_nudges => {
                if may_return {
                    Next::GivesBack
                } else {
                    Next::fails(Failure::DownloadStalled)
                }
            }
            Input::Reached(Deadline::Nudge) => {
                self.nudges += 1; // at most `max_nudges`
                let longest = Deadline::Nudge.duration(rules.upgrade) * MAX_PAUSE_FACTOR;
                self.pause = (self.pause * 2).min(longest);
                self.nudge_at = now + self.pause;
                Next::Goes(Pcp::Downloading(self), vec![Action::Offer])
            }
            Input::Reached(Deadline::Download) => {
                Next::fails(Failure::DownloadTimedOut(self.segment))
            }
            _ => self.stays(),
        }
    }

    fn on_pcp(
        mut self,
        now: Instant,
        said: PcpInput,
        rules: &Rules<'_>,
        may_return: bool,
    ) -> Next<Pcp> {
        match said {
            PcpInput::SegmentRequested(number) => {
                self.accepted = true;
                // One that asks for the same segment again and again comes no further.
                if self.segment.replace(number) != Some(number) {
                    self.pause = Deadline::Nudge.duration(rules.upgrade);
                }
                self.nudges = 0;
                self.nudge_at = now + self.pause;
                self.stays()
            }
            PcpInput::NotificationAnswered(ResultCode::SUCCESS, _) => {
                self.accepted = true;
                self.nudge_at = now + self.pause;
                self.stays()
            }
            // A device that downloads may call itself in use when it is nudged. Nor does one run the version that has just
            // asked for segments of it.
            PcpInput::NotificationAnswered(ResultCode::DEVICE_IN_USE, _)
            | PcpInput::NotificationAnswered(ResultCode::ALREADY_LATEST, Credence::Premature)
                if self.accepted =>
            {
                self.stays()
            }
            // It ran another version when it was asked: it is asked again before this is believed, however often it
            // says so.
            PcpInput::NotificationAnswered(ResultCode::ALREADY_LATEST, _) => {
                self.doubted = true;
                Next::Goes(Pcp::Downloading(self), vec![Action::AskVersion])
            }
            PcpInput::NotificationAnswered(code, _) => {
                Next::fails(Failure::NotificationRefused(code))
            }
            // It fell asleep before the notification: a slot is not held for it. A device that was
            // downloading when the server forgot what it had told it counts as accepted.
            PcpInput::NotificationUndelivered if !self.accepted && may_return => Next::GivesBack,
            PcpInput::DownloadReported(ResultCode::SUCCESS) => {
                let execution = Execution::begin(now, rules);
                Next::Goes(Pcp::Executing(execution), vec![Action::Command])
            }
            PcpInput::DownloadReported(code) => Next::fails(Failure::DownloadFailed(code)),
            // 23 with 0x06 beside a repeated request is a device's own time-out, no failure.
            PcpInput::NotificationUndelivered
            | PcpInput::ExecuteDelivered
            | PcpInput::ExecuteAnswered(_)
            | PcpInput::UpgradeReported(..) => self.stays(),
        }
    }

    const fn stays(self) -> Next<Pcp> {
        Next::stays(Pcp::Downloading(self))
    }
}
