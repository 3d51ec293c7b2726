use std::{io::Write, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use super::{
    client::{ApiArgs, Client, CommandError},
    output::{self, Format},
};

/// `cellwise upgrade`.
#[derive(Debug, Subcommand)]
pub enum UpgradeCommand {
    /// Show one device's upgrade: where it stands, what it waits for, and its timeline.
    Show(ShowArgs),
    /// Cancel one device's upgrade. The others of its task go on.
    Cancel(CancelArgs),
}

/// `cellwise upgrade cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// Number of the upgrade, as `cellwise task show` tells it.
    #[arg(value_name = "ID")]
    id: i64,
    /// The form of the result.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise upgrade show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Number of the upgrade, as `cellwise task show` tells it.
    #[arg(value_name = "ID")]
    id: i64,
    /// The form of the result.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    api: ApiArgs,
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

/// What is shown of an upgrade that was cancelled.
#[derive(Debug, Deserialize)]
struct CancelledView {
    id: i64,
    endpoint: String,
    state: String,
}

impl UpgradeCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::Show(args) => show(&args, out),
            Self::Cancel(args) => cancel(&args, out),
        }
    }
}

fn show(args: &ShowArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.api)?;
    let upgrade = client.get(&format!("/v1/upgrades/{}", args.id), &[])?;
    if args.format == Format::Json {
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

fn cancel(args: &CancelArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.api)?;
    let path = format!("/v1/upgrades/{}/cancel", args.id);
    let upgrade = client.post(&path, &json!({}))?;
    if args.format == Format::Json {
        output::json(out, &upgrade)?;
        return Ok(ExitCode::SUCCESS);
    }
    let view: CancelledView = client.view(&upgrade)?;
    let what = if view.state == "cancelled" {
        "cancelled".to_owned()
    } else {
        let stage = view.state.replace('_', " ");
        format!("is being cancelled ({stage} until now)")
    };
    writeln!(out, "upgrade {} of {} {what}", view.id, view.endpoint)?;
    Ok(ExitCode::SUCCESS)
}
