use serde::Serialize;

/// What went over the air, counted where it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct Figures {
    /// Datagrams from devices.
    pub(super) datagrams_up: u64,
    /// Datagrams to devices.
    pub(super) datagrams_down: u64,
    /// Their bytes, without the headers of IP and UDP.
    pub(super) bytes_up: u64,
    /// The same in the other direction.
    pub(super) bytes_down: u64,
    /// Changes that were committed.
    pub(super) changes: u64,
    /// Devices that went from one shard of the server to another.
    pub(super) moves: u64,
    /// Events of the simulation.
    pub(super) events: u64,
}
