//! A limit that follows how crowded a lane is.
//!
//! What is measured is how long a KiB takes in the downloads of a lane: their round trips, and what has to be said again. It is
//! compared with what a KiB takes to devices of the same limit while few upgrade there. When the middle one of some measurements
//! says that it takes four times as long, the limit falls to seven tenths of those who have a slot; when it says three times at
//! most, one more may upgrade, until coverage alone counts again. A cell that is used well has a queue: with less of one it would
//! be idle while devices install. So the limit of a crowded lane goes up and down about what
//! the lane carries (additive increase, multiplicative decrease: Chiu and Jain, 1989).
//!
//! A measurement that began before the last change tells nothing of it, and is left out.

use std::collections::{HashMap, VecDeque};

use crate::{clock::Instant, ledger::Lane};

/// A lane is crowded where a KiB takes so many percent of what it takes while few upgrade,
const CROWDED: u64 = 400;
/// and is not where it takes so many at most. In between the limit stays.
const QUIET: u64 = 300;
/// Percent of those who have a slot, to which the limit falls.
const FALLS_TO: u64 = 70;
/// It falls no further.
const LEAST: u32 = 2;
/// While so many have a slot, a KiB takes as long as it does in a quiet lane.
const FEW: u32 = 3;
/// Measurements that are looked at together: half as many as the limit, within these bounds.
const FEWEST: usize = 4;
const MOST: usize = 16;
/// Lanes that are followed at once.
const LANES: usize = 100_000;

/// What was measured of a part of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) lane: Lane,
    /// The limit of the device.
    pub(super) limit: u32,
    /// When the part began.
    pub(super) began_at: Instant,
    pub(super) ms_per_kib: u64,
}

/// A limit has changed because of how crowded its lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adapted {
    /// The lane.
    pub lane: Lane,
    /// How many may upgrade in it at once; `None` where coverage alone counts again.
    pub most: Option<u32>,
    /// How many that were before.
    pub before: Option<u32>,
    /// What a KiB takes, in percent of what it takes while few upgrade there.
    pub percent: u64,
    /// When it was changed.
    pub at: Instant,
}

/// A lane that is followed.
#[derive(Debug, Default)]
struct Crowd {
    last: Option<Adapted>,
    /// How long a KiB takes while few upgrade, to devices of each limit, ms.
    quiet: HashMap<u32, u64>,
    /// What was measured since the last change.
    measured: Vec<Measured>,
}

/// What was measured, in percent of what a KiB takes while few upgrade; and of whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Measured {
    percent: u64,
    limit: u32,
    ms_per_kib: u64,
}

/// The lanes whose limits follow how crowded they are.
#[derive(Debug, Default)]
pub(super) struct Adaptive {
    on: bool,
    /// The highest limit that coverage allows.
    highest: u32,
    lanes: HashMap<Lane, Crowd>,
    changes: VecDeque<Adapted>,
}

impl Adaptive {
    /// Follows lanes of which nothing else is said, or no more of these. Returns whether that is news.
    pub(super) const fn configure(&mut self, on: bool, highest: u32) -> bool {
        let before = self.on;
        (self.on, self.highest) = (on, highest);
        before != on
    }

    /// Whether a lane is followed of which this is said.
    pub(super) fn follows(&self, own: Option<bool>) -> bool {
        own.unwrap_or(self.on)
    }

    /// Lanes that are followed.
    pub(super) fn lanes(&self) -> impl Iterator<Item = Lane> {
        self.lanes.keys().copied()
    }

    /// The lane is followed no more, and not limited.
    pub(super) fn forget(&mut self, lane: Lane) {
        self.lanes.remove(&lane);
    }

    /// The last change of a lane's limit, where it is limited.
    pub(super) fn limited(&self, lane: Lane) -> Option<Adapted> {
        let last = self.lanes.get(&lane)?.last?;
        last.most.is_some().then_some(last)
    }

    /// A limit that has changed, and was not told yet.
    pub(super) fn poll(&mut self) -> Option<Adapted> {
        self.changes.pop_front()
    }

