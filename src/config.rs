//! Settings: a TOML file, overlaid by environment variables, checked before anything starts.
//!
//! Every key may be given as `CELLWISE_` + the key in upper case, with `__` between table and key:
//! `coap.listen` is `CELLWISE_COAP__LISTEN`. Lists are written as in TOML. All times are in the
//! unit that ends the key's name.

mod address;
mod app;
mod broker;
mod load;
mod mqtt;
mod products;
mod settings;
mod update;
mod validate;

pub use app::AppConfig;
pub use broker::{BrokerConfig, BrokerStyle, BrokerVersion, MqttMode};
pub use load::{ConfigError, DEFAULT_FILE, Problem, environment, load, look};
pub use mqtt::{MqttConfig, QuecChecksum};
pub(crate) use products::each_product_setting;
pub use products::{MOST_PRODUCTS, ProductChange, not_obeyed};
pub use settings::{Reload, Settings};
pub use update::{Delivery, PUSH_MAX_BYTES, ResourceText, UpdateBy, UriScheme};
pub use validate::{MOST_SHARDS, PER_GATEWAY, ROLES, check_product_name};

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use arrayvec::ArrayString;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::package::CheckCodeKind;

/// All settings of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Holds the database, the package files and `admin.token`.
    pub data_dir: PathBuf,
    /// Threads that serve the devices, each with devices of its own. 0 for one per core.
    pub shards: u8,
    /// The device side: CoAP over UDP.
    pub coap: CoapConfig,
    /// The device side, encrypted: CoAP over DTLS.
    pub dtls: DtlsConfig,
    /// The device side: MQTT.
    pub mqtt: MqttConfig,
    /// Registrations.
    pub lwm2m: Lwm2mConfig,
    /// The stage limits of an upgrade.
    pub upgrade: UpgradeConfig,
    /// How many devices of a cell may upgrade at once.
    pub admission: AdmissionConfig,
    /// Tasks.
    pub tasks: TaskConfig,
    /// Packages for devices that download over HTTP.
    pub download: DownloadConfig,
    /// The operator's side: HTTP.
    pub admin: AdminConfig,
    /// The operator's side: pages in a browser.
    pub console: ConsoleConfig,
    /// How people log in by an identity provider.
    pub oidc: OidcConfig,
    /// End users' applications: HTTP.
    pub app: AppConfig,
    /// What of the whole one tenant may take.
    pub tenants: TenantsConfig,
    /// How applications are told what happened.
    pub webhooks: WebhookConfig,
    /// Who has changed what.
    pub audit: AuditConfig,
    /// What is told of vulnerabilities.
    pub evidence: EvidenceConfig,
    /// What goes to standard error.
    pub log: LogConfig,
    /// Traces.
    pub telemetry: TelemetryConfig,
    /// Peculiarities of products, by the product's name. Those of a settings file are taken into the database at the first start, which
    /// alone counts from then on.
    pub products: BTreeMap<String, ProductConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("cellwise-data"),
            shards: 0,
            coap: CoapConfig::default(),
            dtls: DtlsConfig::default(),
            mqtt: MqttConfig::default(),
            lwm2m: Lwm2mConfig::default(),
            upgrade: UpgradeConfig::default(),
            admission: AdmissionConfig::default(),
            tasks: TaskConfig::default(),
            download: DownloadConfig::default(),
            admin: AdminConfig::default(),
            console: ConsoleConfig::default(),
            oidc: OidcConfig::default(),
            app: AppConfig::default(),
            tenants: TenantsConfig::default(),
            webhooks: WebhookConfig::default(),
            audit: AuditConfig::default(),
            evidence: EvidenceConfig::default(),
            log: LogConfig::default(),
            telemetry: TelemetryConfig::default(),
            products: BTreeMap::new(),
        }
    }
}

