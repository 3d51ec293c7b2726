//! Which device is in which phase: drawn by lot, so that no phase has the devices that were bought first. The lot of a device is
//! the same every time, so that a draw can be repeated. Pure.

mod apportion;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use super::{PhaseRule, TaskRules};
use crate::{clock::UtcMillis, filter::Facts};
use apportion::Apportion;

/// Where a device stands in a draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place {
    /// The first phase whose filter lets it through, from 0.
    pub named: Option<u32>,
    /// What it has in common with others that are to be spread over the phases as it is; see [`stratum`].
    pub stratum: u128,
}

/// What devices have in common that are to be spread over the phases alike: each kind has a number. Kinds of one model follow each other,
/// among these those of one version, and then those of one class of coverage: so what is too much of one kind is too little of one that
/// is nearly the same. Models and versions are told apart by 40 bits of a hash.
pub fn stratum(model: Option<&str>, version: Option<&str>, class: u8, cell: Option<u32>) -> u128 {
    let text = |text: Option<&str>| u128::from(text.map_or(0, |text| (lot(text, 1) >> 24) | 1));
    let cell = cell.map_or(0, |cell| u128::from(cell) + 1);
    (text(model) << 81) | (text(version) << 41) | (u128::from(class) << 33) | cell
}

impl Place {
    /// Of a device in a task that is created at `now`.
    pub fn of(rules: &TaskRules, device: &impl Facts, now: UtcMillis) -> Self {
        let lets_through = |phase: &PhaseRule| {
            let filter = phase.filter.as_ref();
            filter.is_some_and(|filter| filter.matches(device, now))
        };
        let named = rules.phases.iter().position(lets_through);
        Self {
            named: named.and_then(|phase| u32::try_from(phase).ok()),
            stratum: 0,
        }
    }
}

/// How many devices of a task are in each place.
#[derive(Debug, Clone, Default)]
pub struct Census {
    places: BTreeMap<Place, u64>,
}

impl Census {
    /// So many devices, all in one place.
    pub fn of(devices: u64) -> Self {
        Self {
            places: BTreeMap::from([(Place::default(), devices)]),
        }
    }

    /// One more device.
    pub fn count(&mut self, place: Place) {
        *self.places.entry(place).or_default() += 1;
    }

    /// The first phase with a filter, from 0, that none of the devices would be in.
    pub fn empty_phase(&self, rules: &TaskRules) -> Option<u32> {
        if self.devices() == 0 {
            return None; // there is nobody at all
        }
        let sizes = sizes(rules, self);
        let is_empty = |phase: usize| sizes.values().all(|sizes| sizes.get(phase) == Some(&0));
        let by_filter = rules
            .phases
            .iter()
            .enumerate()
            .filter(|(_, phase)| phase.filter.is_some());
        let mut empty = by_filter
            .map(|(phase, _)| phase)
            .filter(|phase| is_empty(*phase));
        empty.next().and_then(|phase| u32::try_from(phase).ok())
    }

    /// All devices.
    fn devices(&self) -> u64 {
        self.places.values().sum()
    }
}

/// Deals devices out to the phases of a task, one after the other: selection sampling, which needs one pass and gives each phase
/// as many as it is to have.
#[derive(Debug, Clone)]
pub struct Draw {
    /// Of each place, where in `open` its numbers are.
    places: BTreeMap<Place, Range<usize>>,
    /// Phases, and how many devices each is to get still.
    open: Vec<(u32, u64)>,
    /// Whoever is left over is in this one.
    last: u32,
    seed: u64,
}

