use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const CELL: u32 = 7;
const TASK: TaskId = TaskId(1);

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1_000)
}

fn unpaced() -> AdmissionConfig {
    AdmissionConfig {
        per_cell_per_second: 1_000_000,
        per_second: 1_000_000,
        ..AdmissionConfig::default()
    }
}

fn admission() -> Admission<u32, u32> {
    Admission::new(&unpaced())
}

/// What each of these upgrades takes.
const SERVICE: Duration = Duration::from_secs(100);

fn outlook(readiness: Readiness) -> Outlook {
    Outlook {
        readiness,
        service: SERVICE,
        reach: Instant::MAX,
    }
}

fn ready(_: u32) -> Outlook {
    outlook(Readiness::Ready)
}

/// Admits until nobody more can be, and tells who was.
fn admit_all(
    admission: &mut Admission<u32, u32>,
    now: Instant,
    look: impl Fn(u32) -> Outlook,
) -> Vec<u32> {
    let mut admitted = Vec::new();
    while let Some(Step::Admit(device)) = admission.poll(now, CELL, &look) {
        admitted.push(device);
    }
    admitted
}

#[test]
fn admits_in_order_of_arrival_up_to_the_limit() {
    let mut admission = admission();
    for device in 0..12 {
        admission.wait(device, CELL, TASK, 10, at(u64::from(device)));
    }
    let admitted = admit_all(&mut admission, at(100), ready);
    assert_eq!(admitted, (0..10).collect::<Vec<_>>());
    admission.release(3, CELL);
    assert_eq!(admit_all(&mut admission, at(100), ready), [10]);
    assert_eq!(admission.active(CELL), 10);
}

#[test]
fn a_restart_keeps_the_order_of_arrival() {
    let mut admission = admission();
    admission.wait(2, CELL, TASK, 1, at(20));
    admission.wait(1, CELL, TASK, 1, at(10));
    assert_eq!(admit_all(&mut admission, at(30), ready), [1]);
}

#[test]
fn a_slot_held_before_a_restart_counts() {
    let mut admission = admission();
    admission.restore(9, CELL, at(50));
    admission.wait(1, CELL, TASK, 1, at(0));
    assert!(admit_all(&mut admission, at(0), ready).is_empty());
    admission.release(8, CELL); // which holds none
    assert!(admit_all(&mut admission, at(1), ready).is_empty());
    admission.release(9, CELL);
    assert_eq!(admit_all(&mut admission, at(2), ready), [1]);
}

#[test]
fn a_sleeper_is_passed_over_until_it_is_heard() {
    let mut admission = admission();
    admission.wait(1, CELL, TASK, 1, at(0));
    admission.wait(2, CELL, TASK, 1, at(1));
    let asleep = |device| match device {
        1 => outlook(Readiness::Asleep),
        _ => outlook(Readiness::Ready),
    };
    assert_eq!(admit_all(&mut admission, at(2), asleep), [2]);
    admission.release(2, CELL);
    let nothing = admission.poll(at(3), CELL, |_| panic!("a sleeper is not looked at"));
    assert_eq!(nothing, None);
    admission.heard(1, CELL);
    assert_eq!(admit_all(&mut admission, at(4), ready), [1]);
}

#[test]
fn those_who_need_an_emptier_cell_come_first() {
    let mut admission = admission();
    for (device, limit) in [(0, 50), (1, 10), (2, 1), (3, 1)] {
        admission.wait(device, CELL, TASK, limit, at(0));
    }
    assert_eq!(admit_all(&mut admission, at(0), ready), [2, 1, 0]);
}

