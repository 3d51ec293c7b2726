use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    figures::Figures,
    foresight::Foreseen,
    halts::Halts,
    invariants::{Ends, Invariants, Violation},
    kept::StandbyCost,
    store::Final,
};
use crate::ledger::Outcome;

/// Cells that the text names: those that ended last.
const NAMED_CELLS: usize = 10;

/// What came of a simulation.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    /// From the start of the task to its last outcome, virtual.
    pub(crate) took_ms: u64,
    /// Before then it could not have ended, however its slots were granted.
    pub(crate) lower_bound_ms: u64,
    pub(crate) kept_awake: StandbyCost,
    /// Upgrades by their state.
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
    /// Upgrades by how they ended.
    pub(crate) reasons: BTreeMap<String, u64>,
    /// Upgrades of devices that no package was for, by why: they are among the cancelled ones.
    pub(crate) skipped: BTreeMap<String, u64>,
    pub(crate) ends: Ends,
    /// Upgrades that ended otherwise than their device's character would have it, by both.
    pub(crate) surprises: BTreeMap<String, u64>,
    pub(crate) cells: Vec<CellLine>,
    pub(crate) figures: Figures,
    /// Segments that reached a device.
    pub(crate) segments: u64,
    /// How often tasks were held or stopped by what became of their devices.
    pub(crate) halts: Halts,
    pub(crate) crashes: u64,
    pub(crate) violations: Vec<Violation>,
    /// Those included that are not named.
    pub(crate) violations_total: usize,
    pub(crate) trace_sha256: String,
    /// What was forecast.
    pub(crate) foreseen: Vec<Foreseen>,
}

/// What happened in a cell.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CellLine {
    pub(crate) cell: u32,
    pub(crate) devices: u32,
    /// The lowest and the highest limit among its devices.
    pub(crate) limit_min: u32,
    pub(crate) limit_max: u32,
    /// Most that upgraded at once.
    pub(crate) peak: u32,
    pub(crate) admitted: u32,
    /// When its last upgrade ended, seconds from the start of the task.
    pub(crate) finished_s: u64,
    /// Before then it could not have ended, however its slots were granted.
    pub(crate) lower_bound_seconds: f64,
    /// How many times as long it took.
    pub(crate) over_bound: Option<f64>,
}

impl Summary {
    #[allow(clippy::too_many_arguments)] // each is a part of the world that ends here
    pub(super) fn new(
        checker: &mut Invariants,
        finals: &[Final],
        ends: Ends,
        surprises: BTreeMap<String, u64>,
        figures: Figures,
        kept_awake: StandbyCost,
        halts: Halts,
        crashes: u64,
        start_ms: u64,
        trace_sha256: String,
        foreseen: Vec<Foreseen>,
    ) -> Self {
        let mut outcomes = BTreeMap::from([("succeeded", 0), ("failed", 0)]);
        let mut reasons = BTreeMap::new();
        for end in finals {
            *outcomes.entry(end.state.name()).or_default() += 1;
            if let Some(reason) = &end.reason {
                *reasons.entry(reason.clone()).or_default() += 1;
            }
        }
        let skips = Outcome::SKIPS.map(|reason| (reason, reasons.get(reason).copied()));
        let skipped = (skips.into_iter())
            .filter_map(|(reason, count)| Some((reason.to_owned(), count?)))
            .collect();
        let since_start = |ms: u64| ms.saturating_sub(start_ms);
        let bounds = checker.bounds(start_ms);
        let cells = (checker.cells().zip(&bounds))
            .map(|((number, cell), bound_ms)| CellLine {
                cell: number,
                devices: cell.devices,
                limit_min: cell.limits.0.min(cell.limits.1),
                limit_max: cell.limits.1,
                peak: cell.peak,
                admitted: cell.admitted,
                finished_s: since_start(cell.last_end_ms) / 1_000,
                lower_bound_seconds: seconds(*bound_ms),
                over_bound: ratio(since_start(cell.last_end_ms), *bound_ms),
            })
            .collect();
        Self {
            took_ms: since_start(checker.last_end_ms()),
            lower_bound_ms: bounds.iter().copied().max().unwrap_or(0),
            kept_awake,
            outcomes,
            reasons,
            skipped,
            ends,
            surprises,
            cells,
            figures,
            segments: checker.segments(),
            halts,
            crashes,
            violations: checker.violations().to_vec(),
            violations_total: checker.count(),
            trace_sha256,
            foreseen,
        }
    }

    /// How many times as long it took as it had to.
    pub(crate) fn over_bound(&self) -> Option<f64> {
        ratio(self.took_ms, self.lower_bound_ms)
    }

    /// The cells that ended last.
    pub(crate) fn slowest(&self) -> Vec<&CellLine> {
        let mut cells: Vec<&CellLine> = self.cells.iter().filter(|cell| cell.devices > 0).collect();
        cells.sort_by_key(|cell| (std::cmp::Reverse(cell.finished_s), cell.cell));
        cells.truncate(NAMED_CELLS);
        cells
    }
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

fn ratio(took_ms: u64, bound_ms: u64) -> Option<f64> {
    (bound_ms > 0).then(|| seconds(took_ms) / seconds(bound_ms))
}
