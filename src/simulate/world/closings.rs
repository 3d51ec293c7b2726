//! The operator closes cells, opens them, and gives them limits of their own, while devices upgrade.

use std::time::Duration;

use rand_chacha::rand_core::Rng;

use super::{Occurrence, World};
use crate::{
    ledger::{Deadline, Lane},
    simulate::{fleet::FIRST_CELL, hooks::Hooks},
    store::LaneChanges,
    task::{ClosingUpdate, RulesUpdate, Share},
};

/// The longest time for which a cell is closed.
const LONGEST_CLOSING: Duration = Duration::from_mins(20);
/// The highest limit that a cell is given.
const HIGHEST_LIMIT: u32 = 8;
const PAGE: u32 = 500;

impl<H: Hooks> World<H> {
    pub(super) fn plan_rule(&mut self) {
        if let Some(mean) = self.mishaps.rule
            && self.checker.open() > 0
        {
            let at = self.now_ms + self.until_next(mean);
            self.queue.push(at, Occurrence::Rule);
        }
    }

    /// Some cell gets other rules.
    pub(super) fn other_rule(&mut self) -> Result<(), String> {
        let now = self.now().utc;
        let cell = FIRST_CELL + self.rng.next_u32() % self.cells;
        let until = now + Duration::from_millis(self.between(Duration::ZERO, LONGEST_CLOSING));
        let (until, reason) = (Some(until), "works".to_owned());
        let limit = 1 + self.rng.next_u32() % HIGHEST_LIMIT;
        let mut update = RulesUpdate::default();
        match self.rng.next_u32() % 6 {
            0 | 1 => {
                let reason = Some(reason);
                update.closing = ClosingUpdate::Close { until, reason };
            }
            2 => update.closing = ClosingUpdate::Outage { until, reason },
            3 => update.closing = ClosingUpdate::Open,
            4 => update.limit = Some(Some(limit)),
            _ => update.limit = Some(None),
        }
        self.store.update_cell(cell, update, now)?;
        self.plan_rule();
        self.signal()
    }

    /// The rules that the store has, and the shares of tasks, for a server that starts.
    pub(super) fn restore_rules(&mut self) -> Result<(), String> {
        let (now, mut known) = (self.now(), (0, 0));
        loop {
            let changes = self.store.lane_changes_since(known, PAGE)?;
            let last = changes.cells.last().map(|last| last.revision);
            let last_site = changes.limits.last().map(|last| last.revision);
            if changes.is_empty() {
                break;
            }
            known = (last.unwrap_or(known.0), last_site.unwrap_or(known.1));
            self.rule(&changes);
        }
        let heads = self.store.task_heads(now.utc)?;
        if let Some(server) = &mut self.server {
            let soak_wait = Deadline::DeviceHeard.duration(&self.config.upgrade);
            server.rollout.knows_lanes(now, known, soak_wait);
            for head in heads {
                server.gate.share(head.task, Share::of(&head.rules));
            }
        }
        Ok(())
    }

    /// The gate hears of other rules.
    pub(super) fn rule(&mut self, changes: &LaneChanges) {
        let now = self.now();
        let Some(server) = &mut self.server else {
            return;
        };
        for change in &changes.limits {
            server.gate.limit(change.lane, change.limit);
        }
        for change in &changes.cells {
            let lane = Lane::Cell(change.cell);
            server.gate.rule(now, lane, change.rules.clone());
            self.checker.ruled(change.cell, change.rules.clone());
        }
    }
}
