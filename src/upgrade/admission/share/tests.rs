use proptest::prelude::*;

use super::{super::*, *};
use crate::clock::Instant;

const CELL: u32 = 7;
const HOUR: u64 = 3_600;

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1_000)
}

fn config() -> AdmissionConfig {
    AdmissionConfig {
        per_cell_per_second: 1_000_000,
        per_second: 1_000_000,
        ageing_s: HOUR,
        ..AdmissionConfig::default()
    }
}

fn admission(shares: &[(i64, u8, u32)]) -> Admission<u32, u32> {
    let mut admission = Admission::new(&config());
    for (task, priority, weight) in shares {
        let (priority, weight) = (*priority, *weight);
        admission.share(TaskId(*task), Share { priority, weight });
    }
    admission
}

/// Devices of a task: its hundred thousands.
fn device(task: i64, number: u32) -> u32 {
    u32::try_from(task).unwrap() * 100_000 + number
}

fn task_of(device: u32) -> i64 {
    i64::from(device / 100_000)
}

fn comes(
    admission: &mut Admission<u32, u32>,
    task: i64,
    numbers: std::ops::Range<u32>,
    limit: u32,
    second: u64,
) {
    for number in numbers {
        admission.wait(device(task, number), CELL, TaskId(task), limit, at(second));
    }
}

fn ready(_: u32) -> Outlook {
    takes(100)
}

fn takes(seconds: u64) -> Outlook {
    Outlook {
        readiness: Readiness::Ready,
        service: Duration::from_secs(seconds),
        reach: Instant::MAX,
    }
}

/// The tasks of those who are admitted now.
fn admitted(
    admission: &mut Admission<u32, u32>,
    second: u64,
    look: impl Fn(u32) -> Outlook,
) -> Vec<u32> {
    std::iter::from_fn(|| match admission.poll(at(second), CELL, &look) {
        Some(Step::Admit(device)) => Some(device),
        _ => None,
    })
    .collect()
}

/// The tasks to which `slots` go, one after the other, where one is free at a time.
fn one_by_one(admission: &mut Admission<u32, u32>, second: u64, slots: usize) -> Vec<i64> {
    let mut tasks = Vec::new();
    while tasks.len() < slots
        && let Some(Step::Admit(device)) = admission.poll(at(second), CELL, ready)
    {
        admission.release(device, CELL);
        tasks.push(task_of(device));
    }
    tasks
}

#[test]
fn tasks_of_the_same_weight_take_turns() {
    let mut admission = admission(&[]);
    comes(&mut admission, 1, 0..4, 1, 0);
    comes(&mut admission, 2, 0..3, 1, 1);
    assert_eq!(one_by_one(&mut admission, 9, 9), [1, 2, 1, 2, 1, 2, 1]);
}

#[test]
fn a_task_has_as_many_turns_as_its_weight_says_and_they_are_spread() {
    let mut admission = admission(&[(1, 5, 3)]);
    comes(&mut admission, 1, 0..9, 1, 0);
    comes(&mut admission, 2, 0..9, 1, 0);
    let turns = one_by_one(&mut admission, 9, 12);
    assert_eq!(turns, [1, 2, 1, 1, 1, 2, 1, 1, 1, 2, 1, 1]);
}

#[test]
fn a_higher_priority_comes_first_whatever_the_weights() {
    let mut admission = admission(&[(1, 4, 1_000), (2, 6, 1)]);
    comes(&mut admission, 1, 0..3, 10, 0);
    comes(&mut admission, 2, 0..3, 10, 5);
    let first = admitted(&mut admission, 9, ready);
    let tasks: Vec<i64> = first.into_iter().map(task_of).collect();
    assert_eq!(tasks, [2, 2, 2, 1, 1, 1], "and nothing stays free");
}

#[test]
fn a_change_reaches_those_who_wait() {
    let mut admission = admission(&[]);
    comes(&mut admission, 1, 0..9, 1, 0);
    comes(&mut admission, 2, 0..9, 1, 0);
    assert_eq!(one_by_one(&mut admission, 9, 4), [1, 2, 1, 2]);
    let share = Share {
        priority: 6,
        weight: 1,
    };
    assert!(admission.share(TaskId(2), share));
    assert!(!admission.share(TaskId(2), share), "it is no news");
    assert_eq!(one_by_one(&mut admission, 9, 3), [2, 2, 2]);
    admission.share(TaskId(2), Share::default());
    let turns = one_by_one(&mut admission, 9, 4);
    assert_eq!(turns.iter().filter(|task| **task == 1).count(), 2);
}

#[test]
fn who_waits_long_comes_to_a_higher_priority() {
    let mut admission = admission(&[(1, 3, 1), (2, 5, 1)]);
    comes(&mut admission, 1, 0..2, 1, 0);
    comes(&mut admission, 2, 0..8, 1, 2 * HOUR - 9);
    assert_eq!(one_by_one(&mut admission, 2 * HOUR - 1, 2), [2, 2]);
    let turns = one_by_one(&mut admission, 2 * HOUR, 4);
    assert_eq!(
        turns.iter().filter(|task| **task == 1).count(),
        2,
        "{turns:?}"
    );
    // who has come since is where it was
    comes(&mut admission, 1, 5..6, 1, 2 * HOUR);
    assert_eq!(one_by_one(&mut admission, 2 * HOUR, 9), [2, 2, 2, 2, 1]);
}