#[test]
fn others_join_who_end_before_the_next_one_that_needs_the_cell_empty() {
    let mut admission = admission();
    let look = |device| Outlook {
        service: Duration::from_secs(match device {
            0..10 => 600,
            10..20 => 250,
            _ => 700,
        }),
        ..outlook(Readiness::Ready)
    };
    for (device, limit) in [(0, 1), (1, 1), (10, 10), (11, 10), (20, 50)] {
        admission.wait(device, CELL, TASK, limit, at(0));
    }
    // 20 would still be there when 1 could begin
    assert_eq!(admit_all(&mut admission, at(0), look), [0, 10, 11]);
    admission.release(10, CELL);
    admission.release(11, CELL);
    admission.wait(12, CELL, TASK, 10, at(1));
    assert_eq!(admit_all(&mut admission, at(300), look), [12]);
    admission.release(12, CELL);
    admission.wait(13, CELL, TASK, 10, at(2));
    assert!(admit_all(&mut admission, at(400), look).is_empty());
    admission.release(0, CELL);
    assert_eq!(admit_all(&mut admission, at(610), look), [1, 13, 20]);
}

#[test]
fn a_device_that_fits_is_held_back_for_a_set_time_only() {
    let mut admission = admission();
    let look = |device| Outlook {
        service: Duration::from_secs(if device < 2 { 5_000 } else { 9_000 }),
        ..outlook(Readiness::Ready)
    };
    for (device, limit) in [(0, 1), (1, 1), (2, 10), (3, 10)] {
        admission.wait(device, CELL, TASK, limit, at(0));
    }
    assert_eq!(admission.poll(at(0), CELL, look), Some(Step::Admit(0)));
    // 2 and 3 would be in the way of 1
    assert_eq!(
        admission.poll(at(0), CELL, look),
        Some(Step::Later(at(600)))
    );
    assert_eq!(
        admission.poll(at(599), CELL, look),
        Some(Step::Later(at(600)))
    );
    assert_eq!(admit_all(&mut admission, at(600), look), [2, 3]);
}

#[test]
fn those_who_were_held_back_long_enough_have_one_turn_for_each_of_the_others() {
    let mut admission = admission();
    let look = |_| Outlook {
        service: Duration::from_secs(5_000),
        ..outlook(Readiness::Ready)
    };
    admission.restore(9, CELL, at(1_000));
    for (device, limit) in [(1, 1), (2, 2), (3, 2), (4, 2)] {
        admission.wait(device, CELL, TASK, limit, at(0));
    }
    assert_eq!(admit_all(&mut admission, at(0), look), [0; 0]);
    assert_eq!(admit_all(&mut admission, at(600), look), [2]);
    admission.release(9, CELL);
    // 3 would be in the way of 1 again
    assert_eq!(admit_all(&mut admission, at(2_000), look), [0; 0]);
    admission.release(2, CELL);
    assert_eq!(admit_all(&mut admission, at(3_000), look), [1, 3]);
}

#[test]
fn a_cell_does_not_drain_for_a_sleeper() {
    let mut admission = admission();
    admission.wait(0, CELL, TASK, 50, at(0));
    admit_all(&mut admission, at(0), ready);
    admission.wait(1, CELL, TASK, 1, at(1));
    admission.wait(2, CELL, TASK, 50, at(2));
    let asleep = |device| match device {
        1 => outlook(Readiness::Asleep),
        _ => outlook(Readiness::Ready),
    };
    assert_eq!(admit_all(&mut admission, at(2), asleep), [2]);
}

#[test]
fn old_coverage_is_measured_anew_and_an_unheard_device_pinged_one_for_each_free_slot() {
    let mut admission = admission();
    for device in 0..3 {
        admission.wait(device, CELL, TASK, 1, at(u64::from(device)));
    }
    let poll = |admission: &mut Admission<u32, u32>, first, second| {
        admission.poll(at(10), CELL, |device| {
            outlook(match device {
                0 => first,
                1 => second,
                _ => Readiness::Stale,
            })
        })
    };
    assert_eq!(
        poll(&mut admission, Readiness::Stale, Readiness::Stale),
        Some(Step::Measure(0))
    );
    assert_eq!(
        poll(&mut admission, Readiness::Probing, Readiness::Unheard),
        None
    );
    assert_eq!(
        poll(&mut admission, Readiness::Asleep, Readiness::Unheard),
        Some(Step::Ping(1))
    );
}

