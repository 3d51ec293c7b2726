//! What stands before every request: how often a source may ask, and whether it may at all.

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
    audit,
    problem::Problem,
    source::{Source, bucket},
    token::TokenHash,
};
use crate::config::Settings;

/// Sources that are told apart at once. Further ones share one allowance.
const MAX_SOURCES: usize = 10_000;

/// What a source may have (draft-ietf-httpapi-ratelimit-headers-10 §3).
pub(super) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of it (§4).
pub(super) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The name of the one policy that there is: an allowance for each source address.
const POLICY: &str = "address";

/// How often each source address may ask: as the settings say, with bursts of twice as many.
pub(super) struct RateLimit {
    settings: Settings,
    ration: RwLock<Ration>,
}

/// The allowances at one rate.
struct Ration {
    per_second: u32,
    quota: u32,
    limiter:
        RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock, StateInformationMiddleware>,
}

/// How a source stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    per_second: u32,
    /// Requests of a whole allowance.
    quota: u32,
    /// Requests that may follow at once.
    left: u32,
    /// Seconds to wait where this one was too many.
    wait_s: Option<u64>,
}

impl Standing {
    /// Seconds until the whole allowance is there again; where nothing is left, until something is.
    fn reset_s(self) -> u64 {
        let missing = u64::from(self.quota.saturating_sub(self.left));
        (self.wait_s).unwrap_or_else(|| missing.div_ceil(u64::from(self.per_second.max(1))))
    }

    fn headers(self) -> [(HeaderName, HeaderValue); 2] {
        let window_s = self.quota.div_ceil(self.per_second.max(1));
        let policy = format!("\"{POLICY}\";q={};w={window_s}", self.quota);
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
    pub(super) fn new(settings: Settings) -> Self {
        let per_second = settings.get().admin.requests_per_second;
        Self {
            settings,
            ration: RwLock::new(Ration::new(per_second)),
        }
    }

    fn check(&self, source: IpAddr) -> Standing {
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
            quota: burst.get(),
            limiter: RateLimiter::hashmap(Quota::per_second(rate).allow_burst(burst))
                .with_middleware(),
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
            per_second: self.per_second,
            quota: self.quota,
            left: checked.map_or(0, |snapshot: StateSnapshot| {
                snapshot.remaining_burst_capacity()
            }),
            wait_s,
        }
    }
}

/// Answers 429 to a source that asks too often, and tells every one how it stands.
pub(super) async fn limit_rate(
    State(limit): State<Arc<RateLimit>>,
    request: Request,
    next: Next,
) -> Response {
    let standing = limit.check(Source::of(&request));
    let mut response = match standing.wait_s {
        None => next.run(request).await,
        Some(wait_s) => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-requests",
            "Too many requests",
            format!("this address asks too often; wait {wait_s} s"),
        )
        .with_header(header::RETRY_AFTER, wait_s.into()),
    };
    response.headers_mut().extend(standing.headers());
    response
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
        assert!(limit.check(a).wait_s.is_none() && limit.check(a).wait_s.is_none());
        assert!(limit.check(a).wait_s.unwrap() >= 1);
        assert!(limit.check(b).wait_s.is_none());
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_one() {
        let limit = Ration::new(1);
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
        let limit = RateLimit::new(settings.clone());
        let asks = || {
            (0..10)
                .filter(|_| (limit.check(IpAddr::from([192, 0, 2, 1])).wait_s).is_none())
                .count()
        };
        assert_eq!(asks(), 2);
        config.admin.requests_per_second = 3;
        settings.set(Arc::new(config));
        assert_eq!(asks(), 6);
    }

    #[test]
    fn a_source_is_told_how_it_stands() {
        let limit = Ration::new(2);
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
        let limit = Ration::new(1);
        for i in 0..u32::try_from(MAX_SOURCES).unwrap() + 500 {
            let _ = limit.check(IpAddr::V4(i.into()));
        }
        assert!(limit.limiter.len() <= MAX_SOURCES + 1);
    }
}
