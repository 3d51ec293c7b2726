use std::{io::Write, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use super::{
    client::{self, ApiArgs, Client, CommandError, SeenArgs},
    list::{ListArgs, ResultArgs, Table},
    output::{self, Format, or_dash},
};

/// `cellwise site`.
#[derive(Debug, Subcommand)]
pub enum SiteCommand {
    /// List the sites that have a limit, newest first.
    List(ListArgs<100>),
    /// Show the limit of a site, and how many of its devices upgrade and wait.
    Show(ShowArgs),
    /// Give a site a limit: so many of its devices may upgrade at once.
    Set(SetArgs),
    /// Take the limit of a site away.
    Clear(ClearArgs),
}

/// `cellwise site show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Its name, as its devices have it.
    site: String,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise site set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Its name, as its devices have it.
    site: String,
    /// At most so many of its devices may upgrade at once, 1 to 100000.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// A note. Without it, there is none.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    seen: SeenArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise site clear`.
#[derive(Debug, Args)]
pub struct ClearArgs {
    /// Its name, as its devices have it.
    site: String,
    #[command(flatten)]
    seen: SeenArgs,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Deserialize)]
struct SiteView {
    site: String,
    /// Whose it is, where it is not the tenant `default`.
    tenant: Option<String>,
    limit: u32,
    note: Option<String>,
    active: Option<u32>,
    waiting: Option<u64>,
}

impl SiteView {
    fn tell(&self, out: &mut dyn Write) -> std::io::Result<()> {
        write!(out, "site {}: at most {} at once", self.site, self.limit)?;
        match (self.active, self.waiting) {
            (Some(active), Some(waiting)) => {
                writeln!(out, "; {active} upgrading, {waiting} waiting")?;
            }
            _ => writeln!(out)?,
        }
        if let Some(note) = &self.note {
            writeln!(out, "note: {note}")?;
        }
        Ok(())
    }
}

impl SiteCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::List(args) => list(&args, out),
            Self::Show(args) => show(&args, out),
            Self::Set(args) => set(&args, out),
            Self::Clear(args) => clear(&args, out),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn path(site: &str) -> String {
    format!("/v1/sites/{}", client::segment(site))
}

fn list(args: &ListArgs<100>, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let table = Table {
        headings: ["SITE", "TENANT", "LIMIT", "NOTE"],
        row: |view: SiteView| {
            [
                view.site,
                view.tenant.unwrap_or_else(|| "default".to_owned()),
                view.limit.to_string(),
                or_dash(view.note),
            ]
        },
    };
    table.list(args, ("/v1/sites", &[]), &client, out)?;
    Ok(())
}

fn show(args: &ShowArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let site = client.get(&path(&args.site), &[])?;
    match args.result.format {
        Format::Json => output::json(out, &site)?,
        Format::Text => client.view::<SiteView>(&site)?.tell(out)?,
    }
    Ok(())
}

fn set(args: &SetArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let body = match &args.note {
        Some(note) => json!({"limit": args.limit, "note": note}),
        None => json!({"limit": args.limit}),
    };
    let site = client.put_seen(&path(&args.site), &body, args.seen)?;
    match args.result.format {
        Format::Json => output::json(out, &site)?,
        Format::Text => client.view::<SiteView>(&site)?.tell(out)?,
    }
    Ok(())
}

fn clear(args: &ClearArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    client.delete_seen(&path(&args.site), args.seen)?;
    writeln!(out, "site {}: as many as their cells allow", args.site)?;
    Ok(())
}
