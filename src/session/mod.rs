//! One upgrade on one device: its negotiation, its slot, and the correspondence of what was sent and heard. Pure.
//!
//! Whatever a device speaks, a [`Session`] is driven by events and yields what is to be written down and what is to be
//! asked; whoever speaks with the device asks it. The [`Gate`] grants slots to the sessions of all devices.

mod attempt;
mod correspondence;
mod gate;
mod habits;
mod meter;
mod offers;
mod timeline;

pub use attempt::{
    Contact, Exchange, KeptAwake, Session, StandingAsked, Step, StepDone, ended, has_begun, leaves,
};
pub use correspondence::Correspondence;
pub use gate::{
    Adapted, Closed, Comes, Gate, GateAsk, GateOrder, GateRequest, LaneView, Presence, Standing,
    Work,
};
pub use habits::{Habits, has_moved};
pub use meter::{Counted, Meter};
pub use offers::{Offer, Offers};
pub use timeline::asked_again;
