use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use super::{
    client::{self, ApiArgs, Client, CommandError},
    device::list_file,
    list::{ListArgs, ResultArgs, Table},
    output::{self, Format},
};

/// Devices that the API takes in one request.
const BATCH: usize = 10_000;

/// `cellwise exclusion`.
#[derive(Debug, Subcommand)]
pub enum ExclusionCommand {
    /// Exclude devices from upgrades. What waits on them does not begin, what runs goes on, and new tasks leave them out.
    Add(AddArgs),
    /// List excluded devices, ordered by endpoint name.
    List(ListArgs<100>),
    /// End the exclusion of devices.
    Remove(RemoveArgs),
}

/// `cellwise exclusion add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Endpoint names. There need not be such devices yet.
    #[arg(value_name = "ENDPOINT", required_unless_present = "file")]
    endpoints: Vec<String>,
    /// Why, up to 200 characters.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The devices in a file, or - for standard input: as for `cellwise device add --file`, of which the names count.
    #[arg(long)]
    file: Option<PathBuf>,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise exclusion remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Endpoint names.
    #[arg(value_name = "ENDPOINT", required = true)]
    endpoints: Vec<String>,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Default, Deserialize)]
struct ExcludedView {
    added: u64,
    unchanged: u64,
}

#[derive(Debug, Deserialize)]
struct ExclusionView {
    endpoint: String,
    reason: String,
    excluded_at: String,
}

impl ExclusionCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::Add(args) => add(args, out),
            Self::List(args) => list(&args, out),
            Self::Remove(args) => remove(&args, out),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn add(args: AddArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let mut endpoints = args.endpoints;
    if let Some(path) = &args.file {
        let listed = list_file::read(path)?;
        endpoints.extend(listed.into_iter().map(|entry| entry.endpoint));
    }
    if endpoints.is_empty() {
        return Err(CommandError::Arguments("the list is empty".to_owned()));
    }
    let mut total = ExcludedView::default();
    for batch in endpoints.chunks(BATCH) {
        let body = json!({"endpoints": batch, "reason": args.reason});
        let answer = client.post("/v1/exclusions", &body)?;
        let excluded: ExcludedView = client.view(&answer)?;
        total.added += excluded.added;
        total.unchanged += excluded.unchanged;
    }
    let (added, unchanged) = (total.added, total.unchanged);
    match args.result.format {
        Format::Json => output::json(out, &json!({"added": added, "unchanged": unchanged}))?,
        Format::Text => writeln!(out, "{added} excluded, {unchanged} excluded already")?,
    }
    Ok(())
}

fn list(args: &ListArgs<100>, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let table = Table {
        headings: ["ENDPOINT", "EXCLUDED", "REASON"],
        row: |view: ExclusionView| [view.endpoint, view.excluded_at, view.reason],
    };
    table.list(args, ("/v1/exclusions", &[]), &client, out)?;
    Ok(())
}

fn remove(args: &RemoveArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    for endpoint in &args.endpoints {
        let path = format!("/v1/exclusions/{}", client::segment(endpoint));
        client.delete(&path)?;
        writeln!(out, "device {endpoint} is excluded no more")?;
    }
    Ok(())
}
