use std::{io::Write, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    client::{ApiArgs, Client, CommandError},
    list::{ListArgs, ResultArgs, Table},
    output::{self, Format, or_dash},
};

/// `cellwise token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Add a token, and show it, once.
    Add(AddArgs),
    /// List tokens, oldest first. Those that have ended stay until they are revoked.
    List(ListArgs<100>),
    /// Revoke a token: from now on nobody is let in with it.
    Revoke(NumberArgs),
}

/// `cellwise token add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// A name to recognise it by, which no other token has.
    name: String,
    /// What it is granted, as often as needed: viewer, operator, approver, administrator or auditor; on a tenant with its
    /// name behind an @, as in viewer@acme; for some devices with a filter behind a colon, as in operator:site==north*.
    #[arg(long = "grant", value_name = "ROLE[@TENANT][:FILTER]", required = true)]
    grants: Vec<String>,
    /// When it ends, RFC 3339; when it is revoked, when not given.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise token revoke`.
#[derive(Debug, Args)]
pub struct NumberArgs {
    /// Number of the token.
    id: i64,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Deserialize)]
pub(super) struct GrantView {
    role: String,
    tenant: Option<String>,
    filter: Option<String>,
}

#[derive(Debug, Deserialize)]
struct TokenView {
    id: i64,
    name: String,
    grants: Vec<GrantView>,
    expires_at: Option<String>,
    last_used_at: Option<String>,
    token: Option<String>,
}

#[derive(Debug, Deserialize)]
struct MeView {
    who: String,
    grants: Vec<GrantView>,
}

impl TokenCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::Add(args) => add(&args, out),
            Self::List(args) => list(&args, out),
            Self::Revoke(args) => revoke(&args, out),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn add(args: &AddArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let grants = to_grants(&args.grants);
    let body = json!({"name": args.name, "grants": grants, "expires_at": args.expires_at});
    let added = client.post("/v1/tokens", &body)?;
    match args.result.format {
        Format::Json => output::json(out, &added)?,
        Format::Text => {
            let view: TokenView = client.view(&added)?;
            writeln!(out, "token {} added: {}", view.id, granted(&view.grants))?;
            let token = view.token.unwrap_or_default();
            writeln!(out, "it is not shown again: {token}")?;
        }
    }
    Ok(())
}

/// Of each a role, behind an @ a tenant, and behind the first colon a filter.
pub(super) fn to_grants(texts: &[String]) -> Vec<Value> {
    let grant = |text: &String| {
        let (role, filter) = match text.split_once(':') {
            Some((role, filter)) => (role, Some(filter)),
            None => (text.as_str(), None),
        };
        match role.split_once('@') {
            Some((role, tenant)) => json!({"role": role, "tenant": tenant, "filter": filter}),
            None => json!({"role": role, "filter": filter}),
        }
    };
    texts.iter().map(grant).collect()
}

pub(super) fn granted(grants: &[GrantView]) -> String {
    let grants = grants.iter().map(|grant| {
        let part = |sign: &str, text: &Option<String>| {
            text.as_ref()
                .map_or(String::new(), |text| format!("{sign}{text}"))
        };
        let (tenant, filter) = (part("@", &grant.tenant), part(":", &grant.filter));
        format!("{}{tenant}{filter}", grant.role)
    });
    grants.collect::<Vec<_>>().join(" ")
}

fn list(args: &ListArgs<100>, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let table = Table {
        headings: ["ID", "NAME", "ENDS", "LAST USED", "GRANTS"],
        row: |view: TokenView| {
            [
                view.id.to_string(),
                view.name,
                or_dash(view.expires_at),
                or_dash(view.last_used_at),
                granted(&view.grants),
            ]
        },
    };
    table.list(args, ("/v1/tokens", &[]), &client, out)?;
    Ok(())
}

fn revoke(args: &NumberArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    client.delete(&format!("/v1/tokens/{}", args.id))?;
    writeln!(out, "token {} revoked", args.id)?;
    Ok(())
}

/// `cellwise whoami`: who the server takes the caller for, and what it is granted.
pub(super) fn whoami(args: &ResultArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.api)?;
    let me = client.get("/v1/me", &[])?;
    match args.format {
        Format::Json => output::json(out, &me)?,
        Format::Text => {
            let view: MeView = client.view(&me)?;
            writeln!(out, "{}: {}", view.who, granted(&view.grants))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
