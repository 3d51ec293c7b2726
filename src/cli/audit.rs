use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::{
    client::{ApiArgs, Client, CommandError},
    list::{ListArgs, ResultArgs, Table},
    output::{self, Format, or_dash},
};
use crate::audit::{Broken, Checkpoint, CheckpointError, Hash, Verifier};

/// Rows that are asked for at once.
const PART: u64 = 2_000;
/// Longest file with a checkpoint, bytes.
const MAX_CHECKPOINT: u64 = 64 * 1024;

/// `cellwise audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List who has changed what, newest first.
    List(AuditListArgs),
    /// Write the log, oldest first, a row in each line.
    Export(ExportArgs),
    /// Show the newest row, signed: keep it where nobody changes it.
    Head(HeadArgs),
    /// Look whether a row is missing, altered or exchanged; the exit code is 1 if one is.
    Verify(VerifyArgs),
}

/// `cellwise audit list`.
#[derive(Debug, Args)]
pub struct AuditListArgs {
    /// Only what this caller did, such as admin-token or token:7:nightly-import.
    #[arg(long)]
    who: Option<String>,
    /// Only this operation, such as `stop_task`.
    #[arg(long)]
    operation: Option<String>,
    /// Only what is about this, such as tasks/7, or about anything of this kind, such as tasks.
    #[arg(long)]
    target: Option<String>,
    /// Only that of which this came: done, refused, failed or interrupted.
    #[arg(long)]
    result: Option<String>,
    /// Not before this time, such as 2027-03-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// List at most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// The form of the result.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise audit export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Only rows behind the one with this number.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise audit head`.
#[derive(Debug, Args)]
pub struct HeadArgs {
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise audit verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Verify this export instead of the server's log.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What `cellwise audit head` has told earlier: the log has to agree with it. Give several if you like.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// The public key that has to have signed: 64 hexadecimal digits. Give several where it was another before a restore.
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Deserialize)]
struct RowView {
    number: u64,
    at: String,
    who: String,
    operation: String,
    target: Option<String>,
    result: String,
    problem: Option<String>,
    times: Option<u64>,
    why: Option<String>,
}

#[derive(Debug, Deserialize)]
struct HeadView {
    head: Checkpoint,
    begins_behind: Option<Checkpoint>,
}

impl AuditCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::List(args) => list(args, out),
            Self::Export(args) => {
                let client = Client::new(&args.api)?;
                each_line(&client, args.after, |line| Ok(writeln!(out, "{line}")?))
            }
            Self::Head(args) => head(&args, out),
            Self::Verify(args) => verify(&args, out),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn list(args: AuditListArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    let filters = [
        ("who", args.who),
        ("operation", args.operation),
        ("target", args.target),
        ("result", args.result),
        ("since", args.since),
        ("until", args.until),
    ];
    let query: Vec<(&str, String)> = (filters.into_iter())
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let table = Table {
        headings: [
            "NUMBER",
            "AT",
            "WHO",
            "OPERATION",
            "TARGET",
            "RESULT",
            "WHY",
        ],
        row: |view: RowView| {
            let times = view.times.map(|times| format!(" {times} times"));
            let problem = view.problem.map(|problem| format!(" ({problem})"));
            let result = [Some(view.result), problem, times];
            [
                view.number.to_string(),
                view.at,
                view.who,
                view.operation,
                or_dash(view.target),
                result.into_iter().flatten().collect(),
                or_dash(view.why),
            ]
        },
    };
    let list = ListArgs::<50> {
        limit: args.limit,
        result: ResultArgs {
            format: args.format,
            api: args.api,
        },
    };
    table.list(&list, ("/v1/audit", &query), &client, out)?;
    Ok(())
}

fn head(args: &HeadArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    let head = client.get("/v1/audit/head", &[])?;
    // a file with it is read by `verify` either way
    output::json(out, &head)?;
    Ok(())
}

/// Hands on the lines of the server's log behind `after`.
fn each_line(
    client: &Client,
    mut after: u64,
    mut take: impl FnMut(&str) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    loop {
        let query = [("after", after.to_string()), ("limit", PART.to_string())];
        let part = client.text("/v1/audit/export", &query)?;
        let mut lines = 0;
        for line in part.lines() {
            take(line)?;
            lines += 1;
        }
        let Some(last) = part.lines().next_back() else {
            return Ok(());
        };
        let last: serde_json::Value = serde_json::from_str(last).unwrap_or_default();
        match last["number"].as_u64() {
            Some(number) if number > after && lines == PART => after = number,
            _ => return Ok(()),
        }
    }
}