/// CoAP endpoint and its transmission parameters (RFC 7252 §4.8), with defaults for NB-IoT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CoapConfig {
    /// Whether devices are heard that do not encrypt.
    pub enabled: bool,
    /// UDP address to listen on. Port 0 lets the system choose.
    #[serde(deserialize_with = "address::read")]
    pub listen: SocketAddr,
    /// `ACK_TIMEOUT`: a round trip takes 1 to 10 s and more in deep coverage; RFC 7252's 2 s would
    /// flood a slow cell with repeats.
    pub ack_timeout_ms: u64,
    /// `ACK_RANDOM_FACTOR`, at least 1.
    pub ack_random_factor: f64,
    /// `MAX_RETRANSMIT`: 15 s with 2 repeats waits at most 157 s and fits a 3-minute stage.
    pub max_retransmit: u32,
    /// Requests that may wait for one device while another is outstanding (NSTART is 1). There are eleven
    /// kinds, and one of each at most.
    pub queue_len: usize,
    /// How long a request that was acknowledged empty may wait for its separate response.
    pub separate_response_ms: u64,
}

impl Default for CoapConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5683)),
            ack_timeout_ms: 15_000,
            ack_random_factor: 1.5,
            max_retransmit: 2,
            queue_len: 16,
            separate_response_ms: 120_000,
        }
    }
}

/// CoAP over DTLS 1.2 (RFC 7252 §9, RFC 7925).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DtlsConfig {
    /// Whether devices are heard that encrypt. Needs a credential key.
    pub enabled: bool,
    /// UDP address to listen on. Port 0 lets the system choose.
    #[serde(deserialize_with = "address::read")]
    pub listen: SocketAddr,
    /// The key with which the devices' keys are stored: 32 bytes in hexadecimal. The default is the demo's,
    /// which everybody knows, and is refused for anything else.
    pub credential_key: SecretText,
    /// A file that holds the credential key, instead of `credential_key`; empty for none, as the next three.
    pub credential_key_file: PathBuf,
    /// The server's certificate and those up to its root, in PEM. With it and the next two, devices may use
    /// certificates too (ECDSA).
    pub certificate_file: PathBuf,
    /// The certificate's private key, in PEM.
    pub private_key_file: PathBuf,
    /// The authorities of the devices' certificates, in PEM. A device is the endpoint that its common name or one
    /// of its alternative names tells.
    pub client_ca_file: PathBuf,
    /// Memory for associations of devices that are idle, MiB. An association takes up to 45 KiB; those unused for
    /// longest go first.
    pub max_memory_mib: u32,
    /// Handshakes that may be under way at once.
    pub max_half_open: u32,
    /// Handshakes that may be under way at once with one IPv4 address or one IPv6 /48.
    pub max_half_open_per_source: u32,
    /// An unanswered flight of a handshake is repeated after this, then after twice as long.
    pub repeat_flight_ms: u64,
    /// A handshake is given up after this.
    pub handshake_s: u64,
    /// A device may resume its session without a new handshake for this long.
    pub ticket_lifetime_s: u64,
}

impl Default for DtlsConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5684)),
            credential_key: SecretText(DEMO_CREDENTIAL_KEY.to_owned()),
            credential_key_file: PathBuf::new(),
            certificate_file: PathBuf::new(),
            private_key_file: PathBuf::new(),
            client_ca_file: PathBuf::new(),
            max_memory_mib: 1_024,
            max_half_open: 1_024,
            max_half_open_per_source: 256,
            repeat_flight_ms: 9_000,
            handshake_s: 120,
            ticket_lifetime_s: 48 * 3600,
        }
    }
}

/// The credential key of the demo. Everybody knows it, so that nothing else may use it.
pub const DEMO_CREDENTIAL_KEY: &str =
    "63656c6c7769736520756e736563757265642064656d6f206b65792e2e2e2e21";

/// A setting that is not shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretText(pub String);

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(not shown)")
    }
}

/// Shown as what everybody knows, or not at all.
impl Serialize for SecretText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let known = self.0 == DEMO_CREDENTIAL_KEY;
        serializer.serialize_str(if known { &self.0 } else { "(not shown)" })
    }
}

/// Who may register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistrationPolicy {
    /// Only endpoints that were added before; others are answered 4.03.
    #[default]
    Known,
    /// Any endpoint; an unknown one is added as a device of product `default`.
    Open,
}

