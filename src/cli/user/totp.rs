use std::io::Write;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use super::{PasswordArgs, path_of};
use crate::cli::client::{ApiArgs, Client, CommandError};

/// `cellwise user totp`.
#[derive(Debug, Subcommand)]
pub enum TotpCommand {
    /// Begin to set up your own second factor: shows a secret, once. Logs in with your password.
    Enrol(OwnArgs),
    /// Confirm your own second factor by a code. Shows recovery codes, once. Logs in with your password.
    Confirm(ConfirmArgs),
    /// Say that a user may do nothing but set up a second factor before there is one.
    Require(RequireArgs),
    /// Take a user's second factor away, as an administrator.
    Remove(RemoveArgs),
}

/// `cellwise user totp enrol`.
#[derive(Debug, Args)]
pub struct OwnArgs {
    /// Your name.
    name: String,
    #[command(flatten)]
    password: PasswordArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise user totp confirm`.
#[derive(Debug, Args)]
pub struct ConfirmArgs {
    /// Your name.
    name: String,
    /// What the device shows. It is good for a minute, and once.
    code: String,
    #[command(flatten)]
    password: PasswordArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise user totp require`.
#[derive(Debug, Args)]
pub struct RequireArgs {
    /// The name.
    name: String,
    /// It is required no more, unless a role requires it.
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise user totp remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The name.
    name: String,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Deserialize)]
struct EnrolledView {
    secret: String,
    uri: String,
}

#[derive(Debug, Deserialize)]
struct ConfirmedView {
    recovery_codes: Vec<String>,
}

impl TotpCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), CommandError> {
        match self {
            Self::Enrol(args) => enrol(&args, out),
            Self::Confirm(args) => confirm(&args, out),
            Self::Require(args) => require(&args, out),
            Self::Remove(args) => remove(&args, out),
        }
    }
}

fn enrol(args: &OwnArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let password = args.password.read()?;
    let client = Client::log_in(&args.api, &args.name, &password)?;
    let enrolled = client.post("/v1/me/totp", &json!({"password": password}));
    client.log_out()?;
    let view: EnrolledView = client.view(&enrolled?)?;
    writeln!(out, "secret: {}", view.secret)?;
    writeln!(out, "{}", view.uri)?;
    let name = &args.name;
    writeln!(
        out,
        "give it to a device that makes codes, then: cellwise user totp confirm {name} CODE"
    )?;
    Ok(())
}

fn confirm(args: &ConfirmArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let password = args.password.read()?;
    let client = Client::log_in(&args.api, &args.name, &password)?;
    let confirmed = client.post("/v1/me/totp/confirm", &json!({"code": args.code}));
    client.log_out()?;
    let view: ConfirmedView = client.view(&confirmed?)?;
    writeln!(
        out,
        "a log-in of {} needs a code from now on. Each of these is good once in its place; they are not shown again:",
        args.name
    )?;
    for code in view.recovery_codes {
        writeln!(out, "{code}")?;
    }
    Ok(())
}

fn require(args: &RequireArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    let body = json!({"second_factor_required": !args.off});
    client.patch(&path_of(&args.name), &body)?;
    let word = if args.off { "does not need" } else { "needs" };
    writeln!(out, "{} {word} a second factor", args.name)?;
    Ok(())
}

fn remove(args: &RemoveArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    client.delete(&format!("{}/totp", path_of(&args.name)))?;
    writeln!(out, "{} has no second factor any more", args.name)?;
    Ok(())
}
