use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use super::{
    figures::Figures,
    invariants::{Ends, Invariants, Violation},
    store::Final,
};

/// Cells that the text names: those that ended last.
const NAMED_CELLS: usize = 10;

/// What came of a simulation.
#[derive(Debug, Clone)]
pub(super) struct Summary {
    /// From the start of the task to its last outcome, virtual.
    pub(super) took_ms: u64,
    /// Upgrades by their state.
    pub(super) outcomes: BTreeMap<&'static str, u64>,
    /// Upgrades by how they ended.
    pub(super) reasons: BTreeMap<String, u64>,
    pub(super) ends: Ends,
    /// Upgrades that ended otherwise than their device's character would have it, by both.
    pub(super) surprises: BTreeMap<String, u64>,
    pub(super) cells: Vec<CellLine>,
    pub(super) figures: Figures,
    /// Segments that reached a device.
    pub(super) segments: u64,
    pub(super) crashes: u64,
    pub(super) violations: Vec<Violation>,
    /// Those included that are not named.
    pub(super) violations_total: usize,
    pub(super) trace_sha256: String,
}

/// What happened in a cell.
#[derive(Debug, Clone, Serialize)]
pub(super) struct CellLine {
    pub(super) cell: u32,
    pub(super) devices: u32,
    /// The lowest and the highest limit among its devices.
    pub(super) limit_min: u32,
    pub(super) limit_max: u32,
    /// Most that upgraded at once.
    pub(super) peak: u32,
    pub(super) admitted: u32,
    /// When its last upgrade ended, seconds from the start of the task.
    pub(super) finished_s: u64,
}

impl Summary {
    #[allow(clippy::too_many_arguments)] // each is a part of the world that ends here
    pub(super) fn new(
        checker: &Invariants,
        finals: &[Final],
        ends: Ends,
        surprises: BTreeMap<String, u64>,
        figures: Figures,
        crashes: u64,
        start_ms: u64,
        trace_sha256: String,
    ) -> Self {
        let mut outcomes = BTreeMap::from([("succeeded", 0), ("failed", 0)]);
        let mut reasons = BTreeMap::new();
        for end in finals {
            *outcomes.entry(end.state.name()).or_default() += 1;
            if let Some(reason) = &end.reason {
                *reasons.entry(reason.clone()).or_default() += 1;
            }
        }
        let since_start = |ms: u64| ms.saturating_sub(start_ms);
        let cells = checker
            .cells()
            .map(|(number, cell)| CellLine {
                cell: number,
                devices: cell.devices,
                limit_min: cell.limits.0.min(cell.limits.1),
                limit_max: cell.limits.1,
                peak: cell.peak,
                admitted: cell.admitted,
                finished_s: since_start(cell.last_end_ms) / 1_000,
            })
            .collect();
        Self {
            took_ms: since_start(checker.last_end_ms()),
            outcomes,
            reasons,
            ends,
            surprises,
            cells,
            figures,
            segments: checker.segments(),
            crashes,
            violations: checker.violations().to_vec(),
            violations_total: checker.count(),
            trace_sha256,
        }
    }

    /// The line for programs.
    pub(super) fn to_json(&self, run: &Run) -> serde_json::Result<String> {
        serde_json::to_string(&Line {
            devices: run.devices,
            cells: run.cells,
            seed: run.seed,
            virtual_seconds: seconds(self.took_ms),
            wall_seconds: run.wall.as_secs_f64(),
            outcomes: &self.outcomes,
            reasons: &self.reasons,
            finished_unheard: self.ends.finished_unheard,
            retries: self.ends.retries,
            surprises: &self.surprises,
            figures: self.figures,
            segments: self.segments,
            crashes: self.crashes,
            slowest_cells: self.slowest(),
            violations_total: self.violations_total,
            violations: &self.violations,
            trace_sha256: &self.trace_sha256,
        })
    }