/// LwM2M registration settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lwm2mConfig {
    /// Who may register.
    pub registration: RegistrationPolicy,
    /// How long a device listens after its last message (`MAX_TRANSMIT_WAIT` of RFC 7252).
    pub awake_window_s: u64,
    /// `open` registration adds no device when the server knows this many.
    pub max_open_devices: usize,
    /// Devices that `open` registration adds in an hour at most, all together.
    pub newcomers_per_hour: u32,
    /// Of these, devices from one network: an IPv4 /24, an IPv6 /48.
    pub newcomers_per_network_per_hour: u32,
    /// The host of the URIs by which devices fetch packages over CoAP: a name, or an address. Empty for the address that is listened on, and
    /// where that is none that could be reached, for the one that this machine sends from.
    pub public_host: String,
    /// The port of these URIs; 0 for the one that is listened on.
    pub public_port: u16,
    /// The same over DTLS.
    pub public_secure_port: u16,
}

impl Default for Lwm2mConfig {
    fn default() -> Self {
        Self {
            registration: RegistrationPolicy::Known,
            awake_window_s: 93,
            max_open_devices: 1_000_000,
            newcomers_per_hour: 36_000,
            newcomers_per_network_per_hour: 3_600,
            public_host: String::new(),
            public_port: 0,
            public_secure_port: 0,
        }
    }
}

/// Limits of an upgrade's stages. The defaults are those of Huawei IoTDA's upgrade guide where it
/// names one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpgradeConfig {
    /// From the start of the upgrade until the device is heard.
    pub wait_for_device_s: u64,
    /// From the start of the upgrade until a device over MQTT connects.
    pub wait_for_connection_s: u64,
    /// For the answer to the version query.
    pub query_version_s: u64,
    /// For the device's coverage.
    pub query_coverage_s: u64,
    /// For the device's cell ID alone.
    pub query_cell_s: u64,
    /// For a slot in the cell, not counting the time in which the device sleeps. A crowded cell of bad coverage takes one device after another.
    pub wait_for_slot_s: u64,
    /// From the admission to the device's download report.
    pub download_s: u64,
    /// From the offer to a device over MQTT until it runs the version, and for as long the token is valid with which it fetches
    /// the package.
    pub transfer_s: u64,
    /// From the command to upgrade to the result.
    pub execute_s: u64,
    /// A device over MQTT that shows the version while bytes of the package are on their way to it: so long these are waited for.
    pub claim_settle_s: u64,
    /// An unanswered question (version, execute) is put again after this.
    pub repeat_question_s: u64,
    /// A download without a request for this long is nudged by notifying the version again.
    pub nudge_after_s: u64,
    /// A device that registers anew in mid-download is nudged after this, unless it goes on by itself.
    pub nudge_after_registration_s: u64,
    /// Nudges without progress after which the slot goes to the next device. The device keeps its place in the queue.
    pub max_nudges: u8,
    /// A device heard again after the command, without a result, is asked for its version after this.
    pub result_grace_s: u64,
    /// A running download's progress is stored at most this often.
    pub progress_interval_s: u64,
}

impl Default for UpgradeConfig {
    fn default() -> Self {
        Self {
            wait_for_device_s: 24 * 3600,
            wait_for_connection_s: 25 * 3600,
            query_version_s: 180,
            query_coverage_s: 180,
            query_cell_s: 180,
            wait_for_slot_s: 7 * 24 * 3600,
            download_s: 3600,
            transfer_s: 24 * 3600,
            execute_s: 1800,
            claim_settle_s: 10,
            repeat_question_s: 60,
            nudge_after_s: 60,
            nudge_after_registration_s: 10,
            max_nudges: 5,
            result_grace_s: 45,
            progress_interval_s: 5,
        }
    }
}

/// Tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskConfig {
    /// How often it is looked for devices that join a task, if no device is added or changed before.
    pub join_interval_s: u64,
}

impl Default for TaskConfig {
    fn default() -> Self {
        Self {
            join_interval_s: 60,
        }
    }
}

/// How a class follows from the ranges that RSRP and SINR are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassRule {
    /// A table says which pairs are good, fair and weak; any other is of a class of its own.
    #[default]
    Table,
    /// The class is that of the weaker of the two.
    Weaker,
}

