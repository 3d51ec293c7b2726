//! The whole system in virtual time, from one seed: the server's own shards against simulated devices, with what must hold
//! checked at every step. An operator's dry run, and the main test of the product.

mod faults;
mod figures;
mod fleet;
mod halts;
mod hooks;
mod invariants;
mod kept;
mod queue;
mod scenario;
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
pub(crate) use halts::Halts;
pub(crate) use invariants::Violation;
pub(crate) use kept::StandbyCost;
pub(crate) use scenario::Scenario;
pub(crate) use summary::{CellLine, Summary};
pub(crate) use world::Progress;

use hooks::Honest;
use world::World;

/// Lets everything happen that a scenario describes, and sums up. `progress` hears now and then how far it is.
///
/// # Errors
/// The scenario cannot be played, for a person.
pub(crate) fn simulate(
    scenario: &Scenario,
    progress: impl FnMut(&Progress),
) -> Result<Summary, String> {
    World::new(scenario, Honest)?.run(progress)
}
