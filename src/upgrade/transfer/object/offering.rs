//! Up to the package: a device is made idle, and offered it; it downloads.

use std::time::Duration;

use super::{
    super::Next,
    ByObject, MAX_OFFERS, METHOD_NOT_ALLOWED, Phase,
    state::{Reset, State, Verdict, verdict},
};
use crate::{
    clock::Instant,
    ledger::{Failure, UpdateObject, UpdateStep},
    upgrade::{Action, Rules},
};

impl ByObject {
    pub(super) fn on_state(mut self, now: Instant, state: State, rules: &Rules<'_>) -> Next<Self> {
        match (self.phase, state) {
            // its result may be another one as well
            (Phase::Resetting(_), State::Idle) if self.settled => self.look(now, rules),
            (Phase::Downloading, State::Downloading) => {
                self.confirmed = true;
                self.moved = true;
                Next::stays(self)
            }
            (Phase::Downloading, State::Downloaded) if self.may_be_whole() || !rules.counted => {
                self.install(now, rules)
            }
            // what it was served may be told a moment later
            (Phase::Downloading, State::Downloaded) => {
                let wait = Duration::from_secs(rules.upgrade.claim_settle_s);
                self.settles_at = self.settles_at.or(Some(now + wait));
                Next::stays(self)
            }
            // by itself, as one may whose software is to be installed at once (LwM2M 1.2.2, resource 14)
            (Phase::Downloading, State::Updating | State::Installed) if self.whole => {
                self.installs(now, rules);
                self.delivered = true;
                if state == State::Installed {
                    return self.installed(now, rules);
                }
                Next::stays(self)
            }
            (Phase::Installing, State::Updating) => {
                self.delivered = true;
                Next::stays(self)
            }
            (Phase::Installing, State::Installed) => self.installed(now, rules),
            _ => Next::stays(self),
        }
    }

    /// Its state and its result are known, or will not be.
    pub(super) fn on_looked(self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        let Some(state) = self.state else {
            return Next::stays(self); // it is asked again
        };
        match self.phase {
            Phase::Looking => self.looked_at_first(state, now, rules),
            Phase::Resetting(way) => self.looked_at_after_reset(way, state, now, rules),
            Phase::Downloading => self.looked_at_in_download(state, now, rules),
            Phase::Installing => self.looked_at_in_installation(state, now, rules),
            Phase::Activating => Next::stays(self),
        }
    }

    fn looked_at_first(self, state: State, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        match (self.object, state) {
            (_, State::Idle) if self.result.is_none_or(|it| it == 0) => self.offer(now, rules),
            // it is at work, with what it was given by somebody before: that is awaited
            (_, State::Updating) => Next::stays(self),
            (UpdateObject::Software, State::Installed) => {
                self.reset(now, Reset::UninstallForUpdate, rules)
            }
            (UpdateObject::Software, _) => self.reset(now, Reset::Uninstall, rules),
            _ => self.reset(now, Reset::EmptyUri, rules),
        }
    }

    fn looked_at_after_reset(
        mut self,
        way: Reset,
        state: State,
        now: Instant,
        rules: &Rules<'_>,
    ) -> Next<Self> {
        match (way, state) {
            (_, State::Idle) => {
                self.stale = self.result.filter(|result| *result != 0);
                self.offer(now, rules)
            }
            (_, State::Updating) => Next::stays(self),
            // it may take its time
            _ if self.looks == 0 => {
                self.settled = true;
                Next::stays(self)
            }
            // one that was being written to takes the NUL for the last block; idle it becomes by an empty URI from there
            (Reset::NulPackage, State::Downloaded) if !self.reset_anew => {
                self.reset_anew = true;
                self.reset(now, Reset::EmptyUri, rules)
            }
            (way, _) => match way.next() {
                Some(way) => self.reset(now, way, rules),
                None => Next::fails(Failure::NotIdle),
            },
        }
    }

    fn looked_at_in_download(
        mut self,
        state: State,
        now: Instant,
        rules: &Rules<'_>,
    ) -> Next<Self> {
        match state {
            State::Idle if self.is_uneventful() => {
                if let Some((step, code)) = self.refused {
                    return Next::fails(Failure::UpdateRefused(step, code));
                }
                // it has lost what it had, or never began
                if self.moved || self.looks > 0 {
                    self.offer_again(now, rules)
                } else {
                    Next::stays(self)
                }
            }
            // object 9: the software of before is back, as nothing came of the update
            State::Installed if !self.whole => {
                if self.offers >= MAX_OFFERS {
                    return Next::fails(Failure::DownloadStalled);
                }
                self.reset(now, Reset::UninstallForUpdate, rules)
            }
            _ => {
                self.refused = None; // it had it when it refused it
                Next::stays(self)
            }
        }
    }

