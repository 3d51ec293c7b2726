//! The PCP upgrade client.
//!
//! Its handlers follow the flow: asked for the version (19), notified (20), segments (21), download
//! reported (22); told to upgrade (23), restarted, result reported (24) are in `install`. Whatever expects
//! an answer is repeated a few times, then the device falls silent until the server speaks again.

use pcp::{DeviceMessage, PlatformMessage, ResultCode, Version};

use super::{
    Device, Outcome,
    awaited::{Awaited, Uplink},
    held::Held,
    timers::Timer,
};
use crate::fault::Fault;

/// What a device with a small buffer can hold of a frame.
const SMALL_BUFFER_LEN: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Idle,
    Downloading,
    Downloaded,
    Installing,
    Silent,
    /// Deaf to everything but the question for its version.
    Deaf,
}

/// What the device puts off for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Later {
    Say(Uplink),
    Install,
    /// What was to be reported before the restart is reported.
    Restart,
}

#[derive(Debug, Clone)]
pub(super) struct Upgrade {
    pub(super) version: Version,
    /// What it says it runs instead, until it restarts.
    pub(super) claim: Option<Version>,
    pub(super) stage: Stage,
    pub(super) outcome: Option<Outcome>,
    pub(super) held: Option<Box<Held>>,
    pub(super) queried_since_restart: bool,
    pub(super) awaited: Option<Awaited>,
    pub(super) later: Option<Later>,
    /// The fault that strikes once has struck.
    struck: bool,
    pub(super) reception: Reception,
}

/// What becomes of the answers to requests for segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reception {
    Good,
    /// They do not arrive.
    Deaf,
    /// One was misread, which a repeat does not mend.
    Misread,
}

impl Upgrade {
    pub(super) const fn new(version: Version) -> Self {
        Self {
            version,
            claim: None,
            stage: Stage::Idle,
            outcome: None,
            held: None,
            queried_since_restart: false,
            awaited: None,
            later: None,
            struck: false,
            reception: Reception::Good,
        }
    }

    /// Whether the device has yet to report something, or to do something.
    pub(super) fn has_something_to_say(&self) -> bool {
        let awaits = self
            .awaited
            .is_some_and(|awaited| awaited.uplink != Uplink::Version);
        awaits || self.later.is_some()
    }
}

impl Device {
    /// A write to /19/1/0.
    pub(super) fn on_frame(&mut self, now_ms: u64, frame: &[u8]) {
        if self.upgrade.stage == Stage::Silent {
            return;
        }
        if self.has(Fault::SmallBuffer) && !self.fits_small_buffer(frame) {
            return;
        }
        let Ok(message) = PlatformMessage::decode(frame) else {
            self.counters.bad_frames += 1;
            return;
        };
        match message {
            PlatformMessage::VersionQuery => self.on_version_query(now_ms),
            // Even of being notified it takes no more than that nobody waits for the version.
            PlatformMessage::NewVersion { .. } if self.upgrade.stage == Stage::Deaf => {
                self.stop_waiting();
            }
            _ if self.upgrade.stage == Stage::Deaf => {}
            PlatformMessage::NewVersion {
                version,
                segment_size,
                segment_count,
                check_code,
            } => {
                let offered = Held::new(version, segment_size, segment_count, check_code);
                self.on_new_version(now_ms, offered);
            }
            PlatformMessage::SegmentResponse {
                result,
                segment,
                data,
            } => self.on_segment(now_ms, result, segment, data),
            PlatformMessage::DownloadReportResponse { result } => {
                if matches!(self.awaited_uplink(), Some(Uplink::DownloadReport(_))) {
                    self.stop_waiting();
                    if !result.is_success() && self.upgrade.stage == Stage::Downloaded {
                        self.end(Outcome::Abandoned(result));
                    }
                }
            }
            PlatformMessage::Execute => self.on_execute(now_ms),
            PlatformMessage::UpgradeReportResponse { .. } => {
                if matches!(self.awaited_uplink(), Some(Uplink::UpgradeReport(_))) {
                    self.reported(now_ms);
                }
            }
            PlatformMessage::Unknown { .. } => self.counters.bad_frames += 1,
        }
    }

