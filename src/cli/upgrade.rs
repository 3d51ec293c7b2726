use std::{io::Write, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    client::{self, Client, CommandError},
    list::{self, ResultArgs, Table},
    output::{self, Format, or_dash},
    traffic::TrafficView,
};

/// `cellwise upgrade`.
#[derive(Debug, Subcommand)]
pub enum UpgradeCommand {
    /// List upgrades, newest first: of all tasks, in a cell, or of a device.
    List(ListArgs),
    /// Show one device's upgrade: where it stands, what it waits for, and its timeline.
    Show(ShowArgs),
    /// Cancel one device's upgrade. The others of its task go on.
    Cancel(OneArgs),
    /// Try one device's upgrade again, which has failed, was cancelled, or waits for its next attempt.
    Retry(OneArgs),
    /// Pass over one device's upgrade, which waits or has failed: what came of it does not count.
    Skip(OneArgs),
    /// Confirm one device's upgrade on behalf of its owner, at once or for a time, or refuse it. For tasks with `confirmation`.
    Confirm(ConfirmArgs),
}

/// `cellwise upgrade list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those that wait for a slot in this cell, have one, or had it as their cell when they ended.
    #[arg(long, value_name = "CELL", conflicts_with = "device")]
    cell: Option<u32>,
    /// Only those of this device.
    #[arg(long, value_name = "ENDPOINT")]
    device: Option<String>,
    #[command(flatten)]
    list: list::ListArgs<20>,
}

