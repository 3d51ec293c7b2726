//! What end users' applications deal with: homes, their people and devices, what is offered to them, and how an upgrade is told to
//! somebody at home. Pure.

mod automatic;
mod code;
mod entry;
mod ids;
mod member;
mod offer;
mod quiet;
mod status;
mod texts;

pub use automatic::{Offered, by_itself, is_quiet_at_home};
pub use code::{ErrorCode, NEVER_SENT, Refusal};
pub use entry::{DeviceNow, Entry, entry};
pub use ids::{HomeId, HomeKey, NoHomeId, NoUserId, OfferId, UserId, UserKey};
pub use member::{Action, Role};
pub use offer::{
    Channel, Conditions, MAX_FROM, MAX_STAGES, OfferError, OfferMode, OfferStage, OfferTerms,
    OfferTexts, UpgradeKind, place,
};
pub use quiet::{MINUTES_OF_DAY, QuietHours};
pub use status::{Seen, Stand, Status, Told, UNKNOWN_PROGRESS};
pub use texts::{MAX_LANGUAGES, MAX_TEXT, Texts, TextsError};

/// Members of a home at most.
pub const MAX_MEMBERS: usize = 64;
/// Devices of a home at most.
pub const MAX_HOME_DEVICES: usize = 256;
/// Characters of the longest name of a home, or of a device in it.
pub const MAX_NAME: usize = 100;
/// Characters of the longest icon: a word or an address that the integrator's application understands.
pub const MAX_ICON: usize = 200;
/// Entries of one device that are started at once: several versions one after the other.
pub const MAX_STARTED: usize = 8;
/// The tag of a device in which the integrator says how its battery is charged, percent.
pub const BATTERY_TAG: &str = "battery";
/// So long a start that met a weak signal waits for the user's word, milliseconds: ten minutes.
pub const CONTINUE_WITHIN_MS: u64 = 600_000;

#[cfg(test)]
mod tests;
