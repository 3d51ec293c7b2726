//! How often one user may ask, how often one home may be asked for, and how many devices may be started.

use std::{
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU32,
    sync::{PoisonError, RwLock},
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _};

use crate::{
    config::{AppConfig, Settings},
    home::{HomeKey, MAX_HOME_DEVICES, UserId},
};

/// Users, or homes, that are told apart at once. Further ones share one allowance.
const MOST: usize = 100_000;

/// Devices that are started by one request: as many in a second as requests, of the user and of the home, and a whole home at once.
pub(super) struct StartRations {
    users: Rations,
    homes: Rations,
}

impl StartRations {
    /// As the settings say.
    pub(super) fn new(settings: Settings) -> Self {
        let whole_home = u32::try_from(MAX_HOME_DEVICES).unwrap_or(u32::MAX);
        let with_a_home_at_once = |rations: Rations| Rations {
            at_once: whole_home,
            ..rations
        };
        Self {
            users: with_a_home_at_once(Rations::of_users(settings.clone())),
            homes: with_a_home_at_once(Rations::of_homes(settings)),
        }
    }

    /// Lets so many devices, up to [`MAX_HOME_DEVICES`], through; otherwise the seconds to wait.
    pub(super) fn check(&self, home: &HomeKey, user: &UserId, devices: usize) -> Result<(), u64> {
        let devices = u32::try_from(devices).unwrap_or(u32::MAX);
        let devices = NonZeroU32::new(devices).unwrap_or(NonZeroU32::MIN);
        let tenant = home.tenant.as_str();
        self.users.check_many(tenant, user.as_str(), devices)?;
        self.homes.check_many(tenant, home.id.as_str(), devices)
    }
}

/// An allowance for each, as the settings say, with bursts of twice as many as in a second.
pub(super) struct Rations {
    settings: Settings,
    rate: fn(&AppConfig) -> u32,
    /// So many at once at the least.
    at_once: u32,
    /// A key is a number: names may be long.
    hasher: RandomState,
    /// With the rate of which it is.
    limiter: RwLock<Option<(u32, DefaultKeyedRateLimiter<u64>)>>,
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
        Self {
            settings,
            rate,
            at_once: 1,
            hasher: RandomState::new(),
            limiter: RwLock::default(),
        }
    }

    /// Lets one request of a tenant's user, or for its home, through; otherwise the seconds to wait.
    pub(super) fn check(&self, tenant: &str, name: &str) -> Result<(), u64> {
        self.check_many(tenant, name, NonZeroU32::MIN)
    }

    fn check_many(&self, tenant: &str, name: &str, count: NonZeroU32) -> Result<(), u64> {
        let key = self.hasher.hash_one((tenant, name));
        let rate = (self.rate)(&self.settings.get().app);
        {
            let kept = self.limiter.read().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, limiter)) = kept.as_ref().filter(|(of, _)| *of == rate) {
                return check(limiter, key, count);
            }
        }
        let mut kept = self.limiter.write().unwrap_or_else(PoisonError::into_inner);
        let kept = match &mut *kept {
            Some(kept) if kept.0 == rate => kept,
            other => other.insert((rate, limiter(rate, self.at_once))),
        };
        check(&kept.1, key, count)
    }
}

fn limiter(rate: u32, at_once: u32) -> DefaultKeyedRateLimiter<u64> {
    let at_least = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
    let burst = at_least.saturating_mul(NonZeroU32::MIN.saturating_add(1));
    let burst = burst.max(NonZeroU32::new(at_once).unwrap_or(NonZeroU32::MIN));
    let quota = Quota::per_second(at_least).allow_burst(burst);
    RateLimiter::keyed(quota)
}

fn check(
    limiter: &DefaultKeyedRateLimiter<u64>,
    mut key: u64,
    count: NonZeroU32,
) -> Result<(), u64> {
    if limiter.len() >= MOST {
        // forgets those that have their whole allowance again
        limiter.retain_recent();
        if limiter.len() >= MOST {
            key = 0;
        }
    }
    match limiter.check_key_n(&key, count) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(not_until)) => {
            let wait = not_until.wait_time_from(limiter.clock().now());
            Err(wait.as_secs() + 1)
        }
        // more than there is ever at once
        Err(_) => Err(1),
    }
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
