//! What the transfers over MQTT have in common: a device is offered a package, fetches it over HTTP, installs it by itself, and
//! says how that goes.
//!
//! What a device says is a claim. What it was served is evidence, and so is the version that it tells once it has connected
//! anew: a device that has only stored the target's name tells its old version then. So a success needs either the whole
//! package, served for the token of this offer, or the target told after a reconnection. A claim that comes while bytes of the package
//! are still on their way waits a little for them. Where packages are served by somebody else, nobody counts, and a claim is accepted as
//! [`Success::Unverified`].
//!
//! Bytes that were served shortly before a restart of the server may be known to nobody. Where the device connects to the server itself,
//! its next connection shows what it runs all the same. On a broker nothing does: one that was served some of the package before
//! the restart, and stands by its claim when it is asked again, is believed as [`Success::Unverified`].

use std::time::Duration;

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
    /// negative; or one of [`super::quecthing`].
    FailureReported(i32),
    /// It takes what it was offered, and waits to be told where it is (`QuecThing`).
    Confirmed,
    /// Its download has broken off, and it tries again (`QuecThing`).
    DownloadError,
    /// Some of the package was served to it.
    Fetched {
        /// More of it, from its beginning without a gap, than ever before.
        further: bool,
        /// More of it is on its way.
        in_flight: bool,
    },
    /// All of the package was served to it.
    FetchedAll,
}

/// For so long after something of the package was served to it, a device is taken to be downloading, and is left alone.
pub(super) const QUIET: Duration = Duration::from_mins(2);

/// Offers of the same version that were not taken, one after another, after the first one: `ThingsPanel` pushes three times more.
pub(super) const MAX_OFFERS_AGAIN: u8 = 3;
/// The pauses between two questions double so often.
const MOST_PAUSES: u8 = 6;

/// A device's way from the offer to the new version.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
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
    /// It was heard after a silence since then: it may have connected anew, or not.
    pub(super) heard_again: bool,
    /// It claims to run the target, and was not served the whole package: until then something has to speak for it.
    pub(super) claimed_until: Option<Instant>,
    /// Offers after the first one, since one was taken: it was served further than ever before.
    pub(super) offered_again: u8,
    /// The last offer was taken: it has got further since.
    pub(super) further: bool,
    /// The most that it has said to have done, where nobody counts what it is served.
    pub(super) most_percent: u8,
    /// It was offered the version more than once: what it says may be about an earlier offer.
    pub(super) repeated: bool,
    /// It was offered the version when it connected, and nothing has followed that.
    pub(super) anticipated: bool,
    /// It has connected anew since it went along, or since it claimed to run the target.
    pub(super) shown: bool,
    /// It has agreed to what it was offered last, and no more: a connection that it makes shows nothing yet.
    pub(super) agreed: bool,
    /// It says that it has the newest version already: the version that it tells decides.
    pub(super) newest: bool,
    /// When something was served to it last, or it has said how far it is.
    pub(super) active_at: Option<Instant>,
    /// It has connected anew while it was downloading: when to see what has become of that.
    pub(super) look_at: Option<Instant>,
    /// It says that it is through, and tells its version: it has until then to tell it.
    pub(super) done_until: Option<Instant>,
    /// Bytes of the package are on their way to it.
    pub(super) in_flight: bool,
    /// Some of the package was served to it before a restart of the server, and how much is not known; nor will it be told whether
    /// it connects anew. What is missing was lost by us.
    pub(super) lost: bool,
    /// How often it was asked what it runs since it claimed to run the target, where that decides.
    pub(super) asks: u8,
    /// It has shown that it runs the target, and the rest of the package may still arrive: so long that is waited for.
    pub(super) settles_at: Option<Instant>,
}

/// What is stored of a transfer over MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Resumed {
    /// When it goes on.
    pub at: Instant,
    /// Its limit.
    pub until: Instant,
    /// The device has shown that it goes along.
    pub confirmed: bool,
    /// It was served the whole package.
    pub whole: bool,
    /// It was served some of it.
    pub begun: bool,
    /// It was served some of the package, and nobody knows how much, nor tells whether it connects anew.
    pub lost: bool,
    /// It says that it is through: until then something has to speak for that.
    pub through_until: Option<Instant>,
    /// Errors of its download that the device has reported.
    pub download_errors: u8,
}

