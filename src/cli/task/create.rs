//! `cellwise task create`.

use std::{collections::BTreeSet, io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::steer::{self, BudgetArgs, ShareArgs};
use crate::cli::{
    client::{Client, CommandError},
    device::list_file,
    forecast,
    list::ResultArgs,
    output::{self, Format, counted},
    package::PackageView,
    similar,
    watch::{self, TaskView},
};

/// `cellwise task create`.
#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
pub struct CreateArgs {
    #[command(flatten)]
    package: PackageChoice,
    #[command(flatten)]
    devices: DeviceChoice,
    #[command(flatten)]
    exclude: ExcludeArgs,
    /// Devices that come to fit join while the task runs; it ends when it is stopped, or at `not_after` of --rules. Not with
    /// --devices.
    #[arg(long, conflicts_with_all = ["devices", "devices_file"])]
    joining: bool,
    /// A name to recognise it by; product and version when not given.
    #[arg(long)]
    name: Option<String>,
    /// When it starts, such as 2027-03-01T02:00:00Z; at once when not given.
    #[arg(long, value_name = "TIME")]
    start_at: Option<String>,
    /// Further attempts after a failure, 0 to 100.
    #[arg(long, default_value_t = 0, value_name = "N")]
    retry_attempts: u32,
    /// Pause before each further attempt, seconds.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    retry_interval_s: u32,
    /// Only failures for this reason are tried again, such as `device_not_heard`; may be given several times.
    #[arg(
        long = "retry-reason",
        value_name = "REASON",
        requires = "retry_attempts"
    )]
    retry_reasons: Vec<String>,
    /// A device may be given a version below the one that it runs; otherwise it is skipped.
    #[arg(long)]
    allow_downgrade: bool,
    /// A file that says how the task is run, TOML or JSON: phases, stratified, abort, rate, windows, `not_after`, approval, membership,
    /// packages, steps, `allow_downgrade`, conditions, budget, priority, weight (docs/tasks.md).
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    #[command(flatten)]
    share: ShareArgs,
    #[command(flatten)]
    budget: BudgetArgs,
    /// Where the outcomes of this task are posted.
    #[arg(long, value_name = "URL", requires = "webhook_secret")]
    webhook: Option<String>,
    /// Signs what is posted to --webhook: whsec_ and base64. Better given by the environment: others on this
    /// machine see arguments.
    #[arg(
        long,
        env = "CELLWISE_WEBHOOK_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    webhook_secret: Option<String>,
    /// Go on and show the progress until the task has ended; the exit code is 0 if every device succeeded,
    /// else 1.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    result: ResultArgs,
}

/// With what, unless the file of --rules has packages.
#[derive(Debug, Args)]
#[group(required = false, multiple = false)]
struct PackageChoice {
    /// Number of the package.
    #[arg(long, value_name = "ID")]
    package: Option<i64>,
    /// Version of the package, if only one product has it (or --product says which).
    #[arg(long)]
    version: Option<String>,
}

/// Whom.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct DeviceChoice {
    /// These devices: endpoint names with commas between them.
    #[arg(long, value_delimiter = ',', value_name = "ENDPOINTS")]
    devices: Option<Vec<String>>,
    /// The devices in a file, or - for standard input: as for `cellwise device add --file`, of which the names count.
    #[arg(long, value_name = "FILE")]
    devices_file: Option<PathBuf>,
    /// All devices of this product.
    #[arg(long)]
    product: Option<String>,
    /// All devices of the package's product.
    #[arg(long)]
    all: bool,
    /// The devices of the package's product that this lets through, such as 'site==north*;version<V2':
    /// docs/fleet-and-filters.md has the language.
    #[arg(long, value_name = "RSQL")]
    filter: Option<String>,
    /// The devices of the package's product that belong to the group of this number.
    #[arg(long, value_name = "ID")]
    group: Option<i64>,
}

/// Whom not, of these.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_field_names,
    reason = "the options are named by the fields"
)]
struct ExcludeArgs {
    /// Leave these devices out: endpoint names with commas between them.
    #[arg(long, value_delimiter = ',', value_name = "ENDPOINTS")]
    exclude_devices: Option<Vec<String>>,
    /// Leave the devices out that this lets through, such as 'site==hospital*'.
    #[arg(long, value_name = "RSQL")]
    exclude_filter: Option<String>,
    /// Leave the devices out that belong to the group of this number.
    #[arg(long, value_name = "ID")]
    exclude_group: Option<i64>,
}

