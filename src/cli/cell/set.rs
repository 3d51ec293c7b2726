//! `cellwise cell set` and `cellwise cell import`.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
};

use clap::{ArgGroup, Args, ValueEnum};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ClosedView, RulesView};
use crate::cli::{
    client::{Client, CommandError, SeenArgs},
    list::ResultArgs,
    output::{self, Format, counted},
};

/// Longest file, bytes: what the API takes.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// `cellwise cell set`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true)
    .args(["limit", "no_limit", "closed_until", "open", "reason", "adaptive", "note", "no_note"]))]
pub struct SetArgs {
    /// Number of the cell.
    id: u32,
    /// At most so many may upgrade in it at once, 1 to 1000. Coverage may allow a device fewer.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: Option<u32>,
    /// Coverage alone counts.
    #[arg(long, conflicts_with = "limit")]
    no_limit: bool,
    /// Admit nobody until then, a time such as 2027-03-01T02:00:00Z, or `further_notice`. Downloads that run go on.
    #[arg(long, value_name = "TIME")]
    closed_until: Option<String>,
    /// Why it is closed. Those who wait are told.
    #[arg(long, value_name = "TEXT", conflicts_with = "open")]
    reason: Option<String>,
    /// Admit devices again, whoever has closed it.
    #[arg(long, conflicts_with = "closed_until")]
    open: bool,
    /// Whether its limit falls while its downloads take much longer than in a quiet cell; `default`: as the settings say.
    #[arg(long, value_enum)]
    adaptive: Option<Switch>,
    /// A note.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Take the note away.
    #[arg(long, conflicts_with = "note")]
    no_note: bool,
    #[command(flatten)]
    seen: SeenArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// A rule of a cell that may be left to the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
    Default,
}

/// `cellwise cell import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A file of comma-separated values; - for standard input. The first line names the columns: cell, and any of limit,
    /// `closed_until`, reason and note. An empty field leaves things as they are, `-` takes the rule away.
    file: PathBuf,
    #[command(flatten)]
    result: ResultArgs,
}

#[derive(Debug, Deserialize)]
struct Changed {
    changed: u64,
}

pub(super) fn set(args: &SetArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let mut body = Map::new();
    let mut give = |field: &str, value: Option<Value>, taken_away: bool| {
        let value = value.or_else(|| taken_away.then_some(Value::Null));
        body.extend(value.map(|value| (field.to_owned(), value)));
    };
    give("limit", args.limit.map(|limit| json!(limit)), args.no_limit);
    let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
    give("closed_until", text(&args.closed_until), args.open);
    give("reason", text(&args.reason), false);
    let adaptive = args.adaptive.filter(|it| *it != Switch::Default);
    let by_settings = args.adaptive == Some(Switch::Default);
    let adaptive = adaptive.map(|it| json!(it == Switch::On));
    give("adaptive", adaptive, by_settings);
    give("note", text(&args.note), args.no_note);
    let cell = client.patch_seen(
        &format!("/v1/cells/{}", args.id),
        &Value::Object(body),
        args.seen,
    )?;
    if args.result.format == Format::Json {
        output::json(out, &cell)?;
        return Ok(());
    }
    let rules: RulesView = client.view(&cell)?;
    match (&rules.closed, rules.limit_now) {
        (None, None) => writeln!(out, "cell {}: as coverage allows", args.id)?,
        (Some(ClosedView { .. }), _) | (None, Some(_)) => write!(out, "cell {}: ", args.id)?,
    }
    rules.tell(out)?;
    Ok(())
}

pub(super) fn import(args: &ImportArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let answer = client.post_csv("/v1/cells", read(args)?)?;
    if args.result.format == Format::Json {
        output::json(out, &answer)?;
        return Ok(());
    }
    let changed: Changed = client.view(&answer)?;
    writeln!(out, "{} changed", counted(changed.changed, "cell"))?;
    Ok(())
}

fn read(args: &ImportArgs) -> Result<String, CommandError> {
    let unreadable = |source| CommandError::File {
        path: args.file.clone(),
        source,
    };
    let from: Box<dyn Read> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(&args.file).map_err(unreadable)?)
    };
    let mut text = String::new();
    (from.take(MAX_BYTES + 1).read_to_string(&mut text)).map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        let longer = format!("it is longer than {MAX_BYTES} bytes; cut it into parts");
        return Err(unreadable(io::Error::other(longer)));
    }
    Ok(text)
}
