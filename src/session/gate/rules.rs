//! What the operator rules for lanes, and what of it holds at a time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use crate::{
    clock::{Instant, Now, UtcMillis},
    ledger::Lane,
    task::{CellRules, LimitNow},
};

/// Closings of a lane that are remembered, the newest.
const CLOSINGS: usize = 16;
/// The wall clock may be set: it is looked at so often while a change is ahead.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// The rules of all lanes that have any.
#[derive(Debug, Default)]
pub(super) struct Rules {
    lanes: HashMap<Lane, Ruled>,
    /// When what holds in a lane changes by itself.
    changes: BTreeSet<(UtcMillis, Lane)>,
    look_at: Option<Instant>,
    /// The newest time of both clocks.
    now: Now,
}

#[derive(Debug)]
struct Ruled {
    rules: CellRules,
    limit: LimitNow,
    /// When it was closed: from a time until another, or without end.
    closings: BTreeMap<UtcMillis, Option<UtcMillis>>,
}

/// For how long a lane was closed, and whether it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Closed {
    /// So long since a device waits there.
    pub time: Duration,
    /// It is.
    pub now: bool,
    /// When it opens, as far as is known.
    pub opens_at: Option<Instant>,
}

impl Rules {
    /// The lane has these rules from now on.
    pub(super) fn set(&mut self, now: Now, lane: Lane, rules: CellRules) {
        self.now = now;
        let limit = rules.limit_at(now.utc);
        let mut closings = BTreeMap::new();
        if let Some(before) = self.lanes.remove(&lane) {
            self.forget_change(lane, before.limit);
            closings = before.closings;
        }
        for closing in [&rules.closing, &rules.outage].into_iter().flatten() {
            let until = closings.entry(closing.from).or_insert(closing.until);
            *until = closing.until;
        }
        while closings.len() > CLOSINGS {
            // but not one that holds, however old
            let holding = [&rules.closing, &rules.outage].map(|it| it.as_ref().map(|it| it.from));
            let oldest = closings
                .keys()
                .find(|from| !holding.contains(&Some(**from)));
            let Some(oldest) = oldest.copied() else { break };
            closings.remove(&oldest);
        }
        if !rules.is_empty() {
            let lane_rules = Ruled {
                rules,
                limit,
                closings,
            };
            self.lanes.insert(lane, lane_rules);
            self.expect_change(lane, limit);
        }
        self.look_next();
    }

    /// Lanes in which something else holds from now on.
    pub(super) fn due(&mut self, now: Now) -> Vec<Lane> {
        self.now = now;
        let mut changed = Vec::new();
        while let Some((at, lane)) = self.changes.first().copied()
            && at <= now.utc
        {
            self.changes.pop_first();
            if let Some(ruled) = self.lanes.get_mut(&lane) {
                let limit = ruled.rules.limit_at(now.utc);
                ruled.limit = limit;
                self.expect_change(lane, limit);
                changed.push(lane);
            }
        }
        self.look_next();
        changed
    }

    /// When to look again.
    pub(super) const fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// What holds in a lane.
    pub(super) fn limit(&self, lane: Lane) -> Option<LimitNow> {
        self.lanes.get(&lane).map(|ruled| ruled.limit)
    }

    /// Whether its limit is to follow how crowded it is, where it says so itself.
    pub(super) fn adaptive(&self, lane: Lane) -> Option<bool> {
        self.lanes.get(&lane)?.rules.adaptive
    }

    /// For how long the lane was closed since then.
    pub(super) fn closed(&self, lane: Lane, since: Instant, now: Instant) -> Closed {
        let Some(ruled) = self.lanes.get(&lane) else {
            return Closed::default();
        };
        let mut covered = since;
        let mut time = Duration::ZERO;
        for (from, until) in &ruled.closings {
            let until = until.map_or(now, |until| self.now.instant_at(until).min(now));
            time += until.since(covered.max(self.now.instant_at(*from)));
            covered = covered.max(until); // what overlaps counts once
        }
        let closed = ruled.limit.most == Some(0);
        let opens_at = ruled.limit.changes_at.filter(|_| closed);
        Closed {
            time,
            now: closed,
            opens_at: opens_at.map(|at| self.now.instant_at(at)),
        }
    }

    fn expect_change(&mut self, lane: Lane, limit: LimitNow) {
        self.changes.extend(limit.changes_at.map(|at| (at, lane)));
    }

    fn forget_change(&mut self, lane: Lane, limit: LimitNow) {
        if let Some(at) = limit.changes_at {
            self.changes.remove(&(at, lane));
        }
    }

    fn look_next(&mut self) {
        let next = self.changes.first();
        self.look_at =
            next.map(|(at, _)| self.now.instant + at.since(self.now.utc).min(LOOK_EVERY));
    }
}
