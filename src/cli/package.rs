use std::{fs::File, io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::Value;

mod papers;

use super::{
    client::{ApiArgs, Client, CommandError},
    list::{ListArgs, ResultArgs, Table},
    output::{self, Format, counted},
    similar,
};

/// `cellwise package`.
#[derive(Debug, Subcommand)]
pub enum PackageCommand {
    /// Upload a package file.
    Upload(UploadArgs),
    /// List packages, newest first.
    List(ListArgs<100>),
    /// Show a package, and what is kept beside it.
    Show(papers::ShowArgs),
    /// Change what is said of a package.
    Set(papers::SetArgs),
    /// Print the bill of materials of a package.
    Sbom(papers::SbomArgs),
    /// Delete a package that no unfinished task uses.
    Delete(DeleteArgs),
}

/// `cellwise package delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Number of the package.
    id: i64,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise package upload`.
#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
pub struct UploadArgs {
    /// The file.
    file: PathBuf,
    /// The version that devices run afterwards: 1 to 64 printable ASCII characters, 16 at most for devices that speak PCP.
    #[arg(long)]
    version: String,
    /// The product whose devices it is for.
    #[arg(long, default_value = "default")]
    product: String,
    /// The component of a device, or the software in it, that it is for: 1 to 64 characters. It is not served over PCP then.
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    /// Bytes of a segment, 32 to 500 but not 253; 500 when not given.
    #[arg(long, value_name = "BYTES")]
    segment_size: Option<u32>,
    /// A signature over exactly the bytes of the file by one of the product's keys: as it is, or in base64.
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    #[command(flatten)]
    papers: papers::PapersArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// What is shown of a package.
#[derive(Debug, Deserialize)]
pub(super) struct PackageView {
    pub(super) id: i64,
    pub(super) product: String,
    pub(super) version: String,
    pub(super) component: Option<String>,
    size_bytes: u64,
    segment_size: Option<u16>,
    segment_count: Option<u16>,
    created_at: String,
    pub(super) superseded_at: Option<String>,
}

/// What is shown of the package before one that was uploaded.
#[derive(Debug, Deserialize)]
struct UploadedView {
    supersedes: Option<EarlierView>,
}

#[derive(Debug, Deserialize)]
struct EarlierView {
    id: i64,
    version: String,
    created_at: String,
}

impl PackageCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::Upload(args) => upload(&args, out),
            Self::List(args) => list(&args, out),
            Self::Show(args) => papers::show(&args, out),
            Self::Set(args) => papers::set(&args, out),
            Self::Sbom(args) => papers::sbom(&args, out),
            Self::Delete(args) => delete(&args, out),
        }
    }
}

fn upload(args: &UploadArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.result.api)?;
    let unreadable = |source| CommandError::File {
        path: args.file.clone(),
        source,
    };
    let file = File::open(&args.file).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(std::io::Error::other("it is not a file")));
    }
    let len = metadata.len();
    let mut query = vec![
        ("product", args.product.clone()),
        ("version", args.version.clone()),
    ];
    query.extend(
        args.segment_size
            .map(|size| ("segment_size", size.to_string())),
    );
    query.extend((args.component.clone()).map(|name| ("component", name)));
    if let Some(path) = &args.signature {
        query.push(("signature", papers::signature(path)?));
    }
    let papers = args.papers.read()?;
    query.extend(papers.query());
    // hidden by itself when standard error is no terminal
    let bar = ProgressBar::new(len).with_style(
        ProgressStyle::with_template(
            "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let uploaded = client.upload("/v1/packages", &query, len, bar.wrap_read(file));
    bar.finish_and_clear();
    let (package, created) = uploaded?;
    let package = papers.follow(&client, package)?;
    match args.result.format {
        Format::Json => output::json(out, &package)?,
        Format::Text => tell_uploaded(&client, &package, created, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn tell_uploaded(
    client: &Client,
    package: &Value,
    created: bool,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let view: PackageView = client.view(package)?;
    writeln!(
        out,
        "package {} {}: {} {}{}, {} {}",
        view.id,
        if created {
            "uploaded"
        } else {
            "was there already"
        },
        view.product,
        view.version,
        (view.component.as_ref()).map_or_else(String::new, |name| format!(" for {name}")),
        counted(view.size_bytes, "byte"),
        match view.segment_count.zip(view.segment_size) {
            Some((count, size)) => format!("in {} of {size}", counted(count.into(), "segment")),
            None => "not over PCP".to_owned(),
        },
    )?;
    let uploaded: UploadedView = client.view(package)?;
    match uploaded.supersedes {
        Some(earlier) if earlier.version == view.version => writeln!(
            out,
            "it supersedes package {} of the same version, uploaded {}: new tasks take this one",
            earlier.id, earlier.created_at
        )?,
        Some(earlier) => writeln!(
            out,
            "the newest before it is version {} (package {}, uploaded {})",
            earlier.version, earlier.id, earlier.created_at
        )?,
        None => first_of_product(client, &view.product, out)?,
    }
    Ok(())
}

/// The first package of a product may be one of another, whose name was mistyped.
fn first_of_product(
    client: &Client,
    product: &str,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let mut known = similar::products(client)?;
    known.remove(product);
    let alike = similar::similar(product, known.iter().map(String::as_str));
    if !alike.is_empty() {
        writeln!(
            out,
            "it is the first of product {product}; did you mean {}?",
            alike.join(" or ")
        )?;
    }
    Ok(())
}

fn list(args: &ListArgs<100>, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.result.api)?;
    let table = Table {
        headings: [
            "ID",
            "PRODUCT",
            "VERSION",
            "COMPONENT",
            "BYTES",
            "SEGMENTS",
            "UPLOADED",
            "STATE",
        ],
        row: |view: PackageView| {
            let state = view.superseded_at.map_or("current", |_| "superseded");
            [
                view.id.to_string(),
                view.product,
                view.version,
                view.component.unwrap_or_else(|| "-".to_owned()),
                view.size_bytes.to_string(),
                match view.segment_count.zip(view.segment_size) {
                    Some((count, size)) => format!("{count} of {size}"),
                    None => "-".to_owned(),
                },
                view.created_at,
                state.to_owned(),
            ]
        },
    };
    table.list(args, ("/v1/packages", &[]), &client, out)?;
    Ok(ExitCode::SUCCESS)
}

fn delete(args: &DeleteArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.api)?;
    client.delete(&format!("/v1/packages/{}", args.id))?;
    writeln!(out, "package {} deleted", args.id)?;
    Ok(ExitCode::SUCCESS)
}
