use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use toml::{Table, Value};

use super::{Config, DownloadConfig, not_obeyed};

/// Settings that take effect while the server runs. A table's name stands for all that is in it.
const RELOADED: [&str; 24] = [
    "admission",
    "admin.failed_attempts_per_minute",
    "admin.requests_per_second",
    "admin.trusted_proxies",
    "app.cors_origins",
    "app.failed_attempts_per_minute",
    "app.requests_per_address_per_second",
    "app.requests_per_home_per_second",
    "app.requests_per_user_per_second",
    "app.trusted_proxies",
    "audit",
    "download.bytes_per_second",
    "download.bytes_per_second_per_device",
    "download.failed_attempts_per_minute",
    "download.head_timeout_s",
    "download.idle_timeout_s",
    "download.least_bytes_per_second",
    "download.max_connections_per_address",
    "download.max_connections_per_token",
    "download.max_downloads_per_address",
    "download.trusted_proxies",
    "tenants",
    "webhooks.allow_networks",
    "log.filter",
];

/// The same where the admin listener speaks TLS before and after.
const RELOADED_WITH_TLS: [&str; 2] = ["admin.tls_certificate", "admin.tls_key"];
/// The same where the listener for applications speaks TLS before and after.
const RELOADED_WITH_APP_TLS: [&str; 2] = ["app.tls_certificate", "app.tls_key"];
/// The same where packages are served over HTTPS before and after.
const RELOADED_WITH_HTTPS: [&str; 2] = ["download.tls_certificate", "download.tls_key"];
/// The same where MQTT is spoken over TLS before and after.
const RELOADED_WITH_MQTTS: [&str; 3] = [
    "mqtt.client_ca_file",
    "mqtt.tls_certificate",
    "mqtt.tls_key",
];

/// The settings of a running server, which may change.
#[derive(Clone)]
pub struct Settings(Arc<Shared>);

struct Shared {
    config: RwLock<Arc<Config>>,
    /// Held by whoever changes them, until everybody is told.
    followers: Mutex<Vec<Box<Follower>>>,
}

type Follower = dyn Fn(&Arc<Config>) + Send + Sync;

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl Settings {
    /// These, for now.
    pub fn new(config: Arc<Config>) -> Self {
        Self(Arc::new(Shared {
            config: RwLock::new(config),
            followers: Mutex::default(),
        }))
    }

    /// Those in effect.
    pub fn get(&self) -> Arc<Config> {
        let config = self.0.config.read();
        config.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has somebody told of all that change from now on, in the order in which they do. It must not change them itself.
    pub fn follow(&self, follower: impl Fn(&Arc<Config>) + Send + Sync + 'static) {
        let followers = self.0.followers.lock();
        let mut followers = followers.unwrap_or_else(PoisonError::into_inner);
        followers.push(Box::new(follower));
    }

    /// Puts others into effect, which `change` makes of those that are, and tells whoever follows. Nobody else changes them meanwhile.
    pub fn change<T>(&self, change: impl FnOnce(&Config) -> (Config, T)) -> T {
        let followers = self.0.followers.lock();
        let followers = followers.unwrap_or_else(PoisonError::into_inner);
        let (config, made) = change(&self.get());
        let config = Arc::new(config);
        let mut now = (self.0.config.write()).unwrap_or_else(PoisonError::into_inner);
        now.clone_from(&config);
        drop(now);
        for follower in followers.iter() {
            follower(&config);
        }
        made
    }
}

/// What becomes of settings that were read anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Reload {
    /// The old settings with what of the new ones takes effect at once.
    pub config: Config,
    /// What that is.
    pub changed: Vec<String>,
    /// What takes effect with the next start.
    pub needs_restart: Vec<String>,
    /// What they say of products, and what they would have to say.
    pub not_obeyed: Vec<String>,
}

