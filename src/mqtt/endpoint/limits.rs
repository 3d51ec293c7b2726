use std::time::Duration;

use crate::config::MqttConfig;

/// What a server of devices bounds. Everything that a stranger or a device can make grow has its bound here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address: an IPv4 address or an IPv6 /48.
    pub connections_per_address: usize,
    /// Of these, connections that have not shown yet whose they are: altogether, and half as many from one address.
    pub unknown_connections: usize,
    /// How long a connection may take to send CONNECT.
    pub connect_within: Duration,
    /// Bytes of a whole CONNECT.
    pub connect_bytes: usize,
    /// Bytes of a whole packet later.
    pub packet_bytes: usize,
    /// Bytes of incomplete packets that are kept for all connections together.
    pub buffered_bytes: usize,
    /// CONNECTs a second, altogether, with bursts of as many.
    pub connects_per_second: u32,
    /// CONNECTs a second from one address.
    pub connects_per_address_per_second: u32,
    /// CONNECTs with a wrong credential a minute from one address that are told of; half as many for one name from there, which is
    /// then refused there whatever it shows.
    pub failures_per_address_per_minute: u32,
    /// A connection of a device lasts this long before another one of the same device takes its place.
    pub take_over_after: Duration,
    /// The keep-alive of clients that name none, and the longest of MQTT 5.
    pub keep_alive: Duration,
    /// How long the keep-alive of a device that downloads is not enforced.
    pub hold: Duration,
    /// Messages of one connection that wait for [`acknowledge`](super::Endpoint::acknowledge): further ones are not read.
    pub receive_maximum: u16,
    /// Messages to one device that wait for its PUBACK.
    pub send_maximum: u16,
    /// Messages with QoS 0 that are taken of a connection in a second, with bursts of as many. They are dropped beyond.
    pub unacknowledged_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            connections_per_address: 20_000,
            unknown_connections: 2_000,
            connect_within: Duration::from_secs(10),
            connect_bytes: 4 << 10,
            packet_bytes: 256 << 10,
            buffered_bytes: 64 << 20,
            connects_per_second: 500,
            connects_per_address_per_second: 100,
            failures_per_address_per_minute: 60,
            take_over_after: Duration::from_secs(2),
            keep_alive: Duration::from_hours(1),
            hold: Duration::from_hours(24),
            receive_maximum: 32,
            send_maximum: 16,
            unacknowledged_per_second: 50,
        }
    }
}

impl From<&MqttConfig> for Limits {
    /// As the settings say it.
    fn from(config: &MqttConfig) -> Self {
        Self {
            connections: config.max_connections as usize,
            connections_per_address: config.max_connections_per_address as usize,
            unknown_connections: config.max_unknown_connections as usize,
            connect_within: Duration::from_secs(config.connect_timeout_s),
            connect_bytes: config.max_connect_bytes as usize,
            packet_bytes: config.max_packet_bytes as usize,
            buffered_bytes: config.max_buffered_mib as usize * 1024 * 1024,
            connects_per_second: config.connects_per_second,
            connects_per_address_per_second: config.connects_per_address_per_second,
            failures_per_address_per_minute: config.failed_attempts_per_minute,
            take_over_after: Duration::from_millis(config.take_over_after_ms),
            keep_alive: Duration::from_secs(config.keep_alive_s),
            hold: Duration::from_secs(config.hold_s),
            receive_maximum: config.receive_maximum,
            send_maximum: config.send_maximum,
            unacknowledged_per_second: config.unacknowledged_per_second,
        }
    }
}
