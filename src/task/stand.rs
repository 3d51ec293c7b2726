use super::{Hold, Membership, Results, TaskRules, TaskState, Verdict, WindowState};
use crate::clock::UtcMillis;

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

    /// A stable word for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Over(state) => state.name(),
            Self::Held(hold) => hold.why.code(),
            Self::StartsAt(_) => "scheduled",
            Self::WindowClosed(_) => "window_closed",
            Self::AwaitsDevices(_) => "joining",
            Self::Phase { .. } => "phase",
            Self::Runs { .. } => "running",
        }
    }
}
