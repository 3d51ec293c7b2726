//! What is kept beside a package's content, on the command line.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cli::{
    client::{ApiArgs, Client, CommandError},
    list::ResultArgs,
    output::{self, Format, counted, or_dash},
};

/// Longest file with a signature or notes, bytes: what is longer is another file.
const MAX_SMALL: u64 = 64 * 1024;

/// What may be said of a package.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct PapersArgs {
    /// Its bill of materials: `CycloneDX` or SPDX, as JSON.
    #[arg(long, value_name = "FILE")]
    sbom: Option<PathBuf>,
    /// A vulnerability that its version mends, such as CVE-2026-12345; give it several times, or commas between them.
    #[arg(long = "cve", value_name = "CVE", value_delimiter = ',')]
    cves: Vec<String>,
    /// The last day on which its version is supported, such as 2031-12-31.
    #[arg(long, value_name = "DAY")]
    support_ends: Option<String>,
    /// A text with what is new in it.
    #[arg(long, value_name = "FILE")]
    release_notes: Option<PathBuf>,
}

/// `cellwise package show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Number of the package.
    id: i64,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise package set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Number of the package.
    id: i64,
    #[command(flatten)]
    papers: PapersArgs,
    /// What to take away.
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    clear: Vec<Paper>,
    #[command(flatten)]
    result: ResultArgs,
}

/// What can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Paper {
    Sbom,
    Cves,
    SupportEnds,
    ReleaseNotes,
}

/// `cellwise package sbom`.
#[derive(Debug, Args)]
pub struct SbomArgs {
    /// Number of the package.
    id: i64,
    #[command(flatten)]
    api: ApiArgs,
}

/// What is said of a package, read from its files.
pub(super) struct ToSay {
    sbom: Option<(PathBuf, u64, File)>,
    cves: Vec<String>,
    support_ends: Option<String>,
    release_notes: Option<String>,
}

impl PapersArgs {
    /// Reads the files: what cannot be read is told before anything is sent.
    pub(super) fn read(&self) -> Result<ToSay, CommandError> {
        let notes = self.release_notes.as_deref().map(|path| {
            let bytes = small(path)?;
            String::from_utf8(bytes)
                // files of Windows end their lines so
                .map(|text| text.replace("\r\n", "\n"))
                .map_err(|_| unreadable(path)(io::Error::other("it is not UTF-8")))
        });
        let sbom = self.sbom.as_deref().map(|path| {
            let file = File::open(path).map_err(unreadable(path))?;
            let len = file.metadata().map_err(unreadable(path))?.len();
            Ok::<_, CommandError>((path.to_owned(), len, file))
        });
        Ok(ToSay {
            sbom: sbom.transpose()?,
            cves: self.cves.clone(),
            support_ends: self.support_ends.clone(),
            release_notes: notes.transpose()?,
        })
    }
}

impl ToSay {
    /// What an upload says in its query.
    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        if !self.cves.is_empty() {
            query.push(("cves_mended", self.cves.join(",")));
        }
        query.extend(self.support_ends.clone().map(|day| ("support_ends", day)));
        query
    }

    /// What has to follow an upload: the notes, and the bill of materials. Returns the package as it is afterwards.
    pub(super) fn follow(self, client: &Client, uploaded: Value) -> Result<Value, CommandError> {
        let id = uploaded.get("id").and_then(Value::as_i64).unwrap_or(0);
        let mut change = Map::new();
        if let Some(notes) = self.release_notes {
            change.insert("release_notes".to_owned(), notes.into());
        }
        let after = send(client, id, &change, self.sbom).inspect_err(|_| {
            output::remark(&format!(
                "package {id} was uploaded, but not all is said of it: give the rest with cellwise package set {id}"
            ));
        })?;
        let mut package = uploaded;
        if let (Some(package), Some(Value::Object(after))) = (package.as_object_mut(), after) {
            package.extend(after);
        }
        Ok(package)
    }
}