#[test]
fn what_a_device_needs_before_its_turn_is_done_a_minute_ahead() {
    let mut admission = admission();
    admission.restore(9, CELL, at(300));
    admission.wait(1, CELL, TASK, 1, at(0));
    admission.wait(2, CELL, TASK, 1, at(1));
    let stale = |_| outlook(Readiness::Stale);
    let step = admission.poll(at(0), CELL, stale);
    assert_eq!(step, Some(Step::Later(at(240))));
    let step = admission.poll(at(240), CELL, stale);
    assert_eq!(step, Some(Step::Measure(1)));
    let probing = |device| match device {
        1 => outlook(Readiness::Probing),
        _ => outlook(Readiness::Stale),
    };
    assert_eq!(admission.poll(at(241), CELL, probing), None);
}

#[test]
fn nobody_takes_the_place_of_one_that_is_measured_for_it() {
    let mut admission = admission();
    admission.wait(1, CELL, TASK, 1, at(0));
    admission.wait(2, CELL, TASK, 10, at(1));
    let measuring = |device| match device {
        1 => outlook(Readiness::Probing),
        _ => outlook(Readiness::Ready),
    };
    assert!(admit_all(&mut admission, at(1), measuring).is_empty());
    assert_eq!(admit_all(&mut admission, at(9), ready), [1, 2]);
}

