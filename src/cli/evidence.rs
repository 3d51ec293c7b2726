use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;

use super::{
    client::{Client, CommandError},
    list::{ListArgs, ResultArgs, Table},
    output::{self, Format, counted, or_dash},
};
use crate::{api::archive, signing::PublicKey};

/// `cellwise evidence`.
#[derive(Debug, Subcommand)]
pub enum EvidenceCommand {
    /// List whom a vulnerability concerns, who was reached, and who was not and why.
    List(ListEvidenceArgs),
    /// Count them.
    Count(CountArgs),
    /// Save all of it as a signed file.
    Export(ExportArgs),
    /// Verify a signed file. No server is asked.
    Verify(VerifyArgs),
}

/// `cellwise evidence list`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct ListEvidenceArgs {
    /// The vulnerability, such as CVE-2026-12345.
    #[arg(long)]
    cve: String,
    /// Only devices to which it is this.
    #[arg(long, value_enum)]
    standing: Option<StandingArg>,
    #[command(flatten)]
    list: ListArgs<100>,
}

/// `cellwise evidence count`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct CountArgs {
    /// The vulnerability, such as CVE-2026-12345.
    #[arg(long)]
    cve: String,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise evidence export`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct ExportArgs {
    /// The vulnerability, such as CVE-2026-12345.
    #[arg(long)]
    cve: String,
    /// The form of the evidence in the file.
    #[arg(long, value_enum, default_value_t)]
    format: EvidenceFormat,
    /// The file, a tar archive, which must not be there yet; CVE-….evidence.tar when not given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    api: super::client::ApiArgs,
}

/// `cellwise evidence verify`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct VerifyArgs {
    /// The file.
    file: PathBuf,
    /// The carrier's public key in PEM, as it was got from the carrier: the one in the file proves nothing.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StandingArg {
    Mended,
    Affected,
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum EvidenceFormat {
    #[default]
    Csv,
    Json,
}

#[derive(Debug, Deserialize)]
struct DeviceView {
    endpoint: String,
    product: String,
    version: Option<String>,
    standing: String,
    why: String,
    exclusion_reason: Option<String>,
    reached: Option<ReachedView>,
    latest: Option<LatestView>,
}

#[derive(Debug, Deserialize)]
struct ReachedView {
    at: String,
    task_id: i64,
}

#[derive(Debug, Deserialize)]
struct LatestView {
    reason: Option<String>,
    task_id: i64,
}

#[derive(Debug, Deserialize)]
struct CountView {
    counts: Counts,
}

#[derive(Debug, Deserialize)]
struct Counts {
    devices: u64,
    mended: u64,
    affected: u64,
    unknown: u64,
    why: BTreeMap<String, u64>,
}

impl EvidenceCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::List(args) => list(&args, out),
            Self::Count(args) => count(&args, out),
            Self::Export(args) => export(&args, out),
            Self::Verify(args) => verify(&args, out),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn list(args: &ListEvidenceArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.list.result.api)?;
    let mut query = vec![("cve", args.cve.clone())];
    query.extend(args.standing.map(|standing| {
        let standing = match standing {
            StandingArg::Mended => "mended",
            StandingArg::Affected => "affected",
            StandingArg::Unknown => "unknown",
        };
        ("standing", standing.to_owned())
    }));
    let table = Table {
        headings: [
            "ENDPOINT", "PRODUCT", "VERSION", "STANDING", "WHY", "REACHED", "TASK", "REASON",
        ],
        row: |view: DeviceView| {
            let latest = view.latest.as_ref();
            let task = match &view.reached {
                Some(reached) => Some(reached.task_id),
                None => latest.map(|latest| latest.task_id),
            };
            let reason = (view.exclusion_reason).or_else(|| latest?.reason.clone());
            [
                view.endpoint,
                view.product,
                or_dash(view.version),
                view.standing,
                view.why,
                or_dash(view.reached.map(|reached| reached.at)),
                or_dash(task),
                or_dash(reason),
            ]
        },
    };
    table.list(&args.list, ("/v1/evidence", &query), &client, out)?;
    Ok(())
}

fn count(args: &CountArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let query = [("cve", args.cve.clone())];
    let counted_devices = client.get("/v1/evidence/count", &query)?;
    if args.result.format == Format::Json {
        output::json(out, &counted_devices)?;
        return Ok(());
    }
    let CountView { counts } = client.view(&counted_devices)?;
    writeln!(
        out,
        "{} of {}: {} mended, {} affected, {} unknown",
        args.cve,
        counted(counts.devices, "device"),
        counts.mended,
        counts.affected,
        counts.unknown
    )?;
    for (why, count) in counts.why {
        writeln!(out, "  {why}: {count}")?;
    }
    Ok(())
}

fn export(args: &ExportArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    let named = PathBuf::from(format!("{}.evidence.tar", args.cve));
    let path = args.out.as_ref().unwrap_or(&named);
    let mut file = File::create_new(path).map_err(unusable(path))?;
    let format = match args.format {
        EvidenceFormat::Csv => "csv",
        EvidenceFormat::Json => "json",
    };
    let query = [("cve", args.cve.clone()), ("format", format.to_owned())];
    let saved = client.download("/v1/evidence/export", &query, &mut file);
    let saved = saved.and_then(|()| Ok(file.sync_all()?));
    if saved.is_err() {
        // half of it is worth nothing; what cannot be removed is told by its own error
        let _ = fs::remove_file(path);
    }
    saved?;
    writeln!(out, "saved as {}", path.display())?;
    Ok(())
}

fn verify(args: &VerifyArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let pem = fs::read_to_string(&args.key).map_err(unusable(&args.key))?;
    let key =
        PublicKey::from_pem(&pem).map_err(|error| unusable(&args.key)(io::Error::other(error)))?;
    let file = File::open(&args.file).map_err(unusable(&args.file))?;
    let manifest = archive::verify(BufReader::new(file), &key).map_err(|error| {
        CommandError::Arguments(format!("{}: not verified: {error}", args.file.display()))
    })?;
    let [devices, mended, affected, unknown] = manifest.numbers();
    writeln!(
        out,
        "verified: {} of {}, made {}, signed by {}",
        manifest.file, manifest.cve, manifest.made_at, manifest.key
    )?;
    let devices = counted(devices, "device");
    writeln!(
        out,
        "{devices}: {mended} mended, {affected} affected, {unknown} unknown"
    )?;
    Ok(())
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> CommandError {
    move |source| CommandError::File {
        path: path.to_owned(),
        source,
    }
}
