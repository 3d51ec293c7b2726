//! `cellwise device unknown`.

use std::{io::Write, process::ExitCode};

use clap::Args;
use serde::Deserialize;

use crate::{
    api::check_endpoint,
    cli::{
        client::{Client, CommandError},
        list::ResultArgs,
        output::{self, Format},
    },
};

/// `cellwise device unknown`.
#[derive(Debug, Args)]
pub struct UnknownArgs {
    #[command(flatten)]
    result: ResultArgs,
}

#[derive(Debug, Deserialize)]
struct UnknownView {
    items: Vec<StrangerView>,
}

#[derive(Debug, Deserialize)]
struct StrangerView {
    name: String,
    reason: String,
    address: String,
    count: u64,
    first_at: String,
    last_at: String,
}

pub(super) fn run(args: &UnknownArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.result.api)?;
    let unknown = client.get("/v1/devices/unknown", &[])?;
    if args.result.format == Format::Json {
        output::json(out, &unknown)?;
        return Ok(ExitCode::SUCCESS);
    }
    let view: UnknownView = client.view(&unknown)?;
    let rows: Vec<[String; 6]> = (view.items.iter())
        .map(|stranger| {
            [
                stranger.name.clone(),
                stranger.reason.replace('_', " "),
                stranger.address.clone(),
                stranger.count.to_string(),
                stranger.first_at.clone(),
                stranger.last_at.clone(),
            ]
        })
        .collect();
    let headings = ["NAME", "WHY", "ADDRESS", "TIMES", "FIRST", "LAST"];
    output::table(out, headings, &rows)?;
    let remedies: Vec<String> = view.items.iter().filter_map(remedy).collect();
    if !remedies.is_empty() {
        writeln!(
            out,
            "\nTo let them in (KEY is a key in hexadecimal, SECRET a device secret):"
        )?;
        for remedy in remedies {
            writeln!(out, "  {remedy}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The command that lets a device in, if one can.
fn remedy(stranger: &StrangerView) -> Option<String> {
    // a name that cannot be added, or of which a part is missing
    check_endpoint(stranger.name.as_bytes()).ok()?;
    let name = &stranger.name;
    match stranger.reason.as_str() {
        "unknown_endpoint" if name.starts_with('-') => {
            Some(format!("cellwise device add -- {}", quoted(name)))
        }
        "unknown_endpoint" => Some(format!("cellwise device add {}", quoted(name))),
        // most devices are called alike in both places
        "unknown_identity" | "wrong_key" => {
            let line = quoted(&format!("{name},{name},KEY"));
            Some(format!("echo {line} | cellwise device add --file -"))
        }
        "unknown_mqtt_device" => {
            let line = quoted(&format!("{name},iotda,SECRET"));
            Some(format!(
                "(echo endpoint,style,secret; echo {line}) | cellwise device add --file -"
            ))
        }
        _ => None,
    }
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:@+,=".contains(&byte);
    if word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(name: &str, reason: &str) -> StrangerView {
        StrangerView {
            name: name.to_owned(),
            reason: reason.to_owned(),
            address: String::new(),
            count: 1,
            first_at: String::new(),
            last_at: String::new(),
        }
    }

    #[test]
    fn a_name_is_no_command_of_its_own() {
        for (name, reason, expected) in [
            (
                "urn:imei:1",
                "unknown_endpoint",
                Some("cellwise device add urn:imei:1"),
            ),
            (
                "$(reboot);'",
                "unknown_endpoint",
                Some(r"cellwise device add '$(reboot);'\'''"),
            ),
            (
                "--file=x",
                "unknown_endpoint",
                Some("cellwise device add -- --file=x"),
            ),
            (
                "me",
                "unknown_identity",
                Some("echo me,me,KEY | cellwise device add --file -"),
            ),
            ("a\\x1b", "unknown_endpoint", None),
            ("a b", "unknown_identity", None),
            (
                "m1",
                "unknown_mqtt_device",
                Some(
                    "(echo endpoint,style,secret; echo m1,iotda,SECRET) | cellwise device add --file -",
                ),
            ),
            ("urn:imei:1", "impostor", None),
        ] {
            let remedy = remedy(&stranger(name, reason));
            assert_eq!(remedy.as_deref(), expected, "{name}");
        }
    }
}
