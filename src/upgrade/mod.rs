//! One device's upgrade, and who may upgrade in a lane at the same time. Pure.
//!
//! [`Negotiation`] is what all upgrades have in common, from the first sign of life to the outcome. While a device has a
//! slot, a [`transfer`] goes on in it: one for each protocol by which devices are upgraded. Over MQTT it needs no slot.

mod admission;
mod evidence;
mod input;
mod negotiation;
pub mod transfer;

pub use admission::{Admission, Outlook, Readiness, Step, lower_bound};
pub use evidence::{Claim, Credence, EvidenceList, Sign};
pub use input::{Action, Input, Place, Rules};
pub use negotiation::{Negotiation, Stored};