/// Changes a package, and gives it a bill of materials. Returns the package, if anything was sent.
fn send(
    client: &Client,
    id: i64,
    change: &Map<String, Value>,
    sbom: Option<(PathBuf, u64, File)>,
) -> Result<Option<Value>, CommandError> {
    let mut package = None;
    if !change.is_empty() {
        let path = format!("/v1/packages/{id}");
        package = Some(client.patch(&path, &Value::Object(change.clone()))?);
    }
    if let Some((_, len, file)) = sbom {
        package = Some(client.put_json(&format!("/v1/packages/{id}/sbom"), len, file)?);
    }
    Ok(package)
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> CommandError {
    move |source| CommandError::File {
        path: path.to_owned(),
        source,
    }
}

fn small(path: &Path) -> Result<Vec<u8>, CommandError> {
    let len = fs::metadata(path).map_err(unreadable(path))?.len();
    if len > MAX_SMALL {
        let error = io::Error::other(format!("it has {len} bytes, more than {MAX_SMALL}"));
        return Err(unreadable(path)(error));
    }
    fs::read(path).map_err(unreadable(path))
}

/// A signature in base64, from a file that has it as it is or in base64.
pub(super) fn signature(path: &Path) -> Result<String, CommandError> {
    let bytes = small(path)?;
    let is_base64 = |byte: &u8| {
        byte.is_ascii_alphanumeric() || b"+/=-_".contains(byte) || byte.is_ascii_whitespace()
    };
    if !bytes.is_empty() && bytes.iter().all(is_base64) {
        let text = bytes.iter().filter(|byte| !byte.is_ascii_whitespace());
        return Ok(text.map(|byte| char::from(*byte)).collect());
    }
    Ok(STANDARD.encode(bytes))
}

#[derive(Debug, Deserialize)]
struct PackageDetail {
    id: i64,
    product: String,
    version: String,
    component: Option<String>,
    sha256: String,
    created_at: String,
    superseded_at: Option<String>,
    signature: Option<SignatureView>,
    sbom: Option<SbomView>,
    cves_mended: Vec<String>,
    support_ends: Option<String>,
    release_notes: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SignatureView {
    key: String,
    algorithm: String,
    verified_at: String,
    key_removed_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SbomView {
    format: String,
    spec_version: String,
    components: u64,
}

pub(super) fn show(args: &ShowArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.result.api)?;
    let package = client.get(&format!("/v1/packages/{}", args.id), &[])?;
    match args.result.format {
        Format::Json => output::json(out, &package)?,
        Format::Text => tell(&client.view(&package)?, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(package: &PackageDetail, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "package {}: {} {}, uploaded {}",
        package.id, package.product, package.version, package.created_at
    )?;
    if let Some(at) = &package.superseded_at {
        writeln!(out, "superseded {at}")?;
    }
    if let Some(name) = &package.component {
        writeln!(out, "component     {name}")?;
    }
    writeln!(out, "SHA-256       {}", package.sha256)?;
    match &package.signature {
        None => writeln!(out, "signature     none")?,
        Some(signature) => {
            writeln!(
                out,
                "signature     by key {} ({}), verified {}",
                signature.key, signature.algorithm, signature.verified_at
            )?;
            if let Some(at) = &signature.key_removed_at {
                writeln!(
                    out,
                    "              the key was removed {at}: no new task takes the package"
                )?;
            }
        }
    }
    let sbom = package.sbom.as_ref().map(|sbom| {
        let components = counted(sbom.components, "component");
        format!("{} {}, {components}", sbom.format, sbom.spec_version)
    });
    writeln!(out, "SBOM          {}", or_dash(sbom))?;
    let cves = package.cves_mended.join(", ");
    writeln!(
        out,
        "mends         {}",
        or_dash(Some(cves).filter(|text| !text.is_empty()))
    )?;
    writeln!(
        out,
        "support ends  {}",
        or_dash(package.support_ends.as_ref())
    )?;
    if let Some(notes) = &package.release_notes {
        writeln!(out, "\n{}", notes.trim_end())?;
    }
    Ok(())
}

pub(super) fn set(args: &SetArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.result.api)?;
    let say = args.papers.read()?;
    let mut change = Map::new();
    if !say.cves.is_empty() {
        change.insert("cves_mended".to_owned(), json!(say.cves));
    }
    if let Some(day) = say.support_ends {
        change.insert("support_ends".to_owned(), day.into());
    }
    if let Some(notes) = say.release_notes {
        change.insert("release_notes".to_owned(), notes.into());
    }
    for paper in &args.clear {
        let field = match paper {
            Paper::Sbom => continue,
            Paper::Cves => "cves_mended",
            Paper::SupportEnds => "support_ends",
            Paper::ReleaseNotes => "release_notes",
        };
        change.entry(field).or_insert(Value::Null);
    }
    let clears_sbom = args.clear.contains(&Paper::Sbom) && say.sbom.is_none();
    if change.is_empty() && say.sbom.is_none() && !clears_sbom {
        return Err(CommandError::Arguments(
            "nothing is to be changed; give --sbom, --cve, --support-ends, --release-notes or --clear".to_owned(),
        ));
    }
    if clears_sbom {
        client.delete(&format!("/v1/packages/{}/sbom", args.id))?;
    }
    let sent = send(&client, args.id, &change, say.sbom)?;
    let package = match sent {
        Some(package) => package,
        None => client.get(&format!("/v1/packages/{}", args.id), &[])?,
    };
    match args.result.format {
        Format::Json => output::json(out, &package)?,
        Format::Text => tell(&client.view(&package)?, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn sbom(args: &SbomArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.api)?;
    client.download(&format!("/v1/packages/{}/sbom", args.id), &[], out)?;
    Ok(ExitCode::SUCCESS)
}