impl ExcludeArgs {
    fn to_json(&self) -> Option<Value> {
        let mut exclude = Map::new();
        exclude.extend((self.exclude_devices.as_ref()).map(|it| ("devices".to_owned(), json!(it))));
        exclude.extend((self.exclude_filter.as_ref()).map(|it| ("filter".to_owned(), json!(it))));
        exclude.extend((self.exclude_group).map(|it| ("group".to_owned(), json!(it))));
        (!exclude.is_empty()).then_some(Value::Object(exclude))
    }
}

/// What other tasks do with the same package to the same devices.
#[derive(Debug, Deserialize)]
struct CreatedView {
    excluded: u64,
    left_out: u64,
    overlaps: Option<OverlapsView>,
    not_served: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct OverlapsView {
    devices: u64,
    tasks: Vec<OverlapView>,
}

#[derive(Debug, Deserialize)]
struct OverlapView {
    id: i64,
    name: String,
    devices: u64,
}

/// What a file of rules may say.
const RULES: [&str; 16] = [
    "phases",
    "stratified",
    "abort",
    "rate",
    "windows",
    "not_after",
    "approval",
    "confirmation",
    "membership",
    "packages",
    "steps",
    "allow_downgrade",
    "conditions",
    "budget",
    "priority",
    "weight",
];
/// Other tasks that are named.
const OVERLAPS: usize = 5;

impl OverlapsView {
    fn told(&self) -> String {
        let tasks: Vec<String> = (self.tasks.iter().take(OVERLAPS))
            .map(|task| format!("task {} ({}) has {}", task.id, task.name, task.devices))
            .collect();
        let more = match self.tasks.len().saturating_sub(OVERLAPS) {
            0 => String::new(),
            more => format!(" and {more} more tasks have some"),
        };
        let are = if self.devices == 1 { "is" } else { "are" };
        format!(
            "{} {are} to get this package by another task too: {}{more}",
            counted(self.devices, "device"),
            tasks.join(", "),
        )
    }
}

/// `cellwise forecast`: what would become of such a task.
pub(in crate::cli) fn forecast(
    args: CreateArgs,
    out: &mut dyn Write,
) -> Result<ExitCode, CommandError> {
    if args.watch {
        let error = "a forecast is waited for; leave --watch out";
        return Err(CommandError::Arguments(error.to_owned()));
    }
    let client = Client::new(&args.result.api)?;
    let format = args.result.format;
    let body = to_body(&client, args)?;
    let asked = client.post("/v1/forecasts", &body)?;
    forecast::follow(&client, asked, format, out)
}

pub(super) fn run(args: CreateArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.result.api)?;
    let (format, watched) = (args.result.format, args.watch);
    let body = to_body(&client, args)?;
    let task = client.post("/v1/tasks", &body)?;
    let view: TaskView = client.view(&task)?;
    match format {
        Format::Json => output::json(out, &task)?,
        Format::Text => writeln!(
            out,
            "task {} created, {}: {} to {}",
            view.id,
            view.state,
            counted(view.total, "device"),
            view.version,
        )?,
    }
    let created: CreatedView = client.view(&task)?;
    if format == Format::Text && created.left_out > 0 {
        let left_out = counted(created.left_out, "device");
        let are = if created.left_out == 1 { "is" } else { "are" };
        writeln!(out, "{left_out} {are} left out, as this task wants")?;
    }
    if format == Format::Text && created.excluded > 0 {
        let excluded = counted(created.excluded, "device");
        let are = if created.excluded == 1 { "is" } else { "are" };
        writeln!(
            out,
            "{excluded} {are} left out: excluded from upgrades (cellwise exclusion list)"
        )?;
    }
    if let (Format::Text, Some(count @ 1..)) = (format, created.not_served) {
        writeln!(
            out,
            "{} cannot be served any of its packages, by what they speak, and will fail for not_served",
            counted(count, "device")
        )?;
    }
    if let (Format::Text, Some(overlaps)) = (format, created.overlaps)
        && overlaps.devices > 0
    {
        writeln!(out, "{}", overlaps.told())?;
    }
    if watched {
        return watch::watch(&client, view.id, format, out);
    }
    Ok(ExitCode::SUCCESS)
}

