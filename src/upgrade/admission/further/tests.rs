use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::super::{Admission, Outlook, Readiness, Step};
use crate::{clock::Instant, config::AdmissionConfig, ledger::TaskId};

const TASK: TaskId = TaskId(1);
/// Lanes from here on are sites.
const SITE: u32 = 100;
const SERVICE: u64 = 100;

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1_000)
}

fn admission(overtake_s: u64) -> Admission<u32, u32> {
    Admission::new(&AdmissionConfig {
        per_cell_per_second: 1_000_000,
        per_second: 1_000_000,
        overtake_s,
        ..AdmissionConfig::default()
    })
}

fn outlook(readiness: Readiness) -> Outlook {
    Outlook {
        readiness,
        service: Duration::from_secs(SERVICE),
        reach: Instant::MAX,
    }
}

fn ready(_: u32) -> Outlook {
    outlook(Readiness::Ready)
}

fn wait(admission: &mut Admission<u32, u32>, device: u32, cell: u32, limit: u32, sites: &[u32]) {
    admission.wait(device, cell, TASK, limit, at(u64::from(device)));
    admission.compete(device, cell, sites.iter().copied());
}

/// Polls these cells, and whoever is asked then, until nobody more is admitted.
fn settle(
    admission: &mut Admission<u32, u32>,
    now: Instant,
    cells: impl IntoIterator<Item = u32>,
    look: impl Fn(u32) -> Outlook,
) -> Vec<(u32, u32)> {
    let mut admitted = Vec::new();
    let mut poll = |admission: &mut Admission<u32, u32>, cell| {
        while let Some(Step::Admit(device)) = admission.poll(now, cell, &look) {
            admitted.push((device, cell));
        }
    };
    for cell in cells {
        poll(admission, cell);
    }
    let mut asked = 0;
    while let Some(cell) = admission.stir(now) {
        poll(admission, cell);
        asked += 1;
        assert!(asked < 10_000, "asked for ever");
    }
    admitted
}

#[test]
fn a_device_has_slots_in_all_of_its_lanes_or_in_none() {
    let mut admission = admission(600);
    admission.limit(SITE, Some(1));
    admission.limit(SITE + 1, Some(1));
    wait(&mut admission, 1, 0, 10, &[SITE]);
    wait(&mut admission, 2, 1, 10, &[SITE + 1, SITE]);
    wait(&mut admission, 3, 2, 10, &[SITE + 1]);
    let admitted = settle(&mut admission, at(10), 0..3, ready);
    // 2 has room in one of its sites, and holds nothing there
    assert_eq!(admitted, [(1, 0), (3, 2)]);
    admission.release(1, 0);
    assert_eq!(settle(&mut admission, at(20), [0], ready), []);
    admission.release(3, 2);
    assert_eq!(settle(&mut admission, at(30), [2], ready), [(2, 1)]);
    assert_eq!((admission.taken(SITE), admission.taken(SITE + 1)), (1, 1));
    admission.release(2, 1);
    assert_eq!((admission.taken(SITE), admission.taken(SITE + 1)), (0, 0));
    assert_eq!(admission.further_lane_count(), 0);
}

#[test]
fn nobody_behind_one_that_waits_for_its_site_waits_for_that_as_well() {
    let mut admission = admission(600);
    admission.limit(SITE, Some(1));
    admission.restore(9, 0, at(100));
    admission.restore_further(8, 5, [SITE].into_iter(), at(100));
    wait(&mut admission, 1, 0, 2, &[SITE]);
    wait(&mut admission, 2, 0, 2, &[]);
    assert_eq!(settle(&mut admission, at(10), [0], ready), [(2, 0)]);
    assert_eq!(admission.wanted(SITE), 1);
}

