use std::collections::BTreeMap;

use crate::{
    clock::UtcMillis,
    ledger::{Stage, StageChange},
};

/// One side of an upgrade: what was emitted, or what is committed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct View {
    /// Number of the attempt that runs, or ran last.
    pub(super) attempt: u32,
    /// Its stage, `None` between attempts.
    pub(super) stage: Option<Stage>,
    pub(super) cell: Option<u32>,
    /// The last stage but one of the flow that this attempt has reached.
    pub(super) reached: Option<Stage>,
    pub(super) begun_at: UtcMillis,
    /// What crashes had taken by then, ms.
    pub(super) lost_before_ms: i64,
    pub(super) entered_at: UtcMillis,
    pub(super) deadline_at: UtcMillis,
    pub(super) slot_deadline_at: Option<UtcMillis>,
    /// The device has accepted the version, or has the command.
    pub(super) confirmed: bool,
    /// Number of the last attempt that has ended.
    pub(super) ended: u32,
    /// When the next attempt may begin.
    pub(super) not_before: UtcMillis,
    /// There is none: the upgrade has its outcome.
    pub(super) over: bool,
    /// Attempts that were taken back.
    pub(super) taken_back: u32,
}

impl View {
    pub(super) fn enter(
        &mut self,
        attempt: u32,
        change: &StageChange,
        at: UtcMillis,
        lost_ms: i64,
    ) {
        // another gateway: that is the only way back to there
        let anew = change.stage == Stage::WaitingForDevice && self.stage > Some(change.stage);
        if self.stage.is_none() || attempt != self.attempt || self.is_next_step(change) || anew {
            self.begun_at = at;
            self.lost_before_ms = lost_ms;
            self.reached = None;
        }
        self.attempt = attempt;
        self.stage = Some(change.stage);
        self.cell = change.cell;
        self.entered_at = change.entered_at;
        self.deadline_at = change.deadline_at;
        self.slot_deadline_at = change.slot_deadline_at;
        self.confirmed = change.confirmed;
        self.reached = self.reached.max(Some(change.stage));
    }

    /// Whether the attempt goes on with its next step: each is as an upgrade of its own.
    pub(super) const fn is_next_step(&self, change: &StageChange) -> bool {
        matches!(change.stage, Stage::QueryingVersion)
            && matches!(self.stage, Some(Stage::Downloading | Stage::Executing))
    }

    pub(super) fn end(&mut self, attempt: u32, retry_at: Option<UtcMillis>) {
        self.attempt = attempt;
        self.stage = None;
        self.ended = self.ended.max(attempt);
        self.over |= retry_at.is_none();
        self.not_before = retry_at.unwrap_or_default();
    }

    /// The cell of which a slot is held.
    pub(super) fn slot_in(&self) -> Option<u32> {
        self.stage.filter(|stage| stage.holds_slot())?;
        self.cell
    }
}

/// A cell, as the checker counts it.
#[derive(Debug, Clone)]
pub(in super::super) struct Cell {
    /// Devices that are in it.
    pub(in super::super) devices: u32,
    /// The lowest and the highest limit among them.
    pub(in super::super) limits: (u32, u32),
    /// Devices that hold a slot.
    pub(super) holders: u32,
    /// Most that held one at once.
    pub(in super::super) peak: u32,
    /// Slots granted.
    pub(in super::super) admitted: u32,
    /// When an upgrade in it ended last, ms.
    pub(in super::super) last_end_ms: u64,
    /// For how long slots were held in it by devices of each limit, all together, ms.
    pub(super) service_ms: BTreeMap<u32, u64>,
    /// Before then no device can have had the time for which it held slots, ms.
    pub(super) served_ms: u64,
}

impl Default for Cell {
    fn default() -> Self {
        Self {
            devices: 0,
            limits: (u32::MAX, 0),
            holders: 0,
            peak: 0,
            admitted: 0,
            last_end_ms: 0,
            service_ms: BTreeMap::new(),
            served_ms: 0,
        }
    }
}