    fn looked_at_in_installation(
        mut self,
        state: State,
        now: Instant,
        rules: &Rules<'_>,
    ) -> Next<Self> {
        let refused = self.refused.take();
        match (state, refused) {
            (State::Downloaded, Some((step, code))) if !self.deferred => {
                Next::fails(Failure::UpdateRefused(step, code))
            }
            (State::Downloaded, None) if !self.delivered || self.restarted => {
                self.install(now, rules)
            }
            (_, Some(_)) => {
                self.delivered = true;
                Next::stays(self)
            }
            (State::Idle, None) if self.is_uneventful() => self.ask_version(now, rules),
            _ => Next::stays(self),
        }
    }

    /// Whether it tells no result, or none that counts.
    pub(super) fn is_uneventful(&self) -> bool {
        (self.result)
            .is_none_or(|it| verdict(self.object, it) == Verdict::Nothing || self.stale == Some(it))
    }

    pub(super) fn reset(mut self, now: Instant, way: Reset, rules: &Rules<'_>) -> Next<Self> {
        self.phase = Phase::Resetting(way);
        self.settled = false;
        (self.state, self.result) = (None, None);
        self.advances(now, rules);
        Next::Goes(self, vec![Action::Reset(way)])
    }

    pub(super) fn offer(mut self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        self.phase = Phase::Downloading;
        self.offers += 1; // at most MAX_OFFERS
        self.moved = false;
        self.whole = false;
        self.resumed = false;
        self.unaware = false;
        self.refused = None;
        self.settles_at = None;
        self.state = None;
        self.advances(now, rules);
        Next::Goes(self, vec![Action::Offer])
    }

    /// Once more, within bounds.
    pub(super) fn offer_again(self, now: Instant, rules: &Rules<'_>) -> Next<Self> {
        if self.offers >= MAX_OFFERS {
            return Next::fails(Failure::DownloadStalled);
        }
        let result = self.result;
        let next = self.offer(now, rules);
        next.map(|it| Self {
            stale: result.filter(|result| *result != 0),
            ..it
        })
    }

    pub(super) fn on_carried_out(
        mut self,
        now: Instant,
        step: UpdateStep,
        rules: &Rules<'_>,
    ) -> Next<Self> {
        match (self.phase, step) {
            (Phase::Resetting(_), UpdateStep::Reset) => self.look(now, rules),
            (Phase::Downloading, UpdateStep::Package) => {
                self.confirmed = true;
                self.advances(now, rules);
                Next::stays(self)
            }
            (Phase::Installing, UpdateStep::Install) => {
                self.delivered = true;
                self.advances(now, rules);
                Next::stays(self)
            }
            (Phase::Activating, UpdateStep::Activate) => self.succeeds(now, rules),
            _ => Next::stays(self),
        }
    }

    pub(super) fn on_refused(
        mut self,
        now: Instant,
        step: UpdateStep,
        code: u8,
        rules: &Rules<'_>,
    ) -> Next<Self> {
        match (self.phase, step) {
            // it may be idle all the same
            (Phase::Resetting(_), UpdateStep::Reset) => {
                self.looks = 1; // it is not waited for
                self.look(now, rules)
            }
            (Phase::Downloading, UpdateStep::Package)
            | (Phase::Installing, UpdateStep::Install)
                if self.result.is_some_and(|it| self.fails_by(it)) =>
            {
                Next::stays(self) // its result says more, and ends it
            }
            // It may have begun when it was told before: a repeat, or an acknowledgement that was lost.
            (Phase::Downloading, UpdateStep::Package) if self.moved => Next::stays(self),
            (Phase::Installing, UpdateStep::Install)
                if self.restarted || self.state == Some(State::Updating) =>
            {
                self.delivered = true;
                Next::stays(self)
            }
            (Phase::Downloading, UpdateStep::Package)
            | (Phase::Installing, UpdateStep::Install) => {
                self.refused = Some((step, code));
                self.look(now, rules)
            }
            // 4.05: it is active already
            (Phase::Activating, UpdateStep::Activate)
                if code == METHOD_NOT_ALLOWED || self.activations > 1 =>
            {
                self.succeeds(now, rules)
            }
            (Phase::Activating, UpdateStep::Activate) => {
                Next::fails(Failure::UpdateRefused(step, code))
            }
            _ => Next::stays(self),
        }
    }

    /// Whether it was served the whole package, as far as that can be known.
    pub(super) const fn may_be_whole(&self) -> bool {
        self.whole || self.resumed
    }

    pub(super) fn fails_by(&self, result: u8) -> bool {
        verdict(self.object, result) == Verdict::Failure && self.stale != Some(result)
    }
}