/// Coverage classes and their limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdmissionConfig {
    /// RSRP range 0 begins here, dBm.
    pub rsrp_range0_dbm: i32,
    /// RSRP range 1 begins here, dBm; below is range 2.
    pub rsrp_range1_dbm: i32,
    /// SINR range 0 begins here, dB.
    pub sinr_range0_db: i32,
    /// SINR range 1 begins here, dB; below is range 2.
    pub sinr_range1_db: i32,
    /// How the class follows from the two ranges.
    pub class_rule: ClassRule,
    /// At once in the cell: RSRP range 0 and SINR range 0.
    pub limit_good: u32,
    /// At once in the cell: RSRP range 0 and SINR range 1; by the weaker, range 1 is the worse of the two.
    pub limit_fair: u32,
    /// At once in the cell: RSRP range 1 and SINR range 2; by the weaker, range 2 is the worse of the two.
    pub limit_weak: u32,
    /// At once in the cell: any other measured pair; by the weaker there is none.
    pub limit_other: u32,
    /// At once in the cell: coverage not measurable, cell ID known.
    pub limit_unmeasured: u32,
    /// A device that fits may be held back for this long for the sake of one that needs an emptier cell.
    pub overtake_s: u64,
    /// Whether a cell's limit falls while its downloads take much longer than in a quiet one.
    pub adaptive: bool,
    /// For each such time that one of its devices has waited in a cell, a task comes there before those of one more priority.
    pub ageing_s: u64,
    /// A device that sleeps may be kept awake for this long in an upgrade, when a slot is in sight: at some 20 mW, half
    /// an hour takes about 0.03 % of a meter's battery. 0: never.
    pub keep_awake_s: u64,
    /// Pings for it.
    pub keep_awake_pings: u32,
    /// Coverage older than this is measured anew before a slot is granted.
    pub coverage_max_age_s: u64,
    /// Admissions per second and cell, with bursts of as many.
    pub per_cell_per_second: u32,
    /// Devices behind a gateway that upgrade at once.
    pub per_gateway: u32,
    /// Admissions per second in total, with bursts of as many.
    pub per_second: u32,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self {
            rsrp_range0_dbm: -105,
            rsrp_range1_dbm: -115,
            sinr_range0_db: 7,
            sinr_range1_db: -3,
            class_rule: ClassRule::Table,
            limit_good: 50,
            limit_fair: 10,
            limit_weak: 1,
            limit_other: 1,
            limit_unmeasured: 10,
            overtake_s: 600,
            adaptive: false,
            ageing_s: 21_600,
            keep_awake_s: 1_800,
            keep_awake_pings: 120,
            coverage_max_age_s: 600,
            per_cell_per_second: 10,
            per_gateway: 4,
            per_second: 500,
        }
    }
}

/// Packages over HTTP and HTTPS, for devices that were told where to fetch theirs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DownloadConfig {
    /// Whether packages are served over HTTP.
    pub http: bool,
    /// TCP address to listen on for HTTP. Port 0 lets the system choose.
    #[serde(deserialize_with = "address::read")]
    pub http_listen: SocketAddr,
    /// Whether packages are served over HTTPS. Needs a certificate.
    pub https: bool,
    /// TCP address to listen on for HTTPS. Port 0 lets the system choose.
    #[serde(deserialize_with = "address::read")]
    pub https_listen: SocketAddr,
    /// The certificate and those up to its root, in PEM.
    pub tls_certificate: PathBuf,
    /// The certificate's private key, in PEM.
    pub tls_key: PathBuf,
    /// What devices are told: the beginning of their URLs, as `https://updates.example.com:8443`; empty for the address
    /// that is listened on.
    pub base_url: String,
    /// Whether what stands at `base_url` may answer without asking this server. What devices were served cannot be counted then.
    pub base_url_is_cached: bool,
    /// Bytes per second for each device, over HTTP and in CoAP blocks; 0 for no bound.
    pub bytes_per_second_per_device: u64,
    /// Bytes per second for all devices together over HTTP; 0 for no bound.
    pub bytes_per_second: u64,
    /// Connections at the same time. Further ones wait to be accepted.
    pub max_connections: u32,
    /// Connections at the same time of one address (of IPv6: one /64) that have shown no token in force.
    pub max_connections_per_address: u32,
    /// Connections at the same time of one address (of IPv6: one /64) that have shown a token: more are answered 429.
    pub max_downloads_per_address: u32,
    /// Connections at the same time that have shown the same token: more are answered 429. A device uses one or two.
    pub max_connections_per_token: u32,
    /// Requests without a token in force, per minute and address: more are answered 429.
    pub failed_attempts_per_minute: u32,
    /// Networks of proxies before this listener, such as `10.20.0.5/32`: the bounds of an address are not theirs.
    pub trusted_proxies: Vec<IpNet>,
    /// For a TLS handshake, and for the whole head of a connection's first request.
    pub head_timeout_s: u64,
    /// A device that takes no byte for so long, or asks for nothing more, is disconnected.
    pub idle_timeout_s: u64,
    /// A device that takes less than this on the average, after its first `idle_timeout_s`, is disconnected; 0 for no bound.
    pub least_bytes_per_second: u64,
}

