//! How often one user may ask, and how often one home may be asked for.

use std::{
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU32,
    sync::{PoisonError, RwLock},
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _};

use crate::config::{AppConfig, Settings};

/// Users, or homes, that are told apart at once. Further ones share one allowance.
const MOST: usize = 100_000;

/// An allowance for each, as the settings say, with bursts of twice as many as in a second.
pub(super) struct Rations {
    settings: Settings,
    rate: fn(&AppConfig) -> u32,
    /// A key is a number: names may be long.
    hasher: RandomState,
    limiter: RwLock<(u32, DefaultKeyedRateLimiter<u64>)>,
}

impl Rations {
    /// Of users.
    pub(super) fn of_users(settings: Settings) -> Self {
        Self::new(settings, |config| config.requests_per_user_per_second)
    }

    /// Of homes.
    pub(super) fn of_homes(settings: Settings) -> Self {
        Self::new(settings, |config| config.requests_per_home_per_second)
    }

    fn new(settings: Settings, rate: fn(&AppConfig) -> u32) -> Self {
        let limiter = limiter(rate(&settings.get().app));
        Self {
            settings,
            rate,
            hasher: RandomState::new(),
            limiter: RwLock::new(limiter),
        }
    }

    /// Lets one request of a tenant's user, or for its home, through; otherwise the seconds to wait.
    pub(super) fn check(&self, tenant: &str, name: &str) -> Result<(), u64> {
        let key = self.hasher.hash_one((tenant, name));
        let rate = (self.rate)(&self.settings.get().app);
        let kept = self.limiter.read().unwrap_or_else(PoisonError::into_inner);
        if kept.0 == rate {
            return check(&kept.1, key);
        }
        drop(kept);
        let mut kept = self.limiter.write().unwrap_or_else(PoisonError::into_inner);
        if kept.0 != rate {
            *kept = limiter(rate);
        }
        check(&kept.1, key)
    }
}

fn limiter(rate: u32) -> (u32, DefaultKeyedRateLimiter<u64>) {
    let at_least = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
    let burst = at_least.saturating_mul(NonZeroU32::MIN.saturating_add(1));
    let quota = Quota::per_second(at_least).allow_burst(burst);
    (rate, RateLimiter::keyed(quota))
}

fn check(limiter: &DefaultKeyedRateLimiter<u64>, mut key: u64) -> Result<(), u64> {
    if limiter.len() >= MOST {
        // forgets those that have their whole allowance again
        limiter.retain_recent();
        if limiter.len() >= MOST {
            key = 0;
        }
    }
    limiter.check_key(&key).map_err(|not_until| {
        let wait = not_until.wait_time_from(limiter.clock().now());
        wait.as_secs() + 1
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;

    #[test]
    fn each_has_an_allowance_of_its_own_that_the_settings_change() {
        let mut config = Config::default();
        config.app.requests_per_user_per_second = 1;
        let settings = Settings::new(Arc::new(config.clone()));
        let rations = Rations::of_users(settings.clone());
        let may = |tenant: &str, user: &str| {
            let may = (0..10).filter(|_| rations.check(tenant, user).is_ok());
            may.count()
        };
        assert_eq!(may("acme", "anna"), 2);
        assert_eq!(may("acme", "bert"), 2);
        assert_eq!(may("other", "anna"), 2);
        assert!(rations.check("acme", "anna").unwrap_err() >= 1);
        config.app.requests_per_user_per_second = 3;
        settings.change(|_| (config, ()));
        assert_eq!(may("acme", "anna"), 6);
    }
}
