mod described;
pub(super) mod list_file;
mod set;
mod show;
mod unknown;

use std::{collections::BTreeSet, io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};

use described::Described;
use list_file::Sent;

use super::{
    client::{self, ApiArgs, Client, CommandError},
    list::{self, ResultArgs, Table},
    output::{self, Format, or_dash},
    similar,
};

/// Devices that the API takes in one request.
const BATCH: usize = 10_000;
/// Bytes of a request, less than the API takes.
const BATCH_BYTES: usize = 3_500_000;

/// `cellwise device`.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Add devices. One that is there already, of the same product, is no error: it gets the attributes that are given.
    Add(AddArgs),
    /// Change the attributes and tags of devices. An attribute that is given as '' is taken away.
    Set(set::SetArgs),
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
    /// identity and key, model, hardware, site, `time_zone`, and tag.KEY for each tag; of devices that speak MQTT style (iotda,
    /// thingspanel or quecthing) with secret, or with token and password. Empty lines and lines that begin with # are
    /// skipped, an empty field says nothing. A device that is there already gets the key and the attributes.
    #[arg(long)]
    file: Option<PathBuf>,
    #[command(flatten)]
    described: Described,
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
    updated: usize,
    keys_set: usize,
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
                    "added": self.added, "unchanged": self.unchanged, "updated": self.updated,
                    "keys_set": self.keys_set, "refused": refused,
                });
                output::json(out, &summary)?;
            }
            Format::Text => {
                for refused in &self.refused {
                    output::remark(&refused.detail);
                }
                write!(out, "{} added", self.added)?;
                for (count, what) in [(self.updated, "changed"), (self.keys_set, "given a key")] {
                    if count > 0 {
                        write!(out, ", {count} there already and {what}")?;
                    }
                }
                let (unchanged, refused) = (self.unchanged, self.refused.len());
                writeln!(out, ", {unchanged} there already, {refused} refused")?;
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
            Self::Set(args) => set::run(&args, out),
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
    let others = args.endpoints.len();
    let count = others + listed.len();
    if count == 0 {
        return Err(CommandError::Arguments("the list is empty".to_owned()));
    }
    let named = args.endpoints.iter().map(|endpoint| {
        let mut device = json!({"endpoint": endpoint, "product": args.product});
        args.described.add_to(&mut device);
        device
    });
    let listed_devices = (listed.iter()).map(|entry| entry.to_json(&args.product, &args.described));
    let mut devices = named.chain(listed_devices).peekable();
    let bar = progress(count);
    let mut total = Summary::default();
    let mut products = BTreeSet::new();
    let mut before = 0;
    while devices.peek().is_some() {
        let batch = next_batch(&mut devices);
        let given = batch.iter().filter_map(|device| device["product"].as_str());
        products.extend(given.map(str::to_owned));
        let sent = Sent {
            list: &listed,
            before,
            others,
        };
        before += batch.len();
        total
            .take(&client, &batch, sent)
            .inspect_err(|_| bar.finish_and_clear())?;
        bar.set_position(before as u64);
    }
    bar.finish_and_clear();
    total.tell(args.result.format, out)?;
    if total.added > 0 {
        remark_unknown_products(&client, &products)?;
    }
    Ok(ExitCode::from(u8::from(!total.refused.is_empty())))
}

/// Shows on standard error how many devices were sent; not for a few, nor where standard error is no terminal.
fn progress(devices: usize) -> ProgressBar {
    if devices <= BATCH {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} devices, {eta} left");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(devices as u64).with_style(style)
}

/// As many devices as a request may have.
fn next_batch(devices: &mut std::iter::Peekable<impl Iterator<Item = Value>>) -> Vec<Value> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while let Some(device) = devices.next_if(|device| {
        bytes += device.to_string().len() + 1;
        batch.is_empty() || (bytes <= BATCH_BYTES && batch.len() < BATCH)
    }) {
        batch.push(device);
    }
    batch
}

impl Summary {
    /// Sends devices, and adds what became of them.
    fn take(
        &mut self,
        client: &Client,
        batch: &[Value],
        sent: Sent<'_>,
    ) -> Result<(), CommandError> {
        let answer = client
            .post("/v1/devices", &json!({"devices": batch}))
            .map_err(|mut error| {
                if let CommandError::Refused(problem) = &mut error {
                    sent.by_line(problem);
                }
                error
            })?;
        let mut added: Self = client.view(&answer)?;
        self.added += added.added;
        self.unchanged += added.unchanged;
        self.updated += added.updated;
        self.keys_set += added.keys_set;
        for refused in &mut added.refused {
            if let Some((line, _)) = sent.line_of(&refused.field) {
                refused.detail = format!("line {line} of the list: {}", refused.detail);
            }
        }
        self.refused.extend(added.refused);
        Ok(())
    }
}

/// Products that are written like one that packages are for may be meant to be that.
fn remark_unknown_products(client: &Client, given: &BTreeSet<String>) -> Result<(), CommandError> {
    let known = similar::products(client)?;
    for product in given.iter().filter(|product| !known.contains(*product)) {
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