#[test]
fn who_is_held_back_for_a_higher_priority_is_so_until_it_has_aged() {
    let mut admission = admission(&[(1, 4, 1)]);
    let look = |device| takes(if task_of(device) == 1 { 9 * HOUR } else { 100 });
    admission.restore(9, CELL, at(8 * HOUR));
    comes(&mut admission, 1, 0..2, 10, 0);
    comes(&mut admission, 2, 0..1, 1, 1);
    // longer than `overtake_s`, which is for those of the same priority
    assert_eq!(
        admission.poll(at(900), CELL, look),
        Some(Step::Later(at(HOUR)))
    );
    // one that has waited as long stays before them
    assert_eq!(
        admission.poll(at(2 * HOUR + 1), CELL, look),
        Some(Step::Later(at(3 * HOUR)))
    );
    // but not one that has come since
    admission.withdraw(device(2, 0), CELL);
    comes(&mut admission, 2, 1..2, 1, 2 * HOUR);
    assert_eq!(admitted(&mut admission, 2 * HOUR + 1, look).len(), 2);
}

#[test]
fn a_slot_that_is_of_no_use_to_whose_turn_it_is_is_nobody_s_turn() {
    let mut admission = admission(&[]);
    let look = |device: u32| takes(if device.is_multiple_of(2) { 100 } else { 1_000 });
    admission.restore(9, CELL, at(500));
    comes(&mut admission, 1, 0..1, 1, 0);
    // 0 and 2 will have ended when the device of the first task fits, 1 and 3 will not
    comes(&mut admission, 2, 0..4, 10, 1);
    comes(&mut admission, 3, 0..4, 10, 1);
    let filled = admitted(&mut admission, 10, look);
    assert_eq!(filled, [device(2, 0), device(3, 0)]);
    let filled = admitted(&mut admission, 10, |_| takes(100));
    let filled: Vec<i64> = filled.into_iter().map(task_of).collect();
    assert_eq!(filled, [2, 3, 2, 3, 2, 3], "those who fit take turns");
    admission.release(9, CELL);
    for task in [2, 3] {
        for number in 0..4 {
            admission.release(device(task, number), CELL);
        }
    }
    comes(&mut admission, 2, 10..11, 10, 20);
    assert_eq!(one_by_one(&mut admission, 500, 2), [1, 2]);
}

#[test]
fn nobody_saves_turns_up_while_it_sleeps() {
    let mut admission = admission(&[]);
    comes(&mut admission, 1, 0..40, 1, 0);
    comes(&mut admission, 2, 0..40, 1, 0);
    for _ in 0..20 {
        let asleep = |device| Outlook {
            readiness: if task_of(device) == 2 {
                Readiness::Asleep
            } else {
                Readiness::Ready
            },
            ..takes(100)
        };
        let Some(Step::Admit(device)) = admission.poll(at(10), CELL, asleep) else {
            panic!("a slot stays free");
        };
        assert_eq!(task_of(device), 1);
        admission.release(device, CELL);
    }
    for number in 0..40 {
        admission.heard(device(2, number), CELL);
    }
    let turns = one_by_one(&mut admission, 11, 10);
    let of_first = turns.iter().filter(|task| **task == 1).count();
    assert!((4..=6).contains(&of_first), "{turns:?}");
}

#[test]
fn a_forecast_has_the_tasks_take_turns() {
    let mut admission = admission(&[(1, 5, 2), (3, 4, 1)]);
    admission.restore(9, CELL, at(50));
    comes(&mut admission, 1, 0..4, 1, 0);
    comes(&mut admission, 2, 0..2, 1, 0);
    comes(&mut admission, 3, 0..1, 1, 0);
    let all: Vec<u32> = admission.waiting(CELL).collect();
    let turns = admission.forecast(at(0), CELL, &all, ready);
    let mut expected: Vec<_> = turns
        .iter()
        .map(|(device, turn)| (*turn, *device))
        .collect();
    expected.sort_unstable();
    let expected: Vec<i64> = expected
        .into_iter()
        .map(|(_, device)| task_of(device))
        .collect();
    admission.release(9, CELL);
    let come = one_by_one(&mut admission, 50, 9);
    assert_eq!(come, expected);
    assert_eq!(come.last(), Some(&3));
}

/// A task of which devices wait at all times from its first second to its last.
#[derive(Debug, Clone)]
struct Customer {
    weight: u32,
    from: u64,
    until: u64,
}

