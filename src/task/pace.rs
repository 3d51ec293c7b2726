//! How many upgrades of a task may begin now by its rate: never more in any minute than the rate says. Pure.

use std::{collections::HashMap, time::Duration};

use super::TaskId;
use crate::clock::{Instant, Now};

/// Nanoseconds of a minute, and of a millisecond: beginnings follow each other within less than a millisecond.
const MINUTE_NS: u64 = 60_000_000_000;
const MILLI_NS: u64 = 1_000_000;

/// The paces of tasks that have a rate. Begun anew with the server: nothing is saved up while it is down.
#[derive(Debug, Default)]
pub struct Paces(HashMap<TaskId, Pace>);

/// One task's: the generic cell rate algorithm (ITU-T I.371, annex A).
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// When the next one would conform, if none were allowed ahead, nanoseconds.
    theoretical_ns: u64,
}

/// What a rate means: a beginning every so often, and so many at once after a pause.
#[derive(Debug, Clone, Copy)]
struct Tick {
    every_ns: u64,
    burst: u64,
}

impl Tick {
    /// In a minute, so many begin at most.
    fn of(per_minute: u32) -> Self {
        // A look at the store every 10 ms cannot begin one at a time.
        let per_minute = u64::from(per_minute);
        let burst = (per_minute / 600).max(1);
        // with the burst they are as many as the rate says
        let steady = per_minute.saturating_sub(burst - 1).max(1);
        Self {
            every_ns: MINUTE_NS.div_ceil(steady),
            burst,
        }
    }
}

impl Paces {
    /// How many may begin at `now`, and if none, when the next one may.
    pub fn allowed(&self, task: TaskId, per_minute: u32, now: Now) -> Result<u32, Instant> {
        let tick = Tick::of(per_minute);
        let ahead_ns = tick.every_ns * (tick.burst - 1);
        let now_ns = nanos(now.instant);
        let theoretical_ns = self.0.get(&task).map_or(now_ns, |pace| pace.theoretical_ns);
        let over_ns = theoretical_ns.saturating_sub(now_ns);
        if over_ns > ahead_ns {
            let wait_ms = (over_ns - ahead_ns).div_ceil(MILLI_NS);
            return Err(now.instant + Duration::from_millis(wait_ms));
        }
        let free = (ahead_ns - over_ns) / tick.every_ns + 1;
        Ok(u32::try_from(free).unwrap_or(u32::MAX))
    }

    /// So many begin.
    pub fn begun(&mut self, task: TaskId, per_minute: u32, count: u32, now: Now) {
        let tick = Tick::of(per_minute);
        let now_ns = nanos(now.instant);
        let pace = self.0.entry(task).or_insert(Pace {
            theoretical_ns: now_ns,
        });
        pace.theoretical_ns = pace.theoretical_ns.max(now_ns) + tick.every_ns * u64::from(count);
    }

    /// Forgets all tasks but those.
    pub fn retain(&mut self, keep: impl Fn(TaskId) -> bool) {
        self.0.retain(|task, _| keep(*task));
    }
}

fn nanos(instant: Instant) -> u64 {
    instant.as_millis().saturating_mul(MILLI_NS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::UtcMillis;

    fn at(ms: u64) -> Now {
        Now {
            instant: Instant::from_millis(1_000 + ms),
            utc: UtcMillis(0),
        }
    }

    const TASK: TaskId = TaskId(1);

    /// When upgrades begin, if all that may begin does at each of these times.
    fn begun(per_minute: u32, looks: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut paces = Paces::default();
        let mut begun = Vec::new();
        for ms in looks {
            if let Ok(allowed) = paces.allowed(TASK, per_minute, at(ms)) {
                paces.begun(TASK, per_minute, allowed, at(ms));
                begun.extend(std::iter::repeat_n(ms, allowed as usize));
            }
        }
        begun
    }

    fn most_in_a_minute(begun: &[u64]) -> usize {
        let within = |(i, from): (usize, &u64)| begun.partition_point(|at| *at < from + 60_000) - i;
        begun.iter().enumerate().map(within).max().unwrap_or(0)
    }

    #[test]
    fn one_a_minute_is_one_a_minute() {
        let looks = (0..300).map(|second| second * 1_000);
        assert_eq!(begun(1, looks), [0, 60_000, 120_000, 180_000, 240_000]);
    }

    #[test]
    fn reaches_its_rate() {
        for per_minute in [7, 600, 6_000, 60_000] {
            let begun = begun(per_minute, (0..60_000).step_by(10));
            let begun = u32::try_from(begun.len()).unwrap();
            let share = f64::from(begun) / f64::from(per_minute);
            assert!((0.97..=1.0).contains(&share), "{per_minute}: {share}");
        }
    }

    #[test]
    fn tells_when_the_next_may_begin() {
        let mut paces = Paces::default();
        paces.begun(TASK, 60, 1, at(0));
        assert_eq!(paces.allowed(TASK, 60, at(400)), Err(at(1_000).instant));
        assert_eq!(paces.allowed(TASK, 60, at(1_000)), Ok(1));
        assert_eq!(paces.allowed(TaskId(2), 60, at(0)), Ok(1));
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate(per_minute in 1_u32..50_000, pauses in prop::collection::vec(0_u64..30_000, 1..200)) {
            let looks = pauses.iter().scan(0, |now, pause| { *now += pause; Some(*now) });
            let begun = begun(per_minute, looks);
            prop_assert!(most_in_a_minute(&begun) <= per_minute as usize);
        }
    }
}
