use std::{collections::BTreeMap, fmt::Display, net::IpAddr, ops::RangeInclusive};

use reqwest::Url;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{
    AdmissionConfig, Config, ConfigError, DownloadConfig, MOST_PRODUCTS, MqttConfig,
    PUSH_MAX_BYTES, Problem, ProductConfig, UpgradeConfig,
    update::{is_host, is_resource},
};

const YEAR_S: u64 = 365 * 86_400;
/// The most that `shards` may be.
pub const MOST_SHARDS: u8 = 64;
/// Grants of groups.
const MOST_OIDC_GRANTS: usize = 1_000;

const ACK_TIMEOUT_MS: RangeInclusive<u64> = 10..=600_000;
/// Devices behind a gateway that may upgrade at once.
pub const PER_GATEWAY: RangeInclusive<u32> = 1..=1_000_000;
const MAX_RETRANSMIT: RangeInclusive<u32> = 0..=10;
const AWAKE_WINDOW_S: RangeInclusive<u64> = 1..=86_400;

impl Config {
    /// Checks that every setting can be worked with. The error lists all that cannot.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let problems = self.problems();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Invalid(problems))
        }
    }

    #[expect(clippy::too_many_lines, reason = "one check after the other")]
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut check = Check::default();
        if self.data_dir.as_os_str().is_empty() {
            check.fail("data_dir", "must not be empty");
        }
        check.range("shards", self.shards, 0..=MOST_SHARDS);
        let coap = &self.coap;
        check.range("coap.ack_timeout_ms", coap.ack_timeout_ms, ACK_TIMEOUT_MS);
        check.range("coap.ack_random_factor", coap.ack_random_factor, 1.0..=10.0);
        check.range("coap.max_retransmit", coap.max_retransmit, MAX_RETRANSMIT);
        check.range("coap.queue_len", coap.queue_len, 11..=1_024);
        check.range(
            "coap.separate_response_ms",
            coap.separate_response_ms,
            10..=3_600_000,
        );
        check.dtls(self);
        check.mqtt(&self.mqtt);
        let lwm2m = &self.lwm2m;
        check.range("lwm2m.awake_window_s", lwm2m.awake_window_s, AWAKE_WINDOW_S);
        check.range(
            "lwm2m.max_open_devices",
            lwm2m.max_open_devices,
            1..=100_000_000,
        );
        check.range(
            "lwm2m.newcomers_per_hour",
            lwm2m.newcomers_per_hour,
            1..=3_600_000,
        );
        check.range(
            "lwm2m.newcomers_per_network_per_hour",
            lwm2m.newcomers_per_network_per_hour,
            1..=3_600_000,
        );
        if !lwm2m.public_host.is_empty() && !is_host(&lwm2m.public_host) {
            check.fail(
                "lwm2m.public_host",
                "must be a name such as updates.example.com, or an address that devices can reach, without scheme, brackets and port, 80 bytes at the most",
            );
        }
        check.upgrade(&self.upgrade);
        check.admission(&self.admission);
        let interval = self.tasks.join_interval_s;
        check.range("tasks.join_interval_s", interval, 1..=86_400);
        check.download(&self.download);
        let admin = &self.admin;
        check.range(
            "admin.max_package_bytes",
            admin.max_package_bytes,
            1..=2 * 1024 * 1024 * 1024,
        );
        check.range(
            "admin.requests_per_second",
            admin.requests_per_second,
            1..=1_000_000,
        );
        check.range(
            "admin.failed_attempts_per_minute",
            admin.failed_attempts_per_minute,
            1..=1_000_000,
        );
        check.range("admin.session_idle_s", admin.session_idle_s, 120..=86_400);
        check.range(
            "admin.session_max_s",
            admin.session_max_s,
            300..=30 * 86_400,
        );
        if admin.tls_certificate.as_os_str().is_empty() != admin.tls_key.as_os_str().is_empty() {
            check.fail(
                "admin.tls_certificate",
                "tls_certificate and tls_key go together",
            );
        }
        if let Some(problem) = self.console.problem() {
            check.fail("console.path_prefix", problem);
        }
        check.collector(&self.telemetry.otlp_endpoint);
        check.oidc(self);
        for (setting, problem) in self.app.problems() {
            check.fail(&format!("app.{setting}"), problem);
        }
        if let Some(role) = (admin.totp_required_roles.iter()).find(|role| !is_role(role)) {
            let problem = format!("{role:?} is no role; there are {}", ROLES.join(", "));
            check.fail("admin.totp_required_roles", problem);
        }
        let tenants = &self.tenants;
        check.range("tenants.max_products", tenants.max_products, 1..=1_000);
        check.range("tenants.max_tokens", tenants.max_tokens, 1..=1_000);
        check.range("tenants.max_users", tenants.max_users, 1..=1_000);
        check.range("tenants.max_forecasts", tenants.max_forecasts, 1..=8);
        check.range("tenants.max_exports", tenants.max_exports, 1..=16);
        check.range("tenants.in_metrics", tenants.in_metrics, 0..=1_000);
        let webhooks = &self.webhooks;
        check.range("webhooks.timeout_s", webhooks.timeout_s, 1..=300);
        check.range("webhooks.first_pause_s", webhooks.first_pause_s, 1..=3_600);
        check.range(
            "webhooks.give_up_after_s",
            webhooks.give_up_after_s,
            1..=7 * 86_400,
        );
        check.range("webhooks.keep_s", webhooks.keep_s, 60..=YEAR_S);
        if webhooks.keep_s < webhooks.give_up_after_s {
            check.fail(
                "webhooks.keep_s",
                format!(
                    "{} is less than give_up_after_s, which is {}",
                    webhooks.keep_s, webhooks.give_up_after_s
                ),
            );
        }
        check.range("audit.keep_days", self.audit.keep_days, 0..=36_500);
        check.log_filter(&self.log.filter);
        check.products(&self.products);
        check.problems
    }
}

