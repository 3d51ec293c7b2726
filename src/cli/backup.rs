//! `cellwise backup` and `cellwise restore`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::output::{self, Format};
use crate::{
    clock::{SystemClock, UtcMillis},
    config,
    server::backup::{self, BackupError, LastBackup, Made, Progress},
};

/// Make a backup of a server's data, while it runs or not.
///
/// Runs on the server's machine, as the owner of its data directory. It does not stop or slow down the server.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// Directory for backups; this one gets a directory of its own there, named by the time: cellwise-20261129T211500Z
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// The server's data directory; when not given, the one that the settings name
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The server's settings file; `cellwise.toml` in this directory is read when there is one
    #[arg(long, env = "CELLWISE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Remove all other backups in that directory but the newest of so many, this one included, if no package was left out; also
    /// what ends in .incomplete and is older than a day
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: Option<u32>,
    /// Form of the result
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Put a backup into an empty data directory.
///
/// The whole backup is checked before anything is written. Run it as the user of the server, then start the server.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// The backup: a directory that `cellwise backup` has made
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// Data directory to put it into: empty, or not there yet
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Form of the result
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Makes a backup. Exit codes: 0 done, 1 not, or packages were left out because their files are missing or damaged.
pub fn back_up(args: &BackupArgs) -> ExitCode {
    finish(try_back_up(args))
}

/// Restores a backup. Exit codes: 0 done, 1 not.
pub fn restore(args: &RestoreArgs) -> ExitCode {
    finish(try_restore(args))
}

fn finish(done: Result<bool, String>) -> ExitCode {
    match done {
        Ok(whole) => ExitCode::from(u8::from(!whole)),
        Err(problem) => super::print(Err(problem)),
    }
}

fn try_back_up(args: &BackupArgs) -> Result<bool, String> {
    let data_dir = if let Some(dir) = &args.data_dir {
        dir.clone()
    } else {
        let found = config::load(args.config.as_deref(), config::environment());
        found.map_err(|error| error.to_string())?.data_dir
    };
    let now = SystemClock::start().now().utc;
    let bar = Bar::new();
    let made = run(backup::back_up(&data_dir, &args.to, now, &mut |progress| {
        bar.show(progress);
    }));
    bar.0.finish_and_clear();
    let made = made?;
    let manifest = &made.manifest;
    if manifest.left_out.is_empty() {
        note(&data_dir, &made, now);
    }
    // one that is not whole does not stand for older ones that are
    let removed = match args.keep.filter(|_| manifest.left_out.is_empty()) {
        Some(keep) => {
            let keep = usize::try_from(keep).unwrap_or(usize::MAX);
            backup::prune(&args.to, &made.path, keep, now)
        }
        None => Ok(0),
    };
    let removed = removed.map_err(|error| error.to_string())?;
    let (packages, bytes) = (manifest.packages(), manifest.size_bytes());
    let told = match args.format {
        Format::Json => output::json(
            &mut io::stdout(),
            &json!({"path": made.path, "packages": packages, "size_bytes": bytes, "removed": removed, "left_out": manifest.left_out}),
        ),
        Format::Text => writeln!(
            io::stdout(),
            "{}: the database and {packages} packages, {}, checked",
            made.path.display(),
            mib(bytes)
        ),
    };
    told.map_err(|error| error.to_string())?;
    for name in &manifest.left_out {
        let _ = writeln!(
            io::stderr(),
            "package file {name} is missing or damaged, and not in the backup; upload that package again"
        );
    }
    Ok(manifest.left_out.is_empty())
}

/// Lets the server know how old its newest backup is.
fn note(data_dir: &Path, made: &Made, now: UtcMillis) {
    let last = LastBackup {
        at: now,
        path: std::path::absolute(&made.path).unwrap_or_else(|_| made.path.clone()),
    };
    if let Err(error) = last.note(data_dir) {
        let _ = writeln!(
            io::stderr(),
            "the backup is whole, but the server does not learn of it: {error}; let its user write its data directory"
        );
    }
}

fn try_restore(args: &RestoreArgs) -> Result<bool, String> {
    let bar = Bar::new();
    let restored = run(backup::restore(
        &args.from,
        &args.data_dir,
        &mut |progress| {
            bar.show(progress);
        },
    ));
    bar.0.finish_and_clear();
    let manifest = restored?.manifest;
    let (packages, bytes) = (manifest.packages(), manifest.size_bytes());
    let told = match args.format {
        Format::Json => output::json(
            &mut io::stdout(),
            &json!({"data_dir": args.data_dir, "created_at": manifest.created_at, "packages": packages, "size_bytes": bytes}),
        ),
        Format::Text => writeln!(
            io::stdout(),
            "{} is as of {}: the database and {packages} packages, {}; start the server",
            Path::display(&args.data_dir),
            manifest.created_at,
            mib(bytes)
        ),
    };
    told.map_err(|error| error.to_string())?;
    Ok(true)
}

fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / (1024 * 1024);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn run<T>(work: impl Future<Output = Result<T, BackupError>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(work).map_err(|error| error.to_string())
}

/// Shows progress where somebody looks.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new(1);
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent} %") {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn show(&self, progress: Progress) {
        let (what, done, all) = match progress {
            Progress::Database(done, all) => ("database", done, all),
            Progress::Packages(done, all) => ("files", done as u64, all as u64),
            Progress::Checking => ("checking", 0, 1),
        };
        self.0.set_message(what);
        self.0.set_length(all.max(1));
        self.0.set_position(done);
    }
}
