//! What the transfers over MQTT have in common: a device is offered a package, fetches it over HTTP, installs it by itself, and
//! says how that goes.
//!
//! What a device says is a claim. What it was served is evidence, and so is the version that it tells once it has connected
//! anew: a device that has only stored the target's name tells its old version then. So a success needs either the whole
//! package, served for the token of this offer, or the target told after a reconnection. Where packages are served by
//! somebody else, nobody counts, and a claim is accepted as [`Success::Unverified`].

use super::Next;
use crate::{
    clock::Instant,
    ledger::{Deadline, Failure, Outcome, Stage, Success},
    upgrade::Rules,
};

/// What a device over MQTT says while it has an offer, and what is known of its download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttInput {
    /// It reports how far it is, without an error.
    Progressed {
        /// Percent, 0 to 100, where it says.
        percent: Option<u8>,
        /// It names the target as its version, and does not say that it is not through: its last report (IoTDA).
        as_target: bool,
    },
    /// It reports that it is through with everything, and names no version (`ThingsPanel`).
    Done {
        /// It has told its version at some time, and so will tell the new one.
        tells_versions: bool,
    },
    /// It reports a failure with this code: one of IoTDA's result codes, a vendor's, or one of `ThingsPanel`'s, which are
    /// negative.
    FailureReported(i32),
    /// Some of the package was served to it.
    Fetched {
        /// More of it, from its beginning without a gap, than ever before.
        further: bool,
    },
    /// All of the package was served to it.
    FetchedAll,
}

/// Offers of the same version that were not taken, one after another, after the first one: `ThingsPanel` pushes three times more.
pub(super) const MAX_OFFERS_AGAIN: u8 = 3;

/// A device's way from the offer to the new version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Course {
    /// Limit.
    pub(super) until: Instant,
    /// It has shown that it goes along: it fetches the package, or has reported that it does something.
    pub(super) confirmed: bool,
    /// It was served the whole package.
    pub(super) whole: bool,
    /// It says that it is through.
    pub(super) done: bool,
    /// It has connected anew since it was offered the version, or since it claimed to run it.
    pub(super) reconnected: bool,
    /// It claims to run the target, and was not served the whole package: until then something has to speak for it.
    pub(super) claimed_until: Option<Instant>,
    /// Offers after the first one, since one was taken: it was served further than ever before.
    pub(super) offered_again: u8,
    /// The last offer was taken: it has got further since.
    pub(super) further: bool,
    /// The most that it has said to have done, where nobody counts what it is served.
    pub(super) most_percent: u8,
}

impl Course {
    /// It is offered the version now.
    pub(super) fn begun(now: Instant, rules: &Rules<'_>) -> Self {
        let until = now + Deadline::Transfer.duration(rules.upgrade);
        Self::resumed(until, false, false)
    }

    /// It was offered the version before a restart of the server.
    pub(super) const fn resumed(until: Instant, confirmed: bool, whole: bool) -> Self {
        Self {
            until,
            confirmed,
            whole,
            done: false,
            reconnected: false,
            claimed_until: None,
            offered_again: 0,
            further: false,
            most_percent: 0,
        }
    }

    /// It says that it runs the target.
    pub(super) fn claims(self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        if self.whole || self.reconnected {
            Next::Ends(Outcome::Succeeded(Success::Upgraded))
        } else {
            self.claims_blindly(now, rules)
        }
    }

    /// It claims to be through, and what it was served does not show it.
    pub(super) fn claims_blindly(self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        if !rules.counted {
            return Next::Ends(Outcome::Succeeded(Success::Unverified));
        }
        let limit = now + Deadline::Execution.duration(rules.upgrade);
        Next::stays(Self {
            confirmed: true,
            // what it tells after the next connection counts
            reconnected: false,
            claimed_until: self.claimed_until.or(Some(limit)),
            ..self
        })
    }

    /// A deadline is reached.
    pub(super) fn reached(self, deadline: Deadline) -> Next<Self> {
        match (deadline, self.claimed_until) {
            (Deadline::ResultGrace | Deadline::Transfer, Some(_)) => {
                Next::fails(Failure::NotDownloaded)
            }
            (Deadline::Transfer, None) => Next::fails(Failure::TransferTimedOut),
            _ => Next::stays(self),
        }
    }

    /// The stage: it is not taken back once it has everything, or says so.
    pub(super) const fn stage(&self) -> Stage {
        if self.whole || self.done || self.claimed_until.is_some() {
            Stage::Executing
        } else {
            Stage::Downloading
        }
    }

    /// The limit.
    pub(super) const fn until(&self) -> (Deadline, Instant) {
        (Deadline::Transfer, self.until)
    }

    /// When a claim has to be shown.
    pub(super) const fn also_due(&self) -> (Deadline, Instant) {
        let at = match self.claimed_until {
            Some(at) => at,
            None => self.until,
        };
        (Deadline::ResultGrace, at)
    }

    /// Whether it claims what nothing speaks for yet.
    pub(super) const fn is_claimed(&self) -> bool {
        self.claimed_until.is_some()
    }
}