/// The roles that there are, as `access` names them: a test of the admin API compares the two.
pub const ROLES: [&str; 5] = ["viewer", "operator", "approver", "administrator", "auditor"];

/// Whether a URL is reached by TLS, or on this machine.
pub(super) fn is_secure(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else {
        return false;
    };
    let here = match url.host_str() {
        Some("localhost") => true,
        Some(host) => (host.trim_matches(['[', ']']).parse::<IpAddr>())
            .is_ok_and(|address| address.is_loopback()),
        None => return false,
    };
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    plain && (url.scheme() == "https" || url.scheme() == "http" && here)
}

fn is_origin(text: &str) -> bool {
    is_secure(text) && Url::parse(text).is_ok_and(|url| url.path() == "/")
}

fn is_role(name: &str) -> bool {
    ROLES.contains(&name)
}

/// Checks the name of a product: the same in the settings and in the API, so that one finds the other.
pub fn check_product_name(name: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err("a product's name has 1 to 64 characters out of A-Z a-z 0-9 . _ -")
    }
}

#[derive(Debug, Default)]
pub(super) struct Check {
    pub(super) problems: Vec<Problem>,
}

impl Check {
    fn products(&mut self, products: &BTreeMap<String, ProductConfig>) {
        if products.len() > MOST_PRODUCTS {
            self.fail(
                "products",
                format!("{} products are more than {MOST_PRODUCTS}", products.len()),
            );
        }
        for (name, product) in products {
            if let Err(problem) = check_product_name(name) {
                self.fail(&format!("products.{name:?}"), problem);
            }
            self.product(product, &format!("products.{name}."));
        }
    }

