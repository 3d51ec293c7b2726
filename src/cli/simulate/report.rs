//! What came of a simulation, for people and for programs.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use crate::simulate::{CellLine, Figures, Foreseen, Halts, StandbyCost, Summary, Violation};

/// Times that the text names at which the task was held or stopped: the first ones.
const NAMED_HALTS: usize = 10;

/// What was run, and how long it took in fact.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) devices: usize,
    pub(super) cells: u32,
    pub(super) seed: u64,
    pub(super) wall: Duration,
}

#[derive(Serialize)]
pub(super) struct Line<'a> {
    devices: usize,
    cells: u32,
    seed: u64,
    virtual_seconds: f64,
    lower_bound_seconds: f64,
    over_bound: Option<f64>,
    wall_seconds: f64,
    outcomes: &'a BTreeMap<&'static str, u64>,
    reasons: &'a BTreeMap<String, u64>,
    skipped: &'a BTreeMap<String, u64>,
    finished_unheard: usize,
    retries: u64,
    surprises: &'a BTreeMap<String, u64>,
    #[serde(flatten)]
    figures: Figures,
    segments: u64,
    keep_awake: StandbyCost,
    halts: &'a Halts,
    crashes: u64,
    slowest_cells: Vec<&'a CellLine>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    forecasts: &'a [Foreseen],
    violations_total: usize,
    violations: &'a [Violation],
    trace_sha256: &'a str,
}

impl Run {
    /// The line for programs.
    pub(super) fn line<'a>(&self, summary: &'a Summary) -> Line<'a> {
        Line {
            devices: self.devices,
            cells: self.cells,
            seed: self.seed,
            virtual_seconds: seconds(summary.took_ms),
            lower_bound_seconds: seconds(summary.lower_bound_ms),
            over_bound: summary.over_bound(),
            wall_seconds: self.wall.as_secs_f64(),
            outcomes: &summary.outcomes,
            reasons: &summary.reasons,
            skipped: &summary.skipped,
            finished_unheard: summary.ends.finished_unheard,
            retries: summary.ends.retries,
            surprises: &summary.surprises,
            figures: summary.figures,
            segments: summary.segments,
            keep_awake: summary.kept_awake,
            halts: &summary.halts,
            crashes: summary.crashes,
            slowest_cells: summary.slowest(),
            forecasts: &summary.foreseen,
            violations_total: summary.violations_total,
            violations: &summary.violations,
            trace_sha256: &summary.trace_sha256,
        }
    }

    /// The text for people.
    pub(super) const fn text<'a>(&'a self, summary: &'a Summary) -> Text<'a> {
        Text { summary, run: self }
    }
}

pub(super) struct Text<'a> {
    summary: &'a Summary,
    run: &'a Run,
}

