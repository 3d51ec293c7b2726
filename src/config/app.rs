use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::address;

/// The face for end users' applications: `/app/v1`, on a listener of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AppConfig {
    /// Whether applications are served.
    pub enabled: bool,
    /// TCP address to listen on. Port 0 lets the system choose.
    #[serde(deserialize_with = "address::read")]
    pub listen: SocketAddr,
    /// The listener's certificate and those up to its root, in PEM; empty for HTTP without TLS.
    pub tls_certificate: PathBuf,
    /// The certificate's private key, in PEM.
    pub tls_key: PathBuf,
    /// Networks of proxies before this listener, such as `10.20.0.5/32`: what they say in `X-Forwarded-For` of who asks is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins of pages that may call from a browser: `https://app.example.com`. Empty for none.
    pub cors_origins: Vec<String>,
    /// Who makes the tokens: their claim `iss`. Empty where tokens of the admin API alone are taken.
    pub issuer: String,
    /// For whom they are made: one of those in their claim `aud`.
    pub audience: String,
    /// A file with the keys of the issuer (JWK Set, RFC 7517), read anew when it changes. Instead of `jwks_url`.
    pub jwks_file: PathBuf,
    /// Where the issuer publishes its keys. Instead of `jwks_file`.
    pub jwks_url: String,
    /// A file with the authorities, in PEM, of which the host of `jwks_url` may have its certificate; empty for those that the system
    /// trusts.
    pub ca_file: PathBuf,
    /// Clocks of the issuer and of this machine may differ by this.
    pub leeway_s: u64,
    /// A token that lasts for longer is refused, from `iat` to `exp`.
    pub max_token_lifetime_s: u64,
    /// The claim that names the user.
    pub user_claim: String,
    /// The claim that names the tenant; empty where everybody is of the tenant `default`.
    pub tenant_claim: String,
    /// The claim that has the user's homes with the roles there; empty where the homes of the admin API count alone.
    pub homes_claim: String,
    /// Requests per second of one user, with bursts of twice as many.
    pub requests_per_user_per_second: u32,
    /// Requests per second to one home, with bursts of twice as many.
    pub requests_per_home_per_second: u32,
    /// Requests per second from one source address, with bursts of twice as many.
    pub requests_per_address_per_second: u32,
    /// Tokens that are none, per minute and source address: more are answered 429.
    pub failed_attempts_per_minute: u32,
    /// Connections at the same time. Further ones wait to be accepted.
    pub max_connections: u32,
    /// Connections at the same time of one address (of IPv6: one /64).
    pub max_connections_per_address: u32,
    /// Streams of events at the same time.
    pub max_listeners: u32,
    /// Streams of events at the same time of one home.
    pub per_home_listeners: u32,
    /// So many days it is kept who has started what at home. 0: until the user or the device is deleted.
    pub keep_starts_days: u32,
}

impl AppConfig {
    /// Whether the listener speaks TLS.
    pub fn has_tls(&self) -> bool {
        self.enabled
            && !self.tls_certificate.as_os_str().is_empty()
            && !self.tls_key.as_os_str().is_empty()
    }

    /// These with what of `new` takes effect while the server runs, and its certificate if `tls`.
    pub(super) fn reload(&self, new: &Self, tls: bool) -> Self {
        let files = if tls { new } else { self };
        Self {
            tls_certificate: files.tls_certificate.clone(),
            tls_key: files.tls_key.clone(),
            trusted_proxies: new.trusted_proxies.clone(),
            cors_origins: new.cors_origins.clone(),
            requests_per_user_per_second: new.requests_per_user_per_second,
            requests_per_home_per_second: new.requests_per_home_per_second,
            requests_per_address_per_second: new.requests_per_address_per_second,
            failed_attempts_per_minute: new.failed_attempts_per_minute,
            keep_starts_days: new.keep_starts_days,
            ..self.clone()
        }
    }
}

impl Default for AppConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8091)),
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            issuer: String::new(),
            audience: String::new(),
            jwks_file: PathBuf::new(),
            jwks_url: String::new(),
            ca_file: PathBuf::new(),
            leeway_s: 60,
            max_token_lifetime_s: 3_600,
            user_claim: "sub".to_owned(),
            tenant_claim: String::new(),
            homes_claim: String::new(),
            requests_per_user_per_second: 5,
            requests_per_home_per_second: 10,
            requests_per_address_per_second: 200,
            failed_attempts_per_minute: 60,
            max_connections: 20_000,
            max_connections_per_address: 1_024,
            max_listeners: 10_000,
            per_home_listeners: 8,
            keep_starts_days: 365,
        }
    }
}