    /// The settings of a product, of which each is called `above` and its name.
    pub(super) fn product(&mut self, product: &ProductConfig, above: &str) {
        let key = |setting| format!("{above}{setting}");
        if let Some(window) = product.awake_window_s {
            self.range(&key("awake_window_s"), window, AWAKE_WINDOW_S);
        }
        if let Some(timeout) = product.ack_timeout_ms {
            self.range(&key("ack_timeout_ms"), timeout, ACK_TIMEOUT_MS);
        }
        if let Some(repeats) = product.max_retransmit {
            self.range(&key("max_retransmit"), repeats, MAX_RETRANSMIT);
        }
        if let Some(most) = product.per_gateway {
            self.range(&key("per_gateway"), most, PER_GATEWAY);
        }
        if let Some(module) = &product.module
            && (module.is_empty() || module.chars().any(char::is_control))
        {
            let what = "must have 1 to 64 bytes and no control characters";
            self.fail(&key("module"), what);
        }
        if let Some(most) = product.push_max_bytes {
            self.range(&key("push_max_bytes"), most, 1..=PUSH_MAX_BYTES);
        }
        if let Some(path) = &product.version_resource
            && !is_resource(path)
        {
            let what = "must be the path of an object, an instance and a resource, such as /3/0/3";
            self.fail(&key("version_resource"), what);
        }
    }

    /// A word that is no level is a target to the filter, and silences everything else.
    fn log_filter(&mut self, filter: &str) {
        if let Err(error) = EnvFilter::builder().parse(filter) {
            return self.fail("log.filter", format!("{filter:?} is no filter: {error}"));
        }
        let bare = filter.split(',').map(str::trim).find(|directive| {
            let level = directive.parse::<LevelFilter>().is_ok();
            let target = directive.contains(['=', '[', ':']) || *directive == "cellwise";
            !directive.is_empty() && !level && !target
        });
        if let Some(word) = bare {
            self.fail(
                "log.filter",
                format!(
                    "{word:?} is no level; off, error, warn, info, debug and trace are; for one target write {word}=debug"
                ),
            );
        }
    }

    fn oidc(&mut self, config: &Config) {
        let (oidc, public) = (&config.oidc, &config.admin.public_url);
        if !public.is_empty() && !is_origin(public) {
            let what = "must be https://HOST or https://HOST:PORT without a path; http:// for this machine alone";
            self.fail("admin.public_url", what);
        }
        if oidc.issuer.is_empty() {
            return;
        }
        if !is_secure(&oidc.issuer) {
            let what = "must be an https:// URL without query; http:// for this machine alone";
            self.fail("oidc.issuer", what);
        }
        if public.is_empty() {
            let what = "must be set for a log-in by an identity provider: it comes back to there";
            self.fail("admin.public_url", what);
        }
        for (key, text) in [
            ("oidc.client_id", &oidc.client_id),
            ("oidc.groups_claim", &oidc.groups_claim),
        ] {
            if !(1..=255).contains(&text.len()) {
                self.fail(key, "must have 1 to 255 characters");
            }
        }
        // RFC 6749 §3.3
        let scope = |scope: &String| {
            let token = |byte| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
            (1..=255).contains(&scope.len()) && scope.bytes().all(token)
        };
        if oidc.scopes.len() > 20 || !oidc.scopes.iter().all(scope) {
            self.fail("oidc.scopes", "must be up to 20 words");
        }
        if oidc.grants.len() > MOST_OIDC_GRANTS {
            let what = format!("{} are more than {MOST_OIDC_GRANTS}", oidc.grants.len());
            self.fail("oidc.grants", what);
        }
        for (at, grant) in oidc.grants.iter().enumerate() {
            if !(1..=255).contains(&grant.group.len()) {
                let key = format!("oidc.grants[{at}].group");
                self.fail(&key, "must have 1 to 255 characters");
            }
            if !is_role(&grant.role) {
                let (key, role) = (format!("oidc.grants[{at}].role"), &grant.role);
                let what = format!("{role:?} is no role; there are {}", ROLES.join(", "));
                self.fail(&key, what);
            }
        }
    }

