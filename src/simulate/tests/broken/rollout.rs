//! Tasks that are run otherwise than they say.

use std::sync::Arc;

use super::{breaks_so, small};
use crate::{
    simulate::{hooks::Hooks, invariants::Rule, scenario::Scenario, tests::rollouts::rules},
    task::{LotHead, TaskHead, TaskRules},
};

/// The planner is told something else of the tasks than what the store says.
struct Plans<F>(F);

impl<F: FnMut(&mut TaskHead)> Hooks for Plans<F> {
    fn plans(&mut self, heads: &mut Vec<TaskHead>) {
        heads.iter_mut().for_each(&mut self.0);
    }
}

/// The planner runs the tasks by other rules.
fn other(change: fn(&mut TaskRules)) -> Plans<impl FnMut(&mut TaskHead)> {
    Plans(move |head: &mut TaskHead| change(Arc::make_mut(&mut head.rules)))
}

fn run_by(toml: &str) -> Scenario {
    Scenario {
        rules: rules(toml),
        ..small()
    }
}

#[test]
fn a_beginning_in_a_phase_that_has_not_begun_is_noticed() {
    let scenario = run_by("[[phases]]\ncount = 5\n[[phases]]\n");
    let both = Plans(|head: &mut TaskHead| {
        if let [one] = &head.lots[..] {
            let lot = 1 - one.lot;
            let other = LotHead { lot, ..one.clone() };
            head.lots.push(other);
        }
    });
    breaks_so(&scenario, both, Rule::Phase, "begins in phase 1");
}

#[test]
fn a_phase_that_begins_too_early_is_noticed() {
    let scenario = run_by("[[phases]]\ncount = 5\n[[phases]]\n");
    let early = other(|rules| rules.phases[0].min_results = Some(2));
    breaks_so(&scenario, early, Rule::Phase, "the phase after 0 begins");
}

#[test]
fn a_beginning_while_the_task_is_held_is_noticed() {
    let scenario = run_by("[[phases]]\ncount = 5\nthen = \"wait\"\n[[phases]]\n");
    let goes_on = Plans(|head: &mut TaskHead| {
        if head.hold.take().is_some() {
            // by its rules alone it would be held again
            head.rules = Arc::default();
            let first = head.lots[0].clone();
            head.lots = vec![LotHead {
                lot: 1 - first.lot,
                first_due: Some((head.start_at, crate::ledger::UpgradeId(1))),
                ..first
            }];
        }
    });
    breaks_so(&scenario, goes_on, Rule::Held, "while its task is held");
}

#[test]
fn a_beginning_outside_the_windows_is_noticed() {
    let scenario =
        run_by("[windows]\nzone = \"UTC\"\nwindows = [{ from = \"10:00\", to = \"11:00\" }]\n");
    let any_time = other(|rules| rules.windows = None);
    breaks_so(&scenario, any_time, Rule::Window, "outside the windows");
}

#[test]
fn a_beginning_after_the_last_time_is_noticed() {
    let scenario = run_by("not_after = \"2027-01-15T08:05:00Z\"\n[rate]\nper_minute = 1\n");
    let for_ever = other(|rules| rules.not_after = None);
    breaks_so(&scenario, for_ever, Rule::Window, "may not after");
}

#[test]
fn a_rate_that_is_exceeded_is_noticed() {
    let scenario = run_by("[rate]\nper_minute = 3\n");
    let one_more = other(|rules| rules.rate.iter_mut().for_each(|rate| rate.per_minute = 4));
    breaks_so(&scenario, one_more, Rule::Rate, "within a minute; 3");
}

#[test]
fn a_budget_that_is_exceeded_is_noticed() {
    let scenario = Scenario {
        retry: crate::ledger::RetryPolicy {
            attempts: 1,
            interval_s: 60,
            ..crate::ledger::RetryPolicy::default()
        },
        fleet: crate::simulate::fleet::FleetFile::parse(
            "start_within_s = 60\n[[listening]]\nshare = 1\n[characters]\n\"report-upgrade=0x0A\" = 100\n",
        )
        .unwrap(),
        ..run_by("[budget]\nbytes_per_month = 3000\n")
    };
    let no_budget = other(|rules| rules.budget = None);
    breaks_so(
        &scenario,
        no_budget,
        Rule::Budget,
        "bytes of 3000, and costs",
    );
}