#[test]
fn those_of_a_site_have_their_turn_by_how_long_they_have_waited_whatever_their_cell() {
    let mut admission = admission(600);
    admission.limit(SITE, Some(1));
    for device in 0..12 {
        wait(&mut admission, device, (device * 7) % 4, 10, &[SITE]);
    }
    let mut order = settle(&mut admission, at(100), 0..4, ready);
    let mut holder = order.clone();
    while let Some((device, cell)) = holder.pop() {
        admission.release(device, cell);
        holder = settle(&mut admission, at(100), [], ready);
        order.extend(&holder);
    }
    // whoever was polled first was the first
    let order: Vec<u32> = order.into_iter().map(|(device, _)| device).collect();
    assert_eq!(order, (0..12).collect::<Vec<_>>());
}

#[test]
fn a_site_that_one_cell_cannot_use_is_used_by_the_next() {
    let mut admission = admission(600);
    admission.limit(SITE, Some(1));
    admission.restore_further(9, 5, [SITE].into_iter(), at(100));
    wait(&mut admission, 1, 0, 1, &[SITE]);
    wait(&mut admission, 2, 1, 1, &[SITE]);
    assert_eq!(settle(&mut admission, at(10), 0..2, ready), []);
    admission.restore(8, 0, at(500));
    admission.release(9, 5);
    // 1 came first, and its cell is full
    assert_eq!(settle(&mut admission, at(20), [], ready), [(2, 1)]);
}

#[test]
fn one_that_is_passed_over_again_and_again_comes_first_after_a_set_time() {
    let mut admission = admission(600);
    admission.limit(SITE, Some(1));
    // both lanes of 1 are always in use, by turns: never is there room in both at once
    admission.restore(1_000, 0, at(SERVICE));
    wait(&mut admission, 1, 0, 1, &[SITE]);
    wait(&mut admission, 2_000, 1, 10, &[SITE]);
    let mut ends: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
    ends.insert(SERVICE / 2, (1_000, 0));
    let (mut next, mut had_it) = (3_000, None);
    for second in 0..4_000 {
        let mut touched = vec![0, 1];
        if let Some((device, cell)) = ends.remove(&second) {
            admission.release(device, cell);
            touched.push(cell);
        }
        // somebody else is there for either
        for (cell, sites) in [(0, &[][..]), (1, &[SITE][..])] {
            if admission.waiting(cell).count() < 3 {
                wait(&mut admission, next, cell, 1, sites);
                next += 1;
            }
        }
        for (device, cell) in settle(&mut admission, at(second), touched, ready) {
            if device == 1 {
                had_it.get_or_insert(second);
            }
            let mut end = second + SERVICE;
            while ends.contains_key(&end) {
                end += 1;
            }
            ends.insert(end, (device, cell));
        }
        assert!(admission.taken(SITE) <= 1);
    }
    let had_it = had_it.expect("it starves");
    assert!(had_it <= 600 + 3 * SERVICE, "after {had_it} s");
}

#[test]
fn a_slot_is_kept_for_one_that_is_measured_for_it_until_it_is_known_to_be_away() {
    let mut admission = admission(600);
    admission.limit(SITE, Some(1));
    wait(&mut admission, 1, 0, 10, &[SITE]);
    wait(&mut admission, 2, 1, 10, &[SITE]);
    let of_1 = |readiness| {
        move |device| {
            outlook(if device == 1 {
                readiness
            } else {
                Readiness::Ready
            })
        }
    };
    assert_eq!(
        admission.poll(at(10), 0, of_1(Readiness::Stale)),
        Some(Step::Measure(1))
    );
    let probing = of_1(Readiness::Probing);
    assert_eq!(settle(&mut admission, at(10), 0..2, probing), []);
    // it says so again
    admission.heard(1, 0);
    assert_eq!(settle(&mut admission, at(11), 0..2, probing), []);
    admission.heard(1, 0);
    let asleep = of_1(Readiness::Asleep);
    assert_eq!(settle(&mut admission, at(12), 0..2, asleep), [(2, 1)]);
}