    fn dtls(&mut self, config: &Config) {
        let dtls = &config.dtls;
        if !dtls.enabled && !config.coap.enabled && !config.mqtt.is_on() {
            self.fail(
                "coap.enabled",
                "no device could be heard: enable coap, dtls or mqtt",
            );
        }
        let key = hex::decode(&dtls.credential_key.0);
        if !key.is_ok_and(|key| key.len() == 32) {
            self.fail(
                "dtls.credential_key",
                "must be 32 bytes in hexadecimal: openssl rand -hex 32 makes one",
            );
        }
        let files = [
            &dtls.certificate_file,
            &dtls.private_key_file,
            &dtls.client_ca_file,
        ];
        let given = files
            .iter()
            .filter(|file| !file.as_os_str().is_empty())
            .count();
        if given != 0 && given != files.len() {
            self.fail(
                "dtls.certificate_file",
                "certificate_file, private_key_file and client_ca_file go together",
            );
        }
        self.range("dtls.max_memory_mib", dtls.max_memory_mib, 1..=1_000_000);
        self.range("dtls.max_half_open", dtls.max_half_open, 1..=100_000);
        self.range(
            "dtls.max_half_open_per_source",
            dtls.max_half_open_per_source,
            1..=100_000,
        );
        self.range("dtls.repeat_flight_ms", dtls.repeat_flight_ms, 10..=60_000);
        self.range("dtls.handshake_s", dtls.handshake_s, 1..=3_600);
        if dtls.handshake_s * 1_000 < dtls.repeat_flight_ms {
            self.fail(
                "dtls.handshake_s",
                "must be as long as repeat_flight_ms at least",
            );
        }
        self.range(
            "dtls.ticket_lifetime_s",
            dtls.ticket_lifetime_s,
            1..=7 * 86_400,
        );
    }

    #[expect(clippy::too_many_lines, reason = "one check after the other")]
    fn mqtt(&mut self, mqtt: &MqttConfig) {
        let certified = !mqtt.tls_certificate.as_os_str().is_empty();
        if certified == mqtt.tls_key.as_os_str().is_empty() {
            self.fail(
                "mqtt.tls_certificate",
                "tls_certificate and tls_key go together",
            );
        } else if mqtt.tls && !certified {
            self.fail("mqtt.tls", "needs tls_certificate and tls_key");
        }
        if mqtt.is_by_broker() {
            if mqtt.tcp || mqtt.tls {
                self.fail(
                    "mqtt.mode",
                    "\"broker\" goes with tcp = false and tls = false: devices are connected to the broker",
                );
            }
            for (setting, problem) in mqtt.broker.problems() {
                self.fail(&format!("mqtt.broker.{setting}"), problem);
            }
        }
        if mqtt.max_connect_bytes > mqtt.max_packet_bytes {
            self.fail(
                "mqtt.max_connect_bytes",
                "must not be more than max_packet_bytes",
            );
        }
        for (key, value, range) in [
            ("connect_timeout_s", mqtt.connect_timeout_s, 1..=600),
            (
                "max_connect_bytes",
                mqtt.max_connect_bytes.into(),
                256..=65_536,
            ),
            // what a header of MQTT can say
            (
                "max_packet_bytes",
                mqtt.max_packet_bytes.into(),
                1_024..=268_435_455,
            ),
            ("max_buffered_mib", mqtt.max_buffered_mib.into(), 1..=65_536),
            (
                "max_backlog_kib",
                mqtt.max_backlog_kib.into(),
                1..=1_048_576,
            ),
            (
                "max_connections",
                mqtt.max_connections.into(),
                1..=10_000_000,
            ),
            (
                "max_connections_per_address",
                mqtt.max_connections_per_address.into(),
                1..=10_000_000,
            ),
            (
                "max_unknown_connections",
                mqtt.max_unknown_connections.into(),
                2..=1_000_000,
            ),
            (
                "connects_per_second",
                mqtt.connects_per_second.into(),
                1..=1_000_000,
            ),
            (
                "connects_per_address_per_second",
                mqtt.connects_per_address_per_second.into(),
                1..=1_000_000,
            ),
            (
                "failed_attempts_per_minute",
                mqtt.failed_attempts_per_minute.into(),
                1..=1_000_000,
            ),
            ("take_over_after_ms", mqtt.take_over_after_ms, 0..=3_600_000),
            // what CONNACK can say
            ("keep_alive_s", mqtt.keep_alive_s, 1..=65_535),
            ("hold_s", mqtt.hold_s, 1..=30 * 86_400),
            ("receive_maximum", mqtt.receive_maximum.into(), 1..=65_535),
            ("send_maximum", mqtt.send_maximum.into(), 1..=1_024),
            (
                "unacknowledged_per_second",
                mqtt.unacknowledged_per_second.into(),
                1..=1_000_000,
            ),
            (
                "broker.keep_alive_s",
                mqtt.broker.keep_alive_s.into(),
                5..=65_535,
            ),
            (
                "broker.session_expiry_s",
                mqtt.broker.session_expiry_s.into(),
                0..=30 * 86_400,
            ),
            ("broker.online_s", mqtt.broker.online_s, 1..=30 * 86_400),
            (
                "broker.ask_every_s",
                mqtt.broker.ask_every_s,
                1..=30 * 86_400,
            ),
            (
                "broker.receive_maximum",
                mqtt.broker.receive_maximum.into(),
                1..=65_535,
            ),
            (
                "broker.send_maximum",
                mqtt.broker.send_maximum.into(),
                1..=32_767,
            ),
        ] {
            self.range(&format!("mqtt.{key}"), value, range);
        }
    }

