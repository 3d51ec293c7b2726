use proptest::prelude::*;

use super::*;

const CELL: u32 = 7;

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

/// Admits until nobody more can be, and tells who was.
fn admit_all(
    admission: &mut Admission<u32, u32>,
    now: Instant,
    readiness: impl Fn(u32) -> Readiness,
) -> Vec<u32> {
    let mut admitted = Vec::new();
    while let Some(Step::Admit(device)) = admission.poll(now, CELL, &readiness) {
        admitted.push(device);
    }
    admitted
}

#[test]
fn admits_in_order_of_arrival_up_to_the_limit() {
    let mut admission = admission();
    for device in 0..12 {
        admission.wait(device, CELL, 10, at(u64::from(device)));
    }
    let admitted = admit_all(&mut admission, at(100), |_| Readiness::Ready);
    assert_eq!(admitted, (0..10).collect::<Vec<_>>());
    admission.release(CELL);
    let admitted = admit_all(&mut admission, at(100), |_| Readiness::Ready);
    assert_eq!(admitted, [10]);
    assert_eq!(admission.active(CELL), 10);
}

#[test]
fn a_restart_keeps_the_order_of_arrival() {
    let mut admission = admission();
    admission.wait(2, CELL, 1, at(20));
    admission.wait(1, CELL, 1, at(10));
    assert_eq!(admit_all(&mut admission, at(30), |_| Readiness::Ready), [1]);
}

#[test]
fn a_slot_held_before_a_restart_counts() {
    let mut admission = admission();
    admission.restore(CELL);
    admission.wait(1, CELL, 1, at(0));
    assert_eq!(admission.poll(at(0), CELL, |_| Readiness::Ready), None);
}

#[test]
fn a_sleeper_is_passed_over_until_it_is_heard() {
    let mut admission = admission();
    admission.wait(1, CELL, 1, at(0));
    admission.wait(2, CELL, 1, at(1));
    let asleep = |device| match device {
        1 => Readiness::Asleep,
        _ => Readiness::Ready,
    };
    assert_eq!(admit_all(&mut admission, at(2), asleep), [2]);
    admission.release(CELL);
    let nothing = admission.poll(at(3), CELL, |_| panic!("a sleeper is not looked at"));
    assert_eq!(nothing, None);
    admission.heard(1, CELL);
    assert_eq!(admit_all(&mut admission, at(4), |_| Readiness::Ready), [1]);
}

#[test]
fn an_emptier_cell_comes_to_who_needs_one_after_being_overtaken_long_enough() {
    let mut admission = admission();
    admission.wait(0, CELL, 50, at(0));
    admit_all(&mut admission, at(0), |_| Readiness::Ready);
    admission.wait(1, CELL, 1, at(1)); // needs an empty cell
    admission.wait(2, CELL, 50, at(2));
    assert_eq!(admit_all(&mut admission, at(2), |_| Readiness::Ready), [2]);
    admission.wait(3, CELL, 50, at(3));
    assert_eq!(
        admit_all(&mut admission, at(601), |_| Readiness::Ready),
        [3]
    );
    // overtaken at 2 s, 600 s ago: now nobody passes
    admission.wait(4, CELL, 50, at(602));
    let step = admission.poll(at(602), CELL, |_| Readiness::Ready);
    assert_eq!(step, Some(Step::Drain(1)));
    for _ in 0..3 {
        admission.release(CELL);
    }
    let step = admission.poll(at(700), CELL, |_| Readiness::Ready);
    assert_eq!(step, Some(Step::Admit(1)));
}

#[test]
fn a_cell_does_not_drain_for_a_sleeper() {
    let mut admission = admission();
    admission.wait(0, CELL, 50, at(0));
    admit_all(&mut admission, at(0), |_| Readiness::Ready);
    admission.wait(1, CELL, 1, at(1));
    admission.wait(2, CELL, 50, at(2));
    admit_all(&mut admission, at(2), |_| Readiness::Ready);
    admission.wait(3, CELL, 50, at(3));
    let asleep = |device| match device {
        1 => Readiness::Asleep,
        _ => Readiness::Ready,
    };
    assert_eq!(admit_all(&mut admission, at(5_000), asleep), [3]);
}