#[test]
fn another_limit_holds_at_once_and_takes_no_slot_away() {
    let mut admission = admission(600);
    admission.limit(SITE, Some(2));
    for device in 0..8 {
        wait(&mut admission, device, device % 2, 10, &[SITE]);
    }
    assert_eq!(settle(&mut admission, at(10), 0..2, ready).len(), 2);
    admission.limit(SITE, Some(4));
    assert_eq!(settle(&mut admission, at(11), [], ready).len(), 2);
    admission.limit(SITE, Some(1));
    assert_eq!(admission.taken(SITE), 4);
    assert_eq!(settle(&mut admission, at(12), 0..2, ready), []);
    admission.limit(SITE, None);
    assert_eq!(settle(&mut admission, at(13), [], ready).len(), 4);
}

#[test]
fn a_device_in_no_cell_waits_in_the_queue_of_its_site() {
    let mut admission = admission(600);
    admission.limit(SITE, Some(2));
    wait(&mut admission, 1, 0, 10, &[SITE]);
    for device in 2..5 {
        wait(&mut admission, device, SITE, u32::MAX, &[SITE]);
    }
    let admitted = settle(&mut admission, at(10), [0, SITE], ready);
    assert_eq!(admitted, [(1, 0), (2, SITE)]);
    admission.release(1, 0);
    assert_eq!(settle(&mut admission, at(11), [], ready), [(3, SITE)]);
    assert_eq!((admission.taken(SITE), admission.wanted(SITE)), (2, 1));
}

#[test]
fn one_that_sleeps_is_told_when_its_site_has_room() {
    let mut admission = admission(600);
    admission.limit(SITE, Some(1));
    admission.restore_further(9, 5, [SITE].into_iter(), at(400));
    for device in 1..3 {
        wait(&mut admission, device, 0, 10, &[SITE]);
    }
    settle(&mut admission, at(10), [0], ready);
    let turns = admission.forecast(at(10), 0, &[1, 2], ready);
    // one takes what the other leaves, as long as that has it
    assert_eq!((turns[&1], turns[&2]), (at(400), at(790)));
}

#[test]
fn a_slot_is_not_kept_for_one_whose_cell_is_closed() {
    let mut admission = admission(600);
    admission.limit(SITE, Some(1));
    admission.restore_further(9, 5, [SITE].into_iter(), at(9_000));
    admission.restore(8, 0, at(9_000));
    admission.restore(7, 2, at(9_000));
    wait(&mut admission, 1, 0, 2, &[SITE]);
    wait(&mut admission, 2, 1, 2, &[SITE]);
    wait(&mut admission, 3, 2, 1, &[SITE]);
    assert_eq!(settle(&mut admission, at(10), 0..3, ready), []);
    // its cell closes while it is passed over
    admission.restrict(0, Some(0));
    admission.release(9, 5);
    assert_eq!(settle(&mut admission, at(1_000), [], ready), [(2, 1)]);
    admission.release(2, 1);
    // and here while a slot is kept for it
    wait(&mut admission, 4, 1, 2, &[SITE]);
    assert_eq!(settle(&mut admission, at(1_001), [], ready), []);
    assert_eq!(settle(&mut admission, at(1_001), [1], ready), []);
    admission.restrict(2, Some(0));
    assert_eq!(settle(&mut admission, at(1_002), [2], ready), [(4, 1)]);
    // each has its turn once its cell is open
    admission.release(4, 1);
    admission.restrict(0, None);
    assert_eq!(settle(&mut admission, at(1_003), [0], ready), [(1, 0)]);
}

#[test]
fn those_in_the_queue_of_a_site_are_paced_with_all_others() {
    let mut admission = Admission::new(&AdmissionConfig {
        per_second: 2,
        ..AdmissionConfig::default()
    });
    admission.limit(SITE, Some(1));
    for device in 1..6 {
        wait(&mut admission, device, SITE, u32::MAX, &[SITE]);
    }
    assert_eq!(settle(&mut admission, at(10), [SITE], ready).len(), 1);
    admission.limit(SITE, None);
    assert_eq!(settle(&mut admission, at(10), [], ready).len(), 1);
    let Some(Step::Later(then)) = admission.poll(at(10), SITE, ready) else {
        panic!("it is not said when to ask again");
    };
    assert_eq!(settle(&mut admission, then, [SITE], ready).len(), 1);
}