    #[expect(clippy::too_many_lines, reason = "one check after the other")]
    fn download(&mut self, config: &DownloadConfig) {
        let named = |path: &std::path::Path| !path.as_os_str().is_empty();
        let (certificate, key) = (named(&config.tls_certificate), named(&config.tls_key));
        if certificate != key {
            self.fail(
                "download.tls_certificate",
                "tls_certificate and tls_key go together",
            );
        } else if config.https && !certificate {
            self.fail(
                "download.tls_certificate",
                "HTTPS needs a certificate: set tls_certificate and tls_key",
            );
        }
        let listens = [
            (config.https, config.https_listen),
            (config.http, config.http_listen),
        ];
        // devices are told the first of them
        let told = listens.iter().find(|(on, _)| *on);
        if config.base_url.is_empty()
            && told.is_some_and(|(_, address)| address.ip().is_unspecified())
        {
            self.fail(
                "download.base_url",
                "devices have to be told where to download, and the listener's address is none that they could reach: set \
                 base_url, as https://updates.example.com:8443",
            );
        }
        for (key, rate) in [
            (
                "download.bytes_per_second_per_device",
                config.bytes_per_second_per_device,
            ),
            ("download.bytes_per_second", config.bytes_per_second),
        ] {
            if rate != 0 {
                self.range(key, rate, 100..=2_000_000_000);
            }
        }
        self.range(
            "download.max_connections",
            config.max_connections,
            1..=1_000_000,
        );
        self.range(
            "download.max_connections_per_address",
            config.max_connections_per_address,
            1..=1_000_000,
        );
        self.range(
            "download.max_downloads_per_address",
            config.max_downloads_per_address,
            1..=1_000_000,
        );
        self.range(
            "download.max_connections_per_token",
            config.max_connections_per_token,
            1..=1_000,
        );
        self.range(
            "download.failed_attempts_per_minute",
            config.failed_attempts_per_minute,
            1..=1_000_000,
        );
        self.range("download.head_timeout_s", config.head_timeout_s, 1..=600);
        self.range("download.idle_timeout_s", config.idle_timeout_s, 1..=3_600);
        self.range(
            "download.least_bytes_per_second",
            config.least_bytes_per_second,
            0..=1_000_000,
        );
    }

    fn upgrade(&mut self, config: &UpgradeConfig) {
        for (key, seconds) in [
            ("upgrade.wait_for_device_s", config.wait_for_device_s),
            (
                "upgrade.wait_for_connection_s",
                config.wait_for_connection_s,
            ),
            ("upgrade.query_version_s", config.query_version_s),
            ("upgrade.query_coverage_s", config.query_coverage_s),
            ("upgrade.query_cell_s", config.query_cell_s),
            ("upgrade.wait_for_slot_s", config.wait_for_slot_s),
            ("upgrade.download_s", config.download_s),
            ("upgrade.transfer_s", config.transfer_s),
            ("upgrade.execute_s", config.execute_s),
            ("upgrade.claim_settle_s", config.claim_settle_s),
            ("upgrade.repeat_question_s", config.repeat_question_s),
            ("upgrade.nudge_after_s", config.nudge_after_s),
            (
                "upgrade.nudge_after_registration_s",
                config.nudge_after_registration_s,
            ),
            ("upgrade.result_grace_s", config.result_grace_s),
        ] {
            self.range(key, seconds, 1..=YEAR_S);
        }
        self.range("upgrade.max_nudges", config.max_nudges, 1..=100);
        self.range(
            "upgrade.progress_interval_s",
            config.progress_interval_s,
            1..=3_600,
        );
    }

