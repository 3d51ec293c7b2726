//! Which device is in which phase: drawn by lot, so that no phase has the devices that were bought first. The lot of a device is
//! the same every time, so that a draw can be repeated. Pure.

use std::{collections::HashMap, sync::Arc};

use super::TaskRules;

/// Deals devices out to the phases of a task, one after the other: selection sampling, which needs one pass and gives each phase
/// as many as it is to have.
#[derive(Debug, Clone)]
pub struct Draw {
    /// Devices that each phase is to get still.
    open: Vec<u64>,
    /// Of all phases.
    left: u64,
    seed: u64,
}

impl Draw {
    /// For a task of so many devices. Draws of different seeds differ.
    pub fn new(rules: &TaskRules, devices: u64, seed: u64) -> Self {
        let mut left = devices;
        let mut open = Vec::with_capacity(rules.phase_count());
        let mut percent = 0.0;
        for phase in &rules.phases {
            let wanted = match (phase.percent, phase.count) {
                (Some(it), _) => {
                    // rounded together, so that what is a whole stays one
                    let before = share(devices, percent);
                    percent += it;
                    share(devices, percent).saturating_sub(before).max(1)
                }
                (None, Some(count)) => count,
                (None, None) => left,
            };
            let gets = wanted.min(left);
            left -= gets;
            open.push(gets);
        }
        if open.len() < rules.phase_count() {
            open.push(left);
        } else if let Some(last) = open.last_mut() {
            *last += left;
        }
        Self {
            open,
            left: devices,
            seed,
        }
    }

    /// The phase of the next device, from 0. More devices than were said are in the last one.
    pub fn phase(&mut self, endpoint: &str) -> u32 {
        let last = self.open.len() - 1;
        let mut at = match self.left {
            0 => return u32::try_from(last).unwrap_or(u32::MAX),
            left => scaled(lot(endpoint, self.seed), left),
        };
        self.left -= 1;
        for (phase, open) in self.open.iter_mut().enumerate() {
            if at < *open {
                *open -= 1;
                return u32::try_from(phase).unwrap_or(u32::MAX);
            }
            at -= *open;
        }
        u32::try_from(last).unwrap_or(u32::MAX)
    }
}

/// What of a task begins under the same conditions: the devices of one phase, and of one time zone where that matters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lot {
    /// Its number in the task, from 0.
    pub lot: u32,
    /// Its phase, from 0.
    pub phase: u32,
    /// Its time zone.
    pub zone: Option<Arc<str>>,
}

/// Deals the devices of a task out to lots.
#[derive(Debug)]
pub struct Deal {
    draw: Draw,
    knows_zones: bool,
    lots: Vec<Lot>,
    numbers: HashMap<(u32, Option<Arc<str>>), u32>,
}

impl Deal {
    /// For a task of so many devices.
    pub fn new(rules: &TaskRules, devices: u64, seed: u64) -> Self {
        Self {
            draw: Draw::new(rules, devices, seed),
            knows_zones: rules.knows_zones(),
            lots: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// The number of the next device's lot. `zone` is where it is.
    pub fn lot(&mut self, endpoint: &str, zone: Option<&str>) -> u32 {
        let phase = self.draw.phase(endpoint);
        let zone: Option<Arc<str>> = zone.filter(|_| self.knows_zones).map(Into::into);
        let next = u32::try_from(self.lots.len()).unwrap_or(u32::MAX);
        let number = self.numbers.entry((phase, zone.clone())).or_insert(next);
        let lot = *number;
        if lot == next {
            self.lots.push(Lot { lot, phase, zone });
        }
        lot
    }

    /// The lots that there are so far, by their numbers.
    pub fn lots(&self) -> &[Lot] {
        &self.lots
    }
}

/// So many percent of a number.
fn share(of: u64, percent: f64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "devices are far fewer than 2^53"
    )]
    let share = (of as f64 * percent / 100.0).round() as u64;
    share
}

/// A number below `below` for a number of 64 bits.
fn scaled(lot: u64, below: u64) -> u64 {
    u64::try_from((u128::from(lot) * u128::from(below)) >> 64).unwrap_or(0)
}

/// The lot of a device: FNV-1a over its name, mixed as `SplitMix64` does.
fn lot(endpoint: &str, seed: u64) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut lot = endpoint.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, fold);
    lot = (lot ^ (lot >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    lot = (lot ^ (lot >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    lot ^ (lot >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(json: &str) -> TaskRules {
        serde_json::from_str(json).unwrap()
    }

    fn drawn(rules: &TaskRules, devices: u64, seed: u64) -> Vec<u64> {
        let mut draw = Draw::new(rules, devices, seed);
        let mut sizes = vec![0; rules.phase_count()];
        for device in 0..devices {
            sizes[draw.phase(&format!("urn:imei:{device:015}")) as usize] += 1;
        }
        sizes
    }

    #[test]
    fn each_phase_has_its_devices() {
        for (json, devices, sizes) in [
            ("{}", 7, &[7][..]),
            (
                r#"{"phases": [{"percent": 1}, {"percent": 9}, {}]}"#,
                1_000,
                &[10, 90, 900],
            ),
            (
                r#"{"phases": [{"count": 50}, {"percent": 50}]}"#,
                1_000,
                &[50, 500, 450],
            ),
            (r#"{"phases": [{"count": 50}]}"#, 20, &[20, 0]),
            // a canary of a small fleet is one device, not none
            (r#"{"phases": [{"percent": 1}, {}]}"#, 10, &[1, 9]),
            (
                r#"{"phases": [{"percent": 33.3}, {"percent": 33.3}, {"percent": 33.4}]}"#,
                100,
                &[33, 34, 33],
            ),
            (
                r#"{"phases": [{"percent": 50}, {"percent": 50}]}"#,
                0,
                &[0, 0],
            ),
        ] {
            assert_eq!(drawn(&rules(json), devices, 1), sizes, "{json}");
        }
    }

    #[test]
    fn who_is_added_meanwhile_is_in_the_last_phase() {
        let mut draw = Draw::new(&rules(r#"{"phases": [{"count": 1}, {}]}"#), 1, 1);
        assert_eq!(draw.phase("a"), 0);
        assert_eq!(draw.phase("b"), 1);
    }

    #[test]
    fn a_phase_is_spread_over_the_fleet() {
        let rules = rules(r#"{"phases": [{"percent": 10}, {}]}"#);
        let mut draw = Draw::new(&rules, 10_000, 7);
        let mut by_thousand = [0; 10];
        for device in 0..10_000_usize {
            if draw.phase(&format!("meter-{device:05}")) == 0 {
                by_thousand[device / 1_000] += 1;
            }
        }
        // 100 in each, give or take three standard deviations
        assert!(
            by_thousand.iter().all(|n| (70..=130).contains(n)),
            "{by_thousand:?}"
        );
    }

    proptest! {
        #[test]
        fn no_device_is_lost(counts in prop::collection::vec(1_u64..40, 0..6), devices in 0_u64..200, seed: u64) {
            let phases = counts.iter().map(|count| super::super::PhaseRule { count: Some(*count), ..Default::default() });
            let rules = TaskRules { phases: phases.collect(), ..TaskRules::default() };
            let sizes = drawn(&rules, devices, seed);
            prop_assert_eq!(sizes.iter().sum::<u64>(), devices);
            let mut left = devices;
            for (size, count) in sizes.iter().zip(&counts) {
                prop_assert_eq!(*size, (*count).min(left));
                left -= size;
            }
        }
    }
}
