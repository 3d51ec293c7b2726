//! How a device bears its upgrade: a success counts in a phase with a soak when the device has told its version after that time, and it is
//! still the one that it was upgraded to. Pure.
//!
//! ```text
//! success ──▶ soaking ──due: asked for its version──▶ told the target: healthy
//!                │                        │
//!                │ tells another version  │ not heard, or told no version, for as long as a device is waited for
//!                ▼                        ▼
//!            unhealthy                unhealthy
//! ```

use std::time::Duration;

use crate::{clock::UtcMillis, ledger::Unhealthy, package::Version};

/// After so long a device that has not answered is asked again.
pub const ASKED_EVERY: Duration = Duration::from_hours(1);

/// The soak of an upgrade that has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soak {
    /// The version that the upgrade led to.
    pub target: Version,
    /// When it succeeded.
    pub began_at: UtcMillis,
    /// When the soak is over.
    pub due_at: UtcMillis,
}

/// How a soak ended.
pub type Soaked = Result<(), Unhealthy>;

/// What to do about a soak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SoakStep {
    /// Nothing, before this time.
    WaitUntil(UtcMillis),
    /// Ask the device for its version; nothing else before this time.
    Ask(UtcMillis),
    /// It has ended.
    Ended(Soaked),
}

impl Soak {
    /// The device has told its version at that time. Says how the soak ended, if it did.
    pub fn told(&self, version: Version, at: UtcMillis) -> Option<Soaked> {
        if at < self.began_at {
            None
        } else if version != self.target {
            Some(Err(Unhealthy::OtherVersion { version }))
        } else {
            (at >= self.due_at).then_some(Ok(()))
        }
    }

    /// What to do at `now`. A device is waited for that long after the soak; it was heard last at `heard_at`.
    pub fn next(&self, wait: Duration, heard_at: Option<UtcMillis>, now: UtcMillis) -> SoakStep {
        let last = self.due_at + wait;
        if now < self.due_at {
            SoakStep::WaitUntil(self.due_at)
        } else if now < last {
            SoakStep::Ask(last.min(now + ASKED_EVERY))
        } else if heard_at.is_some_and(|at| at >= self.due_at) {
            SoakStep::Ended(Err(Unhealthy::VersionNotTold))
        } else {
            SoakStep::Ended(Err(Unhealthy::NotHeard))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn version(text: &str) -> Version {
        Version::new(text).unwrap()
    }

    fn at(minute: i64) -> UtcMillis {
        UtcMillis(minute * 60_000)
    }

    fn soak() -> Soak {
        Soak {
            target: version("V2"),
            began_at: at(10),
            due_at: at(20),
        }
    }

    #[test]
    fn the_target_counts_from_the_end_on_and_another_version_at_once() {
        let told = |text, minute| soak().told(version(text), at(minute));
        let other = Some(Err(Unhealthy::OtherVersion {
            version: version("V1"),
        }));
        assert_eq!(told("V2", 19), None);
        assert_eq!(told("V2", 20), Some(Ok(())));
        assert_eq!(told("V1", 10), other);
        assert_eq!(told("V1", 99), other);
        // what it told before its upgrade says nothing of it
        assert_eq!(told("V1", 9), None);
    }

    #[test]
    fn a_device_is_asked_until_it_was_waited_for_long_enough() {
        let next = |heard: Option<i64>, minute| soak().next(90 * MINUTE, heard.map(at), at(minute));
        assert_eq!(next(None, 19), SoakStep::WaitUntil(at(20)));
        assert_eq!(next(None, 20), SoakStep::Ask(at(80)));
        assert_eq!(next(None, 80), SoakStep::Ask(at(110)));
        assert_eq!(next(None, 110), SoakStep::Ended(Err(Unhealthy::NotHeard)));
        assert_eq!(
            next(Some(19), 110),
            SoakStep::Ended(Err(Unhealthy::NotHeard))
        );
        assert_eq!(
            next(Some(20), 110),
            SoakStep::Ended(Err(Unhealthy::VersionNotTold))
        );
    }
}
