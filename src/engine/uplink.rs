//! PCP messages from a device.
//!
//! A device repeats what goes unanswered; a repeat gets the same answer and changes nothing. What a
//! device says also shows what it has received: requests that its message answers are not repeated.

use std::time::Duration;

use pcp::{DeviceMessage, MessageCode, PlatformMessage, ResultCode, Version};

use super::{
    Change, Engine,
    account::{Fate, Said},
    asked::Tag,
    device::{LastDownload, LastReport, REPORT_REPEATS},
    key::DeviceKey,
};
use crate::upgrade::{Event, Sota, Stage};

impl Engine {
    pub(super) fn uplink(&mut self, key: DeviceKey, frame: &[u8]) {
        let Ok(message) = DeviceMessage::decode(frame) else {
            return self.counters.pcp_malformed += 1;
        };
        if let Some(said) = Said::of(&message) {
            self.said(key, said);
        }
        match message {
            DeviceMessage::SegmentRequest { version, segment } => {
                self.segment_requested(key, version, segment);
            }
            DeviceMessage::VersionResponse { result, version } => {
                self.device_mut(key).link.cancel(|tag| *tag == Tag::Version);
                self.fared(key, Tag::Version, Fate::Acknowledged);
                if let Some(version) = version {
                    self.learn_version(key, version);
                }
                self.fire(key, Event::VersionAnswered(result, version));
            }
            DeviceMessage::NotificationResponse { result } => {
                self.device_mut(key).link.cancel(|tag| *tag == Tag::Notify);
                self.fared(key, Tag::Notify, Fate::Acknowledged);
                self.fire(key, Event::NotificationAnswered(result));
            }
            DeviceMessage::DownloadReport { status } => self.download_reported(key, status),
            DeviceMessage::ExecuteResponse { result } => {
                if result != ResultCode::DOWNLOAD_TIMED_OUT {
                    self.device_mut(key).link.cancel(|tag| *tag == Tag::Execute);
                    self.fared(key, Tag::Execute, Fate::Acknowledged);
                }
                self.fire(key, Event::ExecuteAnswered(result));
            }
            DeviceMessage::UpgradeReport { result, version } => {
                self.upgrade_reported(key, result, version);
            }
            DeviceMessage::Unknown { .. } => self.counters.pcp_unexpected += 1,
        }
    }

    /// 21: the short way. Nothing here waits, searches or stores.
    fn segment_requested(&mut self, key: DeviceKey, version: Version, segment: u16) {
        let Some(session) = self.device(key).session.as_ref() else {
            return self.refuse_segment(key, ResultCode::NO_SUCH_TASK, None);
        };
        if session.package.identity.version != version {
            return self.refuse_segment(key, ResultCode::NO_SUCH_TASK, None);
        }
        if !session.sota.serves_segments() {
            // Its upgrade is to come, or its slot was given back: it is notified when it is its turn.
            return self.counters.segments_deferred += 1;
        }
        let package = session.package.clone();
        let Some(frame) = package.frames.get(segment) else {
            return self.refuse_segment(key, ResultCode::NO_SUCH_SEGMENT, Some(segment));
        };
        self.fire(key, Event::SegmentRequested(segment));
        self.store_progress(key, segment);
        self.counters.segments_served += 1;
        let now = self.now.instant;
        let device = self.device_mut(key);
        device.link.cancel(|tag| *tag == Tag::Notify);
        // Asked for again while the answer is on its way: the same message, in case it was lost.
        if let Some(datagram) = device
            .link
            .repeat_now(now, |tag| *tag == Tag::Segment(segment))
            && let Some(peer) = device.peer()
        {
            let after = device.pending;
            self.has_left(key);
            return self.transmit(peer, datagram, after);
        }
        self.send_frame(key, Tag::Segment(segment), frame);
    }

    /// The forms that every known device understands: 0x80 as the result byte alone, 0x81 as result
    /// and segment number.
    fn refuse_segment(&mut self, key: DeviceKey, result: ResultCode, segment: Option<u16>) {
        self.counters.segments_refused += 1;
        let message = PlatformMessage::SegmentResponse {
            result,
            segment,
            data: &[],
        };
        self.send_message(key, Tag::Answer(MessageCode::SEGMENT_REQUEST.0), &message);
    }