#[test]
fn admissions_are_paced_per_cell_and_overall() {
    let config = AdmissionConfig {
        per_cell_per_second: 2,
        per_second: 3,
        ..AdmissionConfig::default()
    };
    let mut admission = Admission::new(&config);
    for device in 0..10 {
        admission.wait(device, device % 2, TASK, 50, at(0));
    }
    let mut admitted = 0;
    for cell in [0, 1] {
        loop {
            match admission.poll(at(1), cell, ready) {
                Some(Step::Admit(_)) => admitted += 1,
                Some(Step::Later(then)) => break assert!(then > at(1) && then <= at(2)),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(admitted, 3);
}

#[test]
fn an_empty_cell_is_forgotten() {
    let mut admission = admission();
    admission.wait(1, CELL, TASK, 10, at(0));
    admit_all(&mut admission, at(0), ready);
    admission.wait(2, CELL, TASK, 10, at(0));
    admission.withdraw(2, CELL);
    admission.release(1, CELL);
    assert_eq!(admission.lane_count(), 0);
}

#[test]
fn a_forecast_names_those_who_can_wait_for_their_turn() {
    let mut admission = admission();
    admission.restore(9, CELL, at(50));
    for device in 0..4 {
        admission.wait(device, CELL, TASK, 1, at(u64::from(device)));
    }
    let look = |device| Outlook {
        reach: if device == 1 { at(100) } else { at(400) },
        ..outlook(Readiness::Ready)
    };
    let turns = admission.forecast(at(0), CELL, &[0, 1, 2, 3], look);
    // 1 is gone by then
    let expected = [(0, at(50)), (2, at(150)), (3, at(250))];
    assert_eq!(turns, HashMap::from(expected));
    let turns = admission.forecast(at(0), CELL, &[2], look);
    assert_eq!(turns, HashMap::from([(2, at(150))]));
}

#[test]
fn a_forecast_reckons_with_those_who_are_expected() {
    let mut admission = admission();
    let asleep = |device| Outlook {
        reach: Instant::MAX,
        ..outlook(if device == 1 {
            Readiness::Asleep
        } else {
            Readiness::Ready
        })
    };
    admission.wait(1, CELL, TASK, 1, at(0));
    admission.expect_back(1, CELL, Some(at(150)), true);
    admission.promise(1, CELL);
    for device in 2..5 {
        admission.wait(device, CELL, TASK, 1, at(0));
        admission.expect_back(device, CELL, None, true);
    }
    let turns = admission.forecast(at(0), CELL, &[2, 3, 4], asleep);
    // each takes 100 s: the one that was promised a turn has it between theirs
    let expected = [(2, at(0)), (3, at(100)), (4, at(300))];
    assert_eq!(turns, HashMap::from(expected));
}

#[test]
fn who_needs_the_lane_empty_has_it_empty_when_it_is_expected() {
    let mut admission = admission();
    let asleep = |device| {
        outlook(if device == 1 {
            Readiness::Asleep
        } else {
            Readiness::Ready
        })
    };
    admission.wait(1, CELL, TASK, 1, at(0));
    admission.expect_back(1, CELL, Some(at(600)), false);
    admission.wait(2, CELL, TASK, 10, at(0));
    assert_eq!(
        admit_all(&mut admission, at(0), asleep),
        [2],
        "it ends before"
    );
    admission.release(2, CELL);
    admission.wait(3, CELL, TASK, 10, at(0));
    assert_eq!(admit_all(&mut admission, at(590), asleep), [] as [u32; 0]);
    // it is late, and not waited for any longer
    assert_eq!(admit_all(&mut admission, at(721), asleep), [3]);
}

#[test]
fn who_does_not_come_when_told_comes_first_when_it_is_awake() {
    let mut admission = admission();
    for device in 1..4 {
        admission.wait(device, CELL, TASK, 1, at(0));
        admission.expect_back(device, CELL, None, device != 3);
    }
    admission.promise(2, CELL);
    let mut order = Vec::new();
    for second in 0..3 {
        for device in admit_all(&mut admission, at(second), ready) {
            order.push(device);
            admission.release(device, CELL);
        }
    }
    assert_eq!(order, [3, 2, 1]);
}

#[test]
fn whoever_is_kept_awake_for_a_turn_comes_before_those_who_wake_up_since() {
    let mut admission = admission();
    admission.restore(9, CELL, at(50));
    admission.wait(1, CELL, TASK, 1, at(1));
    admission.wait(2, CELL, TASK, 1, at(2));
    admission.promise(2, CELL);
    admission.wait(2, CELL, TASK, 1, at(3)); // as it has been measured anew
    admission.heard(1, CELL);
    admission.release(9, CELL);
    assert_eq!(admit_all(&mut admission, at(50), ready), [2]);
}

#[test]
fn the_bound_is_that_of_the_limit_that_is_short() {
    let s = Duration::from_secs;
    assert_eq!(lower_bound([]), s(0));
    assert_eq!(lower_bound([(1, s(700)), (1, s(500))]), s(1_200));
    let mediums = std::iter::repeat_n((10, s(270)), 400);
    assert_eq!(lower_bound(mediums.clone()), s(10_800));
    assert_eq!(lower_bound(mediums.chain([(1, s(700))])), s(10_870));
}

#[derive(Debug, Clone)]
struct Comer {
    arrives: u64,
    limit: u32,
    works: u64,
    /// Seconds between two wake-ups; it listens for 90 s after each, and while it is kept awake.
    wakes_every: u64,
}

fn comer() -> impl Strategy<Value = Comer> {
    (
        0u64..2_000,
        prop::sample::select(vec![1, 2, 10, 50]),
        30u64..900,
        prop::sample::select(vec![60, 300, 3_600]),
    )
        .prop_map(|(arrives, limit, works, wakes_every)| Comer {
            arrives,
            limit,
            works,
            wakes_every,
        })
}

/// For so long it may be kept awake after that.
const KEPT_AWAKE: u64 = 1_800;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In any order of arrival: never over the limit, never a slot for a sleeper, and everybody gets
    /// one.
    #[test]
    fn nobody_starves_and_no_limit_is_passed(comers in prop::collection::vec(comer(), 1..60)) {
        let mut admission = admission();
        let mut awake_until = vec![0; comers.len()];
        let mut done_at = vec![None; comers.len()];
        let mut finished = 0;
        let mut second = 0;
        let mut kept = Vec::new();
        let mut told: Vec<(u64, u32)> = Vec::new();
        while finished < comers.len() {
            let now = at(second);
            for (index, comer) in comers.iter().enumerate() {
                let device = u32::try_from(index).unwrap();
                if comer.arrives == second {
                    admission.wait(device, CELL, TASK, comer.limit, now);
                    awake_until[index] = second + 90;
                }
                if second > comer.arrives && (second - comer.arrives).is_multiple_of(comer.wakes_every) {
                    admission.heard(device, CELL);
                    awake_until[index] = second + 90;
                }
                if told.contains(&(second, device)) {
                    admission.heard(device, CELL);
                    awake_until[index] = second + 90;
                }
                if done_at[index] == Some(second) {
                    admission.release(device, CELL);
                    finished += 1;
                }
            }
            let look = |device: u32| {
                let comer = &comers[device as usize];
                let until = awake_until[device as usize];
                Outlook {
                    readiness: if second < until { Readiness::Ready } else { Readiness::Asleep },
                    service: Duration::from_secs(comer.works),
                    reach: at(until + KEPT_AWAKE),
                }
            };
            let nodding: Vec<u32> = (0..).zip(&awake_until)
                .filter(|(_, until)| **until == second + 1)
                .map(|(device, _)| device)
                .collect();
            for (device, turn) in admission.forecast(now, CELL, &nodding, look) {
                prop_assert!(turn >= now && turn <= look(device).reach);
                // every other one comes when it is told to
                if device % 2 == 0 && turn > at(second + 300) {
                    let comes = turn.as_millis() / 1_000 - 30;
                    admission.expect_back(device, CELL, Some(at(comes)), true);
                    admission.promise(device, CELL);
                    told.push((comes, device));
                } else {
                    kept.push(device);
                }
            }
            while let Some(Step::Admit(device)) = admission.poll(now, CELL, look) {
                        let comer = &comers[device as usize];
                        prop_assert!(admission.active(CELL) <= comer.limit);
                        prop_assert!(second < awake_until[device as usize]);
                        prop_assert_eq!(done_at[device as usize], None);
                        done_at[device as usize] = Some(second + comer.works);
            }
            for device in kept.drain(..) {
                if awake_until[device as usize] == second + 1 && done_at[device as usize].is_none() {
                    admission.promise(device, CELL);
                    awake_until[device as usize] += 60;
                }
            }
            second += 1;
            prop_assert!(second < 400_000, "somebody starves");
        }
        prop_assert_eq!(admission.lane_count(), 0);
    }
}

/// What happens to a queue.
#[derive(Debug, Clone, Copy)]
enum Input {
    /// The device waits (again) with this limit in this cell.
    Wait(u32, u32, u32),
    Withdraw(u32),
    /// Somebody in the cell is done.
    Release(u32),
    /// What the device could do from now on.
    Becomes(u32, Readiness),
    Pass(u64),
}

const DEVICES: u32 = 12;
const CELLS: u32 = 3;

fn input() -> impl Strategy<Value = Input> {
    let device = || 0..DEVICES;
    let limits = prop::sample::select(vec![1, 2, 3, 10]);
    let readiness = prop::sample::select(vec![
        Readiness::Ready,
        Readiness::Ready,
        Readiness::Stale,
        Readiness::Probing,
        Readiness::Unheard,
        Readiness::Asleep,
    ]);
    prop_oneof![
        4 => (device(), 0..CELLS, limits).prop_map(|(d, c, limit)| Input::Wait(d, c, limit)),
        1 => device().prop_map(Input::Withdraw),
        2 => (0..CELLS).prop_map(Input::Release),
        4 => (device(), readiness).prop_map(|(d, readiness)| Input::Becomes(d, readiness)),
        2 => (0u64..400).prop_map(Input::Pass),
    ]
}

/// A waiting device, as a bystander sees it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    device: u32,
    cell: u32,
    limit: u32,
    /// Since when it has been the first of its limit, ready, and fitting.
    could_since: Option<Instant>,
}

/// Watches an admission from outside, and drives it as the gate does.
struct Bystander {
    config: AdmissionConfig,
    admission: Admission<u32, u32>,
    now: Instant,
    /// In the order of arrival.
    waiting: Vec<Seen>,
    /// Who holds a slot, since when.
    active: [Vec<(u32, Instant)>; CELLS as usize],
    readiness: [Readiness; DEVICES as usize],
    admitted: Vec<(Instant, u32)>,
    /// Since when some device of a limit has been awake in a cell, and would have fitted.
    fit_since: BTreeMap<(u32, u32), Instant>,
    /// Cells and limits whose devices have overtaken one of a smaller limit, which has not had its turn since.
    overtaken: Vec<(u32, u32)>,
}

impl Bystander {
    fn new() -> Self {
        let config = AdmissionConfig {
            per_cell_per_second: 2,
            per_second: 3,
            ..AdmissionConfig::default()
        };
        Self {
            admission: Admission::new(&config),
            config,
            now: at(1_000),
            waiting: Vec::new(),
            active: std::array::from_fn(|_| Vec::new()),
            readiness: [Readiness::Asleep; DEVICES as usize],
            admitted: Vec::new(),
            fit_since: BTreeMap::new(),
            overtaken: Vec::new(),
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Wait(device, ..) if self.holds(device) => {}
            Input::Wait(device, cell, limit) => {
                // it leaves the queue of another cell first, as when it is measured there
                if self
                    .waiting
                    .iter()
                    .any(|s| s.device == device && s.cell != cell)
                {
                    self.withdraw(device);
                }
                self.admission.wait(device, cell, TASK, limit, self.now);
                match self.waiting.iter_mut().find(|s| s.device == device) {
                    Some(seen) => seen.limit = limit,
                    None => self.waiting.push(Seen {
                        device,
                        cell,
                        limit,
                        could_since: None,
                    }),
                }
            }
            Input::Withdraw(device) => self.withdraw(device),
            Input::Release(cell) => {
                let active = &mut self.active[cell as usize];
                if !active.is_empty() {
                    let (device, _) = active.remove(0);
                    self.admission.release(device, cell);
                }
            }
            Input::Becomes(device, readiness) => {
                self.readiness[device as usize] = readiness;
                let seen = self.waiting.iter().find(|s| s.device == device);
                if let (Some(seen), true) = (seen, readiness != Readiness::Asleep) {
                    self.admission.heard(device, seen.cell);
                }
            }
            Input::Pass(seconds) => self.now = self.now + Duration::from_secs(seconds),
        }
        for cell in 0..CELLS {
            self.poll(cell);
            assert_eq!(self.admission.active(cell), self.active(cell));
            self.nobody_starves(cell);
        }
        let used = (0..CELLS)
            .filter(|cell| self.active(*cell) > 0 || self.waiting.iter().any(|s| s.cell == *cell));
        assert_eq!(self.admission.lane_count(), used.count());
    }

    fn withdraw(&mut self, device: u32) {
        if let Some(index) = self.waiting.iter().position(|s| s.device == device) {
            let seen = self.waiting.remove(index);
            self.admission.withdraw(device, seen.cell);
        }
    }

    fn holds(&self, device: u32) -> bool {
        (self.active.iter().flatten()).any(|(holder, _)| *holder == device)
    }

    fn active(&self, cell: u32) -> u32 {
        u32::try_from(self.active[cell as usize].len()).unwrap()
    }

    fn poll(&mut self, cell: u32) {
        for _ in 0..=2 * DEVICES {
            let readiness = self.readiness;
            let look = |device: u32| outlook(readiness[device as usize]);
            match (self.admission).poll(self.now, cell, look) {
                Some(Step::Admit(device)) => self.admit(device, cell),
                Some(Step::Measure(device)) => self.probe(device, Readiness::Stale),
                Some(Step::Ping(device)) => self.probe(device, Readiness::Unheard),
                Some(Step::Later(then)) => {
                    assert!(then > self.now);
                    return;
                }
                None => return self.nobody_is_forgotten(cell),
            }
        }
        panic!("polled for ever");
    }

    fn probe(&mut self, device: u32, why: Readiness) {
        assert_eq!(self.readiness[device as usize], why);
        self.readiness[device as usize] = Readiness::Probing;
    }

    fn is(&self, seen: &Seen, readiness: Readiness) -> bool {
        self.readiness[seen.device as usize] == readiness
    }

    /// When a device that does not fit in its cell will, if all goes as expected.
    fn fits_at(&self, seen: &Seen) -> Instant {
        let mut ends: Vec<Instant> = (self.active[seen.cell as usize].iter())
            .map(|(_, since)| {
                let end = *since + SERVICE;
                end.max(self.now + self.now.since(end))
            })
            .collect();
        ends.sort_unstable();
        ends[self.active[seen.cell as usize].len() - seen.limit as usize]
    }

    fn admit(&mut self, device: u32, cell: u32) {
        assert_eq!(self.readiness[device as usize], Readiness::Ready);
        let waits = |seen: &Seen| seen.device == device && seen.cell == cell;
        let index = self.waiting.iter().position(waits).unwrap();
        let seen = self.waiting.remove(index);
        assert!(self.active(cell) < seen.limit, "the cell is full for it");
        let overtake = Duration::from_secs(self.config.overtake_s);
        let since = self.fit_since.get(&(cell, seen.limit));
        let patient = since.is_none_or(|at| self.now.since(*at) < overtake);
        if !patient {
            self.overtaken.push((cell, seen.limit));
        }
        (self.overtaken).retain(|(of, limit)| *of != cell || *limit <= seen.limit);
        for (place, other) in self.waiting.iter().enumerate() {
            if other.cell != cell || self.is(other, Readiness::Asleep) {
                continue;
            }
            let came_first = other.limit == seen.limit && place < index;
            assert!(
                !came_first || !self.is(other, Readiness::Ready),
                "{other:?} came first and could have gone"
            );
            if other.limit < seen.limit && other.limit <= self.active(cell) && patient {
                assert!(
                    self.now + SERVICE <= self.fits_at(other),
                    "{seen:?} is in the way of {other:?}"
                );
            }
        }
        self.active[cell as usize].push((device, self.now));
        self.admitted.push((self.now, cell));
        // with a burst of as many on top
        let lately = |(when, _): &&(Instant, u32)| self.now.since(*when) < Duration::from_secs(1);
        let all = self.admitted.iter().filter(lately);
        assert!(all.clone().count() <= 2 * self.config.per_second as usize);
        let here = all.filter(|(_, of)| *of == cell).count();
        assert!(here <= 2 * self.config.per_cell_per_second as usize);
    }

    /// With nothing to do and nothing to wait for, nobody who is ready fits: but for one whose place would be taken from
    /// somebody who is probed.
    fn nobody_is_forgotten(&self, cell: u32) {
        let here = || self.waiting.iter().filter(|seen| seen.cell == cell);
        if here().any(|seen| self.is(seen, Readiness::Probing)) {
            return;
        }
        for seen in here().filter(|seen| self.is(seen, Readiness::Ready)) {
            assert!(self.active(cell) >= seen.limit, "{seen:?} could go on");
        }
    }

    /// The first of each limit, while it is ready and fits, has a slot within the set time.
    fn nobody_starves(&mut self, cell: u32) {
        let probing = (self.waiting.iter())
            .any(|seen| seen.cell == cell && self.is(seen, Readiness::Probing));
        let active = self.active(cell);
        let mut fit: Vec<u32> = Vec::new();
        for seen in self.waiting.iter().filter(|seen| seen.cell == cell) {
            if active < seen.limit && !self.is(seen, Readiness::Asleep) {
                fit.push(seen.limit);
            }
        }
        (self.fit_since).retain(|(of, limit), _| *of != cell || fit.contains(limit));
        for limit in fit {
            self.fit_since.entry((cell, limit)).or_insert(self.now);
        }
        let mut firsts = Vec::new();
        for index in 0..self.waiting.len() {
            let seen = self.waiting[index];
            if seen.cell != cell {
                continue;
            }
            if self.is(&seen, Readiness::Asleep) {
                continue;
            }
            let first = !firsts.contains(&seen.limit);
            firsts.push(seen.limit);
            let could =
                first && !probing && active < seen.limit && self.is(&seen, Readiness::Ready);
            let since = could.then(|| seen.could_since.unwrap_or(self.now));
            self.waiting[index].could_since = since;
            // with a second, as admissions are paced
            let longest = Duration::from_secs(self.config.overtake_s + 1);
            let overtook = self.overtaken.contains(&(cell, seen.limit));
            assert!(
                overtook || since.is_none_or(|at| self.now.since(at) <= longest),
                "{seen:?} is held back for too long"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever devices do, in whatever order: limits and pace hold, nobody is passed by who came later and has the same
    /// limit, nobody is admitted who would be in the way of one that needs an emptier cell, nobody is held back for too
    /// long, no slot stays free while somebody could have it, and in the end everybody gets one.
    #[test]
    fn any_order_of_events_keeps_the_rules(inputs in prop::collection::vec(input(), 0..200)) {
        let mut bystander = Bystander::new();
        for input in inputs {
            bystander.take(input);
        }
        // now all are awake, and whoever has a slot is soon done
        for round in 0.. {
            for device in 0..DEVICES {
                bystander.take(Input::Becomes(device, Readiness::Ready));
            }
            for cell in 0..CELLS {
                bystander.take(Input::Release(cell));
            }
            bystander.take(Input::Pass(1));
            if bystander.admission.lane_count() == 0 {
                break;
            }
            prop_assert!(round < 1_000, "somebody starves");
        }
        prop_assert!(bystander.waiting.is_empty());
    }
}

#[test]
fn a_lane_s_own_limit_holds_whatever_coverage_allows() {
    let mut admission = admission();
    admission.restrict(CELL, Some(3));
    for device in 0..10 {
        // limits of 2 and of 50, by turns
        let limit = if device % 2 == 0 { 50 } else { 2 };
        admission.wait(device, CELL, TASK, limit, at(u64::from(device)));
    }
    // who needs the lane emptiest comes first; a third one has ended by the time the next of these fits
    assert_eq!(admit_all(&mut admission, at(100), ready), [1, 3, 0]);
    for device in [1, 3, 0] {
        admission.release(device, CELL);
    }
    admission.restrict(CELL, Some(1));
    // all have the same moments now: the order is that of arrival
    for device in [2, 4, 5] {
        assert_eq!(admit_all(&mut admission, at(100), ready), [device]);
        admission.release(device, CELL);
    }
    let waiting: Vec<u32> = admission.waiting(CELL).collect();
    assert_eq!(waiting, [6, 7, 8, 9]);
    admission.restrict(CELL, None);
    assert_eq!(admit_all(&mut admission, at(100), ready), [7, 9, 6, 8]);
}

#[test]
fn a_lower_limit_takes_no_slot_away() {
    let mut admission = admission();
    for device in 0..6 {
        admission.wait(device, CELL, TASK, 10, at(u64::from(device)));
        assert_eq!(admit_all(&mut admission, at(10), ready), [device]);
    }
    admission.restrict(CELL, Some(2));
    admission.wait(9, CELL, TASK, 10, at(20));
    for device in 0..5 {
        assert!(admit_all(&mut admission, at(30), ready).is_empty());
        admission.release(device, CELL);
    }
    assert_eq!(admit_all(&mut admission, at(30), ready), [9]);
}

#[test]
fn nobody_is_admitted_measured_or_promised_a_turn_in_a_closed_lane() {
    let mut admission = admission();
    admission.restrict(CELL, Some(0));
    admission.wait(1, CELL, TASK, 10, at(0));
    for readiness in [Readiness::Ready, Readiness::Stale, Readiness::Unheard] {
        assert_eq!(admission.poll(at(1), CELL, |_| outlook(readiness)), None);
    }
    assert!(admission.forecast(at(1), CELL, &[1], ready).is_empty());
    // it is closed also for who comes when it was empty
    admission.withdraw(1, CELL);
    admission.wait(2, CELL, TASK, 10, at(2));
    assert!(admit_all(&mut admission, at(3), ready).is_empty());
    admission.restrict(CELL, Some(5));
    assert_eq!(admit_all(&mut admission, at(3), ready), [2]);
}
