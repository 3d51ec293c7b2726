use super::{Invariants, Rule, SLACK_MS, limit_ms};
use crate::{
    cli::simulate::store::Final,
    clock::UtcMillis,
    engine::StageChange,
    store::UpgradeState,
    upgrade::{Outcome, Stage},
};

/// Upgrades at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) struct Ends {
    /// Failed, and the device runs the target version all the same: it finished unheard, and too late.
    pub(in super::super) finished_unheard: usize,
    /// Further attempts that were made.
    pub(in super::super) retries: u64,
}

impl Invariants {
    /// An upgrade enters a stage, or something in its stage has changed.
    pub(super) fn stage_entered(
        &mut self,
        now_ms: u64,
        now: UtcMillis,
        device: usize,
        attempt: u32,
        change: &StageChange,
    ) {
        let lost_ms = self.lost_ms;
        let subject = &mut self.subjects[device];
        let before = subject.emitted;
        subject.emitted.enter(attempt, change, now, lost_ms);
        if before.stage.is_none() {
            subject.told = false;
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
        let late_ms = now.0 - before.deadline_at.0 - (lost_ms - before.lost_before_stage_ms);
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
        let length_ms = change.deadline_at.0 - change.entered_at.0;
        let most_ms = limit_ms(change.stage, &self.rules);
        if length_ms > most_ms + 1 {
            self.violated(now_ms, Rule::StageLimit, || {
                format!(
                    "{upgrade}: {} has {length_ms} ms, {most_ms} ms is its limit",
                    change.stage.name()
                )
            });
        }

        let (had, has) = (before.slot_in(), self.subjects[device].emitted.slot_in());
        if had == has {
            return;
        }
        self.release(had);
        if let Some(taken) = has {
            let holders = self.cell(taken).map_or(u32::MAX, |cell| {
                cell.holders += 1;
                cell.admitted += 1;
                cell.peak = cell.peak.max(cell.holders);
                cell.holders
            });
            let age_ms = told.map_or(i64::MAX, |told| now.0 - told.at_ms);
            let oldest_ms = (self.rules.admission.coverage_max_age_s * 1_000).cast_signed();
            let limit = told.map_or(0, |told| told.limit);
            if holders > limit || cell != Some(taken) || age_ms > oldest_ms + SLACK_MS {
                self.violated(now_ms, Rule::CellLimit, || {
                    format!(
                        "{upgrade}: admitted to cell {taken} as one of {holders}; it is in {cell:?}, \
                         where {limit} are allowed by the coverage that it told {age_ms} ms ago"
                    )
                });
            }
        }
    }

    fn release(&mut self, slot: Option<u32>) {
        if let Some(cell) = slot.and_then(|cell| self.cell(cell)) {
            cell.holders = cell.holders.saturating_sub(1);
        }
    }

    /// An attempt ends.
    pub(super) fn attempt_ended(
        &mut self,
        now_ms: u64,
        now: UtcMillis,
        device: usize,
        attempt: u32,
        outcome: &Outcome,
    ) {
        let subject = &mut self.subjects[device];
        let before = subject.emitted;
        subject.emitted.end(attempt);
        subject.ended_as = Some(outcome.state());
        let upgrade = subject.upgrade.0;
        let (current, told) = (subject.current, subject.told);
        self.release(before.slot_in());
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
        match outcome {
            Outcome::Succeeded(_) if !current => {
                self.violated(now_ms, Rule::TrueOutcome, || {
                    format!("{upgrade}: a success, and the device runs another version")
                });
            }
            Outcome::Failed(failure) if current && told => {
                self.violated(now_ms, Rule::TrueOutcome, || {
                    format!(
                        "{upgrade}: {failure:?}, and the device has told that it runs the target"
                    )
                });
            }
            _ => {}
        }
        if let Some(stage) = before.stage {
            let lost_ms = self.lost_ms;
            let late_ms = now.0 - before.deadline_at.0 - (lost_ms - before.lost_before_stage_ms);
            if late_ms > SLACK_MS {
                self.violated(now_ms, Rule::StageLimit, || {
                    format!(
                        "{upgrade}: {} ended {late_ms} ms after its limit",
                        stage.name()
                    )
                });
            }
            let took_ms = now.0 - before.begun_at.0 - (lost_ms - before.lost_before_ms);
            let most_ms = self.longest_attempt_ms();
            if took_ms > most_ms + SLACK_MS {
                self.violated(now_ms, Rule::StageLimit, || {
                    format!("{upgrade}: took {took_ms} ms, its limits together are {most_ms} ms")
                });
            }
        }
    }

    /// The sum of all limits of an attempt, ms. Coverage that is measured anew in the last moment of the wait for
    /// a slot is measured to the end.
    pub(in super::super) fn longest_attempt_ms(&self) -> i64 {
        let sum: i64 = Stage::ALL
            .into_iter()
            .map(|stage| limit_ms(stage, &self.rules))
            .sum();
        sum + limit_ms(Stage::QueryingCoverage, &self.rules)
            + limit_ms(Stage::QueryingCell, &self.rules)
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
            if end.state == UpgradeState::Succeeded && !current {
                self.violated(now_ms, Rule::TrueOutcome, || {
                    format!("{upgrade}: stored as a success, and the device runs another version")
                });
            }
            ends.finished_unheard += usize::from(end.state == UpgradeState::Failed && current);
        }
        ends
    }
}
