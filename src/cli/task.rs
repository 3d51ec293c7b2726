pub(super) mod create;
mod steer;

use std::{io::Write, process::ExitCode};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::{ApiArgs, Client, CommandError},
    forecast::ForecastArgs,
    list::{ListArgs, ResultArgs, Table},
    output::{self, Format},
    watch::{self, TaskView},
};

/// `cellwise task`.
#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// Create a task that upgrades devices with a package.
    Create(Box<create::CreateArgs>),
    /// Show a task: how many devices are in each state, and of those that wait or have failed why: all of them in a
    /// task of up to 20 devices, some of each state in a larger one.
    Show(ShowArgs),
    /// List tasks, newest first.
    List(ListArgs<20>),
    /// Pause a task: no further upgrade begins, and what runs goes on.
    Pause(steer::PauseArgs),
    /// Resume a task that is paused; one that waits after a phase goes on with the next one.
    Resume(steer::PlainArgs),
    /// Begin the next phase of a task now, whatever became of the one that runs.
    NextPhase(steer::PlainArgs),
    /// Approve a task that was created with `approval`.
    Approve(steer::ApproveArgs),
    /// Refuse to approve a task: it is stopped.
    Refuse(steer::ApprovalArgs),
    /// Try upgrades of a task again that have failed.
    Retry(steer::RetryArgs),
    /// Change how a task is run.
    Set(steer::SetArgs),
    /// Copy a task: another one with its packages, rules and devices.
    Copy(CopyArgs),
    /// Forecast when a task will be through, from where it stands.
    Forecast(ForecastArgs),
    /// Stop a task: upgrades that wait are cancelled, those that run are ended.
    Stop(StopArgs),
    /// Delete a task that has ended, with its upgrades and their timelines.
    Delete(DeleteArgs),
}

/// `cellwise task show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Number of the task.
    id: i64,
    /// Only the devices whose upgrades are in this state, such as `failed`.
    #[arg(long, conflicts_with = "watch")]
    state: Option<String>,
    /// Show at most so many devices of a state; all of a small task, 3 of a large one and 100 with --state when not
    /// given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "watch")]
    limit: Option<u32>,
    /// Go on and show the progress until the task has ended; the exit code is 0 if every device succeeded,
    /// else 1.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise task copy`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// Number of the task.
    id: i64,
    /// A name for the copy; that of the task when not given.
    #[arg(long)]
    name: Option<String>,
    /// When it starts, such as 2027-03-01T02:00:00Z; at once when not given.
    #[arg(long, value_name = "TIME")]
    start_at: Option<String>,
    /// What has not begun by then is not done any more.
    #[arg(long, value_name = "TIME")]
    not_after: Option<String>,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise task stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Number of the task.
    id: i64,
    /// What downloads or installs goes on to its end.
    #[arg(long)]
    soft: bool,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise task delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Number of the task.
    id: i64,
    #[command(flatten)]
    api: ApiArgs,
}

impl TaskCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::Create(args) => create::run(*args, out),
            Self::Show(args) => show(&args, out),
            Self::List(args) => list(&args, out),
            Self::Pause(args) => args.run(out),
            Self::Resume(args) => args.run("resume", out),
            Self::NextPhase(args) => args.run("next-phase", out),
            Self::Approve(args) => args.run(out),
            Self::Refuse(args) => args.run(out),
            Self::Retry(args) => args.run(out),
            Self::Set(args) => args.run(out),
            Self::Copy(args) => copy(args, out),
            Self::Forecast(args) => args.run(out),
            Self::Stop(args) => stop(&args, out),
            Self::Delete(args) => delete(&args, out),
        }
    }
}

fn show(args: &ShowArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.result.api)?;
    if args.watch {
        return watch::watch(&client, args.id, args.result.format, out);
    }
    let task = client.get(&format!("/v1/tasks/{}", args.id), &[])?;
    match args.result.format {
        Format::Json if args.state.is_some() || args.limit.is_some() => {
            let (state, limit) = (args.state.as_deref(), args.limit);
            output::json(out, &watch::with_upgrades(&client, task, state, limit)?)?;
        }
        Format::Json => output::json(out, &task)?,
        Format::Text => watch::print(&client, &task, args.state.as_deref(), args.limit, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(args: &ListArgs<20>, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.result.api)?;
    let table = Table {
        headings: [
            "ID",
            "NAME",
            "STATE",
            "DEVICES",
            "SUCCEEDED",
            "FAILED",
            "CANCELLED",
            "OPEN",
            "START",
        ],
        row: |view: TaskView| {
            [
                view.id.to_string(),
                view.name.clone(),
                view.state.clone(),
                view.total.to_string(),
                view.count("succeeded").to_string(),
                view.count("failed").to_string(),
                view.count("cancelled").to_string(),
                (view.total - view.ended().min(view.total)).to_string(),
                view.start_at,
            ]
        },
    };
    table.list(args, ("/v1/tasks", &[]), &client, out)?;
    Ok(ExitCode::SUCCESS)
}

fn copy(args: CopyArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.result.api)?;
    let given = [
        ("name", args.name),
        ("start_at", args.start_at),
        ("not_after", args.not_after),
    ];
    let given = given
        .into_iter()
        .filter_map(|(field, value)| Some((field.to_owned(), value?.into())));
    let body = Value::Object(given.collect());
    let task = client.post(&format!("/v1/tasks/{}/copy", args.id), &body)?;
    match args.result.format {
        Format::Json => output::json(out, &task)?,
        Format::Text => {
            let view: TaskView = client.view(&task)?;
            writeln!(
                out,
                "task {} created, {}: {}",
                view.id,
                view.state,
                view.summary()
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn stop(args: &StopArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.result.api)?;
    let soft = if args.soft { "?soft=true" } else { "" };
    let task = client.post(&format!("/v1/tasks/{}/stop{soft}", args.id), &json!({}))?;
    match args.result.format {
        Format::Json => output::json(out, &task)?,
        Format::Text => {
            let view: TaskView = client.view(&task)?;
            writeln!(
                out,
                "task {} is {}: {}",
                view.id,
                view.state,
                view.summary()
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn delete(args: &DeleteArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.api)?;
    client.delete(&format!("/v1/tasks/{}", args.id))?;
    writeln!(out, "task {} deleted", args.id)?;
    Ok(ExitCode::SUCCESS)
}
