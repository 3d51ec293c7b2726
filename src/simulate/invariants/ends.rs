use pcp::ResultCode;

use super::{Invariants, Reach, Rule, SLACK_MS, limit_ms, view::View};
use crate::{
    clock::UtcMillis,
    ledger::{Failure, Outcome, Stage, StageChange},
    simulate::store::Final,
    store::UpgradeState,
};

/// Upgrades at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ends {
    /// Failed, and the device runs the target version all the same: it finished unheard, and too late.
    pub(crate) finished_unheard: usize,
    /// Further attempts that were made.
    pub(crate) retries: u64,
}

/// How long a device that sleeps is taken to listen, at most.
const LISTENS_MS: i64 = 300_000;

/// `MAX_TRANSMIT_WAIT` of RFC 7252 §4.8.2.
const MAX_TRANSMIT_WAIT_MS: u64 = 93_000;

/// Whether a device that told that it runs the target so long ago, ms, cannot fail so. After a restart it is asked once more,
/// and the limit may run out meanwhile.
fn counts(failure: &Failure, ago_ms: u64) -> bool {
    *failure != Failure::ExecutionTimedOut || ago_ms >= MAX_TRANSMIT_WAIT_MS
}

impl Invariants {
    /// An upgrade enters a stage, or something in its stage has changed.
    #[expect(clippy::too_many_lines, reason = "one rule after the other")]
    pub(super) fn stage_entered(
        &mut self,
        now_ms: u64,
        now: UtcMillis,
        device: usize,
        attempt: u32,
        change: &StageChange,
    ) {
        self.stage_goes_on(now_ms, now, device, change);
        let lost_ms = self.lost_ms;
        let subject = &mut self.subjects[device];
        let before = subject.emitted;
        subject.emitted.enter(attempt, change, now, lost_ms);
        if before.stage.is_none() {
            subject.claims.told_ms = None;
        }
        let (upgrade, cell, told) = (
            subject.upgrade.0,
            subject.coverage.cell_id,
            subject.told_emitted,
        );

        let expected = match before.stage {
            Some(_) => before.attempt,
            None => before.ended + 1,
        };
        if attempt != expected {
            self.violated(now_ms, Rule::OneOutcome, || {
                format!("{upgrade}: attempt {attempt} goes on where {expected} should")
            });
        }
        if before.stage.is_none() && (before.over || now < before.not_before) {
            let not_before = before.not_before;
            self.violated(now_ms, Rule::OneOutcome, || {
                format!(
                    "{upgrade}: attempt {attempt} begins; over: {}, not before {not_before}",
                    before.over
                )
            });
        }
        if before.stage.is_none() {
            self.attempt_begins(now_ms, now, device, attempt);
        }
        if change.stage == Stage::Executing && before.stage != Some(Stage::Executing) {
            self.is_commanded(now_ms, now, device);
        }
        self.limits_kept(now_ms, now, device, attempt, &before, change);
        self.at_gateway(now_ms, device, change.stage.holds_slot());

        let (had, has) = (before.slot_in(), self.subjects[device].emitted.slot_in());
        if had == has {
            return;
        }
        self.release_slot(had);
        self.leave_site(device, had);
        self.ends_to_hold(now_ms, device);
        if let Some(taken) = has {
            self.take_slot(taken);
            self.enter_site(now_ms, device);
            let age_ms = told.map_or(i64::MAX, |told| now.0 - told.at_ms);
            let oldest_ms = (self.rules.admission.coverage_max_age_s * 1_000).cast_signed();
            let limit = told.map_or(0, |told| told.limit);
            self.entering = Some((upgrade, limit));
            self.begins_to_hold(now_ms, device, taken, limit);
            if cell != Some(taken) || age_ms > oldest_ms + SLACK_MS {
                self.violated(now_ms, Rule::CellLimit, || {
                    format!(
                        "{upgrade}: admitted to cell {taken} by the coverage that it told {age_ms} ms ago; \
                         it is in {cell:?}"
                    )
                });
            }
        }
    }

