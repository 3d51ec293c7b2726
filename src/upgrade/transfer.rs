//! What goes on while a device has a slot: the new version is offered, the device downloads and installs it.
//!
//! A protocol is a variant of [`Transfer`] with a file of its own below. It says how the new version is offered, what
//! shows progress, when the installation is commanded, and what its end looks like; the [`Negotiation`](super::Negotiation)
//! around it knows the queue, the slot and the outcome.

mod course;
pub mod iotda;
pub mod object;
pub mod pcp;
pub mod quecthing;
pub mod thingspanel;

pub use course::{MqttInput, Resumed};

use super::{Action, Input, Rules};
use crate::{
    clock::Instant,
    ledger::{Deadline, Failure, Outcome, Protocol, Stage, UpdateObject},
};

/// A transfer under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transfer {
    /// Over PCP.
    Pcp(pcp::Pcp),
    /// By one of the standard's objects.
    ByObject(object::ByObject),
    /// Over MQTT, as devices of IoTDA do it.
    Iotda(iotda::Iotda),
    /// Over MQTT, as devices of `ThingsPanel` do it.
    ThingsPanel(thingspanel::ThingsPanel),
    /// Over MQTT, as devices with `QuecThing` do it.
    QuecThing(quecthing::QuecThing),
}

/// What becomes of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next<T = Transfer> {
    /// It goes on.
    Goes(T, Vec<Action>),
    /// It is given up for now: its slot goes to the next, and the device keeps its place in the queue.
    GivesBack,
    /// The attempt ends with it.
    Ends(Outcome),
}

impl<T> Next<T> {
    /// Nothing is to be done.
    pub(super) const fn stays(transfer: T) -> Self {
        Self::Goes(transfer, Vec::new())
    }

    /// The attempt has failed.
    pub(super) const fn fails(failure: Failure) -> Self {
        Self::Ends(Outcome::Failed(failure))
    }

    /// The same of what the transfer is a part of.
    fn map<U>(self, whole: impl FnOnce(T) -> U) -> Next<U> {
        match self {
            Self::Goes(transfer, actions) => Next::Goes(whole(transfer), actions),
            Self::GivesBack => Next::GivesBack,
            Self::Ends(outcome) => Next::Ends(outcome),
        }
    }
}

impl Transfer {
    /// A transfer that begins with a slot, and what to do.
    pub fn begin(now: Instant, rules: &Rules<'_>) -> (Self, Vec<Action>) {
        match rules.protocol {
            Protocol::Lwm2m if rules.object != UpdateObject::Pcp => {
                let (transfer, actions) = object::ByObject::begin(now, rules);
                (Self::ByObject(transfer), actions)
            }
            Protocol::Lwm2m => {
                let (pcp, actions) = pcp::Pcp::begin(now, rules);
                (Self::Pcp(pcp), actions)
            }
            Protocol::Iotda => {
                let (iotda, actions) = iotda::Iotda::begin(now, rules);
                (Self::Iotda(iotda), actions)
            }
            Protocol::ThingsPanel => {
                let (thingspanel, actions) = thingspanel::ThingsPanel::begin(now, rules);
                (Self::ThingsPanel(thingspanel), actions)
            }
            Protocol::QuecThing => {
                let (quecthing, actions) = quecthing::QuecThing::begin(now, rules);
                (Self::QuecThing(quecthing), actions)
            }
        }
    }

    /// A transfer over MQTT that goes on after a restart of the server, and what to do. `None` where the device speaks another
    /// protocol.
    pub fn resume_over_mqtt(protocol: Protocol, stored: &Resumed) -> Option<(Self, Vec<Action>)> {
        match protocol {
            Protocol::Lwm2m => None,
            Protocol::Iotda => {
                let (iotda, actions) = iotda::Iotda::resume(stored);
                Some((Self::Iotda(iotda), actions))
            }
            Protocol::ThingsPanel => {
                let (thingspanel, actions) = thingspanel::ThingsPanel::resume(stored);
                Some((Self::ThingsPanel(thingspanel), actions))
            }
            Protocol::QuecThing => {
                let (quecthing, actions) = quecthing::QuecThing::resume(stored);
                Some((Self::QuecThing(quecthing), actions))
            }
        }
    }

    /// What becomes of it. `may_return`: its slot may be given back.
    pub fn on(self, now: Instant, event: Input, rules: &Rules<'_>, may_return: bool) -> Next {
        match self {
            Self::Pcp(pcp) => pcp.on(now, event, rules, may_return).map(Self::Pcp),
            Self::ByObject(it) => it.on(now, event, rules, may_return).map(Self::ByObject),
            Self::Iotda(iotda) => iotda.on(now, event, rules).map(Self::Iotda),
            Self::ThingsPanel(it) => it.on(now, event, rules).map(Self::ThingsPanel),
            Self::QuecThing(it) => it.on(now, event, rules).map(Self::QuecThing),
        }
    }

    /// The stage in which it is.
    pub const fn stage(&self) -> Stage {
        match self {
            Self::Pcp(pcp) => pcp.stage(),
            Self::ByObject(it) => it.stage(),
            Self::Iotda(iotda) => iotda.0.stage(),
            Self::ThingsPanel(it) => it.course.stage(),
            Self::QuecThing(it) => it.course().stage(),
        }
    }

