use std::{
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
};

use governor::{
    Quota, RateLimiter,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, keyed::HashMapStateStore},
};

use crate::clock::{Instant, SetClock};

/// What shares the bound on handshakes under way: an IPv4 address or an IPv6 /48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Source(u64);

pub(super) fn source(peer: SocketAddr) -> Source {
    Source(prefix(peer, 32))
}

/// The leading bits of an address: so many of IPv4, with a one far before them, or 48 of IPv6.
fn prefix(peer: SocketAddr, ipv4_bits: u32) -> u64 {
    match peer.ip().to_canonical() {
        IpAddr::V4(ip) => 1 << 63 | u64::from(ip.to_bits() >> (32 - ipv4_bits)),
        // 48 bits are left
        IpAddr::V6(ip) => u64::try_from(ip.to_bits() >> 80).unwrap_or(u64::MAX),
    }
}

/// How many networks have an allowance of their own. Others share one by chance; their number, and with
/// it the memory, does not grow whoever sends.
const NETWORKS: u64 = 4096;

/// How often something is granted, per network and in total.
pub(super) struct Ration {
    clock: SetClock,
    networks: RandomState,
    per_network: RateLimiter<u64, HashMapStateStore<u64>, SetClock, NoOpMiddleware<Nanos>>,
    total: RateLimiter<NotKeyed, InMemoryState, SetClock, NoOpMiddleware<Nanos>>,
}

impl Ration {
    /// So often per second, with bursts of as many.
    pub(super) fn new(per_network: u32, total: u32) -> Self {
        let quota =
            |per_second| Quota::per_second(NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN));
        let clock = SetClock::default();
        Self {
            networks: RandomState::new(),
            per_network: RateLimiter::new(
                quota(per_network),
                HashMapStateStore::default(),
                clock.clone(),
            ),
            total: RateLimiter::direct_with_clock(quota(total), clock.clone()),
            clock,
        }
    }

    /// Whether `peer` may have one now.
    pub(super) fn take(&self, now: Instant, peer: SocketAddr) -> bool {
        self.clock.set(now);
        // Which networks share an allowance is not for a stranger to know.
        let network = self.networks.hash_one(prefix(peer, 24)) % NETWORKS;
        self.per_network.check_key(&network).is_ok() && self.total.check().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 5684)
    }

    #[test]
    fn sources_are_told_apart_as_far_as_they_can_be_many() {
        assert_eq!(source(peer("192.0.2.1")), source(peer("::ffff:192.0.2.1")));
        assert_ne!(source(peer("192.0.2.1")), source(peer("192.0.2.2")));
        assert_eq!(source(peer("2001:db8::1")), source(peer("2001:db8:0:1::2")));
        assert_ne!(source(peer("2001:db8::1")), source(peer("2001:db8:1::1")));
    }

    #[test]
    fn a_ration_is_per_network_and_in_total() {
        let ration = Ration::new(3, 5);
        let now = Instant::from_millis(1_000_000);
        let taken = |ip: &str, now| (0..10).filter(|_| ration.take(now, peer(ip))).count();
        assert_eq!(taken("192.0.2.1", now), 3);
        assert_eq!(taken("192.0.2.200", now), 0);
        let others = (0..100u8)
            .map(|i| taken(&format!("10.0.{i}.1"), now))
            .sum::<usize>();
        assert_eq!(others, 2);
        assert_eq!(taken("192.0.2.1", now + Duration::from_secs(2)), 3);
    }

    #[test]
    fn many_networks_do_not_grow_memory() {
        let ration = Ration::new(1_000, 20_000);
        for ip in 0..100_000u32 {
            let peer = SocketAddr::from((std::net::Ipv4Addr::from_bits(ip << 8), 1));
            ration.take(Instant::from_millis(u64::from(ip)), peer);
        }
        assert!(ration.per_network.len() <= 4096);
    }
}
