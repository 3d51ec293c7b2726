use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    net::{IpAddr, SocketAddr},
};

use crate::clock::Instant;

/// Keys that have an allowance of their own. Others share one by chance; their number, and with it the memory, does not grow
/// whoever comes.
const ALLOWANCES: usize = 4096;

/// What shares a bound: an IPv4 address or an IPv6 /48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Source(u64);

impl Source {
    pub(super) fn of(peer: SocketAddr) -> Self {
        Self(match peer.ip().to_canonical() {
            IpAddr::V4(ip) => 1 << 63 | u64::from(ip.to_bits()),
            // 48 bits are left
            IpAddr::V6(ip) => u64::try_from(ip.to_bits() >> 80).unwrap_or(u64::MAX),
        })
    }
}

/// How often something is granted for each key (GCRA). Unlike the library for that, it can be asked whether something is left
/// without taking it: who connects well has nothing taken.
pub(super) struct Ration {
    seed: u64,
    /// Microseconds for each.
    step: u64,
    /// Microseconds that may be taken in advance.
    burst: u64,
    /// When each allowance is whole again, in microseconds.
    whole_at: Box<[u64]>,
}

impl Ration {
    /// So many in a span, with bursts of as many. Which keys share an allowance depends on the seed, which strangers do not
    /// know.
    pub(super) fn new(seed: u64, count: u32, span: std::time::Duration) -> Self {
        let burst = u64::try_from(span.as_micros()).unwrap_or(u64::MAX / 4);
        Self {
            seed,
            step: burst / u64::from(count.max(1)),
            burst,
            whole_at: vec![0; ALLOWANCES].into(),
        }
    }

    /// Whether one more is left for `key`.
    pub(super) fn has(&self, now: Instant, key: &impl Hash) -> bool {
        let now = now.as_millis() * 1_000;
        let whole_at = self.whole_at.get(self.place(key)).copied().unwrap_or(now);
        whole_at.max(now) + self.step <= now + self.burst
    }

    /// Takes one, if it is left.
    pub(super) fn take(&mut self, now: Instant, key: &impl Hash) -> bool {
        let has = self.has(now, key);
        let place = self.place(key);
        if let (true, Some(whole_at)) = (has, self.whole_at.get_mut(place)) {
            *whole_at = (*whole_at).max(now.as_millis() * 1_000) + self.step;
        }
        has
    }

    fn place(&self, key: &impl Hash) -> usize {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        key.hash(&mut hasher);
        // the remainder fits
        usize::try_from(hasher.finish() % ALLOWANCES as u64).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn so_many_are_granted_in_a_span() {
        let mut ration = Ration::new(7, 3, Duration::from_secs(1));
        let now = Instant::from_millis(1_000_000);
        let mut taken = |key: u8, now| (0..10).filter(|_| ration.take(now, &key)).count();
        assert_eq!(taken(1, now), 3);
        assert_eq!(taken(2, now), 3);
        assert_eq!(taken(1, now + Duration::from_millis(333)), 0);
        assert_eq!(taken(1, now + Duration::from_millis(334)), 1);
        assert_eq!(taken(1, now + Duration::from_secs(10)), 3);
    }

    #[test]
    fn to_ask_takes_nothing() {
        let mut ration = Ration::new(7, 1, Duration::from_mins(1));
        let now = Instant::from_millis(1);
        assert!(ration.has(now, &1) && ration.has(now, &1));
        assert!(ration.take(now, &1));
        assert!(!ration.has(now, &1));
    }

    #[test]
    fn sources_are_told_apart_as_far_as_they_can_be_many() {
        let source = |ip: &str| Source::of(SocketAddr::new(ip.parse().unwrap(), 1));
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("2001:db8::1"), source("2001:db8:0:1::2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:1::1"));
    }
}
