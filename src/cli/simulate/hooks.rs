use crate::{
    config::Config,
    engine::{Change, Seq},
    runtime::Datagram,
};

/// Where tests reach into the driver, to break the core on purpose and see that it is noticed.
pub(super) trait Hooks {
    /// The settings with which the engine runs; those of the checker stay.
    fn config(&self, config: &Config) -> Config {
        config.clone()
    }

    /// A change on its way to the store. `false` drops it, and it is taken for committed.
    fn commits(&mut self, _change: &mut Change) -> bool {
        true
    }

    /// A datagram on its way to the outbox, with the change after which it may leave.
    fn sends(&mut self, _datagram: &mut Datagram, _after: &mut Seq) {}
}

/// Breaks nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Honest;

impl Hooks for Honest {}