impl DownloadConfig {
    /// Whether packages are served over HTTP or HTTPS.
    pub const fn is_on(&self) -> bool {
        self.http || self.https
    }
}

impl Default for DownloadConfig {
    fn default() -> Self {
        Self {
            http: false,
            http_listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8090)),
            https: false,
            https_listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443)),
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            base_url: String::new(),
            base_url_is_cached: false,
            bytes_per_second_per_device: 0,
            bytes_per_second: 0,
            max_connections: 10_000,
            max_connections_per_address: 128,
            max_downloads_per_address: 5_000,
            max_connections_per_token: 4,
            failed_attempts_per_minute: 60,
            trusted_proxies: Vec::new(),
            head_timeout_s: 15,
            idle_timeout_s: 120,
            least_bytes_per_second: 16,
        }
    }
}

/// Admin API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// TCP address to listen on. Port 0 lets the system choose.
    #[serde(deserialize_with = "address::read")]
    pub listen: SocketAddr,
    /// Largest package file that is taken, bytes.
    pub max_package_bytes: u64,
    /// Requests per second and source address, with bursts of twice as many.
    pub requests_per_second: u32,
    /// Tokens that are none, per minute and source address: more are answered 429.
    pub failed_attempts_per_minute: u32,
    /// A session ends when it is not used for so long, seconds.
    pub session_idle_s: u64,
    /// A session ends after so long, seconds.
    pub session_max_s: u64,
    /// Networks of proxies before the admin API, such as `10.20.0.5/32`: what they say in `X-Forwarded-For` of who asks is
    /// believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The listener's certificate and those up to its root, in PEM; empty for HTTP without TLS.
    pub tls_certificate: PathBuf,
    /// The certificate's private key, in PEM.
    pub tls_key: PathBuf,
    /// Where browsers reach the admin API: `https://cellwise.example.com`, without a path; empty for nowhere. A log-in by an identity
    /// provider comes back to there.
    pub public_url: String,
    /// Roles whose users need a second factor: before they have set one up, they may do nothing else.
    pub totp_required_roles: Vec<String>,
}

impl AdminConfig {
    /// Whether the listener speaks TLS.
    pub fn has_tls(&self) -> bool {
        !self.tls_certificate.as_os_str().is_empty() && !self.tls_key.as_os_str().is_empty()
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            // 65,535 segments of 500 bytes, PCP's maximum
            max_package_bytes: 65_535 * 500,
            requests_per_second: 200,
            failed_attempts_per_minute: 30,
            session_idle_s: 1_800,
            session_max_s: 43_200,
            trusted_proxies: Vec::new(),
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            public_url: String::new(),
            totp_required_roles: Vec::new(),
        }
    }
}

/// The console: pages below `/console` on the listener of the admin API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleConfig {
    /// Whether it is served.
    pub enabled: bool,
    /// The path below which a proxy serves this host, such as `/cellwise`, without a slash at its end; empty for none. The proxy may take it
    /// away before it passes a request on, or leave it.
    pub path_prefix: String,
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            path_prefix: String::new(),
        }
    }
}

impl ConsoleConfig {
    /// What is wrong with the prefix.
    fn problem(&self) -> Option<&'static str> {
        // what the listener serves itself
        const TAKEN: [&str; 7] = [
            "v1",
            "docs",
            "openapi.json",
            "livez",
            "readyz",
            "metrics",
            "console",
        ];
        let part = |part: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
            !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain)
        };
        let free = |path: &str| {
            !TAKEN
                .iter()
                .any(|taken| path.split('/').next() == Some(taken))
        };
        let good = match self.path_prefix.strip_prefix('/') {
            Some(path) => path.len() <= 200 && path.split('/').all(part) && free(path),
            None => self.path_prefix.is_empty(),
        };
        (!good).then_some(
            "give a path such as \"/cellwise\", without a slash at its end, or \"\" for none",
        )
    }
}

