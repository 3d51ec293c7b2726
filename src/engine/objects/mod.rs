//! Upgrades by the standard's own objects: Firmware Update (5), Software Management (9), Advanced Firmware Update (33629).
//!
//! ```text
//! choice: by which object, which instance ─▶ version read ─▶ … slot … ─▶ look (state, result, observed)
//!    ─▶ reset ─▶ offer: package URI (pull) or blocks (push) ─▶ install ─▶ activate ─▶ version read
//! ```
//!
//! What each of it means for the upgrade is [`crate::upgrade::transfer::object`]'s; here it is asked and told.

mod answers;
mod choice;
mod deeds;
mod gets;
mod instance;
mod look;
mod offer;
mod push;
mod reached;
mod route;
mod steps;

pub(super) use gets::Get;
pub(super) use instance::UpdateInstance;
pub use reached::Reached;
pub(super) use route::Route;
pub(super) use steps::Again;
