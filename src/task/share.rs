//! What a task has of the slots of a cell beside other tasks. Pure.

use std::{cmp::Reverse, time::Duration};

use super::{TaskId, TaskRules};
use crate::clock::UtcMillis;

/// The highest priority.
pub const MAX_PRIORITY: u8 = 9;
/// The highest weight.
pub const MAX_WEIGHT: u32 = 1_000;

/// What a task has of the slots of a cell beside other tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Tasks of a higher priority come first: 0 to [`MAX_PRIORITY`].
    pub priority: u8,
    /// Of tasks of the same priority each has slots in proportion to its weight: 1 to [`MAX_WEIGHT`].
    pub weight: u32,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            priority: 5,
            weight: 1,
        }
    }
}

impl Share {
    /// As the task says.
    pub fn of(rules: &TaskRules) -> Self {
        let default = Self::default();
        Self {
            priority: rules.priority.unwrap_or(default.priority),
            weight: rules.weight.unwrap_or(default.weight),
        }
    }

    /// The priority of devices of which one has waited for so long: it is one higher for each `ageing`, up to [`MAX_PRIORITY`].
    /// Without ageing it stays what it is.
    pub fn aged(self, waited: Duration, ageing: Duration) -> u8 {
        let rises = waited.as_millis().checked_div(ageing.as_millis());
        let rises = u8::try_from(rises.unwrap_or(0)).unwrap_or(u8::MAX);
        self.priority.saturating_add(rises).min(MAX_PRIORITY)
    }
}

/// A task with devices that wait in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// The task.
    pub task: TaskId,
    /// What it says.
    pub share: Share,
    /// Its devices that wait there.
    pub waiting: u32,
    /// Since when the first of them waits.
    pub since: UtcMillis,
}

/// How a task stands beside others in a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareNow {
    /// The task.
    pub task: TaskId,
    /// Its devices that wait there.
    pub waiting: u32,
    /// Its priority, with what it has gained by waiting.
    pub priority: u8,
    /// What it says, without.
    pub own_priority: u8,
    /// Its weight.
    pub weight: u32,
    /// The weights of all tasks of that priority.
    pub weights: u64,
    /// Tasks of a higher priority that have devices waiting there, with it: the highest first.
    pub before: Vec<(TaskId, u8)>,
}

impl ShareNow {
    /// How `task` stands among those that have devices waiting in a cell; `None` where it is alone there.
    pub fn of(task: TaskId, queued: &[Queued], now: UtcMillis, ageing: Duration) -> Option<Self> {
        let own = queued.iter().find(|it| it.task == task)?;
        if queued.len() < 2 {
            return None;
        }
        let aged = |it: &Queued| it.share.aged(now.since(it.since), ageing);
        let priority = aged(own);
        let equals = queued.iter().filter(|it| aged(it) == priority);
        let mut before: Vec<_> = (queued.iter())
            .map(|it| (it.task, aged(it)))
            .filter(|(_, other)| *other > priority)
            .collect();
        before.sort_unstable_by_key(|(task, priority)| (Reverse(*priority), *task));
        Some(Self {
            task,
            waiting: own.waiting,
            priority,
            own_priority: own.share.priority,
            weight: own.share.weight,
            weights: equals.map(|it| u64::from(it.share.weight)).sum(),
            before,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_says_nothing_is_in_the_middle() {
        let share = Share::of(&TaskRules::default());
        assert_eq!((share.priority, share.weight), (5, 1));
        let rules = TaskRules {
            priority: Some(0),
            weight: Some(1_000),
            ..TaskRules::default()
        };
        let share = Share::of(&rules);
        assert_eq!((share.priority, share.weight), (0, 1_000));
    }

    #[test]
    fn who_waits_rises_to_the_top() {
        let hours = Duration::from_hours;
        let share = Share {
            priority: 3,
            weight: 1,
        };
        for (waited, priority) in [
            (0, 3),
            (5, 3),
            (6, 4),
            (11, 4),
            (12, 5),
            (36, 9),
            (6_000, 9),
        ] {
            let aged = share.aged(hours(waited), hours(6));
            assert_eq!(aged, priority, "after {waited} h");
        }
        assert_eq!(share.aged(hours(6_000), Duration::ZERO), 3);
    }

    #[test]
    fn a_task_stands_beside_those_of_its_priority_and_behind_higher_ones() {
        let queued = |task, priority, weight, since| Queued {
            task: TaskId(task),
            share: Share { priority, weight },
            waiting: 3,
            since: UtcMillis(since),
        };
        let hour = Duration::from_hours(1);
        let now = UtcMillis(0) + hour;
        let of = |task, queued: &[Queued]| ShareNow::of(TaskId(task), queued, now, hour);
        let alone = [queued(1, 5, 7, 0)];
        assert_eq!(of(1, &alone), None);
        let all = [
            queued(1, 5, 1, now.0),
            queued(2, 4, 3, 0),
            queued(3, 7, 9, now.0),
            queued(4, 8, 9, now.0),
        ];
        // the second one has waited for an hour
        let second = of(2, &all).unwrap();
        assert_eq!((second.priority, second.own_priority), (5, 4));
        assert_eq!((second.weight, second.weights), (3, 4));
        assert_eq!(second.before, [(TaskId(4), 8), (TaskId(3), 7)]);
        let first = of(4, &all).unwrap();
        assert_eq!((first.weight, first.weights), (9, 9));
        assert_eq!(first.before, []);
        assert_eq!(of(9, &all), None);
    }
}
