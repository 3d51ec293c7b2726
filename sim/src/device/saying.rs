//! What the upgrade client says, and says again while it goes unanswered.

use pcp::{DeviceMessage, ResultCode};

use super::{
    Device, Outcome,
    awaited::{Awaited, Uplink},
    claim,
    timers::Timer,
    upgrade::{Reception, Stage},
};
use crate::fault::Fault;

/// Longer than every frame that a device sends.
const FRAME_LEN: usize = 32;

impl Device {
    /// The device is observed (again): what waited for that is said now.
    pub(super) fn resume(&mut self, now_ms: u64) {
        let Some(awaited) = self.upgrade.awaited else {
            return;
        };
        if self.upgrade.stage != Stage::Silent {
            self.ask_with_repeats(now_ms, awaited.uplink, awaited.repeats_left);
        }
    }

    pub(super) fn repeat_due(&mut self, now_ms: u64) {
        let Some(awaited) = self.upgrade.awaited else {
            return;
        };
        if self.notification_token().is_none() {
            return; // until observed again
        }
        match awaited.repeats_left.checked_sub(1) {
            Some(left) => self.ask_with_repeats(now_ms, awaited.uplink, left),
            None => self.give_up(now_ms),
        }
    }

    fn give_up(&mut self, now_ms: u64) {
        let awaited = self.awaited_uplink();
        if let Some(report @ Uplink::UpgradeReport(_)) = awaited {
            return self.report_unanswered(now_ms, report);
        }
        let downloading = awaited == Some(Uplink::Segment);
        self.stop_waiting();
        if downloading && self.upgrade.reception == Reception::Misread {
            let status = ResultCode::DOWNLOAD_TIMED_OUT;
            self.end(Outcome::DownloadFailed(status));
            self.ask(now_ms, Uplink::DownloadReport(status));
        }
    }

    pub(super) fn awaited_uplink(&self) -> Option<Uplink> {
        self.upgrade.awaited.map(|awaited| awaited.uplink)
    }

    pub(super) fn stop_waiting(&mut self) {
        self.upgrade.awaited = None;
        self.timers.stop(Timer::Repeat);
    }

    pub(super) const fn await_answer(&mut self, uplink: Uplink, repeats_left: u8) {
        self.upgrade.awaited = Some(Awaited {
            uplink,
            repeats_left,
        });
    }

    pub(super) fn ask(&mut self, now_ms: u64, uplink: Uplink) {
        self.ask_with_repeats(now_ms, uplink, self.spec.timing.repeats);
    }

    pub(super) fn ask_with_repeats(&mut self, now_ms: u64, uplink: Uplink, repeats: u8) {
        self.await_answer(uplink, repeats);
        self.timers
            .set(Timer::Repeat, now_ms, self.spec.timing.repeat_after_ms);
        self.send_uplink(now_ms, uplink);
    }

    pub(super) fn send_uplink(&mut self, now_ms: u64, uplink: Uplink) {
        let version = self.told_version();
        let message = match uplink {
            Uplink::Version => DeviceMessage::VersionResponse {
                result: ResultCode::SUCCESS,
                version: Some(version),
            },
            Uplink::Segment => {
                let Some(held) = &self.upgrade.held else {
                    return;
                };
                DeviceMessage::SegmentRequest {
                    version: held.version(),
                    segment: held.next(),
                }
            }
            Uplink::DownloadReport(status) => DeviceMessage::DownloadReport { status },
            Uplink::UpgradeReport(result) => DeviceMessage::UpgradeReport { result, version },
        };
        self.send(now_ms, message);
    }

    pub(super) fn send(&mut self, now_ms: u64, message: DeviceMessage<'_>) {
        let mut buf = [0; FRAME_LEN];
        let Ok(frame) = message.encode(&mut buf) else {
            debug_assert!(false, "{message:?} does not fit");
            return;
        };
        let sent = if self.has(Fault::DirtyVersion) {
            let mut frame = frame.to_vec();
            claim::soil(&mut frame, self.spec.seed);
            self.notify(now_ms, &frame)
        } else {
            self.notify(now_ms, frame)
        };
        if !sent {
            return;
        }
        match message {
            DeviceMessage::SegmentRequest { .. } => self.counters.segments_requested += 1,
            DeviceMessage::UpgradeReport { .. } => self.counters.results_reported += 1,
            _ => {}
        }
    }
}