fn verify(args: &VerifyArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let keys = &args.key[..];
    let mut given = Vec::new();
    for path in &args.checkpoint {
        given.push(checkpoint(path, keys)?);
    }
    let (verifier, compared) = match &args.file {
        Some(path) => verify_file(path, &given)?,
        None => verify_server(&args.api, keys, &given)?,
    };
    match (verifier.first(), verifier.last()) {
        (Some(first), Some((last, hash))) => {
            let rows = output::counted(verifier.rows(), "row");
            writeln!(
                out,
                "{rows} verified, {first} to {last}; the last has the hash {hash}"
            )?;
        }
        _ => writeln!(out, "there are no rows")?,
    }
    match given.iter().find(|(number, _)| *number < compared) {
        None => Ok(()),
        Some((number, _)) => Err(CommandError::Arguments(format!(
            "row {number}, of which a checkpoint was given, is before what was looked at: it was compared with nothing"
        ))),
    }
}

/// What a checkpoint proves, when one of the keys has signed it; of any key, when none is named.
fn checked(checkpoint: &Checkpoint, keys: &[String]) -> Result<(u64, Hash), CheckpointError> {
    let named = |key: &&String| key.trim().eq_ignore_ascii_case(&checkpoint.key);
    let key = keys.iter().find(named).or(keys.first());
    checkpoint.check(key.map(String::as_str))
}

/// The checkpoint in a file: by itself, or as `cellwise audit head` tells it.
fn checkpoint(path: &Path, keys: &[String]) -> Result<(u64, Hash), CommandError> {
    let unreadable = |source| CommandError::File {
        path: path.to_owned(),
        source,
    };
    let wrong = |what: String| CommandError::Arguments(format!("{}: {what}", path.display()));
    if fs::metadata(path).map_err(unreadable)?.len() > MAX_CHECKPOINT {
        return Err(wrong("this is no checkpoint: it is too long".to_owned()));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let told = serde_json::from_str::<HeadView>(&text).map(|told| told.head);
    let one = told.or_else(|_| serde_json::from_str::<Checkpoint>(&text));
    let one = one.map_err(|error| wrong(format!("this is no checkpoint: {error}")))?;
    checked(&one, keys).map_err(|error| wrong(error.to_string()))
}

fn broken(error: &Broken) -> CommandError {
    CommandError::Arguments(format!("the audit log is broken: {error}"))
}

/// What was verified, and the number of the first row whose hash is known.
type Verified = (Verifier, u64);

fn verify_file(path: &Path, given: &[(u64, Hash)]) -> Result<Verified, CommandError> {
    let unreadable = |source| CommandError::File {
        path: path.to_owned(),
        source,
    };
    let mut verifier = Verifier::from_anywhere();
    for (number, hash) in given {
        verifier.expect(*number, *hash);
    }
    for line in BufReader::new(File::open(path).map_err(unreadable)?).lines() {
        let line = line.map_err(unreadable)?;
        verifier.line(&line).map_err(|error| broken(&error))?;
    }
    for checkpoint in given {
        verifier.end(*checkpoint).map_err(|error| broken(&error))?;
    }
    if let Some(first) = verifier.first().filter(|first| *first > 1) {
        output::remark(&format!(
            "the file begins with row {first}; what came before it is not looked at"
        ));
    }
    // number 0 says that there was no row: every log agrees with it
    let compared = verifier.first().filter(|first| *first > 1).unwrap_or(0);
    Ok((verifier, compared))
}

fn verify_server(
    api: &ApiArgs,
    keys: &[String],
    given: &[(u64, Hash)],
) -> Result<Verified, CommandError> {
    let client = Client::new(api)?;
    match verify_rows(&client, keys, given)? {
        // the server may have removed old rows meanwhile; if it has not, the row is missing again
        Err(Broken::Missing { .. }) => verify_rows(&client, keys, given)?,
        verified => verified,
    }
    .map_err(|error| broken(&error))
}

fn verify_rows(
    client: &Client,
    keys: &[String],
    given: &[(u64, Hash)],
) -> Result<Result<Verified, Broken>, CommandError> {
    let told: HeadView = client.view(&client.get("/v1/audit/head", &[])?)?;
    let check = |checkpoint: &Checkpoint| {
        checked(checkpoint, keys)
            .map_err(|error| CommandError::Arguments(format!("what the server says: {error}")))
    };
    let head = check(&told.head)?;
    let (begin, hash) = match &told.begins_behind {
        None => (0, Hash::NONE),
        Some(checkpoint) => check(checkpoint)?,
    };
    let is_other = |(number, with): &(u64, Hash)| *number == begin && *with != hash;
    if given.iter().any(is_other) {
        return Ok(Err(Broken::OtherThanSigned(begin)));
    }
    let mut verifier = Verifier::after(begin, hash);
    for (number, hash) in given.iter().chain([&head]) {
        verifier.expect(*number, *hash);
    }
    let mut wrong = None;
    let read = each_line(client, begin, |line| {
        verifier.line(line).map_err(|error| {
            let told = broken(&error);
            wrong = Some(error);
            told
        })
    });
    if let Some(wrong) = wrong {
        return Ok(Err(wrong));
    }
    read?;
    for checkpoint in given.iter().chain([&head]) {
        if let Err(error) = verifier.end(*checkpoint) {
            return Ok(Err(error));
        }
    }
    Ok(Ok((verifier, begin)))
}