impl Config {
    /// What of `new` can take effect while the server runs. Products stay as they are: they are the database's.
    pub fn reload(&self, new: &Self) -> Reload {
        let mut config = self.clone();
        config.admission.clone_from(&new.admission);
        config.admin.requests_per_second = new.admin.requests_per_second;
        config.admin.failed_attempts_per_minute = new.admin.failed_attempts_per_minute;
        config
            .admin
            .trusted_proxies
            .clone_from(&new.admin.trusted_proxies);
        config
            .webhooks
            .allow_networks
            .clone_from(&new.webhooks.allow_networks);
        config.audit.clone_from(&new.audit);
        config.tenants.clone_from(&new.tenants);
        config.log.filter.clone_from(&new.log.filter);
        // a listener begins to speak TLS, or ceases to, with a restart
        let tls = self.admin.has_tls() && new.admin.has_tls();
        if tls {
            (config.admin.tls_certificate).clone_from(&new.admin.tls_certificate);
            config.admin.tls_key.clone_from(&new.admin.tls_key);
        }
        let app_tls = self.app.has_tls() && new.app.has_tls();
        config.app = self.app.reload(&new.app, app_tls);
        let https = self.download.https && new.download.https;
        config.download = self.download.reload(&new.download, https);
        let mqtts = self.mqtt.tls && new.mqtt.tls;
        if mqtts {
            (config.mqtt.tls_certificate).clone_from(&new.mqtt.tls_certificate);
            config.mqtt.tls_key.clone_from(&new.mqtt.tls_key);
            (config.mqtt.client_ca_file).clone_from(&new.mqtt.client_ca_file);
        }
        let mut differ = differing(&table(self), &table(new), "");
        differ.retain(|key| !key.starts_with("products."));
        let key = "dtls.credential_key";
        if self.dtls.credential_key != new.dtls.credential_key
            && !differ.iter().any(|differing| differing == key)
        {
            // two keys of the operator's are shown alike
            differ.push(key.to_owned());
        }
        let (changed, needs_restart) = differ.into_iter().partition(|key| {
            tls && RELOADED_WITH_TLS.contains(&key.as_str())
                || app_tls && RELOADED_WITH_APP_TLS.contains(&key.as_str())
                || https && RELOADED_WITH_HTTPS.contains(&key.as_str())
                || mqtts && RELOADED_WITH_MQTTS.contains(&key.as_str())
                || RELOADED.iter().any(|reloaded| {
                    let rest = key.strip_prefix(reloaded);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                })
        });
        Reload {
            config,
            changed,
            needs_restart,
            not_obeyed: not_obeyed(&new.products, &self.products),
        }
    }
}

impl DownloadConfig {
    fn reload(&self, new: &Self, https: bool) -> Self {
        let files = if https { new } else { self };
        Self {
            bytes_per_second: new.bytes_per_second,
            bytes_per_second_per_device: new.bytes_per_second_per_device,
            failed_attempts_per_minute: new.failed_attempts_per_minute,
            head_timeout_s: new.head_timeout_s,
            idle_timeout_s: new.idle_timeout_s,
            least_bytes_per_second: new.least_bytes_per_second,
            max_connections_per_address: new.max_connections_per_address,
            max_downloads_per_address: new.max_downloads_per_address,
            max_connections_per_token: new.max_connections_per_token,
            trusted_proxies: new.trusted_proxies.clone(),
            tls_certificate: files.tls_certificate.clone(),
            tls_key: files.tls_key.clone(),
            ..self.clone()
        }
    }
}

fn table(config: &Config) -> Table {
    Table::try_from(config).unwrap_or_default()
}

