use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};

/// The zones that are part of the program; those of the machine are not looked at.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Longest name that is looked up; the longest of the database has 32 characters.
const LONGEST_NAME: usize = 64;

/// There is no zone of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time zone; write a name of the IANA database, such as Europe/Berlin or UTC")]
pub struct UnknownZone(String);

/// The zone with that IANA name, in whatever case; names that have been replaced are known too.
///
/// # Errors
///
/// There is none.
pub fn time_zone(name: &str) -> Result<TimeZone, UnknownZone> {
    let unknown = || UnknownZone(name.chars().take(LONGEST_NAME).collect());
    if name.len() > LONGEST_NAME {
        return Err(unknown());
    }
    let found = ZONES.get(name).ok();
    found
        .filter(|zone| !zone.is_unknown() && zone.iana_name().is_some())
        .ok_or_else(unknown)
}

/// How it is called.
pub(super) fn name_of(zone: &TimeZone) -> &str {
    zone.iana_name().unwrap_or("UTC")
}