    /// The widely copied library compares the data length before it swaps the two bytes, so that a low
    /// byte of 0 makes 0x0100 a length of 1.
    fn fits_small_buffer(&mut self, frame: &[u8]) -> bool {
        let misread = matches!(frame, [0xFF, 0xFE, _, 21, _, _, high, 0, ..] if *high > 0);
        let fits = !misread && frame.len() <= SMALL_BUFFER_LEN;
        if !fits {
            self.upgrade.reception = Reception::Misread;
        }
        fits
    }

    fn on_version_query(&mut self, now_ms: u64) {
        self.counters.version_queries += 1;
        self.upgrade.queried_since_restart = true;
        if let Some(Fault::RefuseVersionQuery(result)) = self.spec.fault {
            self.upgrade.outcome = Some(Outcome::Refused(result));
            let version = None;
            self.send(now_ms, DeviceMessage::VersionResponse { result, version });
        } else if self.upgrade.has_something_to_say() {
            self.send_uplink(now_ms, Uplink::Version);
        } else {
            self.ask(now_ms, Uplink::Version);
        }
    }

    fn on_new_version(&mut self, now_ms: u64, offered: Held) {
        self.counters.notifications += 1;
        if self.awaited_uplink() == Some(Uplink::Version) {
            self.stop_waiting();
        }
        if let Some(result) = self.objection(&offered) {
            self.send(now_ms, DeviceMessage::NotificationResponse { result });
            return;
        }
        let resumes = self
            .upgrade
            .held
            .as_ref()
            .is_some_and(|held| held.is_of_same_package(&offered));
        self.claim(offered.version());
        if !resumes {
            self.upgrade.held = Some(Box::new(offered));
        }
        self.upgrade.outcome = None;
        self.upgrade.reception = Reception::Good;
        if !self.has(Fault::NeverAnswersNotification) {
            let result = ResultCode::SUCCESS;
            self.send(now_ms, DeviceMessage::NotificationResponse { result });
        }
        let complete = self
            .upgrade
            .held
            .as_ref()
            .is_some_and(|held| held.is_complete());
        let (stage, uplink) = if complete {
            let report = Uplink::DownloadReport(ResultCode::SUCCESS);
            (Stage::Downloaded, report)
        } else {
            (Stage::Downloading, Uplink::Segment)
        };
        self.upgrade.stage = stage;
        let delay_ms = self.spec.timing.first_request_delay_ms;
        self.put_off(now_ms, delay_ms, Later::Say(uplink));
    }

    /// Why the device does not take an offered version. Refusals of its own making end the upgrade.
    fn objection(&mut self, offered: &Held) -> Option<ResultCode> {
        let refusal = match self.spec.fault {
            Some(Fault::RefuseNotification(result)) => Some(result),
            Some(Fault::WeakSignal) => Some(ResultCode::POOR_SIGNAL),
            _ => None,
        };
        if let Some(result) = refusal {
            self.upgrade.outcome = Some(Outcome::Refused(result));
            return refusal;
        }
        if offered.version() == self.upgrade.version {
            return Some(ResultCode::ALREADY_LATEST);
        }
        if self.upgrade.stage == Stage::Installing {
            return Some(ResultCode::DEVICE_IN_USE);
        }
        offered.is_empty().then_some(ResultCode::INTERNAL_ERROR)
    }