#[test]
fn old_coverage_is_measured_anew_and_an_unheard_device_pinged_one_for_each_free_slot() {
    let mut admission = admission();
    for device in 0..3 {
        admission.wait(device, CELL, 1, at(u64::from(device)));
    }
    let poll = |admission: &mut Admission<u32, u32>, first, second| {
        admission.poll(at(10), CELL, |device| match device {
            0 => first,
            1 => second,
            _ => Readiness::Stale,
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
fn a_device_that_was_overtaken_too_long_keeps_the_slot_free_while_it_is_measured() {
    let mut admission = admission();
    admission.wait(1, CELL, 10, at(0));
    admission.wait(2, CELL, 10, at(1));
    let measuring = |device| match device {
        1 => Readiness::Probing,
        _ => Readiness::Ready,
    };
    assert_eq!(admit_all(&mut admission, at(1), measuring), [2]);
    admission.wait(3, CELL, 10, at(2));
    assert_eq!(admission.poll(at(601), CELL, measuring), None);
    assert_eq!(
        admit_all(&mut admission, at(602), |_| Readiness::Ready),
        [1, 3]
    );
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
        admission.wait(device, device % 2, 50, at(0));
    }
    let mut admitted = 0;
    for cell in [0, 1] {
        loop {
            match admission.poll(at(1), cell, |_| Readiness::Ready) {
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
    admission.wait(1, CELL, 10, at(0));
    admit_all(&mut admission, at(0), |_| Readiness::Ready);
    admission.wait(2, CELL, 10, at(0));
    admission.withdraw(2, CELL);
    admission.release(CELL);
    assert_eq!(admission.lane_count(), 0);
}

#[derive(Debug, Clone)]
struct Comer {
    arrives: u64,
    limit: u32,
    works: u64,
    /// Seconds between two wake-ups; it listens for 90 s after each, and while it is drained for.
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
        while finished < comers.len() {
            let now = at(second);
            for (index, comer) in comers.iter().enumerate() {
                let device = u32::try_from(index).unwrap();
                if comer.arrives == second {
                    admission.wait(device, CELL, comer.limit, now);
                    awake_until[index] = second + 90;
                }
                if second > comer.arrives && (second - comer.arrives).is_multiple_of(comer.wakes_every) {
                    admission.heard(device, CELL);
                    awake_until[index] = second + 90;
                }
                if done_at[index] == Some(second) {
                    admission.release(CELL);
                    finished += 1;
                }
            }
            let readiness = |awake_until: &[u64], device: u32| {
                if second < awake_until[device as usize] { Readiness::Ready } else { Readiness::Asleep }
            };
            loop {
                match admission.poll(now, CELL, |device| readiness(&awake_until, device)) {
                    Some(Step::Admit(device)) => {
                        let comer = &comers[device as usize];
                        prop_assert!(admission.active(CELL) <= comer.limit);
                        prop_assert!(second < awake_until[device as usize]);
                        prop_assert_eq!(done_at[device as usize], None);
                        done_at[device as usize] = Some(second + comer.works);
                    }
                    Some(Step::Drain(device)) => {
                        awake_until[device as usize] = second + 90;
                        break;
                    }
                    _ => break,
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
    overtaken_at: Option<Instant>,
}

/// Watches an admission from outside, and drives it as the engine does.
struct Bystander {
    config: AdmissionConfig,
    admission: Admission<u32, u32>,
    now: Instant,
    /// In the order of arrival.
    waiting: Vec<Seen>,
    active: [u32; CELLS as usize],
    readiness: [Readiness; DEVICES as usize],
    admitted: Vec<(Instant, u32)>,
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
            active: [0; CELLS as usize],
            readiness: [Readiness::Asleep; DEVICES as usize],
            admitted: Vec::new(),
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Wait(device, cell, limit) => {
                // it leaves the queue of another cell first, as when it is measured there
                if self
                    .waiting
                    .iter()
                    .any(|s| s.device == device && s.cell != cell)
                {
                    self.withdraw(device);
                }
                self.admission.wait(device, cell, limit, self.now);
                match self.waiting.iter_mut().find(|s| s.device == device) {
                    Some(seen) => seen.limit = limit,
                    None => self.waiting.push(Seen {
                        device,
                        cell,
                        limit,
                        overtaken_at: None,
                    }),
                }
            }
            Input::Withdraw(device) => self.withdraw(device),
            Input::Release(cell) => {
                let active = &mut self.active[cell as usize];
                if *active > 0 {
                    *active -= 1;
                    self.admission.release(cell);
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
            assert_eq!(self.admission.active(cell), self.active[cell as usize]);
        }
        let used = (0..CELLS).filter(|cell| {
            self.active[*cell as usize] > 0 || self.waiting.iter().any(|s| s.cell == *cell)
        });
        assert_eq!(self.admission.lane_count(), used.count());
    }

    fn withdraw(&mut self, device: u32) {
        if let Some(index) = self.waiting.iter().position(|s| s.device == device) {
            let seen = self.waiting.remove(index);
            self.admission.withdraw(device, seen.cell);
        }
    }

    fn poll(&mut self, cell: u32) {
        for _ in 0..=2 * DEVICES {
            let readiness = self.readiness;
            let step = (self.admission).poll(self.now, cell, |d| readiness[d as usize]);
            match step {
                Some(Step::Admit(device)) => self.admit(device, cell),
                Some(Step::Measure(device)) => self.probe(device, cell, Readiness::Stale),
                Some(Step::Ping(device)) => self.probe(device, cell, Readiness::Unheard),
                Some(Step::Drain(device)) => {
                    let seen = self.seen(device, cell);
                    assert!(self.is_impatient(&seen), "drains for who was not overtaken");
                    assert!(self.taken(cell) >= seen.limit, "it fits already");
                    return;
                }
                Some(Step::Later(then)) => {
                    assert!(then > self.now && then <= self.now + Duration::from_secs(1));
                    return;
                }
                None => return self.nobody_is_forgotten(cell),
            }
        }
        panic!("polled for ever");
    }

    fn seen(&self, device: u32, cell: u32) -> Seen {
        let found = self
            .waiting
            .iter()
            .find(|s| s.device == device && s.cell == cell);
        *found.expect("waits in that cell")
    }

    fn is_impatient(&self, seen: &Seen) -> bool {
        let overtake = Duration::from_secs(self.config.overtake_s);
        seen.overtaken_at
            .is_some_and(|at| self.now.since(at) >= overtake)
    }

    /// Slots in use, and those that devices which are probed may need.
    fn taken(&self, cell: u32) -> u32 {
        let probing = self.waiting.iter().filter(|seen| {
            seen.cell == cell && self.readiness[seen.device as usize] == Readiness::Probing
        });
        self.active[cell as usize] + u32::try_from(probing.count()).unwrap()
    }

    /// One probe for each free slot, of a device that has something to be found out about.
    fn probe(&mut self, device: u32, cell: u32, why: Readiness) {
        let seen = self.seen(device, cell);
        assert_eq!(self.readiness[device as usize], why);
        assert!(
            self.active[cell as usize] < seen.limit,
            "there is no slot for it"
        );
        self.readiness[device as usize] = Readiness::Probing;
    }

    fn admit(&mut self, device: u32, cell: u32) {
        let seen = self.seen(device, cell);
        assert_eq!(self.readiness[device as usize], Readiness::Ready);
        assert!(
            self.active[cell as usize] < seen.limit,
            "the cell is full for it"
        );
        let index = self
            .waiting
            .iter()
            .position(|s| s.device == device)
            .unwrap();
        for other in 0..index {
            let ahead = self.waiting[other];
            let readiness = self.readiness[ahead.device as usize];
            if ahead.cell != cell || readiness == Readiness::Asleep {
                continue;
            }
            assert!(
                !self.is_impatient(&ahead),
                "{ahead:?} was overtaken for too long"
            );
            let as_good = readiness == Readiness::Ready && ahead.limit >= seen.limit;
            assert!(!as_good, "{ahead:?} came first and could have gone");
            self.waiting[other].overtaken_at.get_or_insert(self.now);
        }
        self.waiting.remove(index);
        self.active[cell as usize] += 1;
        self.admitted.push((self.now, cell));
        // with a burst of as many on top
        let lately = |(when, _): &&(Instant, u32)| self.now.since(*when) < Duration::from_secs(1);
        let all = self.admitted.iter().filter(lately);
        assert!(all.clone().count() <= 2 * self.config.per_second as usize);
        let here = all.filter(|(_, of)| *of == cell).count();
        assert!(here <= 2 * self.config.per_cell_per_second as usize);
    }

    /// With nothing to do, no slot is free for anybody who is ready: but for those that devices which are
    /// probed may need, and behind a device for which the cell drains.
    fn nobody_is_forgotten(&self, cell: u32) {
        let is = |seen: &Seen, readiness| self.readiness[seen.device as usize] == readiness;
        let taken = self.taken(cell);
        for seen in self.waiting.iter().filter(|s| s.cell == cell) {
            if self.is_impatient(seen) && !is(seen, Readiness::Asleep) {
                return;
            }
            let could = [Readiness::Ready, Readiness::Stale, Readiness::Unheard];
            let could = could.into_iter().any(|readiness| is(seen, readiness));
            assert!(!could || seen.limit <= taken, "{seen:?} could go on");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever devices do, in whatever order: limits and pace hold, nobody is passed by who came later
    /// and needs no more, nobody is overtaken for too long, no slot stays free while somebody could have
    /// it, and in the end everybody gets one.
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
