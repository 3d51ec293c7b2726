use std::{io::Write, process::ExitCode};

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::json;

use super::{
    client::{ApiArgs, Client, CommandError},
    list::{ListArgs, ResultArgs, Table},
    output::{self, Format, or_dash},
};

/// `cellwise webhook`.
#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    /// Add a webhook: the outcomes of all tasks, or of one, are posted to it from now on.
    Add(AddArgs),
    /// List webhooks, oldest first.
    List(ListArgs<100>),
    /// Post a test event to a webhook, and tell what came of it; the exit code is 1 if it was not accepted.
    Ping(PingArgs),
    /// Remove a webhook, and what it was still to be told.
    Remove(NumberArgs),
    /// List what was delivered to a webhook, and what was not, newest first.
    Deliveries(DeliveriesArgs),
    /// Deliver again what was given up.
    Replay(ReplayArgs),
}

/// `cellwise webhook add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Where events are posted.
    url: String,
    /// The outcomes of this task only.
    #[arg(long, value_name = "ID")]
    task: Option<i64>,
    /// Signs what is posted: whsec_ and base64; made, and shown once, when not given. Better given by the
    /// environment: others on this machine see arguments.
    #[arg(long, env = "CELLWISE_WEBHOOK_SECRET", hide_env_values = true)]
    secret: Option<String>,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise webhook ping`.
#[derive(Debug, Args)]
pub struct PingArgs {
    /// Number of the webhook.
    id: i64,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise webhook remove`.
#[derive(Debug, Args)]
pub struct NumberArgs {
    /// Number of the webhook.
    id: i64,
    #[command(flatten)]
    api: ApiArgs,
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum DeliveryState {
    /// It is tried, or tried again.
    Pending,
    /// The receiver has it.
    Delivered,
    /// It was given up.
    Failed,
}

/// `cellwise webhook deliveries`.
#[derive(Debug, Args)]
pub struct DeliveriesArgs {
    /// Number of the webhook.
    id: i64,
    /// Those in this state only.
    #[arg(long, value_enum)]
    state: Option<DeliveryState>,
    #[command(flatten)]
    list: ListArgs<20>,
}

/// `cellwise webhook replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Number of the webhook.
    id: i64,
    /// This delivery only, whatever its state.
    #[arg(long, value_name = "ID")]
    delivery: Option<i64>,
    #[command(flatten)]
    result: ResultArgs,
}

#[derive(Debug, Deserialize)]
struct WebhookView {
    id: i64,
    task_id: Option<i64>,
    url: String,
    pending: u64,
    failed: u64,
    secret: Option<String>,
}

#[derive(Debug, Deserialize)]
struct DeliveryView {
    id: i64,
    event_id: i64,
    #[serde(rename = "type")]
    kind: String,
    state: String,
    attempts: u32,
    next_at: Option<String>,
    last_error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PingedView {
    accepted: bool,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ReplayedView {
    replayed: u64,
}

impl WebhookCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::Add(args) => add(&args, out),
            Self::List(args) => list(&args, out),
            Self::Ping(args) => return ping(&args, out),
            Self::Remove(args) => remove(&args, out),
            Self::Deliveries(args) => deliveries(&args, out),
            Self::Replay(args) => replay(&args, out),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn add(args: &AddArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let mut body = json!({ "url": args.url });
    if let Some(body) = body.as_object_mut() {
        let task = args.task.map(|task| ("task_id".to_owned(), json!(task)));
        let secret = (args.secret.as_ref()).map(|secret| ("secret".to_owned(), json!(secret)));
        body.extend(task);
        body.extend(secret);
    }
    let webhook = client.post("/v1/webhooks", &body)?;
    match args.result.format {
        Format::Json => output::json(out, &webhook)?,
        Format::Text => {
            let view: WebhookView = client.view(&webhook)?;
            writeln!(out, "webhook {} added for {}", view.id, told_of(&view))?;
            if args.secret.is_none() {
                let secret = view.secret.unwrap_or_default();
                writeln!(out, "its secret, which is not shown again: {secret}")?;
            }
        }
    }
    Ok(())
}

fn told_of(webhook: &WebhookView) -> String {
    webhook
        .task_id
        .map_or_else(|| "all tasks".to_owned(), |task| format!("task {task}"))
}

fn list(args: &ListArgs<100>, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let table = Table {
        headings: ["ID", "FOR", "PENDING", "FAILED", "URL"],
        row: |view: WebhookView| {
            let told_of = told_of(&view);
            let (pending, failed) = (view.pending.to_string(), view.failed.to_string());
            [view.id.to_string(), told_of, pending, failed, view.url]
        },
    };
    table.list(args, ("/v1/webhooks", &[]), &client, out)?;
    Ok(())
}

fn ping(args: &PingArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.result.api)?;
    let pinged = client.post(&format!("/v1/webhooks/{}/ping", args.id), &json!({}))?;
    let view: PingedView = client.view(&pinged)?;
    match (args.result.format, view.error) {
        (Format::Json, _) => output::json(out, &pinged)?,
        (Format::Text, None) => writeln!(out, "webhook {} has accepted the ping", args.id)?,
        (Format::Text, Some(error)) => {
            writeln!(
                out,
                "webhook {} has not accepted the ping: {error}",
                args.id
            )?;
        }
    }
    Ok(ExitCode::from(u8::from(!view.accepted)))
}

fn remove(args: &NumberArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    client.delete(&format!("/v1/webhooks/{}", args.id))?;
    writeln!(out, "webhook {} removed", args.id)?;
    Ok(())
}

fn deliveries(args: &DeliveriesArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.list.result.api)?;
    let state = args.state.and_then(|state| state.to_possible_value());
    let query: Vec<(&str, String)> = (state.iter())
        .map(|state| ("state", state.get_name().to_owned()))
        .collect();
    let path = format!("/v1/webhooks/{}/deliveries", args.id);
    let table = Table {
        headings: [
            "ID",
            "EVENT",
            "TYPE",
            "STATE",
            "ATTEMPTS",
            "NEXT",
            "LAST ERROR",
        ],
        row: |view: DeliveryView| {
            [
                view.id.to_string(),
                view.event_id.to_string(),
                view.kind,
                view.state,
                view.attempts.to_string(),
                or_dash(view.next_at),
                or_dash(view.last_error),
            ]
        },
    };
    table.list(&args.list, (&path, &query), &client, out)?;
    Ok(())
}

fn replay(args: &ReplayArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let mut path = format!("/v1/webhooks/{}", args.id);
    if let Some(delivery) = args.delivery {
        path = format!("{path}/deliveries/{delivery}");
    }
    let replayed = client.post(&format!("{path}/replay"), &json!({}))?;
    match args.result.format {
        Format::Json => output::json(out, &replayed)?,
        Format::Text => {
            let view: ReplayedView = client.view(&replayed)?;
            writeln!(out, "{} tried again", counted_deliveries(view.replayed))?;
        }
    }
    Ok(())
}

fn counted_deliveries(count: u64) -> String {
    match count {
        1 => "1 delivery is".to_owned(),
        _ => format!("{count} deliveries are"),
    }
}