/// `cellwise upgrade cancel`, `retry` and `skip`.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// Number of the upgrade, as `cellwise task show` tells it.
    #[arg(value_name = "ID")]
    id: i64,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise upgrade confirm`.
#[derive(Debug, Args)]
pub struct ConfirmArgs {
    /// Number of the upgrade, as `cellwise task show` tells it.
    #[arg(value_name = "ID")]
    id: i64,
    /// It begins at this time, such as 2027-03-01T02:00:00Z, or when its task lets it after that; at once when not given. Can be changed
    /// until then.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// The owner refuses: it never begins.
    #[arg(long, conflicts_with = "at")]
    refuse: bool,
    /// Take back what was confirmed for a time that has not come: it waits for a confirmation again.
    #[arg(long, conflicts_with_all = ["at", "refuse"])]
    take_back: bool,
    /// Who says so, for the timeline.
    #[arg(long, value_name = "NAME", default_value = "")]
    by: String,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise upgrade show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Number of the upgrade, as `cellwise task show` tells it.
    #[arg(value_name = "ID")]
    id: i64,
    #[command(flatten)]
    result: ResultArgs,
}

/// What is shown of an upgrade.
#[derive(Debug, Deserialize)]
struct UpgradeView {
    id: i64,
    task_id: i64,
    endpoint: String,
    state: String,
    waiting_for: Option<String>,
    outcome: Option<OutcomeView>,
    traffic: TrafficView,
    events: Vec<EventView>,
}

#[derive(Debug, Deserialize)]
struct OutcomeView {
    detail: String,
}

#[derive(Debug, Deserialize)]
struct EventView {
    at: String,
    attempt: u32,
    stage: String,
    text: String,
}

/// What is shown of an upgrade in a list.
#[derive(Debug, Deserialize)]
pub(super) struct ListedView {
    id: i64,
    task_id: i64,
    task_name: String,
    version: String,
    endpoint: String,
    state: String,
    cell_id: Option<u32>,
    progress_percent: u8,
    ended_at: Option<String>,
    outcome: Option<OutcomeView>,
}

/// What is shown of an upgrade of which something was wanted.
#[derive(Debug, Deserialize)]
struct ChangedView {
    id: i64,
    endpoint: String,
    state: String,
    confirmed_for: Option<String>,
    awaits_confirmation: bool,
}

impl UpgradeCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::List(args) => list(&args, out),
            Self::Show(args) => show(&args, out),
            Self::Cancel(args) => change(&args, "cancel", cancelled, out),
            Self::Retry(args) => change(&args, "retry", |_| "waits to be tried again".into(), out),
            Self::Skip(args) => change(&args, "skip", |_| "is passed over".into(), out),
            Self::Confirm(args) => confirm(&args, out),
        }
    }
}

fn list(args: &ListArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.list.result.api)?;
    let (path, query) = match (&args.device, args.cell) {
        (Some(device), _) => (format!("{}/upgrades", client::device_path(device)), vec![]),
        (None, Some(cell)) => (
            "/v1/upgrades".to_owned(),
            vec![("cell_id", cell.to_string())],
        ),
        (None, None) => ("/v1/upgrades".to_owned(), vec![]),
    };
    TABLE.list(&args.list, (&path, &query), &client, out)?;
    Ok(ExitCode::SUCCESS)
}

/// Upgrades in a list.
pub(super) const TABLE: Table<8, fn(ListedView) -> [String; 8]> = Table {
    headings: [
        "UPGRADE", "ENDPOINT", "TASK", "TO", "STATE", "CELL", "ENDED", "OUTCOME",
    ],
    row: |view| {
        let state = match view.state.as_str() {
            "downloading" => format!("downloading, {} %", view.progress_percent),
            state => state.replace('_', " "),
        };
        [
            view.id.to_string(),
            view.endpoint,
            format!("{} ({})", view.task_id, view.task_name),
            view.version,
            state,
            or_dash(view.cell_id),
            or_dash(view.ended_at),
            or_dash(view.outcome.map(|outcome| outcome.detail)),
        ]
    },
};

fn show(args: &ShowArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.result.api)?;
    let upgrade = client.get(&format!("/v1/upgrades/{}", args.id), &[])?;
    if args.result.format == Format::Json {
        output::json(out, &upgrade)?;
        return Ok(ExitCode::SUCCESS);
    }
    let view: UpgradeView = client.view(&upgrade)?;
    let why = view
        .waiting_for
        .or(view.outcome.map(|outcome| outcome.detail));
    writeln!(
        out,
        "upgrade {} of {} (task {}), {}: {}",
        view.id,
        view.endpoint,
        view.task_id,
        view.state.replace('_', " "),
        why.unwrap_or_default()
    )?;
    if let Some(line) = view.traffic.line() {
        writeln!(out, "{line}")?;
    }
    writeln!(out)?;
    let rows: Vec<[String; 4]> = view
        .events
        .into_iter()
        .map(|event| {
            let stage = event.stage.replace('_', " ");
            [event.at, event.attempt.to_string(), stage, event.text]
        })
        .collect();
    output::table(out, ["TIME", "ATTEMPT", "STAGE", "WHAT HAPPENED"], &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// Has something done with an upgrade; `what` says what became of it.
fn change(
    args: &OneArgs,
    operation: &str,
    what: impl Fn(&ChangedView) -> String,
    out: &mut dyn Write,
) -> Result<ExitCode, CommandError> {
    let of = (args.id, &args.result);
    post(of, (operation, &json!({})), what, out)
}

fn confirm(args: &ConfirmArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let mut body = json!({ "by": args.by });
    match (&args.at, args.refuse, args.take_back) {
        (Some(at), ..) => body["at"] = json!(at),
        (None, true, _) => body["confirmed"] = json!(false),
        (None, false, true) => body["take_back"] = json!(true),
        (None, false, false) => {}
    }
    let of = (args.id, &args.result);
    post(of, ("confirm", &body), confirmed, out)
}

fn confirmed(view: &ChangedView) -> String {
    match &view.confirmed_for {
        _ if view.state == "cancelled" => "is refused, and cancelled".to_owned(),
        _ if view.awaits_confirmation => "waits for its owner to confirm it".to_owned(),
        Some(at) => format!("is confirmed for {at}"),
        None => "is confirmed".to_owned(),
    }
}

/// Posts something below an upgrade; `what` says what became of that.
fn post(
    (id, result): (i64, &ResultArgs),
    (operation, body): (&str, &Value),
    what: impl Fn(&ChangedView) -> String,
    out: &mut dyn Write,
) -> Result<ExitCode, CommandError> {
    let client = Client::new(&result.api)?;
    let upgrade = client.post(&format!("/v1/upgrades/{id}/{operation}"), body)?;
    if result.format == Format::Json {
        output::json(out, &upgrade)?;
        return Ok(ExitCode::SUCCESS);
    }
    let view: ChangedView = client.view(&upgrade)?;
    let what = what(&view);
    writeln!(out, "upgrade {} of {} {what}", view.id, view.endpoint)?;
    Ok(ExitCode::SUCCESS)
}

fn cancelled(view: &ChangedView) -> String {
    if view.state == "cancelled" {
        return "cancelled".to_owned();
    }
    let stage = view.state.replace('_', " ");
    format!("is being cancelled ({stage} until now)")
}