/// The keys under which two tables differ.
pub(super) fn differing(old: &Table, new: &Table, above: &str) -> Vec<String> {
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    let mut differ = Vec::new();
    for key in keys {
        let path = if above.is_empty() {
            key.clone()
        } else {
            format!("{above}.{key}")
        };
        match (old.get(key), new.get(key)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => {
                differ.extend(differing(old, new, &path));
            }
            (old, new) if old != new => differ.push(path),
            _ => {}
        }
    }
    differ
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ProductConfig, SecretText};

    #[test]
    fn some_settings_take_effect_at_once_and_the_others_are_named() {
        let old = Config::default();
        assert_eq!(old.reload(&old).changed, [""; 0]);
        let mut new = old.clone();
        new.admission.limit_weak = 3;
        new.admission.per_second = 7;
        new.admin.requests_per_second = 9;
        new.admin.failed_attempts_per_minute = 8;
        new.admin.trusted_proxies = vec!["10.0.0.1/32".parse().unwrap()];
        new.webhooks.allow_networks = vec!["10.0.0.0/8".parse().unwrap()];
        new.webhooks.timeout_s = 3;
        new.log.filter = "debug".to_owned();
        new.shards = 5;
        new.dtls.credential_key = SecretText("ab".repeat(32));
        let meter = ProductConfig {
            pmin_zero: true,
            ..ProductConfig::default()
        };
        new.products.insert("meter".to_owned(), meter);
        let reload = old.reload(&new);
        assert_eq!(
            reload.changed,
            [
                "admin.failed_attempts_per_minute",
                "admin.requests_per_second",
                "admin.trusted_proxies",
                "admission.limit_weak",
                "admission.per_second",
                "log.filter",
                "webhooks.allow_networks",
            ]
        );
        assert_eq!(
            reload.needs_restart,
            ["dtls.credential_key", "shards", "webhooks.timeout_s"]
        );
        assert_eq!(reload.not_obeyed.len(), 1, "{:?}", reload.not_obeyed);
        assert!(reload.not_obeyed[0].contains("products.meter"));
        let mut expected = new.clone();
        expected.webhooks.timeout_s = old.webhooks.timeout_s;
        expected.shards = old.shards;
        expected.dtls = old.dtls.clone();
        expected.products.clear();
        assert_eq!(reload.config, expected);
    }

    #[test]
    fn rates_of_downloads_take_effect_at_once_and_listeners_do_not() {
        let mut old = Config::default();
        old.download.https = true;
        let mut new = old.clone();
        new.download.bytes_per_second = 1_000;
        new.download.trusted_proxies = vec!["10.0.0.1/32".parse().unwrap()];
        new.download.tls_key = "b.key".into();
        let mut expected = new.clone();
        new.download.max_connections = 5;
        new.download.base_url = "http://a".into();
        let reload = old.reload(&new);
        assert_eq!(reload.config, expected);
        let changed = [
            "download.bytes_per_second",
            "download.tls_key",
            "download.trusted_proxies",
        ];
        assert_eq!(reload.changed, changed);
        let restart = ["download.base_url", "download.max_connections"];
        assert_eq!(reload.needs_restart, restart);
        // HTTPS begins with a restart, and so do its files
        (old.download.https, expected.download.https) = (false, false);
        expected.download.tls_key = old.download.tls_key.clone();
        assert_eq!(old.reload(&new).config, expected);
    }

    #[test]
    fn origins_and_rates_of_applications_take_effect_at_once_and_their_issuer_does_not() {
        let mut old = Config::default();
        old.app.enabled = true;
        old.app.tls_certificate = "a.pem".into();
        old.app.tls_key = "a.key".into();
        let mut new = old.clone();
        new.app.cors_origins = vec!["https://app.example.com".to_owned()];
        new.app.requests_per_user_per_second = 7;
        new.app.tls_key = "b.key".into();
        let expected = new.clone();
        new.app.issuer = "https://login.example.com".to_owned();
        let reload = old.reload(&new);
        assert_eq!(reload.config, expected);
        let changed = [
            "app.cors_origins",
            "app.requests_per_user_per_second",
            "app.tls_key",
        ];
        assert_eq!(reload.changed, changed);
        assert_eq!(reload.needs_restart, ["app.issuer"]);
    }

    #[test]
    fn another_certificate_of_mqtt_takes_effect_at_once_and_ports_do_not() {
        let mut old = Config::default();
        old.mqtt.tls = true;
        let mut new = old.clone();
        new.mqtt.tls_certificate = "b.pem".into();
        new.mqtt.tls_key = "b.key".into();
        new.mqtt.client_ca_file = "ca.pem".into();
        let expected = new.clone();
        new.mqtt.max_connections = 5;
        let reload = old.reload(&new);
        assert_eq!(reload.config, expected);
        assert_eq!(reload.changed, RELOADED_WITH_MQTTS);
        assert_eq!(reload.needs_restart, ["mqtt.max_connections"]);
        // TLS begins with a restart, and so do its files
        old.mqtt.tls = false;
        assert_eq!(old.reload(&new).config, old);
    }

    #[test]
    fn another_certificate_takes_effect_at_once_and_tls_itself_does_not() {
        let plain = Config::default();
        let mut tls = plain.clone();
        tls.admin.tls_certificate = "a.pem".into();
        tls.admin.tls_key = "a.key".into();
        let mut other = tls.clone();
        other.admin.tls_certificate = "b.pem".into();
        let reload = tls.reload(&other);
        assert_eq!(reload.changed, ["admin.tls_certificate"]);
        assert_eq!(reload.config, other);
        for (before, after) in [(&plain, &tls), (&tls, &plain)] {
            let reload = before.reload(after);
            let keys = ["admin.tls_certificate", "admin.tls_key"];
            assert_eq!(
                (reload.changed, reload.needs_restart.as_slice()),
                (vec![], &keys.map(str::to_owned)[..])
            );
            assert_eq!(reload.config, *before);
        }
    }

    #[test]
    fn of_many_who_change_settings_none_undoes_what_another_has_done() {
        const EACH: u32 = 200;
        let settings = Settings::new(Arc::new(Config::default()));
        let before = settings.get().admission.limit_good;
        let told = Arc::new(Mutex::new(Vec::new()));
        let follower = told.clone();
        settings.follow(move |config| {
            let seen = (config.admission.limit_good, config.products.len());
            follower.lock().unwrap().push(seen);
        });
        let threads: Vec<_> = (0..4_u32)
            .map(|thread| {
                let settings = settings.clone();
                std::thread::spawn(move || {
                    for i in 0..EACH {
                        settings.change(|config| {
                            let mut config = config.clone();
                            config.admission.limit_good += 1;
                            let name = format!("p-{thread}-{i}");
                            config.products.insert(name, ProductConfig::default());
                            (config, ())
                        });
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        // whoever follows has seen each of them, one after the other
        let told = told.lock().unwrap();
        let expected: Vec<_> = (1..=4 * EACH).map(|i| (before + i, i as usize)).collect();
        assert_eq!(*told, expected);
        assert_eq!(settings.get().admission.limit_good, before + 4 * EACH);
    }
}
