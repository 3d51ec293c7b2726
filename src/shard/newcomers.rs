//! Who may come that nobody added, where anybody may register: so many at all, and at a pace, for each network and for all.
//!
//! A sender's address may be false, so that nothing but the pace of all of them bounds how fast places are taken.

use std::{net::IpAddr, num::NonZeroUsize, time::Duration};

use lru::LruCache;

use crate::{clock::Instant, engine::Welcome};

/// Networks whose pace is known, the latest. Where there are more, the pace of all of them still holds.
const MAX_NETWORKS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Whether a newcomer may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admittance {
    Admitted,
    /// There are as many devices as may be.
    Full,
    /// Others have come too fast.
    TooFast,
}

/// The newcomers of the last hour.
#[derive(Debug)]
pub(super) struct Newcomers {
    all: Ration,
    networks: LruCache<IpAddr, Ration>,
}

impl Default for Newcomers {
    fn default() -> Self {
        Self {
            all: Ration::default(),
            networks: LruCache::unbounded(), // it grows with those who come, up to `MAX_NETWORKS`
        }
    }
}

impl Newcomers {
    /// Whether one more may come from there, now that there are `devices`. One that may is counted.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        from: IpAddr,
        devices: usize,
        welcome: Welcome,
    ) -> Admittance {
        if devices >= welcome.most {
            return Admittance::Full;
        }
        let network = network(from);
        let mut own = self.networks.get(&network).copied().unwrap_or_default();
        let mut all = self.all;
        if !all.take(now, welcome.per_hour) || !own.take(now, welcome.per_network_per_hour) {
            return Admittance::TooFast;
        }
        self.all = all;
        self.networks.put(network, own);
        if self.networks.len() > MAX_NETWORKS.get() {
            self.networks.pop_lru();
        }
        Admittance::Admitted
    }
}

/// What is left of an hour's ration, as the time when it is whole again.
#[derive(Debug, Clone, Copy)]
struct Ration {
    whole_at: Instant,
}

impl Default for Ration {
    fn default() -> Self {
        Self {
            whole_at: Instant::ZERO,
        }
    }
}

impl Ration {
    const HOUR: Duration = Duration::from_hours(1);

    fn take(&mut self, now: Instant, per_hour: u32) -> bool {
        let Some(one) = Self::HOUR.checked_div(per_hour) else {
            return false;
        };
        let whole_at = self.whole_at.max(now) + one;
        let taken = whole_at.since(now) <= Self::HOUR;
        if taken {
            self.whole_at = whole_at;
        }
        taken
    }
}

/// What one holder of addresses has: an IPv4 /24, an IPv6 /48.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() >> 8 << 8).into()),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 80 << 80).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELCOME: Welcome = Welcome {
        most: 1_000_000,
        per_hour: 36_000,
        per_network_per_hour: 3_600,
    };

    fn host(number: u32) -> IpAddr {
        IpAddr::V4((0x0A00_0000 + number).into())
    }

    #[test]
    fn a_network_has_an_hours_ration_at_once_and_then_its_pace() {
        let mut newcomers = Newcomers::default();
        let start = Instant::from_millis(5_000);
        let mut come = |at: u64, from| {
            let now = start + Duration::from_millis(at);
            newcomers.admit(now, from, 0, WELCOME)
        };
        for number in 0..3_600 {
            assert_eq!(come(0, host(number % 256)), Admittance::Admitted);
        }
        assert_eq!(come(0, host(1)), Admittance::TooFast);
        assert_eq!(come(999, host(1)), Admittance::TooFast);
        assert_eq!(come(1_000, host(1)), Admittance::Admitted);
        assert_eq!(come(1_000, host(1)), Admittance::TooFast);
        // the neighbours have one of their own
        assert_eq!(come(1_000, host(256)), Admittance::Admitted);
    }

    #[test]
    fn who_sends_from_everywhere_has_the_ration_of_all() {
        let mut newcomers = Newcomers::default();
        let now = Instant::from_millis(0);
        let admitted = (0..100_000)
            .filter(|number| {
                let from = host(number * 256);
                newcomers.admit(now, from, 0, WELCOME) == Admittance::Admitted
            })
            .count();
        assert_eq!(admitted, 36_000);
        assert_eq!(newcomers.networks.len(), MAX_NETWORKS.get());
    }

    #[test]
    fn places_and_a_ration_of_nothing_are_bounds() {
        let mut newcomers = Newcomers::default();
        let mut come =
            |devices, welcome| newcomers.admit(Instant::from_millis(0), host(1), devices, welcome);
        assert_eq!(come(1_000_000, WELCOME), Admittance::Full);
        assert_eq!(come(999_999, WELCOME), Admittance::Admitted);
        let none = Welcome {
            per_network_per_hour: 0,
            ..WELCOME
        };
        assert_eq!(come(0, none), Admittance::TooFast);
    }

    #[test]
    fn a_network_is_what_one_holder_has() {
        let same = |a: &str, b: &str| network(a.parse().unwrap()) == network(b.parse().unwrap());
        assert!(same("192.0.2.1", "192.0.2.254"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.7"));
        assert!(!same("192.0.2.1", "192.0.3.1"));
        assert!(same("2001:db8:1::1", "2001:db8:1:ffff::2"));
        assert!(!same("2001:db8:1::1", "2001:db8:2::1"));
    }
}
