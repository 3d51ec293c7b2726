//! What stands before every request: how often a source may ask.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::{StateInformationMiddleware, StateSnapshot},
    state::keyed::HashMapStateStore,
};

use super::{
    problem::Problem,
    source::{Source, bucket},
};
use crate::config::{Config, Settings};

/// Sources that are told apart at once. Further ones share one allowance.
const MAX_SOURCES: usize = 10_000;

/// What a source may have (draft-ietf-httpapi-ratelimit-headers-10 §3).
pub(super) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of it (§4).
pub(super) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The name of the one policy that there is: an allowance for each source address.
const POLICY: &str = "address";

/// How often each source address may do something: as the settings say.
pub(crate) struct RateLimit {
    settings: Settings,
    rate: fn(&Config) -> u32,
    quota: fn(NonZeroU32) -> Quota,
    ration: RwLock<Ration>,
}

/// The allowances at one rate.
struct Ration {
    rate: u32,
    quota: Quota,
    limiter:
        RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock, StateInformationMiddleware>,
}

/// How a source stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Its whole allowance, and how fast that comes back.
    quota: Quota,
    /// What it may do at once.
    left: u32,
    /// Seconds to wait where this one was too many.
    wait_s: Option<u64>,
}

impl Standing {
    /// Whether it was let; otherwise the seconds to wait.
    pub(crate) fn allowed(self) -> Result<(), u64> {
        self.wait_s.map_or(Ok(()), Err)
    }

    /// Seconds until the whole allowance is there again; where nothing is left, until something is.
    fn reset_s(self) -> u64 {
        let missing = self.quota.burst_size().get().saturating_sub(self.left);
        self.wait_s.unwrap_or_else(|| self.seconds(missing))
    }

    /// Seconds in which so much comes back.
    fn seconds(self, much: u32) -> u64 {
        let time = self.quota.replenish_interval().saturating_mul(much);
        time.as_secs() + u64::from(time.subsec_nanos() > 0)
    }

    fn headers(self) -> [(HeaderName, HeaderValue); 2] {
        let whole = self.quota.burst_size().get();
        let policy = format!("\"{POLICY}\";q={whole};w={}", self.seconds(whole));
        let limit = format!("\"{POLICY}\";r={};t={}", self.left, self.reset_s());
        [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, limit)].map(|(name, value)| {
            // digits and the marks around them
            let value =
                HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""));
            (name, value)
        })
    }
}

impl RateLimit {
    /// Requests, with bursts of twice as many as in a second.
    pub(super) fn of_requests(settings: Settings) -> Self {
        let rate = |config: &Config| config.admin.requests_per_second;
        Self::new(settings, rate, per_second)
    }

    /// Attempts to be let in that have failed.
    pub(super) fn of_attempts(settings: Settings) -> Self {
        let rate = |config: &Config| config.admin.failed_attempts_per_minute;
        Self::new(settings, rate, Quota::per_minute)
    }

    /// Requests of applications, with bursts of twice as many as in a second.
    pub(crate) fn of_app_requests(settings: Settings) -> Self {
        let rate = |config: &Config| config.app.requests_per_address_per_second;
        Self::new(settings, rate, per_second)
    }

    /// Tokens of applications that are none.
    pub(crate) fn of_app_attempts(settings: Settings) -> Self {
        let rate = |config: &Config| config.app.failed_attempts_per_minute;
        Self::new(settings, rate, Quota::per_minute)
    }

    fn new(settings: Settings, rate: fn(&Config) -> u32, quota: fn(NonZeroU32) -> Quota) -> Self {
        let ration = RwLock::new(Ration::new(rate(&settings.get()), quota));
        Self {
            settings,
            rate,
            quota,
            ration,
        }
    }

    /// How `source` stands now that it has done it, or wanted to.
    pub(crate) fn check(&self, source: IpAddr) -> Standing {
        let rate = (self.rate)(&self.settings.get());
        let ration = self.ration.read().unwrap_or_else(PoisonError::into_inner);
        if ration.rate == rate {
            return ration.check(source);
        }
        drop(ration);
        let mut ration = self.ration.write().unwrap_or_else(PoisonError::into_inner);
        if ration.rate != rate {
            *ration = Ration::new(rate, self.quota);
        }
        ration.check(source)
    }
}

