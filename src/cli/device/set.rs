//! `cellwise device set`.

use std::{io::Write, process::ExitCode};

use clap::Args;
use serde_json::{Value, json};

use super::described::Described;
use crate::{
    cli::{
        client::{self, ApiArgs, Client, CommandError, SeenArgs},
        output::counted,
    },
    config::PER_GATEWAY,
};

/// `cellwise device set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Endpoint names.
    #[arg(value_name = "ENDPOINT", required = true)]
    endpoints: Vec<String>,
    #[command(flatten)]
    described: Described,
    /// The gateway through which they are reached from now on; an empty one: none.
    #[arg(long, value_name = "GATEWAY")]
    via: Option<String>,
    /// At most so many of the devices behind them may upgrade at once, 1 to 1000000; an empty one: as their product says.
    #[arg(long, value_name = "NUMBER", value_parser = gateway_limit)]
    gateway_limit: Option<GatewayLimit>,
    /// Takes a tag away; may be given several times.
    #[arg(long, value_name = "KEY")]
    remove_tag: Vec<String>,
    #[command(flatten)]
    seen: SeenArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// `None`: none of its own any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GatewayLimit(Option<u32>);

fn gateway_limit(text: &str) -> Result<GatewayLimit, String> {
    if text.is_empty() {
        return Ok(GatewayLimit(None));
    }
    let number = text.parse().ok().filter(|it| PER_GATEWAY.contains(it));
    let expected = || "a number from 1 to 1000000, or nothing".to_owned();
    number
        .map(|number| GatewayLimit(Some(number)))
        .ok_or_else(expected)
}

impl SetArgs {
    /// What is to be changed. An attribute that is empty is taken away.
    fn to_json(&self) -> Result<Value, CommandError> {
        let reached = self.via.is_some() || self.gateway_limit.is_some();
        if self.described.is_empty() && self.remove_tag.is_empty() && !reached {
            return Err(CommandError::Arguments(
                "nothing is to be changed: give --model, --hardware, --site, --time-zone, --via, --gateway-limit, --tag or --remove-tag"
                    .to_owned(),
            ));
        }
        let mut change = json!({});
        self.described.add_to(&mut change);
        for (name, value) in self.described.attributes() {
            if value == Some("") {
                change[name] = Value::Null;
            }
        }
        match self.via.as_deref() {
            Some("") => change["via"] = Value::Null,
            Some(via) => change["via"] = json!(via),
            None => {}
        }
        if let Some(GatewayLimit(limit)) = self.gateway_limit {
            change["gateway_limit"] = json!(limit);
        }
        for key in &self.remove_tag {
            let tags = change.get("tags").and_then(Value::as_object);
            if tags.is_some_and(|tags| tags.get(key).is_some_and(Value::is_string)) {
                let both = format!("tag {key} is to be set and to be taken away; give one of both");
                return Err(CommandError::Arguments(both));
            }
            change["tags"][key] = Value::Null;
        }
        Ok(change)
    }
}

pub(super) fn run(args: &SetArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let change = args.to_json()?;
    if args.seen.if_revision.is_some() && args.endpoints.len() > 1 {
        let each = "--if-revision is of one device; give one endpoint";
        return Err(CommandError::Arguments(each.to_owned()));
    }
    let client = Client::new(&args.api)?;
    for endpoint in &args.endpoints {
        client.patch_seen(&client::device_path(endpoint), &change, args.seen)?;
    }
    let devices = counted(args.endpoints.len() as u64, "device");
    writeln!(out, "{devices} changed")?;
    Ok(ExitCode::SUCCESS)
}
