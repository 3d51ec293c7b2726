//! The whole system in virtual time, from one seed: the server's own shards against simulated devices, with what must hold
//! checked at every step. An operator's dry run, and the main test of the product.

mod faults;
mod figures;
mod fleet;
mod foresight;
mod halts;
mod hooks;
mod invariants;
mod kept;
mod offered;
mod queue;
mod scenario;
mod sites;
mod store;
mod summary;
pub(crate) mod task_file;
mod trace;
mod world;

#[cfg(test)]
mod tests;

pub use faults::Faults;
pub use store::StoreKind;

pub(crate) use figures::Figures;
pub(crate) use fleet::FleetFile;
pub(crate) use foresight::Foreseen;
pub(crate) use halts::Halts;
pub(crate) use invariants::Violation;
pub(crate) use kept::StandbyCost;
pub(crate) use scenario::Scenario;
pub(crate) use summary::{CellLine, Summary};
pub(crate) use world::Progress;

use hooks::Honest;
use world::World;

/// Lets everything happen that a scenario describes, and sums up. `progress` hears now and then how far it is. With forecasts,
/// the same fleet is upgraded once before, in another course, so that something is known of it.
///
/// # Errors
/// The scenario cannot be played, for a person.
pub(crate) fn simulate(
    scenario: &Scenario,
    mut progress: impl FnMut(&Progress),
) -> Result<Summary, String> {
    if !scenario.forecast {
        return World::new(scenario, Honest)?.run(progress);
    }
    if scenario.fleet.speaks_mqtt() {
        return Err(
            "--forecast: a forecast is not made of devices that speak MQTT; leave their styles out"
                .to_owned(),
        );
    }
    if scenario.products > 1 {
        return Err(
            "--forecast: a forecast is of one task, and this is a simulation of several".to_owned(),
        );
    }
    let before = Scenario {
        another: true,
        forecast: false,
        ..scenario.clone()
    };
    let earlier = World::new(&before, Honest)?.teach(&mut progress)?;
    // a fleet in service has woken up before, and the server knows when it does
    let scenario = Scenario {
        fleet: scenario.fleet.clone().in_service(),
        ..scenario.clone()
    };
    World::new(&scenario, Honest)?
        .foreseeing(earlier, &scenario)?
        .run(progress)
}
