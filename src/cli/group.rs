use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use super::{
    client::{ApiArgs, Client, CommandError},
    device::list_file,
    list::{ListArgs, ResultArgs, Table},
    output::{self, Format, counted, or_dash},
};

/// Devices that the API takes in one request.
const BATCH: usize = 10_000;

/// `cellwise group`.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Add a group: a list of devices, or a filter.
    Add(AddArgs),
    /// List groups, newest first.
    List(ListArgs<100>),
    /// Show a group, and how many devices belong to it; `cellwise device list --group` lists them.
    Show(ShowArgs),
    /// Remove groups. Their devices stay.
    Remove(RemoveArgs),
}

/// `cellwise group add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// A name that no other group has.
    name: String,
    /// Whom this lets through, such as 'product==meter;site==north*': docs/fleet-and-filters.md has the language.
    #[arg(long, value_name = "RSQL", conflicts_with_all = ["devices", "devices_file"])]
    filter: Option<String>,
    /// These devices: endpoint names with commas between them.
    #[arg(long, value_delimiter = ',', value_name = "ENDPOINTS")]
    devices: Vec<String>,
    /// The devices in a file, or - for standard input: as for `cellwise device add --file`, of which the names count.
    #[arg(long, value_name = "FILE")]
    devices_file: Option<PathBuf>,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise group show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Number of the group.
    id: i64,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise group remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Numbers of groups.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<i64>,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Deserialize)]
struct GroupView {
    id: i64,
    name: String,
    filter: Option<String>,
    members: Option<u64>,
    created_at: String,
}

impl GroupCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::Add(args) => add(args, out),
            Self::List(args) => list(&args, out),
            Self::Show(args) => show(&args, out),
            Self::Remove(args) => remove(&args, out),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn add(args: AddArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let mut devices = args.devices;
    if let Some(path) = &args.devices_file {
        let listed = list_file::read(path)?;
        devices.extend(listed.into_iter().map(|entry| entry.endpoint));
    }
    let mut batches = devices.chunks(BATCH);
    let body = match &args.filter {
        Some(filter) => json!({"name": args.name, "filter": filter}),
        None => json!({"name": args.name, "devices": batches.next().unwrap_or_default()}),
    };
    let mut group = client.post("/v1/groups", &body)?;
    let mut view: GroupView = client.view(&group)?;
    for batch in batches {
        let path = format!("/v1/groups/{}", view.id);
        group = (client.patch(&path, &json!({"add": batch}))).inspect_err(|_| {
            let members = counted(view.members.unwrap_or_default(), "device");
            output::remark(&format!("group {} was added with {members}", view.id));
        })?;
        view = client.view(&group)?;
    }
    match args.result.format {
        Format::Json => output::json(out, &group)?,
        Format::Text => {
            let members = counted(view.members.unwrap_or_default(), "device");
            writeln!(out, "group {} added: {members}", view.id)?;
        }
    }
    Ok(())
}

fn list(args: &ListArgs<100>, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let table = Table {
        headings: ["ID", "NAME", "MEMBERS", "FILTER"],
        row: |view: GroupView| {
            let members = or_dash(view.members);
            [
                view.id.to_string(),
                view.name,
                members,
                or_dash(view.filter),
            ]
        },
    };
    table.list(args, ("/v1/groups", &[]), &client, out)?;
    Ok(())
}

fn show(args: &ShowArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let group = client.get(&format!("/v1/groups/{}", args.id), &[])?;
    if args.result.format == Format::Json {
        output::json(out, &group)?;
        return Ok(());
    }
    let view: GroupView = client.view(&group)?;
    let members = counted(view.members.unwrap_or_default(), "device");
    writeln!(out, "group {} ({}): {members}", view.id, view.name)?;
    let of = view.filter.as_deref().unwrap_or("a list");
    writeln!(out, "{of}, added {}", view.created_at)?;
    Ok(())
}

fn remove(args: &RemoveArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    for id in &args.ids {
        client.delete(&format!("/v1/groups/{id}"))?;
        writeln!(out, "group {id} removed")?;
    }
    Ok(())
}