    /// The stage before has ended in time, and this one has no more time than it should.
    fn limits_kept(
        &mut self,
        now_ms: u64,
        now: UtcMillis,
        device: usize,
        attempt: u32,
        before: &View,
        change: &StageChange,
    ) {
        self.ended_in_time(now_ms, now, device, before);
        let subject = &self.subjects[device];
        let (upgrade, sleeps) = (subject.upgrade.0, subject.sleeps);
        let name = change.stage.name();
        // The wait for a slot does not run while the device sleeps.
        let counts_from = if sleeps && change.stage == Stage::WaitingForSlot {
            now
        } else {
            change.entered_at
        };
        let length_ms = change.deadline_at.0 - counts_from.0;
        let most_ms = limit_ms(change.stage, self.reach_of(device), &self.rules);
        if length_ms > most_ms + 1 {
            self.violated(now_ms, Rule::StageLimit, || {
                format!("{upgrade}: {name} has {length_ms} ms, {most_ms} ms is its limit")
            });
        }
        // each step has limits of its own
        let next_step = View::is_next_step(before, change);
        let anew = next_step || self.begins_anew(device);
        let same_attempt = before.stage.is_some() && before.attempt == attempt && !anew;
        let times = (change.entered_at, change.deadline_at);
        let right = if anew && before.stage == Some(change.stage) {
            true // it waits as before, or as long anew
        } else if same_attempt && before.stage == Some(change.stage) {
            times == (before.entered_at, before.deadline_at)
                || (sleeps
                    && change.stage == Stage::WaitingForSlot
                    && times.0 == before.entered_at
                    && times.1 > before.deadline_at)
        } else {
            change.entered_at == now
        };
        if !right {
            self.violated(now_ms, Rule::StageLimit, || {
                format!("{upgrade}: the limit of {name} begins anew within the stage")
            });
        }
        let slot_kept = !same_attempt
            || before.slot_deadline_at.is_none()
            || before.slot_deadline_at == change.slot_deadline_at
            || (sleeps && before.slot_deadline_at < change.slot_deadline_at);
        // Coverage that is measured anew is measured to the end, also past the limit of the wait.
        let slot_meant = change.stage != Stage::WaitingForSlot
            || change.slot_deadline_at.map(|at| at.max(change.entered_at)) == Some(times.1);
        if !slot_kept || !slot_meant {
            self.violated(now_ms, Rule::StageLimit, || {
                format!("{upgrade}: the limit of its wait for a slot begins anew in {name}")
            });
        }
    }

    fn ended_in_time(&mut self, now_ms: u64, now: UtcMillis, device: usize, before: &View) {
        let subject = &self.subjects[device];
        let upgrade = subject.upgrade.0;
        let mut late_ms = self.late_ms(now, before.deadline_at);
        if subject.sleeps && before.stage == Some(Stage::WaitingForSlot) {
            // it may be asleep, and has as long to be heard as any
            late_ms -= limit_ms(Stage::WaitingForDevice, Reach::OverPcp, &self.rules) + LISTENS_MS;
        }
        if let Some(stage) = before.stage
            && late_ms > SLACK_MS
        {
            self.violated(now_ms, Rule::StageLimit, || {
                format!(
                    "{upgrade}: {} ended {late_ms} ms after its limit",
                    stage.name()
                )
            });
        }
    }

    /// When the next attempt is to begin after an end at `at`, by what was ordered. Of its attempts, `taken_back` count for
    /// nothing.
    pub(super) fn retry_expected(
        &self,
        (attempt, taken_back): (u32, u32),
        outcome: &Outcome,
        at: UtcMillis,
    ) -> Option<UtcMillis> {
        if outcome.is_taken_back() {
            return Some(self.next_window(at));
        }
        let attempt = attempt - taken_back.min(attempt);
        let again = matches!(outcome, Outcome::Failed(_)) && attempt <= self.retry.attempts;
        again.then(|| UtcMillis(at.0 + i64::from(self.retry.interval_s) * 1_000))
    }