#[derive(Debug, Clone)]
enum Input {
    /// The device waits, with what is its own.
    Wait(u32),
    Withdraw(u32),
    Release(u32),
    Becomes(u32, Readiness),
    /// The device falls asleep, and nobody says so.
    Dozes(u32),
    /// Nobody is admitted to the cell.
    Close(u32),
    Open(u32),
    Limit(u32, Option<u32>),
    Pass(u64),
}

const DEVICES: u32 = 24;
const CELLS: u32 = 4;
const SITES: u32 = 3;

fn cell_of(device: u32) -> u32 {
    match device % 5 {
        // in no cell
        4 => SITE + device % SITES,
        cell => cell % CELLS,
    }
}

fn sites_of(device: u32) -> Vec<u32> {
    let own = SITE + device % SITES;
    match device % 7 {
        0 if cell_of(device) < SITE => Vec::new(),
        1 | 2 => vec![own, SITE + (device + 1) % SITES],
        _ => vec![own],
    }
}

fn input() -> impl Strategy<Value = Input> {
    let device = || 0..DEVICES;
    let readiness = prop::sample::select(vec![
        Readiness::Ready,
        Readiness::Ready,
        Readiness::Ready,
        Readiness::Stale,
        Readiness::Unheard,
        Readiness::Asleep,
    ]);
    let most = prop::sample::select(vec![Some(1), Some(1), Some(2), Some(3), None]);
    prop_oneof![
        6 => device().prop_map(Input::Wait),
        1 => device().prop_map(Input::Withdraw),
        4 => device().prop_map(Input::Release),
        4 => (device(), readiness).prop_map(|(d, readiness)| Input::Becomes(d, readiness)),
        2 => device().prop_map(Input::Dozes),
        1 => (0..CELLS).prop_map(Input::Close),
        2 => (0..CELLS).prop_map(Input::Open),
        1 => (SITE..SITE + SITES, most).prop_map(|(site, most)| Input::Limit(site, most)),
        3 => (0u64..200).prop_map(Input::Pass),
    ]
}

/// Watches from outside, and drives as the gate does.
struct World {
    admission: Admission<u32, u32>,
    now: Instant,
    limits: BTreeMap<u32, u32>,
    /// The limit of whoever is in a cell.
    cell_limit: u32,
    waiting: Vec<u32>,
    active: Vec<u32>,
    readiness: Vec<Readiness>,
    closed: BTreeSet<u32>,
    /// Lanes in which something changed since they were polled.
    touched: BTreeSet<u32>,
    /// When to look at lanes again.
    later: BTreeMap<u32, Instant>,
}

impl World {
    fn new(greedy: bool, cell_limit: u32) -> Self {
        let mut world = Self {
            admission: admission(if greedy { 1_000_000_000 } else { 600 }),
            now: at(1_000),
            limits: BTreeMap::new(),
            cell_limit,
            waiting: Vec::new(),
            active: Vec::new(),
            readiness: vec![Readiness::Ready; DEVICES as usize],
            closed: BTreeSet::new(),
            touched: BTreeSet::new(),
            later: BTreeMap::new(),
        };
        for site in SITE..SITE + SITES {
            world.take(Input::Limit(site, Some(1 + site % 2)));
        }
        world
    }

