pub(super) mod list_file;
mod show;
mod unknown;

use std::{collections::BTreeSet, io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use list_file::Sent;

use super::{
    client::{self, ApiArgs, Client, CommandError},
    list::{self, ResultArgs, Table},
    output::{self, Format, or_dash},
    similar,
};

/// Devices that the API takes in one request.
const BATCH: usize = 10_000;

/// `cellwise device`.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Add devices. One that is there already, of the same product, is no error.
    Add(AddArgs),
    /// List devices, ordered by endpoint name.
    List(ListArgs),
    /// Count devices.
    Count(CountArgs),
    /// Show a device: its registration, its coverage, and its upgrades.
    Show(show::ShowArgs),
    /// Remove devices. Their upgrades end as failed.
    Remove(RemoveArgs),
    /// List who was refused lately, and how to let them in.
    Unknown(unknown::UnknownArgs),
}

/// `cellwise device remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Endpoint names.
    #[arg(value_name = "ENDPOINT", required = true)]
    endpoints: Vec<String>,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise device add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Endpoint names, such as urn:imei:867723032612345.
    #[arg(value_name = "ENDPOINT", required_unless_present = "file")]
    endpoints: Vec<String>,
    /// The product of all of them that a file says nothing else of.
    #[arg(long, default_value = "default")]
    product: String,
    /// A file with one device a line: ENDPOINT, or ENDPOINT,IDENTITY,KEY with its pre-shared key in hexadecimal; -
    /// for standard input. A first line with the names of columns says where they are: endpoint, and if need be product,
    /// identity and key. Empty lines and lines that begin with # are skipped. A device that is there already gets the key.
    #[arg(long)]
    file: Option<PathBuf>,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise device list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    list: list::ListArgs<100>,
}

/// `cellwise device count`.
#[derive(Debug, Args)]
pub struct CountArgs {
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    result: ResultArgs,
}

/// Which devices.
#[derive(Debug, Args)]
struct Choice {
    /// Only devices of this product.
    #[arg(long)]
    product: Option<String>,
    /// Only devices that are registered (true) or are not (false).
    #[arg(long)]
    registered: Option<bool>,
    /// Only devices whose endpoint name begins so.
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Only devices that this lets through, such as 'site==north*;version<V2': docs/fleet-and-filters.md has the language.
    #[arg(long, value_name = "RSQL")]
    filter: Option<String>,
    /// Only devices that belong to the group of this number.
    #[arg(long, value_name = "ID")]
    group: Option<i64>,
}

impl Choice {
    /// As the API's parameters.
    fn query(&self) -> Vec<(&'static str, String)> {
        let parameters = [
            ("product", self.product.clone()),
            ("registered", self.registered.map(|it| it.to_string())),
            ("q", self.prefix.clone()),
            ("filter", self.filter.clone()),
            ("group", self.group.map(|it| it.to_string())),
        ];
        let given = |(name, value)| Some((name, value?));
        parameters.into_iter().filter_map(given).collect()
    }

