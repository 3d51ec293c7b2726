//! What one address may take: connections that have shown no token yet, those that have, and attempts with tokens that are none.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::clock::Instant;

/// An IPv6 host has a whole /64 to send from.
pub(super) fn bucket(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

/// How many connections of a kind each source has.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources(Arc<Mutex<HashMap<IpAddr, u32>>>);

/// One of a source's connections, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    sources: Sources,
    source: IpAddr,
}

impl Sources {
    /// `None` when the source has as many as it may have.
    pub(super) fn place(&self, source: IpAddr, most: u32) -> Option<Place> {
        let mut counts = self.held();
        let count = counts.entry(source).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place {
            sources: self.clone(),
            source,
        })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whose it is.
    pub(super) const fn source(&self) -> IpAddr {
        self.source
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.sources.held().entry(self.source) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// Addresses whose attempts are counted at once. Where there are more, those that come new are counted as one.
const MAX_COUNTED: usize = 50_000;
const MINUTE_MS: u64 = 60_000;

/// Attempts with tokens that are none, in the minute of each address that began with its first one.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<Option<IpAddr>, Counted>>);

#[derive(Debug, Clone, Copy)]
struct Counted {
    since: Instant,
    attempts: u32,
}

impl Attempts {
    /// Counts a failed attempt. Tells whether there have been more than `most` in this minute.
    pub(super) fn failed(&self, source: IpAddr, most: NonZeroU32, now: Instant) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = all.len() >= MAX_COUNTED && !all.contains_key(&Some(source));
        let counted = all.entry((!full).then_some(source)).or_insert(Counted {
            since: now,
            attempts: 0,
        });
        if counted.is_over(now) {
            *counted = Counted {
                since: now,
                attempts: 0,
            };
        }
        counted.attempts = counted.attempts.saturating_add(1);
        counted.attempts > most.get()
    }

    /// Forgets what is over.
    pub(super) fn forget(&self, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, counted| !counted.is_over(now));
    }
}

impl Counted {
    const fn is_over(self, now: Instant) -> bool {
        now.since(self.since).as_millis() >= MINUTE_MS as u128
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn a_source_has_so_many_places_until_they_are_dropped() {
        let sources = Sources::default();
        let place = sources.place(address(1), 1);
        assert!(place.is_some() && sources.place(address(1), 1).is_none());
        assert!(sources.place(address(2), 1).is_some());
        drop(place);
        assert!(sources.place(address(1), 1).is_some());
        assert!(sources.held().is_empty());
    }

    #[test]
    fn attempts_are_rationed_for_a_minute() {
        let attempts = Attempts::default();
        let most = NonZeroU32::new(2).unwrap();
        let at = Instant::from_millis;
        let failed = |source, now| attempts.failed(address(source), most, at(now));
        assert!(!failed(1, 0) && !failed(1, 1) && failed(1, 59_999));
        assert!(!failed(2, 59_999));
        assert!(!failed(1, 60_000));
        attempts.forget(at(119_999));
        assert_eq!(attempts.0.lock().unwrap().len(), 1);
        attempts.forget(at(120_000));
        assert!(attempts.0.lock().unwrap().is_empty());
    }

    #[test]
    fn addresses_that_are_counted_are_bounded() {
        let attempts = Attempts::default();
        let most = NonZeroU32::new(1).unwrap();
        for number in 0..u32::try_from(MAX_COUNTED).unwrap() {
            assert!(!attempts.failed(address(number), most, Instant::ZERO));
        }
        // the others share what is left
        assert!(!attempts.failed(address(u32::MAX), most, Instant::ZERO));
        assert!(attempts.failed(address(u32::MAX - 1), most, Instant::ZERO));
        assert_eq!(attempts.0.lock().unwrap().len(), MAX_COUNTED + 1);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let parse = |text: &str| bucket(text.parse().unwrap());
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::ffff"));
        assert_eq!(parse("::ffff:10.0.0.1"), parse("10.0.0.1"));
    }
}
