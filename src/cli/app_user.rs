use std::{io::Write, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use super::{
    client::{self, ApiArgs, Client, CommandError},
    list::ResultArgs,
    output::{self, Format},
};

/// `cellwise app-user`.
#[derive(Debug, Subcommand)]
pub enum AppUserCommand {
    /// Show all that is kept of a user of end users' applications.
    Export(UserArgs),
    /// Delete what is kept of a user.
    Delete(DeleteArgs),
    /// Let no token of a user in that was issued before now, or before a time.
    Revoke(RevokeArgs),
    /// Issue a token for a user, for a short time.
    Token(TokenArgs),
}

/// A user.
#[derive(Debug, Args)]
pub struct UserArgs {
    /// What the integrator calls the user.
    user: String,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise app-user delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// What the integrator calls the user.
    user: String,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise app-user revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// What the integrator calls the user.
    user: String,
    /// Tokens that were issued before are not let in, RFC 3339.
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise app-user token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// What the integrator calls the user.
    user: String,
    /// For how many seconds it is.
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u32).range(60..=86_400))]
    lifetime: u32,
    #[command(flatten)]
    result: ResultArgs,
}

#[derive(Debug, Deserialize)]
struct TokenView {
    token: String,
    expires_at: String,
}

#[derive(Debug, Deserialize)]
struct RevokedView {
    revoked_before: String,
}

impl AppUserCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::Export(args) => export(&args, out),
            Self::Delete(args) => delete(&args, out),
            Self::Revoke(args) => revoke(&args, out),
            Self::Token(args) => token(&args, out),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn path(user: &str) -> String {
    format!("/v1/app-users/{}", client::segment(user))
}

fn export(args: &UserArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let all = Client::new(&args.api)?.get(&path(&args.user), &[])?;
    output::json(out, &all)?;
    Ok(())
}

fn delete(args: &DeleteArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    Client::new(&args.api)?.delete(&path(&args.user))?;
    writeln!(out, "nothing is kept of {} any more", args.user)?;
    Ok(())
}

fn revoke(args: &RevokeArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    let body = match &args.before {
        Some(before) => json!({"before": before}),
        None => json!({}),
    };
    let answer = client.post(&format!("{}/revoke", path(&args.user)), &body)?;
    let view: RevokedView = client.view(&answer)?;
    let before = view.revoked_before;
    writeln!(
        out,
        "no token of {} of before {before} is let in",
        args.user
    )?;
    Ok(())
}

fn token(args: &TokenArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let body = json!({"user": args.user, "lifetime_seconds": args.lifetime});
    let answer = client.post("/v1/app-tokens", &body)?;
    match args.result.format {
        Format::Json => output::json(out, &answer)?,
        Format::Text => {
            let TokenView { token, expires_at } = client.view(&answer)?;
            writeln!(
                out,
                "for {} until {expires_at}; it is not shown again: {token}",
                args.user
            )?;
        }
    }
    Ok(())
}