    /// A product that nobody knows may be meant to be another.
    fn remark_unknown_product(&self, client: &Client) -> Result<(), CommandError> {
        if let Some(product) = &self.product {
            let known = similar::products(client)?;
            if !known.contains(product) {
                let known = known.iter().map(String::as_str);
                output::remark(&similar::unknown(product, known));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Deserialize)]
struct DeviceView {
    endpoint: String,
    product: String,
    registered: bool,
    version: Option<String>,
    coverage: Option<CoverageView>,
    last_heard_at: Option<String>,
    last_heard_is_stored: bool,
    upgrade_id: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct CountView {
    count: u64,
}

#[derive(Debug, Deserialize)]
struct CoverageView {
    cell_id: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
struct Summary {
    added: usize,
    unchanged: usize,
    refused: Vec<RefusedDevice>,
}

#[derive(Debug, Deserialize)]
struct RefusedDevice {
    field: String,
    detail: String,
}

impl Summary {
    fn tell(&self, format: Format, out: &mut dyn Write) -> Result<(), CommandError> {
        match format {
            Format::Json => {
                let refused: Vec<&str> = self.refused.iter().map(|r| r.detail.as_str()).collect();
                let summary = json!({
                    "added": self.added, "unchanged": self.unchanged, "refused": refused,
                });
                output::json(out, &summary)?;
            }
            Format::Text => {
                for refused in &self.refused {
                    output::remark(&refused.detail);
                }
                writeln!(
                    out,
                    "{} added, {} there already, {} refused",
                    self.added,
                    self.unchanged,
                    self.refused.len()
                )?;
            }
        }
        Ok(())
    }
}

impl DeviceCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::Add(args) => add(&args, out),
            Self::List(args) => list(&args, out),
            Self::Count(args) => count(&args, out),
            Self::Show(args) => show::run(&args, out),
            Self::Remove(args) => remove(&args, out),
            Self::Unknown(args) => unknown::run(&args, out),
        }
    }
}

fn add(args: &AddArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.result.api)?;
    let listed = match &args.file {
        Some(path) => list_file::read(path)?,
        None => Vec::new(),
    };
    let mut devices: Vec<Value> = (args.endpoints.iter())
        .map(|endpoint| json!({"endpoint": endpoint, "product": args.product}))
        .collect();
    devices.extend(listed.iter().map(|entry| entry.to_json(&args.product)));
    if devices.is_empty() {
        return Err(CommandError::Arguments("the list is empty".to_owned()));
    }
    let mut total = Summary::default();
    let others = args.endpoints.len();
    for (number, batch) in devices.chunks(BATCH).enumerate() {
        let sent = Sent {
            list: &listed,
            before: number * BATCH,
            others,
        };
        let answer = client
            .post("/v1/devices", &json!({"devices": batch}))
            .map_err(|mut error| {
                if let CommandError::Refused(problem) = &mut error {
                    sent.by_line(problem);
                }
                error
            })?;
        let mut added: Summary = client.view(&answer)?;
        total.added += added.added;
        total.unchanged += added.unchanged;
        for refused in &mut added.refused {
            if let Some((line, _)) = sent.line_of(&refused.field) {
                refused.detail = format!("line {line} of the list: {}", refused.detail);
            }
        }
        total.refused.extend(added.refused);
    }
    total.tell(args.result.format, out)?;
    if total.added > 0 {
        remark_unknown_products(&client, &devices)?;
    }
    Ok(ExitCode::from(u8::from(!total.refused.is_empty())))
}

/// Products that are written like one that packages are for may be meant to be that.
fn remark_unknown_products(client: &Client, devices: &[Value]) -> Result<(), CommandError> {
    let given: BTreeSet<&str> = (devices.iter())
        .filter_map(|device| device["product"].as_str())
        .collect();
    let known = similar::products(client)?;
    for product in given
        .into_iter()
        .filter(|product| !known.contains(*product))
    {
        let alike = similar::similar(product, known.iter().map(String::as_str));
        if !alike.is_empty() {
            let known = known.iter().map(String::as_str);
            output::remark(&similar::unknown(product, known));
        }
    }
    Ok(())
}

fn list(args: &ListArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.list.result.api)?;
    let table = Table {
        headings: [
            "ENDPOINT",
            "PRODUCT",
            "REGISTERED",
            "VERSION",
            "CELL",
            "UPGRADE",
            "HEARD",
        ],
        row: |view: DeviceView| {
            [
                view.endpoint,
                view.product,
                if view.registered { "yes" } else { "no" }.to_owned(),
                or_dash(view.version),
                or_dash(view.coverage.and_then(|coverage| coverage.cell_id)),
                or_dash(view.upgrade_id),
                heard(view.last_heard_at, view.last_heard_is_stored),
            ]
        },
    };
    let query = args.choice.query();
    let found = table.list(&args.list, ("/v1/devices", &query), &client, out)?;
    if (found, args.list.result.format) == (0, Format::Text) {
        args.choice.remark_unknown_product(&client)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn count(args: &CountArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.result.api)?;
    let answer = client.get("/v1/devices/count", &args.choice.query())?;
    let view: CountView = client.view(&answer)?;
    match args.result.format {
        Format::Json => output::json(out, &answer)?,
        Format::Text => writeln!(out, "{}", output::counted(view.count, "device"))?,
    }
    if (view.count, args.result.format) == (0, Format::Text) {
        args.choice.remark_unknown_product(&client)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn remove(args: &RemoveArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.api)?;
    for endpoint in &args.endpoints {
        client.delete(&client::device_path(endpoint))?;
        writeln!(out, "device {endpoint} removed")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// When a device was heard last.
fn heard(at: Option<String>, is_stored: bool) -> String {
    match at {
        Some(at) if is_stored => format!("{at} (stored)"),
        at => or_dash(at),
    }
}
