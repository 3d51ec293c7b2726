use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::{BrokerConfig, MqttMode, address};

/// MQTT 3.1.1 and 5, for devices of Huawei IoTDA's, ThingsPanel's and QuecThing's kinds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MqttConfig {
    /// Where devices are connected: to this server, or to a broker that is not its own.
    pub mode: MqttMode,
    /// Whether devices are served that do not encrypt.
    pub tcp: bool,
    /// TCP address to listen on for them. Port 0 lets the system choose.
    #[serde(deserialize_with = "address::read")]
    pub tcp_listen: SocketAddr,
    /// Whether devices are served over TLS. Needs a certificate.
    pub tls: bool,
    /// TCP address to listen on for them. Port 0 lets the system choose.
    #[serde(deserialize_with = "address::read")]
    pub tls_listen: SocketAddr,
    /// The certificate and those up to its root, in PEM.
    pub tls_certificate: PathBuf,
    /// The certificate's private key, in PEM.
    pub tls_key: PathBuf,
    /// The authorities of the devices' certificates, in PEM; empty where no device shows one.
    pub client_ca_file: PathBuf,
    /// For a TLS handshake, and then for CONNECT.
    pub connect_timeout_s: u64,
    /// Bytes of CONNECT.
    pub max_connect_bytes: u32,
    /// Bytes of a packet of a device that is connected.
    pub max_packet_bytes: u32,
    /// Memory for incomplete packets of all connections, MiB.
    pub max_buffered_mib: u32,
    /// What waits to be taken by one device, KiB; a device that takes less is disconnected.
    pub max_backlog_kib: u32,
    /// Connections at once.
    pub max_connections: u32,
    /// Connections at once from one IPv4 address or one IPv6 /48.
    pub max_connections_per_address: u32,
    /// Of these, connections that have not shown whose they are; half as many from one address. As many TLS handshakes are
    /// under way at the most.
    pub max_unknown_connections: u32,
    /// CONNECTs a second, and TLS handshakes; with bursts of as many.
    pub connects_per_second: u32,
    /// The same from one address.
    pub connects_per_address_per_second: u32,
    /// CONNECTs with a wrong credential a minute from one address that are told of; half as many for one name from there, which is
    /// then refused there.
    pub failed_attempts_per_minute: u32,
    /// A connection of a device lasts this long before another one of the same device takes its place.
    pub take_over_after_ms: u64,
    /// The keep-alive of devices that name none, and the longest of MQTT 5.
    pub keep_alive_s: u64,
    /// How long the keep-alive of a device that downloads is not enforced.
    pub hold_s: u64,
    /// Messages of a device that wait for what follows from them to be stored: further ones are not read.
    pub receive_maximum: u16,
    /// Messages to a device that wait for its PUBACK.
    pub send_maximum: u16,
    /// Messages with QoS 0 that are taken of a device in a second.
    pub unacknowledged_per_second: u32,
    /// How the frames of devices with QuecThing are checked, in both directions.
    pub quecthing_checksum: QuecChecksum,
    /// The broker that is not this server's.
    pub broker: BrokerConfig,
}

/// The byte of a QuecThing frame that is called its CRC-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuecChecksum {
    /// The sum of what follows it, modulo 256.
    #[default]
    Sum,
    /// A CRC-8 of what follows it: polynomial 0x07, beginning with 0, nothing reflected.
    Crc8,
}

impl MqttConfig {
    /// Whether devices are served over MQTT at all.
    pub const fn is_on(&self) -> bool {
        self.tcp || self.tls || self.is_by_broker()
    }

    /// Whether devices are connected to a broker that is not this server's.
    pub const fn is_by_broker(&self) -> bool {
        matches!(self.mode, MqttMode::Broker)
    }
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self {
            mode: MqttMode::Server,
            tcp: false,
            tcp_listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 1883)),
            tls: false,
            tls_listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8883)),
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            client_ca_file: PathBuf::new(),
            connect_timeout_s: 10,
            max_connect_bytes: 4_096,
            max_packet_bytes: 262_144,
            max_buffered_mib: 64,
            max_backlog_kib: 64,
            max_connections: 100_000,
            max_connections_per_address: 20_000,
            max_unknown_connections: 2_000,
            connects_per_second: 500,
            connects_per_address_per_second: 100,
            failed_attempts_per_minute: 60,
            take_over_after_ms: 2_000,
            keep_alive_s: 3_600,
            hold_s: 86_400,
            receive_maximum: 32,
            send_maximum: 16,
            unacknowledged_per_second: 50,
            quecthing_checksum: QuecChecksum::Sum,
            broker: BrokerConfig::default(),
        }
    }
}
