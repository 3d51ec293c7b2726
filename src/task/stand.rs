use super::{Hold, Membership, Results, TaskRules, TaskState, Verdict, WindowState};
use crate::clock::UtcMillis;

/// Upgrades that are put off are counted up to here.
pub const PUT_OFF_COUNTED: u32 = 1_000;

/// What a task does, and what it waits for, in one line.
#[derive(Debug, Clone, PartialEq)]
pub enum Stand {
    /// It has ended, or was stopped.
    Over(TaskState),
    /// Nothing of it begins until somebody says so.
    Held(Hold),
    /// It starts then.
    StartsAt(UtcMillis),
    /// Nothing begins: no window is open. When one opens, if one does within a year.
    WindowClosed(Option<UtcMillis>),
    /// Nothing is left to do, and devices may join until its last time, if it has one.
    AwaitsDevices(Option<UtcMillis>),
    /// The phase that runs, from 0, has nobody, and devices may join.
    EmptyPhase(u32),
    /// A phase runs, and another one follows.
    Phase {
        /// The phase, from 0.
        phase: u32,
        /// Phases that there are.
        of: usize,
        /// Devices of it that have a result.
        results: u64,
        /// So many are wanted.
        wanted: u64,
        /// Devices that have been upgraded, of which it is not known yet whether they are in health.
        soaking: u64,
    },
    /// Nothing runs, and all that waits does so for a month in which its device may spend again.
    OverBudget {
        /// Upgrades that wait for it.
        waiting: u64,
        /// When the first of them is due.
        until: UtcMillis,
    },
    /// Upgrades run and wait.
    Runs {
        /// That run.
        running: u64,
        /// That wait.
        waiting: u64,
    },
}

impl Stand {
    /// Of a task in this state, with these rules and results.
    pub fn of(
        state: TaskState,
        start_at: UtcMillis,
        rules: &TaskRules,
        hold: Option<&Hold>,
        (phase, results): (u32, &[Results]),
        now: UtcMillis,
    ) -> Self {
        if !state.may_begin() {
            return Self::Over(state);
        }
        if let Some(hold) = hold {
            return Self::Held(hold.clone());
        }
        if state == TaskState::Scheduled {
            return Self::StartsAt(start_at);
        }
        let mut all = Results::default();
        for phase in results {
            all.add(phase);
        }
        let (running, waiting) = (all.running, all.waiting);
        if waiting > 0
            && !rules.knows_zones()
            && let WindowState::Closed { opens_at } = rules.window(None, now)
        {
            return Self::WindowClosed(opens_at);
        }
        if (running, waiting) == (0, 0) && rules.membership == Membership::Joining {
            return Self::AwaitsDevices(rules.not_after);
        }
        let of = rules.phase_count();
        let verdict = results
            .get(phase as usize)
            .map(|it| it.verdict(rules.phase(phase)));
        let soaking = results
            .get(phase as usize)
            .map_or(0, |it| it.soaking(rules.phase(phase)));
        match verdict {
            Some(Verdict::Failed { results: 0, .. })
                if rules.membership == Membership::Joining && of > phase as usize + 1 =>
            {
                Self::EmptyPhase(phase)
            }
            Some(Verdict::Open { results, wanted }) if of > phase as usize + 1 => Self::Phase {
                phase,
                of,
                results,
                wanted,
                soaking,
            },
            _ => Self::Runs { running, waiting },
        }
    }

    /// The same of a task of which so many upgrades, counted up to [`PUT_OFF_COUNTED`], are put off until their devices may spend again, the first of
    /// them until then.
    #[must_use]
    pub fn with_put_off(self, (put_off, until): (u32, Option<UtcMillis>)) -> Self {
        match (self, until) {
            (
                Self::Runs {
                    running: 0,
                    waiting,
                },
                Some(until),
            ) if u64::from(put_off) >= waiting.min(PUT_OFF_COUNTED.into()) => {
                Self::OverBudget { waiting, until }
            }
            (stand, _) => stand,
        }
    }

    /// A stable word for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Over(state) => state.name(),
            Self::Held(hold) => hold.why.code(),
            Self::StartsAt(_) => "scheduled",
            Self::WindowClosed(_) => "window_closed",
            Self::AwaitsDevices(_) | Self::EmptyPhase(_) => "joining",
            Self::Phase { .. } => "phase",
            Self::OverBudget { .. } => "over_budget",
            Self::Runs { .. } => "running",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::HoldReason;

    const NOW: UtcMillis = UtcMillis(1_800_000_000_000);

    #[test]
    fn a_task_that_devices_join_says_what_it_waits_for() {
        use Membership::{Joining, Snapshot};
        let phase = |waiting, running, succeeded| Results {
            waiting,
            running,
            succeeded,
            ..Results::default()
        };
        let none = phase(0, 0, 0);
        let runs = |running, waiting| Stand::Runs { running, waiting };
        let opened = Stand::Phase {
            phase: 0,
            of: 2,
            results: 0,
            wanted: 1,
            soaking: 0,
        };
        let waits = Stand::AwaitsDevices(None);
        for (membership, phases, results, expected) in [
            (Joining, 1, vec![phase(0, 0, 7)], waits.clone()),
            (Joining, 1, vec![], waits.clone()),
            (Joining, 2, vec![phase(0, 0, 1), none.clone()], waits),
            (Joining, 1, vec![phase(0, 1, 0)], runs(1, 0)),
            (
                Joining,
                2,
                vec![none.clone(), phase(3, 0, 0)],
                Stand::EmptyPhase(0),
            ),
            (Joining, 2, vec![phase(1, 0, 0), none.clone()], opened),
            (Snapshot, 2, vec![none, phase(3, 0, 0)], runs(0, 3)),
        ] {
            let mut rules = TaskRules {
                membership,
                ..TaskRules::default()
            };
            if phases == 2 {
                rules.phases.push(crate::task::PhaseRule {
                    count: Some(1),
                    ..crate::task::PhaseRule::default()
                });
            }
            let of = |hold: Option<&Hold>| {
                let state = TaskState::Running;
                Stand::of(state, NOW, &rules, hold, (0, &results), NOW)
            };
            assert_eq!(of(None), expected, "{membership:?} {results:?}");
            let hold = Hold {
                why: HoldReason::Paused { note: None },
                at: NOW,
            };
            assert_eq!(of(Some(&hold)), Stand::Held(hold));
        }
    }
}