fn customers() -> impl Strategy<Value = Vec<Customer>> {
    let customer = (1_u32..=20, 0_u64..3_000, 1_000_u64..9_000);
    let customer = customer.prop_map(|(weight, from, lasts)| Customer {
        weight,
        from,
        until: from + lasts,
    });
    prop::collection::vec(customer, 2..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whoever comes and goes, and however long each upgrade takes: while the same tasks wait, each has its share of the slots,
    /// to within a slot for its beginning and one for its end.
    #[test]
    fn shares_are_within_a_slot_of_their_weights(
        customers in customers(),
        limit in prop::sample::select(vec![1_u32, 2, 10]),
        durations in prop::collection::vec(5_u64..200, 1..30),
    ) {
        let shares: Vec<_> = (1..).zip(&customers).map(|(task, it)| (task, 5, it.weight)).collect();
        let mut admission = admission(&shares);
        admission.configure(&AdmissionConfig {
            ageing_s: 1_000 * HOUR,
            ..config()
        });
        let mut numbers = vec![0_u32; customers.len()];
        let mut ends: Vec<(u64, u32)> = Vec::new();
        // who waits, and what each has had since the same do
        let mut there: Vec<usize> = Vec::new();
        let mut had = vec![0_u32; customers.len()];
        let mut all_at_once = false;
        let mut admissions = 0;
        for second in 0..8_000 {
            ends.retain(|(end, device)| {
                let over = *end <= second;
                if over {
                    admission.release(*device, CELL);
                }
                !over
            });
            for (index, customer) in customers.iter().enumerate() {
                let task = i64::try_from(index).unwrap() + 1;
                if second == customer.from {
                    comes(&mut admission, task, 0..3, limit, second);
                    numbers[index] = 3;
                } else if second == customer.until {
                    for number in numbers[index] - 3..numbers[index] {
                        admission.withdraw(device(task, number), CELL);
                    }
                }
            }
            let now: Vec<usize> = (0..customers.len())
                .filter(|index| (customers[*index].from..customers[*index].until).contains(&second))
                .collect();
            if now != there {
                all_at_once = there.is_empty();
                there = now;
                had.fill(0);
            }
            while let Some(Step::Admit(admitted)) = admission.poll(at(second), CELL, ready) {
                prop_assert!(admission.active(CELL) <= limit);
                let lasts = durations[admissions % durations.len()];
                admissions += 1;
                ends.push((second + lasts, admitted));
                let task = task_of(admitted);
                let index = usize::try_from(task - 1).unwrap();
                had[index] += 1;
                // the next one of the task comes
                comes(&mut admission, task, numbers[index]..numbers[index] + 1, limit, second);
                numbers[index] += 1;
                let slots: u32 = had.iter().sum();
                let weights: u32 = there.iter().map(|index| customers[*index].weight).sum();
                for index in &there {
                    let due = f64::from(slots) * f64::from(customers[*index].weight) / f64::from(weights);
                    let off = (f64::from(had[*index]) - due).abs();
                    let most = if all_at_once { 1.0 } else { 2.0 };
                    prop_assert!(off <= most + 1e-9, "{index}: {} of {slots}, due {due}", had[*index]);
                }
            }
        }
        prop_assert!(admissions > 20);
    }

    /// Of any priorities, limits and durations: nobody waits for longer than it takes to come to the highest priority, and for
    /// those who are there then.
    #[test]
    fn nobody_starves_behind_higher_priorities(
        comers in prop::collection::vec(
            (0_u8..=9, 1_u32..=1_000, prop::sample::select(vec![1_u32, 3, 10, 50]), 20_u64..600), 2..6),
        patient in 0_u8..=9,
    ) {
        let shares: Vec<_> = (1..).zip(&comers)
            .map(|(task, (priority, weight, ..))| (task, *priority, *weight))
            .chain([(9, patient, 1)])
            .collect();
        let mut admission = admission(&shares);
        comes(&mut admission, 9, 0..1, 10, 0);
        let mut numbers = vec![0_u32; comers.len()];
        let look = |device: u32| match usize::try_from(task_of(device) - 1) {
            Ok(index) if index < comers.len() => takes(comers[index].3),
            _ => takes(300),
        };
        let mut ends: Vec<(u64, u32)> = Vec::new();
        for second in (0..).step_by(5) {
            // three of each of the others are always there
            for (index, (.., limit, _)) in comers.iter().enumerate() {
                let task = i64::try_from(index).unwrap() + 1;
                let waiting = admission.waiting(CELL).filter(|it| task_of(*it) == task).count();
                let missing = 3_u32.saturating_sub(u32::try_from(waiting).unwrap());
                comes(&mut admission, task, numbers[index]..numbers[index] + missing, *limit, second);
                numbers[index] += missing;
            }
            ends.retain(|(end, device)| {
                let over = *end <= second;
                if over {
                    admission.release(*device, CELL);
                }
                !over
            });
            let now = admitted(&mut admission, second, look);
            if now.iter().any(|device| task_of(*device) == 9) {
                break;
            }
            for device in now {
                ends.push((second + look(device).service.as_secs(), device));
            }
            let longest = u64::from(10 - patient) * HOUR + 4 * HOUR;
            prop_assert!(second < longest, "it starves");
        }
    }
}