impl AppConfig {
    /// What is wrong with it, each with the name of its setting.
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = self.ranges();
        let mut check = |well: bool, setting, problem: &str| {
            if !well {
                problems.push((setting, problem.to_owned()));
            }
        };
        let named = |path: &PathBuf| !path.as_os_str().is_empty();
        check(
            named(&self.tls_certificate) == named(&self.tls_key),
            "tls_certificate",
            "tls_certificate and tls_key go together",
        );
        for origin in &self.cors_origins {
            check(
                is_origin(origin),
                "cors_origins",
                &format!(
                    "{origin:?} is no origin, which is https://HOST or https://HOST:PORT (http:// for localhost) and nothing \
                     behind it; * is not possible"
                ),
            );
        }
        let keys = usize::from(named(&self.jwks_file)) + usize::from(!self.jwks_url.is_empty());
        if self.issuer.is_empty() {
            let what = "needs issuer and audience";
            check(!named(&self.jwks_file), "jwks_file", what);
            check(self.jwks_url.is_empty(), "jwks_url", what);
        } else {
            check(
                keys == 1,
                "jwks_url",
                "the keys of the issuer come from a file or from a URL: set one of jwks_file and jwks_url",
            );
            check(
                !self.audience.is_empty(),
                "audience",
                "must be set beside issuer: a token for somebody else is none for this server",
            );
        }
        check(
            self.jwks_url.is_empty() || super::validate::is_secure(&self.jwks_url),
            "jwks_url",
            "must be an https:// URL without query; http:// for this machine alone",
        );
        check(
            (1..=100).contains(&self.user_claim.len()),
            "user_claim",
            "names a claim, in 1 to 100 characters",
        );
        problems
    }

    fn ranges(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        for (setting, value, (low, high)) in [
            ("leeway_s", self.leeway_s, (0, 600)),
            (
                "max_token_lifetime_s",
                self.max_token_lifetime_s,
                (60, 86_400),
            ),
            (
                "requests_per_user_per_second",
                self.requests_per_user_per_second.into(),
                (1, 1_000_000),
            ),
            (
                "requests_per_home_per_second",
                self.requests_per_home_per_second.into(),
                (1, 1_000_000),
            ),
            (
                "requests_per_address_per_second",
                self.requests_per_address_per_second.into(),
                (1, 1_000_000),
            ),
            (
                "failed_attempts_per_minute",
                self.failed_attempts_per_minute.into(),
                (1, 1_000_000),
            ),
            (
                "max_connections",
                self.max_connections.into(),
                (1, 1_000_000),
            ),
            (
                "max_connections_per_address",
                self.max_connections_per_address.into(),
                (1, 1_000_000),
            ),
            ("max_listeners", self.max_listeners.into(), (1, 1_000_000)),
            (
                "per_home_listeners",
                self.per_home_listeners.into(),
                (1, 1_000),
            ),
            (
                "keep_starts_days",
                self.keep_starts_days.into(),
                (0, 36_500),
            ),
        ] {
            if !(low..=high).contains(&value) {
                let what = format!("{value} is out of range, {low} to {high} is allowed");
                problems.push((setting, what));
            }
        }
        problems
    }
}

/// Whether a text is an origin as browsers write it (RFC 6454 §6.2), of a page that came over TLS or of this machine.
fn is_origin(text: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(text) else {
        return false;
    };
    super::validate::is_secure(text) && url.origin().ascii_serialization() == text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(change: impl FnOnce(&mut AppConfig)) -> Vec<&'static str> {
        let mut config = AppConfig::default();
        change(&mut config);
        config
            .problems()
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    #[test]
    fn an_origin_is_as_browsers_write_it_and_never_all_of_them() {
        for origin in [
            "https://app.example.com",
            "https://a.example:8443",
            "http://localhost:3000",
        ] {
            assert!(
                problems(|it| it.cors_origins = vec![origin.to_owned()]).is_empty(),
                "{origin}"
            );
        }
        for origin in [
            "*",
            "null",
            "https://app.example.com/",
            "https://APP.example.com",
            "http://app.example.com",
            "https://a.example:443",
            "app.example.com",
        ] {
            let found = problems(|it| it.cors_origins = vec![origin.to_owned()]);
            assert_eq!(found, ["cors_origins"], "{origin}");
        }
    }

    #[test]
    fn an_issuer_needs_an_audience_and_keys_from_one_place() {
        let issuer = |it: &mut AppConfig| {
            it.issuer = "https://login.example.com".to_owned();
            it.audience = "cellwise-app".to_owned();
            it.jwks_url = "https://login.example.com/keys".to_owned();
        };
        assert!(problems(issuer).is_empty());
        let without = |change: fn(&mut AppConfig)| {
            problems(|it| {
                issuer(it);
                change(it);
            })
        };
        assert_eq!(without(|it| it.audience.clear()), ["audience"]);
        assert_eq!(without(|it| it.jwks_url.clear()), ["jwks_url"]);
        assert_eq!(
            without(|it| it.jwks_file = "keys.json".into()),
            ["jwks_url"]
        );
        assert_eq!(
            without(|it| it.jwks_url = "http://login.example.com/keys".to_owned()),
            ["jwks_url"]
        );
        assert_eq!(without(|it| it.issuer.clear()), ["jwks_url"]);
        assert_eq!(
            problems(|it| it.max_token_lifetime_s = 0),
            ["max_token_lifetime_s"]
        );
    }
}
