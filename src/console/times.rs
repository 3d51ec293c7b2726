//! Times as people read them: in their zone, and how long ago.

use jiff::{Timestamp, tz::TimeZone};

/// The zone of whoever looks.
#[derive(Debug, Clone)]
pub(super) struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl Zone {
    /// The zone of this name (IANA).
    pub(super) fn named(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// A time there: `2026-11-30 23:14:05`.
    pub(super) fn tell(&self, at: Timestamp) -> String {
        at.to_zoned(self.0.clone())
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string()
    }

    /// The same as an input of a form has it: `2026-11-30T23:14`.
    pub(super) fn for_input(&self, at: Timestamp) -> String {
        at.to_zoned(self.0.clone())
            .strftime("%Y-%m-%dT%H:%M")
            .to_string()
    }

    /// What an input of a form says, as the API takes it. `None`: it is no time.
    pub(super) fn of_input(&self, text: &str) -> Option<String> {
        let there: jiff::civil::DateTime = text.parse().ok()?;
        let at = there.to_zoned(self.0.clone()).ok()?;
        Some(at.timestamp().to_string())
    }
}
