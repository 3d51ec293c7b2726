//! What stands before every request: how often a source may ask, and whether it may at all.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::HashMapStateStore,
};

use super::{
    audit,
    problem::Problem,
    source::{Source, bucket},
    token::TokenHash,
};
use crate::config::Settings;

/// Sources that are told apart at once. Further ones share one allowance.
const MAX_SOURCES: usize = 10_000;

/// How often each source address may ask: as the settings say, with bursts of twice as many.
pub(super) struct RateLimit {
    settings: Settings,
    ration: RwLock<Ration>,
}

/// The allowances at one rate.
struct Ration {
    per_second: u32,
    limiter: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>,
}

impl RateLimit {
    pub(super) fn new(settings: Settings) -> Self {
        let per_second = settings.get().admin.requests_per_second;
        Self {
            settings,
            ration: RwLock::new(Ration::new(per_second)),
        }
    }

    fn check(&self, source: IpAddr) -> Result<(), u64> {
        let per_second = self.settings.get().admin.requests_per_second;
        let ration = self.ration.read().unwrap_or_else(PoisonError::into_inner);
        if ration.per_second == per_second {
            return ration.check(source);
        }
        drop(ration);
        let mut ration = self.ration.write().unwrap_or_else(PoisonError::into_inner);
        if ration.per_second != per_second {
            *ration = Ration::new(per_second);
        }
        ration.check(source)
    }
}

impl Ration {
    fn new(per_second: u32) -> Self {
        let rate = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
        let burst = rate.saturating_mul(NonZeroU32::MIN.saturating_add(1));
        Self {
            per_second,
            limiter: RateLimiter::hashmap(Quota::per_second(rate).allow_burst(burst)),
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
        Err(wait_s) => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-requests",
            "Too many requests",
            format!("this address asks too often; wait {wait_s} s"),
        )
        .with_header(header::RETRY_AFTER, wait_s.into()),
    }
}

/// Answers 401 to a request without the token.
pub(super) async fn require_token(
    State(token): State<TokenHash>,
    request: Request,
    next: Next,
) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let detail = match given {
        Some((_, given)) if token.is(given.trim()) => return next.run(request).await,
        Some(_) => {
            audit::token_rejected(&request);
            "this is not the server's token; it is in admin.token in its data directory"
        }
        None => {
            "send the header Authorization: Bearer <token>; the token is in admin.token in the server's data directory"
        }
    };
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "The token is missing or wrong",
        detail,
    )
    .with_header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Bearer realm=\"cellwise\""),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn each_source_has_its_own_allowance() {
        let limit = Ration::new(1);
        let (a, b) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!(limit.check(a).is_ok() && limit.check(a).is_ok());
        assert!(limit.check(a).unwrap_err() >= 1);
        assert!(limit.check(b).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_one() {
        let limit = Ration::new(1);
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
        let limit = RateLimit::new(settings.clone());
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
        let limit = Ration::new(1);
        for i in 0..u32::try_from(MAX_SOURCES).unwrap() + 500 {
            let _ = limit.check(IpAddr::V4(i.into()));
        }
        assert!(limit.limiter.len() <= MAX_SOURCES + 1);
    }
}
