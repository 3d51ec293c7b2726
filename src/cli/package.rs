use std::{fs::File, io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    client::{ApiArgs, Client, CommandError},
    output::{self, Format, counted},
    similar,
};

/// `cellwise package`.
#[derive(Debug, Subcommand)]
pub enum PackageCommand {
    /// Upload a package file.
    Upload(UploadArgs),
    /// List packages, newest first.
    List(ListArgs),
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
    /// The version that devices run afterwards: 1 to 16 printable ASCII characters.
    #[arg(long)]
    version: String,
    /// The product whose devices it is for.
    #[arg(long, default_value = "default")]
    product: String,
    /// Bytes of a segment, 32 to 500 but not 253; 500 when not given.
    #[arg(long, value_name = "BYTES")]
    segment_size: Option<u32>,
    /// The form of the result.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise package list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// List at most so many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// The form of the result.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    api: ApiArgs,
}

/// What is shown of a package.
#[derive(Debug, Deserialize)]
pub(super) struct PackageView {
    pub(super) id: i64,
    pub(super) product: String,
    pub(super) version: String,
    size_bytes: u64,
    segment_size: u16,
    segment_count: u16,
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
            Self::Delete(args) => delete(&args, out),
        }
    }
}

fn upload(args: &UploadArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.api)?;
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
    match args.format {
        Format::Json => output::json(out, &package)?,
        Format::Text => {
            let view: PackageView = client.view(&package)?;
            writeln!(
                out,
                "package {} {}: {} {}, {} in {} of {}",
                view.id,
                if created {
                    "uploaded"
                } else {
                    "was there already"
                },
                view.product,
                view.version,
                counted(view.size_bytes, "byte"),
                counted(view.segment_count.into(), "segment"),
                view.segment_size,
            )?;
            let uploaded: UploadedView = client.view(&package)?;
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
                None => first_of_product(&client, &args.product, out)?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
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

fn list(args: &ListArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.api)?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let (packages, more) = client.list("/v1/packages", &[], limit)?;
    match args.format {
        Format::Json => output::json(out, &json!({"items": packages, "more": more}))?,
        Format::Text => {
            let rows = packages
                .iter()
                .map(|package| row(&client, package))
                .collect::<Result<Vec<_>, _>>()?;
            let headings = [
                "ID", "PRODUCT", "VERSION", "BYTES", "SEGMENTS", "UPLOADED", "STATE",
            ];
            output::table(out, headings, &rows)?;
            if more {
                output::remark("there are more; give --limit");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn delete(args: &DeleteArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.api)?;
    client.delete(&format!("/v1/packages/{}", args.id))?;
    writeln!(out, "package {} deleted", args.id)?;
    Ok(ExitCode::SUCCESS)
}

fn row(client: &Client, package: &Value) -> Result<[String; 7], CommandError> {
    let view: PackageView = client.view(package)?;
    Ok([
        view.id.to_string(),
        view.product,
        view.version,
        view.size_bytes.to_string(),
        format!("{} of {}", view.segment_count, view.segment_size),
        view.created_at,
        view.superseded_at
            .map_or("current", |_| "superseded")
            .to_owned(),
    ])
}
