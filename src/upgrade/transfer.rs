//! What goes on while a device has a slot: the new version is offered, the device downloads and installs it.
//!
//! A protocol is a variant of [`Transfer`] with a file of its own below. It says how the new version is offered, what
//! shows progress, when the installation is commanded, and what its end looks like; the [`Negotiation`](super::Negotiation)
//! around it knows the queue, the slot and the outcome.

pub mod pcp;

use super::{Action, Input, Rules};
use crate::{
    clock::Instant,
    ledger::{Deadline, Failure, Outcome, Stage},
};

/// A transfer under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transfer {
    /// Over PCP.
    Pcp(pcp::Pcp),
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
}

impl Transfer {
    /// A transfer that begins with a slot, and what to do.
    pub fn begin(now: Instant, rules: &Rules<'_>) -> (Self, Vec<Action>) {
        let (pcp, actions) = pcp::Pcp::begin(now, rules);
        (Self::Pcp(pcp), actions)
    }

    /// What becomes of it. `may_return`: its slot may be given back.
    pub fn on(self, now: Instant, event: Input, rules: &Rules<'_>, may_return: bool) -> Next {
        match self {
            Self::Pcp(pcp) => match pcp.on(now, event, rules, may_return) {
                Next::Goes(pcp, actions) => Next::Goes(Self::Pcp(pcp), actions),
                Next::GivesBack => Next::GivesBack,
                Next::Ends(outcome) => Next::Ends(outcome),
            },
        }
    }

    /// The stage in which it is.
    pub const fn stage(&self) -> Stage {
        match self {
            Self::Pcp(pcp) => pcp.stage(),
        }
    }

    /// The limit of the stage.
    pub const fn until(&self) -> (Deadline, Instant) {
        match self {
            Self::Pcp(pcp) => pcp.until(),
        }
    }

    /// What is due besides the limit.
    pub const fn also_due(&self) -> (Deadline, Instant) {
        match self {
            Self::Pcp(pcp) => pcp.also_due(),
        }
    }

    /// Whether the device has shown that it goes along: it took the offer, or has the command.
    pub const fn is_confirmed(&self) -> bool {
        match self {
            Self::Pcp(pcp) => pcp.is_confirmed(),
        }
    }

    /// Whether the device says that it runs the target, and has given no other sign of it.
    pub const fn is_claimed(&self) -> bool {
        match self {
            Self::Pcp(pcp) => pcp.is_claimed(),
        }
    }

    /// Whether the version that the device names answers a question that was put in this stage: what was asked before a
    /// restart may have been answered before it.
    pub const fn takes_answers(&self) -> bool {
        match self {
            Self::Pcp(pcp) => pcp.takes_answers(),
        }
    }

    /// Whether what the deadline leads to was tried before in vain: what carries the answer may be missing.
    pub const fn is_repeating(&self, deadline: Deadline) -> bool {
        match self {
            Self::Pcp(pcp) => pcp.is_repeating(deadline),
        }
    }

    /// The segment that was asked for last in the download that goes on, where there are segments.
    pub const fn segment(&self) -> Option<u16> {
        match self {
            Self::Pcp(pcp) => pcp.segment(),
        }
    }
}