    #[expect(clippy::needless_pass_by_value, reason = "an input is taken once")]
    fn take(&mut self, input: Input) {
        match input {
            Input::Wait(device) if self.active.contains(&device) => {}
            Input::Wait(device) => {
                let (cell, sites) = (cell_of(device), sites_of(device));
                let limit = if cell < SITE {
                    self.cell_limit
                } else {
                    u32::MAX
                };
                self.admission.wait(device, cell, TASK, limit, self.now);
                self.admission.compete(device, cell, sites.into_iter());
                if !self.waiting.contains(&device) {
                    self.waiting.push(device);
                }
                self.touched.insert(cell);
                self.may_be_away(device);
            }
            Input::Withdraw(device) => {
                self.waiting.retain(|it| *it != device);
                self.admission.withdraw(device, cell_of(device));
                self.touched.insert(cell_of(device));
            }
            Input::Release(device) => {
                if self.active.contains(&device) {
                    self.active.retain(|it| *it != device);
                    self.admission.release(device, cell_of(device));
                    self.touched.insert(cell_of(device));
                }
            }
            Input::Becomes(device, readiness) => {
                self.readiness[device as usize] = readiness;
                self.admission.heard(device, cell_of(device));
                self.touched.insert(cell_of(device));
                self.may_be_away(device);
            }
            Input::Dozes(device) => {
                self.readiness[device as usize] = Readiness::Asleep;
                self.may_be_away(device);
                self.touched.insert(cell_of(device));
            }
            Input::Close(cell) => {
                self.closed.insert(cell);
                self.admission.restrict(cell, Some(0));
                self.touched.insert(cell);
            }
            Input::Open(cell) => {
                self.closed.remove(&cell);
                self.admission.restrict(cell, None);
                self.touched.insert(cell);
            }
            Input::Limit(site, most) => {
                match most {
                    Some(most) => self.limits.insert(site, most),
                    None => self.limits.remove(&site),
                };
                self.admission.limit(site, most);
            }
            Input::Pass(seconds) => self.now = self.now + Duration::from_secs(seconds),
        }
        self.settle();
    }

    /// What is kept for one that cannot be reached is let go.
    fn may_be_away(&mut self, device: u32) {
        if self.readiness[device as usize] == Readiness::Asleep
            && self.waiting.contains(&device)
            && self.admission.unreachable(device)
        {
            self.touched.insert(cell_of(device));
        }
    }

    /// Polls the lanes in which something has changed, and those that were to be looked at again.
    fn settle(&mut self) {
        let due = self.later.iter().filter(|(_, at)| **at <= self.now);
        self.touched.extend(due.map(|(lane, _)| *lane));
        while let Some(lane) = self.touched.pop_first() {
            self.poll(lane);
        }
        let mut asked = 0;
        while let Some(lane) = self.admission.stir(self.now) {
            self.poll(lane);
            asked += 1;
            assert!(asked < 10_000, "asked for ever");
        }
        for site in SITE..SITE + SITES {
            assert_eq!(self.admission.taken(site), self.in_site(site));
        }
        self.nothing_is_idle();
    }

    fn poll(&mut self, lane: u32) {
        self.later.remove(&lane);
        for _ in 0..=4 * DEVICES {
            let readiness = self.readiness.clone();
            let look = |device: u32| outlook(readiness[device as usize]);
            match self.admission.poll(self.now, lane, look) {
                Some(Step::Admit(device)) => self.admit(device, lane),
                Some(Step::Measure(device) | Step::Ping(device)) => {
                    self.readiness[device as usize] = Readiness::Probing;
                }
                Some(Step::Later(then)) => {
                    assert!(then > self.now);
                    self.later.insert(lane, then);
                    return;
                }
                None => return,
            }
        }
        panic!("polled for ever");
    }

    fn in_site(&self, site: u32) -> u32 {
        let here = self
            .active
            .iter()
            .filter(|it| sites_of(**it).contains(&site));
        u32::try_from(here.count()).unwrap()
    }

    fn in_cell(&self, cell: u32) -> u32 {
        let here = self.active.iter().filter(|it| cell_of(**it) == cell);
        u32::try_from(here.count()).unwrap()
    }

    /// Whether there is room for it in all of its lanes.
    fn fits(&self, device: u32) -> bool {
        let cell = cell_of(device);
        let in_sites = |site: &u32| {
            self.limits
                .get(site)
                .is_none_or(|most| self.in_site(*site) < *most)
        };
        (cell >= SITE || self.in_cell(cell) < self.cell_limit)
            && !self.closed.contains(&cell)
            && sites_of(device).iter().all(in_sites)
    }

