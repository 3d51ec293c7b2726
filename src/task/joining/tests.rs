use std::sync::Arc;

use super::*;
use crate::task::{Hold, Results, TaskRules};

const UTC: UtcMillis = UtcMillis(1_800_000_000_000);

fn at(millis: u64) -> Now {
    Now {
        instant: Instant::from_millis(1_000_000 + millis),
        utc: UTC + Duration::from_millis(millis),
    }
}

fn head(task: i64) -> TaskHead {
    let rules = TaskRules {
        membership: Membership::Joining,
        ..TaskRules::default()
    };
    TaskHead {
        task: TaskId(task),
        state: TaskState::Running,
        start_at: UTC,
        rules: Arc::new(rules),
        hold: None,
        expired: false,
        phase: 0,
        results: vec![Results::default()],
        resumed_with: Results::default(),
        lots: Vec::new(),
    }
}

#[test]
fn devices_join_while_a_task_runs_and_not_between_its_phases() {
    let held = |why| TaskHead {
        hold: Some(Hold { why, at: UTC }),
        ..head(1)
    };
    let until = |millis| {
        let rules = TaskRules {
            membership: Membership::Joining,
            not_after: Some(UTC + Duration::from_millis(millis)),
            ..TaskRules::default()
        };
        TaskHead {
            rules: Arc::new(rules),
            ..head(1)
        }
    };
    let failed = HoldReason::PhaseFailed {
        phase: 0,
        succeeded: 0,
        results: 1,
    };
    let failures = HoldReason::Failures {
        failed: 1,
        results: 1,
        threshold: 0,
    };
    for (head, joins, why) in [
        (head(1), true, "it runs"),
        (until(1_001), true, "it has a millisecond"),
        (until(1_000), false, "its last time has come"),
        (
            TaskHead {
                expired: true,
                ..head(1)
            },
            false,
            "it has expired",
        ),
        (
            TaskHead {
                state: TaskState::Scheduled,
                ..head(1)
            },
            false,
            "it has not started",
        ),
        (
            TaskHead {
                rules: Arc::default(),
                ..head(1)
            },
            false,
            "it has the devices that it has",
        ),
        (
            held(HoldReason::Paused { note: None }),
            true,
            "they wait with the others",
        ),
        (held(failures), true, "as when somebody has paused it"),
        (held(HoldReason::Approval), false, "nobody has approved it"),
        (
            held(HoldReason::PhaseDone { phase: 0 }),
            false,
            "the phase has passed",
        ),
        (held(failed), false, "the phase has not passed"),
    ] {
        assert_eq!(head.takes_up(at(1_000).utc), joins, "{why}");
    }
}

#[test]
fn a_sweep_goes_on_where_it_was_and_begins_again_after_the_interval() {
    let mut sweeps = Sweeps::every(Duration::from_mins(1));
    let heads = [head(1)];
    assert_eq!(sweeps.due(&heads, at(0)), Some((TaskId(1), None)));
    // what has failed is asked again
    assert_eq!(sweeps.due(&heads, at(0)), Some((TaskId(1), None)));
    sweeps.swept(TaskId(1), Some("m".to_owned()), at(5));
    assert_eq!(sweeps.due(&heads, at(5)), None, "others have their turn");
    assert_eq!(sweeps.next(at(5)), Some(at(15).utc));
    let next = Some((TaskId(1), Some("m".to_owned())));
    assert_eq!(sweeps.due(&heads, at(15)), next);
    sweeps.swept(TaskId(1), None, at(20));
    assert_eq!(sweeps.due(&heads, at(60_019)), None);
    assert_eq!(sweeps.next(at(20)), Some(at(60_020).utc));
    assert_eq!(sweeps.due(&heads, at(60_020)), Some((TaskId(1), None)));
}

#[test]
fn devices_that_change_are_looked_for_soon_and_not_all_the_time() {
    let mut sweeps = Sweeps::every(Duration::from_mins(1));
    let heads = [head(1)];
    sweeps.due(&heads, at(0));
    sweeps.swept(TaskId(1), None, at(0));
    sweeps.devices_changed();
    assert_eq!(sweeps.due(&heads, at(999)), None);
    assert_eq!(sweeps.due(&heads, at(1_000)), Some((TaskId(1), None)));
    // they change while it is on its way, and it may be past them
    sweeps.swept(TaskId(1), Some("m".to_owned()), at(1_500));
    sweeps.devices_changed();
    assert!(sweeps.due(&heads, at(2_000)).is_some());
    sweeps.swept(TaskId(1), None, at(2_000));
    // it took a second
    assert_eq!(sweeps.due(&heads, at(5_999)), None);
    assert_eq!(sweeps.due(&heads, at(6_000)), Some((TaskId(1), None)));
    // nothing has changed since
    sweeps.swept(TaskId(1), None, at(6_000));
    assert_eq!(sweeps.due(&heads, at(65_999)), None);
    assert!(sweeps.due(&heads, at(66_000)).is_some());
}

#[test]
fn tasks_take_turns_and_those_that_have_ended_are_forgotten() {
    let mut sweeps = Sweeps::default();
    let heads = [head(1), head(2)];
    assert_eq!(sweeps.due(&heads, at(0)), Some((TaskId(1), None)));
    sweeps.swept(TaskId(1), Some("m".to_owned()), at(0));
    assert_eq!(sweeps.due(&heads, at(20)), Some((TaskId(2), None)));
    sweeps.swept(TaskId(2), Some("m".to_owned()), at(20));
    let first = Some((TaskId(1), Some("m".to_owned())));
    assert_eq!(sweeps.due(&heads, at(40)), first);
    assert_eq!(sweeps.due(&[], at(41)), None);
    assert_eq!(sweeps.next(at(41)), None);
    // a part that comes in late is of no task
    sweeps.swept(TaskId(1), Some("n".to_owned()), at(42));
    assert_eq!(sweeps.due(&heads[..1], at(42)), Some((TaskId(1), None)));
}