impl Course {
    /// It is offered the version now.
    pub(super) fn begun(now: Instant, rules: &Rules<'_>) -> Self {
        let until = now + Deadline::Transfer.duration(rules.upgrade);
        Self {
            repeated: false,
            ..Self::resumed(&Resumed {
                at: now,
                until,
                confirmed: false,
                whole: false,
                begun: false,
                lost: false,
                through_until: None,
                download_errors: 0,
            })
        }
    }

    /// It was offered the version before a restart of the server.
    pub(super) fn resumed(stored: &Resumed) -> Self {
        let Resumed {
            until,
            confirmed,
            whole,
            lost,
            ..
        } = *stored;
        Self {
            until,
            confirmed,
            whole,
            done: false,
            reconnected: false,
            heard_again: false,
            claimed_until: None,
            offered_again: 0,
            further: false,
            most_percent: 0,
            repeated: true,
            anticipated: false,
            shown: false,
            agreed: false,
            newest: false,
            // its downloads broke with the server; what it has it may be installing
            active_at: whole.then_some(stored.at),
            look_at: None,
            done_until: None,
            in_flight: false,
            lost: lost && !whole,
            asks: 0,
            settles_at: None,
        }
    }

    /// It connects anew.
    pub(super) fn connects(self) -> Self {
        Self {
            reconnected: true,
            shown: self.shown || (self.confirmed && !self.agreed),
            ..self
        }
    }

    /// It is heard after a silence. That shows nothing: it may have been connected all the time.
    pub(super) fn heard_anew(self) -> Self {
        Self {
            heard_again: true,
            ..self
        }
    }

    /// Until when it is taken to be downloading, if it is: another offer would disturb it.
    pub(super) fn busy_until(&self, now: Instant) -> Option<Instant> {
        let until = self.active_at? + QUIET;
        (until > now && !self.whole).then_some(until)
    }

    /// It shows that it goes along, now.
    pub(super) fn goes_along(self, now: Instant) -> Self {
        Self {
            confirmed: true,
            anticipated: false,
            active_at: Some(now),
            ..self
        }
    }

    /// It tells another version than the target: what it has shown is not so.
    pub(super) fn tells_other_version(self) -> Self {
        Self {
            settles_at: None,
            ..self
        }
    }

    /// It is offered the version once more, which counts unless the offer before was taken.
    pub(super) fn offers_again(self, offered_again: u8) -> Self {
        Self {
            reconnected: false,
            heard_again: false,
            shown: false,
            further: false,
            repeated: true,
            look_at: None,
            offered_again,
            ..self
        }
    }

    /// Some of the package was served to it. What waits for bytes that were on their way, and are not any more, is judged.
    pub(super) fn fetches(self, now: Instant, further: bool, in_flight: bool) -> Next<Self> {
        if self.settles_at.is_some() && !in_flight {
            return Next::Ends(Outcome::Succeeded(Success::Unverified));
        }
        Next::stays(Self {
            further: self.further || further,
            agreed: false,
            in_flight,
            ..self.goes_along(now)
        })
    }