impl Draw {
    /// For a task of these devices. Draws of different seeds differ.
    pub fn new(rules: &TaskRules, census: &Census, seed: u64) -> Self {
        let last = rules.phase_count().saturating_sub(1);
        let last = u32::try_from(last).unwrap_or(u32::MAX);
        let mut draw = Self {
            places: BTreeMap::new(),
            open: Vec::new(),
            last,
            seed,
        };
        for (named, sizes) in sizes(rules, census) {
            let mut apportion = Apportion::new(&sizes, seed, |place, gets| {
                let from = draw.open.len();
                draw.open.extend_from_slice(gets);
                draw.places.insert(place, from..draw.open.len());
            });
            let of_these = (census.places.iter()).filter(|(place, _)| place.named == named);
            for (place, devices) in of_these {
                apportion.add(*place, *devices);
            }
        }
        draw
    }

    /// The phase of the next device, from 0. Whoever was not counted is in the phase that names it, or else in the last one.
    pub fn phase(&mut self, endpoint: &str, place: Place) -> u32 {
        let otherwise = place.named.unwrap_or(self.last);
        let open = self.places.get(&place).cloned();
        let Some(open) = open.and_then(|open| self.open.get_mut(open)) else {
            return otherwise;
        };
        let left: u64 = open.iter().map(|(_, devices)| devices).sum();
        let mut at = scaled(lot(endpoint, self.seed), left);
        for (phase, devices) in open {
            if at < *devices {
                *devices -= 1;
                return *phase;
            }
            at -= *devices;
        }
        otherwise
    }
}

/// Of the devices that each phase names, and of those that none does, how many are in which phase.
fn sizes(rules: &TaskRules, census: &Census) -> BTreeMap<Option<u32>, Vec<u64>> {
    let mut left = BTreeMap::<Option<u32>, u64>::new();
    for (place, devices) in &census.places {
        *left.entry(place.named).or_default() += devices;
    }
    let all = census.devices();
    let mut sizes: BTreeMap<_, _> = (left.keys())
        .map(|named| (*named, vec![0; rules.phase_count()]))
        .collect();
    let mut give = |phase: usize, gets: BTreeMap<Option<u32>, u64>| {
        for (named, devices) in gets {
            if let Some(size) = sizes.get_mut(&named).and_then(|sizes| sizes.get_mut(phase)) {
                *size += devices;
            }
        }
    };
    let mut percent = 0.0;
    for (number, phase) in rules.phases.iter().enumerate() {
        let named = u32::try_from(number)
            .ok()
            .filter(|_| phase.filter.is_some());
        let wanted = match (named, phase.percent, phase.count) {
            (Some(_), ..) => {
                let gets = left.remove_entry(&named).into_iter().collect();
                give(number, gets);
                continue;
            }
            (None, Some(it), _) => {
                // rounded together, so that what is a whole stays one
                let before = share(all, percent);
                percent += it;
                share(all, percent).saturating_sub(before).max(1)
            }
            (None, None, Some(count)) => count,
            (None, None, None) => u64::MAX,
        };
        give(number, taken(&mut left, wanted));
    }
    give(rules.phase_count().saturating_sub(1), left);
    sizes
}

