use serde::Serialize;

/// What went over the air, counted where it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Figures {
    /// Datagrams from devices.
    pub(crate) datagrams_up: u64,
    /// Datagrams to devices.
    pub(crate) datagrams_down: u64,
    /// Their bytes, without the headers of IP and UDP.
    pub(crate) bytes_up: u64,
    /// The same in the other direction.
    pub(crate) bytes_down: u64,
    /// Bytes of MQTT from devices, without the headers of IP and TCP.
    pub(crate) mqtt_bytes_up: u64,
    /// The same in the other direction.
    pub(crate) mqtt_bytes_down: u64,
    /// Bytes of packages that arrived over HTTP, those included that arrived twice.
    pub(crate) downloaded_bytes: u64,
    /// Changes that were committed.
    pub(crate) changes: u64,
    /// Devices that went from one shard of the server to another.
    pub(crate) moves: u64,
    /// Times that the store was put back to an older state.
    #[serde(skip)] // only tests order it
    pub(crate) put_back: u64,
    /// Events of the simulation.
    pub(crate) events: u64,
}
