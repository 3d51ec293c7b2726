//! The radio network between a device and the server: when a datagram arrives, how often, if at all.
//!
//! Nothing here reads a clock; what happens by chance follows from the seed. A datagram goes in with the
//! time at which it was sent, the times of its arrivals come out.

use serde::{Deserialize, Serialize};

use crate::{rng::Rng, spec::CoverageClass};

/// The way of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the device to the server.
    Up,
    /// From the server to the device.
    Down,
}

/// Extended discontinuous reception (3GPP TS 23.682 §5.13a): a device that has been quiet is reached at
/// its paging times only. The network keeps what comes in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// From one paging time to the next, in ms; NB-IoT knows 20.48 s to 2.91 h.
    pub cycle_ms: u64,
    /// How long the device can be reached at once after it was active, in ms.
    pub connected_ms: u64,
}

/// What the network does to datagrams besides taking its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// Losses per 1,000 datagrams in good, medium and poor coverage.
    pub lost: [u16; 3],
    /// Datagrams per 1,000 that arrive twice.
    pub doubled: u16,
    /// Datagrams per 1,000 that may overtake those before them; the others keep their order.
    pub reordered: u16,
    /// Datagrams per 1,000 that are held up.
    pub delayed: u16,
    /// How long these are held up at most, in ms.
    pub longest_delay_ms: u64,
    /// Quarters of an hour per 1,000 in which a cell carries nothing.
    pub outages: u16,
}

impl Conditions {
    /// Everything arrives, once and in order.
    pub const CALM: Self = Self {
        lost: [0; 3],
        doubled: 0,
        reordered: 0,
        delayed: 0,
        longest_delay_ms: 0,
        outages: 0,
    };

    /// An ordinary day.
    pub const USUAL: Self = Self {
        lost: [5, 20, 60],
        doubled: 3,
        reordered: 5,
        delayed: 5,
        longest_delay_ms: 20_000,
        outages: 0,
    };

    /// A bad one.
    pub const HARSH: Self = Self {
        lost: [60, 120, 250],
        doubled: 50,
        reordered: 100,
        delayed: 40,
        longest_delay_ms: 120_000,
        outages: 20,
    };
}

/// How well a device is covered: decides on round trips and losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quality {
    Good,
    Medium,
    Poor,
}

impl Quality {
    const fn of(class: CoverageClass) -> Self {
        match class {
            CoverageClass::Good | CoverageClass::Implausible | CoverageClass::NoCell => Self::Good,
            CoverageClass::Medium | CoverageClass::Unmeasurable => Self::Medium,
            CoverageClass::Poor => Self::Poor,
        }
    }

    /// Shortest and longest time of one way in ms: round trips of 1 to 2, 2 to 5 and 5 to 12 s.
    const fn one_way_ms(self) -> (u64, u64) {
        match self {
            Self::Good => (500, 1_000),
            Self::Medium => (1_000, 2_500),
            Self::Poor => (2_500, 6_000),
        }
    }
}

const OUTAGE_MS: u64 = 15 * 60 * 1_000;

/// One device's radio.
#[derive(Debug, Clone)]
pub struct Radio {
    rng: Rng,
    quality: Quality,
    paging: Option<Paging>,
    /// The same for all devices of a cell.
    cell_seed: u64,
    active_ms: u64,
    /// When the latest datagram of each direction arrives.
    latest_ms: [u64; 2],
}

impl Radio {
    /// The radio of a device. `cell_seed` is the same for all devices of a cell, whose outages they share.
    pub const fn new(
        class: CoverageClass,
        paging: Option<Paging>,
        cell_seed: u64,
        seed: u64,
    ) -> Self {
        Self {
            rng: Rng::new(seed),
            quality: Quality::of(class),
            paging,
            cell_seed,
            active_ms: 0,
            latest_ms: [0; 2],
        }
    }

    /// When a datagram that is sent at `now_ms` arrives: never, once, or twice.
    pub fn carry(
        &mut self,
        now_ms: u64,
        direction: Direction,
        conditions: &Conditions,
    ) -> [Option<u64>; 2] {
        if direction == Direction::Up {
            self.active_ms = self.active_ms.max(now_ms);
        }
        let lost = conditions.lost[self.quality as usize];
        if self.chance(lost) || self.is_out(now_ms, conditions.outages) {
            return [None; 2];
        }
        let first = self.arrival(now_ms, direction, conditions);
        let again = self
            .chance(conditions.doubled)
            .then(|| self.arrival(now_ms, direction, conditions));
        [Some(first), again]
    }

