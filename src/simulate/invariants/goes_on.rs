use pcp::MessageCode;
use sim::coap::{Code, Message};

use super::{Invariants, Rule, SLACK_MS, datagrams};
use crate::{
    clock::UtcMillis,
    ledger::{Stage, StageChange},
};

/// What was written to a device.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    /// Message ID of the last notification of the new version: a repeat has the same.
    notification: Option<u16>,
    /// When a segment that it asked for was served last.
    served_at: Option<UtcMillis>,
    /// Notifications of the new version since then.
    notified: u32,
    /// When it registered last.
    registered_at: Option<UtcMillis>,
}

impl Invariants {
    /// A request of the device for a segment was served.
    pub(in super::super) fn served(&mut self, now: UtcMillis, device: usize) {
        if let Some(subject) = self.subjects.get_mut(device) {
            subject.written.served_at = Some(now);
            subject.written.notified = 0;
        }
    }

    /// The device registers. It is notified again within seconds, unless it goes on by itself.
    pub(super) fn registers(&mut self, now: UtcMillis, device: usize) {
        if let Some(subject) = self.subjects.get_mut(device) {
            subject.written.registered_at = Some(now);
        }
    }

    /// The engine wants a datagram sent: is it one that makes a device begin again what it is in the midst of?
    pub(super) fn goes_on(&mut self, now_ms: u64, now: UtcMillis, device: usize, datagram: &[u8]) {
        if datagram.get(1) != Some(&Code::PUT.0) {
            return;
        }
        let Ok(message) = Message::parse(datagram) else {
            return;
        };
        let Some((code, frame)) = datagrams::written(&message) else {
            return;
        };
        if !matches!(code, MessageCode::VERSION_QUERY | MessageCode::NEW_VERSION) {
            return;
        }
        let rules = &self.rules.upgrade;
        let pause_ms = (rules.nudge_after_s * 1_000).cast_signed();
        let soon_ms = (rules.nudge_after_registration_s * 1_000).cast_signed();
        let started_at = self.started_at;
        let Some(subject) = self.subjects.get_mut(device) else {
            return;
        };
        let downloads =
            subject.emitted.stage == Some(Stage::Downloading) && subject.emitted.confirmed;
        let upgrade = subject.upgrade.0;
        if code == MessageCode::VERSION_QUERY {
            // Only one that calls the version its own is asked in mid-download, and only who runs it does.
            if downloads && !subject.current {
                self.violated(now_ms, Rule::GoesOn, || {
                    format!("{upgrade}: is asked for its version in mid-download")
                });
            }
            return;
        }
        let repeated = subject.written.notification.replace(message.id) == Some(message.id);
        subject.written.notified += u32::from(!repeated);
        let served_at = subject.written.served_at.unwrap_or(UtcMillis(i64::MIN));
        let quiet_ms = now.0.saturating_sub(served_at.max(started_at).0);
        let back_ms = (subject.written.registered_at)
            .filter(|at| *at >= served_at)
            .map_or(0, |at| now.0.saturating_sub(at.0));
        let early = quiet_ms < pause_ms - SLACK_MS && back_ms < soon_ms - SLACK_MS;
        if downloads && !repeated && early {
            self.violated(now_ms, Rule::GoesOn, || {
                format!(
                    "{upgrade}: is notified again in mid-download, {quiet_ms} ms after it asked for a segment, {back_ms} ms after it registered"
                )
            });
        }
        self.is_notified(now_ms, device, frame, repeated);
    }

    /// An upgrade enters a stage: not one that it has behind it, unless its slot is given back before it has accepted
    /// the version or after it was nudged in vain, or its coverage is measured anew.
    pub(super) fn stage_goes_on(
        &mut self,
        now_ms: u64,
        now: UtcMillis,
        device: usize,
        change: &StageChange,
    ) {
        let subject = &self.subjects[device];
        let before = subject.emitted;
        let Some(stage) = before.stage.filter(|stage| change.stage < *stage) else {
            return;
        };
        if before.is_next_step(change) && self.offered[subject.product].most_steps() > 1 {
            return self.step_is_done(now_ms, device);
        }
        let served_at = subject.written.served_at.unwrap_or(UtcMillis(i64::MIN));
        let quiet_ms = now.0.saturating_sub(served_at.0);
        let rules = &self.rules.upgrade;
        // Those that it sleeps through do not leave. Each pause is as long as the first one at least, but for one that a
        // registration made shorter.
        let nudged_ms = (u64::from(rules.max_nudges) * rules.nudge_after_s * 1_000).cast_signed();
        let in_vain = quiet_ms >= nudged_ms - SLACK_MS
            || subject.written.notified >= u32::from(rules.max_nudges);
        let may = match stage {
            // nothing of what went on through another gateway counts
            _ if self.begins_anew(device) => change.stage == Stage::WaitingForDevice,
            // what was taken for the whole package did not arrive, or it tells that it runs the old version, or has forgotten
            // what it had
            Stage::Executing if subject.over_mqtt.is_some() || subject.habits.by_object => {
                change.stage == Stage::Downloading
            }
            Stage::QueryingCell => change.stage == Stage::WaitingForSlot,
            // measured anew
            Stage::WaitingForSlot => {
                matches!(change.stage, Stage::QueryingCoverage | Stage::QueryingCell)
            }
            Stage::Downloading => {
                change.stage == Stage::WaitingForSlot && (!before.confirmed || in_vain)
            }
            _ => false,
        };
        if !may {
            let upgrade = subject.upgrade.0;
            self.violated(now_ms, Rule::GoesOn, || {
                format!(
                    "{upgrade}: goes back from {} to {}",
                    stage.name(),
                    change.stage.name()
                )
            });
        }
    }
}