/// The task, as the API has it.
fn to_body(client: &Client, args: CreateArgs) -> Result<Value, CommandError> {
    let rules = args.rules.as_ref().map(steer::read_rules).transpose()?;
    let several = rules.as_ref().and_then(|rules| rules.get("packages"));
    let package = args
        .package
        .view(client, several, args.devices.product.as_deref())?;
    let name = args
        .name
        .unwrap_or_else(|| format!("{} {}", package.product, package.version));
    let mut body = match several {
        Some(_) => json!({"name": name}),
        None => json!({"name": name, "package_id": package.id}),
    };
    let (field, devices) = args.devices.to_json()?;
    if let Some(body) = body.as_object_mut() {
        body.insert(field.to_owned(), devices);
        body.extend((args.exclude.to_json()).map(|exclude| ("exclude".to_owned(), exclude)));
        body.extend((args.joining).then(|| ("membership".to_owned(), json!("joining"))));
        body.extend(args.start_at.map(|at| ("start_at".to_owned(), json!(at))));
        body.extend((args.webhook).map(|url| {
            let webhook = json!({"url": url, "secret": args.webhook_secret});
            ("webhook".to_owned(), webhook)
        }));
        for (field, value) in rules.into_iter().flatten() {
            if !RULES.contains(&&*field) {
                let known = RULES.join(", ");
                let error = format!("a file of rules has no {field:?}; there are: {known}");
                return Err(CommandError::Arguments(error));
            }
            body.insert(field, value);
        }
        if args.allow_downgrade {
            body.insert("allow_downgrade".to_owned(), json!(true));
        }
        args.share.add_to(body);
        args.budget.add_to(body);
        if args.retry_attempts > 0 {
            let reasons = (!args.retry_reasons.is_empty()).then_some(args.retry_reasons);
            let retry = json!({
                "attempts": args.retry_attempts, "interval_seconds": args.retry_interval_s, "reasons": reasons,
            });
            body.insert("retry".to_owned(), retry);
        }
    }
    Ok(body)
}

impl PackageChoice {
    /// The package; of `several` the first.
    fn view(
        &self,
        client: &Client,
        several: Option<&Value>,
        product: Option<&str>,
    ) -> Result<PackageView, CommandError> {
        let by_id = |id: &Value| client.view(&client.get(&format!("/v1/packages/{id}"), &[])?);
        let wrong = |what: &str| Err(CommandError::Arguments(what.to_owned()));
        match (self.package, &self.version, several) {
            (None, None, Some(several)) => match several.pointer("/0/package_id") {
                Some(first) if first.is_i64() => by_id(first),
                _ => wrong("packages in the file of --rules need a package_id each"),
            },
            (_, _, Some(_)) => {
                wrong("the file of --rules has packages; leave out --package and --version")
            }
            (Some(id), ..) => by_id(&json!(id)),
            (None, Some(version), None) => find_package(client, version, product),
            (None, None, None) => {
                wrong("give --package or --version, or packages in a file of --rules")
            }
        }
    }
}

impl DeviceChoice {
    /// The field that says it, and its value.
    fn to_json(&self) -> Result<(&'static str, Value), CommandError> {
        if let Some(filter) = &self.filter {
            return Ok(("filter", json!(filter)));
        }
        if let Some(group) = self.group {
            return Ok(("group", json!(group)));
        }
        Ok(match (&self.devices, &self.devices_file, &self.product) {
            (Some(devices), ..) => ("devices", json!(devices)),
            (None, Some(path), _) => {
                let listed = list_file::read(path)?;
                if listed.is_empty() {
                    return Err(CommandError::Arguments("the list is empty".to_owned()));
                }
                let names = listed.into_iter().map(|entry| entry.endpoint);
                ("devices", names.collect())
            }
            (None, None, Some(product)) => ("product", json!(product)),
            (None, None, None) => ("all", json!(self.all)),
        })
    }
}

fn find_package(
    client: &Client,
    version: &str,
    product: Option<&str>,
) -> Result<PackageView, CommandError> {
    let (packages, _) = client.list("/v1/packages", &[], usize::MAX)?;
    let mut found = packages
        .iter()
        .map(|package| client.view(package))
        .collect::<Result<Vec<PackageView>, _>>()?;
    if let Some(product) = product {
        let products: BTreeSet<&str> = found.iter().map(|it| it.product.as_str()).collect();
        if !products.contains(product) {
            let unknown = similar::unknown(product, products);
            return Err(CommandError::Arguments(unknown));
        }
    }
    found.retain(|package| {
        package.version == version
            && package.superseded_at.is_none()
            && product.is_none_or(|product| package.product == product)
    });
    let wanted = product.map_or_else(String::new, |product| format!(" for product {product}"));
    match (found.pop(), found.len()) {
        (Some(package), 0) => Ok(package),
        (None, _) => Err(CommandError::Arguments(format!(
            "there is no package of version {version}{wanted}; upload it with: \
             cellwise package upload FILE --version {version}"
        ))),
        (Some(last), _) => {
            found.push(last);
            let ids: Vec<String> = found
                .iter()
                .map(|package| match &package.component {
                    None => format!("--package {} ({})", package.id, package.product),
                    Some(name) => {
                        format!("--package {} ({}, {name})", package.id, package.product)
                    }
                })
                .collect();
            Err(CommandError::Arguments(format!(
                "several packages have version {version}; give {}",
                ids.join(" or ")
            )))
        }
    }
}
