//! What stands before every request: how often a source may ask.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::Response,
};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::HashMapStateStore,
};

use super::{
    problem::Problem,
    source::{Source, bucket},
};
use crate::config::{Config, Settings};

/// Sources that are told apart at once. Further ones share one allowance.
const MAX_SOURCES: usize = 10_000;

/// How often each source address may do something: as the settings say.
pub(super) struct RateLimit {
    settings: Settings,
    rate: fn(&Config) -> u32,
    quota: fn(NonZeroU32) -> Quota,
    ration: RwLock<Ration>,
}

/// The allowances at one rate.
struct Ration {
    rate: u32,
    limiter: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>,
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

    fn new(settings: Settings, rate: fn(&Config) -> u32, quota: fn(NonZeroU32) -> Quota) -> Self {
        let ration = RwLock::new(Ration::new(rate(&settings.get()), quota));
        Self {
            settings,
            rate,
            quota,
            ration,
        }
    }

    /// Whether `source` may do it now; otherwise the seconds that it should wait.
    pub(super) fn check(&self, source: IpAddr) -> Result<(), u64> {
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
            limiter: RateLimiter::hashmap(quota(at_least)),
        }
    }

    /// Whether `source` may ask now; otherwise the seconds that it should wait.
    fn check(&self, source: IpAddr) -> Result<(), u64> {
        let mut key = bucket(source);
        if self.limiter.len() >= MAX_SOURCES {
            // Forgets those that have their whole allowance again.
            self.limiter.retain_recent();
            if self.limiter.len() >= MAX_SOURCES {
                key = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            }
        }
        self.limiter.check_key(&key).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.limiter.clock().now());
            wait.as_secs() + 1
        })
    }
}

/// Answers 429 to a source that asks too often.
pub(super) async fn limit_rate(
    State(limit): State<Arc<RateLimit>>,
    request: Request,
    next: Next,
) -> Response {
    match limit.check(Source::of(&request)) {
        Ok(()) => next.run(request).await,
        Err(wait_s) => too_many("this address asks too often", wait_s),
    }
}

/// The answer to whoever is to wait.
pub(super) fn too_many(why: &str, wait_s: u64) -> Response {
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
        assert!(limit.check(a).is_ok() && limit.check(a).is_ok());
        assert!(limit.check(a).unwrap_err() >= 1);
        assert!(limit.check(b).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_one() {
        let limit = Ration::new(1, per_second);
        let check = |address: &str| limit.check(address.parse().unwrap());
        assert!(check("2001:db8::1").is_ok() && check("2001:db8::2").is_ok());
        assert!(check("2001:db8::3").is_err());
        assert!(check("2001:db8:0:1::1").is_ok());
        assert!(check("::ffff:192.0.2.1").is_ok() && check("192.0.2.1").is_ok());
        assert!(check("::ffff:192.0.2.1").is_err());
    }

    #[test]
    fn another_rate_takes_effect_at_once() {
        let mut config = Config::default();
        config.admin.requests_per_second = 1;
        let settings = Settings::new(Arc::new(config.clone()));
        let limit = RateLimit::of_requests(settings.clone());
        let asks = || {
            (0..10)
                .filter(|_| limit.check(IpAddr::from([192, 0, 2, 1])).is_ok())
                .count()
        };
        assert_eq!(asks(), 2);
        config.admin.requests_per_second = 3;
        settings.set(Arc::new(config));
        assert_eq!(asks(), 6);
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