    /// Takes what was measured while so many have a slot. `assumed` is what a KiB is taken to need where nothing was measured,
    /// ms. Returns whether the limit has changed.
    pub(super) fn measured(
        &mut self,
        now: Instant,
        sample: Sample,
        active: u32,
        assumed: u64,
    ) -> bool {
        if !self.lanes.contains_key(&sample.lane) && !self.has_room() {
            return false;
        }
        let crowd = self.lanes.entry(sample.lane).or_default();
        let measured = crowd.compare(sample, active, assumed);
        let changed_at = crowd.last.map_or(Instant::ZERO, |last| last.at);
        if sample.began_at < changed_at {
            return false;
        }
        crowd.measured.push(measured);
        let limit = crowd.most().unwrap_or(active) as usize;
        if crowd.measured.len() < (limit / 2).clamp(FEWEST, MOST) {
            return false;
        }
        let percent = crowd.middle();
        let before = crowd.most();
        let most = if percent >= CROWDED {
            let held = u64::from(before.unwrap_or(u32::MAX).min(active));
            let falls_to = u32::try_from(held * FALLS_TO / 100).unwrap_or(u32::MAX);
            Some(falls_to.max(LEAST).min(before.unwrap_or(u32::MAX)))
        } else if percent <= QUIET {
            (before.map(|most| most + 1)).filter(|most| *most < self.highest)
        } else {
            before
        };
        if most == before {
            return false;
        }
        let change = Adapted {
            lane: sample.lane,
            most,
            before,
            percent,
            at: now,
        };
        crowd.last = Some(change);
        self.changes.push_back(change);
        true
    }

    /// Makes room for one more lane, where those can be forgotten that are not limited.
    fn has_room(&mut self) -> bool {
        if self.lanes.len() >= LANES {
            self.lanes.retain(|_, crowd| crowd.most().is_some());
        }
        self.lanes.len() < LANES
    }
}

impl Crowd {
    fn most(&self) -> Option<u32> {
        self.last?.most
    }

    /// Compares with what a KiB takes while few upgrade. What shows that, is learnt.
    fn compare(&mut self, sample: Sample, active: u32, assumed: u64) -> Measured {
        let Sample {
            limit, ms_per_kib, ..
        } = sample;
        if active <= FEW {
            let quiet = self.quiet.get(&limit).copied();
            let learnt = quiet.map_or(ms_per_kib, |quiet| (3 * quiet + ms_per_kib) / 4);
            self.quiet.insert(limit, learnt);
        }
        let quiet = self.quiet.get(&limit).copied().unwrap_or(assumed);
        Measured {
            percent: ms_per_kib.saturating_mul(100) / quiet.max(1),
            limit,
            ms_per_kib,
        }
    }