/// Takes so many devices, if there are as many: of each kind as many as correspond to its share in what is left, rounded to the
/// nearest where that is possible.
fn taken(left: &mut BTreeMap<Option<u32>, u64>, wanted: u64) -> BTreeMap<Option<u32>, u64> {
    let all: u64 = left.values().sum();
    let wanted = wanted.min(all);
    let mut gets = BTreeMap::new();
    let mut rests = Vec::new();
    for (named, devices) in &*left {
        let share = u128::from(*devices) * u128::from(wanted);
        let whole = u128::from(all.max(1));
        // no more than there are
        let floor = u64::try_from(share / whole).unwrap_or(u64::MAX);
        gets.insert(*named, floor);
        rests.push((Reverse(share % whole), *named));
    }
    rests.sort_unstable();
    let short = wanted - gets.values().sum::<u64>();
    for (_, named) in rests
        .into_iter()
        .take(usize::try_from(short).unwrap_or(usize::MAX))
    {
        *gets.entry(named).or_default() += 1;
    }
    for (named, devices) in left {
        *devices -= gets.get(named).copied().unwrap_or(0);
    }
    gets
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
    /// For a task of these devices.
    pub fn new(rules: &TaskRules, census: &Census, seed: u64) -> Self {
        Self {
            draw: Draw::new(rules, census, seed),
            knows_zones: rules.knows_zones(),
            lots: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// The number of the next device's lot. `zone` is where it is.
    pub fn lot(&mut self, endpoint: &str, place: Place, zone: Option<&str>) -> u32 {
        let phase = self.draw.phase(endpoint, place);
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

/// The lot of a device: FNV-1a over its name, mixed.
fn lot(endpoint: &str, seed: u64) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    mixed(endpoint.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, fold))
}

/// As `SplitMix64` does.
fn mixed(mut lot: u64) -> u64 {
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
        let mut draw = Draw::new(rules, &Census::of(devices), seed);
        let mut sizes = vec![0; rules.phase_count()];
        for device in 0..devices {
            sizes[draw.phase(&format!("urn:imei:{device:015}"), Place::default()) as usize] += 1;
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
        let mut draw = Draw::new(
            &rules(r#"{"phases": [{"count": 1}, {}]}"#),
            &Census::of(1),
            1,
        );
        assert_eq!(draw.phase("a", Place::default()), 0);
        assert_eq!(draw.phase("b", Place::default()), 1);
    }

    #[test]
    fn a_phase_is_spread_over_the_fleet() {
        let rules = rules(r#"{"phases": [{"percent": 10}, {}]}"#);
        let mut draw = Draw::new(&rules, &Census::of(10_000), 7);
        let mut by_thousand = [0; 10];
        for device in 0..10_000_usize {
            if draw.phase(&format!("meter-{device:05}"), Place::default()) == 0 {
                by_thousand[device / 1_000] += 1;
            }
        }
        // 100 in each, give or take three standard deviations
        assert!(
            by_thousand.iter().all(|n| (70..=130).contains(n)),
            "{by_thousand:?}"
        );
    }

    /// How many devices of each place each phase gets.
    fn drawn_from(rules: &TaskRules, places: &[Place]) -> BTreeMap<(Option<u32>, u32), u64> {
        let mut census = Census::default();
        for place in places {
            census.count(*place);
        }
        let mut draw = Draw::new(rules, &census, 3);
        let mut drawn = BTreeMap::new();
        for (device, place) in places.iter().enumerate() {
            let phase = draw.phase(&format!("meter-{device:05}"), *place);
            *drawn.entry((place.named, phase)).or_default() += 1;
        }
        drawn
    }

    fn named(phase: Option<u32>) -> Place {
        Place {
            named: phase,
            ..Place::default()
        }
    }

    #[test]
    fn a_phase_by_filter_has_whom_it_names_and_no_phase_before_has() {
        let places = [
            vec![named(Some(0)); 40],
            vec![named(Some(2)); 60],
            vec![named(None); 900],
        ];
        let json =
            r#"{"phases": [{"filter": "site==a"}, {"percent": 10}, {"filter": "site==b"}, {}]}"#;
        let drawn = drawn_from(&rules(json), &places.concat());
        // ten percent of all thousand, of those that are left: 6.25 of the sixty
        let expected = [
            ((None, 1), 94),
            ((None, 3), 806),
            ((Some(0), 0), 40),
            ((Some(2), 1), 6),
            ((Some(2), 2), 54),
        ];
        assert_eq!(drawn, BTreeMap::from(expected));
    }

    #[test]
    fn a_phase_by_filter_that_nobody_would_be_in_is_found() {
        let empty = |json, places: &[Place]| {
            let mut census = Census::default();
            for place in places {
                census.count(*place);
            }
            census.empty_phase(&rules(json))
        };
        let json = r#"{"phases": [{"percent": 50}, {"filter": "site==a"}, {}]}"#;
        assert_eq!(empty(json, &[named(None); 4]), Some(1));
        assert_eq!(
            empty(json, &[named(None), named(Some(1)), named(Some(1))]),
            None
        );
        // the only one that it would name is drawn before
        assert_eq!(empty(json, &[named(Some(1))]), Some(1));
        assert_eq!(empty(json, &[]), None);
        assert_eq!(
            empty(r#"{"phases": [{"count": 9}, {}]}"#, &[named(None)]),
            None
        );
    }

    #[test]
    fn a_device_is_named_by_the_first_filter_that_lets_it_through() {
        let rules = rules(
            r#"{"phases": [{"count": 1}, {"filter": "endpoint==a*"}, {"filter": "endpoint==*b"}, {}]}"#,
        );
        let place = |endpoint| {
            let created_at = UtcMillis(0);
            let device = crate::filter::Unheard {
                endpoint,
                product: "p",
                created_at,
            };
            Place::of(&rules, &device, created_at).named
        };
        assert_eq!(["ab", "bb", "c"].map(place), [Some(1), Some(2), None]);
    }

    #[test]
    fn a_stratified_phase_has_of_each_kind_what_corresponds_to_it() {
        // three cells in four are of model a; cells are far smaller than what a phase draws one of
        let models = ["a", "a", "a", "b"];
        let place = |device: usize| Place {
            named: None,
            stratum: stratum(
                Some(models[device / 7 % 4]),
                None,
                u8::from((device / 7).is_multiple_of(3)),
                u32::try_from(device / 7).ok(),
            ),
        };
        let places: Vec<Place> = (0..7_000).map(place).collect();
        let mut census = Census::default();
        for place in &places {
            census.count(*place);
        }
        let rules =
            rules(r#"{"phases": [{"percent": 1}, {"percent": 9}, {}], "stratified": true}"#);
        let mut draw = Draw::new(&rules, &census, 5);
        let mut drawn = [0_i64; 3];
        let (mut of_b, mut of_weak) = ([0_i64; 3], [0_i64; 3]);
        for (device, place) in places.iter().enumerate() {
            let phase = draw.phase(&format!("meter-{device:05}"), *place) as usize;
            drawn[phase] += 1;
            of_b[phase] += i64::from(models[device / 7 % 4] == "b");
            of_weak[phase] += i64::from((device / 7).is_multiple_of(3));
        }
        assert_eq!(drawn, [70, 630, 6_300]);
        for (number, exact) in [70.0, 630.0, 6_300.0].into_iter().enumerate() {
            let near = |drawn: i64, share: f64| {
                let exact = exact * share;
                let drawn = f64::from(i32::try_from(drawn).unwrap());
                assert!((drawn - exact).abs() < 4.0, "{drawn} for {exact}");
            };
            near(of_b[number], 0.25);
            near(of_weak[number], 0.334);
        }
    }

    #[test]
    fn kinds_of_one_model_follow_each_other() {
        let kinds = [
            stratum(None, None, 0, None),
            stratum(None, Some("V1"), 0, None),
            stratum(Some("a"), None, 0, None),
            stratum(Some("a"), None, 0, Some(0)),
            stratum(Some("a"), None, 0, Some(u32::MAX)),
            stratum(Some("a"), None, 1, None),
            stratum(Some("a"), Some("V1"), 0, None),
        ];
        assert!(kinds.is_sorted_by(|a, b| a < b), "{kinds:?}");
    }

    #[test]
    fn who_was_not_counted_is_in_the_phase_that_names_him() {
        let rules = rules(r#"{"phases": [{"filter": "site==a"}, {"count": 1}, {}]}"#);
        let mut draw = Draw::new(&rules, &Census::of(1), 1);
        assert_eq!(draw.phase("a", named(Some(0))), 0);
        assert_eq!(draw.phase("b", named(None)), 1);
        assert_eq!(draw.phase("c", named(None)), 2);
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
