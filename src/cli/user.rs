mod totp;

use std::{
    fs,
    io::{self, BufRead as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use totp::TotpCommand;

use super::{
    client::{ApiArgs, Client, CommandError, segment},
    list::{ListArgs, ResultArgs, Table},
    output::{self, Format, or_dash},
    token::{GrantView, granted, to_grants},
};

/// `cellwise user`.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user, who logs in with a password.
    Add(AddArgs),
    /// List users, oldest first.
    List(ListArgs<100>),
    /// Say what a user is granted from now on, in place of what was before.
    Grant(GrantArgs),
    /// Give a user another password. The user's sessions end.
    Passwd(PasswdArgs),
    /// Make a link by which a user logs in to the console once, within ten minutes, without the password.
    Link(LinkArgs),
    /// Keep a user out. The user's sessions end.
    Disable(NameArgs),
    /// Let a user in again.
    Enable(NameArgs),
    /// Set up, require or take away a second factor.
    #[command(subcommand)]
    Totp(TotpCommand),
    /// Remove a user. The user's sessions end.
    Remove(NameArgs),
}

/// `cellwise user add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The name, which no other user has.
    name: String,
    /// What the user is granted, as often as needed: viewer, operator, approver, administrator or auditor; on a tenant with its
    /// name behind an @, as in viewer@acme; for some devices with a filter behind a colon, as in operator:site==north*.
    #[arg(long = "grant", value_name = "ROLE[@TENANT][:FILTER]", required = true)]
    grants: Vec<String>,
    #[command(flatten)]
    password: PasswordArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// Where a password comes from. Others on this machine see arguments, so that it is none.
#[derive(Debug, Args)]
struct PasswordArgs {
    /// A file whose first line is the password, or - for standard input.
    #[arg(long, value_name = "FILE", default_value = "-")]
    password_file: PathBuf,
}

/// `cellwise user grant`.
#[derive(Debug, Args)]
pub struct GrantArgs {
    /// The name.
    name: String,
    /// As for `cellwise user add`.
    #[arg(long = "grant", value_name = "ROLE[@TENANT][:FILTER]", required = true)]
    grants: Vec<String>,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise user passwd`.
#[derive(Debug, Args)]
pub struct PasswdArgs {
    /// The name.
    name: String,
    #[command(flatten)]
    password: PasswordArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise user link`.
#[derive(Debug, Args)]
pub struct LinkArgs {
    /// The name.
    name: String,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise user remove`.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// The name.
    name: String,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Deserialize)]
struct UserView {
    id: i64,
    name: String,
    grants: Vec<GrantView>,
    last_login_at: Option<String>,
    second_factor: bool,
    disabled: bool,
    identity: Option<Value>,
}

/// A link by which somebody logs in.
#[derive(Debug, Deserialize)]
struct LinkView {
    path: String,
    expires_at: String,
}

impl UserView {
    /// What is particular about the user.
    fn state(&self) -> String {
        let words = [
            (self.disabled, "disabled"),
            (self.second_factor, "totp"),
            (self.identity.is_some(), "oidc"),
        ];
        let words = words.into_iter().filter(|(is_so, _)| *is_so);
        let words: Vec<&str> = words.map(|(_, word)| word).collect();
        or_dash((!words.is_empty()).then(|| words.join(",")))
    }
}

impl UserCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::Add(args) => add(&args, out),
            Self::List(args) => list(&args, out),
            Self::Grant(args) => grant(&args, out),
            Self::Passwd(args) => passwd(&args, out),
            Self::Link(args) => link(&args, out),
            Self::Disable(args) => keep_out(&args, true, out),
            Self::Enable(args) => keep_out(&args, false, out),
            Self::Totp(command) => command.run(out),
            Self::Remove(args) => remove(&args, out),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn path_of(name: &str) -> String {
    format!("/v1/users/{}", segment(name))
}

fn add(args: &AddArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let password = args.password.read()?;
    let grants = to_grants(&args.grants);
    let body = json!({"name": args.name, "password": password, "grants": grants});
    let added = client.post("/v1/users", &body)?;
    match args.result.format {
        Format::Json => output::json(out, &added)?,
        Format::Text => {
            let view: UserView = client.view(&added)?;
            let (id, name) = (view.id, view.name);
            writeln!(out, "user {id} ({name}) added: {}", granted(&view.grants))?;
        }
    }
    Ok(())
}

impl PasswordArgs {
    fn read(&self) -> Result<String, CommandError> {
        let mut line = String::new();
        if self.password_file == Path::new("-") {
            output::remark("the password, on a line:");
            io::stdin().lock().read_line(&mut line)?;
        } else {
            let path = self.password_file.clone();
            line =
                fs::read_to_string(&path).map_err(|source| CommandError::File { path, source })?;
        }
        Ok(line.lines().next().unwrap_or_default().to_owned())
    }
}

fn list(args: &ListArgs<100>, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let table = Table {
        headings: ["ID", "NAME", "LAST LOGIN", "STATE", "GRANTS"],
        row: |view: UserView| {
            let (grants, state) = (granted(&view.grants), view.state());
            let last = or_dash(view.last_login_at);
            [view.id.to_string(), view.name, last, state, grants]
        },
    };
    table.list(args, ("/v1/users", &[]), &client, out)?;
    Ok(())
}

fn grant(args: &GrantArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    let body = json!({"grants": to_grants(&args.grants)});
    let user = client.patch(&path_of(&args.name), &body)?;
    let view: UserView = client.view(&user)?;
    writeln!(out, "{} is granted {}", view.name, granted(&view.grants))?;
    Ok(())
}

fn passwd(args: &PasswdArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    let body = json!({"password": args.password.read()?});
    client.patch(&path_of(&args.name), &body)?;
    writeln!(out, "{} has another password", args.name)?;
    Ok(())
}

fn link(args: &LinkArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let (address, mut made) = login_link(&client, &args.name)?;
    match args.result.format {
        Format::Json => {
            made["url"] = address.into();
            output::json(out, &made)?;
        }
        Format::Text => {
            let view: LinkView = client.view(&made)?;
            writeln!(out, "{address}")?;
            writeln!(out, "good once, until {}", view.expires_at)?;
        }
    }
    Ok(())
}

/// Makes a link by which a user logs in. Gives its address, and what was answered.
pub(super) fn login_link(client: &Client, name: &str) -> Result<(String, Value), CommandError> {
    let made = client.post(&format!("{}/login-link", path_of(name)), &json!({}))?;
    let view: LinkView = client.view(&made)?;
    Ok((client.address_of(&view.path), made))
}

fn keep_out(args: &NameArgs, disabled: bool, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    client.patch(&path_of(&args.name), &json!({"disabled": disabled}))?;
    let word = if disabled { "disabled" } else { "enabled" };
    writeln!(out, "user {} {word}", args.name)?;
    Ok(())
}

fn remove(args: &NameArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    client.delete(&path_of(&args.name))?;
    writeln!(out, "user {} removed", args.name)?;
    Ok(())
}
