//! PCP messages from a device.
//!
//! A device repeats what goes unanswered; a repeat gets the same answer and changes nothing. What a
//! device says also shows what it has received: requests that its message answers are not repeated.

use std::time::Duration;

use pcp::{DeviceMessage, MessageCode, PlatformMessage, ResultCode};

use super::{
    Change, Engine,
    asked::Tag,
    device::{LastDownload, LastReport, REPORT_REPEATS, Session},
    key::DeviceKey,
    link::Try,
};
use crate::{
    ledger::{
        Doubt, FailedIn, Fate, Happened, Inbound, Progress, Repeated, ReportedFailure, Stage,
    },
    package::{Package, Version},
    upgrade::{Claim, Credence, Input, Sign, transfer::pcp::PcpInput},
};

impl Engine {
    pub(super) fn uplink(&mut self, key: DeviceKey, frame: &[u8]) {
        let message = match DeviceMessage::decode(frame) {
            Ok(message) => message,
            Err(error) => {
                self.counters.pcp_malformed += 1;
                return self.note_once(key, Repeated::NotPcp, || Happened::NotPcp {
                    problem: error.to_string(),
                });
            }
        };
        if let Some(said) = inbound(&message) {
            self.said(key, said);
        }
        match message {
            DeviceMessage::SegmentRequest { version, segment } => {
                self.segment_requested(key, version, segment);
            }
            DeviceMessage::VersionResponse { result, version } => {
                let version = version.map(Version::from);
                self.device_mut(key).link.cancel(|tag| *tag == Tag::Version);
                self.fared(key, Tag::Version, Fate::Acknowledged);
                let credence = version.map_or(Credence::Sound, |version| {
                    self.credence(key, version, Claim::Answer)
                });
                if let Some(version) = version {
                    self.doubts(key, version, credence);
                }
                self.fire(key, Input::VersionAnswered(result, version, credence));
                self.remember_claim(key);
                if let Some(version) = version {
                    self.learn_version(key, version);
                }
            }
            DeviceMessage::NotificationResponse { result } => {
                self.notification_answered(key, result);
            }
            DeviceMessage::DownloadReport { status } => self.download_reported(key, status),
            DeviceMessage::ExecuteResponse { result } => {
                if result == ResultCode::DOWNLOAD_TIMED_OUT {
                    self.note_once(key, Repeated::OwnTimeout, || Happened::OwnTimeout);
                } else {
                    self.device_mut(key).link.cancel(|tag| *tag == Tag::Execute);
                    self.fared(key, Tag::Execute, Fate::Acknowledged);
                }
                self.fire(key, Input::Pcp(PcpInput::ExecuteAnswered(result)));
            }
            DeviceMessage::UpgradeReport { result, version } => {
                self.upgrade_reported(key, result, version.into());
            }
            DeviceMessage::Unknown { .. } => self.counters.pcp_unexpected += 1,
        }
    }

    /// 20: the device takes the version, or says why not.
    fn notification_answered(&mut self, key: DeviceKey, result: ResultCode) {
        self.device_mut(key).link.cancel(|tag| *tag == Tag::Notify);
        self.fared(key, Tag::Notify, Fate::Acknowledged);
        let target = self.version_at_stake(key);
        let credence = target.map_or(Credence::Sound, |target| {
            self.credence(key, target, Claim::Answer)
        });
        let answered = PcpInput::NotificationAnswered(result, credence);
        self.fire(key, Input::Pcp(answered));
        // Once it is told to install it, this answers a notification from before.
        let late = self.stage(key) == Some(Stage::Executing);
        if let Some(target) = target.filter(|_| result.is_success() && !late) {
            self.takes(key, target);
        }
    }