    fn slowest(&self) -> Vec<&CellLine> {
        let mut cells: Vec<&CellLine> = self.cells.iter().filter(|cell| cell.devices > 0).collect();
        cells.sort_by_key(|cell| (std::cmp::Reverse(cell.finished_s), cell.cell));
        cells.truncate(NAMED_CELLS);
        cells
    }

    /// The text for people.
    pub(super) fn text<'a>(&'a self, run: &'a Run) -> impl fmt::Display + 'a {
        Text { summary: self, run }
    }
}

/// What was run, and how long it took in fact.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) devices: usize,
    pub(super) cells: u32,
    pub(super) seed: u64,
    pub(super) wall: Duration,
}

#[derive(Serialize)]
struct Line<'a> {
    devices: usize,
    cells: u32,
    seed: u64,
    virtual_seconds: f64,
    wall_seconds: f64,
    outcomes: &'a BTreeMap<&'static str, u64>,
    reasons: &'a BTreeMap<String, u64>,
    finished_unheard: usize,
    retries: u64,
    surprises: &'a BTreeMap<String, u64>,
    #[serde(flatten)]
    figures: Figures,
    segments: u64,
    crashes: u64,
    slowest_cells: Vec<&'a CellLine>,
    violations_total: usize,
    violations: &'a [Violation],
    trace_sha256: &'a str,
}

struct Text<'a> {
    summary: &'a Summary,
    run: &'a Run,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { summary, run } = self;
        let count = |state| summary.outcomes.get(state).copied().unwrap_or(0);
        writeln!(
            f,
            "{} devices in {} cells: {} upgraded, {} failed, in {} (simulated in {:.1} s, seed {})",
            run.devices,
            run.cells,
            count("succeeded"),
            count("failed"),
            span(summary.took_ms / 1_000),
            run.wall.as_secs_f64(),
            run.seed
        )?;
        for (reason, count) in &summary.reasons {
            writeln!(f, "  {count:>8} × {}", reason.replace('_', " "))?;
        }
        if summary.ends.finished_unheard > 0 {
            writeln!(
                f,
                "  {} of those that failed run the new version all the same: they said so too late, or never",
                summary.ends.finished_unheard
            )?;
        }
        let figures = summary.figures;
        writeln!(
            f,
            "\nOver the air: {} in {} datagrams to the devices, {} in {} from them; {} further attempts",
            amount(figures.bytes_down),
            figures.datagrams_down,
            amount(figures.bytes_up),
            figures.datagrams_up,
            summary.ends.retries
        )?;
        if summary.crashes > 0 {
            writeln!(f, "The server crashed {} times.", summary.crashes)?;
        }
        writeln!(f, "\nThe cells that took longest:")?;
        writeln!(f, "cell    devices  limits  most at once  finished after")?;
        for cell in summary.slowest() {
            let limits = format!("{}..{}", cell.limit_min, cell.limit_max);
            writeln!(
                f,
                "{:<6}  {:>7}  {limits:>6}  {:>12}  {:>14}",
                cell.cell,
                cell.devices,
                cell.peak,
                span(cell.finished_s)
            )?;
        }
        for violation in &summary.violations {
            writeln!(f, "VIOLATION at {} ms: {}", violation.at_ms, violation.what)?;
        }
        match summary.violations_total {
            0 => writeln!(f, "\nNo rule was violated.")?,
            count => writeln!(f, "\n{count} violations.")?,
        }
        write!(f, "trace {}", summary.trace_sha256)
    }
}

#[allow(clippy::cast_precision_loss)] // 285 years of milliseconds are exact
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

/// As in `2 h 03 min`.
fn span(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    match (hours / 24, hours) {
        (0, 0) => format!("{minutes} min {:02} s", seconds % 60),
        (0, hours) => format!("{hours} h {minutes:02} min"),
        (days, hours) => format!("{days} d {:02} h", hours % 24),
    }
}

/// As in `1.2 MiB`.
#[allow(clippy::cast_precision_loss)] // it is rounded to a tenth
fn amount(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1_024.0 {
            return format!("{value:.1} {unit}");
        }
        value /= 1_024.0;
    }
    format!("{value:.1} TiB")
}
