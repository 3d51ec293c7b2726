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

fn admission() -> Admission<u32> {
    Admission::new(&unpaced())
}

/// Admits until nobody more can be, and tells who was.
fn admit_all(
    admission: &mut Admission<u32>,
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
    let poll = |admission: &mut Admission<u32>, first, second| {
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
    assert_eq!(admission.cell_count(), 0);
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
        prop_assert_eq!(admission.cell_count(), 0);
    }
}