    /// 21: the short way. Nothing here waits, searches or stores.
    fn segment_requested(&mut self, key: DeviceKey, version: pcp::Version, segment: u16) {
        // A version's text is not made for every segment.
        let session = self.device(key).session.as_ref();
        let known = session.is_some_and(|it| it.takes && offers(&it.package, version));
        if !known {
            self.takes(key, version.into());
        }
        let Some(session) = self.device(key).session.as_ref() else {
            return self.refuse_segment(key, ResultCode::NO_SUCH_TASK, None);
        };
        if !offers(&session.package, version) {
            self.note_once(key, Repeated::Refusal, || Happened::SegmentOfOtherVersion {
                segment,
                version: version.into(),
            });
            return self.refuse_segment(key, ResultCode::NO_SUCH_TASK, None);
        }
        if !session.negotiation().serves_segments() {
            // Its upgrade is to come, or its slot was given back: it is notified when it is its turn.
            return self.counters.segments_deferred += 1;
        }
        let package = session.package.clone();
        let Some(pcp) = &package.pcp else { return };
        let Some(frame) = pcp.frames.get(segment) else {
            let segments = pcp.offer.segmentation.segment_count();
            self.note_once(key, Repeated::Refusal, || Happened::NoSuchSegment {
                segment,
                segments,
            });
            return self.refuse_segment(key, ResultCode::NO_SUCH_SEGMENT, Some(segment));
        };
        self.compare_with_last(key, segment);
        self.fire(key, Input::Pcp(PcpInput::SegmentRequested(segment)));
        let done_bytes = pcp.offer.segmentation.bytes_before(segment);
        self.store_progress(key, done_bytes, true);
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
            return self.leave(key, peer, datagram, Try::Again);
        }
        self.send_frame(key, Tag::Segment(segment), frame);
    }

    /// A device that goes on elsewhere than it was has lost what it had, or had it from before.
    fn compare_with_last(&mut self, key: DeviceKey, segment: u16) {
        let Some(session) = self.device(key).session.as_ref() else {
            return;
        };
        let Some(last) = session.negotiation().segment() else {
            return;
        };
        if segment == last || Some(segment) == last.checked_add(1) {
            return;
        }
        let Some(offer) = session.package.pcp_offer() else {
            return;
        };
        let percent = offer.segmentation.percent_before(last);
        self.note_once(key, Repeated::Jump, || match segment {
            0 => Happened::BeganAgain { percent },
            _ => Happened::WentOnElsewhere {
                segment,
                last,
                percent,
            },
        });
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

    /// Has the store know how far a download is: `lately` is soon enough, or it is to be known now. Returns whether it was told.
    pub(super) fn store_progress_of(
        &mut self,
        session: &mut Session,
        done_bytes: u64,
        lately: bool,
    ) -> bool {
        if self.is_pressed() {
            return false;
        }
        let interval_s = if lately {
            self.config.upgrade.progress_interval_s
        } else {
            0
        };
        let interval = Duration::from_secs(interval_s);
        let change = session.progress(self.now, done_bytes, interval);
        let told = change.is_some();
        if let Some(change) = change {
            self.persist_lazily(change);
        }
        told
    }

    /// The same of the upgrade that the device has under way, with what it has exchanged.
    pub(super) fn store_progress(&mut self, key: DeviceKey, done_bytes: u64, lately: bool) {
        if let Some(mut session) = self.device_mut(key).session.take() {
            let told = self.store_progress_of(&mut session, done_bytes, lately);
            self.device_mut(key).session = Some(session);
            if told {
                self.store_traffic(key);
            }
        }
    }

    /// A download has gone quiet: how far it came is stored, whenever that was done last.
    pub(super) fn store_last_progress(&mut self, key: DeviceKey) {
        let session = self.device(key).session.as_ref();
        let position = session.and_then(|session| session.position(session.negotiation()));
        if let Some(done_bytes) = position {
            self.store_progress(key, done_bytes, false);
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
        if let Some(session) =
            session.filter(|s| s.negotiation().stage() == Some(Stage::Downloading))
        {
            let size_bytes = session.package.size_bytes;
            let change = Change::Progress {
                upgrade: session.order.upgrade,
                progress: Progress {
                    done_bytes: size_bytes,
                    total_bytes: size_bytes,
                },
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
        if let Some(version) = self.version_at_stake(key) {
            let sign = match status {
                ResultCode::SUCCESS => Sign::Holds,
                code => Sign::Fails(ReportedFailure {
                    failed_in: FailedIn::Download,
                    code,
                }),
            };
            self.note_sign(key, version, sign);
        }
        self.fire(key, Input::Pcp(PcpInput::DownloadReported(status)));
    }

    fn upgrade_reported(&mut self, key: DeviceKey, result: ResultCode, version: Version) {
        let now = self.now.instant;
        let credence = self.weigh_report(key, result, version);
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
        self.fire(
            key,
            Input::Pcp(PcpInput::UpgradeReported(result, version, credence)),
        );
        self.learn_version(key, version);
    }

    /// Takes note of what a report of the upgrade (24) shows, and says what its claim is worth.
    fn weigh_report(&mut self, key: DeviceKey, result: ResultCode, version: Version) -> Credence {
        let Some(target) = self.version_at_stake(key) else {
            return Credence::Sound;
        };
        if !result.is_success() {
            let failure = ReportedFailure {
                failed_in: FailedIn::Installation,
                code: result,
            };
            self.note_sign(key, target, Sign::Fails(failure));
        } else if self.stage(key) == Some(Stage::Executing)
            && (self.evidence_of(key, target)).is_some_and(|known| known.failure.is_none())
        {
            // It reports what it was told to do, whether it has acknowledged that or not.
            self.note_sign(key, target, Sign::Commanded);
        }
        let credence = self.credence(key, version, Claim::Report);
        if result.is_success() {
            self.doubts(key, version, credence);
        }
        credence
    }

    /// What it says of itself without a sign of a restart counts when it cannot be asked once more.
    pub(super) fn remember_claim(&mut self, key: DeviceKey) {
        let session = self.device(key).session.as_ref();
        if let Some(session) = session.filter(|session| session.negotiation().is_claimed()) {
            let target = session.package.version;
            self.note_sign(key, target, Sign::Claims);
        }
    }

    /// Tells why a device is not believed that it runs the target.
    pub(super) fn doubts(&mut self, key: DeviceKey, version: Version, credence: Credence) {
        let session = self.device(key).session.as_ref();
        if session.is_none_or(|session| session.package.version != version) {
            return;
        }
        let doubt = match credence {
            Credence::Sound => return,
            Credence::Unproven => Doubt::NoRestart,
            Credence::Premature => Doubt::NotCommanded,
            Credence::Refuted(ReportedFailure { failed_in, code }) => Doubt::Failed {
                failed_in,
                result: code.0,
            },
        };
        self.note_once(key, Repeated::Claim, || Happened::ClaimDoubted {
            version,
            doubt,
        });
    }

    pub(super) fn learn_version(&mut self, key: DeviceKey, version: Version) {
        let now = self.now;
        let device = self.device(key);
        let asked = (device.known.as_ref()).is_some_and(|known| known.asked_what_it_runs);
        let known = device.version() == Some(version) && !asked;
        if known || !self.store_available || self.is_pressed() {
            return; // what cannot be stored now is learnt when it is told again
        }
        if self.credence(key, version, Claim::Answer) != Credence::Sound {
            return; // a claim that is not believed
        }
        let device = self.device_mut(key);
        if !device.may_write(now.instant) {
            return self.counters.requests_ignored += 1;
        }
        let known = device.known.get_or_insert_default();
        known.version = Some(version);
        known.asked_what_it_runs = false;
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

/// What a PCP message says, among the facts of an attempt.
fn inbound(message: &DeviceMessage<'_>) -> Option<Inbound> {
    Some(match *message {
        DeviceMessage::VersionResponse { result, version } => Inbound::Version {
            result: result.0,
            version: version.map(Version::from),
        },
        DeviceMessage::NotificationResponse { result } => {
            Inbound::NewVersionAnswer { result: result.0 }
        }
        DeviceMessage::SegmentRequest { segment, .. } => Inbound::SegmentRequest { segment },
        DeviceMessage::DownloadReport { status } => Inbound::DownloadReport { result: status.0 },
        DeviceMessage::ExecuteResponse { result } => Inbound::CommandAnswer { result: result.0 },
        DeviceMessage::UpgradeReport { result, version } => Inbound::UpgradeReport {
            result: result.0,
            version: version.into(),
        },
        DeviceMessage::Unknown { .. } => return None,
    })
}

/// Whether what devices are told of the package over PCP is this version.
fn offers(package: &Package, version: pcp::Version) -> bool {
    package
        .pcp_offer()
        .is_some_and(|offer| offer.version == version)
}