    fn admit(&mut self, device: u32, lane: u32) {
        assert_eq!(lane, cell_of(device));
        assert_eq!(self.readiness[device as usize], Readiness::Ready);
        assert!(self.waiting.contains(&device));
        assert!(self.fits(device), "one of its lanes is full");
        self.waiting.retain(|it| *it != device);
        self.active.push(device);
    }

    /// Nobody waits who is ready, and for whom there is room: but for one whose place is another's that may come.
    fn nothing_is_idle(&self) {
        for device in &self.waiting {
            let ready = self.readiness[*device as usize] == Readiness::Ready;
            if ready && self.fits(*device) {
                let mut others = self.waiting.iter();
                let kept = others.any(|other| self.is_kept_for(*other, *device));
                assert!(kept, "{device} could go on");
            }
        }
    }

    /// Whether a slot that `device` could have may be kept for `other`: as it is being looked for, or was passed over for long.
    fn is_kept_for(&self, other: u32, device: u32) -> bool {
        let (cell, sites) = (cell_of(other), sites_of(device));
        let at_a_site = sites_of(other).iter().any(|site| sites.contains(site));
        let member = self.admission.furthers.members.get(&other);
        let comes = match self.readiness[other as usize] {
            Readiness::Asleep => false,
            Readiness::Probing => at_a_site || cell == cell_of(device),
            _ => at_a_site && member.is_some_and(|it| it.overdue.is_some()),
        };
        comes && other != device && !self.closed.contains(&cell)
    }

    /// All are awake from now on, and whoever has a slot is done after a while.
    fn ends(&mut self) {
        for cell in 0..CELLS {
            self.take(Input::Open(cell));
        }
        for round in 0.. {
            for device in 0..DEVICES {
                self.take(Input::Becomes(device, Readiness::Ready));
            }
            self.take(Input::Pass(SERVICE));
            for device in self.active.clone() {
                self.take(Input::Release(device));
            }
            if self.waiting.is_empty() && self.active.is_empty() {
                break;
            }
            assert!(round < 1_000, "somebody starves");
        }
        assert_eq!(self.admission.lane_count(), 0);
        assert_eq!(self.admission.further_lane_count(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens: no limit is passed, nobody has a slot in some of its lanes only, nothing is free that somebody could have,
    /// and in the end everybody gets one.
    #[test]
    fn nothing_is_idle_and_no_limit_passed(
        inputs in prop::collection::vec(input(), 0..150),
        cell_limit in 1_u32..4,
    ) {
        let mut world = World::new(true, cell_limit);
        for input in inputs {
            world.take(input);
        }
        world.ends();
    }

    /// The same where those that were passed over for long come first.
    #[test]
    fn no_limit_is_passed_where_some_come_first(
        inputs in prop::collection::vec(input(), 0..150),
        cell_limit in 1_u32..4,
    ) {
        let mut world = World::new(false, cell_limit);
        for input in inputs {
            world.take(input);
        }
        world.ends();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Others come again and again; whoever waits since the beginning has its turn all the same.
    #[test]
    fn nobody_starves(cell_limit in 1_u32..4, first in prop::collection::btree_set(0..DEVICES, 1..6)) {
        let mut world = World::new(false, cell_limit);
        for device in 0..DEVICES {
            if !first.contains(&device) {
                world.take(Input::Wait(device));
            }
        }
        for device in &first {
            world.take(Input::Wait(*device));
        }
        let mut had_it = BTreeSet::new();
        for second in 0..1_500_u64 {
            world.take(Input::Pass(SERVICE / 10));
            // each in its own time, and back at once
            let done = world.active.clone().into_iter().filter(|it| u64::from(*it) % 10 == second % 10);
            for device in done.collect::<Vec<_>>() {
                had_it.extend(first.get(&device));
                world.take(Input::Release(device));
                world.take(Input::Wait(device));
            }
        }
        prop_assert_eq!(had_it, first);
    }
}