    /// Asks for the first missing segment, unless the ordered fault strikes there.
    fn request_segment(&mut self, now_ms: u64) {
        let Some(held) = &self.upgrade.held else {
            return;
        };
        let strikes = self
            .spec
            .fault
            .and_then(|fault| fault.strikes_before(held.segment_count()))
            .is_some_and(|segment| held.next() >= segment);
        if !strikes || self.upgrade.struck {
            self.ask(now_ms, Uplink::Segment);
            return;
        }
        self.upgrade.struck = true;
        match self.spec.fault {
            Some(Fault::StopsMidDownload(_)) => {
                self.upgrade.stage = Stage::Silent;
                self.upgrade.outcome = Some(Outcome::WentSilent);
            }
            Some(Fault::SilentAfterOneRepeat(_)) => {
                self.upgrade.reception = Reception::Deaf;
                self.ask_with_repeats(now_ms, Uplink::Segment, 1);
            }
            Some(Fault::RebootsInDownload(_)) => {
                self.await_answer(Uplink::Segment, self.spec.timing.repeats);
                self.restart(now_ms, self.spec.timing.restart_ms);
            }
            Some(Fault::DeafDownload(_)) => {
                self.stop_waiting();
                self.upgrade.stage = Stage::Deaf;
                self.upgrade.outcome = Some(Outcome::WentSilent);
            }
            Some(Fault::ClaimsCurrentMidDownload(_)) => {
                self.stop_waiting();
                self.upgrade.stage = Stage::Idle;
                self.lose_network(now_ms);
            }
            Some(Fault::LosesProgress(_)) => {
                self.upgrade.held = None;
                self.upgrade.stage = Stage::Idle;
                self.restart(now_ms, self.spec.timing.restart_ms);
            }
            Some(Fault::ExecuteTimeoutNoise(_)) => {
                self.ask(now_ms, Uplink::Segment);
                let result = ResultCode::DOWNLOAD_TIMED_OUT;
                self.send(now_ms, DeviceMessage::ExecuteResponse { result });
                self.send_uplink(now_ms, Uplink::Segment);
            }
            _ => {}
        }
    }

    fn on_segment(&mut self, now_ms: u64, result: ResultCode, segment: Option<u16>, data: &[u8]) {
        if self.upgrade.reception == Reception::Deaf {
            return;
        }
        let awaited = self.awaited_uplink() == Some(Uplink::Segment);
        let Some(held) = self.upgrade.held.as_mut().filter(|_| awaited) else {
            self.counters.segments_ignored += 1;
            return;
        };
        if !result.is_success() {
            self.stop_waiting();
            self.end(Outcome::Abandoned(result));
            return;
        }
        if segment != Some(held.next()) || !held.take(data, self.spec.behaviour.keep_image) {
            self.counters.segments_ignored += 1;
            return;
        }
        let complete = held.is_complete();
        self.counters.segments_received += 1;
        self.stop_waiting();
        if complete {
            self.finish_download(now_ms);
        } else {
            let delay_ms = self.spec.timing.segment_delay_ms;
            self.put_off(now_ms, delay_ms, Later::Say(Uplink::Segment));
        }
    }

    fn finish_download(&mut self, now_ms: u64) {
        let Some(held) = &self.upgrade.held else {
            return;
        };
        let intact = match self.spec.fault {
            // Who takes every segment as full cannot tell padding from content to verify it.
            Some(Fault::FullSegments) => !held.has_short_tail(),
            _ => held.is_intact(),
        };
        let status = match self.spec.fault {
            Some(Fault::ReportDownload(code)) => code,
            _ if !intact => ResultCode::CHECK_FAILED,
            _ => ResultCode::SUCCESS,
        };
        if status.is_success() {
            self.upgrade.stage = Stage::Downloaded;
            if self.has(Fault::HoldsDownloadReport) {
                return;
            }
        } else {
            self.end(Outcome::DownloadFailed(status));
        }
        self.ask(now_ms, Uplink::DownloadReport(status));
    }

    pub(super) fn later_due(&mut self, now_ms: u64) {
        match self.upgrade.later.take() {
            Some(Later::Say(Uplink::Segment)) => self.request_segment(now_ms),
            Some(Later::Say(uplink)) => self.ask(now_ms, uplink),
            Some(Later::Install) => self.install(now_ms),
            Some(Later::Restart) => self.restart_at_last(now_ms),
            None => {}
        }
    }

    /// The upgrade is over without the new version; what was downloaded is discarded.
    pub(super) fn end(&mut self, outcome: Outcome) {
        self.upgrade.outcome = Some(outcome);
        self.upgrade.stage = Stage::Idle;
        self.upgrade.held = None;
    }

    /// A restart: what the device was about to say it says when it is observed again.
    pub(super) fn forget_what_was_put_off(&mut self) {
        if let Some(Later::Say(uplink)) = self.upgrade.later.take() {
            self.await_answer(uplink, self.spec.timing.repeats);
        }
    }

    pub(super) fn put_off(&mut self, now_ms: u64, delay_ms: u64, later: Later) {
        self.upgrade.later = Some(later);
        self.timers.set(Timer::Later, now_ms, delay_ms);
    }
}
