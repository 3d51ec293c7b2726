//! The only place that reads the machine's clocks, but for the rate limits of `api`, `app` and `runtime`, whose library
//! brings its own.
//!
//! Everything below `runtime/` is handed a [`Now`] instead. Deadlines inside the engine are
//! monotonic [`Instant`]s; what must survive a restart is stored as [`UtcMillis`].

use std::{
    fmt,
    num::NonZeroU64,
    ops::Add,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::nanos::Nanos;
use serde::{Deserialize, Serialize};

/// Milliseconds on a monotonic clock.
///
/// [`SystemClock`] lets it start at the wall-clock time of its creation, so that times from before a
/// restart have an instant too; from then on the two clocks are independent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(
    /// One more than the milliseconds since the origin: a device has many times that it may not have.
    NonZeroU64,
);

impl Instant {
    /// The origin of the clock.
    pub const ZERO: Self = Self(NonZeroU64::MIN);

    /// The end of the clock.
    pub const MAX: Self = Self(NonZeroU64::MAX);

    /// An instant `ms` milliseconds after the origin.
    pub const fn from_millis(ms: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(ms))
    }

    /// Milliseconds since the origin.
    pub const fn as_millis(self) -> u64 {
        self.0.get() - 1
    }

    /// The instant `span` earlier, the origin at the least.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self::from_millis(self.as_millis().saturating_sub(millis(span)))
    }

    /// The time that passed from `earlier` to `self`, zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.as_millis().saturating_sub(earlier.as_millis()))
    }
}

impl Default for Instant {
    fn default() -> Self {
        Self::ZERO
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instant({} ms)", self.as_millis())
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }
}

/// Milliseconds since 1970-01-01 UTC: the form in which time is stored and shown.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UtcMillis(pub i64);

impl Add<Duration> for UtcMillis {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(millis(span)).unwrap_or(i64::MAX)),
        )
    }
}

impl UtcMillis {
    /// The time `span` earlier.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(millis(span)).unwrap_or(i64::MAX)),
        )
    }

    /// The time that passed from `earlier` to `self`, zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339, to the millisecond, in UTC.
impl fmt::Display for UtcMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

/// The form of times among arguments, which people and programs read: RFC 3339.
pub mod rfc3339 {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::UtcMillis;

    /// Writes a time.
    pub fn serialize<S: Serializer>(at: &UtcMillis, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(at)
    }

    /// Reads a time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UtcMillis, D::Error> {
        let text = String::deserialize(deserializer)?;
        let at: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
        Ok(UtcMillis(at.as_millisecond()))
    }

    /// The same for a time that may not be there.
    pub mod option {
        use serde::{Deserializer, Serializer};

        use super::UtcMillis;

        /// Writes a time. Nothing is written where there is none.
        pub fn serialize<S: Serializer>(
            at: &Option<UtcMillis>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => super::serialize(at, serializer),
                None => serializer.serialize_none(),
            }
        }

        /// Reads a time that is there.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<UtcMillis>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// For what is stored and shown.
    pub utc: UtcMillis,
}

impl Now {
    /// The wall-clock time at which `deadline` will be reached, read from here.
    pub fn utc_at(self, deadline: Instant) -> UtcMillis {
        self.utc + deadline.since(self.instant)
    }

    /// The monotonic instant of a stored wall-clock time, whether it has passed or not.
    pub fn instant_at(self, utc: UtcMillis) -> Instant {
        let ahead = utc.0.saturating_sub(self.utc.0);
        Instant::from_millis(self.instant.as_millis().saturating_add_signed(ahead))
    }
}

impl Add<Duration> for Now {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self {
            instant: self.instant + span,
            utc: self.utc + span,
        }
    }
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: std::time::Instant,
    /// Since 1970-01-01 UTC, to the nanosecond: so that milliseconds begin at once on both clocks.
    started_utc: Duration,
}

impl SystemClock {
    /// A clock whose monotonic part continues the wall clock's time of now.
    #[allow(clippy::disallowed_methods)] // this file is where the clock is read
    pub fn start() -> Self {
        Self {
            started: std::time::Instant::now(),
            started_utc: utc(),
        }
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        Now {
            instant: Instant::from_millis(millis(self.started_utc + self.started.elapsed())),
            utc: UtcMillis(i64::try_from(millis(utc())).unwrap_or(i64::MAX)),
        }
    }
}

/// A clock for `governor`'s rate limiters that shows what it was set to.
#[derive(Debug, Clone, Default)]
pub struct SetClock(Arc<AtomicU64>);

impl SetClock {
    /// Sets it, and with it all its clones.
    pub fn set(&self, now: Instant) {
        self.0.store(now.as_millis() * 1_000_000, Ordering::Relaxed);
    }
}

impl governor::clock::Clock for SetClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }
}

#[allow(clippy::disallowed_methods)] // this file is where the clock is read
fn utc() -> Duration {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_times_come_back_as_the_same_deadline() {
        let now = Now {
            instant: Instant::from_millis(5_000),
            utc: UtcMillis(1_700_000_000_000),
        };
        let deadline = now.instant + Duration::from_mins(1);
        let later = now + Duration::from_secs(20);
        assert_eq!(later.instant_at(now.utc_at(deadline)), deadline);
        assert_eq!(later.instant_at(now.utc), now.instant);
    }

    #[test]
    fn shows_utc_as_rfc3339() {
        assert_eq!(
            UtcMillis(1_700_000_000_123).to_string(),
            "2023-11-14T22:13:20.123Z"
        );
    }
}