    fn arrival(&mut self, now_ms: u64, direction: Direction, conditions: &Conditions) -> u64 {
        let (shortest, longest) = self.quality.one_way_ms();
        let mut at = now_ms + shortest + self.rng.below(longest - shortest + 1);
        if self.chance(conditions.delayed) {
            at += self.rng.below(conditions.longest_delay_ms + 1);
        }
        if direction == Direction::Down {
            at = self.paged(at);
        }
        let latest = self.latest_ms[direction as usize];
        if !self.chance(conditions.reordered) {
            at = at.max(latest);
        }
        self.latest_ms[direction as usize] = at.max(latest);
        at
    }

    /// The time at which the device can be reached, from `at` on.
    fn paged(&mut self, at: u64) -> u64 {
        let Some(Paging {
            cycle_ms,
            connected_ms,
        }) = self.paging
        else {
            return at;
        };
        let at = if at <= self.active_ms.saturating_add(connected_ms) {
            at
        } else {
            at.next_multiple_of(cycle_ms.max(1))
        };
        self.active_ms = self.active_ms.max(at);
        at
    }

    fn chance(&mut self, per_mille: u16) -> bool {
        per_mille > 0 && self.rng.below(1_000) < u64::from(per_mille)
    }

    fn is_out(&self, now_ms: u64, per_mille: u16) -> bool {
        let quarter = (now_ms / OUTAGE_MS).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        per_mille > 0 && Rng::new(self.cell_seed ^ quarter).below(1_000) < u64::from(per_mille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(radio: &mut Radio, conditions: &Conditions, count: u64) -> Vec<Option<u64>> {
        (0..count)
            .flat_map(|i| radio.carry(i * 10, Direction::Up, conditions))
            .collect()
    }

    #[test]
    fn a_calm_network_delivers_everything_once_and_in_order() {
        let mut radio = Radio::new(CoverageClass::Poor, None, 1, 7);
        let all = arrivals(&mut radio, &Conditions::CALM, 1_000);
        let times: Vec<u64> = all.into_iter().flatten().collect();
        assert_eq!(times.len(), 1_000);
        assert!(times.is_sorted());
        assert!((2_500..=6_000).contains(&times[0]));
    }

    #[test]
    fn a_harsh_network_loses_doubles_and_reorders() {
        let mut radio = Radio::new(CoverageClass::Medium, None, 1, 7);
        let all = arrivals(&mut radio, &Conditions::HARSH, 1_000);
        let doubled = all.chunks(2).filter(|pair| pair[1].is_some()).count();
        let lost = all.chunks(2).filter(|pair| pair[0].is_none()).count();
        assert!((80..160).contains(&lost), "{lost}");
        assert!((20..80).contains(&doubled), "{doubled}");
        let times: Vec<u64> = all.into_iter().flatten().collect();
        assert!(!times.is_sorted());
    }

    #[test]
    fn one_seed_gives_one_network() {
        let run = |seed| {
            let mut radio = Radio::new(CoverageClass::Good, None, 1, seed);
            arrivals(&mut radio, &Conditions::HARSH, 100)
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn a_quiet_device_is_reached_when_it_is_paged() {
        let paging = Paging {
            cycle_ms: 20_480,
            connected_ms: 10_000,
        };
        let mut radio = Radio::new(CoverageClass::Good, Some(paging), 1, 7);
        radio.carry(0, Direction::Up, &Conditions::CALM);
        let at = |radio: &mut Radio, now| {
            radio.carry(now, Direction::Down, &Conditions::CALM)[0].unwrap()
        };
        assert!(at(&mut radio, 1_000) < 2_001);
        assert_eq!(at(&mut radio, 60_000), 61_440);
    }

    #[test]
    fn an_outage_silences_a_whole_cell() {
        let conditions = Conditions {
            outages: 500,
            ..Conditions::CALM
        };
        let carried = |seed, quarter| {
            let mut radio = Radio::new(CoverageClass::Good, None, 9, seed);
            radio.carry(quarter * OUTAGE_MS, Direction::Down, &conditions)[0].is_some()
        };
        let quarters = |seed| (0..100).map(|q| carried(seed, q)).collect::<Vec<_>>();
        assert_eq!(quarters(1), quarters(2));
        assert!(quarters(1).contains(&true) && quarters(1).contains(&false));
    }
}