    fn admission(&mut self, config: &AdmissionConfig) {
        // what NB-IoT modems can measure
        let rsrp = -156..=-44;
        let sinr = -20..=40;
        for (key, bound, range) in [
            ("admission.rsrp_range0_dbm", config.rsrp_range0_dbm, &rsrp),
            ("admission.rsrp_range1_dbm", config.rsrp_range1_dbm, &rsrp),
            ("admission.sinr_range0_db", config.sinr_range0_db, &sinr),
            ("admission.sinr_range1_db", config.sinr_range1_db, &sinr),
        ] {
            self.range(key, bound, range.clone());
        }
        if config.rsrp_range1_dbm > config.rsrp_range0_dbm {
            self.fail(
                "admission.rsrp_range1_dbm",
                format!(
                    "{} is above rsrp_range0_dbm, which is {}",
                    config.rsrp_range1_dbm, config.rsrp_range0_dbm
                ),
            );
        }
        if config.sinr_range1_db > config.sinr_range0_db {
            self.fail(
                "admission.sinr_range1_db",
                format!(
                    "{} is above sinr_range0_db, which is {}",
                    config.sinr_range1_db, config.sinr_range0_db
                ),
            );
        }
        for (key, limit) in [
            ("admission.limit_good", config.limit_good),
            ("admission.limit_fair", config.limit_fair),
            ("admission.limit_weak", config.limit_weak),
            ("admission.limit_other", config.limit_other),
            ("admission.limit_unmeasured", config.limit_unmeasured),
        ] {
            self.range(key, limit, 1..=100_000);
        }
        self.range("admission.overtake_s", config.overtake_s, 0..=YEAR_S);
        // without it a task of a low priority could wait for ever
        self.range("admission.ageing_s", config.ageing_s, 1..=YEAR_S);
        self.range("admission.keep_awake_s", config.keep_awake_s, 0..=86_400);
        self.range(
            "admission.keep_awake_pings",
            config.keep_awake_pings,
            0..=10_000,
        );
        // at 0 a device would be measured over and over, and never be admitted
        self.range(
            "admission.coverage_max_age_s",
            config.coverage_max_age_s,
            1..=YEAR_S,
        );
        for (key, rate) in [
            ("admission.per_cell_per_second", config.per_cell_per_second),
            ("admission.per_second", config.per_second),
        ] {
            self.range(key, rate, 1..=1_000_000);
        }
        self.range("admission.per_gateway", config.per_gateway, PER_GATEWAY);
    }

    fn collector(&mut self, endpoint: &str) {
        const KEY: &str = "telemetry.otlp_endpoint";
        if endpoint.is_empty() {
            return;
        }
        let Ok(url) = reqwest::Url::parse(endpoint) else {
            return self.fail(
                KEY,
                "is no URL; a collector on this machine is http://127.0.0.1:4318",
            );
        };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            self.fail(KEY, "has to begin with http:// or https://");
        } else if !url.username().is_empty() || url.password().is_some() {
            // it is shown, and logged
            self.fail(
                KEY,
                "holds a name or a password; give them in the environment, as OTEL_EXPORTER_OTLP_HEADERS",
            );
        } else if url.query().is_some() || url.fragment().is_some() {
            self.fail(KEY, "has a query or a fragment; give the address alone");
        }
    }

    fn range<T: PartialOrd + Display + Copy>(
        &mut self,
        key: &str,
        value: T,
        allowed: RangeInclusive<T>,
    ) {
        if !allowed.contains(&value) {
            let (low, high) = allowed.into_inner();
            self.fail(
                key,
                format!("{value} is out of range, {low} to {high} is allowed"),
            );
        }
    }

    fn fail(&mut self, key: &str, problem: impl Into<String>) {
        self.problems.push(Problem {
            setting: key.to_owned(),
            problem: problem.into(),
        });
    }
}