    /// The limit of the stage.
    pub const fn until(&self) -> (Deadline, Instant) {
        match self {
            Self::Pcp(pcp) => pcp.until(),
            Self::ByObject(it) => it.until(),
            Self::Iotda(iotda) => iotda.0.until(),
            Self::ThingsPanel(it) => it.course.until(),
            Self::QuecThing(it) => it.course().until(),
        }
    }

    /// What is due besides the limit.
    pub fn also_due(&self) -> (Deadline, Instant) {
        match self {
            Self::Pcp(pcp) => pcp.also_due(),
            Self::ByObject(it) => it.also_due(),
            Self::Iotda(iotda) => iotda.0.also_due(),
            Self::ThingsPanel(it) => it.course.also_due(),
            Self::QuecThing(it) => it.course().also_due(),
        }
    }

    /// Whether the device has shown that it goes along: it took the offer, or has the command.
    pub const fn is_confirmed(&self) -> bool {
        match self {
            Self::Pcp(pcp) => pcp.is_confirmed(),
            Self::ByObject(it) => it.is_confirmed(),
            Self::Iotda(iotda) => iotda.0.confirmed,
            Self::ThingsPanel(it) => it.course.confirmed,
            Self::QuecThing(it) => it.course().confirmed,
        }
    }

    /// Errors of its download that the device has reported.
    pub const fn download_errors(&self) -> u8 {
        match self {
            Self::Pcp(_) | Self::ByObject(_) | Self::Iotda(_) | Self::ThingsPanel(_) => 0,
            Self::QuecThing(it) => it.download_errors(),
        }
    }

    /// Whether the device says that it runs the target, and has given no other sign of it.
    pub const fn is_claimed(&self) -> bool {
        match self {
            Self::Pcp(pcp) => pcp.is_claimed(),
            Self::ByObject(it) => it.is_claimed(),
            Self::Iotda(iotda) => iotda.0.is_claimed(),
            Self::ThingsPanel(it) => it.course.is_claimed(),
            Self::QuecThing(it) => it.course().is_claimed(),
        }
    }

    /// Whether the version that the device names answers a question that was put in this stage: what was asked before a
    /// restart may have been answered before it. Over MQTT the transfer says what a version is worth.
    pub const fn takes_answers(&self) -> bool {
        match self {
            Self::Pcp(pcp) => pcp.takes_answers(),
            Self::ByObject(it) => it.takes_answers(),
            Self::Iotda(_) | Self::ThingsPanel(_) | Self::QuecThing(_) => false,
        }
    }

    /// Whether what the deadline leads to was tried before in vain: what carries the answer may be missing.
    pub const fn is_repeating(&self, deadline: Deadline) -> bool {
        match self {
            Self::Pcp(pcp) => pcp.is_repeating(deadline),
            Self::ByObject(it) => it.is_repeating(),
            Self::Iotda(_) | Self::ThingsPanel(_) | Self::QuecThing(_) => false,
        }
    }

    /// Whether the device may go on with it, though the upgrade has ended: it was given the package, and was not seen to have failed or to
    /// install it.
    pub const fn is_left_open(&self) -> bool {
        match self {
            Self::ByObject(it) => it.is_left_open(),
            Self::Pcp(_) | Self::Iotda(_) | Self::ThingsPanel(_) | Self::QuecThing(_) => false,
        }
    }

    /// How often the package was offered, by one of the standard's objects.
    pub const fn offers(&self) -> u8 {
        match self {
            Self::ByObject(it) => it.offers(),
            Self::Pcp(_) | Self::Iotda(_) | Self::ThingsPanel(_) | Self::QuecThing(_) => 0,
        }
    }

    /// The state that its object told last, as a number.
    pub const fn told_state(&self) -> Option<u8> {
        match self {
            Self::ByObject(it) => it.told_state(),
            Self::Pcp(_) | Self::Iotda(_) | Self::ThingsPanel(_) | Self::QuecThing(_) => None,
        }
    }

    /// The segment that was asked for last in the download that goes on, where there are segments.
    pub const fn segment(&self) -> Option<u16> {
        match self {
            Self::Pcp(pcp) => pcp.segment(),
            Self::ByObject(_) | Self::Iotda(_) | Self::ThingsPanel(_) | Self::QuecThing(_) => None,
        }
    }

    /// Whether the device has failed when it reports that code over MQTT.
    pub const fn fails_with(&self, code: i32) -> bool {
        match self {
            Self::Iotda(it) => iotda::fails_with(&it.0, code),
            Self::Pcp(_) | Self::ByObject(_) | Self::ThingsPanel(_) | Self::QuecThing(_) => true,
        }
    }

    /// Until when a device that is left alone meanwhile is taken to be downloading, if it is.
    pub fn downloads_until(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Iotda(iotda) => iotda.0.busy_until(now),
            // the others are told all the same what they ask for
            Self::Pcp(_) | Self::ByObject(_) | Self::ThingsPanel(_) | Self::QuecThing(_) => None,
        }
    }

    /// Whether the device was served the whole package, as far as packages are served over HTTP.
    pub const fn has_whole(&self) -> bool {
        match self {
            Self::Pcp(_) | Self::ByObject(_) => false,
            Self::Iotda(iotda) => iotda.0.whole,
            Self::ThingsPanel(it) => it.course.whole,
            Self::QuecThing(it) => it.course().whole,
        }
    }
}
