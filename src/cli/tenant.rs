use std::{io::Write, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use super::{
    client::{ApiArgs, Client, CommandError, segment},
    list::{ListArgs, ResultArgs, Table},
    output::{self, Format},
};

/// `cellwise tenant`.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Add a tenant.
    Add(AddArgs),
    /// List tenants, ordered by their ids.
    List(ListArgs<100>),
    /// Give a tenant another name. Its id stays.
    Rename(RenameArgs),
    /// Delete a tenant to which nothing belongs. Its id is not given again.
    Delete(DeleteArgs),
}

/// `cellwise tenant add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// What it is called in paths, filters and grants: 1 to 32 of a-z 0-9 -.
    id: String,
    /// What people call it; its id when not given.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise tenant rename`.
#[derive(Debug, Args)]
pub struct RenameArgs {
    /// Its id.
    id: String,
    /// What people call it from now on.
    name: String,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise tenant delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Its id.
    id: String,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Deserialize)]
struct TenantView {
    id: String,
    name: String,
    created_at: String,
}

impl TenantCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::Add(args) => add(&args, out),
            Self::List(args) => list(&args, out),
            Self::Rename(args) => rename(&args, out),
            Self::Delete(args) => delete(&args, out),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn path_of(id: &str) -> String {
    format!("/v1/tenants/{}", segment(id))
}

fn add(args: &AddArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let body = json!({"id": args.id, "name": args.name});
    let added = client.post("/v1/tenants", &body)?;
    match args.result.format {
        Format::Json => output::json(out, &added)?,
        Format::Text => {
            let view: TenantView = client.view(&added)?;
            writeln!(out, "tenant {} ({}) added", view.id, view.name)?;
        }
    }
    Ok(())
}

fn list(args: &ListArgs<100>, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let table = Table {
        headings: ["ID", "NAME", "ADDED"],
        row: |view: TenantView| [view.id, view.name, view.created_at],
    };
    table.list(args, ("/v1/tenants", &[]), &client, out)?;
    Ok(())
}

fn rename(args: &RenameArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    let body = json!({"name": args.name});
    let view: TenantView = client.view(&client.patch(&path_of(&args.id), &body)?)?;
    writeln!(out, "tenant {} is called {}", view.id, view.name)?;
    Ok(())
}

fn delete(args: &DeleteArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    client.delete(&path_of(&args.id))?;
    writeln!(out, "tenant {} deleted", args.id)?;
    Ok(())
}