fn per_second(rate: NonZeroU32) -> Quota {
    let burst = rate.saturating_mul(NonZeroU32::MIN.saturating_add(1));
    Quota::per_second(rate).allow_burst(burst)
}

impl Ration {
    fn new(rate: u32, quota: fn(NonZeroU32) -> Quota) -> Self {
        let at_least = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
        Self {
            rate,
            quota: quota(at_least),
            limiter: RateLimiter::hashmap(quota(at_least)).with_middleware(),
        }
    }

    /// Whether `source` may ask now, and how it stands.
    fn check(&self, source: IpAddr) -> Standing {
        let mut key = bucket(source);
        if self.limiter.len() >= MAX_SOURCES {
            // Forgets those that have their whole allowance again.
            self.limiter.retain_recent();
            if self.limiter.len() >= MAX_SOURCES {
                key = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            }
        }
        let checked = self.limiter.check_key(&key);
        let wait_s = checked.as_ref().err().map(|not_until| {
            let wait = not_until.wait_time_from(self.limiter.clock().now());
            wait.as_secs() + 1
        });
        Standing {
            quota: self.quota,
            left: checked.map_or(0, |snapshot: StateSnapshot| {
                snapshot.remaining_burst_capacity()
            }),
            wait_s,
        }
    }
}

/// Answers 429 to a source that asks too often, and tells every one how it stands.
pub(crate) async fn limit_rate(
    State(limit): State<Arc<RateLimit>>,
    request: Request,
    next: Next,
) -> Response {
    let standing = limit.check(Source::of(&request));
    let mut response = match standing.allowed() {
        Ok(()) => next.run(request).await,
        Err(wait_s) => too_many("this address asks too often", wait_s),
    };
    response.headers_mut().extend(standing.headers());
    response
}

/// The answer to whoever is to wait.
pub(crate) fn too_many(why: &str, wait_s: u64) -> Response {
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too-many-requests",
        "Too many requests",
        format!("{why}; wait {wait_s} s"),
    )
    .with_header(header::RETRY_AFTER, wait_s.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_its_own_allowance() {
        let limit = Ration::new(1, per_second);
        let (a, b) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!(limit.check(a).wait_s.is_none() && limit.check(a).wait_s.is_none());
        assert!(limit.check(a).wait_s.unwrap() >= 1);
        assert!(limit.check(b).wait_s.is_none());
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_one() {
        let limit = Ration::new(1, per_second);
        let may = |address: &str| limit.check(address.parse().unwrap()).wait_s.is_none();
        assert!(may("2001:db8::1") && may("2001:db8::2"));
        assert!(!may("2001:db8::3"));
        assert!(may("2001:db8:0:1::1"));
        assert!(may("::ffff:192.0.2.1") && may("192.0.2.1"));
        assert!(!may("::ffff:192.0.2.1"));
    }

    #[test]
    fn another_rate_takes_effect_at_once() {
        let mut config = Config::default();
        config.admin.requests_per_second = 1;
        let settings = Settings::new(Arc::new(config.clone()));
        let limit = RateLimit::of_requests(settings.clone());
        let asks = || {
            (0..10)
                .filter(|_| (limit.check(IpAddr::from([192, 0, 2, 1])).wait_s).is_none())
                .count()
        };
        assert_eq!(asks(), 2);
        config.admin.requests_per_second = 3;
        settings.change(|_| (config, ()));
        assert_eq!(asks(), 6);
    }

    #[test]
    fn a_source_is_told_how_it_stands() {
        let limit = Ration::new(2, per_second);
        let told = || {
            let standing = limit.check(IpAddr::from([192, 0, 2, 1]));
            standing
                .headers()
                .map(|(_, value)| value.to_str().unwrap().to_owned())
        };
        let policy = r#""address";q=4;w=2"#;
        for left in [
            r#""address";r=3;t=1"#,
            r#""address";r=2;t=1"#,
            r#""address";r=1;t=2"#,
            r#""address";r=0;t=2"#,
            r#""address";r=0;t=1"#,
        ] {
            assert_eq!(told(), [policy, left]);
        }
    }

    #[test]
    fn many_sources_do_not_grow_memory() {
        let limit = Ration::new(1, per_second);
        for i in 0..u32::try_from(MAX_SOURCES).unwrap() + 500 {
            let _ = limit.check(IpAddr::V4(i.into()));
        }
        assert!(limit.limiter.len() <= MAX_SOURCES + 1);
    }
}
