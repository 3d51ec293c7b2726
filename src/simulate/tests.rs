//! The simulation as a test: scenarios of real devices, rules broken on purpose, seeds.

mod broken;
mod closings;
mod crowded;
mod foresight;
mod objects;
mod over_mqtt;
mod putting_back;
mod roaming;
mod rollouts;
mod same;
mod scenarios;
mod seeds;
mod shares;
mod sites;
mod steps;

use super::{
    hooks::{Honest, Hooks},
    scenario::Scenario,
    summary::Summary,
    world::World,
};

fn run(scenario: &Scenario) -> Summary {
    run_with(scenario, Honest)
}

fn run_with<H: Hooks>(scenario: &Scenario, hooks: H) -> Summary {
    World::new(scenario, hooks).unwrap().run(|_| {}).unwrap()
}

fn succeeded(summary: &Summary) -> u64 {
    summary.outcomes["succeeded"]
}
