use super::{Invariants, Number, Rule, device};
use crate::ledger::Change;

impl Invariants {
    /// The store has a change for good: its number, and what it says.
    #[expect(clippy::too_many_lines, reason = "one match over all changes")]
    pub(in super::super) fn committed(&mut self, now_ms: u64, number: Number, change: &Change) {
        let Number { shard, seq } = number;
        let last = &mut self.shards[shard.index()].last_committed;
        let expected = *last + 1;
        *last = seq.max(*last);
        if seq != expected {
            self.violated(now_ms, Rule::CommitOrder, || {
                format!("change {seq} is committed, and {expected} is next")
            });
        }
        match change {
            Change::Registered { registration, .. } => {
                let location = registration.location.as_bytes();
                if self.new_locations.get(location) == Some(&number) {
                    self.new_locations.remove(location);
                }
            }
            Change::CoverageReported {
                endpoint, reading, ..
            } => {
                let told = self.told(reading);
                let subject = device(endpoint).and_then(|device| self.subjects.get_mut(device));
                if let Some(subject) = subject {
                    subject.told_committed = Some(told);
                }
            }
            Change::Stage {
                upgrade,
                attempt,
                change,
                at,
                ..
            } => {
                let Some(device) = self.device_of(*upgrade) else {
                    return;
                };
                let lost_ms = self.lost_ms;
                let view = &mut self.subjects[device].committed;
                let over = view.over;
                view.enter(*attempt, change, *at, lost_ms);
                if over {
                    self.violated(now_ms, Rule::OneOutcome, || {
                        format!("{}: goes on in the store after its outcome", upgrade.0)
                    });
                }
            }
            Change::LetGo { upgrade, .. } => {
                // nobody has an upgrade tried again: what is let go of is over
                let over = (self.device_of(*upgrade))
                    .is_none_or(|device| self.subjects[device].committed.over);
                if !over {
                    self.violated(now_ms, Rule::OneOutcome, || {
                        format!("{}: is let go of, and has no outcome", upgrade.0)
                    });
                }
            }
            Change::Ended { .. } => self.end_committed(now_ms, change),
            Change::Traffic {
                endpoint,
                traffic,
                at,
                ..
            } => {
                if let Some(device) = device(endpoint) {
                    self.rollout.spent(device, traffic, *at);
                }
            }
            Change::Evidence {
                endpoint, evidence, ..
            } => {
                if let Some(device) = device(endpoint) {
                    self.evidence(device, evidence, true);
                    self.evidence_stored_over_mqtt(device, evidence);
                }
            }
            Change::Appointed {
                endpoint,
                appointment,
            } => {
                let subject = device(endpoint).and_then(|device| self.subjects.get_mut(device));
                if let Some(subject) = subject {
                    subject.appointment = appointment.map(Box::new);
                }
            }
            Change::Via {
                endpoint,
                before,
                via,
                ..
            } => {
                if let Some(device) = device(endpoint) {
                    self.via_stored(device, before.as_deref(), via.as_deref());
                }
            }
            Change::Deregistered { .. }
            | Change::VersionReported { .. }
            | Change::Note { .. }
            | Change::Progress { .. }
            | Change::Serves { .. }
            | Change::KeptAwake { .. }
            | Change::Learnt(_)
            | Change::Admitted { .. } => {}
        }
    }

    fn end_committed(&mut self, now_ms: u64, change: &Change) {
        let Change::Ended {
            upgrade,
            attempt,
            outcome,
            retry_at,
            at,
            ..
        } = change
        else {
            return;
        };
        let Some(device) = self.device_of(*upgrade) else {
            return;
        };
        // The store gives a task that is stopped no further attempts.
        let task = self.subjects[device].product;
        let late = outcome.is_taken_back() && self.rollout.is_expired(task);
        let stopped = late || self.rollout.is_stopped(task);
        let follows = retry_at.filter(|_| !stopped);
        let subject = &mut self.subjects[device];
        let before = subject.committed;
        subject.committed.end(*attempt, follows);
        subject.committed.taken_back += u32::from(outcome.is_taken_back());
        subject.outcome = Some(outcome.clone());
        subject.ended_ms = Some(now_ms);
        let emitted = subject.ended_as;
        if emitted != Some(outcome.state()) {
            self.violated(now_ms, Rule::OneOutcome, || {
                format!("{}: ended as {emitted:?}, stored is {outcome:?}", upgrade.0)
            });
        }
        let expected = self.retry_expected((*attempt, before.taken_back), outcome, *at);
        if *retry_at != expected {
            self.violated(now_ms, Rule::OneOutcome, || {
                format!(
                    "{}: attempt {attempt} is followed by one at {retry_at:?} in the store, {expected:?} was ordered",
                    upgrade.0
                )
            });
        }
        if before.ended >= *attempt || before.over {
            self.violated(now_ms, Rule::OneOutcome, || {
                format!("{}: attempt {attempt} has a second outcome", upgrade.0)
            });
        } else if follows.is_none() {
            self.open = self.open.saturating_sub(1);
            self.last_end_ms = now_ms;
            let subject = &mut self.subjects[device];
            subject.over_ms = Some(now_ms);
            let product = subject.product;
            self.rollout.over(product, device, outcome);
        }
    }
}