/// `OpenID` Connect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OidcConfig {
    /// The identity provider, as it calls itself: below it stands `/.well-known/openid-configuration`. Empty for none.
    pub issuer: String,
    /// What Cellwise is called there.
    pub client_id: String,
    /// A file that holds the secret shared with the provider; empty for none, where PKCE alone is asked for.
    pub client_secret_file: PathBuf,
    /// A file with the authorities, in PEM, of which the provider may have its certificate; empty for those that the system trusts.
    pub ca_file: PathBuf,
    /// What is asked for besides `openid`.
    pub scopes: Vec<String>,
    /// The claim that has the groups.
    pub groups_claim: String,
    /// What groups are granted.
    pub grants: Vec<OidcGrant>,
}

impl Default for OidcConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            client_id: String::new(),
            client_secret_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            scopes: vec!["profile".to_owned(), "email".to_owned()],
            groups_claim: "groups".to_owned(),
            grants: Vec::new(),
        }
    }
}

/// What a group is granted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcGrant {
    /// The group, as the provider calls it.
    pub group: String,
    /// A role.
    pub role: String,
    /// For those devices only that this lets through; all when not given.
    pub filter: Option<String>,
    /// On this tenant, or on all of them: `*`. When not given, on all, and with a filter on `default`.
    pub tenant: Option<String>,
}

/// What of the whole one tenant may take, so that there is something left for others. `default`, the tenant that there always is, has what is
/// left of products, tokens and users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantsConfig {
    /// Products of a tenant, of the 1,000 in all.
    pub max_products: u32,
    /// Tokens with a grant on a tenant, of the 1,000 in all.
    pub max_tokens: u32,
    /// Users with a grant on a tenant, of the 1,000 in all.
    pub max_users: u32,
    /// Forecasts that callers of a tenant have under way, of the 8 that may wait.
    pub max_forecasts: usize,
    /// Exports of evidence that callers of a tenant have under way, of 16.
    pub max_exports: usize,
    /// Tenants that have figures of their own in the metrics, the oldest. The others are one.
    pub in_metrics: usize,
}

impl Default for TenantsConfig {
    fn default() -> Self {
        Self {
            max_products: 200,
            max_tokens: 200,
            max_users: 200,
            max_forecasts: 3,
            max_exports: 4,
            in_metrics: 20,
        }
    }
}

/// Webhooks and events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// Networks that webhooks may lead to although they are not public, such as `10.20.0.0/16`.
    pub allow_networks: Vec<IpNet>,
    /// For one attempt to deliver an event.
    pub timeout_s: u64,
    /// Between the first attempt and the second; each further pause is three times as long, at most 6 h.
    pub first_pause_s: u64,
    /// An event that could not be delivered for this long is given up, and can be replayed.
    pub give_up_after_s: u64,
    /// Events, and what was or was not delivered of them, are kept this long.
    pub keep_s: u64,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            allow_networks: Vec::new(),
            timeout_s: 15,
            first_pause_s: 5,
            give_up_after_s: 24 * 3600,
            keep_s: 30 * 24 * 3600,
        }
    }
}

/// The audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// Rows are kept for so many days; 0: for ever.
    pub keep_days: u32,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { keep_days: 730 }
    }
}

/// Evidence of who was reached (docs/evidence.md).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvidenceConfig {
    /// A private key in PEM, Ed25519 or ECDSA on P-256, that signs exports; empty for none, and no exports.
    pub signing_key: PathBuf,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line to read.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
    /// Entries of systemd's journal, each with its fields, in place of lines.
    Journald,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `cellwise::engine=debug`.
    pub filter: String,
    /// Form of the log.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".into(),
            format: LogFormat::Text,
        }
    }
}

/// Traces of API requests.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Address of a collector of OpenTelemetry that takes OTLP over HTTP, such as `http://127.0.0.1:4318`; empty for none.
    pub otlp_endpoint: String,
}

/// What a product's devices tell as their signal strength (/4/0/2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RsrpUnit {
    /// dBm, as the object says.
    #[default]
    Dbm,
    /// The index by which RSRP is reported (3GPP TS 36.133 table 9.1.4-1; `AT+CESQ`): 0 is below −140 dBm.
    Index,
    /// Tenths of a dBm (`AT+NUESTATS`).
    Tenths,
}