impl Text<'_> {
    /// How good the order of admissions was, and what it cost.
    fn admission(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = self.summary;
        if let Some(over_bound) = summary.over_bound() {
            writeln!(
                f,
                "No order of admissions could have ended before {}: this took {over_bound:.2} times as long.",
                span(summary.lower_bound_ms / 1_000)
            )?;
        }
        let kept = summary.kept_awake;
        if kept.pings_max > 0 {
            writeln!(
                f,
                "Kept awake: {} devices that sleep, for {:.1} min (median), {:.1} min (95 %), {:.1} min at most, with {}, \
                 {} and {} pings",
                kept.devices,
                kept.minutes_median,
                kept.minutes_p95,
                kept.minutes_max,
                kept.pings_median,
                kept.pings_p95,
                kept.pings_max
            )?;
        }
        Ok(())
    }

    /// What MQTT and downloads have cost, where devices speak that.
    fn over_mqtt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = self.summary.figures;
        if figures.mqtt_bytes_up == 0 {
            return Ok(());
        }
        writeln!(
            f,
            "Over MQTT: {} to the devices, {} from them; {} downloaded",
            amount(figures.mqtt_bytes_down),
            amount(figures.mqtt_bytes_up),
            amount(figures.downloaded_bytes)
        )
    }

    /// How often the task was held or stopped, and why.
    fn halts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let halts = &self.summary.halts;
        if halts.total() == 0 {
            return Ok(());
        }
        writeln!(f)?;
        let counted = |counts: &BTreeMap<&str, u64>| {
            let counts = (counts.iter())
                .map(|(code, count)| format!("{count} × {}", code.replace('_', " ")));
            counts.collect::<Vec<_>>().join(", ")
        };
        if !halts.held.is_empty() {
            let held = counted(&halts.held);
            writeln!(f, "Held, and resumed an hour later: {held}")?;
        }
        if !halts.stopped.is_empty() {
            writeln!(f, "Stopped: {}", counted(&halts.stopped))?;
        }
        for halt in halts.first.iter().take(NAMED_HALTS) {
            let what = if halt.stopped { "stopped" } else { "held" };
            writeln!(
                f,
                "  task {} {what} after {}: {}",
                halt.task,
                span(halt.at_seconds),
                halt.reason()
            )?;
        }
        let more = halts.total() - halts.total().min(NAMED_HALTS as u64);
        if more > 0 {
            writeln!(f, "  and {more} times more")?;
        }
        Ok(())
    }

    /// What was forecast, beside what happened.
    fn forecasts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = self.summary;
        if summary.foreseen.is_empty() {
            return Ok(());
        }
        let took = seconds(summary.took_ms);
        writeln!(
            f,
            "\nForecast, and what happened (times from the start of the task):"
        )?;
        writeln!(
            f,
            "known         made at     end, P50     end, P90      it was      off   9 of 10, P50      it was      off"
        )?;
        for made in &summary.foreseen {
            let known = match made.known {
                "so_far" => format!("at {} %", made.after_percent),
                known => known.to_owned(),
            };
            writeln!(
                f,
                "{known:<9}  {:>10}  {:>11}  {:>11}  {:>10}  {:>7}  {:>13}  {:>10}  {:>7}",
                span_of(made.made_seconds),
                made.finish_p50_seconds.map_or_else(never, span_of),
                made.finish_p90_seconds.map_or_else(never, span_of),
                span_of(took),
                off(made.finish_p50_seconds, took),
                made.most_p50_seconds.map_or_else(never, span_of),
                span_of(made.most_seconds),
                off(made.most_p50_seconds, made.most_seconds),
            )?;
        }
        Ok(())
    }

    fn slowest_cells(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = self.summary;
        writeln!(f, "\nThe cells that took longest:")?;
        writeln!(
            f,
            "cell    devices  limits  most at once  finished after  over the bound"
        )?;
        for cell in summary.slowest() {
            let limits = format!("{}..{}", cell.limit_min, cell.limit_max);
            let over = (cell.over_bound).map_or_else(String::new, |over| format!("× {over:.2}"));
            writeln!(
                f,
                "{:<6}  {:>7}  {limits:>6}  {:>12}  {:>14}  {over:>14}",
                cell.cell,
                cell.devices,
                cell.peak,
                span(cell.finished_s)
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { summary, run } = self;
        let count = |state| summary.outcomes.get(state).copied().unwrap_or(0);
        let skipped: u64 = summary.skipped.values().sum();
        let told = |count: u64, what: &str| match count {
            0 => String::new(),
            count => format!(", {count} {what}"),
        };
        let cancelled = told(count("cancelled").saturating_sub(skipped), "cancelled");
        let skipped = told(skipped, "skipped");
        writeln!(
            f,
            "{} devices in {} cells: {} upgraded, {} failed{skipped}{cancelled}, in {} (simulated in {:.1} s, seed {})",
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
        self.over_mqtt(f)?;
        self.admission(f)?;
        self.halts(f)?;
        if summary.crashes > 0 {
            writeln!(f, "The server crashed {} times.", summary.crashes)?;
        }
        self.forecasts(f)?;
        self.slowest_cells(f)?;
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

fn never() -> String {
    "never".to_owned()
}

/// How far a forecast was off, in percent of what happened.
fn off(forecast: Option<f64>, happened: f64) -> String {
    let off = forecast.filter(|_| happened > 0.0);
    off.map_or_else(String::new, |at| {
        format!("{:+.1} %", (at / happened - 1.0) * 100.0)
    })
}

fn span_of(seconds: f64) -> String {
    span(Duration::try_from_secs_f64(seconds).map_or(0, |span| span.as_secs()))
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