    /// Whether what was on its way has had its time.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.settles_at.is_some_and(|at| at <= now)
    }

    /// Whether it is to be seen now what has become of its download.
    pub(super) fn is_looked_at(&self, now: Instant) -> bool {
        self.look_at.is_some_and(|at| at <= now)
    }

    /// It says that it runs the target. A connection that was made after it went along shows that, as a restart does; but where
    /// not all of the package was served to it, nobody knows where it has it from.
    pub(super) fn claims(self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        if self.whole || (!rules.counted && self.reconnected) {
            Next::Ends(Outcome::Succeeded(Success::Upgraded))
        } else if self.shown && self.in_flight {
            let limit = now + Duration::from_secs(rules.upgrade.claim_settle_s);
            Next::stays(Self {
                settles_at: self.settles_at.or(Some(limit)),
                ..self
            })
        } else if self.shown || self.stands_by_it() {
            Next::Ends(Outcome::Succeeded(Success::Unverified))
        } else {
            self.claims_blindly(now, rules)
        }
    }

    /// Whether it says what it has said before: that it runs the target, when it was asked some time after it had claimed that, or
    /// that it was through. That is enough where more would be known had the server not been restarted.
    const fn stands_by_it(&self) -> bool {
        self.lost && (self.done || (self.claimed_until.is_some() && self.asks > 0))
    }

    /// It is asked what it runs. Where its answer decides, it is asked again, at longer and longer intervals.
    pub(super) fn asked(self, now: Instant, rules: &Rules<'_>) -> Self {
        if !self.lost || self.claimed_until.is_none() {
            return self;
        }
        let pause = Duration::from_secs(rules.upgrade.claim_settle_s) * (2 << self.asks);
        Self {
            asks: (self.asks + 1).min(MOST_PAUSES),
            look_at: Some(now + pause),
            ..self
        }
    }

    /// It claims to be through, and what it was served does not show it.
    pub(super) fn claims_blindly(self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        if !rules.counted {
            return Next::Ends(Outcome::Succeeded(Success::Unverified));
        }
        if self.settles_at.is_some() {
            return Next::stays(self); // it has shown more than that
        }
        let limit = now + Deadline::Execution.duration(rules.upgrade);
        let look_at = match self.claimed_until {
            _ if !self.lost => None,
            Some(_) => self.look_at,
            None => Some(now + Duration::from_secs(rules.upgrade.claim_settle_s)),
        };
        Next::stays(Self {
            confirmed: true,
            // what it tells after the next connection counts
            reconnected: false,
            heard_again: false,
            shown: false,
            agreed: false,
            claimed_until: self.claimed_until.or(Some(limit)),
            // nor is it asked before that, unless its answer decides
            look_at,
            ..self
        })
    }

    /// It says that it is through, and would tell its version: where it does not, what it was served decides.
    pub(super) fn through(self, now: Instant, rules: &Rules<'_>) -> Self {
        let limit = now + Deadline::Execution.duration(rules.upgrade);
        Self {
            confirmed: true,
            agreed: false,
            anticipated: false,
            done: true,
            done_until: self.done_until.or(Some(limit)),
            ..self
        }
    }

    /// A deadline is reached.
    pub(super) fn reached(self, deadline: Deadline, rules: &Rules<'_>) -> Next<Self> {
        let ends = match deadline {
            Deadline::Transfer => true,
            Deadline::ResultGrace => self.claimed_until.or(self.done_until).is_some(),
            _ => false,
        };
        if !ends {
            return Next::stays(self);
        }
        if self.settles_at.is_some() {
            return Next::Ends(Outcome::Succeeded(Success::Unverified));
        }
        match (self.claimed_until, self.done_until) {
            (None, Some(_)) if self.whole || !rules.counted => {
                Next::Ends(Outcome::Succeeded(Success::Unverified))
            }
            // one that cannot be asked
            (Some(_), _) | (None, Some(_)) if self.lost && self.asks == 0 => {
                Next::Ends(Outcome::Succeeded(Success::Unverified))
            }
            (Some(_), _) | (None, Some(_)) => Next::fails(Failure::NotDownloaded),
            (None, None) => Next::fails(Failure::TransferTimedOut),
        }
    }

    /// The stage: it is not taken back once it has everything, or says so.
    pub(super) const fn stage(&self) -> Stage {
        if self.whole || self.done || self.claimed_until.is_some() || self.settles_at.is_some() {
            Stage::Executing
        } else {
            Stage::Downloading
        }
    }

    /// The limit.
    pub(super) const fn until(&self) -> (Deadline, Instant) {
        (Deadline::Transfer, self.until)
    }

    /// When a claim has to be shown, or it is to be seen what has become of a download, or of what was on its way.
    pub(super) fn also_due(&self) -> (Deadline, Instant) {
        let shows = self.claimed_until.or(self.done_until);
        let shows = (Deadline::ResultGrace, shows.unwrap_or(self.until));
        match self.settles_at.or(self.look_at) {
            Some(at) if at < shows.1 => (Deadline::Nudge, at),
            _ => shows,
        }
    }

    /// Whether it claims what nothing speaks for yet.
    pub(super) const fn is_claimed(&self) -> bool {
        self.claimed_until.is_some()
    }

    /// Whether the whole package is all that is waited for.
    pub(super) const fn waits_for_whole(&self) -> bool {
        self.claimed_until.is_some() || self.settles_at.is_some()
    }
}