    /// An attempt ends.
    #[expect(clippy::too_many_lines, reason = "one rule after the other")]
    pub(super) fn attempt_ended(
        &mut self,
        now_ms: u64,
        now: UtcMillis,
        device: usize,
        attempt: u32,
        outcome: &Outcome,
        retry_at: Option<UtcMillis>,
    ) {
        let subject = &mut self.subjects[device];
        let before = subject.emitted;
        let counted = (attempt, before.taken_back);
        subject.emitted.end(attempt, retry_at);
        subject.emitted.taken_back += u32::from(outcome.is_taken_back());
        subject.ended_as = Some(outcome.state());
        let upgrade = subject.upgrade.0;
        let (current, told_ms) = (subject.current, subject.claims.told_ms);
        let believed_anew = subject.claims.is_believed_anew();
        self.release_slot(before.slot_in());
        self.leave_site(device, before.slot_in());
        self.at_gateway(now_ms, device, false);
        self.ends_to_hold(now_ms, device);
        if let Some(cell) = self.subjects[device]
            .coverage
            .cell_id
            .and_then(|cell| self.cell(cell))
        {
            cell.last_end_ms = now_ms;
        }
        if before.stage.is_none() || before.attempt != attempt {
            self.violated(now_ms, Rule::OneOutcome, || {
                format!("{upgrade}: attempt {attempt} ends and does not run")
            });
        }
        self.is_skipped(now_ms, device, outcome);
        if outcome.is_taken_back() {
            self.is_taken_back(now_ms, now, device, before.stage);
        }
        let expected = self.retry_expected(counted, outcome, now);
        if retry_at != expected {
            self.violated(now_ms, Rule::OneOutcome, || {
                format!("{upgrade}: attempt {attempt} is followed by one at {retry_at:?}, {expected:?} was ordered")
            });
        }
        match outcome {
            _ if self.subjects[device].over_mqtt.is_some() => {
                self.ends_over_mqtt(now_ms, device, outcome);
            }
            outcome if self.subjects[device].habits.excuses(outcome) => {}
            Outcome::Succeeded(_) if !current => {
                self.violated(now_ms, Rule::TrueOutcome, || {
                    format!("{upgrade} of device {device}: {outcome:?}, and the device runs another version")
                });
            }
            Outcome::Failed(Failure::NotificationRefused(ResultCode::ALREADY_LATEST))
                if current && believed_anew =>
            {
                self.violated(now_ms, Rule::TrueOutcome, || {
                    format!(
                        "{upgrade} of device {device}: the target refused as known, by what it did before the store was put back"
                    )
                });
            }
            Outcome::Failed(failure)
                if current && told_ms.is_some_and(|at| counts(failure, now_ms - at)) =>
            {
                self.violated(now_ms, Rule::TrueOutcome, || {
                    format!(
                        "{upgrade} of device {device}: {failure:?}, and the device has told that it runs the target"
                    )
                });
            }
            _ => {}
        }
        if before.stage.is_some() {
            self.ended_in_time(now_ms, now, device, &before);
            let sleeps = self.subjects[device].sleeps;
            let took_ms = now.0 - before.begun_at.0 - (self.lost_ms - before.lost_before_ms);
            let most_ms = self.longest_attempt_ms(self.reach_of(device));
            if took_ms > most_ms + SLACK_MS && !sleeps {
                self.violated(now_ms, Rule::StageLimit, || {
                    format!("{upgrade}: took {took_ms} ms, its limits together are {most_ms} ms")
                });
            }
        }
    }

    /// The sum of all limits of an attempt of a device that listens, ms. Coverage that is measured anew in the last moment of the wait for
    /// a slot is measured to the end.
    pub(in super::super) fn longest_attempt_ms(&self, reach: Reach) -> i64 {
        let limit = |stage| limit_ms(stage, reach, &self.rules);
        let sum: i64 = Stage::ALL.into_iter().map(limit).sum();
        // one limit for both stages in which devices over MQTT download and install
        let twice = match reach {
            Reach::OverPcp => 0,
            Reach::OverMqtt | Reach::Behind => limit(Stage::Executing),
        };
        sum + limit(Stage::QueryingCoverage) + limit(Stage::QueryingCell) - twice
    }

    /// How a device is reached.
    fn reach_of(&self, device: usize) -> Reach {
        if self.is_behind(device) {
            Reach::Behind
        } else if self.subjects[device].over_mqtt.is_some() {
            Reach::OverMqtt
        } else {
            Reach::OverPcp
        }
    }

    /// Everything is over. `current` says of each device whether it runs the target version.
    pub(in super::super) fn finish(&mut self, now_ms: u64, finals: &[Final]) -> Ends {
        let mut ends = Ends::default();
        if finals.len() != self.subjects.len() {
            let (there, expected) = (finals.len(), self.subjects.len());
            self.violated(now_ms, Rule::OneOutcome, || {
                format!("{there} upgrades are stored, {expected} were ordered")
            });
        }
        for end in finals {
            let Some(device) = self.device_of(end.upgrade) else {
                continue;
            };
            ends.retries += u64::from(end.attempts.saturating_sub(1));
            let subject = &self.subjects[device];
            let (upgrade, current) = (end.upgrade.0, subject.current);
            let by_its_result = (subject.outcome.as_ref()).is_some_and(|it| subject.habits.excuses(it));
            let believed =
                by_its_result || (subject.over_mqtt.as_ref()).is_some_and(|it| it.is_believed);
            let state = subject.outcome.as_ref().map(Outcome::state);
            let stored = end.state.name();
            if !end.state.is_final() || state != Some(stored) {
                let emitted = subject.emitted;
                self.violated(now_ms, Rule::OneOutcome, || {
                    format!(
                        "{upgrade}: is stored as {stored}, its outcome was {state:?}; attempt {} of the \
                         engine: {:?}",
                        emitted.attempt, emitted.stage
                    )
                });
            }
            if end.state == UpgradeState::Succeeded && !current && !believed {
                self.violated(now_ms, Rule::TrueOutcome, || {
                    format!("{upgrade}: stored as a success, and the device runs another version")
                });
            }
            ends.finished_unheard += usize::from(end.state == UpgradeState::Failed && current);
        }
        ends
    }
}
