//! How fast slots are granted, so that a lane's random-access channel is not hit by all its devices in the same second.

use std::{hash::Hash, num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, keyed::HashMapStateStore},
};

use crate::{
    clock::{Instant, SetClock},
    config::AdmissionConfig,
};

/// Admissions per second, per lane and overall.
#[derive(Debug)]
pub(super) struct Pace<L: Clone + Eq + Hash> {
    clock: SetClock,
    per_lane: RateLimiter<L, HashMapStateStore<L>, SetClock, NoOpMiddleware<Nanos>>,
    overall: RateLimiter<NotKeyed, InMemoryState, SetClock, NoOpMiddleware<Nanos>>,
    checks: u32,
}

impl<L: Clone + Eq + Hash> Pace<L> {
    pub(super) fn new(config: &AdmissionConfig) -> Self {
        let quota =
            |per_second| Quota::per_second(NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN));
        let clock = SetClock::default();
        Self {
            per_lane: RateLimiter::new(
                quota(config.per_cell_per_second),
                HashMapStateStore::default(),
                clock.clone(),
            ),
            overall: RateLimiter::direct_with_clock(quota(config.per_second), clock.clone()),
            clock,
            checks: 0,
        }
    }

    /// Takes one admission from both budgets, or says when there is one again.
    pub(super) fn check(&mut self, now: Instant, lane: &L) -> Result<(), Instant> {
        self.clock.set(now);
        self.checks += 1;
        if self.checks.is_multiple_of(4096) {
            self.per_lane.retain_recent(); // lanes that were quiet since have their full budget
        }
        self.per_lane
            .check_key(lane)
            .map_err(|not_until| later(now, not_until.wait_time_from(self.clock.now())))?;
        self.check_overall(now)
    }

    /// Takes one admission from the budget of all lanes alone.
    pub(super) fn check_overall(&mut self, now: Instant) -> Result<(), Instant> {
        self.clock.set(now);
        self.overall
            .check()
            .map_err(|not_until| later(now, not_until.wait_time_from(self.clock.now())))
    }
}

fn later(now: Instant, wait: Duration) -> Instant {
    now + wait.max(Duration::from_millis(1))
}