    /// The middle one of what was measured: a device that has restarted in the midst of its download says nothing of the lane.
    /// Where that is less than a KiB takes while few upgrade, that was assumed to be too much.
    fn middle(&mut self) -> u64 {
        let mut measured = std::mem::take(&mut self.measured);
        measured.sort_unstable();
        let Some(middle) = measured.get(measured.len() / 2) else {
            return 100;
        };
        if middle.percent < 100 {
            self.quiet.insert(middle.limit, middle.ms_per_kib);
        }
        middle.percent
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const LANE: Lane = Lane::Cell(7);
    const ASSUMED: u64 = 3_000;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    fn adaptive() -> Adaptive {
        let mut adaptive = Adaptive::default();
        adaptive.configure(true, 50);
        adaptive
    }

    fn sample(began_at: Instant, ms_per_kib: u64) -> Sample {
        Sample {
            lane: LANE,
            limit: 50,
            began_at,
            ms_per_kib,
        }
    }

    fn limit(adaptive: &Adaptive) -> Option<u32> {
        adaptive.limited(LANE)?.most
    }

    /// A lane in which so many are measured, one a second.
    fn measure(adaptive: &mut Adaptive, from: u64, times: u64, ms_per_kib: u64, active: u32) {
        for second in from..from + times {
            let sample = sample(at(second), ms_per_kib);
            adaptive.measured(at(second), sample, active, ASSUMED);
        }
    }

    #[test]
    fn a_crowded_lane_has_fewer_slots_and_gets_them_back_one_by_one() {
        let mut adaptive = adaptive();
        measure(&mut adaptive, 1, 16, 12_600, 50);
        assert_eq!(limit(&adaptive), Some(35));
        let change = adaptive.poll().unwrap();
        assert_eq!(
            (change.before, change.most, change.percent),
            (None, Some(35), 420)
        );
        // what was measured before tells nothing of that
        for second in 17..60 {
            adaptive.measured(at(second), sample(at(10), 12_600), 40, ASSUMED);
        }
        assert_eq!(limit(&adaptive), Some(35));
        measure(&mut adaptive, 60, 16, 10_000, 35);
        assert_eq!(limit(&adaptive), Some(35), "it carries as much as that");
        measure(&mut adaptive, 100, 16, 12_600, 35);
        assert_eq!(limit(&adaptive), Some(24));
        measure(&mut adaptive, 200, 12, 3_100, 24);
        assert_eq!(limit(&adaptive), Some(25));
        measure(&mut adaptive, 300, 9_000, 3_100, 25);
        assert_eq!(limit(&adaptive), None, "coverage alone counts again");
    }

    #[test]
    fn a_quiet_lane_stays_as_it_is() {
        let mut adaptive = adaptive();
        measure(&mut adaptive, 1, 5_000, 3_500, 50);
        assert_eq!((limit(&adaptive), adaptive.poll()), (None, None));
    }

    #[test]
    fn where_a_kib_takes_long_without_a_crowd_that_is_how_it_is() {
        let mut adaptive = adaptive();
        measure(&mut adaptive, 1, 8, 12_000, 3);
        assert_eq!(limit(&adaptive), None);
        measure(&mut adaptive, 20, 100, 13_000, 50);
        assert_eq!(limit(&adaptive), None);
        // where that shows only when few are left, the limit rises from there
        let mut crowded = self::adaptive();
        let mut second = 1;
        while limit(&crowded) != Some(LEAST) {
            let active = limit(&crowded).unwrap_or(50);
            measure(&mut crowded, second, 1, 12_000, active);
            second += 1;
            assert!(second < 500);
        }
        for _ in 0..2_000 {
            let active = limit(&crowded).unwrap_or(50);
            measure(&mut crowded, second, 1, 12_000, active);
            second += 1;
        }
        assert_eq!(limit(&crowded), None);
    }

    #[test]
    fn one_that_stands_still_is_no_crowd() {
        let mut adaptive = adaptive();
        for second in 1..1_000 {
            let ms_per_kib = if second % 4 == 0 { 600_000 } else { 3_000 };
            measure(&mut adaptive, second, 1, ms_per_kib, 50);
        }
        assert_eq!(limit(&adaptive), None);
    }

    #[test]
    fn a_lane_is_followed_as_it_says_or_as_all_are() {
        let mut adaptive = adaptive();
        assert!(adaptive.follows(None) && !adaptive.follows(Some(false)));
        measure(&mut adaptive, 1, 16, 12_600, 50);
        adaptive.configure(false, 50);
        assert!(!adaptive.follows(None) && adaptive.follows(Some(true)));
        assert_eq!(adaptive.lanes().collect::<Vec<_>>(), [LANE]);
        adaptive.forget(LANE);
        assert_eq!(limit(&adaptive), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is measured: never below the least, never above what coverage allows, up by one at a time.
        #[test]
        fn it_stays_within_its_bounds(
            samples in prop::collection::vec((1_u64..60_000, 1_u32..=50), 0..2_000),
        ) {
            let mut adaptive = adaptive();
            for (second, (ms_per_kib, active)) in (1..).zip(samples) {
                let now = at(second) + Duration::from_millis(1);
                let before = limit(&adaptive);
                let active = active.min(before.unwrap_or(50));
                adaptive.measured(now, sample(now, ms_per_kib), active, ASSUMED);
                match (before, limit(&adaptive)) {
                    (Some(before), Some(most)) => {
                        prop_assert!((LEAST..50).contains(&most) && most <= before + 1);
                    }
                    (Some(before), None) => prop_assert_eq!(before, 49),
                    (None, Some(most)) => prop_assert!((LEAST..50).contains(&most)),
                    (None, None) => {}
                }
            }
        }
    }
}