/// What a product's devices tell as their signal to noise ratio (/4/0/11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinrUnit {
    /// dB, as the object says.
    #[default]
    Db,
    /// Tenths of a dB (`AT+NUESTATS`).
    Tenths,
}

/// What a product's devices tell of their radio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RadioUnits {
    /// RSRP.
    pub rsrp: RsrpUnit,
    /// SINR.
    pub sinr: SinrUnit,
}

impl From<&ProductConfig> for RadioUnits {
    fn from(product: &ProductConfig) -> Self {
        Self {
            rsrp: product.rsrp_unit,
            sinr: product.sinr_unit,
        }
    }
}

/// What is peculiar to a product's devices. `each_product_setting` has the same list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own"
)]
pub struct ProductConfig {
    /// How the versionCheckCode of its packages is made.
    pub check_code: CheckCodeKind,
    /// Fill the last segment with 0xFF to full size, for devices that take every segment as full.
    pub pad_last_segment: bool,
    /// The unit of its devices' RSRP.
    pub rsrp_unit: RsrpUnit,
    /// The unit of its devices' SINR.
    pub sinr_unit: SinrUnit,
    /// [`Lwm2mConfig::awake_window_s`] of its devices, where it is another.
    pub awake_window_s: Option<u64>,
    /// [`CoapConfig::ack_timeout_ms`] of its devices, where it is another.
    pub ack_timeout_ms: Option<u64>,
    /// [`CoapConfig::max_retransmit`] of its devices, where it is another.
    pub max_retransmit: Option<u32>,
    /// Write pmin = 0 to /19/0/0 before it is observed (LwM2M 1.0 §5.1.2, 1.1 §7.3), for devices that otherwise hold
    /// notifications back for a while.
    pub pmin_zero: bool,
    /// How its devices that sleep are made to come when there is a slot for them.
    pub appointments: Appointments,
    /// [`AdmissionConfig::adaptive`] for its devices, where it is another. What a cell says of its own wins over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<bool>,
    /// What of its devices over MQTT is upgraded, where they tell firmware from software (IoTDA); with `QuecThing` the firmware is the module's, and the
    /// software the controller's beside it.
    pub ota: OtaKind,
    /// How its devices over MQTT are offered a package (IoTDA).
    pub ota_events: OtaEvents,
    /// Whether its devices of IoTDA may be offered packages of more than 999,999,999 bytes: the kit in C reads nine digits of
    /// `Content-Length`, others read more.
    pub iotda_large_downloads: bool,
    /// Its gateways do not say which devices are behind them: the operator alone does.
    pub fixed_children: bool,
    /// [`AdmissionConfig::per_gateway`] of its gateways, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_gateway: Option<u32>,
    /// The part of its devices over MQTT that is upgraded, where it is not the whole (`ThingsPanel`), or the component (`QuecThing`): 1 to 64
    /// characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<ArrayString<64>>,
    /// By which of their objects its devices over `LwM2M` are upgraded.
    pub update_by: UpdateBy,
    /// How packages get to its devices that are upgraded by objects 5, 9 or 33629.
    pub delivery: Delivery,
    /// Larger packages are not written to them; 1 MiB where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push_max_bytes: Option<u64>,
    /// What they fetch packages by, where it is not for the server to choose among what they say that they can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri_scheme: Option<UriScheme>,
    /// Where they tell the version that they run, where it is not where their object tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_resource: Option<ResourceText>,
}

/// What of a device is upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtaKind {
    /// Its firmware.
    #[default]
    Firmware,
    /// Its software.
    Software,
}

/// How a device of IoTDA is offered a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtaEvents {
    /// By `firmware_upgrade` and `software_upgrade`, with a token that it shows when it downloads.
    #[default]
    V1,
    /// By `firmware_upgrade_v2` and `software_upgrade_v2`, with a URL that carries the right to download.
    V2,
}

/// How devices that sleep are made to come at a time of the server's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Appointments {
    /// They come when they come.
    #[default]
    Never,
    /// By the lifetime of their registration (/1/0/1), which is written so that the next update falls at that time, and written
    /// back afterwards.
    Lifetime,
}
