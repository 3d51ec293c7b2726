mod set;

use std::{io::Write, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use super::{
    client::{Client, CommandError},
    list::{ListArgs, ResultArgs, Table},
    output::{self, Format, counted, or_dash},
    traffic::TrafficView,
    upgrade,
};

/// `cellwise cell`.
#[derive(Debug, Subcommand)]
pub enum CellCommand {
    /// List the cells in which devices upgraded or waited, ordered by number.
    List(ListArgs<100>),
    /// Show a cell: its rules, who upgrades, who waits, and its newest upgrades.
    Show(ShowArgs),
    /// Limit a cell, close it, or open it.
    Set(set::SetArgs),
    /// Change the rules of many cells, of a file.
    Import(set::ImportArgs),
}

/// Changes of its limit that are shown, the last.
const CHANGES: usize = 5;

/// `cellwise cell show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Number of the cell.
    id: u32,
    /// Show at most so many upgrades, the newest.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    result: ResultArgs,
}

#[derive(Debug, Deserialize)]
struct CellView {
    cell_id: u32,
    active: u64,
    waiting: u64,
    limit_max: u32,
    concurrent_peak: u32,
    admitted_total: u64,
    last_admitted_at: Option<String>,
    succeeded: u64,
    failed: u64,
}

/// What is told of one cell only.
#[derive(Debug, Deserialize)]
struct RulesView {
    limit_now: Option<u32>,
    limited_by: String,
    limit_changes_at: Option<String>,
    closed: Option<ClosedView>,
    note: Option<String>,
    seconds_per_kib: Option<f64>,
    queue_through_at: Option<String>,
    traffic: TrafficView,
}

/// How the limit of a cell has changed because of how crowded it was.
#[derive(Debug, Deserialize)]
struct LimitsView {
    points: Vec<LimitView>,
}

#[derive(Debug, Deserialize)]
struct LimitView {
    at: String,
    detail: String,
}

#[derive(Debug, Deserialize)]
struct ClosedView {
    until: Option<String>,
    reason: String,
}

impl RulesView {
    /// A line for each thing that is to be known.
    fn tell(&self, out: &mut dyn Write) -> std::io::Result<()> {
        match (&self.closed, self.limit_now) {
            (Some(closed), _) => {
                let by = if self.limited_by == "outage" {
                    "out of order"
                } else {
                    "closed"
                };
                let until = closed.until.as_deref().unwrap_or("further notice");
                writeln!(out, "{by} until {until}: {}", closed.reason)?;
            }
            (None, Some(limit)) => {
                let by = self.limited_by.replace('_', " ");
                let until = self.limit_changes_at.as_ref();
                let until = until.map_or_else(String::new, |at| format!(", until {at} at least"));
                writeln!(out, "at most {limit} at once ({by}{until})")?;
            }
            (None, None) => {}
        }
        if let Some(note) = &self.note {
            writeln!(out, "note: {note}")?;
        }
        if let Some(seconds) = self.seconds_per_kib {
            writeln!(out, "a KiB takes {seconds:.1} s")?;
        }
        if let Some(line) = self.traffic.line() {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

impl CellCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::List(args) => list(&args, out),
            Self::Show(args) => show(&args, out),
            Self::Set(args) => set::set(&args, out),
            Self::Import(args) => set::import(&args, out),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn list(args: &ListArgs<100>, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let table = Table {
        headings: [
            "CELL",
            "UPGRADING",
            "WAITING",
            "MOST AT ONCE",
            "HIGHEST LIMIT",
            "ADMITTED",
            "LAST ADMITTED",
        ],
        row: |view: CellView| {
            [
                view.cell_id.to_string(),
                view.active.to_string(),
                view.waiting.to_string(),
                view.concurrent_peak.to_string(),
                view.limit_max.to_string(),
                view.admitted_total.to_string(),
                or_dash(view.last_admitted_at),
            ]
        },
    };
    table.list(args, ("/v1/cells", &[]), &client, out)?;
    Ok(())
}

fn show(args: &ShowArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let cell = client.get(&format!("/v1/cells/{}", args.id), &[])?;
    let limits = client.get(&format!("/v1/cells/{}/limits", args.id), &[])?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let query = [("cell_id", args.id.to_string())];
    let (upgrades, more) = client.list("/v1/upgrades", &query, limit)?;
    if args.result.format == Format::Json {
        let all =
            json!({"cell": cell, "limits": limits, "upgrades": {"items": upgrades, "more": more}});
        output::json(out, &all)?;
        return Ok(());
    }
    let view: CellView = client.view(&cell)?;
    writeln!(
        out,
        "cell {}: {} upgrading, {} waiting",
        view.cell_id,
        counted(view.active, "device"),
        view.waiting,
    )?;
    writeln!(
        out,
        "at most {} at once so far, where {} were allowed; {} admitted, the last at {}",
        view.concurrent_peak,
        view.limit_max,
        view.admitted_total,
        or_dash(view.last_admitted_at),
    )?;
    writeln!(out, "{} succeeded, {} failed", view.succeeded, view.failed)?;
    let rules: RulesView = client.view(&cell)?;
    rules.tell(out)?;
    let limits: LimitsView = client.view(&limits)?;
    for change in limits.points.iter().rev().take(CHANGES).rev() {
        writeln!(out, "{}: {}", change.at, change.detail)?;
    }
    if let Some(at) = rules.queue_through_at.filter(|_| view.waiting > 0) {
        writeln!(out, "who waits is through at {at} at the earliest")?;
    }
    writeln!(out)?;
    upgrade::TABLE.write(&client, &upgrades, out)?;
    if more {
        output::remark("there are more upgrades; give --limit");
    }
    Ok(())
}
