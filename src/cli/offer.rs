use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::Value;

use super::{
    client::{ApiArgs, Client, CommandError, SeenArgs},
    home::read_json,
    list::{ListArgs, ResultArgs, Table},
    output::{self, Format, or_dash},
};

/// `cellwise offer`.
#[derive(Debug, Subcommand)]
pub enum OfferCommand {
    /// List offers, newest first, also those that were withdrawn.
    List(ListArgs<100>),
    /// Show an offer.
    Show(ShowArgs),
    /// Publish an offer from a file, as `POST /v1/offers` takes it.
    Publish(PublishArgs),
    /// Have an offer stand on other terms from a file, as `PUT /v1/offers/{id}` takes them.
    Change(ChangeArgs),
    /// Withdraw an offer. What has not begun is cancelled.
    Withdraw(WithdrawArgs),
}

/// `cellwise offer show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Its number.
    id: u64,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise offer publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// A file with JSON: `{"terms": {…}, "task": {"name": …, "package_id": …}}` (docs/homes.md).
    file: PathBuf,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise offer change`.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Its number.
    id: u64,
    /// A file with JSON: the terms.
    file: PathBuf,
    #[command(flatten)]
    seen: SeenArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise offer withdraw`.
#[derive(Debug, Args)]
pub struct WithdrawArgs {
    /// Its number.
    id: u64,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Deserialize)]
struct OfferView {
    id: i64,
    product: String,
    version: String,
    task_id: i64,
    terms: TermsView,
    withdrawn_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct TermsView {
    channel: u8,
    percent: u8,
    #[serde(default)]
    stages: Vec<StageView>,
}

#[derive(Debug, Deserialize)]
struct StageView {
    from: String,
    percent: u8,
}

impl OfferView {
    fn tell(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let TermsView {
            channel,
            percent,
            stages,
        } = &self.terms;
        writeln!(
            out,
            "offer {}: {} {} on channel {channel}, to {percent} % of homes; task {}",
            self.id, self.product, self.version, self.task_id
        )?;
        for StageView { from, percent } in stages {
            writeln!(out, "from {from} to {percent} % of homes")?;
        }
        if let Some(at) = &self.withdrawn_at {
            writeln!(out, "withdrawn at {at}")?;
        }
        Ok(())
    }
}

impl OfferCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::List(args) => list(&args, out),
            Self::Show(args) => show(&args, out),
            Self::Publish(args) => publish(&args, out),
            Self::Change(args) => change(&args, out),
            Self::Withdraw(args) => withdraw(&args, out),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn path(id: u64) -> String {
    format!("/v1/offers/{id}")
}

fn list(args: &ListArgs<100>, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let table = Table {
        headings: [
            "ID",
            "PRODUCT",
            "VERSION",
            "CHANNEL",
            "HOMES",
            "TASK",
            "WITHDRAWN",
        ],
        row: |view: OfferView| {
            [
                view.id.to_string(),
                view.product,
                view.version,
                view.terms.channel.to_string(),
                format!("{} %", view.terms.percent),
                view.task_id.to_string(),
                or_dash(view.withdrawn_at),
            ]
        },
    };
    table.list(args, ("/v1/offers", &[]), &client, out)?;
    Ok(())
}

fn tell(
    client: &Client,
    offer: &Value,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    match format {
        Format::Json => output::json(out, offer)?,
        Format::Text => client.view::<OfferView>(offer)?.tell(out)?,
    }
    Ok(())
}

fn show(args: &ShowArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let offer = client.get(&path(args.id), &[])?;
    tell(&client, &offer, args.result.format, out)
}

fn publish(args: &PublishArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let offer = client.post("/v1/offers", &read_json(&args.file)?)?;
    tell(&client, &offer, args.result.format, out)
}

fn change(args: &ChangeArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let offer = client.put_seen(&path(args.id), &read_json(&args.file)?, args.seen)?;
    tell(&client, &offer, args.result.format, out)
}

fn withdraw(args: &WithdrawArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    client.delete_with_answer(&path(args.id))?;
    writeln!(out, "offer {} withdrawn", args.id)?;
    Ok(())
}