    fn store_progress(&mut self, key: DeviceKey, segment: u16) {
        let now = self.now;
        let interval = Duration::from_secs(self.config.upgrade.progress_interval_s);
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        if (session.progress_stored_at).is_some_and(|at| now.instant.since(at) < interval) {
            return;
        }
        session.progress_stored_at = Some(now.instant);
        let change = Change::Progress {
            upgrade: session.order.upgrade,
            segment,
            percent: session
                .package
                .identity
                .segmentation
                .percent_before(segment),
            at: now.utc,
        };
        self.persist_lazily(change);
    }

    /// A download has gone quiet: how far it came is stored, whenever that was done last.
    pub(super) fn store_last_progress(&mut self, key: DeviceKey) {
        if let Some(session) = self.device_mut(key).session.as_mut()
            && let Sota::Downloading {
                segment: Some(segment),
                ..
            } = session.sota
        {
            session.progress_stored_at = None;
            self.store_progress(key, segment);
        }
    }

    /// What the same download report was answered with, if that was lately.
    fn answer_given(&self, key: DeviceKey, status: ResultCode) -> Option<ResultCode> {
        let last = self.device(key).last_download.as_ref()?;
        let now = self.now.instant;
        (last.status == status && now.since(last.at) < REPORT_REPEATS).then_some(last.answer)
    }

    fn store_whole_progress(&mut self, key: DeviceKey) {
        let at = self.now.utc;
        let session = self.device(key).session.as_ref();
        if let Some(session) = session.filter(|s| s.sota.stage() == Some(Stage::Downloading)) {
            let count = session.package.identity.segmentation.segment_count();
            let change = Change::Progress {
                upgrade: session.order.upgrade,
                segment: count - 1, // a package has at least one
                percent: 100,
                at,
            };
            self.persist_lazily(change);
        }
    }

    fn download_reported(&mut self, key: DeviceKey, status: ResultCode) {
        let answer = match self.stage(key) {
            Some(Stage::Downloading | Stage::Executing) => ResultCode::SUCCESS,
            // Downloaded, but its slot was given back: it reports again when it is notified again.
            Some(_) => return self.counters.segments_deferred += 1,
            None => self
                .answer_given(key, status)
                .unwrap_or(ResultCode::NO_SUCH_TASK),
        };
        let at = self.now.instant;
        self.device_mut(key).last_download = Some(Box::new(LastDownload { status, answer, at }));
        self.device_mut(key)
            .link
            .cancel(|tag| matches!(tag, Tag::Segment(_) | Tag::Notify));
        // The answer goes before the command that may follow.
        let message = PlatformMessage::DownloadReportResponse { result: answer };
        self.send_message(key, Tag::Answer(MessageCode::DOWNLOAD_REPORT.0), &message);
        if status.is_success() {
            self.store_whole_progress(key);
        }
        self.fire(key, Event::DownloadReported(status));
    }

    fn upgrade_reported(&mut self, key: DeviceKey, result: ResultCode, version: Version) {
        let now = self.now.instant;
        self.learn_version(key, version);
        let device = self.device_mut(key);
        device.link.cancel(|tag| *tag == Tag::Execute);
        let repeated = device.last_report.as_ref().filter(|last| {
            last.result == result && last.version == version && now.since(last.at) < REPORT_REPEATS
        });
        let answer = match (&device.session, repeated) {
            (Some(_), _) => ResultCode::SUCCESS,
            (None, Some(last)) => last.answer,
            (None, None) => ResultCode::NO_SUCH_TASK,
        };
        device.last_report = Some(Box::new(LastReport {
            result,
            version,
            answer,
            at: now,
        }));
        let message = PlatformMessage::UpgradeReportResponse { result: answer };
        self.send_message(key, Tag::Answer(MessageCode::UPGRADE_REPORT.0), &message);
        self.fire(key, Event::UpgradeReported(result, version));
    }

    fn learn_version(&mut self, key: DeviceKey, version: Version) {
        let now = self.now;
        let device = self.device_mut(key);
        if device.version() == Some(version) || !self.store_available {
            return; // what cannot be stored now is learnt when it is told again
        }
        let device = self.device_mut(key);
        if !device.may_write(now.instant) {
            return self.counters.requests_ignored += 1;
        }
        device.known.get_or_insert_default().version = Some(version);
        let endpoint = device.endpoint.to_string();
        self.persist(
            key,
            Change::VersionReported {
                endpoint,
                version,
                at: now.utc,
            },
        );
    }
}
